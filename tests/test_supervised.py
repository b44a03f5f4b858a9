"""Learning from labelled scenes: a short training on a small scene, from files to a package."""

from __future__ import annotations

import json
from pathlib import Path

import geopandas
import labelled_ground
import numpy as np
import pytest
import rasterio
from labelled_ground import PROFILE, write_ground
from rasterio.features import rasterize
from shapely.geometry import box

pytest.importorskip("torch")
pytest.importorskip("lightning")

import torch

from geoseg.errors import BandError, InputError, LabelError, PackageError
from geoseg.layers.terrain import with_terrain
from geoseg.models.package import ModelPackage
from geoseg.preprocess.terrain_correction import TerrainCorrection
from geoseg.recipes import _training
from geoseg.recipes._ground import balance, common_legend, plan_preparation
from geoseg.recipes.supervised import Settings, run
from geoseg.runtimes.open_runtime import open_runtime
from geoseg.scene import Scene
from geoseg.scenes.open_scene import open_scene
from geoseg.settings import parse

pytestmark = pytest.mark.usefixtures("one_thread")

QUICK = labelled_ground.QUICK | {"name": "field-water", "licence": "MIT", "indices": ["NDVI"], "batch": 8, "draws": 48}


def settings(**changes: object) -> Settings:
    return parse(Settings, QUICK | changes, source="test")


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_ground(tmp_path_factory.mktemp("ground"))


def scene_of(folder: Path) -> Scene:
    return open_scene(folder / "scene.tif", sensor="sentinel-2-l1c", bands=["red", "nir"])


@pytest.fixture(scope="module")
def package(ground: Path) -> ModelPackage:
    return run(settings(), [scene_of(ground)], [ground / "labels.tif"], ground / "model", accelerator="cpu")


def test_a_short_training_learns_what_can_be_told_apart(package: ModelPackage) -> None:
    figures = {figure.name: figure for figure in package.figures}
    assert figures["mean IoU"].value > 0.8
    assert "not trained on" in figures["mean IoU"].on
    assert figures["IoU of class 20"].by == "labels given by the user"


def test_scores_are_frequencies_on_ground_that_was_held_out(package: ModelPackage, ground: Path, tmp_path: Path) -> None:
    found = json.loads(package.read("report.json"))["calibration"]
    assert package.outputs[0].calibrated
    assert package.outputs[0].temperature == found["value"]
    assert "temperature of" in package.read("report.md").decode()
    assert {figure.name: figure.value for figure in package.figures}["expected calibration error"] == found["after"]
    plain = run(settings(calibrate=False), [scene_of(ground)], [ground / "labels.tif"], tmp_path / "plain", accelerator="cpu")
    assert (plain.outputs[0].calibrated, plain.outputs[0].temperature) == (False, None)


def test_a_temperature_is_found_again_whatever_share_of_the_pixels_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    logits = torch.tensor(generator.normal(0, 2, (8, 3, 32, 32)), dtype=torch.float32)
    drawn = torch.distributions.Categorical(logits=logits.movedim(1, -1)).sample()
    drawn[:, :4] = -1
    batches = [{"image": 2.5 * logits[at : at + 2], "labels": drawn[at : at + 2]} for at in range(0, 8, 2)]

    class Same(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"classes": image}

    for most in (100_000, 3000):
        monkeypatch.setattr(_training, "_MOST_SCORED", most)
        found = _training.temperature_of(Same(), batches, batches, seed=0)
        assert found.value == pytest.approx(2.5, rel=0.1)
        assert found.after < 0.05 < found.before
    assert _training.temperature_of(Same(), [{"image": logits[:1, :, :4, :4], "labels": drawn[:1, :4, :4]}], batches, seed=0) is None


