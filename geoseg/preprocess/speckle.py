"""Filters against speckle, in linear power.

Speckle multiplies, so its mean is kept in linear power only: filter and average there, then take decibels. Intensity of `looks`
independent looks has the speckle variance mean² / looks; all filters but the plain mean ask for it.

Every pixel is computed from its window alone and in the same order of sums, so that a pixel half a window away from a tile's
edge equals that of the whole scene, bit for bit. Beyond the edge of the scene there is no data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

SpeckleFilter = Literal["boxcar", "lee", "refined_lee", "gamma_map"]
USUAL_SIZE: Mapping[SpeckleFilter, int] = {"boxcar": 5, "lee": 5, "refined_lee": 7, "gamma_map": 7}
"""Width of the window in pixels where none is asked for; that of `refined_lee` is part of the method."""

_BLOCK_SIDE = 128
"""Pixels filtered at a time, squared: what stays in a processor's cache."""

_Plane = NDArray[np.float64]


def despeckle(
    power: NDArray[np.float32], valid: NDArray[np.bool_], method: SpeckleFilter, *, size: int | None = None, looks: float = 1.0
) -> NDArray[np.float32]:
    """(row, col) linear power with less speckle, from the valid pixels of a window of `size` x `size`; 0 where not valid.

    - `boxcar`: the window's mean.
    - `lee`: the minimum mean square error estimate of J.-S. Lee, "Digital image enhancement and noise filtering by use of local
      statistics", IEEE TPAMI 2 (1980): the mean where the ground is homogeneous, the pixel itself where it is not.
    - `refined_lee`: J.-S. Lee, "Refined filtering of image noise using local statistics", CGIP 15 (1981): near an edge the same
      estimate from that half of a 7 x 7 window which lies on the pixel's side. Where the whole window varies no more than
      speckle does, it is used whole.
    - `gamma_map`: A. Lopes, E. Nezry, R. Touzi, H. Laur, "Structure detection and statistical adaptive speckle filtering in SAR
      images", IJRS 14 (1993): the most probable ground, itself gamma distributed; the mean where the window is homogeneous,
      the pixel itself where it holds a point target. Its estimate is a mode, a little below the mean.

    ValueError for a window without a middle, or of another size than the method allows.
    """
    size = window_size(method, size)
    filtered = np.zeros(power.shape, np.float32)
    for rows, cols in _blocks(power.shape):
        around = _Surroundings.of(power, valid, rows, cols, size // 2)
        if around.valid.any():
            filtered[rows, cols] = _ESTIMATE[method](around, 1.0 / looks)
    filtered *= valid
    return filtered


def window_size(method: SpeckleFilter, size: int | None) -> int:
    """The width of the window in pixels: the one asked for, else the method's usual; ValueError where it cannot be that wide."""
    size = USUAL_SIZE[method] if size is None else size
    if method == "refined_lee" and size != USUAL_SIZE[method]:
        raise ValueError(f"a window of {size} pixels is not for refined_lee, whose edge-aligned halves are those of 7; leave the size out")
    if size < 3 or size % 2 == 0:
        raise ValueError(f"a window of {size} pixels has no middle with neighbours; expected an odd number from 3")
    return size


def quegan(stack: NDArray[np.float32], valid: NDArray[np.bool_], *, size: int = 7) -> NDArray[np.float32]:
    """(time, row, col) linear power with less speckle: every date keeps its own local mean and shares the texture of all dates.

    S. Quegan & J. J. Yu, "Filtering of multichannel SAR images", IEEE TGRS 39 (2001), for independent dates of equal looks: with E
    the mean of a `size` x `size` window on the same date, date k becomes E[k] times the mean over the dates i of I[i] / E[i].
    Only dates on which a pixel is `valid` (time, row, col) count for it; 0 where it is not. The dates must lie on one grid.
    """
    size = window_size("boxcar", size)
    filtered = np.zeros(stack.shape, np.float32)
    for rows, cols in _blocks(stack.shape[1:]):
        dates = [_Surroundings.of(power, known, rows, cols, size // 2) for power, known in zip(stack, valid, strict=True)]
        means = np.stack([date.mean() for date in dates])  # (time, row, col)
        counted = valid[:, rows, cols] & (means > 0)
        texture = np.divide(stack[:, rows, cols], means, out=np.zeros_like(means), where=counted)
        shared = texture.sum(axis=0) / np.maximum(counted.sum(axis=0), 1)  # (row, col)
        filtered[:, rows, cols] = means * shared
    filtered *= valid
    return filtered


def _blocks(shape: tuple[int, ...]) -> Iterator[tuple[slice, slice]]:
    rows, cols = shape
    for top in range(0, rows, _BLOCK_SIDE):
        for left in range(0, cols, _BLOCK_SIDE):
            yield slice(top, min(top + _BLOCK_SIDE, rows)), slice(left, min(left + _BLOCK_SIDE, cols))


# ---------------------------------------------------------------- below: a block and its windows


@dataclass(frozen=True)
class _Surroundings:
    """The pixels of a block and those around it that its windows reach, as far as they are known."""

    power: _Plane
    """(row + 2 x reach, col + 2 x reach); 0 where not valid. In float64 sums of equal numbers are exact: constant ground stays constant."""
    valid: NDArray[np.bool_]
    reach: int

    @classmethod
    def of(cls, power: NDArray[np.float32], valid: NDArray[np.bool_], rows: slice, cols: slice, reach: int) -> _Surroundings:
        """What a plane knows around these rows and columns; nothing beyond its edge."""
        shape = (rows.stop - rows.start + 2 * reach, cols.stop - cols.start + 2 * reach)
        values, known = np.zeros(shape, np.float64), np.zeros(shape, dtype=bool)
        top, left = rows.start - reach, cols.start - reach
        source = np.s_[max(top, 0) : rows.stop + reach, max(left, 0) : cols.stop + reach]
        seen = valid[source]
        inner = np.s_[max(-top, 0) : max(-top, 0) + seen.shape[0], max(-left, 0) : max(-left, 0) + seen.shape[1]]
        np.copyto(values[inner], power[source], where=seen)
        known[inner] = seen
        return cls(values, known, reach)

    @property
    def centre(self) -> _Plane:
        """(row, col) the block itself."""
        rows, cols = self.power.shape
        return self.power[self.reach : rows - self.reach, self.reach : cols - self.reach]

    def mean(self) -> _Plane:
        """(row, col) mean of each window."""
        return self._whole(self.power)

    def mean_square(self) -> _Plane:
        """(row, col) mean of the squares of each window."""
        return self._whole(self.power * self.power)

    def count(self, sums: Callable[[_Plane], _Plane], size: int) -> _Plane:
        """How many pixels of each window of `size` are known, at least 1; `sums` says which belong to it."""
        if self.valid.all():
            return sums(np.ones((size, size)))  # the same everywhere: one window tells
        return np.maximum(sums(self.valid.astype(np.float64)), 1)

    def _whole(self, plane: _Plane) -> _Plane:
        size = 2 * self.reach + 1
        return _window_sum(plane, size) / self.count(lambda plane: _window_sum(plane, size), size)


def _window_sum(plane: _Plane, size: int) -> _Plane:
    """(row, col) sum of each `size` x `size` window that lies in the plane."""
    rows, cols = (length - size + 1 for length in plane.shape)
    down = plane[:rows].copy()
    for shift in range(1, size):
        down += plane[shift : shift + rows]
    across = down[:, :cols].copy()
    for shift in range(1, size):
        across += down[:, shift : shift + cols]
    return across


# ---------------------------------------------------------------- below: the estimates, (row, col) of a block


def _boxcar(around: _Surroundings, noise_variance: float) -> _Plane:
    return around.mean()


def _lee(around: _Surroundings, noise_variance: float) -> _Plane:
    return _linear_estimate(around.mean(), around.mean_square(), around.centre, noise_variance)


def _refined_lee(around: _Surroundings, noise_variance: float) -> _Plane:
    mean, mean_square = around.mean(), around.mean_square()
    structured = mean_square > (1.0 + noise_variance) * mean * mean  # more variance than speckle explains
    if structured.any():
        half = _half_without_edge(around, mean)
        count = around.count(_half_window_sums, _HALVED)
        for plane, summed in ((mean, around.power), (mean_square, around.power * around.power)):
            of_halves = _half_window_sums(summed)
            of_halves /= count
            np.copyto(plane, np.take_along_axis(of_halves, half[np.newaxis], axis=0)[0], where=structured)
    return _linear_estimate(mean, mean_square, around.centre, noise_variance)


def _gamma_map(around: _Surroundings, noise_variance: float) -> _Plane:
    mean, pixel, looks = around.mean(), around.centre, 1.0 / noise_variance
    squared = mean * mean
    seen = np.maximum(around.mean_square() - squared, 0)  # the local variance
    np.divide(seen, squared, out=seen, where=squared > 0)
    with np.errstate(divide="ignore", invalid="ignore"):  # homogeneous and point-like windows are replaced below
        order = (1.0 + noise_variance) / (seen - noise_variance)  # of the ground's gamma distribution: large where it varies little
        slope = (order - looks - 1.0) * mean
        root = np.sqrt(np.maximum(slope * slope + 4.0 * order * looks * mean * pixel, 0))  # subtracted noise leaves negative power
        estimate = (slope + root) / (2.0 * order)
    return np.where(seen <= noise_variance, mean, np.where(seen >= _POINT_TARGET * noise_variance, pixel, estimate))


_POINT_TARGET = 2.0
"""A window this many times more variable than speckle holds a point target (Lopes et al.: a coefficient of variation of √2)."""

_ESTIMATE: Mapping[SpeckleFilter, Callable[[_Surroundings, float], _Plane]] = {
    "boxcar": _boxcar,
    "lee": _lee,
    "refined_lee": _refined_lee,
    "gamma_map": _gamma_map,
}
"""Takes the surroundings of a block and the variance of speckle of mean 1."""


def _linear_estimate(mean: _Plane, mean_square: _Plane, pixel: _Plane, noise_variance: float) -> _Plane:
    """The mean, moved towards the pixel by the share of the variance that is ground and not speckle."""
    squared = mean * mean
    ground = np.maximum(mean_square - (1.0 + noise_variance) * squared, 0)  # 0: no more than speckle explains
    ground /= 1.0 + noise_variance
    total = ground + noise_variance * squared
    weight = np.divide(ground, total, out=np.zeros_like(total), where=total > 0)
    weight *= pixel - mean
    weight += mean
    return weight


# ---------------------------------------------------------------- below: edges in a window of 7 x 7

_HALVED = USUAL_SIZE["refined_lee"]
_HALVES = ("west", "east", "north", "south", "south-west", "north-east", "north-west", "south-east")
"""The halves of a window, each with the line through its middle, as pairs on the two sides of an edge."""


def _half_without_edge(around: _Surroundings, mean: _Plane) -> NDArray[np.uint8]:
    """(row, col) the place in `_HALVES` of the half on the pixel's side of the strongest edge.

    The edge is looked for in the means of nine overlapping 3 x 3 windows; its side is that whose mean is nearer to the middle's.
    A 3 x 3 window without a known pixel counts as the `mean` of the whole.
    """
    rows, cols = mean.shape
    local = _window_sum(around.power, 3) / around.count(lambda plane: _window_sum(plane, 3), 3)
    empty = None if around.valid.all() else _window_sum(around.valid.astype(np.float64), 3) == 0

    def local_mean(row: int, col: int) -> _Plane:
        here = np.s_[row : row + rows, col : col + cols]
        return local[here] if empty is None else np.where(empty[here], mean, local[here])

    (nw, n, ne), (w, middle, e), (sw, s, se) = [[local_mean(row, col) for col in (0, 2, 4)] for row in (0, 2, 4)]
    best = np.full(mean.shape, -1.0)
    half = np.zeros(mean.shape, np.uint8)
    edges = (
        ((nw, w, sw), (ne, e, se)),
        ((nw, n, ne), (sw, s, se)),
        ((w, sw, s), (n, ne, e)),
        ((n, nw, w), (e, se, s)),
    )
    for pair, (first, second) in enumerate(edges):
        strength = np.abs(first[0] + first[1] + first[2] - (second[0] + second[1] + second[2]))
        nearer = np.abs(second[1] - middle) < np.abs(first[1] - middle)
        stronger = strength > best
        np.maximum(best, strength, out=best)
        np.copyto(half, nearer + np.uint8(2 * pair), where=stronger)
    return half


def _half_window_sums(plane: _Plane) -> _Plane:
    """(half, row, col) sums of each 7 x 7 window that lies in the plane over its `_HALVES`."""
    rows, cols = (length - _HALVED + 1 for length in plane.shape)
    to = [plane[:, :cols].copy()]  # of one row of a window, from its first column to this one
    of = [plane[:, _HALVED - 1 :].copy()]  # from this column to its last
    for shift in range(1, _HALVED):
        to.append(to[-1] + plane[:, shift : shift + cols])
        of.append(of[-1] + plane[:, _HALVED - 1 - shift : _HALVED - 1 - shift + cols])
    of.reverse()
    middle, last = _HALVED // 2, _HALVED - 1
    halves = (
        [(row, to[middle]) for row in range(_HALVED)],
        [(row, of[middle]) for row in range(_HALVED)],
        [(row, to[last]) for row in range(middle + 1)],
        [(row, to[last]) for row in range(middle, _HALVED)],
        [(row, to[row]) for row in range(_HALVED)],
        [(row, of[row]) for row in range(_HALVED)],
        [(row, to[last - row]) for row in range(_HALVED)],
        [(row, of[last - row]) for row in range(_HALVED)],
    )
    sums = np.zeros((len(_HALVES), rows, cols))
    for total, parts in zip(sums, halves, strict=True):
        for row, part in parts:
            total += part[row : row + rows]
    return sums
