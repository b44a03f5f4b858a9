"""Reference points for the tests: a map with known errors, and somebody who labels its points without fail."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pyogrio
import rasterio
from affine import Affine
from class_map_files import THREE, class_map

CHANGE = np.array([[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]])
"""Olofsson et al. 2014, table 8: deforestation, forest gain, stable forest, stable non-forest."""
CHANGE_PIXELS = np.array([200_000, 150_000, 3_200_000, 6_450_000])


def label(path: Path, truth: tuple[np.ndarray, Affine], *, names=THREE.names, column="reference_class", only=None) -> None:
    """Fill the class of every point, or of those with these ids, from a raster of codes (row, col), as a labeller in QGIS would."""
    frame = pyogrio.read_dataframe(path, layer="points")
    codes, transform = truth
    cols, rows = ~transform * (frame.geometry.x.to_numpy(), frame.geometry.y.to_numpy())
    found = [names[code] for code in codes[np.floor(rows).astype(int), np.floor(cols).astype(int)]]
    with closing(sqlite3.connect(path)) as database, database:
        for trigger in [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")]:
            database.execute(f'DROP TRIGGER "{trigger}"')
        pairs = [(name, int(one)) for name, one in zip(found, frame.id, strict=True) if only is None or one in only]
        database.executemany(f"UPDATE points SET {column} = ? WHERE id = ?", pairs)


def map_and_truth(folder: Path, *, wrong=0.2, seed=0, shape=(80, 100), **place):
    """`map.tif`, and its true codes on the same grid: a fifth of the pixels of the map are wrong."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(3, shape, p=[0.6, 0.3, 0.1]).astype(np.uint8)
    mapped = np.where(rng.random(shape) < wrong, (truth + 1) % 3, truth).astype(np.uint8)
    class_map(folder / "map.tif", mapped, **place)
    with rasterio.open(folder / "map.tif") as file:
        return mapped, (truth, file.transform)
