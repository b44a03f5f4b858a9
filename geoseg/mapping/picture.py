"""The picture of the scene that lies beneath a map: how its numbers become brightness, and where it is transparent."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from geoseg.raster import Raster
from geoseg.scene import Scene, sample_scene

_PERCENTILES = (2.0, 98.0)


def stretch_limits(scene: Scene, roles: Sequence[str]) -> NDArray[np.float32]:
    """(band, 2) stored numbers shown as black and as white: percentiles of a sample of the scene."""
    sample = sample_scene(scene, roles)
    limits = np.zeros((len(roles), 2), np.float32)
    for band, (values, valid) in enumerate(zip(sample.values, sample.valid, strict=True)):
        seen = values[valid & np.isfinite(values)]
        limits[band] = np.percentile(seen, _PERCENTILES) if seen.size else (0, 1)
    limits[:, 1] = np.maximum(limits[:, 1], np.nextafter(limits[:, 0], np.float32(np.inf)))
    return limits


def draw_picture(raster: Raster, limits: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(4, row, col) red, green, blue and alpha; one band is shown in grey."""
    picture = np.zeros((4, *raster.geobox.shape), np.uint8)
    for band, (dark, bright) in enumerate(limits):
        grey = (raster.values[band].astype(np.float32) - dark) * np.float32(255 / (bright - dark))
        picture[band] = np.clip(np.nan_to_num(grey), 0, 255)
    if len(limits) == 1:
        picture[1:3] = picture[0]
    picture[3] = np.where(raster.valid_everywhere, 255, 0)
    return picture
