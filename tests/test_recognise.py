"""Which band is it: names, descriptions, file names, order, and bands flagged as alpha."""

from __future__ import annotations

import numpy as np
import pytest
from scene_files import meanings, stack, write

from geoseg.errors import BandError
from geoseg.scene import read_scene
from geoseg.scenes.open_scene import open_scene


def test_user_s_names_come_before_descriptions(tmp_path):
    path = write(tmp_path / "a.tif", stack(3), names=("red", "green", "blue"))
    assert open_scene(path).roles == ("red", "green", "blue")
    scene = open_scene(path, bands=["nir", "-", "red"])
    assert meanings(scene) == {"nir": ("a.tif", 1), "red": ("a.tif", 3)}
    assert {layer.because for layer in scene.layers} == {"--bands"}


def test_descriptions_come_before_the_sensor_s_order(tmp_path):
    names = tuple(reversed([f"B{number:02}" for number in range(1, 9)] + ["B8A"] + [f"B{number}" for number in range(9, 13)]))
    path = write(tmp_path / "a.tif", stack(13), names=names)
    scene = open_scene(path, sensor="sentinel-2-l1c")
    assert {layer.band.name: layer.index for layer in scene.layers} == {name.replace("B9", "B09"): at for at, name in enumerate(names, 1)}
    assert "band description" in scene.layer("red").because


def test_order_counts_only_where_the_sensor_is_named_and_the_count_fits(tmp_path):
    path = write(tmp_path / "a.tif", stack(4), photometric="minisblack")
    assert meanings(open_scene(path, sensor="naip"))["nir"] == ("a.tif", 4)
    with pytest.raises(BandError, match=r"unclear; found: a \(1 .*--bands"):
        open_scene(path)
    with pytest.raises(BandError, match="unclear"):
        open_scene(path, sensor="sentinel-2-l1c")


def test_descriptions_that_only_count_do_not_pass_for_band_names(tmp_path):
    path = write(tmp_path / "a.tif", stack(4), names=("Band 1", "Band 2", "Band 3", "Band 4"), photometric="minisblack")
    assert meanings(open_scene(path, sensor="aerial-rgbn"))["red"] == ("a.tif", 1)
    with pytest.raises(BandError, match="unclear"):
        open_scene(path)


def test_some_bands_may_be_named_by_number_or_file(tmp_path):
    optical, height = write(tmp_path / "a.tif", stack(4), photometric="minisblack"), write(tmp_path / "b.tif", stack(1))
    scene = open_scene([optical, height], bands=["nir=a.tif:4", "height=b", "red=a:1"])
    assert meanings(scene) == {"nir": ("a.tif", 4), "height": ("b.tif", 1), "red": ("a.tif", 1)}


@pytest.mark.parametrize(
    ("names", "message"),
    [(["red", "green"], "names 2 bands, but there are 4"), (["red=7"], "no single band"), (["red=1", "red=2"], "two bands are 'red'")],
)
def test_names_that_do_not_fit_are_refused(tmp_path, names, message):
    path = write(tmp_path / "a.tif", stack(4), photometric="minisblack")
    with pytest.raises(BandError, match=message):
        open_scene(path, bands=names)


def test_generic_takes_any_role_and_a_sensor_only_its_own(tmp_path):
    path = write(tmp_path / "a.tif", stack(2))
    assert open_scene(path, sensor="generic", bands=["ndvi", "soil"]).roles == ("ndvi", "soil")
    with pytest.raises(BandError, match=r"has no band 'ndvi'; it has .*B04 \(red\)"):
        open_scene(path, sensor="sentinel-2-l2a", bands=["ndvi", "red"])


@pytest.mark.parametrize(("extra", "sensor"), [("B10", "sentinel-2-l1c"), ("SCL", "sentinel-2-l2a")])
def test_a_band_of_one_level_only_tells_the_level(tmp_path, extra, sensor):
    for name in ("B04", "B08", extra):
        write(tmp_path / f"s2_{name}.tif", stack(1))
    scene = open_scene(tmp_path)
    assert scene.sensor.name == sensor
    assert "exists at Level" in scene.layer("red").because


