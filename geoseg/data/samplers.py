"""Which windows a network learns from, and in which order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import minimum_filter

from geoseg.data.windows import UNLABELLED, Window, lay_windows
from geoseg.errors import LabelError

_REMEMBERED = 100_000
"""Labelled pixels of a class that are remembered for each scene; drawn at random where there are more."""
_ATTEMPTS = 20
"""Random places of a window around a pixel that are tried before any other window is taken."""


class TileSampler:
    """Draws square windows that hold labels and lie wholly on the ground they may lie on, rare classes more often than they occur."""

    def __init__(
        self,
        labels: Sequence[NDArray[np.integer]],
        ground: Sequence[NDArray[np.bool_]],
        *,
        tile: int,
        rare: float,
        generator: np.random.Generator,
    ) -> None:
        """`labels` (row, col) class indices or UNLABELLED, and `ground` (row, col), one of each for every scene.

        With probability `rare` (0…1) a window is drawn around a pixel of a class that is drawn evenly among the classes, else
        around any labelled pixel. Raises LabelError where no window of `tile` pixels has room on the ground.
        """
        self.tile, self.rare = tile, rare
        self._fits = [_room(plane, tile) for plane in ground]
        self._pixels = [
            _remember(np.where(plane, label, UNLABELLED), scene, generator)
            for scene, (label, plane) in enumerate(zip(labels, ground, strict=True))
            if self._fits[scene].any()
        ]
        found = sorted({index for scene in self._pixels for index in scene})
        if not found:
            raise LabelError(
                f"no window of {tile} x {tile} pixels has room on the labelled training ground; make the tiles smaller, the blocks larger, "
                "or label more"
            )
        self._by_class = {index: [scene[index] for scene in self._pixels if index in scene] for index in found}
        sizes = np.array([sum(count for count, _ in self._by_class[index]) for index in found], dtype=float)
        self._classes, self._shares = np.array(found), sizes / sizes.sum()

    def draw(self, generator: np.random.Generator) -> tuple[int, Window]:
        """Scene and window; the window holds at least the pixel it was drawn around wherever that has room."""
        shares = None if generator.random() < self.rare else self._shares
        groups = self._by_class[int(generator.choice(self._classes, p=shares))]
        sizes = np.array([count for count, _ in groups], dtype=float)
        _, pixels = groups[int(generator.choice(len(groups), p=sizes / sizes.sum()))]
        scene, row, col = pixels[int(generator.integers(len(pixels)))]
        fits = self._fits[scene]
        for _ in range(_ATTEMPTS):
            top, left = int(row - generator.integers(self.tile)), int(col - generator.integers(self.tile))
            if 0 <= top < fits.shape[0] and 0 <= left < fits.shape[1] and fits[top, left]:
                return int(scene), Window(top, left, self.tile, self.tile)
        return int(scene), self._nearest(int(scene), int(row), int(col))

    def _nearest(self, scene: int, row: int, col: int) -> Window:
        """The window with room whose middle is nearest to a pixel; the uppermost of equals, then the leftmost."""
        fits, half = self._fits[scene], self.tile // 2
        row, col, reach = row - half, col - half, self.tile
        while True:
            top, left = max(0, row - reach), max(0, col - reach)
            rows, cols = np.nonzero(fits[top : max(0, row + reach + 1), left : max(0, col + reach + 1)])
            far = (rows + top - row) ** 2 + (cols + left - col) ** 2
            if far.size and (far.min() <= reach**2 or reach > max(fits.shape)):  # what lies outside the square is farther away
                best = int(np.argmin(far))
                return Window(int(rows[best]) + top, int(cols[best]) + left, self.tile, self.tile)
            reach *= 2


class EpochSampler:
    """Numbers of draws: each epoch its own, the same in every run, so that training can be taken up where it stopped.

    Where several processes learn together, each takes every so-manieth: no draw is made by two, and none is left out.
    """

    def __init__(self, length: int, *, rank: int = 0, world: int = 1) -> None:
        """`length` draws an epoch for all `world` processes together, less the few that would not share out evenly; `rank` is this one."""
        if not 0 <= rank < world <= length:
            raise ValueError(f"process {rank} of {world} with {length} draws an epoch; each needs at least one")
        self.length, self.epoch = length // world * world, 0
        self.rank, self.world = rank, world

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning at the start of each epoch, counted from 0."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.epoch * self.length + self.rank, (self.epoch + 1) * self.length, self.world))

    def __len__(self) -> int:
        return self.length // self.world


def grid_windows(ground: NDArray[np.bool_], *, tile: int, margin: int) -> list[tuple[Window, Window]]:
    """(window, core) pairs: the cores cover each True pixel exactly once, each window is its core and `margin` pixels around it.

    Windows are `tile` pixels wide and may reach beyond the scene. Cores without a True pixel are left out.
    """
    size = tile - 2 * margin
    if size < 1:
        raise ValueError(f"a margin of {margin} pixels leaves nothing of a tile of {tile}")
    cores = (window for window in lay_windows((ground.shape[0], ground.shape[1]), size) if ground[window.slices].any())
    return [(Window(core.row - margin, core.col - margin, tile, tile), core) for core in cores]


def _room(ground: NDArray[np.bool_], tile: int) -> NDArray[np.bool_]:
    """(row, col) of windows' first pixels; True where the whole window lies on the ground. Empty where none can."""
    rows, cols = (size - tile + 1 for size in ground.shape)
    if rows < 1 or cols < 1:
        return np.zeros((0, 0), dtype=bool)
    lowest = minimum_filter(ground.view(np.uint8), size=tile, mode="constant")  # of the window around each pixel
    first = tile // 2
    return np.asarray(lowest[first : first + rows, first : first + cols] == 1)


def _remember(labels: NDArray[np.integer], scene: int, generator: np.random.Generator) -> dict[int, tuple[int, NDArray[np.int64]]]:
    """Class index → number of its pixels, and some of them as (scene, row, col)."""
    found: dict[int, tuple[int, NDArray[np.int64]]] = {}
    for index in np.unique(labels[labels != UNLABELLED]):
        flat = np.flatnonzero(labels == index)
        kept = generator.choice(flat, _REMEMBERED, replace=False) if flat.size > _REMEMBERED else flat
        rows, cols = np.unravel_index(kept, labels.shape)
        found[int(index)] = (int(flat.size), np.stack([np.full(kept.size, scene), rows, cols], axis=1))
    return found
