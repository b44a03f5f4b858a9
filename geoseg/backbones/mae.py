"""A masked autoencoder: most patches are hidden, and what they show has to be told from the few that are seen.

He et al., "Masked Autoencoders Are Scalable Vision Learners", CVPR 2022: the encoder sees the visible patches only; a smaller decoder
takes these and one learned token for each hidden patch, and gives all values of every patch, normalised patch by patch. Hidden at
random it is plain MAE; `sigmae.py` chooses what to hide. Differences: no class token, and patches without data.

A patch without a single valid value is never hidden to be guessed, never scored, and nobody takes notice of it. So that batches
stay rectangular the encoder receives the same number of tokens from every image: of N patches it is N - floor(ratio N); of those with
data the share `ratio` is hidden in each image, and patches without data make up the number on either side.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from geoseg.backbones.vit import (
    REFERENCE_M,
    VisionTransformer,
    VitSize,
    attention_mask,
    positions,
    start_weights,
    transformer_blocks,
)

DECODERS = {
    "tiny": VitSize(192, 2, 3),
    "small": VitSize(256, 4, 8),
    "base": VitSize(512, 8, 16),
    "large": VitSize(512, 8, 16),
}
"""Size of the encoder → the decoder's. MAE's own are the last two; the others keep about their share of the work."""
_EPSILON = 1e-6
_ROUNDING = 1e-6
"""So that 0.29 of 100 patches are 29, although the product in binary numbers is a little less."""


@dataclass(frozen=True, eq=False)
class Masking:
    """Which patches are seen, and which have to be guessed."""

    visible: torch.Tensor
    """(batch, N - floor(ratio N)) places of the patches that the encoder receives, in order; some may be without data."""
    masked: torch.Tensor
    """(batch, N) bool: patches with data that are hidden; only these are scored."""


class MaskedAutoencoder(nn.Module):
    """Guesses normalised patches of an image (batch, channel, row, col) from those that are visible."""

    def __init__(self, in_channels: int, *, size: str = "tiny", patch: int = 8, depth: int | None = None) -> None:
        super().__init__()
        self.encoder = VisionTransformer(in_channels, size=size, patch=patch, depth=depth)
        inner = DECODERS[size]
        self.narrow = nn.Linear(self.encoder.width, inner.width)
        self.hidden_token = nn.Parameter(torch.randn(inner.width) * 0.02)
        self.blocks = transformer_blocks(inner)
        self.norm = nn.LayerNorm(inner.width, eps=1e-6)
        self.values = nn.Linear(inner.width, patch * patch * in_channels)
        for part in (self.narrow, self.blocks, self.values):
            part.apply(start_weights)

    def forward(
        self,
        image: torch.Tensor,
        masking: Masking,
        *,
        has_data: torch.Tensor | None = None,
        pixel_size_m: float | torch.Tensor = REFERENCE_M,
    ) -> torch.Tensor:
        """(batch, N, patch * patch * channel) in the order of `cut_patches`, for the visible patches as well."""
        seen = self.encoder(image, pixel_size_m=pixel_size_m, visible=masking.visible, has_data=has_data)
        rows, cols = (edge // self.encoder.patch for edge in image.shape[-2:])
        tokens = with_hidden(self.narrow(seen), masking.visible, self.hidden_token, rows * cols)
        tokens = tokens + positions(rows, cols, tokens.shape[-1], pixel_size_m).to(tokens)
        looked_at = attention_mask(has_data, tokens.dtype)
        for block in self.blocks:
            tokens = block(tokens, attn_mask=looked_at)
        values: torch.Tensor = self.values(self.norm(tokens))
        return values


def with_hidden(seen: torch.Tensor, visible: torch.Tensor, hidden_token: torch.Tensor, count: int) -> torch.Tensor:
    """(batch, count, width): the tokens (batch, seen, width) at their `visible` places, `hidden_token` (width,) at all others."""
    everywhere = hidden_token.to(seen.dtype).expand(seen.shape[0], count, -1)
    return everywhere.scatter(1, visible.unsqueeze(-1).expand(-1, -1, seen.shape[-1]), seen)


def whole_share(share: float, count: torch.Tensor) -> torch.Tensor:
    """floor(share * count), elementwise."""
    return torch.floor(share * count.double() + _ROUNDING).long()


def choose_hidden(first: torch.Tensor, has_data: torch.Tensor, ratio: float) -> Masking:
    """Hide the share `ratio` (0…1) of each image's patches with data, those with the greatest `first` (batch, N); of equals the earlier.

    `has_data` (batch, N) bool, `first` finite. Give random numbers for plain MAE.
    """
    scored = whole_share(ratio, has_data.sum(dim=1, keepdim=True))  # (batch, 1)
    count, hidden = first.shape[1], whole_share(ratio, torch.full_like(scored, first.shape[1]))
    rank = ranked(first, has_data)
    masked = rank < scored
    dropped = rank >= count - (hidden - scored)  # without data, for those that were not there to be hidden
    seen = count - int(hidden[0])
    visible = (masked | dropped).long().argsort(dim=1, stable=True)[:, :seen]
    return Masking(visible, masked)


def ranked(values: torch.Tensor, has_data: torch.Tensor) -> torch.Tensor:
    """(batch, N) place of each patch, from 0 for the greatest value on; of equals the earlier first, those without data last."""
    order = values.masked_fill(~has_data, float("-inf")).argsort(dim=1, descending=True, stable=True)
    return torch.empty_like(order).scatter_(1, order, torch.arange(order.shape[1], device=order.device).expand_as(order))


def patches_with_data(valid: torch.Tensor, patch: int) -> torch.Tensor:
    """(batch, N) bool: whether any pixel of a patch is valid; `valid` (batch, row, col)."""
    return cut_patches(valid.unsqueeze(1), patch).any(dim=-1)


def cut_patches(image: torch.Tensor, patch: int) -> torch.Tensor:
    """(batch, N, patch * patch * channel): patches row by row, in each pixels row by row, in each its channels."""
    cut = torch.unflatten(torch.unflatten(image, 3, (-1, patch)), 2, (-1, patch))  # (batch, channel, row, y, col, x)
    return cut.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)


def normalised_patches(image: torch.Tensor, valid: torch.Tensor, patch: int) -> torch.Tensor:
    """What is to be guessed: `cut_patches` with mean 0 and spread 1 over the valid values of all channels of a patch; 0 where not valid.

    `valid` (batch, row, col). A patch of one single value is 0 throughout.
    """
    values, known = cut_patches(image, patch), _known(image, valid, patch)
    count = known.sum(dim=-1, keepdim=True).clamp(min=1)
    mean = (values * known).sum(dim=-1, keepdim=True) / count
    departures = (values - mean) * known
    spread = (departures.square().sum(dim=-1, keepdim=True) / count + _EPSILON).sqrt()
    return departures / spread


def reconstruction_loss(guess: torch.Tensor, image: torch.Tensor, valid: torch.Tensor, masked: torch.Tensor, patch: int) -> torch.Tensor:
    """Mean squared error of the masked patches: the mean over the valid values of each, then over patches; 0 where none is masked.

    `guess` (batch, N, patch * patch * channel), `valid` (batch, row, col), `masked` (batch, N).
    """
    known = _known(image, valid, patch)
    squares = (guess - normalised_patches(image, valid, patch)).square() * known
    of_patch = squares.sum(dim=-1) / known.sum(dim=-1).clamp(min=1)  # (batch, N)
    scored = masked & known.any(dim=-1)
    return (of_patch * scored).sum() / scored.sum().clamp(min=1)


def _known(image: torch.Tensor, valid: torch.Tensor, patch: int) -> torch.Tensor:
    return cut_patches(valid.unsqueeze(1).expand(-1, image.shape[1], -1, -1), patch)
