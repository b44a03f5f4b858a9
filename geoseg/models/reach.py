"""How far a network looks: only then may it be given larger tiles than it has learned from."""

from __future__ import annotations

import torch
from torch import nn

_HEIGHT, _WIDTH, _END = 64, 2048, 32
"""Pixels: a long strip shows as much as a large image, and costs little."""


def looks_around_only(network: nn.Module, channels: int) -> bool:
    """Whether what `network` says of a pixel depends on pixels less than 2000 away, and on nothing of the image as a whole.

    It does not where a layer takes means or attention over the whole tile (squeeze-and-excitation, group normalisation, pyramid
    pooling, transformers): the same ground then looks different in a larger tile. Tried, not read off the layers: one end of a
    strip of noise is changed, and the other end must answer in the same bits. False too where the network takes no such strip.
    """
    noise = torch.randn(1, channels, _HEIGHT, _WIDTH, generator=torch.Generator().manual_seed(0))
    changed = noise.clone()
    changed[..., :_END] *= -10
    was_training = network.training
    try:
        with torch.inference_mode():
            before, after = network.eval()(noise), network(changed)
    except (RuntimeError, ValueError, AssertionError):  # networks for one size say so in many ways
        return False
    finally:
        network.train(was_training)
    return all(torch.equal(before[name][..., -_END:], after[name][..., -_END:]) for name in before)
