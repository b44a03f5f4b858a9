"""Where a network's answer comes from: on networks that are known to look at one band, and on those that look at two."""

from __future__ import annotations

import json

import numpy as np
import packages
import pytest
import rasterio
from command_line import refusal
from packages import describe
from scene_files import write

pytest.importorskip("segmentation_models_pytorch")
pytest.importorskip("captum")
pytest.importorskip("torch")

import torch

from geoseg.evaluation.attribution import AttributionRuntime, attribute
from geoseg.evaluation.explain import explain
from geoseg.legend import Legend
from geoseg.models.export import export_onnx, save_weights
from geoseg.models.package import Output, write_package
from geoseg.models.segmenter import ScoredNetwork, build_network
from geoseg.scenes.open_scene import open_scene

VALUES = np.random.default_rng(3).normal(0, 1, (2, 90, 70)).astype(np.float32)
VALUES[:, 20:30, 40:60] = -9999
SMALL = {"family": "smp.Unet", "encoder": "resnet18", "encoder_depth": 3, "decoder_channels": [16, 8, 8], "in_channels": 2, "classes": 2}


def trained(folder, *, blind):
    """A network with random weights; a `blind` one gives its second channel, nir, no weight."""
    torch.manual_seed(1)
    network = build_network(SMALL).eval()
    first = next(one for one in network.modules() if isinstance(one, torch.nn.Conv2d))
    with torch.no_grad():
        network.network.segmentation_head[0].weight *= 8
        if blind:
            first.weight[:, 1] = 0
    outputs = (Output.from_legend("classes", Legend.from_names(["land", "water"])),)
    description = describe(["red", "nir"], outputs, tile=64, overlap=16, stride=8, architecture=SMALL)
    onnx = export_onnx(ScoredNetwork(network, outputs), 2)
    return write_package(folder, description, onnx=onnx, weights=save_weights(network))


@pytest.fixture
def scene(tmp_path):
    return open_scene(write(tmp_path / "scene.tif", VALUES, names=["red", "nir"], nodata=-9999), sensor="generic")


def test_what_a_pixel_is_given_adds_up_to_the_difference_of_the_scores(tmp_path):
    package = trained(tmp_path / "model", blind=False)
    runtime = AttributionRuntime(package, "gradients", class_index=1, steps=100)
    image = np.random.default_rng(0).normal(0, 1, (1, 2, 64, 64)).astype(np.float32)
    given = sum(planes.sum(dtype=float) for planes in runtime(image).values())
    with torch.no_grad():
        there, mean = (runtime._network(torch.from_numpy(one))["classes"][0, 1].sum().item() for one in (image, 0 * image))
    assert abs(there - mean) > 1
    assert given == pytest.approx(there - mean, rel=0.01)
    assert runtime.largest_gap < 0.01


@pytest.mark.parametrize("blind", [True, False])
def test_a_band_without_weight_is_given_nothing_by_gradients_and_by_occlusion(tmp_path, scene, blind):
    package = trained(tmp_path / "model", blind=blind)
    made = attribute(scene, package, tmp_path / "out", method="gradients", class_name="water", steps=8)
    with rasterio.open(made.files["gradients"]) as file:
        red, nir = file.read()
        assert file.descriptions == ("red", "nir")
    np.testing.assert_array_equal(np.isnan(red), VALUES[0] == -9999)
    lost = {row["input"]: row["score_loss"] for row in explain(scene, package, tmp_path / "occluded").rows}
    assert np.nanmax(np.abs(red)) > 0.05
    assert lost["red"] != 0
    assert (np.nanmax(np.abs(nir)) == 0) == blind
    assert (lost["nir"] == 0) == blind


def test_no_data_is_given_nothing_and_does_not_count(tmp_path):
    runtime = AttributionRuntime(trained(tmp_path / "model", blind=False), "gradients", steps=4)
    image = np.random.default_rng(0).normal(0, 1, (1, 2, 64, 64)).astype(np.float32)
    image[:, :, :20] = 0
    planes = runtime(image)
    assert all(np.abs(one[:, :, :20]).max() == 0 for one in planes.values())
    assert max(np.abs(one[:, :, 20:]).max() for one in planes.values()) > 0


def test_grad_cam_is_of_the_coarsest_layer_and_never_negative(tmp_path, scene):
    package = trained(tmp_path / "model", blind=False)
    runtime = AttributionRuntime(package, "gradcam", class_index=1)
    assert runtime.layer[0].startswith("network.network.encoder")
    image = np.random.default_rng(0).normal(0, 1, (1, 2, 64, 64)).astype(np.float32)
    found = runtime(image)["band-0"][0, 0]
    kept = {}

    def keep(module, given, made):
        made.retain_grad()
        kept["made"] = made
        return made.clone()  # what follows adds to it in place

    hook = runtime.layer[1].register_forward_hook(keep)
    logits = runtime._network.network(torch.from_numpy(image).requires_grad_())["classes"]
    logits[:, 1][logits.argmax(dim=1) == 1].sum().backward()
    hook.remove()
    weights = kept["made"].grad.mean(dim=(2, 3), keepdim=True)
    coarse = (weights * kept["made"]).sum(dim=1, keepdim=True).relu()
    assert coarse.shape[2:] == (8, 8)
    expected = torch.nn.functional.interpolate(coarse, size=(64, 64), mode="bilinear", align_corners=False)[0, 0].detach().numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5 * max(1, expected.max()))


def test_the_command_writes_layers_on_the_maps_grid_with_style_and_report(geoseg, place):
    write(place / "two.tif", VALUES, names=["red", "nir"], nodata=-9999)
    trained(place / "net", blind=False)
    ran = geoseg("explain", "two.tif", "--sensor", "generic", "--model", "net", "--method", "gradcam", "--class", "water", "-o", "out")
    assert ran.code == 0, ran.err
    assert sorted(path.name for path in (place / "out").iterdir()) == ["two_gradcam.json", "two_gradcam.qml", "two_gradcam.tif"]
    facts = json.loads((place / "out/two_gradcam.json").read_text())
    assert (facts["class"], facts["layer"].split(".")[0]) == ("water", "network")
    with rasterio.open(place / "out/two_gradcam.tif") as made, rasterio.open(place / "two.tif") as given:
        assert (made.transform, made.shape) == (given.transform, given.shape)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--method", "gradients"], "has no torch weights"),
        (["--method", "gradcam", "--class", "watr"], "--class is 'watr'"),
        (["--class", "water"], "--class and --steps are for --method gradients or gradcam"),
        (["--method", "gradients", "--steps", "0"], "--steps is 0; expected 1 or more"),
    ],
)
def test_what_cannot_be_explained_is_refused(geoseg, place, words, said):
    packages.threshold_package(place / "onnx_only")
    assert said in refusal(geoseg, place, "explain", "scene.tif", "--model", "onnx_only", "-o", "out", *words)
