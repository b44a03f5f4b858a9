"""Outlines squared: walls along one main direction and its perpendicular, as buildings have them.

An outline traced from pixels is a staircase. Its pixel sides are divided into stretches, one a wall; a wall is the
least-squares line through the middles of its pixel sides in one of the allowed directions, and corners are where walls meet.

The main direction begins as the length-weighted mean of the walls' directions modulo a right angle (Duchêne et al. 2003,
"Quantitative and qualitative description of building orientation", ICA workshop on generalisation; their "wall average"),
after Douglas and Peucker's simplification, and becomes the least-squares direction of all walls at once (Gander and von Matt
1993, "Some least squares problems", on fitting rectangles). Where the result does not keep within the limits below, the
direction of the smallest enclosing rectangle is tried, and then a coarser simplification.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

MOST_MOVED = 1.0
"""A squared outline lies at most so far from the traced one on the mean, in pixels."""
LEAST_IOU = 0.9
"""… and covers at least this share of what either covers."""

_SIMPLIFY = (1.25, 2.0, 3.0)
"""Pixels: a straight wall's staircase stays within the first; the others are for walls that a network left ragged."""
_SHORTEST_WALL = 2.0
"""Pixels: what is shorter is noise of the outline, or its pixels."""
_SHORTEST_OBLIQUE = 10.0
"""Pixels: from here a wall at 45° to the others is believed."""
_MOST_OBLIQUE = 0.25
"""Share of an outline; with more it has no main direction."""
_LEAST_MAIN = 0.5
"""Length of the mean of the walls' directions modulo a right angle: 1 where all agree, 0.7 with a cut corner, 0.1 for a circle."""
_MOST_SIDES = 50_000
"""Pixel sides of one outline; a longer one is no building."""
_ROUNDS = 3
_SAMPLES_A_SIDE = 4
_EIGHTH = np.pi / 4


@dataclass(frozen=True)
class Squared:
    """An outline after squaring, in the pixel coordinates that it came in."""

    rings: tuple[NDArray[np.float64], ...]
    """(corner, 2) col and row of each ring, closed; as many rings as there were, in their order."""
    moved: float
    """Mean distance between the two outlines, in pixels: the larger of the means from either to the other."""
    iou: float
    """Area common to both over the area of either."""


@dataclass(frozen=True)
class _Ring:
    """The pixel sides of a closed outline, on the ground in units of a pixel's shorter side."""

    corners: NDArray[np.float64]
    """(corner, 2), closed."""
    starts: NDArray[np.float64]
    """(side, 2) the pixel corner at which each side begins."""
    middles: NDArray[np.float64]
    """(side, 2)"""
    lengths: NDArray[np.float64]
    """(side,)"""


@dataclass(frozen=True)
class _Walls:
    """The stretches of a ring, in order."""

    begins: NDArray[np.int64]
    """(wall,) its first pixel side; it ends where the next begins."""
    turns: NDArray[np.int64]
    """(wall,) its direction: how many eighths of a full turn, modulo 4, from the main direction."""


def square_outline(rings: Sequence[NDArray[np.integer]], to_ground: NDArray[np.float64]) -> Squared | None:
    """The outline with right angles, or None where that would change it too much.

    `rings` are (corner, 2) col and row of pixel corners, closed, the outer ring first; `to_ground` (2, 2) takes them to
    metres on the ground, or to anything in proportion. All rings share the outer ring's direction. A hole that cannot be squared
    stays as it is. Walls at 45° are kept where they are long. None is returned where the outline would move by more than
    MOST_MOVED, overlap the old one by less than LEAST_IOU, or be no valid polygon.
    """
    origin = np.asarray(rings[0]).min(axis=0)
    frame = to_ground / np.linalg.norm(to_ground, axis=0).min()
    sides = [_sides(np.asarray(ring, dtype=np.float64) - origin, frame) for ring in rings]
    if len(sides[0].middles) > _MOST_SIDES:
        return None
    for tolerance in _SIMPLIFY:
        bends = [_bends(ring, tolerance) for ring in sides]
        for direction in _directions(sides[0], bends[0]):
            corners = _fit_all(sides, bends, direction)
            moved, iou = (np.inf, 0.0) if corners is None else _change(sides, corners)
            if corners is not None and moved <= MOST_MOVED and iou >= LEAST_IOU:
                back = np.linalg.inv(frame).T
                return Squared(tuple(ring @ back + origin for ring in corners), moved, iou)
    return None


def _sides(ring: NDArray[np.float64], frame: NDArray[np.float64]) -> _Ring:
    """The single pixel sides of a closed ring of pixel corners."""
    steps = np.diff(ring, axis=0)
    counts = np.abs(steps).sum(axis=1).astype(np.int64)
    unit = np.repeat(steps / counts[:, np.newaxis], counts, axis=0)
    nth = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    starts = np.repeat(ring[:-1], counts, axis=0) + unit * nth[:, np.newaxis]
    return _Ring(ring @ frame.T, starts @ frame.T, (starts + unit / 2) @ frame.T, np.linalg.norm(unit @ frame.T, axis=1))


