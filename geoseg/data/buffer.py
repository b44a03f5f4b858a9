"""Several patches from each piece of ground that is decoded, mixed so that a batch holds many places.

Decoding is what a patch of a compressed scene costs. So a group of patches comes from one region, a rectangle of whole blocks that
is read once, and a batch takes one patch each of many groups, which begin and end at different times.

The law of the draws stays what it is without groups. The first window w of a group is drawn as ever; its region R evenly among
all that hold w; the others in proportion to p(w') / n(w') among the windows in R, where p is how likely a window is drawn
without groups and n how many regions hold it. These are the two halves of a Gibbs step (Geman & Geman, "Stochastic relaxation,
Gibbs distributions, and the Bayesian restoration of images", IEEE PAMI 6, 1984) for the pairs of a window and a region that holds it,
each as likely as p(w) / n(w): so every patch of a group, by itself, is drawn by p. Only patches of one group are more alike.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil
from typing import Any, Protocol, Self

import numpy as np

from geoseg.data.samplers import TileSampler
from geoseg.data.windows import Window
from geoseg.raster import Raster

SIDE = 4
"""Edge of the regions in windows, about; whole blocks are taken."""
GROUP = 8
"""Patches of a group. Eight have half as many pixels as a region of 4 x 4 windows: more would often show the same ground twice."""
PLACES = 16
"""Groups that a batch is mixed from, at most."""
LANES = 4
"""Batches that follow each other and share no group, so that so many worker processes never decode the same region."""

MEMORY = 512 << 20
"""Bytes that patches may take which were read and wait to be asked for, about."""


@dataclass(frozen=True)
class Deal:
    """Which group, and which patch of it, each number of a draw stands for: the same for any number of workers.

    Batches go round the lanes. Each place of a lane's batches takes the patches of one group after the other, then those of the next;
    no two places begin a group at the same time. Loaders hand out their batches in turn, so one with 1, 2 or 4 workers reads each
    region once; one with 3, or with more, has the same patches and reads some regions in several processes.
    """

    length: int
    """Draws an epoch of all processes together; a multiple of `world`."""
    batch: int
    world: int = 1
    """Processes that learn together; each takes a run of the epoch, as with `EpochSampler`."""
    group: int = GROUP
    places: int = PLACES
    lanes: int = LANES

    @classmethod
    def fitting(cls, length: int, batch: int, world: int = 1, *, group: int = GROUP, patch_bytes: int, memory: int = MEMORY) -> Self:
        """The deal with as many places, up to sixteen, as `memory` bytes have room for in one process that reads for all lanes.

        Half of a group's patches, of `patch_bytes` each, wait to be asked for at a time.
        """
        places = int(memory / (LANES * (group + 1) / 2 * patch_bytes))
        return cls(length, batch, world, group, max(1, min(PLACES, places)))

    def __call__(self, draw: int) -> tuple[int, int]:
        """(number of the group, which of its patches), counted from 0; no other draw has both the same."""
        share = self.length // self.world
        epoch, rest = divmod(draw, self.length)
        rank, own = divmod(rest, share)
        step, place = divmod(own, self.batch)
        row, slot = divmod(place, self.slots)
        turn, lane = divmod(step, self.lanes)
        turns = (ceil(share / self.batch) - lane + self.lanes - 1) // self.lanes  # of this lane in an epoch
        at = (epoch * turns + turn) * self._rows + row + slot * self.group // self.slots
        nth, member = divmod(at, self.group)
        return ((nth * self.world + rank) * self.lanes + lane) * self.slots + slot, member

    @property
    def slots(self) -> int:
        """Groups that a batch is mixed from."""
        return ceil(self.batch / self._rows)

    @property
    def open_groups(self) -> int:
        """Groups that one process is in the middle of."""
        return self.slots * self.lanes

    @property
    def _rows(self) -> int:
        return ceil(self.batch / self.places)


@dataclass(frozen=True)
class Regions:
    """Rectangles of whole blocks over a scene, of one size, each a block farther than the last; they may reach beyond its edges."""

    scene: tuple[int, int]
    """(row, col) pixels of the scene."""
    size: tuple[int, int]
    """(row, col) pixels of a region."""
    step: tuple[int, int]
    """(row, col) pixels from one to the next."""
    margin: int = 0
    """Pixels around a window that its region must hold, too, as far as they lie on the scene."""

    @classmethod
    def fitting(cls, scene: tuple[int, int], blocks: tuple[int, int], tile: int, margin: int = 0, *, side: int | None = None) -> Self:
        """Regions of about `side` squared pixels, SIDE windows if not said, in which every window of `tile` pixels has room."""
        side = SIDE * tile if side is None else side
        need = [tile + 2 * margin + step if step < size else 1 for step, size in zip(blocks, scene, strict=True)]
        wide = _whole(max(side, need[1]), blocks[1])
        tall = _whole(max(side if wide < 2 * side else side * side // wide, need[0]), blocks[0])
        return cls(scene, (tall, wide), blocks, margin)

    def around(self, window: Window, generator: np.random.Generator) -> Window:
        """One of the regions that hold the window, evenly drawn."""
        places = []
        for axis, (low, high) in enumerate(self._reach(window)):
            first, last = self._numbers(axis, low, high)
            places.append(int(generator.integers(first, last + 1)) * self.step[axis])
        return Window(places[0], places[1], *self.size)

    def holding(self, window: Window) -> int:
        """How many regions hold the window; at least one."""
        counts = []
        for axis, (low, high) in enumerate(self._reach(window)):
            first, last = self._numbers(axis, low, high)
            counts.append(last - first + 1)
        return counts[0] * counts[1]

    def fewest(self, tile: int) -> int:
        """How many regions hold a window, at least, wherever it lies."""
        down, across = ((size - tile - 2 * self.margin) // step for size, step in zip(self.size, self.step, strict=True))
        return max(1, down) * max(1, across)

    def holds(self, region: Window, window: Window) -> bool:
        """Whether the region holds the window and its margin, as far as they lie on the scene."""
        reach = zip(self._reach(window), (region.row, region.col), self.size, strict=True)
        return all(start <= low and high <= start + size for (low, high), start, size in reach)

    def _reach(self, window: Window) -> tuple[tuple[int, int], tuple[int, int]]:
        """(first, end) of rows and of columns that the window and its margin take of the scene."""
        wide = window.grown(self.margin)
        return (max(0, wide.row), min(self.scene[0], wide.row + wide.rows)), (max(0, wide.col), min(self.scene[1], wide.col + wide.cols))

    def _numbers(self, axis: int, low: int, high: int) -> tuple[int, int]:
        """The first and the last of the regions that hold these rows (axis 0) or columns, counted in steps from the scene's edge."""
        return -((self.size[axis] - high) // self.step[axis]), low // self.step[axis]


class ReadsWindows(Protocol):
    """A scene as the buffer sees it; `geoseg.data.patches.LabelledScene` is one."""

    def read(self, window: Window) -> Raster:
        """Its pixels in a window."""


class GroupBuffer:
    """Patches by number of draw, read group by group; holds what is read until it was asked for.

    The same number is always the same window, whatever was asked before. Another process gets a buffer that holds nothing.
    """

    def __init__(
        self, scenes: Sequence[ReadsWindows], regions: Sequence[Regions | None], sampler: TileSampler, deal: Deal, *, margin: int, seed: int
    ) -> None:
        """`regions` are None for scenes in memory, whose windows need no group: these come from anywhere on the scene of the group.

        `margin` pixels are read around each window.
        """
        self.scenes, self.regions, self.sampler, self.deal = list(scenes), list(regions), sampler, deal
        self.margin, self.seed = margin, seed
        self._open: OrderedDict[int, _Group] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_open": OrderedDict()}

    def take(self, draw: int) -> tuple[int, Window, Raster]:
        """Scene, window, and the pixels of the window and its margin."""
        number, member = self.deal(draw)
        if (group := self._open.get(number)) is None:
            group = self._open[number] = _Group(*self.windows(number))
        self._open.move_to_end(number)
        while len(self._open) > self.deal.open_groups:
            self._open.popitem(last=False)
        scene, window = self.scenes[group.scene], group.windows[member]
        if self.regions[group.scene] is None:
            return group.scene, window, scene.read(window.grown(self.margin))
        if member not in group.rasters:
            group.rasters = _read_together(scene, {at: group.windows[at].grown(self.margin) for at in range(member, len(group.windows))})
        raster = group.rasters.pop(member)
        if not group.rasters:
            del self._open[number]
        return group.scene, window, replace(raster, valid=np.array(raster.valid))

    def windows(self, number: int) -> tuple[int, list[Window]]:
        """The scene of a group, and the window of each of its patches."""
        generator = np.random.default_rng((self.seed, number, 1))
        scene, anchor = self.sampler.draw(generator)
        regions = self.regions[scene]
        whole = Window(0, 0, *self.sampler.places[scene].labels.shape)
        region = whole if regions is None else regions.around(anchor, generator)
        draw = self.sampler.within(scene, region)
        windows = [anchor]
        fewest = 1 if regions is None else regions.fewest(self.sampler.tile)
        while len(windows) < self.deal.group:
            window = draw(generator)
            if regions is None or (regions.holds(region, window) and generator.random() * regions.holding(window) < fewest):
                windows.append(window)
        return scene, windows


@dataclass(eq=False)
class _Group:
    scene: int
    windows: list[Window]
    rasters: dict[int, Raster] = field(default_factory=dict)
    """What was read and not yet asked for, by place in `windows`."""


def _read_together(scene: ReadsWindows, windows: Mapping[int, Window]) -> dict[int, Raster]:
    """The pixels of each window, from one look at the rectangle around them all."""
    top, left = (min(getattr(window, name) for window in windows.values()) for name in ("row", "col"))
    end_row = max(window.row + window.rows for window in windows.values())
    end_col = max(window.col + window.cols for window in windows.values())
    whole = scene.read(Window(top, left, end_row - top, end_col - left))
    return {at: _cut(whole, Window(window.row - top, window.col - left, window.rows, window.cols)) for at, window in windows.items()}


def _cut(raster: Raster, window: Window) -> Raster:
    """A part that does not hold on to the whole; where all of it is valid, that takes no memory."""
    part = raster.crop(*window.slices)
    valid = np.broadcast_to(np.True_, part.valid.shape) if part.valid.all() else part.valid.copy()
    return replace(part, values=part.values.copy(), valid=valid)


def _whole(pixels: int, block: int) -> int:
    return -(-pixels // block) * block
