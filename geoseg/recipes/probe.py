"""Learn classes pixel by pixel with a probe: a linear classifier, or the votes of the nearest labelled pixels. Seconds, and few labels.

For bands that say much already, as embeddings do, so that little is left to learn: `linear` is a logistic regression, `knn` lets the k
nearest labelled pixels by cosine vote, weighted (`geoseg.models.probe`). Both see single pixels, as `pixel_forest` does, whose folds judge
them; on plain bands a forest is the better choice, since neither bends around classes as a forest does.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from geoseg.confusion import Confusion
from geoseg.data.pixels import Pixels, draw_evenly
from geoseg.errors import InputError, require
from geoseg.legend import Legend
from geoseg.models.package import ModelPackage
from geoseg.models.probe import LINEAR, NEAREST, linear_onnx, nearest_onnx, vote_weights
from geoseg.recipes._folds import FOLDS, FoldSettings, read_folded, spread_of
from geoseg.recipes._results import Model, Trained, check_place, open_folder, write_trained
from geoseg.scene import Scene

_MAP_TILE, _LEAST_TILE = 512, 32
_COSINES = 16_000_000
"""Cosines that a tile of a map may take at once: 64 MB."""
_STEPS = 1000
"""Of the solver, at most."""
_MOST_EXAMPLES = {"linear": 20_000, "knn": 2000}
_MOST_JUDGED = 20_000
"""Pixels of a fold on which its probe is judged; a random share of more."""


class Settings(FoldSettings):
    """What can be said of a probe; every field has a value that works."""

    method: Literal["linear", "knn"] = "linear"
    """A logistic regression, or the votes of the nearest neighbours."""
    neighbours: int = Field(default=20, ge=1)
    """`knn` only: how many vote; all, where fewer were learned."""
    strength: float = Field(default=1.0, gt=0)
    """`linear` only: scikit-learn's C; smaller holds the weights closer to 0, which few labels may ask for."""
    standardise: bool | None = None
    """Whether each channel has its mean taken off and is divided by its spread; null does so for all but `knn` on embeddings, whose
    directions are what they were made for."""
    pixels: int | None = Field(default=None, ge=2)
    """That each probe learns from, at most: as many of each class, as many of each group; null takes 20,000 for `linear`, 2000 for `knn`,
    whose maps take time and memory by their number."""

    @property
    def examples(self) -> int:
        """`pixels`, or what stands for it."""
        return self.pixels or _MOST_EXAMPLES[self.method]


def run(settings: Settings, scenes: Sequence[Scene], labels: Sequence[str | Path], out: str | Path) -> ModelPackage:
    """Learn from `scenes` with one label file for each (or one for all), and write the package to `out`, a new folder or .zip.

    The report lies in a folder beside it, named as `out` with `_training` behind. Raises InputError and its kinds for what was given.
    """
    require("sklearn", extra="forest")
    started = time.monotonic()
    folder = check_place(out, settings, resume=False)
    generator = np.random.default_rng(settings.seed)
    folded = read_folded(settings, scenes, labels, generator, learner="probe", standardised=_standardised(settings, scenes))
    legend = folded.legend
    judged = [
        _count(fit_probe(_drawn(others, settings, generator), settings), mine.take(generator.permutation(len(mine))[:_MOST_JUDGED]), legend)
        for others, mine in folded.parted()
    ]
    learned = _drawn(folded.pixels, settings, generator)
    probe = fit_probe(learned, settings)
    open_folder(folder, settings)
    trained = Trained(
        settings,
        _model(probe, settings, learned, legend),
        legend,
        folded.preparation,
        folded.ground,
        {FOLDS: sum(judged, Confusion.empty(legend))},
        time.monotonic() - started,
        {"notes": [*folded.notes, _told(settings, learned)]},
        spread=spread_of(judged, legend),
    )
    return write_trained(trained, out, folder)


def fit_probe(pixels: Pixels, settings: Settings) -> Any:
    """A classifier of scikit-learn's, which gives the scores that the package's graph gives."""
    if settings.method == "linear":
        from sklearn.linear_model import LogisticRegression

        probe: Any = LogisticRegression(C=settings.strength, class_weight="balanced", max_iter=_STEPS, random_state=settings.seed)
    else:
        from sklearn.neighbors import KNeighborsClassifier

        probe = KNeighborsClassifier(_voters(settings, len(pixels)), weights=vote_weights, algorithm="brute", metric="cosine")
    return probe.fit(pixels.values, pixels.classes)


def _standardised(settings: Settings, scenes: Sequence[Scene]) -> bool:
    if settings.standardise is not None:
        return settings.standardise
    if settings.method == "linear" or not scenes:
        return True
    roles = settings.bands or scenes[0].roles
    return not all(scenes[0].layer(role).band.kind == "generic" and scenes[0].layer(role).band.unit == "1" for role in roles)


def _drawn(pixels: Pixels, settings: Settings, generator: np.random.Generator) -> Pixels:
    return pixels.take(draw_evenly(pixels, settings.examples, generator))


def _count(probe: Any, pixels: Pixels, legend: Legend) -> Confusion:
    return Confusion.count(pixels.classes, probe.predict(pixels.values), legend)


def _voters(settings: Settings, examples: int) -> int:
    return min(settings.neighbours, examples)


def _told(settings: Settings, learned: Pixels) -> str:
    if settings.method == "linear":
        return f"A logistic regression (C = {settings.strength:g}) of {len(learned)} pixels."
    return f"The {_voters(settings, len(learned))} nearest of {len(learned)} pixels vote, by cosine."


def _model(probe: Any, settings: Settings, learned: Pixels, legend: Legend) -> Model:
    channels, count, classes = learned.values.shape[1], len(legend), probe.classes_.tolist()
    if settings.method == "linear":
        weights, bias = probe.coef_, probe.intercept_
        if len(classes) == 2:  # scikit-learn has one sum for two classes: that of the second over the first
            weights, bias = np.concatenate([0 * weights, weights]), np.concatenate([0 * bias, bias])
        return _as_model(linear_onnx(weights, bias, classes, count), {"family": LINEAR, "channels": channels}, _MAP_TILE)
    voters = _voters(settings, len(learned))
    if learned.values.size == 0 or not np.abs(learned.values).any():
        raise InputError("the labelled pixels are all 0, so that no angle is between them; choose other bands, or method: linear")
    onnx = nearest_onnx(learned.values, learned.classes, voters, count)
    tile = _LEAST_TILE
    while tile < _MAP_TILE and (2 * tile) ** 2 * len(learned) <= _COSINES:
        tile *= 2
    return _as_model(onnx, {"family": NEAREST, "channels": channels, "examples": len(learned), "neighbours": voters}, tile)


def _as_model(onnx: bytes, architecture: dict[str, Any], tile: int) -> Model:
    facts = {key: value for key, value in architecture.items() if key not in ("family", "channels")}
    return Model(onnx=onnx, weights=None, architecture=architecture, stride=1, tile=tile, overlap=0, facts=facts)
