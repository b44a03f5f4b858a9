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
from numpy.typing import DTypeLike, NDArray

from geoseg.io.spilled import Pieces, on_disk_if_large
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
    scratch: Path
    """The folder whose disk takes what is too large for memory."""

    def __len__(self) -> int:
        return len(self.codes)


def strips_with_regions(path: Path, regions: Regions) -> Iterator[tuple[Strip, NDArray[np.int32]]]:
    """The strips of the map that `regions` are of, and (run,) the region of each run."""
    for strip, of_parts in zip(read_strips(path), regions.of_parts, strict=True):
        yield strip, of_parts[_parts_of_runs(strip)]


def find_regions(path: Path, scratch: Path | None = None) -> Regions:
    """All regions of a class map, those of nodata too.

    About 30 bytes for each region and 4 for each part that a region has in a strip, in memory while that is not much, else in `scratch`
    (None: beside the map); on the way 24 bytes of memory for each part.
    """
    run_areas = RunAreas(map_geobox(path))
    scratch = path.parent if scratch is None else scratch
    codes: Pieces | None = None
    part_pixels, part_areas = Pieces(scratch, np.int64), Pieces(scratch, np.float64)
    counts: list[int] = []
    seams: list[NDArray[np.int32]] = []  # (2, link): regions of two strips that are one
    above: tuple[NDArray[Any], NDArray[np.int32]] | None = None
    count = 0
    for strip in read_strips(path):
        labels = _parts_of_runs(strip)
        here = int(labels.max()) + 1
        codes = codes or Pieces(scratch, strip.codes.dtype)
        codes.append(_first_of_each(labels, strip.codes[strip.starts]))
        part_pixels.append(np.bincount(labels, weights=strip.lengths, minlength=here))
        part_areas.append(np.bincount(labels, weights=run_areas.of(strip.runs()), minlength=here))
        rows = strip.codes.shape[0]
        top = np.repeat(labels[: strip.starts[0].sum()], strip.lengths[: strip.starts[0].sum()]) + count
        if above is not None:
            same = above[0] == strip.codes[0]
            seams.append(np.unique(np.stack([above[1][same], top[same]]), axis=1))
        bottom = slice(len(labels) - int(strip.starts[rows - 1].sum()), None)
        above = strip.codes[-1].copy(), np.repeat(labels[bottom], strip.lengths[bottom]) + count
        counts.append(here)
        count += here
    assert codes is not None, "every map has a strip"
    joined = on_disk_if_large(_join(np.concatenate([np.empty((2, 0), np.int32), *seams], axis=1), count), scratch)
    pixels = _added_up(joined, part_pixels, np.int64)
    areas = _added_up(joined, part_areas, np.float64)
    first_codes = on_disk_if_large(_first_of_each(joined, codes.whole()), scratch)
    of_parts = tuple(np.split(joined, np.cumsum(counts)[:-1]))
    return Regions(first_codes, on_disk_if_large(pixels, scratch), on_disk_if_large(areas, scratch), of_parts, scratch)


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


def _added_up(groups: NDArray[np.int32], values: Pieces, kind: DTypeLike) -> NDArray[Any]:
    """(group,) the sum of the values (item,) of each."""
    return np.bincount(groups, weights=values.whole()).astype(kind)
