"""How a training runs, stops, goes on and is watched."""

from __future__ import annotations

import io
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from labelled_ground import QUICK, write_ground

pytest.importorskip("torch")
pytest.importorskip("lightning")

import lightning
import torch
from PIL import Image

from geoseg.data.pictures import draw_patches
from geoseg.data.samplers import EpochSampler
from geoseg.data.windows import UNLABELLED
from geoseg.errors import InputError
from geoseg.legend import Legend
from geoseg.recipes import _trainer, learning_rate
from geoseg.recipes._settings import Settings
from geoseg.recipes._trainer import check_precision
from geoseg.recipes.datamodule import ScenesDataModule
from geoseg.recipes.ema import AveragedWeights
from geoseg.recipes.modules import SupervisedSegmentation
from geoseg.recipes.supervised import run
from geoseg.scenes.open_scene import open_scene
from geoseg.settings import parse

pytestmark = pytest.mark.usefixtures("one_thread")

OPENING = {"sensor": "sentinel-2-l1c", "bands": ["red", "nir"]}


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_ground(tmp_path_factory.mktemp("ground"))


def settings(**changes: Any) -> Settings:
    return parse(Settings, QUICK | changes, source="test")


def train(ground: Path, out: Path, changes: dict[str, Any], **options: Any) -> Any:
    scene = open_scene(ground / "scene.tif", **OPENING)
    return run(settings(**changes), [scene], [ground / "labels.tif"], out, accelerator="cpu", **options)


def checkpoint(out: Path, name: str = "last") -> dict[str, Any]:
    found: dict[str, Any] = torch.load(out.with_name(f"{out.name}_training") / "checkpoints" / f"{name}.ckpt", weights_only=True)
    return found


# ---------------------------------------------------------------- taken up again


def fitted(ground: Path, folder: Path, changes: dict[str, Any], *, resume: bool = False) -> dict[str, Any]:
    """The last checkpoint of a training that is left unpacked."""
    lightning.seed_everything(0, verbose=False)
    data = ScenesDataModule([ground / "scene.tif"], [ground / "labels.tif"], QUICK | changes, opening=OPENING)
    module = SupervisedSegmentation(["land", "water"], ["red", "nir"], QUICK | changes)
    _trainer.fit(module, data, folder, resume=resume, accelerator="cpu")
    found: dict[str, Any] = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    return found


FPN = {"encoder_depth": 3, "decoder_pyramid_channels": 8, "decoder_segmentation_channels": 32, "decoder_dropout": 0.5, "upsampling": 1}


