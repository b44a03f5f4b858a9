"""CrossEarth as its authors release it: half of the network in their file, the other half in DINOv2's.

CrossEarth (Gong et al., IEEE TPAMI 2025) is DINOv2 with Reins. What its authors publish (`Potsdam(i)-source.pth` and its like) holds what
they trained, `backbone.reins.*` and `decode_head.*`, and nothing of DINOv2 itself: loaded alone, it leaves a transformer with random
weights, and maps of noise. Here both halves are asked for, and every tensor of both is accounted for. Their decoder, a Mask2Former for the
classes of one benchmark, is not built here: its tensors are named among the unexpected ones.

CrossEarth-SAR has no Reins, and the layout of its files is not known to us: `load_crossearth` refuses what it does not know.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import nn

from geoseg.backbones.crossearth_sar import CrossEarthSar
from geoseg.backbones.dinov2 import load_dinov2
from geoseg.backbones.key_report import KeyReport, load_matching
from geoseg.backbones.reins import TOKENS, Reins
from geoseg.errors import PackageError

_PATCH, _GRID = 16, 32
"""Pixels along a patch, patches along an image of 512 pixels: what the authors stretch DINOv2's 14 and 37 to."""
_TRAINED = "backbone.reins."
_WHOLE = "backbone."


class CrossEarth(nn.Module):
    """DINOv2 with Reins: features of images (batch, 3, row, col), in ImageNet's normalisation, rows and columns in multiples of `patch`."""

    def __init__(
        self,
        *,
        size: str = "large",
        patch: int = _PATCH,
        grid: int = _GRID,
        depth: int | None = None,
        tokens: int = TOKENS,
    ) -> None:
        """`size`, `patch`, `grid` and `depth` as `CrossEarthSar` has them, `tokens` in each block's Reins; PackageError as there."""
        super().__init__()
        self.transformer = CrossEarthSar(3, size=size, patch=patch, grid=grid, depth=depth, experts=1)
        """With one expert it is dense: DINOv2."""
        self.reins = Reins(self.transformer.width, self.transformer.depth, tokens=tokens)

    def forward(self, image: torch.Tensor, taken: Sequence[int] | None = None) -> list[torch.Tensor]:
        """(batch, 1 + patch, width) after each of the blocks `taken`, counted from 0; None takes the ends of the four quarters.

        No norm stands behind them, as in the authors' code.
        """
        depth = self.transformer.depth
        wanted = {depth * quarter // 4 - 1 for quarter in range(1, 5)} - {-1} if taken is None else set(taken)
        tokens, features = self.transformer.tokens(image), []
        scales = tokens.new_zeros(len(image), 3)  # of which a router with one expert makes nothing
        for number, block in enumerate(self.transformer.blocks):
            tokens = self.reins(block(tokens, scales), number)
            if number in wanted:
                features.append(tokens)
        return features


def load_crossearth(
    network: CrossEarth, release: Mapping[str, torch.Tensor], dinov2: Mapping[str, torch.Tensor] | None, source: str
) -> tuple[KeyReport, KeyReport]:
    """Fill the network from the authors' release and from DINOv2's own weights; what became of the tensors of DINOv2, and of the release.

    `dinov2` may be None where the release was merged with them already (`backbone.blocks.*` beside `backbone.reins.*`). PackageError,
    and nothing is loaded, where either half is not there or not that of this network.
    """
    trained = {name.removeprefix(_TRAINED): tensor for name, tensor in release.items() if name.startswith(_TRAINED)}
    if not trained:
        raise PackageError(
            f"{source} holds no {_TRAINED}* and is no release of CrossEarth: it begins with {', '.join(list(release)[:3]) or 'nothing'}; "
            "give the authors' file (the layout of CrossEarth-SAR's files is not known)"
        )
    merged = {name: tensor for name, tensor in release.items() if name.startswith(_WHOLE) and not name.startswith(_TRAINED)}
    beside = {name: tensor for name, tensor in release.items() if not name.startswith(_WHOLE)}
    if dinov2 is None and not merged:
        raise PackageError(
            f"{source} holds what was trained beside DINOv2 (reins, decoder) and not DINOv2 itself, without which it makes noise; "
            "give DINOv2's weights, too"
        )
    reins = copy.deepcopy(network.reins)
    of_reins = load_matching(reins, trained | beside, source, least=1)
    of_dinov2 = load_dinov2(network.transformer, dinov2 or merged, source if dinov2 is None else "DINOv2")
    network.reins.load_state_dict(reins.state_dict())
    return of_dinov2, of_reins
