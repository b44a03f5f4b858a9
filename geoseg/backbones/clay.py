"""Clay: a transformer for any bands, whose kernels a small network makes from their wavelengths, told pixel size, time and place.

Clay Foundation, versions 1 and 1.5 (no paper; github.com/Clay-foundation/model). Published files are Lightning's checkpoints, of which
`model.encoder.*` is what we keep; layout and figures are those of that repository and of its copy in github.com/IBM/terratorch. A token's
last 8 numbers are sines and cosines of week, hour, latitude and longitude. Where nobody gives them they are 0, as for a part of the
images of training; all others tell the patch's column and row, times the pixel size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from geoseg.backbones.foreign_weights import as_image, below, wavelengths_um
from geoseg.backbones.key_report import KeyReport, load_matching
from geoseg.backbones.vit import VitSize, get_size, quarters

WAVELENGTHS_UM = {
    "blue": 0.493, "green": 0.56, "red": 0.665, "rededge071": 0.704, "rededge075": 0.74, "rededge078": 0.783, "nir": 0.842,
    "nir08": 0.865, "swir16": 1.61, "swir22": 2.19, "vv": 3.5, "vh": 4.0,
}  # fmt: skip
"""Those of training; radar's stand for no wavelength."""
_PATCH = 8
_WAVE_WIDTH = 128
_LATENT = 128
"""Tokens beside the wavelengths that the small network attends over."""
_SCALE = 0.02
_SLOWEST = 10_000.0
_TOLD = 8
"""Numbers of a token for time and place."""


class WaveBlock(nn.Module):
    """Two layers beside a way past them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.l1, self.l2 = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, waves: torch.Tensor) -> torch.Tensor:
        """(band, width)."""
        return waves + functional.gelu(self.l2(functional.gelu(self.l1(waves))))


class WaveTransformer(nn.Module):
    """Kernels and their bias from the wavelengths of all bands together."""

    def __init__(self, width: int) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(_WAVE_WIDTH, 4, activation="gelu", dropout=0.0)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.fc_weight, self.fc_bias = nn.Linear(_WAVE_WIDTH, _PATCH**2 * width), nn.Linear(_WAVE_WIDTH, width)
        self.weight_tokens = nn.Parameter(torch.randn(_LATENT, _WAVE_WIDTH) * 0.02)
        self.bias_token = nn.Parameter(torch.randn(1, _WAVE_WIDTH) * 0.02)

    def forward(self, waves: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(band, width * pixel) and (width,) from (band, 128)."""
        made = self.encoder(torch.cat([self.weight_tokens, waves, self.bias_token])[:, None])[:, 0]
        return self.fc_weight(made[_LATENT:-1] + waves), self.fc_bias(made[-1])


