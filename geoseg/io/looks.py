"""Where to look at a large raster: a few windows spread over it that touch few of its blocks."""

from __future__ import annotations

from math import ceil

import numpy as np
from numpy.typing import NDArray

_FLATTEST = 8


def few_windows(shape: tuple[int, int], block: tuple[int, int], *, most: int, share: float) -> int:
    """How many windows down, and as many across, touch at most this share of the blocks of a raster: 3 to `most`."""
    blocks = ceil(shape[0] / block[0]) * ceil(shape[1] / block[1])
    return int(np.clip(int((share * blocks) ** 0.5), min(3, most), most))


def window_shape(side: int, block: tuple[int, int], *, widest: int) -> tuple[int, int]:
    """(row, col) of a window of about `side` x `side` pixels; lower and wider where the raster's blocks are, as strips are."""
    tall = side if block[0] >= side else max(block[0], side // _FLATTEST)
    return tall, min(side * side // tall, widest)


def spread(size: int, side: int, block: int, count: int) -> NDArray[np.int64]:
    """First pixels of `count` windows of `side` pixels spread along `size` pixels, each at the edge of a block that it fits into."""
    step = block if side <= block <= size // count else side
    firsts: NDArray[np.int64] = np.linspace(0, size - side, count).astype(np.int64) // step * step
    return firsts
