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
_IS_LOWER = np.array([kind[2] in (_LOWER_LEFT, _LOWER_RIGHT) for kind in _KINDS])
_IS_RIGHT = np.array([kind[2] in (_UPPER_RIGHT, _LOWER_RIGHT) for kind in _KINDS])
_NONE = len(_KINDS)


def _table(first: int, last: int) -> NDArray[np.uint8]:
    """(borders, 4) the kinds of corners where these borders meet, the rest _NONE; only kinds from `first` to before `last`."""
    table = np.full((16, 4), _NONE, dtype=np.uint8)
    for borders in range(16):
        kinds = [
            kind
            for kind, (needed, others, *_) in enumerate(_KINDS[first:last], start=first)
            if (borders & needed == needed if others else borders == needed)
        ]
        table[borders, : len(kinds)] = kinds
    return table


_TURNS_ONLY = _table(0, len(_TURNS))
_WITH_PASSES = _table(0, len(_TURNS) + len(_PASSES))
_CROSSINGS_ONLY = _table(len(_TURNS) + len(_PASSES), _NONE)


@dataclass(frozen=True)
class Corners:
    """Places where outlines turn, row by row; of each place the kinds in their order."""

    row: NDArray[np.int32]
    col: NDArray[np.int32]
    kind: NDArray[np.uint8]
    """Says through COMES and GOES how the outline runs if its region meets itself nowhere at this place."""
    pixel: NDArray[np.int32]
    """A pixel of the region whose outline it is, counted along the rows that were given."""


def find_corners(codes: NDArray[Any], outside: int, *, nodes: bool = False, anchor: int | None = None) -> Corners:
    """The corners between the rows of `codes` (row, col), counted from 0 below the first one; pixels that are `outside` have none.

    `nodes` also gives the places where a straight outline passes other regions that meet. In the corner row `anchor` every
    outline that crosses it gets a corner.
    """
    width = codes.shape[1]
    padded = np.pad(codes, ((0, 0), (1, 1)), constant_values=outside)
    across = padded[:, 1:] != padded[:, :-1]  # (row, corner col)
    down = padded[1:] != padded[:-1]  # (corner row, col of `padded`)
    places = np.flatnonzero((across[:-1] | across[1:]) & (down[:, :-1] | down[:, 1:])).astype(np.int32)
    row = places // np.int32(width + 1)
    borders = across.ravel()[places] * np.uint8(_TOP)
    borders |= across.ravel()[places + width + 1] * np.uint8(_BOTTOM)
    borders |= down.ravel()[places + row] * np.uint8(_LEFT)
    borders |= down.ravel()[places + row + 1] * np.uint8(_RIGHT)
    kinds = (_WITH_PASSES if nodes else _TURNS_ONLY)[borders]
    if anchor is not None:
        straight = across[anchor] & across[anchor + 1] & ~down[anchor, :-1] & ~down[anchor, 1:]
        crossings = np.flatnonzero(straight) + anchor * (width + 1)
        where = np.searchsorted(places, crossings)
        places, row = np.insert(places, where, crossings), np.insert(row, where, anchor)
        kinds = np.insert(kinds, where, _CROSSINGS_ONLY[_TOP | _BOTTOM], axis=0)
    filled = np.flatnonzero(kinds.ravel() != _NONE)
    kind, which = kinds.ravel()[filled], filled // 4
    row = row[which]
    col = places[which] - row * np.int32(width + 1)
    pixel = (row + _IS_LOWER[kind]) * np.int32(width + 2) + col + _IS_RIGHT[kind]
    mapped = np.flatnonzero(padded.ravel()[pixel] != outside)
    row, col, pixel = row[mapped], col[mapped], pixel[mapped]
    return Corners(row, col, kind[mapped], pixel - 2 * (pixel // np.int32(width + 2)) - 1)
