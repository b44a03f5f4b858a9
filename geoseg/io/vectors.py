"""Vector files in and out: areas of interest onto a scene's grid, polygons into a GeoPackage with its style inside."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.features import rasterize
from shapely import Polygon
from shapely.geometry.base import BaseGeometry

from geoseg.errors import InputError
from geoseg.ground import LONGEST_EDGE_M, distance_km, divide_long_edges, horizontal, metres_to_crs, outline, world_width
from geoseg.io.geoparquet import is_geoparquet, read_geoparquet
from geoseg.io.ogr import pyogrio
from geoseg.io.polygon_files import geopackage, layer_options
from geoseg.io.postgis import is_database, read_table

if TYPE_CHECKING:
    from geopandas import GeoDataFrame

_MARGIN = 0.1
"""Share of a grid's size that is kept around it."""
_POLAR = 80 / 360
"""Distance from the equator, as a share of the world's width, from which a place counts as polar: 80 degrees."""


def write_polygons(
    path: Path, frame: GeoDataFrame, *, layer: str = "polygons", style_qml: str | None = None, description: str | None = None
) -> None:
    """Write polygons as the one layer of a GeoPackage 1.3, all as multipolygons, also where there are none.

    `style_qml` is stored inside as the layer's default style, which QGIS applies wherever the file goes; `description` is what
    the file says of the layer. The file appears whole or not at all, and the same input gives the same bytes. Raises OutputError
    where it cannot be written.

    >>> prediction = geoseg.predict("scene.tif", "my_model", "chosen")
    >>> frame = prediction.to_geopandas()
    >>> geoseg.write_polygons(Path("water.gpkg"), frame[frame.class_name == "water"])
    """
    with geopackage(path, layer, style_qml) as package:
        pyogrio.write_dataframe(
            frame,
            package.part,
            driver="GPKG",
            layer=layer,
            geometry_type="MultiPolygon",
            promote_to_multi=True,
            use_arrow=True,
            layer_options=layer_options(description),
            dataset_options={"VERSION": "1.3"},
        )
        package.expected = len(frame)


def read_area(path: str | Path, crs: Any, *, near: GeoBox | None = None, must_touch: bool = True) -> BaseGeometry:
    """The union of all polygons of a vector file, as one shapely geometry in `crs`.

    Any format and CRS that GDAL reads; `FILE|layername=NAME` chooses a layer. Edges that are straight in the file stay the
    same lines. A polygon in degrees whose outline leaps by more than half the world is taken to cross the antimeridian the
    short way.

    With `near` only what lies around that grid is returned, so that a whole continent does not leave the domain of a local
    projection; where nothing touches the grid, InputError is raised with the distance in km, or the result is empty where
    it need not touch. Raises InputError where there is no file, no CRS, nothing in it, or no polygon.
    """
    frame = read_features(path)
    polygons = _polygons(frame.geometry.to_numpy(), path)
    polygons = shapely.get_parts(_mend(_unwrap(polygons, world_width(frame.crs))))
    if near is None:
        return shapely.union_all(_reproject(polygons, frame.crs, crs))
    placed, _ = onto_grid(polygons, frame.crs, near)
    if must_touch and not len(placed):
        away = distance_km(shapely.union_all(polygons), frame.crs, near)
        raise InputError(f"{path} does not touch the scene: it lies about {away:,.0f} km away; give an area that covers part of the scene")
    return shapely.union_all(placed)


def burn_area(geometry: BaseGeometry, geobox: GeoBox) -> NDArray[np.bool_]:
    """(row, col) True where the pixel's centre lies inside a geometry in the grid's CRS, also once around the world."""
    shapes, _ = onto_grid(np.asarray([geometry], dtype=object), geobox.crs, geobox)
    if not len(shapes):
        return np.zeros(geobox.shape, dtype=bool)
    burned: NDArray[np.uint8] = rasterize(shapes, out_shape=tuple(geobox.shape), transform=geobox.affine, dtype="uint8")
    return burned.astype(bool)


def onto_grid(geometries: NDArray[Any], crs: Any, geobox: GeoBox) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """The geometries in `crs` that touch a grid, in the grid's CRS, and the position of each among those given.

    Only what lies around the grid is kept of each, which keeps whole continents from leaving the domain of a local
    projection. Where x repeats around the world, a geometry one world further east or west counts too.
    """
    near, which = _surroundings(geometries, crs, geobox)
    near, part = shapely.get_parts(near, return_index=True)
    moved, again = _around_the_world(_reproject(near, crs, geobox.crs), geobox.crs)
    touches = shapely.Polygon(outline(geobox)).intersects(moved)
    position = which[part[again[touches]]]
    order = np.argsort(position, kind="stable")
    return moved[touches][order], position[order]


