"""What the recipes learn on two small real scenes in a minute or two: IoU of ground in another half of the scene.

    python benchmarks/learning.py DATA [--tasks NAME ...] [--seeds 0 1 2] [--recipes supervised forest] [-s KEY=VALUE ...]

DATA holds `s2_wales` (Sentinel-2 reflectance of the coast of Wales and the land-cover map of a classifier) and `s1s2_flood_spain`
(the flood Spain_7370579 of Sen1Floods11: Sentinel-1, Sentinel-2, water drawn by hand). A half of a scene is learned from, its own
blocks to stop by and to be judged on among it; the other half, less a gap of 32 pixels, is scored here from the finished map, once.

Against the map of Wales the figure is agreement with a classifier, which learned from polygons in both halves: never accuracy.
Seconds are those of the whole training on this machine, from files to package. Writes benchmarks/results/learning.json.
"""

from __future__ import annotations

import argparse
import json
import logging
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import yaml
from numpy.typing import NDArray

from geoseg.confusion import Confusion
from geoseg.io.class_maps import open_class_map
from geoseg.legend import Legend, LegendClass
from geoseg.mapping.make_map import make_map
from geoseg.models.package import ModelPackage
from geoseg.recipes.supervised import Settings, run
from geoseg.scene import Scene
from geoseg.scenes.open_scene import open_scene

RESULTS = Path(__file__).parent / "results" / "learning.json"
GAP = 32
"""Pixels between ground that is learned from and ground that is scored."""
NO_LABEL = 255
S1, S2 = ("vv", "vh"), ("blue", "green", "red", "nir", "swir16", "swir22")


@dataclass(frozen=True)
class Task:
    """A scene, the truth of all its ground, and which half is learned from."""

    scene: Callable[[Path], Scene]
    truth: str
    legend: Legend
    halves: str
    """`north`, `south`, `west` or `east`: the half that is learned from."""
    truth_is: str
    settings: dict[str, Any]


def _wales(data: Path) -> Scene:
    roles = ["blue", "green", "red", "rededge071", "rededge075", "rededge078", "nir", "nir08", "swir16", "swir22"]
    return open_scene(data / "s2_wales" / "s2_20210527.tif", sensor="sentinel-2-l2a", bands=roles, scale=0.001)


def _optical(data: Path) -> Scene:
    return open_scene(data / "s1s2_flood_spain" / "Spain_7370579_S2Hand.tif", sensor="sentinel-2-l1c")


def _radar(data: Path) -> Scene:
    return open_scene(data / "s1s2_flood_spain" / "Spain_7370579_S1Hand.tif", sensor="sentinel-1-grd", unit="dB")


LAND_COVER = Legend(
    (
        LegendClass(0, 1, "forest", "#006400"),
        LegendClass(1, 2, "grass", "#7cc83c"),
        LegendClass(2, 3, "urban", "#dc2828"),
        LegendClass(3, 4, "water", "#1e50dc"),
    ),
    nodata=0,
)
WATER = Legend((LegendClass(0, 0, "not water", "#e8e4d8", background=True), LegendClass(1, 1, "water", "#2b6cb0")))
_LAND = {"truth": "s2_wales/landcover.tif", "legend": LAND_COVER, "truth_is": "a classifier's map (RSGISLib): agreement, not accuracy"}
_FLOOD = {
    "truth": "s1s2_flood_spain/Spain_7370579_LabelHand.tif",
    "legend": WATER,
    "halves": "west",
    "truth_is": "drawn by hand (Sen1Floods11)",
}
TASKS = {
    "wales, north to south": Task(_wales, **_LAND, halves="north", settings={}),
    "flood, radar": Task(_radar, **_FLOOD, settings={"bands": S1}),
    "flood, optical": Task(_optical, **_FLOOD, settings={"bands": S2}),
}


def halves(shape: tuple[int, int], which: str) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """(row, col) True on the half that is learned from, and on the one that is scored."""
    along = 0 if which in ("north", "south") else 1
    place = np.arange(shape[along]) - shape[along] // 2
    learned, scored = (place < 0, place >= GAP) if which in ("north", "west") else (place >= 0, place < -GAP)
    spread = (slice(None), np.newaxis) if along == 0 else (np.newaxis, slice(None))
    return np.broadcast_to(learned[spread], shape), np.broadcast_to(scored[spread], shape)


def write_half(truth: Path, out: Path, which: str) -> NDArray[np.bool_]:
    """The labels of one half at `out`; (row, col) True on the ground that is scored."""
    with rasterio.open(truth) as file:
        codes, profile = file.read(1), file.profile
    learned, scored = halves(codes.shape, which)
    kept = np.where(learned & (codes >= 0), codes, NO_LABEL).astype(np.uint8)
    profile.update(driver="GTiff", dtype="uint8", nodata=NO_LABEL, compress="deflate")
    with rasterio.open(out, "w", **profile) as file:
        file.write(kept, 1)
    return scored


