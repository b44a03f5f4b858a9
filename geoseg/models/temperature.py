"""Scores that promise too much or too little, corrected by one number: temperature scaling (Guo et al., "On calibration of modern neural
networks", ICML 2017). Softmax of logits / T is the scores to the power of 1 / T, made to sum to one; the order of classes stays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEAST = 1e-7
"""Scores below this are taken for this much, so that a pixel that a network was sure of wrongly does not outweigh all others."""
_RANGE = 20.0
"""Temperatures from 1 / this to this are looked at."""
_ROWS = 64
"""Of an image at once, so that no second copy of all scores is made."""


@dataclass(frozen=True)
class Temperature:
    """What was found, and what it is worth."""

    value: float
    before: float
    """Expected calibration error, 0…1, on ground that it was not fitted on, without it."""
    after: float
    """The same with it."""


def tempered(scores: NDArray[np.float32], temperature: float) -> NDArray[np.float32]:
    """(class, row, col) scores at this temperature: above 1 less sure than before, below 1 more."""
    changed = np.empty_like(scores)
    for top in range(0, scores.shape[1], _ROWS):
        here = np.power(np.clip(scores[:, top : top + _ROWS], 0, 1), np.float32(1 / temperature))
        changed[:, top : top + _ROWS] = here / np.maximum(here.sum(axis=0), np.finfo(np.float32).tiny)
    return changed


def tempered_pixels(scores: NDArray[np.float32], temperature: float) -> NDArray[np.float32]:
    """The same for scores (pixel, class)."""
    return tempered(scores.T[:, np.newaxis], temperature)[:, 0].T


def fit_temperature(scores: NDArray[np.floating], truth: NDArray[np.integer]) -> float:
    """The temperature at which `scores` (pixel, class) give the true classes (pixel,) the greatest likelihood."""
    from scipy.optimize import minimize_scalar  # takes long to load

    logs = np.log(np.maximum(scores.astype(np.float64), LEAST))

    def surprise(log_temperature: float) -> float:
        """Mean of -log of the true class's score."""
        scaled = logs / np.exp(log_temperature)
        scaled -= scaled.max(axis=1, keepdims=True)
        whole = np.log(np.exp(scaled).sum(axis=1))
        return float((whole - np.take_along_axis(scaled, truth[:, np.newaxis], axis=1)[:, 0]).mean())

    found = minimize_scalar(surprise, bounds=(-np.log(_RANGE), np.log(_RANGE)), method="bounded", options={"xatol": 1e-4})
    return float(np.exp(found.x))
