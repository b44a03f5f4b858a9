"""`geoseg export`: a model package in another arithmetic."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click
from click import get_current_context

from geoseg.commands._words import SCENE_WORDS, check_series, open_as_series, open_source, scene_options

if TYPE_CHECKING:
    from geoseg.models.package import ModelPackage


@click.command(epilog="Example: `geoseg export my_model --to deepness --scenes scene.tif -o net.onnx`")
@click.argument("package", metavar="PACKAGE")
@click.argument("more", metavar="", nargs=-1)
@click.option(
    "--to",
    type=click.Choice(["onnx", "openvino", "deepness"]),
    help="One file for another program, which gives it the numbers of a scene's bands as they are stored; `deepness` is QGIS's plugin.",
)
@click.option("--int8", is_flag=True, help="Add the network in 8-bit integers, for processors without bf16.")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="The new model package (a folder, or a .zip), or file.")
@click.option(
    "--scenes", metavar="SCENE...", multiple=True, help="Scenes to calibrate with; with --to the one whose bands the file will get."
)
@scene_options
@click.option("--series", is_flag=True, help="The scenes are dates of one series, for a model that makes one map of them.")
@click.option("--dates", help="The days of a series in the order of its scenes, where they do not say them.")
@click.option("--tiles", type=click.IntRange(1), default=64, help="Tiles to calibrate with, and as many to compare.")
@click.option("--anyway", is_flag=True, help="Write it even where int8 and fp32 agree on less than 99.5 % of the pixels.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line on standard output.")
def export(package: str, more: tuple[str, ...], int8: bool, out: Path, scenes: tuple[str, ...], as_json: bool, **given: Any) -> None:
    """Write PACKAGE for other programs (--to), or once more with an 8-bit network (--int8), and say how far its maps differ.

    Both compare on real scenes. Needs the extra `train`.
    """
    import json

    if given["to"] is not None:
        _export_graph(package, [*scenes, *more], out, given["to"], {name: given[name] for name in SCENE_WORDS}, int8=int8, as_json=as_json)
        return
    from geoseg.mapping.int8_export import export_int8
    from geoseg.mapping.plan import MapOptions
    from geoseg.models.package import INT8_ONNX, ModelPackage

    sources = [*scenes, *more]
    if not int8:
        raise click.UsageError("nothing to export to was named; say --to onnx, openvino or deepness, or --int8", get_current_context())
    if not scenes:
        raise click.UsageError("int8 needs scenes to calibrate with; say --scenes SCENE...", get_current_context())
    opened, opening = ModelPackage.open(package), {name: given[name] for name in SCENE_WORDS}
    check_series(opened.preparation.calendar, opened.title, series=given["series"], dates=given["dates"])
    if given["series"]:
        found = [open_as_series(sources, given["dates"], opening, opened, MapOptions())]
    else:
        found = [open_source(source, opening) for source in sources]
    made = export_int8(opened, found, out, tiles=given["tiles"], anyway=given["anyway"])
    if as_json:
        summary = {"parity": made.parity.facts(), **_terms(opened)}
        click.echo(json.dumps({"event": "result", "files": {"package": str(made.package.path)}, "summary": summary}))
        return
    for warning in made.warnings:
        click.echo(f"warning: {warning}", err=True)
    size = len(made.package.read(INT8_ONNX)) / 1e6
    click.echo(f"{made.package.path}: the package with {INT8_ONNX} ({size:.1f} MB)")
    click.echo(f"against fp32: {made.parity.figures()}; {made.parity.speed_ratio:.2f} times as fast here")
    click.echo(_said(opened))


def _export_graph(package: str, sources: list[str], out: Path, to: Any, opening: dict[str, Any], *, int8: bool, as_json: bool) -> None:
    import json

    from geoseg.mapping.graph_export import export_graph
    from geoseg.models.package import ModelPackage

    if int8:
        raise click.UsageError("--to and --int8 were given, and one file holds one network; leave out one of them", get_current_context())
    if len(sources) != 1:
        raise click.UsageError(
            f"--to {to} needs one scene whose bands the file will get, and {len(sources)} were given; say --scenes SCENE",
            get_current_context(),
        )
    source = ModelPackage.open(package)
    made = export_graph(source, open_source(sources[0], opening), out, to=to)
    facts = made.parity
    if as_json:
        parity = {"tiles": facts.tiles, "agreement": facts.agreement, "largest_difference": facts.largest_difference}
        files = {path.suffix.removeprefix("."): str(path) for path in made.files}
        click.echo(json.dumps({"event": "result", "files": files, "summary": {"bands": made.bands, "parity": parity, **_terms(source)}}))
        return
    for warning in made.warnings:
        click.echo(f"warning: {warning}", err=True)
    click.echo(f"{made.files[0]}: takes {len(made.bands)} bands as stored, in order: {', '.join(role or '-' for role in made.bands)}")
    click.echo(
        f"against the package: the same class on {100 * facts.agreement:.3f} % of {facts.pixels:,} pixels, scores differ by at most "
        f"{facts.largest_difference:.1g}"
    )
    click.echo(_said(source))


def _terms(package: ModelPackage) -> dict[str, str]:
    """What whoever gets the file has to know."""
    return {"licence": package.licence, "restriction": package.restriction}


def _said(package: ModelPackage) -> str:
    return f"licence {package.licence}" + (f": {package.restriction}" if package.restriction else "")
