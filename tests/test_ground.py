"""Metres on the ground, against geodesics of pyproj, in CRSs whose own units mislead."""

from __future__ import annotations

import numpy as np
import pyproj
import pytest
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox

from geoseg.errors import SceneError
from geoseg.ground import (
    distance_km,
    geodesic_area_m2,
    metres_to_crs,
    outline,
    pixel_areas_m2,
    pixel_size_m,
    world_width,
)

WGS84 = pyproj.Geod(ellps="WGS84")


def grid(crs: str, lon: float, lat: float, pixel: float, *, shape: tuple[int, int] = (60, 80), rotation: float = 0.0) -> GeoBox:
    """A grid whose upper left corner lies at a place, with square pixels in the CRS's unit."""
    x, y = pyproj.Transformer.from_crs(4326, crs, always_xy=True).transform(lon, lat)
    cos, sin = np.cos(np.radians(rotation)), np.sin(np.radians(rotation))
    return GeoBox(shape, Affine(pixel * cos, pixel * sin, x, pixel * sin, -pixel * cos, y), pyproj.CRS(crs).to_wkt())


GRIDS = {
    "web mercator at 60 N": grid("EPSG:3857", 10, 60, 10),
    "US survey feet": grid("EPSG:2263", -74, 40.7, 3),
    "degrees": grid("EPSG:4326", 10, 60, 1e-4),
    "grads from Paris": grid("EPSG:4807", 2.5, 49, 1e-3),
    "compound": grid("EPSG:32630+5773", -2, 51, 10),
    "rotated": grid("EPSG:32630", -2, 51, 10, rotation=30),
    "polar": grid("EPSG:3413", -45, 88, 1000, shape=(300, 300)),
    "across the antimeridian": grid("EPSG:4326", 179.9, 10, 0.01),
    "sphere": grid("+proj=sinu +R=6371007.181 +units=m", 5, 50, 500),
    "south-up": GeoBox((60, 80), Affine(10, 0, 5e5, 0, 10, 5e6), "EPSG:32630"),
}


def reference_area_m2(geobox: GeoBox) -> float:
    """The grid's outline in tiny steps, as a geodesic polygon."""
    crs = pyproj.CRS(geobox.crs.to_wkt())
    flat = pyproj.CRS(crs.sub_crs_list[0]) if crs.is_compound else crs
    to_degrees = pyproj.Transformer.from_crs(
        flat, f"+proj=longlat +a={flat.ellipsoid.semi_major_metre} +b={flat.ellipsoid.semi_minor_metre}", always_xy=True
    )
    geod = pyproj.Geod(a=flat.ellipsoid.semi_major_metre, b=flat.ellipsoid.semi_minor_metre)
    return abs(geod.polygon_area_perimeter(*to_degrees.transform(*outline(geobox, 2000).T))[0])


@pytest.mark.parametrize("name", GRIDS)
def test_pixel_areas_add_up_to_the_geodesic_area_of_the_grid(name: str) -> None:
    geobox = GRIDS[name]
    total = np.broadcast_to(pixel_areas_m2(geobox), geobox.shape).sum()
    assert total == pytest.approx(reference_area_m2(geobox), rel=1e-6)


@pytest.mark.parametrize("name", GRIDS)
def test_polygon_area_is_geodesic_and_agrees_with_the_pixels(name: str) -> None:
    geobox = GRIDS[name]
    corners = shapely.Polygon(outline(geobox, 2))
    assert geodesic_area_m2([corners], geobox.crs)[0] == pytest.approx(reference_area_m2(geobox), rel=1e-6)


def test_areas_of_strips_are_those_of_the_whole_grid() -> None:
    geobox = GRIDS["polar"]
    whole = pixel_areas_m2(geobox)
    np.testing.assert_allclose(np.vstack([pixel_areas_m2(geobox[:70, :]), pixel_areas_m2(geobox[70:, :])]), whole, rtol=1e-7)


