"""A branch at full resolution beside a network that halves its image at once.

Encoders made for photographs halve the image in their first layer, and decoders never see it whole again, so that what a single pixel
says (the spectrum of a narrow river, of a roof) is blurred by its neighbours. These few layers see each pixel as it is, and what they
make of it is added to the network's logits.
"""

from __future__ import annotations

from torch import nn


def detail_branch(channels: int, planes: int, width: int) -> nn.Sequential:
    """Two layers of `width` features from each pixel of an image (batch, channel, row, col), then logits (batch, plane, row, col)."""
    return nn.Sequential(
        nn.Conv2d(channels, width, 1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, width, 1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, planes, 1),
    )
