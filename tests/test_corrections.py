"""Learning on from a package with corrections: its network and classes, the ground it held out, what is told of before and after."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
from command_line import refusal
from labelled_ground import QUICK, write_ground
from packages import threshold_package
from rasterio.features import rasterize
from shapely.geometry import box

pytest.importorskip("torch")
pytest.importorskip("lightning")

import torch
from safetensors.torch import load

from geoseg.errors import InputError, LabelError, PackageError
from geoseg.models.package import ModelPackage
from geoseg.recipes._start import Stay, with_start
from geoseg.recipes.datamodule import ScenesDataModule
from geoseg.recipes.modules import SupervisedSegmentation
from geoseg.recipes.supervised import Settings, run
from geoseg.scenes.open_scene import open_scene
from geoseg.settings import parse

pytestmark = pytest.mark.usefixtures("one_thread")

OPENING = {"sensor": "sentinel-2-l1c", "bands": ["red", "nir"]}
FIRST = QUICK | {"compare": "none", "pictures": 0, "indices": ["NDVI"], "licence": "MIT"}
NEXT: dict[str, Any] = {"tile": 32, "block": 48, "guard": 4, "batch": 4, "draws": 16, "epochs": 2, "compare": "none", "pictures": 0}
CLASSES = {10: "land", 20: "water"}


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scene, its package `model`, and `corrections.gpkg`: squares all over the scene with the class by name."""
    folder = write_ground(tmp_path_factory.mktemp("ground"))
    with rasterio.open(folder / "labels.tif", "r+") as file:
        file.update_tags(CLASS_NAMES=json.dumps({str(code): name for code, name in CLASSES.items()}))
    words = parse(Settings, FIRST, source="test")
    run(words, [open_scene(folder / "scene.tif", **OPENING)], [folder / "labels.tif"], folder / "model", accelerator="cpu")
    draw(folder, [(row, col) for row in range(4, 180, 24) for col in range(4, 180, 24)], "corrections.gpkg")
    return folder


def draw(folder: Path, corners: list[tuple[int, int]], name: str, side: int = 8) -> None:
    """Squares of pixels with their most frequent class, as a person would draw them."""
    with rasterio.open(folder / "labels.tif") as file:
        codes, place = file.read(1), file.transform
    rows = []
    for row, col in corners:
        here = codes[row : row + side, col : col + side]
        left, top = place * (col, row)
        right, bottom = place * (col + side, row + side)
        known = here[here != 255]
        rows.append({"class": CLASSES[int(np.bincount(known).argmax())], "geometry": box(left, bottom, right, top)})
    geopandas.GeoDataFrame(rows, crs="EPSG:32633").to_file(folder / name)


def train(ground: Path, out: Path, labels: str = "corrections.gpkg", **changes: Any) -> ModelPackage:
    words = parse(Settings, NEXT | {"start": str(ground / "model")} | changes, source="test")
    return run(words, [open_scene(ground / "scene.tif", **OPENING)], [ground / labels], out, accelerator="cpu")


def looked_at(ground: Path, **changes: Any) -> ScenesDataModule:
    """The corrections as they are learned from."""
    data = ScenesDataModule([open_scene(ground / "scene.tif", **OPENING)], [ground / "corrections.gpkg"], NEXT | changes)
    data.setup()
    return data


@pytest.fixture(scope="module")
def package(ground: Path) -> ModelPackage:
    return train(ground, ground / "better")


def test_what_the_package_reads_and_says_stays(package: ModelPackage, ground: Path) -> None:
    start = ModelPackage.open(ground / "model")
    assert package.preparation == start.preparation
    assert package.outputs[0].legend == start.outputs[0].legend
    assert package.architecture == start.architecture
    assert (package.licence, package.tile, package.pixel_size_range_m) == ("MIT", start.tile, start.pixel_size_range_m)
    assert package.training["start"] == f"{start.name} {start.checksum}"


def test_it_has_learned_and_gone_not_far(package: ModelPackage, ground: Path) -> None:
    before, after = (load(one.weights) for one in (ModelPackage.open(ground / "model"), package))
    moved = [float((after[name] - before[name]).abs().max()) for name in before if before[name].is_floating_point()]
    assert 0 < max(moved) < 0.05
    kept = [name for name in before if name.endswith("running_mean")]
    assert kept
    assert all(torch.equal(before[name], after[name]) for name in kept)


def test_figures_before_and_after_are_told(package: ModelPackage, ground: Path) -> None:
    report = json.loads(package.read("report.json"))
    assert set(report["before"]) == {"land", "water"}
    (said,) = [note for note in report["notes"] if "held-out pixels of the labels" in note]
    after = report["measures"]["test"]["mean_iou"]
    assert f"is {after:.3f} now" in said
    assert any(note.startswith("Starts from model") for note in report["notes"])


def test_ground_that_was_held_out_is_not_learned_from_and_stays_so(package: ModelPackage, ground: Path) -> None:
    start = ModelPackage.open(ground / "model")
    old, new = (json.loads(one.read("held_out.geojson"))["features"] for one in (start, package))
    assert all(feature in new for feature in old)
    data = looked_at(ground, start=ground / "model")
    blocks = geopandas.GeoDataFrame.from_features(old, crs="EPSG:4326").to_crs("EPSG:32633")
    grid = data.ground.scenes[0].geobox
    barred = rasterize(blocks.geometry, out_shape=grid.shape.yx, transform=grid.affine).astype(bool)
    assert barred.any()
    assert (data.ground.scenes[0].labels[barred] == -1).all()
    assert "labelled pixels lie on ground that the package at the start holds out" in data.left_out
    plain = looked_at(ground)
    assert (plain.ground.scenes[0].labels[barred] != -1).any()


