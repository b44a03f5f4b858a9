"""CrossEarth-SAR learned on radar as any network is: its package maps, and what it was told of decibels goes along."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from labelled_ground import PROFILE, QUICK

pytest.importorskip("torch")
pytest.importorskip("lightning")
pytest.importorskip("timm")

import torch
from safetensors.torch import load, save_file

from geoseg.errors import InputError, PackageError
from geoseg.legend import Legend
from geoseg.mapping.make_map import make_map
from geoseg.models.description import Output
from geoseg.models.export import check_parity, export_onnx
from geoseg.models.package import ModelPackage
from geoseg.models.segmenter import ScoredNetwork, build_network
from geoseg.recipes._settings import Settings
from geoseg.recipes.supervised import run
from geoseg.scene import Scene
from geoseg.scenes.open_scene import open_scene

FAMILY = "crossearth_sar.Pyramid"
SIZES = {"size": "tiny", "patch": 8, "depth": 2, "experts": 3, "features": 16}


def radar(folder: Path) -> Scene:
    """Stripes of water, 8 dB below land, with four looks; and their labels."""
    rng = np.random.default_rng(0)
    water = (np.add.outer(np.arange(192), np.arange(192)) // 20) % 3 == 0
    power = np.where(water, 0.01, 0.06) * rng.gamma(4, 0.25, (192, 192))
    with rasterio.open(folder / "scene.tif", "w", count=1, dtype="float32", nodata=0, **PROFILE) as file:
        file.write(power.astype(np.float32), 1)
        file.descriptions = ("VV",)
    with rasterio.open(folder / "labels.tif", "w", count=1, dtype="uint8", nodata=255, **PROFILE) as file:
        file.write(np.where(water, 20, 10).astype(np.uint8), 1)
    return open_scene(folder / "scene.tif", sensor="sentinel-1-rtc", unit="linear power")


def train(folder: Path, name: str = "model", **changes: Any) -> ModelPackage:
    settings = Settings(**{**QUICK, "bands": ["vv"], "family": FAMILY, "network": SIZES, **changes})
    return run(settings, [radar(folder)], [folder / "labels.tif"], folder / name, accelerator="cpu")


def test_it_learns_maps_and_knows_its_decibels(tmp_path: Path) -> None:
    package = train(tmp_path, detail=8)
    channel = package.preparation.channels[0]
    assert load(package.weights)["network.decibels"].tolist() == pytest.approx([channel.mean, channel.std])
    log = (tmp_path / "model_training" / "csv" / "version_0" / "metrics.csv").read_text().splitlines()[0]
    assert "val busiest_expert" in log
    assert "val local roughness and expert_2" in log
    make_map(open_scene(tmp_path / "scene.tif", sensor="sentinel-1-rtc", unit="linear power"), package, tmp_path / "map")
    with rasterio.open(tmp_path / "map" / "scene_classes.tif") as theirs, rasterio.open(tmp_path / "labels.tif") as truth:
        assert (theirs.read(1) == truth.read(1)).mean() > 0.7


def test_it_starts_from_dense_weights_and_can_leave_them(tmp_path: Path) -> None:
    dense = build_network({"family": FAMILY, "in_channels": 3, "classes": 2, **SIZES, "experts": 1}).network.encoder.state_dict()
    names = {name: name.replace("embed.", "patch_embed.proj.", 1) if name.startswith("embed") else name for name in dense}
    weights = {names[name].replace("mlp.experts.0.", "mlp."): tensor for name, tensor in dense.items() if ".router." not in name}
    save_file(weights, tmp_path / "dinov2.safetensors")
    package = train(tmp_path, encoder_weights=str(tmp_path / "dinov2.safetensors"), freeze=True, epochs=1)
    made = load(package.weights)
    for number in range(3):
        assert torch.equal(made[f"network.encoder.blocks.1.mlp.experts.{number}.fc1.weight"], weights["blocks.1.mlp.fc1.weight"])
    assert "each expert from its block's feed-forward" in (tmp_path / "model_training" / "report.md").read_text()
    torch.save({"model": {"layer.weight": torch.zeros(1)}}, tmp_path / "other.pth")
    with pytest.raises(PackageError, match="holds other weights than this network's"):
        train(tmp_path, "other", encoder_weights=str(tmp_path / "other.pth"))


def test_bands_that_are_no_radar_are_refused(tmp_path: Path) -> None:
    radar(tmp_path)
    scene = open_scene(tmp_path / "scene.tif", sensor="generic", bands=["red"])
    with pytest.raises(InputError, match="red is no radar band"):
        run(
            Settings(**{**QUICK, "bands": ["red"], "family": FAMILY, "network": SIZES}),
            [scene],
            [tmp_path / "labels.tif"],
            tmp_path / "model",
        )


def test_onnx_chooses_as_torch_does_in_any_size() -> None:
    torch.manual_seed(0)
    network = build_network({"family": FAMILY, "in_channels": 2, "classes": 2, **SIZES, "top": 2})
    for block in network.network.encoder.blocks:
        torch.nn.init.normal_(block.mlp.router.weight, std=0.5)
        for expert in block.mlp.experts:
            torch.nn.init.normal_(expert.fc2.weight)
        block.ls2.gamma.data.fill_(0.5)
    scored = ScoredNetwork(network.eval(), [Output.from_legend("classes", Legend.from_names(["land", "water"]))])
    rng = np.random.default_rng(0)
    images = [
        rng.normal(0, 1, (count, 2, rows, cols)).astype(np.float32) for count, rows, cols in ((1, 64, 64), (3, 40, 96), (2, 296, 296))
    ]
    images[1][:, :, :20, :20] = 0
    assert check_parity(export_onnx(scored, 2), scored, images).agreement >= 0.999
