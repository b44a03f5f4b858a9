"""Maps of xarray arrays as arrays, without a file: all at once, or lazily, some rows of tiles for each piece of a dask array.

A piece is mapped on the grid of the whole array, with the rows around it that its tiles and its preparation look at, so that pixels do
not depend on how an array is cut.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import InputError, SceneError, require
from geoseg.io.opening import gdal_env
from geoseg.io.score_files import NO_SCORE, SCORE_STEPS
from geoseg.mapping.network import open_network
from geoseg.mapping.plan import MapOptions, MapPlan, plan_map
from geoseg.mapping.rasters import strip_rasters
from geoseg.mapping.rows import finished_strips
from geoseg.mapping.windows import area_of
from geoseg.models.package import ModelPackage
from geoseg.preprocess.quality import Reason
from geoseg.scene import Scene
from geoseg.scenes.arrays import ArrayForm, describe_array, forget, write_rows
from geoseg.scenes.open_scene import open_scene

if TYPE_CHECKING:
    from xarray import DataArray, Dataset

log = logging.getLogger(__name__)

_ROWS = 1024
"""Rows of a lazy map's pieces, at least, unless the array's own pieces are larger."""
_LOOKED_AT = 512
"""Rows from the middle of a lazy array that are computed at once: where its bands' meaning depends on their values."""
_NOT_HERE = ("shape", "min_area_m2", "simplify_m", "cloud_model", "zones", "resolution", "crs", "like")
"""Options that work on finished files, or change the grid."""


@dataclass(frozen=True)
class MappedArray:
    """What a package makes of an array, by raster; lazy where the array is."""

    rasters: dict[str, Any]
    """`reason`, each output's name, `…_scores` where asked for: (plane, row, col), numpy or dask."""
    warnings: tuple[str, ...]


