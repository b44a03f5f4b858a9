"""Every pixel of two maps counted once: which class it was, which it became, or why it is not compared."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from geoseg.ground import pixel_areas_m2
from geoseg.io.cog import RowWriter
from geoseg.io.opening import files_kept_open, gdal_env
from geoseg.maps.exclusions import Exclusion
from geoseg.maps.names import find_name
from geoseg.maps.pairs import Classes, Pair, one_pixel_around
from geoseg.maps.transitions import EXCLUDED, FIRST_PAIR, OUTSIDE, UNOBSERVED, Transitions

Progress = Callable[[int, int], None]
"""Called with the finished and with all pixel rows."""

_STRIP_PIXELS = 1 << 20
_STRIP_ROWS = 512
_READING_CACHE_MB = 128
"""A row of 512 x 512 blocks of two maps that are 100 000 pixels wide: strips that cut blocks decode each once."""
_OTHER_COLOUR = "#dddddd"
_INNER = np.s_[1:-1, 1:-1]


@dataclass(frozen=True)
class Followed:
    """The classes of the matrix, and where each class of the maps stands among them."""

    classes: Classes
    place: NDArray[np.int32]
    """(class of the maps + 1,) place in `classes`; the last stands for no class and is -1."""
    only: str | None
    """The one class that is followed; None where all are."""


def follow(pair: Pair, only: str | None) -> Followed:
    """All classes of both maps, or one of them and all that is not of it. InputError where none has that name."""
    every = pair.classes
    if only is None:
        return Followed(every, np.append(np.arange(len(every)), -1).astype(np.int32), None)
    name = find_name(only, every.names, "class of these maps")
    at = every.names.index(name)
    place = np.append(np.arange(len(every)) == at, -1).astype(np.int32)
    return Followed(Classes((f"not {name}", name), (_OTHER_COLOUR, every.colours[at])), place, name)


def count_pairs(
    pair: Pair, followed: Followed, exclusions: Sequence[Exclusion], out: Path, progress: Progress | None = None
) -> Transitions:
    """The areas of all transitions; the pairs themselves are written to a raster `out`, numbered as `transitions` has them.

    Holds a strip of rows, whatever the size of the maps.
    """
    grid, sums = pair.geobox, _Sums(len(followed.classes), {one.text: 0.0 for one in exclusions})
    with gdal_env(_READING_CACHE_MB), files_kept_open(), RowWriter(out, grid, count=1, dtype=_dtype(followed)) as writer:
        for rows in strips(grid):
            numbers = _count_strip(pair, followed, exclusions, grid[rows, :], sums)
            writer.append(numbers.astype(_dtype(followed))[np.newaxis])
            if progress is not None:
                progress(rows.stop, grid.shape[0])
    count = len(followed.classes)
    matrix = sums.by_number[FIRST_PAIR:].reshape(count, count)
    return Transitions(
        followed.classes,
        matrix,
        dict(sums.unobserved),
        float(sums.by_number[EXCLUDED]),
        dict(sums.excluded_by),
        None if pair.aligned else sums.at_edges,
        followed.only,
    )


def strips(geobox: GeoBox) -> Iterator[slice]:
    """Whole rows of a grid, few enough to be held at once."""
    height = max(1, min(_STRIP_ROWS, _STRIP_PIXELS // geobox.shape[1]))
    for top in range(0, geobox.shape[0], height):
        yield slice(top, min(top + height, geobox.shape[0]))


@dataclass
class _Sums:
    """Square metres so far."""

    classes: int
    excluded_by: dict[str, float]
    unobserved: dict[str, float] = field(default_factory=lambda: {"before": 0.0, "after": 0.0, "both": 0.0})
    at_edges: float = 0.0
    by_number: NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        self.by_number = np.zeros(FIRST_PAIR + self.classes**2)


def _count_strip(pair: Pair, followed: Followed, exclusions: Sequence[Exclusion], grid: GeoBox, sums: _Sums) -> NDArray[np.int64]:
    """(row, col) number of each pixel of these rows; their areas are added to `sums`."""
    areas = np.broadcast_to(pixel_areas_m2(grid), grid.shape)
    around = grid if pair.aligned else one_pixel_around(grid)
    before, after = (followed.place[classes] for classes in pair.read(around))
    edges = None if pair.aligned else _near_edges(before, after)
    before, after = (side if pair.aligned else side[_INNER] for side in (before, after))
    inside = pair.inside(grid)
    excluded = np.zeros(grid.shape, dtype=bool)
    for one in exclusions:
        mask = one.mask(grid) & inside
        sums.excluded_by[one.text] += float(areas[mask].sum())
        excluded |= mask
    missing = {"before": (before < 0) & (after >= 0), "after": (after < 0) & (before >= 0), "both": (before < 0) & (after < 0)}
    numbers = FIRST_PAIR + before.astype(np.int64) * len(followed.classes) + after
    for side, mask in missing.items():
        sums.unobserved[side] += float(areas[mask & inside & ~excluded].sum())
        numbers[mask] = UNOBSERVED
    numbers[excluded] = EXCLUDED
    numbers[~inside] = OUTSIDE
    if edges is not None:
        sums.at_edges += float(areas[edges & (numbers >= FIRST_PAIR) & (before != after)].sum())
    sums.by_number += np.bincount(numbers.ravel(), weights=areas.ravel(), minlength=len(sums.by_number))
    return numbers


def _near_edges(before: NDArray[np.int32], after: NDArray[np.int32]) -> NDArray[np.bool_]:
    """(row, col) inside a margin of one pixel: True where a neighbour had the new class before, or has the old one now."""
    rows, cols = before.shape
    old, new = before[_INNER], after[_INNER]
    near = np.zeros(old.shape, dtype=bool)
    for down in range(3):
        for across in range(3):
            here = np.s_[down : rows - 2 + down, across : cols - 2 + across]
            near |= (before[here] == new) | (after[here] == old)
    return near


def _dtype(followed: Followed) -> np.dtype[np.unsignedinteger]:
    """The smallest that holds every pair."""
    return np.dtype(np.min_scalar_type(FIRST_PAIR + len(followed.classes) ** 2))