def read_features(path: str | Path, *, wanted: str = "polygons") -> GeoDataFrame:
    """All features of the one spatial layer of a vector file, or of the layer in `FILE|layername=NAME`; flat, without heights.

    A table of PostGIS is given as `geoseg.io.postgis.read_table` says.

    Raises InputError where there is no such file, it is no vector file, several layers could be meant, it states no CRS, or
    holds nothing.
    """
    from geopandas import GeoSeries  # takes most of a second to load

    if is_database(path):
        frame = read_table(path)
    else:
        frame = read_geoparquet(path) if is_geoparquet(path) else _read_layer(*find_layer(path, wanted=wanted))
    frame = frame[~(frame.geometry.isna() | frame.geometry.is_empty)]
    if not len(frame):
        raise InputError(f"{path} is empty; expected at least one of: {wanted}")
    if frame.crs is None:
        raise InputError(
            f"{path} states no CRS, so its place is not known; assign one, for example with: ogr2ogr -a_srs EPSG:4326 fixed.gpkg {path}"
        )
    geometries = frame.geometry.to_numpy()
    if not shapely.has_z(geometries).any():
        return frame
    return frame.set_geometry(GeoSeries(shapely.force_2d(geometries), index=frame.index, crs=frame.crs))


def find_layer(path: str | Path, *, wanted: str = "polygons") -> tuple[str, str]:
    """The file and the name of its one spatial layer, or of the layer in `FILE|layername=NAME`; InputError as `read_features`."""
    file, _, named = str(path).partition("|layername=")
    if not file.startswith("/vsi") and "://" not in file and not Path(file).exists():
        raise InputError(f"no such file: {file}; expected a vector file with {wanted}")
    try:
        layers = [str(name) for name, kind in pyogrio.list_layers(file) if kind is not None]
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError) as error:
        raise InputError(
            f"{file} is not a vector file that GDAL can read; expected {wanted} as GeoPackage, GeoJSON, Shapefile …"
        ) from error
    if named and named not in layers:
        raise InputError(f"{file} has no layer {named!r}; it has {', '.join(layers) or 'none with geometries'}")
    if not named and len(layers) > 1:
        raise InputError(f"{file} has several layers: {', '.join(layers)}; name one, such as '{file}|layername={layers[0]}'")
    if not layers:
        raise InputError(f"{file} holds no geometries; expected {wanted}")
    return file, named or layers[0]


def _read_layer(file: str, layer: str) -> GeoDataFrame:
    try:
        return pyogrio.read_dataframe(file, layer=layer)
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, pyogrio.errors.GeometryError) as error:
        raise InputError(f"{file} is damaged and cannot be read ({error}); export it anew") from error


def _polygons(geometries: NDArray[Any], path: str | Path) -> NDArray[Any]:
    parts = shapely.get_parts(geometries)
    areal = np.isin(shapely.get_type_id(parts), (shapely.GeometryType.POLYGON, shapely.GeometryType.MULTIPOLYGON))
    if not areal.any():
        kinds = sorted({part.geom_type for part in parts})
        raise InputError(f"{path} holds {' and '.join(kinds)} but no polygons; draw the area as polygons")
    return parts[areal]


def _unwrap(geometries: NDArray[Any], width: float | None) -> NDArray[Any]:
    """The geometries, with each edge of a polygon going the short way around a world that is `width` units wide."""
    if width is None:
        return geometries
    left, _, right, _ = shapely.bounds(geometries).T
    wide = np.flatnonzero((shapely.get_type_id(geometries) == shapely.GeometryType.POLYGON) & (right - left > width / 2))
    unwrapped = geometries.copy()
    for place in wide:
        unwrapped[place] = _unwrap_polygon(geometries[place], width)
    return unwrapped


