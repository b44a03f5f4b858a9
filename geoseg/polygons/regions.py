"""Connected regions of a class map, found strip by strip with only one strip of pixels in memory.

A region is a largest set of pixels of one code that hang together by their sides (4-connected). What is kept of the whole
map is one table row for each region and one number for each part of it in a strip, never one per pixel: which region a pixel
belongs to is found again when its strip is read again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.polygons.measures import RunAreas
from geoseg.polygons.strips import Strip, map_geobox, read_strips
from geoseg.polygons.unite import unite


@dataclass(frozen=True)
class Regions:
    """The regions of a class map, in the order of their first pixels (row by row)."""

    codes: NDArray[np.unsignedinteger]
    """(region,) class code, or nodata."""
    pixels: NDArray[np.int64]
    """(region,) number of pixels."""
    areas_m2: NDArray[np.float64]
    """(region,) ground area."""
    of_parts: tuple[NDArray[np.int32], ...]
    """For each strip the region of each of its parts: what hangs together within it."""

    def __len__(self) -> int:
        return len(self.codes)


def strips_with_regions(path: Path, regions: Regions) -> Iterator[tuple[Strip, NDArray[np.int32]]]:
    """The strips of the map that `regions` are of, and (run,) the region of each run."""
    for strip, of_parts in zip(read_strips(path), regions.of_parts, strict=True):
        yield strip, of_parts[_parts_of_runs(strip)]


def find_regions(path: Path) -> Regions:
    """All regions of a class map, those of nodata too.

    About 30 bytes of memory for each region and 4 for each part that a region has in a strip; three times that on the way.
    """
    run_areas = RunAreas(map_geobox(path))
    codes: list[NDArray[Any]] = []
    sums: list[NDArray[np.float64]] = []  # (2, region): pixels, square metres
    counts: list[int] = []
    seams: list[NDArray[np.int32]] = []  # (2, link): regions of two strips that are one
    above: tuple[NDArray[Any], NDArray[np.int32]] | None = None
    count = 0
    for strip in read_strips(path):
        labels = _parts_of_runs(strip)
        here = int(labels.max()) + 1
        codes.append(_first_of_each(labels, strip.codes[strip.starts]))
        sums.append(_sums(labels, here, strip, run_areas))
        rows = strip.codes.shape[0]
        top = np.repeat(labels[: strip.starts[0].sum()], strip.lengths[: strip.starts[0].sum()]) + count
        if above is not None:
            same = above[0] == strip.codes[0]
            seams.append(np.unique(np.stack([above[1][same], top[same]]), axis=1))
        bottom = slice(len(labels) - int(strip.starts[rows - 1].sum()), None)
        above = strip.codes[-1].copy(), np.repeat(labels[bottom], strip.lengths[bottom]) + count
        counts.append(here)
        count += here
    joined = _join(np.concatenate([np.empty((2, 0), np.int32), *seams], axis=1), count)
    total = int(joined.max()) + 1
    pixels, areas = (np.bincount(joined, weights=column, minlength=total) for column in np.concatenate(sums, axis=1))
    of_parts = tuple(np.split(joined, np.cumsum(counts)[:-1]))
    return Regions(_first_of_each(joined, np.concatenate(codes)), pixels.astype(np.int64), areas.astype(np.float64), of_parts)


def touching(upper: NDArray[Any], lower: NDArray[Any], starts: NDArray[np.bool_]) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.int64]]:
    """What meets across the horizontal sides between pixels: number above, number below, and over how many pixels.

    `upper`, `lower` and `starts` are (row, col); `starts` is True where either number may change, and in the first column.
    """
    places = np.flatnonzero(starts)
    return upper.ravel()[places], lower.ravel()[places], np.diff(places, append=starts.size)


def _parts_of_runs(strip: Strip) -> NDArray[np.int32]:
    """(run,) part of a region within the strip, numbered by first pixel."""
    run_codes = strip.codes[strip.starts]
    of_pixels = (np.cumsum(strip.starts.ravel()) - 1).reshape(strip.codes.shape)
    upper, lower, _ = touching(of_pixels[:-1], of_pixels[1:], strip.starts[:-1] | strip.starts[1:])
    same = run_codes[upper] == run_codes[lower]
    return _join(np.stack([upper[same], lower[same]]), len(run_codes))


def _join(links: NDArray[np.integer], count: int) -> NDArray[np.int32]:
    """(item,) number of the group that each of `count` items belongs to; groups are numbered by their first item."""
    first = unite(links[0], links[1], count)
    number = np.cumsum(first == np.arange(count), dtype=np.int32) - np.int32(1)
    of_items: NDArray[np.int32] = number[first]
    return of_items


def _first_of_each(labels: NDArray[np.int32], values: NDArray[Any]) -> NDArray[Any]:
    """(label,) the value where a label stands first."""
    found = np.empty(int(labels.max()) + 1, dtype=values.dtype)
    found[labels[::-1]] = values[::-1]
    return found


def _sums(labels: NDArray[np.int32], count: int, strip: Strip, areas: RunAreas) -> NDArray[np.float64]:
    """(2, part) pixels and square metres of each part of a region within the strip."""
    return np.stack([np.bincount(labels, weights=column, minlength=count) for column in (strip.lengths, areas.of(strip.runs()))])
