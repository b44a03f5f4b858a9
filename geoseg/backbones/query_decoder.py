"""Mask2Former's decoder: queries, each of which gives one mask and says what it is of.

Cheng et al., "Masked-attention Mask Transformer for Universal Image Segmentation", CVPR 2022. A query looks at the image's features, coarse
to fine in turn, but only where its own last mask lies; it hears what the other queries have found; then it gives a better mask, and says
of which class it is, or of none. `geoseg.models.set_loss` says how they learn.

The features come from a plain feature pyramid (Lin et al., CVPR 2017), one of the paper's own variants. Its best has six layers of
deformable attention in that place, which gather from scattered places of three levels: slow on a processor, where maps are made here, so
they are left out. Of a transformer, whose features have one size, four are made by widening and narrowing, as in ViTDet (Li et al.,
ECCV 2022). Places are counted in pixels, not in shares of the image, so that a larger tile is not another picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from geoseg.backbones.vit import REFERENCE_M, positions, quarters
from geoseg.errors import PackageError

FEATURES, QUERIES, LAYERS = 256, 100, 9
"""Width, queries and layers as published, and as CrossEarth has them."""
_HEADS = 8
_WIDER = 8
"""How much wider a layer's feed-forward is."""
_LOOKED_AT = 3
"""Levels that queries look at in turn: the coarsest."""
_GROUP = 8
"""Features that are normalised together: 32 groups at the published width."""
_SCALES = 4
"""Sizes that are made of a transformer's one: four times, twice, once, and half as many rows."""
_NOTHING = 1e-30
"""What is added up for a class, at least, so that it has a logarithm."""


@dataclass(frozen=True, eq=False)
class Said:
    """What the queries say after one layer."""

    classes: torch.Tensor
    """(batch, query, class + 1) logits; the last stands for no class."""
    masks: torch.Tensor
    """(batch, query, row, col) logits, of the finest level's size."""
    step: float
    """Pixels of the image along a place of the masks."""


class QueryDecoder(nn.Module):
    """Logits of classes for each pixel, from features of several levels, as a `Backbone` gives them."""

    def __init__(
        self,
        channels: Sequence[int],
        strides: Sequence[float],
        planes: int,
        *,
        features: int = FEATURES,
        queries: int = QUERIES,
        layers: int = LAYERS,
    ) -> None:
        """`channels` and `strides` are the backbone's, fine to coarse; `planes` classes; PackageError for what cannot be built."""
        super().__init__()
        if features < _HEADS or features % _HEADS:
            raise PackageError(f"a query decoder with {features} features; expected a multiple of {_HEADS}")
        if queries < planes:
            raise PackageError(f"{queries} queries for {planes} classes; each class needs one at least")
        if layers < 1:
            raise PackageError(f"a query decoder with {layers} layers; expected at least 1")
        self.queries = queries
        self.spread = WideAndNarrow(channels, strides) if len(set(strides)) == 1 else None
        """For levels that are all of one size."""
        if self.spread is not None:
            channels, strides = self.spread.channels, self.spread.strides
        self.steps = tuple(strides)
        self.pyramid = FeaturePyramid(channels, features)
        self.fine = nn.Conv2d(features, features, kernel_size=3, padding=1)
        self.looked_at = list(range(len(strides)))[::-1][:_LOOKED_AT]
        """Levels of the pyramid that queries look at, coarse to fine."""
        self.level = nn.Parameter(torch.randn(len(self.looked_at), features))
        self.content, self.place = (nn.Parameter(torch.randn(queries, features)) for _ in range(2))
        self.layers = nn.ModuleList(QueryLayer(features) for _ in range(layers))
        self.norm = nn.LayerNorm(features)
        self.classify = nn.Linear(features, planes + 1)
        self.draw = nn.Sequential(
            nn.Linear(features, features), nn.ReLU(), nn.Linear(features, features), nn.ReLU(), nn.Linear(features, features)
        )
        self.said: list[Said] | None = None
        """What was said before the first and after each layer in the last pass of training; what set_loss is taken of."""

    def __getstate__(self) -> dict[str, Any]:
        """What a copy takes along: not the last pass, whose gradients torch does not copy."""
        return self.__dict__ | {"said": None}

    def forward(self, levels: list[torch.Tensor]) -> torch.Tensor:
        """(batch, class, row, col) of the image's size, from features (batch, channel, row, col) of each level, fine to coarse.

        Softmax over classes gives the shares of what all queries say of a pixel; see `pixel_logits`.
        """
        said = self.ask(levels)
        self.said = said if self.training else None
        return pixel_logits(said[-1])

    def ask(self, levels: list[torch.Tensor]) -> list[Said]:
        """What the queries say before the first layer and after each."""
        maps = self.pyramid(levels if self.spread is None else self.spread(levels))
        fine = self.fine(maps[0])
        seen = [maps[number] for number in self.looked_at]
        values = [level.flatten(2).transpose(1, 2) + of for level, of in zip(seen, self.level, strict=True)]  # (batch, place, feature)
        keys = [value + self._places(number, level) for value, number, level in zip(values, self.looked_at, seen, strict=True)]
        x = self.content.expand(fine.shape[0], -1, -1)  # (batch, query, feature)
        said = [self._say(x, fine)]
        for number, layer in enumerate(self.layers):
            turn = number % len(seen)
            x = layer(x, self.place, keys[turn], values[turn], where_masked(said[-1].masks, seen[turn].shape[-2:]))
            said.append(self._say(x, fine))
        return said

    def _say(self, x: torch.Tensor, fine: torch.Tensor) -> Said:
        x = self.norm(x)
        masks = self.draw(x) @ fine.flatten(2)  # (batch, query, place)
        masks = masks.reshape(fine.shape[0], x.shape[1], fine.shape[-2], fine.shape[-1])
        return Said(self.classify(x), masks, self.steps[0])

    def _places(self, number: int, level: torch.Tensor) -> torch.Tensor:
        """(1, place, feature) where the places of a level lie, in steps of the finest."""
        rows, cols = level.shape[-2:]
        return positions(rows, cols, level.shape[1], REFERENCE_M * self.steps[number] / self.steps[0]).to(level)


