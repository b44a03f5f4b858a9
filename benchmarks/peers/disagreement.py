"""Where a class map differs from another one: in all, near the seams between windows, away from them, at the scene's border, by class.

    python benchmarks/peers/disagreement.py REFERENCE.tif MAP.tif --tile 512 --overlap 64

Prints one line of JSON with shares of pixels, 0…1. Seam bands are where neighbouring windows overlap, and without overlap the 32
pixels on either side of a seam; border are the outermost 64 pixels; away is the rest. `by_class` is, for each class of the
reference, the share of its pixels that the map calls otherwise.
"""

from __future__ import annotations

import argparse
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.windows import Window

BORDER, BESIDE_SEAM = 64, 32
CLASSES = 5
_ROWS = 512


def disagreement(reference_path: Path, map_path: Path, *, tile: int, overlap: int) -> dict[str, float | list[float]]:
    """Shares of differing pixels; ValueError where the grids are not the same."""
    counts = {name: np.zeros(2, np.int64) for name in ("all", "seam", "away", "border")}  # differing, all
    by_class = np.zeros((CLASSES, 2), np.int64)
    with rasterio.open(reference_path) as reference, rasterio.open(map_path) as other:
        if (reference.shape, reference.transform, reference.crs) != (other.shape, other.transform, other.crs):
            raise ValueError(f"{map_path} has another grid than {reference_path}; expected the same shape, transform and CRS")
        height, width = reference.shape
        seam_rows, seam_cols = (_seams(size, tile, overlap) for size in (height, width))
        border_rows, border_cols = (_border(size) for size in (height, width))
        for top in range(0, height, _ROWS):
            window = Window(0, top, width, min(_ROWS, height - top))
            rows = slice(top, top + _ROWS)
            truth = reference.read(1, window=window)
            differs = truth != other.read(1, window=window)
            border = border_rows[rows, None] | border_cols
            seam = (seam_rows[rows, None] | seam_cols) & ~border
            for name, where in (("all", np.ones_like(border)), ("seam", seam), ("away", ~seam & ~border), ("border", border)):
                counts[name] += np.count_nonzero(differs & where), np.count_nonzero(where)
            for which in range(CLASSES):
                by_class[which] += np.count_nonzero(differs & (truth == which)), np.count_nonzero(truth == which)
    shares: dict[str, float | list[float]] = {name: float(differing / max(1, pixels)) for name, (differing, pixels) in counts.items()}
    return shares | {"by_class": [float(differing / max(1, pixels)) for differing, pixels in by_class]}


def _seams(size: int, tile: int, overlap: int) -> NDArray[np.bool_]:
    """(pixel,) True near a seam; the last window ends where the scene does."""
    places, step = np.arange(size), tile - overlap
    origins = [*range(0, max(1, size - tile), step), max(0, size - tile)]
    near = np.zeros(size, bool)
    for before, origin in pairwise(origins):
        end = before + tile
        widened = 0 if end > origin else BESIDE_SEAM
        near |= (places >= origin - widened) & (places < end + widened)
    return near


def _border(size: int) -> NDArray[np.bool_]:
    places = np.arange(size)
    return (places < BORDER) | (places >= size - BORDER)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("reference", type=Path)
    parser.add_argument("map", type=Path)
    parser.add_argument("--tile", type=int, required=True)
    parser.add_argument("--overlap", type=int, required=True)
    given = parser.parse_args()
    print(json.dumps(disagreement(given.reference, given.map, tile=given.tile, overlap=given.overlap)))
