"""Terrain from a DEM: slopes, aspects and light against planes, cones, geodesics, loops and gdaldem, on any grid and in any window."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import pytest
import rasterio
from affine import Affine
from command_line import UTM, Ran
from numpy.typing import ArrayLike, NDArray
from odc.geo.geobox import GeoBox
from packages import threshold_package

import geoseg.layers.terrain as terrain
from geoseg.errors import BandError
from geoseg.io.opening import file_geobox
from geoseg.layers.terrain import terrain_raster, with_terrain
from geoseg.preprocess.prepare import BandNeed, Channel, Preparation
from geoseg.preprocess.terrain import FLAT_ASPECT, aspect_degrees, horn_gradient, slope_degrees, solar_illumination
from geoseg.scene import SunAngles, read_scene, sample_scene
from geoseg.scenes.open_scene import open_scene

LOCAL = "+proj=tmerc +lat_0=52 +lon_0=10 +k=1 +x_0=0 +y_0=0 +ellps=WGS84 +units=m"
"""Here a metre is a metre, and the grid's north is north."""
SUN = SunAngles(zenith_deg=40.0, azimuth_deg=150.0)


def write_dem(path: Path, heights: ArrayLike, transform: Affine, crs: str = LOCAL, *, unit: str = "", **profile: Any) -> str:
    plane = np.asarray(heights)
    size = {"height": plane.shape[0], "width": plane.shape[1], "count": 1, "dtype": plane.dtype, "crs": crs, "transform": transform}
    with rasterio.open(path, "w", driver="GTiff", **{**size, **profile}) as file:
        file.write(plane, 1)
        if unit:
            file.units = (unit,)
    return str(path)


def centres(geobox: GeoBox, to: Any = None) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(row, col) x and y of the pixels' centres, in another CRS where one is given."""
    col, row = np.meshgrid(np.arange(geobox.shape[1]) + 0.5, np.arange(geobox.shape[0]) + 0.5)
    x, y = geobox.affine * (col, row)
    return (x, y) if to is None else pyproj.Transformer.from_crs(geobox.crs, to, always_xy=True).transform(x, y)


def on_geobox(path: Path, geobox: GeoBox, heights: ArrayLike, **profile: Any) -> str:
    return write_dem(path, np.asarray(heights, np.float64), geobox.affine, str(geobox.crs), **profile)


def difference(one: ArrayLike, other: ArrayLike) -> NDArray[np.float64]:
    """Between two directions in degrees: -180 to 180."""
    return (np.asarray(one, np.float64) - other + 180) % 360 - 180


def rough(side: int = 60, relief: float = 40.0) -> NDArray[np.float64]:
    """Hills and dents."""
    row, col = np.mgrid[:side, :side]
    return relief * (np.sin(row / 5) * np.cos(col / 7) + 0.2 * np.random.default_rng(3).random((side, side)))


# ---------------------------------------------------------------- planes, loops, gdaldem


@pytest.mark.parametrize("facing", [0, 45, 90, 200, 315])
@pytest.mark.parametrize("turn", [Affine.scale(10, -10), Affine.scale(10, 10), Affine.rotation(30) @ Affine.scale(10, -5)])
def test_a_plane_has_its_slope_and_aspect_up_to_the_edge_on_any_grid(tmp_path: Path, facing: float, turn: Affine) -> None:
    grid = GeoBox((20, 30), turn, LOCAL)
    east, north = centres(grid)
    downhill = east * np.sin(np.radians(facing)) + north * np.cos(np.radians(facing))
    dem = on_geobox(tmp_path / "dem.tif", grid, 500 - np.tan(np.radians(25)) * downhill)
    slope, aspect = terrain_raster(dem, "slope", grid), terrain_raster(dem, "aspect", grid)
    assert slope.valid.all()
    assert slope.values == pytest.approx(25, abs=1e-4)
    assert np.abs(difference(aspect.values, facing)).max() < 0.005  # true north turns a little across the grid


