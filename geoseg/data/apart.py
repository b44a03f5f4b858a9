"""That no ground is in two parts: looked up in the masks themselves, whatever made them, also where scenes overlap in other projections."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.enums import Resampling
from rasterio.warp import reproject
from scipy.ndimage import maximum_filter, minimum_filter

from geoseg.data.splits import PARTS, Part
from geoseg.errors import LabelError
from geoseg.ground import horizontal, pixel_size_m

_SLACK = 1.5
"""Pixels by which the distance of two scenes may be short, since their grids do not meet: half a diagonal on either side."""


def check_apart(geoboxes: Sequence[GeoBox], masks: Mapping[Part, Sequence[NDArray[np.bool_]]], *, guard: int, names: Sequence[str]) -> None:
    """LabelError where ground of two parts is nearer than the gap; `names` are those of the scenes.

    `masks` are the parts' ground, (row, col) on each scene's grid. Within a scene the gap is `guard` pixels along rows and columns;
    between two it is as many metres as the smaller pixels make, less `_SLACK` pixels.
    """
    planes = [_numbered(masks, scene, names[scene]) for scene in range(len(geoboxes))]
    for one, grid in enumerate(geoboxes):
        _check(planes[one], planes[one], guard, (names[one], names[one]), grid)
        for other in range(one):
            gap_m = guard * min(_edge_m(grid), _edge_m(geoboxes[other]))
            reach = max(math.floor(gap_m / _edge_m(grid) - _SLACK), -1)
            around = max(reach, 0)
            moved = _on_grid(planes[other], geoboxes[other], grid.pad(around))
            if moved is not None:
                _check(np.pad(planes[one], around), moved, reach, (names[one], names[other]), grid)


def _numbered(masks: Mapping[Part, Sequence[NDArray[np.bool_]]], scene: int, name: str) -> NDArray[np.uint8]:
    """(row, col) place of each pixel's part in PARTS, counted from 1; 0 is in none."""
    plane = np.zeros(masks[PARTS[0]][scene].shape, dtype=np.uint8)
    for number, part in enumerate(PARTS, start=1):
        mask = masks[part][scene]
        if plane[mask].any():
            raise LabelError(f"ground of {name} is in two parts, one of them {part}; each pixel may be in one")
        plane[mask] = number
    return plane


def _check(plane: NDArray[np.uint8], other: NDArray[np.uint8], reach: int, names: tuple[str, str], grid: GeoBox) -> None:
    """Raise where a part of `plane` comes within `reach` pixels of another part of `other`; -1 is a pixel inside of it."""
    for number, part in enumerate(PARTS, start=1):
        strange = ((other != 0) & (other != number)).view(np.uint8)
        if not strange.any():
            continue
        near = maximum_filter(strange, 2 * reach + 1, mode="constant") if reach >= 0 else minimum_filter(strange, 3, mode="constant")
        shared = int((near.view(np.bool_) & (plane == number)).sum())
        if shared:
            where = f"{names[0]} and {names[1]}" if names[0] != names[1] else names[0]
            km2, gap_m = shared * _edge_m(grid) ** 2 / 1e6, max(reach + 1, 1) * _edge_m(grid)
            raise LabelError(
                f"{km2:.3g} km² of {part} ground of {where} lie nearer than {gap_m:.3g} m to ground of another part, "
                "so the network would be judged on what it has all but seen; share the ground out again"
            )


def _on_grid(plane: NDArray[np.uint8], source: GeoBox, target: GeoBox) -> NDArray[np.uint8] | None:
    """The plane on another grid, each pixel what lies at its middle; None where the two have no ground in common."""
    if not _bounds(source).intersects(_bounds(target)):
        return None
    moved = np.zeros(target.shape, dtype=np.uint8)
    reproject(
        plane,
        moved,
        src_transform=source.affine,
        src_crs=str(horizontal(source.crs)),
        dst_transform=target.affine,
        dst_crs=str(horizontal(target.crs)),
        resampling=Resampling.nearest,
    )
    return moved if moved.any() else None


def _bounds(grid: GeoBox) -> shapely.Polygon:
    """Around a grid, in degrees."""
    move = pyproj.Transformer.from_crs(horizontal(grid.crs), 4326, always_xy=True)
    return shapely.box(*move.transform_bounds(*grid.boundingbox.bbox))


def _edge_m(grid: GeoBox) -> float:
    return math.sqrt(math.prod(pixel_size_m(grid)))
