"""`geoseg sample`: honest areas of a map's classes, from points that somebody labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from geoseg.errors import InputError

if TYPE_CHECKING:
    from geoseg.evaluation.allocation import Allocation

DEFAULT_STANDARD_ERROR = 0.02
DEFAULT_ACCURACY = 0.8
_MAP = "a folder that `geoseg predict` wrote, or any class GeoTIFF with a legend"


@click.group()
def sample() -> None:
    """Areas of classes with 95 % intervals, from points drawn at random and labelled in QGIS.

    `design` draws the points, you label them, `estimate` says how large each class is and how right the map is.
    """


@sample.command(epilog="Example: `geoseg sample design map --standard-error 0.01 -o points.gpkg`")
@click.argument("source", metavar="MAP")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="The points to label: a GeoPackage, .gpkg.")
@click.option("--points", type=click.IntRange(min=1), help="How many; else as many as --standard-error asks for.")
@click.option(
    "--standard-error", type=float, help=f"Of overall accuracy, as a share: {DEFAULT_STANDARD_ERROR} by default; half of what ± will be."
)
@click.option(
    "--expect", multiple=True, help=f"User's accuracy to expect: water=0.9, or 0.9 for all others; {DEFAULT_ACCURACY} by default."
)
@click.option(
    "--allocation",
    type=click.Choice(["mixed", "proportional", "equal"]),
    default="mixed",
    show_default=True,
    help="mixed: a least number in every stratum, the rest by size.",
)
@click.option("--least", type=click.IntRange(min=2), default=50, help="Points in every stratum, with mixed allocation.")
@click.option("--strata", help="A class raster whose classes are the strata, such as regions; the classes of MAP by default.")
@click.option("--legend", help="Names the codes that MAP does not name itself: .json, .csv, a QGIS .qml, or another class map.")
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Another seed draws other points.")
@click.option("--overwrite", is_flag=True, help="Replace a file that is there already, with the labels in it.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line on standard output.")
def design(
    source: str,
    out: Path,
    points: int | None,
    standard_error: float | None,
    expect: tuple[str, ...],
    allocation: Allocation,
    least: int,
    strata: str | None,
    legend: str | None,
    seed: int,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Draw points at random in each class of MAP, and write them with a form to label them in QGIS.

    MAP is a folder that `geoseg predict` wrote, or any class GeoTIFF with a legend. The form does not show what the map says of a
    point: who knows it finds it.
    """
    from geoseg.console import print_sample_design, progress_bar
    from geoseg.evaluation.design import SampleWish, design_sample
    from geoseg.evaluation.point_package import check_points_name

    check_points_name(out, overwrite=overwrite)
    if points is not None and standard_error is not None:
        raise InputError("--points and --standard-error were both given; the one follows from the other, so leave one out")
    error = DEFAULT_STANDARD_ERROR if standard_error is None and points is None else standard_error
    by_name, otherwise = _expected(expect)
    wish = SampleWish(points, error, by_name, otherwise, allocation, least, seed)
    with progress_bar("sampling", as_json=as_json) as progress:
        made = design_sample(source, out, wish, strata=strata, legend=legend, progress=progress)
    print_sample_design(made, as_json=as_json)


@sample.command(epilog="Example: `geoseg sample estimate points.gpkg -o areas.json`")
@click.argument("points")
@click.option("--map", "source", help=f"The map to judge, where it is not the one that the file tells of: {_MAP}.")
@click.option("--legend", help="Names the codes of the classes: .json, .csv, a QGIS .qml, or a class map.")
@click.option("--sizes", help="Sizes of the strata: the GeoPackage of the design, or a CSV with stratum, pixels, area_m2.")
@click.option("--crs", help="CRS of the columns x and y of a CSV, such as EPSG:32630.")
@click.option("--class-column", help="Column with the reference class; reference_class, reference, class … by default.")
@click.option("--accept-second", is_flag=True, help="The map is right, too, where it says what the column second_class says.")
@click.option("-o", "--out", type=click.Path(path_type=Path), help="The whole report as JSON.")
@click.option("--overwrite", is_flag=True, help="Replace a report that is there already.")
@click.option("--json", "as_json", is_flag=True, help="The report as one JSON object on standard output.")
def estimate(
    points: str,
    source: str | None,
    legend: str | None,
    sizes: str | None,
    crs: str | None,
    class_column: str | None,
    accept_second: bool,
    out: Path | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Say how large each class is and how right the map is, ± what the sample leaves open, from labelled POINTS.

    POINTS is the GeoPackage of `geoseg sample design`, or a CSV with a column of reference classes and lon, lat or x, y.
    """
    from geoseg.console import print_area_report, progress_bar
    from geoseg.evaluation.design import estimate_areas, write_report

    if out is not None and out.exists() and not overwrite:
        raise InputError(f"{out} is there already; choose another -o, or replace it with --overwrite")
    with progress_bar("reading the map", as_json=as_json) as progress:
        report = estimate_areas(
            points,
            source,
            legend=legend,
            sizes=sizes,
            crs=crs,
            class_column=class_column,
            accept_second=accept_second,
            progress=progress,
        )
    if out is not None:
        write_report(out, report)
    print_area_report(report, out, as_json=as_json)


def _expected(words: tuple[str, ...]) -> tuple[dict[str, float], float]:
    """Accuracies by name, and the one for all others."""
    by_name: dict[str, float] = {}
    otherwise = DEFAULT_ACCURACY
    for word in words:
        name, _, text = word.rpartition("=")
        try:
            share = float(text)
        except ValueError as error:
            raise InputError(f"--expect {word} holds no figure; expected a share such as 0.9, or one for a class: water=0.9") from error
        if name:
            by_name[name.strip()] = share
        else:
            otherwise = share
    return by_name, otherwise