def test_gradients_are_horn_s_weighted_differences() -> None:
    heights, steps = rough(12), np.broadcast_to(np.array([[[10.0, 0], [0, -10.0]]]).reshape(2, 2, 1, 1), (2, 2, 10, 10))
    got = horn_gradient(heights, np.ones(heights.shape, dtype=bool), steps)
    for row, col in np.ndindex(10, 10):
        (a, b, c), (d, _, f), (g, h, i) = heights[row : row + 3, col : col + 3]
        assert got.east[row, col] == pytest.approx(((c + 2 * f + i) - (a + 2 * d + g)) / 80)
        assert got.north[row, col] == pytest.approx(((a + 2 * b + c) - (g + 2 * h + i)) / 80)


def test_beside_gaps_what_is_left_of_a_plane_gives_its_slope() -> None:
    row, col = np.mgrid[:12, :12]
    valid = np.random.default_rng(0).random((12, 12)) > 0.35
    heights = np.where(valid, 3.0 * col - 2.0 * row, -9e9)
    got = horn_gradient(heights, valid, np.broadcast_to(np.eye(2).reshape(2, 2, 1, 1), (2, 2, 10, 10)))
    assert got.east[got.known] == pytest.approx(3)
    assert got.north[got.known] == pytest.approx(-2)
    assert not got.known[~valid[1:-1, 1:-1]].any()
    assert 0.4 < got.known.mean() < valid.mean()


@pytest.mark.skipif(shutil.which("gdaldem") is None, reason="gdaldem is not installed")
def test_slope_and_aspect_are_those_of_gdaldem(tmp_path: Path) -> None:
    dem = write_dem(tmp_path / "dem.tif", rough().astype(np.float32), Affine(10, 0, -300, 0, -10, 300))
    for role, tolerance in (("slope", 0.01), ("aspect", 0.05)):
        subprocess.run(["gdaldem", role, "-q", dem, str(tmp_path / f"{role}.tif")], check=True)
        with rasterio.open(tmp_path / f"{role}.tif") as file:
            expected, known = file.read(1), file.read_masks(1) > 0
        got = terrain_raster(dem, role, file_geobox(dem)).values[0]
        assert known[1:-1, 1:-1].all()
        assert np.abs(difference(got, expected))[known].max() < tolerance


# ---------------------------------------------------------------- the ground under the grid


@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        ("EPSG:3857", Affine(10, 0, 1_500_000, 0, -10, 8_400_000)),  # 60 N: a metre of the map is half a metre
        ("EPSG:4326", Affine(1e-4, 0, 13.0, 0, -1e-4, 60.0)),
        ("EPSG:2263", Affine(30, 0, 980_000, 0, -30, 200_000)),  # US survey feet
        ("EPSG:3413", Affine(25, 0, 2_000_000, 0, -25, -100_000)),  # far from the meridian: north lies to the side
    ],
)
def test_metres_are_metres_on_the_ground_and_north_is_true_in_any_crs(tmp_path: Path, crs: str, transform: Affine) -> None:
    grid = GeoBox((40, 50), transform, crs)
    lon, lat = centres(grid, "EPSG:4326")
    top = lon.mean() + 0.5, lat.mean() + 0.3  # far away, so that the cone is smooth here
    towards, _, metres = pyproj.Geod(ellps="WGS84").inv(lon, lat, np.full_like(lon, top[0]), np.full_like(lat, top[1]))
    dem = on_geobox(tmp_path / "dem.tif", grid, 9000 - 0.2 * metres)
    slope, aspect = terrain_raster(dem, "slope", grid).values[0], terrain_raster(dem, "aspect", grid).values[0]
    assert slope == pytest.approx(np.degrees(np.arctan(0.2)), abs=2e-3)
    assert np.abs(difference(aspect, towards + 180))[1:-1, 1:-1].max() < 1e-4  # at the edge the cone bends away from one side