def score(package: ModelPackage, scene: Scene, task: Task, truth: Path, scored: NDArray[np.bool_], folder: Path) -> Confusion:
    """Truth against the map of the scored half."""
    made = make_map(scene, package, folder / "map")
    with rasterio.open(made.files["classes"]) as mapped, rasterio.open(truth) as drawn:
        guesses = _indices(mapped.read(1), open_class_map(made.files["classes"]).legend, task.legend)
        truths = _indices(drawn.read(1), task.legend, task.legend)
    known = scored & (truths >= 0) & (guesses >= 0)
    return Confusion.count(np.maximum(truths, 0), np.maximum(guesses, 0), task.legend, counted=known)


def _indices(codes: NDArray[Any], theirs: Legend, ours: Legend) -> NDArray[np.int64]:
    """(row, col) places in our legend, by name; -1 where a code is not in theirs."""
    found = np.full(codes.shape, -1)
    for one in theirs.classes:
        found[codes == one.code] = ours.names.index(one.name)
    return found


def learn(recipe: str, task: Task, scene: Scene, labels: Path, given: dict[str, Any], seed: int, out: Path) -> ModelPackage:
    """A package from the labels of one half."""
    if recipe == "forest":
        from geoseg.recipes import pixel_forest

        bands = {key: value for key, value in task.settings.items() if key == "bands"}
        return pixel_forest.run(pixel_forest.Settings(seed=seed, classes=task.legend.classes, **bands), [scene], [labels], out)
    settings = Settings(**{**task.settings, "classes": task.legend.classes, "seed": seed, **given})
    return run(settings, [scene], [labels], out, accelerator="cpu")


def measure(name: str, recipe: str, data: Path, given: dict[str, Any], seeds: Sequence[int]) -> dict[str, Any]:
    """IoU of each class on the scored half, for each seed."""
    task = TASKS[name]
    scene, rows = task.scene(data), []
    for seed in seeds:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            scored = write_half(data / task.truth, folder / "labels.tif", task.halves)
            began, spent = time.monotonic(), time.process_time()
            package = learn(recipe, task, scene, folder / "labels.tif", given, seed, folder / "model")
            seconds, cpu = time.monotonic() - began, time.process_time() - spent
            found = score(package, scene, task, data / task.truth, scored, folder)
        ious = {label: round(figures["iou"], 4) for label, figures in found.figures().items()}
        rows.append(
            {"seed": seed, "iou": ious, "accuracy": round(found.accuracy, 4), "seconds": round(seconds, 1), "cpu_seconds": round(cpu, 1)}
        )
        print(name, recipe, rows[-1], flush=True)
    return {"task": name, "recipe": recipe, "truth": task.truth_is, "settings": given if recipe == "supervised" else {}, "rows": rows}


def table(found: Sequence[dict[str, Any]]) -> str:
    """Mean and range over the seeds."""
    lines = ["| learned and scored | recipe | IoU: mean (least to greatest of the seeds) | seconds |", "| --- | --- | --- | ---: |"]
    for one in found:
        cells = []
        for label in one["rows"][0]["iou"]:
            values = [row["iou"][label] for row in one["rows"]]
            cells.append(f"{label} {statistics.mean(values):.2f} ({min(values):.2f} to {max(values):.2f})")
        recipe = ", ".join([one["recipe"], *(f"{key}: {value}" for key, value in one["settings"].items())])
        lines.append(f"| {one['task']} | {recipe} | {', '.join(cells)} | {statistics.mean(r['seconds'] for r in one['rows']):.0f} |")
    return "\n".join(lines)


def _key(row: dict[str, Any]) -> tuple[str, str, str]:
    """What is measured again takes the place of what was measured before."""
    return row["task"], row["recipe"], json.dumps(row["settings"], sort_keys=True, default=str)


def main() -> None:
    """Learn, score, write down."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("data", type=Path)
    words.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    words.add_argument("--recipes", nargs="+", default=["supervised", "forest"], choices=["supervised", "forest"])
    words.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    words.add_argument("-s", "--set", action="append", default=[], metavar="KEY=VALUE")
    words.add_argument("--try", dest="is_try", action="store_true", help="print only, write nothing")
    given = words.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    settings = {key: yaml.safe_load(value) for key, _, value in (text.partition("=") for text in given.set)}
    found = [measure(name, recipe, given.data, settings, given.seeds) for name in given.tasks for recipe in given.recipes]
    if not given.is_try:
        found = [*found, *(row for row in json.loads(RESULTS.read_text())["found"] if _key(row) not in map(_key, found))]
        found.sort(key=lambda row: (list(TASKS).index(row["task"]), row["recipe"] != "supervised", bool(row["settings"])))
    print(table(found))
    if not given.is_try:
        facts = {"date": time.strftime("%Y-%m-%d"), "python": platform.python_version(), "found": found}
        RESULTS.write_text(json.dumps(facts, indent=2, default=str) + "\n")


if __name__ == "__main__":
    main()
