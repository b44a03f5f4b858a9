"""Optical products open as they were downloaded, with nothing but the path, and their own clouds stay out of the map."""

from __future__ import annotations

import re

import numpy as np
import packages
import product_files as products
import pytest
import rasterio
from product_files import side

from geoseg.errors import SceneError
from geoseg.layers.masks import mask_roles
from geoseg.preprocess.quality import Reason
from geoseg.scene import SunAngles, read_scene
from geoseg.scenes.open_scene import open_scene
from geoseg.scenes.stac_items import product_from_item

JUNE = SunAngles(23.25, 144.5)
OLI_2 = [*(f"SR_B{number}" for number in range(1, 8)), "ST_B10"]
TM_2 = [*(f"SR_B{number}" for number in (1, 2, 3, 4, 5, 7)), "ST_B6"]


@pytest.fixture
def mapped(geoseg, tmp_path):
    """`mapped(scene, pixel)` is the reason and class of each pixel in a real run that calls reflectance above 0.09 in red class 1."""

    def run(scene, pixel, *options):
        fine = {"pixel_size_m": pixel, "pixel_size_range_m": (pixel / 2, pixel * 2)}
        if not (model := tmp_path / "network").exists():
            packages.threshold_package(model, threshold=0.09, preparation=packages.preparation_for(["red"], unit="reflectance"), **fine)
        ran = geoseg("predict", scene, "--model", model, "-o", tmp_path / "map", *options)
        assert ran.code == 0, ran.err
        layers = []
        for kind in ("reason", "classes"):
            (path,) = (tmp_path / "map").glob(f"*_{kind}.tif")
            with rasterio.open(path) as file:
                layers.append(file.read(1))
                assert file.res == (pixel, pixel)
        return layers

    return run


def red_at(scene, row=0, col=0):
    """The stored red and what it means."""
    raster = read_scene(scene, ["red"], scene.geobox(["red"]))
    band = scene.layer("red").band
    return float(raster.values[0, row, col]), float(raster.values[0, row, col] * band.scale + band.offset)


# ---------------------------------------------------------------- Sentinel-2


@pytest.mark.parametrize("form", ["folder", "zip", "metadata file", "folder around it"])
def test_level_2a_opens_from_every_form_with_the_finest_file_of_each_band(tmp_path, form):
    safe = products.sentinel_2(tmp_path / "download")
    source = {"zip": lambda: products.zipped(safe), "metadata file": lambda: safe / "MTD_MSIL2A.xml"}
    scene = open_scene({"folder": safe, "folder around it": safe.parent}.get(form) or source[form]())
    assert scene.sensor.name == "sentinel-2-l2a"
    assert (len(scene.layers), scene.processing_baseline, scene.sun, scene.warnings) == (13, "05.10", JUNE, ())
    assert red_at(scene) == (2000.0, pytest.approx(0.1))
    assert scene.layer("quality").path.endswith("SCL_20m.jp2")
    assert all(layer.path.endswith(".jp2") for layer in scene.layers)


def test_clouds_of_the_scene_classification_stay_out_of_the_map(tmp_path, mapped):
    scl = np.full((side(20), side(20)), 4, "uint8")
    scl[:5], scl[5:10], scl[10:12], scl[12:14] = 9, 3, 10, 0
    reason, classes = mapped(products.zipped(products.sentinel_2(tmp_path, quality=scl)), 10)
    told = {9: Reason.CLOUD, 3: Reason.CLOUD_SHADOW, 10: Reason.CIRRUS, 0: Reason.NO_DATA, 4: Reason.OBSERVED}
    assert np.array_equal(reason, np.vectorize(told.get)(scl).repeat(2, 0).repeat(2, 1))
    assert (classes[reason == Reason.OBSERVED] == 1).all()


def test_before_baseline_4_nothing_is_subtracted(tmp_path):
    assert red_at(open_scene(products.sentinel_2(tmp_path, baseline="0214")))[1] == pytest.approx(0.2)


