"""Prithvi-EO: NASA's and IBM's transformer for one to four dates of harmonised Landsat and Sentinel-2.

Szwarcman et al., "Prithvi-EO-2.0" (arXiv 2412.02732, 2024), and Jakubik et al., 2023 (1.0). The published files hold a masked
autoencoder, `encoder.*` and `decoder.*` (1.0: the encoder's names without anything before them); we keep the encoder. Layout and figures
are those of `prithvi_mae.py` in github.com/IBM/terratorch, which is the authors' code. Places are sines of column, row and date
(3/8, 3/8, 1/4 of the width), computed and never loaded, on the 14 x 14 patches of training and stretched to what comes.

Bands of several dates carry a period in their roles: `red@05`, `nir08@05`, `red@09` … Features of all dates stand side by side: the
channels are width x dates. TL models add scaled sines of day and place where these are given; they were trained to do without.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from geoseg.backbones.foreign_weights import (
    Unseen,
    below,
    check_unseen,
    kernels_by_role,
    left_out,
    needed,
    sines,
    token_levels,
)
from geoseg.backbones.key_report import KeyReport, load_matching
from geoseg.backbones.vit import quarters
from geoseg.errors import PackageError, require
from geoseg.preprocess.series import split_role

ROLES = ("blue", "green", "red", "nir08", "swir16", "swir22")
"""Bands of all published weights, in order: HLS reflectance."""
_EDGE = 224
"""Pixels along an edge of the images of training."""
_KERNELS = "patch_embed.proj.weight"
_SCALES = ("temporal_embed_enc.", "location_embed_enc.")


@dataclass(frozen=True)
class PrithviSize:
    """How large a Prithvi is, and its patches in pixels."""

    width: int
    depth: int
    heads: int
    patch: int = 16


SIZES = {
    "tiny": PrithviSize(192, 12, 3),
    "100M": PrithviSize(768, 12, 12),
    "300M": PrithviSize(1024, 24, 16),
    "600M": PrithviSize(1280, 32, 16, 14),
}


class _Scale(nn.Module):
    """One learned number, by which sines of a date or a place are multiplied."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((1,), 0.1))

    def forward(self, pairs: torch.Tensor, width: int) -> torch.Tensor:
        """(batch, count, width) from pairs of numbers (batch, count, 2): sines of the first, then of the second."""
        first, second = (sines(pairs[..., place].flatten(), width // 2) for place in range(2))
        made: torch.Tensor = self.scale * torch.cat([first, second], dim=1).view(*pairs.shape[:2], width)
        return made


class _PatchEmbed(nn.Module):
    """A patch of one date to a token; named as in the published files."""

    def __init__(self, bands: int, size: PrithviSize) -> None:
        super().__init__()
        self.proj = nn.Conv3d(bands, size.width, kernel_size=(1, size.patch, size.patch), stride=(1, size.patch, size.patch))


class Prithvi(nn.Module):
    """The encoder as a `Backbone` for bands of these roles."""

    def __init__(
        self, roles: Sequence[str], *, size: str = "300M", depth: int | None = None, coords: bool = False, unseen: str = "refuse"
    ) -> None:
        """`coords` is for the TL models; `unseen` is what `load` does with bands that no Prithvi saw: "refuse", or begin with "zero".

        PackageError for an unknown size, no block, or dates with different bands.
        """
        super().__init__()
        if size not in SIZES:
            raise PackageError(f"there is no Prithvi of size {size!r}; known are {', '.join(SIZES)}")
        if depth is not None and depth < 1:
            raise PackageError(f"a transformer of {depth} blocks; give at least 1, or leave depth out for {SIZES[size].depth}")
        sized = SIZES[size]
        vision = require("timm.models.vision_transformer", extra="train")
        self.bands, order = _by_date(roles)
        self.unseen: Unseen = check_unseen(unseen)
        self.width, self.patch, self.dates, self.depth = sized.width, sized.patch, len(order), depth or sized.depth
        self.order = order
        """For each date, the channels of its bands."""
        self.patch_embed = _PatchEmbed(len(self.bands), sized)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, sized.width))
        self.temporal_embed_enc, self.location_embed_enc = (_Scale() if coords else None for _ in range(2))
        self.blocks = nn.ModuleList(
            vision.Block(sized.width, sized.heads, qkv_bias=True, norm_layer=nn.LayerNorm) for _ in range(self.depth)
        )
        self.norm = nn.LayerNorm(sized.width)
        self.taken = quarters(self.depth)
        self.channels = (sized.width * self.dates,) * len(self.taken)
        self.strides = (sized.patch,) * len(self.taken)

    def forward(self, image: torch.Tensor, *, days: torch.Tensor | None = None, places: torch.Tensor | None = None) -> list[torch.Tensor]:
        """(batch, date * width, row, col) after each of the blocks `taken`.

        `days` (batch, date, 2) are year and day of the year, `places` (batch, 2) latitude and longitude in degrees, for TL models.
        """
        series = image[:, self.order].transpose(1, 2)  # (batch, band, date, row, col)
        planes = self.patch_embed.proj(series)  # (batch, width, date, row, col)
        grid = planes.shape[-2], planes.shape[-1]
        tokens = planes.flatten(2).transpose(1, 2) + places_of(self.dates, grid, self.width, _EDGE // self.patch).to(planes)
        if days is not None and self.temporal_embed_enc is not None:
            tokens = tokens + self.temporal_embed_enc(days, self.width).repeat_interleave(grid[0] * grid[1], dim=1)
        if places is not None and self.location_embed_enc is not None:
            tokens = tokens + self.location_embed_enc(places[:, None], self.width)
        tokens = torch.cat([self.cls_token.expand(image.shape[0], -1, -1), tokens], dim=1)  # the class token's place is zero
        levels = token_levels(tokens, self.blocks, taken=self.taken, norm=self.norm, grid=(self.dates, grid[0] * grid[1]))
        return [level.transpose(1, 2).reshape(image.shape[0], -1, *grid) for level in levels]


def build(roles: Sequence[str], **options: Any) -> Prithvi:
    """The encoder for bands of these roles; `options` are those of `Prithvi`."""
    return Prithvi(roles, **options)


def load(backbone: Prithvi, state: Mapping[str, torch.Tensor], source: str) -> KeyReport:
    """Fill the encoder with a published file's, its kernels by role; decoder and places are left out.

    PackageError for other weights, or bands that they never saw.
    """
    own = left_out({name.replace("_timm_module.", ""): tensor for name, tensor in state.items()}, ("decoder", "mask_token"))
    own = left_out(below(own, ("encoder.",)), ("pos_embed", "decoder", "mask_token"))
    if backbone.temporal_embed_enc is None:
        own = left_out(own, _SCALES)
    kernels = needed(own, _KERNELS, source)
    own[_KERNELS] = kernels_by_role(kernels, ROLES, backbone.bands, unseen=backbone.unseen, source=source)
    return load_matching(backbone, own, source, reshaped=[_KERNELS] if backbone.bands != ROLES else [])


def place(state: Mapping[str, torch.Tensor], have: Sequence[str], wanted: Sequence[str], **options: Any) -> dict[str, torch.Tensor]:
    """The encoder's own state for bands `have`, for bands `wanted`: kernels by role."""
    known, bands = _by_date(have)[0], _by_date(wanted)[0]
    unseen = check_unseen(options.get("unseen", "refuse"))
    return {**state, _KERNELS: kernels_by_role(state[_KERNELS], known, bands, unseen=unseen, source="the encoder")}


def places_of(dates: int, grid: tuple[int, int], width: int, edge: int) -> torch.Tensor:
    """(1, date * row * col, width) sines of column, row and date, made for `edge` x `edge` patches and stretched to `grid`."""
    side, time = width // 16 * 6, width // 16 * 4
    along, across = torch.arange(edge), torch.arange(edge).repeat_interleave(edge)
    places = torch.cat([sines(along.repeat(edge), side), sines(across, side)], dim=1)  # (row * col, width - time)
    if grid != (edge, edge):
        planes = places.T.reshape(1, -1, edge, edge)
        places = functional.interpolate(planes, size=grid, mode="bicubic", align_corners=True).flatten(2)[0].T
    when = sines(torch.arange(dates), time)
    return torch.cat([places.repeat(dates, 1), when.repeat_interleave(places.shape[0], dim=0)], dim=1)[None]


def _by_date(roles: Sequence[str]) -> tuple[tuple[str, ...], list[list[int]]]:
    """The bands of each date, and for each date, early to late, the channels that hold them."""
    dates = sorted({split_role(role)[1] or "" for role in roles})
    bands = tuple(dict.fromkeys(split_role(role)[0] for role in roles))
    names = [[f"{band}@{date}" if date else band for band in bands] for date in dates]
    if missing := [name for date in names for name in date if name not in roles]:
        raise PackageError(f"Prithvi sees the same bands on every date; {missing[0]} is missing among {', '.join(roles)}")
    return bands, [[list(roles).index(name) for name in date] for date in names]
