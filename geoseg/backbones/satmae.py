"""SatMAE: a transformer that sees Sentinel-2 in three groups of bands, each with tokens of its own.

Cong et al., "SatMAE", NeurIPS 2022. The groups are colours with near infrared, red edges, and short-wave infrared. A token's place is
told by all numbers but the last 256, its group by these. Layout and figures are those of `models_mae_group_channels.py` in
github.com/sustainlab-group/SatMAE: `patch_embed.{0,1,2}.proj`, `channel_embed`, positions for 12 x 12 patches, which are stretched to
what comes, bicubic. A group of which no band is at hand has no tokens; features are the mean over groups, place by place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from geoseg.backbones.foreign_weights import Unseen, as_image, check_unseen, kernels_by_role, known_role, left_out, needed
from geoseg.backbones.kernels import stretch_positions
from geoseg.backbones.key_report import KeyReport, load_matching
from geoseg.backbones.vit import get_size, quarters
from geoseg.errors import PackageError, require

GROUPS = (("blue", "green", "red", "nir"), ("rededge071", "rededge075", "rededge078", "nir08"), ("swir16", "swir22"))
"""Bands that share tokens, in the order of the published kernels."""
_PATCH = 8
_EDGE = 12
"""Patches along an edge of the images of training, of 96 pixels."""
_GROUP_WIDTH = 256
"""Numbers of a token that tell its group."""
_DECODER = ("decoder_", "mask_token", "head.", "fc_norm.", "channel_cls_embed")


class SatMae(nn.Module):
    """The encoder as a `Backbone` for bands of these roles."""

    def __init__(self, roles: Sequence[str], *, size: str = "large", depth: int | None = None, unseen: str = "refuse") -> None:
        """A band of no group goes with the colours; `unseen` is what `load` does with it: "refuse", or begin with "zero".

        PackageError for an unknown size, or one whose tokens have no room for the groups.
        """
        super().__init__()
        sized = get_size(size, depth)
        if sized.width <= _GROUP_WIDTH:
            raise PackageError(
                f"tokens of {sized.width} numbers, of which SatMAE's groups take {_GROUP_WIDTH}; choose a larger size than {size}"
            )
        vision = require("timm.models.vision_transformer", extra="train")
        self.unseen: Unseen = check_unseen(unseen)
        self.groups = _groups(roles)
        """Number of a group → channels of its bands, and their roles."""
        self.patch_embed = nn.ModuleDict(
            {str(group): vision.PatchEmbed(None, _PATCH, len(own), sized.width, flatten=False) for group, own in self.groups.items()}
        )
        self.cls_token = nn.Parameter(torch.zeros(1, 1, sized.width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + _EDGE**2, sized.width - _GROUP_WIDTH), requires_grad=False)
        self.channel_embed = nn.Parameter(torch.zeros(1, len(GROUPS), _GROUP_WIDTH), requires_grad=False)
        norm = partial(nn.LayerNorm, eps=1e-6)
        self.blocks = nn.ModuleList(vision.Block(sized.width, sized.heads, qkv_bias=True, norm_layer=norm) for _ in range(sized.depth))
        self.norm = nn.LayerNorm(sized.width, eps=1e-6)
        self.taken = quarters(sized.depth)
        self.channels, self.strides = (sized.width,) * len(self.taken), (_PATCH,) * len(self.taken)

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        """(batch, width, row, col) of patches after each of the blocks `taken`, the last of them normed."""
        grid = image.shape[-2] // _PATCH, image.shape[-1] // _PATCH
        places = stretch_positions(self.pos_embed, grid)[:, 1:]  # (1, patch, width - 256)
        tokens = [self.cls_token.expand(image.shape[0], -1, -1)]
        for group, own in self.groups.items():
            patches = self.patch_embed[str(group)](image[:, list(own)]).flatten(2).transpose(1, 2)
            told = self.channel_embed[:, group : group + 1].expand(-1, patches.shape[1], -1)
            tokens.append(patches + torch.cat([places, told], dim=-1))
        made, levels = torch.cat(tokens, dim=1), []
        for number, block in enumerate(self.blocks, 1):
            made = block(made)
            if number in self.taken:
                level = self.norm(made) if number == len(self.blocks) else made
                levels.append(as_image(torch.stack(level[:, 1:].chunk(len(self.groups), dim=1)).mean(dim=0), grid))
        return levels


def build(roles: Sequence[str], **options: Any) -> SatMae:
    """The encoder for bands of these roles; `options` are those of `SatMae`."""
    return SatMae(roles, **options)


def load(backbone: SatMae, state: Mapping[str, torch.Tensor], source: str) -> KeyReport:
    """Fill the encoder with a published file's: kernels of the groups at hand, by role. The decoder is left out.

    PackageError for other weights, or bands that they never saw.
    """
    made, reshaped = left_out(state, (*_DECODER, "patch_embed.")), []
    for group, own in backbone.groups.items():
        known, bands, name = GROUPS[group], tuple(own.values()), f"patch_embed.{group}.proj"
        made[f"{name}.bias"] = needed(state, f"{name}.bias", source)
        kernels = needed(state, f"{name}.weight", source)
        made[f"{name}.weight"] = kernels_by_role(kernels, known, bands, unseen=backbone.unseen, source=source)
        reshaped += [f"{name}.weight"] if bands != known else []
    return load_matching(backbone, made, source, reshaped=reshaped)


def place(state: Mapping[str, torch.Tensor], have: Sequence[str], wanted: Sequence[str], **options: Any) -> dict[str, torch.Tensor]:
    """The encoder's own state for bands `have`, for bands `wanted`: kernels by role. PackageError for a group that it has not."""
    before, after = _groups(have), _groups(wanted)
    made, unseen = left_out(state, ("patch_embed.",)), check_unseen(options.get("unseen", "refuse"))
    for group, own in after.items():
        name = f"patch_embed.{group}.proj"
        kernels, known = needed(state, f"{name}.weight", "the encoder"), tuple(before[group].values())
        made[f"{name}.weight"] = kernels_by_role(kernels, known, tuple(own.values()), unseen=unseen, source="the encoder")
        made[f"{name}.bias"] = state[f"{name}.bias"]
    return made


def _groups(roles: Sequence[str]) -> dict[int, dict[int, str]]:
    """Number of a group → channel → role, for groups of which any band is there; a band of none goes to the first."""
    found: dict[int, dict[int, str]] = {group: {} for group in range(len(GROUPS))}
    for channel, role in enumerate(roles):
        seen_as = known_role(role, [band for bands in GROUPS for band in bands], roles)
        own = next((number for number, bands in enumerate(GROUPS) if seen_as in bands), 0)
        found[own][channel] = role
    return {group: own for group, own in found.items() if own}
