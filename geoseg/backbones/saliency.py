"""How much each patch of a multispectral image has to say, by its spectral indices: semantic richness and internal heterogeneity.

After SIGMAE (arXiv 2603.07463, 2026), which scores patches by these two. Its formulas are not public; these are ours:

- every index is brought to 0…1 over the valid pixels of its image, so that each counts alike and a gain common to all bands changes
  nothing;
- richness of a patch: the mean over its pixels of the greatest index there, so it is high where some index speaks clearly;
- heterogeneity: the standard deviation of each index within the patch, the mean of these over the indices;
- saliency: alpha * richness + (1 - alpha) * heterogeneity, each brought to 0…1 over the patches of its image that have data.
"""

from __future__ import annotations

import torch

from geoseg.backbones.mae import cut_patches


def saliency(indices: torch.Tensor, valid: torch.Tensor, patch: int, *, alpha: float = 0.5) -> torch.Tensor:
    """(batch, N) from 0 to 1; 0 for patches without data.

    `indices` (batch, index, row, col) in any unit, `valid` (batch, row, col). `alpha` 1 is richness alone, 0 heterogeneity alone.
    """
    has_data = cut_patches(valid.unsqueeze(1), patch).any(dim=-1)
    one, other = (to_unit_range(part, has_data) for part in (richness(indices, valid, patch), heterogeneity(indices, valid, patch)))
    return alpha * one + (1 - alpha) * other


def richness(indices: torch.Tensor, valid: torch.Tensor, patch: int) -> torch.Tensor:
    """(batch, N) mean over a patch's valid pixels of the greatest index in 0…1; 0 without data."""
    greatest = _scaled(indices, valid).amax(dim=1, keepdim=True)
    return _mean(cut_patches(greatest, patch), cut_patches(valid.unsqueeze(1), patch))


def heterogeneity(indices: torch.Tensor, valid: torch.Tensor, patch: int) -> torch.Tensor:
    """(batch, N) standard deviation of each index in 0…1 over a patch's valid pixels, the mean over the indices; 0 without data."""
    known = cut_patches(valid.unsqueeze(1), patch)
    spreads = []
    for plane in _scaled(indices, valid).unbind(dim=1):
        values = cut_patches(plane.unsqueeze(1), patch)
        spreads.append(_mean((values - _mean(values, known).unsqueeze(-1)).square(), known).sqrt())
    return torch.stack(spreads).mean(dim=0)


def to_unit_range(values: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """`values` (…, place) from 0 to 1 over the known places of each row; 0 elsewhere, and where all known are equal."""
    infinite = float("inf")
    least = values.masked_fill(~known, infinite).amin(dim=-1, keepdim=True)
    reach = values.masked_fill(~known, -infinite).amax(dim=-1, keepdim=True) - least
    scaled = (values - least) / torch.where(reach > 0, reach, torch.ones_like(reach))
    return torch.where(known & (reach > 0), scaled, torch.zeros_like(scaled))


def _scaled(indices: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """Each index (batch, index, row, col) from 0 to 1 over the valid pixels of its image."""
    flat = indices.flatten(2)
    return to_unit_range(flat, valid.flatten(1).unsqueeze(1).expand_as(flat)).view_as(indices)


def _mean(values: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Over the known values of each patch (batch, N, value); 0 where there is none."""
    return (values * known).sum(dim=-1) / known.sum(dim=-1).clamp(min=1)
