"""Several maps to one, window by window: what each says of a pixel, which of them is believed, and where they agree."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from geoseg.errors import LabelError
from geoseg.ground import pixel_areas_m2
from geoseg.io.class_maps import NOT_OBSERVED, UNNAMED, read_class_indices
from geoseg.io.geotiff import footprint, read_raster
from geoseg.io.score_files import SCORE_STEPS, ScoreFile, stored_scores
from geoseg.io.vectors import burn_area
from geoseg.maps.map_results import MapResult
from geoseg.maps.mosaic_plan import NO_SOURCE, MosaicPlan
from geoseg.preprocess.quality import REASON_OF, Reason
from geoseg.sensors import Band

_PIXELS_AT_ONCE = 1 << 15
_REASON = Band("reason", "reason", unit="class")
_COUNT = Band("observations", "observations", unit="class")
_LEAST = (Reason.OUTSIDE, Reason.OUTSIDE_AREA, Reason.NO_DATA)
_MOST = [reason for reason in REASON_OF.values() if reason not in _LEAST]
_TELLING = (*_LEAST, *(reason for reason in Reason if reason not in (*_LEAST, *_MOST, Reason.OBSERVED)), *reversed(_MOST))
"""Reasons from the one that says least to the one that says most; OBSERVED is no reason for a gap."""


@dataclass(frozen=True)
class JoinedWindow:
    """A finished piece of the mosaic; every array is (row, col), `scores` (class, row, col)."""

    classes: NDArray[np.unsignedinteger]
    reason: NDArray[np.uint8]
    source: NDArray[np.uint16]
    """NO_SOURCE, or the number of the map that gave the class, from 1. For the rule `score` the one whose score for it is highest."""
    observations: NDArray[np.uint16]
    """How many maps have a class here; a mosaic among them counts as the maps that it was made of."""
    scores: NDArray[np.uint8] | None
    """As score files store them; None where the rule does not need them."""
    pairs_m2: NDArray[np.float64]
    """(class, class) ground that several maps cover, by what pairs of them say: rows one map, columns the other, symmetric."""


def join_window(plan: MosaicPlan, rows: slice, cols: slice) -> JoinedWindow:
    """Join all maps on one window of the grid. The result does not depend on how the grid is cut into windows."""
    geobox = plan.geobox[rows, cols]
    inside = np.ones(geobox.shape, dtype=bool) if plan.area is None else burn_area(plan.area, geobox)
    votes, first = _Votes(len(plan.legend), geobox.shape.yx), _First(geobox.shape.yx)
    mean = _MeanScores(len(plan.legend), geobox.shape.yx) if plan.rule == "score" else None
    meeting = plan.meeting(rows, cols) if inside.any() else []
    for place in meeting:
        own = _own_classes(plan.maps[place], geobox)
        own[~inside] = NOT_OBSERVED
        if not (own >= 0).any():
            continue
        weights = _weights(plan.maps[place], geobox)
        if mean is None:
            first.add(place + 1, own)
        else:
            steps, valid = _read_steps(plan.scores[place], geobox)
            own[~valid] = NOT_OBSERVED
            mean.add(place + 1, own >= 0, steps, weights)
        votes.add(own, weights)
    best, source = (first.best, first.source) if mean is None else mean.result(votes.of_class)
    observed = source != NO_SOURCE
    return JoinedWindow(
        classes=plan.legend.to_codes(best, observed),
        reason=_merged_reasons(plan, meeting, geobox, observed, inside),
        source=source,
        observations=votes.observations,
        scores=None if mean is None else mean.stored(votes.observations),
        pairs_m2=_pairs_m2(votes.of_class, geobox),
    )


class _Votes:
    """What all maps say, whoever is believed."""

    def __init__(self, classes: int, shape: tuple[int, int]) -> None:
        self.of_class: NDArray[np.uint16] = np.zeros((classes, *shape), np.uint16)
        """(class, row, col) how many maps say this class."""
        self.observations: NDArray[np.uint16] = np.zeros(shape, np.uint16)
        """(row, col) how many maps say anything, mosaics counted as the maps in them."""

    def add(self, own: NDArray[np.int32], weights: NDArray[np.uint16]) -> None:
        """Count one map: `own` is the index of its class, below 0 where it has none."""
        self.observations += np.where(own >= 0, weights, np.uint16(0))
        row, col = np.nonzero(own >= 0)
        self.of_class[own[row, col], row, col] += 1


class _First:
    """The first map that has a class gives it."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self.best: NDArray[np.int32] = np.zeros(shape, np.int32)
        self.source: NDArray[np.uint16] = np.full(shape, NO_SOURCE, np.uint16)

    def add(self, number: int, own: NDArray[np.int32]) -> None:
        """Take what is still missing from the map of this number."""
        new = (own >= 0) & (self.source == NO_SOURCE)
        self.best[new], self.source[new] = own[new], number


