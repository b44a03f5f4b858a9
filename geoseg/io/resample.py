"""From the pixels of one grid to the pixels of another: where each one lies, and what value it gets there.

Every target pixel is computed from its own place alone, so the result does not depend on the window that is asked for.
Places are (row, col) in source pixels, as floats: pixel 0 covers [0, 1) and has its centre at 0.5.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import ceil, hypot
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyproj
from affine import Affine
from numpy.typing import NDArray
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Method = Literal["nearest", "bilinear", "average"]
Floats = NDArray[np.float64]

_STEPS_PER_PIXEL = float(1 << 24)
"""Places are rounded to this fraction of a pixel (6e-8), so that centres on an edge between two source pixels all fall on one side
of it, not here and there by their last digit."""
_LATTICE_STEPS = float(1 << 20)
"""A target grid's origin is counted in its own pixels from the CRS's zero and rounded to this fraction (1e-6): then a pixel has the
very same coordinates in every window, although the windows' own origins differ by 1e-9 of a pixel or so."""
_SAME_PLACE = 1e-6
"""Grids whose pixels agree to this fraction of a pixel are the same grid."""
_TORN = 16
"""A target pixel whose corners lie this many times farther apart than usual is torn by an edge of the projection: not valid."""
_MOST_PIECES = 64
NOWHERE = -1e12
"""Stands for places that the projection cannot give; outside every raster."""


@dataclass(frozen=True)
class Placement:
    """Where the pixels of a target grid lie on a source grid."""

    source: GeoBox
    target: GeoBox

    def __post_init__(self) -> None:
        if self.source.crs is None or self.target.crs is None:
            raise ValueError("a grid without a CRS has no place on the ground")

    @cached_property
    def same_crs(self) -> bool:
        """Whether both grids have one CRS, however it is written."""
        return _same_crs(self.source.crs, self.target.crs)

    @cached_property
    def _affine(self) -> tuple[float, float, float, float, float, float]:
        a, b, c, d, e, f, *_ = ~self.source.affine @ self.target.affine
        return a, b, c, d, e, f

    @cached_property
    def _full_turn(self) -> float | None:
        """360 degrees of longitude in source columns; None where the source is not in degrees."""
        return abs(360.0 / self.source.affine.a) if _in_degrees(self.source.crs) and self.source.affine.a else None

    @cached_property
    def _lattice(self) -> tuple[Affine, float, float]:
        """The target's affine without its origin, and the origin's (row, col) on the lattice that it spans from the CRS's zero."""
        linear, origin = _without_origin(self.target.affine), self.target.affine
        back = ~linear
        row, col = back.d * origin.c + back.e * origin.f, back.a * origin.c + back.b * origin.f
        return linear, round(row * _LATTICE_STEPS) / _LATTICE_STEPS, round(col * _LATTICE_STEPS) / _LATTICE_STEPS

    @property
    def origin(self) -> tuple[float, float]:
        """(row, col) of the target's first pixel, counted from the CRS's zero: so counted, a pixel has one place in every window."""
        return self._lattice[1:]

    @cached_property
    def separable(self) -> bool:
        """Whether source rows depend on target rows alone, and columns on columns: one CRS, neither turned against the other."""
        _, b, _, d, _, _ = self._affine
        return self.same_crs and abs(b) * self.target.shape[0] < _SAME_PLACE and abs(d) * self.target.shape[1] < _SAME_PLACE

    @cached_property
    def shift(self) -> tuple[int, int] | None:
        """(row, col) of the target's first pixel on the source, where both are windows of one grid; else None."""
        a, _, col, _, e, row = self._affine
        rows, cols = self.target.shape
        far = max(abs(a - 1) * cols, abs(e - 1) * rows, abs(col - round(col)), abs(row - round(row)))
        if not self.separable or far >= _SAME_PLACE or np.any(self._beside_source(np.array([col, col + cols])) != [col, col + cols]):
            return None
        return round(row), round(col)

    @cached_property
    def coarseness(self) -> tuple[float, float]:
        """Size of a target pixel in source pixels, down and across; taken at the source's middle, so the same for all windows."""
        if self.separable:
            return abs(self._affine[4]), abs(self._affine[0])
        rows, cols = self.source.shape
        row, col = np.array([rows / 2]), np.array([cols / 2])
        back = Placement(self.target, self.source)
        at = back(row, col)
        if not all(np.all(place > NOWHERE) for place in at):
            return 1.0, 1.0
        r, c = self(at[0] + [0, 1, 0], at[1] + [0, 0, 1])
        # Rounded, so that the last digits, which differ between windows, never change how a pixel is cut.
        return round(hypot(r[1] - r[0], c[1] - c[0]), 6), round(hypot(r[2] - r[0], c[2] - c[0]), 6)

    def __call__(self, rows: Floats, cols: Floats) -> tuple[Floats, Floats]:
        """Source (row, col) of target places; `rows` and `cols` broadcast, and stay of shapes (n, 1) and (1, m) where separable."""
        linear, first_row, first_col = self._lattice
        rows, cols = rows + first_row, cols + first_col
        if self.separable:
            a, _, c, _, e, f, *_ = ~self.source.affine @ linear
            return _settled(e * rows + f), _settled(self._beside_source(a * cols + c))
        x, y = _apply(linear, rows, cols)
        if not self.same_crs:
            x, y = _transformer(self.target.crs, self.source.crs).transform(x, y)
        # Counted from the source's corner: on the way through zero a northing's seven digits would cost precision.
        with np.errstate(invalid="ignore"):  # places that the projection cannot give are infinite
            col, row = _apply(~_without_origin(self.source.affine), y - self.source.affine.f, x - self.source.affine.c)
        return _settled(row), _settled(self._beside_source(col))

    def _beside_source(self, col: Floats) -> Floats:
        """The same columns, in degrees moved by whole turns next to the source: -175 and 185 degrees are one meridian."""
        if self._full_turn is None:
            return col
        moved: Floats = col - self._full_turn * np.round((col - self.source.shape[1] / 2) / self._full_turn)
        return moved


