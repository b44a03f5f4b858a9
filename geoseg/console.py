"""What the command line shows: tables and a progress bar for people, one JSON object a line for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from geoseg.mapping.make_map import Prediction
    from geoseg.mapping.plan import MapPlan

_PLAIN_WIDTH = 120
"""Columns where the output is no terminal, such as a log file."""


def print_scene(facts: Mapping[str, Any], *, as_json: bool = False) -> None:
    """What `describe_scene` found, and which models fit."""
    if as_json:
        _print_json(facts)
        return
    console, grid = _console(), facts["grid"]
    console.print(f"{facts['name']}: {facts['sensor_title']}", style="bold", markup=False)
    console.print(
        f"{grid['rows']} rows x {grid['cols']} columns, {facts['crs']}, acquired {facts['time'] or 'at an unknown time'}", markup=False
    )
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
    from geoseg.mapping.runtimes import open_runtime

    runtime = open_runtime(plan.package, plan.options.runtime, threads=plan.options.threads)
    facts = {
        "scene": plan.scene.name,
        "rows": plan.geobox.shape[0],
        "cols": plan.geobox.shape[1],
        "tiles": len(plan.tiles),
        "tile": plan.tiles.tile,
        "overlap": plan.tiles.overlap,
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


@contextmanager
def progress_bar(title: str, *, as_json: bool) -> Iterator[Callable[[int, int], None]]:
    """A function to call with the finished and all rows; a bar on a terminal, JSON lines for programs, else silent."""
    if as_json:

        def say(done: int, total: int) -> None:
            _print_json({"event": "progress", "scene": title, "done": done, "total": total})

        yield say
    elif sys.stderr.isatty():
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(title)
            yield lambda done, total: bar.update(task, completed=done, total=total)
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
