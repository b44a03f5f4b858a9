"""Single labelled pixels of scenes, for methods that look at one at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoseg.data.patches import LabelledScene, prepared_window
from geoseg.data.windows import lay_windows
from geoseg.preprocess.prepare import Preparation

_STRIP = 1024
"""Edge of the windows in which scenes are gone through once."""


@dataclass(frozen=True, eq=False)
class Pixels:
    """Prepared pixels with their classes."""

    values: NDArray[np.float32]
    """(pixel, channel)"""
    classes: NDArray[np.int64]
    """(pixel,) class indices."""
    groups: NDArray[np.int64]
    """(pixel,) what each belongs to."""

    def __len__(self) -> int:
        return len(self.classes)

    def take(self, which: NDArray[np.generic]) -> Pixels:
        """Those at these places, or where a mask is True."""
        return Pixels(self.values[which], self.classes[which], self.groups[which])


def read_pixels(
    scenes: Sequence[LabelledScene],
    groups: Sequence[NDArray[np.int64]],
    preparation: Preparation,
    *,
    most: int,
    generator: np.random.Generator,
) -> Pixels:
    """The pixels of all groups (row, col; -1 for none) in reading order; a random share of them where they are more than `most`."""
    share = min(1.0, most / max(1, sum(int((plane >= 0).sum()) for plane in groups)))
    found = []
    for scene, plane in zip(scenes, groups, strict=True):
        for window in lay_windows((plane.shape[0], plane.shape[1]), _STRIP):
            here = plane[window.slices]
            chosen = (here >= 0) & (generator.random(here.shape) < share)
            if chosen.any():
                values = prepared_window(scene, window, preparation).values[:, chosen]
                classes = scene.cut_labels(window)[chosen]
                found.append(Pixels(np.ascontiguousarray(values.T), classes, here[chosen]))
    if not found:
        return Pixels(np.zeros((0, len(preparation.channels)), np.float32), np.zeros(0, np.int64), np.zeros(0, np.int64))
    return Pixels(*(np.concatenate([getattr(part, name) for part in found]) for name in ("values", "classes", "groups")))


def draw_evenly(pixels: Pixels, most: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Places of at most `most` pixels: as many of each class as there are, up to its share, and of each of its groups likewise.

    What a small group leaves of its share goes to the larger ones, so that large polygons are not all that is learned from.
    """
    present = np.unique(pixels.classes)
    drawn = []
    for one in present.tolist():
        mine = generator.permutation(np.flatnonzero(pixels.classes == one))
        order = mine[np.argsort(pixels.groups[mine], kind="stable")]
        _, first, sizes = np.unique(pixels.groups[order], return_index=True, return_counts=True)
        level = _level(sizes, most // len(present))
        drawn += [order[begin : begin + min(size, level)] for begin, size in zip(first.tolist(), sizes.tolist(), strict=True)]
    return np.sort(np.concatenate(drawn)) if drawn else np.zeros(0, dtype=np.int64)


def _level(sizes: NDArray[np.int64], most: int) -> int:
    """The greatest number that may be taken of each group so that all together are at most `most`, but at least 1."""
    left, ordered = most, np.sort(sizes)
    for place, size in enumerate(ordered.tolist()):
        others = len(ordered) - place
        if size * others > left:
            return max(1, left // others)
        left -= size
    return int(ordered[-1])
