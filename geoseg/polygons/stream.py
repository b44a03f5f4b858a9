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

from geoseg.polygons.corners import KEPT, ROW_SHIFT, Corners, Lattice, find_corners, place_of
from geoseg.polygons.strips import Runs
from geoseg.polygons.trace import Outlines, join_outlines, link_rings
from geoseg.polygons.unite import unite
from geoseg.polygons.waiting import WaitingCorners

_CORNERS_AT_ONCE = 2**21
"""Polygons are handed on in batches of about so many corners, or singly where one has more."""


Sums = Callable[[Runs], NDArray[np.float64]]
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
    none = np.zeros(0, dtype=np.int64)
    outlines, _ = link_rings(none, none.astype(np.int32), clockwise=True)
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
    regions that go on below it, 8 bytes for each corner (up to twice that where others in the same strip have ended).
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
        self._open_above = np.zeros(0, dtype=np.int32)
        """(run,) which open region a run of the last row belongs to; -1 for none."""
        self._open = _Regions(self._above[:0], np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), np.zeros((0, 0)))
        self._waiting = WaitingCorners()

    def add(self, codes: NDArray[Any]) -> Iterator[Traced]:
        """Go on with the next rows."""
        anchor = 0 if self._keep is not None and self._row else None
        kept = None if self._keep is None else self._keep(codes)
        lattice = Lattice.of(np.concatenate([self._above[np.newaxis], codes]), self._outside)
        region, found = self._regions(lattice, codes)
        in_last_row = int(np.searchsorted(lattice.run_places, (len(codes) - 1) * (lattice.width + 1)))
        lowest = region[lattice.of_first_row + in_last_row :]
        goes_on = np.zeros(len(found.codes), dtype=bool)
        goes_on[lowest[lowest >= 0]] = True
        yield from self._emit(find_corners(lattice, nodes=self._nodes, anchor=anchor), region, kept, found, goes_on)
        self._above = codes[-1].copy()
        still = np.flatnonzero(goes_on)
        number = np.full(len(goes_on) + 1, -1, dtype=np.int32)  # the last one is that of no region
        number[still] = np.arange(len(still), dtype=np.int32)
        self._open, self._open_above = found.take(still), number[lowest]
        self._waiting.renumber(number)
        self._row += len(codes)

    def finish(self) -> Iterator[Traced]:
        """The regions that reach the last row."""
        if not len(self._open.codes):
            return
        lattice = Lattice.of(np.stack([self._above, np.full_like(self._above, self._outside)]), self._outside)
        corners = find_corners(lattice, nodes=self._nodes)
        yield from self._emit(corners, self._open_above, None, self._open, np.zeros(len(self._open.codes), dtype=bool))

    def _regions(self, lattice: Lattice, codes: NDArray[Any]) -> tuple[NDArray[np.int32], _Regions]:
        """(run,) which region each run belongs to, -1 for none, and what is known of each after these rows."""
        count = len(lattice.run_codes)
        known = np.flatnonzero(self._open_above >= 0)
        known = known[np.argsort(self._open_above[known], kind="stable")]
        joined = np.flatnonzero(self._open_above[known[1:]] == self._open_above[known[:-1]])
        upper, lower = lattice.links
        ends = unite(np.concatenate([known[joined], upper]), np.concatenate([known[joined + 1], lower]), count)
        inside = lattice.run_codes != self._outside
        begins = np.flatnonzero((ends == np.arange(count)) & inside)
        number = np.empty(count, dtype=np.int32)
        number[begins] = np.arange(len(begins), dtype=np.int32)
        region = np.where(inside, number[ends], np.int32(-1))
        of_open = np.empty(len(self._open.codes), dtype=np.int32)
        of_open[self._open_above[known]] = region[known]
        self._waiting.renumber(of_open)
        return region, self._facts(lattice, codes, begins, region, of_open)

    def _facts(
        self,
        lattice: Lattice,
        codes: NDArray[Any],
        begins: NDArray[np.int64],
        region: NDArray[np.int32],
        of_open: NDArray[np.int32],
    ) -> _Regions:
        """What is known of each region after these rows; `begins` are their first runs here, `of_open` the regions above them."""
        count, above, line = len(begins), lattice.of_first_row, lattice.width + 1
        last = np.zeros(count + 1, dtype=np.int64)
        last[region] = np.arange(len(region))  # the last to be written is the last run; that of no region comes last
        last_row = np.full(count, self._row - 1)
        here = np.flatnonzero(last[:-1] >= above)
        last_row[here] = lattice.run_places[last[here] - above] // line + self._row
        new = int(np.searchsorted(begins, above))
        row, col = np.divmod(lattice.run_places[begins[new:] - above], line)
        first = np.full(count, np.iinfo(np.int64).max)
        first[new:] = (row + self._row) * lattice.width + col
        np.minimum.at(first, of_open, self._open.first)
        if self._sums is None:
            return _Regions(lattice.run_codes[begins], first, last_row, np.zeros((0, count)))
        inside = np.flatnonzero(region[above:] >= 0)
        place = lattice.run_places[inside]
        row = place // line
        lengths = lattice.run_places[inside + 1] - place  # what comes after a run of class pixels is in its row
        added = self._sums(Runs(self._row, codes, row, place - row * line, lengths))
        of_runs = region[above:][inside]
        sums: NDArray[np.float64] = np.stack([np.bincount(of_runs, weights=column, minlength=count) for column in added])
        for column, before in zip(sums, self._open.sums, strict=False):
            np.add.at(column, of_open, before)
        return _Regions(lattice.run_codes[begins], first, last_row, sums)

    def _emit(
        self,
        corners: Corners,
        region_of_runs: NDArray[np.int32],
        kept: NDArray[np.bool_] | None,
        found: _Regions,
        goes_on: NDArray[np.bool_],
    ) -> Iterator[Traced]:
        """Keep the corners of regions that go on; link those of all others, with what was kept of them."""
        words, region = corners.words, region_of_runs[corners.run]
        if kept is not None:
            words &= ~np.where(kept[place_of(words)], 0, KEPT)
        words += self._row << ROW_SHIFT
        before, region_before = self._waiting.pop(~goes_on)
        later = np.flatnonzero(np.append(goes_on, False)[region])  # corners outside are of region -1, the last one
        self._waiting.push(words[later], region[later])
        which = np.flatnonzero(~goes_on)
        if not len(which):
            return
        which = which[np.lexsort((found.first[which], found.last[which]))]
        place = np.full(len(goes_on) + 1, -1, dtype=np.int32)
        place[which] = np.arange(len(which), dtype=np.int32)
        polygon = place[region]
        now = np.flatnonzero(polygon >= 0)
        words = np.concatenate([*before, words[now]])
        polygon = np.concatenate([*(place[each] for each in region_before), polygon[now]])
        yield from self._linked(words, polygon, found.take(which))

    def _linked(self, words: NDArray[np.int64], polygon: NDArray[np.int32], found: _Regions) -> Iterator[Traced]:
        """These regions in batches of about so many corners."""
        count = len(found.codes)
        corners_to = np.cumsum(np.bincount(polygon, minlength=count))
        begin = 0
        while begin < count:
            sofar = corners_to[begin - 1] if begin else 0
            end = max(begin + 1, int(np.searchsorted(corners_to, sofar + _CORNERS_AT_ONCE, side="right")))
            here = slice(None) if end - begin == count else np.flatnonzero((polygon >= begin) & (polygon < end))
            outlines, simplified = link_rings(words[here], polygon[here] - np.int32(begin), clockwise=self._clockwise)
            done = found.take(np.arange(begin, end))
            yield Traced(outlines, simplified, done.codes, done.first, done.sums)
            begin = end
