"""Outlines of regions as rings of pixel corners, all regions at once.

Around each pixel corner lie four pixels; which of them are of one region says whether an outline turns there, and how.
Between two turns an outline runs straight along a row or column of corners, where beginnings and ends alternate: the
first beginning belongs to the first end, and so on. That gives every corner its successor, and following successors
gives the rings. No polygon is ever a Python object on the way, and each step is one array operation over all corners.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import breadth_first_order, connected_components

OUTSIDE = -1
"""Number of pixels that belong to no region: no data, or beyond the edge."""

_NORTH, _EAST, _SOUTH, _WEST = range(4)
_UPPER_LEFT, _UPPER_RIGHT, _LOWER_LEFT, _LOWER_RIGHT = range(4)

# An outline keeps its region on the right. Each line: the pixel whose region turns, its neighbours in row and column, the
# pixel diagonally across; directions in which the outline comes and goes around that pixel alone.
_CONVEX = (
    (_LOWER_RIGHT, _LOWER_LEFT, _UPPER_RIGHT, _UPPER_LEFT, _NORTH, _EAST),
    (_LOWER_LEFT, _LOWER_RIGHT, _UPPER_LEFT, _UPPER_RIGHT, _EAST, _SOUTH),
    (_UPPER_LEFT, _UPPER_RIGHT, _LOWER_LEFT, _LOWER_RIGHT, _SOUTH, _WEST),
    (_UPPER_RIGHT, _UPPER_LEFT, _LOWER_RIGHT, _LOWER_LEFT, _WEST, _NORTH),
)
# Three pixels of one region around a fourth (last of the four named): the outline comes and goes around that fourth.
_REFLEX = (
    (_UPPER_LEFT, _UPPER_RIGHT, _LOWER_LEFT, _LOWER_RIGHT, _WEST, _SOUTH),
    (_UPPER_RIGHT, _UPPER_LEFT, _LOWER_RIGHT, _LOWER_LEFT, _NORTH, _WEST),
    (_LOWER_RIGHT, _LOWER_LEFT, _UPPER_RIGHT, _UPPER_LEFT, _EAST, _NORTH),
    (_LOWER_LEFT, _LOWER_RIGHT, _UPPER_LEFT, _UPPER_RIGHT, _SOUTH, _EAST),
)
# Two pixels of one region side by side, two others across: the outline runs straight, but two others meet on it.
_STRAIGHT = (
    (_UPPER_LEFT, _UPPER_RIGHT, _LOWER_LEFT, _LOWER_RIGHT, _WEST),
    (_LOWER_LEFT, _LOWER_RIGHT, _UPPER_LEFT, _UPPER_RIGHT, _EAST),
    (_UPPER_LEFT, _LOWER_LEFT, _UPPER_RIGHT, _LOWER_RIGHT, _SOUTH),
    (_UPPER_RIGHT, _LOWER_RIGHT, _UPPER_LEFT, _LOWER_LEFT, _NORTH),
)


@dataclass(frozen=True)
class Outlines:
    """Closed rings of all regions: by region, the outer ring before its holes."""

    col: NDArray[np.int32]
    """(vertex,) pixel corner, counted from the left edge; a ring's first vertex is repeated as its last."""
    row: NDArray[np.int32]
    """(vertex,) pixel corner, counted from the upper edge."""
    ring_offsets: NDArray[np.int64]
    """(ring + 1,) first vertex of each ring, and the number of vertices."""
    polygon_offsets: NDArray[np.int64]
    """(polygon + 1,) first ring of each polygon, and the number of rings."""
    regions: NDArray[np.int32]
    """(polygon,) region of each polygon, increasing."""


@dataclass(frozen=True)
class _Corners:
    """Places where outlines turn, row by row."""

    row: NDArray[np.int32]
    col: NDArray[np.int32]
    region: NDArray[np.int32]
    comes: NDArray[np.int8]
    goes: NDArray[np.int8]


def trace_outlines(strips: Iterable[NDArray[np.int32]], *, nodes: bool = False, clockwise: bool = True) -> Outlines:
    """Outlines of the regions whose numbers the strips of pixel rows hold; pixels that are OUTSIDE have none.

    `nodes` also puts a vertex where a straight outline passes a place at which other regions meet, as a coverage needs it.
    `clockwise` says how outer rings turn when rows are drawn downwards. Rings touch themselves nowhere: where a region
    meets itself at a corner only, a hole touches the outer ring or another hole there.
    """
    corners = _find_corners(strips, nodes)
    count = len(corners.row)
    if not count:
        nothing = np.zeros(0, dtype=np.int32)
        return Outlines(nothing, nothing, np.zeros(1, np.int64), np.zeros(1, np.int64), nothing)
    successor = _link(corners, clockwise)
    ring_count, rings = connected_components(_graph(successor), directed=True, connection="weak")
    first = np.empty(ring_count, dtype=np.int64)
    first[rings[::-1]] = np.arange(count)[::-1]
    hole = (corners.goes[first] == _SOUTH).astype(np.int8)  # seen from a ring's first corner, an outer ring goes east
    in_order = np.lexsort((first, hole, corners.region[first]))
    path = _one_path(successor, first[in_order])
    sizes = np.bincount(rings, minlength=ring_count)[in_order]
    ends = np.cumsum(sizes)
    closed = np.insert(path, ends, path[ends - sizes])
    regions, polygon_offsets = np.unique(corners.region[first[in_order]], return_index=True)
    ring_offsets = np.concatenate([[0], np.cumsum(sizes + 1)])
    return Outlines(corners.col[closed], corners.row[closed], ring_offsets, np.append(polygon_offsets, ring_count), regions)