def test_a_place_has_one_slope_and_aspect_whatever_the_dem_s_grid(tmp_path: Path) -> None:
    target = GeoBox((30, 30), Affine(10, 0, 700_000, 0, -10, 6_650_000), "EPSG:32632")  # at the zone's edge, 60 N
    outline = target.extent.boundingbox
    found = []
    for number, crs in enumerate(("EPSG:32632", "EPSG:32633", "EPSG:3035", "EPSG:4326")):
        step = 1e-4 if crs == "EPSG:4326" else 8.0
        grid = GeoBox.from_bbox(target.extent.buffer(200).to_crs(crs).boundingbox, crs, resolution=step)
        x, y = centres(grid, "EPSG:32632")
        heights = 300 + 60 * np.sin((x - outline.left) / 120) * np.cos((y - outline.top) / 90)
        dem = on_geobox(tmp_path / f"dem{number}.tif", grid, heights)
        found.append([terrain_raster(dem, role, target).values[0].astype(np.float64) for role in ("slope", "aspect")])
    for slope, aspect in found[1:]:
        steep = slope > 10
        assert np.abs(slope - found[0][0]).mean() < 0.2
        assert np.abs(difference(aspect, found[0][1]))[steep].mean() < 1.0


@pytest.mark.parametrize(
    ("heights", "unit", "crs"),
    [
        (1 / 0.3048, "ft", "EPSG:32632"),
        (3937 / 1200, "US survey foot", "EPSG:32632"),
        (100, "cm", "EPSG:32632"),
        (1, "metre", "EPSG:32632"),
        (3937 / 1200, "", "EPSG:32632+6360"),  # a height system that counts in feet
    ],
)
def test_heights_come_in_the_unit_that_the_file_states(tmp_path: Path, heights: float, unit: str, crs: str) -> None:
    grid = GeoBox((20, 20), UTM, "EPSG:32632")
    metres = 100 + 0.5 * np.mgrid[:20, :20][1]
    dem = write_dem(tmp_path / "dem.tif", metres * heights, UTM, crs, unit=unit)
    assert terrain_raster(dem, "height", grid).values[0] == pytest.approx(metres, rel=1e-6)
    assert terrain_raster(dem, "slope", grid).values[0] == pytest.approx(np.degrees(np.arctan(0.05 * 0.9996)), abs=1e-4)


def test_a_scale_and_an_offset_of_the_file_are_heeded(tmp_path: Path) -> None:
    dem = write_dem(tmp_path / "dem.tif", np.full((4, 4), 1000, np.int16), UTM, "EPSG:32632")
    with rasterio.open(dem, "r+") as file:
        file.scales, file.offsets = (0.1,), (-20.0,)
    assert terrain_raster(dem, "height", file_geobox(dem)).values == pytest.approx(80)


# ---------------------------------------------------------------- which grid slopes are taken on


def sphere_cap(geobox: GeoBox, radius: float = 3000.0) -> NDArray[np.float64]:
    x, y = centres(geobox, LOCAL)
    return np.sqrt(radius**2 - x**2 - y**2)


def test_finer_targets_get_no_facets(tmp_path: Path) -> None:
    coarse, fine = GeoBox((30, 30), Affine(100, 0, -1500, 0, -100, 1500), LOCAL), GeoBox((60, 60), Affine(10, 0, 300, 0, -10, 900), LOCAL)
    dem = on_geobox(tmp_path / "dem.tif", coarse, sphere_cap(coarse))
    x, y = centres(fine)
    truth = np.degrees(np.arcsin(np.hypot(x, y) / 3000))
    upsampled = on_geobox(tmp_path / "fine.tif", fine, terrain_raster(dem, "height", fine).values[0])
    error, faceted = (np.abs(terrain_raster(path, "slope", fine).values[0] - truth)[2:-2, 2:-2] for path in (dem, upsampled))
    assert error.max() < 0.05
    assert faceted.max() > 10 * error.max()  # the slope of interpolated heights


def test_coarser_targets_average_gradients_and_not_slopes(tmp_path: Path) -> None:
    fine, coarse = GeoBox((300, 300), Affine(1, 0, 0, 0, -1, 300), LOCAL), GeoBox((10, 10), Affine(30, 0, 0, 0, -30, 300), LOCAL)
    x, _ = centres(fine)
    dem = on_geobox(tmp_path / "dem.tif", fine, 0.1 * x + np.random.default_rng(0).normal(0, 0.5, fine.shape))  # boulders on a slope
    assert terrain_raster(dem, "slope", coarse).values == pytest.approx(np.degrees(np.arctan(0.1)), abs=1)
    assert terrain_raster(dem, "slope", fine).values.mean() > 15


