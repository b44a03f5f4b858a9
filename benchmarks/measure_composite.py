"""Peak memory and time of a composite, at two extents and two numbers of scenes, and beside xarray's median with dask.

Run `python benchmarks/measure_composite.py [SIDE]` (4096 where none is given). It writes scenes of four bands and an SCL as tiled
GeoTIFFs into a temporary folder, and then, each in a process of its own: `geoseg.stacks.composite` over SIDE / 2 and over SIDE, with 6
and with 12 scenes, and the same median of SIDE / 2 with rioxarray, dask and `DataArray.median`, written as a GeoTIFF. It prints seconds,
seconds of processor time (imports included), and the most memory that the process held.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import rasterio
from rasterio.transform import from_origin

BANDS = ("B02", "B03", "B04", "B08")
SCENES = 12


def peak_mb() -> float:
    """The most memory this process has held, in megabytes (2^20 bytes)."""
    import resource  # absent on Windows, where this script does not run

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def lay_out(folder: Path, side: int, count: int) -> list[Path]:
    """Scenes of random reflectance, about half of each under cloud in patches of 64 pixels."""
    rng = np.random.default_rng(0)
    scenes = []
    for at in range(count):
        name = f"S2A_MSIL2A_202105{at + 1:02d}T103021_N0500_R108_T32TPS_202105{at + 1:02d}T140000.SAFE"
        scenes.append(folder / name)
        (folder / name).mkdir(parents=True)
        patches = np.kron(rng.random((side // 64, side // 64)) < 0.5, np.ones((32, 32), bool))
        planes = {f"{band}_10m": rng.integers(1100, 4000, (side, side), dtype=np.uint16) for band in BANDS}
        planes["SCL_20m"] = np.where(patches, 9, 4).astype(np.uint8)
        for band, values in planes.items():
            pixel = 10 * side // values.shape[0]
            profile = {"count": 1, "height": values.shape[0], "width": values.shape[1], "dtype": values.dtype, "crs": "EPSG:32632"}
            place = {"transform": from_origin(600_000, 5_000_000, pixel, pixel), "tiled": True, "blockxsize": 512, "blockysize": 512}
            with rasterio.open(folder / name / f"T32TPS_{band}.tif", "w", driver="GTiff", compress="deflate", **profile, **place) as file:
                file.write(values, 1)
    return scenes


def ours(scenes: list[Path], out: Path) -> None:
    """The composite as `geoseg composite` makes it, proved complete and as a COG."""
    from geoseg.scenes.open_scene import open_scene
    from geoseg.stacks.composite import composite

    composite([open_scene(scene) for scene in scenes], out)


def peer(scenes: list[Path], out: Path) -> None:
    """The same median with rioxarray and dask, in chunks of 1024."""
    import rioxarray
    import xarray

    dates = []
    for scene in scenes:
        files = [scene / f"T32TPS_{band}_10m.tif" for band in BANDS]
        bands = xarray.concat([rioxarray.open_rasterio(file, chunks=(1, 1024, 1024)) for file in files], "band")
        scl = rioxarray.open_rasterio(scene / "T32TPS_SCL_20m.tif", chunks=(1, 512, 512))[0]
        clear = scl.isin([4, 5, 6, 7, 11]).data.repeat(2, axis=0).repeat(2, axis=1)
        dates.append(((bands.astype("float32") - 1000) / 10000).where(clear))
    out.mkdir()
    xarray.concat(dates, "time").chunk(time=-1).median("time", skipna=True).rio.to_raster(
        out / "median.tif", tiled=True, compress="deflate"
    )


def main(side: int) -> None:
    """Lay out the scenes, run each case in its own process, print a line for each."""
    print(f"{'case':<34}{'seconds':>9}{'CPU s':>8}{'peak MB':>9}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for edge in (side // 2, side):
            lay_out(folder / str(edge), edge, SCENES)
        cases = [("ours", side // 2, 6), ("ours", side // 2, 12), ("ours", side, 6), ("ours", side, 12), ("peer", side // 2, 12)]
        for at, (case, edge, count) in enumerate(cases):
            command = [sys.executable, __file__, case, str(folder / str(edge)), str(count), str(folder / f"out{at}")]
            done = subprocess.run(command, capture_output=True, text=True)
            label = f"{case}: {edge} x {edge}, {count} scenes"
            if done.returncode:
                print(f"{label:<34}  not run ({done.stderr.strip().splitlines()[-1]})")
                continue
            seconds, busy, peak = map(float, done.stdout.split())
            print(f"{label:<34}{seconds:>9.1f}{busy:>8.1f}{peak:>9.0f}")


if __name__ == "__main__":
    if len(sys.argv) == 5:
        began = time.perf_counter()
        {"ours": ours, "peer": peer}[sys.argv[1]](sorted(Path(sys.argv[2]).iterdir())[: int(sys.argv[3])], Path(sys.argv[4]))
        print(time.perf_counter() - began, time.process_time(), peak_mb())
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 4096)