def test_a_pixel_of_web_mercator_at_60_north_is_half_as_long() -> None:
    rows, cols = pixel_size_m(GRIDS["web mercator at 60 N"])
    assert rows == pytest.approx(5.0, rel=5e-3)
    assert cols == pytest.approx(5.0, rel=5e-3)


def test_survey_feet_become_metres() -> None:
    assert pixel_size_m(GRIDS["US survey feet"]) == pytest.approx((3 * 1200 / 3937,) * 2, rel=1e-4)
    assert metres_to_crs(GRIDS["US survey feet"], "EPSG:2263", 1200) == pytest.approx(3937, rel=1e-4)


def test_size_in_degrees_differs_between_rows_and_columns() -> None:
    rows, cols = pixel_size_m(GRIDS["degrees"])
    _, _, north = WGS84.inv(10.004, 59.997, 10.004, 59.9971)
    _, _, east = WGS84.inv(10.004, 59.997, 10.0041, 59.997)
    assert (rows, cols) == pytest.approx((north, east), rel=1e-5)


def test_metres_in_degrees_keep_the_area_of_a_square() -> None:
    side = metres_to_crs((10.0, 60.0, 10.0, 60.0), "EPSG:4326", 100)
    square = shapely.box(10, 60, 10 + side, 60 + side)
    assert geodesic_area_m2([square], "EPSG:4326")[0] == pytest.approx(100**2, rel=1e-3)


def test_heights_of_a_compound_crs_do_not_matter() -> None:
    flat = GeoBox(GRIDS["compound"].shape, GRIDS["compound"].affine, "EPSG:32630")
    assert pixel_size_m(GRIDS["compound"]) == pytest.approx(pixel_size_m(flat), rel=1e-12)


def test_the_whole_world_has_the_area_of_the_ellipsoid() -> None:
    world = GeoBox((180, 360), Affine(1, 0, -180, 0, -1, 90), "EPSG:4326")
    eccentricity = np.sqrt(WGS84.es)
    surface = 2 * np.pi * WGS84.a**2 * (1 + (1 - WGS84.es) / eccentricity * np.arctanh(eccentricity))
    assert np.broadcast_to(pixel_areas_m2(world), world.shape).sum() == pytest.approx(surface, rel=1e-9)


def test_pixels_beyond_the_world_have_no_area() -> None:
    beyond = GeoBox((4, 4), Affine(1, 0, 0, 0, -1, 92), "EPSG:4326")
    assert (pixel_areas_m2(beyond)[:, 0] > 0).tolist() == [False, False, True, True]


def test_holes_subtract_and_lines_have_no_area() -> None:
    outer, inner = shapely.box(5e5, 5e6, 5e5 + 1000, 5e6 + 1000), shapely.box(5e5 + 200, 5e6 + 200, 5e5 + 700, 5e6 + 700)
    shapes = [outer, inner, shapely.difference(outer, inner), shapely.MultiPolygon([inner]), outer.exterior]
    whole, hole, rest, multi, line = geodesic_area_m2(shapes, "EPSG:32630")
    assert rest == pytest.approx(whole - hole, rel=1e-9)
    assert (multi, line) == (hole, 0)


def test_distance_is_measured_the_short_way_around_the_world() -> None:
    east = GeoBox((10, 10), Affine(0.1, 0, -179.9, 0, -0.1, 0.5), "EPSG:4326")
    _, _, metres = WGS84.inv(179, 0, -179.9, 0)
    assert distance_km(shapely.Point(179, 0), "EPSG:4326", east) == pytest.approx(metres / 1000, rel=2e-3)


def test_cylinders_repeat_around_the_world_and_others_do_not() -> None:
    assert world_width("EPSG:4326") == pytest.approx(360)
    assert world_width("EPSG:3857") == pytest.approx(2 * np.pi * 6378137)
    assert world_width("EPSG:32630") is None


def test_a_grid_without_a_crs_is_one_sentence() -> None:
    with pytest.raises(SceneError, match="no CRS"):
        pixel_size_m(GeoBox((4, 4), Affine(1, 0, 0, 0, -1, 0), None))
