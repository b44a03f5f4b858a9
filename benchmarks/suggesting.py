"""Whether suggested tiles teach more than random ones, and whether suspect labels are the wrong ones; a label map plays the person.

    python benchmarks/suggesting.py DATA [--only tiles labels] [--tasks NAME ...] [--counts 4 8 16] [--seeds 0 1 2] [--draws 3]

Tasks, halves and scores are those of `benchmarks/learning.py`. Tiles of 320 m in one half are labelled whole: four at random that start a
forest on single pixels, then N more, as `geoseg suggest tiles` ranks those of that half on the forest's map or at random, `--draws` times
for each seed. Forests are scored on the other half. Label errors: squares of 16 x 16 pixels of the hand-drawn flood map, or some of the
hand-drawn polygons of Wales, are given another class until a tenth is wrong; what `geoseg suggest labels` lists is compared with them.
Writes each row to benchmarks/results/suggesting.json as it comes, and tables to standard output.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import rasterio
from learning import NO_LABEL, TASKS, Task, halves, score
from numpy.typing import NDArray
from rasterio.features import rasterize

from geoseg.evaluation.ranking import LEAST_OBSERVED, rank_tiles
from geoseg.evaluation.suspects import TABLE, score_by_folds, write_suspects
from geoseg.evaluation.tiles import Tiles, measure_tiles
from geoseg.ground import pixel_size_m
from geoseg.io.categories import category_tags
from geoseg.mapping.make_map import make_map
from geoseg.mapping.plan import MapOptions
from geoseg.maps.map_results import open_all_maps
from geoseg.models.package import ModelPackage
from geoseg.recipes import pixel_forest
from geoseg.scene import Scene

RESULTS = Path(__file__).parent / "results" / "suggesting.json"
TILE_M, START, PATCH, WRONG = 320, 4, 16, 0.1
FOREST: dict[str, Any] = {"block": 32, "guard": 0, "folds": 2, "trees": 50}
"""Small blocks, since there are few labels; the figures of the folds are not used."""

Tile = tuple[int, int, int, int]
"""First row and column, rows and columns."""


def lay(scene: Scene, half: NDArray[np.bool_]) -> list[Tile]:
    """Whole tiles of the half that is learned from, counted from pixel (0, 0) as `geoseg suggest tiles` does."""
    width, height = pixel_size_m(scene.geobox())
    high, wide = round(TILE_M / height), round(TILE_M / width)
    rows, cols = half.shape
    places = [(row, col, high, wide) for row in range(0, rows - high + 1, high) for col in range(0, cols - wide + 1, wide)]
    return [tile for tile in places if half[slices(tile)].all()]


def slices(tile: Tile) -> tuple[slice, slice]:
    """Its rows and columns."""
    row, col, high, wide = tile
    return slice(row, row + high), slice(col, col + wide)


def start_tiles(codes: NDArray[Any], tiles: Sequence[Tile], generator: np.random.Generator) -> list[Tile]:
    """Random tiles, drawn again until each class has 32 pixels in two of them, as cross-validation needs."""
    classes = [code for code in np.unique(codes) if code >= 0]
    while True:
        chosen = [tiles[at] for at in generator.choice(len(tiles), START, replace=False)]
        if all(sum(int((codes[slices(tile)] == code).sum()) >= 32 for tile in chosen) >= 2 for code in classes):
            return chosen


class Person:
    """The label map of a task, asked for the labels of tiles; and what a forest learns from them."""

    def __init__(self, task: Task, data: Path) -> None:
        self.task, self.scene, self.truth = task, task.scene(data), data / task.truth
        with rasterio.open(self.truth) as file:
            self.codes, self.profile = file.read(1).astype(np.int16), file.profile
        self.learned, self.scored = halves(self.codes.shape, task.halves)

    def label(self, tiles: Sequence[Tile], out: Path) -> Path:
        """The labels of these tiles, and no others."""
        kept = np.full(self.codes.shape, NO_LABEL, np.uint8)
        for tile in tiles:
            here = self.codes[slices(tile)]
            kept[slices(tile)] = np.where(here >= 0, here, NO_LABEL)
        write_labels(out, kept, self.profile, self.task)
        return out

    def forest(self, tiles: Sequence[Tile], seed: int, folder: Path) -> ModelPackage:
        """What is learned from these tiles."""
        bands = {key: value for key, value in self.task.settings.items() if key == "bands"}
        settings = pixel_forest.Settings(seed=seed, classes=self.task.legend.classes, **FOREST, **bands)
        return pixel_forest.run(settings, [self.scene], [self.label(tiles, folder / "labels.tif")], folder / "model")

    def judged(self, tiles: Sequence[Tile], seed: int) -> float:
        """Mean IoU on the other half."""
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            package = self.forest(tiles, seed, folder)
            return round(score(package, self.scene, self.task, self.truth, self.scored, folder).mean_iou, 4)

    def suggested(self, start: Sequence[Tile], count: int, seed: int) -> tuple[list[Tile], list[Tile]]:
        """Tiles of the half by rank on the map of the forest of the first ones, and all that were offered."""
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            package = self.forest(start, seed, folder)
            make_map(self.scene, package, folder / "map", options=MapOptions(scores=True, polygons=False))
            tiles = measure_tiles(open_all_maps([folder / "map"]), tile_m=TILE_M, labels=[str(folder / "labels.tif")])
        whole = set(lay(self.scene, self.learned))
        inside = [at for at, window in enumerate(tiles.windows.tolist()) if tuple(window) in whole]
        mine = Tiles(**{one.name: getattr(tiles, one.name)[inside] for one in fields(Tiles)})
        windows = [(row, col, high, wide) for row, col, high, wide in mine.windows.tolist()]
        open_ones = np.flatnonzero(~mine.labelled & (mine.observed >= LEAST_OBSERVED))
        return [windows[at] for at in rank_tiles(mine, count).tiles], [windows[at] for at in open_ones]


def write_labels(out: Path, codes: NDArray[np.uint8], profile: dict[str, Any], task: Task) -> None:
    """A label raster that names its classes."""
    with rasterio.open(out, "w", **{**profile, "driver": "GTiff", "dtype": "uint8", "nodata": NO_LABEL}) as file:
        file.write(codes, 1)
        file.update_tags(**category_tags(task.legend))


def measure_task(name: str, data: Path, counts: Sequence[int], seeds: Sequence[int], draws: int) -> Iterator[dict[str, Any]]:
    """Mean IoU after N tiles of each kind, for each seed and draw."""
    person = Person(TASKS[name], data)
    for seed in seeds:
        generator = np.random.default_rng(seed)
        start = start_tiles(person.codes, lay(person.scene, person.learned), generator)
        ranked, left = person.suggested(start, max(counts), seed)
        orders = [[left[at] for at in generator.permutation(len(left))] for _ in range(draws)]
        row: dict[str, Any] = {"seed": seed, "offered": len(left), "start": person.judged(start, seed), "suggested": {}, "random": {}}
        for count in counts:
            row["suggested"][str(count)] = person.judged([*start, *ranked[:count]], seed)
            row["random"][str(count)] = [person.judged([*start, *order[:count]], seed) for order in orders]
        yield row


def wrong_squares(data: Path, seed: int, folder: Path) -> dict[str, Any]:
    """The flood, a tenth of its ground in squares of the other class; counted in pixels."""
    task = TASKS["flood, optical"]
    person, generator = Person(task, data), np.random.default_rng(seed)
    rows, cols = (side // PATCH for side in person.codes.shape)
    squares = generator.permutation(rows * cols)[: round(WRONG * rows * cols)]
    wrong = np.isin(np.arange(rows * cols).reshape(rows, cols), squares).repeat(PATCH, axis=0).repeat(PATCH, axis=1)
    wrong &= person.codes >= 0
    codes = np.where(wrong, 1 - person.codes, person.codes)
    write_labels(folder / "labels.tif", np.where(codes >= 0, codes, NO_LABEL).astype(np.uint8), person.profile, task)
    scored = score_by_folds([person.scene], [folder / "labels.tif"], folds=2, seed=seed)
    report = write_suspects(scored, folder / "out")
    frame = geopandas.read_file(report.files["gpkg"], layer=TABLE)
    transform = person.profile["transform"]
    listed = rasterize(frame.geometry, out_shape=wrong.shape, transform=transform).astype(bool) if len(frame) else np.zeros_like(wrong)
    tenth = frame.iloc[: max(1, len(frame) // 10)]
    first = rasterize(tenth.geometry, out_shape=wrong.shape, transform=transform).astype(bool)
    return _counted(wrong, listed, first, int((person.codes >= 0).sum()), report.facts["estimated_wrong_share"])


def wrong_polygons(data: Path, seed: int, folder: Path) -> dict[str, Any]:
    """The drawn polygons of Wales, a tenth of them with another class."""
    frame, generator = geopandas.read_file(data / "s2_wales" / "training_polygons.gpkg"), np.random.default_rng(seed)
    names = sorted(frame["class"].unique())
    wrong = np.zeros(len(frame), bool)
    wrong[generator.permutation(len(frame))[: round(WRONG * len(frame))]] = True
    for at in np.flatnonzero(wrong):
        frame.loc[at, "class"] = generator.choice([name for name in names if name != frame.loc[at, "class"]])
    frame.to_file(folder / "labels.gpkg")
    scored = score_by_folds([TASKS["wales, north to south"].scene(data)], [folder / "labels.gpkg"], seed=seed)
    report = write_suspects(scored, folder / "out")
    found = geopandas.read_file(report.files["gpkg"], layer=TABLE)
    listed, first = np.zeros(len(frame), bool), np.zeros(len(frame), bool)
    listed[found["row"].to_numpy(dtype=int) - 1] = True
    first[found["row"].to_numpy(dtype=int)[: int(wrong.sum())] - 1] = True
    return _counted(wrong, listed, first, len(frame), report.facts["estimated_wrong_share"])


def _counted(wrong: NDArray[np.bool_], listed: NDArray[np.bool_], first: NDArray[np.bool_], total: int, told: float) -> dict[str, Any]:
    hits = int((wrong & listed).sum())
    return {
        "of": total,
        "wrong": int(wrong.sum()),
        "listed": int(listed.sum()),
        "precision": round(hits / max(int(listed.sum()), 1), 4),
        "recall": round(hits / int(wrong.sum()), 4),
        "precision_of_first": round(int((wrong & first).sum()) / max(int(first.sum()), 1), 4),
        "estimated_wrong_share": round(told, 4),
    }


ERRORS = {"wales, drawn polygons": wrong_polygons, "flood, squares of pixels": wrong_squares}


def measure_errors(name: str, data: Path, seeds: Sequence[int]) -> Iterator[dict[str, Any]]:
    """What was listed of what was made wrong, for each seed."""
    for seed in seeds:
        with tempfile.TemporaryDirectory() as place:
            yield {"seed": seed, **ERRORS[name](data, seed, Path(place))}


def tables(found: dict[str, Any]) -> str:
    """Means over the seeds, with the least and the greatest."""
    lines = [
        "| task | tiles | suggested: mean IoU | random | suggested less mean random, seed by seed |",
        "| --- | ---: | --- | --- | --- |",
    ]
    for name, rows in found.get("tiles", {}).items():
        lines.append(f"| {name} | {START} at the start | {_spread([row['start'] for row in rows])} | the same | |")
        for count in rows[0]["suggested"]:
            ours, theirs = ([row[kind][count] for row in rows] for kind in ("suggested", "random"))
            gains = ", ".join(f"{one - statistics.mean(others):+.3f}" for one, others in zip(ours, theirs, strict=True))
            lines.append(f"| {name} | {count} more | {_spread(ours)} | {_spread([one for many in theirs for one in many])} | {gains} |")
    keys = ("precision", "recall", "precision_of_first", "estimated_wrong_share")
    lines += ["", f"| labels | {' | '.join(key.replace('_', ' ') for key in keys)} |", f"| --- |{' --- |' * len(keys)}"]
    lines += [f"| {name} | {' | '.join(_spread([row[key] for row in rows]) for key in keys)} |" for name, rows in found["labels"].items()]
    return "\n".join(lines)


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def main() -> None:
    """Label, learn, score, write down after each task."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("data", type=Path)
    words.add_argument("--only", nargs="+", default=["tiles", "labels"], choices=["tiles", "labels"])
    words.add_argument("--tasks", nargs="+", default=["flood, optical", "wales, north to south"], choices=list(TASKS))
    words.add_argument("--counts", nargs="+", type=int, default=[4, 8, 16])
    words.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    words.add_argument("--draws", type=int, default=3)
    given = words.parse_args()
    asked = [("labels", name) for name in ERRORS if "labels" in given.only] + [
        ("tiles", name) for name in given.tasks if "tiles" in given.only
    ]
    for kind, name in asked:
        errors = kind == "labels"
        rows = (
            measure_errors(name, given.data, given.seeds)
            if errors
            else measure_task(name, given.data, given.counts, given.seeds, given.draws)
        )
        for row in rows:
            print(name, json.dumps(row), flush=True)
            known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"tiles": {}, "labels": {}}
            others = [one for one in known[kind].get(name, []) if one["seed"] != row["seed"]]
            known[kind][name] = sorted([*others, row], key=lambda one: one["seed"])
            RESULTS.write_text(json.dumps(known | {"date": time.strftime("%Y-%m-%d")}, indent=2) + "\n")
    print(tables(json.loads(RESULTS.read_text())))


if __name__ == "__main__":
    main()
