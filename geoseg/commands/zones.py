"""`geoseg zones`: what a map says of given polygons."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from geoseg.errors import InputError

if TYPE_CHECKING:
    pass


@click.command(epilog="Example: `geoseg zones map parcels.gpkg -o table.gpkg`")
@click.argument("source", metavar="MAP")
@click.argument("polygons")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="The table: .gpkg, or .csv without geometries.")
@click.option("--scores", help="Scores of every class on the grid of MAP; those beside it where none are named.")
@click.option("--legend", help="Names the codes that MAP does not name itself: .json, .csv, a QGIS .qml, or another class map.")
@click.option("--overwrite", is_flag=True, help="Replace a table that is there already.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def zones(source: str, polygons: str, out: Path, scores: str | None, legend: str | None, overwrite: bool, as_json: bool) -> None:
    """Add to each polygon, such as a parcel, what MAP says of it: majority class, shares, mean score, observed share.

    MAP is a folder that `geoseg predict` wrote, or any class GeoTIFF with a legend. Geometries, attributes and ids stay as they are.
    """
    from geoseg.io.feature_tables import check_table_name
    from geoseg.maps.pairs import open_side
    from geoseg.maps.zones import open_zones, write_zones

    check_table_name(out)
    if out.exists() and not overwrite:
        raise InputError(f"{out} is there already; choose another -o, or replace it with --overwrite")
    side = open_side("MAP", source, legend=legend)
    beside = str(side.result.scores) if side.result.scores is not None else None
    told = write_zones(out, open_zones(polygons, side.map.geobox), side.map, scores=scores or beside)
    if as_json:
        click.echo(json.dumps({"event": "result", "files": {"zones": str(out)}, "summary": told}))
        return
    notes = ", ".join(f"{count} {note}" for note, count in told.items() if note != "zones")
    click.echo(f"{told['zones']} zones{f' ({notes})' if notes else ''}: {out}")
