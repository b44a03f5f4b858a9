"""How unsure a map is of each pixel: layers beside it, made of the scores as they are finished.

The classes' scores p are taken as shares that sum to 1. With them, of C classes:

* `entropy` is -sum(p log p) / log C: 0 where one class has all of the score, 1 where all classes have the same.
* `margin` is the highest score minus the second highest: 1 where one class has all, 0 where two share the highest.
* `disagreement` is how far apart the scores of the tiles are that overlap in a pixel: the root of half the sum, over the classes, of
  their variance, with the weights of the blending. For two classes it is the standard deviation of the score of either. 0 where a
  single tile covers the pixel, at most sqrt(1/2).
* `members` is the same between the members of an ensemble and the turned images of test-time augmentation, as the mean over the tiles.

By the law of total variance, the squares of the last two add up to the variance over all tiles and members. They are of the scores that
the networks give; entropy and margin are of the scores that the map tells, after the package's temperature, where it has one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import InputError
from geoseg.io.cog import write_cog
from geoseg.io.qgis import write_style
from geoseg.io.qgis_styles import ramp_qml
from geoseg.io.score_files import NO_SCORE, SCORE_STEPS
from geoseg.models.package import Output
from geoseg.runtimes.contract import Runtime

Measure = Literal["entropy", "margin", "disagreement", "members"]
MEASURES: tuple[Measure, ...] = get_args(Measure)

_SENTENCES: Mapping[Measure, str] = {
    "entropy": "Entropy of the classes' scores, 0 where one class has all of the score and 1 where all classes have the same.",
    "margin": "Highest score minus the second highest: 1 where the map is sure of its class, 0 where it could as well have been another.",
    "disagreement": "How far apart the scores of the overlapping tiles are (root of half their summed variances): 0 where they agree, or "
    "where one tile alone covers the pixel.",
    "members": "How far apart the scores of the ensemble's members and of turned images are (root of half their summed variances): 0 where "
    "they agree.",
}
_UNCALIBRATED = " The scores are uncalibrated: say with them where to look first, not how often the map is wrong."
_SHOWN_RANGES: Mapping[Measure, tuple[float, float]] = dict.fromkeys(MEASURES, (0.0, 1.0)) | {
    "disagreement": (0.0, 0.5),
    "members": (0.0, 0.5),
}
"""Two that say the opposite with the same weight are 0.5 apart."""
_OF_TILES, _OF_MEMBERS = "squares of tiles", "squares of members"
_ROWS_AT_ONCE = 16


def parse_measures(names: Iterable[str], *, several: bool) -> tuple[Measure, ...]:
    """The layers of these names, each once, in the order of MEASURES.

    InputError for a name that is none, and for `members` where no `several` members or turned images score a tile.
    """
    asked = list(names)
    if unknown := [name for name in asked if name not in MEASURES]:
        raise InputError(f"--uncertainty has {unknown[0]!r}; expected some of {', '.join(MEASURES)}, with commas between them")
    if "members" in asked and not several:
        raise InputError("--uncertainty members compares several networks or turned images; name more than one --model, or say --tta")
    return tuple(measure for measure in MEASURES if measure in asked)


class WithSquares:
    """A runtime that also gives, for each of its outputs, the sum of the squares of its scores: (batch, 1, row, col).

    Means over members, turned images and tiles are taken of them like of the scores, and the mean of squares minus the square of the
    mean is a variance.
    """

    def __init__(self, runtime: Runtime, what: str) -> None:
        self.name, self.version = runtime.name, runtime.version
        self.precision, self.device = runtime.precision, runtime.device
        self._runtime, self._what = runtime, what

    @property
    def notes(self) -> tuple[str, ...]:
        """Those of the runtime inside."""
        return self._runtime.notes

    def __call__(self, images: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """Scores and squares for images (batch, channel, row, col)."""
        scores = self._runtime(images)
        own = {name: planes for name, planes in scores.items() if not _is_squares(name)}
        return scores | {f"{name} {self._what}": sum_of_squares(planes, axis=1) for name, planes in own.items()}


def members_counted(runtime: Runtime, measures: Iterable[Measure]) -> Runtime:
    """A member of an ensemble, with what the measure `members` needs of it."""
    return WithSquares(runtime, _OF_MEMBERS) if "members" in measures else runtime


def tiles_counted(runtime: Runtime, measures: Iterable[Measure]) -> Runtime:
    """The whole network, with what `disagreement` and `members` need of each tile."""
    return WithSquares(runtime, _OF_TILES) if {"disagreement", "members"} & set(measures) else runtime


def more_planes(outputs: Iterable[Output], measures: Iterable[Measure]) -> dict[str, int]:
    """What is blended beside the scores: name → planes."""
    kinds = [what for what, of in ((_OF_TILES, ("disagreement", "members")), (_OF_MEMBERS, ("members",))) if set(of) & set(measures)]
    return {f"{output.name} {what}": 1 for output in outputs for what in kinds}


def measured(
    output: Output,
    measures: Iterable[Measure],
    blended: Mapping[str, NDArray[np.float32]],
    told: NDArray[np.float32],
    observed: NDArray[np.bool_],
) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """The name and the stored numbers (1, row, col) of each layer of an output, in a strip.

    `blended` is all that was blended, `told` the scores (class, row, col) that the map tells, `observed` (row, col) where it does.
    """
    for measure in measures:
        stored = np.full((1, *observed.shape), NO_SCORE, np.uint8)
        for top in range(0, observed.shape[0] if observed.any() else 0, _ROWS_AT_ONCE):
            rows = slice(top, top + _ROWS_AT_ONCE)
            values = _values(measure, output, blended, told, rows)
            stored[0, rows] = np.where(observed[rows], np.rint(np.clip(values, 0, 1) * SCORE_STEPS), NO_SCORE)
        yield layer_name(output, measure), stored


def entropy(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """(row, col) entropy, 0…1, of scores (class, row, col) 0 or more; 0 of a single class."""
    if len(scores) == 1:
        return np.zeros(scores.shape[1:], np.float32)
    shares = _shares(scores)
    sums = -(shares * np.log(np.maximum(shares, np.float32(1e-30)))).sum(axis=0)
    return np.asarray(sums / np.float32(np.log(len(scores))), np.float32)


def margin(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """(row, col) highest minus second highest, 0…1, of scores (class, row, col) 0 or more; 1 of a single class."""
    if len(scores) == 1:
        return np.ones(scores.shape[1:], np.float32)
    second, first = np.partition(_shares(scores), len(scores) - 2, axis=0)[-2:]
    return np.asarray(first - second, np.float32)


def sum_of_squares(scores: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """Over the classes, whose axis stays with the length 1; a class after the other, so that its bits depend on nothing else."""
    planes = np.moveaxis(scores, axis, 0)
    total = planes[0] * planes[0]
    for plane in planes[1:]:
        total += plane * plane
    return np.expand_dims(total, axis)


def layer_name(output: Output, measure: Measure) -> str:
    """What a map's result of this measure is called."""
    return f"{output.name}_{measure}"


