"""What networks that others trained have in common: kernels by role, names below other names, places as sines, tokens as images."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Literal

import torch
from torch import nn

from geoseg.backbones.kernels import place_kernels
from geoseg.errors import PackageError
from geoseg.preprocess.series import split_role
from geoseg.sensors import get_sensor

Unseen = Literal["refuse", "zero"]
"""What becomes of bands that the weights never saw: an error, or kernels of zero, which have no say until they have learned one."""

_NEARLY = {"nir": "nir08", "nir08": "nir"}
"""Roles that stand for each other where only one of them is at hand: products without a broad near infrared call the narrow one `nir`."""
_SLOWEST = 10_000.0
"""Wavelength over that of the fastest sine (Vaswani et al., 2017)."""


def known_role(role: str, known: Sequence[str], wanted: Sequence[str]) -> str | None:
    """The one of the roles `known` that a `wanted` band, perhaps of a series (`red@05`), is seen as; None where there is none."""
    plain = split_role(role)[0]
    if plain in known:
        return plain
    near = _NEARLY.get(plain)
    return near if near in known and near not in {split_role(other)[0] for other in wanted} else None


def kernels_by_role(kernels: torch.Tensor, known: Sequence[str], wanted: Sequence[str], *, unseen: Unseen, source: str) -> torch.Tensor:
    """(out, wanted, …) from kernels (out, known, …): each band's own, exactly.

    PackageError where the file's bands are not those known, or for a band that they never saw, unless `unseen` is "zero".
    """
    seen_as = [known_role(role, known, wanted) for role in wanted]
    strange = [role for role, own in zip(wanted, seen_as, strict=True) if own is None]
    if len(strange) == len(wanted) or (strange and unseen == "refuse"):
        cure = "" if len(strange) == len(wanted) else ', or begin with kernels of zero for them: unseen="zero"'
        raise PackageError(f"{source} never saw {', '.join(strange)}; it knows {', '.join(known)}. Leave these bands out{cure}")
    return place_kernels(kernels, known, [own or role for own, role in zip(seen_as, wanted, strict=True)])


def below(state: Mapping[str, torch.Tensor], prefixes: Sequence[str]) -> dict[str, torch.Tensor]:
    """The tensors whose names begin with the first of these prefixes that any name has, without it; all of them where none has any."""
    prefix = next((prefix for prefix in prefixes if any(name.startswith(prefix) for name in state)), "")
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def needed(state: Mapping[str, torch.Tensor], name: str, source: str) -> torch.Tensor:
    """The tensor of this name, without which a network would not see; PackageError where there is none."""
    if name not in state:
        raise PackageError(f"{source} has no {name}, through which the network sees its bands; give the weights of this network")
    return state[name]


def left_out(state: Mapping[str, torch.Tensor], beginnings: Collection[str]) -> dict[str, torch.Tensor]:
    """The tensors whose names begin with none of these: parts of training that a backbone has no use for."""
    return {name: tensor for name, tensor in state.items() if not name.startswith(tuple(beginnings))}


def wavelengths_um(roles: Sequence[str], published: Mapping[str, float], given: Mapping[str, float]) -> tuple[float, ...]:
    """The wavelength of each band in micrometres: as `given`, else as its authors have it, else the usual one of its role.

    What is given for other bands is not used: a published network may be asked for some of its bands. PackageError for a role without
    any, and for one that is given and is neither among the bands nor known.
    """
    plain = [split_role(role)[0] for role in roles]
    usual = {band.role: band.wavelength_um for band in get_sensor("generic").bands if band.wavelength_um is not None}
    if strange := [role for role in given if role not in {*plain, *usual, *published}]:
        raise PackageError(f"a wavelength is given for {strange[0]!r}, which is no known role, nor among the bands {', '.join(plain)}")
    known = {**usual, **published, **given}
    if missing := [role for role in plain if role not in known]:
        raise PackageError(f"the band {missing[0]!r} has no wavelength; give it in micrometres: wavelengths={{{missing[0]!r}: …}}")
    return tuple(float(known[role]) for role in plain)


def sines(places: torch.Tensor, width: int) -> torch.Tensor:
    """(place, width) float32: sines, then cosines, of places (place,), the fastest of wavelength 2 pi."""
    speeds = _SLOWEST ** (-torch.arange(width // 2, dtype=torch.float64, device=places.device) / (width // 2))
    turned = places.to(torch.float64).reshape(-1, 1) * speeds
    return torch.cat([turned.sin(), turned.cos()], dim=1).to(torch.float32)


def token_levels(
    tokens: torch.Tensor,
    blocks: Sequence[nn.Module] | nn.ModuleList,
    *,
    taken: Sequence[int],
    norm: nn.Module,
    grid: tuple[int, int],
) -> list[torch.Tensor]:
    """(batch, width, row, col) after each of the blocks `taken`, counted from 1, the last one normed, without the class token in front."""
    levels = []
    for number, block in enumerate(blocks, 1):
        tokens = block(tokens)
        if number in taken:
            levels.append(norm(tokens) if number == len(blocks) else tokens)
    return [as_image(level[:, 1:], grid) for level in levels]


def as_image(tokens: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """(batch, width, row, col) of tokens (batch, row * col, width)."""
    return tokens.transpose(1, 2).reshape(tokens.shape[0], tokens.shape[2], *grid)


def check_unseen(unseen: str) -> Unseen:
    """The word, if it is one; PackageError otherwise."""
    if unseen not in ("refuse", "zero"):
        raise PackageError(f'unseen={unseen!r} is not known; bands that the weights never saw are "refuse"d, or begin with "zero"')
    return "refuse" if unseen == "refuse" else "zero"
