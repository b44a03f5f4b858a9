"""The U-Net of the AutoICE challenge, and the same without skip connections, after TinyIceNet.

Stokholm et al., The Cryosphere 18, 2024: four levels of two 3 x 3 convolutions with batch norm and ReLU, halved by max pooling, brought
back by bilinear interpolation and joined with the finer level; a 1 x 1 convolution for each chart. With the challenge's filters (16,
32, 64, 64), 24 planes in and 12, 7 and 8 classes out it has 491,723 parameters.

TinyIceNet (arXiv 2603.03075, 2026) simplifies it for use on board; its layers are not published in full. `skips=False` is what its
abstract says, that the skip connections go, with the other layers left as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional


class AutoIceUNet(nn.Module):
    """Logits of `planes` in all for an image (batch, channel, row, col); rows and columns are multiples of `stride`."""

    def __init__(self, in_channels: int, planes: int, *, filters: Sequence[int] = (16, 32, 64, 64), skips: bool = True) -> None:
        super().__init__()
        self.skips = skips
        self.stride = 2 ** len(filters)
        self.first = _twice(in_channels, filters[0])
        down = [*filters, filters[-1]]
        self.down = nn.ModuleList(_twice(given, made) for given, made in pairwise(down))
        up = [filters[-1], *reversed(filters)]
        beside = reversed(filters) if skips else [0] * len(filters)
        self.up = nn.ModuleList(_twice(given + fine, made) for (given, made), fine in zip(pairwise(up), beside, strict=True))
        self.head = nn.Conv2d(filters[0], planes, kernel_size=1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(batch, plane, row, col)."""
        features = [self.first(image)]
        for block in self.down:
            features.append(block(functional.max_pool2d(features[-1], 2)))  # (batch, channel, row / 2, col / 2)
        x = features.pop()
        for block in self.up:
            fine = features.pop()
            x = functional.interpolate(x, size=fine.shape[-2:], mode="bilinear", align_corners=False)
            x = block(torch.cat([x, fine], dim=1) if self.skips else x)
        planes: torch.Tensor = self.head(x)
        return planes


def _twice(given: int, made: int) -> nn.Sequential:
    """Convolution, batch norm and ReLU, twice."""
    layers: list[nn.Module] = []
    for channels in (given, made):
        layers += [nn.Conv2d(channels, made, kernel_size=3, padding=1, bias=False), nn.BatchNorm2d(made), nn.ReLU()]
    return nn.Sequential(*layers)
