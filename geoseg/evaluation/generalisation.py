"""Domain generalisation: what a network that has learned in one place, by one sensor, is worth in another that it never saw.

After the benchmark of CrossEarth-SAR (arXiv 2603.12008): rows are pairs of a source and a target, each source is learned once for each
seed, and a row says the mean IoU on its target. Where the target is ground that the source was learned on (another polarisation of the
same scene, say), only the blocks that the training held out count; a recipe that holds none out is refused there. A row whose files are
not at hand stays in the table and says so.
"""

from __future__ import annotations

import json
import logging
import shutil
import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from geoseg.confusion import Confusion
from geoseg.errors import GeosegError, LabelError, OutputError
from geoseg.evaluation.evaluate import evaluate
from geoseg.evaluation.generalisation_table import CROSSEARTH_SAR, Pair, Place, Table, missing_file
from geoseg.evaluation.package_maps import map_scenes
from geoseg.io.atomic import atomic
from geoseg.io.labels import Labels
from geoseg.io.names import safe_name
from geoseg.legend import Legend
from geoseg.maps.counting import strips
from geoseg.maps.map_results import open_all_maps
from geoseg.models.package import ModelPackage
from geoseg.scene import Scene
from geoseg.scenes.open_scene import open_scene
from geoseg.settings import Settings, parse

log = logging.getLogger(__name__)

NAMES = {"figures": "generalisation.json", "table": "generalisation.md"}
Progress = Callable[[str], None]
"""Told in words of each training and each row."""
State = Literal["run", "not run", "failed"]
NO_GAP = "none"
"""What rows without a gap name as theirs: something to compare with."""
_MODELS = "models"
_HELD_OUT = "test"


@dataclass(frozen=True)
class Row:
    """A pair, and what came of it."""

    pair: Pair
    state: State
    why: str = ""
    """Where it was not run or failed, one sentence."""
    mean_iou: tuple[float, ...] = ()
    """For each seed, 0…1."""
    iou: dict[str, tuple[float, ...]] = field(default_factory=dict)
    """By class, for each seed; NaN where neither truth nor map has it."""
    pixels: int = 0
    """Labelled pixels that were counted with the last seed."""
    held_out_only: bool = False
    """Whether the target is ground of the source, so that only what its training held out was counted."""


@dataclass(frozen=True)
class Generalisation:
    """All rows of a table."""

    table: Table
    rows: tuple[Row, ...]

    @property
    def run(self) -> tuple[Row, ...]:
        """Those with figures."""
        return tuple(row for row in self.rows if row.state == "run")

    @property
    def absent(self) -> tuple[str, ...]:
        """Published settings that are no rows of the table."""
        return tuple(name for name in CROSSEARTH_SAR if name not in {row.pair.name for row in self.rows})

    def averages(self) -> dict[str, tuple[float, ...]]:
        """Gap → mean over its rows that were run, each counting alike, for each seed; `all` is over all gaps but `none`, and comes last."""
        groups: dict[str, list[Row]] = {}
        for row in self.run:
            groups.setdefault(row.pair.gap_or_known() or "no gap named", []).append(row)
        groups["all"] = [row for row in self.run if row.pair.gap_or_known() != NO_GAP]
        return {
            gap: tuple(map(statistics.fmean, zip(*(row.mean_iou for row in rows), strict=True))) for gap, rows in groups.items() if rows
        }

    def facts(self) -> dict[str, Any]:
        """All of it as plain data; None where a class occurs nowhere."""
        return {
            "recipe": self.table.recipe,
            "settings": self.table.settings,
            "seeds": list(self.table.seeds),
            "rows": [
                {
                    **row.pair.model_dump(),
                    "gap": row.pair.gap_or_known(),
                    "state": row.state,
                    "why": row.why,
                    "mean_iou": list(row.mean_iou),
                    "iou": {name: [None if one != one else one for one in ious] for name, ious in row.iou.items()},
                    "labelled_pixels": row.pixels,
                    "held_out_only": row.held_out_only,
                }
                for row in self.rows
            ],
            "averages": {gap: list(means) for gap, means in self.averages().items()},
            "published_settings_without_data": list(self.absent),
        }


def generalise(table: Table, out: Path, progress: Progress | None = None) -> Generalisation:
    """Learn each source, judge each row, and write figures and table into the folder `out`.

    Packages stay in `out/models`; one that was learned from the same settings and files is not learned again, so that a benchmark that was
    stopped goes on. A row that fails says why and the others go on. InputError for settings that the recipe does not know, OutputError
    where `out` cannot be written.
    """
    _settings(table, table.seeds[0])
    try:
        (out / _MODELS).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{out} cannot be written ({error.strerror or error}); choose another folder") from error
    made = Generalisation(table, tuple(_row(table, pair, out / _MODELS, progress or log.info) for pair in table.pairs))
    texts = {"figures": json.dumps(made.facts(), indent=2, ensure_ascii=False) + "\n", "table": "\n".join(markdown(made)) + "\n"}
    for what, text in texts.items():
        with atomic(out / NAMES[what]) as part:
            part.write_text(text, encoding="utf-8")
    return made