def test_sentinel_2_names_without_a_level_ask_for_it(tmp_path):
    for name in ("B04", "B8A"):
        write(tmp_path / f"s2_{name}.tif", stack(1))
    with pytest.raises(BandError, match="--sensor sentinel-2-l1c"):
        open_scene(tmp_path)


def test_numbered_names_of_several_sensors_ask_for_the_sensor(tmp_path):
    path = write(tmp_path / "a.tif", stack(3), names=("B1", "B2", "B3"))
    with pytest.raises(BandError, match="several sensors"):
        open_scene(path)


def test_optical_bands_are_not_taken_into_a_radar_scene_but_height_and_angles_are(tmp_path):
    path = write(tmp_path / "a.tif", stack(3), names=("red", "green", "blue"))
    with pytest.raises(BandError, match=r"unclear.*not sentinel-1-rtc"):
        open_scene(path, sensor="sentinel-1-rtc")
    path = write(tmp_path / "b.tif", stack(3), names=("VV", "height", "incidence_angle"))
    assert open_scene(path, sensor="sentinel-1-rtc").roles == ("vv", "incidence_angle", "height")


def test_a_sensor_that_would_misread_the_numbers_is_refused(tmp_path):
    path = write(tmp_path / "a.tif", stack(3), names=("B4", "B8", "B8A"))
    with pytest.raises(BandError, match="B8A is no band of Landsat 8-9"):
        open_scene(path, sensor="landsat-oli-c2-l1")


def rgba(path, fourth, **extra):
    values = stack(4, 1, 250, "uint8", 64)
    values[3] = fourth
    return write(path, values, photometric="rgb", alpha="yes", **extra)


def test_fourth_band_of_only_0_and_255_is_a_mask(tmp_path):
    fourth = np.full((64, 64), 255)
    fourth[:9] = 0
    scene = open_scene(rgba(tmp_path / "a.tif", fourth))
    assert (scene.roles, scene.sensor.name) == (("red", "green", "blue"), "aerial-rgb")
    assert np.array_equal(read_scene(scene, ["red"], scene.geobox()).valid[0], fourth == 255)


def test_fourth_band_with_other_values_shows_both_readings(tmp_path):
    path = rgba(tmp_path / "a.tif", stack(1, 1, 250, side=64)[0])
    with pytest.raises(BandError, match=r"--sensor aerial-rgbn.*--bands red,green,blue"):
        open_scene(path)


def test_one_per_cent_of_other_values_is_still_a_mask(tmp_path):
    fourth = np.full((64, 64), 255)
    fourth.ravel()[:40] = 128
    assert "nir" not in open_scene(rgba(tmp_path / "a.tif", fourth)).roles
    fourth.ravel()[:60] = 128
    with pytest.raises(BandError, match="alpha"):
        open_scene(rgba(tmp_path / "b.tif", fourth))


def test_a_named_sensor_makes_the_fourth_band_near_infrared_and_no_mask(tmp_path):
    fourth = stack(1, 0, 250, side=64)[0]
    scene = open_scene(rgba(tmp_path / "a.tif", fourth), sensor="aerial-rgbn")
    raster = read_scene(scene, ["nir", "red"], scene.geobox())
    assert np.array_equal(raster.band("nir"), fourth)
    assert raster.valid.all()


def test_naming_three_of_four_bands_leaves_alpha_a_mask(tmp_path):
    scene = open_scene(rgba(tmp_path / "a.tif", 255), bands=["red", "green", "blue"])
    assert scene.roles == ("red", "green", "blue")


def test_false_colour_is_warned_of(tmp_path):
    scene = open_scene(write(tmp_path / "a.tif", stack(3, 1, 250, "uint8"), photometric="rgb"))
    assert "false-colour" in scene.warnings[0]