class TokenQueries(nn.Module):
    """The same behind a transformer whose levels are all tokens of one patch size."""

    def __init__(
        self,
        width: int,
        depth: int,
        patch: int,
        planes: int,
        *,
        features: int = FEATURES,
        queries: int = QUERIES,
        layers: int = LAYERS,
    ) -> None:
        """`width`, `depth` and `patch` are the transformer's; PackageError as for `QueryDecoder`."""
        super().__init__()
        self.taken = quarters(depth)
        """Blocks after which tokens are taken, counted from 1; the last is the whole transformer."""
        count = len(self.taken)
        self.decoder = QueryDecoder((width,) * count, (patch,) * count, planes, features=features, queries=queries, layers=layers)

    def forward(self, levels: list[torch.Tensor], rows: int, cols: int) -> torch.Tensor:
        """(batch, plane, row, col) from the tokens (batch, rows * cols, width) after each of the blocks `taken`."""
        maps = [tokens.transpose(1, 2).reshape(tokens.shape[0], tokens.shape[2], rows, cols) for tokens in levels]
        planes: torch.Tensor = self.decoder(maps)
        return planes


class QueryLayer(nn.Module):
    """Queries look at the image where their masks lie, then at each other, then each by itself."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.look, self.hear = Attention(features), Attention(features)
        self.think = nn.Sequential(nn.Linear(features, _WIDER * features), nn.ReLU(), nn.Linear(_WIDER * features, features))
        self.norms = nn.ModuleList(nn.LayerNorm(features) for _ in range(3))

    def forward(self, x: torch.Tensor, place: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
        """(batch, query, feature); `place` (query, feature) is the queries' own, `where` (batch, query, place) what each may look at."""
        x = self.norms[0](x + self.look(x + place, keys, values, where))
        x = self.norms[1](x + self.hear(x + place, x + place, x))
        made: torch.Tensor = self.norms[2](x + self.think(x))
        return made


