"""C-correction: hillsides become as bright as flat ground, flat ground stays, nothing is corrected twice, and one scene has one c."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from command_line import UTM
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from packages import threshold_package

from geoseg.data.patches import load_scene
from geoseg.data.windows import Window
from geoseg.errors import BandError, SceneError
from geoseg.layers.light import fit_light
from geoseg.layers.terrain import terrain_raster, with_terrain
from geoseg.legend import Legend
from geoseg.mapping.make_map import make_map
from geoseg.mapping.plan import MapOptions
from geoseg.models.package import ModelPackage
from geoseg.preprocess.prepare import BandNeed, Channel, Preparation, needed_roles, prepare
from geoseg.preprocess.terrain_correction import FittedCorrection, TerrainCorrection, c_factor, fit_c
from geoseg.raster import Raster
from geoseg.scene import Scene, SunAngles, read_scene
from geoseg.scenes.open_scene import open_scene
from geoseg.scenes.sen2cor import terrain_corrected
from geoseg.sensors import SENSORS

SUN = SunAngles(zenith_deg=50.0, azimuth_deg=160.0)
FLAT = float(np.float32(np.cos(np.radians(SUN.zenith_deg))))
C = {"red": 0.6, "nir": 0.25}
SIDE = 160
NEEDS = tuple(BandNeed(role=role, unit="reflectance") for role in C)
CHANNELS = tuple(Channel(name=role) for role in C)
PLAIN = Preparation(bands=NEEDS, channels=CHANNELS)
CORRECTED = Preparation(bands=NEEDS, channels=CHANNELS, terrain_correction=TerrainCorrection())


def light_on(slope: NDArray[Any], aspect: NDArray[Any]) -> NDArray[np.float64]:
    """The textbook's cosine of the local solar incidence angle, from slope and aspect."""
    zenith, away = np.radians(SUN.zenith_deg), np.radians(SUN.azimuth_deg - aspect.astype(np.float64))
    steep = np.radians(slope.astype(np.float64))
    return np.cos(zenith) * np.cos(steep) + np.sin(zenith) * np.sin(steep) * np.cos(away)


def write_hills(folder: Path, **tags: object) -> tuple[Path, str]:
    """A scene of hills and a plain, lit by the sun and the sky with a c of its own in each band, and its DEM."""
    row, col = np.mgrid[:SIDE, :SIDE] * 10.0
    heights = 60 * np.sin(row / 110) * np.cos(col / 140) + 20 * np.sin((row + col) / 70)
    heights[:, 120:] = 25
    dem = str(folder / "dem.tif")
    grid = {"height": SIDE, "width": SIDE, "crs": "EPSG:32632", "transform": UTM}
    with rasterio.open(dem, "w", driver="GTiff", count=1, dtype="float64", **grid) as file:
        file.write(heights, 1)
    geobox = GeoBox((SIDE, SIDE), UTM, "EPSG:32632")
    light = light_on(*(terrain_raster(dem, role, geobox).values[0] for role in ("slope", "aspect")))
    cover = np.random.default_rng(0).normal(1, 0.05, (2, SIDE, SIDE))
    planes = [bright * texture * (light + c) / (FLAT + c) for bright, texture, c in zip((0.12, 0.35), cover, C.values(), strict=True)]
    path = folder / "hills.tif"
    with rasterio.open(path, "w", driver="GTiff", count=2, dtype="uint16", **grid) as file:
        file.write(np.round(1e4 * np.stack(planes)).astype(np.uint16))
        file.descriptions = tuple(C)
        file.update_tags(**tags)
    return path, dem


SUN_TAGS = {"MEAN_SUN_ZENITH_ANGLE": SUN.zenith_deg, "MEAN_SUN_AZIMUTH_ANGLE": SUN.azimuth_deg}


