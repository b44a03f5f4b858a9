"""Test-time augmentation: each tile is scored in several symmetries of the square, turned back, and the mean is taken."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from geoseg.data.augment import turn
from geoseg.errors import PackageError
from geoseg.models.description import ModelDescription
from geoseg.preprocess.series import split_role
from geoseg.runtimes.contract import Runtime
from geoseg.runtimes.means import Scores, mean_scores

Augmentation = Literal["d4", "flips"]

TURNINGS: Mapping[Augmentation, tuple[int, ...]] = {"d4": tuple(range(8)), "flips": (0, 2, 4, 6)}
"""Numbers of `turn`: all eight symmetries of the square, or those that keep its rows rows; each a group."""
_DIRECTIONS = ("aspect", "azimuth", "direction")
"""A role with one of these words holds an angle to north, which turning the image makes wrong."""


class Symmetries:
    """A runtime whose scores are the mean over symmetries of the tile; costs as many times more as there are symmetries.

    Whatever the network sees to one side it sees to all of them, so the map of turned ground is the turned map.
    """

    def __init__(self, runtime: Runtime, augmentation: Augmentation) -> None:
        self.name, self.version = runtime.name, runtime.version
        self.precision, self.device = runtime.precision, runtime.device
        self._runtime, self._turnings = runtime, TURNINGS[augmentation]

    @property
    def notes(self) -> tuple[str, ...]:
        """Those of the runtime inside."""
        return self._runtime.notes

    def __call__(self, images: NDArray[np.float32]) -> Scores:
        """Scores for images (batch, channel, row, col), as many rows as columns: output name → (batch, class or 1, row, col)."""
        return mean_scores(self._turned_back(images, turning) for turning in self._turnings)

    def _turned_back(self, images: NDArray[np.float32], turning: int) -> Scores:
        """The scores of the turned images, where the pixels were before."""
        scores = self._runtime(turn(images, turning))
        return {name: turn(planes, _inverse(turning)) for name, planes in scores.items()}


def check_turnable(package: ModelDescription) -> None:
    """Raise PackageError where the network reads directions, such as the slope's aspect: a turned image would tell it wrong ones."""
    for need in package.preparation.bands:
        if any(word in split_role(need.role)[0] for word in _DIRECTIONS):
            raise PackageError(
                f"{package.title} reads {need.role!r}, a direction, which would be wrong in a turned image; leave --tta out, "
                "or choose a model without it"
            )


def _inverse(turning: int) -> int:
    """What undoes a turning: mirrored ones undo themselves."""
    return turning if turning >= 4 else -turning % 4
