"""OlmoEarth 1: Ai2's transformer that reads Sentinel-2 in three groups of bands and Sentinel-1 in one, with patches of 1 to 8 pixels.

Herzog et al., "OlmoEarth" (arXiv 2511.13655, 2025), version 1; 1.1 and later have other layers and are refused. Published files hold the
whole training model, of which `encoder.*` is what we keep. Layout and figures are those of the PyPI package olmoearth-pretrain-minimal.
A quarter of a token tells its group, one the date's place in a series (here always the first), one the month, one the patch's column and
row times its size in tens of metres. Patches smaller than 8 pixels are stretched to 8, bicubic, before the same kernels see them; that
step cannot be written as ONNX of the version in use here. Features are the mean over the groups at hand, place by place.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from geoseg.backbones.foreign_weights import Unseen, as_image, below, check_unseen, kernels_by_role, known_role, needed
from geoseg.backbones.key_report import KeyReport, load_matching
from geoseg.backbones.vit import SIZES, VitSize, quarters
from geoseg.errors import PackageError, require

GROUPS = {
    "sentinel2_l2a__0": ("blue", "green", "red", "nir"),
    "sentinel2_l2a__1": ("rededge071", "rededge075", "rededge078", "nir08", "swir16", "swir22"),
    "sentinel2_l2a__2": ("coastal", "nir09"),
    "sentinel1__0": ("vv", "vh"),
}
"""Group, by its name in the files → its bands in order."""
_SIZES = {"nano": VitSize(128, 4, 8), "tiny": SIZES["tiny"], "base": SIZES["base"], "large": SIZES["large"]}
_PATCH = 8
"""Pixels of the published kernels."""
_REFERENCE_M = 10.0
_SLOWEST = 10_000.0
_JUNE = 6


class OlmoEarth(nn.Module):
    """The encoder as a `Backbone` for bands of these roles."""

    def __init__(
        self,
        roles: Sequence[str],
        *,
        size: str = "base",
        depth: int | None = None,
        patch: int = _PATCH,
        pixel_size_m: float = _REFERENCE_M,
        month: int = _JUNE,
        unseen: str = "refuse",
    ) -> None:
        """`pixel_size_m` and `month`, 1 to 12, are those of all images that it will see. A band of no group goes with the first; `unseen`
        is what `load` does with it: "refuse", or begin with "zero". PackageError for an unknown size, patch or month, or no block.
        """
        super().__init__()
        if size not in _SIZES:
            raise PackageError(f"there is no OlmoEarth 1 of size {size!r}; known are {', '.join(_SIZES)}")
        if depth is not None and depth < 1:
            raise PackageError(f"a transformer of {depth} blocks; give at least 1, or leave depth out for {_SIZES[size].depth}")
        if not 1 <= patch <= _PATCH or not 1 <= month <= 12:
            raise PackageError(f"OlmoEarth has patches of 1 to {_PATCH} pixels and months 1 to 12, not {patch} and {month}")
        sized = _SIZES[size]
        vision = require("timm.models.vision_transformer", extra="train")
        self.unseen: Unseen = check_unseen(unseen)
        self.groups = _groups(roles)
        """Group → channels of its bands, and their roles."""
        self.width, self.patch, self.pixel_size_m, self.month, self.depth = sized.width, patch, pixel_size_m, month, depth or sized.depth
        self.patch_embeddings = nn.ModuleDict(
            {group: nn.Conv2d(len(own), sized.width, kernel_size=_PATCH, stride=_PATCH) for group, own in self.groups.items()}
        )
        self.channel_embeddings = nn.ParameterDict({group: torch.zeros(sized.width // 4) for group in self.groups})
        self.blocks = nn.ModuleList(
            vision.Block(sized.width, sized.heads, qkv_bias=True, norm_layer=nn.LayerNorm) for _ in range(self.depth)
        )
        self.norm = nn.LayerNorm(sized.width)
        self.taken = quarters(self.depth)
        self.channels, self.strides = (sized.width,) * len(self.taken), (patch,) * len(self.taken)

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        """(batch, width, row, col) of patches after each of the blocks `taken`, the last of them normed."""
        grid = image.shape[-2] // self.patch, image.shape[-1] // self.patch
        if self.patch != _PATCH:
            size = grid[0] * _PATCH, grid[1] * _PATCH
            image = functional.interpolate(image, size=size, mode="bicubic", antialias=True)
        places = places_of(grid, self.width // 4, self.patch * self.pixel_size_m / _REFERENCE_M).to(image)
        when = torch.cat([first_date(self.width // 4), month_of(self.month, self.width // 4)]).to(image).expand(places.shape[0], -1)
        tokens = []
        for group, own in self.groups.items():
            patches = self.patch_embeddings[group](image[:, list(own)]).flatten(2).transpose(1, 2)
            told = self.channel_embeddings[group].expand(places.shape[0], -1)
            tokens.append(patches + torch.cat([told, when, places], dim=-1))
        made, levels = torch.cat(tokens, dim=1), []
        for number, block in enumerate(self.blocks, 1):
            made = block(made)
            if number in self.taken:
                level = self.norm(made) if number == len(self.blocks) else made
                levels.append(as_image(torch.stack(level.chunk(len(self.groups), dim=1)).mean(dim=0), grid))
        return levels


def build(roles: Sequence[str], *, pixel_size_m: float = _REFERENCE_M, **options: Any) -> OlmoEarth:
    """The encoder for bands of these roles; `options` are those of `OlmoEarth`."""
    return OlmoEarth(roles, pixel_size_m=pixel_size_m, **options)


def load(backbone: OlmoEarth, state: Mapping[str, torch.Tensor], source: str) -> KeyReport:
    """Fill the encoder with a published file's: kernels of the groups at hand, by role; queries, keys and values become one layer.

    PackageError for other weights, or bands that they never saw.
    """
    theirs = below(state, ("model.encoder.", "encoder."))
    made = {name: tensor for name, tensor in theirs.items() if name.startswith(("blocks.", "norm.")) and ".attn." not in name}
    for block in range(len({name.split(".")[1] for name in theirs if name.startswith("blocks.")})):
        for end in ("weight", "bias"):
            three = [needed(theirs, f"blocks.{block}.attn.{which}.{end}", source) for which in "qkv"]
            made[f"blocks.{block}.attn.qkv.{end}"] = torch.cat(three)
            made[f"blocks.{block}.attn.proj.{end}"] = needed(theirs, f"blocks.{block}.attn.proj.{end}", source)
    reshaped = []
    for group, own in backbone.groups.items():
        kind, _, number = group.partition("__")
        name, bands = f"patch_embeddings.per_modality_embeddings.{kind}.{group}.proj", tuple(own.values())
        kernels = needed(theirs, f"{name}.weight", source)
        if kernels.ndim != 4:
            raise PackageError(f"{source} has {name}.weight of shape {tuple(kernels.shape)}, as version 1.1 and later; expected version 1")
        made[f"patch_embeddings.{group}.weight"] = kernels_by_role(kernels, GROUPS[group], bands, unseen=backbone.unseen, source=source)
        made[f"patch_embeddings.{group}.bias"] = needed(theirs, f"{name}.bias", source)
        told = needed(theirs, f"composite_encodings.per_modality_channel_embeddings.{kind}", source)
        made[f"channel_embeddings.{group}"] = told[int(number)]
        reshaped += [f"patch_embeddings.{group}.weight"] if bands != GROUPS[group] else []
    return load_matching(backbone, made, source, reshaped=reshaped)


def place(state: Mapping[str, torch.Tensor], have: Sequence[str], wanted: Sequence[str], **options: Any) -> dict[str, torch.Tensor]:
    """The encoder's own state for bands `have`, for bands `wanted`: kernels by role. PackageError for a group that it has not."""
    before, after, unseen = _groups(have), _groups(wanted), check_unseen(options.get("unseen", "refuse"))
    made = {name: tensor for name, tensor in state.items() if not name.startswith(("patch_embeddings.", "channel_embeddings."))}
    for group, own in after.items():
        name = f"patch_embeddings.{group}"
        kernels = needed(state, f"{name}.weight", "the encoder")
        known, bands = tuple(before[group].values()), tuple(own.values())
        made[f"{name}.weight"] = kernels_by_role(kernels, known, bands, unseen=unseen, source="the encoder")
        made |= {key: state[key] for key in (f"{name}.bias", f"channel_embeddings.{group}")}
    return made


