"""What of a file of weights reached a network: every tensor by name, and no silent half."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from geoseg.errors import PackageError

log = logging.getLogger(__name__)

LEAST = 0.9
"""Share of a network's tensors that a file has to hold."""
_SHOWN = 3


@dataclass(frozen=True)
class KeyReport:
    """Names of tensors by what became of them."""

    source: str
    matched: tuple[str, ...]
    """In both, of one shape."""
    missing: tuple[str, ...]
    """In the network only."""
    unexpected: tuple[str, ...]
    """In the file only."""
    misshapen: tuple[str, ...]
    """In both, of another shape; not loaded."""
    reshaped: tuple[str, ...] = ()
    """Those of `matched` that were stretched, or adapted to other bands."""

    @property
    def share(self) -> float:
        """Of the network's tensors, 0…1, that were found."""
        wanted = len(self.matched) + len(self.missing) + len(self.misshapen)
        return len(self.matched) / wanted if wanted else 0.0

    def told(self) -> str:
        """The counts, with the first names of what did not go through, as one clause."""
        said = [f"{len(self.matched)} of {len(self.matched) + len(self.missing) + len(self.misshapen)} tensors match"]
        for what in ("missing", "misshapen", "unexpected", "reshaped"):
            names: tuple[str, ...] = getattr(self, what)
            if names:
                more = " …" if len(names) > _SHOWN else ""
                said.append(f"{len(names)} {what} ({', '.join(names[:_SHOWN])}{more})")
        return ", ".join(said)


def load_matching(
    network: nn.Module,
    state: Mapping[str, torch.Tensor],
    source: str,
    *,
    new: Collection[str] = (),
    reshaped: Collection[str] = (),
    least: float = LEAST,
) -> KeyReport:
    """Fill the network with the tensors that fit, and say which; `new` names tensors of the network that no file has.

    PackageError, and nothing is loaded, where fewer than the share `least` fit.
    """
    wanted = {name: tensor for name, tensor in network.state_dict().items() if name not in new}
    fits = {name for name, tensor in wanted.items() if name in state and state[name].shape == tensor.shape}
    report = KeyReport(
        source,
        matched=tuple(name for name in wanted if name in fits),
        missing=tuple(name for name in wanted if name not in state),
        unexpected=tuple(name for name in state if name not in wanted),
        misshapen=tuple(name for name in wanted if name in state and name not in fits),
        reshaped=tuple(sorted(set(reshaped) & fits)),
    )
    if report.share < least:
        raise PackageError(
            f"{source} holds other weights than this network's: {report.told()}; expected at least {least:.0%} of them, so give the "
            "weights of this architecture and size"
        )
    network.load_state_dict({name: state[name] for name in report.matched}, strict=False)
    log.info("%s: %s", source, report.told())
    return report
