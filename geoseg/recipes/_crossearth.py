"""What CrossEarth-SAR needs to know before it learns: DINOv2's weights, and the decibels that its input stands for."""

from __future__ import annotations

import logging
from pathlib import Path

import torch

from geoseg.backbones.crossearth_segmenter import CrossEarthSegmenter
from geoseg.backbones.dinov2 import load_dinov2
from geoseg.errors import InputError
from geoseg.models.segmenter import Segmenter
from geoseg.models.states import read_state
from geoseg.preprocess.prepare import Preparation

log = logging.getLogger(__name__)


def start_from_dinov2(network: Segmenter, weights: str) -> str:
    """Fill the network's transformer with dense weights of a file, .safetensors or .pth; gives a sentence that says what went through.

    PackageError where there is no such file, it holds more than tensors, or other weights than these.
    """
    inner = network.network
    assert isinstance(inner, CrossEarthSegmenter), "only its family asks for this"
    report = load_dinov2(inner.encoder, read_state(Path(weights)), weights)
    return f"Starts from {weights}, each expert from its block's feed-forward: {report.told()}."


def tell_decibels(network: Segmenter, preparation: Preparation) -> None:
    """Tell the network what its input stands for, where it asks; InputError where that is no radar in decibels."""
    inner = network.network
    if not isinstance(inner, CrossEarthSegmenter):
        return
    units = {band.role: band.unit for band in preparation.bands}
    if strange := [channel.name for channel in preparation.channels if units.get(channel.name) != "dB"]:
        raise InputError(
            f"crossearth_sar looks at speckle, and {strange[0]} is no radar band; name radar bands only, or take another family"
        )
    first = preparation.channels[0]
    inner.tell_decibels(first.mean, first.std)


def log_experts(network: Segmenter) -> dict[str, float]:
    """What the routers chose in the last pass, for a logger: the share of the busiest expert, and each descriptor's mean."""
    inner = network.network
    if not isinstance(inner, CrossEarthSegmenter) or inner.encoder.described is None:
        return {}
    shares = torch.stack([routing.shares().mean(dim=0) for routing in inner.encoder.routings()])  # (block, expert)
    found = {f"expert_{number}": float(share) for number, share in enumerate(shares.mean(dim=0))}
    return found | {"busiest_expert": float(shares.max(dim=1).values.mean())} | inner.encoder.utilisation()
