"""A learning rate from a short test: it grows with every batch, and the loss tells where it learns fastest and where it breaks."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from geoseg.errors import InputError

_LEAST, _MOST, _STEPS = 1e-5, 1.0, 100
_SMOOTH = 0.9
"""What the mean loss keeps of itself from one batch to the next."""
_BROKEN = 4.0
"""The test ends where the mean loss is this many times the least."""
_TOO_FEW = 10
"""Batches in which the mean loss is not yet to be believed."""


@dataclass(frozen=True)
class RateTest:
    """Learning rates, and what the loss was at each."""

    rates: tuple[float, ...]
    """Rising."""
    losses: tuple[float, ...]
    """Smoothed over the batches before."""

    @property
    def best(self) -> float:
        """The rate at which the loss falls fastest per factor of the rate (Smith, 2017; the choice is that of fast.ai's finder).

        Raises InputError where it falls nowhere.
        """
        falls = [(self.losses[i + 1] - self.losses[i - 1], self.rates[i]) for i in range(_TOO_FEW, len(self.losses) - 1)]
        steepest, rate = min(falls, default=(0.0, 0.0))
        if steepest >= 0:
            raise InputError("learning_rate: auto found no rate at which the loss falls; look at the labels, or name a rate such as 0.002")
        return rate


def try_rates(
    network: nn.Module,
    loss: Callable[[nn.Module, dict[str, torch.Tensor]], torch.Tensor],
    batches: Iterable[dict[str, torch.Tensor]],
    *,
    weight_decay: float = 0.01,
    device: torch.device | str = "cpu",
    groups: Callable[[nn.Module], list[dict[str, Any]]] | None = None,
) -> RateTest:
    """The loss of AdamW at rates that grow from 1e-5 to 1 within a hundred batches, or until it breaks; `batches` may be gone
    through several times.

    `loss` gives that of a network on a batch. A copy of the network learns; the one given stays as it is. `groups` gives the parameters
    of a network that learn, each group with its `share` of the rate; None has all learn alike.
    """
    learner = copy.deepcopy(network).to(device).train()
    optimizer = torch.optim.AdamW(groups(learner) if groups else learner.parameters(), lr=_LEAST, weight_decay=weight_decay)
    rates: list[float] = []
    losses: list[float] = []
    mean = 0.0
    for step, batch in enumerate(itertools.islice(itertools.chain.from_iterable(itertools.repeat(batches)), _STEPS)):
        rate = _LEAST * (_MOST / _LEAST) ** (step / (_STEPS - 1))
        for group in optimizer.param_groups:
            group["lr"] = rate * group.get("share", 1.0)
        value = loss(learner, {name: planes.to(device) for name, planes in batch.items()})
        if not torch.isfinite(value):
            break
        optimizer.zero_grad()
        torch.autograd.backward(value)
        optimizer.step()
        mean = _SMOOTH * mean + (1 - _SMOOTH) * value.item()
        smooth = mean / (1 - math.pow(_SMOOTH, step + 1))  # as if the mean had not begun at 0
        if step > _TOO_FEW and smooth > _BROKEN * min(losses):
            break
        rates.append(rate)
        losses.append(smooth)
    return RateTest(tuple(rates), tuple(losses))
