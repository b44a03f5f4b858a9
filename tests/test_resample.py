"""Where pixels of one grid lie on another, and that the window asked for never changes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.warp
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from scipy import ndimage

import geoseg.io.geotiff as geotiff
from geoseg.io.geotiff import footprint, read_raster
from geoseg.io.resample import Placement

UTM30, UTM31, UTM60, UTM1, DEGREES = "EPSG:32630", "EPSG:32631", "EPSG:32660", "EPSG:32601", "EPSG:4326"
TURNED = Affine.translation(600000, 5000000) * Affine.rotation(30) * Affine.scale(10, -10)
NORTH_UP = GeoBox((90, 110), Affine(10, 0, 600000, 0, -10, 5000000), UTM30)
SOUTH_UP = GeoBox((90, 110), Affine(10, 0, 600000, 0, 10, 4999100), UTM30)
ROTATED = GeoBox((90, 110), TURNED, UTM30)
IN_DEGREES = GeoBox((90, 110), Affine(1.2e-4, 0, -1.7285, 0, -9e-5, 45.1463), DEGREES)
NEXT_ZONE = GeoBox((90, 110), Affine(10, 0, 128280, 0, -10, 5010056), UTM31)
MERCATOR = GeoBox((90, 110), Affine(14, 0, -192358, 0, -14, 5644576), "EPSG:3857")
PAIRS = [
    pytest.param(NORTH_UP, GeoBox((70, 80), Affine(7.3, 0, 600111.7, 0, -7.3, 4999871.9), UTM30), id="other pixel size"),
    pytest.param(SOUTH_UP, NORTH_UP.pad(3).zoom_out(0.77), id="south-up"),
    pytest.param(NORTH_UP, SOUTH_UP.zoom_out(0.77), id="onto south-up"),
    pytest.param(ROTATED, NORTH_UP, id="rotated"),
    pytest.param(NORTH_UP, ROTATED, id="onto rotated"),
    pytest.param(NORTH_UP, IN_DEGREES, id="onto degrees"),
    pytest.param(IN_DEGREES, NORTH_UP, id="from degrees"),
    pytest.param(NORTH_UP, NEXT_ZONE, id="next UTM zone"),
    pytest.param(NEXT_ZONE, ROTATED, id="previous UTM zone, rotated"),
    pytest.param(MERCATOR, NORTH_UP, id="from web mercator"),
]


def write(path: Path, values: NDArray[Any], grid: GeoBox, **profile: Any) -> str:
    planes = values if values.ndim == 3 else values[None]
    size = {"count": planes.shape[0], "height": planes.shape[1], "width": planes.shape[2], "dtype": planes.dtype}
    with rasterio.open(path, "w", driver="GTiff", crs=str(grid.crs), transform=grid.affine, **size, **profile) as file:
        file.write(planes)
    return str(path)


def gdal_places(source: GeoBox, target: GeoBox) -> tuple[NDArray[Any], NDArray[Any]]:
    """(row, col) on the source of each target centre, as GDAL transforms points."""
    rows, cols = (axis.ravel() + 0.5 for axis in np.mgrid[0 : target.shape[0], 0 : target.shape[1]])
    x, y = target.affine * (cols, rows)
    if str(source.crs) != str(target.crs):
        x, y = (np.array(axis) for axis in rasterio.warp.transform(str(target.crs), str(source.crs), x, y))
    col, row = ~source.affine * (x, y)
    return row.reshape(target.shape), col.reshape(target.shape)


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_pixels_lie_where_gdal_says_to_a_millionth_of_a_pixel(source: GeoBox, target: GeoBox) -> None:
    rows, cols = np.arange(target.shape[0])[:, None] + 0.5, np.arange(target.shape[1])[None] + 0.5
    for place, oracle in zip(Placement(source, target)(rows, cols), gdal_places(source, target), strict=True):
        assert np.abs(place - oracle).max() < 1e-6


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_values_are_those_at_the_places_that_gdal_says(tmp_path: Path, source: GeoBox, target: GeoBox) -> None:
    values = np.random.default_rng(0).uniform(1, 200, source.shape)
    path = write(tmp_path / "a.tif", values, source)
    row, col = gdal_places(source, target)
    known = (row > 1e-6) & (row < source.shape[0] - 1e-6) & (col > 1e-6) & (col < source.shape[1] - 1e-6)
    assert known.mean() > 0.2
    bilinear, nearest = (read_raster(path, [1], target, resampling=method) for method in ("bilinear", "nearest"))
    assert np.array_equal(bilinear.valid[0], known)
    assert np.array_equal(nearest.valid[0], known)
    assert np.array_equal(footprint(path, target), known)
    oracle = ndimage.map_coordinates(values, [row - 0.5, col - 0.5], order=1, mode="nearest")
    assert np.abs(bilinear.values[0] - oracle)[known].max() < 1e-3
    apart = known & (np.abs(row - np.round(row)) > 1e-6) & (np.abs(col - np.round(col)) > 1e-6)
    assert np.array_equal(nearest.values[0][apart], values[np.floor(row).astype(int)[apart], np.floor(col).astype(int)[apart]])


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_mean_equals_gdals_where_the_ground_is_smooth(tmp_path: Path, source: GeoBox, target: GeoBox) -> None:
    rows, cols = np.mgrid[0 : source.shape[0], 0 : source.shape[1]]
    values = 100 + 30 * np.sin(rows / 15) + 30 * np.cos(cols / 15)
    coarse = target.zoom_out(4)
    raster = read_raster(write(tmp_path / "a.tif", values, source), [1], coarse, resampling="average")
    oracle = np.full(coarse.shape, np.nan)
    rasterio.warp.reproject(
        values, oracle, src_transform=source.affine, src_crs=str(source.crs), dst_transform=coarse.affine, dst_crs=str(coarse.crs),
        resampling=rasterio.warp.Resampling.average, dst_nodata=np.nan,
    )  # fmt: skip
    both = raster.valid[0] & ~np.isnan(oracle)
    inner = both[1:-1, 1:-1] & both[2:, 1:-1] & both[:-2, 1:-1] & both[1:-1, 2:] & both[1:-1, :-2]
    assert inner.sum() > 20
    assert np.abs(raster.values[0] - oracle)[1:-1, 1:-1][inner].max() < 1  # GDAL takes the box around a turned pixel


@pytest.mark.parametrize("method", ["nearest", "bilinear", "average"])
@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_pieces_equal_the_whole_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: GeoBox, target: GeoBox, method: Any
) -> None:
    rng = np.random.default_rng(1)
    values = rng.integers(1, 9999, (2, *source.shape)).astype("uint16")
    values[rng.uniform(size=values.shape) < 0.1] = 0
    path = write(tmp_path / "a.tif", values, source, nodata=0)
    target = target.zoom_out(2.3) if method == "average" else target
    whole = read_raster(path, [1, 2], target, resampling=method)
    assert whole.valid.any()
    monkeypatch.setattr(geotiff, "_SOURCE_PIXELS", 900)
    row, col = target.shape[0] * 2 // 5, target.shape[1] // 3
    for rows in (slice(0, row), slice(row, row + 1), slice(row + 1, target.shape[0])):
        for cols in (slice(0, col), slice(col, target.shape[1])):
            piece = read_raster(path, [1, 2], target[rows, cols], resampling=method)
            assert np.array_equal(piece.values, whole.values[:, rows, cols])
            assert np.array_equal(piece.valid, whole.valid[:, rows, cols])


@pytest.mark.parametrize("written", ["EPSG:32630", "named otherwise", "with heights"])
def test_one_crs_is_one_however_it_is_written(tmp_path: Path, written: str) -> None:
    wkt = rasterio.CRS.from_user_input("EPSG:32630+5773" if written == "with heights" else UTM30).to_wkt(version="WKT2_2019")
    grid = GeoBox((4, 5), NORTH_UP.affine, wkt.replace("WGS 84 / UTM zone 30N", "my zone") if written == "named otherwise" else wkt)
    raster = read_raster(write(tmp_path / "a.tif", np.ones((90, 110), dtype="uint8"), NORTH_UP), [1], grid)
    assert raster.values.dtype == np.uint8
    assert raster.valid.all()


def test_pixel_is_point_lies_half_a_pixel_off_its_tie_point(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", np.arange(20, dtype="uint8").reshape(4, 5), GeoBox((4, 5), NORTH_UP.affine, UTM30))
    with rasterio.open(path, "r+") as file:
        file.update_tags(AREA_OR_POINT="Point")
    with rasterio.Env(GTIFF_POINT_GEO_IGNORE=True), rasterio.open(path) as file:
        assert file.transform.c == 600005  # what the file's own tag says: the centre of the first pixel
    raster = read_raster(path, [1])
    assert raster.geobox.affine == NORTH_UP.affine
    east = read_raster(path, [1], GeoBox((4, 5), Affine(10, 0, 600010, 0, -10, 5000000), UTM30))
    assert np.array_equal(east.values[0, :, :4], raster.values[0, :, 1:])


@pytest.mark.parametrize("west", [170, -190, -180, 0])
def test_degrees_meet_across_the_antimeridian(tmp_path: Path, west: int) -> None:
    source = GeoBox((10, 40 if west else 720), Affine(0.5, 0, west, 0, -0.5, 5), DEGREES)
    longitude = (west + 0.25 + 0.5 * np.arange(source.shape[1]) + 180) % 360 - 180
    path = write(tmp_path / "a.tif", np.broadcast_to(longitude, source.shape).astype("float32"), source)
    for target_west in (-180, 174, 176 - 360):
        target = GeoBox((10, 8), Affine(0.5, 0, target_west, 0, -0.5, 5), DEGREES)
        wanted = (target_west + 0.25 + 0.5 * np.arange(8) + 180) % 360 - 180
        known = np.isin(wanted, longitude)
        raster = read_raster(path, [1], target, resampling="nearest")
        assert known.any() == (west != -180 or target_west == -180)
        assert np.array_equal(raster.valid[0, 0], known)
        assert np.array_equal(raster.values[0, 0][known], wanted[known])


def test_utm_zones_meet_across_the_antimeridian(tmp_path: Path) -> None:
    source = GeoBox((40, 60), Affine(500, 0, 820000, 0, -500, 0), UTM60)
    position = np.arange(2400, dtype="int32").reshape(source.shape)
    target = GeoBox((40, 60), Affine(500, 0, 150000, 0, -500, 0), UTM1)
    raster = read_raster(write(tmp_path / "a.tif", position, source), [1], target, resampling="nearest")
    x, y = target.affine * (np.arange(60) + 0.5, np.full(60, 20.5))
    x, y = (np.array(axis) for axis in rasterio.warp.transform(UTM1, UTM60, x, y))
    col, row = ~source.affine * (x, y)
    known = (col >= 0) & (col < 60)
    assert known.sum() > 30
    assert np.array_equal(raster.valid[0, 20], known)
    assert np.array_equal(raster.values[0, 20][known], (np.floor(row) * 60 + np.floor(col))[known])


def test_degrees_reach_a_utm_scene_across_the_antimeridian(tmp_path: Path) -> None:
    source = GeoBox((40, 60), Affine(500, 0, 820000, 0, -500, 0), UTM60)
    path = write(tmp_path / "a.tif", np.ones(source.shape, dtype="uint8"), source)
    x, _ = rasterio.warp.transform(UTM60, DEGREES, [835000.0], [-10000.0])
    assert x[0] < -179.9  # the scene's middle is beyond the meridian
    for turn in (0, 360):
        target = GeoBox((20, 40), Affine(0.005, 0, x[0] - 0.1 + turn, 0, -0.005, -0.04), DEGREES)
        raster = read_raster(path, [1], target)
        assert raster.valid.all()
        back = GeoBox((20, 20), Affine(1000, 0, 825000, 0, -1000, -2000), UTM60)
        ones = write(tmp_path / "b.tif", np.ones(target.shape, dtype="uint8"), target)
        assert read_raster(ones, [1], back).valid[0, 4:10, 2:18].all()


def test_pixels_as_large_as_the_world_are_not_torn(tmp_path: Path) -> None:
    source = GeoBox((10, 20), Affine(500, 0, 500000, 0, -500, 5000000), UTM30)
    path = write(tmp_path / "a.tif", np.ones(source.shape, dtype="uint8"), source)
    world = GeoBox((18, 36), Affine(10, 0, -180, 0, -10, 90), DEGREES)
    covered = read_raster(path, [1], world, resampling="nearest").valid[0]
    assert covered.sum() <= 1
    means = read_raster(path, [1], world, resampling="average").valid[0]
    assert means.sum() <= 1
