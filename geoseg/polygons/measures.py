"""What is added up over the regions of a class map: ground area, and the scores of the own class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.io import DatasetReader
from rasterio.windows import Window

from geoseg.errors import SceneError
from geoseg.ground import pixel_area_terms, pixel_areas_m2
from geoseg.legend import Legend
from geoseg.polygons.strips import Runs

_LARGEST_CODE = 65535
_NOT_A_CLASS, _STRANGE = -1, -2


class ClassBands:
    """The position in the legend of each class code."""

    def __init__(self, legend: Legend) -> None:
        self._legend = legend
        self._of_code = np.full(_LARGEST_CODE + 1, _STRANGE, dtype=np.int32)
        self._of_code[legend.nodata] = _NOT_A_CLASS
        self._of_code[list(legend.codes)] = np.arange(len(legend))

    def of(self, codes: NDArray[Any]) -> NDArray[np.int32]:
        """Class indices for codes of any shape, -1 for no class; InputError where one is not in the legend."""
        if codes.dtype.itemsize > 2 and codes.size and not 0 <= int(codes.min()) <= int(codes.max()) <= _LARGEST_CODE:
            self._legend.to_indices(codes)
        bands: NDArray[np.int32] = self._of_code[codes]
        if (bands == _STRANGE).any():
            self._legend.to_indices(codes)
        return bands


class RunAreas:
    """Ground areas of runs of pixels, in square metres."""

    def __init__(self, geobox: GeoBox) -> None:
        """`geobox` is the grid of the whole map."""
        self._geobox = geobox
        terms = pixel_area_terms(geobox)
        self._of_rows = None if terms is None else terms[0]
        self._before = None if terms is None else np.pad(np.cumsum(terms[1], axis=1), ((0, 0), (1, 0)))
        """(term, col + 1) of all columns to the left."""

    def of(self, runs: Runs) -> NDArray[np.float64]:
        """(run,)"""
        if self._of_rows is None or self._before is None:
            return self._by_pixels(runs)
        areas = np.zeros(len(runs.row))
        of_rows = self._of_rows[runs.first_row : runs.first_row + len(runs.codes)]
        ends = runs.col + runs.lengths
        for of_row, before in zip(of_rows.T, self._before, strict=True):
            areas += of_row[runs.row] * (before[ends] - before[runs.col])
        return areas

    def _by_pixels(self, runs: Runs) -> NDArray[np.float64]:
        """The same where the grid leaves the world."""
        rows, cols = runs.codes.shape
        here = self._geobox[runs.first_row : runs.first_row + rows, :]
        before = np.zeros((rows, cols + 1))
        np.cumsum(np.broadcast_to(pixel_areas_m2(here), (rows, cols)), axis=1, out=before[:, 1:])
        areas: NDArray[np.float64] = before[runs.row, runs.col + runs.lengths] - before[runs.row, runs.col]
        return areas


class OwnScores:
    """The scores of each region's own class, read along with the map's strips."""

    def __init__(self, source: DatasetReader) -> None:
        self._source = source
        self._scales, self._offsets = np.asarray(source.scales), np.asarray(source.offsets)

    def sums(self, bands: NDArray[np.int32], runs: Runs) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(run,) sum of the scores of its pixels, and how many have one; `bands` are those of the runs, counted from 0."""
        rows, cols = runs.codes.shape
        stored = self._source.read(window=Window(0, runs.first_row, cols, rows))  # (band, row, col)
        starts = runs.firsts
        ends = np.concatenate([[0], starts + runs.lengths])
        of_spans, spans = np.full(2 * len(bands) + 1, -1, dtype=np.int16), np.empty(2 * len(bands) + 1, dtype=np.int64)
        of_spans[1::2], spans[1::2], spans[::2] = bands, runs.lengths, np.append(starts, rows * cols) - ends
        of_pixels = np.repeat(of_spans, spans).reshape(rows, cols)
        own = np.zeros((rows, cols), dtype=stored.dtype)
        for band in np.unique(bands).tolist():
            np.copyto(own, stored[band], where=of_pixels == band)
        known = of_pixels >= 0
        if self._source.nodata is not None:
            known &= own != self._source.nodata
        if own.dtype.kind == "f":
            known &= np.isfinite(own)
        own[~known] = 0
        exact = np.float64 if own.dtype.kind == "f" else np.int64
        sums = np.add.reduceat(own.ravel(), starts, dtype=exact)
        counts = np.add.reduceat(known.ravel(), starts, dtype=np.int64)
        return sums * self._scales[bands] + counts * self._offsets[bands], counts.astype(np.float64)


def open_scores(path: Path, classes: Path, geobox: GeoBox) -> DatasetReader:
    """A file of scores that lies on the map's grid; SceneError where it does not."""
    source = rasterio.open(path)
    if GeoBox((source.height, source.width), source.transform, source.crs) != geobox:
        source.close()
        raise SceneError(f"{path} and {classes} do not lie on the same grid; give the scores that were written with this class map")
    return source
