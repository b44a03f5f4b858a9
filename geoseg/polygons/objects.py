"""How well objects were found: polygons of the truth and of a map matched one to one, and what follows from the count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

LEAST_IOU = 0.5
"""An object counts as found from here on (Van Etten et al. 2018, "SpaceNet: a remote sensing dataset and challenge series")."""


@dataclass(frozen=True)
class ObjectScore:
    """How many objects there are, were mapped and are the same; two of them add up to a third.

    A measure without a denominator (no object in the truth, or none on the map) is NaN.
    """

    true: int
    mapped: int
    matched: int
    ious: tuple[float, ...] = ()
    """Of each matched pair, in the order of the true objects."""

    def __add__(self, other: ObjectScore) -> ObjectScore:
        if not isinstance(other, ObjectScore):
            return NotImplemented
        return ObjectScore(self.true + other.true, self.mapped + other.mapped, self.matched + other.matched, self.ious + other.ious)

    @property
    def precision(self) -> float:
        """Share of the mapped objects that are true."""
        return self.matched / self.mapped if self.mapped else float("nan")

    @property
    def recall(self) -> float:
        """Share of the true objects that are on the map."""
        return self.matched / self.true if self.true else float("nan")

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        both = self.true + self.mapped
        return 2 * self.matched / both if both else float("nan")

    @property
    def mean_iou(self) -> float:
        """Mean over the matched pairs."""
        return float(np.mean(self.ious)) if self.ious else float("nan")


def match_objects(true: Sequence[Any] | NDArray[Any], mapped: Sequence[Any] | NDArray[Any], *, least_iou: float = LEAST_IOU) -> ObjectScore:
    """The score of `mapped` polygons against `true` ones, both valid and in one CRS.

    Pairs are taken from the largest IoU down to `least_iou`, each polygon once; of equal ones, the first true, then the first
    mapped polygon. Above 0.5 no order matters among polygons that do not overlap.
    """
    truth, guess = np.asarray(true, dtype=object), np.asarray(mapped, dtype=object)
    if not len(truth) or not len(guess):
        return ObjectScore(len(truth), len(guess), 0)
    ours, theirs = shapely.STRtree(guess).query(truth, predicate="intersects")
    common = shapely.area(shapely.intersection(truth[ours], guess[theirs]))
    either = shapely.area(truth[ours]) + shapely.area(guess[theirs]) - common
    iou = np.divide(common, either, out=np.zeros(len(common)), where=either > 0)
    taken: dict[int, float] = {}
    used: set[int] = set()
    for place in np.lexsort((theirs, ours, -iou)).tolist():
        one, other = int(ours[place]), int(theirs[place])
        if iou[place] < least_iou:
            break
        if one not in taken and other not in used:
            taken[one] = float(iou[place])
            used.add(other)
    return ObjectScore(len(truth), len(guess), len(taken), tuple(taken[one] for one in sorted(taken)))
