"""`geoseg train`: scenes and labels to a model package."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from geoseg.commands._words import open_source, scene_options
from geoseg.errors import InputError

if TYPE_CHECKING:
    from geoseg.preprocess.calendars import Calendar
    from geoseg.scene import Scene


@click.command()
@click.argument("sources", metavar="SCENE...", nargs=-1, required=True)
@click.option("--labels", multiple=True, required=True, help="Polygons with a class column, or a label raster; one for each scene, or one.")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="The new model package: a folder, or a .zip.")
@scene_options
@click.option("--settings", "settings_file", help="YAML file with settings of the recipe.")
@click.option("-s", "--set", "assigned", multiple=True, metavar="KEY=VALUE", help="One setting, such as -s epochs=20; YAML on the right.")
@click.option("--series", is_flag=True, help="All SCENE arguments are dates of one series; the setting `calendar` names its periods.")
@click.option("--dates", help="The days of a series in the order of its scenes, where they do not say them.")
@click.option("--resume", is_flag=True, help="Go on with a training that was stopped.")
def train(
    sources: tuple[str, ...],
    labels: tuple[str, ...],
    out: Path,
    settings_file: str | None,
    assigned: tuple[str, ...],
    series: bool,
    dates: str | None,
    resume: bool,
    **opening: Any,
) -> None:
    """Train a model package from scenes and labels (needs the extra `train`)."""
    from geoseg.errors import require
    from geoseg.settings import parse, read_yaml

    for module in ("torch", "lightning", "segmentation_models_pytorch"):
        require(module, extra="train")
    from geoseg.recipes.supervised import Settings, run

    settings = (read_yaml(settings_file) or {}) if settings_file else {}
    settings |= dict(_assignment(text) for text in assigned)
    recipe = parse(Settings, settings, source=settings_file or "--set")
    scenes = [open_source(source, opening) for source in sources]
    if series:
        scenes = [_series(scenes, recipe.calendar, dates)]
    elif recipe.calendar is not None or dates is not None:
        raise InputError("a calendar or --dates was given without --series; add it if the scenes are dates of one series")
    package = run(
        recipe,
        scenes,
        labels,
        out,
        resume=resume,
        progress=sys.stderr.isatty(),
    )
    for figure in package.figures:
        click.echo(f"{figure.name}: {figure.value:.4g} (on {figure.on}; truth: {figure.by})")
    click.echo(f"the model package is in {package.path}; use it with: geoseg predict SCENE --model {package.path} -o OUT")


def _series(scenes: list[Scene], calendar: Calendar | None, dates: str | None) -> Scene:
    from geoseg.stacks.periods import with_dates
    from geoseg.stacks.series import open_series

    if calendar is None:
        raise InputError("--series needs the periods of the series; name them in the settings, such as -s 'calendar={periods: [4, 5, 6]}'")
    return open_series(with_dates(scenes, dates.split(",") if dates else None), calendar)


def _assignment(text: str) -> tuple[str, Any]:
    import yaml

    key, sign, value = text.partition("=")
    if not sign:
        raise InputError(f"--set {text!r} has no value; write it as KEY=VALUE, such as epochs=20")
    return key.strip(), yaml.safe_load(value)
