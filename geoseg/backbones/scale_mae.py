"""ScaleMAE: a transformer for colour images whose places are counted in metres; kept by torchgeo.

Reed et al., "Scale-MAE", ICCV 2023. Places are sines of column, then row, each times the pixel size over 1 m, computed and never loaded.
Published files hold timm's names; the positions that they hold are not used, as in torchgeo.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from geoseg.backbones.foreign_weights import check_unseen, kernels_by_role, left_out, needed, sines, token_levels
from geoseg.backbones.key_report import KeyReport, load_matching
from geoseg.backbones.vit import get_size, quarters
from geoseg.errors import require

ROLES = ("red", "green", "blue")
"""Bands of the published weights, in order: colours 0 … 1, less ImageNet's mean, over its standard deviation."""
_PATCH = 16
_KERNELS = "patch_embed.proj.weight"


class ScaleMae(nn.Module):
    """torchgeo's network as a `Backbone` for bands of these roles."""

    def __init__(
        self, roles: Sequence[str], *, size: str = "large", depth: int | None = None, pixel_size_m: float = 1.0, unseen: str = "refuse"
    ) -> None:
        """`pixel_size_m` is that of all images that it will see; `unseen` as `load` has it. PackageError for an unknown size."""
        super().__init__()
        sized = get_size(size, depth)
        self.roles, self.unseen, self.pixel_size_m = tuple(roles), check_unseen(unseen), pixel_size_m
        self.network = require("torchgeo.models", extra="train").ScaleMAE(
            patch_size=_PATCH, embed_dim=sized.width, depth=sized.depth, num_heads=sized.heads, in_chans=len(self.roles),
            num_classes=0, norm_layer=partial(nn.LayerNorm, eps=1e-6), dynamic_img_size=True,
        )  # fmt: skip
        self.network.pos_embed = None
        self.taken = quarters(sized.depth)
        self.channels, self.strides = (sized.width,) * len(self.taken), (_PATCH,) * len(self.taken)

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        """(batch, width, row, col) of patches after each of the blocks `taken`, the last of them normed."""
        planes = self.network.patch_embed(image)  # (batch, row, col, width)
        grid = planes.shape[1], planes.shape[2]
        patches = planes.flatten(1, 2) + places_of(grid, planes.shape[-1], self.pixel_size_m).to(planes)
        tokens = torch.cat([self.network.cls_token.expand(image.shape[0], -1, -1), patches], dim=1)  # the class token's place is zero
        return token_levels(tokens, self.network.blocks, taken=self.taken, norm=self.network.norm, grid=grid)


def build(roles: Sequence[str], *, pixel_size_m: float = 1.0, **options: Any) -> ScaleMae:
    """The network for bands of these roles; `options` are those of `ScaleMae`."""
    return ScaleMae(roles, pixel_size_m=pixel_size_m, **options)


def load(backbone: ScaleMae, state: Mapping[str, torch.Tensor], source: str) -> KeyReport:
    """Fill the network with a published file, its kernels by role. PackageError for other weights, or bands that they never saw."""
    made = left_out(state, ("pos_embed", "head.", "fc_norm.", "decoder", "mask_token"))
    made[_KERNELS] = kernels_by_role(needed(made, _KERNELS, source), ROLES, backbone.roles, unseen=backbone.unseen, source=source)
    return load_matching(backbone.network, made, source, reshaped=[_KERNELS] if backbone.roles != ROLES else [])


def place(state: Mapping[str, torch.Tensor], have: Sequence[str], wanted: Sequence[str], **options: Any) -> dict[str, torch.Tensor]:
    """The network's own state for bands `have`, for bands `wanted`: kernels by role."""
    name, unseen = f"network.{_KERNELS}", check_unseen(options.get("unseen", "refuse"))
    return {**state, name: kernels_by_role(state[name], have, wanted, unseen=unseen, source="the encoder")}


def places_of(grid: tuple[int, int], width: int, pixel_size_m: float) -> torch.Tensor:
    """(row * col, width) sines of column, then of row, in metres over 1 m for each patch's step."""
    rows, cols = grid
    row, col = torch.arange(rows).repeat_interleave(cols), torch.arange(cols).repeat(rows)
    return torch.cat([sines(col * pixel_size_m, width // 2), sines(row * pixel_size_m, width // 2)], dim=1)
