"""CROMA: a radar transformer and an optical one that meet in a third; kept by torchgeo.

Fuller et al., "CROMA", NeurIPS 2023. Places are told by what attention subtracts for distance (ALiBi in two dimensions), so that images
may be of any size; the layer that sees a patch of 8 pixels takes its bands one after another. Published files are dicts of dicts:
`s1_encoder`, `s2_encoder`, `joint_encoder` and two small networks on mean features (`s1_GAP_FFN`, `s2_GAP_FFN`), of which maps make no
use. With radar bands alone the first transformer runs, with optical ones the second, with both all three.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from geoseg.backbones.foreign_weights import Unseen, as_image, check_unseen, kernels_by_role, known_role, left_out, needed
from geoseg.backbones.key_report import KeyReport, load_matching
from geoseg.backbones.vit import get_size, quarters
from geoseg.errors import PackageError, require

S1 = ("vv", "vh")
S2 = ("coastal", "blue", "green", "red", "rededge071", "rededge075", "rededge078", "nir", "nir08", "nir09", "swir16", "swir22")
"""Bands of the two transformers, in order; Sentinel-2 without its band for cirrus."""
_PATCH = 8
_HEADS = 16
_LAYER = "linear_input.weight"


class Croma(nn.Module):
    """torchgeo's networks as a `Backbone` for bands of these roles."""

    def __init__(self, roles: Sequence[str], *, size: str = "base", depth: int | None = None, unseen: str = "refuse") -> None:
        """`depth` is the optical transformer's, twice that of the others. A band of neither sensor goes with the optical ones; `unseen`
        is what `load` does with it: "refuse", or begin with "zero". PackageError for an unknown size.
        """
        super().__init__()
        sized = get_size(size, depth)
        croma = require("torchgeo.models.croma", extra="train")
        self.unseen: Unseen = check_unseen(unseen)
        self.radar = {channel: role for channel, role in enumerate(roles) if known_role(role, S1, roles) is not None}
        """Channel → role of the bands that the radar transformer sees."""
        self.optical = {channel: role for channel, role in enumerate(roles) if channel not in self.radar}
        deep, half = sized.depth, max(1, sized.depth // 2)
        self.s1_encoder = croma.ViT(dim=sized.width, depth=half, in_channels=len(self.radar)) if self.radar else None
        self.s2_encoder = croma.ViT(dim=sized.width, depth=deep, in_channels=len(self.optical)) if self.optical else None
        both = self.radar and self.optical
        self.joint_encoder = croma.BaseTransformerCrossAttn(dim=sized.width, depth=half, num_heads=_HEADS) if both else None
        self.taken = quarters(deep if self.s1_encoder is None else half)
        self.channels, self.strides = (sized.width,) * len(self.taken), (_PATCH,) * len(self.taken)

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        """(batch, width, row, col) of patches after each of the blocks `taken` of the last transformer that runs, the last one normed."""
        grid = image.shape[-2] // _PATCH, image.shape[-1] // _PATCH
        far = distance_bias(grid).to(image)
        radar = [] if self.s1_encoder is None else self._encoded(self.s1_encoder, image[:, list(self.radar)], far)
        optical = [] if self.s2_encoder is None else self._encoded(self.s2_encoder, image[:, list(self.optical)], far)
        levels = radar or optical
        if self.joint_encoder is not None:
            tokens, levels = radar[-1], []
            for number, (own, other, feed_forward) in enumerate(self.joint_encoder.layers, 1):
                tokens = own(tokens, far) + tokens
                tokens = other(tokens, optical[-1], far) + tokens
                tokens = feed_forward(tokens) + tokens
                if number in self.taken:
                    levels.append(self.joint_encoder.norm_out(tokens) if number == len(self.joint_encoder.layers) else tokens)
        return [as_image(level, grid) for level in levels]

    @staticmethod
    def _encoded(encoder: Any, image: torch.Tensor, far: torch.Tensor) -> list[torch.Tensor]:
        """(batch, patch, width) after each quarter of one transformer, the last normed."""
        rows, cols = image.shape[-2] // _PATCH, image.shape[-1] // _PATCH
        patches = image.reshape(*image.shape[:2], rows, _PATCH, cols, _PATCH).permute(0, 2, 4, 1, 3, 5)  # (…, band, row, col) of a patch
        tokens, levels = encoder.linear_input(patches.flatten(3).flatten(1, 2)), []
        layers = encoder.transformer.layers
        for number, (attention, feed_forward) in enumerate(layers, 1):
            tokens = attention(tokens, far) + tokens
            tokens = feed_forward(tokens) + tokens
            if number in quarters(len(layers)):
                levels.append(encoder.transformer.norm_out(tokens) if number == len(layers) else tokens)
        return levels


def build(roles: Sequence[str], **options: Any) -> Croma:
    """The networks for bands of these roles; `options` are those of `Croma`."""
    return Croma(roles, **options)


def load(backbone: Croma, state: Mapping[str, torch.Tensor], source: str) -> KeyReport:
    """Fill the transformers that run with a published file's, their layers by role; `state` has the names of dicts joined with a dot.

    PackageError for other weights, or bands that they never saw.
    """
    made, reshaped = left_out(state, ("s1_GAP_FFN.", "s2_GAP_FFN.", "attn_bias")), []
    for encoder, own, known in (("s1_encoder", backbone.radar, S1), ("s2_encoder", backbone.optical, S2)):
        if not own:
            made = left_out(made, (f"{encoder}.", "joint_encoder."))
            continue
        name = f"{encoder}.{_LAYER}"
        made[name] = _by_role(needed(state, name, source), known, tuple(own.values()), unseen=backbone.unseen, source=source)
        reshaped += [name] if tuple(own.values()) != known else []
    return load_matching(backbone, made, source, reshaped=reshaped)


def place(state: Mapping[str, torch.Tensor], have: Sequence[str], wanted: Sequence[str], **options: Any) -> dict[str, torch.Tensor]:
    """The networks' own state for bands `have`, for bands `wanted` of the same sensors: layers by role."""
    with torch.device("meta"):
        before, after = build(have, **options), build(wanted, **options)
    if bool(before.radar) != bool(after.radar) or bool(before.optical) != bool(after.optical):
        raise PackageError(
            f"an encoder for {', '.join(have)} has no other transformer for {', '.join(wanted)}; start from published weights"
        )
    made = dict(state)
    for encoder, old, new in (("s1_encoder", before.radar, after.radar), ("s2_encoder", before.optical, after.optical)):
        if new:
            name = f"{encoder}.{_LAYER}"
            made[name] = _by_role(state[name], tuple(old.values()), tuple(new.values()), unseen=after.unseen, source="the encoder")
    return made


def distance_bias(grid: tuple[int, int]) -> torch.Tensor:
    """(1, head, token, token) what is added to attention: minus the distance in patches, times 2^(-8 h / heads) for head h from 1."""
    rows, cols = grid
    row, col = torch.arange(rows).repeat_interleave(cols), torch.arange(cols).repeat(rows)
    apart = torch.sqrt(((row[:, None] - row) ** 2 + (col[:, None] - col) ** 2).to(torch.float32))
    steep = 2.0 ** (-8.0 * torch.arange(1, _HEADS + 1, dtype=torch.float32) / _HEADS)
    return -(steep.reshape(1, -1, 1, 1) * apart)


def _by_role(layer: torch.Tensor, known: Sequence[str], wanted: Sequence[str], *, unseen: Unseen, source: str) -> torch.Tensor:
    """(width, wanted * pixel) from (width, known * pixel), the pixels of a band beside each other."""
    if layer.shape[1] != _PATCH**2 * len(known):
        raise PackageError(f"{source} has a layer of {layer.shape[1]} numbers a patch; expected {_PATCH**2} pixels of {', '.join(known)}")
    return kernels_by_role(layer.reshape(len(layer), len(known), -1), known, wanted, unseen=unseen, source=source).flatten(1)
