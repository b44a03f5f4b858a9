"""Test-time augmentation: what is scored in all symmetries of the square does not depend on how the ground lies."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
from command_line import refusal, write
from networks import layered_package
from packages import per_pixel_package

from geoseg.data.augment import turn
from geoseg.preprocess.prepare import BandNeed, Channel, Preparation
from geoseg.runtimes.means import mean_scores
from geoseg.runtimes.open_runtime import open_runtime
from geoseg.runtimes.symmetries import TURNINGS, Symmetries


@pytest.fixture
def image():
    return np.random.default_rng(7).normal(0, 2, (1, 1, 24, 24)).astype(np.float32)


@pytest.fixture
def network(tmp_path):
    return open_runtime(layered_package(tmp_path / "model"), "onnx", threads=1)


def test_the_scores_of_a_turned_tile_are_the_turned_scores(network, image):
    augmented = Symmetries(network, "d4")
    scores = augmented(image)["classes"]
    for which in range(8):
        np.testing.assert_array_equal(augmented(turn(image, which))["classes"], turn(scores, which))


def test_without_augmentation_they_are_not(network, image):
    turned = network(turn(image, 1))["classes"]
    assert np.abs(turned - turn(network(image)["classes"], 1)).max() > 0.1


@pytest.mark.parametrize("which", TURNINGS["flips"])
def test_flips_know_their_own_symmetries(network, image, which):
    augmented = Symmetries(network, "flips")
    np.testing.assert_array_equal(augmented(turn(image, which))["classes"], turn(augmented(image)["classes"], which))


def test_flips_do_not_know_quarter_turns(network, image):
    augmented = Symmetries(network, "flips")
    assert not np.array_equal(augmented(turn(image, 1))["classes"], turn(augmented(image)["classes"], 1))


@pytest.mark.parametrize("augmentation", ["d4", "flips"])
def test_a_network_that_sees_one_pixel_is_not_changed(tmp_path, image, augmentation):
    network = open_runtime(per_pixel_package(tmp_path / "pixel", ["red"], [[1.0], [-0.5], [0.2]]), "onnx", threads=1)
    np.testing.assert_array_equal(Symmetries(network, augmentation)(image)["classes"], network(image)["classes"])


def test_the_mean_is_that_of_the_scores_turned_back(network, image):
    back = [turn(network(turn(image, which))["classes"], which if which >= 4 else (4 - which) % 4) for which in range(8)]
    np.testing.assert_allclose(Symmetries(network, "d4")(image)["classes"], np.mean(back, axis=0), atol=1e-6)


def test_the_mean_does_not_depend_on_the_order():
    planes = np.random.default_rng(0).random((8, 1, 3, 40, 40)).astype(np.float32)
    forwards, backwards = (mean_scores({"classes": one} for one in order)["classes"] for order in (planes, planes[::-1]))
    np.testing.assert_array_equal(forwards, backwards)


def test_the_map_of_a_turned_scene_is_the_turned_map(geoseg, tmp_path):
    layered_package(tmp_path / "layers", tile=32, overlap=0)
    scene = write(tmp_path / "scene.tif", side=64)
    with rasterio.open(scene) as file:
        values, profile = file.read(), file.profile
    turned = tmp_path / "turned.tif"
    with rasterio.open(turned, "w", **profile) as file:
        file.write(np.rot90(values, axes=(1, 2)))
        file.set_band_description(1, "red")
    maps = {}
    for tta in ("d4", None):
        for one in (scene, turned):
            words = ["--no-polygons", "--no-picture", *(("--tta", tta) if tta else ())]
            assert geoseg("predict", one, "--sensor", "generic", "--model", "layers", *words, "-o", tmp_path / f"{tta}").code == 0
            with rasterio.open(tmp_path / f"{tta}" / f"{one.stem}_classes.tif") as file:
                maps[tta, one.stem] = file.read(1)
    np.testing.assert_array_equal(maps["d4", "turned"], np.rot90(maps["d4", "scene"]))
    assert not np.array_equal(maps[None, "turned"], np.rot90(maps[None, "scene"]))


def test_a_network_that_reads_directions_is_refused(geoseg, place):
    bands = (BandNeed(role="red", unit="1"), BandNeed(role="aspect", unit="degree"))
    preparation = Preparation(bands=bands, channels=tuple(Channel(name=band.role) for band in bands))
    per_pixel_package(place / "terrain", ["red", "aspect"], np.eye(2), preparation=preparation)
    scene = write(place / "slopes.tif", roles=("red", "aspect"))
    sentence = refusal(geoseg, place, "predict", scene, "--bands", "red,aspect", "--model", "terrain", "--tta", "d4", "-o", "out")
    assert "'aspect', a direction" in sentence
    assert "--tta" in sentence
