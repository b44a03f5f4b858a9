"""Peak memory and time of `geoseg predict` for growing scenes, beside the same network run as it usually is.

Run `python benchmarks/measure_memory.py [--sizes 2048 8192x2048]` (rows x columns; some five minutes on two cores). Every run
is a process of its own, so that its peak is its own. The usual way holds the scene, the network's input and the sum of
the scores whole in memory; it runs the same tiles through the same runtime and writes no more than the class map. Prints a
Markdown table and writes benchmarks/results/memory.json. Not for Windows, which does not tell a process's peak this way.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.windows import Window

from geoseg import DEFAULT_PACKAGE

RESULTS = Path(__file__).parent / "results" / "memory.json"
SIZES = ("2048", "4096", "8192")
SENSOR = "sentinel-2-l1c"
REFLECTANCE = {
    "B02": (0.135, 0.125), "B03": (0.105, 0.105), "B04": (0.075, 0.085), "B08": (0.035, 0.24), "B11": (0.015, 0.17), "B12": (0.01, 0.09),
}  # fmt: skip
"""Sentinel-2 band → reflectance of the scene's water and of its land."""
NOISE = 50
"""A pixel's stored number is off by at most this."""
PATCH = 96
"""About the size of a lake or an island in pixels."""
BLOCK = 512
WHOLE, GEOSEG = "whole scene in memory", "geoseg predict"


def main(sizes: Sequence[str]) -> None:
    """Measure both ways at each size; print and write what came out."""
    runs = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for height, width in map(_shape, sizes):
            scene = folder / f"scene_{height}x{width}.tif"
            write_scene(scene, height, width)
            for way, command in commands(scene, folder).items():
                runs.append({"rows": height, "cols": width, "way": way, **measure(command)})
            scene.unlink()
    print(table(runs))
    machine = {"cores": os.cpu_count(), "machine": platform.machine(), "system": platform.system(), "python": platform.python_version()}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({"machine": machine, "runs": runs}, indent=2) + "\n", encoding="utf-8")


