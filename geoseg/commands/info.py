"""`geoseg info` and `geoseg sensors`: what a scene is, and what is known of sensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import rich_click as click

from geoseg.commands._words import default_model, open_source, scene_options
from geoseg.errors import InputError

if TYPE_CHECKING:
    from geoseg.scene import Scene


@click.command(epilog="Example: `geoseg info S2A_MSIL2A_20240614.zip`")
@click.argument("source", metavar="SCENE")
@scene_options
@click.option("--model", "models", multiple=True, help="Also say whether this model package fits; the shipped one is always tried.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def info(source: str, models: tuple[str, ...], as_json: bool, **opening: Any) -> None:
    """Say what a scene is: its bands and why, its grid, its valid share and values, and which models fit."""
    from geoseg.console import print_scene
    from geoseg.scenes.describe import describe_scene

    scene = open_source(source, opening)
    facts = describe_scene(scene) | {"models": [_fit(scene, path) for path in (default_model(), *models)]}
    print_scene(facts, as_json=as_json)


@click.command(epilog="Example: `geoseg sensors`")
def sensors() -> None:
    """List the sensors that geoseg knows, with their bands by role."""
    from geoseg.sensors import SENSORS

    for sensor in SENSORS.values():
        click.echo(f"{sensor.name:22} {sensor.title}: {', '.join(band.role for band in sensor.bands)}")


def _fit(scene: Scene, path: str) -> dict[str, Any]:
    """Whether one package fits: its title, and the warnings or the reason why not."""
    from geoseg.mapping.output_grid import output_grid
    from geoseg.mapping.plan import MapOptions
    from geoseg.models.fit import check_fit
    from geoseg.models.package import ModelPackage

    package = ModelPackage.open(path)
    try:
        warnings = check_fit(package, scene, geobox=output_grid(scene, package, MapOptions()))
    except InputError as error:
        return {"model": package.title, "fits": False, "said": [str(error)]}
    return {"model": package.title, "fits": True, "said": warnings}
