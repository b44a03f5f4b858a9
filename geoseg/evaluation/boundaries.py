"""How well the edges of classes are met, which IoU hardly shows where objects are large.

- Boundary IoU (Cheng et al., "Boundary IoU", CVPR 2021): the IoU of those pixels of a class that lie within a distance of another class.
- Boundary F1 (Csurka et al., "What is a good evaluation measure for semantic segmentation?", BMVC 2013): edge pixels of the map within a
  distance of an edge of the labels, and the other way round.

Distances are metres on the ground between pixel centres. Where ground without a label or without a class begins, there is no edge.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

_COUNTS = ("inner_both", "inner_any", "true_edge", "true_met", "map_edge", "map_met")


@dataclass(frozen=True, eq=False)
class Boundaries:
    """Pixels near the edges of each class; two of one distance add up to a third."""

    distance_m: float
    counts: NDArray[np.int64] = field(repr=False)
    """(class, 6): near an edge in both, in one of both; edge pixels of the labels, those met; of the map, those met."""

    def __add__(self, other: Boundaries) -> Boundaries:
        if not isinstance(other, Boundaries):
            return NotImplemented
        if self.distance_m != other.distance_m:
            raise ValueError(f"boundaries within {self.distance_m} m and within {other.distance_m} m do not add up")
        return Boundaries(self.distance_m, self.counts + other.counts)

    @property
    def iou(self) -> NDArray[np.float64]:
        """(class,) Boundary IoU, 0…1; NaN where neither has an edge of the class."""
        return _ratio(self._of("inner_both"), self._of("inner_any"))

    @property
    def f1(self) -> NDArray[np.float64]:
        """(class,) Boundary F1, 0…1; NaN where one of both has no edge of the class."""
        precision, recall = _ratio(self._of("map_met"), self._of("map_edge")), _ratio(self._of("true_met"), self._of("true_edge"))
        total = precision + recall
        return np.where(total > 0, 2 * precision * recall / np.where(total > 0, total, 1), total)

    def facts(self, names: tuple[str, ...]) -> dict[str, Any]:
        """As plain data; None where a figure has no denominator."""
        columns = {"iou": self.iou, "f1": self.f1}
        per_class = {
            name: {what: None if np.isnan(column[at]) else float(column[at]) for what, column in columns.items()}
            for at, name in enumerate(names)
        }
        return {"distance_m": self.distance_m, "per_class": per_class}

    def _of(self, what: str) -> NDArray[np.int64]:
        return self.counts[:, _COUNTS.index(what)]


def halo_rows(distance_m: float, pixel_m: tuple[float, float]) -> int:
    """Rows beyond those that are counted which `count_boundaries` must see; `pixel_m` is height and width in metres."""
    return int(np.ceil(distance_m / pixel_m[0])) + 2


def count_boundaries(
    truth: NDArray[np.integer],
    guess: NDArray[np.integer],
    known: NDArray[np.bool_],
    classes: int,
    *,
    distance_m: float,
    pixel_m: tuple[float, float],
    core: slice,
) -> Boundaries:
    """Count the rows `core` of class indices (row, col), where both are `known`; the rows around them are only looked at."""
    from scipy.ndimage import distance_transform_edt  # takes long to load

    side = max(pixel_m) * (1 + 1e-9)

    def near(target: NDArray[np.bool_], within: float) -> NDArray[np.bool_]:
        if not target.any():
            return np.zeros(target.shape, bool)
        return np.asarray(distance_transform_edt(~target, sampling=pixel_m) <= within)

    counts = np.zeros((classes, len(_COUNTS)), np.int64)
    for index in range(classes):
        true, mapped = known & (truth == index), known & (guess == index)
        if not (true.any() or mapped.any()):
            continue
        (true_inner, true_edge), (map_inner, map_edge) = (
            (mine & near(known & ~mine, distance_m * (1 + 1e-9)), mine & near(known & ~mine, side)) for mine in (true, mapped)
        )
        true_met, map_met = true_edge & near(map_edge, distance_m * (1 + 1e-9)), map_edge & near(true_edge, distance_m * (1 + 1e-9))
        found = (true_inner & map_inner, true_inner | map_inner, true_edge, true_met, map_edge, map_met)
        counts[index] = [int(plane[core].sum()) for plane in found]
    return Boundaries(distance_m, counts)


def _ratio(top: NDArray[np.int64], bottom: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.where(bottom > 0, top / np.maximum(bottom, 1), np.nan)
