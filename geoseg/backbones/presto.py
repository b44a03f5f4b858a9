"""Presto: a small transformer for the time series of single pixels, whose published weights load as they are.

Tseng et al., "Lightweight, Pre-trained Transformers for Remote Sensing Timeseries", 2023 (code and weights: MIT). Each group of bands of a
pixel is a token in each month; terrain is one for all months. A group that lacks a band gives no token, as in training, where groups and
months were hidden at random; one date is enough. A quarter of each token tells its month, one its group, one half its place in the series.
Features of a pixel are the mean of its tokens, normed: it sees no neighbour.

Input is (physical value - mean) / std with `STATISTICS`, which are no statistics, but the round numbers by which the authors shift and
divide; NDVI is made inside. Optical bands were Sentinel-2 at the top of the atmosphere in training, radar Sentinel-1 in decibels of sigma0
on the ellipsoid. Weather has weights here, but no band feeds them. The decoder that comes in the same file only served to learn; it is
left out, so that the report of keys names it.

Pixels go through in parts, so that memory stays bounded. An exported graph has no loop, but sixteen parts of its image one after the
other, so that its memory grows with the tile: give series of many dates small ones (`map_tile`), or map with torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from geoseg.backbones.band_tokens import (
    NDVI,
    SENTINEL,
    TERRAIN,
    BandToken,
    exported_parts,
    find_tokens,
    month_circle,
    normalised_difference,
    on_the_sphere,
)
from geoseg.backbones.key_report import KeyReport, load_matching
from geoseg.backbones.vit import VitSize, start_weights, transformer_blocks

SIZE = VitSize(width=128, depth=2, heads=8)
DEFAULT_MONTH = 6
"""June, where no month is known; the authors' code takes January there."""
LONGEST = 24
"""Dates of a series."""
COVER_CLASSES = 9
"""Of Dynamic World: water, trees, grass, flooded vegetation, crops, shrub and scrub, built, bare, snow and ice; one more is for none."""

_TERRAIN, _WEATHER, _COVER = "SRTM", "ERA5", "dynamic_world"
_GROUPS = ("S1", "S2_RGB", "S2_Red_Edge", "S2_NIR_10m", "S2_NIR_20m", "S2_SWIR", _WEATHER, _TERRAIN, NDVI, _COVER)
"""In the order of the rows of `channel_embed`."""
DATED: Mapping[str, tuple[str, ...]] = {**SENTINEL, _COVER: (_COVER,)}
LASTING: Mapping[str, tuple[str, ...]] = {_TERRAIN: TERRAIN}
"""Groups and the roles of their bands; `dynamic_world` is a class, 0 … 8."""

STATISTICS: Mapping[str, tuple[float, float]] = {
    **dict.fromkeys((role for group, roles in DATED.items() if group.startswith("S2") for role in roles), (0.0, 1.0)),
    **dict.fromkeys(SENTINEL["S1"], (-25.0, 25.0)),
    "height": (0.0, 2000.0),
    "slope": (0.0, 50.0),
    _COVER: (0.0, 1.0),
}
"""Role → what is subtracted from reflectance, decibels, metres, degrees or a class, and what that is divided by."""
_TOKENS_AT_ONCE = 1 << 14
"""Some 30 MB in float32 where a block is widest; more takes no less time."""


