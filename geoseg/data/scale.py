"""The same ground in larger pixels, as a coarser sensor sees it: averaged over each pixel's area, the pixel size kept true."""

from __future__ import annotations

from dataclasses import replace
from math import ceil, exp, log

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from geoseg.io.geotiff import warp
from geoseg.io.resample import Placement
from geoseg.raster import Raster


def margin_of(tile: int, halo: int, most: float) -> int:
    """Pixels around a window of `tile` that must be read, so that it and its halo can be seen in pixels `most` times as large."""
    return ceil((tile / 2 + halo) * most - tile / 2) + 1 if most > 1 else halo


def draw_factor(most: float, generator: np.random.Generator) -> float:
    """How many times as large pixels are to be, from 1 to `most`; evenly in its logarithm."""
    return exp(generator.uniform(0, log(most)))


def coarser(raster: Raster, labels: NDArray[np.int64], size: int, factor: float) -> tuple[Raster, NDArray[np.int64]]:
    """The middle of a raster and its labels (row, col) as `size` x `size` pixels that are `factor` times as large.

    Values are the means over each pixel's area of what is valid there (of decibels in power, of codes the nearest); the grid says the
    larger pixel size. A label is that of the pixel that lies in the middle, so that rare classes keep their share.
    """
    rows, cols = raster.geobox.shape
    first = (rows - size * factor) / 2, (cols - size * factor) / 2  # (row, col) of the corner
    affine = raster.geobox.affine @ raster.geobox.affine.translation(first[1], first[0]) @ raster.geobox.affine.scale(factor)
    grid = GeoBox((size, size), affine, raster.geobox.crs)

    def read(start: tuple[int, int], shape: tuple[int, int]) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
        here = np.s_[:, start[0] : start[0] + shape[0], start[1] : start[1] + shape[1]]
        return raster.values[here], raster.valid[here]

    values, valid = warp(read, raster.values.dtype, raster.bands, Placement(raster.geobox, grid), "average")
    places = [np.floor(begin + (np.arange(size) + 0.5) * factor).astype(np.intp) for begin in first]
    return replace(raster, values=values, valid=valid, geobox=grid), labels[np.ix_(*places)]
