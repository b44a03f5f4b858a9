"""`geoseg mosaic`: maps of overlapping scenes to one map."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import rich_click as click
from click import get_current_context

from geoseg.commands._words import needed


@click.command(epilog="Example: `geoseg mosaic map_32632 map_32633 -o country`")
@click.argument("outs", metavar="OUT...", nargs=-1)
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Folder for the results, which are named like it.")
@click.option("--crs", help="CRS of the mosaic, such as EPSG:32633; that of most maps where none is named.")
@click.option("--resolution", type=float, help="Pixel size of the mosaic in units of its CRS; the finest map's where none is named.")
@click.option("--like", help="Raster whose grid the mosaic shall have.")
@click.option(
    "--rule",
    type=click.Choice(["score", "newest", "first"]),
    help="What counts where maps overlap: their mean score (where all have scores), the newest, or the first given.",
)
@click.option("--aoi", help="Vector file: map only this area.")
@click.option("--min-area-m2", type=float, default=0.0, help="Merge smaller regions into the neighbour with the longest shared edge.")
@click.option(
    "--no-polygons",
    "polygons",
    flag_value=False,
    default=True,
    show_default=False,
    help="Trace no outlines: the memory is then the same for a country.",
)
@click.option("--overwrite", is_flag=True, help="Replace results that are there already.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line on standard output.")
def mosaic(outs: tuple[str, ...], out: Path | None, overwrite: bool, as_json: bool, **given: Any) -> None:
    """Join maps of overlapping scenes, also from several UTM zones, into one; each OUT is a folder of results or a class map."""
    from geoseg.console import print_mosaic, progress_bar
    from geoseg.maps.mosaic import make_mosaic
    from geoseg.maps.mosaic_plan import MosaicOptions

    if not outs:
        raise click.UsageError("no OUT was given; name folders that `geoseg predict` wrote, or class maps", get_current_context())
    options, folder = MosaicOptions(**given), needed(out)
    with progress_bar(folder.name, as_json=as_json) as progress:
        made = make_mosaic(outs, folder, options=options, overwrite=overwrite, progress=progress)
    print_mosaic(made, as_json=as_json)
