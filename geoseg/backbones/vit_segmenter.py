"""Vision Transformers with a light decoder: a pyramid of upsampled features, then a class for each pixel.

Tokens of four depths of the transformer, as in SETR and DPT (Zheng et al., CVPR 2021; Ranftl et al., ICCV 2021), are brought to one
width and summed; then rows and columns double, with a 3 x 3 convolution each time, until every pixel has its own. Far less of it is
learned anew than the transformer holds.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import torch
from torch import nn
from torch.nn import functional

from geoseg.backbones.query_decoder import FEATURES, LAYERS, QUERIES, TokenQueries
from geoseg.backbones.vit import REFERENCE_M, VisionTransformer, quarters
from geoseg.errors import PackageError

Decoder = Literal["pyramid", "query"]
_LEAST = 16
"""Features of a pixel, at least."""
_FEATURES = 96
"""Width of the pyramid where it is coarsest."""


class PyramidDecoder(nn.Module):
    """Logits of `planes` in all from tokens of several depths of a transformer."""

    def __init__(self, width: int, depth: int, patch: int, planes: int, *, features: int = _FEATURES) -> None:
        """`width` and `depth` are the transformer's, `patch` a power of two, `features` the width where the image is coarsest.

        PackageError for what cannot be built.
        """
        super().__init__()
        if patch < 1 or patch & (patch - 1):
            raise PackageError(f"patches of {patch} pixels; this decoder doubles rows and columns, so give 2, 4, 8, 16 or 32")
        self.taken = quarters(depth)
        """Blocks after which tokens are taken, counted from 1; the last is the whole transformer."""
        self.narrow = nn.ModuleList(nn.Sequential(nn.LayerNorm(width), nn.Linear(width, features)) for _ in self.taken)
        widths = [max(_LEAST, features >> step) for step in range(patch.bit_length())]
        self.coarse = _convolution(features, features)
        self.rise = nn.ModuleList(_convolution(given, made) for given, made in pairwise(widths))
        self.head = nn.Conv2d(widths[-1], planes, kernel_size=1)

    def forward(self, levels: list[torch.Tensor], rows: int, cols: int) -> torch.Tensor:
        """(batch, plane, row, col) from the tokens (batch, rows * cols, width) after each of the blocks `taken`."""
        narrowed = [narrow(tokens) for narrow, tokens in zip(self.narrow, levels, strict=True)]
        x = torch.stack(narrowed).sum(dim=0).transpose(1, 2)  # (batch, feature, token)
        x = self.coarse(x.reshape(x.shape[0], x.shape[1], rows, cols))
        for block in self.rise:
            x = block(functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False))
        planes: torch.Tensor = self.head(x)
        return planes


def make_decoder(
    kind: Decoder,
    width: int,
    depth: int,
    patch: int,
    planes: int,
    *,
    features: int | None = None,
    queries: int = QUERIES,
    layers: int = LAYERS,
) -> PyramidDecoder | TokenQueries:
    """The decoder behind a transformer of this width, depth and patch: `pyramid`, or `query` as Mask2Former has it.

    `features` is None for each one's own width; `queries` and `layers` are for the second. PackageError for what cannot be built.
    """
    if kind not in ("pyramid", "query"):
        raise PackageError(f"there is no decoder {kind!r}; known are pyramid, query")
    if kind == "query":
        return TokenQueries(width, depth, patch, planes, features=features or FEATURES, queries=queries, layers=layers)
    return PyramidDecoder(width, depth, patch, planes, features=features or _FEATURES)


class VitSegmenter(nn.Module):
    """Logits of `planes` in all for an image (batch, channel, row, col); rows and columns are multiples of `stride`."""

    def __init__(
        self,
        in_channels: int,
        planes: int,
        *,
        size: str = "tiny",
        patch: int = 8,
        depth: int | None = None,
        pixel_size_m: float = REFERENCE_M,
        decoder: Decoder = "pyramid",
        features: int | None = None,
        queries: int = QUERIES,
        layers: int = LAYERS,
    ) -> None:
        """`size`, `patch` (a power of two) and `depth` are the transformer's, `pixel_size_m` that of all images that it will see, the
        rest is `make_decoder`'s. PackageError for what cannot be built.
        """
        super().__init__()
        self.stride, self.pixel_size_m = patch, pixel_size_m
        self.encoder = VisionTransformer(in_channels, size=size, patch=patch, depth=depth)
        width, depth = self.encoder.width, self.encoder.depth
        self.decoder = make_decoder(decoder, width, depth, patch, planes, features=features, queries=queries, layers=layers)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(batch, plane, row, col)."""
        tokens, levels = self.encoder.tokens(image, self.pixel_size_m), []  # (batch, token, width)
        for number, block in enumerate(self.encoder.blocks, 1):
            tokens = block(tokens)
            if number in self.decoder.taken:
                levels.append(tokens if number < self.encoder.depth else self.encoder.norm(tokens))
        planes: torch.Tensor = self.decoder(levels, image.shape[-2] // self.stride, image.shape[-1] // self.stride)
        return planes


def _convolution(given: int, made: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(given, made, kernel_size=3, padding=1, bias=False), nn.BatchNorm2d(made), nn.ReLU())
