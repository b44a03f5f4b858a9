"""What starting costs: processor seconds and memory of small commands, beside those of Python and of the model alone.

    python benchmarks/measure_startup.py [--rounds 7]

Writes benchmarks/results/startup.json and prints a table. Every command runs in a fresh Python; the rounds are interleaved,
and medians are taken, so that other work on the machine weighs on all alike. For Linux and macOS: Windows does not add up the
processor time of child processes.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine

from geoseg.models.package import DEFAULT_PACKAGE, ModelPackage

RESULTS = Path(__file__).parent / "results" / "startup.json"
SIDE = 256
LAND = {"blue": 600, "green": 700, "red": 500, "nir": 3200, "swir16": 1500, "swir22": 900}
WATER = {"blue": 900, "green": 1100, "red": 800, "nir": 300, "swir16": 150, "swir22": 100}

COMMAND = "import sys; from geoseg.cli import main; main()"
MODEL = """
import sys, numpy, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
session.run(None, {session.get_inputs()[0].name: numpy.zeros([int(size) for size in sys.argv[2:]], numpy.float32)})
"""
PEAK = """
import atexit
def _say():
    try:
        lines = open("/proc/self/status").read().splitlines()
    except OSError:
        return
    print("peak", *(line.split()[1] for line in lines if line.startswith("VmHWM")))
atexit.register(_say)
"""
"""Put before a program, so that it ends by saying its peak resident memory in KiB; on Linux only."""


def write_scene(path: Path, roles: tuple[str, ...]) -> Path:
    """A scene of 256 x 256 pixels of 10 m: a lake in reflectance of 1/10000, with noise."""
    row, col = np.mgrid[:SIDE, :SIDE]
    lake = np.hypot(row - SIDE / 2, col - SIDE / 3) < SIDE / 4
    noise = np.random.default_rng(0).integers(0, 60, (len(roles), SIDE, SIDE))
    shape = {"count": len(roles), "height": SIDE, "width": SIDE, "dtype": "uint16", "crs": "EPSG:32633"}
    with rasterio.open(path, "w", driver="GTiff", transform=Affine(10, 0, 500_000, 0, -10, 5_000_000), **shape) as file:
        for band, role in enumerate(roles, 1):
            file.write((np.where(lake, WATER[role], LAND[role]) + noise[band - 1]).astype(np.uint16), band)
            file.set_band_description(band, role)
    return path


def runs(folder: Path) -> dict[str, list[str]]:
    """What is measured → the program and its words."""
    package = ModelPackage.open(DEFAULT_PACKAGE)
    scene = write_scene(folder / "scene.tif", tuple(band.role for band in package.preparation.bands))
    graph = folder / "model.onnx"
    graph.write_bytes(package.onnx)
    image = [1, len(package.preparation.channels), package.tile, package.tile]
    unit = ["--unit", "reflectance", "--scale", "0.0001"]
    predict = ["predict", scene, "-o", folder / "out", "--overwrite", *unit]
    programs = {
        "python -c pass": ["pass"],
        "import geoseg": ["import geoseg"],
        "geoseg --help": [COMMAND, "--help"],
        "geoseg info": [COMMAND, "info", scene, *unit],
        "geoseg predict": [COMMAND, *predict],
        "geoseg predict --no-polygons": [COMMAND, *predict, "--no-polygons"],
        "the model alone, one tile": [MODEL, graph, *image],
    }
    return {what: [PEAK + program, *map(str, words)] for what, (program, *words) in programs.items()}


def measure(program: str, *words: str) -> tuple[float, float | None]:
    """Processor seconds (user and system) of a fresh Python, and its peak memory in MB where the system tells.

    Modules are compiled once, as an installer does it, wherever this machine says that it shall not keep what it compiles.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["OMP_NUM_THREADS"] = "1"
    before = os.times()
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, env=environment)
    after = os.times()
    if done.returncode:
        raise SystemExit(f"the command {' '.join(words)} failed: {done.stderr.strip()[-500:]}")
    seconds = after.children_user - before.children_user + after.children_system - before.children_system
    peak = [float(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("peak ")]
    return seconds, peak[-1] * 1024 / 1e6 if peak else None


def main() -> None:
    """Measure all in turn, several times, and write down the medians."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--rounds", type=int, default=7)
    rounds = words.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        programs = runs(Path(folder))
        for command in programs.values():
            measure(*command)  # byte code and file caches are warm from here on
        found: dict[str, list[tuple[float, float | None]]] = {what: [] for what in programs}
        for _ in range(rounds):
            for what, command in programs.items():
                found[what].append(measure(*command))
    median = {what: statistics.median(seconds for seconds, _ in measured) for what, measured in found.items()}
    table = {
        what: {
            "cpu_seconds": round(median[what], 3),
            "least_cpu_seconds": round(min(seconds for seconds, _ in measured), 3),
            "peak_mb": round(statistics.median(peak for _, peak in measured if peak is not None)) if measured[0][1] is not None else None,
        }
        for what, measured in found.items()
    }
    beside = round(median["geoseg predict"] - median["the model alone, one tile"], 3)
    RESULTS.write_text(
        json.dumps({"date": time.strftime("%Y-%m-%d"), "rounds": rounds, "runs": table, "predict_beside_the_model": beside}, indent=2)
        + "\n"
    )
    print("| run | CPU s (median) | CPU s (least) | peak memory MB |\n| --- | ---: | ---: | ---: |")
    for what, row in table.items():
        print(f"| {what} | {row['cpu_seconds']} | {row['least_cpu_seconds']} | {row['peak_mb']} |")
    print(f"\n`geoseg predict` costs {beside} s of processor time more than the model alone.")


if __name__ == "__main__":
    main()
