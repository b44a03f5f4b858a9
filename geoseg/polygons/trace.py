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

from geoseg.polygons.corners import (
    COL_SHIFT,
    COMES,
    CROSSED,
    EAST,
    FIRST_KINDS,
    GOES,
    KEPT,
    NORTH,
    SOUTH,
    WEST,
    kind_of,
    place_of,
)

_FEW = 2**15
"""Fewer corners are followed one by one: that takes less time than loading scipy, which most small maps do without."""


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


def link_rings(words: NDArray[np.int64], polygon: NDArray[np.int32], *, clockwise: bool) -> tuple[Outlines, Outlines]:
    """Outlines of some regions from all their corners, with every corner, and with those alone that are kept.

    `words` are the corners in order, packed by `corner_words`; `polygon` is the place of each one's region among these, counted
    from 0 without gaps. `clockwise` says how outer rings turn when rows are drawn downwards. Rings touch themselves nowhere:
    where a region meets itself at a corner only, a hole touches the outer ring or another hole there.
    """
    count = len(words)
    if not count:
        nothing, none = np.zeros(0, dtype=np.int32), np.zeros(1, dtype=np.int64)
        return (Outlines(nothing, nothing, none, none),) * 2
    kind, place = kind_of(words), words >> COL_SHIFT
    for lag in (1, 2):  # two corners of one region at one place: cross over there, or the ring would touch itself
        both = np.flatnonzero(place[lag:] == place[:-lag])
        both = both[polygon[both] == polygon[both + lag]]
        for which in (both, both + lag):
            kind[which] = CROSSED[kind[which]]
    path, begins = _follow(_link(words, kind, clockwise), np.flatnonzero((kind == FIRST_KINDS[0]) | (kind == FIRST_KINDS[1])))
    sizes = np.diff(begins, append=count)
    first = path[begins]
    in_order = np.lexsort((first, kind[first] == FIRST_KINDS[1], polygon[first]))
    sizes, begins = sizes[in_order], begins[in_order]
    words = words[path[ranges(begins, begins + sizes)]]
    polygon_offsets = np.searchsorted(polygon[first[in_order]], np.arange(int(polygon.max()) + 2))
    whole = _closed(words, sizes, polygon_offsets)
    kept = words & KEPT == KEPT
    if kept.all():
        return whole, whole
    sizes = np.add.reduceat(kept, np.cumsum(sizes) - sizes, dtype=np.int64)
    return whole, _closed(words[kept], sizes, polygon_offsets)


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


def _closed(words: NDArray[np.int64], sizes: NDArray[np.int64], polygon_offsets: NDArray[np.int64]) -> Outlines:
    """Rings of these corners, each with its first corner once more at its end."""
    ends = np.cumsum(sizes)
    row, col = place_of(np.insert(words, ends, words[ends - sizes]))
    return Outlines(col.astype(np.int32), row.astype(np.int32), np.concatenate([[0], np.cumsum(sizes + 1)]), polygon_offsets)


def _link(words: NDArray[np.int64], kind: NDArray[np.uint8], clockwise: bool) -> NDArray[np.int32]:
    """(corner,) the corner that follows on the outline."""
    comes, goes = COMES[kind], GOES[kind]
    successor = np.empty(len(words), dtype=np.int32)
    for direction in (NORTH, EAST, SOUTH, WEST):
        begins, ends = np.flatnonzero(goes == direction), np.flatnonzero(comes == direction)
        if direction in (NORTH, SOUTH):
            begins, ends = _by_columns(begins, words), _by_columns(ends, words)
        if clockwise:
            successor[begins] = ends
        else:
            successor[ends] = begins
    return successor


def _by_columns(which: NDArray[np.int64], words: NDArray[np.int64]) -> NDArray[np.int64]:
    """These corners sorted by columns, within one as before: numbers of two bytes are sorted in linear time."""
    _, col = place_of(words[which])
    return which[np.argsort(col.astype(np.min_scalar_type(int(col.max(initial=0)))), kind="stable")]


def _follow(successor: NDArray[np.int32], starts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All corners, ring after ring, each from its first one, and where each ring begins; the first corners are among `starts`."""
    return (_follow_few if len(successor) < _FEW else _follow_many)(successor, starts)


def _follow_few(successor: NDArray[np.int32], starts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Corner by corner."""
    after, walked = successor.tolist(), bytearray(len(successor))
    path: list[int] = []
    begins: list[int] = []
    for corner in starts.tolist():
        if not walked[corner]:
            begins.append(len(path))
        while not walked[corner]:
            walked[corner] = True
            path.append(corner)
            corner = after[corner]
    return np.array(path, dtype=np.int64), np.array(begins, dtype=np.int64)


def _follow_many(successor: NDArray[np.int32], starts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """A depth-first walk along a chain of helpers: each leads to one start, whose ring is walked if it was not before, and then on."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import depth_first_order

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