def test_corrections_on_held_out_ground_alone_are_refused(ground: Path, tmp_path: Path) -> None:
    held = geopandas.GeoDataFrame.from_features(
        json.loads(ModelPackage.open(ground / "model").read("held_out.geojson"))["features"], crs="EPSG:4326"
    ).to_crs("EPSG:32633")
    held["class"] = ["land", "water"] * (len(held) // 2) + ["land"] * (len(held) % 2)
    held[["class", "geometry"]].to_file(ground / "held.gpkg")
    with pytest.raises(LabelError, match="all labels lie on ground that the package at the start holds out"):
        train(ground, tmp_path / "new", "held.gpkg")


def test_too_few_corrections_are_learned_from_and_give_no_figure(ground: Path, tmp_path: Path) -> None:
    data = looked_at(ground, start=ground / "model")
    rows, cols = np.nonzero(data.ground.scenes[0].labels != -1)
    draw(ground, [(int(rows[0]), int(cols[0]))], "one.gpkg", side=4)
    made = train(ground, tmp_path / "new", "one.gpkg")
    report = json.loads(made.read("report.json"))
    assert made.figures == ()
    assert report["measures"] == {}
    assert any(note.startswith("Too few labels") for note in report["notes"])
    assert "before" not in report


def test_where_nothing_is_labelled_scores_are_held(ground: Path) -> None:
    module = SupervisedSegmentation(["land", "water"], ["red", "nir", "NDVI"], {"start": ground / "model"})
    image, labels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)), torch.full((2, 32, 32), -1)
    stay, network = Stay(module.network, 2.0), module.network.eval()
    assert stay.loss({"image": image, "labels": labels}, network(image)["classes"]).item() == pytest.approx(0, abs=1e-6)
    logits = network(image)["classes"] + torch.tensor([0.5, 0.0])[:, None, None]
    away = stay.loss({"image": image, "labels": labels}, logits)
    assert away.item() > 1e-3
    start, now = network(image)["classes"].softmax(1), logits.softmax(1)
    by_hand = 2 * (start * (start.log() - now.log())).sum(1).mean()
    assert away.item() == pytest.approx(by_hand.item(), rel=1e-4)
    assert stay.loss({"image": image, "labels": labels * 0}, logits).item() == 0


def test_a_checkpoint_opens_without_the_package(package: ModelPackage, ground: Path) -> None:
    path = ground / "better_training" / "checkpoints" / "last.ckpt"
    module = SupervisedSegmentation.load_from_checkpoint(path, weights_only=True)
    assert module.settings.start is None
    assert module.architecture == package.architecture


def test_settings_are_filled_in_once_and_for_all(ground: Path) -> None:
    start = ModelPackage.open(ground / "model")
    once = with_start(parse(Settings, {"start": str(start.path)}, source="test"), start)
    assert with_start(once, start) == once
    assert (once.learning_rate, once.epochs, once.patience) == (2e-4, 8, 4)
    assert once.encoder == "tu-resnet10t"
    own = with_start(parse(Settings, {"start": str(start.path), "learning_rate": 1e-3}, source="test"), start)
    assert own.learning_rate == 1e-3


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"pretrained": "somewhere"}, "start and pretrained were given"),
        ({"bands": ["red"]}, "brings its own bands; leave bands out"),
        ({"encoder": "resnet18"}, "brings its own encoder"),
        ({"calendar": {"periods": [4, 5]}}, "maps single dates; leave calendar out"),
    ],
)
def test_what_the_package_says_is_not_said_again(ground: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        with_start(parse(Settings, {"start": str(ground / "model")} | changes, source="test"), ModelPackage.open(ground / "model"))


def test_other_channels_than_the_packages_are_refused(ground: Path) -> None:
    with pytest.raises(InputError, match="has the channels red, nir, NDVI; asked for were nir, red"):
        SupervisedSegmentation(["land", "water"], ["nir", "red"], {"start": ground / "model"})


def test_a_package_without_weights_is_refused(ground: Path, tmp_path: Path) -> None:
    threshold_package(tmp_path / "plain")
    with pytest.raises(PackageError, match="holds no weights that could learn on"):
        train(ground, tmp_path / "new", start=str(tmp_path / "plain"))


def test_the_command_refuses_what_the_package_does_not_know(ground: Path, geoseg, tmp_path: Path) -> None:
    strange = geopandas.read_file(ground / "corrections.gpkg")
    strange.loc[0, "class"] = "marsh"
    strange.to_file(tmp_path / "strange.gpkg")
    words = ("train", ground / "scene.tif", "--sensor", "sentinel-2-l1c", "--bands", "red,nir", "-o", "new")
    said = refusal(geoseg, tmp_path, *words, "-s", f"start={ground / 'model'}", "--labels", "strange.gpkg")
    assert "classes that are not in the legend: marsh" in said
    assert "land (10), water (20)" in said
    assert "nowhere" in refusal(geoseg, tmp_path, *words, "-s", "start=nowhere", "--labels", ground / "corrections.gpkg")
