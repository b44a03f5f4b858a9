"""Polygons for the page: what can be seen of them in a view, as GeoJSON in degrees.

Vector tiles would cut a polygon at every tile's edge and need an encoder of their own. A view needs neither: its largest polygons, without
what is smaller than a pixel, are a few hundred kilobytes however many there are.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray
from rasterio.warp import transform_bounds

from geoseg.legend import Legend
from geoseg.view.shown import OutlineLayer

MOST = 4000
"""Polygons in a view; of more the largest."""

_CODE, _AREA = "class_code", "area_m2"
_LEAST_PIXELS = 2.0
"""Polygons of less than so many pixels of the screen are left out."""
_TOLERANCE_PIXELS = 0.5
_MERCATOR_PIXEL_M = 156_543.03392804097
"""Of a tile of 256 pixels that shows the whole world, at the equator."""
_DIGITS = 7
"""Of degrees: a centimetre."""
_PLAIN = "#ffffff"
_SHADE = 0.55
"""Outlines are their class's colour, darkened as in the QGIS style."""


@dataclass(frozen=True)
class View:
    """What the browser shows, in degrees."""

    west: float
    south: float
    east: float
    north: float
    zoom: float
    """As for tiles of 256 pixels."""

    @property
    def pixel_m(self) -> float:
        """The ground size of a pixel in the middle."""
        return float(_MERCATOR_PIXEL_M * np.cos(np.radians((self.south + self.north) / 2)) / 2**self.zoom)

    @property
    def pixel_degrees(self) -> float:
        """The width of a pixel."""
        return float(360 / (256 * 2**self.zoom))


def outlines_in(layer: OutlineLayer, view: View, legend: Legend | None) -> str:
    """The outlines as a GeoJSON FeatureCollection, with `shown` and `there`: how many of how many in the view."""
    import pyogrio

    box = transform_bounds("EPSG:4326", layer.crs, view.west, view.south, view.east, view.north)
    columns = [name for name in (_CODE, _AREA) if name in layer.columns]
    path = layer.file.check()
    _, _, stored, found = pyogrio.raw.read(path, layer=layer.layer, bbox=box, columns=columns)
    told = dict(zip(columns, found, strict=True))
    kept = _largest(told.get(_AREA), len(stored), view)
    shapes = shapely.clip_by_rect(shapely.from_wkb(stored[kept]), *box)
    lines = shapely.boundary(shapely.transform(shapes, _to_degrees(layer.crs), interleaved=False))
    lines = shapely.simplify(lines, _TOLERANCE_PIXELS * view.pixel_degrees, preserve_topology=False)
    lines = shapely.transform(lines, lambda xy: np.round(xy, _DIGITS))
    colours = _colours(legend)
    codes = told[_CODE][kept] if _CODE in told else np.full(len(kept), -1)
    features = [
        f'{{"type":"Feature","properties":{{"colour":"{colours.get(int(code), _PLAIN)}"}},"geometry":{text}}}'
        for code, text, line in zip(codes, shapely.to_geojson(lines), lines, strict=True)
        if line is not None and not line.is_empty
    ]
    facts = f'"shown":{len(features)},"there":{len(stored)}'
    return f'{{"type":"FeatureCollection",{facts},"features":[{",".join(features)}]}}'


def polygon_at(layer: OutlineLayer, lng: float, lat: float) -> dict[str, Any] | None:
    """What is written down of the polygon there, in plain JSON; None where there is none."""
    import pyogrio

    x, y = _to_layer(layer.crs).transform(lng, lat)
    if not np.isfinite([x, y]).all():
        return None
    path = layer.file.check()
    _, _, stored, found = pyogrio.raw.read(path, layer=layer.layer, bbox=(x, y, x, y), columns=list(layer.columns))
    inside = np.flatnonzero(shapely.intersects_xy(shapely.from_wkb(stored), x, y))
    if not inside.size:
        return None
    values = {name: column[inside[0]] for name, column in zip(layer.columns, found, strict=True)}
    return {"layer": layer.title, "area_m2": _plain(values.get(_AREA)), "columns": {name: _plain(value) for name, value in values.items()}}


def _largest(areas: NDArray[Any] | None, count: int, view: View) -> NDArray[np.int64]:
    """Places of the polygons that are shown."""
    if areas is None:
        return np.arange(min(count, MOST))
    seen = np.flatnonzero(areas >= _LEAST_PIXELS * view.pixel_m**2)
    return seen[np.argsort(-areas[seen], kind="stable")[:MOST]]


def _colours(legend: Legend | None) -> dict[int, str]:
    if legend is None:
        return {}
    return {one.code: "#" + "".join(f"{round(part * _SHADE):02x}" for part in one.rgb) for one in legend.classes}


def _to_degrees(crs: str) -> Any:
    transformer = _to_layer(crs)

    def convert(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[Any, Any]:
        lng, lat = transformer.transform(x, y, direction=pyproj.enums.TransformDirection.INVERSE)
        return lng, lat

    return convert


@lru_cache(maxsize=64)
def _to_layer(crs: str) -> pyproj.Transformer:
    return pyproj.Transformer.from_crs("EPSG:4326", crs, always_xy=True)


def _plain(value: Any) -> Any:
    """A cell as JSON has it; None for what is missing."""
    plain = value.item() if isinstance(value, np.generic) else value
    if plain is None or plain != plain:
        return None
    return plain if isinstance(plain, bool | int | float | str) else json.loads(json.dumps(plain, default=str))