def markdown(made: Generalisation) -> list[str]:
    """The lines of a table for people."""
    lines = ["| row | learned on | judged on | gap | mean IoU (least to greatest of the seeds) |", "| --- | --- | --- | --- | --- |"]
    for row in made.rows:
        said = _spread(row.mean_iou) if row.state == "run" else f"{row.state}: {row.why}"
        said += ", on what the training held out" if row.held_out_only else ""
        lines.append(f"| {row.pair.name} | {row.pair.source} | {row.pair.target} | {row.pair.gap_or_known() or '-'} | {said} |")
    lines += [f"| mean, {gap} | | | | {_spread(means)} |" for gap, means in made.averages().items()]
    seeds = f"{len(made.table.seeds)} seed{'s' if len(made.table.seeds) > 1 else ''}"
    lines += ["", f"{len(made.run)} of {len(made.rows)} rows were run, by {made.table.recipe}, {seeds}."]
    if made.absent:
        lines.append(f"Settings of CrossEarth-SAR that are no rows here, since their data are not at hand: {', '.join(made.absent)}.")
    return lines


def _spread(means: Sequence[float]) -> str:
    return f"{statistics.fmean(means):.3f} ({min(means):.3f} to {max(means):.3f})"


def _row(table: Table, pair: Pair, models: Path, progress: Progress) -> Row:
    """One row, whatever comes of it."""
    source, target = table.places[pair.source], table.places[pair.target]
    if absent := missing_file(source) or missing_file(target):
        return Row(pair, "not run", f"data absent, {absent} is not there")
    try:
        counted = []
        for seed in table.seeds:
            package = _learned(table, pair.source, seed, models, progress)
            progress(f"{pair.name}: judged with seed {seed}")
            counted.append(_judged(package, source, target))
    except GeosegError as error:
        log.warning("%s: %s", pair.name, error)
        return Row(pair, "failed", str(error))
    figures = [one.figures() for one, _ in counted]
    ious = {name: tuple(one[name]["iou"] for one in figures) for name in figures[0]}
    last, held_out = counted[-1]
    return Row(pair, "run", "", tuple(one.mean_iou for one, _ in counted), ious, last.total, held_out)


def _learned(table: Table, name: str, seed: int, models: Path, progress: Progress) -> ModelPackage:
    """The package of a source, learned now or before."""
    out, stated = (models / f"{safe_name(name)}_seed_{seed}{ending}" for ending in ("", ".json"))
    place = table.places[name]
    asked = {"recipe": table.recipe, "settings": {**table.settings, "seed": seed}, "source": name, **place.model_dump(mode="json")}
    text = json.dumps(asked, indent=2, ensure_ascii=False, default=str) + "\n"
    if out.exists():
        if stated.is_file() and stated.read_text(encoding="utf-8") == text:
            return ModelPackage.open(out)
        raise OutputError(f"{out} was learned from other settings or files than the table says now; choose another folder")
    progress(f"{name}: learned with seed {seed}")
    shutil.rmtree(out.with_name(f"{out.name}_training"), ignore_errors=True)  # of a training that was stopped
    stated.write_text(text, encoding="utf-8")
    made: ModelPackage = _recipe(table).run(_settings(table, seed), _scenes(place), list(place.labels), out)
    return made


def _recipe(table: Table) -> Any:
    """Its module; torch is loaded only where the recipe needs it."""
    return import_module(f"geoseg.recipes.{table.recipe}")


def _settings(table: Table, seed: int) -> Settings:
    kind: type[Settings] = _recipe(table).Settings
    return parse(kind, {**table.settings, "seed": seed}, source="settings")


def _judged(package: ModelPackage, source: Place, target: Place) -> tuple[Confusion, bool]:
    """Truth against map on a target, and whether only what the training held out was counted.

    LabelError where the target's labels lie on ground of the source, and none of that was held out.
    """
    with tempfile.TemporaryDirectory(prefix="geoseg-benchmark-") as folder:
        maps = map_scenes(package, _scenes(target), Path(folder))
        found = evaluate(maps, target.labels)
        held_out = found.pooled("parts").get(_HELD_OUT)
        if held_out is not None and held_out.total:
            return held_out, True
        if _on_same_ground(maps, source, target, found.legend):
            raise LabelError(
                f"the labels of {', '.join(target.labels)} lie on ground that was learned from, and none of it was held out; give labels "
                "of other ground, or take the recipe supervised, which holds blocks out"
            )
        return found.confusion, False


def _on_same_ground(maps: Sequence[Path], source: Place, target: Place, legend: Legend) -> bool:
    """Whether any pixel of the maps has both a label of the source and one of the target; strip by strip."""
    learned, judged = ([Labels(name, legend, None) for name in place.labels] for place in (source, target))
    for result, own in zip(open_all_maps(maps), judged * (len(maps) // len(judged)), strict=True):
        grid = result.classes.geobox
        for strip in strips(grid):
            _, labelled = own.read(grid[strip])
            if labelled.any() and any((one.read(grid[strip])[1] & labelled).any() for one in learned):
                return True
    return False


def _scenes(place: Place) -> list[Scene]:
    return [open_scene(name, **place.opening) for name in place.scenes]
