"""HiViT-B, the transformer of SARATR-X: fine steps without attention, then blocks with it; for radar images of one channel.

Zhang et al., "HiViT", ICLR 2023, in Li et al., "SARATR-X", IEEE TIP 2025. Patches of 4 pixels go through feed-forwards and are merged two
by two, twice; the tokens of 16 pixels then see each other. Layout and figures are those of `models_hivit.py` and `models_hivit_mae.py` in
github.com/waterdisappear/SARATR-X (`mae_hivit_base_dec512d6b`). Features are those of the three steps, at 4, 8 and 16 pixels, without
the norm that the published autoencoder puts over all three side by side. It learned from one amplitude, three times over: kernels
for other channels are the sum of the three, shared out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from geoseg.backbones.foreign_weights import Unseen, as_image, check_unseen, kernels_by_role, left_out, needed
from geoseg.backbones.kernels import stretch_positions
from geoseg.backbones.key_report import KeyReport, load_matching
from geoseg.errors import PackageError, require
from geoseg.preprocess.series import split_role

RADAR = ("vv", "vh", "hh", "hv")
"""Any of these is what it learned from."""
_COPIES = 3
_WIDTH = 512
_HEADS = 8
_STEM = 4
"""Feed-forwards of each of the two fine steps, three times as wide in the middle."""
_DEPTH = 20
_PATCH = 16
_EDGE = 14
"""Patches along an edge of the images of training, of 224 pixels."""
_KERNELS = "patch_embed.proj.weight"
_TRAINING = ("norm.", "fc_norm.", "head.", "decoder_", "mask_token", "sarfeature", "relative_position_index")


class Mix(nn.Module):
    """A feed-forward beside a way past it: each place by itself."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = require("timm.layers", extra="train").Mlp(width, 3 * width)

    def forward(self, places: torch.Tensor) -> torch.Tensor:
        """(batch, row, col, width)."""
        made: torch.Tensor = places + self.mlp(self.norm2(places))
        return made


class Merge(nn.Module):
    """Four neighbours to one place, twice as wide."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.reduction = nn.LayerNorm(4 * width, eps=1e-6), nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, places: torch.Tensor) -> torch.Tensor:
        """(batch, row / 2, col / 2, 2 * width)."""
        four = [places[:, row::2, col::2] for col in range(2) for row in range(2)]
        made: torch.Tensor = self.reduction(self.norm(torch.cat(four, dim=-1)))
        return made


class _PatchEmbed(nn.Module):
    """Patches of 4 pixels to places; named as in the published files."""

    def __init__(self, bands: int, width: int) -> None:
        super().__init__()
        self.proj, self.norm = nn.Conv2d(bands, width, kernel_size=4, stride=4), nn.LayerNorm(width, eps=1e-6)


class HiVit(nn.Module):
    """The encoder as a `Backbone` for bands of these roles."""

    def __init__(self, roles: Sequence[str], *, depth: int = _DEPTH, unseen: str = "refuse") -> None:
        """`depth` is the number of blocks with attention; `unseen` is what `load` does with bands that are not radar."""
        super().__init__()
        if depth < 1:
            raise PackageError(f"a transformer of {depth} blocks; give at least 1, or leave depth out for {_DEPTH}")
        vision = require("timm.models.vision_transformer", extra="train")
        self.roles, self.unseen, self.depth = tuple(roles), check_unseen(unseen), depth
        self.channels, self.strides = (_WIDTH // 4, _WIDTH // 2, _WIDTH), (4, 8, _PATCH)
        fine, middle, width = self.channels
        self.patch_embed = _PatchEmbed(len(self.roles), fine)
        self.absolute_pos_embed = nn.Parameter(torch.zeros(1, _EDGE**2, width))
        attention = partial(vision.Block, width, _HEADS, qkv_bias=True, norm_layer=partial(nn.LayerNorm, eps=1e-6))
        self.blocks = nn.ModuleList(
            [
                *(Mix(fine) for _ in range(_STEM)),
                Merge(fine),
                *(Mix(middle) for _ in range(_STEM)),
                Merge(middle),
                *(attention() for _ in range(depth)),
            ]
        )

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        """(batch, 128, row / 4, col / 4), (batch, 256, row / 8, col / 8), (batch, 512, row / 16, col / 16)."""
        places, levels = self.patch_embed.norm(self.patch_embed.proj(image).permute(0, 2, 3, 1)), []  # (batch, row, col, width)
        for block in self.blocks[: -self.depth]:
            if isinstance(block, Merge):
                levels.append(places.permute(0, 3, 1, 2))
            places = block(places)
        grid = places.shape[1], places.shape[2]
        tokens = places.flatten(1, 2) + stretch_positions(self.absolute_pos_embed, grid, kept=0)
        for block in self.blocks[-self.depth :]:
            tokens = block(tokens)
        return [*levels, as_image(tokens, grid)]


def build(roles: Sequence[str], **options: Any) -> HiVit:
    """The encoder for bands of these roles; `options` are those of `HiVit`."""
    return HiVit(roles, **options)


def load(backbone: HiVit, state: Mapping[str, torch.Tensor], source: str) -> KeyReport:
    """Fill the encoder with a published file's; decoder, targets and the norm over all steps are left out.

    PackageError for other weights, or bands that are not radar.
    """
    made = left_out(state, _TRAINING)
    kernels = needed(made, _KERNELS, source)
    if kernels.ndim != 4 or kernels.shape[1] != _COPIES:
        raise PackageError(f"{source} has kernels of shape {tuple(kernels.shape)}; expected {_COPIES} channels in the second place")
    radar = [role for role in backbone.roles if _is_radar(role)]
    made[_KERNELS] = _shared(kernels, radar, backbone.roles, unseen=backbone.unseen, source=source)
    return load_matching(backbone, made, source, reshaped=[_KERNELS])


def place(state: Mapping[str, torch.Tensor], have: Sequence[str], wanted: Sequence[str], **options: Any) -> dict[str, torch.Tensor]:
    """The encoder's own state for bands `have`, for bands `wanted`: kernels by role."""
    unseen = check_unseen(options.get("unseen", "refuse"))
    return {**state, _KERNELS: kernels_by_role(state[_KERNELS], have, wanted, unseen=unseen, source="the encoder")}


def _is_radar(role: str) -> bool:
    return split_role(role)[0] in RADAR


def _shared(kernels: torch.Tensor, radar: Sequence[str], wanted: Sequence[str], *, unseen: Unseen, source: str) -> torch.Tensor:
    """(width, wanted, 4, 4): the sum of all kernels over the number of radar bands for each of these, zero for others."""
    strange = [role for role in wanted if role not in radar]
    if not radar or (strange and unseen == "refuse"):
        cure = f"give any of {', '.join(RADAR)}" if not radar else 'leave it out, or begin with kernels of zero for it: unseen="zero"'
        raise PackageError(f"{source} saw one radar amplitude and never {strange[0]}; {cure}")
    share = kernels.sum(dim=1) / len(radar)
    return torch.stack([share if role in radar else torch.zeros_like(share) for role in wanted], dim=1)
