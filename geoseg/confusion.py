"""Confusion: how often each class was taken for each other, and the measures that follow."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import InputError
from geoseg.legend import Legend


@dataclass(frozen=True, eq=False)
class Confusion:
    """Counts of pixels by true class and by guessed class; two of one legend add up to a third.

    A measure is taken from the sum of all counts ("pooled"). Averages over batches or tiles weigh a tile with ten pixels of
    water like one with ten thousand, so they are not offered. A measure without a denominator (a class that neither truth
    nor guess contains) is NaN, and means over classes leave it out.

    >>> legend = geoseg.Legend.from_names(["dry land", "water"])
    >>> confusion = geoseg.Confusion.count(np.array([0, 1, 1, 1]), np.array([0, 1, 1, 0]), legend)
    >>> confusion.accuracy, confusion.figures()["water"]["precision"]
    (0.75, 1.0)
    """

    counts: NDArray[np.int64]
    """(truth, guess), each in the order of the legend's classes."""
    legend: Legend

    def __post_init__(self) -> None:
        expected = (len(self.legend), len(self.legend))
        if self.counts.shape != expected:
            raise ValueError(f"counts {self.counts.shape}; a legend of {len(self.legend)} classes asks for {expected}")
        if not np.issubdtype(self.counts.dtype, np.integer) or (self.counts < 0).any():
            raise ValueError("counts are whole numbers, none of them negative")

    @classmethod
    def empty(cls, legend: Legend) -> Confusion:
        """No pixel counted yet."""
        return cls(np.zeros((len(legend), len(legend)), dtype=np.int64), legend)

    @classmethod
    def count(
        cls,
        truth: NDArray[np.integer],
        guess: NDArray[np.integer],
        legend: Legend,
        *,
        counted: NDArray[np.bool_] | None = None,
    ) -> Confusion:
        """Counts from class *indices* (not codes) of one shape; pixels where `counted` is False are left out.

        An index outside the legend, among the pixels that count, raises InputError.
        """
        if truth.shape != guess.shape or (counted is not None and counted.shape != truth.shape):
            raise ValueError(f"truth {truth.shape}, guess {guess.shape} and counted are not of one shape")
        if counted is not None:
            truth, guess = truth[counted], guess[counted]
        size = len(legend)
        for what, indices in (("truth", truth), ("guess", guess)):
            if indices.size and not 0 <= indices.min() <= indices.max() < size:
                raise InputError(f"{what} holds class index {indices.min()}…{indices.max()}; the legend has 0…{size - 1}")
        pairs = truth.astype(np.int64).ravel() * size + guess.astype(np.int64).ravel()
        return cls(np.bincount(pairs, minlength=size * size).reshape(size, size).astype(np.int64), legend)

    def __add__(self, other: Confusion) -> Confusion:
        if not isinstance(other, Confusion):
            return NotImplemented
        if other.legend != self.legend:
            raise InputError(f"confusions of two legends do not add up: {self.legend.names} and {other.legend.names}")
        return replace(self, counts=self.counts + other.counts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Confusion) and self.legend == other.legend and np.array_equal(self.counts, other.counts)

    @property
    def total(self) -> int:
        """Number of pixels counted."""
        return int(self.counts.sum())

    @property
    def support(self) -> NDArray[np.int64]:
        """(class,) pixels that truly are of each class."""
        return np.asarray(self.counts.sum(axis=1))

    @property
    def iou(self) -> NDArray[np.float64]:
        """(class,) intersection over union, 0…1."""
        return _ratio(self._hits, self.counts.sum(axis=1) + self.counts.sum(axis=0) - self._hits)

    @property
    def f1(self) -> NDArray[np.float64]:
        """(class,) harmonic mean of precision and recall, 0…1; also called Dice."""
        return _ratio(2 * self._hits, self.counts.sum(axis=1) + self.counts.sum(axis=0))

    @property
    def precision(self) -> NDArray[np.float64]:
        """(class,) share of the pixels called so that truly are so ("user's accuracy"), 0…1."""
        return _ratio(self._hits, self.counts.sum(axis=0))

    @property
    def recall(self) -> NDArray[np.float64]:
        """(class,) share of the true pixels that were found ("producer's accuracy"), 0…1."""
        return _ratio(self._hits, self.counts.sum(axis=1))

    @property
    def class_accuracy(self) -> NDArray[np.float64]:
        """(class,) share of all pixels on which truth and guess agree whether they are of this class, 0…1."""
        errors = self.counts.sum(axis=1) + self.counts.sum(axis=0) - 2 * self._hits
        return _ratio(self.total - errors, np.full(len(self.legend), self.total))

    @property
    def accuracy(self) -> float:
        """Share of all pixels whose class was guessed ("overall accuracy"), 0…1; NaN where none was counted."""
        return float(_ratio(np.array([self._hits.sum()]), np.array([self.total]))[0])

    @property
    def kappa(self) -> float:
        """Agreement beyond that of a map with the same classes at random places, at most 1 (Cohen 1960); NaN where none is possible."""
        if self.total == 0:
            return float("nan")
        chance = float(self.counts.sum(axis=1).astype(np.float64) @ self.counts.sum(axis=0)) / self.total**2
        return (self.accuracy - chance) / (1 - chance) if chance < 1 else float("nan")

    @property
    def mean_iou(self) -> float:
        """Mean of `iou` over the classes that truth or guess contains; NaN where nothing was counted."""
        present = self.iou[~np.isnan(self.iou)]
        return float(present.mean()) if present.size else float("nan")

    def figures(self) -> dict[str, dict[str, float]]:
        """Class name → `iou`, `f1`, `precision`, `recall`, `accuracy` and `pixels`, as plain numbers for reports."""
        columns: dict[str, Callable[[Confusion], NDArray[np.float64]]] = {
            "iou": lambda c: c.iou,
            "f1": lambda c: c.f1,
            "precision": lambda c: c.precision,
            "recall": lambda c: c.recall,
            "accuracy": lambda c: c.class_accuracy,
            "pixels": lambda c: c.support.astype(np.float64),
        }
        planes = {name: measure(self) for name, measure in columns.items()}
        return {c.name: {name: float(plane[c.index]) for name, plane in planes.items()} for c in self.legend.classes}

    @property
    def _hits(self) -> NDArray[np.int64]:
        return np.diagonal(self.counts)


def pooled(parts: Iterable[Confusion], legend: Legend) -> Confusion:
    """The sum of the parts; no parts give an empty confusion."""
    return sum(parts, start=Confusion.empty(legend))


def _ratio(top: NDArray[np.int64], bottom: NDArray[np.int64]) -> NDArray[np.float64]:
    """top / bottom; NaN where bottom is 0."""
    with np.errstate(invalid="ignore"):
        return np.where(bottom > 0, top / np.maximum(bottom, 1), np.nan)
