"""What the way in which windows are drawn does to what is learned: several from each region that is decoded, and hard examples.

    python benchmarks/drawing.py DATA [--seeds 0 1 2] [--only NAME ...]

Tasks, halves and scores are those of `benchmarks/learning.py`; a pair of settings is compared on the same seeds, which share out the
ground alike. Small scenes would be held in memory whole, so for `groups` the scene of Wales is written in blocks of 64 x 64 pixels and
read window by window, with windows of 64: regions of 4 x 4 windows are then to the scene what they are to a large one with larger
windows and blocks. Writes benchmarks/results/drawing.json.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import rasterio
from learning import TASKS, Task, learn, score, write_half

RESULTS = Path(__file__).parent / "results" / "drawing.json"
BLOCK = 64
PAIRS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "groups": (
        "wales, north to south",
        {"hold_mb": 0, "tile": BLOCK, "group": 1},
        {"hold_mb": 0, "tile": BLOCK, "group": 8},
    ),
    "hard examples, Wales": ("wales, north to south", {}, {"hard": 0.3}),
    "hard examples, radar": ("flood, radar", {}, {"hard": 0.3}),
}
"""Name → task, settings without, settings with."""


@contextmanager
def in_small_blocks(task: Task, data: Path) -> Iterator[Task]:
    """The task on a copy of its scene in small blocks."""
    scene = task.scene(data)
    with tempfile.TemporaryDirectory() as place:
        out = Path(place) / "scene.tif"
        with rasterio.open(scene.layers[0].path) as source:
            profile = source.profile | {"tiled": True, "blockxsize": BLOCK, "blockysize": BLOCK, "compress": "deflate"}
            with rasterio.open(out, "w", **profile) as file:
                file.write(source.read())
        layers = tuple(replace(layer, path=str(out)) for layer in scene.layers)
        yield replace(task, scene=lambda _: replace(scene, layers=layers))


def measure(task: Task, data: Path, given: dict[str, Any], seeds: Sequence[int]) -> list[dict[str, Any]]:
    """Scores for each seed."""
    rows = []
    for seed in seeds:
        with tempfile.TemporaryDirectory() as place:
            folder, scene = Path(place), task.scene(data)
            scored = write_half(data / task.truth, folder / "labels.tif", task.halves)
            spent = time.process_time()
            package = learn("supervised", task, scene, folder / "labels.tif", given, seed, folder / "model")
            cpu = time.process_time() - spent
            found = score(package, scene, task, data / task.truth, scored, folder)
        ious = {label: round(figures["iou"], 4) for label, figures in found.figures().items()}
        rows.append({"seed": seed, "miou": round(found.mean_iou, 4), "iou": ious, "cpu_seconds": round(cpu, 1)})
        print(given, rows[-1], flush=True)
    return rows


def main() -> None:
    """Learn both ways, score, write down."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("data", type=Path)
    words.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    words.add_argument("--only", nargs="+", default=list(PAIRS), choices=list(PAIRS))
    given = words.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    found = json.loads(RESULTS.read_text())["found"] if RESULTS.exists() else {}
    for name in given.only:
        task, without, with_it = PAIRS[name]
        with in_small_blocks(TASKS[task], given.data) as copied:
            chosen = copied if name == "groups" else TASKS[task]
            rows = [measure(chosen, given.data, settings, given.seeds) for settings in (without, with_it)]
        found[name] = {"task": task, "without": {"settings": without, "rows": rows[0]}, "with": {"settings": with_it, "rows": rows[1]}}
        RESULTS.write_text(json.dumps({"date": time.strftime("%Y-%m-%d"), "found": found}, indent=2) + "\n")
    print("| | without: mean IoU (least to greatest of the seeds) | with | with less without, seed by seed |\n| --- | --- | --- | --- |")
    for name, pair in found.items():
        both = [[row["miou"] for row in pair[way]["rows"]] for way in ("without", "with")]
        cells = [f"{statistics.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})" for values in both]
        gains = ", ".join(f"{after - before:+.3f}" for before, after in zip(*both, strict=True))
        print(f"| {name} | {' | '.join(cells)} | {gains} |")


if __name__ == "__main__":
    main()
