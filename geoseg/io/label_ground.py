"""Metres around labels: the same pixels whichever window they are read in.

How many metres a unit of a CRS is changes over a scene, and buffers of a polygon differ in the last percent with where it was cut.
Both therefore hang on a lattice of cells that belongs to the CRS, not on the window.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from geoseg.ground import horizontal, local_scale

_CELL_PIXELS = 1024
"""Edge of a cell, at least; cells are as many units of the CRS as the next power of two."""
_LARGEST, _LARGEST_DEGREES = 2.0**17, 1.0
"""Units of the CRS: cells beyond which one scale would not do, of metres or feet, and of degrees."""
_SHIFT = 0.1234567
"""Share of a cell by which the lattice is moved, so that its lines go through no pixel's centre."""
_NORTHMOST = 89.9
_QUARTER = 16
"""Edges that stand for a quarter of a circle: 0.1 % of its radius away from it."""


@dataclass(frozen=True, eq=False)
class Cell:
    """A piece of a grid on which one scale holds."""

    slices: tuple[slice, slice]
    """The rows and columns that it has pixels in."""
    mine: NDArray[np.bool_]
    """(row, col) of these: True where the pixel's centre lies in the cell."""
    ground: GeoBox
    """The cell itself, as one pixel."""
    scale: NDArray[np.float64]
    """(2,) metres on the ground of a unit of the CRS along x and along y."""


def cells(geobox: GeoBox) -> Iterator[Cell]:
    """The cells that a grid's pixels lie in; each pixel lies in one, the same in every window of the grid."""
    affine, degrees = geobox.affine, horizontal(geobox.crs).is_geographic
    edge = 2.0 ** math.ceil(math.log2(_CELL_PIXELS * math.sqrt(abs(affine.determinant))))
    edge = min(edge, _LARGEST_DEGREES if degrees else _LARGEST)
    col, row = np.arange(geobox.shape[1])[np.newaxis] + 0.5, np.arange(geobox.shape[0])[:, np.newaxis] + 0.5
    x = affine.a * col + affine.c + (affine.b * row if affine.b else 0.0)  # (1, col) where the grid is not rotated, else (row, col)
    y = affine.e * row + affine.f + (affine.d * col if affine.d else 0.0)
    across, up = (np.floor(places / edge - _SHIFT).astype(np.int64) for places in (x, y))
    for right in np.unique(across).tolist():
        for north in np.unique(up).tolist():
            mine = np.broadcast_to((across == right) & (up == north), geobox.shape.yx)
            if not mine.any():
                continue
            slices = _extent(mine, 1), _extent(mine, 0)
            left, top = (right + _SHIFT) * edge, (north + 1 + _SHIFT) * edge
            ground = GeoBox((1, 1), Affine(edge, 0, left, 0, -edge, top), geobox.crs)
            middle = np.array([[left + edge / 2, top - edge / 2]])
            if degrees:
                middle[:, 1] = middle[:, 1].clip(-_NORTHMOST, _NORTHMOST)
            yield Cell(slices, mine[slices], ground, local_scale(middle, geobox.crs)[0])


def grown(geobox: GeoBox, reach: NDArray[np.float64]) -> GeoBox:
    """What lies within `reach` (2,), in units of the CRS along x and y, of a grid, as one upright pixel."""
    left, bottom, right, top = geobox.boundingbox.bbox
    width, height = right - left + 2 * reach[0], top - bottom + 2 * reach[1]
    return GeoBox((1, 1), Affine(width, 0, left - reach[0], 0, -height, top + reach[1]), geobox.crs)


def buffered(geometries: NDArray[Any], metres: float, scale: NDArray[np.float64]) -> NDArray[Any]:
    """What lies within `metres` of the geometries, or of polygons what lies so far inside where they are negative; perhaps empty."""
    on_ground = shapely.buffer(shapely.transform(geometries, lambda xy: xy * scale), metres, quad_segs=_QUARTER)
    moved: NDArray[Any] = shapely.transform(on_ground, lambda xy: xy / scale)
    return moved


def _extent(mine: NDArray[np.bool_], across: int) -> slice:
    places = np.flatnonzero(np.any(mine, axis=across))
    return slice(int(places[0]), int(places[-1]) + 1)