def write_scene(path: Path, height: int, width: int) -> None:
    """A scene of lakes and islands, six bands of uint16 as Sentinel-2 has them; made and written a row of blocks at a time."""
    rng = np.random.default_rng(0)
    coarse = rng.standard_normal((height // PATCH + 2, width // PATCH + 2))
    across = _between(np.arange(width) / PATCH, coarse.shape[1])
    profile = {
        "driver": "GTiff", "height": height, "width": width, "count": len(REFLECTANCE), "dtype": "uint16", "nodata": 0,
        "crs": "EPSG:32618", "transform": rasterio.Affine(10, 0, 436000, 0, -10, 4180000), "compress": "deflate", "predictor": 2,
        "zlevel": 1, "tiled": True, "blockxsize": BLOCK, "blockysize": BLOCK, "interleave": "band",
    }  # fmt: skip
    with rasterio.Env(GDAL_CACHEMAX=64), rasterio.open(path, "w", **profile) as file:
        file.descriptions = tuple(REFLECTANCE)
        for top in range(0, height, BLOCK):
            rows = np.arange(top, min(top + BLOCK, height))
            field = _between(rows / PATCH, coarse.shape[0]) @ coarse @ across.T  # (row, col)
            land = np.clip(4 * field + 0.5, 0, 1).astype(np.float32)  # a share: shores are a few pixels wide
            for band, (water, ground) in enumerate(REFLECTANCE.values(), 1):
                stored = 10000 * (water + (ground - water) * land) + rng.integers(-NOISE, NOISE, land.shape, np.int16, endpoint=True)
                file.write(stored.astype(np.uint16), band, window=Window(0, top, width, len(rows)))


def commands(scene: Path, folder: Path) -> dict[str, list[str]]:
    """What is compared: way → command."""
    predict = [sys.executable, "-c", "from geoseg.cli import main; main()", "predict", str(scene), "--sensor", SENSOR]
    return {
        WHOLE: [sys.executable, __file__, "--whole", str(scene), str(folder / "whole.tif")],
        GEOSEG: [*predict, "-o", str(folder / "map"), "--overwrite", "--json"],
    }


def measure(command: Sequence[str]) -> dict[str, float]:
    """Run a command in a process of its own: peak resident memory in MB (10^6 bytes), seconds on the clock and of all processors."""
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    if status != 0:
        raise SystemExit(f"failed: {' '.join(command)}")
    return {
        "peak_mb": used.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6,
        "wall_s": time.perf_counter() - began,
        "cpu_s": used.ru_utime + used.ru_stime,
    }


def map_whole(scene_path: str, out: str) -> None:
    """The class map of a scene held whole: its bands, the network's input and the scores, all at once, as is usual."""
    from geoseg import ModelPackage, open_runtime, open_scene, prepare, read_scene
    from geoseg.mapping.tiles import plan_tiles

    package, scene = ModelPackage.open(DEFAULT_PACKAGE), open_scene(scene_path, sensor=SENSOR)
    runtime, roles = open_runtime(package), [band.role for band in package.preparation.bands]
    geobox = scene.geobox(roles)
    raster = read_scene(scene, roles, geobox)
    image, valid = prepare(raster, package.preparation).values, raster.valid_everywhere
    (output,) = package.outputs
    plan = plan_tiles(geobox.shape.yx, tile=package.tile, overlap=package.overlap, stride=package.stride)
    scores = np.zeros((output.planes, *geobox.shape), np.float32)
    for row, top in enumerate(plan.row_origins):
        for col, left in enumerate(plan.col_origins):
            here = np.s_[:, top : top + plan.tile, left : left + plan.tile]
            height, width = scores[here].shape[1:]
            tile = np.zeros((1, image.shape[0], plan.tile, plan.tile), np.float32)
            tile[0, :, :height, :width] = image[here]
            share = plan.row_weights(row)[:height, None] * plan.col_weights(col)[None, :width]
            scores[here] += runtime(tile)[output.name][0, :, :height, :width] * share
    codes = output.legend.to_codes(scores.argmax(axis=0), valid)
    profile = {"driver": "GTiff", "count": 1, "dtype": codes.dtype, "compress": "deflate", "tiled": True, "transform": geobox.affine}
    with rasterio.open(out, "w", height=codes.shape[0], width=codes.shape[1], crs=geobox.crs.to_wkt(), **profile) as file:
        file.write(codes, 1)


def table(runs: Sequence[Mapping[str, Any]]) -> str:
    """The figures in Markdown; the last two columns compare geoseg with the other way at the same size."""
    lines = [
        f"| rows x cols | Mpx | {WHOLE}: peak MB | CPU s | wall s | {GEOSEG}: peak MB | CPU s | wall s | memory | CPU |",
        "| --- " + "| ---: " * 9 + "|",
    ]
    for whole, geoseg in zip(*([run for run in runs if run["way"] == way] for way in (WHOLE, GEOSEG)), strict=True):
        figures = [f"{run['peak_mb']:.0f} | {run['cpu_s']:.1f} | {run['wall_s']:.1f}" for run in (whole, geoseg)]
        ratios = [f"{geoseg[what] / whole[what]:.2f} x" for what in ("peak_mb", "cpu_s")]
        size = f"{geoseg['rows']} x {geoseg['cols']} | {geoseg['rows'] * geoseg['cols'] / 1e6:.0f}"
        lines.append(f"| {size} | {' | '.join((*figures, *ratios))} |")
    return "\n".join(lines)


def _shape(size: str) -> tuple[int, int]:
    """(rows, cols) of `2048` or `8192x2048`."""
    rows, _, cols = size.partition("x")
    return int(rows), int(cols or rows)


def _between(places: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """(place, node) weights of the two of `size` nodes between which each place lies."""
    return np.maximum(0, 1 - np.abs(places[:, None] - np.arange(size)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Peak memory and time of geoseg predict for growing scenes.")
    parser.add_argument("--sizes", nargs="+", default=SIZES, metavar="ROWSxCOLS", help=f"scenes in pixels; {' '.join(SIZES)} by default")
    parser.add_argument("--whole", nargs=2, metavar=("SCENE", "OUT"), help="map one scene held whole in memory, and measure nothing")
    given = parser.parse_args()
    if given.whole:
        map_whole(*given.whole)
    else:
        main(given.sizes)
