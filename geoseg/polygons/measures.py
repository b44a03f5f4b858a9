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
from geoseg.polygons.strips import Strip

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


def run_areas_m2(geobox: GeoBox, strip: Strip) -> NDArray[np.float64]:
    """(run,) ground area in square metres; `geobox` is that of the whole map."""
    rows, cols = strip.codes.shape
    here = geobox[strip.first_row : strip.first_row + rows, :]
    terms = pixel_area_terms(here)
    if terms is None:
        of_pixels = np.broadcast_to(pixel_areas_m2(here), (rows, cols))
        by_run: NDArray[np.float64] = np.add.reduceat(of_pixels.ravel(), strip.firsts)
        return by_run
    of_rows, of_cols = terms
    before = np.zeros((len(of_cols), cols + 1))
    np.cumsum(of_cols, axis=1, out=before[:, 1:])
    row, col = np.divmod(strip.firsts, cols)
    end = col + strip.lengths
    areas = np.zeros(len(row))
    for of_row, sums in zip(of_rows.T, before, strict=True):
        areas += of_row[row] * (sums[end] - sums[col])
    return areas


class OwnScores:
    """The scores of each region's own class, read along with the map's strips."""

    def __init__(self, source: DatasetReader) -> None:
        self._source = source
        self._scales, self._offsets = np.asarray(source.scales), np.asarray(source.offsets)

    def sums(self, bands: NDArray[np.int32], strip: Strip) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(run,) sum of the scores of its pixels, and how many have one; `bands` are those of the runs, counted from 0, -1 for none."""
        rows, cols = strip.codes.shape
        stored = self._source.read(window=Window(0, strip.first_row, cols, rows))  # (band, row, col)
        of_pixels = np.repeat(bands.astype(np.int16), strip.lengths).reshape(rows, cols)
        own = np.zeros((rows, cols), dtype=stored.dtype)
        for band in np.unique(bands[bands >= 0]).tolist():
            np.copyto(own, stored[band], where=of_pixels == band)
        known = of_pixels >= 0
        if self._source.nodata is not None:
            known &= own != self._source.nodata
        if own.dtype.kind == "f":
            known &= np.isfinite(own)
        own[~known] = 0
        exact = np.float64 if own.dtype.kind == "f" else np.int64
        sums = np.add.reduceat(own.ravel(), strip.firsts, dtype=exact)
        counts = np.add.reduceat(known.ravel(), strip.firsts, dtype=np.int64)
        return sums * self._scales[bands] + counts * self._offsets[bands], counts.astype(np.float64)


def open_scores(path: Path, classes: Path, geobox: GeoBox) -> DatasetReader:
    """A file of scores that lies on the map's grid; SceneError where it does not."""
    source = rasterio.open(path)
    if GeoBox((source.height, source.width), source.transform, source.crs) != geobox:
        source.close()
        raise SceneError(f"{path} and {classes} do not lie on the same grid; give the scores that were written with this class map")
    return source
