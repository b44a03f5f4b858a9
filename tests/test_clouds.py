"""A cloud map made first, with a package of its own, and the published networks that can make one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import rasterio
from command_line import write
from onnx import TensorProto, helper, numpy_helper
from packages import threshold_package

from geoseg.errors import PackageError
from geoseg.legend import Legend
from geoseg.models.csmask import package_csmask
from geoseg.preprocess.quality import Reason
from geoseg.runtimes.open_runtime import open_runtime

CLOUDY = Legend.from_names(["clear", "cloud"])
SIX = ["blue", "green", "red", "nir", "swir16", "swir22"]


def test_what_the_cloud_model_finds_is_masked_and_nothing_else(place: Path, geoseg) -> None:
    threshold_package(place / "clouds", threshold=150, legend=CLOUDY)
    assert geoseg("predict", "scene.tif", "--model", "model", "--cloud-model", "clouds", "-o", "out").code == 0
    with (
        rasterio.open("scene.tif") as scene,
        rasterio.open("out/scene_reason.tif") as reason,
        rasterio.open("out/scene_classes.tif") as out,
    ):
        bright = scene.read(1) > 150
        assert np.array_equal(reason.read(1) == Reason.CLOUD, bright)
        assert np.array_equal(out.read(1) == out.nodata, bright)
        assert reason.tags()["GEOSEG_CLOUD_MODEL"].startswith("test-model sha256:")


def test_the_cloud_map_may_be_coarser_than_the_map(place: Path, geoseg) -> None:
    values = np.full((60, 60), 50)
    values[:30, :30] = 200
    write(place / "scene.tif", fill=values)
    threshold_package(place / "clouds", threshold=150, legend=CLOUDY, pixel_size_m=30.0, pixel_size_range_m=(25.0, 60.0))
    assert geoseg("predict", "scene.tif", "--model", "model", "--cloud-model", "clouds", "-o", "out").code == 0
    with rasterio.open("out/scene_reason.tif") as reason:
        assert np.array_equal(reason.read(1) == Reason.CLOUD, values == 200)


def test_a_map_with_a_cloud_model_is_made_again_the_same(place: Path, geoseg, monkeypatch) -> None:
    threshold_package(place / "clouds", threshold=150, legend=CLOUDY)
    assert geoseg("predict", "scene.tif", "--model", "model", "--cloud-model", "clouds", "-o", "out").code == 0
    (place / "elsewhere").mkdir()
    monkeypatch.chdir(place / "elsewhere")
    assert geoseg("predict", "--again", "../out/scene.json", "-o", "again").code == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--cloud-model", "model"], "has no class called cloud or shadow"),
        (["--cloud-model", "none"], "none"),
        (["--cloud-model", "clouds", "--mask", "scene.tif", "--mask-values", "1"], "leave one out"),
        (["--cloud-model", "nir"], "nir is missing"),
    ],
)
def test_a_cloud_model_that_cannot_be_used_is_one_sentence(place: Path, geoseg, words: list[str], said: str) -> None:
    threshold_package(place / "clouds", legend=CLOUDY)
    threshold_package(place / "nir", ["nir"], legend=CLOUDY)
    ran = geoseg("predict", "scene.tif", "--model", "model", "-o", "out", *words)
    assert ran.code == 2
    assert said in ran.sentence
    assert not Path("out").exists()


def test_a_published_cloud_network_keeps_its_weights_and_gets_our_names(tmp_path: Path) -> None:
    weights = np.zeros((3, 6, 1, 1), np.float32)
    weights[1, 3] = 2.0
    node = helper.make_node("Conv", ["input", "w"], ["output"])
    given = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch_size", 6, 256, 256])
    logits = helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch_size", 3, 256, 256])
    graph = helper.make_graph([node], "net", [given], [logits], [numpy_helper.from_array(weights, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "model_6b_l1c.onnx")
    told = {"data": {"dataset_statistics": {"img": [[0.1] * 6, [0.5] * 6], "band_names": SIX}}}
    (tmp_path / "model_6b_l1c.json").write_text(json.dumps(told))
    package = package_csmask(tmp_path, tmp_path / "made", level="l1c")
    assert [(channel.name, channel.mean, channel.std) for channel in package.preparation.channels] == [(name, 0.1, 0.5) for name in SIX]
    image = np.random.default_rng(0).normal(size=(1, 6, 256, 256)).astype(np.float32)
    exponents = np.exp(np.einsum("ij,bjrc->birc", weights[:, :, 0, 0], image))
    scores = open_runtime(package)(image)["classes"]
    np.testing.assert_allclose(scores, exponents / exponents.sum(axis=1, keepdims=True), rtol=1e-4)
    with pytest.raises(PackageError, match="model_6b_l2a"):
        package_csmask(tmp_path, tmp_path / "other", level="l2a")
