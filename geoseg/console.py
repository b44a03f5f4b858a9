"""What the command line shows: tables and a progress bar for people, one JSON object a line for programs."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from pathlib import Path

    from geoseg.evaluation.area_report import AreaReport
    from geoseg.evaluation.design import SampleDesign
    from geoseg.evaluation.evaluate import Evaluation
    from geoseg.evaluation.explain import Explanation
    from geoseg.mapping.embed import Embedding
    from geoseg.mapping.make_map import Prediction
    from geoseg.mapping.plan import MapPlan
    from geoseg.maps.difference import Difference
    from geoseg.maps.mosaic import Mosaic
    from geoseg.recipes._progress import EpochDone
    from geoseg.stacks.composite import Composite
    from geoseg.stacks.despeckle import Despeckled

_PLAIN_WIDTH = 120
"""Columns where the output is no terminal, such as a log file."""


def print_scene(facts: Mapping[str, Any], *, as_json: bool = False) -> None:
    """What `describe_scene` found, and which models fit."""
    if as_json:
        _print_json(facts)
        return
    console, grid = _console(), facts["grid"]
    console.print(f"{facts['name']}: {facts['sensor_title']}", style="bold", markup=False)
    acquired = (facts["time"] or "at an unknown time") + (f", {facts['orbit_pass']} pass" if facts["orbit_pass"] else "")
    console.print(f"{grid['rows']} rows x {grid['cols']} columns, {facts['crs']}, acquired {acquired}", markup=False)
    table = Table("role", "band", "pixel", "valid", "values (least, 1 %, median, 99 %, most)", "unit", "known by", box=None)
    for band in facts["bands"]:
        numbers = band["percentiles_0_1_50_99_100"]
        values = "none" if numbers is None else "  ".join(f"{value:.4g}" for value in numbers)
        size = " x ".join(f"{side:.6g}" for side in dict.fromkeys(band["resolution"]))
        cells = (band["role"], band["name"], size, f"{100 * band['valid_share']:.1f} %", values, band["unit"], band["because"])
        table.add_row(*(Text(cell) for cell in cells))
    console.print(table)
    for model in facts["models"]:
        console.print(
            f"{'fits' if model['fits'] else 'does not fit'}: {model['model']}", style="green" if model["fits"] else "red", markup=False
        )
        for said in model["said"]:
            console.print(f"  {said}", markup=False)
    _print_warnings(console, facts["warnings"])


def print_plan(plan: MapPlan, *, as_json: bool = False) -> None:
    """What `--dry-run` says: tiles, memory, disk and time, for which the network runs on one tile."""
    from geoseg.mapping.network import open_network

    runtime = open_network(plan)
    facts = {
        "event": "plan",
        "scene": plan.scene.name,
        "rows": plan.geobox.shape[0],
        "cols": plan.geobox.shape[1],
        "tiles": len(plan.tiles),
        "tile": plan.tiles.tile,
        "overlap": plan.tiles.overlap,
        "runtime": plan.options.runtime,
        "precision": plan.options.precision,
        "threads": plan.workers,
        "batch": plan.batch,
        "memory_mb": round(plan.memory_mb()),
        "disk_mb": round(plan.disk_mb(), 1),
        "seconds": round(plan.seconds(runtime), 1),
        "warnings": list(plan.warnings),
    }
    if as_json:
        _print_json(facts)
        return
    console = _console()
    console.print(
        f"{facts['scene']}: {facts['rows']} x {facts['cols']} pixels in {facts['tiles']} tiles of {facts['tile']} "
        f"(overlap {facts['overlap']}); about {facts['memory_mb']} MB of memory, {facts['disk_mb']} MB of disk, {facts['seconds']} s",
        markup=False,
    )
    where = "threads with a call of their own" if plan.options.device == "cpu" else "call on the GPU at a time"
    console.print(f"  {facts['runtime']} {facts['precision']}, {plan.workers} {where}, tiles in a call: {plan.batch}", markup=False)
    _print_warnings(console, facts["warnings"])


def print_prediction(prediction: Prediction, *, as_json: bool = False) -> None:
    """What a map says in sum, and where its files lie."""
    if as_json:
        files = {what: str(path) for what, path in prediction.files.items()}
        _print_json({"event": "result", "files": files, "summary": prediction.summary, "warnings": list(prediction.warnings)})
        return
    console, summary = _console(), prediction.summary
    _print_warnings(console, prediction.warnings)
    for output, classes in summary["classes"].items():
        table = Table(output, "km²", "%", box=None)
        for one in classes:
            table.add_row(Text(one["name"]), f"{one['area_km2']:.3f}", f"{one['percent']:.2f}")
        console.print(table)
    for one in summary["buildings"]:
        left = one["count"] - one["squared"]
        console.print(f"{one['output']}: {one['count']} buildings, {one['squared']} squared and {left} left as traced", markup=False)
        console.print(f"  {one['touching']}", markup=False)
    observed = f"observed: {100 * summary['observed_share']:.1f} % of the ground asked for"
    others = ", ".join(f"{name} {area:.2f} km²" for name, area in summary["reasons_km2"].items() if name != "observed")
    console.print(observed + (f" ({others})" if others else ""), markup=False)
    if summary["held_out"]:
        parts = ", ".join(f"{part}: {facts['blocks']} blocks, {facts['km2']:.1f} km²" for part, facts in summary["held_out"].items())
        console.print(f"held out from the model's training and outlined in the project: {parts}", markup=False)
    megapixels = summary["rows"] * summary["cols"] / 1e6
    console.print(
        f"{megapixels:.2f} megapixels in {summary['seconds']:.1f} s ({summary['megapixels_per_second']:.2f} a second)", markup=False
    )
    for what, path in prediction.files.items():
        console.print(f"  {what:18} {path}", markup=False)


def print_composite(made: Composite, *, as_json: bool = False) -> None:
    """What a composite says in sum, and where its files lie."""
    summary = made.summary
    if as_json:
        files = {what: str(path) for what, path in made.files.items()}
        _print_json({"event": "result", "period": made.period.name, "files": files, "summary": summary, "warnings": list(made.warnings)})
        return
    console = _console()
    _print_warnings(console, made.warnings)
    console.print(
        f"{made.period.name}: {summary['scenes']} scenes, {100 * summary['observed_share']:.1f} % of {summary['rows']} x {summary['cols']} "
        f"pixels seen clear, {summary['observations_mean']:.1f} times on average",
        markup=False,
    )
    for what, path in made.files.items():
        console.print(f"  {what:18} {path}", markup=False)


def print_despeckled(made: Despeckled, *, as_json: bool = False) -> None:
    """How a scene was filtered, what became of its mean, and where its files lie."""
    summary = made.summary
    if as_json:
        files = {what: str(path) for what, path in made.files.items()}
        _print_json({"event": "result", "name": made.name, "files": files, "summary": summary, "warnings": list(made.warnings)})
        return
    console = _console()
    _print_warnings(console, made.warnings)
    dates = f", {summary['dates_mean']:.1f} dates to a pixel on average" if "dates_mean" in summary else ""
    console.print(f"{made.name}: {summary['rows']} x {summary['cols']} pixels, window of {summary['size']}{dates}", markup=False)
    for band in summary["bands"]:
        means = f"mean power {band['mean_before']:.4g} before and {band['mean_after']:.4g} after"
        console.print(f"  {band['role']}: {100 * band['valid_share']:.1f} % valid, {means}", markup=False)
    for what, path in made.files.items():
        console.print(f"  {what:18} {path}", markup=False)


def print_difference(made: Difference, *, as_json: bool = False) -> None:
    """The matrix of a comparison, what was not compared, and where the files lie."""
    if as_json:
        files = {what: str(path) for what, path in made.files.items()}
        _print_json({"event": "result", "files": files, "summary": made.summary, "warnings": list(made.warnings)})
        return
    console, sums = _console(), made.transitions
    _print_warnings(console, made.warnings)
    unit, size = ("km²", 1e6) if sums.common_m2 >= 1e6 else ("ha", 1e4)
    table = Table(f"from, to ({unit})", box=None)
    for name in sums.classes.names:
        table.add_column(Text(name), justify="right")
    for name, row in zip(sums.classes.names, sums.areas_m2.tolist(), strict=True):
        table.add_row(Text(name), *(f"{area / size:.3f}" for area in row))
    console.print(table)
    others = [("not observed in one map or both", sum(sums.unobserved_m2.values())), ("excluded", sums.excluded_m2)]
    told = ", ".join(f"{what}: {area / size:.3f} {unit}" for what, area in others)
    console.print(f"changed: {sums.changed_m2 / size:.3f} of {sums.compared_m2 / size:.3f} {unit} compared; {told}", markup=False)
    for what, path in made.files.items():
        console.print(f"  {what:18} {path}", markup=False)


def print_evaluation(made: Evaluation, files: Mapping[str, Path], *, as_json: bool = False) -> None:
    """The figures of each class, what to beware of, and where the report lies."""
    facts = made.facts()
    if as_json:
        _print_json({"event": "result", "files": {what: str(path) for what, path in files.items()}, "summary": facts})
        return
    console = _console()
    _print_warnings(console, made.warnings)
    table = Table("class", "IoU", "F1", "precision", "recall", "labelled pixels", box=None)
    for name, row in facts["per_class"].items():
        cells = ("-" if row[what] is None else f"{row[what]:.3f}" for what in ("iou", "f1", "precision", "recall"))
        table.add_row(Text(name), *cells, f"{row['pixels']:.0f}")
    console.print(table)
    for name, one in [("all", facts), *facts["parts"].items(), *facts["regions"].items()]:
        mean = "-" if one["mean_iou"] is None else f"{one['mean_iou']:.3f}"
        console.print(
            f"{name}: {100 * (one['accuracy'] or 0):.1f} % of {one['pixels']} labelled pixels right, mean IoU {mean}", markup=False
        )
    if facts["boundaries"] is not None:
        edges = ", ".join(f"{name} {row['iou']:.3f}" for name, row in facts["boundaries"]["per_class"].items() if row["iou"] is not None)
        console.print(f"Boundary IoU within {facts['boundaries']['distance_m']:g} m: {edges}", markup=False)
    for name, one in facts["objects"].items():
        f1 = "-" if one["f1"] is None else f"{one['f1']:.3f}"
        counts = f"{one['matched']} of {one['labelled']} found, {one['mapped']} on the map"
        console.print(f"objects of {name}: F1 {f1} ({counts})", markup=False)
    if facts["calibration"] is not None:
        console.print(f"expected calibration error of the scores: {facts['calibration']['expected_calibration_error']:.3f}", markup=False)
    for what, path in files.items():
        console.print(f"  {what:18} {path}", markup=False)


def print_explanation(made: Explanation, *, as_json: bool = False) -> None:
    """What each input contributed to each class, and where the files lie."""
    if as_json:
        files = {what: str(path) for what, path in made.files.items()}
        _print_json({"event": "result", "files": files, "summary": {"inputs": list(made.rows)}, "warnings": list(made.warnings)})
        return
    console = _console()
    _print_warnings(console, made.warnings)
    classes = list(dict.fromkeys(row["class"] for row in made.rows))
    table = Table("without", box=None)
    for name in classes:
        table.add_column(Text(name), justify="right")
    for one in dict.fromkeys(row["input"] for row in made.rows):
        found = {row["class"]: row for row in made.rows if row["input"] == one}
        cells = (f"{found[name]['score_loss']:+.3f} ({100 * found[name]['changed_share']:.1f} %)" for name in classes)
        table.add_row(Text(one), *cells)
    console.print("mean loss of the class's score (and share of its pixels that become another class)")
    console.print(table)
    for what, path in made.files.items():
        console.print(f"  {what:18} {path}", markup=False)


def print_mosaic(made: Mosaic, *, as_json: bool = False) -> None:
    """What a mosaic says in sum, what each map gave to it, and where its files lie."""
    summary = made.summary
    if as_json:
        files = {what: str(path) for what, path in made.files.items()}
        _print_json({"event": "result", "files": files, "summary": summary, "warnings": list(made.warnings)})
        return
    console, overlap = _console(), summary["overlap"]
    _print_warnings(console, made.warnings)
    for title, column, rows in (("classes", "area_km2", summary["classes"]["classes"]), ("map", "gave_km2", summary["maps"])):
        table = Table(title, "km²", box=None)
        for one in rows:
            table.add_row(Text(one["name"]), f"{one[column]:.3f}")
        console.print(table)
    if overlap["agreement"] is None:
        console.print("no ground is covered by more than one map", markup=False)
    else:
        agreed = f"they agree on {100 * overlap['agreement']:.1f} % of it"
        console.print(f"{overlap['km2']:.3f} km² are covered by several maps; {agreed}, elsewhere: {_rule(summary['rule'])}", markup=False)
    for one in overlap["disagreements"][:3]:
        console.print(f"  {' or '.join(one['classes'])}: {one['km2']:.3f} km²", markup=False)
    console.print(f"{summary['rows']} x {summary['cols']} pixels in {summary['seconds']:.1f} s", markup=False)
    for what, path in made.files.items():
        console.print(f"  {what:18} {path}", markup=False)


def print_sample_design(made: SampleDesign, *, as_json: bool = False) -> None:
    """How many points were drawn in which stratum, and how far they will take."""
    strata, error = made.population.strata, made.expected_error
    spread = (made.expected * (1 - made.expected) / (made.points - 1).clip(1)) ** 0.5
    columns = (strata.names, strata.pixels.tolist(), strata.area_m2.tolist(), made.expected.tolist(), made.points.tolist(), spread.tolist())
    if as_json:
        keys = ("name", "pixels", "area_m2", "expected_accuracy", "points", "standard_error")
        rows = [dict(zip(keys, row, strict=True)) for row in zip(*columns, strict=True)]
        summary = {"points": int(made.points.sum()), "standard_error": error, "asked_for": made.wish.standard_error, "strata": rows}
        _print_json({"event": "result", "files": {"points": str(made.path)}, "summary": summary})
        return
    console = _console()
    table = Table("stratum", "km²", "%", "expected", "points", "±", box=None)
    for name, _, area, expected, points, deviation in zip(*columns, strict=True):
        share = f"{100 * area / float(strata.area_m2.sum()):.2f}"
        table.add_row(Text(name), f"{area / 1e6:.3f}", share, f"{100 * expected:.0f} %", str(points), f"{196 * deviation:.1f} %")
    console.print(table)
    asked = f" ({made.wish.standard_error:g} was asked for)" if made.wish.standard_error is not None else ""
    console.print(f"{made.points.sum()} points; if the map is as good as expected, the interval of overall accuracy will be", markup=False)
    console.print(f"± {196 * error:.1f} %, a standard error of {error:.3g}{asked}; the column ± is for each user's accuracy", markup=False)
    console.print(f"  {'points':18} {made.path}", markup=False)


def print_area_report(report: AreaReport, out: Path | None, *, as_json: bool = False) -> None:
    """Areas and accuracies with half their 95 % intervals, what to beware of, and where the report lies."""
    facts = report.facts()
    if as_json:
        _print_json({"event": "result", "files": {} if out is None else {"report": str(out)}, "summary": facts})
        return
    console = _console()
    _print_warnings(console, facts["warnings"])
    unit, size = ("km²", 1.0) if facts["total_km2"] >= 1 else ("ha", 0.01)
    table = Table("class", f"mapped ({unit})", f"area ± 95 % ({unit})", "user's accuracy (%)", "producer's accuracy (%)", "n", box=None)
    for one in facts["classes"]:
        mapped = "" if one["mapped_km2"] is None else f"{one['mapped_km2'] / size:.3f}"
        area = _plus_minus(one["area_km2"], 1 / size, 3)
        accuracies = (_plus_minus(one[key], 100, 1) for key in ("users_accuracy", "producers_accuracy"))
        table.add_row(Text(one["name"]), mapped, area, *accuracies, f"{one['points_mapped']} mapped, {one['points_reference']} found")
    console.print(table)
    overall = _plus_minus(facts["overall_accuracy"], 100, 1)
    console.print(f"overall accuracy: {overall} %, from {facts['points']} labelled points", markup=False)
    dates = f"; reference dates {' to '.join(facts['dates'])}" if facts["dates"] else ""
    console.print(f"{facts['method']}{dates}", markup=False)
    for one in facts["classes"]:
        for what, why in one["unknown"].items():
            console.print(f"  ?: {what.replace('_', ' ')} of {one['name']} is not known, or not how well: {why}", markup=False)
    if out is not None:
        console.print(f"  {'report':18} {out}", markup=False)


def _plus_minus(told: Mapping[str, float | None], scale: float, digits: int) -> str:
    """An estimate and half of its interval; ? stands for what is not known."""
    value, half = (told[key] for key in ("value", "half_width"))
    return " ± ".join("?" if number is None else f"{number * scale:.{digits}f}" for number in (value, half))


def _rule(rule: str) -> str:
    return {"score": "the highest mean score counts", "newest": "the newest map counts", "first": "the first map counts"}[rule]


def print_embedding(made: Embedding, *, as_json: bool = False) -> None:
    """What the vectors are, and where their files lie."""
    files, facts = {what: str(path) for what, path in made.files.items()}, made.summary
    if as_json:
        _print_json({"event": "result", "files": files, "summary": facts, "warnings": list(made.warnings)})
        return
    console = _console()
    _print_warnings(console, made.warnings)
    console.print(
        f"{facts['rows']} rows x {facts['cols']} columns of {facts['width']} numbers, each for {facts['step']} x {facts['step']} pixels; "
        f"{100 * facts['observed_share']:.1f} % observed, {facts['megapixels_per_second']:.2f} megapixels of the scene per second",
        markup=False,
    )
    for what, path in files.items():
        console.print(f"  {what:18} {path}", markup=False)


def print_epoch(done: EpochDone) -> None:
    """A line on the error stream for each epoch of a training; the best so far is bold on a terminal."""
    console = Console(stderr=True, highlight=False, soft_wrap=True, width=None if sys.stderr.isatty() else _PLAIN_WIDTH)
    left = f"{done.seconds_left / 60:.0f} min" if done.seconds_left >= 90 else f"{done.seconds_left:.0f} s"
    line = f"epoch {done.epoch:>3} of {done.epochs}  loss {done.loss:.4f}"
    if math.isnan(done.best):  # it learns without labels
        console.print(f"{line}, {left} left", markup=False)
        return
    line = f"{line}  validation mean IoU {done.mean_iou:.4f}"
    best = "the best so far" if done.best_epoch == done.epoch else f"best {done.best:.4f} in epoch {done.best_epoch}"
    console.print(f"{line}  {best}, at most {left} left", style="bold" if done.best_epoch == done.epoch else None, markup=False)


@contextmanager
def progress_bar(title: str, *, as_json: bool, pixels: bool = False) -> Iterator[Callable[[int, int], None]]:
    """A function to call with what is finished and all of it; a bar on a terminal, JSON lines for programs, else silent.

    `pixels` says that pixels are counted: the bar then tells megapixels, too.
    """
    if as_json:

        def say(done: int, total: int) -> None:
            _print_json({"event": "progress", "scene": title, "done": done, "total": total})

        yield say
    elif sys.stderr.isatty():
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

        share = TextColumn("{task.fields[megapixels]}") if pixels else TaskProgressColumn()
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            share,
            TimeRemainingColumn(elapsed_when_finished=True),
            TextColumn("left"),
        )
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(title, megapixels="")
            yield lambda done, total: bar.update(
                task, completed=done, total=total, megapixels=f"{done / 1e6:.1f} of {total / 1e6:.1f} megapixels"
            )
    else:
        yield lambda done, total: None


def _console() -> Console:
    """Wide enough in a log file; never colours what is not a terminal."""
    return Console(highlight=False, soft_wrap=True) if sys.stdout.isatty() else Console(highlight=False, width=_PLAIN_WIDTH, soft_wrap=True)


def _print_json(facts: Mapping[str, Any]) -> None:
    print(json.dumps(facts), flush=True)  # ASCII: a pipe on Windows may know little else


def _print_warnings(console: Console, warnings: Any) -> None:
    for warning in warnings:
        console.print(f"warning: {warning}", style="yellow", markup=False)
