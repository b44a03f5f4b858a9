"""Which windows a network learns from, and in which order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import copy

import numpy as np
from numpy.typing import NDArray

from geoseg.data.draws import CELL, Places, pick
from geoseg.data.windows import Window, lay_windows
from geoseg.errors import LabelError


class TileSampler:
    """Draws square windows that hold labels and lie wholly on the ground they may lie on, rare classes more often than they occur.

    With probability 1 - `rare` any label counts: a scene is drawn by how many labelled pixels it has, then one of its windows by how many
    it holds. So on ground that is labelled throughout every place is equally likely. With probability `rare` a class is drawn
    evenly among the classes, and only its pixels count. A scene that is smaller than a window lies in the middle of its only one.
    """

    def __init__(self, labels: Sequence[NDArray[np.integer]], ground: Sequence[NDArray[np.bool_]], *, tile: int, rare: float) -> None:
        """`labels` (row, col) class indices or UNLABELLED, and `ground` (row, col), one of each for every scene; both are kept.

        `rare` lies in 0…1. Raises LabelError where no window of `tile` pixels that holds a label has room on the ground.
        """
        self.tile, self.rare = tile, rare
        self.places = [Places.of(label, plane, tile) for label, plane in zip(labels, ground, strict=True)]
        of_class: dict[int, int] = {}
        for scene in self.places:
            for index, pixels in zip(scene.classes, scene.pixels.tolist(), strict=True):
                of_class[index] = of_class.get(index, 0) + pixels
        if not of_class:
            raise LabelError(
                f"no window of {tile} x {tile} pixels has room on the labelled training ground; make the tiles smaller, the blocks larger, "
                "or label more"
            )
        self._chances = [_chances(scene, of_class, rare) for scene in self.places]
        self._sum_up()

    def _sum_up(self) -> None:
        self._ends = [chances.cumsum() for chances in self._chances]
        self._scene_ends = np.cumsum([chances.sum() for chances in self._chances])

    def harder(self, cells: Sequence[NDArray[np.float64]], share: float) -> TileSampler:
        """The same sampler with a probability of `share` for windows around labels of hard cells.

        `cells` (row, col), one for each scene, say how hard: a label counts in proportion. Where all are 0 the sampler stays as it is.
        """
        hard = [
            scene.pairs.sum(axis=0) * plane if scene.classes else np.zeros(plane.shape)
            for scene, plane in zip(self.places, cells, strict=True)
        ]
        total = sum(float(plane.sum()) for plane in hard)
        if not total:
            return self
        other = copy(self)
        other._chances = [chances * (1 - share) for chances in self._chances]
        for chances, plane in zip(other._chances, hard, strict=True):
            chances[0] += share / total * plane
        other._sum_up()
        return other

    def draw(self, generator: np.random.Generator) -> tuple[int, Window]:
        """Scene and window."""
        scene = pick(self._scene_ends, generator)
        return scene, self._window(scene, pick(self._ends[scene], generator), self._chances[scene].shape, (0, 0), generator)

    def within(self, scene: int, part: Window) -> Callable[[np.random.Generator], Window]:
        """Draws windows of a scene as `draw` does, but only those around a pixel of the cells that `part` touches."""
        rows, cols = (slice(max(0, near.start // CELL), -(-near.stop // CELL)) for near in part.slices)
        chances = self._chances[scene][:, rows, cols]
        ends = chances.cumsum()
        return lambda generator: self._window(scene, pick(ends, generator), chances.shape, (rows.start, cols.start), generator)

    def _window(self, scene: int, place: int, shape: tuple[int, ...], first: tuple[int, int], generator: np.random.Generator) -> Window:
        """The window for a place among the chances of some cells, whose first is `first`."""
        kind, row, col = (int(number) for number in np.unravel_index(place, shape))
        index = self.places[scene].classes[kind - 1] if kind else None
        return self.places[scene].around((first[0] + row, first[1] + col), index, generator)


def _chances(scene: Places, of_class: dict[int, int], rare: float) -> NDArray[np.float64]:
    """(1 + class, row, col) of cells: how likely a window is drawn around any label there, then around one of each class."""
    chances = np.zeros((1 + len(scene.classes), *scene.most.shape))
    if scene.classes:
        anything = scene.pairs.sum(axis=0)
        chances[0] = (1 - rare) * scene.pixels.sum() / sum(of_class.values()) * anything / anything.sum()
    for place, index in enumerate(scene.classes):
        share = rare / len(of_class) * scene.pixels[place] / of_class[index]
        chances[1 + place] = share * scene.pairs[place] / scene.pairs[place].sum()
    return chances


class EpochSampler:
    """Numbers of draws: each epoch its own, the same in every run, so that training can be taken up where it stopped.

    Where several processes learn together, each takes a run of every epoch's draws: none is made by two, and none is left out.
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
        first = self.epoch * self.length + self.rank * len(self)
        return iter(range(first, first + len(self)))

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
