"""Learn classes pixel by pixel with a random forest (Breiman, "Random forests", Machine Learning 45, 2001): a minute, and few labels.

Each labelled pixel is a row of the prepared bands, indices and dates, read exactly as for mapping. Labels that belong together (a
polygon, a field, a farm) are never on both sides of a split: they are dealt out to folds, each fold is judged by a forest that has not
seen it, and the forest of the package has seen them all. The package holds the trees as ONNX, so mapping needs nothing more.
Prefer it where there are a few dozen polygons, and as the row that every other method has to beat; it sees no shapes and no textures.
"""

from __future__ import annotations

import logging
import os
import time
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
from geoseg.data.pixels import Pixels, draw_evenly, read_pixels
from geoseg.data.splits import Part, fitting_block
from geoseg.errors import InputError, LabelError, require
from geoseg.ground import pixel_areas_m2
from geoseg.io.labels import Labels
from geoseg.io.opening import files_kept_open
from geoseg.legend import Legend
from geoseg.models.forest import FAMILY, forest_onnx
from geoseg.models.package import ModelPackage
from geoseg.preprocess.normalise import fit_preparation
from geoseg.preprocess.prepare import Preparation
from geoseg.recipes import _ground as given
from geoseg.recipes._common_settings import CommonSettings
from geoseg.recipes._results import Model, Trained, check_place, open_folder, write_trained
from geoseg.scene import Scene
from geoseg.stacks.series import one_date, series_preparation

log = logging.getLogger(__name__)

_MOST_READ, _MOST_COMPARED = 1_000_000, 200_000
"""Labelled pixels that are held, and those that another recipe is compared on; a random share of more."""
_SHUFFLED = 5000
"""Pixels of a fold in which channels are shuffled to see what they matter."""
_FOLDS = "folds"
_MAP_TILE = 512


class Settings(CommonSettings):
    """What can be said of a forest; every field has a value that works."""

    group_column: str | None = None
    """Column of what is never cut by a split, such as the field or the farm; None takes each polygon."""

    folds: int = Field(default=5, ge=2)
    """Fewer where a class has fewer groups."""
    block: int | None = Field(default=None, ge=32)
    """Edge in pixels of the blocks that are judged together, where labels are rasters or many polygons; None takes the largest, up to
    512, of which sixteen hold labels."""
    guard: int = Field(default=16, ge=0)
    """Pixels between two blocks of raster labels."""
    trees: int = Field(default=100, ge=1)
    min_leaf: int = Field(default=3, ge=1)
    """Pixels in a leaf, at least."""
    pixels: int = Field(default=50_000, ge=100)
    """That each forest learns from, at most: as many of each class, as many of each group."""


@dataclass(frozen=True, eq=False)
class _FoldedGround:
    """Labelled scenes whose groups were dealt out to folds; `given.JudgedGround`."""

    scenes: tuple[LabelledScene, ...]
    groups: Groups
    folds: int

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
        return {_FOLDS: {"labelled_km2": areas / 1e6} | {key: dict(zip(legend.names, row, strict=True)) for key, row in named.items()}}

    def meaning(self, part: str) -> str:
        """What the ground of a part was for."""
        return "each fold judged by a forest that has not seen it; the package's forest has seen them all"

    def on(self, part: str) -> str:
        """Where the figures come from, as a model card says it."""
        names = ", ".join(scene.scene.name for scene in self.scenes)
        return f"{self.folds} folds of {len(self.groups.sizes)} {self.groups.kind} in {names}, each judged by a forest that has not seen it"

    def held_out(self) -> GeoDataFrame:
        """None: the package's forest has learned from all labels."""
        return GeoDataFrame({"scene": [], "part": []}, geometry=[], crs="EPSG:4326")


def run(settings: Settings, scenes: Sequence[Scene], labels: Sequence[str | Path], out: str | Path) -> ModelPackage:
    """Learn from `scenes` with one label file for each (or one for all), and write the package to `out`, a new folder or .zip.

    The report lies in a folder beside it, named as `out` with `_training` behind. Raises InputError and its kinds for what was given.
    """
    require("sklearn", extra="forest")
    if not scenes or len(labels) not in (1, len(scenes)):
        raise InputError(f"{len(scenes)} scenes and {len(labels)} label files; give one label file for each scene, or one for all")
    started = time.monotonic()
    folder = check_place(out, settings, resume=False)
    labels = list(labels) * len(scenes) if len(labels) == 1 else labels
    generator = np.random.default_rng(settings.seed)
    legend = Legend(settings.classes) if settings.classes else given.common_legend(labels, settings.class_column, settings.label_rules)
    with files_kept_open():
        plan = _plan(settings, scenes[0])
        loaded = given.load_scenes(
            scenes, labels, plan, legend, settings.class_column, settings.hold_mb, settings.label_rules, settings.retile
        )
        groups = _groups(settings, loaded, labels, legend)
        statistics = ground_statistics(loaded, [plane >= 0 for plane in groups.planes], plan)
        preparation = fit_preparation(plan, statistics)
        pixels = read_pixels(loaded, groups.planes, preparation, most=_MOST_READ, generator=generator)
    notes = _few(groups, legend)
    folds = _fold_count(settings, groups, legend)
    judged, importance = _judge_folds(settings, pixels, deal_folds(groups.sizes, folds, generator), legend, generator)
    forest = _fit(pixels.take(draw_evenly(pixels, settings.pixels, generator)), settings)
    ious = {name: [one.figures()[name]["iou"] for one in judged] for name in legend.names}
    ground = _FoldedGround(tuple(loaded), groups, folds)
    open_folder(folder, settings)
    trained = Trained(
        settings,
        _model(forest, preparation, legend),
        legend,
        preparation,
        ground,
        {_FOLDS: sum(judged, Confusion.empty(legend))},
        time.monotonic() - started,
        {
            "importance": dict(zip((channel.name for channel in preparation.channels), importance, strict=True)),
            "notes": [*notes, _importance_sentence(preparation, importance)],
        },
        spread={name: (float(np.nanmin(values)), float(np.nanmax(values))) for name, values in ious.items() if np.isfinite(values).any()},
    )
    return write_trained(trained, out, folder)


