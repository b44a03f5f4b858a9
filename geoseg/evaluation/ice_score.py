"""The score of the AutoICE challenge: three ice charts as one number (Stokholm et al., The Cryosphere 18, 2024)."""

from __future__ import annotations

import numpy as np

from geoseg.confusion import Confusion
from geoseg.errors import InputError

WEIGHTS = {"concentration": 2, "stage": 2, "floe": 1}


def ice_score(concentration: Confusion, stage: Confusion, floe: Confusion) -> dict[str, float]:
    """Per cent: `concentration` (R²), `stage` and `floe` (F1 weighted by support), and `combined`, their mean with weights 2, 2, 1.

    Each confusion is the sum over all pixels of all scenes that have a label: the mean of scores of single scenes is another number.
    R² is that of the class numbers 0…10 and may be negative. InputError where a chart has no labelled pixel.
    """
    for name, counted in (("concentration", concentration), ("stage", stage), ("floe", floe)):
        if counted.total == 0:
            raise InputError(f"no pixel has a label of {name}; there is nothing to score")
    scores = {"concentration": r_squared(concentration), "stage": weighted_f1(stage), "floe": weighted_f1(floe)}
    scores["combined"] = sum(weight * scores[name] for name, weight in WEIGHTS.items()) / sum(WEIGHTS.values())
    return {name: 100 * score for name, score in scores.items()}


def r_squared(counted: Confusion) -> float:
    """Coefficient of determination of the class numbers, at most 1; 1 for a perfect guess of a constant truth, else 0 there."""
    numbers = np.arange(len(counted.legend))
    counts = counted.counts.astype(np.float64)
    residual = float((counts * (numbers[:, None] - numbers) ** 2).sum())
    mean = float(counts.sum(axis=1) @ numbers) / counted.total
    spread = float(counts.sum(axis=1) @ (numbers - mean) ** 2)
    if spread == 0:
        return 1.0 if residual == 0 else 0.0
    return 1 - residual / spread


def weighted_f1(counted: Confusion) -> float:
    """Mean F1 (0…1) of the classes weighted by their pixels in the truth."""
    present = counted.support > 0
    return float((counted.f1[present] * counted.support[present]).sum() / counted.total)
