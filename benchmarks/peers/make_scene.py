"""A landscape as Sentinel-2 sees it, made of noise from a seed: four bands, and the class of each pixel that they were made from.

    python benchmarks/peers/make_scene.py SCENE.tif --size 4096 [--labels LABELS.tif] [--seed 0]

Classes come from three smooth fields (elevation, moisture, use) that are drawn on coarse grids, are read at any pixel, and so are
the same however large the scene is: a scene of 4096 x 4096 is the upper left quarter of one of 8192 x 8192. Fields have a fine
layer, so that borders are ragged and some regions are a few pixels large; each class has its reflectance, a texture, and noise of its
own; what lies beside a border is mixed with its neighbour, as a sensor mixes it. Made and written by windows, in little memory.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.windows import Window

BANDS = ("blue", "green", "red", "nir")
CLASSES = ("water", "forest", "grass", "crop", "built")
REFLECTANCE = np.array(
    [
        [0.060, 0.050, 0.030, 0.020],
        [0.030, 0.050, 0.030, 0.260],
        [0.055, 0.090, 0.075, 0.330],
        [0.080, 0.110, 0.120, 0.270],
        [0.130, 0.140, 0.155, 0.210],
    ]
)
"""(class, band)"""
TEXTURE = np.array([0.03, 0.16, 0.10, 0.14, 0.22])
"""Standard deviation of a class's brightness, as a share of it."""
NOISE = 0.004
"""Of each pixel and band, in reflectance."""
BLOCK = 512
_BORDER = 8
"""Pixels around a window that its blur sees."""
_NODES = 1024
"""A field's grid of random numbers repeats after this many nodes."""
_SCALES = {"elevation": (700, 90, 12), "moisture": (420, 60, 9), "use": (260, 40, 7), "brightness": (24, 5, 2)}
"""Field → sizes in pixels of its layers, the coarsest first; each has half the amplitude of the one before."""


def write_scene(path: Path, size: int, *, labels: Path | None = None, seed: int = 0) -> None:
    """Write a scene of `size` x `size` pixels, uint16 (reflectance x 10000, never 0, which is nodata), and the class of each pixel."""
    grids = {
        name: np.random.default_rng((seed, which)).standard_normal((len(scales), _NODES, _NODES)).astype(np.float32)
        for which, (name, scales) in enumerate(_SCALES.items())
    }
    common = {
        "driver": "GTiff", "height": size, "width": size, "crs": "EPSG:32632", "compress": "deflate",
        "transform": rasterio.Affine(10, 0, 500_000, 0, -10, 5_300_000), "tiled": True, "blockxsize": BLOCK, "blockysize": BLOCK,
    }  # fmt: skip
    scene_profile = {
        **common,
        "count": len(BANDS),
        "dtype": "uint16",
        "predictor": 2,
        "nodata": 0,
        "interleave": "band",
        "bigtiff": "if_safer",
    }
    with rasterio.Env(GDAL_CACHEMAX=64), rasterio.open(path, "w", **scene_profile) as scene:
        scene.descriptions = BANDS
        truth = rasterio.open(labels, "w", **common, count=1, dtype="uint8") if labels is not None else None
        for top in range(0, size, BLOCK):
            for left in range(0, size, BLOCK):
                rows, cols = min(BLOCK, size - top), min(BLOCK, size - left)
                classes, pixels = _window(grids, top, left, rows, cols, seed)
                scene.write(pixels, window=Window(left, top, cols, rows))
                if truth is not None:
                    truth.write(classes, 1, window=Window(left, top, cols, rows))
        if truth is not None:
            truth.close()


def _window(
    grids: dict[str, NDArray[np.float32]], top: int, left: int, rows: int, cols: int, seed: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
    """Classes (row, col) and stored numbers (band, row, col) of one window; the same wherever else it is cut out."""
    y, x = np.arange(top - _BORDER, top + rows + _BORDER), np.arange(left - _BORDER, left + cols + _BORDER)
    elevation, moisture, use, brightness = (_field(grids[name], scales, y, x) for name, scales in _SCALES.items())
    classes = np.full(elevation.shape, CLASSES.index("grass"), np.uint8)
    classes[moisture > 0.25] = CLASSES.index("forest")
    classes[(use > 0.1) & (moisture < 0.5)] = CLASSES.index("crop")
    classes[(use < -0.75) & (elevation < 0.8)] = CLASSES.index("built")
    classes[elevation < -0.75] = CLASSES.index("water")
    light = 1 + TEXTURE[classes] * brightness
    pure = REFLECTANCE[classes] * light[..., None]  # (row, col, band)
    mixed = (pure + sum(np.roll(pure, step, axis) for step in (1, -1) for axis in (0, 1)) / 2) / 3
    noise = np.random.default_rng((seed, top, left)).standard_normal((len(BANDS), rows, cols))
    inside = np.s_[_BORDER : _BORDER + rows, _BORDER : _BORDER + cols]
    seen = np.moveaxis(mixed[inside], 2, 0) + NOISE * noise
    return classes[inside], np.clip(np.rint(10_000 * seen), 1, 65_535).astype(np.uint16)


def _field(grid: NDArray[np.float32], scales: tuple[int, ...], y: NDArray[np.int64], x: NDArray[np.int64]) -> NDArray[np.float32]:
    """(row, col) sum of a field's layers at pixel rows `y` and columns `x`, each layer bilinear between its nodes."""
    total = np.zeros((len(y), len(x)), np.float32)
    for layer, (nodes, scale) in enumerate(zip(grid, scales, strict=True)):
        (above, down), (before, right) = _between(y, scale), _between(x, scale)
        upper, lower = nodes[above % _NODES], nodes[(above + 1) % _NODES]
        lines = upper + (lower - upper) * down[:, None]  # (row, node)
        first, second = lines[:, before % _NODES], lines[:, (before + 1) % _NODES]
        total += (first + (second - first) * right) / 2**layer
    return total


def _between(places: NDArray[np.int64], scale: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The node before each place, and how far the place lies towards the next one, 0…1, eased so that no grid shows."""
    node, rest = np.divmod(places, scale)
    share = (rest / scale).astype(np.float32)
    return node, share * share * (3 - 2 * share)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scene", type=Path)
    parser.add_argument("--size", type=int, default=4096, help="rows and columns in pixels")
    parser.add_argument("--labels", type=Path, help="also write the class of each pixel here")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    write_scene(given.scene, given.size, labels=given.labels, seed=given.seed)