def map_array(
    given: DataArray | Dataset, package: ModelPackage, *, options: MapOptions | None = None, opening: Mapping[str, Any] | None = None
) -> MappedArray:
    """The rasters of `make_map` for an array of one date; `opening` are the words of `open_scene`, such as `sensor` and `bands`.

    InputError for options that work on files only, SceneError for pixels finer than the package takes, and what `open_scene` and
    `plan_map` raise, at once, also for lazy arrays.
    """
    options = replace(options or MapOptions(), picture=False, polygons=False)
    plain = MapOptions()
    if strange := [name for name in _NOT_HERE if getattr(options, name) != getattr(plain, name)]:
        raise InputError(f"{strange[0]} is for maps that are written as files; give the array to geoseg.make_map, or leave it out")
    planes, form = describe_array(given)
    lazy = planes.chunks is not None
    first = max(0, form.shape[1] // 2 - _LOOKED_AT // 2) if lazy else 0
    held = planes[:, first : first + _LOOKED_AT] if lazy else planes
    path = write_rows(form, held.to_numpy(), first)
    try:
        scene = open_scene(path, **(opening or {}))
        plan = plan_map(scene, package, options)
        if plan.geobox.shape != form.shape[1:]:
            raise SceneError(
                f"the array's pixels are finer than {package.title} takes ({package.pixel_size_range_m[0]:g} m at least); make them "
                "coarser with array.coarsen or array.odc.reproject, or give the array to geoseg.make_map"
            )
        if not lazy:
            made = _made(plan, 0, plan.tiles.strips[-1].tile_row + 1)
            if not (made["reason"] == Reason.OBSERVED).any():
                raise SceneError("the array has no valid pixel, so there is nothing to map; check its nodata value with array.rio.nodata")
            return MappedArray(made, plan.warnings)
    finally:
        forget(path)
    return MappedArray(_lazily(planes, form, plan, path), ())


def scores_of(stored: Any) -> Any:
    """(class, row, col) float32 scores 0…1, NaN where there is none, from those that a map stores; numpy or dask."""
    return np.where(stored == NO_SCORE, np.float32(np.nan), stored.astype(np.float32) / SCORE_STEPS)


def _made(plan: MapPlan, begin: int, end: int) -> dict[str, NDArray[Any]]:
    """The rasters of these rows of tiles, all columns."""
    strips = [strip for strip in plan.tiles.strips if begin <= strip.tile_row < end]
    top, bottom = min(strip.rows.start for strip in strips), max(strip.rows.stop for strip in strips)
    found: dict[str, NDArray[Any]] = {}
    with gdal_env(plan.cache_mb):
        for finished in finished_strips(plan, open_network(plan), area_of(plan), strips):
            rows, cols = finished.strip.rows, finished.strip.panel.cols
            for name, raster in strip_rasters(plan, finished):
                if name not in found:
                    found[name] = np.empty((len(raster), bottom - top, plan.geobox.shape[1]), raster.dtype)
                found[name][:, rows.start - top : rows.stop - top, cols] = raster
    return found


def _lazily(planes: DataArray, form: ArrayForm, plan: MapPlan, looked_at: str) -> dict[str, Any]:
    """The same as a dask array of pieces."""
    dask = require("dask", extra="cluster")
    arrays = require("dask.array", extra="cluster")
    shapes = {name: (len(raster), raster.dtype) for name, raster in _of_nothing(form, plan, looked_at).items()}
    tiles, width = plan.tiles, form.shape[2]
    reach = tiles.tile + plan.halo
    least = max(_ROWS, max(planes.chunks[1]) if planes.chunks else 0)
    pieces: dict[str, list[Any]] = {name: [] for name in shapes}
    for begin, end, top, bottom in _groups(plan, least):
        first, last = max(0, top - reach), min(form.shape[1], bottom + reach)
        needed = planes.data[:, first:last].rechunk(-1).to_delayed().item()
        made = dask.delayed(_map_piece, pure=True)(
            needed, first, form, plan.scene, looked_at, str(plan.package.path), plan.options, begin, end
        )
        for name, (count, dtype) in shapes.items():
            pieces[name].append(arrays.from_delayed(made[name], (count, bottom - top, width), dtype))
    return {name: arrays.concatenate(parts, axis=1) for name, parts in pieces.items()}


def _groups(plan: MapPlan, least: int) -> Iterator[tuple[int, int, int, int]]:
    """Rows of tiles, from … to, that finish at least so many rows of pixels together, and these rows."""
    rows: dict[int, slice] = {strip.tile_row: strip.rows for strip in plan.tiles.strips}
    order, begin = sorted(rows), 0
    for place, tile_row in enumerate(order):
        if rows[tile_row].stop - rows[order[begin]].start >= least or place == len(order) - 1:
            yield order[begin], tile_row + 1, rows[order[begin]].start, rows[tile_row].stop
            begin = place + 1


def _map_piece(
    values: NDArray[Any], first: int, form: ArrayForm, scene: Scene, looked_at: str, model: str, options: MapOptions, begin: int, end: int
) -> dict[str, NDArray[Any]]:
    """The rasters of some rows of tiles, from the rows of the array that they look at."""
    path = write_rows(form, values, first)
    layers = tuple(replace(layer, path=path) if layer.path == looked_at else layer for layer in scene.layers)
    try:
        return _made(plan_map(replace(scene, layers=layers), ModelPackage.open(model), options), begin, end)
    finally:
        forget(path)


def _of_nothing(form: ArrayForm, plan: MapPlan, looked_at: str) -> dict[str, NDArray[Any]]:
    """The rasters of the first row of tiles of an empty scene: how many planes of what type each has."""
    nothing = np.zeros((form.shape[0], 0, form.shape[2]), form.dtype)
    tall = replace(form, shape=(form.shape[0], min(form.shape[1], plan.tiles.tile), form.shape[2]))
    everywhere = replace(plan.options, aoi=None, exclude=None)
    return _map_piece(nothing, 0, tall, plan.scene, looked_at, str(plan.package.path), everywhere, 0, 1)
