"""Outlines of regions as rings of pixel corners, all regions at once.

Between two corners an outline runs straight along a row or column of corners, where beginnings and ends alternate: the
first beginning belongs to the first end, and so on. That gives every corner its successor, and following successors
gives the rings. No polygon is ever a Python object on the way, and each step is one array operation over all corners.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import depth_first_order

from geoseg.polygons.corners import COMES, EAST, GOES, NORTH, SOUTH, WEST


@dataclass(frozen=True)
class Outlines:
    """Closed rings of all regions: by region, the outer ring before its holes, each from its first corner row by row."""

    col: NDArray[np.int32]
    """(vertex,) pixel corner, counted from the left edge; a ring's first vertex is repeated as its last."""
    row: NDArray[np.int32]
    """(vertex,) pixel corner, counted from the upper edge."""
    ring_offsets: NDArray[np.int64]
    """(ring + 1,) first vertex of each ring, and the number of vertices."""
    polygon_offsets: NDArray[np.int64]
    """(polygon + 1,) first ring of each polygon, and the number of rings."""


@dataclass(frozen=True)
class Turns:
    """All corners of some regions, row by row."""

    row: NDArray[np.int32]
    col: NDArray[np.int32]
    kind: NDArray[np.uint8]
    kept: NDArray[np.bool_]
    """False where simplification leaves the corner out."""


def link_rings(turns: Turns, polygon: NDArray[np.int32], *, clockwise: bool) -> tuple[Outlines, Outlines]:
    """Outlines of some regions from all their corners, with every corner, and with those alone that are kept.

    `polygon` is the place of each corner's region among these, counted from 0 without gaps. `clockwise` says how outer rings
    turn when rows are drawn downwards. Rings touch themselves nowhere: where a region meets itself at a corner only, a hole
    touches the outer ring or another hole there.
    """
    count = len(turns.row)
    if not count:
        nothing, none = np.zeros(0, dtype=np.int32), np.zeros(1, dtype=np.int64)
        return (Outlines(nothing, nothing, none, none),) * 2
    goes = GOES[turns.kind]
    for lag in (1, 2):  # two corners of one region at one place: cross over there, or the ring would touch itself
        same = (turns.col[lag:] == turns.col[:-lag]) & (turns.row[lag:] == turns.row[:-lag]) & (polygon[lag:] == polygon[:-lag])
        first = np.flatnonzero(same)
        goes[first] = (goes[first] + 2) % 4
        goes[first + lag] = (goes[first + lag] + 2) % 4
    comes = COMES[turns.kind]
    # Row by row the first corner of an outer ring is an upper left one, that of a hole the same seen from outside.
    may_be_first = np.flatnonzero((comes == NORTH) & (goes == EAST) | (comes == WEST) & (goes == SOUTH))
    path, begins = _follow(_link(turns, comes, goes, clockwise), may_be_first)
    sizes = np.diff(begins, append=count)
    first = path[begins]
    hole = goes[first] == SOUTH
    in_order = np.lexsort((first, hole, polygon[first]))
    sizes, begins = sizes[in_order], begins[in_order]
    path = path[ranges(begins, begins + sizes)]
    polygon_offsets = np.searchsorted(polygon[first[in_order]], np.arange(int(polygon.max()) + 2))
    whole = _closed(turns, path, sizes, polygon_offsets)
    kept = turns.kept[path]
    if kept.all():
        return whole, whole
    sizes = np.add.reduceat(kept, np.cumsum(sizes) - sizes, dtype=np.int64)
    return whole, _closed(turns, path[kept], sizes, polygon_offsets)


def join_outlines(parts: Sequence[Outlines], order: NDArray[np.int64]) -> Outlines:
    """The polygons of all parts, in this order of their numbers in all."""
    sizes = np.concatenate([np.diff(part.ring_offsets) for part in parts])
    rings = np.concatenate([np.diff(part.polygon_offsets) for part in parts])
    ring_ends, vertex_ends = np.cumsum(rings), np.cumsum(sizes)
    in_order = ranges(ring_ends[order] - rings[order], ring_ends[order])
    vertices = ranges(vertex_ends[in_order] - sizes[in_order], vertex_ends[in_order])
    col, row = (np.concatenate([getattr(part, name) for part in parts])[vertices] for name in ("col", "row"))
    return Outlines(col, row, np.append(0, np.cumsum(sizes[in_order])), np.append(0, np.cumsum(rings[order])))


def ranges(start: NDArray[np.int64], stop: NDArray[np.int64]) -> NDArray[np.int64]:
    """All numbers from each start to before its stop, one range after the other."""
    lengths = stop - start
    ends = np.cumsum(lengths)
    numbers: NDArray[np.int64] = np.arange(lengths.sum()) + np.repeat(start - (ends - lengths), lengths)
    return numbers


def _closed(turns: Turns, path: NDArray[np.int64], sizes: NDArray[np.int64], polygon_offsets: NDArray[np.int64]) -> Outlines:
    """Rings along a path of corners, each with its first corner once more at its end."""
    ends = np.cumsum(sizes)
    closed = np.insert(path, ends, path[ends - sizes])
    return Outlines(turns.col[closed], turns.row[closed], np.concatenate([[0], np.cumsum(sizes + 1)]), polygon_offsets)


def _link(turns: Turns, comes: NDArray[np.int8], goes: NDArray[np.int8], clockwise: bool) -> NDArray[np.int32]:
    """(corner,) the corner that follows on the outline."""
    cols = int(turns.col.max()) + 1
    successor = np.empty(len(goes), dtype=np.int32)
    for direction in (NORTH, EAST, SOUTH, WEST):
        begins, ends = np.flatnonzero(goes == direction), np.flatnonzero(comes == direction)
        if direction in (NORTH, SOUTH):
            begins, ends = (_by_columns(which, turns.col[which], cols) for which in (begins, ends))
        if clockwise:
            successor[begins] = ends
        else:
            successor[ends] = begins
    return successor


def _by_columns(which: NDArray[np.int64], col: NDArray[np.int32], cols: int) -> NDArray[np.int64]:
    """These corners sorted by columns, within one as before: in linear time, as a matrix of one row is transposed."""
    of_cols: NDArray[np.int64] = csr_array((which, col, [0, len(which)]), shape=(1, cols)).tocsc().data
    return of_cols


def _follow(successor: NDArray[np.int32], starts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All corners, ring after ring, each from its first one, and where each ring begins; the first corners are among `starts`.

    A depth-first walk along a chain of helpers: each leads to one start, whose ring is walked if it was not before, and
    then to the next helper.
    """
    count, helpers = len(successor), len(starts)
    links = np.empty(count + 2 * helpers - 1, dtype=np.int32)
    links[:count], links[count::2], links[count + 1 :: 2] = successor, starts, np.arange(count + 1, count + helpers)
    offsets = np.concatenate([np.arange(count), np.arange(count, len(links), 2), [len(links)]]).astype(np.int32)
    graph = csr_array((np.ones(len(links)), links, offsets), shape=(count + helpers, count + helpers))
    walked = depth_first_order(graph, count, return_predecessors=False)
    is_corner = walked < count
    path = walked[is_corner].astype(np.int64)
    begins = np.flatnonzero(is_corner[1:] & ~is_corner[:-1])  # the walk begins with a helper
    return path, np.cumsum(is_corner)[begins]
