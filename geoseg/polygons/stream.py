"""Outlines of a class map strip by strip: each region leaves when it ends, and only those that go on below are kept.

Regions of a strip are one with those above it where equal pixels meet across the edge. What a region has (its corners,
first pixel, sums) is carried down with it; where two regions turn out to be one, so do these. A region that does not
reach the strip's last row is complete: its corners are linked to rings at once, all complete regions together. Which
corners belong together where a region meets itself at a point is known only then, so nothing is linked before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from geoseg.polygons.corners import Corners, find_corners
from geoseg.polygons.strips import Strip
from geoseg.polygons.trace import Outlines, Turns, join_outlines, link_rings, ranges

_CORNERS_AT_ONCE = 2**21
"""Polygons are handed on in batches of about so many corners, or singly where one has more."""
_LEAST_USED = 0.5
"""Kept corners are packed anew when less than this share of them is still of open regions."""


Sums = Callable[[Strip], NDArray[np.float64]]
"""(sum, run) what is added up over each region."""
Keep = Callable[[NDArray[Any]], NDArray[np.bool_]]
"""From the codes (row, col) of a strip to (row, corner col) True for the corners above each row that stay; all above the first do."""


@dataclass(frozen=True)
class Traced:
    """Finished regions, in the order of their last rows, and of their first pixels within one."""

    outlines: Outlines
    """With every corner."""
    simplified: Outlines
    """With the corners alone that are kept; the same object where all are."""
    codes: NDArray[Any]
    """(polygon,)"""
    first_pixels: NDArray[np.int64]
    """(polygon,) counted along the rows of the map."""
    sums: NDArray[np.float64]
    """(sum, polygon)"""

    def __len__(self) -> int:
        return len(self.codes)


def trace_outlines(codes: NDArray[Any], outside: int, *, nodes: bool = False, clockwise: bool = True) -> Outlines:
    """Outlines of all regions of a map (row, col) that is in memory, in the order of their first pixels; else as `trace_regions`."""
    parts = list(trace_regions([codes], outside, nodes=nodes, clockwise=clockwise)) or [no_regions(0)]
    return join_outlines([part.outlines for part in parts], np.argsort(np.concatenate([part.first_pixels for part in parts])))


def no_regions(sums: int) -> Traced:
    """Finished regions of which there are none, with this many sums."""
    none, nothing = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int32)
    outlines, _ = link_rings(Turns(nothing, nothing, nothing.astype(np.uint8), nothing.astype(bool)), nothing, clockwise=True)
    return Traced(outlines, outlines, none, none, np.zeros((sums, 0)))


@dataclass
class _Regions:
    """What is known of some regions."""

    codes: NDArray[Any]
    first: NDArray[np.int64]
    last: NDArray[np.int64]
    """Last row so far."""
    sums: NDArray[np.float64]

    def take(self, which: NDArray[np.int64]) -> _Regions:
        return _Regions(self.codes[which], self.first[which], self.last[which], self.sums[:, which])


def trace_regions(
    strips: Iterable[NDArray[Any]],
    outside: int,
    *,
    sums: Sums | None = None,
    keep: Keep | None = None,
    nodes: bool = False,
    clockwise: bool = True,
) -> Iterator[Traced]:
    """The regions of a class map from its strips (row, col) of codes, from the top; pixels that are `outside` have none.

    A region is a largest set of pixels of one code that hang together by their sides. In memory are one strip and, of the
    regions that go on below it, 10 bytes for each corner (up to twice that where others in the same strip have ended).
    What comes out does not depend on the strips, only when it comes does; `keep` and what it says may. `nodes` also puts a
    vertex where a straight outline passes a place at which other regions meet, as a coverage needs it. `clockwise` says how
    outer rings turn when rows are drawn downwards.
    """
    stream: _Stream | None = None
    for codes in strips:
        if stream is None:
            stream = _Stream(codes, outside, sums, keep, nodes, clockwise)
        yield from stream.add(codes)
    if stream is not None:
        yield from stream.finish()


class _Stream:
    """The open regions, and the last row."""

    def __init__(self, codes: NDArray[Any], outside: int, sums: Sums | None, keep: Keep | None, nodes: bool, clockwise: bool) -> None:
        self._outside, self._sums, self._keep, self._nodes, self._clockwise = outside, sums, keep, nodes, clockwise
        self._row = 0
        self._above = np.full(codes.shape[1], outside, dtype=codes.dtype)
        self._open_above = np.full(codes.shape[1], -1, dtype=np.int32)
        """(col,) which open region a pixel of the last row belongs to."""
        self._open: _Regions | None = None
        self._waiting = _Waiting()

    def add(self, codes: NDArray[Any]) -> Iterator[Traced]:
        """Go on with the next rows."""
        anchor = 0 if self._keep is not None and self._row else None
        kept = None if self._keep is None else self._keep(codes)
        block = np.concatenate([self._above[np.newaxis], codes])
        strip = Strip.of(self._row - 1, block)
        runs = strip.firsts
        of_pixels = np.cumsum(strip.starts.ravel(), dtype=np.int32)
        of_pixels -= 1
        count, region = self._connect(strip, of_pixels)
        here = int(np.searchsorted(runs, codes.shape[1]))  # runs of the row above
        found = self._facts(Strip(self._row, codes, strip.starts[1:]), region, here, count)
        corners = find_corners(block, self._outside, nodes=self._nodes, anchor=anchor)
        goes_on = np.zeros(count, dtype=bool)
        last_row = slice(int(np.searchsorted(runs, block.size - codes.shape[1])), None)
        goes_on[region[last_row]] = True
        goes_on &= found.codes != self._outside
        yield from self._emit(corners, region[of_pixels[corners.pixel]], kept, found, goes_on)
        self._above = codes[-1].copy()
        number = np.full(count, -1, dtype=np.int32)
        still = np.flatnonzero(goes_on)
        number[still] = np.arange(len(still), dtype=np.int32)
        self._open, self._open_above = found.take(still), number[region[of_pixels[-codes.shape[1] :]]]
        self._waiting.renumber(number)
        self._row += len(codes)

    def finish(self) -> Iterator[Traced]:
        """The regions that reach the last row."""
        if self._open is None or not len(self._open.codes):
            return
        block = np.stack([self._above, np.full_like(self._above, self._outside)])
        corners = find_corners(block, self._outside, nodes=self._nodes)
        yield from self._emit(corners, self._open_above[corners.pixel], None, self._open, np.zeros(len(self._open.codes), dtype=bool))

    def _connect(self, strip: Strip, of_pixels: NDArray[np.int32]) -> tuple[int, NDArray[np.int32]]:
        """How many regions there are, and (run,) which each run belongs to; those above are connected as is known of them."""
        block, begins, runs = strip.codes, strip.starts, strip.firsts
        same = np.flatnonzero((begins[:-1] | begins[1:]) & (block[:-1] == block[1:]))
        upper, lower = of_pixels[same], of_pixels[same + block.shape[1]]
        above = self._open_above[runs[: np.searchsorted(runs, block.shape[1])]]
        known = np.flatnonzero(above >= 0)
        known = known[np.argsort(above[known], kind="stable")]
        joined = above[known[1:]] == above[known[:-1]]
        upper = np.concatenate([known[:-1][joined], upper]).astype(np.int32)
        lower = np.concatenate([known[1:][joined], lower]).astype(np.int32)
        links = (np.ones(len(upper), dtype=np.int8), (upper, lower))
        count, region = connected_components(csr_array(links, shape=(len(runs), len(runs))), directed=False)
        return int(count), region

    def _facts(self, strip: Strip, region: NDArray[np.int32], here: int, count: int) -> _Regions:
        """What is known of each region after these rows; `here` is the place of their first run among those of `region`."""
        codes, runs = strip.codes, strip.firsts
        region_here = region[here:]
        found = np.full(count, self._outside, dtype=codes.dtype)
        found[region_here] = codes.ravel()[runs]
        first = np.full(count, np.iinfo(np.int64).max)
        first[region_here[::-1]] = runs[::-1] + self._row * codes.shape[1]
        last = np.full(count, self._row - 1)
        last[region_here] = runs // codes.shape[1] + self._row
        sums = np.zeros((0, len(runs))) if self._sums is None else self._sums(strip)
        total = np.array([np.bincount(region_here, weights=column, minlength=count) for column in sums]).reshape(-1, count)
        if self._open is not None and len(self._open.codes):
            known = np.flatnonzero(self._open_above >= 0)
            of_open = np.empty(len(self._open.codes), dtype=np.int64)
            run_above = np.cumsum(np.append(True, self._above[1:] != self._above[:-1])) - 1
            of_open[self._open_above[known]] = region[run_above[known]]
            found[of_open] = self._open.codes
            np.minimum.at(first, of_open, self._open.first)
            for column, before in zip(total, self._open.sums, strict=True):
                np.add.at(column, of_open, before)
            self._waiting.renumber(of_open)
        return _Regions(found, first, last, total)

    def _emit(
        self,
        corners: Corners,
        region: NDArray[np.int32],
        kept: NDArray[np.bool_] | None,
        found: _Regions,
        goes_on: NDArray[np.bool_],
    ) -> Iterator[Traced]:
        """Keep the corners of regions that go on; link those of all others, with what was kept of them."""
        row = corners.row + np.int32(self._row)
        stays = np.ones(len(row), dtype=bool) if kept is None else kept[corners.row, corners.col]
        turns = Turns(row, corners.col, corners.kind, stays)
        ended = ~goes_on & (found.codes != self._outside)
        before, region_before = self._waiting.pop(ended)
        now = ended[region]
        self._waiting.push(_select(turns, ~now), region[~now])
        which = np.flatnonzero(ended)
        if not len(which):
            return
        which = which[np.lexsort((found.first[which], found.last[which]))]
        place = np.full(len(found.codes), -1, dtype=np.int32)
        place[which] = np.arange(len(which), dtype=np.int32)
        turns = _concatenated([*before, _select(turns, now)])
        polygon = place[np.concatenate([*region_before, region[now]])]
        corners_to = np.cumsum(np.bincount(polygon, minlength=len(which)))
        begin = 0
        while begin < len(which):
            sofar = corners_to[begin - 1] if begin else 0
            end = max(begin + 1, int(np.searchsorted(corners_to, sofar + _CORNERS_AT_ONCE, side="right")))
            if end - begin == len(which):
                outlines, simplified = link_rings(turns, polygon, clockwise=self._clockwise)
            else:
                here = np.flatnonzero((polygon >= begin) & (polygon < end))
                outlines, simplified = link_rings(_select(turns, here), polygon[here] - np.int32(begin), clockwise=self._clockwise)
            done = found.take(which[begin:end])
            yield Traced(outlines, simplified, done.codes, done.first, done.sums)
            begin = end


@dataclass
class _Chunk:
    """Corners of open regions from one strip, region by region."""

    turns: Turns
    used: int
    """Corners whose region is still open."""


class _Waiting:
    """Corners of open regions. Each strip leaves one piece for each region; a piece is a slice of that strip's chunk."""

    def __init__(self) -> None:
        self._chunks: dict[int, _Chunk] = {}
        self._next = 0
        self._region, self._chunk, self._start, self._stop = (np.zeros(0, dtype=np.int64) for _ in range(4))

    def push(self, turns: Turns, region: NDArray[np.int32]) -> None:
        """Keep these corners."""
        if not len(region):
            return
        order = np.argsort(region, kind="stable")
        ordered = region[order]
        start = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
        self._add(ordered[start], start, _select(turns, order))

    def pop(self, ended: NDArray[np.bool_]) -> tuple[list[Turns], list[NDArray[np.int64]]]:
        """The corners of the regions that have ended, row by row, and the region of each; they are kept no longer."""
        turns, regions = [], []
        out = ended[self._region]
        for number in np.unique(self._chunk[out]).tolist():
            mine = np.flatnonzero(out & (self._chunk == number))
            chunk = self._chunks[number]
            places = ranges(self._start[mine], self._stop[mine])
            part, region = _select(chunk.turns, places), np.repeat(self._region[mine], self._stop[mine] - self._start[mine])
            order = np.lexsort((part.kind, part.col, part.row))
            turns.append(_select(part, order))
            regions.append(region[order])
            chunk.used -= len(places)
        self._forget(out)
        return turns, regions

    def renumber(self, number: NDArray[np.integer]) -> None:
        """Regions are called by other numbers from now on; several may be one."""
        self._region = number[self._region].astype(np.int64)

    def _forget(self, out: NDArray[np.bool_]) -> None:
        """Drop pieces, and what chunks hold in vain."""
        self._region, self._chunk, self._start, self._stop = (part[~out] for part in (self._region, self._chunk, self._start, self._stop))
        for number, chunk in list(self._chunks.items()):
            if chunk.used == 0:
                del self._chunks[number]
            elif chunk.used < _LEAST_USED * len(chunk.turns.row):
                mine = np.flatnonzero(self._chunk == number)
                lengths = self._stop[mine] - self._start[mine]
                self._chunks[number] = _Chunk(_select(chunk.turns, ranges(self._start[mine], self._stop[mine])), chunk.used)
                self._stop[mine] = np.cumsum(lengths)
                self._start[mine] = self._stop[mine] - lengths

    def _add(self, region: NDArray[np.int32], start: NDArray[np.int64], turns: Turns) -> None:
        size = len(turns.row)
        self._chunks[self._next] = _Chunk(turns, size)
        self._region = np.concatenate([self._region, region])
        self._chunk = np.concatenate([self._chunk, np.full(len(region), self._next)])
        self._start = np.concatenate([self._start, start])
        self._stop = np.concatenate([self._stop, start[1:], [size]])
        self._next += 1


def _select(turns: Turns, which: NDArray[Any]) -> Turns:
    return Turns(turns.row[which], turns.col[which], turns.kind[which], turns.kept[which])


def _concatenated(parts: list[Turns]) -> Turns:
    rows, cols, kinds, kept = zip(*((part.row, part.col, part.kind, part.kept) for part in parts), strict=True)
    return Turns(np.concatenate(rows), np.concatenate(cols), np.concatenate(kinds), np.concatenate(kept))
