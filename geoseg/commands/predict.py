"""`geoseg predict`: scenes to maps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click
from click import get_current_context
from click.core import ParameterSource

from geoseg.commands._words import (
    SCENE_WORDS,
    check_series,
    default_model,
    mask_class_names,
    needed,
    open_as_series,
    open_source,
    opening_words,
    scene_options,
)
from geoseg.errors import GeosegError, InputError

if TYPE_CHECKING:
    from geoseg.mapping.plan import MapOptions
    from geoseg.models.package import ModelPackage

SOME_FAILED = 3
"""Exit code."""


@click.command(epilog="Example: `geoseg predict S2A_MSIL2A_20240614.zip --model my_model -o map`")
@click.argument("sources", metavar="SCENE...", nargs=-1)
@click.option("--model", "models", multiple=True, help="Model package: folder or .zip; several: their mean; none: the shipped water model.")
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Folder for the results.")
@scene_options
@click.option("--stack", is_flag=True, help="All SCENE arguments are files of one scene.")
@click.option("--series", is_flag=True, help="All SCENE arguments are dates of one series, for a model that makes one map of them.")
@click.option("--dates", help="The days of a series in the order of its scenes, 2021-05-03,2021-05-08, where they do not say them.")
@click.option("--scores", is_flag=True, help="Also write the score of every class.")
@click.option("--conformal", metavar="FILE", help="Also write which classes are possible, by the thresholds that geoseg conformal found.")
@click.option("--uncertainty", metavar="NAME,...", help="Also write how unsure it is: entropy, margin, disagreement (of tiles), members.")
@click.option("--aoi", help="Vector file: map only this area.")
@click.option("--exclude", help="Vector file: do not map this area.")
@click.option("--min-area-m2", type=float, default=0.0, help="Merge smaller regions into the neighbour with the longest shared edge.")
@click.option("--simplify-m", type=float, default=0.0, help="Simplify outlines by this tolerance in metres; shared edges stay shared.")
@click.option("--shape", metavar="building[=CLASS]", help="Give the outlines of buildings right angles, and count them.")
@click.option("--vectors", metavar="NAME,...", help="Also write the outlines as parquet (GeoParquet) or fgb (FlatGeobuf).")
@click.option("--zones", help="Vector file: add to each of its polygons the majority class, shares, mean score and observed share.")
@click.option("--overlap", type=int, help="Pixels that neighbouring tiles share; the package's where none are named.")
@click.option("--batch", default="auto", help="Tiles for one call of the network, or auto.")
@click.option("--runtime", type=click.Choice(["onnx", "openvino", "torch"]), default="onnx", help="What runs the network.")
@click.option("--tta", type=click.Choice(["d4", "flips"]), help="Score each tile in 8 (d4) or 4 (flips) symmetries; the mean counts.")
@click.option("--precision", type=click.Choice(["fp32", "bf16", "int8"]), default="fp32", help="In which numbers the network computes.")
@click.option("--device", type=click.Choice(["cpu", "cuda", "auto"]), default="cpu", help="Where the torch runtime computes.")
@click.option("--threads", type=int, help="Processor threads, each with tiles of its own; all where none are named. Changes no pixel.")
@click.option("--resolution", type=float, help="Pixel size of the map in units of its CRS.")
@click.option("--crs", help="CRS of the map, such as EPSG:32633.")
@click.option("--like", help="Raster whose grid the map shall have.")
@click.option(
    "--mask-classes",
    help="Taken out by the quality layer: cloud,cloud_shadow,cirrus,snow,water,saturated,layover,radar_shadow,nodata or none.",
)
@click.option("--cloud-model", help="Model package that maps cloud and shadow first; what it finds is masked.")
@click.option("--mask-grow-m", type=float, default=0.0, help="Grow masked ground by this many metres.")
@click.option("--no-picture", "picture", flag_value=False, default=True, show_default=False, help="Write no picture of the scene.")
@click.option(
    "--no-polygons", "polygons", flag_value=False, default=True, show_default=False, help="Write no outlines of the map's regions."
)
@click.option(
    "--on-error",
    type=click.Choice(["stop", "nodata"]),
    default="stop",
    help="At a block of the scene that cannot be read: stop, or map the rest and list such blocks.",
)
@click.option("--overwrite", is_flag=True, help="Replace results that are there already.")
@click.option("--resume", is_flag=True, help="Go on with a map that was stopped; begin it where there is none.")
@click.option("--dry-run", is_flag=True, help="Say tiles, memory, disk and time; map nothing.")
@click.option("--skip-finished", is_flag=True, help="Leave a map that is there and would be the same; so by itself with many scenes.")
@click.option("--shard", metavar="PART/PARTS", help="Map one part of the scenes, counted from 0: 0/4, 1/4, 2/4 or 3/4.")
@click.option("--jobs", type=int, help="Map so many scenes at once, each in a process of its own.")
@click.option("--cluster", metavar="tcp://HOST:PORT", help="Map on the workers of this Dask scheduler, or of one that is started: local.")
@click.option("--again", type=click.Path(path_type=Path), help="Make the map of this STAC Item again, or say what differs.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line on standard output.")
def predict(sources: tuple[str, ...], models: tuple[str, ...], out: Path | None, again: Path | None, as_json: bool, **given: Any) -> int:
    """Map scenes: classes, polygons, reasons and a QGIS project in the folder OUT.

    SCENE is a GeoTIFF, folder, zip or STAC Item; a pattern in quotes ('scenes/*.tif'), a STAC collection of Items, or a .txt file with
    a scene on each line. Of many scenes, maps that are there and unchanged are skipped, and one that fails does not stop the others.
    """
    if again is not None:
        _check_alone("again", "out", "overwrite", "as_json")
        return _predict_again(again, needed(out), given["overwrite"], as_json)
    if not sources:
        raise click.UsageError("no SCENE was given; name a GeoTIFF, a folder, a zip or a STAC Item", get_current_context())
    if not given["dry_run"]:
        out = needed(out)
    model, given["ensemble"] = (models or (default_model(),))[0], models[1:]
    if given["series"] and given["stack"]:
        raise click.UsageError("--series takes a scene for each date, --stack the files of one; give one of the two", get_current_context())
    from geoseg.scenes.many import expand_sources

    named = expand_sources(sources, apart_from=out)
    one = given.pop("stack") or given["series"]
    spread = _spread(given, one=one)
    many = len(named) > 1 or named != list(sources) or _is_asked(spread) is not None
    if many and out is not None and not one and not given["dry_run"]:
        return _predict_many(named, model, out, as_json, given, spread)
    scenes: Sequence[Any] = [named] if one else named if spread["shard"] is None else spread["shard"].of(named)
    map_one = _mapper(model, out, as_json, given)
    failed = 0
    for source in scenes:
        try:
            map_one(source)
        except GeosegError as error:
            if len(scenes) == 1:
                raise
            failed += 1
            click.echo(f"geoseg: {source}: {error}", err=True)
    return SOME_FAILED if failed else 0


def _spread(given: dict[str, Any], *, one: bool) -> dict[str, Any]:
    """How many scenes are spread over time and machines, taken out of what was given; refused for `one` scene of several files."""
    from geoseg.scenes.many import Shard

    spread = {name: given.pop(name) for name in ("shard", "jobs", "cluster", "skip_finished")}
    if one and (option := _is_asked(spread)) is not None:
        raise InputError(f"--{option} is for many scenes, and --stack and --series make one of all that is given; leave one of them out")
    return spread | {"shard": None if spread["shard"] is None else Shard.parse(spread["shard"])}


def _is_asked(spread: dict[str, Any]) -> str | None:
    """The first of these options that was given."""
    return next((name.replace("_", "-") for name, value in spread.items() if value is not None and value is not False), None)


def _predict_many(named: list[str], model: str, out: Path, as_json: bool, given: dict[str, Any], spread: dict[str, Any]) -> int:
    """Map many scenes, and tell what became of each."""
    from geoseg.commands._scenes import print_scenes, scenes_progress
    from geoseg.mapping.many import map_scenes
    from geoseg.mapping.summary_table import table_path

    opened_with = opening_words({name: given.pop(name) for name in SCENE_WORDS})
    dates = given.pop("dates")
    anew = {name: given.pop(name) for name in ("overwrite", "resume")}
    del given["dry_run"], given["series"]
    package, options = _package_and_options(model, given, series=False, dates=dates)
    with scenes_progress(as_json=as_json) as watch:
        results = map_scenes(named, package, out, options=options, opened_with=opened_with, **anew, **spread, watch=watch)
    print_scenes(results, table_path(out, spread["shard"]), as_json=as_json)
    return SOME_FAILED if any(result.state == "failed" for result in results) else 0


def _mapper(model: str, out: Path | None, as_json: bool, given: dict[str, Any]) -> Callable[[Any], None]:
    """A function that maps one scene, or tells its plan where `out` is None; model and options are checked before the first scene."""
    from geoseg.console import print_plan, print_prediction, progress_bar
    from geoseg.mapping.make_map import make_map
    from geoseg.mapping.plan import plan_map

    opening = {name: given.pop(name) for name in SCENE_WORDS}
    dates = given.pop("dates")
    overwrite, resume, dry_run, series = (given.pop(name) for name in ("overwrite", "resume", "dry_run", "series"))
    package, options = _package_and_options(model, given, series=series, dates=dates)
    opened_with = opening_words(opening | {"dates": dates})
    seen: set[str] = set()

    def map_one(source: Any) -> None:
        scene = open_as_series(source, dates, opening, package, options) if series else open_source(source, opening)
        if scene.name in seen:
            raise InputError(f"another scene of this command is called {scene.name} too; map it with another -o")
        seen.add(scene.name)
        if dry_run or out is None:
            print_plan(plan_map(scene, package, options), as_json=as_json)
            return
        with progress_bar(scene.name, as_json=as_json, pixels=True) as progress:
            made = make_map(
                scene, package, out, options=options, overwrite=overwrite, resume=resume, opened_with=opened_with, progress=progress
            )
        print_prediction(made, as_json=as_json)

    return map_one


def _package_and_options(model: str, given: dict[str, Any], *, series: bool, dates: str | None) -> tuple[ModelPackage, MapOptions]:
    """What all scenes share, checked before the first one."""
    from geoseg.mapping.plan import MapOptions
    from geoseg.models.package import ModelPackage

    given["batch"] = _batch(given["batch"])
    given["mask_classes"] = mask_class_names(given["mask_classes"]) if given["mask_classes"] else MapOptions.mask_classes
    given["uncertainty"] = tuple(name.strip() for name in given["uncertainty"].split(",")) if given["uncertainty"] else ()
    given["vectors"] = tuple(name.strip() for name in given["vectors"].split(",")) if given["vectors"] else ()
    options, package = MapOptions(**given), ModelPackage.open(model)
    check_series(package.preparation.calendar, package.title, series=series, dates=dates)
    return package, options


def _predict_again(item: Path, out: Path, overwrite: bool, as_json: bool) -> int:
    from geoseg.console import print_prediction, progress_bar
    from geoseg.mapping.again import repeat_map

    with progress_bar(item.stem, as_json=as_json, pixels=True) as progress:
        repetition = repeat_map(item, out, overwrite=overwrite, progress=progress)
    print_prediction(repetition.prediction, as_json=as_json)
    differing, software = ", ".join(repetition.differing), "; ".join(repetition.software)
    if differing:
        because = f"; the software differs: {software}" if software else ""
        click.echo(f"not the same as the first map: {differing}{because}", err=True)
        return 1
    click.echo("the same as the first map, byte for byte", err=True)
    return 0


def _check_alone(option: str, *allowed: str) -> None:
    """Raise UsageError where anything was given beside this option and those that it allows."""
    context = get_current_context()
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if parameter.name not in (option, *allowed) and source is not ParameterSource.DEFAULT:
            given = "SCENE" if isinstance(parameter, click.Argument) else parameter.opts[0]
            raise click.UsageError(f"--{option} takes all but -o and --overwrite from the map's Item; leave {given} out", context)


def _batch(text: str) -> int | None:
    if text == "auto":
        return None
    if not text.isdecimal():
        raise InputError(f"--batch is {text!r}; expected a whole number, or auto")
    return int(text)
