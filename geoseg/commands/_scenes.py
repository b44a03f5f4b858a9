"""What `geoseg predict` shows of many scenes: how far they are, a table of them, and what went wrong."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

if TYPE_CHECKING:
    from geoseg.mapping.many import SceneResult, Watch

_MOST_ROWS = 50
"""Of more scenes only the failed ones have a row in the terminal."""
_MOST_CLASSES = 6
_PLAIN_WIDTH = 120
"""Columns where the output is no terminal."""


@contextmanager
def scenes_progress(*, as_json: bool) -> Iterator[Watch]:
    """Who watches: bars on a terminal, JSON lines for programs, else a line for each scene that is done."""
    if as_json:
        yield _JsonLines()
    elif sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn(), TextColumn("left"))
        with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
            yield _Bars(bars)
    else:
        yield _Lines()


class _JsonLines:
    def under_way(self, source: str, name: str, done: int, total: int) -> None:
        _say({"event": "progress", "scene": name, "done": done, "total": total})

    def ended(self, result: SceneResult, count: int, total: int) -> None:
        _say({"event": "result", "count": count, "total": total} | asdict(result))


class _Lines:
    def under_way(self, source: str, name: str, done: int, total: int) -> None:
        """A log file needs no more than what `ended` says."""

    def ended(self, result: SceneResult, count: int, total: int) -> None:
        told = (
            f" in {result.seconds:.1f} s"
            if result.state == "finished"
            else ", since its map is there and unchanged" * (result.state == "skipped")
        )
        click.echo(f"{count} of {total}: {result.name} {result.state}{told}")


class _Bars:
    """One bar for all scenes, and one for each that is under way."""

    def __init__(self, bars: Any) -> None:
        self._bars = bars
        self._all = bars.add_task("scenes", total=None)
        self._each: dict[str, Any] = {}

    def under_way(self, source: str, name: str, done: int, total: int) -> None:
        if source not in self._each:
            self._each[source] = self._bars.add_task(name)
        self._bars.update(self._each[source], completed=done, total=total)

    def ended(self, result: SceneResult, count: int, total: int) -> None:
        if result.source in self._each:
            self._bars.remove_task(self._each.pop(result.source))
        self._bars.update(self._all, completed=count, total=total, description=f"{count} of {total} scenes")


def print_scenes(results: Sequence[SceneResult], table: Path, *, as_json: bool = False) -> None:
    """A row for each scene, the warnings of all, and where the table lies; then, on standard error, why each failed one failed."""
    if not as_json:
        _print_table(results, table)
    for result in results:
        if result.error is not None:
            click.echo(f"geoseg: {result.source}: {result.error}", err=True)


def _print_table(results: Sequence[SceneResult], path: Path) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else _PLAIN_WIDTH)
    warned: dict[str, list[str]] = defaultdict(list)
    for result in results:
        for warning in result.warnings:
            warned[warning].append(result.name)
    for warning, names in warned.items():
        which = f" ({len(names)} scenes)" if len(names) > 1 else f" ({names[0]})"
        console.print(f"warning: {warning}{which}", style="yellow", markup=False)
    states = [result.state for result in results]
    shown = results if len(results) <= _MOST_ROWS else [result for result in results if result.state == "failed"]
    classes = _largest_classes(results)
    if shown:
        table = Table("scene", "", "observed", "megapixels", box=None)
        for _, name in classes:
            table.add_column(Text(f"{name} km²"), justify="right")
        for result in shown:
            table.add_row(Text(result.name), result.state, *_figures(result), *_areas(result, classes))
        console.print(table)
    counts = ", ".join(f"{states.count(state)} {state}" for state in ("finished", "skipped", "failed") if state in states)
    console.print(f"{len(results)} scenes: {counts or 'nothing to do'}", markup=False)
    if results:
        console.print(f"  {'table':18} {path}", markup=False)


def _figures(result: SceneResult) -> tuple[str, str]:
    if not result.summary:
        return "", ""
    return f"{100 * result.summary['observed_share']:.1f} %", f"{result.summary['rows'] * result.summary['cols'] / 1e6:.2f}"


def _areas(result: SceneResult, classes: Sequence[tuple[str, str]]) -> list[str]:
    areas = {(output, one["name"]): one["area_km2"] for output, rows in result.summary.get("classes", {}).items() for one in rows}
    return [f"{areas[key]:.3f}" if key in areas else "" for key in classes]


def _largest_classes(results: Sequence[SceneResult]) -> list[tuple[str, str]]:
    """(output, class) of the classes with the most ground in all scenes together, in the legend's order."""
    sums: dict[tuple[str, str], float] = defaultdict(float)
    for result in results:
        for output, rows in result.summary.get("classes", {}).items():
            for one in rows:
                sums[output, one["name"]] += one["area_km2"]
    largest = sorted(sums, key=lambda key: -sums[key])[:_MOST_CLASSES]
    return [key for key in sums if key in largest]


def _say(facts: dict[str, Any]) -> None:
    click.echo(json.dumps(facts))  # ASCII: a pipe on Windows may know little else
