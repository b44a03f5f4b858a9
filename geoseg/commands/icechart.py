"""`geoseg icechart`: an ice service's chart as label rasters on a scene's grid."""

from __future__ import annotations

from pathlib import Path

import rich_click as click


@click.command(epilog="Example: `geoseg icechart chart.shp --like scene.tif -o ice`")
@click.argument("chart")
@click.option("--like", required=True, help="Raster or scene whose grid the labels shall have.")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="Folder for the three label rasters.")
@click.option("--sensor", help="Sensor of the scene, where its files do not say.")
@click.option("--overwrite", is_flag=True, help="Replace results that are there already.")
def icechart(chart: str, like: str, out: Path, sensor: str | None, overwrite: bool) -> None:
    """Label rasters of concentration, stage and floe size from a SIGRID-3 ice chart, by the rules of the AutoICE challenge."""
    from geoseg.data.ice_charts import read_ice_chart, write_ice_labels
    from geoseg.scenes.open_scene import open_scene

    for name, path in write_ice_labels(read_ice_chart(chart), open_scene(like, sensor=sensor).geobox(), out, overwrite=overwrite).items():
        click.echo(f"{name:14} {path}")
