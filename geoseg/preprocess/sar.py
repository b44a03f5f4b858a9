"""Radar backscatter: linear power and decibels."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

_NEPER = 10.0 / math.log(10.0)
"""Decibels of a factor e in power; numpy's natural logarithm is several times faster than log10 in float32."""


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
