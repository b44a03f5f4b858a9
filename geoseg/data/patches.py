"""Patches: windows of labelled scenes, prepared as for mapping, as a network learns from them."""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from geoseg.data.augment import dropped, turn
from geoseg.data.buffer import Deal, GroupBuffer, Regions
from geoseg.data.retile import dear_to_read, retiled
from geoseg.data.samplers import TileSampler
from geoseg.data.scale import coarser, draw_factor, margin_of
from geoseg.data.windows import UNLABELLED, Window, lay_windows
from geoseg.errors import LabelError
from geoseg.io.label_rules import LabelRules
from geoseg.io.labels import Labels
from geoseg.io.opening import files_kept_open
from geoseg.layers.light import fit_light
from geoseg.layers.masks import mask_roles, scene_reasons
from geoseg.legend import Legend
from geoseg.preprocess.normalise import ChannelStatistics, without_statistics
from geoseg.preprocess.prepare import Preparation, halo, needed_roles, prepare
from geoseg.preprocess.quality import Reason
from geoseg.preprocess.series import counted_channels
from geoseg.preprocess.terrain_correction import FittedCorrection
from geoseg.raster import Raster
from geoseg.scene import Scene, finest_blocks, read_scene

Alter = Callable[[Raster, NDArray[np.int64], np.random.Generator], Raster]
"""(raster before it is prepared, its labels (row, col), generator) → the raster as it might have been."""

log = logging.getLogger(__name__)

_STRIP = 1024
"""Edge of the windows in which a scene is gone through once."""
_for_life = ExitStack()
"""What a worker process keeps until it ends."""


@dataclass(frozen=True, eq=False)
class LabelledScene:
    """A scene, its grid, and the class of the pixels where it is known."""

    scene: Scene
    geobox: GeoBox
    labels: NDArray[np.int16]
    """(row, col) class indices; UNLABELLED where there is no label or a band has no data."""
    roles: tuple[str, ...]
    """The bands that are read."""
    held: Raster | None = None
    """All of these bands, where they are small enough to stay in memory."""
    correction: FittedCorrection | None = None
    """The terrain correction that the preparation asks for, fitted to the scene."""

    def read(self, window: Window) -> Raster:
        """Stored numbers of a window; not valid beyond the scene and where its quality layer says cloud or the like."""
        if self.held is None:
            return _read_unmasked_ground(self.scene, self.roles, window.geobox(self.geobox))
        values, valid = window.cut(self.held.values, 0), window.cut(self.held.valid, False).astype(np.bool_)
        return replace(self.held, values=values, valid=valid, geobox=window.geobox(self.geobox))

    def cut_labels(self, window: Window) -> NDArray[np.int64]:
        """(row, col) labels of a window; UNLABELLED beyond the scene."""
        return window.cut(self.labels, UNLABELLED).astype(np.int64)


@dataclass(frozen=True, eq=False)
class Patch:
    """One window as the network learns from it."""

    image: NDArray[np.float32]
    """(channel, row, col), prepared; 0 where not valid."""
    labels: NDArray[np.int64]
    """(row, col) class indices; UNLABELLED where there is no label or the image is not valid."""

    def to_dict(self) -> dict[str, NDArray[np.generic]]:
        """As torch's DataLoader stacks them."""
        return {"image": self.image, "labels": self.labels}