def _bends(ring: _Ring, tolerance: float) -> NDArray[np.int64]:
    """(bend,) the pixel sides at which the outline bends, after Douglas and Peucker."""
    points = ring.middles
    one = int(np.argmax(((points - points.mean(axis=0)) ** 2).sum(axis=1)))
    points = np.roll(points, -one, axis=0)
    two = int(np.argmax(((points - points[0]) ** 2).sum(axis=1)))
    halves = shapely.linestrings(points[: two + 1]), shapely.linestrings(np.vstack([points[two:], points[:1]]))
    kept = shapely.get_coordinates(shapely.simplify(np.array(halves), tolerance, preserve_topology=False))
    places = np.flatnonzero(np.isin(points @ [1, 1j], kept @ [1, 1j]))
    return np.sort((places + one) % len(points))


def _edges(ring: _Ring, bends: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(edge,) lengths and directions from each bend to the next."""
    across = np.roll(ring.middles[bends], -1, axis=0) - ring.middles[bends]
    return np.linalg.norm(across, axis=1), np.arctan2(across[:, 1], across[:, 0])


def _directions(ring: _Ring, bends: NDArray[np.int64]) -> Iterator[float]:
    """The main directions to try: that of the walls, long ones counting for more, and that of the smallest enclosing rectangle.

    Nothing where the walls have none in common.
    """
    lengths, angles = _edges(ring, bends)
    if abs((lengths * np.exp(4j * angles)).sum()) < _LEAST_MAIN * lengths.sum():
        return
    yield float(np.angle((lengths**2 * np.exp(4j * angles)).sum()) / 4)
    corners = shapely.get_coordinates(shapely.oriented_envelope(shapely.polygons(ring.corners)))
    across = corners[1] - corners[0]
    yield float(np.arctan2(across[1], across[0]))


def _fit_all(sides: Sequence[_Ring], bends: Sequence[NDArray[np.int64]], direction: float) -> list[NDArray[np.float64]] | None:
    """All rings with fitted walls, the holes along the outer ring's direction or as they were; None where the outer ring has too few."""
    shell = _fit(sides[0], bends[0], direction, turn=True)
    if shell is None:
        return None
    holes = [_fit(hole, bend, shell[1], turn=False) for hole, bend in zip(sides[1:], bends[1:], strict=True)]
    return [shell[0], *(hole.corners if new is None else new[0] for hole, new in zip(sides[1:], holes, strict=True))]


def _fit(ring: _Ring, bends: NDArray[np.int64], direction: float, *, turn: bool) -> tuple[NDArray[np.float64], float] | None:
    """The closed (corner, 2) ring of fitted walls and their direction, which is fitted too with `turn`; None where there are too few."""
    walls = _divide(ring, bends, direction)
    if walls is None:
        return None
    corners = _meet(ring, walls, direction)
    for _ in range(_ROUNDS):
        walls = _nearest_begins(ring, walls, corners)
        direction = _turned(ring, walls, direction) if turn else direction
        shortened = _without_short(ring, walls, direction)
        if shortened is None:
            return None
        walls, corners = shortened
    return np.vstack([corners, corners[:1]]), direction


def _divide(ring: _Ring, bends: NDArray[np.int64], direction: float) -> _Walls | None:
    """The ring's first division into walls; None where too much is oblique, or nothing closes."""
    lengths, angles = _edges(ring, bends)
    turns = np.rint((angles - direction) / _EIGHTH).astype(np.int64) % 4
    oblique = (turns % 2 == 1) & (lengths >= _SHORTEST_OBLIQUE)
    if lengths[oblique].sum() > _MOST_OBLIQUE * lengths.sum():
        oblique[:] = False
    square = 2 * np.rint((angles - direction) / (2 * _EIGHTH)).astype(np.int64) % 4
    joined = _joined(_Walls(bends, np.where(oblique, turns, square)))
    if joined is None:
        return None
    shortened = _without_short(ring, joined, direction)
    return None if shortened is None else shortened[0]


def _joined(walls: _Walls) -> _Walls | None:
    """Walls that follow one another in the same direction as one; None where no ring is left."""
    first = walls.turns != np.roll(walls.turns, 1)
    if first.sum() < 3:
        return None
    return _Walls(walls.begins[first], walls.turns[first])


def _without_short(ring: _Ring, walls: _Walls, direction: float) -> tuple[_Walls, NDArray[np.float64]] | None:
    """The walls, the shortest taken out as long as it is too short, and their corners."""
    while True:
        corners = _meet(ring, walls, direction)
        along = np.roll(corners, -1, axis=0) - corners
        went = np.roll(ring.middles[walls.begins], -1, axis=0) - ring.middles[walls.begins]
        angle = direction + walls.turns * _EIGHTH
        ways = np.column_stack([np.cos(angle), np.sin(angle)])
        lengths = (along * ways).sum(axis=1) * np.where((went * ways).sum(axis=1) < 0, -1, 1)
        least = int(np.argmin(np.round(lengths, 6)))
        if lengths[least] >= _SHORTEST_WALL or len(walls.turns) <= 4:
            return walls, corners
        kept = np.arange(len(walls.turns)) != least
        joined = _joined(_Walls(walls.begins[kept], walls.turns[kept]))
        if joined is None:
            return None
        walls = joined


def _middles(ring: _Ring, walls: _Walls) -> NDArray[np.float64]:
    """(wall, 2) the middle of the pixel sides of each wall, through which it runs."""
    of_sides = _of_sides(ring, walls)
    weighted = np.stack([np.bincount(of_sides, weights=ring.lengths * part) for part in ring.middles.T], axis=1)
    middle: NDArray[np.float64] = weighted / np.bincount(of_sides, weights=ring.lengths)[:, np.newaxis]
    return middle


def _of_sides(ring: _Ring, walls: _Walls) -> NDArray[np.int64]:
    """(side,) the wall to which each pixel side belongs."""
    place = np.searchsorted(walls.begins, np.arange(len(ring.middles)), side="right") - 1
    return place % len(walls.begins)


def _meet(ring: _Ring, walls: _Walls, direction: float) -> NDArray[np.float64]:
    """(wall, 2) the corner at which each wall begins: where it meets the one before it."""
    angle = direction + walls.turns * _EIGHTH
    normal = np.column_stack([-np.sin(angle), np.cos(angle)])
    offset = (normal * _middles(ring, walls)).sum(axis=1)
    both = np.stack([np.roll(normal, 1, axis=0), normal], axis=1)
    corners: NDArray[np.float64] = np.linalg.solve(both, np.stack([np.roll(offset, 1), offset], axis=1)[..., np.newaxis])[..., 0]
    return corners


def _nearest_begins(ring: _Ring, walls: _Walls, corners: NDArray[np.float64]) -> _Walls:
    """The walls, each beginning where the outline is nearest to its corner, sought halfway along either wall."""
    count = len(ring.middles)
    lengths = (np.roll(walls.begins, -1) - walls.begins) % count
    begins = walls.begins.copy()
    for wall, corner in enumerate(corners):
        near = (walls.begins[wall] + np.arange(-(lengths[wall - 1] // 2), (lengths[wall] + 1) // 2)) % count
        begins[wall] = near[np.argmin(np.round(((ring.starts[near] - corner) ** 2).sum(axis=1), 6))]
    order = np.argmin(begins)
    return _Walls(np.roll(begins, -order), np.roll(walls.turns, -order))


def _turned(ring: _Ring, walls: _Walls, direction: float) -> float:
    """The direction that leaves the least squares of the distances between pixel sides and walls."""
    of_sides = _of_sides(ring, walls)
    angle = direction + walls.turns[of_sides] * _EIGHTH
    off = ring.middles - _middles(ring, walls)[of_sides]
    along = off[:, 0] * np.cos(angle) + off[:, 1] * np.sin(angle)
    across = off[:, 1] * np.cos(angle) - off[:, 0] * np.sin(angle)
    mixed, difference = (ring.lengths * along * across).sum(), (ring.lengths * (along**2 - across**2)).sum()
    return direction + float(np.arctan2(2 * mixed, difference)) / 2


def _change(before: Sequence[_Ring], after: Sequence[NDArray[np.float64]]) -> tuple[float, float]:
    """How far an outline moved on the mean, and the overlap (IoU) of old and new; infinity and 0 where the new one is not valid."""
    new = shapely.Polygon(after[0], after[1:])
    if not shapely.is_valid(new):
        return np.inf, 0.0
    old = shapely.Polygon(before[0].corners, [ring.corners for ring in before[1:]])
    common = shapely.area(shapely.intersection(old, new))
    moved = max(_mean_distance(old.boundary, new.boundary), _mean_distance(new.boundary, old.boundary))
    return moved, float(common / (shapely.area(old) + shapely.area(new) - common))


def _mean_distance(one: shapely.Geometry, other: shapely.Geometry) -> float:
    """Mean over a line's points, four to a pixel, of their distance from another line."""
    total = shapely.length(one)
    count = max(8, int(np.ceil(total * _SAMPLES_A_SIDE)))
    shares = (np.arange(count) + 0.5) / count
    parts = shapely.get_parts(one)
    ends = np.cumsum(shapely.length(parts))
    places = shares * total
    which = np.minimum(np.searchsorted(ends, places), len(parts) - 1)
    points = shapely.line_interpolate_point(parts[which], places - np.concatenate([[0.0], ends])[which])
    return float(shapely.distance(points, other).mean())
