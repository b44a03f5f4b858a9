"""How the learning rate rises and falls over the steps of a training."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from geoseg.recipes._settings import Schedule

_POWER = 0.9
"""Of the polynomial (Chen et al., 2017, DeepLab)."""


def make_schedule(optimizer: torch.optim.Optimizer, kind: Schedule, *, rate: float, steps: int, warm_up: float) -> LRScheduler:
    """The schedule of `steps` steps that reaches `rate`, or a group's `share` of it, after the share `warm_up` (0…1) of them.

    `one_cycle` rises and falls by half a cosine, the momentum against it (Smith & Topin, 2018). `cosine` (Loshchilov & Hutter,
    2017, without restarts) and `poly` rise in a line and fall as they are named.
    """
    if kind == "one_cycle":
        rates = [rate * group.get("share", 1.0) for group in optimizer.param_groups]
        return OneCycleLR(optimizer, rates, total_steps=steps, pct_start=warm_up)
    return LambdaLR(optimizer, partial(_share_of_step, kind=kind, steps=steps, warm_up=warm_up))


def rate_share(done: float, kind: Schedule, warm_up: float) -> float:
    """Share of the greatest learning rate when the share `done` of all steps is over, both 0…1, for `cosine` and `poly`."""
    if done < warm_up:
        return done / warm_up
    left = 1 - (done - warm_up) / (1 - warm_up)
    return (1 - math.cos(math.pi * left)) / 2 if kind == "cosine" else left**_POWER


def _share_of_step(step: int, *, kind: Schedule, steps: int, warm_up: float) -> float:
    return rate_share(min(step + 1, steps) / (steps + 1), kind, warm_up)  # neither the first nor the last step is for nothing
