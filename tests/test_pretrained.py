"""A transformer with a decoder, and learning from labels that starts with an encoder learned without."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from command_line import refusal
from labelled_ground import QUICK, write_ground

pytest.importorskip("torch")
pytest.importorskip("lightning")
pytest.importorskip("timm")

import rasterio
import torch
from safetensors.torch import load

from geoseg.backbones.kernels import place_kernels
from geoseg.backbones.vit_segmenter import VitSegmenter
from geoseg.errors import PackageError
from geoseg.models.encoders import Encoder
from geoseg.models.export import check_parity, export_onnx
from geoseg.models.package import ModelPackage
from geoseg.models.segmenter import ScoredNetwork, Segmenter, build_network
from geoseg.recipes import masked_pretraining
from geoseg.recipes._pretrained import load_pretrained, with_its_statistics
from geoseg.recipes._settings import Settings
from geoseg.recipes.modules import SupervisedSegmentation
from geoseg.recipes.supervised import run
from geoseg.runtimes.open_runtime import open_runtime
from geoseg.scenes.open_scene import open_scene
from geoseg.settings import parse

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL: dict[str, Any] = {"family": "vit.Pyramid", "in_channels": 3, "depth": 2, "features": 16}
FROM_LABELS = {key: value for key, value in QUICK.items() if key not in ("encoder", "network", "learning_rate")} | {
    "network": {"features": 16},
    "compare": "none",
    "pictures": 0,
}
OPENING = {"sensor": "sentinel-2-l1c", "bands": ["red", "nir"]}


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_ground(tmp_path_factory.mktemp("ground"))


@pytest.fixture(scope="module")
def encoder(ground: Path) -> Encoder:
    """Of nir and red, in this order, with one block; from the scene with brighter numbers, so that its statistics differ."""
    with rasterio.open(ground / "scene.tif") as file:
        values, profile = file.read() + 100, file.profile
    with rasterio.open(ground / "brighter.tif", "w", **profile) as file:
        file.write(values)
    words = {"depth": 1, "tile": 32, "batch": 4, "draws": 8, "epochs": 1, "bands": ["nir", "red"]}
    scene = open_scene(ground / "brighter.tif", **OPENING)
    return masked_pretraining.run(parse(masked_pretraining.Settings, words, source="test"), [scene], ground / "encoder", accelerator="cpu")


@pytest.fixture(scope="module")
def package(ground: Path, encoder: Encoder) -> ModelPackage:
    return train(ground, ground / "model", {"pretrained": str(encoder.path)})


def train(ground: Path, out: Path, changes: dict[str, Any]) -> ModelPackage:
    words = parse(Settings, FROM_LABELS | changes, source="test")
    return run(words, [open_scene(ground / "scene.tif", **OPENING)], [ground / "labels.tif"], out, accelerator="cpu")


def segmenter(encoder: Encoder, channels: int) -> Segmenter:
    torch.manual_seed(0)
    return build_network({"family": "vit.Pyramid", "in_channels": channels, "classes": 2, "depth": 1, "features": 16}).eval()


# ---------------------------------------------------------------- the network


@pytest.mark.parametrize("patch", [2, 8, 16])
def test_logits_have_the_images_size(patch: int) -> None:
    network = build_network(SMALL | {"patch": patch, "outputs": {"ice": 3, "floes": 2}}).eval()
    scores = network(torch.zeros(2, 3, 32, 48))
    assert {name: tuple(planes.shape) for name, planes in scores.items()} == {"ice": (2, 3, 32, 48), "floes": (2, 2, 32, 48)}
    assert network.stride == patch


def test_onnx_agrees_at_any_size() -> None:
    torch.manual_seed(0)
    network = build_network(SMALL | {"classes": 2, "pixel_size_m": 3.7, "detail": 8})
    scored = ScoredNetwork(network, [SimpleNamespace(name="classes", kind="classes")]).eval()
    images = [np.random.default_rng(0).normal(size=shape).astype(np.float32) for shape in ((1, 3, 32, 72), (3, 3, 64, 64))]
    assert check_parity(export_onnx(scored, 3), scored, images).largest_difference < 1e-5


def test_the_decoder_looks_at_every_quarter_of_the_transformer() -> None:
    network = VitSegmenter(3, 2, depth=8, features=16).eval()
    assert network.decoder.taken == [2, 4, 6, 8]
    image = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    before = network(image)
    for level in network.decoder.narrow:
        kept = level[1].weight.detach().clone()
        level[1].weight.data.zero_()
        assert not torch.allclose(network(image), before)
        level[1].weight.data.copy_(kept)
    assert torch.equal(network(image), before)


def test_pixel_size_is_told() -> None:
    torch.manual_seed(0)
    network, image = VitSegmenter(3, 2, depth=1, features=16).eval(), torch.randn(1, 3, 32, 32)
    before = network(image)
    network.pixel_size_m = 30.0
    assert not torch.allclose(network(image), before)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"patch": 6}, "patches of 6 pixels"),
        ({"patch": "8"}, "cannot build vit.Pyramid"),
        ({"size": "huge"}, "known are tiny"),
        ({"pach": 8}, "did you mean 'patch'"),
    ],
)
def test_what_cannot_be_built_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(PackageError, match=said):
        build_network(SMALL | {"classes": 2} | changes)


# ---------------------------------------------------------------- weights by role


def test_each_channel_takes_the_kernel_of_its_band_and_a_new_one_none() -> None:
    kernels = torch.randn(5, 3, 8, 8)
    placed = place_kernels(kernels, ("nir", "red", "green"), ["red", "swir16", "nir"])
    assert torch.equal(placed[:, 0], kernels[:, 1])
    assert torch.equal(placed[:, 2], kernels[:, 0])
    assert placed[:, 1].eq(0).all()


def test_dates_of_a_band_share_its_kernel() -> None:
    kernels = torch.randn(5, 2, 8, 8)
    placed = place_kernels(kernels, ("nir", "red"), ["red", "red", "nir"])
    torch.testing.assert_close(placed[:, :2].sum(dim=1), kernels[:, 1])
    assert torch.equal(placed[:, 2], kernels[:, 0])


def test_features_are_the_encoders_whatever_the_order_of_bands(encoder: Encoder) -> None:
    one, other = segmenter(encoder, 2), segmenter(encoder, 3)
    load_pretrained(one, encoder, ["nir", "red"])
    said = load_pretrained(other, encoder, ["red", "NDVI", "nir"])
    assert "has learned red, nir at 10 m; NDVI it has never seen" in said
    image = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    features = one.network.encoder(image[:, [2, 0]])
    torch.testing.assert_close(other.network.encoder(image), features)
    assert not torch.allclose(one.network.encoder(image[:, [0, 2]]), features)
    assert torch.equal(one.network.encoder.embed.weight, load(encoder.weights)["embed.weight"])


def test_a_band_that_is_not_there_is_left_out(encoder: Encoder) -> None:
    network = segmenter(encoder, 1)
    assert "of its bands nir are not used" in load_pretrained(network, encoder, ["red"])
    assert torch.equal(network.network.encoder.embed.weight[:, 0], load(encoder.weights)["embed.weight"][:, 1])


def test_no_common_band_is_refused(encoder: Encoder) -> None:
    with pytest.raises(PackageError, match="has learned nir, red, and the network reads vv, vh; choose bands that it knows"):
        load_pretrained(segmenter(encoder, 2), encoder, ["vv", "vh"])


# ---------------------------------------------------------------- the recipe


def test_the_package_has_the_encoders_network_and_statistics(package: ModelPackage, encoder: Encoder) -> None:
    assert package.architecture == {
        "family": "vit.Pyramid", "in_channels": 2, "classes": 2, "detail": 32, "features": 16,
        "size": "tiny", "patch": 8, "depth": 1, "pixel_size_m": pytest.approx(10, rel=0.01),
    }  # fmt: skip
    theirs = {channel.name: channel for channel in encoder.preparation.channels}
    assert [channel.name for channel in package.preparation.channels] == ["red", "nir"]
    assert all(channel == theirs[channel.name] for channel in package.preparation.channels)
    report = json.loads(package.read("report.json"))
    assert report["learning_rate"] == 5e-4
    assert any(note.startswith("Starts from encoder") for note in report["notes"])


def test_onnx_and_torch_give_the_same_scores(package: ModelPackage) -> None:
    images = np.random.default_rng(0).normal(size=(2, 2, 64, 32)).astype(np.float32)
    one, other = (open_runtime(package, name)(images)["classes"] for name in ("onnx", "torch"))
    assert one == pytest.approx(other, abs=1e-5)


def test_it_maps_a_scene(package: ModelPackage, ground: Path, geoseg, tmp_path: Path) -> None:
    words = ("predict", ground / "scene.tif", "--sensor", "sentinel-2-l1c", "--bands", "red,nir", "--model", package.path, "-o", "map")
    ran = geoseg(*words)
    assert ran.code == 0, ran.err
    with rasterio.open(tmp_path / "map" / "scene_classes.tif") as file:
        assert set(np.unique(file.read(1))) <= {10, 20}


def test_a_checkpoint_opens_without_the_encoder(package: ModelPackage, ground: Path) -> None:
    path = ground / "model_training" / "checkpoints" / "last.ckpt"
    module = SupervisedSegmentation.load_from_checkpoint(path, weights_only=True)
    assert module.settings.pretrained is None
    assert module.architecture == package.architecture


def test_where_it_starts_has_a_say(ground: Path, encoder: Encoder) -> None:
    started = SupervisedSegmentation(["a", "b"], ["red", "nir"], FROM_LABELS | {"pretrained": str(encoder.path)})
    words = FROM_LABELS | {"family": "vit.Pyramid", "network": {"depth": 1, "features": 16}}
    plain = SupervisedSegmentation(["a", "b"], ["red", "nir"], words)
    trained = load(encoder.weights)["blocks.0.mlp.fc1.weight"]
    assert torch.equal(started.network.network.encoder.blocks[0].mlp.fc1.weight, trained)
    assert not torch.equal(plain.network.network.encoder.blocks[0].mlp.fc1.weight, trained)


@pytest.mark.parametrize("freeze", [True, False])
def test_a_frozen_encoder_stays_as_it_was(ground: Path, encoder: Encoder, tmp_path: Path, freeze: bool) -> None:
    made = train(ground, tmp_path / "model", {"pretrained": str(encoder.path), "freeze": freeze, "epochs": 1})
    trained, before = load(made.weights), load(encoder.weights)
    assert torch.equal(trained["network.encoder.blocks.0.mlp.fc1.weight"], before["blocks.0.mlp.fc1.weight"]) == freeze
    module = SupervisedSegmentation.load_from_checkpoint(tmp_path / "model_training" / "checkpoints" / "last.ckpt", weights_only=True)
    assert module.architecture == made.architecture


def test_statistics_that_do_not_fit_are_warned_of(package: ModelPackage, encoder: Encoder, caplog: pytest.LogCaptureFixture) -> None:
    red, nir = package.preparation.channels
    with caplog.at_level(logging.WARNING):
        with_its_statistics(package.preparation, encoder)
        assert caplog.text == ""
        far = package.preparation.model_copy(update={"channels": (red.model_copy(update={"mean": red.mean + 4 * red.std}), nir)})
        with_its_statistics(far, encoder)
    assert "red has a mean of" in caplog.text
    assert "nir has" not in caplog.text


def test_a_band_in_another_unit_is_refused(package: ModelPackage, encoder: Encoder) -> None:
    red, nir = package.preparation.bands
    other = package.preparation.model_copy(update={"bands": (red, nir.model_copy(update={"unit": "1"}))})
    with pytest.raises(PackageError, match="has learned nir in reflectance, the scene has it in 1"):
        with_its_statistics(other, encoder)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["-s", "pretrained=nowhere"], "nowhere"),
        (["-s", "pretrained=model"], "no encoder.json"),
        (["-s", "freeze=true"], "name one with pretrained"),
        (["-s", "pretrained=ENCODER", "-s", "network={patch: 16}"], "has patch 8, and network says 16"),
        (["-s", "pretrained=ENCODER", "-s", "family=smp.FPN"], "leave out one of them"),
        (["-s", "pretrained=ENCODER", "-s", "encoder_weights=imagenet"], "leave out the other"),
    ],
)
def test_nonsense_is_refused(ground: Path, encoder: Encoder, geoseg, tmp_path: Path, words: list[str], says: str) -> None:
    words = [word.replace("ENCODER", str(encoder.path)) for word in words]
    scene = (ground / "scene.tif", "--sensor", "sentinel-2-l1c", "--bands", "red,nir", "--labels", ground / "labels.tif")
    assert says in refusal(geoseg, tmp_path, "train", *scene, "-o", "new", *words)
