"""C2FMAE: what is hidden is guessed from coarse to fine, first its class, then where one piece of ground ends, then its pixels.

"From Semantics to Pixels" is known to us by its abstract alone: three granularities, a cascaded decoder in which each stage uses what
the one before has made, and masks that follow semantics at first, then instances, and in the end nothing. The rest is our choice:

- a stage is a transformer as wide as MAE's decoder and a third as deep, and hands on its tokens, not its guesses;
- classes are guessed pixel by pixel (cross entropy); instances, whose numbers mean nothing, by whether a pixel and its right and lower
  neighbour are of one piece (binary cross entropy); pixels as in MAE. Only hidden patches count, each of the three losses once;
- a patch belongs to the class, and to the piece, of most of its pixels. Classes or pieces are hidden whole in random order, until
  the share that is to be hidden is reached; only the last one may be cut. So the number of hidden patches is always the same;
- of the images of a batch each follows semantics, instances or nothing by chance; the chances are handed over in lines, equal at one
  third and two thirds of the training.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from geoseg.backbones.mae import DECODERS, Masking, choose_hidden, cut_patches, reconstruction_loss, with_hidden
from geoseg.backbones.vit import REFERENCE_M, VisionTransformer, VitSize, attention_mask, positions, start_weights, transformer_blocks

UNKNOWN = -1
"""Class, or number of a piece, of a pixel of which neither is known."""
_SIDES = 2
"""Neighbours that a pixel is compared with: right and below."""


@dataclass(frozen=True, eq=False)
class Guess:
    """What the three stages say of every patch (batch, N, …), pixels row by row in each."""

    classes: torch.Tensor
    """(batch, N, patch * patch * class) logits."""
    joined: torch.Tensor
    """(batch, N, patch * patch * 2) logits: of one piece with the pixel to the right, and with that below."""
    values: torch.Tensor
    """(batch, N, patch * patch * channel) normalised patches."""


@dataclass(frozen=True, eq=False)
class Losses:
    """Of one batch, each over the hidden patches alone."""

    semantic: torch.Tensor
    instance: torch.Tensor
    pixels: torch.Tensor

    @property
    def total(self) -> torch.Tensor:
        """Their sum; each of them begins near 1."""
        return self.semantic + self.instance + self.pixels


class CascadedAutoencoder(nn.Module):
    """Guesses classes, pieces and pixels of an image (batch, channel, row, col) from its visible patches, one after the other."""

    def __init__(
        self, in_channels: int, classes: int, *, size: str = "tiny", patch: int = 8, depth: int | None = None, cascaded: bool = True
    ) -> None:
        """`cascaded` False leaves every stage with the encoder's tokens alone, which is what the cascade is compared with."""
        super().__init__()
        self.cascaded = cascaded
        self.encoder = VisionTransformer(in_channels, size=size, patch=patch, depth=depth)
        whole = DECODERS[size]
        inner = VitSize(whole.width, max(1, whole.depth // 3), whole.heads)
        self.narrow = nn.Linear(self.encoder.width, inner.width)
        self.hidden_token = nn.Parameter(torch.randn(inner.width) * 0.02)
        area = patch * patch
        self.semantic = _Stage(1, inner, area * classes)
        self.instance = _Stage(2 if cascaded else 1, inner, area * _SIDES)
        self.pixels = _Stage(3 if cascaded else 1, inner, area * in_channels)
        self.narrow.apply(start_weights)

    def forward(
        self,
        image: torch.Tensor,
        masking: Masking,
        *,
        has_data: torch.Tensor | None = None,
        pixel_size_m: float | torch.Tensor = REFERENCE_M,
    ) -> Guess:
        """For all patches, the visible ones as well; see `mae.MaskedAutoencoder`."""
        seen = self.narrow(self.encoder(image, pixel_size_m=pixel_size_m, visible=masking.visible, has_data=has_data))
        rows, cols = (edge // self.encoder.patch for edge in image.shape[-2:])
        encoded = with_hidden(seen, masking.visible, self.hidden_token, rows * cols)
        encoded = encoded + positions(rows, cols, encoded.shape[-1], pixel_size_m).to(encoded)
        looked_at = attention_mask(has_data, encoded.dtype)
        semantic, classes = self.semantic([encoded], looked_at)
        instance, joined = self.instance([encoded, semantic] if self.cascaded else [encoded], looked_at)
        _, values = self.pixels([encoded, semantic, instance] if self.cascaded else [encoded], looked_at)
        return Guess(classes, joined, values)


class _Stage(nn.Module):
    """Tokens of several makers to tokens of its own, and to guesses."""

    def __init__(self, makers: int, size: VitSize, guesses: int) -> None:
        super().__init__()
        self.join = nn.Linear(makers * size.width, size.width)
        self.blocks = transformer_blocks(size)
        self.norm = nn.LayerNorm(size.width, eps=1e-6)
        self.guess = nn.Linear(size.width, guesses)
        self.apply(start_weights)

    def forward(self, given: list[torch.Tensor], looked_at: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        """(batch, N, width) to hand on, and (batch, N, guess)."""
        tokens = self.join(torch.cat(given, dim=-1))
        for block in self.blocks:
            tokens = block(tokens, attn_mask=looked_at)
        tokens = self.norm(tokens)
        return tokens, self.guess(tokens)


def cascade_losses(
    guess: Guess, image: torch.Tensor, classes: torch.Tensor, pieces: torch.Tensor, valid: torch.Tensor, masked: torch.Tensor, patch: int
) -> Losses:
    """Of the hidden patches `masked` (batch, N) alone; 0 where none of them is known.

    `classes` and `pieces` (batch, row, col) are indices or UNKNOWN, `valid` (batch, row, col).
    """
    target = cut_patches(torch.where(valid, classes, UNKNOWN).unsqueeze(1), patch)  # (batch, N, pixel)
    known = (target != UNKNOWN) & masked.unsqueeze(-1)
    logits = torch.unflatten(guess.classes, -1, (patch * patch, -1)).float()  # (batch, N, pixel, class)
    semantic = functional.cross_entropy(logits.flatten(0, 2), target.clamp(min=0).flatten(), reduction="none").view(known.shape)
    joined, compared = (cut_patches(planes, patch) for planes in _joined(torch.where(valid, pieces, UNKNOWN)))
    counted = compared & masked.unsqueeze(-1)
    instance = functional.binary_cross_entropy_with_logits(guess.joined.float(), joined.float(), reduction="none")
    pixels = reconstruction_loss(guess.values.float(), image, valid, masked, patch)
    return Losses(_mean(semantic, known), _mean(instance, counted), pixels)


def region_masking(
    regions: torch.Tensor, has_data: torch.Tensor, *, ratio: float, patch: int, generator: torch.Generator | None = None
) -> Masking:
    """Hide the share `ratio` of each image's patches with data, region by region (batch, row, col) in random order.

    A patch belongs to the region that most of its known pixels are of; those without one are hidden last.
    """
    of_patch = _most_frequent(cut_patches(regions.unsqueeze(1), patch))  # (batch, N)
    count = int(of_patch.max()) + 1 if of_patch.numel() else 0
    turn = torch.rand((of_patch.shape[0], max(count, 1)), generator=generator).argsort(dim=1).to(of_patch.device)
    noise = torch.rand(of_patch.shape, generator=generator, dtype=torch.float64).to(of_patch.device)
    first = torch.where(of_patch == UNKNOWN, -1, turn.gather(1, of_patch.clamp(min=0)))
    return choose_hidden(first + noise, has_data, ratio)


def chances(progress: float) -> tuple[float, float, float]:
    """How likely a mask follows semantics, instances, or nothing, when the share `progress` (0…1) of the training is over; sums to 1."""
    semantic = min(1.0, max(0.0, 1.5 - 3 * progress))
    free = min(1.0, max(0.0, 3 * progress - 1.5))
    return semantic, 1.0 - semantic - free, free


def _joined(pieces: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(batch, 2, row, col) bool: of one piece with the pixel to the right, and with that below; and where that can be said."""
    sides = []
    for right, down in ((1, 0), (0, 1)):
        beside = functional.pad(pieces, (0, right, 0, down), value=UNKNOWN)[:, down:, right:]
        sides.append((pieces == beside, (pieces != UNKNOWN) & (beside != UNKNOWN)))
    same, known = zip(*sides, strict=True)
    return torch.stack(same, dim=1), torch.stack(known, dim=1)


def _most_frequent(values: torch.Tensor) -> torch.Tensor:
    """(batch, N) most frequent known value of each patch (batch, N, pixel), of equals the least; UNKNOWN where none is known."""
    alone = torch.iinfo(values.dtype).max - torch.arange(values.shape[-1], device=values.device)  # each unknown pixel a value of its own
    found = torch.where(values == UNKNOWN, alone, values).mode(dim=-1).values
    return torch.where(found >= alone[-1], torch.full_like(found, UNKNOWN), found)


def _mean(values: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
    return (values * counted).sum() / counted.sum().clamp(min=1)
