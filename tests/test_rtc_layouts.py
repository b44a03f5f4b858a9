"""Terrain-corrected radar as its makers lay it out, opened with nothing but the path: roles, unit, convention, angle, mask."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import packages
import pytest
import rasterio
from safe_files import write_safe
from scene_files import write

from geoseg.errors import SceneError
from geoseg.layers.masks import mask_roles, scene_reasons
from geoseg.preprocess.quality import DEFAULT_MASK_CLASSES, Reason
from geoseg.scene import Scene, read_scene
from geoseg.scenes.open_scene import open_scene

OPERA = "OPERA_L2_RTC-S1_T069-147170-IW1_20231101T143730Z_20231101T200012Z_S1A_30_v1.0"
STATIC = "OPERA_L2_RTC-S1-STATIC_T069-147170-IW1_20140403_S1A_30_v1.0"
HYP3 = "S1A_IW_20180128T161201_DVP_RTC30_G_{}uned_FD6A"
PLANETARY = "S1A_IW_GRDH_1SDV_20191215T004339_20191215T004404_030352_0378DC_rtc"
SIDE = 40


def power(mean: float) -> np.ndarray:
    return np.random.default_rng(0).gamma(4, mean / 4, (1, SIDE, SIDE)).astype("float32")


def striped(*values: int) -> np.ndarray:
    """(1, row, col) these values in stripes of four columns, then the first again."""
    plane = np.full((1, SIDE, SIDE), values[0], "uint8")
    for at, value in enumerate(values):
        plane[..., 4 * at : 4 * at + 4] = value
    return plane


def opera(folder: Path, *, statics: bool = False) -> Path:
    tags = {"ORBIT_PASS_DIRECTION": "ascending", "PRODUCT_VERSION": "1.0"}
    for polarisation, mean in (("VV", 0.1), ("VH", 0.02)):
        path = write(folder / f"{OPERA}_{polarisation}.tif", power(mean), pixel=30.0, nodata=np.nan)
        with rasterio.open(path, "r+") as file:
            file.update_tags(**tags)
    write(folder / f"{OPERA}_mask.tif", striped(0, 1, 2, 3, 255), pixel=30.0, nodata=255)
    (folder / f"{OPERA}.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    (folder / f"{OPERA}_BROWSE.png").write_bytes(b"\x89PNG")
    (folder / f"{OPERA}.iso.xml").write_text("<gmi/>")
    if statics:
        write(folder / f"{STATIC}_mask.tif", striped(0), pixel=30.0, nodata=255)
        write(folder / f"{STATIC}_incidence_angle.tif", np.full((1, SIDE, SIDE), 38.0, "float32"), pixel=30.0)
        write(folder / f"{STATIC}_local_incidence_angle.tif", np.full((1, SIDE, SIDE), 31.0, "float32"), pixel=30.0)
        write(folder / f"{STATIC}_number_of_looks.tif", power(9.0), pixel=30.0)
        write(folder / f"{STATIC}_rtc_anf_gamma0_to_beta0.tif", power(1.0), pixel=30.0)
    return folder


def hyp3(folder: Path, radiometry: str = "gp") -> Path:
    name = HYP3.format(radiometry)
    inside = folder / name
    for polarisation, mean in (("VV", 0.1), ("VH", 0.02)):
        stored = {"p": power(mean), "a": np.sqrt(power(mean)), "d": 10 * np.log10(power(mean))}[radiometry[1]]
        write(inside / f"{name}_{polarisation}.tif", stored, pixel=30.0, nodata=0)
        (inside / f"{name}_{polarisation}.tif.xml").write_text("<metadata/>")
    write(inside / f"{name}_ls_map.tif", striped(1, 3, 5, 7, 9, 17, 21, 0), pixel=30.0)
    write(inside / f"{name}_inc_map.tif", np.full((1, SIDE, SIDE), 0.6, "float32"), pixel=30.0, nodata=0)
    write(inside / f"{name}_dem.tif", np.full((1, SIDE, SIDE), 250, "int16"), pixel=30.0)
    write(inside / f"{name}_area.tif", power(900.0), pixel=30.0)
    write(inside / f"{name}_rgb.tif", np.full((3, SIDE, SIDE), 90, "uint8"), pixel=30.0, photometric="rgb")
    (inside / f"{name}.README.md.txt").write_text("ASF RTC Data Package (GAMMA)")
    (inside / f"{name}.log").write_text("")
    (inside / f"{name}.kmz").write_bytes(b"PK")
    return inside


def zipped(folder: Path) -> Path:
    path = folder.parent / f"{folder.name}.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, f"{folder.name}/{file.name}")
    return path


def planetary(folder: Path) -> Path:
    """The Item of Planetary Computer's sentinel-1-rtc beside its files."""
    assets = {}
    for polarisation, mean in (("vh", 0.02), ("vv", 0.1)):
        values = power(mean)
        values[..., :5] = -32768
        write(folder / f"measurement/iw-{polarisation}.rtc.tiff", values)
        assets[polarisation] = {
            "href": f"./measurement/iw-{polarisation}.rtc.tiff",
            "type": "image/tiff; application=geotiff; profile=cloud-optimized",
            "title": f"{polarisation.upper()}: Vertical transmit",
            "roles": ["data"],
            "raster:bands": [{"nodata": -32768, "data_type": "float32", "spatial_resolution": 10}],
        }
    assets["tilejson"] = {"href": "https://host/tilejson.json", "type": "application/json", "roles": ["tiles"]}
    assets["rendered_preview"] = {"href": "https://host/preview.png?x=1", "type": "image/png", "roles": ["overview"]}
    properties = {
        "datetime": "2019-12-15T00:43:52Z",
        "platform": "SENTINEL-1A",
        "sar:instrument_mode": "IW",
        "sar:polarizations": ["VV", "VH"],
        "sat:orbit_state": "ascending",
        "sar:looks_equivalent_number": 4.4,
    }
    item = {"type": "Feature", "stac_version": "1.0.0", "id": PLANETARY, "collection": "sentinel-1-rtc"}
    (folder / "item.json").write_text(json.dumps({**item, "properties": properties, "assets": assets}))
    return folder / "item.json"


