"""`geoseg.preprocess.sar_descriptors` for batches of images inside a network, and the scale on which a router takes them."""

from __future__ import annotations

import math

import torch
from torch.nn import functional

from geoseg.preprocess.sar_descriptors import BINS, BLOCK, LEAST_VARIANCE

NAMES = ("directional entropy", "equivalent number of looks", "local roughness")
_MANY_LOOKS = 100.0
_SMOOTH = 1e-6


def describe(power: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """(batch, 3) entropy, looks and roughness of linear power (batch, row, col), of the pixels that are `valid` (batch, row, col)."""
    x = torch.log1p(power.abs()) * valid
    seen = valid.to(x.dtype)
    count = seen.sum(dim=(1, 2)).clamp(min=1)
    mean = x.sum(dim=(1, 2)) / count
    variance = ((x - mean[:, None, None]).square() * seen).sum(dim=(1, 2)) / count
    looks = mean.square() / variance.clamp(min=LEAST_VARIANCE)
    return torch.stack([_entropy(x, seen), looks, _roughness(x, seen)], dim=1)


def scaled(descriptors: torch.Tensor) -> torch.Tensor:
    """(batch, 3) about 0…1: entropy over its greatest, looks and roughness by logarithms.

    The paper speaks of no scale, and the number of looks has no bound.
    """
    entropy, looks, roughness = descriptors.unbind(dim=1)
    tenths = (roughness + _SMOOTH).log10() / -math.log10(_SMOOTH) + 1
    return torch.stack([entropy / math.log(BINS), torch.log1p(looks) / math.log1p(_MANY_LOOKS), tenths], dim=1)


def _entropy(x: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
    if min(x.shape[1:]) < 3:
        return x.new_zeros(len(x))
    across = x[:, :-2] + 2 * x[:, 1:-1] + x[:, 2:]
    down = x[:, :, :-2] + 2 * x[:, :, 1:-1] + x[:, :, 2:]
    direction = torch.atan2(down[:, 2:] - down[:, :-2], across[:, :, 2:] - across[:, :, :-2])
    whole = -functional.max_pool2d(-seen[:, None], kernel_size=3, stride=1)[:, 0]  # 1 where all nine are valid
    turn = (direction + math.pi) / (2 * math.pi) * BINS
    places = torch.where(turn <= 0, torch.full_like(turn, BINS), turn.ceil()).clamp(max=BINS) - 1
    shares = torch.stack([((places == number) * whole).sum(dim=(1, 2)) for number in range(BINS)], dim=1)
    shares = shares / shares.sum(dim=1, keepdim=True).clamp(min=1)
    return -(shares * shares.clamp(min=1e-12).log()).sum(dim=1)


def _roughness(x: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
    if min(x.shape[1:]) < BLOCK:
        return x.new_zeros(len(x))
    shares = functional.avg_pool2d(seen[:, None], BLOCK)[:, 0]  # of valid pixels; blocks that the edge cuts are left out
    enough = (shares >= 0.5).to(x.dtype)
    means = functional.avg_pool2d(x[:, None], BLOCK)[:, 0] / shares.clamp(min=0.5)
    count = enough.sum(dim=(1, 2)).clamp(min=1)
    mean = (means * enough).sum(dim=(1, 2)) / count
    return ((means - mean[:, None, None]).square() * enough).sum(dim=(1, 2)) / count