@pytest.fixture(scope="module")
def hills(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    path, dem = write_hills(tmp_path_factory.mktemp("hills"), **SUN_TAGS)
    return open_scene(path, scale=1e-4, dem=dem)


def read(scene: Scene) -> Raster:
    return read_scene(scene, (*needed_roles(PLAIN), "illumination", "slope"), scene.geobox())


def marked(scene: Scene, corrected: bool | None) -> Scene:
    """The same scene, of which it is known whether it is corrected."""
    layers = [replace(one, band=replace(one.band, terrain_corrected=corrected)) for one in scene.layers]
    return replace(scene, layers=tuple(layers))


def correlation(one: NDArray[Any], other: NDArray[Any]) -> float:
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


# ---------------------------------------------------------------- what it does to hillsides


def test_c_is_found_again_and_hillsides_no_longer_tell_where_they_face(hills: Scene) -> None:
    raster, correction = read(hills), fit_light(hills, CORRECTED).correction
    assert correction is not None
    assert correction.c == pytest.approx(C, rel=0.02)
    light = raster.band("illumination")
    steep = (raster.band("slope") > 3) & (light > 0.1)
    before, after = prepare(raster, PLAIN), prepare(raster, CORRECTED, correction=correction)
    for role in C:
        assert correlation(before.band(role)[steep], light[steep]) > 0.6
        assert abs(correlation(after.band(role)[steep], light[steep])) < 0.05


def test_flat_ground_is_unchanged_to_the_last_bit(hills: Scene) -> None:
    raster, flat = read(hills), np.s_[:, :, 122:]
    before, after = prepare(raster, PLAIN), prepare(raster, CORRECTED, correction=fit_light(hills, CORRECTED).correction)
    assert np.array_equal(after.values[flat], before.values[flat])
    assert not np.array_equal(after.values, before.values)


def test_the_cosine_correction_overshoots_where_c_does_not(hills: Scene) -> None:
    raster = read(hills)
    steep = raster.band("slope") > 3
    cosine = FittedCorrection(FLAT, dict.fromkeys(C, 0.0), 0.1)
    after = prepare(raster, CORRECTED, correction=cosine)
    assert correlation(after.band("red")[steep], raster.band("illumination")[steep]) < -0.6


def test_an_endless_c_and_one_sun_in_the_zenith_change_nothing() -> None:
    light = np.linspace(-1, 1, 50, dtype=np.float32)
    assert (c_factor(light, 0.6, float("inf"), 0.1) == 1).all()
    assert c_factor(light, 0.6, 1e9, 0.1) == pytest.approx(1)
    assert (c_factor(np.full(3, 0.05, np.float32), 0.05, 0.2, 0.1) == 1).all()  # flat ground, also under a sun lower than the cut


def test_slopes_in_shadow_count_as_lit_a_little() -> None:
    light = np.array([-0.4, 0.0, 0.1, 0.2], np.float32)
    assert c_factor(light, 0.7, 0.1, 0.1) == pytest.approx([4, 4, 4, 8 / 3])


def test_c_is_intercept_over_slope_of_the_line() -> None:
    light = np.linspace(-0.2, 1, 1000)
    assert fit_c(0.1 + 0.4 * light, light, 0.1) == pytest.approx(0.25)
    assert fit_c(np.where(light < 0.1, 9.0, 0.1 + 0.4 * light), light, 0.1) == pytest.approx(0.25)  # shadow has no say
    assert fit_c(-0.1 + 0.4 * light, light, 0.1) == 0
    for no_light in (0.5 - 0.4 * light, np.full(1000, 0.3)):
        assert fit_c(no_light, light, 0.1) == float("inf")
    assert fit_c((0.1 + 0.4 * light)[:50], light[:50], -1) == float("inf")  # too few pixels to tell


# ---------------------------------------------------------------- never twice, never in silence


def test_a_corrected_scene_is_not_corrected_again(hills: Scene) -> None:
    done = marked(hills, True)
    light = fit_light(done, CORRECTED)
    assert light.correction is None
    assert "corrected it for terrain already" in light.warnings[0]
    raster = read(done)
    assert np.array_equal(prepare(raster, CORRECTED).values, prepare(raster, PLAIN).values)
    with pytest.raises(ValueError, match="corrected already"):
        prepare(raster, CORRECTED, correction=fit_light(hills, CORRECTED).correction)


def test_a_second_fit_finds_nothing_left_to_correct(hills: Scene) -> None:
    raster, correction = read(hills), fit_light(hills, CORRECTED).correction
    after = prepare(raster, CORRECTED, correction=correction).band("nir")
    light = raster.band("illumination")
    again = c_factor(light, FLAT, fit_c(after.ravel(), light.ravel(), 0.1), 0.1)
    assert np.abs(again - 1).max() < 0.02
    assert np.abs(c_factor(light, FLAT, C["nir"], 0.1) - 1).max() > 0.2


def test_a_correction_that_was_not_fitted_is_not_left_out_in_silence(hills: Scene) -> None:
    with pytest.raises(ValueError, match="fit the correction"):
        prepare(read(hills), CORRECTED)
    with pytest.raises(ValueError, match="has none"):
        prepare(read(hills), PLAIN, correction=fit_light(hills, CORRECTED).correction)


def test_one_is_warned_where_nobody_says_whether_it_was_done(hills: Scene) -> None:
    assert "nothing says whether" in fit_light(hills, CORRECTED).warnings[0]
    assert fit_light(marked(hills, False), CORRECTED).warnings == ()
    assert fit_light(hills, PLAIN) == (None, ())


def test_bands_of_two_kinds_are_refused(hills: Scene) -> None:
    first, *others = hills.layers
    mixed = replace(hills, layers=(replace(first, band=replace(first.band, terrain_corrected=True)), *others))
    with pytest.raises(SceneError, match="some bands"):
        fit_light(mixed, CORRECTED)


SETTINGS = b"<L2A><DEM_Directory>%s</DEM_Directory><DEM_Terrain_Correction>%s</DEM_Terrain_Correction></L2A>"
STRIP = b'<n1:Level-2A_DataStrip_ID xmlns:n1="x"><PRODUCTION_DEM_TYPE>%s</PRODUCTION_DEM_TYPE></n1:Level-2A_DataStrip_ID>'
GIP, DS = "GRANULE/L2A_T30/AUX_DATA/GIP_TL.xml", "DATASTRIP/DS_1/MTD_DS.xml"


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ({}, None),
        ({GIP: SETTINGS % (b"dem/srtm", b"TRUE")}, True),
        ({GIP: SETTINGS % (b"dem/srtm", b"FALSE"), DS: STRIP % b"CopernicusDEM90"}, False),
        ({GIP: SETTINGS % (b"NONE", b"TRUE")}, False),
        ({DS: STRIP % b"CopernicusDEM90"}, True),
        ({DS: STRIP % b"None"}, False),
        ({DS: STRIP.replace(b"Level-2A", b"Level-1C") % b"S2__OPER_DEM_GLOBEF"}, None),  # by which the image was placed
        ({GIP: b"damaged <", DS: b""}, None),
    ],
)
def test_sen2cor_s_own_words_tell_whether_it_corrected(texts: Mapping[str, bytes], expected: bool | None) -> None:
    assert terrain_corrected(texts, SENSORS["sentinel-2-l2a"]) is expected


