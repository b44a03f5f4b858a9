"""Small real GeoTIFFs for the tests of scenes."""

from __future__ import annotations

import numpy as np
import rasterio
from rasterio.transform import from_origin


def write(path, values=None, *, pixel=10.0, names=None, crs="EPSG:32630", left=500000.0, colours=None, **profile):
    """A GeoTIFF of (band, row, col) whose top left corner is (left, 4 800 000)."""
    values = np.full((1, 12, 12), 400, "uint16") if values is None else np.asarray(values)
    count, height, width = values.shape
    place = {"crs": crs, "transform": from_origin(left, 4800000.0, pixel, pixel)}
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path, "w", driver="GTiff", count=count, height=height, width=width, dtype=values.dtype, **{**place, **profile}
    ) as file:
        if colours:
            file.colorinterp = colours
        file.write(values)
        if names:
            file.descriptions = names
    return path


def stack(count, low=300, high=4000, dtype="uint16", side=40):
    return np.random.default_rng(0).integers(low, high, (count, side, side)).astype(dtype)


def meanings(scene):
    return {layer.band.role: (layer.path.replace("\\", "/").split("/")[-1], layer.index) for layer in scene.layers}
