"""SIGMAE: a masked autoencoder whose masks follow spectral indices, at first not at all, in the end wholly.

After arXiv 2603.07463 (2026): patches are scored by what their indices (NDVI, NDWI, NDBI) say, and the most informative ones are
hidden, more of them the longer it has learned, at ratios of up to 90 %. The idea is published, neither the schedule nor the formulas
are; so these are ours:

- of the patches to hide, the share rho(t) are the most salient (`saliency.py`), the rest are drawn at random from the others;
- rho rises from 0 to 1 over the training, by default in a line; the number of hidden patches stays the same throughout.

With rho 0 this is plain MAE. The network is `mae.MaskedAutoencoder`, and every band is guessed.
"""

from __future__ import annotations

import math
from typing import Literal

import torch

from geoseg.backbones.mae import Masking, choose_hidden, ranked, whole_share

Curriculum = Literal["linear", "cosine", "none"]


def guided_share(progress: float, curriculum: Curriculum = "linear") -> float:
    """rho: the share of hidden patches that saliency chooses, when the share `progress` (0…1) of the training is over.

    `linear` and `cosine` (half a wave) rise from 0 to 1; `none` is 1 from the beginning.
    """
    if curriculum == "none":
        return 1.0
    return progress if curriculum == "linear" else (1 - math.cos(math.pi * progress)) / 2


def guided_masking(
    saliency: torch.Tensor, has_data: torch.Tensor, *, ratio: float, share: float, generator: torch.Generator | None = None
) -> Masking:
    """Hide the share `ratio` of the patches with data: floor(share * hidden) most salient, the others at random from the rest.

    `saliency` (batch, N) counts only where `has_data` (batch, N); of equally salient patches the earlier is hidden first. `generator`
    is one of the CPU, so that all devices draw the same.
    """
    guided = whole_share(share, whole_share(ratio, has_data.sum(dim=1, keepdim=True)))  # (batch, 1)
    noise = _noise(saliency, generator)
    first = torch.where(ranked(saliency, has_data) < guided, 1 + noise, noise)
    return choose_hidden(first, has_data, ratio)


def random_masking(has_data: torch.Tensor, *, ratio: float, generator: torch.Generator | None = None) -> Masking:
    """Plain MAE: the share `ratio` of the patches with data (batch, N), each as likely as any other."""
    return choose_hidden(_noise(has_data, generator), has_data, ratio)


def _noise(like: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
    """From 0 to less than 1, in the shape of `like` and on its device."""
    return torch.rand(like.shape, generator=generator).to(like.device)
