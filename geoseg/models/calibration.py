"""How far scores can be taken for probabilities: of what is mapped with a score of 0.8, four fifths should be right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 15
"""Of equal width from 0 to 1, as in Guo et al., "On calibration of modern neural networks" (ICML 2017)."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """Pixels by the score of their class; two add up to a third."""

    pixels: NDArray[np.int64]
    """(bin,)"""
    right: NDArray[np.int64]
    """(bin,) whose class is that of the label."""
    score_sum: NDArray[np.float64]
    """(bin,)"""

    @classmethod
    def count(cls, scores: NDArray[np.floating[Any]], right: NDArray[np.bool_]) -> Calibration:
        """From the score, 0…1, of each pixel's class, and whether that class is right; both (pixel,)."""
        which = np.minimum((scores * BINS).astype(np.int64), BINS - 1)
        counts = (np.bincount(which, weights=weights, minlength=BINS) for weights in (np.ones(len(which)), right, scores))
        pixels, hits, sums = counts
        return cls(pixels.astype(np.int64), hits.astype(np.int64), sums.astype(np.float64))

    def __add__(self, other: Calibration) -> Calibration:
        if not isinstance(other, Calibration):
            return NotImplemented
        return Calibration(self.pixels + other.pixels, self.right + other.right, self.score_sum + other.score_sum)

    @property
    def accuracy(self) -> NDArray[np.float64]:
        """(bin,) share of the pixels that are right; NaN in an empty bin."""
        return self._per_pixel(self.right)

    @property
    def score(self) -> NDArray[np.float64]:
        """(bin,) mean score; NaN in an empty bin."""
        return self._per_pixel(self.score_sum)

    @property
    def error(self) -> float:
        """Expected calibration error, 0…1: the mean over pixels of how far a bin's score is from its accuracy; NaN without pixels."""
        total = self.pixels.sum()
        return float(np.abs(self.right - self.score_sum).sum() / total) if total else float("nan")

    def facts(self) -> dict[str, Any]:
        """As plain data; only bins with pixels."""
        rows = zip(self.pixels.tolist(), self.score.tolist(), self.accuracy.tolist(), strict=True)
        bins = [{"pixels": pixels, "score": score, "accuracy": accuracy} for pixels, score, accuracy in rows if pixels]
        return {"expected_calibration_error": self.error, "bins": bins}

    def _per_pixel(self, sums: NDArray[Any]) -> NDArray[np.float64]:
        return np.where(self.pixels > 0, sums / np.maximum(self.pixels, 1), np.nan)