def said(scene: Scene) -> set[tuple]:
    bands = [layer.band for layer in scene.layers if layer.band.kind == "radar"]
    return {(band.unit, band.convention, band.noise_removed) for band in bands}


def stripes(scene: Scene, classes=DEFAULT_MASK_CLASSES) -> list[int]:
    """The reason of each stripe."""
    raster = read_scene(scene, mask_roles(scene), scene.geobox())
    return scene_reasons(raster, scene, classes)[0, ::4].tolist()


def test_opera_folder(tmp_path):
    scene = open_scene(opera(tmp_path))
    assert (scene.sensor.name, scene.roles, scene.warnings) == ("opera-rtc-s1", ("vv", "vh", "quality"), ())
    assert said(scene) == {("linear power", "gamma0_rtc", True)}
    assert (scene.orbit_pass, scene.time.isoformat(), scene.product_id) == ("ascending", "2023-11-01T14:37:30+00:00", OPERA)
    assert stripes(scene)[:6] == [Reason.OBSERVED, Reason.RADAR_SHADOW, Reason.LAYOVER, Reason.LAYOVER, Reason.NO_DATA, Reason.OBSERVED]
    assert scene.attribution == "Contains modified Copernicus Sentinel data 2023, processed by NASA's OPERA project"


def test_opera_s_mask_may_be_left_out(tmp_path):
    scene = open_scene(opera(tmp_path))
    assert set(stripes(scene, ("layover",))) == {Reason.OBSERVED, Reason.LAYOVER}
    assert set(stripes(scene, ())) == {Reason.OBSERVED}


def test_opera_s_static_layers_add_the_angles_and_no_second_mask(tmp_path):
    scene = open_scene(opera(tmp_path, statics=True))
    assert scene.roles == ("vv", "vh", "incidence_angle", "local_incidence_angle", "quality")
    assert scene.layer("quality").path.endswith(f"{OPERA}_mask.tif")
    assert scene.layer("incidence_angle").path.endswith("1.0_incidence_angle.tif")
    assert (scene.layer("incidence_angle").band.scale, scene.warnings) == (1.0, ())


def test_opera_s_files_named_one_by_one(tmp_path):
    opera(tmp_path)
    scene = open_scene([tmp_path / f"{OPERA}_{name}.tif" for name in ("VH", "mask", "VV")])
    assert (scene.roles, said(scene)) == (("vv", "vh", "quality"), {("linear power", "gamma0_rtc", True)})


@pytest.mark.parametrize("packed", [False, True])
def test_hyp3_folder_and_zip(tmp_path, packed):
    folder = hyp3(tmp_path)
    scene = open_scene(zipped(folder) if packed else folder)
    assert (scene.sensor.name, scene.warnings) == ("hyp3-rtc-s1", ())
    assert scene.roles == ("vv", "vh", "local_incidence_angle", "quality", "height")
    assert said(scene) == {("linear power", "gamma0_rtc", None)}
    reasons = [Reason.OBSERVED, *[Reason.LAYOVER] * 3, *[Reason.RADAR_SHADOW] * 2, Reason.LAYOVER, Reason.OBSERVED]
    assert stripes(scene)[:8] == reasons


def test_hyp3_s_angle_is_local_and_in_radians(tmp_path):
    scene = open_scene(hyp3(tmp_path))
    band = scene.layer("local_incidence_angle").band
    stored = read_scene(scene, ["local_incidence_angle"], scene.geobox()).values
    assert (band.unit, pytest.approx(float(stored[0, 0, 0]) * band.scale, abs=1e-3)) == ("degree", 34.377)


@pytest.mark.parametrize(
    ("radiometry", "unit", "convention"),
    [("gp", "linear power", "gamma0_rtc"), ("gd", "dB", "gamma0_rtc"), ("ga", "amplitude", "gamma0_rtc"), ("sp", "linear power", "sigma0")],
)
def test_hyp3_s_name_says_radiometry_and_scale(tmp_path, radiometry, unit, convention):
    assert said(open_scene(hyp3(tmp_path, radiometry))) == {(unit, convention, None)}


