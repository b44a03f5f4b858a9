"""How a finished map is laid out for QGIS: which layers, in which groups, in which order."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from geoseg.io.qgis import ProjectLayer, write_project
from geoseg.mapping.conformal import set_legends
from geoseg.mapping.plan import MapPlan
from geoseg.mapping.uncertainty import layer_name, shown_range
from geoseg.mapping.zones import zone_layers
from geoseg.preprocess.quality import REASON_LEGEND


def write_map_project(folder: Path, names: Mapping[str, str], plan: MapPlan) -> None:
    """Write the QGIS project of the map in `folder`: polygons over classes over the imagery; scores and reasons unticked."""
    package = plan.package
    layers: list[ProjectLayer] = []
    layers += zone_layers(folder, names, plan)
    if "held_out" in names:
        layers.append(ProjectLayer("not trained on here", folder / names["held_out"], "outlines", group="Map"))
    for output in package.outputs:
        path, polygons = folder / names[output.name], names.get(f"{output.name}_polygons")
        if output.kind == "quantity":
            layers.append(ProjectLayer(f"{output.name} ({output.unit})", path, "quantity", group="Map", value_range=output.range))
            continue
        legend = output.legend
        if polygons is not None:
            layers.append(ProjectLayer(f"{output.name}: polygons", folder / polygons, "polygons", legend, visible=False, group="Map"))
        layers.append(ProjectLayer(output.name, path, "classes", legend, group="Map"))
    for output in package.outputs:
        for name, legend in set_legends(output).items() if plan.thresholds is not None and output.kind == "classes" else ():
            title = f"{output.name}: {'how many are possible' if name.endswith('_size') else 'all that are possible'}"
            layers.append(ProjectLayer(title, folder / names[name], "classes", legend, visible=False, group="Uncertainty"))
        for measure in plan.measures if output.kind == "classes" else ():
            title, path = f"{output.name}: {measure}", folder / names[layer_name(output, measure)]
            ends = shown_range(measure)
            layers.append(ProjectLayer(title, path, "quantity", visible=False, group="Uncertainty", value_range=ends))
        if f"{output.name}_scores" in names:
            kind = "score" if plan.calibrated(output) else "uncalibrated score"
            path = folder / names[f"{output.name}_scores"]
            layers += [
                ProjectLayer(f"{kind} of {one.name}", path, "scores", visible=False, group="Scores", band=one.index + 1)
                for one in output.legend.classes
            ]
    layers.append(ProjectLayer("why there is no class", folder / names["reason"], "reason", REASON_LEGEND, visible=False, group="Quality"))
    if "image" in names:
        title = " ".join(plan.picture_roles)
        layers.append(ProjectLayer(f"imagery ({title})", folder / names["image"], "picture", group="Imagery"))
    crs = plan.geobox.crs
    assert crs is not None, "a map has a CRS"
    bounds = plan.geobox.boundingbox
    extent = (bounds.left, bounds.bottom, bounds.right, bounds.top)
    write_project(folder / names["project"], layers, title=f"{package.title}: {plan.scene.name}", crs=crs, extent=extent)
