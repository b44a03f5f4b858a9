"""Which labels look wrong, and how many: confident learning, from scores that were not learned from these labels.

Northcutt, Jiang & Chuang, "Confident learning: estimating uncertainty in dataset labels", JAIR 70, 2021. A class is taken to be what an
example truly is where its score reaches the mean score of the examples that are labelled so; the counts of label by class are the
confident joint, and what lies off its diagonal looks wrong. Where we differ: examples may weigh differently, as regions of many pixels
do, and no count is raised to one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NO_CLASS = -1
"""Stands where no class has a score that reaches its threshold."""
_ROUNDING = 1e-6
"""By which a score may miss a threshold: a mean of equal numbers is not always that number."""


@dataclass(frozen=True, eq=False)
class ConfidentJoint:
    """Labels against the classes that scores are confident of."""

    thresholds: NDArray[np.float64]
    """(class,) mean score of each class where it is the label; infinite for a class without a label."""
    counts: NDArray[np.float64]
    """(label, class) summed weight of the examples; those that no class is confident of are in none."""
    labels: NDArray[np.float64]
    """(class,) summed weight of all examples of each label."""
    guesses: NDArray[np.int64]
    """(example,) the confident class, NO_CLASS where there is none."""

    @property
    def wrong_shares(self) -> NDArray[np.float64]:
        """(class,) share of each label that is estimated to be wrong: what lies off the diagonal of its row; NaN for an empty row."""
        rows = self.counts.sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(1 - self.counts.diagonal() / rows)

    @property
    def wrong_share(self) -> float:
        """Share of all labels that is estimated to be wrong, each row scaled to the labels of its class (the paper's calibration)."""
        shares, known = self.wrong_shares, ~np.isnan(self.wrong_shares)
        if not self.labels[known].any():
            return float("nan")
        return float((shares[known] * self.labels[known]).sum() / self.labels[known].sum())


def count_joint(scores: NDArray[np.floating], labels: NDArray[np.integer], weights: NDArray[np.floating] | None = None) -> ConfidentJoint:
    """The confident joint of scores (example, class), 0…1, against labels (example,); `weights` (example,) are 1 where none are given.

    Of several classes that reach their thresholds, the one with the highest score counts, the first of equal ones.
    """
    count = scores.shape[1]
    weight = np.ones(len(labels)) if weights is None else np.asarray(weights, np.float64)
    totals = np.bincount(labels, weights=weight, minlength=count)
    own = scores[np.arange(len(labels)), labels].astype(np.float64)
    sums = np.bincount(labels, weights=weight * own, minlength=count)
    thresholds = np.where(totals > 0, sums / np.where(totals > 0, totals, 1), np.inf)
    confident = np.where(scores >= thresholds - _ROUNDING, scores, -np.inf)
    guesses = np.where(np.isfinite(confident).any(axis=1), confident.argmax(axis=1), NO_CLASS)
    known = guesses != NO_CLASS
    cells = np.bincount(labels[known] * count + guesses[known], weights=weight[known], minlength=count * count)
    return ConfidentJoint(thresholds, cells.reshape(count, count).astype(np.float64), totals.astype(np.float64), guesses)


def normalised_margins(scores: NDArray[np.floating], labels: NDArray[np.integer]) -> NDArray[np.float64]:
    """(example,) score of the label minus the highest of the other classes, -1…1: the lower, the likelier the label is wrong."""
    own = scores[np.arange(len(labels)), labels].astype(np.float64)
    others = scores.astype(np.float64)
    others[np.arange(len(labels)), labels] = -np.inf
    return np.asarray(own - others.max(axis=1))


def find_suspects(joint: ConfidentJoint, margins: NDArray[np.float64], labels: NDArray[np.integer]) -> NDArray[np.intp]:
    """Places of the examples off the diagonal of the joint, the lowest margin first; of equal ones the earlier first."""
    off = np.flatnonzero((joint.guesses != NO_CLASS) & (joint.guesses != labels))
    return off[np.argsort(margins[off], kind="stable")]
