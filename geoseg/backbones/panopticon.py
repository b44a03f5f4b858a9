"""Panopticon: DINOv2's transformer for any bands, which attends over them before it looks at patches; kept by torchgeo.

Waldmann et al., "Panopticon" (arXiv 2503.10845, 2025). Each band goes through the same kernels and is told apart by its wavelength in
nanometres, or by what its radar sent and received; attention makes one token of a patch's bands, in any number and order. Published files
hold the names of timm's `vit_base_patch14_dinov2` with another `patch_embed`, positions for 37 x 37 patches (518 pixels) and a mask token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from geoseg.backbones.foreign_weights import left_out, needed, token_levels, wavelengths_um
from geoseg.backbones.kernels import stretch_positions
from geoseg.backbones.key_report import KeyReport, load_matching
from geoseg.backbones.vit import quarters
from geoseg.errors import PackageError, require
from geoseg.preprocess.series import split_role
from geoseg.sensors import get_sensor

RADAR = {"vv": -1, "vh": -2, "hh": -3, "hv": -4}
"""Numbers that stand for what was sent and received, on either pass; 4 less ascending, 8 less descending."""
PASSES = ("either", "ascending", "descending")
_S2 = {band.role: band.wavelength_um for band in get_sensor("sentinel-2-l2a").bands if band.wavelength_um is not None}
_PATCH = 14
_WIDTH = 768
_GRID = 16
"""Patches along an edge of images of 224 pixels, for which positions are kept."""


class Panopticon(nn.Module):
    """torchgeo's network as a `Backbone` for bands of these roles."""

    def __init__(
        self,
        roles: Sequence[str],
        *,
        depth: int = 12,
        orbit: str = "either",
        wavelengths: Mapping[str, float] | None = None,
    ) -> None:
        """`orbit` is that of radar bands, one of `PASSES`; `wavelengths` are micrometres by role, for bands that differ from the usual.

        PackageError for an unknown pass or depth, or a band that is neither radar nor of a known wavelength.
        """
        super().__init__()
        if orbit not in PASSES:
            raise PackageError(f"there is no pass {orbit!r}; known are {', '.join(PASSES)}")
        if not 1 <= depth <= 12:
            raise PackageError(f"Panopticon has 12 blocks; give a depth of 1 to 12, not {depth}")
        self.numbers = channel_numbers(roles, orbit, wavelengths or {})
        self.network = require("torchgeo.models", extra="train").Panopticon(img_size=_GRID * _PATCH).model
        self.network.blocks = self.network.blocks[:depth]
        self.network.head = nn.Identity()
        self.taken = quarters(depth)
        self.channels, self.strides = (_WIDTH,) * len(self.taken), (_PATCH,) * len(self.taken)

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        """(batch, width, row, col) of patches after each of the blocks `taken`, the last of them normed."""
        network, grid = self.network, (image.shape[-2] // _PATCH, image.shape[-1] // _PATCH)
        numbers = torch.tensor(self.numbers, dtype=torch.float32, device=image.device).repeat(image.shape[0], 1)
        patches = network.patch_embed({"imgs": image, "chn_ids": numbers})
        tokens = torch.cat([network.cls_token.expand(image.shape[0], -1, -1), patches], dim=1) + stretch_positions(network.pos_embed, grid)
        return token_levels(tokens, network.blocks, taken=self.taken, norm=network.norm, grid=grid)


def build(roles: Sequence[str], **options: Any) -> Panopticon:
    """The network for bands of these roles; `options` are those of `Panopticon`."""
    return Panopticon(roles, **options)


def load(backbone: Panopticon, state: Mapping[str, torch.Tensor], source: str) -> KeyReport:
    """Fill the network with a published file; nothing in it depends on the bands.

    Positions are stretched from the file's grid to 16 x 16, bicubic and smoothed as torchgeo does; the class token's stays as it is.
    PackageError for other weights.
    """
    made = left_out(state, ("mask_token", "head."))
    positions = needed(made, "pos_embed", source)
    made["pos_embed"] = smooth_positions(positions, _GRID)
    return load_matching(backbone.network, made, source, reshaped=["pos_embed"] if made["pos_embed"].shape != positions.shape else [])


def place(state: Mapping[str, torch.Tensor], have: Sequence[str], wanted: Sequence[str], **options: Any) -> dict[str, torch.Tensor]:
    """The network's own state: the same for all bands."""
    return dict(state)


def smooth_positions(positions: torch.Tensor, edge: int) -> torch.Tensor:
    """(1, 1 + edge * edge, width) from positions of another square grid; the class token's stays as it is."""
    own, places = positions[:, :1], positions[:, 1:]
    before = round(places.shape[1] ** 0.5)
    if before == edge:
        return positions
    planes = places.transpose(1, 2).reshape(1, -1, before, before)
    stretched = functional.interpolate(planes, size=(edge, edge), mode="bicubic", antialias=True)
    return torch.cat([own, stretched.flatten(2).transpose(1, 2)], dim=1)


def channel_numbers(roles: Sequence[str], orbit: str, wavelengths: Mapping[str, float]) -> tuple[float, ...]:
    """What stands for each band: nanometres, or a number below zero for radar."""
    optical = [role for role in roles if split_role(role)[0] not in RADAR]
    nanometres = iter([round(1000.0 * number, 1) for number in wavelengths_um(optical, _S2, wavelengths)])
    return tuple(
        float(RADAR[split_role(role)[0]] - 4 * PASSES.index(orbit)) if split_role(role)[0] in RADAR else next(nanometres) for role in roles
    )
