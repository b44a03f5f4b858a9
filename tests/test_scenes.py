"""Scenes in every form in which they come, how they are read and described."""

from __future__ import annotations

import json
import tarfile
import zipfile

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from scene_files import stack, write

from geoseg.errors import BandError, SceneError
from geoseg.scene import read_scene, sample_scene
from geoseg.scenes.describe import describe_scene
from geoseg.scenes.open_scene import open_scene


def fill_with_sentinel_2(folder, prefix="s2_"):
    write(folder / f"{prefix}B04.tif", stack(1, side=24))
    write(folder / f"{prefix}B11.tif", stack(1, side=12), pixel=20.0)
    write(folder / f"{prefix}B10.tif", stack(1, side=4), pixel=60.0)
    write(folder / "preview.tif", stack(3, 1, 250, "uint8", 6), pixel=40.0, photometric="rgb")
    return folder


def test_one_file_per_band_at_several_resolutions_is_one_scene(tmp_path):
    scene = open_scene(fill_with_sentinel_2(tmp_path / "scène 1"))
    assert (scene.name, scene.roles) == ("scène 1", ("red", "cirrus", "swir16"))
    assert scene.geobox().shape == (24, 24)
    assert scene.geobox(["swir16", "cirrus"]).shape == (12, 12)
    assert read_scene(scene, ["swir16", "red"], scene.geobox()).roles == ("swir16", "red")


def test_a_grid_half_a_pixel_off_keeps_its_own_origin(tmp_path):
    write(tmp_path / "s2_B04.tif", stack(1, side=24))
    write(tmp_path / "s2_B11.tif", stack(1, side=13), pixel=20.0, left=499990.0)
    scene = open_scene(tmp_path, sensor="sentinel-2-l1c")
    assert scene.geobox().affine.c == 500000.0
    assert scene.geobox(["swir16"]).affine.c == 499990.0


@pytest.mark.parametrize("kind", ["zip", "tar", "list", "folder in zip"])
def test_archives_and_lists_read_like_the_folder(tmp_path, kind):
    folder = fill_with_sentinel_2(tmp_path / "a")
    files = [file for file in sorted(folder.iterdir()) if file.suffix == ".tif" and "preview" not in file.name]
    source = files if kind == "list" else tmp_path / f"a.{kind.split()[-1]}"
    if kind == "tar":
        with tarfile.open(source, "w") as tar:
            tar.add(folder, "a")
    elif kind != "list":
        with zipfile.ZipFile(source, "w") as archive:
            for file in files:
                archive.write(file, f"deep/er/{file.name}" if "folder" in kind else file.name)
    scene, plain = open_scene(source), open_scene(folder)
    assert scene.roles == plain.roles
    assert np.array_equal(*(read_scene(one, ["red"], plain.geobox()).values for one in (scene, plain)))


def test_vrt_and_vsi_paths_are_scenes(tmp_path):
    path = write(tmp_path / "a.tif", stack(2), names=("red", "nir"))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(path, "a.tif")
    with rasterio.open(path) as file, rasterio.vrt.WarpedVRT(file) as vrt:
        rasterio.shutil.copy(vrt, tmp_path / "a.vrt", driver="VRT")
    for source in (tmp_path / "a.vrt", f"/vsizip/{tmp_path}/a.zip/a.tif"):
        assert set(open_scene(source, bands=["red", "nir"]).roles) == {"red", "nir"}


def test_two_scenes_in_one_folder_are_refused_by_name(tmp_path):
    for day in ("0501", "0506"):
        write(tmp_path / f"x_2021{day}_B04.tif")
    with pytest.raises(BandError, match=r"two bands are 'red': .*0501_B04.* and .*0506_B04"):
        open_scene(tmp_path, sensor="sentinel-2-l2a")


def test_files_of_two_utm_zones_are_refused(tmp_path):
    write(tmp_path / "s2_B04.tif")
    write(tmp_path / "s2_B08.tif", crs="EPSG:32631")
    with pytest.raises(SceneError, match=r"different CRSs \(s2_B04: EPSG:32630, s2_B08: EPSG:32631\)"):
        open_scene(tmp_path, sensor="sentinel-2-l1c")


def test_what_is_not_used_is_said(tmp_path):
    write(tmp_path / "s2_B04.tif")
    write(tmp_path / "landcover.tif")
    assert "landcover" in open_scene(tmp_path, sensor="sentinel-2-l1c").warnings[0]


def test_a_folder_without_rasters_and_a_missing_file_are_one_sentence(tmp_path):
    with pytest.raises(SceneError, match="holds no raster files"):
        open_scene(tmp_path)
    with pytest.raises(SceneError, match="no such file"):
        open_scene(tmp_path / "b.tif")
    with pytest.raises(SceneError, match="empty list"):
        open_scene([])


def test_scenes_with_only_ground_control_points_get_the_sentence_that_helps(tmp_path):
    points = [rasterio.control.GroundControlPoint(row, col, 3 + col / 100, 50 - row / 100) for row in (0, 9) for col in (0, 9)]
    path = tmp_path / "s1a-iw-grd-vv.tif"
    with rasterio.open(path, "w", driver="GTiff", count=1, height=10, width=10, dtype="uint16", gcps=points, crs="EPSG:4326") as file:
        file.write(np.ones((1, 10, 10), "uint16"))
    with pytest.raises(SceneError, match="gdalwarp -tps"):
        open_scene(path)


