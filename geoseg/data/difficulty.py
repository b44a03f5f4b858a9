"""Where a network errs, by cells of the training ground, so that windows can be drawn there more often."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.data.draws import CELL
from geoseg.data.windows import Window

FORGETTING = 0.5
"""What earlier epochs still count when a new one begins: ground that was learned meanwhile is no longer hard."""


class Difficulty:
    """For each cell of each scene, the mean error of the windows that were drawn over it, weighed by how much of it they held."""

    def __init__(self, shapes: Sequence[tuple[int, int]]) -> None:
        """`shapes` are (row, col) pixels of the scenes."""
        cells = [(-(-rows // CELL), -(-cols // CELL)) for rows, cols in shapes]
        self._sums = [np.zeros(shape) for shape in cells]
        self._weights = [np.zeros(shape) for shape in cells]

    def add(self, scene: int, window: Window, error: float) -> None:
        """A network's error in a window, 0 or more."""
        down, across = (_held(near, cells) for near, cells in zip(window.slices, self._sums[scene].shape, strict=True))
        held = np.outer(down, across)
        self._weights[scene] += held
        self._sums[scene] += held * error

    def forget(self) -> None:
        """Let what is known count less beside what comes."""
        for known in (*self._sums, *self._weights):
            known *= FORGETTING

    def cells(self) -> list[NDArray[np.float64]]:
        """(row, col) of each scene's cells: the mean error there; the mean of all where no window came, 0 while there were none."""
        total = sum(float(weights.sum()) for weights in self._weights)
        usual = sum(float(sums.sum()) for sums in self._sums) / total if total else 0.0
        return [
            np.divide(sums, weights, out=np.full(sums.shape, usual), where=weights > 0)
            for sums, weights in zip(self._sums, self._weights, strict=True)
        ]

    def state(self) -> dict[str, Any]:
        """What `restore` takes: lists of plain numbers."""
        return {"sums": [plane.tolist() for plane in self._sums], "weights": [plane.tolist() for plane in self._weights]}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of the same scenes; ValueError where it is of others."""
        for kept, planes in ((self._sums, state["sums"]), (self._weights, state["weights"])):
            for known, plane in zip(kept, planes, strict=True):
                known[:] = np.array(plane)


def _held(near: slice, cells: int) -> NDArray[np.float64]:
    """(cell,) how many of a window's rows, or columns, lie in each cell."""
    first = np.arange(cells) * CELL
    held: NDArray[np.float64] = np.clip(np.minimum(near.stop, first + CELL) - np.maximum(near.start, first), 0, None).astype(float)
    return held
