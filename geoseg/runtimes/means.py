"""The mean of several scores of the same pixels."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Scores = dict[str, NDArray[np.float32]]
"""Output name → (batch, class or 1, row, col)."""


def mean_scores(several: Iterable[Scores]) -> Scores:
    """The mean of each score over all that are given, of which only the sum is held.

    Summed in 64 bits, where numbers of 32 bits whose sizes lie within a factor of 2^26 add up without any rounding: their order
    does not matter then, and the mean of equal numbers is that number.
    """
    sums: dict[str, NDArray[np.float64]] = {}
    count = 0
    for scores in several:
        count += 1
        for name, planes in scores.items():
            if name in sums:
                sums[name] += planes
            else:
                sums[name] = planes.astype(np.float64)
    return {name: (total / count).astype(np.float32) for name, total in sums.items()}