@pytest.mark.parametrize(
    "changes", [{"ema": 0.9, "schedule": "cosine", "accumulate": 2}, {"family": "smp.FPN", "network": FPN}, {"hard": 0.5}]
)
def test_a_training_taken_up_again_ends_with_the_same_bits(
    ground: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    """Also the mean of the weights, and what dropout draws; the second epoch is no better than the first, and counts all the same."""

    def stop(self: SupervisedSegmentation, *_: Any) -> None:
        if self.current_epoch == 2:
            raise RuntimeError("power cut")

    monkeypatch.setattr(SupervisedSegmentation, "on_validation_epoch_end", _never_better)
    whole = fitted(ground, tmp_path / "whole", changes)
    with monkeypatch.context() as patch:
        patch.setattr(SupervisedSegmentation, "on_train_batch_end", stop)
        with pytest.raises(RuntimeError, match="power cut"):
            fitted(ground, tmp_path / "halves", changes)
    half = torch.load(tmp_path / "halves" / "checkpoints" / "last.ckpt", weights_only=True)
    assert half["epoch"] == 1, "the last epoch that was completed, not the last that was the best"
    halves = fitted(ground, tmp_path / "halves", changes, resume=True)
    assert_same(whole["state_dict"], halves["state_dict"])
    with pytest.raises(AssertionError):
        assert_same(whole["state_dict"], half["state_dict"])
    assert whole["epoch"] == halves["epoch"] == 2
    if "ema" in changes:
        assert_same(*(found["callbacks"]["AveragedWeights"]["average"] for found in (whole, halves)))
        with pytest.raises(AssertionError):
            assert_same(whole["state_dict"], whole["callbacks"]["AveragedWeights"]["average"])


def test_a_training_that_had_stopped_early_learns_no_more_when_it_is_taken_up(ground: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(SupervisedSegmentation, "on_validation_epoch_end", _never_better)
    first = fitted(ground, tmp_path, {"epochs": 5, "patience": 1})
    again = fitted(ground, tmp_path, {"epochs": 5, "patience": 1}, resume=True)
    assert first["epoch"] == again["epoch"] == 1
    assert_same(first["state_dict"], again["state_dict"])


def _never_better(self: SupervisedSegmentation) -> None:
    self.log("val_miou", 0.5 - 0.1 * self.current_epoch)


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    assert [name for name, tensor in one.items() if not torch.equal(tensor, other[name])] == []


# ---------------------------------------------------------------- the mean of the weights


def test_the_mean_is_that_of_its_definition_and_is_judged_and_exported(ground: Path) -> None:
    """Followed step by step beside the trainer; in validation the network holds the mean."""
    mean, seen, by_hand = AveragedWeights(0.8), [], []

    class Beside(lightning.Callback):
        def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
            weight = module.network.network.segmentation_head[0].weight.detach().clone()
            kept = min(0.8, (1 + trainer.global_step) / (10 + trainer.global_step))
            by_hand.append(kept * by_hand[-1] + (1 - kept) * weight)

        def on_validation_epoch_start(self, trainer: Any, module: Any) -> None:
            seen.append(module.network.network.segmentation_head[0].weight.detach().clone())

    data = ScenesDataModule([ground / "scene.tif"], [ground / "labels.tif"], QUICK, opening=OPENING)
    module = SupervisedSegmentation(["land", "water"], ["red", "nir"], QUICK)
    by_hand.append(module.network.network.segmentation_head[0].weight.detach().clone())
    plain_trainer(callbacks=[mean, Beside()], max_epochs=2).fit(module, datamodule=data)
    assert torch.allclose(seen[-1], by_hand[-1], atol=1e-6)
    assert torch.equal(module.network.network.segmentation_head[0].weight, seen[-1])


def plain_trainer(**options: Any) -> lightning.Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    return lightning.Trainer(accelerator="cpu", devices=1, num_sanity_val_steps=0, **quiet | options)


def test_the_package_holds_the_mean_of_the_best_epoch(ground: Path, tmp_path: Path) -> None:
    from safetensors.torch import load

    package = train(ground, tmp_path / "model", {"ema": 0.9})
    weights, best = load(package.read("weights.safetensors")), checkpoint(tmp_path / "model", "best")
    mean = best["callbacks"]["AveragedWeights"]["average"]
    assert_same({f"network.{name}": tensor for name, tensor in weights.items()}, mean)


# ---------------------------------------------------------------- the learning rate


def test_an_automatic_rate_is_tested_once_and_stands_in_the_report(ground: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(learning_rate, "_STEPS", 30)
    package = train(ground, tmp_path / "model", {"learning_rate": "auto", "epochs": 1})
    report, file = json.loads(package.read("report.json")), tmp_path / "model_training" / "learning_rate.json"
    assert report["learning_rate"] == json.loads(file.read_text())["learning_rate"]
    assert any("the loss fell fastest in a test" in note for note in report["notes"])
    monkeypatch.setattr(_trainer, "try_rates", None)  # a second test would fail
    (tmp_path / "model").rename(tmp_path / "away")
    again = train(ground, tmp_path / "model", {"learning_rate": "auto", "epochs": 1}, resume=True)
    assert json.loads(again.read("report.json"))["learning_rate"] == report["learning_rate"]


# ---------------------------------------------------------------- what goes wrong


def test_a_loss_that_is_no_number_is_said_with_its_place_and_leaves_the_last_good_epoch(ground: Path, tmp_path: Path, monkeypatch) -> None:
    step = SupervisedSegmentation.training_step

    def poisoned(self: SupervisedSegmentation, batch: dict[str, torch.Tensor], batch_idx: int) -> torch.Tensor:
        if (self.current_epoch, batch_idx) == (1, 2):
            batch["image"][0, 0, 0, 0] = torch.inf
        return step(self, batch, batch_idx)

    monkeypatch.setattr(SupervisedSegmentation, "training_step", poisoned)
    with pytest.raises(InputError, match=r"the loss is nan in epoch 2, batch 3, at a learning rate of up to 0.01; take a lower"):
        train(ground, tmp_path / "model", {})
    last = checkpoint(tmp_path / "model")
    assert last["epoch"] == 0
    assert all(torch.isfinite(tensor).all() for tensor in last["state_dict"].values())


def test_weights_that_break_in_the_last_step_of_an_epoch_do_not_become_a_checkpoint(ground: Path, tmp_path: Path, monkeypatch) -> None:
    def broken(self: SupervisedSegmentation, outputs: Any, batch: Any, batch_idx: int) -> None:
        if (self.current_epoch, batch_idx) == (1, 3):
            next(self.parameters()).data[:] = torch.nan

    monkeypatch.setattr(SupervisedSegmentation, "on_train_batch_end", broken)
    with pytest.raises(InputError, match="weights are not finite after the last batch of epoch 2"):
        train(ground, tmp_path / "model", {"ema": None})
    assert checkpoint(tmp_path / "model")["epoch"] == 0


def test_a_precision_that_the_device_has_not_is_refused(ground: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(_trainer, "processor_has_bf16", lambda: False)
    with pytest.raises(InputError, match="16-mixed needs a CUDA device"):
        train(ground, tmp_path / "model", {"precision": "16-mixed"})
    with pytest.raises(InputError, match="slower than 32 on this processor"):
        train(ground, tmp_path / "model", {"precision": "bf16-mixed"})
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(_trainer, "processor_has_bf16", lambda: True)
    check_precision("bf16-mixed", "cpu")
    with pytest.raises(InputError, match="at precision"):
        settings(precision="8-mixed")
    assert settings(precision=32).precision == "32"


def test_mixed_precision_trains(ground: Path, tmp_path: Path, monkeypatch) -> None:
    """On a processor without bf16 instructions it is slow, but right."""
    monkeypatch.setattr(_trainer, "processor_has_bf16", lambda: True)
    package = train(ground, tmp_path / "model", {"precision": "bf16-mixed", "epochs": 1, "loss": "cross_entropy_lovasz"})
    assert {figure.name for figure in package.figures} >= {"mean IoU"}


# ---------------------------------------------------------------- what is seen


def test_each_epoch_is_told_with_the_best_so_far(ground: Path, tmp_path: Path) -> None:
    told: list[Any] = []
    package = train(ground, tmp_path / "model", {}, progress=told.append)
    assert [done.epoch for done in told] == [1, 2, 3]
    for place, done in enumerate(told):
        figures = [one.mean_iou for one in told[: place + 1]]
        assert (done.best, done.best_epoch) == (max(figures), figures.index(max(figures)) + 1)
        assert math.isfinite(done.loss)
    assert told[-1].seconds_left == 0 < told[0].seconds_left
    report = json.loads(package.read("report.json"))
    assert f"{told[-1].best:.4f}, in epoch {told[-1].best_epoch} of 3; all epochs are over" in report["notes"][0]
    assert report["measures"]["validation"]["mean_iou"] == pytest.approx(told[-1].best)


def test_the_command_says_a_line_an_epoch_and_how_it_ended(geoseg, place: Path) -> None:
    write_ground(place)
    given = [f"--set={key}={json.dumps(value)}" for key, value in (QUICK | {"epochs": 2}).items()]
    ran = geoseg("train", "scene.tif", "--labels", "labels.tif", "-o", "mine", "--sensor", "sentinel-2-l1c", "--bands", "red,nir", *given)
    assert ran.code == 0, ran.err
    lines = [line for line in ran.err.splitlines() if line.startswith("epoch")]
    assert [line[:14] for line in lines] == ["epoch   1 of 2", "epoch   2 of 2"]
    assert "the best so far" in lines[0]
    assert "Best mean IoU on the validation blocks" in ran.out


def test_the_report_shows_held_out_ground(ground: Path, tmp_path: Path) -> None:
    package = train(ground, tmp_path / "model", {"epochs": 1})
    picture = Image.open(io.BytesIO(package.read("held_out.png")))
    assert picture.width > 3 * 192
    assert (tmp_path / "model_training" / "held_out.png").exists()
    assert "](held_out.png)" in (tmp_path / "model_training" / "report.md").read_text()
    assert "held_out.png" not in train(ground, tmp_path / "bare", {"epochs": 1, "pictures": 0}).checksums


def test_a_picture_shows_image_truth_and_prediction_in_the_legends_colours() -> None:
    legend = Legend.from_names(["land", "water"], ["#00ff00", "#0000ff"])
    labels = np.zeros((1, 4, 4), dtype=np.int64)
    labels[0, :2] = 1
    labels[0, 3] = UNLABELLED
    image = np.zeros((1, 2, 4, 4), dtype=np.float32)
    image[0, 0] = np.linspace(-1, 1, 16).reshape(4, 4)
    drawn = np.asarray(Image.open(io.BytesIO(draw_patches(image, labels, 1 - labels.clip(0), legend, ["vv", "vh"]))))
    panels = [drawn[22 + 48 * row + 24, 8 + 200 * panel + 96].tolist() for panel in range(3) for row in range(4)]
    grey, truth, guess = panels[:4], panels[4:8], panels[8:]
    assert grey == sorted(grey)
    assert all(len(set(pixel)) == 1 for pixel in grey)
    assert truth == [[0, 0, 255], [0, 0, 255], [0, 255, 0], [214, 214, 214]]
    assert guess == [[0, 255, 0], [0, 255, 0], [0, 0, 255], [0, 0, 255]]


# ---------------------------------------------------------------- other networks, other trainers


@pytest.mark.parametrize(
    ("family", "encoder", "network"),
    [
        ("smp.FPN", "tu-mobilenetv3_small_050", {}),
        ("smp.DeepLabV3Plus", "resnet18", {}),
        ("smp.UPerNet", "tu-convnext_atto", {"encoder_depth": 4}),
    ],
)
def test_decoders_and_encoders_go_together_freely(family: str, encoder: str, network: dict[str, Any]) -> None:
    """Three families over three encoders, of smp and of timm: each takes five channels and learns."""
    module = SupervisedSegmentation(
        ["a", "b", "c"], ["red", "nir", "vv", "vh", "NDVI"], {"family": family, "encoder": encoder, "network": network}
    )
    torch.manual_seed(0)
    labels = torch.randint(-1, 3, (2, 2, 2)).repeat_interleave(32, dim=1).repeat_interleave(32, dim=2)
    images = labels.unsqueeze(1) + 0.1 * torch.randn(2, 5, 64, 64)
    optimizer, losses = torch.optim.AdamW(module.parameters(), lr=1e-3), []
    for _ in range(8):
        loss = module.loss(module(images), labels, None)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_weights_given_plainly_are_checked() -> None:
    with pytest.raises(InputError, match="a number of 0 or more for each of a, b"):
        SupervisedSegmentation(["a", "b"], ["red", "nir"], QUICK, class_weights=[1.0])
    with pytest.raises(InputError, match="did you mean 'epochs'"):
        SupervisedSegmentation(["a", "b"], ["red", "nir"], {"epoch": 3})


def test_published_weights_start_a_training_and_the_report_says_how(ground: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    encoder = SupervisedSegmentation(["a", "b"], ["red", "green", "blue"], QUICK).network.network.encoder.state_dict()
    save_file(encoder, tmp_path / "encoder.safetensors")
    package = train(ground, tmp_path / "model", {"epochs": 1, "encoder_weights": str(tmp_path / "encoder.safetensors")})
    assert "red take the kernels of their colours; nir, which these have never seen" in package.read("report.md").decode()


@pytest.mark.parametrize("world", [2, 3])
def test_processes_share_out_every_epoch_without_duplicate_or_hole(world: int) -> None:
    samplers = [EpochSampler(20, rank=rank, world=world) for rank in range(world)]
    drawn = []
    for epoch in range(3):
        for sampler in samplers:
            sampler.set_epoch(epoch)
            drawn += list(sampler)
            assert len(list(sampler)) == len(sampler)
    assert sorted(drawn) == list(range(3 * (20 // world) * world))


def test_lightning_cli_drives_the_modules_from_the_yaml_in_the_documentation(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("jsonargparse")
    from lightning.pytorch.cli import LightningCLI

    write_ground(place)
    config = Path(__file__).resolve().parents[1] / "docs" / "settings" / "lightning_cli.yaml"
    monkeypatch.setattr(sys, "argv", ["train", "fit", "--config", str(config), "--trainer.logger=false"])
    cli = LightningCLI(save_config_callback=None, seed_everything_default=0)
    assert cli.trainer.current_epoch == 2
    assert float(cli.trainer.callback_metrics["val_miou"]) > 0
    best = next(place.glob("**/*.ckpt"))
    again = SupervisedSegmentation.load_from_checkpoint(best, weights_only=True)
    assert again.legend.names == ("land", "water")