def test_planetary_computer_s_terrain_corrected_item(tmp_path):
    scene = open_scene(planetary(tmp_path))
    assert (scene.sensor.name, scene.roles, scene.warnings) == ("sentinel-1-rtc", ("vv", "vh"), ())
    assert said(scene) == {("linear power", "gamma0_rtc", None)}
    assert (scene.orbit_pass, scene.name, scene.product_id) == ("ascending", PLANETARY, PLANETARY)
    valid = read_scene(scene, ["vv", "vh"], scene.geobox()).valid_everywhere
    assert (not valid[:, :5].any(), valid[:, 5:].all()) == (True, True)


def test_the_three_makers_products_are_one_to_a_model_of_terrain_corrected_radar(tmp_path):
    for scene in (opera(tmp_path / "a"), hyp3(tmp_path / "b"), planetary(tmp_path / "c")):
        assert {layer.band.convention for layer in open_scene(scene).layers if layer.band.kind == "radar"} == {"gamma0_rtc"}
        with pytest.raises(Exception, match="the incidence angle cannot undo"):
            open_scene(scene, convert="sigma0")


def test_a_folder_of_pictures_is_still_a_scene(tmp_path):
    write(tmp_path / "site_rgb.tif", np.full((3, 9, 9), 90, "uint8"), photometric="rgb")
    assert open_scene(tmp_path).roles == ("red", "green", "blue")


def test_layover_and_shadow_get_no_class_and_are_told_apart(place, geoseg):
    opera(place / "burst")
    model = packages.constant_package(place / "m", ["vv", "vh"], 1, 2, pixel_size_m=30, pixel_size_range_m=(20, 40))
    ran = geoseg("predict", "burst", "--model", model.path, "-o", "out")
    assert ran.code == 0, ran.err
    with rasterio.open(place / "out/burst_reason.tif") as file:
        reason = file.read(1)[0, ::4].tolist()
    assert reason[:6] == [1, 11, 10, 10, 2, 1]
    assert geoseg("predict", "burst", "--model", model.path, "-o", "all", "--mask-classes", "none").code == 0
    with rasterio.open(place / "all/burst_reason.tif") as file:
        assert set(np.unique(file.read(1))) == {1}


def test_info_tells_pass_convention_and_mask(place, geoseg):
    ran = geoseg("info", opera(place / "burst"), "--json")
    told = json.loads(ran.out)
    assert (told["orbit_pass"], told["bands"][0]["convention"], told["bands"][0]["noise_removed"]) == ("ascending", "gamma0_rtc", True)
    assert [band["role"] for band in told["bands"]] == ["vv", "vh", "quality"]


def planetary_grd(folder: Path, safe: Path) -> Path:
    """The Item of Planetary Computer's sentinel-1-grd beside the renamed files of a product."""
    assets = {"safe-manifest": {"href": "./manifest.safe", "type": "application/xml", "roles": ["metadata"]}}
    for file in sorted(path for path in safe.rglob("*") if path.is_file()):
        kind = next((kind for kind in ("calibration-", "noise-") if file.name.startswith(kind)), "")
        word = file.stem.removeprefix(kind).split("-")[3] if "-grd-" in file.name else ""
        place = file.parent.relative_to(safe) / (f"{kind}iw-{word}{file.suffix}" if word else file.name)
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        file.rename(folder / place)
        if file.suffix == ".tiff":
            assets[word] = {"href": f"./{place.as_posix()}", "type": "image/tiff; application=geotiff; profile=cloud-optimized"}
        elif kind:
            assets[f"schema-{kind}{word}"] = {"href": f"./{place.as_posix()}", "type": "application/xml"}
        elif word:  # what the catalogue names is the annotation of radio interference
            assets[f"schema-product-{word}"] = {"href": f"./annotation/rfi/rfi-iw-{word}.xml", "type": "application/xml"}
    item = {"type": "Feature", "stac_version": "1.0.0", "id": safe.stem, "collection": "sentinel-1-grd", "properties": {}}
    (folder / "item.json").write_text(json.dumps({**item, "assets": assets}))
    return folder / "item.json"


def test_planetary_computer_s_ground_range_item_is_the_product_itself(tmp_path):
    direct = open_scene(write_safe(tmp_path / "first"))
    scene = open_scene(planetary_grd(tmp_path / "catalogue", write_safe(tmp_path / "second")))
    assert (scene.name, scene.roles, scene.orbit_pass, scene.time) == (direct.name, direct.roles, direct.orbit_pass, direct.time)
    assert said(scene) == {("linear power", "sigma0", True)}
    first, second = (read_scene(one, one.roles, direct.geobox()[10:50, 20:60]) for one in (direct, scene))
    assert first.valid.any()
    assert np.array_equal(first.values, second.values)


def test_a_ground_range_item_without_its_calibration_is_one_sentence(tmp_path):
    path = planetary_grd(tmp_path, write_safe(tmp_path))
    item = json.loads(path.read_text())
    del item["assets"]["schema-calibration-vv"]
    path.write_text(json.dumps(item))
    with pytest.raises(SceneError, match="lacks the calibration of VV"):
        open_scene(path)
