"""What a band's numbers mean: offsets by baseline, metadata of products, units of radar, and what the user says."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
from scene_files import meanings, stack, write

from geoseg.scene import quality_roles, read_scene
from geoseg.scenes.open_scene import open_scene

L2A = "S2B_MSIL2A_20230705T105629_N{}_R094_T30TXN_20230705T141602.SAFE"
LANDSAT = "LC08_L2SP_199026_20200805_20210330_02_T1"


def safe(folder, baseline="0509", offsets=(-1000,), values=None):
    """A small SAFE folder: 10 and 20 m copies of B04, SCL, pictures beside them, and its metadata."""
    root = folder / L2A.format(baseline)
    image = root / "GRANULE" / "L2A_T30TXN_A033063" / "IMG_DATA"
    for resolution, names in ((10, ("B04", "B08", "TCI", "AOT")), (20, ("B04", "B11", "SCL", "WVP"))):
        for name in names:
            pixels = stack(1, 1200, 5000, side=24 * 10 // resolution) if values is None or name == "SCL" else values
            write(image / f"R{resolution}m" / f"T30TXN_20230705T105629_{name}_{resolution}m.jp2", pixels, pixel=float(resolution))
    lines = "".join(f'<BOA_ADD_OFFSET band_id="{at}">{offset}</BOA_ADD_OFFSET>' for at, offset in enumerate(offsets * 13))
    (root / "MTD_MSIL2A.xml").write_text(
        f'<n1:P xmlns:n1="https://example.org/p"><PRODUCT_URI>{root.name}</PRODUCT_URI><PROCESSING_BASELINE>{baseline[:2]}.{baseline[2:]}'
        f"</PROCESSING_BASELINE><BOA_QUANTIFICATION_VALUE>10000</BOA_QUANTIFICATION_VALUE>{lines if offsets else ''}</n1:P>"
    )
    return root


def test_safe_gives_level_time_baseline_finest_bands_and_stated_offset(tmp_path):
    scene = open_scene(safe(tmp_path))
    assert (scene.sensor.name, scene.processing_baseline, scene.time.isoformat()) == (
        "sentinel-2-l2a",
        "05.09",
        "2023-07-05T10:56:29+00:00",
    )
    assert scene.roles == ("red", "nir", "swir16", "quality")
    assert scene.layer("red").path.endswith("B04_10m.jp2")
    assert (scene.layer("red").band.scale, scene.layer("red").band.offset) == (1e-4, -0.1)
    assert (scene.warnings, scene.attribution) == ((), "Contains modified Copernicus Sentinel data 2023")


def test_offset_follows_the_baseline_in_the_name_and_not_the_date(tmp_path):
    for baseline, offset in (("0214", 0.0), ("0301", 0.0), ("0400", -0.1), ("0509", -0.1), ("9999", 0.0)):
        folder = tmp_path / L2A.format(baseline)
        write(folder / "T30TXN_20230705T105629_B04_10m.tif", stack(1, 1200 if offset else 300))
        assert open_scene(folder).layer("red").band.offset == offset


def test_metadata_without_offsets_means_none(tmp_path):
    root = safe(tmp_path, "0300", offsets=(), values=stack(1, 100, 900, side=12))
    assert open_scene(root / "MTD_MSIL2A.xml").layer("red").band.offset == 0.0


def test_offset_that_the_data_contradict_is_warned_of(tmp_path):
    folder = tmp_path / L2A.format("0509")
    write(folder / "B04_10m.tif", stack(1, 100, 3000))
    scene = open_scene(folder)
    assert scene.layer("red").band.offset == -0.1
    assert "--offset 0" in scene.warnings[0]
    assert open_scene(folder, offset=0.0).warnings == ()


def test_numbers_about_1000_too_high_are_warned_of(tmp_path):
    path = write(tmp_path / "s2_B04.tif", stack(1, 1050, 4000))
    assert "--offset -0.1" in open_scene(path, sensor="sentinel-2-l2a").warnings[0]
    assert open_scene(write(tmp_path / "b_B04.tif", stack(1, 300)), sensor="sentinel-2-l2a").warnings == ()


def test_zero_is_nodata_for_sentinel_2_even_where_the_file_does_not_say_so(tmp_path):
    values = stack(1)
    values[0, :5] = 0
    scene = open_scene(write(tmp_path / "s2_B04.tif", values), sensor="sentinel-2-l2a")
    assert scene.layer("red").band.nodata == 0.0
    assert np.array_equal(read_scene(scene, ["red"], scene.geobox()).valid, values > 0)


def test_user_s_scale_and_offset_override_the_table_but_not_the_quality_layer(tmp_path):
    write(tmp_path / "s2_B04.tif")
    write(tmp_path / "s2_SCL.tif", np.full((1, 12, 12), 4, "uint8"))
    scene = open_scene(tmp_path, scale=1e-3)
    assert [(band.scale, band.offset) for band in (scene.layer("red").band, scene.layer("quality").band)] == [(1e-3, 0.0), (1.0, 0.0)]


def test_scale_of_the_file_counts_where_no_sensor_knows_better(tmp_path):
    path = write(tmp_path / "a.tif", stack(1), names=("nir",))
    with rasterio.open(path, "r+") as file:
        file.scales, file.offsets = (2e-4,), (-0.05,)
    band = open_scene(path).layer("nir").band
    assert (band.scale, band.offset, band.unit) == (2e-4, -0.05, "reflectance")


def test_landsat_level_2_by_its_names(tmp_path):
    for name in ("SR_B4", "SR_B5", "ST_B10", "QA_PIXEL", "QA_RADSAT", "SR_QA_AEROSOL", "ST_QA", "ST_EMIS"):
        write(tmp_path / f"{LANDSAT}_{name}.TIF", pixel=30.0)
    scene = open_scene(tmp_path)
    assert (scene.sensor.name, scene.roles) == ("landsat-oli-c2-l2", ("red", "nir", "lwir11", "quality", "quality2"))
    assert (scene.layer("lwir11").band.scale, scene.layer("lwir11").band.unit) == (0.00341802, "K")
    assert (scene.time.date().isoformat(), scene.product_id, quality_roles(scene)) == ("2020-08-05", LANDSAT, ("quality", "quality2"))


def test_landsat_level_1_takes_gains_and_sun_from_mtl(tmp_path):
    product = LANDSAT.replace("L2SP", "L1TP")
    for name in ("B4", "B10"):
        write(tmp_path / f"{product}_{name}.TIF", pixel=30.0)
    assert "sun" in open_scene(tmp_path).warnings[0]
    (tmp_path / f"{product}_MTL.txt").write_text(
        f'LANDSAT_PRODUCT_ID = "{product}"\nDATE_ACQUIRED = 2020-08-05\nSCENE_CENTER_TIME = "10:34:24.1234567Z"\nSUN_ELEVATION = 30.0\n'
        "REFLECTANCE_MULT_BAND_4 = 2.0000E-05\nREFLECTANCE_ADD_BAND_4 = -0.100000\nRADIANCE_MULT_BAND_10 = 3.3420E-04\n"
        "RADIANCE_ADD_BAND_10 = 0.10000\n"
    )
    scene = open_scene(tmp_path)
    red = scene.layer("red").band
    assert (red.scale, red.offset) == (pytest.approx(4e-5), pytest.approx(-0.2))
    assert (scene.layer("lwir11").band.unit, scene.time.isoformat(), scene.warnings) == ("W/(m2 sr um)", "2020-08-05T10:34:24+00:00", ())


@pytest.mark.parametrize(
    ("name", "sensor", "roles"),
    [
        ("HLS.S30.T17SLU.2020273T160219.v2.0.{}.tif", "hls-s30", {"B8A": "nir08", "Fmask": "quality"}),
        ("HLS.L30.T17SLU.2020273T160219.v2.0.{}.tif", "hls-l30", {"B05": "nir", "B10": "lwir11", "Fmask": "quality"}),
        ("MOD09A1.A2021185.h18v04.061.2021194033457_{}.tif", "modis-09", {"sur_refl_b01": "red", "sur_refl_b02": "nir"}),
        ("LT05_L2SP_199026_20100805_20210330_02_T1_{}.TIF", "landsat-tm-c2-l2", {"SR_B4": "nir", "SR_B7": "swir22", "ST_B6": "lwir"}),
        ("LE07_L1TP_199026_20100805_20210330_02_T1_{}.TIF", "landsat-etm-c2-l1", {"B6_VCID_1": "lwir", "B6_VCID_2": None, "B8": "pan"}),
    ],
)
def test_products_are_known_by_their_names(tmp_path, name, sensor, roles):
    for band in roles:
        write(tmp_path / name.format(band), pixel=30.0)
    scene = open_scene(tmp_path)
    assert scene.sensor.name == sensor
    assert set(scene.roles) == set(filter(None, roles.values()))


def test_planetscope_s_usable_data_mask_gives_its_planes_as_quality(tmp_path):
    write(tmp_path / "20230601_101010_12_2475_3B_AnalyticMS_SR_8b.tif", stack(8), photometric="minisblack")
    write(tmp_path / "20230601_101010_12_2475_3B_udm2.tif", np.ones((8, 40, 40), "uint8"), photometric="minisblack")
    scene = open_scene(tmp_path, sensor="planetscope-8")
    assert quality_roles(scene) == tuple(f"quality{plane}" for plane in range(1, 9))
    assert meanings(scene)["rededge071"][1] == 7
    assert scene.layer("quality6").band.unit == "class"


@pytest.mark.parametrize(
    ("name", "unit", "convention"),
    [
        ("OPERA_L2_RTC-S1_T069-147170-IW1_20231101T143730Z_20231101T200012Z_S1A_30_v1.0_{}.tif", "linear power", "gamma0_rtc"),
        ("S1A_IW_20200101T120000_DVP_RTC30_G_gdufed_1A2B_{}.tif", "dB", "gamma0_rtc"),
        ("S1A_IW_20200101T120000_DVP_RTC30_G_spufed_1A2B_{}.tif", "linear power", "sigma0"),
        ("scene_Sigma0_{}_db.tif", "dB", "sigma0"),
        ("scene_{}.tif", "unknown", None),
    ],
)
def test_radar_unit_and_convention_come_from_known_products_or_stay_unknown(tmp_path, name, unit, convention):
    for polarisation in ("VV", "VH"):
        write(tmp_path / name.format(polarisation), np.full((1, 12, 12), 0.06 if unit == "linear power" else -12.0, "float32"))
    scene = open_scene(tmp_path)
    assert {(layer.band.role, layer.band.unit, layer.band.convention) for layer in scene.layers} == {
        ("vv", unit, convention), ("vh", unit, convention)
    }  # fmt: skip
    assert any("decibels" in warning for warning in scene.warnings) == (unit == "unknown")


def test_noise_of_radar_is_said_only_where_the_product_says_it(tmp_path):
    opera = "OPERA_L2_RTC-S1_T069-147170-IW1_20231101T143730Z_20231101T200012Z_S1A_30_v1.0_VV.tif"
    removed = [open_scene(write(tmp_path / name, stack(1, dtype="float32"))).layer("vv").band.noise_removed for name in (opera, "x_VV.tif")]
    assert removed == [True, None]


def test_user_says_unit_and_convention_of_radar(tmp_path):
    path = write(tmp_path / "a.tif", np.full((2, 12, 12), -12.0, "float32"), names=("VV", "VH"))
    scene = open_scene(path, sensor="sentinel-1-grd", unit="dB", convention="sigma0")
    assert {(layer.band.unit, layer.band.convention) for layer in scene.layers} == {("dB", "sigma0")}
    assert scene.warnings == ()
