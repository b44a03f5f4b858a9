"""Galileo: one transformer for optical, radar and terrain, whose published weights load as they are, and which takes what a scene has.

Tseng et al., "Galileo: Learning Global & Local Features of Many Remote Sensing Modalities", ICML 2025 (code and weights: MIT). Bands go
in groups (`DATED`, `LASTING`); each group of a patch, on each date, is a token, and a group that lacks a band gives none: it is left out of
the sequence, never filled with zeros. Patches have 1 to 8 pixels on a side: the kernels of 8 x 8 are made for others by the pseudo-inverse
of a bicubic resize (FlexiViT, Beyer et al., CVPR 2023). A quarter of each token tells its group, one its place in the series, one its
month, one its place on the ground. Features of a patch are the mean of its tokens.

Input is (physical value - mean) / std with `STATISTICS`, which the network takes to Galileo's own scale (mean - 2 std … mean + 2 std
becomes 0 … 1); NDVI is made inside. Optical bands were Sentinel-2 at the top of the atmosphere in training, radar Sentinel-1 in decibels
of sigma0 on the ellipsoid. Weather, night lights, population and the static maps have weights here, but no band feeds them.

Where we differ: features of large images are made in windows of at most `window` patches on a side, since attention among all tokens
grows with the square of their number and places further out were never seen in training (12 patches at most); no drop path in training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from geoseg.backbones.band_tokens import (
    NDVI,
    SENTINEL,
    TERRAIN,
    BandToken,
    exported_parts,
    find_tokens,
    month_circle,
    normalised_difference,
    on_the_sphere,
)
from geoseg.backbones.key_report import KeyReport, load_matching
from geoseg.backbones.vit import VitSize, quarters, start_weights
from geoseg.errors import PackageError, require

SIZES = {"nano": VitSize(128, 4, 8), "tiny": VitSize(192, 12, 3), "base": VitSize(768, 12, 12)}
REFERENCE_M = 10.0
LARGEST_PATCH = 8
DEFAULT_MONTH = 6
"""June, which the authors take where no month is known."""
LONGEST = 24
"""Dates of a series."""

DATED = SENTINEL
_COVER = ("water", "trees", "grass", "flooded_vegetation", "crops", "shrub_and_scrub", "built", "bare", "snow_and_ice")
_CROPS = ("temporarycrops", "maize", "wintercereals", "springcereals", "irrigation")
LASTING: Mapping[str, tuple[str, ...]] = {
    "SRTM": TERRAIN,
    "DW": tuple(f"dw_{name}" for name in _COVER),
    "WC": tuple(f"wc_{name}" for name in _CROPS),
}
"""Terrain; Dynamic World's nine probabilities (0 … 1); WorldCereal's five (0 … 100)."""
_WITHOUT_PLACE = {"ERA5": 2, "TC": 3, "VIIRS": 1}
_WITHOUT_TIME = {"LS": 1, "location": 3, "DW_static": 9, "WC_static": 5}
"""Groups without a patch of their own, and how many numbers each has."""

STATISTICS: Mapping[str, tuple[float, float]] = {
    "vv": (-11.728724389184965, 4.887145774840316),
    "vh": (-18.85558188024017, 5.730270320384293),
    "blue": (0.13953408730676722, 0.09177041440370853),
    "green": (0.13384026921784578, 0.09132988423581528),
    "red": (0.134309883810357, 0.1092678723527555),
    "rededge071": (0.15438607982512297, 0.10472206083460424),
    "rededge075": (0.21862022069512263, 0.10480101611156767),
    "rededge078": (0.25250932853316694, 0.11436903026819996),
    "nir": (0.24103377187373408, 0.1098979177731649),
    "nir08": (0.27502854646886753, 0.1204472755085893),
    "swir16": (0.2234911100061487, 0.11459774063078878),
    "swir22": (0.14745311266077113, 0.09802429840007796),
    "height": (673.0152819503361, 983.0697298296237),
    "slope": (5.930092668915115, 8.167406789813247),
    **dict.fromkeys(LASTING["DW"], (0.5, 0.25)),
    **dict.fromkeys(LASTING["WC"], (50.0, 25.0)),
}
"""Role → mean and standard deviation in decibels, reflectance, metres and degrees, from the authors' `config/normalization.json` (10 000
samples of their training data, digital numbers over 10 000); the probabilities' are those with which they go in as 0 … 1, as theirs do."""