@pytest.mark.parametrize("name", ["sentinel-2-l1c", "landsat-oli-c2-l2", "hls-s30", "hls-l30"])
def test_these_providers_never_correct(name: str) -> None:
    assert terrain_corrected({}, SENSORS[name]) is False
    assert terrain_corrected({}, SENSORS["planetscope-4"]) is None


def test_a_safe_folder_says_of_its_bands_whether_they_are_corrected(tmp_path: Path) -> None:
    safe = tmp_path / "S2B_MSIL2A_20210527T112119_N0300_R037_T30UVC_20210527T143110.SAFE"
    for path, text in ((GIP, SETTINGS % (b"dem/srtm", b"TRUE")), (DS, STRIP % b"SRTM")):
        (safe / path).parent.mkdir(parents=True)
        (safe / path).write_bytes(text)
    images = safe / "GRANULE" / "L2A_T30" / "IMG_DATA" / "R10m"
    images.mkdir(parents=True)
    for name in ("B04", "B08"):
        grid = {"height": 8, "width": 8, "crs": "EPSG:32630", "transform": UTM, "count": 1, "dtype": "uint16"}
        with rasterio.open(images / f"T30UVC_20210527T112119_{name}_10m.tif", "w", driver="GTiff", **grid) as file:
            file.write(np.full((1, 8, 8), 1500, np.uint16))
    scene = open_scene(safe)
    assert [layer.band.terrain_corrected for layer in scene.layers] == [True, True]