def test_cloud_rasters_of_level_1c_stay_out_of_the_map(tmp_path, mapped):
    clouds = np.zeros((3, side(60), side(60)), "uint8")
    clouds[0, :4], clouds[1, 2:7], clouds[2, 10:] = 1, 1, 1
    safe = products.sentinel_2(tmp_path, level="1C", clouds=clouds)
    reason, _ = mapped(safe, 10)
    expected = np.full((side(60), side(60)), Reason.OBSERVED)
    expected[:4], expected[4:7] = Reason.CLOUD, Reason.CIRRUS
    assert np.array_equal(reason, expected.repeat(6, 0).repeat(6, 1))
    snow, _ = mapped(safe, 10, "--mask-classes", "snow", "--overwrite")
    assert (snow[60:] == Reason.SNOW).all()
    assert (snow[:60] == Reason.OBSERVED).all()


def test_cloud_polygons_of_older_level_1c_stay_out_of_the_map_but_not_their_holes(tmp_path, mapped):
    cirrus = products.cloud_feature("CIRRUS", [(0, 0), (10, 0), (10, 5), (0, 5)])
    opaque = products.cloud_feature("OPAQUE", [(2, 2), (8, 2), (8, 9), (2, 9)], [(4, 6), (6, 6), (6, 8), (4, 8)])
    safe = products.sentinel_2(tmp_path, level="1C", baseline="0209", clouds=products.cloud_gml(opaque + cirrus))
    reason, _ = mapped(products.zipped(safe), 10)
    expected = np.full((side(60), side(60)), Reason.OBSERVED)
    expected[:5, :10] = Reason.CIRRUS
    expected[2:9, 2:8] = Reason.CLOUD
    expected[6:8, 4:6] = Reason.OBSERVED
    assert np.array_equal(reason, expected.repeat(6, 0).repeat(6, 1))


def test_cloud_polygons_lie_in_their_place_on_a_map_in_another_crs(tmp_path, mapped):
    opaque = products.cloud_feature("OPAQUE", [(0, 0), (18, 0), (18, 9), (0, 9)])
    safe = products.sentinel_2(tmp_path, level="1C", baseline="0209", clouds=products.cloud_gml(opaque))
    reason, _ = mapped(safe, 10, "--crs", "EPSG:32631", "--resolution", "10")
    shares = [float((reason == one).sum() / (reason != Reason.OUTSIDE).sum()) for one in (Reason.CLOUD, Reason.OBSERVED)]
    assert shares == pytest.approx([0.5, 0.5], abs=0.02)


def test_no_cloud_polygons_mean_a_clear_scene_and_damaged_ones_an_error(tmp_path):
    clear = open_scene(products.sentinel_2(tmp_path / "a", level="1C", baseline="0209", clouds=products.cloud_gml()))
    codes = read_scene(clear, ["quality"], clear.geobox(["red"]))
    assert codes.valid.all()
    assert not codes.values.any()
    safe = products.sentinel_2(tmp_path / "b", level="1C", baseline="0209", clouds="<eop:Mask")
    with pytest.raises(SceneError, match=r"clouds of .* cannot be read .*fetch the product again"):
        open_scene(safe)


def test_level_1c_without_any_clouds_file_still_opens(tmp_path):
    scene = open_scene(products.sentinel_2(tmp_path, level="1C", baseline="0209"))
    assert "quality" not in scene.roles
    assert (scene.sensor.name, scene.sun) == ("sentinel-2-l1c", JUNE)


# ---------------------------------------------------------------- Landsat


@pytest.mark.parametrize(
    ("name", "bands", "sensor"),
    [(products.OLI, OLI_2, "oli"), (products.TM, TM_2, "tm"), (products.ETM, TM_2, "etm")],
    ids=["LC08", "LT05", "LE07"],
)
def test_landsat_level_2_tars_open_with_surface_reflectance_and_temperature(tmp_path, name, bands, sensor):
    path = products.landsat(tmp_path, name.format(level="2SP"), bands)
    scene = open_scene(path)
    assert scene.sensor.name == f"landsat-{sensor}-c2-l2"
    assert scene.product_id == name.format(level="2SP")
    assert (scene.sun, scene.warnings) == (SunAngles(60.0, 215.75), ())
    assert red_at(scene)[1] == pytest.approx(18639 * 2.75e-5 - 0.2)
    assert [layer.band.unit for layer in scene.layers if layer.band.kind == "thermal"] == ["K"]
    assert scene.roles[-2:] == ("quality", "quality2")


