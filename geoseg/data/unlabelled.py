"""Scenes without labels as patches: windows around valid ground, each place as likely as any other."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geoseg.data.patches import LabelledScene, TrainingPatches
from geoseg.data.retile import dear_to_read, retiled
from geoseg.data.windows import UNLABELLED, Window, lay_windows
from geoseg.errors import SceneError
from geoseg.ground import pixel_size_m
from geoseg.layers.light import fit_light
from geoseg.layers.masks import mask_roles
from geoseg.preprocess.normalise import without_statistics
from geoseg.preprocess.prepare import Preparation, needed_roles, prepare
from geoseg.scene import Scene

log = logging.getLogger(__name__)

VALID = 0
"""What stands for a label wherever there is data, so that windows are drawn as they are among labels."""
_STRIP = 1024
"""Edge of the windows in which a scene is gone through once."""


@dataclass(frozen=True, eq=False)
class UnlabelledPatches(TrainingPatches):
    """Patches whose `labels` are VALID where there is data and UNLABELLED elsewhere, each with its `pixel_size_m`."""

    pixel_sizes_m: tuple[float, ...] = ()
    """Of each scene."""

    def __getitem__(self, draw: int) -> dict[str, NDArray[np.generic]]:
        """Image, labels and pixel size of one draw."""
        scene = self.place(draw)[0]
        return super().__getitem__(draw) | {"pixel_size_m": np.array(self.pixel_sizes_m[scene], dtype=np.float32)}


def load_unlabelled(
    scenes: Sequence[Scene], preparation: Preparation, *, hold_mb: float = 0, retile: Path | None = None
) -> list[LabelledScene]:
    """The scenes, in memory as long as these `hold_mb` megabytes last, with VALID for a label where all bands have data.

    Each is gone through once, window by window. Those that the memory does not hold are copied into small blocks in the folder
    `retile`, if one is named. Raises SceneError for a scene without valid ground, and what reading and preparing raise.
    """
    loaded: list[LabelledScene] = []
    for scene in scenes:
        loaded.append(_load(scene, preparation, hold_mb, retile))
        if loaded[-1].held is not None:
            hold_mb -= loaded[-1].held.values.nbytes / 1e6
    return loaded


def edge_m(scene: LabelledScene) -> float:
    """Edge of a square as large as one of the scene's pixels, in metres on the ground."""
    return math.sqrt(math.prod(pixel_size_m(scene.geobox)))


def _load(scene: Scene, preparation: Preparation, hold_mb: float, retile: Path | None) -> LabelledScene:
    light = fit_light(scene, preparation)
    for said in light.warnings:
        log.warning("%s: %s", scene.source, said)
    roles = needed_roles(preparation, light.correction)
    geobox = scene.geobox(roles)
    rows, cols = geobox.shape
    plane = np.full((rows, cols), UNLABELLED, dtype=np.int16)
    loaded = LabelledScene(scene, geobox, plane, roles, correction=light.correction)
    if plane.size * 4 * len(roles) <= hold_mb * 1e6:
        loaded = replace(loaded, held=loaded.read(Window(0, 0, rows, cols)))
    elif retile is not None:
        loaded = replace(loaded, scene=retiled(scene, [*roles, *mask_roles(scene)], retile))
    elif (dear := dear_to_read(scene, roles)) is not None:
        log.warning("%s", dear)
    for window in lay_windows((rows, cols), _STRIP):
        valid = prepare(loaded.read(window), without_statistics(preparation), correction=light.correction).valid_everywhere
        plane[window.slices][valid] = VALID
    if not (plane == VALID).any():
        raise SceneError(f"no pixel of {scene.source} has data in all of {', '.join(roles)}; leave it out, or learn from fewer bands")
    return loaded