def test_the_package_holds_what_mapping_needs(package: ModelPackage) -> None:
    assert (package.name, package.licence, package.sensors) == ("field-water", "MIT", ("sentinel-2-l1c",))
    assert package.outputs[0].legend.codes == (10, 20)
    assert [channel.name for channel in package.preparation.channels] == ["red", "nir", "NDVI"]
    assert (package.tile, package.stride) == (4 * 32, 8), "a network that looks around only maps in larger tiles than it has learned from"
    assert package.pixel_size_m == pytest.approx(10, rel=0.01)
    west, south, east, north = package.trained_bbox
    assert 14.9 < west < east < 15.1
    assert south < north


def test_onnx_and_torch_give_the_same_scores(package: ModelPackage) -> None:
    images = np.random.default_rng(0).normal(size=(2, 3, 64, 32)).astype(np.float32)
    one, other = (open_runtime(package, name)(images)["classes"] for name in ("onnx", "torch"))
    assert one == pytest.approx(other, abs=1e-5)


def test_the_report_counts_ground_that_was_not_trained_on(package: ModelPackage, ground: Path) -> None:
    report = json.loads(package.read("report.json"))
    for part in ("validation", "test"):
        counted = np.array(report["measures"][part]["confusion"])
        assert counted.sum(axis=1).tolist() == list(report["ground"][part]["pixels"].values())
    assert report["guard_m"] == pytest.approx(40, rel=0.01)
    assert (ground / "model_training" / "report.md").read_text().startswith("# Training of field-water")


def test_statistics_come_from_the_training_blocks_alone(package: ModelPackage, ground: Path) -> None:
    frame = geopandas.read_file(package.read("held_out.geojson").decode())
    assert set(frame["part"]) == {"validation", "test"}
    frame = frame.to_crs("EPSG:32633")
    with rasterio.open(ground / "scene.tif") as file:
        held_out = rasterize(frame.geometry.buffer(20, join_style="mitre"), (192, 192), transform=file.transform) == 1
        red = file.read(1) * 1e-4
    assert package.preparation.channels[0].mean == pytest.approx(red[~held_out].mean(), rel=1e-6)
    assert red.mean() != pytest.approx(red[~held_out].mean(), rel=1e-5)


def test_logs_lie_beside_the_package(package: ModelPackage, ground: Path) -> None:
    folder = ground / "model_training"
    lines = next(folder.glob("csv/*/metrics.csv")).read_text().splitlines()
    assert "val_miou" in lines[0]
    assert list(folder.glob("tensorboard/*/events*"))


def test_training_taken_up_again_goes_on_where_it_stopped(ground: Path, package: ModelPackage, tmp_path: Path, monkeypatch) -> None:
    """Stopped after its second epoch and taken up, it ends with the same network as without a stop."""
    from geoseg.recipes.supervised import SupervisedSegmentation

    def stop(self: SupervisedSegmentation) -> None:
        if self.current_epoch == 2:
            raise RuntimeError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr(SupervisedSegmentation, "on_train_epoch_start", stop)
        with pytest.raises(RuntimeError, match="power cut"):
            run(settings(), [scene_of(ground)], [ground / "labels.tif"], tmp_path / "model", accelerator="cpu")
    assert not (tmp_path / "model").exists()
    with pytest.raises(InputError, match="take it up with --resume"):
        run(settings(), [scene_of(ground)], [ground / "labels.tif"], tmp_path / "model", accelerator="cpu")
    again = run(settings(), [scene_of(ground)], [ground / "labels.tif"], tmp_path / "model", resume=True, accelerator="cpu")
    images = np.random.default_rng(0).normal(size=(1, 3, 32, 32)).astype(np.float32)
    assert open_runtime(again)(images)["classes"] == pytest.approx(open_runtime(package)(images)["classes"], abs=1e-4)


def test_a_checkpoint_that_would_run_code_is_not_unpickled(ground: Path, tmp_path: Path) -> None:
    class Harm:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (open, (str(tmp_path / "harmed"), "w"))

    last = tmp_path / "model_training" / "checkpoints" / "last.ckpt"
    last.parent.mkdir(parents=True)
    torch.save({"state_dict": Harm()}, last)
    with pytest.raises(InputError, match="more than tensors"):
        run(settings(), [scene_of(ground)], [ground / "labels.tif"], tmp_path / "model", resume=True, accelerator="cpu")
    assert not (tmp_path / "harmed").exists()


