"""The windows that a network sees of a scene: where they lie, how much each counts, and in which order they come."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import InputError


@dataclass(frozen=True)
class Panel:
    """Columns of the grid that are mapped from top to bottom before the next ones: all of them, where the grid is not very wide."""

    cols: slice
    """Pixel columns; they begin where a tile does."""
    tile_cols: range
    """The columns of tiles that reach into them."""

    def coarser(self, step: int) -> Panel:
        """The same columns, counted in squares of `step` pixels."""
        return Panel(slice(self.cols.start // step, -(-self.cols.stop // step)), self.tile_cols)


@dataclass(frozen=True)
class Strip:
    """Pixels that are finished and written together: of one panel those to which a row of tiles is the last to add."""

    number: int
    """Place among all strips of the grid, panel by panel, each from the top."""
    panel: Panel
    tile_row: int
    rows: slice
    """Pixel rows."""

    @property
    def shape(self) -> tuple[int, int]:
        """(row, col)"""
        return self.rows.stop - self.rows.start, self.panel.cols.stop - self.panel.cols.start

    @property
    def pixels(self) -> int:
        """How many pixels it has."""
        return self.shape[0] * self.shape[1]


@dataclass(frozen=True)
class TilePlan:
    """Square tiles that cover a grid, in rows of tiles from the top, each row from the left.

    Origins are counted from the grid's own pixel (0, 0) and are multiples of the network's stride, because a shifted
    pooling phase changes the map. The last tile of a row or column moves inside the grid as far as that allows; what
    still reaches beyond the edge is padded and never valid.
    """

    shape: tuple[int, int]
    """(row, col) of the grid."""
    tile: int
    """Edge length of a tile in pixels."""
    row_origins: tuple[int, ...]
    """First pixel row of each row of tiles, increasing."""
    col_origins: tuple[int, ...]
    """First pixel column of each column of tiles, increasing."""
    overlap: int
    """Pixels over which neighbouring tiles are blended into each other; the last ones may share more."""
    widest_panel: int | None = None
    """Pixel columns of the widest panel (two tiles at least); None maps the whole width at once."""

    def __len__(self) -> int:
        return len(self.row_origins) * len(self.col_origins)

    def coarser(self, step: int) -> TilePlan:
        """The same tiles over the same ground, counted in squares of `step` pixels; the network's stride is a multiple of it."""
        if step == 1:
            return self
        rows, cols = (tuple(origin // step for origin in origins) for origins in (self.row_origins, self.col_origins))
        return TilePlan((-(-self.shape[0] // step), -(-self.shape[1] // step)), self.tile // step, rows, cols, self.overlap // step)

    def row_weights(self, tile_row: int) -> NDArray[np.float32]:
        """(tile,) share of this row of tiles in each of its pixel rows; 0 beyond the edge."""
        return _weights(self.row_origins, tile_row, self.tile, self.overlap, self.shape[0])

    def col_weights(self, tile_col: int) -> NDArray[np.float32]:
        """(tile,) share of this column of tiles in each of its pixel columns; 0 beyond the edge."""
        return _weights(self.col_origins, tile_col, self.tile, self.overlap, self.shape[1])

    def finished_rows(self, tile_row: int) -> slice:
        """The pixel rows that no later row of tiles touches, of those that this row is the last to add to."""
        start = self.row_origins[tile_row]
        last = tile_row + 1 == len(self.row_origins)
        return slice(start, self.shape[0] if last else self.row_origins[tile_row + 1])

    @cached_property
    def panels(self) -> tuple[Panel, ...]:
        """The grid cut into panels from the left; tiles that reach over a cut are computed for both sides."""
        edges = [0]
        for tile_col, origin in enumerate(self.col_origins[1:], 1):
            end = self.shape[1] if tile_col + 1 == len(self.col_origins) else self.col_origins[tile_col + 1]
            if self.widest_panel is not None and end - edges[-1] > max(self.widest_panel, 2 * self.tile):
                edges.append(origin)
        edges.append(self.shape[1])
        return tuple(Panel(slice(first, stop), self._reaching(first, stop)) for first, stop in pairwise(edges))

    @cached_property
    def strips(self) -> tuple[Strip, ...]:
        """The whole grid, each pixel in one strip."""
        rows = range(len(self.row_origins))
        return tuple(
            Strip(which * len(rows) + row, panel, row, self.finished_rows(row)) for which, panel in enumerate(self.panels) for row in rows
        )

    def rows_reaching(self, tile_row: int) -> range:
        """The rows of tiles that add to the pixel rows which this one finishes, itself the last."""
        first = self.row_origins[tile_row]
        return range(next(row for row, origin in enumerate(self.row_origins) if origin + self.tile > first), tile_row + 1)

    def _reaching(self, first: int, stop: int) -> range:
        """The columns of tiles that reach into these pixel columns."""
        reaching = [col for col, origin in enumerate(self.col_origins) if origin < stop and origin + self.tile > first]
        return range(reaching[0], reaching[-1] + 1)


def plan_tiles(shape: tuple[int, int], *, tile: int, overlap: int, stride: int, widest_panel: int | None = None) -> TilePlan:
    """Tiles of `tile` x `tile` pixels over a grid of `shape` (row, col), neighbours sharing at least `overlap` pixels.

    `tile` must be a multiple of `stride`; the step between tiles is rounded down to one. Raises InputError otherwise.
    """
    if tile <= 0 or stride <= 0 or tile % stride:
        raise InputError(
            f"tile size {tile} is not a positive multiple of the network's stride {stride}; choose {max(1, tile // stride) * stride}"
        )
    if not 0 <= overlap <= tile - stride:
        raise InputError(f"overlap {overlap} does not fit tiles of {tile} pixels; choose 0…{tile - stride}")
    if min(shape) < 1:
        raise InputError(f"the grid has {shape[0]} rows and {shape[1]} columns; both must be at least 1")
    step = (tile - overlap) // stride * stride
    return TilePlan(shape, tile, _origins(shape[0], tile, step, stride), _origins(shape[1], tile, step, stride), overlap, widest_panel)


def _origins(size: int, tile: int, step: int, stride: int) -> tuple[int, ...]:
    last = max(0, -(-(size - tile) // stride) * stride)  # the smallest multiple of the stride from which a tile reaches the edge
    return (*range(0, last, step), last)


def _weights(origins: tuple[int, ...], which: int, tile: int, overlap: int, size: int) -> NDArray[np.float32]:
    """Raised-cosine ramps at both ends, divided by their sum over all tiles, so that shares sum to one everywhere."""
    start = origins[which]
    total = np.zeros(tile)
    for origin in origins:
        if abs(origin - start) < tile:
            first, stop = max(origin, start), min(origin, start) + tile
            total[first - start : stop - start] += _window(tile, overlap)[first - origin : stop - origin]
    share = _window(tile, overlap) / total
    share[max(0, size - start) :] = 0
    return share.astype(np.float32)


def _window(tile: int, overlap: int) -> NDArray[np.float64]:
    """Positive everywhere, also at the ends: a pixel that only one tile covers must not vanish."""
    distance = np.minimum(np.arange(tile), np.arange(tile)[::-1]) + 0.5
    ramp: NDArray[np.float64] = np.sin(np.pi / 2 * np.minimum(distance / overlap, 1.0)) ** 2 if overlap else np.ones(tile)
    return ramp
