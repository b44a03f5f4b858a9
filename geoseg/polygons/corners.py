"""Corners of outlines: the places between pixels where the outline of a region turns.

Around each pixel corner lie four pixels, and between them four sides. Which of these are borders, because the pixels on
their two sides have different codes, says which outlines turn there, and how: no more needs to be known of the map.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

NORTH, EAST, SOUTH, WEST = range(4)
"""Directions in which an outline comes and goes; it keeps its region on the right."""

_UPPER_LEFT, _UPPER_RIGHT, _LOWER_LEFT, _LOWER_RIGHT = range(4)
_TOP, _BOTTOM, _LEFT, _RIGHT = 1, 2, 4, 8
"""The sides that meet at a corner: above it between the two upper pixels, and so on around."""

# Each line: the borders at a corner that make an outline turn, whether others may be there, the pixel whose outline it is,
# and the directions in which it comes and goes.
_TURNS = (
    # Around one pixel that differs from both beside it.
    (_BOTTOM | _RIGHT, True, _LOWER_RIGHT, NORTH, EAST),
    (_BOTTOM | _LEFT, True, _LOWER_LEFT, EAST, SOUTH),
    (_TOP | _LEFT, True, _UPPER_LEFT, SOUTH, WEST),
    (_TOP | _RIGHT, True, _UPPER_RIGHT, WEST, NORTH),
    # Three pixels of one region around a fourth.
    (_BOTTOM | _RIGHT, False, _UPPER_LEFT, WEST, SOUTH),
    (_BOTTOM | _LEFT, False, _UPPER_RIGHT, NORTH, WEST),
    (_TOP | _LEFT, False, _LOWER_RIGHT, EAST, NORTH),
    (_TOP | _RIGHT, False, _LOWER_LEFT, SOUTH, EAST),
)
_PASSES = (
    # Straight on, where two other regions meet at the line.
    (_BOTTOM | _LEFT | _RIGHT, False, _UPPER_LEFT, WEST, WEST),
    (_TOP | _LEFT | _RIGHT, False, _LOWER_LEFT, EAST, EAST),
    (_TOP | _BOTTOM | _RIGHT, False, _UPPER_LEFT, SOUTH, SOUTH),
    (_TOP | _BOTTOM | _LEFT, False, _UPPER_RIGHT, NORTH, NORTH),
)
_CROSSINGS = (
    # Straight down and up over an anchor row.
    (_TOP | _BOTTOM, False, _UPPER_LEFT, SOUTH, SOUTH),
    (_TOP | _BOTTOM, False, _UPPER_RIGHT, NORTH, NORTH),
)
_KINDS = (*_TURNS, *_PASSES, *_CROSSINGS)
COMES = np.array([kind[3] for kind in _KINDS], dtype=np.int8)
"""(kind,)"""
GOES = np.array([kind[4] for kind in _KINDS], dtype=np.int8)
"""(kind,)"""
_PIXEL = np.array([kind[2] for kind in _KINDS], dtype=np.int64)
"""(kind,) around the corner."""
_NONE = len(_KINDS)

CROSSED = np.arange(len(_KINDS), dtype=np.uint8)
"""(kind,) around one pixel: the kind that comes the same way and goes the other."""
CROSSED[:4] = 5, 6, 7, 4
FIRST_KINDS = (0, 4)
"""Row by row the first corner of an outer ring is an upper left one, that of a hole the same seen from outside."""

ROW_SHIFT, COL_SHIFT = 32, 5
KIND_MASK, KEPT = 30, 1


def _table(first: int, last: int) -> NDArray[np.uint32]:
    """(borders,) the kinds of corners where these borders meet, four bytes as one number, the rest _NONE; of `first` to before `last`."""
    table = np.full((16, 4), _NONE, dtype=np.uint8)
    for borders in range(16):
        kinds = [
            kind
            for kind, (needed, others, *_) in enumerate(_KINDS[first:last], start=first)
            if (borders & needed == needed if others else borders == needed)
        ]
        table[borders, : len(kinds)] = kinds
    return table.view(np.uint32)[:, 0]


_TURNS_ONLY = _table(0, len(_TURNS))
_WITH_PASSES = _table(0, len(_TURNS) + len(_PASSES))
_CROSSINGS_ONLY = _table(len(_TURNS) + len(_PASSES), _NONE)


@dataclass(frozen=True)
class Lattice:
    """Some rows of a map, and the places between their pixels where anything upright ends, begins or goes on.

    The rows lie behind one another with one pixel outside before each and after the last, so that a run of equal class pixels
    never goes from one row to the next. Runs are counted from the first row's first change of codes; those of pixels outside
    count too, and what lies before the first change is run -1, which is the last one and outside as well.
    """

    width: int
    """Pixels in a row."""
    places: NDArray[np.int64]
    """(place,) corner of pixels below the first row, counted along its width + 1 corners in a row."""
    row: NDArray[np.int32]
    """(place,) counted from 0 below the first row."""
    borders: NDArray[np.uint8]
    """(place,) the sides that are borders there."""
    runs: NDArray[np.int32]
    """(place, 4) the run of the pixels around it."""
    links: tuple[NDArray[np.int32], NDArray[np.int32]]
    """(link,) runs above and below that are of one code and touch; none of pixels outside."""
    of_first_row: int
    """Runs that begin in the first row."""
    run_places: NDArray[np.int64]
    """(run,) the corner above the left end of each run that begins in later rows."""
    run_codes: NDArray[Any]
    """(run,) of all runs."""

    @classmethod
    def of(cls, codes: NDArray[Any], outside: int) -> Lattice:
        """The places between these rows (row, col) of codes."""
        rows, width = codes.shape
        line = width + 1
        flat = np.full(rows * line + 1, outside, dtype=codes.dtype)
        flat[:-1].reshape(rows, line)[:, 1:] = codes
        change = flat[1:] != flat[:-1]
        places = np.flatnonzero(change[:-line] | change[line:])
        upper_left, upper_right, lower_left, lower_right = (flat[places + step] for step in (0, 1, line, line + 1))
        top, bottom, right = upper_left != upper_right, lower_left != lower_right, upper_right != lower_right
        borders = top * np.uint8(_TOP)
        borders |= bottom * np.uint8(_BOTTOM)
        borders |= (upper_left != lower_left) * np.uint8(_LEFT)
        borders |= right * np.uint8(_RIGHT)
        row = (places // line).astype(np.int32)
        of_first_row = int(np.count_nonzero(change[:line]))
        runs = np.empty((len(places), 4), dtype=np.int32)
        np.cumsum(top, dtype=np.int32, out=runs[:, _UPPER_RIGHT])
        np.cumsum(bottom, dtype=np.int32, out=runs[:, _LOWER_RIGHT])
        runs[:, _UPPER_RIGHT] -= 1
        runs[:, _LOWER_RIGHT] += of_first_row - 1
        np.subtract(runs[:, _UPPER_RIGHT], top, out=runs[:, _UPPER_LEFT])
        np.subtract(runs[:, _LOWER_RIGHT], bottom, out=runs[:, _LOWER_LEFT])
        linked = np.flatnonzero(~right & (upper_right != outside))
        links = runs[linked, _UPPER_RIGHT], runs[linked, _LOWER_RIGHT]
        begin = np.flatnonzero(bottom)
        run_codes = np.concatenate([flat[1 : line + 1][change[:line]], lower_right[begin]])
        return cls(width, places, row, borders, runs, links, of_first_row, places[begin], run_codes)


@dataclass(frozen=True)
class Corners:
    """Places where outlines turn, row by row; of each place the kinds in their order."""

    words: NDArray[np.int64]
    """(corner,) place and kind, as `corner_words` packs them; every one is kept."""
    run: NDArray[np.int32]
    """(corner,) a run of the region whose outline it is; corners of what is outside are among them."""


def corner_words(row: NDArray[np.int64], col: NDArray[np.int64], kind: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Corners as one number each, which orders them row by row and by kind: row, column, kind, and 1 in the last bit where it is kept."""
    words = row << ROW_SHIFT
    words |= col << COL_SHIFT
    words |= (kind << np.uint8(1)) | np.uint8(KEPT)
    return words