def test_layers_come_in_the_order_asked_for_with_their_own_values(tmp_path):
    values = stack(3)
    scene = open_scene(write(tmp_path / "a.tif", values[:2], names=("red", "nir")), bands=["red", "nir"])
    raster = read_scene(scene, ["nir", "red"], scene.geobox())
    assert raster.roles == ("nir", "red")
    assert np.array_equal(raster.values, values[1::-1])


def test_quality_is_read_by_the_nearest_pixel(tmp_path):
    codes = np.random.default_rng(1).choice([4, 8, 11], (1, 12, 12)).astype("uint8")
    write(tmp_path / "s2_B04.tif", stack(1, side=24))
    write(tmp_path / "s2_SCL.tif", codes, pixel=20.0)
    scene = open_scene(tmp_path)
    assert np.array_equal(read_scene(scene, ["quality"], scene.geobox()).values[0], codes[0].repeat(2, 0).repeat(2, 1))


def test_a_missing_role_names_what_there_is(tmp_path):
    scene = open_scene(write(tmp_path / "a.tif", stack(2), names=("red", "nir")))
    with pytest.raises(BandError, match=r"no 'swir16' band in .*a.tif; it has"):
        read_scene(scene, ["swir16"], scene.geobox())


def test_a_sample_is_small_and_holds_stored_numbers(tmp_path):
    values = stack(1, side=300)
    scene = open_scene(write(tmp_path / "a.tif", values, names=("red",)))
    sample = sample_scene(scene, ["red"], max_pixels=900)
    assert sample.values.size <= 900
    assert np.isin(sample.values, values).all()


def test_a_sample_of_a_large_scene_reads_a_few_windows(tmp_path):
    values = np.arange(400 * 400, dtype="uint32").reshape(1, 400, 400) + 1
    tiles = {"tiled": True, "blockxsize": 16, "blockysize": 16}
    sample = sample_scene(open_scene(write(tmp_path / "a.tif", values, names=("red",), **tiles)), ["red"], max_pixels=900)
    rows, cols = np.divmod(sample.values[0].astype(int) - 1, 400)
    assert sample.values.shape == (1, 30, 30)
    assert rows[::6, 0].tolist() == cols[0, ::6].tolist() == [0, 96, 192, 288, 384]  # each in a block of its own
    assert (np.diff(cols[:, :6], axis=1) == 1).all()


def test_a_sample_finds_the_little_data_that_there_is(tmp_path):
    values = np.zeros((1, 400, 400), "uint16")
    values[:, 200:220] = 7  # between the windows
    scene = open_scene(write(tmp_path / "a.tif", values, names=("red",), nodata=0))
    sample = sample_scene(scene, ["red"], max_pixels=900)
    assert (sample.values[sample.valid] == 7).all()
    assert sample.valid.any()


def test_description_is_plain_data_with_reasons_and_ranges(tmp_path):
    values = np.full((1, 20, 20), 2000, "uint16")
    values[0, :5] = 0
    told = describe_scene(open_scene(write(tmp_path / "s2_B04.tif", values), sensor="sentinel-2-l2a"))
    band = json.loads(json.dumps(told, allow_nan=False))["bands"][0]
    assert (band["role"], band["because"], band["valid_share"]) == ("red", "file name 's2_B04'", 0.75)
    assert (band["percentiles_0_1_50_99_100"], band["stored_range"]) == ([pytest.approx(0.2)] * 5, [2000.0, 2000.0])


def test_resolution_of_a_turned_scene_is_the_pixel_s_own_size(tmp_path):
    turned = rasterio.Affine.translation(500000, 4800000) @ rasterio.Affine.rotation(30) @ rasterio.Affine.scale(20, -10)
    path = write(tmp_path / "a.tif", stack(1), names=("red",), transform=turned)
    assert describe_scene(open_scene(path))["bands"][0]["resolution"] == pytest.approx([10.0, 20.0])


def test_names_are_safe_in_file_names(tmp_path):
    assert open_scene(write(tmp_path / "aux.tif", names=("red",))).name == "aux_"
    assert open_scene(write(tmp_path / "é 2021-05-27.v2.tif", names=("red",))).name == "é 2021-05-27.v2"


def test_real_flood_scene_is_level_1c_by_its_bands(shared_data):
    scene = open_scene(shared_data("s1s2_flood_spain") / "Spain_7370579_S2Hand.tif")
    assert (scene.sensor.name, len(scene.layers), scene.warnings) == ("sentinel-2-l1c", 13, ())


def test_real_radar_scene_in_decibels_is_not_taken_for_power(shared_data):
    scene = open_scene(shared_data("s1s2_flood_spain") / "Spain_7370579_S1Hand.tif")
    assert {layer.band.unit for layer in scene.layers} == {"unknown"}
    assert "most values are negative" in scene.warnings[0]


def test_real_scene_of_another_scale_and_its_elevation_model_are_one_scene(shared_data):
    scene = open_scene(shared_data("s2_wales"), sensor="sentinel-2-l2a", scale=1e-3)
    assert (scene.layer("red").band.scale, scene.layer("height").band.scale, scene.layer("height").band.unit) == (1e-3, 1.0, "m")
