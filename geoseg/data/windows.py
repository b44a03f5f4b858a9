"""Window: a rectangle of pixels on a scene's grid, also beyond its edges."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

UNLABELLED = -1
"""Class index of a pixel without a label, in every array of labels."""


@dataclass(frozen=True)
class Window:
    """`rows` x `cols` pixels whose first is (`row`, `col`); it may begin before 0 and end beyond the scene."""

    row: int
    col: int
    rows: int
    cols: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """For indexing an array; only where the window lies inside it."""
        return slice(self.row, self.row + self.rows), slice(self.col, self.col + self.cols)

    def grown(self, pixels: int) -> Window:
        """The window and a margin of `pixels` on each side."""
        return Window(self.row - pixels, self.col - pixels, self.rows + 2 * pixels, self.cols + 2 * pixels)

    def geobox(self, grid: GeoBox) -> GeoBox:
        """The window's own grid, its pixels those of `grid`."""
        return GeoBox((self.rows, self.cols), grid.affine @ grid.affine.translation(self.col, self.row), grid.crs)

    def cut(self, plane: NDArray[np.generic], fill: float) -> NDArray[np.generic]:
        """The window's part of `plane` (…, row, col), a copy, with `fill` where the window lies beyond it."""
        height, width = plane.shape[-2:]
        top, bottom = min(max(self.row, 0), height), min(max(self.row + self.rows, 0), height)
        left, right = min(max(self.col, 0), width), min(max(self.col + self.cols, 0), width)
        out = np.full((*plane.shape[:-2], self.rows, self.cols), fill, dtype=plane.dtype)
        inside = plane[..., top:bottom, left:right]
        if inside.size:
            out[..., top - self.row : bottom - self.row, left - self.col : right - self.col] = inside
        return out


def lay_windows(shape: tuple[int, int], size: int) -> Iterator[Window]:
    """Squares of `size` pixels that cover the shape once, row by row; the last ones of a row and column are cut at its edge."""
    for row in range(0, shape[0], size):
        for col in range(0, shape[1], size):
            yield Window(row, col, min(size, shape[0] - row), min(size, shape[1] - col))
