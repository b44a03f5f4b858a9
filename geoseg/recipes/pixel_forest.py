"""Learn classes pixel by pixel with a random forest (Breiman, "Random forests", Machine Learning 45, 2001): a minute, and few labels.

Each labelled pixel is a row of the prepared bands, indices and dates, read exactly as for mapping. Labels that belong together (a
polygon, a field, a farm) are never on both sides of a split: they are dealt out to folds, each fold is judged by a forest that has not
seen it, and the forest of the package has seen them all. The package holds the trees as ONNX, so mapping needs nothing more.
Prefer it where there are a few dozen polygons, and as the row that every other method has to beat; it sees no shapes and no textures.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from geoseg.confusion import Confusion
from geoseg.data.pixels import Pixels, draw_evenly, read_pixels
from geoseg.data.splits import Part
from geoseg.errors import require
from geoseg.legend import Legend
from geoseg.models.forest import FAMILY, forest_onnx
from geoseg.models.package import ModelPackage
from geoseg.preprocess.prepare import Preparation
from geoseg.recipes import _ground as given
from geoseg.recipes._folds import FOLDS, FoldedPixels, FoldSettings, read_folded, spread_of
from geoseg.recipes._results import Model, Trained, check_place, open_folder, write_trained
from geoseg.scene import Scene

_MOST_COMPARED = 200_000
"""Labelled pixels that another recipe is compared on; a random share of more."""
_SHUFFLED = 5000
"""Pixels of a fold in which channels are shuffled to see what they matter."""
_MOST_SHUFFLED = 32
"""Channels that are shuffled, where there are more: those by which the first forest parts most."""
_MOST_TOLD = 12
"""Channels that are named with their importance; report.json has all that were shuffled."""
_MAP_TILE = 512


class Settings(FoldSettings):
    """What can be said of a forest; every field has a value that works."""

    trees: int = Field(default=100, ge=1)
    min_leaf: int = Field(default=3, ge=1)
    """Pixels in a leaf, at least."""
    pixels: int = Field(default=50_000, ge=100)
    """That each forest learns from, at most: as many of each class, as many of each group."""


def run(settings: Settings, scenes: Sequence[Scene], labels: Sequence[str | Path], out: str | Path) -> ModelPackage:
    """Learn from `scenes` with one label file for each (or one for all), and write the package to `out`, a new folder or .zip.

    The report lies in a folder beside it, named as `out` with `_training` behind. Raises InputError and its kinds for what was given.
    """
    require("sklearn", extra="forest")
    started = time.monotonic()
    folder = check_place(out, settings, resume=False)
    generator = np.random.default_rng(settings.seed)
    folded = read_folded(settings, scenes, labels, generator, learner="forest")
    legend, preparation = folded.legend, folded.preparation
    judged, importance = _judge_folds(settings, folded, generator)
    forest = _fit(folded.pixels.take(draw_evenly(folded.pixels, settings.pixels, generator)), settings)
    open_folder(folder, settings)
    trained = Trained(
        settings,
        _model(forest, preparation, legend),
        legend,
        preparation,
        folded.ground,
        {FOLDS: sum(judged, Confusion.empty(legend))},
        time.monotonic() - started,
        {
            "importance": dict(importance.items()),
            "notes": [*folded.notes, _importance_sentence(importance, len(preparation.channels))],
        },
        spread=spread_of(judged, legend),
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


def _judge_folds(settings: Settings, folded: FoldedPixels, generator: np.random.Generator) -> tuple[list[Confusion], dict[str, float]]:
    """The confusion of each fold, and by channel how much accuracy is lost where it is shuffled, the mean of the folds."""
    judged, losses, chosen = [], [], list(range(len(folded.preparation.channels)))
    for others, mine in folded.parted():
        forest = _fit(others.take(draw_evenly(others, settings.pixels, generator)), settings)
        judged.append(_count(forest, mine, folded.legend))
        if len(chosen) > _MOST_SHUFFLED:
            chosen = sorted(np.argsort(forest.feature_importances_)[-_MOST_SHUFFLED:].tolist())
        losses.append(_importance(forest, mine.take(generator.permutation(len(mine))[:_SHUFFLED]), chosen, generator))
    names = [folded.preparation.channels[channel].name for channel in chosen]
    return judged, {name: round(float(loss), 4) for name, loss in zip(names, np.mean(losses, axis=0), strict=True)}


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


def _importance(forest: Any, pixels: Pixels, channels: Sequence[int], generator: np.random.Generator) -> list[float]:
    """Accuracy lost where one of these channels after the other is shuffled among the pixels (Breiman 2001)."""
    whole, lost = forest.score(pixels.values, pixels.classes), []
    for channel in channels:
        values = pixels.values.copy()
        values[:, channel] = generator.permutation(values[:, channel])
        lost.append(whole - forest.score(values, pixels.classes))
    return lost


def _importance_sentence(importance: Mapping[str, float], channels: int) -> str:
    named = sorted(((loss, name) for name, loss in importance.items()), reverse=True)
    told = ", ".join(f"{name} {loss:.3f}" for loss, name in named[:_MOST_TOLD])
    left = channels - min(len(named), _MOST_TOLD)
    return f"Accuracy lost where a channel is shuffled: {told}{f' ({left} others not named)' if left else ''}."


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
