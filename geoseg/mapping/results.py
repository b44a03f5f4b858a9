"""The names of a map's results."""

from __future__ import annotations

from geoseg.mapping.conformal import set_legends
from geoseg.mapping.plan import MapPlan
from geoseg.mapping.uncertainty import layer_name


def result_names(plan: MapPlan) -> dict[str, str]:
    """What each result is → its file's name; side files (`.aux.xml`, `.qml`) go with their rasters."""
    scene, several = plan.scene.name, len(plan.package.outputs) > 1
    names = {}
    for output in plan.package.outputs:
        stem = f"{scene}_{output.name}" if several else scene
        if output.kind == "quantity":
            names[output.name] = f"{scene}_{output.name}.tif"
            continue
        names[output.name] = f"{stem}.tif" if several else f"{scene}_classes.tif"
        if plan.options.scores:
            names[f"{output.name}_scores"] = f"{stem}_scores.tif"
        if plan.options.conformal is not None:
            names |= {name: f"{stem}{name.removeprefix(output.name)}.tif" for name in set_legends(output)}
        names |= {layer_name(output, measure): f"{stem}_{measure}.tif" for measure in plan.measures}
        if plan.options.polygons:
            names[f"{output.name}_polygons"] = f"{stem}.gpkg"
            names |= {f"{output.name}_polygons_{ending}": f"{stem}.{ending}" for ending in plan.options.vectors}
        if plan.options.zones is not None:
            names[f"{output.name}_zones"] = f"{stem}_zones.gpkg"
    names["reason"] = f"{scene}_reason.tif"
    if plan.picture_roles:
        names["image"] = f"{scene}_image.tif"
    if plan.held_out is not None:
        names["held_out"] = f"{scene}_held_out.gpkg"
    return names | {"project": f"{scene}.qgz", "item": f"{scene}.json"}