# ---------------------------------------------------------------- one scene, one c


def package(folder: Path, preparation: Preparation, threshold: float) -> ModelPackage:
    return threshold_package(folder, tuple(C), threshold, preparation=preparation, sensors=("generic",))


def classes(path: Path) -> NDArray[Any]:
    with rasterio.open(path) as file:
        plane: NDArray[Any] = file.read(1)
    return plane


def test_the_map_is_that_of_the_corrected_scene_for_any_tiles(hills: Scene, tmp_path: Path) -> None:
    model = package(tmp_path / "model", CORRECTED, 0.12)
    whole = prepare(read(hills), CORRECTED, correction=fit_light(hills, CORRECTED).correction).band("red") > 0.12
    for overlap in (0, 32):
        made = make_map(hills, model, tmp_path / str(overlap), options=MapOptions(overlap=overlap, picture=False))
        assert np.array_equal(classes(made.files["classes"]) == 1, whole)
    run = json.loads(made.files["item"].read_text())["properties"]["geoseg:run"]
    assert run["settings"]["terrain_correction"]["c"] == pytest.approx(C, rel=0.02)
    assert {Path(given["path"]).name for given in run["settings"]["inputs"]} >= {"hills.tif", "dem.tif"}


def test_training_prepares_as_mapping_does(hills: Scene, tmp_path: Path) -> None:
    labels = tmp_path / "labels.tif"
    grid = {"height": SIDE, "width": SIDE, "crs": "EPSG:32632", "transform": UTM, "count": 1, "dtype": "uint8", "nodata": 255}
    with rasterio.open(labels, "w", driver="GTiff", **grid) as file:
        file.write((np.mgrid[:SIDE, :SIDE][0] > 80).astype(np.uint8), 1)
    loaded = load_scene(hills, labels, CORRECTED, Legend.from_names(["plain", "hill"]), hold_mb=10)
    window = Window(20, 30, 40, 50)
    patch = prepare(loaded.read(window), CORRECTED, correction=loaded.correction)
    whole = prepare(read(hills), CORRECTED, correction=fit_light(hills, CORRECTED).correction)
    assert np.array_equal(patch.values, whole.values[:, 20:60, 30:80])


def test_the_sample_that_fits_c_leaves_masked_ground_out(hills: Scene, tmp_path: Path) -> None:
    clouds = tmp_path / "clouds.tif"
    plane = np.zeros((SIDE, SIDE), np.uint8)
    plane[:60] = 1
    grid = {"height": SIDE, "width": SIDE, "crs": "EPSG:32632", "transform": UTM, "dtype": "uint8", "count": 1}
    with rasterio.open(clouds, "w", driver="GTiff", **grid) as file:
        file.write(plane, 1)
    with rasterio.open(hills.source) as file:
        bright, profile = file.read(), file.profile
    bright[:, :60] = 9000
    with rasterio.open(tmp_path / "cloudy.tif", "w", **profile) as file:
        file.write(bright)
        file.descriptions = tuple(C)
        file.update_tags(**SUN_TAGS)
    dem = hills.layer("illumination").path
    cloudy, masked = (open_scene(tmp_path / "cloudy.tif", scale=1e-4, dem=dem, mask=mask) for mask in (None, clouds))
    found = [fit_light(scene, CORRECTED).correction for scene in (cloudy, masked)]
    assert found[1] is not None
    assert found[1].c == pytest.approx(C, rel=0.25)
    assert found[0] is not None
    assert found[0].c["nir"] > 2 * C["nir"]


