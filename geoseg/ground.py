"""Metres on the ground: how large pixels and shapes really are, in whatever CRS they are drawn.

A metre of EPSG:3857 at 60° N is half a metre on the ground, EPSG:2263 counts in US survey feet and EPSG:4326 in degrees.
Lengths here are geodesics on the CRS's own ellipsoid. Areas are taken in an equal-area projection of that ellipsoid
around the place itself, which gives the geodesic area for all vertices at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pyproj
import shapely
from affine import Affine
from numpy.polynomial import chebyshev
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from shapely.geometry.base import BaseGeometry

from geoseg.errors import SceneError

LONGEST_EDGE_M = 5000.0
"""Longer edges are divided before they are projected, so that a line that is straight in one CRS stays the same line in another."""

_NODES = 12
_ROWS_AT_ONCE = 16
"""Small enough that the matrix library keeps to one thread: its others would spin for ten times as long as the product takes."""
"""Chebyshev nodes along an axis: pixel areas are smooth, so that 12 give them to 1e-9 over a continent."""
_SMALLEST_TERM = 1e-9
"""Share of the largest term of a product below which terms do not count."""
_GEOMETRIES_AT_ONCE = 50_000
_NEAR_POLE = 89.999
"""Degrees of latitude up to which east and north are told apart."""
_NEAR_DEGREES = 0.25
"""An equal-area projection is centred this near: the strips of one map then share one, which takes 30 ms to make."""


def pixel_size_m(geobox: GeoBox) -> tuple[float, float]:
    """Ground size in metres of the pixel in the middle of the grid: (from row to row, from column to column)."""
    row, col = geobox.shape[0] / 2, geobox.shape[1] / 2
    ends = corners_to_map(geobox.affine, np.array([col, col, col - 0.5, col + 0.5]), np.array([row - 0.5, row + 0.5, row, row]))
    return _lengths_m(ends, geobox.crs)


def metres_to_crs(place: GeoBox | Sequence[float] | NDArray[np.float64], crs: Any, metres: float) -> float:
    """A ground distance in units of `crs`, by the local scale in the middle of `place`: a grid, or (left, bottom, right, top).

    Where the scale differs between the axes (degrees), it is their geometric mean: right for tolerances that bound an area.
    """
    left, bottom, right, top = place.boundingbox.bbox if isinstance(place, GeoBox) else place
    x, y = (left + right) / 2, (bottom + top) / 2
    half = 5e-5 if horizontal(crs).is_geographic else 5.0
    across, along = _lengths_m([(x - half, y), (x + half, y), (x, y - half), (x, y + half)], crs)
    return metres * 2 * half / float(np.sqrt(across * along))


def local_scale(places: NDArray[np.float64], crs: Any) -> NDArray[np.float64]:
    """(place, 2) metres on the ground of one unit of `crs` along x and along y, around places given as (place, 2) x and y."""
    half = 5e-5 if horizontal(crs).is_geographic else 5.0
    to_degrees, geod = _lonlat(crs)
    scales = []
    for step in (np.array([half, 0.0]), np.array([0.0, half])):
        lon, lat = to_degrees.transform(*np.concatenate([places - step, places + step]).T)
        count = len(places)
        _, _, metres = geod.inv(lon[:count], lat[:count], lon[count:], lat[count:])
        scales.append(np.asarray(metres) / (2 * half))
    return np.stack(scales, axis=1)


def ground_directions(places: NDArray[np.float64], crs: Any) -> NDArray[np.float64]:
    """(place, 2, 2) ground metres to the east and to true north (last axis) of one unit of `crs` along x and along y (middle axis).

    `places` are (place, 2) x and y; NaN where the CRS cannot describe one, and beyond a pole as beside it.
    """
    half = 5e-4 if (degrees := horizontal(crs).is_geographic) else 50.0
    to_degrees, geod = _lonlat(crs)
    if degrees:
        places = np.column_stack([places[:, 0], np.clip(places[:, 1], -_NEAR_POLE, _NEAR_POLE)])
    directions = np.full((len(places), 2, 2), np.nan)
    for axis, step in enumerate(np.diag([half, half])):
        starts, ends = (np.column_stack(to_degrees.transform(*np.transpose(at))) for at in (places - step, places + step))
        known = np.isfinite(starts).all(axis=1) & np.isfinite(ends).all(axis=1)
        there, back, metres = geod.inv(*starts[known].T, *ends[known].T)
        length, there, back = np.asarray(metres) / (2 * half), np.radians(there), np.radians(back)
        # The direction in the middle: north turns on the way from start to end.
        towards = np.column_stack([np.sin(there) - np.sin(back), np.cos(there) - np.cos(back)]) / 2
        directions[known, axis] = length[:, np.newaxis] * towards
    return directions


def pixel_areas_m2(geobox: GeoBox) -> NDArray[np.float64]:
    """Ground area of each pixel in square metres, to be broadcast to (row, col).

    (row, 1) where the area depends on the row alone (degrees, Mercator and other cylinders, not rotated), else (row, col).
    Pixels beyond the edge of the world have area 0.
    """
    rows, cols = geobox.shape
    middle = corners_to_map(geobox.affine, np.array(cols / 2), np.array(rows / 2))
    project = equal_area(geobox.crs, middle)
    if geobox.affine.b == geobox.affine.d == 0 and _is_cylinder(horizontal(geobox.crs)):
        edges = geobox.affine.f + geobox.affine.e * np.arange(rows + 1)
        _, north = project.transform(np.full(rows + 1, middle[0]), edges)
        half = geobox.affine.a / 2
        east, _ = project.transform([middle[0] - half, middle[0] + half], [middle[1], middle[1]])
        heights = np.abs(np.diff(np.where(np.isfinite(north), north, np.nan)))
        by_row: NDArray[np.float64] = np.nan_to_num(heights * abs(east[1] - east[0]))[:, np.newaxis]
        return by_row
    row_nodes, col_nodes = _nodes(rows), _nodes(cols)
    sampled = _quad_areas(geobox, project, row_nodes, col_nodes)
    if not np.isfinite(sampled).all():
        centres = (np.arange(size, dtype=np.float64) + 0.5 for size in (rows, cols))
        return np.nan_to_num(_quad_areas(geobox, project, *centres), posinf=0.0)
    along_rows, along_cols = _interpolation(row_nodes, rows), _interpolation(col_nodes, cols)
    areas = np.empty((rows, cols))
    by_cols = sampled @ along_cols.T
    for top in range(0, rows, _ROWS_AT_ONCE):
        areas[top : top + _ROWS_AT_ONCE] = along_rows[top : top + _ROWS_AT_ONCE] @ by_cols
    return areas


def pixel_area_terms(geobox: GeoBox) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """`pixel_areas_m2` as a matrix product: (row, term) and (term, col); None where the grid leaves the world.

    There are one to three terms, because areas change smoothly. Right to 1e-9 of an area; where pixels are smaller than a
    metre, to the rounding of their corners' coordinates.
    """
    rows, cols = geobox.shape
    if geobox.affine.b == geobox.affine.d == 0 and _is_cylinder(horizontal(geobox.crs)):
        return pixel_areas_m2(geobox), np.ones((1, cols))
    middle = corners_to_map(geobox.affine, np.array(cols / 2), np.array(rows / 2))
    row_nodes, col_nodes = _nodes(rows), _nodes(cols)
    sampled = _quad_areas(geobox, equal_area(geobox.crs, middle), row_nodes, col_nodes)
    if not np.isfinite(sampled).all():
        return None
    left, sizes, right = np.linalg.svd(sampled, full_matrices=False)
    rounding = 2 * float(np.spacing(np.abs(middle).max()) / np.sqrt(abs(geobox.affine.determinant)))
    terms = int((sizes > max(_SMALLEST_TERM, rounding) * sizes[0]).sum())
    of_rows: NDArray[np.float64] = _interpolation(row_nodes, rows) @ (left[:, :terms] * sizes[:terms])
    return of_rows, right[:terms] @ _interpolation(col_nodes, cols).T


def geodesic_area_m2(geometries: Sequence[Any] | NDArray[Any], crs: Any) -> NDArray[np.float64]:
    """(geometry,) ground area in square metres of polygons and multipolygons whose edges are straight in `crs`; 0 for others."""
    shapes = np.asarray(geometries, dtype=object)
    areas = np.zeros(len(shapes))
    if not len(shapes) or not np.isfinite(extent := shapely.total_bounds(shapes)).all():
        return areas
    project = equal_area(crs, ((extent[0] + extent[2]) / 2, (extent[1] + extent[3]) / 2))
    longest = metres_to_crs(extent, crs, LONGEST_EDGE_M)
    for start in range(0, len(shapes), _GEOMETRIES_AT_ONCE):
        part = slice(start, start + _GEOMETRIES_AT_ONCE)
        areas[part] = _projected_areas(divide_long_edges(shapes[part], longest), project)
    return areas


def divide_long_edges(geometries: NDArray[Any], longest: float) -> NDArray[Any]:
    """The same lines with a vertex at least every `longest` units of their CRS."""
    left, bottom, right, top = shapely.bounds(geometries).T
    long = np.maximum(right - left, top - bottom) > longest
    if not long.any():
        return geometries
    divided = geometries.copy()
    divided[long] = shapely.segmentize(geometries[long], longest)
    return divided


def distance_km(geometry: BaseGeometry, crs: Any, geobox: GeoBox) -> float:
    """About how far a geometry in `crs` lies from the edge of a grid, along the ground in km."""
    to_degrees, geod = _lonlat(crs)
    divided = divide_long_edges(np.asarray([geometry]), metres_to_crs(shapely.bounds(geometry), crs, LONGEST_EDGE_M * 10))
    theirs = _finite(np.column_stack(to_degrees.transform(*shapely.get_coordinates(divided).T)))
    mine = _finite(np.column_stack(_lonlat(geobox.crs)[0].transform(*outline(geobox).T)))
    if not len(theirs) or not len(mine):
        return float("inf")
    from scipy.spatial import KDTree  # takes a third of a second to load

    _, nearest = KDTree(_on_sphere(mine)).query(_on_sphere(theirs))
    _, _, metres = geod.inv(*theirs.T, *mine[nearest].T)
    return float(np.min(metres)) / 1000


def corners_to_map(transform: Affine, col: NDArray[Any], row: NDArray[Any]) -> NDArray[np.float64]:
    """(…, 2) x and y of pixel corners, counted from the upper left one; the same corner is the same number everywhere."""
    x = transform.a * col + transform.b * row + transform.c
    y = transform.d * col + transform.e * row + transform.f
    return np.stack([x, y], axis=-1)


def outline(geobox: GeoBox, points_per_side: int = 65) -> NDArray[np.float64]:
    """(point, 2) x and y along the closed edge of a grid, in its CRS."""
    rows, cols = geobox.shape
    along = np.linspace(0, 1, points_per_side)
    col = np.concatenate([along, np.ones_like(along), along[::-1], np.zeros_like(along)]) * cols
    row = np.concatenate([np.zeros_like(along), along, np.ones_like(along), along[::-1]]) * rows
    return corners_to_map(geobox.affine, col, row)


@lru_cache(maxsize=64)
def horizontal(crs: Any) -> pyproj.CRS:
    """The part of a CRS that says where on the ground: a compound CRS without its heights."""
    if crs is None:
        raise SceneError(
            "the grid has no CRS, so its size on the ground is not known; assign one, for example with gdal_edit.py -a_srs EPSG:…"
        )
    parsed = pyproj.CRS.from_user_input(crs)
    return horizontal(parsed.sub_crs_list[0]) if parsed.is_compound else parsed


def equal_area(crs: Any, middle: Sequence[float] | NDArray[np.float64]) -> pyproj.Transformer:
    """From `crs` to an equal-area projection in metres around `middle` (x, y in `crs`), on the same ellipsoid.

    Cylinders go to a cylinder, in which rows stay straight and the whole world fits; all others to Lambert's azimuthal projection.
    """
    flat = horizontal(crs)
    lon, lat = (float(angle) for angle in _lonlat(flat)[0].transform(*middle))
    if not np.isfinite([lon, lat]).all():
        raise SceneError(
            f"the grid's middle {tuple(map(float, middle))} lies outside what its CRS {flat.name!r} can describe; "
            "check the georeference with geoseg info"
        )
    lon, lat = (round(angle / _NEAR_DEGREES) * _NEAR_DEGREES for angle in (lon, lat))
    return _projection(flat, f"+proj=cea +lon_0={lon!r}" if _is_cylinder(flat) else f"+proj=laea +lon_0={lon!r} +lat_0={lat!r}")


def world_width(crs: Any) -> float | None:
    """Units of x after which a cylindrical or geographic CRS shows the same place again; None for other CRS."""
    flat = horizontal(crs)
    if not _is_cylinder(flat):
        return None
    (x0, x1), _ = _lonlat(flat)[0].transform([-1.0, 1.0], [0.0, 0.0], direction=pyproj.enums.TransformDirection.INVERSE)
    return abs(float(x1 - x0)) * 180


@lru_cache(maxsize=64)
def _projection(crs: pyproj.CRS, target: str) -> pyproj.Transformer:
    return pyproj.Transformer.from_crs(crs, f"{target} {_figure(crs)} +units=m +type=crs", always_xy=True)


def _is_cylinder(crs: pyproj.CRS) -> bool:
    """True where meridians are straight, upright and evenly spaced."""
    operation = (crs.source_crs if crs.is_bound and crs.source_crs else crs).coordinate_operation
    if crs.is_geographic or operation is None:
        return crs.is_geographic
    method = operation.method_name.lower()
    return ("mercator" in method or "cylindrical" in method) and not any(word in method for word in ("transverse", "oblique", "cassini"))


def _figure(crs: pyproj.CRS) -> str:
    """The ellipsoid as PROJ takes it; WGS 84 where the CRS brings its own way there."""
    if crs.is_bound or crs.ellipsoid is None:
        return "+datum=WGS84"
    return f"+a={crs.ellipsoid.semi_major_metre!r} +b={crs.ellipsoid.semi_minor_metre!r}"


@lru_cache(maxsize=64)
def _lonlat(crs: Any) -> tuple[pyproj.Transformer, pyproj.Geod]:
    """To longitude and latitude in degrees on the CRS's ellipsoid, and geodesics there."""
    flat = horizontal(crs)
    figure = _figure(flat)
    return pyproj.Transformer.from_crs(flat, f"+proj=longlat {figure} +type=crs", always_xy=True), pyproj.Geod(
        figure.replace("datum", "ellps")
    )


