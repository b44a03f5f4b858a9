"""TerraMind: ESA's and IBM's transformer that reads Sentinel-2, Sentinel-1 and heights side by side.

Jakubik et al., "TerraMind" (arXiv 2504.11171, 2025). Published files hold its encoder and decoder for many kinds of data; we keep the
encoder's blocks and the embeddings of pixels (`encoder_embeddings.untok_sen2l2a@224` and its like). Each is one linear layer over a
patch's numbers, pixel by pixel with the bands of a pixel beside each other. Layout and figures are those of `terramind_vit.py` in
github.com/IBM/terratorch, which is the authors' code. Each kind of data gives tokens of its own; features are their mean, place by place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from geoseg.backbones.foreign_weights import Unseen, as_image, check_unseen, kernels_by_role, known_role, needed, sines
from geoseg.backbones.kernels import stretch_positions
from geoseg.backbones.key_report import KeyReport, load_matching
from geoseg.backbones.vit import VitSize, get_size, quarters
from geoseg.errors import PackageError, require

_L2A = (
    "coastal", "blue", "green", "red", "rededge071", "rededge075", "rededge078", "nir", "nir08", "nir09", "swir16", "swir22",
)  # fmt: skip
KINDS = {
    "s2l2a": ("untok_sen2l2a@224", _L2A),
    "s2l1c": ("untok_sen2l1c@224", (*_L2A[:10], "cirrus", *_L2A[10:])),
    "s1grd": ("untok_sen1grd@224", ("vv", "vh")),
    "s1rtc": ("untok_sen1rtc@224", ("vv", "vh")),
    "dem": ("untok_dem@224", ("height",)),
}
"""Kind of data → its name in the files, and its bands in order."""
_GATED = ("base", "large")
_PATCH = 16
_EDGE = 14
"""Patches along an edge of the images of training, of 224 pixels."""


class GatedFeedForward(nn.Module):
    """Three layers, of which one says how much of another goes through (SwiGLU, Shazeer, 2020)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = 2 * 4 * width // 3
        self.fc1, self.fc3 = (nn.Linear(width, hidden, bias=False) for _ in range(2))
        self.fc2 = nn.Linear(hidden, width, bias=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(…, width)."""
        made: torch.Tensor = self.fc2(functional.silu(self.fc1(tokens)) * self.fc3(tokens))
        return made


class Block(nn.Module):
    """Attention and feed-forward, norms without bias; the gated ones of the larger models have no bias at all."""

    def __init__(self, size: VitSize, *, gated: bool) -> None:
        super().__init__()
        timm = require("timm.models.vision_transformer", extra="train")
        self.norm1, self.norm2 = (nn.LayerNorm(size.width, eps=1e-6, bias=False) for _ in range(2))
        self.attn = timm.Attention(size.width, num_heads=size.heads, qkv_bias=not gated, proj_bias=not gated)
        self.mlp = GatedFeedForward(size.width) if gated else timm.Mlp(size.width, 4 * size.width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(batch, token, width)."""
        tokens = tokens + self.attn(self.norm1(tokens))
        made: torch.Tensor = tokens + self.mlp(self.norm2(tokens))
        return made


class PixelEmbedding(nn.Module):
    """Patches of one kind of data to tokens, with what tells the kind."""

    def __init__(self, bands: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Linear(bands * _PATCH**2, width, bias=False)
        self.mod_emb = nn.Parameter(torch.zeros(1, 1, width))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(batch, patch, width)."""
        patches = functional.pixel_unshuffle(image, _PATCH)  # (batch, band * pixel, row, col)
        patches = patches.reshape(*image.shape[:2], _PATCH**2, -1).permute(0, 3, 2, 1)  # (batch, patch, pixel, band)
        made: torch.Tensor = self.proj(patches.flatten(2)) + self.mod_emb
        return made


class TerraMind(nn.Module):
    """The encoder as a `Backbone` for bands of these roles."""

    def __init__(
        self,
        roles: Sequence[str],
        *,
        size: str = "base",
        depth: int | None = None,
        gated: bool | None = None,
        optical: str = "s2l2a",
        radar: str = "s1grd",
        unseen: str = "refuse",
    ) -> None:
        """`gated` feed-forwards are those of base and large; None takes what the size has. `optical` and `radar` say of which kind
        reflectance and backscatter are: s2l2a or s2l1c, s1grd or s1rtc (on terrain).

        A band of no kind goes with the optical ones; `unseen` is what `load` does with it: "refuse", or begin with "zero".
        PackageError for an unknown size or kind.
        """
        super().__init__()
        if optical not in ("s2l2a", "s2l1c") or radar not in ("s1grd", "s1rtc"):
            raise PackageError(f"TerraMind reads optical s2l2a or s2l1c and radar s1grd or s1rtc, not {optical!r} and {radar!r}")
        sized = get_size(size, depth)
        self.unseen: Unseen = check_unseen(unseen)
        self.kinds = _kinds(roles, (radar, "dem", optical))
        """Kind → channels of its bands, and their roles."""
        self.encoder_embeddings = nn.ModuleDict({KINDS[kind][0]: PixelEmbedding(len(own), sized.width) for kind, own in self.kinds.items()})
        gated = size in _GATED if gated is None else gated
        self.encoder = nn.ModuleList(Block(sized, gated=gated) for _ in range(sized.depth))
        self.encoder_norm = nn.LayerNorm(sized.width, eps=1e-6, bias=False)
        self.taken = quarters(sized.depth)
        self.channels, self.strides = (sized.width,) * len(self.taken), (_PATCH,) * len(self.taken)

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        """(batch, width, row, col) of patches after each of the blocks `taken`, the last of them normed."""
        grid = image.shape[-2] // _PATCH, image.shape[-1] // _PATCH
        kinds = [self.encoder_embeddings[KINDS[kind][0]](image[:, list(own)]) for kind, own in self.kinds.items()]
        places = places_of(grid, self.channels[0]).to(kinds[0])
        tokens, levels = torch.cat([own + places for own in kinds], dim=1), []
        for number, block in enumerate(self.encoder, 1):
            tokens = block(tokens)
            if number in self.taken:
                level = self.encoder_norm(tokens) if number == len(self.encoder) else tokens
                levels.append(as_image(torch.stack(level.chunk(len(kinds), dim=1)).mean(dim=0), grid))
        return levels


def build(roles: Sequence[str], **options: Any) -> TerraMind:
    """The encoder for bands of these roles; `options` are those of `TerraMind`."""
    return TerraMind(roles, **options)


def load(backbone: TerraMind, state: Mapping[str, torch.Tensor], source: str) -> KeyReport:
    """Fill the encoder with a published file's: embeddings of the kinds of data at hand, their layers by role.

    PackageError for other weights, or bands that they never saw.
    """
    made, reshaped = {}, []
    for name, tensor in state.items():
        if name.startswith("encoder.") and not (".norm" in name and name.endswith(".bias")):  # norms have none; files hold zeros
            made[name] = tensor
    made |= {"encoder_norm.weight": state["encoder_norm.weight"]} if "encoder_norm.weight" in state else {}
    for kind, own in backbone.kinds.items():
        known, bands, name = KINDS[kind][1], tuple(own.values()), f"encoder_embeddings.{KINDS[kind][0]}"
        made[f"{name}.mod_emb"] = needed(state, f"{name}.mod_emb", source)
        layer = needed(state, f"{name}.proj.weight", source)
        made[f"{name}.proj.weight"] = _by_role(layer, known, bands, unseen=backbone.unseen, source=source)
        reshaped += [f"{name}.proj.weight"] if bands != known else []
    return load_matching(backbone, made, source, reshaped=reshaped)


def _by_role(layer: torch.Tensor, known: Sequence[str], wanted: Sequence[str], *, unseen: Unseen, source: str) -> torch.Tensor:
    """(width, pixel * wanted) from (width, pixel * known), the bands of a pixel beside each other."""
    if layer.shape[1] != _PATCH**2 * len(known):
        raise PackageError(f"{source} has a layer of {layer.shape[1]} numbers a patch; expected {_PATCH**2} pixels of {', '.join(known)}")
    bands_first = layer.reshape(len(layer), _PATCH**2, len(known)).transpose(1, 2)
    return kernels_by_role(bands_first, known, wanted, unseen=unseen, source=source).transpose(1, 2).flatten(1)


def place(state: Mapping[str, torch.Tensor], have: Sequence[str], wanted: Sequence[str], **options: Any) -> dict[str, torch.Tensor]:
    """The encoder's own state for bands `have`, for bands `wanted`: layers by role. PackageError for a kind of data it has not."""
    with torch.device("meta"):
        before, after = build(have, **options), build(wanted, **options)
    made = {name: tensor for name, tensor in state.items() if not name.startswith("encoder_embeddings.")}
    for kind, own in after.kinds.items():
        name = f"encoder_embeddings.{KINDS[kind][0]}"
        layer, known = needed(state, f"{name}.proj.weight", "the encoder"), tuple(before.kinds[kind].values())
        made[f"{name}.mod_emb"] = state[f"{name}.mod_emb"]
        made[f"{name}.proj.weight"] = _by_role(layer, known, tuple(own.values()), unseen=after.unseen, source="the encoder")
    return made


def places_of(grid: tuple[int, int], width: int) -> torch.Tensor:
    """(1, row * col, width) sines of row, then of column, made for 14 x 14 patches and stretched to `grid`, bicubic.

    As the authors' code has it: the first half, which it names the column's, goes with the slower index, the row.
    """
    row, col = torch.arange(_EDGE).repeat_interleave(_EDGE), torch.arange(_EDGE).repeat(_EDGE)
    places = torch.cat([sines(row, width // 2), sines(col, width // 2)], dim=1)[None]
    return stretch_positions(places, grid, kept=0)


def _kinds(roles: Sequence[str], kinds: Sequence[str]) -> dict[str, dict[int, str]]:
    """Kind → channel → role, for those of `kinds` that any band is of; a band of none goes to the last."""
    found: dict[str, dict[int, str]] = {kind: {} for kind in kinds}
    for channel, role in enumerate(roles):
        kind = next((kind for kind in kinds if known_role(role, KINDS[kind][1], roles) is not None), kinds[-1])
        found[kind][channel] = role
    return {kind: own for kind, own in found.items() if own}