class DynamicEmbedding(nn.Module):
    """Patches to tokens by kernels that follow the wavelengths."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight_generator, self.fclayer = WaveTransformer(width), WaveBlock(_WAVE_WIDTH)

    def forward(self, image: torch.Tensor, waves_um: torch.Tensor) -> torch.Tensor:
        """(batch, width, row, col) of patches."""
        kernels, bias = self.weight_generator(self.fclayer(wave_sines(waves_um)))
        kernels = kernels.reshape(len(waves_um), -1, _PATCH, _PATCH).transpose(0, 1)  # (width, band, row, col)
        return functional.conv2d(image, kernels * _SCALE, bias, stride=_PATCH)


class Attention(nn.Module):
    """Attention after a norm, without biases."""

    def __init__(self, size: VitSize) -> None:
        super().__init__()
        self.heads, self.norm = size.heads, nn.LayerNorm(size.width)
        self.to_qkv, self.to_out = nn.Linear(size.width, 3 * size.width, bias=False), nn.Linear(size.width, size.width, bias=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(batch, token, width)."""
        batch, count, width = tokens.shape
        three = self.to_qkv(self.norm(tokens)).reshape(batch, count, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        seen = functional.scaled_dot_product_attention(*three).transpose(1, 2).reshape(batch, count, width)
        made: torch.Tensor = self.to_out(seen)
        return made


class FeedForward(nn.Module):
    """A norm and two layers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(batch, token, width)."""
        made: torch.Tensor = self.net(tokens)
        return made


class Transformer(nn.Module):
    """The blocks, and the norm after the last; named as in the published files."""

    def __init__(self, size: VitSize) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(size.width)
        self.layers = nn.ModuleList(nn.ModuleList([Attention(size), FeedForward(size.width)]) for _ in range(size.depth))


class Clay(nn.Module):
    """The encoder as a `Backbone` for bands of these roles."""

    def __init__(
        self,
        roles: Sequence[str],
        *,
        size: str = "large",
        depth: int | None = None,
        pixel_size_m: float = 10.0,
        wavelengths: Mapping[str, float] | None = None,
    ) -> None:
        """Version 1 is base, 1.5 large. `pixel_size_m` is that of all images that it will see; `wavelengths` are micrometres by role,
        for bands that differ from the usual. PackageError for an unknown size, or a band without a wavelength.
        """
        super().__init__()
        sized = get_size(size, depth)
        self.wavelengths, self.pixel_size_m = wavelengths_um(roles, WAVELENGTHS_UM, wavelengths or {}), pixel_size_m
        self.cls_token = nn.Parameter(torch.randn(1, 1, sized.width) * 0.02)
        self.patch_embedding, self.transformer = DynamicEmbedding(sized.width), Transformer(sized)
        self.taken = quarters(sized.depth)
        self.channels, self.strides = (sized.width,) * len(self.taken), (_PATCH,) * len(self.taken)

    def forward(self, image: torch.Tensor, *, told: torch.Tensor | None = None) -> list[torch.Tensor]:
        """(batch, width, row, col) of patches after each of the blocks `taken`, the last of them normed.

        `told` (batch, 8) are sine and cosine of week, hour, latitude and longitude, None where they are not known.
        """
        planes = self.patch_embedding(image, torch.tensor(self.wavelengths, dtype=torch.float32, device=image.device))
        grid, width = (planes.shape[-2], planes.shape[-1]), planes.shape[1]
        places = places_of(grid, width - _TOLD, self.pixel_size_m).to(planes)[None].expand(image.shape[0], -1, -1)
        told = planes.new_zeros(image.shape[0], _TOLD) if told is None else told
        patches = planes.flatten(2).transpose(1, 2) + torch.cat([places, told[:, None].expand(-1, places.shape[1], -1)], dim=-1)
        tokens, levels = torch.cat([self.cls_token.expand(image.shape[0], -1, -1), patches], dim=1), []
        for number, layer in enumerate(self.transformer.layers, 1):
            for half in layer.children():
                tokens = half(tokens) + tokens
            if number in self.taken:
                level = self.transformer.norm(tokens) if number == len(self.transformer.layers) else tokens
                levels.append(as_image(level[:, 1:], grid))
        return levels


def build(roles: Sequence[str], *, pixel_size_m: float = 10.0, **options: Any) -> Clay:
    """The encoder for bands of these roles; `options` are those of `Clay`."""
    return Clay(roles, pixel_size_m=pixel_size_m, **options)


def load(backbone: Clay, state: Mapping[str, torch.Tensor], source: str) -> KeyReport:
    """Fill the encoder with a published file's; nothing in it depends on the bands. Decoder and teacher are left out.

    PackageError for other weights.
    """
    return load_matching(backbone, below(state, ("model.encoder.", "encoder.")), source)


def place(state: Mapping[str, torch.Tensor], have: Sequence[str], wanted: Sequence[str], **options: Any) -> dict[str, torch.Tensor]:
    """The encoder's own state: the same for all bands."""
    return dict(state)


def places_of(grid: tuple[int, int], width: int, pixel_size_m: float) -> torch.Tensor:
    """(row * col, width) sines and cosines of column, then of row, whose speeds lie close together and grow with the pixel size."""
    rows, cols = grid
    row, col = torch.arange(rows).repeat_interleave(cols), torch.arange(cols).repeat(rows)
    steps = torch.arange(width // 4) / (width // 4 - 1)
    speeds = pixel_size_m / _SLOWEST ** (2 * steps / width)
    across, down = col[:, None] * speeds, row[:, None] * speeds
    return torch.cat([across.sin(), across.cos(), down.sin(), down.cos()], dim=1)


def wave_sines(waves_um: torch.Tensor) -> torch.Tensor:
    """(band, 128) sines and cosines of wavelengths."""
    half = _WAVE_WIDTH // 2
    speeds = 1.0 / _SLOWEST ** (torch.arange(half, device=waves_um.device) / (half - 1))
    turned = waves_um[:, None] * speeds
    return torch.cat([turned.sin(), turned.cos()], dim=1)
