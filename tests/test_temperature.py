"""Scores that promise too much: the temperature that made them so is found again, classes stay, and maps say that they are calibrated."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
from command_line import refusal
from packages import describe
from rasterio.windows import Window

from geoseg.io.class_maps import open_class_map
from geoseg.io.score_files import SCORE_STEPS, open_scores
from geoseg.legend import Legend
from geoseg.models.package import ModelPackage, Output, write_package
from geoseg.models.temperature import fit_temperature, tempered

LEGEND = Legend.from_names(["land", "water"])


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=0))
    return (powers / powers.sum(axis=0)).astype(np.float32)


def test_tempered_scores_are_those_of_divided_logits() -> None:
    logits = np.random.default_rng(0).normal(0, 2, (4, 70, 9))
    for temperature in (0.5, 1.0, 3.0):
        changed = tempered(softmax(logits), temperature)
        np.testing.assert_allclose(changed, softmax(logits / temperature), rtol=1e-4)
        assert np.array_equal(changed.argmax(axis=0), logits.argmax(axis=0))


@pytest.mark.parametrize("true", [0.6, 1.0, 2.5])
def test_the_temperature_that_scores_were_made_at_is_found(true: float) -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 2, (3, 40_000))
    frequent = softmax(logits)
    truth = (rng.random(40_000) > frequent.cumsum(axis=0)).sum(axis=0).clip(0, 2)
    assert fit_temperature(softmax(logits * true).T, truth) == pytest.approx(true, rel=0.05)


# A package that is three times too sure


@pytest.fixture
def sure(place: Path) -> Path:
    """`sure`: logits of water are 3 x those that its labels in truth.tif were drawn with; scene.tif holds 1 to 199."""
    onnx = pytest.importorskip("onnx")
    helper, numpy_helper = onnx.helper, onnx.numpy_helper
    nodes = [
        helper.make_node("Mul", ["image", "signs"], ["turned"]),
        helper.make_node("Softmax", ["turned"], ["classes"], axis=1),
    ]
    signs = numpy_helper.from_array(np.array([-0.5, 0.5], np.float32).reshape(1, 2, 1, 1), "signs")

    def plane(name: str, count: int) -> object:
        return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", count, "row", "col"])

    graph = helper.make_graph(nodes, "sure", [plane("image", 1)], [plane("classes", 2)], [signs])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    description = describe(["red"], (Output.from_legend("classes", LEGEND),))
    channels = tuple(one.model_copy(update={"mean": 100.0, "std": 100 / 9}) for one in description.preparation.channels)
    preparation = description.preparation.model_copy(update={"channels": channels})
    write_package(place / "sure", description.model_copy(update={"preparation": preparation}), onnx=model.SerializeToString())
    side = 300
    with rasterio.open(place / "scene.tif") as file:
        profile = file.profile | {"height": side, "width": side}
    rng = np.random.default_rng(2)
    values = rng.integers(1, 200, (side, side)).astype(np.uint8)
    with rasterio.open(place / "scene.tif", "w", **profile) as file:
        file.write(values, 1)
        file.set_band_description(1, "red")
    chance = 1 / (1 + np.exp(-(values.astype(float) - 100) / 100 * 9 / 3))
    truth = (rng.random((side, side)) < chance).astype(np.uint8)
    with rasterio.open(place / "truth.tif", "w", **profile) as file:
        file.write(truth, 1)
    return place


def test_a_package_that_is_too_sure_is_calibrated(sure: Path, geoseg) -> None:
    ran = geoseg("calibrate", "sure", "scene.tif", "--labels", "truth.tif", "-o", "calibrated.zip")
    assert ran.code == 0, ran.err
    made = ModelPackage.open(sure / "calibrated.zip")
    assert made.outputs[0].temperature == pytest.approx(3, rel=0.05)
    assert made.outputs[0].calibrated
    errors = [figure.value for figure in made.figures if "calibration" in figure.name]
    assert errors[1] < 0.02 < errors[0]
    for model, out in (("sure", "before"), ("calibrated.zip", "after")):
        assert geoseg("predict", "scene.tif", "--model", model, "-o", out, "--scores").code == 0
    before, after = (read(sure / out / f"scene_{what}.tif") for what in ("classes",) for out in ("before", "after"))
    assert np.array_equal(before, after)
    scores = read(sure / "after" / "scene_scores.tif", 2) / SCORE_STEPS
    expected = tempered(np.stack([1 - read_sure(sure), read_sure(sure)]), made.outputs[0].temperature)[1]
    assert np.abs(scores - expected).max() < 0.01
    assert not open_scores(sure / "before" / "scene_scores.tif", open_class_map(sure / "before" / "scene_classes.tif").legend).calibrated
    assert open_scores(sure / "after" / "scene_scores.tif", open_class_map(sure / "after" / "scene_classes.tif").legend).calibrated


def test_a_package_is_calibrated_anew_from_what_its_network_says(sure: Path, geoseg) -> None:
    for model, out in (("sure", "first"), ("first", "second")):
        assert geoseg("calibrate", model, "scene.tif", "--labels", "truth.tif", "-o", out).code == 0
    first, second = (ModelPackage.open(sure / out) for out in ("first", "second"))
    assert first.outputs[0].temperature == second.outputs[0].temperature
    figures = [figure for figure in second.figures if "calibration" in figure.name]
    assert len(figures) == 2, "those of the first time are gone"
    assert figures[0].value == figures[1].value


def read(path: Path, band: int = 1) -> np.ndarray:
    with rasterio.open(path) as file:
        return file.read(band, window=Window(0, 0, file.width, file.height)).astype(np.float64)


def read_sure(place: Path) -> np.ndarray:
    """(row, col) score of water as the package's network gives it."""
    return (1 / (1 + np.exp(-(read(place / "scene.tif") - 100) / 100 * 9))).astype(np.float32)


def test_what_cannot_be_calibrated_is_one_sentence(sure: Path, geoseg) -> None:
    assert geoseg("calibrate", "sure", "scene.tif", "--labels", "truth.tif", "-o", "once").code == 0
    told = refusal(geoseg, sure, "calibrate", "sure", "scene.tif", "--labels", "truth.tif", "-o", "once")
    assert "exists already" in told
    assert json.loads((sure / "once" / "model.json").read_text())