def load_scene(
    scene: Scene,
    labels: str | Path,
    preparation: Preparation,
    legend: Legend,
    *,
    class_column: str | None = None,
    hold_mb: float = 0,
    rules: LabelRules | None = None,
    retile: Path | None = None,
) -> LabelledScene:
    """The scene on the grid of its finest band that `preparation` reads, with labels where all of these have data.

    It is gone through once, window by window. It stays in memory where its bands take at most `hold_mb` megabytes;
    otherwise it is copied into small blocks in the folder `retile`, if one is named, and read there. Raises LabelError where no label lies
    on valid ground, and what reading, copying and preparing raise.
    """
    light = fit_light(scene, preparation)
    for said in light.warnings:
        log.warning("%s: %s", scene.source, said)
    roles = needed_roles(preparation, light.correction)
    geobox = scene.geobox(roles)
    source = Labels(labels, legend, class_column, rules=rules or LabelRules())
    source.check_near(geobox)
    plane = source.read_plane(geobox)
    loaded = LabelledScene(scene, geobox, plane, roles, correction=light.correction)
    if plane.size * 4 * len(roles) <= hold_mb * 1e6:
        loaded = replace(loaded, held=_read_unmasked_ground(scene, roles, geobox))
    elif retile is not None:
        loaded = replace(loaded, scene=retiled(scene, [*roles, *mask_roles(scene)], retile))
    elif (dear := dear_to_read(scene, roles)) is not None:
        log.warning("%s", dear)
    for window in lay_windows((geobox.shape[0], geobox.shape[1]), _STRIP):
        if (plane[window.slices] != UNLABELLED).any():
            valid = prepare(loaded.read(window), without_statistics(preparation), correction=light.correction).valid_everywhere
            plane[window.slices][~valid] = UNLABELLED
    if not (plane != UNLABELLED).any():
        raise LabelError(f"no label of {labels} lies on a pixel of {scene.source} that has data; give labels of the ground that it shows")
    return loaded


def prepared_window(scene: LabelledScene, window: Window, preparation: Preparation) -> Raster:
    """A window of the scene, prepared; what the preparation must see around it is read, too."""
    return _prepare(scene.read(window.grown(halo(preparation))), preparation, scene.correction)


def ground_statistics(scenes: Sequence[LabelledScene], ground: Sequence[NDArray[np.bool_]], preparation: Preparation) -> ChannelStatistics:
    """Mean and spread of each channel over the valid pixels of the scenes' ground (row, col), before normalising."""
    plain = without_statistics(preparation)
    total = ChannelStatistics.empty([channel.name for channel in preparation.channels])
    for scene, plane in zip(scenes, ground, strict=True):
        for window in lay_windows((plane.shape[0], plane.shape[1]), _STRIP):
            if plane[window.slices].any():
                prepared = prepared_window(scene, window, plain)
                counted = counted_channels(prepared, plain)
                total += ChannelStatistics.of(replace(prepared, valid=counted & plane[window.slices]))
    return total


@dataclass(frozen=True, eq=False)
class TrainingPatches:
    """Patches by number of draw; the same number is always the same patch."""

    scenes: Sequence[LabelledScene]
    ground: Sequence[NDArray[np.bool_]]
    """(row, col) for each scene; labels elsewhere are not learned from."""
    preparation: Preparation
    sampler: TileSampler
    seed: int
    alter: Alter | None = None
    """Applied before preparing; None leaves the light as it was."""
    augment: Callable[[Raster, np.random.Generator], Raster] | None = None
    """Applied after that; such as `geoseg.data.weather.Augment`."""
    coarsen: float = 1.0
    """Greatest factor by which a patch's pixels are larger than the scene's, as a coarser sensor sees the ground."""
    drop_channels: float = 0.0
    """Chance of each channel to be 0 throughout, which is its mean; one always stays."""
    buffer: GroupBuffer | None = None
    """Reads several patches at once, see `in_groups`; None reads each window by itself."""

    @property
    def margin(self) -> int:
        """Pixels that are read around each window."""
        return margin_of(self.sampler.tile, halo(self.preparation), self.coarsen)

    @property
    def patch_bytes(self) -> int:
        """Memory that a window takes before it is prepared, at most: four bytes a value, one for its validity."""
        edge = self.sampler.tile + 2 * self.margin
        return 5 * max(len(scene.roles) for scene in self.scenes) * edge * edge

    def in_groups(self, deal: Deal) -> TrainingPatches:
        """Patches by the same law, several from each region that is decoded; as they are where all scenes are in memory."""
        if all(scene.held is not None for scene in self.scenes):
            return self
        regions = [None if scene.held is not None else _regions(scene, self.sampler.tile, self.margin) for scene in self.scenes]
        return replace(self, buffer=GroupBuffer(self.scenes, regions, self.sampler, deal, margin=self.margin, seed=self.seed))

    def place(self, draw: int) -> tuple[int, Window]:
        """Scene and window of one draw, without reading."""
        if self.buffer is not None:
            number, member = self.buffer.deal(draw)
            scene, windows = self.buffer.windows(number)
            return scene, windows[member]
        return self.sampler.draw(np.random.default_rng((self.seed, draw)))

    def __getitem__(self, draw: int) -> dict[str, NDArray[np.generic]]:
        """Image and labels of one draw, turned or mirrored at random."""
        _keep_files_of_a_worker()
        generator = np.random.default_rng((self.seed, draw))
        if self.buffer is not None:
            which, window, raster = self.buffer.take(draw)
        else:
            which, window = self.sampler.draw(generator)
            raster = self.scenes[which].read(window.grown(self.margin))
        scene, wide = self.scenes[which], window.grown(self.margin)
        labels = np.where(wide.cut(self.ground[which], False), scene.cut_labels(wide), UNLABELLED)
        margin = halo(self.preparation)
        if self.coarsen > 1:
            mine = wide.cut(self.ground[which], False).astype(np.bool_)  # larger pixels reach over ground that is held out
            seen = replace(raster, valid=raster.valid & mine)
            raster, labels = coarser(seen, labels, window.rows + 2 * margin, draw_factor(self.coarsen, generator))
        if self.alter is not None:
            raster = self.alter(raster, labels, generator)
        if self.augment is not None:
            raster = self.augment(raster, generator)
        inner = Window(margin, margin, window.rows, window.cols).slices
        patch = _patch(raster, labels[inner], self.preparation, scene.correction)
        if self.drop_channels:
            patch.image[dropped(len(patch.image), self.drop_channels, generator)] = 0
        side = int(generator.integers(8))
        return {name: turn(planes, side) for name, planes in patch.to_dict().items()}