# ---------------------------------------------------------------- packages and the command line


def test_a_package_keeps_its_correction(tmp_path: Path) -> None:
    kept = ModelPackage.open(package(tmp_path / "model", CORRECTED, 0.1).path).preparation
    assert kept.terrain_correction == TerrainCorrection(method="c", min_illumination=0.1)
    assert TerrainCorrection.model_validate("c") == TerrainCorrection()
    assert PLAIN.terrain_correction is None


@pytest.mark.parametrize(
    ("needs", "said"),
    [((BandNeed(role="vv", unit="dB"),), "band in reflectance"), ((*NEEDS, BandNeed(role="illumination", unit="1")), "'illumination'")],
)
def test_a_correction_that_makes_no_sense_is_refused(needs: tuple[BandNeed, ...], said: str) -> None:
    with pytest.raises(BandError, match=said):
        Preparation(bands=needs, channels=(Channel(name=needs[0].role),), terrain_correction=TerrainCorrection())


def test_a_pixel_without_light_has_no_map_and_no_infinity(hills: Scene) -> None:
    raster = read(hills)
    valid = raster.valid.copy()
    valid[raster.index("illumination"), 5] = False
    after = prepare(replace(raster, valid=valid), CORRECTED, correction=fit_light(hills, CORRECTED).correction)
    assert not after.valid[:, 5].any()
    assert after.valid[:, 6].all()
    assert np.isfinite(after.values).all()


def test_predict_corrects_and_again_makes_the_same(geoseg: Any, place: Path) -> None:
    write_hills(place, **SUN_TAGS)
    package(place / "hilly", CORRECTED, 0.12)
    ran = geoseg("predict", "hills.tif", "--scale", 1e-4, "--dem", "dem.tif", "--model", "hilly", "-o", "out")
    assert ran.code == 0, ran.err
    assert "nothing says whether" in ran.out + ran.err
    assert geoseg("predict", "--again", "out/hills.json", "-o", "again").code == 0


@pytest.mark.parametrize(
    ("tags", "words", "said"),
    [(SUN_TAGS, (), "name a terrain model with --dem FILE"), ({}, ("--dem", "dem.tif"), "where the sun stood")],
)
def test_a_scene_without_terrain_or_sun_is_refused(geoseg: Any, place: Path, tags: Any, words: tuple[str, ...], said: str) -> None:
    write_hills(place, **tags)
    package(place / "hilly", CORRECTED, 0.12)
    ran = geoseg("predict", "hills.tif", "--scale", 1e-4, *words, "--model", "hilly", "-o", "out")
    assert ran.code == 2
    assert said in ran.sentence
    assert not (place / "out").exists()


# ---------------------------------------------------------------- real ground


def test_welsh_hillsides_tell_less_of_where_they_face(shared_data: Any) -> None:
    folder = shared_data("s2_wales")
    scene = open_scene(folder / "s2_20210527.tif", bands=["-", "-", "red", "-", "-", "-", "nir", "-", "-", "-"], scale=1e-3)
    sun = SunAngles(zenith_deg=33.0, azimuth_deg=157.0)  # computed for the day and hour: the file does not say it
    hilly = with_terrain(replace(scene, sun=sun), folder / "srtm_dem.tif")
    raster = read_scene(hilly, ("red", "nir", "height", "illumination", "slope"), scene.geobox()[:, 300:700])
    land = raster.valid_everywhere & (raster.band("height") > 5) & (raster.band("slope") < 45)  # the DEM ends in a cliff
    after = prepare(raster, CORRECTED, correction=fit_light(hilly, CORRECTED).correction)
    light = raster.band("illumination")[land]
    before, now = (correlation(made.band("nir")[land], light) for made in (prepare(raster, PLAIN), after))
    assert before > 0.12
    assert abs(now) < before / 2
