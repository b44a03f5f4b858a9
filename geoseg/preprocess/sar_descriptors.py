"""What speckle says of a radar image: the three numbers by which CrossEarth-SAR chooses its experts.

CrossEarth-SAR (arXiv 2603.12008, 2026) takes x = log(1 + |X|) and of it the entropy of gradient directions, the equivalent number of
looks and the roughness of local means, one triple for each image. The paper leaves open bins, block size and unit. Here X is linear power,
since log(1 + x) makes the numbers depend on the unit; directions fall into 36 bins on (-pi, pi], each pixel counting the same; blocks are
16 pixels wide.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

BINS = 36
BLOCK = 16
"""Pixels along a block's edge."""
LEAST_VARIANCE = 1e-12
"""Below this an image counts as even, so that its number of looks stays finite."""


def describe_sar(power: NDArray[np.floating], valid: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
    """Directional entropy (0…ln 36 nats), equivalent number of looks, and local roughness of linear power (row, col).

    Only pixels that are `valid` count; a direction needs all nine around it, a block half of its own. An image without a valid pixel, or
    smaller than 3 x 3 pixels, has an entropy of 0; one without a block has a roughness of 0.
    """
    x = np.log1p(np.abs(np.asarray(power, dtype=np.float64)))
    seen = np.ones(x.shape, bool) if valid is None else np.asarray(valid)
    if not seen.any():
        return np.zeros(3)
    x = np.where(seen, x, 0.0)
    inside = x[seen]
    looks = float(inside.mean() ** 2 / max(inside.var(), LEAST_VARIANCE))
    return np.array([_entropy(x, seen), looks, _roughness(x, seen)])


def _entropy(x: NDArray[np.float64], seen: NDArray[np.bool_]) -> float:
    """Of the directions of Sobel's gradients, in nats."""
    if min(x.shape) < 3:
        return 0.0
    across = x[:-2] + 2 * x[1:-1] + x[2:]
    down = x[:, :-2] + 2 * x[:, 1:-1] + x[:, 2:]
    direction = np.arctan2(down[2:] - down[:-2], across[:, 2:] - across[:, :-2])
    whole = np.ones(direction.shape, bool)
    for row in range(3):
        for col in range(3):
            whole &= seen[row : row + direction.shape[0], col : col + direction.shape[1]]
    turn = (direction[whole] + math.pi) / (2 * math.pi) * BINS
    places = np.where(turn <= 0, BINS, np.ceil(turn)).astype(np.int64) - 1  # -pi is the direction pi
    counts = np.bincount(np.minimum(places, BINS - 1), minlength=BINS)
    shares = counts[counts > 0] / max(counts.sum(), 1)
    return float(-(shares * np.log(shares)).sum()) + 0.0


def _roughness(x: NDArray[np.float64], seen: NDArray[np.bool_]) -> float:
    """Variance of the blocks' means."""
    rows, cols = x.shape[0] // BLOCK, x.shape[1] // BLOCK
    if not rows or not cols:
        return 0.0
    blocks = (slice(rows * BLOCK), slice(cols * BLOCK))
    sums = x[blocks].reshape(rows, BLOCK, cols, BLOCK).sum(axis=(1, 3))
    counts = seen[blocks].reshape(rows, BLOCK, cols, BLOCK).sum(axis=(1, 3))
    enough = counts >= BLOCK * BLOCK / 2
    return float((sums[enough] / counts[enough]).var()) if enough.any() else 0.0
