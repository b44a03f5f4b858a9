"""A cloud map of the scene, made with a model package of its own before the map itself, where no mask is given."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path

from geoseg.errors import InputError, PackageError
from geoseg.io.opening import gdal_env
from geoseg.layers.masks import MASK, masking_names, with_mask
from geoseg.mapping.network import open_network
from geoseg.mapping.plan import MapOptions, MapPlan, plan_map
from geoseg.mapping.rasters import Parts, join_strips, write_strips
from geoseg.mapping.rows import finished_strips
from geoseg.mapping.windows import Area
from geoseg.models.package import ModelPackage, Output

_SHARED = ("aoi", "exclude", "runtime", "device", "threads", "on_error")
"""Options of the map that hold for its cloud map, too."""


def plan_clouds(plan: MapPlan) -> MapPlan | None:
    """The plan of the cloud map that the options ask for, on its own grid; None where they ask for none.

    Raises what `plan_map` raises where the cloud model does not fit the scene, PackageError for a package without a class of cloud
    or shadow, and InputError where a mask was given as well.
    """
    path = plan.options.cloud_model
    if path is None:
        return None
    if MASK in plan.scene.roles:
        raise InputError("both --mask and --cloud-model were given; leave one out")
    package = ModelPackage.open(path)
    _cloud_output(package)
    options = replace(MapOptions(picture=False, polygons=False, mask_classes=()), **{name: getattr(plan.options, name) for name in _SHARED})
    return plan_map(plan.scene, package, options)


def masked_by_clouds(plan: MapPlan, clouds: MapPlan, folder: Path, area: Area) -> MapPlan:
    """The same plan with its scene masked by a cloud map, which is written into `folder`; clouds are mapped inside `area` only."""
    parts, output = Parts(folder / "clouds", clouds), _cloud_output(clouds.package)
    runtime = open_network(clouds)
    with gdal_env(clouds.cache_mb), closing(finished_strips(clouds, runtime, area)) as strips:
        for _ in write_strips(parts, strips):
            pass
    if plan.damaged is not None and clouds.damaged is not None:
        for block in clouds.damaged.blocks:
            plan.damaged.note(block)
    join_strips(parts, {})
    told = tuple(f"cloud model: {warning}" for warning in clouds.warnings if warning not in plan.warnings)
    return replace(plan, scene=with_mask(plan.scene, parts.path(output.name)), warnings=(*plan.warnings, *told))


def _cloud_output(package: ModelPackage) -> Output:
    """The first output with a class whose name says that it masks."""
    for output in package.outputs:
        if output.kind == "classes" and masking_names(output.legend):
            return output
    raise PackageError(f"{package.title} ({package.path}) has no class called cloud or shadow; give a cloud model with --cloud-model")