@pytest.mark.parametrize("mtl", ["xml", "json"])
def test_the_mtl_file_is_read_in_every_form(tmp_path, mtl):
    scene = open_scene(products.landsat(tmp_path, products.OLI.format(level="1TP"), ["B4", "B10"], mtl=mtl))
    assert (scene.sun, scene.product_id) == (SunAngles(60.0, 215.75), products.OLI.format(level="1TP"))
    assert red_at(scene)[1] == pytest.approx((18639 * 2e-5 - 0.1) / 0.5)


def test_landsat_s_flags_stay_out_of_the_map(tmp_path, mapped):
    qa_pixel = np.full((side(30), side(30)), products.CLEAR, "uint16")
    flags = {1 << 3: Reason.CLOUD, 1 << 1: Reason.CLOUD, 1 << 4: Reason.CLOUD_SHADOW, 1 << 2: Reason.CIRRUS, 1 << 5: Reason.OBSERVED}
    for row, flag in enumerate(flags):
        qa_pixel[row] |= flag
    qa_pixel[5] = 1
    radsat = np.zeros_like(qa_pixel)
    radsat[6], radsat[7], radsat[8], radsat[0] = 1 << 3, 1 << 8, 1 << 11, 1
    path = products.landsat(tmp_path, products.OLI.format(level="2SP"), OLI_2, qa_pixel=qa_pixel, qa_radsat=radsat)
    reason, _ = mapped(path, 30)
    expected = [*flags.values(), Reason.NO_DATA, Reason.SATURATED, Reason.OBSERVED, Reason.NO_DATA]
    assert reason[:9, 0].tolist() == expected
    assert (reason[9:] == Reason.OBSERVED).all()
    snow_only, _ = mapped(path, 30, "--mask-classes", "snow", "--overwrite")
    assert (np.argwhere(snow_only == Reason.SNOW)[:, 0] == 4).all()
    assert (snow_only[[0, 1, 2, 3, 5, 6]] == Reason.OBSERVED).all()


def test_thermal_saturation_does_not_mask_the_reflectance_of_a_thematic_mapper(tmp_path, mapped):
    radsat = np.zeros((side(30), side(30)), "uint16")
    radsat[0], radsat[1], radsat[2] = 1 << 5, 1 << 6, 1 << 9
    reason, _ = mapped(products.landsat(tmp_path, products.TM.format(level="2SP"), TM_2, qa_radsat=radsat), 30)
    assert reason[:4, 0].tolist() == [Reason.OBSERVED, Reason.SATURATED, Reason.NO_DATA, Reason.OBSERVED]


def test_the_saturation_layer_alone_is_not_read_as_clouds(tmp_path):
    name = products.OLI.format(level="2SP")
    products.landsat(tmp_path, name, OLI_2)
    (tmp_path / name / f"{name}_QA_PIXEL.TIF").unlink()
    assert mask_roles(open_scene(tmp_path / name)) == ()


def test_level_1_thermal_is_brightness_temperature_by_planck_s_law(tmp_path):
    scene = open_scene(products.landsat(tmp_path, products.OLI.format(level="1TP"), ["B4", "B8", "B10"], stored=27000))
    raster = read_scene(scene, ["lwir11"], scene.geobox(["lwir11"]))
    radiance = 27000 * 3.3420e-4 + 0.1  # 9.1234 W/(m2 sr um)
    assert scene.layer("lwir11").band.unit == "K"
    assert raster.values[0, 0, 0] == pytest.approx(1321.0789 / np.log(774.8853 / radiance + 1), abs=1e-3)
    assert raster.values[0, 0, 0] == pytest.approx(296.47, abs=0.5)
    assert scene.geobox().shape == (side(15), side(15))


def test_level_1_thermal_stays_radiance_without_constants_and_void_where_nothing_was_stored(tmp_path):
    name = products.OLI.format(level="1TP")
    path = products.landsat(tmp_path, name, ["B4", "B10"], stored=0)
    scene = open_scene(path)
    assert not read_scene(scene, ["lwir11"], scene.geobox()).valid.any()
    (tmp_path / name / f"{name}_MTL.txt").unlink()
    assert open_scene(tmp_path / name).layer("lwir11").band.unit == "1"


# ---------------------------------------------------------------- HLS and PlanetScope