def _lengths_m(ends: Sequence[tuple[float, float]] | NDArray[np.float64], crs: Any) -> tuple[float, float]:
    """Geodesic lengths of two lines, given as four points."""
    to_degrees, geod = _lonlat(crs)
    lon, lat = to_degrees.transform(*np.transpose(ends))
    if not np.isfinite([lon, lat]).all():
        raise SceneError(
            f"the place {tuple(map(float, ends[0]))} lies outside what its CRS can describe; check the georeference with geoseg info"
        )
    _, _, lengths = geod.inv(lon[::2], lat[::2], lon[1::2], lat[1::2])
    return float(lengths[0]), float(lengths[1])


def _nodes(size: int) -> NDArray[np.float64]:
    """Chebyshev nodes between the first and the last pixel centre of an axis."""
    count = min(size, _NODES)
    return 0.5 + (size - 1) * (chebyshev.chebpts1(count) + 1) / 2


def _interpolation(nodes: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """(pixel, node) matrix that takes values at the nodes to values at the pixel centres."""
    degree, span = len(nodes) - 1, max(size - 1, 1)
    at_nodes = chebyshev.chebvander(2 * (nodes - 0.5) / span - 1, degree)
    at_pixels = chebyshev.chebvander(2 * np.arange(size) / span - 1, degree)
    matrix: NDArray[np.float64] = at_pixels @ np.linalg.inv(at_nodes)
    return matrix


def _quad_areas(geobox: GeoBox, project: pyproj.Transformer, rows: NDArray[np.float64], cols: NDArray[np.float64]) -> NDArray[np.float64]:
    """(row, col) area of a pixel's four-cornered shape around each of these places."""
    col, row = np.meshgrid(cols, rows)
    offsets = ((-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5))
    corners = [project.transform(*np.moveaxis(corners_to_map(geobox.affine, col + dx, row + dy), -1, 0)) for dx, dy in offsets]
    (x0, y0), (x1, y1), (x2, y2), (x3, y3) = corners
    with np.errstate(invalid="ignore"):
        areas: NDArray[np.float64] = np.abs((x2 - x0) * (y3 - y1) - (x3 - x1) * (y2 - y0)) / 2
    return areas


def _projected_areas(shapes: NDArray[Any], project: pyproj.Transformer) -> NDArray[np.float64]:
    """Shoelace formula over all rings; the first ring of a polygon adds, its holes subtract."""
    parts, of_shape = shapely.get_parts(shapes, return_index=True)
    rings, of_part = shapely.get_rings(parts, return_index=True)
    xy, of_ring = shapely.get_coordinates(rings, return_index=True)
    x, y = project.transform(*xy.T)
    same = of_ring[1:] == of_ring[:-1]
    first = np.searchsorted(of_ring, of_ring)  # relative to the ring's first vertex, or large coordinates cancel
    dx, dy = x - x[first], y - y[first]
    cross = (dx[:-1] * dy[1:] - dx[1:] * dy[:-1])[same]
    ring_areas = np.abs(np.bincount(of_ring[1:][same], weights=cross, minlength=len(rings))) / 2
    outer = np.diff(of_part, prepend=-1) != 0
    total = np.bincount(of_shape[of_part], weights=np.where(outer, ring_areas, -ring_areas), minlength=len(shapes))
    return total.astype(np.float64)


def _on_sphere(lonlat: NDArray[np.float64]) -> NDArray[np.float64]:
    """(point, 3) on the unit sphere."""
    lon, lat = np.radians(lonlat).T
    return np.column_stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])


def _finite(points: NDArray[np.float64]) -> NDArray[np.float64]:
    return points[np.isfinite(points).all(axis=1)]
