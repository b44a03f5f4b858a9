"""The one grid on which several maps meet: its CRS, its pixels, its extent, and where on it each map lies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from affine import Affine
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from pyproj.exceptions import CRSError

from geoseg.errors import InputError
from geoseg.ground import corners_to_map, horizontal, metres_to_crs, outline, pixel_size_m, world_width
from geoseg.io.geotiff import file_geobox
from geoseg.io.resample import Placement

_POINTS_PER_SIDE = 257
_SAME_SIZE = 0.01
"""Pixels whose sides differ by less than this share are of one size: the scale of a projection alone changes them by 0.1 %."""
_SLIVER = 1e-3
"""A map that reaches into a row or column of pixels by less than this share of a pixel does not make the grid larger."""
_LARGE_PIXELS = 1e9
_NEARLY_EMPTY = 1e-3
_MARGIN = 2.0
"""Pixels around a map's outline in which it may still be asked: its edges are curves, known at some points only."""


@dataclass(frozen=True)
class Extent:
    """Where a map lies on a grid, in the grid's pixels, counted from its upper left corner; may reach beyond it."""

    top: float
    bottom: float
    left: float
    right: float
    turn: float | None = None
    """Columns after which the same ground comes again; None where it never does."""

    def meets(self, rows: slice, cols: slice) -> bool:
        """Whether the map may have pixels in this window."""
        turns = (0.0,) if self.turn is None else (-self.turn, 0.0, self.turn)
        return (
            self.top - _MARGIN < rows.stop
            and self.bottom + _MARGIN > rows.start
            and any(self.left + by - _MARGIN < cols.stop and self.right + by + _MARGIN > cols.start for by in turns)
        )


def mosaic_grid(grids: Sequence[GeoBox], *, crs: str | None = None, resolution: float | None = None, like: str | None = None) -> GeoBox:
    """The grid that holds all these: in the CRS of most of them (of the larger ground where as many are in another).

    Pixels are as fine as the finest grid's and lie where those of the grids in that CRS lie, so that their pixels are taken
    over untouched; where these disagree, or a `resolution` (in units of the CRS) is asked for that none of them has, on
    whole multiples of the pixel size. `like` names a raster whose grid it shall be instead.

    Raises InputError where `crs` is none or does not reach over all grids, and where the grids lie so far apart that nearly
    nothing of a very large mosaic would be filled.
    """
    if like is not None:
        return file_geobox(like)
    target = _parsed(crs) if crs is not None else _common_crs(grids)
    linear = _lattice(grids, target, resolution)
    extents = side_by_side([extent_on(GeoBox((1, 1), linear, target), grid) for grid in grids], target)
    top, left = (int(np.floor(min(ends) + _SLIVER)) for ends in ([e.top for e in extents], [e.left for e in extents]))
    bottom, right = (int(np.ceil(max(ends) - _SLIVER)) for ends in ([e.bottom for e in extents], [e.right for e in extents]))
    shape = (max(1, bottom - top), max(1, right - left))
    _check_filled(shape, extents)
    return GeoBox(shape, linear @ Affine.translation(left, top), target)


def extent_on(target: GeoBox, grid: GeoBox) -> Extent:
    """Where `grid` lies on `target`; InputError where the target's CRS does not reach that far or a pole lies inside."""
    xy = outline(grid, _POINTS_PER_SIDE)
    width = world_width(target.crs)
    if not Placement(grid, target).same_crs:
        x, y = Transformer.from_crs(horizontal(grid.crs), horizontal(target.crs), always_xy=True).transform(*xy.T)
        if width is not None and np.isfinite(x).all():
            x = np.unwrap(x, period=width)
            if abs(x[-1] - x[0]) > width / 2:
                raise InputError(
                    f"a pole lies inside one of the maps, where {_name(target.crs)} has no place; give a polar --crs, such as EPSG:3413"
                )
        if not (np.isfinite(x).all() and np.isfinite(y).all()):
            raise InputError(
                f"one of the maps lies beyond what {_name(target.crs)} can describe; choose a --crs that reaches over all of them"
            )
        xy = np.column_stack([x, y])
    back = ~target.affine
    cols, rows = np.moveaxis(corners_to_map(back, *xy.T), -1, 0)
    turn = None if width is None else width / abs(target.affine.a)
    return Extent(float(rows.min()), float(rows.max()), float(cols.min()), float(cols.max()), turn)