def waves(places: torch.Tensor, width: int) -> torch.Tensor:
    """(place, width) sines, then cosines; as the authors' code has it, the slowest is at a quarter of the usual exponent."""
    turned = places.to(torch.float32).reshape(-1, 1) * _SLOWEST ** (-torch.arange(width // 2) / width / 2.0)
    return torch.cat([turned.sin(), turned.cos()], dim=1)


def places_of(grid: tuple[int, int], width: int, step: float) -> torch.Tensor:
    """(row * col, width) waves of column, then of row, `step` apart."""
    rows, cols = grid
    row, col = torch.arange(rows).repeat_interleave(cols), torch.arange(cols).repeat(rows)
    return torch.cat([waves(col * step, width // 2), waves(row * step, width // 2)], dim=1)


def first_date(width: int) -> torch.Tensor:
    """(width,) what tells the first date of a series."""
    return waves(torch.zeros(1), width)[0]


def month_of(month: int, width: int) -> torch.Tensor:
    """(width,) sine and cosine of the month's place in the year, each as often as half of the width."""
    angle = torch.tensor(2.0 * math.pi * (month - 1) / 12.0)
    return torch.cat([angle.sin().expand(width // 2), angle.cos().expand(width // 2)])


def _groups(roles: Sequence[str]) -> dict[str, dict[int, str]]:
    """Group → channel → role, for groups of which any band is there; a band of none goes to the first."""
    found: dict[str, dict[int, str]] = {group: {} for group in GROUPS}
    for channel, role in enumerate(roles):
        seen_as = known_role(role, [band for bands in GROUPS.values() for band in bands], roles)
        found[next((group for group, bands in GROUPS.items() if seen_as in bands), next(iter(GROUPS)))][channel] = role
    return {group: own for group, own in found.items() if own}
