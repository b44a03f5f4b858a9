"""DOFA: one transformer for any bands, whose kernels a small network makes from their wavelengths; kept by torchgeo.

Xiong et al., "Neural Plasticity-Inspired Multimodal Foundation Model" (arXiv 2403.15356, 2024). Published files hold the names of
torchgeo's `DOFA` without its last norm and its head: features of the last level come as its last block makes them. Positions of 14 x 14
patches are stretched to what comes, bicubic. The order of bands is free: each kernel follows its wavelength.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from geoseg.backbones.foreign_weights import left_out, token_levels, wavelengths_um
from geoseg.backbones.kernels import stretch_positions
from geoseg.backbones.key_report import KeyReport, load_matching
from geoseg.backbones.vit import get_size, quarters
from geoseg.errors import require

WAVELENGTHS_UM = {
    "coastal": 0.44, "blue": 0.49, "green": 0.56, "red": 0.665, "rededge071": 0.705, "rededge075": 0.74, "rededge078": 0.783,
    "nir": 0.832, "nir08": 0.864, "nir09": 0.945, "cirrus": 1.373, "swir16": 1.61, "swir22": 2.20, "lwir11": 10.9, "lwir12": 12.0,
    "vv": 3.75, "vh": 3.75, "hh": 3.75, "hv": 3.75,
}  # fmt: skip
"""Those of github.com/IBM/terratorch; radar's, which stands for "radar" and no wavelength, is that of torchgeo 0.10 and the authors."""
_ABSENT = ("norm.", "fc_norm.", "head.")


class Dofa(nn.Module):
    """torchgeo's network as a `Backbone` for bands of these roles."""

    def __init__(
        self,
        roles: Sequence[str],
        *,
        size: str = "base",
        patch: int = 16,
        depth: int | None = None,
        wavelengths: Mapping[str, float] | None = None,
    ) -> None:
        """`size` is a name of `geoseg.backbones.vit.SIZES`; `wavelengths` are micrometres by role, for bands that differ from the usual.

        PackageError for an unknown size, or a band without a wavelength.
        """
        super().__init__()
        sized = get_size(size, depth)
        self.wavelengths = wavelengths_um(roles, WAVELENGTHS_UM, wavelengths or {})
        self.network = require("torchgeo.models", extra="train").DOFA(
            patch_size=patch, embed_dim=sized.width, depth=sized.depth, num_heads=sized.heads, num_classes=0, global_pool=False
        )
        self.network.norm = nn.Identity()
        self.patch, self.taken = patch, quarters(sized.depth)
        self.channels, self.strides = (sized.width,) * len(self.taken), (patch,) * len(self.taken)

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        """(batch, width, row, col) of patches after each of the blocks `taken`."""
        network, grid = self.network, (image.shape[-2] // self.patch, image.shape[-1] // self.patch)
        patches, _ = network.patch_embed(image, torch.tensor(self.wavelengths, dtype=torch.float32, device=image.device))
        tokens = torch.cat([network.cls_token.expand(image.shape[0], -1, -1), patches], dim=1) + stretch_positions(network.pos_embed, grid)
        return token_levels(tokens, network.blocks, taken=self.taken, norm=network.norm, grid=grid)


def build(roles: Sequence[str], **options: Any) -> Dofa:
    """The network for bands of these roles; `options` are those of `Dofa`."""
    return Dofa(roles, **options)


def load(backbone: Dofa, state: Mapping[str, torch.Tensor], source: str) -> KeyReport:
    """Fill the network with a published file; nothing in it depends on the bands. PackageError for other weights."""
    return load_matching(backbone.network, left_out(state, _ABSENT), source)


def place(state: Mapping[str, torch.Tensor], have: Sequence[str], wanted: Sequence[str], **options: Any) -> dict[str, torch.Tensor]:
    """The network's own state: the same for all bands."""
    return dict(state)
