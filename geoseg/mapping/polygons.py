"""The polygons of a finished class map, with buildings squared where that is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from geoseg.io.qgis_styles import polygons_qml
from geoseg.io.vectors import write_polygons
from geoseg.mapping.rasters import Parts
from geoseg.mapping.shapes import BuildingShape, building_shapes
from geoseg.models.package import Output
from geoseg.polygons.outlines import trace_polygons, write_map_polygons
from geoseg.polygons.touching import Separator, split_touching


def finish_polygons(parts: Parts, output: Output, out: Path) -> list[dict[str, Any]]:
    """Write the polygons of one output of classes; return its count of buildings, nothing where these are not asked for."""
    options, classes = parts.plan.options, parts.path(output.name)
    shape = building_shapes(options.shape, parts.plan.package.outputs).get(output.name)
    scores, pieces = parts.path(f"{output.name}_scores"), None
    if shape is not None and (separator := _separator(shape, parts)) is not None:
        pieces = parts.path(f"{output.name}_pieces")
        split_touching(classes, pieces, codes=shape.codes, separator=separator)
    style = polygons_qml(output.legend)
    if shape is None:
        write_map_polygons(out, classes, output.legend, scores=scores, simplify_m=options.simplify_m, style_qml=style)
        return []
    polygons = trace_polygons(classes, output.legend, scores=scores, simplify_m=options.simplify_m, square=shape.codes, pieces=pieces)
    write_polygons(out, polygons, style_qml=style, description=shape.touching)
    buildings = polygons["class_code"].isin(shape.codes)
    squared = int(polygons["squared"].sum())
    return [{"output": output.name, "count": int(buildings.sum()), "squared": squared, "touching": shape.touching}]


def _separator(shape: BuildingShape, parts: Parts) -> Separator | None:
    """The raster that tells touching buildings apart; None where there is none."""
    if shape.edges is not None:
        return Separator(parts.path(f"{shape.edges[0]}_scores"), "edge", shape.edges[1])
    return None if shape.distance is None else Separator(parts.path(shape.distance), "distance")