def _unwrap_polygon(polygon: Polygon, width: float) -> Polygon:
    def continuous(ring: Any) -> NDArray[np.float64]:
        xy = shapely.get_coordinates(ring)
        return np.column_stack([np.unwrap(xy[:, 0], period=width), xy[:, 1]])

    leap = np.abs(np.diff(shapely.get_coordinates(polygon.exterior)[:, 0])).max()
    shell = continuous(polygon.exterior)
    if leap <= width / 2 or leap >= width * (1 - 1e-9) or abs(shell[0, 0] - shell[-1, 0]) > width / 2:
        return polygon  # nothing leaps, or it runs once around the world or a pole
    middle = (shell[:, 0].min() + shell[:, 0].max()) / 2
    holes = [continuous(hole) for hole in polygon.interiors]
    return shapely.Polygon(shell, [hole - (width * round((hole[:, 0].mean() - middle) / width), 0) for hole in holes])


def _reproject(geometries: NDArray[Any], source: Any, target: Any) -> NDArray[Any]:
    """Geometries in another CRS, long edges divided first so that they stay the same lines; empty where they leave its domain."""
    from geopandas import GeoSeries

    source, target = horizontal(source), horizontal(target)
    if not len(geometries) or source == target:
        return geometries
    divided = divide_long_edges(geometries, metres_to_crs(shapely.total_bounds(geometries), source, LONGEST_EDGE_M))
    moved: NDArray[Any] = GeoSeries(divided, crs=source).to_crs(target).to_numpy().copy()
    moved[~np.isfinite(shapely.bounds(moved)).all(axis=1)] = shapely.GeometryCollection()
    moved = _unwrap(moved, world_width(target))
    bent = ~shapely.is_valid(moved)
    moved[bent] = _mend(moved[bent])
    return moved


def _mend(polygons: NDArray[Any]) -> NDArray[Any]:
    """Valid polygons, without the lines and points to which some of their parts may shrink."""
    mended: NDArray[Any] = shapely.make_valid(polygons, method="structure", keep_collapsed=False)
    return mended


def _around_the_world(geometries: NDArray[Any], crs: Any) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """The geometries and, where x repeats around the world, the same ones further west and east; which of those given each is."""
    width, which = world_width(crs), np.arange(len(geometries))
    if width is None:
        return geometries, which
    xy, offset = shapely.get_coordinates(geometries), np.array([width, 0.0])
    turned = [shapely.set_coordinates(geometries.copy(), xy + turns * offset) for turns in (-1, 0, 1)]
    return np.concatenate(turned), np.tile(which, len(turned))


def _surroundings(geometries: NDArray[Any], crs: Any, geobox: GeoBox) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """What lies around a grid of geometries in `crs`, and which of those given each is; polygons that cross themselves are mended."""
    box = box_around(geobox, crs)
    if box is None:
        return _sound(geometries), np.arange(len(geometries))
    candidates, which = _around_the_world(geometries, crs)
    left, bottom, right, top = shapely.bounds(candidates).T
    near = (left <= box[2]) & (right >= box[0]) & (bottom <= box[3]) & (top >= box[1])
    inside = ((left >= box[0]) & (right <= box[2]) & (bottom >= box[1]) & (top <= box[3]))[near]
    cut = _sound(candidates[near])
    cut[~inside] = shapely.intersection(cut[~inside], shapely.box(*box))
    some = ~shapely.is_empty(cut)
    return cut[some], which[near][some]


def box_around(geobox: GeoBox, crs: Any) -> tuple[float, float, float, float] | None:
    """Left, bottom, right, top in `crs` of a grid and a margin; None where no such box says where the grid is, as around a pole."""
    from geopandas import GeoSeries

    edge = GeoSeries(shapely.points(outline(geobox)), crs=horizontal(geobox.crs)).to_crs(horizontal(crs))
    xy = shapely.get_coordinates(edge.to_numpy())
    width = world_width(crs)
    if width is not None:
        xy[:, 0] = np.unwrap(xy[:, 0], period=width)
    (left, bottom), (right, top) = xy.min(axis=0), xy.max(axis=0)
    margin = _MARGIN * max(right - left, top - bottom)
    around_a_pole = width is not None and (right - left > width / 2 or max(abs(bottom), abs(top)) + margin > _POLAR * width)
    if around_a_pole or not np.isfinite(margin):
        return None
    return float(left - margin), float(bottom - margin), float(right + margin), float(top + margin)


def _sound(geometries: NDArray[Any]) -> NDArray[Any]:
    """The geometries, with those polygons mended that cross themselves, which cannot be cut."""
    broken = ~shapely.is_valid(geometries) & (shapely.get_dimensions(geometries) == 2)
    if not broken.any():
        return geometries
    sound = geometries.copy()
    sound[broken] = _mend(geometries[broken])
    return sound
