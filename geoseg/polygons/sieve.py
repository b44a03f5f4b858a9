"""Sieving: regions of a class map that are too small become part of their neighbours."""

from __future__ import annotations

import heapq
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray

from geoseg.errors import InputError
from geoseg.ground import pixel_size_m
from geoseg.io.cog import RowWriter
from geoseg.io.spilled import Pieces, numbers, on_disk_if_large
from geoseg.legend import Legend
from geoseg.polygons.regions import Regions, find_regions, strips_with_regions, touching
from geoseg.polygons.strips import map_geobox

_SIDE_STEPS = 1000
"""Lengths of pixel sides are whole thousandths of the shorter side: sums are exact, so that a tie is a tie."""
_AT_ONCE = 1 << 23
"""Shared edges that are put in order at once; there are about six for each region."""
_ENOUGH = 1 - 1e-6
"""Ten pixels of 100 m² are 1000 m², whatever the rounding of their sum."""


def sieve(classes: Path, out: Path, *, legend: Legend, min_area_m2: float) -> int:
    """Write the class map again with its small regions merged into their neighbours; return how many were merged away.

    A region is a set of pixels of one class that hang together by their sides. The rule, one region at a time:

    1. Of all regions below `min_area_m2` square metres on the ground, the one with the fewest pixels comes first; of equal
       ones, the one whose first pixel comes first, row by row from the upper left.
    2. It takes the class of the neighbour with which it shares the longest edge on the ground; of equal ones, of the
       neighbour whose first pixel comes first. It becomes one region with that neighbour and with all its other
       neighbours of that class, and competes again if the result is still too small.

    Pixels without a class never change and nothing is merged into them: a small island in no data stays. The result does
    not depend on strips, tiles or any order of work. The map is read three times, a strip at a time; what is kept does not grow with
    its pixels but with its regions, by about 400 bytes for each: in memory while that is not much, else in files without a name beside
    `out`; about a third of it then stays in memory. Raises InputError where `min_area_m2` is negative or the map holds a code that is
    not in the legend.
    """
    if min_area_m2 < 0:
        raise InputError(f"a smallest area of {min_area_m2:g} m² was given; expected 0 or more, in square metres")
    regions = find_regions(classes, out.parent)
    legend.to_indices(regions.codes)  # refuses codes that the legend does not have
    small = (regions.areas_m2 < min_area_m2 * _ENOUGH) & (regions.codes != legend.nodata)
    borders = _find_borders(classes, regions, small, legend.nodata)
    codes, merged = _merge(regions, small, borders, min_area_m2)
    with rasterio.open(classes) as source:
        tags, descriptions = source.tags(), [text or "" for text in source.descriptions]
    geobox = map_geobox(classes)
    colours = legend.colour_table()
    with RowWriter(
        out, geobox, count=1, dtype=legend.dtype, nodata=legend.nodata, descriptions=descriptions, colours=colours, tags=tags
    ) as writer:
        for strip, of_runs in strips_with_regions(classes, regions):
            writer.append(strip.spread(codes[of_runs].astype(legend.dtype))[np.newaxis])
    return merged


@dataclass(frozen=True)
class _Borders:
    """For each small region its neighbours, and how much edge it shares with each: rows of a sparse matrix."""

    offsets: NDArray[np.int64]
    """(region + 1,) where the neighbours of each region begin."""
    neighbours: NDArray[np.int64]
    lengths: NDArray[np.int64]
    """In thousandths of the shorter pixel side."""


def _find_borders(classes: Path, regions: Regions, small: NDArray[np.bool_], nodata: int) -> _Borders:
    """The shared edges of all regions that are small, added up strip by strip."""
    height, width = pixel_size_m(map_geobox(classes))
    upright, level = (round(_SIDE_STEPS * side / min(height, width)) for side in (height, width))
    count = len(regions)
    keys, lengths = Pieces(regions.scratch, np.int64), Pieces(regions.scratch, np.int64)
    above: tuple[NDArray[Any], NDArray[Any]] | None = None
    for strip, of_runs in strips_with_regions(classes, regions):
        pixels, starts = strip.spread(of_runs), strip.starts
        within = strip.firsts[1:] % starts.shape[1] != 0  # the run before it is in the same row
        first, second = of_runs[:-1][within], of_runs[1:][within]
        if above is not None:
            pixels, starts = np.vstack([above[0], pixels]), np.vstack([above[1], starts])
        upper, lower, shared = touching(pixels[:-1], pixels[1:], starts[:-1] | starts[1:])
        above = pixels[-1], starts[-1]
        one, other = np.concatenate([first, upper]).astype(np.int64), np.concatenate([second, lower]).astype(np.int64)
        length = np.concatenate([np.full(len(first), upright), shared * level])
        meets = (one != other) & (regions.codes[one] != nodata) & (regions.codes[other] != nodata)
        for mine, theirs in ((one, other), (other, one)):
            wanted = meets & small[mine]
            for whole, part in zip((keys, lengths), _added(mine[wanted] * count + theirs[wanted], length[wanted]), strict=True):
                whole.append(part)
    return _in_order(keys, lengths, regions)


