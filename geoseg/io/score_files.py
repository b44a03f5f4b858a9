"""Scores as files: a band for each class, counted in steps of 1/250 so that a byte holds one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import InputError
from geoseg.io.opening import opened
from geoseg.legend import Legend

SCORE_STEPS = 250
"""A score of 1 is stored as this; the scale tag says so."""
NO_SCORE = 255
"""Stored where there is none."""
_CACHED_ROWS = 16
_KINDS = {True: "score of ", False: "uncalibrated score of "}
"""What a band's name begins with, by whether its scores are calibrated."""


@dataclass(frozen=True)
class ScoreFile:
    """The scores of a map on disk; holds no pixels."""

    path: str
    bands: tuple[int, ...]
    """The band, counted from 1, of each class in the order of the legend that was asked for."""
    scale: float
    """Score = scale x stored number + offset, in all bands."""
    offset: float
    calibrated: bool


def open_scores(path: str | Path, legend: Legend) -> ScoreFile:
    """The scores in a file of geoseg's, its bands found by the names of the legend's classes.

    InputError where a class has no band, or bands are counted in different steps; SceneError where the file cannot be read.
    """
    with opened(str(path)) as file:
        names = [text or "" for text in file.descriptions]
        scales = set(zip(file.scales, file.offsets, strict=True))
    calibrated = any(name.startswith(_KINDS[True]) for name in names)
    wanted = [f"{_KINDS[calibrated]}{name}" for name in legend.names]
    if missing := [name for name in wanted if name not in names]:
        raise InputError(f"{path} has no band {missing[0]!r}; expected the scores of {', '.join(legend.names)}")
    if len(scales) > 1:
        raise InputError(f"{path} counts its bands in different steps; expected scores as `geoseg predict --scores` writes them")
    ((scale, offset),) = scales
    return ScoreFile(str(path), tuple(names.index(name) + 1 for name in wanted), scale, offset, calibrated)


def score_profile(legend: Legend, *, calibrated: bool) -> dict[str, Any]:
    """What `RowWriter` and `BlockWriter` need to know of a raster with the score of each class."""
    count = len(legend)
    return {
        "count": count,
        "dtype": np.uint8,
        "nodata": NO_SCORE,
        "descriptions": tuple(f"{_KINDS[calibrated]}{name}" for name in legend.names),
        "scales": (1 / SCORE_STEPS,) * count,
        "offsets": (0.0,) * count,
    }


def stored_scores(scores: NDArray[np.float32], observed: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Scores from 0 to 1 (class, row, col) as such a raster holds them; no score where not `observed` (row, col)."""
    if not observed.any():
        return np.full(scores.shape, NO_SCORE, np.uint8)
    steps = np.empty(scores.shape, np.uint8)
    for rows in _few_rows(scores.shape[1]):
        for plane, stored in zip(scores[:, rows], steps[:, rows], strict=True):
            stored[:] = np.rint(np.clip(plane, 0, 1) * np.float32(SCORE_STEPS))
    steps[:, ~observed] = NO_SCORE
    return steps


def best_class(scores: NDArray[np.float32]) -> NDArray[np.unsignedinteger]:
    """(row, col) place of the highest of (class, row, col) scores; the first of equal ones."""
    kind = np.uint8 if len(scores) <= 256 else np.uint16
    best = np.zeros(scores.shape[1:], kind)
    for rows in _few_rows(scores.shape[1]):
        here, highest = best[rows], scores[0, rows].copy()
        for index, plane in enumerate(scores[1:, rows], 1):
            higher = (plane > highest).astype(kind)
            here += higher * (kind(index) - here)  # arithmetic takes a tenth of the time of assigning where a mask is True
            np.maximum(highest, plane, out=highest)
    return best


def _few_rows(height: int) -> Iterator[slice]:
    """All rows, so few at once that they stay in the processor's cache."""
    return (slice(top, top + _CACHED_ROWS) for top in range(0, height, _CACHED_ROWS))
