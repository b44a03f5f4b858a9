"""Peak memory and time of `geoseg mosaic` for growing extents, beside `rasterio.merge` on the same maps.

Run `python benchmarks/measure_mosaic.py [--tiles 4x4 8x8]` (rows x columns of tiles of 2048 pixels; some five minutes on two cores).
Tiles overlap their neighbours by 128 pixels. Compared are: rasterio.merge with `first`, which writes one class map; geoseg's joining of
the same maps by the same rule, which is the class map with its sources, counts and reasons; and the whole command, with overviews,
polygons and project. A last run joins the tiles of the first size as if the right half of them lay in the neighbouring UTM zone. Every run
is a process of its own, so that its peak is its own. Prints a Markdown table and writes benchmarks/results/mosaic.json. Not for Windows,
which does not tell a process's peak this way.
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
from odc.geo.geobox import GeoBox

RESULTS = Path(__file__).parent / "results" / "mosaic.json"
TILES = ("4x4", "8x8")
SIDE, OVERLAP = 2048, 128
PATCH = 64
"""About the size of a field in pixels."""
NAMES = ("water", "trees", "grass", "crops", "built")
LEFT, TOP, PIXEL = 500_000, 5_000_000, 10
ZONES = ("EPSG:32632", "EPSG:32633")
MERGE, JOIN, COMMAND = "rasterio.merge", "geoseg, joining", "geoseg mosaic"


def main(sizes: Sequence[str]) -> None:
    """Measure all ways at each size; print and write what came out."""
    runs = []
    with tempfile.TemporaryDirectory() as temporary:
        for rows, cols, zones in [*((*_shape(size), 1) for size in sizes), (*_shape(sizes[0]), 2)]:
            folder = Path(temporary) / f"{rows}x{cols}x{zones}"
            write_tiles(folder, rows, cols, zones)
            for way in (MERGE, JOIN, COMMAND) if zones == 1 else (JOIN,):  # rasterio.merge knows one CRS
                runs.append({"tiles": rows * cols, "zones": zones, "way": way, **measure(command(way, folder))})
                print(runs[-1], flush=True)
    print(table(runs))
    machine = {"cores": os.cpu_count(), "machine": platform.machine(), "system": platform.system(), "python": platform.python_version()}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({"machine": machine, "runs": runs}, indent=2) + "\n", encoding="utf-8")


def write_tiles(folder: Path, rows: int, cols: int, zones: int) -> None:
    """Class maps of fields, uint8; with two zones the right half of them lies on the grid of the next one, over the same ground."""
    from geoseg.io.categories import category_tags
    from geoseg.legend import Legend

    folder.mkdir()
    legend, rng = Legend.from_names(NAMES), np.random.default_rng(0)
    step = (SIDE - OVERLAP) * PIXEL
    for row in range(rows):
        for col in range(cols):
            grid = GeoBox.from_bbox(_bounds(LEFT + col * step, TOP - row * step), ZONES[0], shape=(SIDE, SIDE))
            if zones == 2 and 2 * col >= cols:
                grid = grid.to_crs(ZONES[1], resolution=PIXEL)
            height, width = grid.shape
            coarse = rng.integers(0, len(NAMES), (height // PATCH + 1, width // PATCH + 1), dtype=np.uint8)
            values = np.kron(coarse, np.ones((PATCH, PATCH), np.uint8))[:height, :width]
            profile = {"dtype": "uint8", "nodata": 255, "compress": "deflate", "tiled": True, "blockxsize": 512, "blockysize": 512}
            place = {"crs": grid.crs.to_wkt(), "transform": grid.affine, "height": height, "width": width, "count": 1}
            with rasterio.open(folder / f"tile_{row:02}_{col:02}_classes.tif", "w", driver="GTiff", **profile, **place) as file:
                file.write(values, 1)
                file.update_tags(**category_tags(legend))


def command(way: str, folder: Path) -> list[str]:
    """The process that does it."""
    if way == COMMAND:
        words = ["mosaic", str(folder), "-o", str(folder / "mosaic"), "--rule", "first", "--overwrite", "--json"]
        return [sys.executable, "-c", "from geoseg.cli import main; main()", *words]
    return [sys.executable, __file__, "--way", way, str(folder)]


def merge(folder: Path) -> None:
    """The class map by rasterio.merge, written in pieces as it does by itself where a path is given."""
    from rasterio.merge import merge as merge_files

    profile = {"compress": "deflate", "tiled": True, "blockxsize": 512, "blockysize": 512}
    merge_files(sorted(folder.glob("*_classes.tif")), method="first", dst_path=folder / "merged.tif", dst_kwds=profile)


def join(folder: Path) -> None:
    """All windows of the mosaic, thrown away as soon as they are done."""
    from geoseg.io.geotiff import files_kept_open, gdal_env
    from geoseg.maps.map_results import open_map_results
    from geoseg.maps.mosaic_plan import MosaicOptions, plan_mosaic
    from geoseg.maps.mosaic_windows import join_window

    plan = plan_mosaic(open_map_results(folder), MosaicOptions(rule="first"))
    with gdal_env(80), files_kept_open():
        for rows, cols in plan.windows():
            join_window(plan, rows, cols)


def measure(words: Sequence[str]) -> dict[str, float]:
    """Run a command in a process of its own: peak resident memory in MB (10^6 bytes), seconds on the clock and of all processors."""
    began = time.perf_counter()
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    if status != 0:
        raise SystemExit(f"failed: {' '.join(words)}")
    return {
        "peak_mb": used.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6,
        "wall_s": time.perf_counter() - began,
        "cpu_s": used.ru_utime + used.ru_stime,
    }


def table(runs: Sequence[Mapping[str, Any]]) -> str:
    """The figures in Markdown."""
    lines = ["| tiles | UTM zones | way | peak MB | CPU s | wall s |", "| ---: | ---: | --- | ---: | ---: | ---: |"]
    for run in runs:
        figures = f"{run['peak_mb']:.0f} | {run['cpu_s']:.1f} | {run['wall_s']:.1f}"
        lines.append(f"| {run['tiles']} | {run['zones']} | {run['way']} | {figures} |")
    return "\n".join(lines)


def _bounds(left: float, top: float) -> tuple[float, float, float, float]:
    return left, top - SIDE * PIXEL, left + SIDE * PIXEL, top


def _shape(size: str) -> tuple[int, int]:
    """(rows, cols) of `4x2`."""
    rows, _, cols = size.partition("x")
    return int(rows), int(cols or rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Peak memory and time of geoseg mosaic for growing extents.")
    parser.add_argument("--tiles", nargs="+", default=TILES, metavar="ROWSxCOLS", help=f"tiles; {' '.join(TILES)} by default")
    parser.add_argument("--way", nargs=2, metavar=("WAY", "FOLDER"), help="join the maps of a folder in one way, and measure nothing")
    given = parser.parse_args()
    if given.way:
        {MERGE: merge, JOIN: join}[given.way[0]](Path(given.way[1]))
    else:
        main(given.tiles)
