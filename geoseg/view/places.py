"""What layers say of one place: class, score, uncertainty, the polygon there, and where it is."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import pyproj
from odc.geo.geobox import GeoBox
from rasterio.windows import Window

from geoseg.errors import InputError
from geoseg.io.opening import gdal_env, opened
from geoseg.io.score_files import ScoreFile, open_scores
from geoseg.legend import LegendClass
from geoseg.scene import crs_name, read_scene
from geoseg.view.outlines import polygon_at
from geoseg.view.shown import RasterLayer, Shown, ShownMap, ShownScene, grid_of
from geoseg.view.tiles import CACHE_MB

_DEGREES = 7


def values_at(shown: Shown, lng: float, lat: float) -> dict[str, Any]:
    """Map or scene → what it says there, of those that reach there; `lng` and `lat` in degrees, WGS 84."""
    with gdal_env(CACHE_MB):
        maps = {one.id: said for one in shown.maps if (said := _of_map(one, lng, lat)) is not None}
        scenes = {one.id: said for one in shown.scenes if (said := _of_scene(one, lng, lat)) is not None}
    return {"lng": round(lng, _DEGREES), "lat": round(lat, _DEGREES), "places": maps | scenes}


def _of_map(one: ShownMap, lng: float, lat: float) -> dict[str, Any] | None:
    grid = one.result.classes.geobox
    x, y = _on_map(grid, lng, lat)
    if _pixel_at(grid, x, y) is None:
        return None
    found = _class_at(one.classes, x, y)
    reason = _class_at(one.reason, x, y) if one.reason is not None and found is None else None
    return {
        "x": x,
        "y": y,
        "crs": crs_name(grid.crs),
        "class": None if found is None else {"code": found.code, "name": found.name, "colour": found.colour},
        "why": None if reason is None else reason.name,
        "score": None if found is None else _score_at(one, found, x, y),
        "layers": [{"id": layer.id, "title": layer.title, "says": said} for layer, said in _others_at(one, x, y)],
        "polygon": next((said for layer in one.outlines if (said := polygon_at(layer, lng, lat)) is not None), None),
    }


def _of_scene(one: ShownScene, lng: float, lat: float) -> dict[str, Any] | None:
    x, y = _on_map(one.grid, lng, lat)
    place = _pixel_at(one.grid, x, y)
    if place is None:
        return None
    for file in one.files:
        file.check()
    row, col = place
    roles = tuple(dict.fromkeys(role for look in one.looks for role in look.roles))
    raster = read_scene(one.scene, roles, one.grid[row : row + 1, col : col + 1], resampling="nearest")
    bands = [
        {
            "role": band.role,
            "value": float(raster.values[at, 0, 0]) * band.scale + band.offset if raster.valid[at, 0, 0] else None,
            "unit": "" if band.unit in ("1", "unknown") else band.unit,
        }
        for at, band in enumerate(raster.bands)
    ]
    return {"x": x, "y": y, "crs": crs_name(one.grid.crs), "bands": bands}


def _score_at(one: ShownMap, found: LegendClass, x: float, y: float) -> dict[str, Any] | None:
    """The score of the class that is mapped; None where it was not kept."""
    if not one.scores:
        return None
    file = _score_file(one.scores[0], one)
    if file is None:
        return None
    layer = one.scores[file.bands[found.index] - 1]
    value = _value_at(layer, x, y)
    return None if value is None else {"value": value, "calibrated": file.calibrated}


def _score_file(layer: RasterLayer, one: ShownMap) -> ScoreFile | None:
    try:
        return open_scores(layer.file.check(), one.result.classes.legend)
    except InputError:  # of other classes
        return None


def _others_at(one: ShownMap, x: float, y: float) -> list[tuple[RasterLayer, float | str]]:
    said: list[tuple[RasterLayer, float | str]] = []
    for layer in one.others:
        if layer.legend is not None:
            if (named := _class_at(layer, x, y)) is not None:
                said.append((layer, named.name))
        elif (value := _value_at(layer, x, y)) is not None:
            said.append((layer, value))
    return said


def _class_at(layer: RasterLayer, x: float, y: float) -> LegendClass | None:
    assert layer.legend is not None, "only classes are asked for"
    stored = _stored_at(layer, x, y)
    return None if stored is None else next((one for one in layer.legend.classes if one.code == stored), None)


def _value_at(layer: RasterLayer, x: float, y: float) -> float | None:
    stored = _stored_at(layer, x, y)
    return None if stored is None else stored * layer.scale + layer.offset


def _stored_at(layer: RasterLayer, x: float, y: float) -> float | None:
    """The number that the file holds there; None where it has no data or does not reach."""
    path = str(layer.file.check())
    place = _pixel_at(grid_of(layer.file.path), x, y)
    if place is None:
        return None
    with opened(path) as file:
        here = file.read(layer.band, window=Window(place[1], place[0], 1, 1), masked=True)
    return None if np.ma.getmaskarray(here)[0, 0] or not np.isfinite(here.data[0, 0]) else float(here.data[0, 0])


def _on_map(grid: GeoBox, lng: float, lat: float) -> tuple[float, float]:
    """The place in the grid's CRS; infinite where it cannot describe it."""
    assert grid.crs is not None, "what is shown has a place"
    x, y = _from_lonlat(grid.crs.proj.to_wkt()).transform(lng, lat)
    return float(x), float(y)


def _pixel_at(grid: GeoBox, x: float, y: float) -> tuple[int, int] | None:
    """Row and column of the pixel that holds a place; None where the grid does not."""
    if not np.isfinite([x, y]).all():
        return None
    col, row = ~grid.affine * (x, y)
    rows, cols = grid.shape
    return (int(row), int(col)) if 0 <= row < rows and 0 <= col < cols else None


@lru_cache(maxsize=64)
def _from_lonlat(wkt: str) -> pyproj.Transformer:
    return pyproj.Transformer.from_crs("EPSG:4326", wkt, always_xy=True)
