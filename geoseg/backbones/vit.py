"""A plain Vision Transformer that takes any bands, any number of patches, and only those that it is shown.

Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021, in timm's blocks. There is no class token: nothing here asks what the
image is as a whole. Positions are sines and cosines as in MAE (He et al., CVPR 2022), counted in metres on the ground after ScaleMAE
(Reed et al., ICCV 2023), which multiplies a patch's place by the pixel size over a reference of 1 m. Our reference is 10 m, so that
at Sentinel-2's pixel size the positions are those of MAE. As in ScaleMAE the patch's own edge in pixels has no part in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from geoseg.backbones.kernels import place_kernels
from geoseg.errors import PackageError, require

REFERENCE_M = 10.0
"""Pixel size in metres at which neighbouring patches are 1 apart."""
_LEVELS = 4
"""Depths from which decoders take tokens, as in SETR and DPT."""
_KERNELS = "embed.weight"
_SLOWEST = 10_000.0
"""Wavelength over that of the fastest sine (Vaswani et al., 2017)."""


@dataclass(frozen=True)
class VitSize:
    """How large a transformer is."""

    width: int
    """Numbers in a token."""
    depth: int
    """Blocks."""
    heads: int


SIZES = {
    "tiny": VitSize(192, 12, 3),
    "small": VitSize(384, 12, 6),
    "base": VitSize(768, 12, 12),
    "large": VitSize(1024, 24, 16),
}
"""Touvron et al., 2021 (DeiT) for the first two, Dosovitskiy et al. for the others."""


class VisionTransformer(nn.Module):
    """Tokens of `width` numbers, one for each patch of an image (batch, channel, row, col) in multiples of `patch` pixels."""

    def __init__(self, in_channels: int, *, size: str = "tiny", patch: int = 8, depth: int | None = None) -> None:
        """`size` is a name of `SIZES`, `depth` another number of blocks; PackageError for what cannot be built."""
        super().__init__()
        sized = get_size(size, depth)
        if in_channels < 1 or patch < 1:
            raise PackageError(f"a transformer of {in_channels} channels in patches of {patch} pixels; expected at least 1 of each")
        self.width, self.patch, self.depth = sized.width, patch, sized.depth
        self.embed = nn.Conv2d(in_channels, sized.width, kernel_size=patch, stride=patch)
        self.blocks = transformer_blocks(sized)
        self.norm = nn.LayerNorm(sized.width, eps=1e-6)
        self.apply(start_weights)

    def forward(
        self,
        image: torch.Tensor,
        *,
        pixel_size_m: float | torch.Tensor = REFERENCE_M,
        visible: torch.Tensor | None = None,
        has_data: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """(batch, token, width), row by row.

        `visible` (batch, seen) are the places of the only patches that are looked at, None looks at all; `has_data` (batch, token) is
        False for patches of which nobody takes notice, None takes notice of all. `pixel_size_m` is one for all images, or (batch,).
        """
        tokens = self.tokens(image, pixel_size_m)
        if visible is not None:
            tokens = tokens.gather(1, visible.unsqueeze(-1).expand(-1, -1, self.width))  # (batch, seen, width)
            has_data = None if has_data is None else has_data.gather(1, visible)
        return self.encode(tokens, has_data)

    def encode(self, tokens: torch.Tensor, has_data: torch.Tensor | None = None) -> torch.Tensor:
        """(batch, token, width) after all blocks, from tokens with their places; `has_data` as above."""
        looked_at = attention_mask(has_data, tokens.dtype)
        for block in self.blocks:
            tokens = block(tokens, attn_mask=looked_at)
        normed: torch.Tensor = self.norm(tokens)
        return normed

    def tokens(self, image: torch.Tensor, pixel_size_m: float | torch.Tensor = REFERENCE_M) -> torch.Tensor:
        """(batch, token, width): each patch by itself, with its place."""
        planes = self.embed(image)  # (batch, width, row, col) of patches
        places = positions(planes.shape[-2], planes.shape[-1], self.width, pixel_size_m).to(planes)
        tokens: torch.Tensor = planes.flatten(2).transpose(1, 2) + places
        return tokens


class VitBackbone(VisionTransformer):
    """The transformer as a `Backbone`: tokens of four depths, each as an image of one place a patch."""

    def __init__(
        self,
        in_channels: int,
        *,
        size: str = "tiny",
        patch: int = 8,
        depth: int | None = None,
        pixel_size_m: float = REFERENCE_M,
    ) -> None:
        """Options of the transformer; `pixel_size_m` is that of all images that it will see."""
        super().__init__(in_channels, size=size, patch=patch, depth=depth)
        self.pixel_size_m = pixel_size_m
        self.taken = quarters(self.depth)
        self.channels, self.strides = (self.width,) * len(self.taken), (patch,) * len(self.taken)

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:  # type: ignore[override]  # levels, where the plain transformer gives tokens
        """(batch, width, row, col) of patches after each of the blocks `taken`, the last of them normed."""
        tokens, levels = self.tokens(image, self.pixel_size_m), []
        for number, block in enumerate(self.blocks, 1):
            tokens = block(tokens)
            if number in self.taken:
                levels.append(tokens if number < self.depth else self.norm(tokens))
        rows, cols = image.shape[-2] // self.patch, image.shape[-1] // self.patch
        return [level.transpose(1, 2).reshape(-1, self.width, rows, cols) for level in levels]


def build(roles: Sequence[str], **options: Any) -> VitBackbone:
    """The backbone for bands of these roles; `options` are those of `VitBackbone`."""
    return VitBackbone(len(roles), **options)


def place(state: Mapping[str, torch.Tensor], have: Sequence[str], wanted: Sequence[str], **options: Any) -> dict[str, torch.Tensor]:
    """The state of a backbone for bands `have`, for bands `wanted`: kernels by role."""
    return {**state, _KERNELS: place_kernels(state[_KERNELS], have, wanted)}


def quarters(depth: int) -> list[int]:
    """The blocks, counted from 1, at the ends of the quarters of a transformer of so many; those whose tokens a decoder takes."""
    return sorted({max(1, depth * quarter // _LEVELS) for quarter in range(1, _LEVELS + 1)})


def get_size(name: str, depth: int | None = None) -> VitSize:
    """The size of this name, with `depth` blocks where that is given; PackageError for an unknown name or no block."""
    if name not in SIZES:
        raise PackageError(f"there is no transformer of size {name!r}; known are {', '.join(SIZES)}")
    size = SIZES[name]
    if depth is not None and depth < 1:
        raise PackageError(f"a transformer of {depth} blocks; give at least 1, or leave depth out for {size.depth}")
    return size if depth is None else VitSize(size.width, depth, size.heads)


def transformer_blocks(size: VitSize) -> nn.ModuleList:
    """timm's blocks, layer norm before attention and before the two layers of four times the width."""
    timm = require("timm.models.vision_transformer", extra="train")
    norm = nn.LayerNorm
    return nn.ModuleList(timm.Block(size.width, size.heads, mlp_ratio=4.0, qkv_bias=True, norm_layer=norm) for _ in range(size.depth))