def sample(
    values: Floats, valid: NDArray[np.bool_], row: Floats, col: Floats, method: Literal["nearest", "bilinear"]
) -> tuple[Floats, NDArray[np.bool_]]:
    """Values and validity of one band at places `row`, `col` of one shape; valid where the source pixel there is.

    `bilinear` weighs the four nearest centres and leaves out those that are not valid; beyond the edge the edge goes on.
    """
    height, width = values.shape
    here = valid[_index(row, height), _index(col, width)]
    if method == "nearest":
        return values[_index(row, height), _index(col, width)], here
    total, weight = np.zeros(row.shape), np.zeros(row.shape)
    top, left = np.floor(row - 0.5), np.floor(col - 0.5)
    down, across = row - 0.5 - top, col - 0.5 - left
    for i, row_weight in ((0, 1 - down), (1, down)):
        for j, col_weight in ((0, 1 - across), (1, across)):
            at = _index(top + i, height), _index(left + j, width)
            share = row_weight * col_weight * valid[at]
            total += share * values[at]
            weight += share
    return np.divide(total, weight, out=np.zeros_like(total), where=weight > 0), here


def cell_mean(
    values: Floats, valid: NDArray[np.bool_], row: Floats, col: Floats, size: tuple[float, float]
) -> tuple[Floats, NDArray[np.bool_]]:
    """Mean over each target pixel, from the places of its corners: `row` and `col` have one row and column more than the result.

    Each pixel, about `size` source pixels down and across, is cut into parts that take the source pixel under their middle.
    Valid where at least half of the parts are.
    """
    height, width = values.shape
    total, count = np.zeros((row.shape[0] - 1, row.shape[1] - 1)), np.zeros((row.shape[0] - 1, row.shape[1] - 1))
    whole = (_spread(row) <= _TORN * max(1.0, size[0])) & (_spread(col) <= _TORN * max(1.0, size[1]))
    parts = _pieces(size)
    for i in range(parts[0]):
        for j in range(parts[1]):
            part_row, part_col = (_inside(corner, (i + 0.5) / parts[0], (j + 0.5) / parts[1]) for corner in (row, col))
            at = _index(part_row, height), _index(part_col, width)
            known = valid[at] & inside(part_row, part_col, (height, width)) & whole
            total += np.where(known, values[at], 0)
            count += known
    return np.divide(total, count, out=np.zeros_like(total), where=count > 0), count >= parts[0] * parts[1] / 2


