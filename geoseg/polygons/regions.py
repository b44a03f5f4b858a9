"""Connected regions of a class map, found strip by strip with only one strip of pixels in memory.

A region is a largest set of pixels of one code that hang together by their sides (4-connected). What is kept of the whole
map is one number for each horizontal run of equal pixels and one table row for each region, never one number per pixel.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.windows import Window
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from geoseg.ground import pixel_areas_m2

_PIXELS_IN_A_STRIP = 2**22


@dataclass(frozen=True)
class Strip:
    """Some whole rows of a class map, divided into runs of equal pixels."""

    first_row: int
    codes: NDArray[np.unsignedinteger]
    """(row, col)"""
    starts: NDArray[np.bool_]
    """(row, col); True where a run begins. Each row begins one."""

    @property
    def firsts(self) -> NDArray[np.int64]:
        """(run,) position of each run's first pixel, counted along the strip's rows."""
        return np.flatnonzero(self.starts)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(run,) pixels in each run."""
        return np.diff(self.firsts, append=self.codes.size)

    def spread(self, of_runs: NDArray[Any]) -> NDArray[Any]:
        """(row, col) pixels with the number of their run."""
        return np.repeat(of_runs, self.lengths).reshape(self.codes.shape)


@dataclass(frozen=True)
class Regions:
    """The regions of a class map, in the order of their first pixels (row by row)."""

    codes: NDArray[np.unsignedinteger]
    """(region,) class code, or nodata."""
    pixels: NDArray[np.int64]
    """(region,) number of pixels."""
    areas_m2: NDArray[np.float64]
    """(region,) ground area."""
    of_runs: tuple[NDArray[np.int32], ...]
    """For each strip the region of each of its runs."""

    def __len__(self) -> int:
        return len(self.codes)


def read_strips(path: Path) -> Iterator[Strip]:
    """The rows of a one-band class map from the top, in strips that depend on its size alone."""
    with rasterio.open(path) as source:
        height = max(1, min(512, _PIXELS_IN_A_STRIP // source.width))
        for row in range(0, source.height, height):
            codes = source.read(1, window=Window(0, row, source.width, min(height, source.height - row)))
            starts = np.ones(codes.shape, dtype=bool)
            np.not_equal(codes[:, 1:], codes[:, :-1], out=starts[:, 1:])
            yield Strip(row, codes, starts)


def find_regions(path: Path) -> Regions:
    """All regions of a class map, those of nodata too."""
    geobox = map_geobox(path)
    codes: list[NDArray[Any]] = []
    sums: list[NDArray[np.float64]] = []  # (2, region): pixels, square metres
    of_runs: list[NDArray[np.int32]] = []
    seams: list[NDArray[np.int64]] = []  # (2, link): regions of two strips that are one
    above: tuple[NDArray[Any], NDArray[np.int64]] | None = None
    count = 0
    for strip in read_strips(path):
        labels = _regions_of_runs(strip)
        here = int(labels.max()) + 1
        codes.append(_first_of_each(labels, strip.codes[strip.starts]))
        sums.append(_sums(labels, here, strip, geobox))
        rows = strip.codes.shape[0]
        top = np.repeat(labels[: strip.starts[0].sum()], strip.lengths[: strip.starts[0].sum()]) + count
        if above is not None:
            same = above[0] == strip.codes[0]
            seams.append(np.unique(np.stack([above[1][same], top[same]]), axis=1))
        bottom = slice(len(labels) - int(strip.starts[rows - 1].sum()), None)
        above = strip.codes[-1].copy(), np.repeat(labels[bottom], strip.lengths[bottom]) + count
        of_runs.append((labels + count).astype(np.int32))
        count += here
    joined = _join(np.concatenate([np.empty((2, 0), np.int64), *seams], axis=1), count)
    total = int(joined.max()) + 1
    pixels, areas = (np.bincount(joined, weights=column, minlength=total) for column in np.concatenate(sums, axis=1))
    whole = tuple(joined[part].astype(np.int32) for part in of_runs)
    return Regions(_first_of_each(joined, np.concatenate(codes)), pixels.astype(np.int64), areas.astype(np.float64), whole)


def map_geobox(path: Path) -> GeoBox:
    """The grid of a class map."""
    with rasterio.open(path) as source:
        return GeoBox((source.height, source.width), source.transform, source.crs)


def touching(upper: NDArray[Any], lower: NDArray[Any], starts: NDArray[np.bool_]) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.int64]]:
    """What meets across the horizontal sides between pixels: number above, number below, and over how many pixels.

    `upper`, `lower` and `starts` are (row, col); `starts` is True where either number may change, and in the first column.
    """
    places = np.flatnonzero(starts)
    return upper.ravel()[places], lower.ravel()[places], np.diff(places, append=starts.size)


def _regions_of_runs(strip: Strip) -> NDArray[np.int64]:
    """(run,) region within the strip, numbered by first pixel."""
    run_codes = strip.codes[strip.starts]
    of_pixels = (np.cumsum(strip.starts.ravel()) - 1).reshape(strip.codes.shape)
    upper, lower, _ = touching(of_pixels[:-1], of_pixels[1:], strip.starts[:-1] | strip.starts[1:])
    same = run_codes[upper] == run_codes[lower]
    return _join(np.stack([upper[same], lower[same]]), len(run_codes))


def _join(links: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """(item,) number of the group that each of `count` items belongs to; groups are numbered by their first item."""
    graph = coo_array((np.ones(links.shape[1], dtype=np.int8), (links[0], links[1])), shape=(count, count))
    groups, labels = connected_components(graph.tocsr(), directed=False)
    first = np.empty(groups, dtype=np.int64)
    first[labels[::-1]] = np.arange(count)[::-1]  # the last to be written is the first item
    rank = np.empty(groups, dtype=np.int64)
    rank[np.argsort(first)] = np.arange(groups)
    ranked: NDArray[np.int64] = rank[labels]
    return ranked


def _first_of_each(labels: NDArray[np.int64], values: NDArray[Any]) -> NDArray[Any]:
    """(label,) the value where a label stands first."""
    found = np.empty(int(labels.max()) + 1, dtype=values.dtype)
    found[labels[::-1]] = values[::-1]
    return found


def _sums(labels: NDArray[np.int64], count: int, strip: Strip, geobox: GeoBox) -> NDArray[np.float64]:
    """(2, region) pixels and square metres of each region within the strip."""
    areas = pixel_areas_m2(geobox[strip.first_row : strip.first_row + strip.codes.shape[0], :])
    of_runs = np.add.reduceat(np.broadcast_to(areas, strip.codes.shape).ravel(), strip.firsts)
    return np.stack([np.bincount(labels, weights=column, minlength=count) for column in (strip.lengths, of_runs)])