def test_other_settings_do_not_take_up_a_training(ground: Path, package: ModelPackage, tmp_path: Path) -> None:
    folder = tmp_path / "model_training"
    folder.mkdir()
    (folder / "settings.json").write_text((ground / "model_training" / "settings.json").read_text())
    with pytest.raises(InputError, match="other settings"):
        run(settings(seed=1), [scene_of(ground)], [ground / "labels.tif"], tmp_path / "model", resume=True)


def test_a_package_that_exists_is_not_overwritten(ground: Path, package: ModelPackage) -> None:
    with pytest.raises(PackageError, match="exists already"):
        run(settings(), [scene_of(ground)], [ground / "labels.tif"], ground / "model")


def test_unknown_settings_are_answered_with_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean 'patience'"):
        settings(patiense=3)


@pytest.mark.parametrize(("changes", "message"), [({"tile": 36}, "multiple of 8"), ({"tile": 64}, "no window has room")])
def test_tiles_that_do_not_fit_are_refused(ground: Path, tmp_path: Path, changes: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        run(settings(**changes), [scene_of(ground)], [ground / "labels.tif"], tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_labels_that_cannot_be_used_leave_nothing_behind(ground: Path, tmp_path: Path) -> None:
    labels, far = tmp_path / "labels.gpkg", box(900_000, 4_999_000, 900_500, 5_000_000)
    geopandas.GeoDataFrame({"class": ["water", "land"]}, geometry=[far, far], crs="EPSG:32633").to_file(labels)
    with pytest.raises(LabelError, match="km away"):
        run(settings(), [scene_of(ground)], [labels], tmp_path / "model")
    assert list(tmp_path.iterdir()) == [labels]


def test_polygons_of_each_class_are_enough_to_learn_from(ground: Path, tmp_path: Path) -> None:
    stripes = [box(500_000 + 480 * i, 4_998_080, 500_240 + 480 * i, 5_000_000) for i in range(4)]
    frame = geopandas.GeoDataFrame({"class": ["left", "right"] * 2}, geometry=stripes, crs="EPSG:32633")
    frame.to_file(tmp_path / "labels.gpkg")
    few = settings(epochs=1, draws=8)
    package = run(few, [scene_of(ground)] * 2, [tmp_path / "labels.gpkg"], tmp_path / "model.zip", accelerator="cpu")
    assert package.outputs[0].legend.names == ("left", "right")
    assert (tmp_path / "model_training" / "report.json").exists()


def test_labels_of_one_class_only_are_refused(tmp_path: Path) -> None:
    polygon = box(500_000, 4_999_000, 500_500, 5_000_000)
    geopandas.GeoDataFrame({"class": ["water"]}, geometry=[polygon], crs="EPSG:32633").to_file(tmp_path / "labels.gpkg")
    with pytest.raises(LabelError, match="only the class 'water'"):
        common_legend([tmp_path / "labels.gpkg"], None)


def test_all_bands_are_taken_where_none_is_named(ground: Path) -> None:
    preparation = plan_preparation(scene_of(ground), (), ("NDVI",))
    assert [need.role for need in preparation.bands] == ["red", "nir"]
    assert [channel.kind for channel in preparation.channels] == ["band", "band", "index"]


def test_a_terrain_correction_is_said_by_name_and_a_terrain_model_is_no_input_unless_named(ground: Path, tmp_path: Path) -> None:
    with rasterio.open(tmp_path / "dem.tif", "w", count=1, dtype="float32", **PROFILE) as file:
        file.write(np.random.default_rng(0).random((1, PROFILE["height"], PROFILE["width"])).astype(np.float32))
    hilly = with_terrain(scene_of(ground), tmp_path / "dem.tif")
    told = parse(Settings, {"terrain_correction": "c"}, source="--set").terrain_correction
    preparation = plan_preparation(hilly, (), (), told)
    assert preparation.terrain_correction == TerrainCorrection(method="c")
    assert [need.role for need in preparation.bands] == ["red", "nir"]
    assert plan_preparation(hilly, ("nir", "slope"), ()).terrain_correction is None
    with pytest.raises(InputError, match="at terrain_correction"):
        parse(Settings, {"terrain_correction": "minnaert"}, source="--set")


def test_weights_are_one_in_the_mean_and_greater_for_the_rare() -> None:
    pixels = np.array([9000, 1000, 0])
    weights = balance(pixels)
    assert (weights * pixels).sum() / pixels.sum() == pytest.approx(1)
    assert weights[1] / weights[0] == pytest.approx(3)
    assert weights[2] == 0


def radar_scene(folder: Path, letters: str = "gpuned") -> Scene:
    path = folder / f"S1A_IW_20180128T161201_DVP_RTC30_G_{letters}_FD6A_VV.tif"
    with rasterio.open(path, "w", count=1, dtype="float32", **PROFILE) as file:
        file.write(np.random.default_rng(0).gamma(4, 0.01, (1, PROFILE["height"], PROFILE["width"])).astype(np.float32))
    return open_scene(path)


@pytest.mark.parametrize(
    ("said", "size", "looks"), [("lee", 5, 1.0), ("refined_lee", 7, 1.0), ({"method": "lee", "size": 9, "looks": 4.4}, 9, 4.4)]
)
def test_a_speckle_filter_is_said_by_name_or_in_full(tmp_path: Path, said: object, size: int, looks: float) -> None:
    told = parse(Settings, {"despeckle": said}, source="--set").despeckle
    preparation = plan_preparation(radar_scene(tmp_path), ["vv"], [], despeckle=told)
    assert preparation.despeckle is not None
    assert (preparation.despeckle.size, preparation.despeckle.looks) == (size, looks)
    assert plan_preparation(radar_scene(tmp_path), ["vv"], []).despeckle is None


def test_radar_is_filtered_by_lee_where_nothing_is_said_unless_it_was_before(ground: Path, tmp_path: Path) -> None:
    auto = parse(Settings, {}, source="--set").despeckle
    plans = [
        plan_preparation(scene, bands, [], despeckle=auto).despeckle
        for scene, bands in ((radar_scene(tmp_path), ["vv"]), (radar_scene(tmp_path, "gpufed"), ["vv"]), (scene_of(ground), ["red", "nir"]))
    ]
    assert [plan and plan.method for plan in plans] == ["lee", None, None]
    assert parse(Settings, {"despeckle": None}, source="--set").despeckle is None


@pytest.mark.parametrize("said", ["median", {"method": "lee", "size": 4}, {"size": 5}])
def test_a_speckle_filter_that_nobody_knows_is_refused(said: object) -> None:
    with pytest.raises(InputError, match="at despeckle"):
        parse(Settings, {"despeckle": said}, source="--set")


def test_a_speckle_filter_needs_radar_and_says_where_it_is_not_the_first(ground: Path, tmp_path: Path, caplog) -> None:
    told = parse(Settings, {"despeckle": "lee"}, source="--set").despeckle
    with pytest.raises(BandError, match="despeckle: lee is for radar, and the network reads red, nir"):
        plan_preparation(scene_of(ground), ["red", "nir"], [], despeckle=told)
    plan_preparation(radar_scene(tmp_path), ["vv"], [], despeckle=told)
    assert not caplog.records
    plan_preparation(radar_scene(tmp_path, "gpufed"), ["vv"], [], despeckle=told)
    assert "already filtered by enhanced Lee; lee smooths it again" in caplog.text


def test_the_report_says_what_a_forest_does_on_the_same_ground(package: ModelPackage) -> None:
    pytest.importorskip("sklearn")
    report = json.loads(package.read("report.json"))
    assert report["pixel_forest"].keys() == report["measures"]["test"]["classes"].keys()
    pixels = {name: row["pixels"] for name, row in report["pixel_forest"].items()}
    assert pixels == {name: row["pixels"] for name, row in report["measures"]["test"]["classes"].items()}
    assert any("random forest on single pixels" in said for said in report["notes"])
