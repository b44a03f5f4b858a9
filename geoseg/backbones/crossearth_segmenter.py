"""CrossEarth-SAR with a light decoder: the physics of each image is found in the network's own input.

The network receives decibels, brought to mean 0 and spread 1; it knows both (`tell_decibels`), so that it finds the first channel's
linear power again and describes its speckle. A pixel that is 0 in all channels is one without data, since `prepare` leaves those at 0. The
descriptors are those of a whole tile: a map depends on where tiles lie a little more than with other networks, which is the method's own.

The published system has Mask2Former as its decoder, here `decoder: query`; the usual one is the pyramid of `vit_segmenter.py`, which learns
from few labels on a laptop.
"""

from __future__ import annotations

import torch
from torch import nn

from geoseg.backbones.crossearth_sar import CrossEarthSar, Gate
from geoseg.backbones.physics import describe
from geoseg.backbones.query_decoder import LAYERS, QUERIES
from geoseg.backbones.vit_segmenter import Decoder, make_decoder
from geoseg.errors import PackageError

_USUAL = (-12.0, 5.0)
"""Mean and spread of backscatter in decibels, about those of land in Sentinel-1's VV; for networks that were never told."""


class CrossEarthSegmenter(nn.Module):
    """Logits of `planes` in all for radar images (batch, channel, row, col) in normalised decibels."""

    chooses = True
    """Whether a tiny difference in a token may send it elsewhere, so that two runtimes differ by more than rounding now and then."""

    def __init__(
        self,
        in_channels: int,
        planes: int,
        *,
        size: str = "small",
        patch: int = 16,
        depth: int | None = None,
        experts: int = 6,
        top: int = 1,
        gate: Gate = "normalised",
        decoder: Decoder = "pyramid",
        features: int | None = None,
        queries: int = QUERIES,
        layers: int = LAYERS,
    ) -> None:
        """Options of `CrossEarthSar` and `make_decoder`; `patch` is a power of two, and CrossEarth, too, stretches DINOv2's 14 to 16."""
        super().__init__()
        self.stride = patch
        self.encoder = CrossEarthSar(in_channels, size=size, patch=patch, depth=depth, experts=experts, top=top, gate=gate)
        width, deep = self.encoder.width, self.encoder.depth
        self.decoder = make_decoder(decoder, width, deep, patch, planes, features=features, queries=queries, layers=layers)
        self.register_buffer("decibels", torch.tensor(_USUAL))
        self.decibels: torch.Tensor

    def tell_decibels(self, mean: float, spread: float) -> None:
        """Mean and standard deviation by which the first channel was normalised; they are kept with the weights."""
        if not spread > 0:
            raise PackageError(f"decibels with a spread of {spread:g}; expected more than 0")
        self.decibels.copy_(torch.tensor((mean, spread)))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(batch, plane, row, col)."""
        power = torch.pow(10.0, (image[:, 0] * self.decibels[1] + self.decibels[0]) / 10)
        scales = self.encoder.scales(describe(power, (image != 0).any(dim=1)))
        tokens, levels = self.encoder.tokens(image), []
        for number, block in enumerate(self.encoder.blocks, 1):
            tokens = block(tokens, scales)
            if number in self.decoder.taken:
                levels.append((tokens if number < self.encoder.depth else self.encoder.norm(tokens))[:, 1:])
        planes: torch.Tensor = self.decoder(levels, image.shape[-2] // self.stride, image.shape[-1] // self.stride)
        return planes

    def extra_loss(self) -> torch.Tensor:
        """The balance of experts in the last pass."""
        return self.encoder.balance()
