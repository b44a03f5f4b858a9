"""Published weights for other bands, grids and patches: kernels by role, positions and kernels stretched."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import torch
from torch.nn import functional

from geoseg.errors import PackageError
from geoseg.preprocess.series import split_role


def place_kernels(kernels: torch.Tensor, have: Sequence[str], wanted: Sequence[str]) -> torch.Tensor:
    """(width, channel, …) of `wanted` roles, from kernels (width, band, …) of the roles `have`.

    Those of the same role, bit for bit; zeros where there is none; a role that is wanted several times, as `red@05` and `red@06` of a
    series, has its kernel shared out.
    PackageError where the kernels are for another number of bands than `have` names.
    """
    if kernels.ndim < 2 or kernels.shape[1] != len(have):
        raise PackageError(
            f"the kernels that see the image are of shape {tuple(kernels.shape)}; expected them for {len(have)} bands ({', '.join(have)}): "
            "the file is of a network for other bands"
        )
    wanted = [split_role(name)[0] for name in wanted]
    times = Counter(wanted)
    nothing = torch.zeros_like(kernels[:, 0])
    return torch.stack([kernels[:, list(have).index(role)] / times[role] if role in have else nothing for role in wanted], dim=1)


def stretch_kernels(kernels: torch.Tensor, patch: int) -> torch.Tensor:
    """(width, band, patch, patch) from kernels of other square patches, bicubic; the same where they have that size."""
    if tuple(kernels.shape[-2:]) == (patch, patch):
        return kernels
    return functional.interpolate(kernels.float(), size=(patch, patch), mode="bicubic", align_corners=False)


def stretch_positions(positions: torch.Tensor, grid: tuple[int, int], *, kept: int = 1) -> torch.Tensor:
    """(1, kept + rows * cols, width) from positions of a square grid, bicubic; the first `kept`, as the class token's, stay as they are."""
    own, places = positions[:, :kept], positions[:, kept:]
    edge = math.isqrt(places.shape[1])
    if not torch.onnx.is_in_onnx_export() and grid == (edge, edge):
        return positions
    planes = places.transpose(1, 2).reshape(1, -1, edge, edge)
    stretched = functional.interpolate(planes, size=grid, mode="bicubic", align_corners=False)
    return torch.cat([own, stretched.flatten(2).transpose(1, 2)], dim=1)