class Attention(nn.Module):
    """Attention of several heads, from queries to keys and their values."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(features, features) for _ in range(4))
        for one in (self.query, self.key, self.value, self.out):
            nn.init.xavier_uniform_(one.weight)
            nn.init.zeros_(one.bias)

    def forward(self, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, where: torch.Tensor | None = None) -> torch.Tensor:
        """(batch, query, feature); `where` (batch, query, key) is True for what a query may look at, None for all."""
        q, k, v = (
            part(given).unflatten(2, (_HEADS, -1)).transpose(1, 2)
            for part, given in ((self.query, queries), (self.key, keys), (self.value, values))
        )  # (batch, head, query or key, feature)
        found = functional.scaled_dot_product_attention(q, k, v, attn_mask=None if where is None else where.unsqueeze(1))
        made: torch.Tensor = self.out(found.transpose(1, 2).flatten(2))
        return made


class FeaturePyramid(nn.Module):
    """Levels brought to one width, each with what the coarser ones know."""

    def __init__(self, channels: Sequence[int], features: int) -> None:
        super().__init__()
        self.narrow = nn.ModuleList(nn.Sequential(nn.Conv2d(given, features, 1, bias=False), _norm(features)) for given in channels)
        self.smooth = nn.ModuleList(
            nn.Sequential(nn.Conv2d(features, features, 3, padding=1, bias=False), _norm(features), nn.ReLU()) for _ in channels
        )

    def forward(self, levels: list[torch.Tensor]) -> list[torch.Tensor]:
        """(batch, feature, row, col) of each level, fine to coarse."""
        made: list[torch.Tensor] = []
        for level, narrow, smooth in reversed(list(zip(levels, self.narrow, self.smooth, strict=True))):
            x = narrow(level)
            if made:
                x = x + functional.interpolate(made[-1], size=x.shape[-2:], mode="nearest")
            made.append(smooth(x))
        return made[::-1]


class WideAndNarrow(nn.Module):
    """Levels of four sizes from features that all have one: from the shallowest the finest, as CrossEarth and Rein have it."""

    def __init__(self, channels: Sequence[int], strides: Sequence[float]) -> None:
        super().__init__()
        (stride,) = set(strides)
        if stride < _SCALES:
            raise PackageError(f"patches of {stride} pixels; a query decoder quarters them, so give at least {_SCALES}")
        self.taken = [number * len(channels) // _SCALES for number in range(_SCALES)]
        """Which of the given levels each is made of."""
        widths = [channels[number] for number in self.taken]
        self.channels, self.strides = (widths[0] // 4, widths[1] // 2, *widths[2:]), (stride / 4, stride / 2, stride, 2 * stride)
        self.scales = nn.ModuleList(
            (
                nn.Sequential(
                    _doubled(widths[0], widths[0] // 2),
                    nn.GroupNorm(1, widths[0] // 2),
                    nn.GELU(),
                    _doubled(widths[0] // 2, widths[0] // 4),
                ),
                _doubled(widths[1], widths[1] // 2),
                nn.Identity(),
                nn.MaxPool2d(2, ceil_mode=True),
            )
        )

    def forward(self, levels: list[torch.Tensor]) -> list[torch.Tensor]:
        """(batch, channel, row, col) of each size, fine to coarse."""
        return [scale(levels[number]) for scale, number in zip(self.scales, self.taken, strict=True)]


def where_masked(masks: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """(batch, query, row * col) True where a query's mask lies on a level of this size, or everywhere for one whose mask lies nowhere.

    `masks` are logits (batch, query, row, col); nothing is learned through this.
    """
    on = functional.interpolate(masks.detach(), size=tuple(size), mode="bilinear", align_corners=False).flatten(2) >= 0
    return on | ~on.any(dim=2, keepdim=True)


def pixel_logits(said: Said) -> torch.Tensor:
    """(batch, class, row, col) of the image, whose softmax is each class's share of what the queries say of a pixel.

    As in MaskFormer (Cheng et al., NeurIPS 2021) a class gets the sum over queries of P(class) times P(pixel in mask), masks
    being brought to the image's size as logits; these are the logarithms of the sums, worked out so that none vanishes.
    """
    masks = said.masks.float()
    if said.step > 1:
        masks = functional.interpolate(masks, scale_factor=float(said.step), mode="bilinear", align_corners=False)
    inside = -functional.softplus(-masks)  # log P(pixel in mask)
    most = inside.amax(dim=1, keepdim=True)
    classes = said.classes.float().softmax(dim=-1)[..., :-1].transpose(1, 2)  # (batch, class, query)
    sums = classes @ (inside - most).exp().flatten(2)
    return sums.clamp(min=_NOTHING).log().reshape(masks.shape[0], sums.shape[1], masks.shape[-2], masks.shape[-1]) + most


def _norm(features: int) -> nn.GroupNorm:
    return nn.GroupNorm(features // _GROUP, features)


def _doubled(given: int, made: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(given, made, kernel_size=2, stride=2)