def place_of(words: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(corner,) row and column of packed corners."""
    return words >> ROW_SHIFT, (words & ((1 << ROW_SHIFT) - 1)) >> COL_SHIFT


def kind_of(words: NDArray[np.int64]) -> NDArray[np.uint8]:
    """(corner,) kind of packed corners."""
    kinds: NDArray[np.uint8] = (words.astype(np.uint8) & np.uint8(KIND_MASK)) >> np.uint8(1)
    return kinds


def find_corners(lattice: Lattice, *, nodes: bool = False, anchor: int | None = None) -> Corners:
    """The corners of a lattice.

    `nodes` also gives the places where a straight outline passes other regions that meet. In the corner row `anchor` every
    outline that crosses it gets a corner.
    """
    fours = (_WITH_PASSES if nodes else _TURNS_ONLY)[lattice.borders]
    if anchor is not None:
        fours[(lattice.row == anchor) & (lattice.borders == _TOP | _BOTTOM)] = _CROSSINGS_ONLY[_TOP | _BOTTOM]
    kinds = fours.view(np.uint8)
    filled = np.flatnonzero(kinds != _NONE)
    kind, which = kinds[filled], filled >> 2
    row = lattice.row[which].astype(np.int64)
    col = lattice.places[which] - row * (lattice.width + 1)
    return Corners(corner_words(row, col, kind), lattice.runs.ravel()[(filled & ~3) + _PIXEL[kind]])
