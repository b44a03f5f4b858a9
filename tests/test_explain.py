"""What counted for a map: on networks whose answer is known to come from one input."""

from __future__ import annotations

import json

import numpy as np
import packages
import pytest
import rasterio
from command_line import refusal
from scene_files import write

from geoseg.evaluation.explain import explain, inputs_of
from geoseg.layers.infill import with_infill
from geoseg.legend import Legend
from geoseg.models.package import Output
from geoseg.preprocess.prepare import BandNeed, Channel, Preparation
from geoseg.scene import read_scene
from geoseg.scenes.open_scene import open_scene

VALUES = np.random.default_rng(3).integers(1, 200, (2, 90, 130), dtype=np.uint16)
VALUES[:, 20:30, 40:60] = 0


@pytest.fixture
def scene(tmp_path):
    return open_scene(write(tmp_path / "scene.tif", VALUES, names=["red", "nir"], nodata=0), sensor="generic")


def of(made, name):
    return {row["class"]: row for row in made.rows if row["input"] == name}


def test_a_band_that_the_network_ignores_counts_for_nothing(tmp_path, scene):
    package = packages.per_pixel_package(tmp_path / "model", ["red", "nir"], [[0.02, 0], [-0.02, 0]], [-2, 2])
    made = explain(scene, package, tmp_path / "out")
    assert all(row["score_loss"] == row["changed_share"] == 0 for row in of(made, "nir").values())
    assert of(made, "red")["class 0"]["score_loss"] > 0.05
    with rasterio.open(made.files["explain"]) as file:
        red, nir = file.read()
        assert file.descriptions == ("loss of score without red", "loss of score without nir")
    assert np.nanmax(np.abs(nir)) == 0
    np.testing.assert_array_equal(np.isnan(red), VALUES[0] == 0)


def test_the_loss_is_that_of_the_score_where_the_band_has_its_median(tmp_path, scene):
    package = packages.per_pixel_package(tmp_path / "model", ["red", "nir"], [[0.02, 0.001], [-0.02, 0.003]], [-3.0003, 1])
    made = explain(scene, package, tmp_path / "out")
    values, seen = VALUES.astype(np.float64), VALUES[0] > 0

    def scores(red, nir):
        logits = np.array([0.02 * red + 0.001 * nir - 3.0003, -0.02 * red + 0.003 * nir + 1])
        return np.exp(logits) / np.exp(logits).sum(axis=0)

    before, after = scores(*values), scores(np.median(values[0][seen]), values[1])
    winner = before.argmax(axis=0)
    loss = np.take_along_axis(before - after, winner[None], axis=0)[0]
    with rasterio.open(made.files["explain"]) as file:
        np.testing.assert_allclose(file.read(1)[seen], loss[seen], atol=1 / 250 + 1e-6)
    for index in (0, 1):
        mine = seen & (winner == index)
        row = of(made, "red")[f"class {index}"]
        assert row["pixels"] == mine.sum()
        assert row["score_loss"] == pytest.approx(loss[mine].mean(), abs=1e-3)
        assert row["changed_share"] == pytest.approx((after.argmax(axis=0) != winner)[mine].mean(), abs=0.01)


def test_an_index_goes_alone_and_with_the_bands_it_is_made_of(tmp_path, scene):
    preparation = Preparation(
        bands=(BandNeed(role="red", unit="1"), BandNeed(role="nir", unit="1")),
        channels=(Channel(name="red"), Channel(name="nir"), Channel(name="NDVI", kind="index")),
    )
    package = packages.per_pixel_package(tmp_path / "model", ["red", "nir"], [[0, 0, 3], [0, 0, -3]], preparation=preparation)
    made = explain(scene, package, tmp_path / "out")
    assert [(one.name, one.kind) for one in inputs_of(package)] == [("red", "band"), ("nir", "band"), ("NDVI", "index")]
    for name in ("red", "nir", "NDVI"):
        assert of(made, name)["class 0"]["score_loss"] > 0.05
    with rasterio.open(made.files["most"]) as file:
        most = file.read(1)
    assert set(np.unique(most[VALUES[0] > 0])) <= {0, 1, 2, 3}
    assert (most[VALUES[0] == 0] == 255).all()


def test_radar_and_optical_are_taken_away_as_a_whole_too():
    preparation = Preparation(
        bands=(BandNeed(role="red", unit="reflectance"), BandNeed(role="vv", unit="dB", convention="gamma0_rtc")),
        channels=(Channel(name="red"), Channel(name="vv")),
    )
    package = packages.describe(["red", "vv"], [Output.from_legend("classes", Legend.from_names(["a", "b"]))], preparation=preparation)
    assert [(one.name, one.roles) for one in inputs_of(package) if one.kind == "sensor"] == [("radar", ("vv",)), ("optical", ("red",))]


def test_infill_leaves_what_is_seen_and_what_is_not(scene):
    filled = read_scene(with_infill(scene, ["red"]), ["red", "nir"], scene.geobox())
    plain = read_scene(scene, ["red", "nir"], scene.geobox())
    np.testing.assert_array_equal(filled.valid, plain.valid)
    np.testing.assert_array_equal(filled.values[1], plain.values[1])
    assert set(np.unique(filled.values[0][filled.valid[0]])) == {round(float(np.median(VALUES[0][VALUES[0] > 0])))}


def test_people_get_a_table_and_programs_the_same(geoseg, scene, tmp_path):
    packages.per_pixel_package(tmp_path / "linear", ["red", "nir"], [[0.02, 0], [-0.02, 0]])
    words = ("explain", scene.source, "--sensor", "generic", "--model", tmp_path / "linear", "-o", tmp_path / "out")
    ran = geoseg(*words)
    assert (ran.code, "nir" in ran.out, "+0.000 (0.0 %)" in ran.out) == (0, True, True)
    last = json.loads(geoseg(*words, "--overwrite", "--json").out.splitlines()[-1])
    report = json.loads((tmp_path / "out" / "scene_explain.json").read_text())
    assert last["summary"]["inputs"] == report["inputs"]


def test_a_network_without_classes_is_refused(geoseg, scene, tmp_path):
    nodes, tensors = packages._conv("image", "cover", np.ones((1, 2, 1, 1)), np.zeros(1))
    cover = Output(name="cover", kind="quantity", unit="%", range=(0, 1))
    packages._package(tmp_path / "amounts", ["red", "nir"], nodes, tensors, (cover,), {})
    words = ("explain", scene.source, "--sensor", "generic", "--model", tmp_path / "amounts", "-o", tmp_path / "out")
    assert "maps no classes" in refusal(geoseg, tmp_path, *words)
