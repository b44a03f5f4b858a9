"""The network that a map asks for: one package or an ensemble, with or without test-time augmentation, on its runtime."""

from __future__ import annotations

from geoseg.errors import PackageError
from geoseg.mapping.plan import MapPlan
from geoseg.mapping.uncertainty import members_counted, tiles_counted
from geoseg.models.fit import averaged_pixel_size_m
from geoseg.models.package import ModelPackage
from geoseg.runtimes.contract import Runtime
from geoseg.runtimes.ensemble import Ensemble, check_members, renormalisation
from geoseg.runtimes.open_runtime import open_runtime
from geoseg.runtimes.symmetries import Symmetries, check_turnable


def open_network(plan: MapPlan) -> Runtime:
    """What scores the tiles of this plan, each call on one thread.

    The mean over symmetries is that of the ensemble's means. Raises PackageError where a member does not fit the first package or the
    plan's tiles, or where turned images would mislead the network, and what `open_runtime` raises.
    """
    options, first = plan.options, plan.package
    members = [ModelPackage.open(path) for path in options.ensemble]
    for member in members:
        check_members(first, member)
        _check_tiles(plan, member)
    opened = [
        open_runtime(one, options.runtime, precision=options.precision, device=options.device, calls=plan.workers)
        for one in (first, *members)
    ]
    opened = [members_counted(one, plan.measures) for one in opened]
    runtime = opened[0]
    if members:
        changes = [None, *(renormalisation(first.preparation, member.preparation) for member in members)]
        runtime = Ensemble(list(zip(opened, changes, strict=True)))
    if options.tta is not None:
        check_turnable(first)
        runtime = Symmetries(runtime, options.tta)
    return tiles_counted(runtime, plan.measures)


def _check_tiles(plan: MapPlan, member: ModelPackage) -> None:
    tiles = plan.tiles
    if any(place % member.stride for place in (tiles.tile, *tiles.row_origins, *tiles.col_origins)):
        raise PackageError(
            f"{member.title} takes tiles that begin at multiples of {member.stride} pixels; those of {plan.package.title} begin at "
            f"multiples of {plan.package.stride}: name {member.path} first"
        )
    if averaged_pixel_size_m(member, plan.geobox) is not None:
        raise PackageError(
            f"the map's pixels are finer than {member.title} takes ({member.pixel_size_range_m[0]:g} m), which {plan.package.title} does; "
            "choose a coarser --resolution, or leave it out"
        )