def test_aspects_are_not_averaged_across_north(tmp_path: Path) -> None:
    coarse, fine = GeoBox((6, 6), Affine(90, 0, 0, 0, -90, 540), LOCAL), GeoBox((50, 50), Affine(10, 0, 20, 0, -10, 520), LOCAL)
    x, y = centres(coarse)
    dem = on_geobox(tmp_path / "dem.tif", coarse, -y - 0.0002 * (x - 270) ** 2)  # from a little west of north to a little east
    aspect = terrain_raster(dem, "aspect", fine).values[0].astype(np.float64)
    assert np.abs(difference(aspect, 0)).max() < 6
    assert {aspect.min() < 6, aspect.max() > 354} == {True}


TARGETS = {
    "its own": GeoBox((40, 50), UTM @ Affine.translation(4, 6), "EPSG:32632"),
    "finer": GeoBox((90, 100), UTM @ Affine.translation(3.3, 5.1) @ Affine.scale(0.37), "EPSG:32632"),
    "coarser": GeoBox((14, 15), UTM @ Affine.translation(-2.2, 1.7) @ Affine.scale(4.1), "EPSG:32632"),
    "rotated": GeoBox((50, 60), UTM @ Affine.translation(10, 10) @ Affine.rotation(20) @ Affine.scale(0.6), "EPSG:32632"),
    "another zone": GeoBox((40, 40), Affine(9, 0, 28_600, 0, -9, 5_017_300), "EPSG:32633"),
    "degrees, coarser": GeoBox((15, 15), Affine(5e-4, 0, 9.0, 0, -5e-4, 45.153), "EPSG:4326"),
}


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("block", [100, 1 << 18])
def test_a_window_equals_the_whole_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, block: int) -> None:
    dem = write_dem(tmp_path / "dem.tif", rough(70).astype(np.float32), UTM, "EPSG:32632")
    target = TARGETS[name]
    whole = [terrain_raster(dem, role, target) for role in ("slope", "aspect")]
    assert whole[0].valid.mean() > 0.2
    monkeypatch.setattr(terrain, "_BLOCK_PIXELS", block)
    for rows, cols in ((slice(0, 5), slice(3, 14)), (slice(7, 8), slice(0, 9)), (slice(2, 14), slice(11, 13))):
        for role, all_of_it in zip(("slope", "aspect"), whole, strict=True):
            part, expected = terrain_raster(dem, role, target[rows, cols]), all_of_it.crop(rows, cols)
            assert np.array_equal(part.values, expected.values)
            assert np.array_equal(part.valid, expected.valid)


def test_one_pixel_around_a_window_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dem, asked, read = write_dem(tmp_path / "dem.tif", rough(200), UTM, "EPSG:32632"), [], terrain.read_raster

    def noted(path: str, bands: Any, geobox: GeoBox) -> Any:
        asked.append(tuple(geobox.shape))
        return read(path, bands, geobox)

    monkeypatch.setattr(terrain, "read_raster", noted)
    terrain_raster(dem, "slope", file_geobox(dem)[50:60, 70:90])
    assert asked == [(12, 22)]
    terrain_raster(dem, "slope", GeoBox((20, 40), UTM @ Affine.translation(70, 50) @ Affine.scale(0.5), "EPSG:32632"))
    assert max(asked[1:]) <= (14, 24)


# ---------------------------------------------------------------- light, and flat ground


def test_light_is_the_cosine_between_sun_and_upright() -> None:
    rise = np.tan(np.radians(30))
    south, north = (solar_illumination(np.zeros(1), np.array([way]), zenith_deg=40, azimuth_deg=180) for way in (rise, -rise))
    assert south == pytest.approx(np.cos(np.radians(10)))  # rises to the north: faces the sun
    assert north == pytest.approx(np.cos(np.radians(70)))
    assert solar_illumination(np.array([5.0]), np.zeros(1), zenith_deg=80, azimuth_deg=90) < 0  # in its own shadow
    assert solar_illumination(np.zeros(1), np.zeros(1), zenith_deg=40, azimuth_deg=123) == np.cos(np.radians(40.0))