def _find_corners(strips: Iterable[NDArray[np.int32]], nodes: bool) -> _Corners:
    """The corners of all strips; the last row of one is the first row above the next."""
    found: list[_Corners] = []
    above: NDArray[np.int32] | None = None
    row = 0
    for strip in strips:
        padded = np.pad(strip, ((0, 0), (1, 1)), constant_values=OUTSIDE)
        if above is None:
            above = np.full(padded.shape[1], OUTSIDE, dtype=np.int32)
        found.append(_corners_between(np.vstack([above, padded]), row, nodes))
        above, row = padded[-1], row + strip.shape[0]
    if above is not None:
        found.append(_corners_between(np.vstack([above, np.full_like(above, OUTSIDE)]), row, nodes))
    return _Corners(*(np.concatenate([getattr(part, name) for part in found]) for name in _Corners.__dataclass_fields__))


def _corners_between(pixels: NDArray[np.int32], first_row: int, nodes: bool) -> _Corners:
    """The corners between the rows of `pixels` (row, col), which has one column too many on either side."""
    around = (pixels[:-1, :-1], pixels[:-1, 1:], pixels[1:, :-1], pixels[1:, 1:])
    level = (around[0] == around[1]) & (around[2] == around[3])
    upright = (around[0] == around[2]) & (around[1] == around[3])
    places = np.flatnonzero(~(level | upright))
    number = [part.ravel()[places] for part in around]
    turns: list[tuple[NDArray[Any], NDArray[Any], int, NDArray[Any] | int]] = []  # which places, region, comes, goes
    for mine, beside, over, across, comes, goes in _CONVEX:
        which = np.flatnonzero((number[mine] != number[beside]) & (number[mine] != number[over]) & (number[mine] != OUTSIDE))
        itself = number[mine][which] == number[across][which]  # cross over to that pixel, or the ring would touch itself
        turns.append((which, number[mine], comes, np.where(itself, (goes + 2) % 4, goes)))
    for mine, beside, over, missing, comes, goes in _REFLEX:
        same = (number[mine] == number[beside]) & (number[mine] == number[over])
        turns.append((np.flatnonzero(same & (number[mine] != number[missing]) & (number[mine] != OUTSIDE)), number[mine], comes, goes))
    for mine, beside, one, other, along in _STRAIGHT if nodes else ():
        same = (number[mine] == number[beside]) & (number[mine] != number[one]) & (number[mine] != number[other])
        turns.append((np.flatnonzero(same & (number[mine] != OUTSIDE)), number[mine], along, along))
    which = np.concatenate([turn[0] for turn in turns])
    order = np.argsort(which, kind="stable")
    row, col = np.divmod(places[which[order]], around[0].shape[1])
    region = np.concatenate([turn[1][turn[0]] for turn in turns])[order]
    comes_all = np.concatenate([np.full(len(turn[0]), turn[2], np.int8) for turn in turns])[order]
    goes_all = np.concatenate([np.broadcast_to(turn[3], len(turn[0])).astype(np.int8) for turn in turns])[order]
    return _Corners((row + first_row).astype(np.int32), col.astype(np.int32), region, comes_all, goes_all)


def _link(corners: _Corners, clockwise: bool) -> NDArray[np.int32]:
    """(corner,) the corner that follows on the outline."""
    successor = np.empty(len(corners.row), dtype=np.int32)
    by_rows = np.arange(len(corners.row), dtype=np.int32)
    by_cols = np.lexsort((corners.row, corners.col)).astype(np.int32)
    for direction, order in ((_EAST, by_rows), (_WEST, by_rows), (_SOUTH, by_cols), (_NORTH, by_cols)):
        begins, ends = order[corners.goes[order] == direction], order[corners.comes[order] == direction]
        if clockwise:
            successor[begins] = ends
        else:
            successor[ends] = begins
    return successor


def _one_path(successor: NDArray[np.int32], first: NDArray[np.int64]) -> NDArray[np.int32]:
    """All corners, ring after ring, each from its first one: the rings are cut open there and tied into one path."""
    last = np.empty(len(successor), dtype=np.int32)
    last[successor] = np.arange(len(successor), dtype=np.int32)
    tied = successor.copy()
    tied[last[first]] = np.roll(first, -1)
    path: NDArray[np.int32] = breadth_first_order(_graph(tied), int(first[0]), return_predecessors=False)
    return path


def _graph(successor: NDArray[np.int32]) -> Any:
    """One link from each corner to its successor, as scipy takes it."""
    count = len(successor)
    return csr_array((np.ones(count, dtype=np.int8), successor, np.arange(count + 1, dtype=np.int32)), shape=(count, count))
