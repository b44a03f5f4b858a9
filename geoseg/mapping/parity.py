"""How well two ways of running a network agree on the same tiles: classes, scores, and the processor time they take."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.confusion import Confusion
from geoseg.mapping.drawn_tiles import Place, read_tile
from geoseg.models.description import Output
from geoseg.runtimes.contract import Runtime

QUANTITY_TOLERANCE = 0.01
"""Values of a quantity agree where they differ by at most this share of its range."""


@dataclass
class OutputParity:
    """One output, compared pixel by pixel; errors of a quantity are shares of its range."""

    output: Output
    pixels: int = 0
    agreeing: int = 0
    """Pixels of the same class, or of nearly the same quantity."""
    largest_error: float = 0.0
    """Of any score of any pixel."""
    confusion: Confusion | None = None
    """Classes of the one (truth) by those of the other (guess); None for a quantity."""
    _error_sum: float = field(default=0.0, repr=False)

    @property
    def agreement(self) -> float:
        """Share of the pixels that agree, 0…1."""
        return self.agreeing / self.pixels if self.pixels else 1.0

    @property
    def mean_error(self) -> float:
        """Mean of the scores' absolute differences over pixels and classes."""
        return self._error_sum / (self.pixels * self.output.planes) if self.pixels else 0.0

    @property
    def iou(self) -> dict[str, float]:
        """Class → intersection over union of the two maps, of the classes that one of them has."""
        if self.confusion is None:
            return {}
        pairs = zip(self.output.classes, self.confusion.iou, strict=True)
        return {one.name: float(iou) for one, iou in pairs if np.isfinite(iou)}

    @property
    def worst(self) -> tuple[str, float] | None:
        """The class with the least IoU of the two maps, and that; None for a quantity."""
        return min(self.iou.items(), key=lambda pair: pair[1], default=None)

    def add(self, ours: NDArray[np.float32], theirs: NDArray[np.float32], observed: NDArray[np.bool_]) -> None:
        """Compare scores (class or 1, row, col) where observed (row, col)."""
        low, high = self.output.range or (0.0, 1.0)
        error = np.abs(ours[:, observed].astype(np.float64) - theirs[:, observed]) / (high - low)
        self.pixels += error.shape[1]
        self.largest_error = max(self.largest_error, float(error.max(initial=0.0)))
        self._error_sum += float(error.sum())
        if self.output.kind == "quantity":
            self.agreeing += int((error[0] <= QUANTITY_TOLERANCE).sum())
            return
        truth, guess = ours.argmax(axis=0), theirs.argmax(axis=0)
        counted = Confusion.count(truth, guess, self.output.legend, counted=observed)
        self.agreeing += int((truth == guess)[observed].sum())
        self.confusion = counted if self.confusion is None else self.confusion + counted

    def facts(self) -> dict[str, Any]:
        """As plain data."""
        worst = self.worst
        return {
            "pixels": self.pixels,
            "agreement_percent": 100 * self.agreement,
            "largest_score_error": self.largest_error,
            "mean_score_error": self.mean_error,
            "iou": self.iou,
            "worst_class": None if worst is None else {"name": worst[0], "iou_drop": 1 - worst[1]},
        }


@dataclass(frozen=True)
class NetworkParity:
    """All outputs, compared on some tiles."""

    outputs: tuple[OutputParity, ...]
    tiles: int
    seconds: tuple[float, float]
    """Processor time of the first and the second on these tiles."""

    @property
    def agreement(self) -> float:
        """That of the output that agrees least, 0…1."""
        return min(output.agreement for output in self.outputs)

    @property
    def speed_ratio(self) -> float:
        """How many times less processor time the second takes."""
        return self.seconds[0] / max(self.seconds[1], 1e-9)

    def facts(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "tiles": self.tiles,
            "agreement_percent": 100 * self.agreement,
            "cpu_seconds": list(self.seconds),
            "speed_ratio": self.speed_ratio,
            "outputs": {one.output.name: one.facts() for one in self.outputs},
        }

    def figures(self) -> str:
        """What it comes to, as part of a sentence."""
        least = min(self.outputs, key=lambda one: one.agreement)
        worst = least.worst
        of = f" of {least.output.name}" if len(self.outputs) > 1 else ""
        lost = "" if worst is None else f"; the worst class, {worst[0]}, loses {100 * (1 - worst[1]):.2f} points of IoU"
        return (
            f"{100 * least.agreement:.3f} % of {least.pixels:,} pixels{of} agree{lost}; "
            f"scores differ by {least.mean_error:.2g} on average and {least.largest_error:.2g} at most"
        )


def compare(ours: Runtime, theirs: Runtime, outputs: Iterable[Output], tiles: Iterable[Place]) -> NetworkParity:
    """Run both on the same tiles, one after the other on each, and count where they agree."""
    found = tuple(OutputParity(output) for output in outputs)
    seconds, count = [0.0, 0.0], 0
    for place in tiles:
        tile = read_tile(place)
        both = []
        for which, runtime in enumerate((ours, theirs)):
            if count == 0:
                runtime(tile.image)  # the first call also prepares the network
            began = time.process_time()
            both.append(runtime(tile.image))
            seconds[which] += time.process_time() - began
        for one in found:
            one.add(both[0][one.output.name][0], both[1][one.output.name][0], tile.observed)
        count += 1
    return NetworkParity(found, count, (seconds[0], seconds[1]))
