"""`geoseg train`: scenes and labels to a model package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import rich_click as click

from geoseg.commands._learning import RECIPES, Ground, assignments, learn_with
from geoseg.commands._words import scene_options


@click.command(epilog="Example: `geoseg train scene.tif --labels fields.gpkg -s epochs=40 -o my_model`")
@click.argument("sources", metavar="SCENE...", nargs=-1, required=True)
@click.option("--labels", multiple=True, help="Polygons with a class column, or a label raster; one for each scene, or one.")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="The new model package: a folder, or a .zip.")
@scene_options
@click.option("--recipe", default="supervised", type=click.Choice(list(RECIPES)), help="How to learn.")
@click.option("--settings", "settings_file", help="YAML file with settings of the recipe.")
@click.option("-s", "--set", "assigned", multiple=True, metavar="KEY=VALUE", help="One setting, such as -s epochs=20; YAML on the right.")
@click.option("--shrink-labels-m", type=float, help="Take so many metres from the edges of label polygons, where pixels are mixed.")
@click.option("--series", is_flag=True, help="All SCENE arguments are dates of one series; the setting `calendar` names its periods.")
@click.option("--dates", help="The days of a series in the order of its scenes, where they do not say them.")
@click.option("--resume", is_flag=True, help="Go on with a training that was stopped.")
def train(
    sources: tuple[str, ...],
    labels: tuple[str, ...],
    out: Path,
    recipe: str,
    settings_file: str | None,
    assigned: tuple[str, ...],
    shrink_labels_m: float | None,
    series: bool,
    dates: str | None,
    resume: bool,
    **opening: Any,
) -> None:
    """Train a model package from scenes and labels.

    A network (needs the extra `train`), or with `--recipe pixel_forest` a random forest on single pixels (the extra `forest`),
    which takes a minute and is what a network has to beat; with `--recipe masked_pretraining` an encoder, from scenes without labels.
    `geoseg learn` takes all of this from one file.
    """
    from geoseg.settings import read_yaml

    settings = (read_yaml(settings_file) or {}) if settings_file else {}
    settings |= assignments(assigned)
    if shrink_labels_m is not None:
        settings["shrink_labels_m"] = shrink_labels_m
    learn_with(recipe, settings, settings_file or "--set", Ground(sources, labels, opening, series, dates), out, resume=resume)