class Presto(nn.Module):
    """The encoder as a `Backbone` of one level, every pixel by itself; tensors named as in the authors' file, less `encoder.`."""

    channels: tuple[int, ...] = (SIZE.width,)
    strides: tuple[int, ...] = (1,)

    def __init__(
        self,
        roles: Sequence[str],
        *,
        month: int = DEFAULT_MONTH,
        periods: Sequence[str] | None = None,
        months: Sequence[int] | None = None,
        location: Sequence[float] | None = None,
    ) -> None:
        """`month` (1 … 12) is that of images of a single date; for `periods` and `months` of a series see `find_tokens`.

        `location` is latitude and longitude in degrees of all images, told to the network where it is given. PackageError for what
        cannot be built.
        """
        super().__init__()
        self.seen = find_tokens(roles, DATED, LASTING, month=month, periods=periods, months=months, longest=LONGEST)
        """The tokens of each pixel."""
        width, quarter = SIZE.width, SIZE.width // 4
        bands = {group: len(roles) for group, roles in {**DATED, **LASTING}.items()} | {_WEATHER: 2, NDVI: 1}
        self.pos_embed = nn.Parameter(_waves(LONGEST, width // 2)[None], requires_grad=False)
        self.month_embed = nn.Embedding(12, quarter)
        self.month_embed.weight = nn.Parameter(month_circle(quarter), requires_grad=False)
        self.channel_embed = nn.Embedding(len(_GROUPS), quarter)
        self.eo_patch_embed = nn.ModuleDict({group: nn.Linear(bands[group], width) for group in _GROUPS if group != _COVER})
        self.dw_embed = nn.Embedding(COVER_CLASSES + 1, width)
        self.latlon_embed = nn.Linear(3, width)
        self.blocks = transformer_blocks(SIZE)
        self.norm = nn.LayerNorm(width)
        self.apply(start_weights)
        self.register_buffer("earth", None if location is None else on_the_sphere(location), persistent=False)
        used = {token.group for token in self.seen}
        for group, layer in self.eo_patch_embed.items():
            layer.requires_grad_(group in used)  # a training in several processes waits for no gradient of what no token passes through
        self.dw_embed.requires_grad_(_COVER in used)
        self.latlon_embed.requires_grad_(location is not None)

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        """[(batch, 128, row, col)]."""
        pixels = image.permute(0, 2, 3, 1).flatten(0, 2)  # (pixel, channel)
        if torch.onnx.is_in_onnx_export():  # parts of a size of our own would be for images of this size alone
            parts = exported_parts(pixels)
        else:
            parts = list(torch.split(pixels, max(1, _TOKENS_AT_ONCE // len(self.seen))))
        features = torch.cat([self.encode(part) for part in parts])
        return [features.reshape(image.shape[0], image.shape[2], image.shape[3], SIZE.width).permute(0, 3, 1, 2)]

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        """(pixel, 128) from (pixel, channel)."""
        x = torch.stack([self._token(pixels, token) for token in self.seen], dim=1)  # (pixel, token, width)
        if self.earth is not None:
            x = torch.cat([self.latlon_embed(self.earth).expand(x.shape[0], 1, -1), x], dim=1)
        for block in self.blocks:
            x = block(x)
        features: torch.Tensor = self.norm(x.mean(dim=1))
        return features

    def _token(self, pixels: torch.Tensor, token: BandToken) -> torch.Tensor:
        """(pixel, width): values of a group, with its month, name and place in the series."""
        bands = pixels[:, list(token.places)]
        if token.group == _COVER:
            made = self.dw_embed(bands[:, 0].round().clamp(0, COVER_CLASSES - 1).long())
        else:
            made = self.eo_patch_embed[token.group](normalised_difference(bands[:, :1], bands[:, 1:]) if token.group == NDVI else bands)
        name = self.channel_embed.weight[_GROUPS.index(token.group)]
        if token.step is None or token.month is None:
            month, place = torch.zeros_like(self.month_embed.weight[0]), torch.zeros_like(self.pos_embed[0, 0])
        else:
            month, place = self.month_embed.weight[token.month], self.pos_embed[0, token.step]
        told: torch.Tensor = made + torch.cat([month, name, place])
        return told


def build(roles: Sequence[str], **options: Any) -> Presto:
    """The backbone for bands of these roles; `options` are those of `Presto`."""
    return Presto(roles, **options)


def load(backbone: Presto, state: Mapping[str, torch.Tensor], source: str) -> KeyReport:
    """Fill the network with the encoder of the authors' file; PackageError where fewer than nine in ten tensors fit."""
    return load_matching(backbone, {name.removeprefix("encoder."): tensor for name, tensor in state.items()}, source)


def place(state: Mapping[str, torch.Tensor], have: Sequence[str], wanted: Sequence[str], **_: Any) -> dict[str, torch.Tensor]:
    """The state as it is: groups have their own weights, whether or not a scene has them."""
    return dict(state)


def _waves(count: int, width: int) -> torch.Tensor:
    """(place, width): sine and cosine in turn, slower from pair to pair, down to a thousandth."""
    speeds = 1000.0 ** (-torch.arange(0, width, 2) / width)
    angles = torch.arange(count)[:, None] * speeds
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)
