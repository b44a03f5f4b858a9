"""Polygons of a class map with its buildings squared: none overlaps another, and the other classes follow where a wall moved."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from geoseg.ground import corners_to_map, local_scale
from geoseg.polygons.squares import square_outline
from geoseg.polygons.trace import Outlines

_DECIMALS = 9
"""Of a pixel: a corner that squaring left in its place is the same number as before."""
_NO_AREA = 1e-6
"""Pixels: smaller areas are rounding, not ground."""
_SWALLOWED = 0.5
"""A building that takes this share of a neighbour's ground has covered it, not moved a wall."""


@dataclass(frozen=True)
class _Moved:
    """A building that could be squared."""

    shape: shapely.Polygon
    by: float
    """Mean distance from the traced outline, in pixels."""


@dataclass(frozen=True)
class _Coverage:
    """All polygons of a map before any is squared."""

    polygons: NDArray[Any]
    outlines: Outlines
    buildings: NDArray[np.bool_]
    """(polygon,)"""
    beside: NDArray[np.int64]
    """(vertex,) the polygon across the line from each vertex of a ring to the next; -1 where there is none, and at a ring's end."""
    transform: Affine
    no_area: float
    """In square units of the CRS."""


def square_buildings(
    polygons: NDArray[Any], outlines: Outlines, buildings: NDArray[np.bool_], geobox: GeoBox
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """(polygon,) the polygons with buildings squared where that is allowed, and which of them are squared.

    `polygons` are those of `outlines`, traced with nodes, as they are or simplified together; `buildings` says which of them
    to square. A squared building that would overlap another building, squared or not, or swallow a neighbour of another
    class, is left as it was: of two the one that moved further, of equal ones the later. What squared
    buildings gain is cut from the other classes, and what they leave goes to the neighbour there. Between buildings that
    share a wall a gap may be left where one of them moved away, and ground beside a building that has no class may be covered.
    """
    moved = _square(outlines, np.flatnonzero(buildings), geobox)
    no_area = _NO_AREA * abs(geobox.affine.determinant)
    before = _Coverage(polygons, outlines, buildings, _neighbours(outlines, geobox), geobox.affine, no_area)
    while True:
        _revert_overlaps(moved, before)
        followed = _follow(moved, before)
        swallowed = [other for other, shape in followed.items() if shape.area < _SWALLOWED * polygons[other].area]
        if not swallowed:
            break
        lost = shapely.union_all(polygons[swallowed])
        for building in [one for one, what in moved.items() if what.shape.intersects(lost)]:
            del moved[building]
    shapes, squared = polygons.copy(), np.zeros(len(polygons), dtype=bool)
    for other, shape in followed.items():
        shapes[other] = shape
    for building, what in moved.items():
        shapes[building], squared[building] = what.shape, True
    return shapes, squared


def _square(outlines: Outlines, which: NDArray[np.int64], geobox: GeoBox) -> dict[int, _Moved]:
    """Each of these polygons that can be squared."""
    if not len(which):
        return {}
    linear = np.array([[geobox.affine.a, geobox.affine.b], [geobox.affine.d, geobox.affine.e]])
    first = outlines.ring_offsets[outlines.polygon_offsets[which]]
    places = corners_to_map(geobox.affine, outlines.col[first].astype(np.float64), outlines.row[first].astype(np.float64))
    moved = {}
    for polygon, scale in zip(which.tolist(), local_scale(places, geobox.crs), strict=True):
        if not np.isfinite(scale).all():
            continue
        # To a millionth, so that a pixel that is square in its CRS is square here whatever its place there.
        to_ground = np.round(linear * scale[:, np.newaxis] / np.abs(linear * scale[:, np.newaxis]).max(), 6)
        done = square_outline(list(_rings(outlines, polygon)), to_ground)
        if done is not None:
            shape = shapely.Polygon(*_placed(done.rings, geobox.affine))
            if shape.is_valid:
                moved[polygon] = _Moved(shape, done.moved)
    return moved


def _placed(rings: Iterable[NDArray[np.float64]], transform: Affine) -> tuple[NDArray[np.float64], list[NDArray[np.float64]]]:
    shell, *holes = (corners_to_map(transform, *np.round(ring, _DECIMALS).T) for ring in rings)
    return shell, holes


def _rings(outlines: Outlines, polygon: int) -> Iterable[NDArray[np.int32]]:
    """(corner, 2) col and row of each ring of a polygon."""
    for ring in range(outlines.polygon_offsets[polygon], outlines.polygon_offsets[polygon + 1]):
        part = slice(outlines.ring_offsets[ring], outlines.ring_offsets[ring + 1])
        yield np.column_stack([outlines.col[part], outlines.row[part]])


def _revert_overlaps(moved: dict[int, _Moved], before: _Coverage) -> None:
    """Take out of `moved` what overlaps another building, until nothing does."""
    which = np.flatnonzero(before.buildings)
    while moved:
        shapes = np.array([moved[one].shape if one in moved else before.polygons[one] for one in which.tolist()], dtype=object)
        pairs = shapely.STRtree(shapes).query(shapes, predicate="intersects")
        pairs = pairs[:, pairs[0] < pairs[1]]
        overlap = shapely.area(shapely.intersection(shapes[pairs[0]], shapes[pairs[1]])) > before.no_area
        clashes = [tuple(which[pair].tolist()) for pair in pairs.T[overlap] if which[pair[0]] in moved or which[pair[1]] in moved]
        if not clashes:
            return
        for clash in clashes:
            there = [one for one in clash if one in moved]
            if there:
                del moved[max(there, key=lambda one: (round(moved[one].by, 6), one))]


def _neighbours(outlines: Outlines, geobox: GeoBox) -> NDArray[np.int64]:
    """(vertex,) the polygon across the line from each vertex of a ring to the next; -1 where there is none, and at a ring's end.

    Every piece of a border is in two rings, once in each direction, or has nothing on its other side.
    """
    corner = outlines.row.astype(np.int64) * (geobox.shape[1] + 1) + outlines.col
    of_rings = np.repeat(np.arange(len(outlines.polygon_offsets) - 1), np.diff(outlines.polygon_offsets))
    polygon = np.repeat(of_rings, np.diff(outlines.ring_offsets))
    begins = np.ones(len(corner), dtype=bool)
    begins[outlines.ring_offsets[1:] - 1] = False
    start = np.flatnonzero(begins)
    down, right = np.sign(outlines.row[start + 1] - outlines.row[start]), np.sign(outlines.col[start + 1] - outlines.col[start])
    forth = corner[start] * 9 + 3 * (down + 1) + right + 1
    back = corner[start + 1] * 9 + 3 * (1 - down) + 1 - right
    order = np.argsort(forth)
    place = np.minimum(np.searchsorted(forth[order], back), len(order) - 1)
    found = forth[order][place] == back
    beside = np.full(len(corner), -1, dtype=np.int64)
    beside[start] = np.where(found, polygon[start[order[place]]], -1)
    return beside


def _follow(moved: dict[int, _Moved], before: _Coverage) -> dict[int, Any]:
    """The polygons of other classes beside squared buildings, after what these gained and left."""
    squared = np.array(sorted(moved), dtype=np.int64)
    shapes = np.array([moved[one].shape for one in squared.tolist()], dtype=object)
    others = np.flatnonzero(~before.buildings)
    cuts, gains = defaultdict(list), defaultdict(list)
    tree = shapely.STRtree(before.polygons[others])
    for mine, other in tree.query(shapes).T if len(shapes) else ():
        cuts[int(others[other])].append(shapes[mine])
    for one, shape in zip(squared.tolist(), shapes, strict=True):
        for gap, other in _gaps(one, shape, before):
            if not before.buildings[other]:
                gains[other].append(gap)
    followed = {}
    for other in sorted({*cuts, *gains}):
        whole = shapely.union_all([before.polygons[other], *gains[other]]) if gains[other] else before.polygons[other]
        left = shapely.get_parts(shapely.difference(whole, shapely.union_all(cuts[other])))
        left = shapely.orient_polygons(left[shapely.area(left) > before.no_area])
        followed[other] = shapely.Polygon() if not len(left) else left[0] if len(left) == 1 else shapely.MultiPolygon(left.tolist())
    return followed


def _gaps(building: int, squared: shapely.Polygon, before: _Coverage) -> Iterable[tuple[Any, int]]:
    """The ground that a squared building left, piece by piece, each with the polygon on whose side it lies."""
    outlines = before.outlines
    first, last = outlines.ring_offsets[outlines.polygon_offsets[building : building + 2]]
    sides = first + np.flatnonzero(before.beside[first:last] >= 0)
    pieces = shapely.get_parts(shapely.difference(before.polygons[building], squared))
    pieces = pieces[shapely.area(pieces) > 0]
    if not len(sides) or not len(pieces):
        return []
    ends = [corners_to_map(before.transform, outlines.col[place], outlines.row[place]) for place in (sides, sides + 1)]
    lines = np.asarray(shapely.linestrings(np.stack(ends, axis=1)), dtype=object)
    nearest = shapely.STRtree(lines).nearest(shapely.point_on_surface(pieces))
    return zip(pieces, before.beside[sides[nearest]].tolist(), strict=True)
