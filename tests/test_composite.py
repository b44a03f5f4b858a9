"""Composites: what is clear of many scenes, window by window, and how often it was."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import rasterio
from command_line import contents
from odc.geo.geobox import GeoBox
from rasterio.transform import from_origin
from test_stac import validate, validate_core

from geoseg.errors import BandError, InputError, OutputError, SceneError
from geoseg.io.blocks import BlockWriter
from geoseg.preprocess.quality import DEFAULT_MASK_CLASSES
from geoseg.scenes.open_scene import open_scene
from geoseg.sensors import Band
from geoseg.stacks import composite as composite_module
from geoseg.stacks.composite import CompositeOptions, composite
from geoseg.stacks.grids import common_grid, lay_blocks
from geoseg.stacks.methods import METHODS, check_method, combine
from geoseg.stacks.periods import find_periods

RED, NIR = Band("B04", "red", unit="reflectance"), Band("B08", "nir", unit="reflectance")
CLOUD, CLEAR, NOTHING = 9, 4, 0


def stack(*, times=6, side=20, seed=0):
    """Values (time, band, row, col) of red and nir, and where they are clear (time, row, col)."""
    rng = np.random.default_rng(seed)
    return rng.uniform(0.01, 0.6, (times, 2, side, side)).astype(np.float32), rng.random((times, side, side)) < 0.5


def level_2a(folder: Path, day: str, *, red=2000, nir=4000, scl=CLEAR, baseline="0500", side=40, left=600_000, crs="EPSG:32632") -> Path:
    """A folder of Sentinel-2 L2A bands as downloaded: stored numbers, red and nir at 10 m, SCL at 20 m."""
    name = f"S2A_MSIL2A_{day}T103021_N{baseline}_R108_T32TPS_{day}T140000.SAFE"
    for band, pixel, values in (("B04", 10, red), ("B08", 10, nir), ("SCL", 20, scl)):
        path = folder / name / "IMG_DATA" / f"T32TPS_{day}T103021_{band}_{pixel}m.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        shape = (side * 10 // pixel,) * 2
        dtype = np.uint8 if band == "SCL" else np.uint16
        profile = {"count": 1, "height": shape[0], "width": shape[1], "dtype": dtype, "crs": crs}
        with rasterio.open(path, "w", driver="GTiff", transform=from_origin(left, 5_000_000, pixel, pixel), **profile) as file:
            file.write(np.broadcast_to(values, shape).astype(dtype), 1)
    return folder / name


def numbers(seed: int, side=40):
    return np.random.default_rng(seed).integers(1200, 6000, (side, side))


def clouds(seed: int, side=20):
    return np.where(np.random.default_rng(seed).random((side, side)) < 0.5, CLOUD, CLEAR)


def month(folder: Path, count=4) -> list[Path]:
    return [level_2a(folder, f"202105{3 + at:02d}", red=numbers(at), nir=numbers(10 + at), scl=clouds(at)) for at in range(count)]


def made(sources, out: Path, **options):
    """Physical values (band, row, col) of the only composite, NaN where there are none; the number of observations last."""
    one, *others = composite([open_scene(source) for source in sources], out, options=CompositeOptions(**options))
    assert not others
    return physical(one.files["data"])


def physical(path: Path):
    with rasterio.open(path) as file:
        stored = file.read().astype(np.float64)
        known = file.read_masks() > 0
        return np.where(known, stored * np.array(file.scales)[:, None, None] + np.array(file.offsets)[:, None, None], np.nan)


# Methods


@pytest.mark.parametrize(("method", "oracle"), [("median", np.nanmedian), ("mean", np.nanmean)])
@pytest.mark.filterwarnings("ignore:Mean of empty slice", "ignore:All-NaN slice")
def test_median_and_mean_are_those_of_numpy_over_what_is_clear(method, oracle):
    values, clear = stack()
    expected = oracle(np.where(clear[:, None], values, np.nan), axis=0)
    np.testing.assert_allclose(combine(values, clear, (RED, NIR), method), np.nan_to_num(expected), rtol=1e-6)


def test_medoid_and_greatest_ndvi_are_found_by_brute_force():
    values, clear = stack(side=6)
    medoid, greenest = (combine(values, clear, (RED, NIR), method) for method in ("medoid", "max-ndvi"))
    for row, col in np.ndindex(6, 6):
        seen = values[clear[:, row, col], :, row, col].astype(np.float64)
        if len(seen):
            distance = ((seen - np.median(seen, axis=0)) ** 2).sum(axis=1)
            np.testing.assert_array_equal(medoid[:, row, col], seen[distance.argmin()])
            ndvi = (seen[:, 1] - seen[:, 0]) / seen.sum(axis=1)
            np.testing.assert_array_equal(greenest[:, row, col], seen[ndvi.argmax()])


@pytest.mark.parametrize("method", METHODS)
def test_what_is_not_clear_has_no_say(method):
    values, clear = stack()
    changed = np.where(clear[:, None], values, np.float32(9))
    np.testing.assert_array_equal(combine(values, clear, (RED, NIR), method), combine(changed, clear, (RED, NIR), method))
    assert not combine(values, np.zeros_like(clear), (RED, NIR), method).any()


@pytest.mark.parametrize("method", METHODS)
def test_constants_stay_what_they_are(method):
    values = np.full((5, 2, 3, 3), 0.3, np.float32)
    np.testing.assert_array_equal(combine(values, stack(times=5, side=3)[1] | True, (RED, NIR), method), values[0])


def test_the_earliest_of_two_is_the_medoid():
    values = np.array([[0.1, 0.5], [0.3, 0.7]], np.float32)[:, :, None, None]
    np.testing.assert_array_equal(combine(values, np.ones((2, 1, 1), bool), (RED, NIR), "medoid"), values[0])


def test_max_ndvi_needs_red_and_nir():
    with pytest.raises(BandError, match="max-ndvi needs the bands red and nir; nir is missing"):
        check_method("max-ndvi", [RED])
    with pytest.raises(InputError, match="'mode'; expected one of median, medoid"):
        check_method("mode", [RED])


# Whole composites


@pytest.mark.filterwarnings("ignore:All-NaN slice")
def test_a_month_of_level_2a_is_the_median_of_its_clear_reflectance(tmp_path):
    got = made(month(tmp_path), tmp_path / "out")
    clear = np.stack([np.kron(clouds(at) == CLEAR, np.ones((2, 2), bool)) for at in range(4)])
    for band, first in ((0, 0), (1, 10)):
        seen = np.stack([(numbers(first + at) - 1000) / 1e4 for at in range(4)])
        np.testing.assert_allclose(got[band], np.nanmedian(np.where(clear, seen, np.nan), axis=0), atol=0.5001e-4)
    np.testing.assert_array_equal(np.nan_to_num(got[2]), clear.sum(axis=0))


@pytest.mark.parametrize("method", METHODS)
def test_a_single_clear_scene_comes_out_as_itself(tmp_path, method):
    for baseline, offset in (("0300", 0), ("0500", 1000)):
        scene = level_2a(tmp_path / baseline, "20210503", red=numbers(1), nir=numbers(2), baseline=baseline)
        got = made([scene], tmp_path / f"out{baseline}", method=method)
        np.testing.assert_allclose(got[0], (numbers(1) - offset) / 1e4, atol=1e-9)


def test_baselines_with_and_without_offset_mix(tmp_path):
    old = level_2a(tmp_path, "20210503", red=2000, baseline="0300")
    new = level_2a(tmp_path, "20210508", red=3000, baseline="0500")
    np.testing.assert_allclose(made([old, new], tmp_path / "out")[0], 0.2)


@pytest.mark.parametrize("method", METHODS)
def test_the_order_of_the_scenes_changes_nothing(tmp_path, method):
    scenes = month(tmp_path, 3)
    orders = list(permutations(scenes))[1::2]
    results = [np.nan_to_num(made(order, tmp_path / str(at), method=method), nan=-1).tobytes() for at, order in enumerate(orders)]
    assert len(set(results)) == 1


@pytest.mark.parametrize("method", METHODS)
def test_a_fully_clouded_scene_changes_nothing(tmp_path, method):
    scenes = month(tmp_path, 3)
    clouded = level_2a(tmp_path, "20210520", red=9000, scl=CLOUD)
    before, after = made(scenes, tmp_path / "a", method=method), made([*scenes, clouded], tmp_path / "b", method=method)
    np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("grow", [0, 35])
def test_windows_and_strips_do_not_show(tmp_path, monkeypatch, grow):
    side = 560
    scl = [np.where(numbers(at, side // 2) < 1400, CLOUD, CLEAR) for at in (1, 2)]
    scenes = [level_2a(tmp_path, f"2021050{at}", red=numbers(at, side), side=side, scl=scl[at - 1]) for at in (1, 2)]
    few = made(scenes, tmp_path / "few", mask_grow_m=grow)
    monkeypatch.setattr(composite_module, "_BUDGET_BYTES", 1_500_000)
    assert len(list(lay_blocks((side, side), 16, 1_500_000))) == 4
    np.testing.assert_array_equal(few, made(scenes, tmp_path / "many", mask_grow_m=grow))
    assert 0.001 < np.isnan(few[0]).mean() < 0.9


def test_masked_ground_is_grown_as_predict_grows_it(tmp_path):
    scl = np.full((20, 20), CLEAR)
    scl[10, 10] = CLOUD
    counts = made([level_2a(tmp_path, "20210503", scl=scl)], tmp_path / "out", mask_grow_m=25)[-1]
    away = np.maximum(np.abs(np.arange(40) - 20.5) - 0.5, 0)  # rows and columns from the four clouded pixels
    np.testing.assert_array_equal(np.isnan(counts), np.hypot(away[:, None], away) <= 2.5)


def test_scenes_of_two_zones_meet_on_one_grid(tmp_path):
    west = level_2a(tmp_path, "20210503", red=2000, left=895_000, crs="EPSG:32632", side=60)
    x, y = rasterio.warp.transform("EPSG:32632", "EPSG:32633", [895_300], [5_000_000 - 300])
    east = level_2a(tmp_path, "20210508", red=3000, crs="EPSG:32633", left=x[0] - 300 + 100, side=60)
    for path in east.rglob("*.tif"):
        with rasterio.open(path, "r+") as file:
            file.transform = from_origin(x[0] - 200, y[0] + 300, file.res[0], file.res[0])
    got = made([east, west], tmp_path / "out")
    with rasterio.open(tmp_path / "out" / "composite_2021-05.tif") as file:
        assert file.crs.to_epsg() == 32632
        assert (file.transform.c - 895_000) % 10 == 0
        assert file.width > 60
    assert {1.0, 2.0} <= set(np.unique(got[-1][~np.isnan(got[-1])]))
    np.testing.assert_allclose(got[0][got[-1] == 2], 0.15, atol=1e-4)


def test_a_coarser_grid_takes_means_and_like_takes_the_grid(tmp_path):
    scenes = month(tmp_path, 2)
    made(scenes, tmp_path / "a", resolution=20)
    with rasterio.open(tmp_path / "a" / "composite_2021-05.tif") as file:
        assert file.res == (20, 20)
        assert file.shape == (20, 20)
    made(scenes, tmp_path / "b", like=str(tmp_path / "a" / "composite_2021-05.tif"))
    with rasterio.open(tmp_path / "b" / "composite_2021-05.tif") as file:
        assert file.shape == (20, 20)


def test_a_composite_opens_as_its_sensor(tmp_path):
    made(month(tmp_path), tmp_path / "out")
    for name in ("composite_2021-05.tif", "composite_2021-05.json"):
        scene = open_scene(tmp_path / "out" / name)
        assert scene.sensor.name == "sentinel-2-l2a"
        assert scene.roles == ("red", "nir", "observations")
        red = scene.layer("red").band
        assert (red.name, red.scale, red.offset, red.nodata, red.unit) == ("B04", 1e-4, -0.1, 0, "reflectance")
        assert scene.time == datetime(2021, 5, 16, 12, tzinfo=UTC)
        assert scene.attribution == "Contains modified Copernicus Sentinel data 2021"
        assert scene.warnings == ()
    with rasterio.open(tmp_path / "out" / "composite_2021-05.tif") as file:
        assert file.tags(1, ns="IMAGERY") == {"CENTRAL_WAVELENGTH_UM": "0.6646"}
        assert file.units == ("reflectance", "reflectance", "count")


def test_the_item_names_scenes_method_and_masks(tmp_path):
    made(month(tmp_path), tmp_path / "out", method="medoid")
    item = json.loads((tmp_path / "out" / "composite_2021-05.json").read_text())
    validate_core(item)
    validate(item)
    facts = item["properties"]["geoseg:composite"]
    assert facts["method"] == "medoid"
    assert facts["masked"] == list(DEFAULT_MASK_CLASSES)
    assert [given["datetime"] for given in facts["inputs"]] == [f"2021-05-0{3 + at}T10:30:21Z" for at in range(4)]
    assert len(facts["inputs"][0]["files"][0]["sha256"]) == 64


def test_radar_is_averaged_in_power_and_turned_into_decibels_last(tmp_path):
    paths = []
    for day, decibels in (("20210503", -10.0), ("20210515", -20.0)):
        paths.append(tmp_path / f"radar_{day}.tif")
        profile = {"count": 1, "height": 8, "width": 8, "dtype": "float32", "crs": "EPSG:32632", "transform": from_origin(6e5, 5e6, 10, 10)}
        with rasterio.open(paths[-1], "w", driver="GTiff", **profile) as file:
            file.write(np.full((1, 8, 8), decibels, np.float32))
    scenes = [open_scene(path, bands=["vv"], unit="dB", convention="sigma0", sensor="sentinel-1-grd") for path in paths]
    (one,) = composite(scenes, tmp_path / "out", options=CompositeOptions(method="mean"))
    np.testing.assert_allclose(physical(one.files["data"])[0], 10 * np.log10(0.055), rtol=1e-5)
    band = open_scene(one.files["data"]).layer("vv").band
    assert (band.unit, band.convention, band.kind) == ("dB", "sigma0", "radar")


def test_radar_of_both_passes_is_told(tmp_path):
    scenes = [open_scene(level_2a(tmp_path, day)) for day in ("20210503", "20210508")]
    mixed = [replace(scene, orbit_pass=flown) for scene, flown in zip(scenes, ("ascending", "descending"), strict=True)]
    assert "ascending and descending passes is mixed" in composite(mixed, tmp_path / "a")[0].warnings[0]
    assert composite(scenes, tmp_path / "b")[0].warnings == ()


# Periods


def test_months_and_days_make_periods(tmp_path):
    scenes = [open_scene(level_2a(tmp_path, day)) for day in ("20210131", "20210201", "20210215")]
    assert [period.name for period in find_periods("month", scenes)] == ["2021-01", "2021-02"]
    (days,) = find_periods("2021-01-31/2021-02-01", scenes)
    assert [days.holds(scene.time) for scene in scenes if scene.time] == [True, True, False]
    assert find_periods("2021-02", scenes)[0].last.day == 28


@pytest.mark.parametrize("text", ["week", "2021-05-01/", "2021-13/2021-14", "2021-06-31/2021-07-02", "2021-05-01"])
def test_a_malformed_period_is_refused(text):
    with pytest.raises(InputError, match=r"expected 'month', one month such as 2021-05, or two days"):
        find_periods(text, [])


def test_each_month_is_a_file_of_its_own(tmp_path, geoseg):
    scenes = [level_2a(tmp_path, day) for day in ("20210131", "20210201")]
    ran = geoseg("composite", *scenes, "-o", tmp_path / "out", "--name", "south")
    assert ran.code == 0, ran.err
    names = [f"south_2021-0{month}.{ending}" for month in (1, 2) for ending in ("json", "tif")]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names


def test_scenes_outside_the_period_are_named(tmp_path, geoseg):
    scenes = [level_2a(tmp_path, day) for day in ("20210503", "20210620")]
    ran = geoseg("composite", *scenes, "-o", tmp_path / "out", "--period", "2021-05-01/2021-05-31")
    assert ran.code == 0, ran.err
    assert "1 of 2 scenes lie outside 2021-05-01_2021-05-31 and are left out: S2A_MSIL2A_20210620" in ran.out


def test_a_month_without_a_clear_pixel_is_left_out_with_its_figures(tmp_path, geoseg):
    scenes = [level_2a(tmp_path, "20210503"), level_2a(tmp_path, "20210620", scl=CLOUD)]
    ran = geoseg("composite", *scenes, "-o", tmp_path / "out")
    assert "2021-06 is left out, since no pixel is clear in any scene: S2A_MSIL2A_20210620" in ran.out
    assert "0.0 % of 1600 pixels" in ran.out
    assert len(list((tmp_path / "out").iterdir())) == 2


# Bad input


def refused(geoseg, tmp_path, *words) -> str:
    before = contents(tmp_path)
    ran = geoseg("composite", *words, "-o", tmp_path / "out")
    assert ran.code == 2
    assert contents(tmp_path) == before
    return ran.sentence


def test_no_clear_date_is_refused_with_figures(tmp_path, geoseg):
    sentence = refused(geoseg, tmp_path, level_2a(tmp_path, "20210503", scl=CLOUD))
    assert "no pixel is clear in any scene: S2A_MSIL2A_20210503" in sentence
    assert "0.0 % of 1600 pixels" in sentence


def test_scenes_without_dates_are_refused_until_they_are_named(tmp_path, geoseg):
    for name in ("one", "two"):
        level_2a(tmp_path, "20210503").rename(tmp_path / name)
        for path in (tmp_path / name).rglob("*.tif"):
            path.rename(tmp_path / name / path.name.split("_")[-2].join(["", ".tif"]))
    words = (tmp_path / "one", tmp_path / "two", "--sensor", "sentinel-2-l2a")
    assert "one does not say when it was taken; give the days of all scenes" in refused(geoseg, tmp_path, *words)
    assert "names 1 days for 2 scenes" in refused(geoseg, tmp_path, *words, "--dates", "2021-05-03")
    assert "holds 'May'; expected days such as" in refused(geoseg, tmp_path, *words, "--dates", "2021-05-03,May")
    assert geoseg("composite", *words, "--dates", "2021-05-03,2021-05-08", "-o", tmp_path / "out").code == 0


def test_scenes_apart_are_refused(tmp_path, geoseg):
    scenes = [level_2a(tmp_path, "20210503"), level_2a(tmp_path, "20210508", left=700_000)]
    assert re.search(r"does not overlap .* \(about 100 km between them\)", refused(geoseg, tmp_path, *scenes))


def test_other_bad_input_ends_in_a_sentence(tmp_path, geoseg):
    scene = level_2a(tmp_path, "20210503")
    assert "no scene lies in the period 2020-01" in refused(geoseg, tmp_path, scene, "--period", "2020-01")
    assert "--period is 'week'" in refused(geoseg, tmp_path, scene, "--period", "week")
    assert "ends before it begins" in refused(geoseg, tmp_path, scene, "--period", "2021-06-01/2021-05-01")
    assert "is given twice" in refused(geoseg, tmp_path, scene, scene)
    assert "no 'swir16' band" in refused(geoseg, tmp_path, scene, "--only", "swir16")
    assert "no coordinate reference system" in refused(geoseg, tmp_path, scene, "--crs", "EPSG:1")
    assert "--resolution is -1" in refused(geoseg, tmp_path, scene, "--resolution", "-1")
    assert "--mask-grow-m is -3.0" in refused(geoseg, tmp_path, scene, "--mask-grow-m", "-3")
    assert "names 'fog'" in refused(geoseg, tmp_path, scene, "--mask-classes", "fog")
    assert "no SCENE was given" in refused(geoseg, tmp_path)


def test_scenes_of_different_bands_are_refused_with_advice(tmp_path, geoseg):
    full, partial = level_2a(tmp_path, "20210503"), level_2a(tmp_path, "20210508")
    next(partial.rglob("*B08*")).unlink()
    assert "take those that all have with --only red" in refused(geoseg, tmp_path, full, partial)
    assert geoseg("composite", full, partial, "--only", "red", "-o", tmp_path / "out").code == 0


def test_what_is_there_already_is_not_replaced_unasked(tmp_path):
    scenes = [open_scene(path) for path in month(tmp_path, 2)]
    composite(scenes, tmp_path / "out")
    before = contents(tmp_path / "out")
    with pytest.raises(OutputError, match="already holds composite_2021-05"):
        composite(scenes, tmp_path / "out")
    assert contents(tmp_path / "out") == before
    composite(scenes, tmp_path / "out", overwrite=True)


def test_a_scene_that_cannot_be_read_leaves_nothing(tmp_path):
    good, bad = (open_scene(path) for path in month(tmp_path, 2))
    next(Path(bad.source).rglob("*B04*")).write_bytes(b"II*\0nothing")
    with pytest.raises(SceneError):
        composite([good, bad], tmp_path / "out")
    assert not (tmp_path / "out").exists()


# Grids and blocks


def test_the_common_grid_keeps_the_first_ones_pixels():
    first = GeoBox((10, 10), from_origin(5, 1005, 10, 10), "EPSG:32632")
    other = GeoBox((5, 5), from_origin(52, 1052, 20, 20), "EPSG:32632")
    whole = common_grid([first, other], ["a", "b"])
    assert tuple(whole.boundingbox) == (5, 905, 155, 1055)
    assert common_grid([first], ["a"]) == first


def test_a_block_that_was_not_written_is_an_error(tmp_path):
    grid = GeoBox((600, 600), from_origin(5e5, 5e6, 1, 1), "EPSG:32632")
    with pytest.raises(ValueError, match="did not get all"), BlockWriter(tmp_path / "a.tif", grid, count=1, dtype="uint8") as writer:
        writer.write(slice(0, 512), slice(0, 512), np.zeros((1, 512, 512), np.uint8))
    assert not (tmp_path / "a.tif").exists()
