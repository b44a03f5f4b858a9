"""Any backbone with a light decoder: features of whatever strides, fine to coarse, become a class for each pixel.

The decoder is a feature pyramid (Lin et al., CVPR 2017): levels are brought to one width, those of one stride summed, coarser ones
stretched and added to finer ones. Then rows and columns double, with a 3 x 3 convolution each time, as far as they fit into the finest
stride; what is left, as of patches of 14 pixels, is stretched at the end.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal, cast

import torch
from torch import nn
from torch.nn import functional

from geoseg.backbones.contract import Backbone, build_backbone
from geoseg.backbones.query_decoder import FEATURES, LAYERS, QUERIES, QueryDecoder
from geoseg.errors import PackageError

DecoderName = Literal["pyramid", "query"]
_USUAL_STRIDE = 32
"""Tiles are multiples of what a backbone's coarsest stride has in common with this; the image is continued to the next multiple of it."""
_PYRAMID_FEATURES = 96
_LEAST = 16
"""Features of a pixel, at least."""


class LevelsDecoder(nn.Module):
    """Logits of `planes` in all from features (batch, channels[i], row / strides[i], col / strides[i])."""

    def __init__(self, channels: Sequence[int], strides: Sequence[int], planes: int, *, features: int = _PYRAMID_FEATURES) -> None:
        """`channels` and `strides` are the backbone's, `features` the width of the pyramid."""
        super().__init__()
        self.strides = tuple(strides)
        self.narrow = nn.ModuleList(
            nn.Sequential(nn.Conv2d(given, features, kernel_size=1, bias=False), nn.BatchNorm2d(features)) for given in channels
        )
        self.smooth = nn.ModuleDict({str(stride): _convolution(features, features) for stride in sorted(set(strides))})
        widths = [max(_LEAST, features >> step) for step in range(min(strides).bit_length())]
        self.rise = nn.ModuleList(_convolution(given, made) for given, made in pairwise(widths))
        self.head = nn.Conv2d(widths[-1], planes, kernel_size=1)

    def forward(self, levels: list[torch.Tensor]) -> torch.Tensor:
        """(batch, plane, row, col) of the image's size."""
        narrowed = [narrow(level) for narrow, level in zip(self.narrow, levels, strict=True)]
        x: torch.Tensor | None = None
        for stride in sorted(set(self.strides), reverse=True):
            here = torch.stack([level for level, own in zip(narrowed, self.strides, strict=True) if own == stride]).sum(dim=0)
            if x is not None:
                here = here + functional.interpolate(x, size=here.shape[-2:], mode="bilinear", align_corners=False)
            x = self.smooth[str(stride)](here)
        assert x is not None, "a backbone has levels"
        for block in self.rise:
            x = block(functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False))
        planes: torch.Tensor = self.head(x)
        left = min(self.strides) / (1 << len(self.rise))
        return planes if left == 1 else functional.interpolate(planes, scale_factor=left, mode="bilinear", align_corners=False)


class EncoderSegmenter(nn.Module):
    """Logits of `planes` in all for an image (batch, channel, row, col); rows and columns are multiples of `stride`."""

    def __init__(
        self,
        in_channels: int,
        planes: int,
        *,
        backbone: Mapping[str, Any],
        roles: Sequence[str],
        decoder: DecoderName = "pyramid",
        features: int | None = None,
        queries: int = QUERIES,
        layers: int = LAYERS,
    ) -> None:
        """`backbone` is an encoder's architecture, `roles` are the bands of the channels; `features` is the decoder's width, None its
        usual one; `queries` and `layers` are for `decoder: query`. PackageError for what cannot be built.
        """
        super().__init__()
        if len(roles) != in_channels:
            raise PackageError(f"a network of {in_channels} channels for the bands {', '.join(roles)}; name one band for each channel")
        self.encoder = build_backbone(backbone, roles)
        offered = cast(Backbone, self.encoder)
        channels, strides = offered.channels, offered.strides
        self.whole = strides[-1]
        """Images are continued to multiples of this."""
        self.stride = math.gcd(self.whole, _USUAL_STRIDE)
        if decoder == "pyramid":
            self.decoder: nn.Module = LevelsDecoder(channels, strides, planes, features=features or _PYRAMID_FEATURES)
        elif decoder == "query":
            self.decoder = QueryDecoder(channels, strides, planes, features=features or FEATURES, queries=queries, layers=layers)
        else:
            raise PackageError(f"there is no decoder {decoder!r}; known are pyramid, query")

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(batch, plane, row, col)."""
        if self.whole == self.stride:
            planes: torch.Tensor = self.decoder(self.encoder(image))
            return planes
        rows, cols = image.shape[-2:]
        continued = functional.pad(image, (0, -cols % self.whole, 0, -rows % self.whole), mode="replicate")
        planes = self.decoder(self.encoder(continued))
        return planes[..., :rows, :cols]


def _convolution(given: int, made: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(given, made, kernel_size=3, padding=1, bias=False), nn.BatchNorm2d(made), nn.ReLU())
