"""Radar backscatter: linear power and decibels, and two filters against speckle.

Speckle multiplies, so its mean is kept in linear power only: filter and average there, then take decibels.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray

SpeckleFilter = Literal["boxcar", "lee"]

_NEPER = 10.0 / math.log(10.0)
"""Decibels of a factor e in power; numpy's natural logarithm is several times faster than log10 in float32."""

_BLOCK_PIXELS = 1 << 16
"""Pixels filtered at a time: what stays in a processor's cache."""


def to_decibels(power: NDArray[np.float32], floor: float = 1e-6) -> NDArray[np.float32]:
    """10 log10 of linear power, of any shape; power below `floor`, also zero and negative, counts as `floor`."""
    decibels = np.maximum(power, np.float32(floor))
    np.log(decibels, out=decibels)
    decibels *= np.float32(_NEPER)
    return decibels


def to_power(decibels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Linear power of decibels, of any shape."""
    power = np.multiply(decibels, np.float32(1.0 / _NEPER))
    return np.exp(power, out=power)


def despeckle(
    power: NDArray[np.float32], valid: NDArray[np.bool_], method: SpeckleFilter, *, size: int = 5, looks: float = 1.0
) -> NDArray[np.float32]:
    """(row, col) linear power with less speckle, from the valid pixels of a `size` x `size` window; 0 where not valid.

    `boxcar` is the window's mean. `lee` is the minimum mean square error estimate of J.-S. Lee, "Digital image enhancement
    and noise filtering by use of local statistics", IEEE TPAMI 2 (1980), with the noise variance 1 / `looks` of intensity:
    the mean where the ground is homogeneous, the pixel itself where it is not. Beyond the edge there is no data. Every
    pixel is summed in the same order, so a pixel `size` // 2 away from a tile's edge equals that of the whole scene, bit for bit.
    """
    half = size // 2
    rows, cols = power.shape
    step = max(size, _BLOCK_PIXELS // max(cols, 1))
    filtered = np.empty_like(power)
    for start in range(0, rows, step):
        stop = min(start + step, rows)
        top = max(start - half, 0)
        around = slice(top, min(stop + half, rows))
        block = _despeckle_block(power[around], valid[around], method, size, looks)
        filtered[start:stop] = block[start - top : stop - top]
    return filtered


def _despeckle_block(
    power: NDArray[np.float32], valid: NDArray[np.bool_], method: SpeckleFilter, size: int, looks: float
) -> NDArray[np.float32]:
    known = np.where(valid, power, np.float32(0))  # (row, col)
    count = np.maximum(_window_sum(valid.astype(np.float32), size), np.float32(1))
    mean = _window_sum(known, size)
    mean /= count
    if method == "lee":
        square = _window_sum(known * known, size)
        square /= count
        mean += _lee_weight(mean * mean, square, 1.0 / looks) * (known - mean)
    mean *= valid
    return mean


def _lee_weight(squared_mean: NDArray[np.float32], mean_square: NDArray[np.float32], noise_variance: float) -> NDArray[np.float32]:
    """How much of a pixel's departure from the local mean is ground, not speckle: 0…1, (row, col)."""
    excess = mean_square - squared_mean  # the local variance of what is seen
    excess -= noise_variance * squared_mean
    np.maximum(excess, 0, out=excess)  # less than speckle alone explains: homogeneous ground
    ground_variance = np.divide(excess, 1.0 + noise_variance, out=excess)
    total = ground_variance + noise_variance * squared_mean
    weight: NDArray[np.float32] = np.divide(ground_variance, total, out=np.zeros_like(total), where=total > 0)
    return weight


def _window_sum(plane: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """(row, col) sum over a `size` x `size` window, 0 beyond the edge."""
    rows, cols = plane.shape
    padded = np.pad(plane, size // 2)
    down = padded[:rows].copy()
    for shift in range(1, size):
        down += padded[shift : shift + rows]
    across = down[:, :cols].copy()
    for shift in range(1, size):
        across += down[:, shift : shift + cols]
    return across
