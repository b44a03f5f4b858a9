"""Peak memory of writing a large class map: rows into a GeoTIFF, then the copy to a COG.

Run `python benchmarks/measure_cog_memory.py [SIDE]` (8192 where none is given; 30000, or 900 megapixels, takes a minute). It writes a
random but map-like raster of uint8 into a temporary folder, a few rows at a time, and prints, after each step, seconds, the file's size
and the most memory the process has held.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox

from geoseg.io.cog import RowWriter, write_cog
from geoseg.legend import Legend

ROWS = 256
PATCH = 32
"""Pixels that share a class in a row, about as in a real map."""


def peak_mb() -> float:
    """The most memory this process has held, in megabytes (2^20 bytes)."""
    import resource  # absent on Windows, where this script does not run

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def main(side: int) -> None:
    """Write, copy, and print a line for each."""
    legend = Legend.from_names(["water", "trees", "grass", "crops", "built"])
    grid = GeoBox((side, side), Affine(10, 0, 500000, 0, -10, 5000000), "EPSG:32630")
    rng = np.random.default_rng(0)
    print(f"{'step':<24}{'seconds':>8}{'file MB':>9}{'peak MB':>9}")
    print(f"{'begin':<24}{0:>8.1f}{0:>9.1f}{peak_mb():>9.0f}")
    with tempfile.TemporaryDirectory() as folder:
        part, out = Path(folder) / "part.tif", Path(folder) / "map.tif"
        start = time.perf_counter()
        with RowWriter(part, grid, count=1, dtype=legend.dtype, nodata=legend.nodata, colours=legend.colour_table()) as writer:
            for top in range(0, side, ROWS):
                rows = min(ROWS, side - top)
                coarse = rng.integers(0, len(legend), (1, rows, -(-side // PATCH)), dtype=np.uint8)
                writer.append(np.repeat(coarse, PATCH, axis=2)[:, :, :side])
        print(f"{'rows, read back':<24}{time.perf_counter() - start:>8.1f}{part.stat().st_size / 2**20:>9.1f}{peak_mb():>9.0f}")
        start = time.perf_counter()
        write_cog(part, out, kind="classes")
        print(f"{'COG, read back':<24}{time.perf_counter() - start:>8.1f}{out.stat().st_size / 2**20:>9.1f}{peak_mb():>9.0f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 8192)
