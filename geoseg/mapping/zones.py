"""The given polygons of a map: opened before anything is mapped, filled from its finished rasters, shown in its project."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from geoseg.io.class_maps import ClassMap
from geoseg.io.ogr import pyogrio
from geoseg.io.qgis import ProjectLayer
from geoseg.mapping.plan import MapPlan
from geoseg.mapping.rasters import Parts
from geoseg.maps.zones import CODE_COLUMN, LAYER, Zones, open_zones, write_zones
from geoseg.models.package import Output


def planned_zones(plan: MapPlan) -> Zones | None:
    """The polygons of `--zones` on the map's grid; None where none are named. Raises as `open_zones`."""
    return None if plan.options.zones is None else open_zones(plan.options.zones, plan.geobox)


def finish_zones(parts: Parts, output: Output, zones: Zones, out: Path) -> dict[str, int]:
    """Write the zones with what this output says of them; how many there are, and with which notes."""
    classes = ClassMap(str(parts.path(output.name)), output.legend, parts.plan.geobox)
    return write_zones(out, zones, classes, scores=parts.path(f"{output.name}_scores"))


def zone_layers(folder: Path, names: Mapping[str, str], plan: MapPlan) -> list[ProjectLayer]:
    """How the project shows the zones: on top, coloured by their majority class."""
    layers = []
    for output in plan.package.outputs:
        if name := names.get(f"{output.name}_zones"):
            columns = pyogrio.read_info(folder / name, layer=LAYER)["fields"].tolist()
            attribute = [column for column in columns if column.startswith(CODE_COLUMN)][-1]  # new columns come last
            layers.append(
                ProjectLayer(
                    f"{output.name}: zones", folder / name, "polygons", output.legend, group="Map", table=LAYER, attribute=attribute
                )
            )
    return layers