def _in_order(keys: Pieces, lengths: Pieces, regions: Regions) -> _Borders:
    """The edges by region, some regions at a time. Every piece is in order itself, so that its share of them is found by bisection."""
    count, groups = len(regions), max(1, -(-len(keys) // _AT_ONCE))
    all_keys, all_lengths = keys.whole(), lengths.whole()
    pieces = list(zip(keys.parts(all_keys), lengths.parts(all_lengths), strict=True))
    neighbours, totals = (Pieces(regions.scratch, np.int64) for _ in range(2))
    many = Pieces(regions.scratch, np.int64)
    for group in range(groups):
        first, stop = (count * place // groups for place in (group, group + 1))
        cuts = [np.searchsorted(piece, [first * count, stop * count]) for piece, _ in pieces]
        shares = [[piece[low:high] for piece, (low, high) in zip(column, cuts, strict=True)] for column in zip(*pieces, strict=True)]
        key, total = _added(*(np.concatenate([np.empty(0, np.int64), *share]) for share in shares or [[], []]))
        region, neighbour = np.divmod(key, count)
        neighbours.append(neighbour)
        totals.append(total)
        many.append(np.bincount(region - first, minlength=stop - first))
    offsets = Pieces(regions.scratch, np.int64)
    offsets.append(np.zeros(1, np.int64))
    reached = 0
    for part in many.parts(many.whole()):
        offsets.append(reached + np.cumsum(part))
        reached += int(part.sum())
    return _Borders(offsets.whole(), neighbours.whole(), totals.whole())


def _added(keys: NDArray[np.int64], lengths: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Each key once, in order, and the sum of its lengths."""
    order = np.argsort(keys, kind="stable")
    keys, lengths = keys[order], lengths[order]
    first = np.flatnonzero(np.append(True, keys[1:] != keys[:-1])[: len(keys)])
    return keys[first], np.add.reduceat(lengths, first) if len(first) else lengths


def _merge(regions: Regions, small: NDArray[np.bool_], borders: _Borders, min_area_m2: float) -> tuple[NDArray[Any], int]:
    """(region,) the code of each region after merging, and how many regions were merged into others.

    A merged region goes by its lowest number, which is that of its first pixel.
    """
    parent = numbers(len(regions), regions.scratch).data
    columns = (regions.codes, regions.pixels, regions.areas_m2)
    codes, pixels, areas = (on_disk_if_large(column, regions.scratch).data for column in columns)
    offsets, neighbours, lengths = (part.data for part in (borders.offsets, borders.neighbours, borders.lengths))
    enough = min_area_m2 * _ENOUGH

    def whole(region: int) -> int:
        while parent[region] != region:
            parent[region] = region = parent[parent[region]]
        return region

    members: dict[int, list[int]] = {}  # of small regions made of several
    candidates = np.flatnonzero(small)
    count = len(regions)
    waiting = np.sort(regions.pixels[candidates] * count + candidates).data  # by pixels, then by first pixel; lighter than pairs
    again: list[int] = []  # a heap of those that are still too small after a merge
    first = merged = 0
    while again or first < len(waiting):
        if again and (first == len(waiting) or again[0] < waiting[first]):
            size, region = divmod(heapq.heappop(again), count)
        else:
            size, region = divmod(waiting[first], count)
            first += 1
        if parent[region] != region or pixels[region] != size:
            continue  # it has become part of another since
        shared: defaultdict[int, int] = defaultdict(int)
        for member in members.get(region, (region,)):
            for place in range(offsets[member], offsets[member + 1]):
                shared[whole(neighbours[place])] += lengths[place]
        shared.pop(region, None)
        if not shared:
            continue
        target = min(shared, key=lambda other: (-shared[other], other))
        group = sorted([region, *(other for other in shared if codes[other] == codes[target])])
        joined = group[0]
        codes[joined] = codes[target]
        pixels[joined] = sum(pixels[each] for each in group)
        areas[joined] = sum(areas[each] for each in group)
        for each in group:
            parent[each] = joined
        together = [member for each in group for member in members.pop(each, [each])]
        if areas[joined] < enough:
            members[joined] = together
            heapq.heappush(again, pixels[joined] * count + joined)
        merged += len(group) - 1
    roots = np.fromiter((whole(region) for region in range(len(regions))), dtype=np.int64, count=len(regions))
    return np.asarray(codes)[roots], merged
