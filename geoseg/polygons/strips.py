"""Some whole rows of a class map at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.windows import Window

_PIXELS_IN_A_STRIP = 2**22


@dataclass(frozen=True)
class Strip:
    """Some whole rows of a class map, divided into runs of equal pixels."""

    first_row: int
    codes: NDArray[Any]
    """(row, col)"""
    starts: NDArray[np.bool_]
    """(row, col); True where a run begins. Each row begins one."""

    @classmethod
    def of(cls, first_row: int, codes: NDArray[Any]) -> Strip:
        """These rows, with their runs."""
        starts = np.ones(codes.shape, dtype=bool)
        np.not_equal(codes[:, 1:], codes[:, :-1], out=starts[:, 1:])
        return cls(first_row, codes, starts)

    @cached_property
    def firsts(self) -> NDArray[np.int64]:
        """(run,) position of each run's first pixel, counted along the strip's rows."""
        return np.flatnonzero(self.starts)

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """(run,) pixels in each run."""
        return np.diff(self.firsts, append=self.codes.size)

    def runs(self) -> Runs:
        """All runs with their rows and columns."""
        row, col = np.divmod(self.firsts, self.codes.shape[1])
        return Runs(self.first_row, self.codes, row, col, self.lengths)

    def spread(self, of_runs: NDArray[Any]) -> NDArray[Any]:
        """(row, col) pixels with the number of their run."""
        return np.repeat(of_runs, self.lengths).reshape(self.codes.shape)


@dataclass(frozen=True)
class Runs:
    """Runs of equal pixels in some whole rows of a map, row by row; there may be pixels between them."""

    first_row: int
    codes: NDArray[Any]
    """(row, col)"""
    row: NDArray[np.int64]
    """(run,) counted from `first_row`."""
    col: NDArray[np.int64]
    """(run,) of its first pixel."""
    lengths: NDArray[np.int64]
    """(run,) pixels."""

    @property
    def firsts(self) -> NDArray[np.int64]:
        """(run,) position of each run's first pixel, counted along these rows."""
        positions: NDArray[np.int64] = self.row * self.codes.shape[1] + self.col
        return positions


def read_codes(path: Path, rows: int | None = None) -> Iterator[NDArray[Any]]:
    """(row, col) the codes of a one-band class map from the top, in strips of so many rows, or that depend on its width alone."""
    with rasterio.open(path) as source:
        height = rows or max(1, min(512, _PIXELS_IN_A_STRIP // source.width))
        for row in range(0, source.height, height):
            yield source.read(1, window=Window(0, row, source.width, min(height, source.height - row)))


def read_strips(path: Path) -> Iterator[Strip]:
    """The rows of a one-band class map from the top, in strips that depend on its width alone."""
    row = 0
    for codes in read_codes(path):
        yield Strip.of(row, codes)
        row += len(codes)


def map_geobox(path: Path) -> GeoBox:
    """The grid of a class map."""
    with rasterio.open(path) as source:
        return GeoBox((source.height, source.width), source.transform, source.crs)
