"""What `train` and `learn` have in common: which recipes there are, and from words to a model package."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from geoseg.commands._words import open_source
from geoseg.errors import InputError

if TYPE_CHECKING:
    from geoseg.preprocess.calendars import Calendar
    from geoseg.scene import Scene


@dataclass(frozen=True)
class Recipe:
    """A way of learning."""

    needs: tuple[str, ...]
    """Modules beyond geoseg's core."""
    extra: str
    """The extra of geoseg that brings them."""
    stops: bool
    """Whether it can be taken up where it stopped, and tells of its progress."""
    does: str
    """One line for people."""
    labelled: bool = True
    """Whether it learns from labels, and makes a model package; else from scenes alone, and makes an encoder."""


RECIPES = {
    "supervised": Recipe(("torch", "lightning", "segmentation_models_pytorch"), "train", True, "a network from labelled scenes"),
    "pixel_forest": Recipe(("sklearn", "onnx"), "forest", False, "a random forest on single pixels: a minute, few labels, no shapes"),
    "probe": Recipe(("sklearn", "onnx"), "forest", False, "a linear or nearest-neighbour classifier of embeddings: seconds, few labels"),
    "masked_pretraining": Recipe(
        ("torch", "lightning", "timm"), "train", True, "an encoder from scenes without labels, with which `supervised` can start", False
    ),
    "distillation": Recipe(
        ("torch", "lightning", "timm"), "train", True, "a small encoder that takes over what a large one knows, without labels", False
    ),
}
"""Name → what it is; each is a module of that name in `geoseg/recipes` with `Settings` and `run`."""


@dataclass(frozen=True)
class Ground:
    """Scenes and labels as they were given."""

    sources: Sequence[str]
    labels: Sequence[str]
    opening: Mapping[str, Any]
    """Arguments of `open_scene`."""
    series: bool = False
    dates: str | None = None


def learn_with(name: str, settings: Mapping[str, Any], said_in: str, ground: Ground, out: str | Path, *, resume: bool) -> None:
    """Learn, write the package, and say how good it is and where it lies."""
    from geoseg.errors import require
    from geoseg.settings import nearest, parse

    if (recipe := RECIPES.get(name)) is None:
        raise InputError(f"there is no recipe {name!r}; {nearest(name, RECIPES)}")
    _check_labels(name, recipe, ground)
    for needed in recipe.needs:
        require(needed, extra=recipe.extra)
    module = import_module(f"geoseg.recipes.{name}")
    words = parse(module.Settings, dict(settings), source=said_in)
    if resume and not recipe.stops:
        raise InputError(f"--resume was given, but the recipe {name} learns in one go; leave it out")
    scenes = [open_source(source, dict(ground.opening)) for source in ground.sources]
    if ground.series:
        scenes = [_series(scenes, words.calendar, ground.dates)]
    elif getattr(words, "calendar", None) is not None or ground.dates is not None:
        raise InputError("a calendar or --dates was given without --series; add it if the scenes are dates of one series")
    given = (scenes, ground.labels) if recipe.labelled else (scenes,)
    package = module.run(words, *given, out, **(_progress(resume) if recipe.stops else {}))
    if recipe.labelled:
        _tell(package, out)
    else:
        _tell_of_encoder(package, out)


def assignments(texts: Sequence[str]) -> dict[str, Any]:
    """KEY=VALUE words as settings, YAML on the right; InputError for one without a value."""
    import yaml

    found = {}
    for text in texts:
        key, sign, value = text.partition("=")
        if not sign:
            raise InputError(f"{text!r} is no setting; write it as KEY=VALUE, such as seed=1")
        try:
            found[key.strip()] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise InputError(f"{text!r} is no setting: what follows the = is not YAML ({' '.join(str(error).split())})") from error
    return found


def _check_labels(name: str, recipe: Recipe, ground: Ground) -> None:
    """Refuse labels, or their absence, where the recipe is not for it."""
    if recipe.labelled and not ground.labels:
        raise InputError(f"the recipe {name} learns from labels, and none were given; name their file with --labels")
    if not recipe.labelled and (ground.labels or ground.series):
        given = "labels were" if ground.labels else "--series was"
        raise InputError(f"{given} given, but the recipe {name} learns from single scenes without labels; leave that out")


def _progress(resume: bool) -> dict[str, Any]:
    from geoseg.console import print_epoch

    return {"resume": resume, "progress": print_epoch}


def _series(scenes: list[Scene], calendar: Calendar | None, dates: str | None) -> Scene:
    from geoseg.stacks.periods import with_dates
    from geoseg.stacks.series import open_series

    if calendar is None:
        raise InputError("--series needs the periods of the series; name them in the settings, such as -s 'calendar={periods: [4, 5, 6]}'")
    return open_series(with_dates(scenes, dates.split(",") if dates else None), calendar)


def _tell(package: Any, out: str | Path) -> None:
    from geoseg.recipes._results import REPORT, REPORT_TEXT, training_folder

    for said in json.loads(package.read(REPORT)).get("notes", []):
        click.echo(said)
    for figure in package.figures:
        click.echo(f"{figure.name}: {figure.value:.4g} (on {figure.on}; truth: {figure.by})")
    click.echo(f"the report is in {training_folder(out) / REPORT_TEXT}")
    click.echo(f"the model package is in {package.path}; use it with: geoseg predict SCENE --model {package.path} -o OUT")


def _tell_of_encoder(encoder: Any, out: str | Path) -> None:
    from geoseg.recipes._results import REPORT, training_folder

    for said in json.loads(encoder.read(REPORT))["notes"]:
        click.echo(said)
    click.echo(f"the report is in {training_folder(out) / REPORT}")
    start = f"geoseg train SCENE --labels FILE -s pretrained={encoder.path} -o OUT"
    click.echo(f"the encoder is in {encoder.path}; learn from labels with it: {start}")
