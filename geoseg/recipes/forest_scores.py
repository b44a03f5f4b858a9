"""Scores of labelled pixels by forests that have not seen them: cross-validation in folds that never cut what belongs together.

Folds are those of `pixel_forest.py`. Where labels are rasters, pixels near the edge of a block are scored, too, but no forest learns from
them: what is scored is at least half of the guard away from what was learned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.data.patches import LabelledScene, prepared_window
from geoseg.data.pixels import draw_evenly
from geoseg.data.splits import fitting_block
from geoseg.data.windows import UNLABELLED, lay_windows
from geoseg.errors import require
from geoseg.io.opening import files_kept_open
from geoseg.io.score_files import NO_SCORE, SCORE_STEPS
from geoseg.legend import Legend
from geoseg.preprocess.prepare import Preparation
from geoseg.recipes._folds import FoldedPixels, read_folded
from geoseg.recipes.pixel_forest import Settings
from geoseg.recipes.pixel_forest import _fit as fit_forest
from geoseg.scene import Scene

_STRIP = 512
"""Edge of the windows in which scenes are scored."""


@dataclass(frozen=True, eq=False)
class FoldScores:
    """Labelled scenes with scores that were not learned from their own labels."""

    legend: Legend
    scenes: tuple[LabelledScene, ...]
    scores: tuple[NDArray[np.uint8], ...]
    """For each scene (class, row, col) as score files store them; NO_SCORE where there is no label."""
    told: str
    """Where the scores come from, in one sentence."""


def score_folds(settings: Settings, scenes: Sequence[Scene], labels: Sequence[str | Path]) -> FoldScores:
    """Score each labelled pixel by a forest that has learned from the other folds.

    `labels` is one file for each scene, or one for all. The scores are held in memory, a byte for each pixel and class. Raises
    InputError and its kinds for what was given, as the recipe does.
    """
    require("sklearn", extra="forest")
    generator = np.random.default_rng(settings.seed)
    folded = read_folded(settings, scenes, labels, generator, learner="forest")
    forests = [fit_forest(others.take(draw_evenly(others, settings.pixels, generator)), settings) for others, _ in folded.parted()]
    loaded, classes = folded.ground.scenes, len(folded.legend)
    with files_kept_open():
        planes = _folds_on(settings, folded)
        scores = [_score(scene, plane, forests, folded.preparation, classes) for scene, plane in zip(loaded, planes, strict=True)]
    told = f"Scores by cross-validation: {folded.ground.shared_out.rstrip('.')}, and each is scored by a forest that has not seen it."
    return FoldScores(folded.legend, loaded, tuple(scores), told)


def _folds_on(settings: Settings, folded: FoldedPixels) -> list[NDArray[np.intp]]:
    """For each scene (row, col) fold of each labelled pixel; -1 where there is none. The gap between blocks goes with its block."""
    scenes, planes = folded.ground.scenes, []
    block = settings.block or fitting_block([scene.labels for scene in scenes])
    for scene, groups in zip(scenes, folded.ground.groups.planes, strict=True):
        filled, labelled = groups.copy(), scene.labels != UNLABELLED
        for window in lay_windows((groups.shape[0], groups.shape[1]), block):
            here = filled[window.slices]
            here[(here < 0) & labelled[window.slices]] = here.max()
        planes.append(np.where(filled >= 0, folded.fold_of[np.maximum(filled, 0)], -1))
    return planes


def _score(
    scene: LabelledScene, folds: NDArray[np.intp], forests: Sequence[Any], preparation: Preparation, classes: int
) -> NDArray[np.uint8]:
    """(class, row, col) of one scene, each pixel by the forest of its own fold."""
    stored = np.full((classes, *folds.shape), NO_SCORE, np.uint8)
    for window in lay_windows((folds.shape[0], folds.shape[1]), _STRIP):
        here = folds[window.slices]
        if not (here >= 0).any():
            continue
        values = prepared_window(scene, window, preparation).values
        for fold in np.unique(here[here >= 0]).tolist():
            mine, forest = here == fold, forests[fold]
            found = np.zeros((classes, int(mine.sum())))
            found[forest.classes_] = forest.predict_proba(values[:, mine].T).T
            stored[:, *window.slices][:, mine] = np.rint(found * SCORE_STEPS).astype(np.uint8)
    return stored