def side_by_side(extents: Sequence[Extent], crs: CRS) -> list[Extent]:
    """The same, moved by whole turns around the world so that together they are as narrow as can be."""
    turn = extents[0].turn
    if turn is None:
        return list(extents)
    arrangements = [list(extents)]
    for seam in (0.0, turn / 2):
        by = [-turn * float(np.floor(((one.left + one.right) / 2 + turn / 2 - seam) / turn)) for one in extents]
        arrangements.append([Extent(e.top, e.bottom, e.left + d, e.right + d, turn) for e, d in zip(extents, by, strict=True)])
    narrowest = min(arrangements, key=lambda some: round(max(e.right for e in some) - min(e.left for e in some), 3))
    if narrowest is not arrangements[0] and not horizontal(crs).is_geographic:
        raise InputError(f"the maps lie on both sides of the antimeridian, where {_name(crs)} is cut; give a --crs that is not: a UTM zone")
    return narrowest


def _common_crs(grids: Sequence[GeoBox]) -> CRS:
    """The CRS of most grids; of the larger ground among equals, then by its name, so that no order of the grids matters."""
    groups: list[list[GeoBox]] = []
    for grid in grids:
        mine = next((group for group in groups if Placement(group[0], grid).same_crs), None)
        if mine is None:
            groups.append([grid])
        else:
            mine.append(grid)
    chosen = max(groups, key=lambda group: (len(group), sum(map(_ground_m2, group)), _name(group[0].crs)))
    assert chosen[0].crs is not None, "a map has a CRS"
    return chosen[0].crs


def _lattice(grids: Sequence[GeoBox], crs: CRS, resolution: float | None) -> Affine:
    """Size, direction and place of the pixels; the origin is one of their corners, anywhere."""
    there = [grid for grid in grids if Placement(GeoBox((1, 1), Affine.identity(), crs), grid).same_crs]
    if resolution is not None:
        there = [grid for grid in there if np.allclose(_sides(grid), resolution, rtol=1e-9)]
        sides = (resolution, resolution)
    else:
        finest = min(grids, key=lambda grid: float(np.prod(pixel_size_m(grid))))
        there = [grid for grid in there if np.allclose(pixel_size_m(grid), pixel_size_m(finest), rtol=_SAME_SIZE)]
        sides = _sides(there[0]) if there else _sides_in(crs, finest)
    if there and all(Placement(there[0], grid).shift is not None for grid in there):
        zero = ~there[0].affine  # counted from the CRS's zero, it does not matter which of them comes first
        return there[0].affine @ Affine.translation(round(zero.c), round(zero.f))
    return Affine.scale(sides[1], -sides[0])


def _sides_in(crs: CRS, grid: GeoBox) -> tuple[float, float]:
    """The pixel size of a grid in units of another CRS: the same number where both count in the same unit of length."""
    flat, other = horizontal(crs), horizontal(grid.crs)
    units = [axis.unit_conversion_factor for axis in (flat.axis_info[0], other.axis_info[0])]
    if units[0] == units[1] and flat.is_geographic == other.is_geographic:
        return _sides(grid)
    height, width = pixel_size_m(grid)
    middle = corners_to_map(grid.affine, *np.array([[grid.shape[1]], [grid.shape[0]]]) / 2)
    x, y = (float(at[0]) for at in Transformer.from_crs(other, flat, always_xy=True).transform(*middle.T))
    side = metres_to_crs((x, y, x, y), crs, float(np.sqrt(height * width)))
    rounded = float(f"{side:.3g}")
    return rounded, rounded


def _sides(grid: GeoBox) -> tuple[float, float]:
    """Pixel size (row direction, col direction) in units of the CRS."""
    a = grid.affine
    return float(np.hypot(a.b, a.e)), float(np.hypot(a.a, a.d))


def _ground_m2(grid: GeoBox) -> float:
    return float(np.prod(pixel_size_m(grid)) * np.prod(grid.shape))


def _check_filled(shape: tuple[int, int], extents: Sequence[Extent]) -> None:
    """Refuse to write days of nothing because one map lies at the other end of the world."""
    pixels, filled = float(shape[0]) * shape[1], sum((e.bottom - e.top) * (e.right - e.left) for e in extents)
    if pixels > _LARGE_PIXELS and filled < _NEARLY_EMPTY * pixels:
        raise InputError(
            f"the maps lie so far apart that they fill {100 * filled / pixels:.2g} % of the {shape[0]} x {shape[1]} pixels around them; "
            "leave out those that lie apart, or make several mosaics"
        )


def _parsed(text: str) -> CRS:
    try:
        return CRS(text)
    except CRSError as error:
        raise InputError(f"--crs {text!r} is no coordinate reference system; give a code such as EPSG:32633") from error


def _name(crs: CRS | None) -> str:
    return f"EPSG:{crs.epsg}" if crs is not None and crs.epsg else horizontal(crs).name
