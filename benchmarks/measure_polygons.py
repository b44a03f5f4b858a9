"""What polygons of a class map cost: geoseg, gdal_polygonize.py, and rasterio with geopandas, each from GeoTIFF to GeoPackage.

Run `python benchmarks/measure_polygons.py [--size 10980] [--repeat 1]`. The maps have five classes in patches ("clean"), or grain over
such patches ("noisy", 4096 x 4096 pixels); a third is the upper eighth of a clean map, to show that memory does not grow with
height. Every run is a process of its own; CPU seconds (user and system, start included) and peak memory are what the system says of it,
contestants take turns. Modules are compiled before, as installers do, by a run of each on a small map that does not count.
gdal_polygonize.py is the system's, and is left out where there is none. Prints a Markdown table and writes
benchmarks/results/polygons.json.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "polygons.json"
CLASSES = ("water", "wood", "field", "town", "rock")
NODATA = 255
NOISY_SIZE = 4096
GDAL = shutil.which("gdal_polygonize.py")
WAYS = ("geoseg", "geoseg with scores", "geoseg, only traced", "geoseg simplified", "gdal_polygonize.py", "rasterio and geopandas")
ON_EACH = ("geoseg", "gdal_polygonize.py", "rasterio and geopandas")


def main(size: int, repeat: int) -> None:
    """Measure all ways on all maps; print and write what came out."""
    runs: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        warm_up(folder)
        maps = {"clean": (size, size, 0.0), "clean, an eighth of it": (size // 8, size, 0.0), "noisy": (NOISY_SIZE, NOISY_SIZE, 0.1)}
        for name, (rows, cols, grain) in maps.items():
            path = folder / f"{name.split(',')[0]}{rows}.tif"
            ways = [way for way in (WAYS if name == "clean" else ON_EACH if name == "noisy" else WAYS[:1]) if way != WAYS[4] or GDAL]
            subprocess.run([sys.executable, __file__, "--write", path, str(rows), str(cols), str(grain)], check=True)
            for _ in range(repeat):
                for way in ways:
                    runs.append({"map": name, "rows": rows, "cols": cols, "way": way, **measure(way, path, folder / "out.gpkg")})
                    print(runs[-1], file=sys.stderr)
            for made in folder.glob("*.*"):
                made.unlink()
    if GDAL is None:
        print("gdal_polygonize.py is not installed here and was left out\n")
    print(table(runs))
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({"runs": runs}, indent=2) + "\n", encoding="utf-8")


def warm_up(folder: Path) -> None:
    """Compile what the contestants import."""
    small = folder / "small.tif"
    subprocess.run([sys.executable, __file__, "--write", small, "256", "256", "0"], check=True)
    for way in ON_EACH if GDAL else (ON_EACH[0], ON_EACH[2]):
        measure(way, small, folder / "out.gpkg")


def measure(way: str, path: Path, out: Path) -> dict[str, Any]:
    """CPU seconds, peak memory and the number of polygons of one run."""
    out.unlink(missing_ok=True)
    program = [sys.executable, __file__, "--one", way, str(path), str(out)]
    if way == "gdal_polygonize.py":
        assert GDAL is not None
        program = [GDAL, "-q", str(path), str(out), "-f", "GPKG"]
    settings = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONPYCACHEPREFIX": str(out.parent / "compiled")}
    given = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    child = subprocess.Popen(program, env={**given, **settings})
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"{way} ended with {child.returncode}")
    return {
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 2),
        "peak_mb": round(used.ru_maxrss / 1024),
        "polygons": count(out),
        "file_mb": round(out.stat().st_size / 1e6, 1) if out.exists() else None,
    }


def count(path: Path) -> int | None:
    """How many polygons a GeoPackage holds; None where there is none."""
    import sqlite3

    if not path.exists():
        return None
    with sqlite3.connect(path) as database:
        (layer,) = database.execute("SELECT table_name FROM gpkg_contents WHERE data_type = 'features'").fetchone()
        return int(database.execute(f'SELECT count(*) FROM "{layer}"').fetchone()[0])


def one(way: str, path: Path, out: Path) -> None:
    """Trace a map in one way."""
    if way == "rasterio and geopandas":
        trace_with_geopandas(path, out)
        return
    from geoseg.io.opening import gdal_env
    from geoseg.legend import Legend
    from geoseg.polygons.outlines import write_map_polygons
    from geoseg.polygons.stream import trace_regions
    from geoseg.polygons.strips import read_codes

    with gdal_env():
        if way == "geoseg, only traced":
            for _ in trace_regions(read_codes(path), NODATA, clockwise=False):
                pass
            return
        scores = path.with_suffix(".scores.tif") if way == "geoseg with scores" else None
        metres = 15.0 if way == "geoseg simplified" else 0.0
        write_map_polygons(out, path, Legend.from_names(CLASSES), scores=scores, simplify_m=metres)


def trace_with_geopandas(path: Path, out: Path) -> None:
    """As many do it."""
    import geopandas
    import rasterio
    import shapely.geometry
    from rasterio.features import shapes

    with rasterio.open(path) as source:
        codes = source.read(1)
        found = [(shapely.geometry.shape(shape), int(code)) for shape, code in shapes(codes, codes != NODATA, transform=source.transform)]
        frame = geopandas.GeoDataFrame({"class_code": [code for _, code in found]}, geometry=[shape for shape, _ in found], crs=source.crs)
    frame.to_file(out, driver="GPKG", layer="polygons", engine="pyogrio", use_arrow=True)


def write_map(path: Path, rows: int, cols: int, grain: float) -> None:
    """Five classes, each where its smooth field is highest; one patch is mirrored to fill the map. Clean maps get scores, too."""
    import numpy as np
    import rasterio
    from affine import Affine
    from rasterio.windows import Window
    from scipy.ndimage import gaussian_filter

    side = 2048
    rng = np.random.default_rng(0)
    fields = np.stack([gaussian_filter(rng.standard_normal((side, side), dtype=np.float32), 16, truncate=3) for _ in CLASSES])
    fields /= fields.std(axis=(1, 2), keepdims=True)
    if grain:
        fields += grain * rng.standard_normal(fields.shape, dtype=np.float32)
    patch = fields.argmax(axis=0).astype(np.uint8)
    pair = np.concatenate([patch, patch[:, ::-1]], axis=1)
    wide = np.tile(np.concatenate([pair, pair[::-1]]), (1, -(-cols // (2 * side))))[:, :cols]
    profile = {"driver": "GTiff", "height": rows, "width": cols, "crs": "EPSG:32630", "transform": Affine(10, 0, 4e5, 0, -10, 5.7e6)}
    tiles = {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "zstd", "dtype": "uint8", "nodata": NODATA}
    scored = not grain and rows == cols
    with (
        rasterio.open(path, "w", count=1, **profile, **tiles) as classes,
        rasterio.open(path.with_suffix(".scores.tif"), "w", count=len(CLASSES), **profile, **tiles) as scores,
    ):
        for top in range(0, rows, 512):
            here = wide[np.arange(top, min(top + 512, rows)) % len(wide)]
            classes.write(here, 1, window=Window(0, top, cols, len(here)))
            for band in range(len(CLASSES)) if scored else ():
                scores.write(np.where(here == band, 200, 12).astype(np.uint8), band + 1, window=Window(0, top, cols, len(here)))


def table(runs: list[dict[str, Any]]) -> str:
    """The runs as Markdown; of several runs the one with the least CPU time."""
    best: dict[tuple[str, str], dict[str, Any]] = {}
    for run in runs:
        key = run["map"], run["way"]
        if key not in best or run["cpu_seconds"] < best[key]["cpu_seconds"]:
            best[key] = run
    lines = ["| map | way | polygons | CPU s | x geoseg | peak MB | file MB |", "| --- | --- | --- | --- | --- | --- | --- |"]
    for (name, way), run in best.items():
        ratio = run["cpu_seconds"] / best[name, "geoseg"]["cpu_seconds"]
        found = "" if run["polygons"] is None else f"{run['polygons']:,}"
        shape = f"{name}, {run['rows']} x {run['cols']}"
        lines.append(f"| {shape} | {way} | {found} | {run['cpu_seconds']:.1f} | {ratio:.2f} | {run['peak_mb']} | {run['file_mb'] or ''} |")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=10980)
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--write", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        one(given.one[0], Path(given.one[1]), Path(given.one[2]))
    elif given.write:
        write_map(Path(given.write[0]), int(given.write[1]), int(given.write[2]), float(given.write[3]))
    else:
        main(given.size, given.repeat)
