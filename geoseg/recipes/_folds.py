"""What recipes on single pixels start from: labelled pixels in groups that no split cuts, dealt out to folds that are judged in turn."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from geopandas import GeoDataFrame
from numpy.typing import NDArray
from pydantic import Field

from geoseg.confusion import Confusion
from geoseg.data.groups import VERY_FEW, Groups, deal_folds, find_groups
from geoseg.data.patches import LabelledScene, ground_statistics
from geoseg.data.pixels import Pixels, read_pixels
from geoseg.data.splits import fitting_block
from geoseg.errors import InputError, LabelError
from geoseg.ground import pixel_areas_m2
from geoseg.io.labels import Labels
from geoseg.io.opening import files_kept_open
from geoseg.legend import Legend
from geoseg.preprocess.normalise import fit_preparation
from geoseg.preprocess.prepare import Preparation
from geoseg.recipes import _ground as given
from geoseg.recipes._common_settings import CommonSettings
from geoseg.scene import Scene
from geoseg.stacks.series import one_date, series_preparation

log = logging.getLogger(__name__)

FOLDS = "folds"
"""The one part of the ground: all of it, each fold once."""
_MOST_READ = 1_000_000
"""Labelled pixels that are held; a random share of more."""


class FoldSettings(CommonSettings):
    """What can be said of labels that are dealt out to folds; every field has a value that works."""

    group_column: str | None = None
    """Column of what is never cut by a split, such as the field or the farm; None takes each polygon."""

    folds: int = Field(default=5, ge=2)
    """Fewer where a class has fewer groups."""
    block: int | None = Field(default=None, ge=32)
    """Edge in pixels of the blocks that are judged together, where labels are rasters or many polygons; None takes the largest, up to
    512, of which sixteen hold labels."""
    guard: int = Field(default=16, ge=0)
    """Pixels between two blocks of raster labels."""


@dataclass(frozen=True, eq=False)
class FoldedGround:
    """Labelled scenes whose groups were dealt out to folds; `given.JudgedGround`."""

    scenes: tuple[LabelledScene, ...]
    groups: Groups
    folds: int
    learner: str
    """What has learned, in one word, such as `forest`."""

    @property
    def shared_out(self) -> str:
        """One sentence: how the ground was shared out."""
        return f"{len(self.groups.sizes)} {self.groups.kind} in {self.folds} folds; none of them is in two."

    def stated(self, legend: Legend) -> dict[str, Any]:
        """What is known of the labelled ground."""
        areas = sum(
            float((np.broadcast_to(pixel_areas_m2(scene.geobox), plane.shape) * (plane >= 0)).sum())
            for scene, plane in zip(self.scenes, self.groups.planes, strict=True)
        )
        pixels, groups = self.groups.sizes.sum(axis=0).tolist(), self.groups.of_classes().tolist()
        named = {"pixels": pixels, "groups": groups}
        return {FOLDS: {"labelled_km2": areas / 1e6} | {key: dict(zip(legend.names, row, strict=True)) for key, row in named.items()}}

    def meaning(self, part: str) -> str:
        """What the ground of a part was for."""
        return f"each fold judged by a {self.learner} that has not seen it; the package's {self.learner} has seen them all"

    def on(self, part: str) -> str:
        """Where the figures come from, as a model card says it."""
        names, groups = ", ".join(scene.scene.name for scene in self.scenes), f"{len(self.groups.sizes)} {self.groups.kind}"
        return f"{self.folds} folds of {groups} in {names}, each judged by a {self.learner} that has not seen it"

    def held_out(self) -> GeoDataFrame:
        """None: what is in the package has learned from all labels."""
        return GeoDataFrame({"scene": [], "part": []}, geometry=[], crs="EPSG:4326")


@dataclass(frozen=True, eq=False)
class FoldedPixels:
    """Prepared pixels with their classes, each in a fold."""

    pixels: Pixels
    fold_of: NDArray[np.intp]
    """(group,) the fold of each group."""
    legend: Legend
    preparation: Preparation
    ground: FoldedGround
    notes: tuple[str, ...]
    """A sentence on each class whose figures hang on a few groups."""

    def parted(self) -> list[tuple[Pixels, Pixels]]:
        """For each fold the pixels of the others, and its own."""
        mine = self.fold_of[self.pixels.groups]
        return [(self.pixels.take(mine != fold), self.pixels.take(mine == fold)) for fold in range(self.ground.folds)]


def read_folded(
    settings: FoldSettings,
    scenes: Sequence[Scene],
    labels: Sequence[str | Path],
    generator: np.random.Generator,
    *,
    learner: str,
    standardised: bool = True,
) -> FoldedPixels:
    """The labelled pixels of `scenes`, with one label file for each or one for all.

    `standardised` takes their mean off each channel and divides it by their spread; else physical values are what is learned from.
    Raises InputError and its kinds for what was given.
    """
    if not scenes or len(labels) not in (1, len(scenes)):
        raise InputError(f"{len(scenes)} scenes and {len(labels)} label files; give one label file for each scene, or one for all")
    labels = list(labels) * len(scenes) if len(labels) == 1 else labels
    legend = Legend(settings.classes) if settings.classes else given.common_legend(labels, settings.class_column, settings.label_rules)
    with files_kept_open():
        plan = _plan(settings, scenes[0])
        loaded = given.load_scenes(
            scenes, labels, plan, legend, settings.class_column, settings.hold_mb, settings.label_rules, settings.retile
        )
        groups = _groups(settings, loaded, labels, legend)
        if standardised:
            plan = fit_preparation(plan, ground_statistics(loaded, [plane >= 0 for plane in groups.planes], plan))
        pixels = read_pixels(loaded, groups.planes, plan, most=_MOST_READ, generator=generator)
    notes = _few(groups, legend)
    folds = _fold_count(settings, groups, legend, learner)
    fold_of = deal_folds(groups.sizes, folds, generator)
    return FoldedPixels(pixels, fold_of, legend, plan, FoldedGround(tuple(loaded), groups, folds, learner), tuple(notes))


def spread_of(judged: Sequence[Confusion], legend: Legend) -> dict[str, tuple[float, float]]:
    """Class → the least and the greatest IoU of the folds, where there is one."""
    ious = {name: [one.figures()[name]["iou"] for one in judged] for name in legend.names}
    return {name: (float(np.nanmin(values)), float(np.nanmax(values))) for name, values in ious.items() if np.isfinite(values).any()}


def _plan(settings: FoldSettings, scene: Scene) -> Preparation:
    if settings.calendar is None:
        return given.plan_preparation(scene, settings.bands, settings.indices, settings.terrain_correction, settings.despeckle)
    if settings.terrain_correction is not None:
        raise InputError("a series is not corrected for terrain; leave out terrain_correction or calendar")
    plain = given.plan_preparation(one_date(scene), settings.bands, settings.indices, despeckle=settings.despeckle)
    return series_preparation(scene, settings.calendar, plain)


def _groups(settings: FoldSettings, scenes: Sequence[LabelledScene], labels: Sequence[str | Path], legend: Legend) -> Groups:
    opened = {str(path): Labels(path, legend, settings.class_column, rules=settings.label_rules) for path in labels}
    of_scenes = [opened[str(path)] for path in labels]
    block = settings.block or fitting_block([scene.labels for scene in scenes])
    return find_groups(scenes, of_scenes, len(legend), column=settings.group_column, block=block, guard=settings.guard)


def _few(groups: Groups, legend: Legend) -> list[str]:
    """A sentence on each class whose figures hang on a few groups, or that has no label."""
    said = []
    for name, count in zip(legend.names, groups.of_classes().tolist(), strict=True):
        if count < VERY_FEW:
            said.append(f"{name} has few {groups.kind} ({count}): its figures hang on them, and more would tell more.")
    for one in said:
        log.warning("%s", one)
    return said


def _fold_count(settings: FoldSettings, groups: Groups, legend: Legend, learner: str) -> int:
    counts = groups.of_classes()
    if (counts > 0).sum() < 2:
        only = ", ".join(name for name, count in zip(legend.names, counts.tolist(), strict=True) if count) or "no class"
        raise LabelError(f"the labels that lie on valid ground hold only {only}; label at least two classes")
    if counts[counts > 0].min() < 2:
        alone = ", ".join(name for name, count in zip(legend.names, counts.tolist(), strict=True) if count == 1)
        raise LabelError(
            f"{alone} has labels in one place only ({groups.kind}), so no {learner} could be judged on ground that it has not seen; "
            "label it in at least two, or make block smaller"
        )
    return int(min(settings.folds, counts[counts > 0].min()))
