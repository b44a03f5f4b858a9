"""Where the windows of one scene may lie, and drawing one: each is as likely as it holds many labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import minimum_filter

from geoseg.data.windows import UNLABELLED, Window

CELL = 64
"""Edge in pixels of the cells in which labels are counted; drawing looks up a cell first, then a pixel in it."""
_STRIP = 4 * CELL
"""Rows that are counted at a time."""


@dataclass(frozen=True, eq=False)
class Places:
    """The windows of one scene that lie wholly on its ground, and how many of them hold each label.

    A scene that is smaller than a window has one place along that side, with the scene in the middle.
    """

    labels: NDArray[np.integer]
    """(row, col) class indices or UNLABELLED."""
    ground: NDArray[np.bool_]
    """(row, col) where windows may lie."""
    tile: int
    """Edge of a window in pixels."""
    room: NDArray[np.bool_]
    """(row, col) of windows' first pixels, counted from `first`; True where the whole window lies on the ground."""
    first: tuple[int, int]
    """(row, col) of the first place: 0, or less where the scene is smaller than a window."""
    classes: tuple[int, ...]
    """Indices of the classes that any window holds."""
    pixels: NDArray[np.int64]
    """(class,) labelled pixels that any window holds."""
    pairs: NDArray[np.float64]
    """(class, row, col) for each cell: pairs of a pixel of the class and a window that holds it."""
    most: NDArray[np.int64]
    """(row, col) for each cell: windows that hold one of its pixels, at most."""

    @classmethod
    def of(cls, labels: NDArray[np.integer], ground: NDArray[np.bool_], tile: int) -> Self:
        """Count the windows of `tile` pixels around each labelled pixel (row, col) of the ground, strip by strip."""
        room, first = _room(ground, tile)
        known = [int(index) for index in np.unique(labels[ground]) if index != UNLABELLED] if room.any() else []
        cells = tuple(-(-size // CELL) for size in labels.shape)
        pixels, pairs, most = np.zeros(len(known), np.int64), np.zeros((len(known), *cells)), np.zeros(cells, np.int64)
        for top in range(0, labels.shape[0] if known else 0, _STRIP):
            rows = slice(top, min(top + _STRIP, labels.shape[0]))
            holding = _windows_around(room, first, rows, labels.shape[1], tile)
            here = slice(top // CELL, -(-rows.stop // CELL))
            holding[~ground[rows] | (labels[rows] == UNLABELLED)] = 0
            most[here] = _by_cell(holding, np.maximum)
            for place, index in enumerate(known):
                counted = np.where(labels[rows] == index, holding, 0)
                pixels[place] += np.count_nonzero(counted)
                pairs[place, here] = _by_cell(counted, np.add)
        seen = pixels > 0
        return cls(labels, ground, tile, room, first, tuple(np.array(known)[seen].tolist()), pixels[seen], pairs[seen], most)

    def around(self, cell: tuple[int, int], index: int | None, generator: np.random.Generator) -> Window:
        """A window that holds a pixel of this cell and class (of any, where `index` is None); each such pair is equally likely."""
        top, left = cell[0] * CELL, cell[1] * CELL
        here = np.s_[top : top + CELL, left : left + CELL]
        labels = self.labels[here]
        wanted = labels != UNLABELLED if index is None else labels == index
        candidates = np.flatnonzero(wanted & self.ground[here])
        while True:
            row, col = divmod(int(candidates[generator.integers(candidates.size)]), labels.shape[1])
            windows, start = self._windows_that_hold(top + row, left + col)
            holding = np.count_nonzero(windows)
            if generator.random() * self.most[cell] < holding:
                break
        which = int(generator.integers(holding))
        if holding < windows.size:
            which = int(np.flatnonzero(windows)[which])
        down, across = divmod(which, windows.shape[1])
        return Window(start[0] + down + self.first[0], start[1] + across + self.first[1], self.tile, self.tile)

    def _windows_that_hold(self, row: int, col: int) -> tuple[NDArray[np.bool_], tuple[int, int]]:
        """The part of `room` whose windows hold this pixel, and where in `room` it begins."""
        row, col = row - self.first[0], col - self.first[1]
        start = max(0, row - self.tile + 1), max(0, col - self.tile + 1)
        return self.room[start[0] : row + 1, start[1] : col + 1], start


def pick(ends: NDArray[np.float64], generator: np.random.Generator) -> int:
    """A place in a running sum, each as likely as what it adds to it."""
    found = np.searchsorted(ends, generator.random() * ends[-1], side="right")
    return int(min(found, np.searchsorted(ends, ends[-1])))  # the product may be rounded up to the last sum


def _room(ground: NDArray[np.bool_], tile: int) -> tuple[NDArray[np.bool_], tuple[int, int]]:
    """`room` and `first` of Places."""
    lacking = [max(0, tile - size) for size in ground.shape]
    if any(lacking):
        ground = np.pad(ground, [(lack // 2, lack - lack // 2) for lack in lacking], constant_values=True)
    rows, cols = (size - tile + 1 for size in ground.shape)
    lowest = minimum_filter(ground.view(np.uint8), size=tile, mode="constant")  # of the window around each pixel
    middle = tile // 2
    room = np.asarray(lowest[middle : middle + rows, middle : middle + cols] == 1)
    return room, (-(lacking[0] // 2), -(lacking[1] // 2))


def _windows_around(room: NDArray[np.bool_], first: tuple[int, int], rows: slice, width: int, tile: int) -> NDArray[np.int64]:
    """(row, col) of these rows of a scene of this width: how many windows hold each pixel."""
    strip = Window(rows.start - first[0] - tile, -first[1] - tile, rows.stop - rows.start + tile, width + tile)
    total = strip.cut(room, False).cumsum(axis=0, dtype=np.int32).cumsum(axis=1, dtype=np.int64)
    holding: NDArray[np.int64] = total[tile:, tile:] - total[:-tile, tile:] - total[tile:, :-tile] + total[:-tile, :-tile]
    return holding


def _by_cell(plane: NDArray[np.int64], combine: np.ufunc) -> NDArray[np.int64]:
    """(row, col) of cells, from a plane that begins with a cell."""
    down, across = (np.arange(0, size, CELL) for size in plane.shape)
    found: NDArray[np.int64] = combine.reduceat(combine.reduceat(plane, across, axis=1), down, axis=0)
    return found
