"""One grid for scenes of several grids, and where each lies on it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import ceil, floor, hypot, isqrt
from typing import Any

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import CRS, Transformer
from pyproj.exceptions import CRSError

from geoseg.errors import InputError, SceneError
from geoseg.ground import horizontal, outline, pixel_size_m
from geoseg.io.opening import file_geobox
from geoseg.scene import crs_name

_NEARLY = 1e-3
"""A grid that reaches this part of a pixel beyond another's edge does not reach beyond it."""
_BLOCK = 512
_LARGEST_SIDE = 1 << 20

Box = tuple[int, int, int, int]
"""First row, first column, end row, end column."""


def common_grid(
    grids: Sequence[GeoBox], names: Sequence[str], *, like: str | None = None, crs: str | None = None, resolution: float | None = None
) -> GeoBox:
    """The first grid, made to reach over the ground of all; `like` a file's grid, `crs` and `resolution` (CRS units) another one.

    Pixel edges stay those of the first grid, or lie on multiples of the pixel size where there is another CRS or pixel size.
    SceneError where a grid lies apart from all others, and where none lies on `like`.
    """
    if like is not None:
        if crs is not None or resolution is not None:
            raise InputError("--like already states the grid; leave --crs and --resolution out")
        grid = file_geobox(like)
        if not any(touches(one, grid) for one in grids):
            raise SceneError(f"none of the scenes lies on the grid of {like}; give a raster of the same ground")
        return grid
    base = _base(grids[0], crs, resolution)
    boxes = [pixel_box(grid, base) for grid in grids]
    _check_together(boxes, names, base)
    top, left = min(box[0] for box in boxes), min(box[1] for box in boxes)
    shape = (max(box[2] for box in boxes) - top, max(box[3] for box in boxes) - left)
    if max(shape) > _LARGEST_SIDE:
        raise InputError(f"the scenes reach over {shape[0]} x {shape[1]} pixels of {crs_name(base.crs)}; choose a larger --resolution")
    return GeoBox(shape, base.affine @ Affine.translation(left, top), base.crs)


def pixel_box(grid: GeoBox, base: GeoBox) -> Box:
    """The pixels of `base`, counted on beyond its edges, that `grid` touches. SceneError where its CRS cannot describe the place."""
    edge = outline(grid)
    if grid.crs != base.crs:
        to_base = Transformer.from_crs(horizontal(grid.crs), horizontal(base.crs), always_xy=True)
        edge = np.column_stack(to_base.transform(*edge.T))
    if not np.isfinite(edge).all():
        raise SceneError(f"{crs_name(base.crs)} cannot describe the ground of all scenes; choose another with --crs")
    back = ~base.affine
    col, row = back.a * edge[:, 0] + back.b * edge[:, 1] + back.c, back.d * edge[:, 0] + back.e * edge[:, 1] + back.f
    first, end = ([floor(place.min() + _NEARLY) for place in (row, col)], [ceil(place.max() - _NEARLY) for place in (row, col)])
    return first[0], first[1], end[0], end[1]


def touches(grid: GeoBox, window: GeoBox) -> bool:
    """Whether some ground of `grid` may lie inside `window`."""
    return _meet(pixel_box(grid, window), (0, 0, window.shape[0], window.shape[1]))


def lay_blocks(shape: tuple[int, int], planes: int, budget: int) -> Iterator[tuple[slice, slice]]:
    """Windows that cover (row, col), each a multiple of 512 pixels on a side, from the top left.

    Larger ones where `planes` numbers of 4 bytes for each pixel stay below `budget` bytes: files in large blocks are then read once.
    """
    side = max(_BLOCK, min(4 * _BLOCK, isqrt(budget // (4 * max(planes, 1)))) // _BLOCK * _BLOCK)
    for top in range(0, shape[0], side):
        for left in range(0, shape[1], side):
            yield slice(top, min(top + side, shape[0])), slice(left, min(left + side, shape[1]))


def lay_strips(shape: tuple[int, int], planes: int, budget: int) -> Iterator[slice]:
    """Rows of a window, cut so that `planes` numbers of 4 bytes for each pixel stay below `budget` bytes."""
    height = max(1, budget // (4 * max(planes, 1) * shape[1]))
    cuts = [*range(0, shape[0], height), shape[0]]
    return (slice(top, stop) for top, stop in pairwise(cuts))


def reach_in_pixels(metres: float, window: GeoBox, whole: GeoBox) -> tuple[float, float]:
    """A ground distance in pixels of `window`, (row direction, col direction): as in the middle of `whole`, so alike in all windows."""
    if metres == 0:
        return 0.0, 0.0
    middle = outline(whole).mean(axis=0)
    if window.crs != whole.crs:
        middle = np.array(Transformer.from_crs(horizontal(whole.crs), horizontal(window.crs), always_xy=True).transform(*middle))
    a = window.affine
    there = GeoBox((1, 1), Affine(a.a, a.b, middle[0], a.d, a.e, middle[1]), window.crs)
    height, width = pixel_size_m(there)
    return round(metres / height, 6), round(metres / width, 6)


def _base(grid: GeoBox, crs: str | None, resolution: float | None) -> GeoBox:
    """The grid whose pixels all share."""
    if crs is not None:
        try:
            target = CRS.from_user_input(crs)
        except CRSError as error:
            raise InputError(f"--crs {crs!r} is no coordinate reference system; give a code such as EPSG:32633") from error
        moved = grid.to_crs(target)
    else:
        moved = grid
    if resolution is None:
        return moved
    height, width = (hypot(moved.affine.b, moved.affine.e), hypot(moved.affine.a, moved.affine.d))
    if not 0 < resolution <= 2 * max(height * moved.shape[0], width * moved.shape[1]):
        raise InputError(
            f"--resolution is {resolution:g}; expected a pixel size in units of the map's CRS, above 0 and below the scene's size"
        )
    size: Any = resolution  # odc-geo's types leave numbers out
    return GeoBox.from_bbox(moved.boundingbox, resolution=size, tight=False)


def _meet(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _check_together(boxes: Sequence[Box], names: Sequence[str], base: GeoBox) -> None:
    """Raise SceneError where the scenes form two groups that do not overlap."""
    near, far = {0}, set(range(1, len(boxes)))
    while joined := {at for at in far if any(_meet(boxes[at], boxes[other]) for other in near)}:
        near, far = near | joined, far - joined
    if far:
        at = min(far)
        gap = max(boxes[at][0] - boxes[0][2], boxes[0][0] - boxes[at][2], boxes[at][1] - boxes[0][3], boxes[0][1] - boxes[at][3], 0)
        km = gap * min(pixel_size_m(base)) / 1000
        raise SceneError(
            f"{names[at]} does not overlap {names[0]} (about {km:.0f} km between them); give scenes of one place, or --like a grid"
        )