def layer_profile(measure: Measure, *, calibrated: bool) -> dict[str, Any]:
    """What `RowWriter` and `BlockWriter` need to know of such a layer."""
    scale = {"scales": (1 / SCORE_STEPS,), "offsets": (0.0,)}
    tags = {"MEANING": meaning(measure, calibrated=calibrated)}
    return {"count": 1, "dtype": np.uint8, "nodata": NO_SCORE, "descriptions": (measure,), "tags": tags, **scale}


def meaning(measure: Measure, *, calibrated: bool) -> str:
    """What a layer says, for people; with a second sentence where the scores are not calibrated."""
    return _SENTENCES[measure] + ("" if calibrated else _UNCALIBRATED)


def shown_range(measure: Measure) -> tuple[float, float]:
    """The values at the ends of the colours."""
    return _SHOWN_RANGES[measure]


def finish_measure(part: Path, out: Path, measure: Measure) -> None:
    """The cloud optimised layer at `out`, with its QGIS style."""
    write_cog(part, out, kind="continuous")
    write_style(out, ramp_qml(value_range=shown_range(measure)))


def _values(
    measure: Measure, output: Output, blended: Mapping[str, NDArray[np.float32]], told: NDArray[np.float32], rows: slice
) -> NDArray[np.float32]:
    """(row, col) of some rows of a strip."""
    if measure in ("entropy", "margin"):
        return entropy(told[:, rows]) if measure == "entropy" else margin(told[:, rows])
    of_tiles = blended[f"{output.name} {_OF_TILES}"][:, rows]
    if measure == "disagreement":
        between = of_tiles - sum_of_squares(blended[output.name][:, rows], axis=0)
    else:
        between = blended[f"{output.name} {_OF_MEMBERS}"][:, rows] - of_tiles
    return np.asarray(np.sqrt(np.maximum(between[0], 0) / 2), np.float32)  # rounding makes a few of them negative


def _shares(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """The scores made to sum to 1; all alike where all are 0."""
    kept = np.maximum(scores, 0)
    total = kept.sum(axis=0)
    return np.where(total > 0, kept / np.where(total > 0, total, 1), np.float32(1 / len(scores))).astype(np.float32)


def _is_squares(name: str) -> bool:
    return name.endswith((f" {_OF_TILES}", f" {_OF_MEMBERS}"))
