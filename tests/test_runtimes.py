"""Runtimes give the scores that the network is known to give, and refuse what does not keep the contract."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from packages import constant_package, describe, ice_chart_package, neighbourhood_package, per_pixel_package, threshold_package

from geoseg.errors import PackageError
from geoseg.legend import Legend
from geoseg.models.package import Output, write_package
from geoseg.runtimes.open_runtime import open_runtime

LAND_WATER = Output.from_legend("classes", Legend.from_names(["land", "water"]))


def images(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def graph(input_name: str = "image", output_name: str = "classes", planes: int = 2) -> bytes:
    """A network that repeats its one channel."""
    node = helper.make_node("Concat", [input_name] * planes, [output_name], axis=1)
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["b", None, "r", "c"]) for name in (input_name, output_name)]
    model = helper.make_model(helper.make_graph([node], "g", info[:1], info[1:]), opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return model.SerializeToString()


@pytest.mark.parametrize("shape", [(1, 1), (7, 9), (64, 64)])
@pytest.mark.parametrize("batch", [1, 3])
def test_constant_package_gives_its_class_everywhere(tmp_path: Path, batch: int, shape: tuple[int, int]) -> None:
    scores = open_runtime(constant_package(tmp_path / "model", ["red", "nir"], 1, 3))(images(batch, 2, *shape))
    assert scores["classes"].dtype == np.float32
    expected = np.array([0.125, 0.75, 0.125]).reshape(1, 3, 1, 1)
    np.testing.assert_allclose(scores["classes"], np.broadcast_to(expected, (batch, 3, *shape)), atol=1e-7)


def test_per_pixel_package_is_a_softmax_of_the_channels(tmp_path: Path) -> None:
    weights, image = np.array([[1.0, -1.0], [0.5, 2.0], [0.0, 0.0]]), images(2, 2, 5, 6)
    scores = open_runtime(per_pixel_package(tmp_path / "model", ["red", "nir"], weights, [0, 1, 2]), threads=1)(image)["classes"]
    powers = np.exp(np.einsum("kc,bcyx->bkyx", weights, image) + np.array([0, 1, 2]).reshape(1, 3, 1, 1))
    np.testing.assert_allclose(scores, powers / powers.sum(axis=1, keepdims=True), atol=1e-6)


def test_threshold_package_compares_exactly(tmp_path: Path) -> None:
    values = np.array([99, 100, 100.00001, 101], dtype=np.float32).reshape(1, 1, 2, 2)
    image = np.concatenate([values * 0, values], axis=1)
    scores = open_runtime(threshold_package(tmp_path / "model", ["nir", "red"], threshold=100))(image)["classes"]
    assert scores[0, 1].ravel().tolist() == [0, 0, 1, 1]
    assert (scores.sum(axis=1) == 1).all()


def test_neighbourhood_package_sees_its_radius_and_no_further(tmp_path: Path) -> None:
    runtime = open_runtime(neighbourhood_package(tmp_path / "model", 2))
    image = np.zeros((1, 1, 11, 11), dtype=np.float32)
    calm = runtime(image)["classes"]
    image[0, 0, 5, 5] = 10
    changed = (runtime(image)["classes"] != calm).any(axis=(0, 1))
    assert [index.tolist() for index in np.nonzero(changed.any(axis=1))] == [[3, 4, 5, 6, 7]]
    assert changed.sum() == 25


def test_ice_chart_package_gives_a_quantity_and_two_class_outputs(tmp_path: Path) -> None:
    image = images(1, 2, 4, 4) * 3
    scores = open_runtime(ice_chart_package(tmp_path / "model"))(image)
    np.testing.assert_allclose(scores["concentration"][:, 0], np.clip(50 + 10 * image[:, 0], 0, 100), rtol=1e-6)
    assert {name: score.shape[1] for name, score in scores.items()} == {"concentration": 1, "stage": 6, "floe": 4}
    np.testing.assert_allclose(scores["stage"].sum(axis=1), 1, atol=1e-6)


@pytest.mark.parametrize(
    ("network", "said"),
    [
        (b"no graph", "cannot be used"),
        (graph(input_name="pixels"), "named 'image'"),
        (graph(output_name="scores"), "promises 'classes'"),
    ],
)
def test_graph_that_breaks_the_contract_is_refused(tmp_path: Path, network: bytes, said: str) -> None:
    package = write_package(tmp_path / "model", describe(["red"], [LAND_WATER]), onnx=network)
    with pytest.raises(PackageError, match=said):
        open_runtime(package)


def test_output_of_another_shape_is_refused(tmp_path: Path) -> None:
    package = write_package(tmp_path / "model", describe(["red"], [LAND_WATER]), onnx=graph(planes=3))
    with pytest.raises(PackageError, match=r"expected \(1, 2, 4, 4\)"):
        open_runtime(package)(images(1, 1, 4, 4))


def test_graph_cannot_read_weights_from_another_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = onnx.load_from_string(graph())
    model.graph.node[0].input[1] = "outside"
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((1, 1, 4, 4), dtype=np.float32), "outside"))
    onnx.save_model(model, tmp_path / "model.onnx", save_as_external_data=True, location="outside.bin", size_threshold=0)
    package = write_package(tmp_path / "model", describe(["red"], [LAND_WATER]), onnx=(tmp_path / "model.onnx").read_bytes())
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PackageError, match="cannot be used"):
        open_runtime(package)


@pytest.mark.parametrize("image", [images(1, 2, 4, 4), images(1, 4, 4), images(1, 1, 4, 4).astype(np.float64)])
def test_images_of_another_shape_or_type_are_a_mistake_of_the_caller(tmp_path: Path, image: np.ndarray) -> None:
    runtime = open_runtime(constant_package(tmp_path / "model", ["red"], 0, 2))
    with pytest.raises(ValueError, match=r"\(batch, 1, row, col\)"):
        runtime(image)


def test_torch_runtime_says_what_a_package_without_weights_lacks(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match=r"no weights\.safetensors, which --runtime torch needs"):
        open_runtime(constant_package(tmp_path / "model", ["red"], 0, 2), "torch")