def judge_forest(ground: given.Ground, preparation: Preparation, legend: Legend, part: Part = "test", *, seed: int = 0) -> Confusion:
    """How a forest does that learns on the training ground and is judged on another part: the row that other methods have to beat."""
    require("sklearn", extra="forest")
    generator, settings = np.random.default_rng(seed), Settings(seed=seed)

    def pixels(which: Part) -> Pixels:
        of_part = zip(ground.scenes, ground.masks[which], strict=True)
        planes = [np.where(mask & (scene.labels >= 0), 0, -1) for scene, mask in of_part]
        return read_pixels(ground.scenes, planes, preparation, most=_MOST_COMPARED, generator=generator)

    learned = pixels("train")
    return _count(_fit(learned.take(draw_evenly(learned, settings.pixels, generator)), settings), pixels(part), legend)


def _plan(settings: Settings, scene: Scene) -> Preparation:
    if settings.calendar is None:
        return given.plan_preparation(scene, settings.bands, settings.indices, settings.terrain_correction, settings.despeckle)
    if settings.terrain_correction is not None:
        raise InputError("a series is not corrected for terrain; leave out terrain_correction or calendar")
    plain = given.plan_preparation(one_date(scene), settings.bands, settings.indices, despeckle=settings.despeckle)
    return series_preparation(scene, settings.calendar, plain)


def _groups(settings: Settings, scenes: Sequence[LabelledScene], labels: Sequence[str | Path], legend: Legend) -> Groups:
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


def _fold_count(settings: Settings, groups: Groups, legend: Legend) -> int:
    counts = groups.of_classes()
    if (counts > 0).sum() < 2:
        only = ", ".join(name for name, count in zip(legend.names, counts.tolist(), strict=True) if count) or "no class"
        raise LabelError(f"the labels that lie on valid ground hold only {only}; label at least two classes")
    if counts[counts > 0].min() < 2:
        alone = ", ".join(name for name, count in zip(legend.names, counts.tolist(), strict=True) if count == 1)
        raise LabelError(
            f"{alone} has labels in one place only ({groups.kind}), so no forest could be judged on ground that it has not seen; "
            "label it in at least two, or make block smaller"
        )
    return int(min(settings.folds, counts[counts > 0].min()))


def _judge_folds(
    settings: Settings, pixels: Pixels, fold_of: NDArray[np.intp], legend: Legend, generator: np.random.Generator
) -> tuple[list[Confusion], list[float]]:
    """The confusion of each fold, and of each channel how much accuracy is lost where it is shuffled, the mean of the folds."""
    of_pixels = fold_of[pixels.groups]
    judged, losses = [], []
    for fold in range(int(fold_of.max()) + 1):
        others, mine = pixels.take(of_pixels != fold), pixels.take(of_pixels == fold)
        forest = _fit(others.take(draw_evenly(others, settings.pixels, generator)), settings)
        judged.append(_count(forest, mine, legend))
        losses.append(_importance(forest, mine.take(generator.permutation(len(mine))[:_SHUFFLED]), generator))
    return judged, [round(float(loss), 4) for loss in np.mean(losses, axis=0)]


def _fit(pixels: Pixels, settings: Settings) -> Any:
    """A forest of scikit-learn's."""
    from sklearn.ensemble import RandomForestClassifier

    forest = RandomForestClassifier(
        settings.trees,
        min_samples_leaf=settings.min_leaf,
        class_weight="balanced_subsample",
        n_jobs=os.cpu_count(),
        random_state=settings.seed,
    )
    return forest.fit(pixels.values, pixels.classes)


def _count(forest: Any, pixels: Pixels, legend: Legend) -> Confusion:
    return Confusion.count(pixels.classes, forest.predict(pixels.values), legend)


def _importance(forest: Any, pixels: Pixels, generator: np.random.Generator) -> list[float]:
    """Accuracy lost where one channel after the other is shuffled among the pixels (Breiman 2001)."""
    whole, lost = forest.score(pixels.values, pixels.classes), []
    for channel in range(pixels.values.shape[1]):
        values = pixels.values.copy()
        values[:, channel] = generator.permutation(values[:, channel])
        lost.append(whole - forest.score(values, pixels.classes))
    return lost


def _importance_sentence(preparation: Preparation, importance: Sequence[float]) -> str:
    named = sorted(zip(importance, (channel.name for channel in preparation.channels), strict=True), reverse=True)
    return "Accuracy lost where a channel is shuffled: " + ", ".join(f"{name} {loss:.3f}" for loss, name in named) + "."


def _model(forest: Any, preparation: Preparation, legend: Legend) -> Model:
    trees = [tree.tree_ for tree in forest.estimators_]
    return Model(
        onnx=forest_onnx(trees, forest.classes_.tolist(), len(preparation.channels), len(legend)),
        weights=None,
        architecture={"family": FAMILY, "trees": len(trees), "nodes": sum(int(tree.node_count) for tree in trees)},
        stride=1,
        tile=_MAP_TILE,
        overlap=0,
        facts={"trees": len(trees)},
    )