def start_weights(module: nn.Module) -> None:
    """Xavier's uniform weights without bias in linear layers, and in the embedding as if it were one, as MAE begins."""
    if isinstance(module, nn.Linear | nn.Conv2d):
        nn.init.xavier_uniform_(module.weight.view(module.weight.shape[0], -1))
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def positions(rows: int, cols: int, width: int, pixel_size_m: float | torch.Tensor) -> torch.Tensor:
    """(1 or batch, rows * cols, width) float32 sines and cosines of each patch's row, then of its column.

    Multiples of four as `width`; `pixel_size_m` is one number, or (batch,).
    """
    scale = torch.as_tensor(pixel_size_m, dtype=torch.float32).reshape(-1, 1, 1) / REFERENCE_M  # (batch, 1, 1)
    quarter = width // 4
    speeds = _SLOWEST ** (-torch.arange(quarter, dtype=torch.float32, device=scale.device) / quarter)
    down, across = (
        scale * torch.arange(count, device=scale.device).to(torch.float32).reshape(-1, 1) * speeds for count in (rows, cols)
    )  # (batch, row, quarter), (batch, col, quarter)
    down = torch.cat([down.sin(), down.cos()], dim=-1).unsqueeze(2).expand(-1, -1, cols, -1)
    across = torch.cat([across.sin(), across.cos()], dim=-1).unsqueeze(1).expand(-1, rows, -1, -1)
    return torch.cat([down, across], dim=-1).flatten(1, 2)


def attention_mask(has_data: torch.Tensor | None, dtype: torch.dtype) -> torch.Tensor | None:
    """(batch, 1, 1, token) added to attention: -inf for tokens of which nobody takes notice; None where all count.

    Where an image has no token with data, all count: there is nothing else to look at.
    """
    if has_data is None or bool(has_data.all()):
        return None
    counted = has_data | ~has_data.any(dim=1, keepdim=True)
    return torch.zeros(counted.shape, dtype=dtype, device=counted.device).masked_fill(~counted, float("-inf"))[:, None, None]