def test_flat_ground_faces_nowhere() -> None:
    assert aspect_degrees(np.zeros(1), np.zeros(1)).tolist() == [FLAT_ASPECT]
    assert slope_degrees(np.zeros(1), np.zeros(1)).tolist() == [0]
    assert aspect_degrees(np.array([1e-300, 1e-9]), np.array([-1.0, -1.0])).tolist() == [0, 0]  # not 360


# ---------------------------------------------------------------- a scene's terrain


def write_scene(path: Path, side: int = 60, **profile: Any) -> Path:
    values = np.random.default_rng(0).integers(1000, 5000, (2, side, side)).astype(np.uint16)
    shape = {"count": 2, "height": side, "width": side, "dtype": "uint16", "crs": "EPSG:32632", "transform": UTM}
    with rasterio.open(path, "w", driver="GTiff", **{**shape, **profile}) as file:
        file.write(values)
        file.descriptions = ("red", "nir")
    return path


def test_a_scene_gains_terrain_on_its_own_grid(tmp_path: Path) -> None:
    scene = open_scene(write_scene(tmp_path / "scene.tif"))
    dem = write_dem(tmp_path / "dem.tif", rough(700), UTM @ Affine.translation(-5, -5) @ Affine.scale(0.1), "EPSG:32632")
    hilly = with_terrain(replace(scene, sun=SUN), dem)
    assert hilly.roles == ("red", "nir", "height", "slope", "aspect", "illumination")
    assert hilly.warnings == scene.warnings
    assert hilly.geobox() == scene.geobox()  # not the finer one of the DEM
    raster = read_scene(hilly, hilly.roles, scene.geobox())
    assert [band.unit for band in raster.bands[2:]] == ["m", "degree", "degree", "1"]
    assert raster.valid.all()
    assert with_terrain(scene, dem).roles == ("red", "nir", "height", "slope", "aspect")  # nobody knows where the sun stood


def test_a_dem_takes_the_place_of_the_scene_s_own_heights(tmp_path: Path) -> None:
    scene = open_scene(write_scene(tmp_path / "scene.tif"), bands=["red", "height"])
    dem = write_dem(tmp_path / "dem.tif", np.full((60, 60), 7.0), UTM, "EPSG:32632")
    assert read_scene(with_terrain(scene, dem), ["height"], scene.geobox()).values.max() == 7


@pytest.mark.parametrize("side", [60, 180])
def test_a_thinned_sample_holds_the_terrain_of_the_scene_s_pixels(tmp_path: Path, side: int) -> None:
    scene = open_scene(write_scene(tmp_path / "scene.tif", side))
    dem = write_dem(tmp_path / "dem.tif", rough(700), UTM @ Affine.translation(-5, -5) @ Affine.scale(0.45), "EPSG:32632")
    hilly = with_terrain(scene, dem)
    sample = sample_scene(hilly, ("red", "slope"), max_pixels=400)
    whole = read_scene(hilly, ("red", "slope"), scene.geobox())
    x, y = centres(sample.geobox)
    col, row = (np.floor(place).astype(int) for place in ~UTM * (x, y))
    assert np.array_equal(sample.values, whole.values[:, row, col])


def test_a_dem_that_covers_a_part_is_told_with_the_share(tmp_path: Path) -> None:
    scene = open_scene(write_scene(tmp_path / "scene.tif"))
    dem = write_dem(tmp_path / "dem.tif", rough(60)[:, :45], UTM, "EPSG:32632")
    part = with_terrain(scene, dem)
    assert part.warnings[-1] == f"the DEM {dem} covers 75 % of the scene; on the rest there is no terrain to read."
    slope = read_scene(part, ["slope"], scene.geobox())
    assert slope.valid[0].all(axis=0).tolist() == [True] * 45 + [False] * 15
    assert not slope.values[0, :, 45:].any()


def test_gaps_of_a_dem_are_gaps_of_the_terrain_declared_or_not(tmp_path: Path) -> None:
    heights = rough(60).astype(np.float32)
    heights[10:20, 10:20], heights[30:40, 30:40] = -9999, -32768
    dem = write_dem(tmp_path / "dem.tif", heights, UTM, "EPSG:32632", nodata=-9999)
    slope = terrain_raster(dem, "slope", file_geobox(dem))
    assert np.array_equal(~slope.valid[0], (heights == -9999) | (heights == -32768))
    assert slope.values.max() < 60  # no cliffs at the edge of a gap


