"""Probes: the graphs say what scikit-learn says, few labels make a map, and what cannot be learned is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
from command_line import refusal
from numpy.typing import NDArray
from scene_files import write

pytest.importorskip("sklearn")
pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import onnxruntime
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from geoseg.data.pixels import Pixels
from geoseg.models.package import ModelPackage
from geoseg.models.probe import TEMPERATURE, linear_onnx, nearest_onnx
from geoseg.recipes import probe
from geoseg.settings import parse, read_yaml

SIDE = 96
WORDS = ("--sensor", "generic", "--bands", "e00,e01,e02")


def scores_of(onnx: bytes, image: NDArray[np.float32]) -> NDArray[np.float32]:
    (scores,) = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"]).run(["classes"], {"image": image})
    return scores


def as_table(planes: NDArray[np.float32]) -> NDArray[np.float32]:
    """(batch * row * col, plane)"""
    return np.moveaxis(planes, 1, -1).reshape(-1, planes.shape[1])


def examples(present: tuple[int, ...], channels: int = 6, count: int = 300) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    rng = np.random.default_rng(1)
    values = rng.normal(size=(count, channels)).astype(np.float32)
    return values, np.array(present)[(np.abs(values).sum(axis=1) * 2).astype(int) % len(present)]


IMAGE = np.random.default_rng(2).normal(size=(2, 6, 7, 5)).astype(np.float32)


# ---------------------------------------------------------------- the graphs


@pytest.mark.parametrize("present", [(0, 1), (0, 1, 2, 3), (1, 3)])
def test_the_linear_graph_says_what_scikit_learn_says(present: tuple[int, ...]) -> None:
    values, classes = examples(present)
    settings = parse(probe.Settings, {"method": "linear"}, source="test")
    learned = Pixels(values, classes, np.zeros(len(classes), np.int64))
    fitted = probe.fit_probe(learned, settings)
    assert isinstance(fitted, LogisticRegression)
    from geoseg.legend import Legend

    legend = Legend.from_names([f"class {number}" for number in range(4)])
    scores = as_table(scores_of(probe._model(fitted, settings, learned, legend).onnx, IMAGE))
    expected = np.zeros((70, 4))
    expected[:, fitted.classes_] = fitted.predict_proba(as_table(IMAGE))
    assert np.abs(scores - expected).max() < 1e-5
    assert not scores[:, [one for one in range(4) if one not in present]].any()


@pytest.mark.parametrize("neighbours", [1, 5, 300])
@pytest.mark.parametrize("present", [(0, 1), (0, 1, 2, 3), (1, 3)])
def test_the_nearest_graph_says_what_scikit_learn_says(present: tuple[int, ...], neighbours: int) -> None:
    values, classes = examples(present)
    votes = KNeighborsClassifier(neighbours, weights=lambda away: np.exp(-away / TEMPERATURE), algorithm="brute", metric="cosine")
    votes.fit(values.astype(np.float64), classes)
    scores = as_table(scores_of(nearest_onnx(values, classes, neighbours, 4), IMAGE))
    expected = np.zeros((70, 4))
    expected[:, votes.classes_] = votes.predict_proba(as_table(IMAGE).astype(np.float64))
    assert np.abs(scores - expected).max() < 1e-5
    assert np.abs(scores.sum(axis=1) - 1).max() < 1e-6


def test_the_cosine_takes_no_notice_of_lengths() -> None:
    values, classes = examples((0, 1, 2))
    onnx = nearest_onnx(values, classes, 5, 3)
    longer = nearest_onnx(values * np.random.default_rng(3).uniform(0.1, 9, (300, 1)), classes, 5, 3)
    assert np.abs(scores_of(onnx, IMAGE) - scores_of(longer, 100 * IMAGE)).max() < 1e-4
    assert np.abs(scores_of(onnx, IMAGE) - scores_of(onnx, IMAGE + 1)).max() > 0.1


def test_a_vector_of_zeros_has_scores_all_the_same() -> None:
    values, classes = examples((0, 1))
    scores = scores_of(nearest_onnx(values, classes, 300, 2), np.zeros((1, 6, 1, 1), np.float32))
    assert scores[0, :, 0, 0] == pytest.approx([(classes == one).mean() for one in (0, 1)], abs=1e-6)


def test_nearer_neighbours_have_the_greater_say() -> None:
    values, classes = np.array([[1, 0], [0.8, 0.6], [0.8, -0.6]], np.float32), np.array([0, 1, 1])
    (scores,) = scores_of(nearest_onnx(values, classes, 3, 2), np.array([1, 0], np.float32).reshape(1, 2, 1, 1)).reshape(1, 2)
    assert scores[0] == pytest.approx(1 / (1 + 2 * np.exp(-0.2 / TEMPERATURE)), abs=1e-6)
    assert scores[0] > 0.5  # where a plain vote is lost


def test_a_class_without_examples_never_wins() -> None:
    scores = scores_of(linear_onnx(np.ones((1, 6)), np.array([-50.0]), [2], 3), IMAGE)
    assert np.array_equal(scores.argmax(axis=1), np.full((2, 7, 5), 2))


# ---------------------------------------------------------------- from files to a map


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """scene.tif, vectors of three numbers whose direction tells water from land, and labels.tif, few of them."""
    folder, rng = tmp_path_factory.mktemp("probe"), np.random.default_rng(0)
    water = (np.add.outer(np.arange(SIDE), np.arange(SIDE)) // 16) % 2 == 0
    centres = np.array([[1.0, 0.5, 0.0], [0.5, 1.0, 0.2]])
    vectors = centres[water.astype(int)] + rng.normal(0, 0.1, (SIDE, SIDE, 3))
    vectors *= rng.uniform(0.5, 3, (SIDE, SIDE, 1))
    write(folder / "scene.tif", np.moveaxis(vectors, -1, 0).astype(np.float32), photometric="minisblack")
    labels = np.where(rng.random((SIDE, SIDE)) < 0.05, np.where(water, 20, 10), 255).astype(np.uint8)
    write(folder / "labels.tif", labels[np.newaxis], nodata=255)
    return folder


@pytest.mark.parametrize("method", ["linear", "knn"])
def test_few_labels_make_a_map(ground: Path, geoseg, tmp_path: Path, method: str) -> None:
    learned = tmp_path / "learned"
    given = ("--labels", ground / "labels.tif", "--recipe", "probe", "-s", f"method={method}", "-s", "block=32", "-s", "guard=0")
    ran = geoseg("train", ground / "scene.tif", "-o", learned, *given, *WORDS)
    assert ran.code == 0, ran.err
    assert ("nearest of" if method == "knn" else "A logistic regression") in ran.out
    assert "judged by a probe that has not seen it" in ran.out
    package = ModelPackage.open(learned)
    assert package.architecture["family"] == f"probe.{method}"
    assert package.weights is None
    ran = geoseg("predict", ground / "scene.tif", "--model", learned, "-o", tmp_path / "map", "--scores", *WORDS)
    assert ran.code == 0, ran.err
    with rasterio.open(tmp_path / "map" / "scene_classes.tif") as file:
        water = (np.add.outer(np.arange(SIDE), np.arange(SIDE)) // 16) % 2 == 0
        assert ((file.read(1) == 20) == water).mean() > (0.99 if method == "knn" else 0.95)
    report = json.loads((tmp_path / "learned_training" / "report.json").read_text())
    assert report["measures"]["folds"]["accuracy"] > 0.9


def test_neighbours_of_embeddings_are_compared_as_they_are(ground: Path, geoseg, tmp_path: Path) -> None:
    for name, words in (("plain", ()), ("centred", ("standardise=true",))):
        given = ("--labels", ground / "labels.tif", "--recipe", "probe", "-s", "method=knn", "-s", "block=32", "-s", "guard=0")
        ran = geoseg("train", ground / "scene.tif", "-o", tmp_path / name, *given, *WORDS, *(word for one in words for word in ("-s", one)))
        assert ran.code == 0, ran.err
    channels = [ModelPackage.open(tmp_path / name).preparation.channels for name in ("plain", "centred")]
    assert {(channel.mean, channel.std) for channel in channels[0]} == {(0.0, 1.0)}
    assert all(channel.mean > 0.1 for channel in channels[1][:2])


def test_a_knn_map_takes_smaller_tiles_the_more_it_has_learned() -> None:
    from geoseg.legend import Legend

    legend, tiles = Legend.from_names(["a", "b"]), []
    for count in (60, 2000, 20_000):
        values, classes = examples((0, 1), count=count)
        learned, settings = Pixels(values, classes, np.zeros(count, np.int64)), parse(probe.Settings, {"method": "knn"}, source="test")
        tiles.append(probe._model(probe.fit_probe(learned, settings), settings, learned, legend).tile)
    assert tiles == [512, 64, 32]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("-s", "method=svm"), "method"),
        (("-s", "neighbour=3"), "did you mean 'neighbours'"),
        (("-s", "neighbours=0"), "neighbours"),
        (("--resume",), "learns in one go"),
        (("-s", "bands=[e07]"), "no 'e07' band"),
    ],
)
def test_what_cannot_be_used_is_one_sentence(ground: Path, geoseg, tmp_path: Path, words: tuple[str, ...], told: str) -> None:
    given = ("--labels", ground / "labels.tif", "--recipe", "probe", "-o", tmp_path / "new")
    assert told in refusal(geoseg, tmp_path, "train", ground / "scene.tif", *given, *WORDS, *words)


def test_shipped_settings_are_those_of_the_recipe() -> None:
    settings = read_yaml(Path(__file__).parents[1] / "docs" / "settings" / "probe.yaml")
    own = {key: value for key, value in settings.items() if key not in ("scenes", "labels", "out", "opening")}
    assert own.keys() < settings.keys()
    assert parse(probe.Settings, own, source="probe").method == "knn"
