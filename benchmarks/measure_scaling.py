"""How the time of one scene, and of many, falls with the workers of a Dask cluster.

Run `python benchmarks/measure_scaling.py [--size 3072] [--workers 1 2 4]` (some ten minutes on two cores). A U-Net of random weights is
mapped by a real scheduler and workers of one thread each, all on this machine: no more workers can work at once than it has cores.
The workers are started, and have mapped a small scene, before the clock runs; it then runs for the whole command, start included. The last
column is how well the cores there are were used: speed-up over min(workers, cores). Prints a Markdown table and writes
benchmarks/results/scaling.json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from measure_runtimes import BANDS, MEAN, STD, images, write_network

from geoseg.mapping.pipeline import usable_processors

RESULTS = Path(__file__).parent / "results" / "scaling.json"
TILE = 256
SCENES = 8
PREDICT = (sys.executable, "-c", "from geoseg.cli import main; main()", "predict")
QUIET = ("--sensor", "generic", "--no-picture", "--no-polygons", "--overwrite")


def main(size: int, workers: list[int]) -> None:
    """Measure each number of workers on both kinds of work; print and write what came out."""
    runs: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        subprocess.run([sys.executable, __file__, "--make", folder, "--size", str(size)], check=True)
        for count in workers:
            runs += measure(folder, count)
            for run in runs[-2:]:
                print(run, file=sys.stderr)
    cores = usable_processors()
    print(table(runs, cores))
    result = {"date": datetime.now(UTC).date().isoformat(), "cores": cores, "size": size, "tile": TILE, "runs": runs}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def make(folder: Path, size: int) -> None:
    """The network, one scene of size x size, and eight that together are about as large."""
    write_network(folder, TILE)
    side = int(size / SCENES**0.5) // TILE * TILE
    for name, edge, seed in (("small", TILE, 0), ("large", size, 1), *((f"many{number}", side, number) for number in range(SCENES))):
        profile = {"count": len(BANDS), "height": edge, "width": edge, "dtype": "uint16", "crs": "EPSG:32632"}
        with rasterio.open(
            folder / f"{name}.tif", "w", driver="GTiff", transform=rasterio.Affine(10, 0, 5e5, 0, -10, 5e6), **profile
        ) as file:
            file.write((MEAN + STD * images(seed, edge)[0]).clip(1, 65535).astype(np.uint16))
            file.descriptions = BANDS


def measure(folder: Path, count: int) -> list[dict[str, Any]]:
    """Seconds of both kinds of work on so many workers."""
    file = folder / f"scheduler{count}.json"
    common = ("--scheduler-file", str(file), "--no-dashboard")
    lines = [
        ("distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0", *common),
        *count * [("distributed.cli.dask_worker", "--nthreads", "1", "--no-nanny", "--preload", "geoseg.mapping.many", *common)],
    ]
    started = [subprocess.Popen([sys.executable, "-m", *line], cwd=folder, stderr=subprocess.DEVNULL) for line in lines]
    try:
        while not file.exists():
            time.sleep(0.1)
        address = json.loads(file.read_text(encoding="utf-8"))["address"]
        wait_for(address, count)
        seconds(folder, [folder / "small.tif"], address, "warm")
        one = seconds(folder, [folder / "large.tif"], address, "one")
        many = seconds(folder, sorted(folder.glob("many*.tif")), address, "many")
    finally:
        for process in started[::-1]:
            process.terminate()
            process.wait()
    return [
        {"work": "bands of one scene", "workers": count, "seconds": round(one, 1)},
        {"work": f"{SCENES} scenes", "workers": count, "seconds": round(many, 1)},
    ]


def wait_for(address: str, count: int) -> None:
    """Until so many workers have reported."""
    from distributed import Client

    with Client(address, set_as_default=False) as client:
        client.wait_for_workers(count, timeout=120)


def seconds(folder: Path, scenes: list[Path], address: str, out: str) -> float:
    """What mapping these scenes takes on the clock, once."""
    began = time.perf_counter()
    command = [*PREDICT, *map(str, scenes), "--model", str(folder / "fp32"), "-o", str(folder / out), "--cluster", address, *QUIET]
    ran = subprocess.run(command, capture_output=True, text=True)
    if ran.returncode:
        raise SystemExit(ran.stderr)
    return time.perf_counter() - began


def table(runs: list[dict[str, Any]], cores: int) -> str:
    """The runs as Markdown, each beside the first of its kind."""
    first = {run["work"]: run["seconds"] for run in reversed(runs)}
    lines = [f"| {cores} cores | workers | seconds | speed-up | of the cores used |", "| --- | ---: | ---: | ---: | ---: |"]
    for run in sorted(runs, key=lambda run: run["work"]):
        faster = first[run["work"]] / run["seconds"]
        used = faster / min(run["workers"], cores)
        lines.append(f"| {run['work']} | {run['workers']} | {run['seconds']:.1f} | {faster:.2f} x | {100 * used:.0f} % |")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=3072)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    if given.make:
        make(given.make, given.size)
    else:
        main(given.size, given.workers)
