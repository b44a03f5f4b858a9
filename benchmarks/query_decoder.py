"""What Mask2Former's decoder does for a flood in radar against the light pyramid, behind the same transformer, three seeds.

    python benchmarks/query_decoder.py DATA [--seeds 0 1 2] [--only NAME ...]

DATA and the task are those of `crossearth.py`: learned in the west of a scene, scored in its east. The transformer is a tiny ViT with
random weights, whose patches are 16 pixels. Short trainings, of 60 windows in each of 6 epochs, all of 128 pixels: far from the 40,000
steps of the paper. The pyramid has the recipe's branch for single pixels (`detail`) beside it, queries have none. Writes
benchmarks/results/query_decoder.json, and its table as docs/measured/query_decoder.md.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from crossearth import TASK
from learning import TASKS, learn, score, write_half

RESULTS = Path(__file__).parent / "results" / "query_decoder.json"
HEADING = "# Queries or a pyramid\n\n    python benchmarks/query_decoder.py DATA"
PAGE = Path(__file__).resolve().parents[1] / "docs" / "measured" / "query_decoder.md"
SHORT = {"epochs": 6, "draws": 60, "batch": 6, "tile": 128, "family": "vit.Pyramid", "compare": "none", "pictures": 0}
VIT = {"size": "tiny", "patch": 16}
ROWS: dict[str, dict[str, Any]] = {
    "pyramid": {"learning_rate": 5e-4},
    "pyramid at its usual learning rate, 2e-3": {},
    "20 queries, 64 wide, 3 layers": {"learning_rate": 5e-4, "network": {"decoder": "query", "queries": 20, "features": 64, "layers": 3}},
}
"""Name → settings."""


def table(found: dict[str, Any]) -> str:
    """The rows in Markdown."""
    lines = ["| decoder | IoU of water: mean (least to greatest of the seeds) | seeds | CPU s |", "| --- | --- | ---: | ---: |"]
    for name, one in found.items():
        values = [row["iou"]["water"] for row in one["rows"]]
        spent = statistics.mean(row["cpu_seconds"] for row in one["rows"])
        spread = f"{statistics.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"
        lines.append(f"| {name} | {spread} | {len(values)} | {spent:.0f} |")
    return "\n".join(lines)


def main() -> None:
    """Learn each way, score, write down."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("data", type=Path)
    words.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    words.add_argument("--only", nargs="+", default=list(ROWS), choices=list(ROWS))
    given = words.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    task = TASKS[TASK]
    found: dict[str, Any] = json.loads(RESULTS.read_text())["found"] if RESULTS.exists() else {}
    for seed in given.seeds:
        for name in given.only:
            settings = {**SHORT, **ROWS[name], "network": VIT | ROWS[name].get("network", {})}
            with tempfile.TemporaryDirectory() as kept:
                folder, scene = Path(kept), task.scene(given.data)
                scored = write_half(given.data / task.truth, folder / "labels.tif", task.halves)
                began = time.process_time()
                package = learn("supervised", task, scene, folder / "labels.tif", settings, seed, folder / "model")
                spent = time.process_time() - began
                confusion = score(package, scene, task, given.data / task.truth, scored, folder)
            ious = {label: round(figures["iou"], 4) for label, figures in confusion.figures().items()}
            others = [row for row in found.get(name, {"rows": []})["rows"] if row["seed"] != seed]
            rows = sorted([*others, {"seed": seed, "iou": ious, "cpu_seconds": round(spent, 1)}], key=lambda row: row["seed"])
            found[name] = {"settings": ROWS[name], "rows": rows}
            print(name, seed, ious, round(spent, 1), flush=True)
            RESULTS.write_text(json.dumps({"date": time.strftime("%Y-%m-%d"), "short": SHORT, "found": found}, indent=2) + "\n")
            PAGE.write_text(f"{HEADING}\n\n{(__doc__ or '').splitlines()[0]}\n\n{table(found)}\n")
    print(table(found))


if __name__ == "__main__":
    main()
