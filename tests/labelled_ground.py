"""A small labelled scene for tests of training, and settings with which it is learned in a second or two."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine

QUICK: dict[str, Any] = {
    "bands": ["red", "nir"],
    "encoder": "tu-resnet10t",
    "network": {"encoder_depth": 3, "decoder_channels": [8, 8, 8]},
    "tile": 32,
    "block": 48,
    "guard": 4,
    "validation": 0.2,
    "test": 0.2,
    "batch": 4,
    "epochs": 3,
    "draws": 16,
    "learning_rate": 0.01,
}
PROFILE = {"driver": "GTiff", "height": 192, "width": 192, "crs": "EPSG:32633", "transform": Affine(10, 0, 5e5, 0, -10, 5e6)}


def write_ground(folder: Path) -> Path:
    """`scene.tif`, stripes of land and water that differ in red and nir, and `labels.tif` (10 and 20, a third unlabelled)."""
    rng = np.random.default_rng(0)
    water = (np.add.outer(np.arange(192), np.arange(192)) // 20) % 3 == 0
    image = np.stack([np.where(water, 900, 1500), np.where(water, 400, 2600)]) + rng.integers(0, 300, (2, 192, 192))
    codes = np.where(rng.random((192, 192)) < 0.3, 255, np.where(water, 20, 10))
    with rasterio.open(folder / "scene.tif", "w", count=2, dtype="uint16", nodata=0, **PROFILE) as file:
        file.write(image.astype(np.uint16))
    with rasterio.open(folder / "labels.tif", "w", count=1, dtype="uint8", nodata=255, **PROFILE) as file:
        file.write(codes.astype(np.uint8), 1)
    return folder