class _MeanScores:
    """The class with the highest mean score; of equal ones that of most maps, then the first in the legend."""

    def __init__(self, classes: int, shape: tuple[int, int]) -> None:
        self._total = np.zeros((classes, *shape), np.float32)
        self._highest = np.full((classes, *shape), -1, np.float32)
        self._giver = np.full((classes, *shape), NO_SOURCE, np.uint16)

    def add(self, number: int, seen: NDArray[np.bool_], steps: NDArray[np.float32], weights: NDArray[np.uint16]) -> None:
        """Count the scores of the map of this number, (class, row, col), where it was `seen`."""
        self._total += np.where(seen, steps * weights, np.float32(0))
        higher = seen & (steps > self._highest)
        self._highest[higher] = steps[higher]
        self._giver[higher] = number

    def result(self, votes: NDArray[np.uint16]) -> tuple[NDArray[np.int32], NDArray[np.uint16]]:
        """Index of the class, and number of the map with the highest score for it."""
        # Scores are kept in steps, so that two may be equal of which one was higher: the maps' own classes still know.
        best = np.where(self._total == self._total.max(axis=0), votes + np.int32(1), 0).argmax(axis=0).astype(np.int32)
        return best, np.take_along_axis(self._giver, best[np.newaxis], axis=0)[0]

    def stored(self, observations: NDArray[np.uint16]) -> NDArray[np.uint8]:
        """(class, row, col) mean scores as score files store them."""
        count = np.maximum(observations, 1).astype(np.float32)
        return stored_scores(self._total / (count * np.float32(SCORE_STEPS)), observations > 0)


def _own_classes(result: MapResult, geobox: GeoBox) -> NDArray[np.int32]:
    """(row, col) index of the class that a map has there, below 0 where it has none."""
    own = read_class_indices(result.classes, geobox)
    if (own == UNNAMED).any():
        raise LabelError(f"{result.path} holds numbers that its legend does not name; name them in the file, or set them to its no data")
    return own


def _weights(result: MapResult, geobox: GeoBox) -> NDArray[np.uint16]:
    """(row, col) how many maps a pixel of this one stands for: 1, or as many as a mosaic was made of there."""
    if result.observations is None:
        return np.ones((1, 1), np.uint16)
    raster = read_raster(str(result.observations), {1: _COUNT}, geobox)
    return np.where(raster.valid[0], raster.values[0], 1).astype(np.uint16)


def _read_steps(scores: ScoreFile, geobox: GeoBox) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Scores (class, row, col) in steps of 1/250, and where they are valid (row, col).

    Whole numbers where nothing was resampled, so that their sums are exact and ties are ties.
    """
    raster = read_raster(scores.path, scores.bands, geobox)
    steps = raster.values.astype(np.float32)
    if scores.scale * SCORE_STEPS != 1 or scores.offset != 0:
        steps = (steps * np.float32(scores.scale) + np.float32(scores.offset)) * np.float32(SCORE_STEPS)
    return steps, raster.valid_everywhere


def _merged_reasons(
    plan: MosaicPlan, meeting: list[int], geobox: GeoBox, observed: NDArray[np.bool_], inside: NDArray[np.bool_]
) -> NDArray[np.uint8]:
    """(row, col) OBSERVED where the mosaic has a class, else the reason of the maps that says most."""
    rank = np.zeros(geobox.shape, np.uint8)
    if not observed.all():
        for place in meeting:
            rank = np.maximum(rank, _reason_rank(plan.maps[place], geobox))
    merged = np.array(_TELLING, np.uint8)[rank]
    merged[~inside] = Reason.OUTSIDE_AREA
    merged[observed] = Reason.OBSERVED
    return merged


def _reason_rank(result: MapResult, geobox: GeoBox) -> NDArray[np.uint8]:
    """(row, col) how much a map's reason says: its place in _TELLING."""
    rank_of = np.zeros(256, np.uint8)
    for rank, reason in enumerate(_TELLING):
        rank_of[reason] = rank
    rank_of[Reason.OBSERVED] = rank_of[Reason.NO_DATA]  # without a class all the same
    if result.reason is None:
        return np.where(footprint(result.classes.path, geobox), rank_of[Reason.NO_DATA], np.uint8(0))
    raster = read_raster(str(result.reason), {1: _REASON}, geobox)
    return np.where(raster.valid[0], rank_of[raster.values[0]], np.uint8(0))


def _pairs_m2(votes: NDArray[np.uint16], geobox: GeoBox) -> NDArray[np.float64]:
    """(class, class) ground in square metres that at least two maps cover, shared out among the pairs of what they say.

    The whole sums up to that ground, the diagonal to where they agree; three maps of which two agree do so by a third.
    """
    classes = len(votes)
    pairs = np.zeros((classes, classes))
    count = votes.sum(axis=0, dtype=np.int64)
    several = np.flatnonzero(count.ravel() > 1)
    if not several.size:
        return pairs
    areas = np.broadcast_to(pixel_areas_m2(geobox), geobox.shape).ravel()
    for start in range(0, len(several), _PIXELS_AT_ONCE):
        pixels = several[start : start + _PIXELS_AT_ONCE]
        said = votes.reshape(classes, -1)[:, pixels].astype(np.float64)  # (class, pixel)
        maps = count.ravel()[pixels]
        weighted = said * (areas[pixels] / (maps * (maps - 1)))
        pairs += weighted @ said.T - np.diag(weighted.sum(axis=1))
    return pairs
