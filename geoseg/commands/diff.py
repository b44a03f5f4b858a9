"""`geoseg diff`: what changed between two maps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

if TYPE_CHECKING:
    pass


@click.command(epilog="Example: `geoseg diff map_2020 map_2024 --class water -o change`")
@click.argument("before")
@click.argument("after")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="Folder for the results.")
@click.option("--class", "only", help="Follow one class: where it was gained, lost and kept.")
@click.option("--legend", help="Names the codes that a map does not name itself: .json, .csv, a QGIS .qml, or another class map.")
@click.option("--exclude", multiple=True, help="Ground to leave out: polygons, a raster, FILE:CLASS of a class map, or 'slope>15'.")
@click.option("--dem", help="Elevation model for --exclude 'slope>15'.")
@click.option("--reason-before", help="Reason layer of BEFORE; the one beside it where none is named.")
@click.option("--reason-after", help="Reason layer of AFTER; the one beside it where none is named.")
@click.option("--min-area-m2", type=float, default=0.0, help="Write no smaller changed polygons; the matrix counts every pixel.")
@click.option("--simplify-m", type=float, default=0.0, help="Simplify outlines by this tolerance in metres; shared edges stay shared.")
@click.option("--overwrite", is_flag=True, help="Replace results that are there already.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line on standard output.")
def diff(before: str, after: str, out: Path, overwrite: bool, as_json: bool, **given: Any) -> None:
    """Say what changed between two maps: areas of all transitions, changed polygons, a raster, a QGIS project.

    BEFORE and AFTER are folders that `geoseg predict` wrote, or any class GeoTIFFs with legends. What is not observed in one of
    them is never called changed.
    """
    from geoseg.console import print_difference, progress_bar
    from geoseg.maps.difference import DifferenceOptions, compare_maps

    options = DifferenceOptions(**given)
    with progress_bar("comparing", as_json=as_json) as progress:
        made = compare_maps(before, after, out, options=options, overwrite=overwrite, progress=progress)
    print_difference(made, as_json=as_json)