@dataclass(frozen=True, eq=False)
class GridPatches:
    """Patches that cover some ground once: a label stands only in the core of its patch, so each pixel is judged once."""

    scenes: Sequence[LabelledScene]
    ground: Sequence[NDArray[np.bool_]]
    preparation: Preparation
    windows: Sequence[tuple[int, Window, Window]]
    """Scene, window and core of each patch."""

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, place: int) -> dict[str, NDArray[np.generic]]:
        """Image and labels of one window."""
        _keep_files_of_a_worker()
        which, window, core = self.windows[place]
        scene = self.scenes[which]
        labels = np.full((window.rows, window.cols), UNLABELLED, dtype=np.int64)
        inner = Window(core.row - window.row, core.col - window.col, core.rows, core.cols).slices
        labels[inner] = np.where(self.ground[which][core.slices], scene.cut_labels(core), UNLABELLED)
        return _patch(scene.read(window.grown(halo(self.preparation))), labels, self.preparation, scene.correction).to_dict()


def _regions(scene: LabelledScene, tile: int, margin: int) -> Regions:
    rows, cols = scene.geobox.shape
    return Regions.fitting((rows, cols), finest_blocks(scene.scene, scene.roles), tile, margin)


def _keep_files_of_a_worker() -> None:
    """In a loader's worker process, which ends with its loader, files stay open from here on.

    In the main process whoever draws many patches says so with `files_kept_open`: there files may be replaced afterwards.
    """
    if multiprocessing.parent_process() is not None:
        _keep_files_for_life()


@cache
def _keep_files_for_life() -> None:
    _for_life.enter_context(files_kept_open())


def _prepare(raster: Raster, preparation: Preparation, correction: FittedCorrection | None) -> Raster:
    """The prepared window inside a raster that holds, on each side, as much more as a speckle filter looks at."""
    margin, (rows, cols) = halo(preparation), raster.geobox.shape
    prepared = prepare(raster, preparation, correction=correction)
    return prepared.crop(slice(margin, rows - margin), slice(margin, cols - margin)) if margin else prepared


def _patch(raster: Raster, labels: NDArray[np.int64], preparation: Preparation, correction: FittedCorrection | None) -> Patch:
    """A patch from the raster of its window, and what the preparation must see around it."""
    prepared = _prepare(raster, preparation, correction)
    return Patch(prepared.values, np.where(prepared.valid_everywhere, labels, UNLABELLED))


def _read_unmasked_ground(scene: Scene, roles: Sequence[str], geobox: GeoBox) -> Raster:
    raster = read_scene(scene, roles, geobox)
    if not (roles := mask_roles(scene)):
        return raster
    reasons = scene_reasons(read_scene(scene, roles, geobox), scene)
    return replace(raster, valid=raster.valid & (reasons == Reason.OBSERVED))