class Galileo(nn.Module):
    """The encoder as a `Backbone`, tensors named as in the authors' files."""

    def __init__(
        self,
        roles: Sequence[str],
        *,
        size: str = "nano",
        patch: int = 8,
        month: int = DEFAULT_MONTH,
        periods: Sequence[str] | None = None,
        months: Sequence[int] | None = None,
        location: Sequence[float] | None = None,
        pixel_size_m: float = REFERENCE_M,
        window: int = 16,
    ) -> None:
        """`month` (1 … 12) is that of images of a single date; for `periods` and `months` of a series see `find_tokens`.

        `location` is latitude and longitude in degrees of all images, told to the network where it is given; `window` is counted in
        patches. PackageError for what cannot be built.
        """
        super().__init__()
        if size not in SIZES:
            raise PackageError(f"there is no Galileo of size {size!r}; known are {', '.join(SIZES)}")
        if not 1 <= patch <= LARGEST_PATCH:
            raise PackageError(f"patches of {patch} pixels; Galileo takes 1 to {LARGEST_PATCH}")
        if window < 1 or pixel_size_m <= 0:
            raise PackageError(f"windows of {window} patches, pixels of {pixel_size_m} m; both are more than 0")
        sized = SIZES[size]
        self.width, self.patch, self.window, self.pixel_size_m = sized.width, patch, window, pixel_size_m
        self.seen = find_tokens(roles, DATED, LASTING, month=month, periods=periods, months=months, longest=LONGEST)
        """The tokens of each patch."""
        quarter = sized.width // 4
        self.pos_embed = nn.Parameter(_waves(torch.arange(LONGEST), quarter), requires_grad=False)
        self.month_embed = nn.Embedding(12, quarter)
        self.month_embed.weight = nn.Parameter(month_circle(quarter), requires_grad=False)
        self.s_t_channel_embed, self.sp_channel_embed, self.t_channel_embed, self.st_channel_embed = (
            nn.Parameter(torch.zeros(len(groups), quarter)) for groups in (DATED, LASTING, _WITHOUT_PLACE, _WITHOUT_TIME)
        )
        bands = {group: len(needed) if group != NDVI else 1 for group, needed in {**DATED, **LASTING}.items()}
        self.space_time_embed = nn.ModuleDict({group: _Kernels(bands[group], sized.width, patch) for group in DATED})
        self.space_embed = nn.ModuleDict({group: _Kernels(bands[group], sized.width, patch) for group in LASTING})
        self.time_embed = nn.ModuleDict({group: nn.Linear(count, sized.width) for group, count in _WITHOUT_PLACE.items()})
        self.static_embed = nn.ModuleDict({group: nn.Linear(count, sized.width) for group, count in _WITHOUT_TIME.items()})
        self.blocks = nn.ModuleList(_Block(sized) for _ in range(sized.depth))
        self.norm = nn.LayerNorm(sized.width)
        self.apply(start_weights)
        self.earth: torch.Tensor | None
        self.means: torch.Tensor
        self.stds: torch.Tensor
        self.register_buffer("earth", None if location is None else on_the_sphere(location), persistent=False)
        means, stds = zip(*(STATISTICS[role.partition("@")[0]] for role in roles), strict=True)
        self.register_buffer("means", torch.tensor(means).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("stds", torch.tensor(stds).view(1, -1, 1, 1), persistent=False)
        self._leave_unused_as_they_are()
        self.taken = quarters(sized.depth)
        self.channels, self.strides = (sized.width,) * len(self.taken), (patch,) * len(self.taken)

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        """(batch, width, row, col) of patches after each of the blocks `taken`, the last of them normed."""
        tokens = self.embed(image)  # (batch, token, width, row, col)
        windows, looked_at, layout = _cut(tokens, self.window)  # (batch, window, token, row, col, width)
        edges = (windows.shape[3], windows.shape[4])  # a slice of the shape would be traced as numbers
        x = windows + self.encodings()[:, None, None, :] + self.places(*edges)
        x = x.flatten(0, 1).flatten(1, 3)  # (batch of windows, token and place, width)
        alone = 0
        if self.earth is not None:
            x, alone = torch.cat([x, self.where().expand(x.shape[0], -1, -1)], dim=1), 1
        mask = None if looked_at is None else _only(looked_at, len(self.seen), alone, x)
        levels = []
        for number, block in enumerate(self.blocks, 1):
            x = block(x, mask)
            if number in self.taken:
                levels.append(_join(self._pool(x if number < len(self.blocks) else self.norm(x), alone, edges), layout))
        return levels

    def embed(self, image: torch.Tensor) -> torch.Tensor:
        """(batch, token, width, row, col): each group of each patch by itself."""
        scaled = image / 4 + 0.5  # from standard deviations to what Galileo calls 0 … 1
        made = []
        for token in self.seen:
            bands = self._ndvi(image, token) if token.group == NDVI else scaled[:, list(token.places)]
            kernels = self.space_embed if token.step is None else self.space_time_embed
            made.append(kernels[token.group](bands))
        return torch.stack(made, dim=1)

    def encodings(self) -> torch.Tensor:
        """(token, width): group, place in the series and month of each; 0 where the place on the ground will stand."""
        dated, lasting, still = list(DATED), list(LASTING), torch.zeros_like(self.pos_embed[0])
        rows = []
        for token in self.seen:
            if token.step is None or token.month is None:
                parts = [self.sp_channel_embed[lasting.index(token.group)], still, still]
            else:
                parts = [self.s_t_channel_embed[dated.index(token.group)], self.pos_embed[token.step], self.month_embed.weight[token.month]]
            rows.append(torch.cat([*parts, still]))
        return torch.stack(rows)

    def places(self, rows: int, cols: int) -> torch.Tensor:
        """(row, col, width): the place on the ground in the last quarter, columns before rows, as patches of 10 m pixels count them."""
        quarter, step = self.width // 4, self.patch * self.pixel_size_m / REFERENCE_M
        down, across = (_waves(step * torch.arange(count, device=self.pos_embed.device), quarter // 2) for count in (rows, cols))
        place = torch.cat([across[None].expand(down.shape[0], -1, -1), down[:, None].expand(-1, across.shape[0], -1)], dim=-1)
        return functional.pad(place, (self.width - quarter, 0))

    def where(self) -> torch.Tensor:
        """(1, 1, width): the token that tells the place on the globe."""
        told = functional.pad(self.st_channel_embed[list(_WITHOUT_TIME).index("location")], (0, self.width - self.width // 4))
        token: torch.Tensor = self.static_embed["location"](self.earth) + told
        return token[None, None]

    def _ndvi(self, image: torch.Tensor, token: BandToken) -> torch.Tensor:
        """(batch, 1, row, col) of the reflectances."""
        return normalised_difference(*(image[:, [place]] * self.stds[:, [place]] + self.means[:, [place]] for place in token.places))

    def _pool(self, x: torch.Tensor, alone: int, edges: Sequence[int]) -> torch.Tensor:
        """(window, row, col, width): the mean of a patch's tokens, and of the one that belongs to all patches."""
        own = x[:, : x.shape[1] - alone].reshape(x.shape[0], len(self.seen), edges[0], edges[1], self.width)
        total = own.sum(dim=1)
        if alone:
            total = total + x[:, -1, None, None]
        return total / (len(self.seen) + alone)

    def _leave_unused_as_they_are(self) -> None:
        """What no token passes through is not learned, so that a training in several processes waits for no gradient of it."""
        used = {token.group for token in self.seen} | ({"location"} if self.earth is not None else set())
        for kind in (self.space_time_embed, self.space_embed, self.time_embed, self.static_embed):
            for group, module in kind.items():
                module.requires_grad_(group in used)
        self.s_t_channel_embed.requires_grad_(bool(used & set(DATED)))
        self.sp_channel_embed.requires_grad_(bool(used & set(LASTING)))
        self.t_channel_embed.requires_grad_(False)
        self.st_channel_embed.requires_grad_("location" in used)


def build(roles: Sequence[str], *, pixel_size_m: float = REFERENCE_M, **options: Any) -> Galileo:
    """The backbone for bands of these roles; `options` are those of `Galileo`."""
    return Galileo(roles, pixel_size_m=pixel_size_m, **options)


def load(backbone: Galileo, state: Mapping[str, torch.Tensor], source: str) -> KeyReport:
    """Fill the network with an `encoder.pt` of the authors; PackageError where fewer than nine in ten tensors fit.

    Some of their files call a part `backbone`, which is left out of the names.
    """
    named = {".".join(part for part in name.split(".") if part != "backbone"): tensor for name, tensor in state.items()}
    return load_matching(backbone, named, source)


def place(state: Mapping[str, torch.Tensor], have: Sequence[str], wanted: Sequence[str], **_: Any) -> dict[str, torch.Tensor]:
    """The state as it is: groups have their own kernels, whether or not a scene has them."""
    return dict(state)


# ---------------------------------------------------------------- below: layers, and windows of patches


class _Kernels(nn.Module):
    """Patches of one group of bands to tokens; the weights are those of the largest patch."""

    resize: torch.Tensor | None

    def __init__(self, bands: int, width: int, patch: int) -> None:
        super().__init__()
        self.patch = patch
        self.proj = nn.Conv2d(bands, width, kernel_size=LARGEST_PATCH, stride=LARGEST_PATCH)
        self.register_buffer("resize", None if patch == LARGEST_PATCH else _resize(patch), persistent=False)

    def forward(self, bands: torch.Tensor) -> torch.Tensor:
        """(batch, width, row, col) of patches."""
        kernels = self.proj.weight
        if self.resize is not None:
            kernels = (kernels.flatten(2) @ self.resize).reshape(kernels.shape[0], kernels.shape[1], self.patch, self.patch)
        made: torch.Tensor = functional.conv2d(bands, kernels, self.proj.bias, stride=self.patch)
        return made


def _resize(patch: int) -> torch.Tensor:
    """(8 * 8, patch * patch): kernels that say of a patch what those of 8 x 8 say of it resized to 8 x 8, as nearly as can be."""
    pixels = LARGEST_PATCH**2
    basis = torch.eye(pixels, dtype=torch.float64).view(pixels, 1, LARGEST_PATCH, LARGEST_PATCH)
    shrunk = functional.interpolate(basis, (patch, patch), mode="bicubic", antialias=True).flatten(1)  # (8 * 8, patch * patch)
    kernels: torch.Tensor = torch.linalg.pinv(shrunk).T.float().contiguous()
    return kernels


class _Attention(nn.Module):
    """Attention of several heads with a matrix for each of query, key and value."""

    def __init__(self, size: VitSize) -> None:
        super().__init__()
        self.heads = size.heads
        self.q, self.k, self.v, self.proj = (nn.Linear(size.width, size.width) for _ in range(4))

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """(batch, token, width)."""
        shape = (x.shape[0], x.shape[1], self.heads, x.shape[2] // self.heads)
        q, k, v = (layer(x).reshape(shape).transpose(1, 2) for layer in (self.q, self.k, self.v))
        if mask is not None and torch.onnx.is_in_onnx_export():  # a graph holds what each token says of each other one
            several = zip(*(exported_parts(one) for one in (q, k, v, mask)), strict=True)
            made = torch.cat([functional.scaled_dot_product_attention(*part) for part in several])
        else:
            made = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        mixed: torch.Tensor = self.proj(made.transpose(1, 2).flatten(2))
        return mixed


class _Block(nn.Module):
    """Layer norm before attention, and before two layers of four times the width."""

    def __init__(self, size: VitSize) -> None:
        super().__init__()
        layers = require("timm.layers", extra="train")
        self.norm1, self.norm2 = nn.LayerNorm(size.width), nn.LayerNorm(size.width)
        self.attn = _Attention(size)
        self.mlp = layers.Mlp(size.width, 4 * size.width)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """(batch, token, width)."""
        x = x + self.attn(self.norm1(x), mask)
        fed: torch.Tensor = x + self.mlp(self.norm2(x))
        return fed


def _waves(at: torch.Tensor, width: int) -> torch.Tensor:
    """(place, width) sines, then cosines, of the places `at`. The authors' speeds fall by 10 000 over four times what is here."""
    speeds = 10_000.0 ** (-torch.arange(width // 2, dtype=torch.float32, device=at.device) / width / 2)
    angles = at[:, None].to(torch.float32) * speeds
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


def _cut(tokens: torch.Tensor, largest: int) -> tuple[torch.Tensor, torch.Tensor | None, tuple[int, ...]]:
    """(batch, window, token, row, col, width), as few windows as can be of one size; (window, row, col) of 1 where they have an image, else
    0, None where all of them have; and what `_join` has to know."""
    batch, count, features, rows, cols = tokens.shape
    down, across = (rows + largest - 1) // largest, (cols + largest - 1) // largest
    height, width = (rows + down - 1) // down, (cols + across - 1) // across
    more = (0, width * across - cols, 0, height * down - rows)
    windows = functional.pad(tokens, more).reshape(batch, count, features, down, height, across, width)
    windows = windows.permute(0, 3, 5, 1, 4, 6, 2).flatten(1, 2)
    has_image = None
    if torch.onnx.is_in_onnx_export() or more != (0, 0, 0, 0):  # an exported graph is for images of all sizes
        has_image = functional.pad(torch.ones_like(tokens[0, 0, 0]), more).reshape(down, height, across, width)
        has_image = has_image.transpose(1, 2).flatten(0, 1)
    return windows, has_image, (rows, cols, down, across)


def _join(windows: torch.Tensor, layout: tuple[int, ...]) -> torch.Tensor:
    """(batch, width, row, col) of windows (batch * window, row, col, width)."""
    rows, cols, down, across = layout
    height, width, features = windows.shape[1], windows.shape[2], windows.shape[3]
    image = windows.reshape(-1, down, across, height, width, features).permute(0, 5, 1, 3, 2, 4)
    return image.reshape(-1, features, down * height, across * width)[..., :rows, :cols]


def _only(has_image: torch.Tensor, tokens: int, alone: int, x: torch.Tensor) -> torch.Tensor:
    """(batch of windows, 1, 1, token and place), added to attention: -inf where there is no image."""
    own = has_image[:, None].expand(-1, tokens, -1, -1).flatten(1)  # (window, token and place)
    own = functional.pad(own, (0, alone), value=1.0)
    hidden = torch.zeros_like(own).masked_fill(own == 0, float("-inf"))
    return hidden.repeat(x.shape[0] // own.shape[0], 1)[:, None, None]
