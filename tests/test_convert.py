"""Backscatter from one convention to another: hand-computed numbers, units, grids, and what no angle can do."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import packages
import pytest
from safe_files import write_safe
from scene_files import write

from geoseg.errors import BandError
from geoseg.models.package import ModelPackage
from geoseg.preprocess.prepare import BandNeed, Channel, Preparation
from geoseg.scene import Scene, read_scene
from geoseg.scenes.open_scene import open_scene

SIGMA0 = 0.06
ANGLES = np.float32([[20.0, 30.0, 45.0, 60.0]])
GRD = {"sensor": "sentinel-1-grd", "unit": "linear power", "convention": "sigma0"}


def product(folder: Path, *, power: float = SIGMA0, angles=ANGLES, unit: str = "linear power", **profile) -> Path:
    """VV and VH (a tenth of it), and the incidence angle, as files of their own."""
    stored = {"linear power": power, "dB": 10 * np.log10(power), "amplitude": np.sqrt(power)}[unit]
    shift = {"linear power": stored / 10, "dB": stored - 10, "amplitude": stored / np.sqrt(10)}[unit]
    write(folder / "s1_VV.tif", np.full((1, *ANGLES.shape), stored, "float32"))
    write(folder / "s1_VH.tif", np.full((1, *ANGLES.shape), shift, "float32"))
    write(folder / "s1_incidence_angle.tif", np.asarray(angles, "float32")[np.newaxis], **profile)
    return folder


def vv(scene: Scene) -> np.ndarray:
    return read_scene(scene, ["vv"], scene.geobox(["vv"])).values[0, 0].astype(np.float64)


def test_gamma0_is_sigma0_by_the_cosine_and_sigma0_is_beta0_by_the_sine(tmp_path):
    product(tmp_path)
    gamma = open_scene(tmp_path, **GRD, convert="gamma0_ellipsoid")
    assert vv(gamma).tolist() == pytest.approx([0.0638507, 0.0692820, 0.0848528, 0.12], rel=1e-5)
    assert vv(open_scene(tmp_path, **GRD, convert="beta0")).tolist() == pytest.approx([0.1754283, 0.12, 0.0848528, 0.0692820], rel=1e-5)
    from_beta = open_scene(tmp_path, **GRD | {"convention": "beta0"}, convert="gamma0_ellipsoid")
    assert vv(from_beta).tolist() == pytest.approx((SIGMA0 * np.tan(np.radians(ANGLES[0]))).tolist(), rel=1e-5)


def test_the_scene_says_what_it_now_is_and_keeps_the_rest(tmp_path):
    scene = open_scene(product(tmp_path), **GRD, convert="gamma0_ellipsoid")
    assert {layer.band.convention for layer in scene.layers if layer.band.kind == "radar"} == {"gamma0_ellipsoid"}
    assert scene.layer("vh").because.endswith("converted from sigma0")
    assert (scene.layer("vv").band.unit, scene.roles) == ("linear power", ("vv", "vh", "incidence_angle"))
    assert np.array_equal(read_scene(scene, ["incidence_angle"], scene.geobox()).values[0], ANGLES)
    assert np.allclose(read_scene(scene, ["vh"], scene.geobox()).values[0, 0], vv(scene) / 10)


@pytest.mark.parametrize(("unit", "back"), [("dB", lambda v: 10 ** (v / 10)), ("amplitude", np.square)])
def test_every_unit_is_converted_as_power_and_stays_what_it_is(tmp_path, unit, back):
    power = open_scene(product(tmp_path / "power"), **GRD, convert="gamma0_ellipsoid")
    other = open_scene(product(tmp_path / "other", unit=unit), **GRD | {"unit": unit}, convert="gamma0_ellipsoid")
    assert other.layer("vv").band.unit == unit
    assert np.allclose(back(vv(other)), vv(power), rtol=1e-5)
    assert not np.allclose(vv(other), vv(power), rtol=0.05)


def test_stored_numbers_with_a_scale_come_out_in_physical_values(tmp_path):
    write(tmp_path / "s1_VV.tif", np.full((1, 1, 4), -1234, "int16"))
    write(tmp_path / "s1_incidence_angle.tif", ANGLES[np.newaxis])
    scene = open_scene(tmp_path, **GRD | {"unit": "dB"}, scale=0.01, convert="gamma0_ellipsoid")
    assert (scene.layer("vv").band.scale, scene.layer("vv").band.offset) == (1.0, 0.0)
    assert vv(scene).tolist() == pytest.approx((-12.34 - 10 * np.log10(np.cos(np.radians(ANGLES[0])))).tolist(), rel=1e-5)


def test_bands_of_one_file_are_converted_and_its_angle_is_left_alone(tmp_path):
    values = np.stack([np.full((1, 4), SIGMA0, "float32"), ANGLES, np.full((1, 4), SIGMA0 / 10, "float32")])
    path = write(tmp_path / "s1.tif", values, names=("VV", "incidence_angle", "VH"))
    scene = open_scene(path, **GRD, convert="gamma0_ellipsoid")
    raster = read_scene(scene, ["vh", "incidence_angle", "vv"], scene.geobox())
    expected = SIGMA0 / np.cos(np.radians(ANGLES))
    assert np.allclose(raster.band("vv"), expected)
    assert np.allclose(raster.band("vh"), expected / 10)
    assert np.array_equal(raster.band("incidence_angle"), ANGLES)


def test_back_again_gives_the_first_numbers(tmp_path):
    first = open_scene(product(tmp_path), **GRD)
    there = open_scene(tmp_path, **GRD, convert="gamma0_ellipsoid")
    from geoseg.layers.convert import with_convention

    assert np.allclose(vv(with_convention(there, "sigma0")), vv(first), rtol=1e-6)
    assert with_convention(first, "sigma0") is first


def test_an_angle_on_a_coarser_grid_is_interpolated_and_a_window_equals_the_whole(tmp_path):
    write(tmp_path / "s1_VV.tif", np.random.default_rng(0).gamma(4, 0.01, (1, 40, 60)).astype("float32"))
    write(tmp_path / "s1_incidence_angle.tif", np.tile(np.linspace(30, 45, 8, dtype="float32"), (1, 6, 1)), pixel=80.0)
    scene, plain = (open_scene(tmp_path, **GRD, **words) for words in ({"convert": "gamma0_ellipsoid"}, {}))
    grid = plain.geobox(["vv"])
    whole, angle = read_scene(scene, ["vv"], grid), read_scene(plain, ["incidence_angle"], grid)
    assert np.allclose(whole.values[0] * np.cos(np.radians(angle.values[0])), read_scene(plain, ["vv"], grid).values[0], rtol=1e-5)
    assert np.array_equal(read_scene(scene, ["vv"], grid[7:20, 11:50]).values, whole.values[:, 7:20, 11:50])


@pytest.mark.parametrize("angle", [np.nan, 0.0, 90.0, -9999.0])
def test_where_the_angle_is_not_known_there_is_no_data(tmp_path, angle):
    angles = ANGLES.copy()
    angles[0, 1] = angle
    scene = open_scene(product(tmp_path, angles=angles), **GRD, convert="gamma0_ellipsoid")
    raster = read_scene(scene, ["vv"], scene.geobox())
    assert raster.valid.tolist() == [[[True, False, True, True]]]
    assert raster.values[0, 0, 1] == 0


@pytest.mark.parametrize("stated", [True, False])
def test_an_angle_in_radians_is_known_by_its_unit_or_by_its_size(tmp_path, stated):
    product(tmp_path, angles=np.radians(ANGLES))
    if stated:
        import rasterio

        with rasterio.open(tmp_path / "s1_incidence_angle.tif", "r+") as file:
            file.units = ("radian",)
    scene = open_scene(tmp_path, **GRD, convert="gamma0_ellipsoid")
    assert vv(scene).tolist() == pytest.approx([0.0638507, 0.0692820, 0.0848528, 0.12], rel=1e-5)


def test_a_product_as_downloaded_is_converted_while_it_is_calibrated(tmp_path):
    safe = write_safe(tmp_path)
    sigma, gamma = open_scene(safe), open_scene(safe, convert="gamma0_ellipsoid")
    grid = sigma.geobox()[20:60, 30:70]
    roles = ("vv", "incidence_angle")
    first, second = (read_scene(scene, roles, grid) for scene in (sigma, gamma))
    ratio = first.values[0][first.valid[0]] / second.values[0][first.valid[0]]
    assert np.allclose(ratio, np.cos(np.radians(first.values[1][first.valid[0]])), rtol=1e-5)
    assert (gamma.layer("vv").band.convention, gamma.layer("vv").band.noise_removed) == ("gamma0_ellipsoid", True)


# ---------------------------------------------------------------- what cannot be


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"convert": "gamma0_rtc"}, "takes an elevation model and the orbit"),
        ({"convention": "gamma0_rtc", "convert": "sigma0"}, "the incidence angle cannot undo"),
        ({"convention": None, "convert": "sigma0"}, "say it with --convention"),
        ({"unit": None, "convert": "gamma0_ellipsoid"}, "say it with --unit"),
    ],
)
def test_what_no_angle_can_do_is_refused(tmp_path, words, said):
    with pytest.raises(BandError, match=said):
        open_scene(product(tmp_path), **GRD | words)


@pytest.mark.parametrize(("name", "said"), [("local_incidence_angle", "only the local one"), ("slope", "has none")])
def test_a_scene_without_the_ellipsoid_s_angle_is_refused(tmp_path, name, said):
    (product(tmp_path) / "s1_incidence_angle.tif").rename(tmp_path / f"s1_{name}.tif")
    with pytest.raises(BandError, match=f"{said}.*incidence_angle=ANGLE.tif"):
        open_scene(tmp_path, **GRD, convert="gamma0_ellipsoid")


def test_optical_scenes_are_told_that_conversion_is_for_radar(tmp_path):
    with pytest.raises(BandError, match=r"is for radar, and .* has only red"):
        open_scene(write(tmp_path / "a.tif", names=("red",)), convert="sigma0")


# ---------------------------------------------------------------- on the command line


@pytest.fixture
def model(place: Path) -> ModelPackage:
    """Takes VV in decibels as gamma0 on the ellipsoid."""
    need = BandNeed(role="vv", unit="dB", convention="gamma0_ellipsoid")
    preparation = Preparation(bands=(need,), channels=(Channel(name="vv", mean=-12, std=4),))
    return packages.threshold_package(place / "radar", ["vv"], preparation=preparation, sensors=("sentinel-1-grd",))


def ground(folder: Path, fill: float = 0.06) -> Path:
    write(folder / "s1_VV.tif", np.full((1, 70, 70), fill, "float32"))
    write(folder / "s1_incidence_angle.tif", np.full((1, 70, 70), 35, "float32"))
    return folder


SAID = ("--sensor", "sentinel-1-grd", "--unit", "linear power", "--convention", "sigma0")


def test_a_model_for_another_convention_says_the_option_and_then_maps(place, geoseg, model):
    scene = ground(place / "pass")
    refused = geoseg("predict", scene, "--model", model.path, *SAID, "-o", "out")
    assert refused.code == 2
    assert "is sigma0; expected gamma0_ellipsoid. Add --convert gamma0_ellipsoid" in refused.sentence
    made = geoseg("predict", scene, "--model", model.path, *SAID, "--convert", "gamma0_ellipsoid", "-o", "out")
    assert made.code == 0, made.err
    told = json.loads((place / "out/pass.json").read_text())["properties"]
    assert "gamma0_ellipsoid" in json.dumps(told)
    assert geoseg("predict", "--again", place / "out/pass.json", "-o", "again").code == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((*SAID, "--convert", "gamma0_rtc"), "fetch a terrain-corrected product"),
        (("--sensor", "sentinel-1-grd", "--unit", "linear power", "--convert", "gamma0_ellipsoid"), "say it with --convention"),
        (("--sensor", "sentinel-1-grd", "--bands", "vx,angle"), "has no band 'vx'; it has VV (vv), VH (vh)"),
        (("--convert", "gamma0"), "'gamma0' is not one of"),
    ],
)
def test_words_that_make_no_sense_are_one_sentence(place, geoseg, words, said):
    ran = geoseg("info", ground(place / "pass"), *words)
    assert ran.code == 2
    assert said in " ".join(ran.err.replace("│", " ").split())


def test_a_missing_angle_and_a_wrong_polarisation_are_one_sentence(place, geoseg, model):
    (ground(place / "pass") / "s1_incidence_angle.tif").unlink()
    ran = geoseg("predict", "pass", "--model", model.path, *SAID, "--convert", "gamma0_ellipsoid", "-o", "out")
    assert (ran.code, "takes the incidence angle on the ellipsoid, and pass has none" in ran.sentence) == (2, True)
    (place / "pass/s1_VV.tif").rename(place / "pass/s1_HH.tif")
    ran = geoseg("predict", "pass", "--model", model.path, *SAID, "-o", "out")
    assert (ran.code, "needs vv; pass has hh, so vv is missing" in ran.sentence) == (2, True)


def test_decibels_given_as_power_are_one_sentence(place, geoseg):
    ran = geoseg("info", ground(place / "pass", fill=-13.0), *SAID)
    assert ran.code == 2
    assert "said to hold linear power, but most of its values are negative (median -13.0), as in decibels; say --unit dB" in ran.sentence