@pytest.mark.parametrize(
    ("part", "bands"),
    [("L30", ["B02", "B03", "B04", "B05", "B06", "B07", "B10"]), ("S30", ["B02", "B03", "B04", "B8A", "B11", "B12"])],
)
def test_hls_opens_and_its_fmask_masks(tmp_path, mapped, part, bands):
    fmask = np.full((side(30), side(30)), 64, "uint8")
    fmask[0], fmask[1], fmask[2], fmask[3], fmask[4] = 2, 4, 8, 16, 255
    folder = products.hls(tmp_path, part, bands, fmask=fmask)
    scene = open_scene(folder)
    assert (scene.sensor.name, scene.sun, scene.warnings) == (f"hls-{part.lower()}", JUNE, ())
    reason, classes = mapped(products.zipped(folder, "granule"), 30)
    assert reason[:6, 0].tolist() == [Reason.CLOUD, Reason.CLOUD, Reason.CLOUD_SHADOW, Reason.OBSERVED, Reason.NO_DATA, Reason.OBSERVED]
    assert (classes[5:] == 1).all()


@pytest.mark.parametrize("eight", [False, True])
@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("names", [False, True])
def test_planetscope_orders_open_with_and_without_band_names(tmp_path, eight, clip, names):
    scene = open_scene(products.planet(tmp_path, eight=eight, clip=clip, names=names))
    assert scene.sensor.name == ("planetscope-8" if eight else "planetscope-4")
    assert (scene.layer("red").index, scene.layer("nir").index) == ((6, 8) if eight else (3, 4))
    assert (scene.sun, scene.warnings) == (JUNE, ())


def test_planetscope_s_usable_data_mask_masks_in_a_zip_of_the_whole_order(tmp_path, mapped):
    planes = np.zeros((8, side(3), side(3)), "uint8")
    for row, plane in enumerate((1, 2, 3, 4, 5, 6)):
        planes[plane - 1, row] = 1
    reason, _ = mapped(products.zipped(products.planet(tmp_path, clip=True, planes=planes), "order"), 3)
    expected = [Reason.OBSERVED, Reason.OBSERVED, Reason.CLOUD_SHADOW, Reason.OBSERVED, Reason.CLOUD, Reason.CLOUD]
    assert reason[:6, 0].tolist() == expected
    assert (reason[6:] == Reason.OBSERVED).all()


# ---------------------------------------------------------------- what cannot be read


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("ortho.ecw", b"ecw", r"ortho\.ecw is ECW, .*gdal_translate -of COG .* ortho\.ecw ortho\.tif"),
        ("ortho.sid", b"msid", r"ortho\.sid is MrSID, .*OSGeo4W .*gdal_translate -of COG"),
        ("MOD09A1.A2020001.h18v04.hdf", b"\x0e\x03\x13\x01", r"is HDF4, .*gdal_translate HDF4_EOS:EOS_GRID:MOD09A1"),
        ("LC08.tar.gz", b"\x1f\x8b", r"LC08\.tar\.gz is a compressed archive, .*tar -xf LC08\.tar\.gz"),
    ],
)
def test_formats_without_a_driver_say_how_to_convert_them(geoseg, tmp_path, name, content, sentence):
    (tmp_path / name).write_bytes(content)
    ran = geoseg("info", tmp_path / name)
    assert ran.code == 2
    assert re.search(sentence, ran.sentence)


def test_a_folder_of_ecw_and_a_sentinel_3_product_say_what_they_are(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "tile.ECW").write_bytes(b"ecw")
    with pytest.raises(SceneError, match="is ECW"):
        open_scene(tmp_path / "a")
    product = tmp_path / "S3A_OL_1_EFR____20230617T100000.SEN3"
    product.mkdir()
    (product / "Oa01_radiance.nc").write_bytes(b"CDF")
    with pytest.raises(SceneError, match=r"Sentinel-3 product.*SNAP"):
        open_scene(product)


# ---------------------------------------------------------------- the sun


def test_the_sun_is_read_from_a_catalogue_s_item(tmp_path):
    properties = {"view:sun_elevation": 66.75, "view:sun_azimuth": 144.5, "view:off_nadir": 0}
    assert product_from_item({"id": "x", "properties": properties}).sun == JUNE
    assert product_from_item({"id": "x", "properties": {"view:sun_azimuth": 144.5}}).sun is None


def test_a_sun_that_cannot_be_is_refused():
    with pytest.raises(SceneError, match="zenith 200"):
        SunAngles(200, 0)