def blend(values: Floats, valid: NDArray[np.bool_], down: csr_array, across: csr_array) -> tuple[Floats, Floats]:
    """Weighted mean of one band, rows by `down` (target, source) and columns by `across`, and the weight that was valid."""
    total = (across @ (down @ np.where(valid, values, 0)).T).T
    weight = (across @ (down @ valid.astype(np.float64)).T).T
    return np.divide(total, weight, out=np.zeros_like(total), where=weight > 0), weight


def axis_weights(centres: Floats, size: int, method: Literal["bilinear", "average"], coarseness: float) -> csr_array:
    """Weights (target, source) along one axis of `size` source pixels, for target pixels with these centres.

    `average` weighs each source pixel by the part of the target pixel, `coarseness` source pixels long, that it covers.
    """
    from scipy.sparse import csr_array  # most scenes are read on their own grid, which needs no weights

    if method == "bilinear":
        first = np.floor(centres - 0.5)
        part = centres - 0.5 - first
        columns = np.stack([_index(first, size), _index(first + 1, size)], axis=1)
        weights = np.stack([1 - part, part], axis=1)
        return csr_array((weights.ravel(), columns.ravel(), np.arange(0, weights.size + 1, 2)), shape=(len(centres), size))
    low, high = _settled(centres - coarseness / 2), _settled(centres + coarseness / 2)
    columns = np.floor(low)[:, None] + np.arange(ceil(coarseness) + 1)
    shared = np.minimum(columns + 1, high[:, None]) - np.maximum(columns, low[:, None])
    weights = np.maximum(shared, 0) / coarseness
    row, place = np.nonzero((weights > 0) & (columns >= 0) & (columns < size))
    return csr_array((weights[row, place], (row, columns[row, place].astype(np.int64))), shape=(len(centres), size))


def inside(row: Floats, col: Floats, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Where places lie on a grid of this shape."""
    on_grid: NDArray[np.bool_] = (row >= 0) & (row < shape[0]) & (col >= 0) & (col < shape[1])
    return on_grid


def _pieces(coarseness: tuple[float, float]) -> tuple[int, int]:
    """In how many parts, down and across, a target pixel is cut: two for each source pixel, 64 at most."""
    down, across = (min(max(2, ceil(2 * size)), _MOST_PIECES) for size in coarseness)
    return down, across


def _inside(corner: Floats, down: float, across: float) -> Floats:
    """The place at shares `down` and `across` of each cell of a lattice of corners."""
    top = corner[:-1, :-1] * (1 - across) + corner[:-1, 1:] * across
    bottom = corner[1:, :-1] * (1 - across) + corner[1:, 1:] * across
    return _settled(top * (1 - down) + bottom * down)


def _spread(corner: Floats) -> Floats:
    corners = np.stack([corner[:-1, :-1], corner[:-1, 1:], corner[1:, :-1], corner[1:, 1:]])
    spread: Floats = np.ptp(corners, axis=0)
    return spread


def _apply(affine: Affine, rows: Floats, cols: Floats) -> tuple[Floats, Floats]:
    return affine.a * cols + affine.b * rows + affine.c, affine.d * cols + affine.e * rows + affine.f


def _without_origin(affine: Affine) -> Affine:
    return Affine(affine.a, affine.b, 0.0, affine.d, affine.e, 0.0)


def _index(place: NDArray[Any], size: int) -> NDArray[np.int64]:
    index: NDArray[np.int64] = np.clip(np.floor(place), 0, size - 1).astype(np.int64)
    return index


def _settled(place: Floats) -> Floats:
    rounded = np.round(place * _STEPS_PER_PIXEL) / _STEPS_PER_PIXEL
    return np.where(np.isfinite(rounded), rounded, NOWHERE)


def _in_degrees(crs: CRS | None) -> bool:
    return crs is not None and bool(crs.geographic)


@lru_cache(maxsize=256)
def _same_crs(one: CRS, other: CRS) -> bool:
    return one == other or bool(_horizontal(one).equals(_horizontal(other), ignore_axis_order=True))


@lru_cache(maxsize=64)
def _transformer(source: CRS, target: CRS) -> pyproj.Transformer:
    return pyproj.Transformer.from_crs(_horizontal(source), _horizontal(target), always_xy=True)


def _horizontal(crs: CRS) -> pyproj.CRS:
    """Where on the ground; a compound CRS also says what heights are referred to."""
    return crs.proj.sub_crs_list[0] if crs.proj.is_compound else crs.proj
