"""`geoseg evaluate`: how well maps, or a model, agree with labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import rich_click as click

from geoseg.commands._words import open_source, scene_options
from geoseg.errors import InputError


@click.command(epilog="Example: `geoseg evaluate map --labels truth.gpkg -o report`")
@click.argument("maps", metavar="MAP... | PACKAGE SCENE...", nargs=-1, required=True)
@click.option("--labels", multiple=True, required=True, help="Polygons, lines, points or a raster: one for all maps, or one for each.")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="Folder for the report.")
@click.option("--class-column", help="The column of the labels that holds the class; a usual one if none is named.")
@click.option("--regions", help="Polygons that are counted apart.")
@click.option("--region-column", help="The column that names them.")
@click.option("--boundary-m", type=float, help="Compare edges too, within so many metres; two pixels are usual.")
@click.option(
    "--objects", multiple=True, metavar="CLASS", help="Also match the objects of this class one to one; several times for several."
)
@scene_options
@click.option("--keep-maps", type=click.Path(path_type=Path), help="New folder for the maps of a PACKAGE, which are thrown away otherwise.")
@click.option("--overwrite", is_flag=True, help="Replace a report that is there already.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line on standard output.")
def evaluate(
    maps: tuple[str, ...],
    labels: tuple[str, ...],
    out: Path,
    class_column: str | None,
    regions: str | None,
    region_column: str | None,
    boundary_m: float | None,
    objects: tuple[str, ...],
    keep_maps: Path | None,
    overwrite: bool,
    as_json: bool,
    **opening: Any,
) -> None:
    """Compare maps with labels and write a report: IoU, F1, precision, recall and kappa, pooled over all pixels, and per map and region.

    MAP is a folder that `geoseg predict` wrote, or any class GeoTIFF with a legend. With a model PACKAGE in its place, the scenes behind
    it are mapped first; the options on what a scene's numbers mean are for them. Ground that the model's training held out is counted
    apart, and where there are scores, the report says whether they can be taken for probabilities.
    """
    from geoseg.console import print_evaluation, progress_bar
    from geoseg.evaluation.evaluate import evaluate as compare
    from geoseg.evaluation.report import NAMES, write_report
    from geoseg.io.staging import check_free

    check_free(out, NAMES.values(), overwrite=overwrite)
    with _maps(maps, opening, keep_maps) as finished, progress_bar("evaluating", as_json=as_json) as progress:
        apart = {"regions": regions, "region_column": region_column}
        made = compare(finished, labels, class_column=class_column, **apart, boundary_m=boundary_m, objects=objects, progress=progress)
        print_evaluation(made, write_report(out, made, overwrite=overwrite), as_json=as_json)


@contextmanager
def _maps(given: Sequence[str], opening: dict[str, Any], keep: Path | None) -> Iterator[Sequence[str | Path]]:
    """The maps that are there already, or those that the first of the words makes of the others; these are gone afterwards, if not kept."""
    import tempfile

    from geoseg.evaluation.package_maps import is_package, map_scenes
    from geoseg.models.package import ModelPackage

    if not is_package(given[0]):
        if said := [name for name, value in {**opening, "keep_maps": keep}.items() if value is not None]:
            raise InputError(f"--{said[0].replace('_', '-')} is for scenes that a model maps; {given[0]} is no model package: leave it out")
        yield given
        return
    if len(given) == 1:
        raise InputError(f"{given[0]} is a model package; name the scenes that it shall map behind it")
    if keep is not None and keep.exists():
        raise InputError(f"{keep} is there already; choose another folder for --keep-maps")
    package, scenes = ModelPackage.open(given[0]), [open_source(source, opening) for source in given[1:]]
    with tempfile.TemporaryDirectory(prefix="geoseg-evaluate-") as folder:
        yield map_scenes(package, scenes, Path(folder) if keep is None else keep)