@pytest.mark.parametrize(("role", "error"), [("illumination", BandError), ("hue", BandError)])
def test_a_dem_alone_gives_height_slope_and_aspect(tmp_path: Path, role: str, error: type[Exception]) -> None:
    dem = write_dem(tmp_path / "dem.tif", rough(), UTM, "EPSG:32632")
    with pytest.raises(error, match="height, slope and aspect"):
        terrain_raster(dem, role, file_geobox(dem))


# ---------------------------------------------------------------- on the command line


def slope_package(folder: Path, role: str = "slope", unit: str = "degree", threshold: float = 15.0) -> None:
    needs = (BandNeed(role="red", unit="1"), BandNeed(role=role, unit=unit))
    preparation = Preparation(bands=needs, channels=(Channel(name=role),))
    threshold_package(folder, (role,), threshold, preparation=preparation)


def test_a_model_reads_slopes_from_a_dem_and_the_map_is_made_again(geoseg: Any, place: Path) -> None:
    dem = write_dem(place / "dem.tif", rough(90), UTM @ Affine.translation(-10, -10), "EPSG:32632")
    slope_package(place / "steep")
    assert geoseg("predict", "scene.tif", "--model", "steep", "--dem", "dem.tif", "-o", "out").code == 0
    with rasterio.open(place / "out" / "scene_classes.tif") as file:
        classes = file.read(1)
    slope = terrain_raster(dem, "slope", file_geobox(str(place / "scene.tif"))).values[0]
    assert np.array_equal(classes == classes[slope > 15][0], slope > 15)
    run = json.loads((place / "out" / "scene.json").read_text())["properties"]["geoseg:run"]
    assert "dem.tif" in {Path(given["path"]).name for given in run["settings"]["inputs"]}
    assert geoseg("predict", "--again", "out/scene.json", "-o", "again").code == 0


def test_beyond_the_dem_there_is_no_map(geoseg: Any, place: Path) -> None:
    write_dem(place / "dem.tif", rough(60)[:30], UTM, "EPSG:32632")
    slope_package(place / "steep")
    ran: Ran = geoseg("predict", "scene.tif", "--model", "steep", "--dem", "dem.tif", "-o", "out")
    assert ran.code == 0
    assert "covers 50 % of the scene" in ran.out + ran.err
    with rasterio.open(place / "out" / "scene_classes.tif") as file:
        seen = file.read_masks(1).any(axis=1)
    assert seen.tolist() == [True] * 30 + [False] * 30


BAD = {
    "missing": (lambda place: None, "no such file"),
    "elsewhere": (lambda place: write_dem(place / "dem.tif", rough(), UTM @ Affine.translation(500, 0), "EPSG:32632"), "does not lie on"),
    "no CRS": (lambda place: write_dem(place / "dem.tif", rough(), UTM, ""), "has no CRS"),
    "fathoms": (lambda place: write_dem(place / "dem.tif", rough(), UTM, "EPSG:32632", unit="fathom"), "'fathom'"),
    "two bands": (lambda place: write_scene(place / "dem.tif"), "does not say which one holds heights"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_dem_that_cannot_be_used_is_refused(geoseg: Any, place: Path, name: str) -> None:
    make, said = BAD[name]
    make(place)
    slope_package(place / "steep")
    ran = geoseg("predict", "scene.tif", "--model", "steep", "--dem", "dem.tif", "-o", "out")
    assert ran.code == 2
    assert said in ran.sentence
    assert not (place / "out").exists()


@pytest.mark.parametrize(("role", "unit", "said"), [("slope", "degree", "--dem FILE"), ("illumination", "1", "where the sun stood")])
def test_a_model_that_needs_terrain_says_how_to_give_it(geoseg: Any, place: Path, role: str, unit: str, said: str) -> None:
    slope_package(place / "steep", role, unit)
    ran = geoseg("predict", "scene.tif", "--model", "steep", "-o", "out")
    assert ran.code == 2
    assert said in ran.sentence
