"""What learns of an encoder: little matrices beside it that are merged in the end, its last blocks, or nothing of it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import refusal
from labelled_ground import QUICK, write_ground

pytest.importorskip("torch")
pytest.importorskip("lightning")
pytest.importorskip("timm")
pytest.importorskip("peft")

import lightning
import torch
from safetensors.torch import load, save_file

from geoseg.errors import InputError, MissingExtraError, PackageError
from geoseg.models.encoders import Encoder
from geoseg.models.package import ModelPackage
from geoseg.models.segmenter import Segmenter, build_network
from geoseg.recipes import _trainer, masked_pretraining
from geoseg.recipes._fine_tuning import add_adapter, find_targets, freeze, merge_adapters
from geoseg.recipes._settings import Adapter, Settings
from geoseg.recipes.datamodule import ScenesDataModule
from geoseg.recipes.modules import SupervisedSegmentation
from geoseg.recipes.supervised import run
from geoseg.runtimes.open_runtime import open_runtime
from geoseg.scenes.open_scene import open_scene
from geoseg.settings import parse

pytestmark = pytest.mark.usefixtures("one_thread")

OPENING = {"sensor": "sentinel-2-l1c", "bands": ["red", "nir"]}
FROM_LABELS = {key: value for key, value in QUICK.items() if key not in ("encoder", "network")} | {
    "network": {"features": 16},
    "compare": "none",
    "pictures": 0,
    "epochs": 2,
}
VIT = {"family": "vit.Pyramid", "in_channels": 2, "classes": 2, "depth": 2, "features": 16}
SAR = {"family": "crossearth_sar.Pyramid", "in_channels": 1, "classes": 2, "size": "tiny", "patch": 8, "depth": 2, "experts": 2}
DINOV2 = {"family": "dinov2_vit", "depth": 2, "grid": 4}
PUBLISHED = {"family": "encoder.Segmenter", "in_channels": 2, "classes": 2, "backbone": DINOV2, "roles": ["red", "nir"], "features": 16}


def network_of(architecture: dict[str, Any]) -> Segmenter:
    torch.manual_seed(0)
    network = build_network(architecture).eval()
    for name, parameter in network.named_parameters():
        if name.endswith("gamma"):  # blocks begin by counting next to nothing
            parameter.data.fill_(0.5)
    return network


def logits(network: Segmenter, channels: int) -> torch.Tensor:
    with torch.inference_mode():
        scores: torch.Tensor = network(torch.randn(2, channels, 32, 32, generator=torch.Generator().manual_seed(1)))["classes"]
    return scores


def learn_something(network: Segmenter) -> None:
    """Give each number of the adapters another value."""
    generator = torch.Generator().manual_seed(2)
    for parameter in network.network.encoder.parameters():
        if parameter.requires_grad:
            parameter.data += 0.5 * torch.randn(parameter.shape, generator=generator)


# ---------------------------------------------------------------- laws


@pytest.mark.parametrize("architecture", [VIT, SAR, PUBLISHED])
@pytest.mark.parametrize("method", ["lora", "dora", "ia3"])
def test_it_begins_as_the_encoder_and_ends_as_one(architecture: dict[str, Any], method: str) -> None:
    network, channels = network_of(architecture), architecture["in_channels"]
    names, before = list(network.state_dict()), logits(network, channels)
    add_adapter(network, Adapter(method=method))
    begun = logits(network, channels)
    assert torch.equal(begun, before) if method == "lora" else torch.allclose(begun, before, atol=1e-6)
    learn_something(network)
    beside = logits(network, channels)
    assert (beside - before).abs().max() > 1e-4, "what it learns has a say"
    merge_adapters(network)
    assert (logits(network, channels) - beside).abs().max() < 1e-5
    assert list(network.state_dict()) == names, "an ordinary network, by its own names"
    assert all(type(module) is torch.nn.Linear for name, module in network.named_modules() if name.endswith("attn.qkv"))


@pytest.mark.parametrize(
    ("architecture", "targets", "layers"),
    [(VIT, None, ["qkv", "proj"]), (VIT, ("qkv", "mlp.fc1"), ["qkv", "fc1"]), (SAR, ("fc1", "fc2"), ["fc1", "fc2"] * 2)],
)
def test_lora_learns_rank_times_inputs_and_outputs(
    architecture: dict[str, Any], targets: tuple[str, ...] | None, layers: list[str]
) -> None:
    network = network_of(architecture)
    add_adapter(network, Adapter(rank=3, targets=targets))
    sizes = {"qkv": 192 + 3 * 192, "proj": 192 + 192, "fc1": 192 + 4 * 192, "fc2": 4 * 192 + 192}
    expected = sum(3 * sizes[layer] for layer in layers) * architecture["depth"]
    learned = {name: parameter.numel() for name, parameter in network.named_parameters() if parameter.requires_grad}
    beside = {name: count for name, count in learned.items() if name.startswith("network.encoder.")}
    assert sum(beside.values()) == expected
    assert all("lora_" in name for name in beside)
    assert any(name.startswith("network.decoder.") for name in learned), "the decoder learns as ever"


def test_targets_that_are_not_there_are_refused() -> None:
    encoder = network_of(VIT).network.encoder
    with pytest.raises(PackageError, match=r"no linear layer of query; it has attn.qkv, attn.proj, mlp.fc1, mlp.fc2"):
        find_targets(encoder, ("qkv", "query"))
    with pytest.raises(PackageError, match="no linear layer of kv"):
        find_targets(encoder, ("kv",))  # whole parts of names only
    attention = torch.nn.MultiheadAttention(8, 2)  # takes the weights of its last layer without calling it
    assert find_targets(torch.nn.ModuleDict({"attn": attention, "to_out": torch.nn.Linear(8, 8)}), None) == ["to_out"]
    with pytest.raises(PackageError, match="no linear layer of attention; it has none"):
        find_targets(build_network({"family": "smp.Unet", "encoder": "resnet18", "in_channels": 2, "classes": 2}).network.encoder, None)


def test_without_peft_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'geoseg\[adapters\]'"):
        add_adapter(network_of(VIT), Adapter())


@pytest.mark.parametrize(("count", "left"), [(1, ["embed", "blocks.0"]), (2, ["embed", "blocks.0", "blocks.1"])])
def test_first_blocks_can_be_left_alone(count: int, left: list[str]) -> None:
    network = network_of(VIT).train()
    freeze(network, count)
    for name, parameter in network.network.encoder.named_parameters():
        assert parameter.requires_grad != name.startswith(tuple(left)), name
    blocks = network.network.encoder.blocks
    assert [block.training for block in blocks] == [number >= count for number in range(2)]
    assert all(parameter.requires_grad for parameter in network.network.decoder.parameters())


def test_more_blocks_than_there_are_cannot_be_left_alone() -> None:
    with pytest.raises(PackageError, match="freeze: 3 blocks, and the encoder has 2"):
        freeze(network_of(VIT), 3)
    with pytest.raises(PackageError, match="freeze: this network has no encoder"):
        freeze(build_network({"family": "autoice.UNet", "in_channels": 2, "classes": 2}), True)


# ---------------------------------------------------------------- trainings


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_ground(tmp_path_factory.mktemp("ground"))


@pytest.fixture(scope="module")
def encoder(ground: Path) -> Encoder:
    words = {"depth": 2, "tile": 32, "batch": 4, "draws": 8, "epochs": 1, "bands": ["red", "nir"]}
    scene = open_scene(ground / "scene.tif", **OPENING)
    return masked_pretraining.run(parse(masked_pretraining.Settings, words, source="test"), [scene], ground / "encoder", accelerator="cpu")


def train(ground: Path, out: Path, changes: dict[str, Any]) -> ModelPackage:
    words = parse(Settings, FROM_LABELS | changes, source="test")
    return run(words, [open_scene(ground / "scene.tif", **OPENING)], [ground / "labels.tif"], out, accelerator="cpu")


def test_a_package_learned_with_lora_is_one_like_any_other(ground: Path, encoder: Encoder, tmp_path: Path, monkeypatch) -> None:
    package = train(ground, tmp_path / "model", {"pretrained": str(encoder.path), "adapter": {"rank": 4, "targets": ["attn.qkv"]}})
    made, before = load(package.weights), load(encoder.weights)
    changed = {name for name, tensor in before.items() if not torch.equal(made[f"network.encoder.{name}"], tensor)}
    assert changed == {f"blocks.{number}.attn.qkv.weight" for number in range(2)}
    assert not any("lora" in name for name in made)
    notes = json.loads(package.read("report.json"))["notes"]
    assert any("lora of rank 4 beside 2 layers: 6,144 numbers" in note for note in notes)
    monkeypatch.setitem(sys.modules, "peft", None)
    images = np.random.default_rng(0).normal(size=(2, 2, 64, 32)).astype(np.float32)
    one, other = (open_runtime(package, name)(images)["classes"] for name in ("onnx", "torch"))
    assert one == pytest.approx(other, abs=1e-5)


@pytest.mark.parametrize("how", [1, True, False])
def test_what_is_left_alone_stays_the_same_in_every_bit(ground: Path, encoder: Encoder, tmp_path: Path, how: bool | int) -> None:
    package = train(ground, tmp_path / "model", {"pretrained": str(encoder.path), "freeze": how, "epochs": 1})
    made, before = load(package.weights), load(encoder.weights)
    same = {name for name, tensor in before.items() if torch.equal(made[f"network.encoder.{name}"], tensor)}
    expected = {name for name in before if how is True or (how == 1 and name.startswith(("embed.", "blocks.0.")))}
    assert same == expected


@pytest.mark.parametrize("how", [True, False])
def test_statistics_of_an_encoder_that_is_left_alone_stay_as_they_are(ground: Path, tmp_path: Path, how: bool) -> None:
    torch.manual_seed(7)
    sizes = {"encoder": "tu-resnet10t", "encoder_depth": 3, "decoder_channels": [8, 8, 8]}
    state = build_network({"family": "smp.Unet", "in_channels": 3, "classes": 2, **sizes}).network.encoder.state_dict()
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, tmp_path / "weights.safetensors")
    changes = {"encoder": "tu-resnet10t", "network": QUICK["network"], "encoder_weights": str(tmp_path / "weights.safetensors")}
    made = load(train(ground, tmp_path / "model", {**changes, "freeze": how, "epochs": 1}).weights)
    means = [name for name in state if name.endswith("running_mean")]
    assert means
    assert all(torch.equal(made[f"network.encoder.{name}"], state[name]) for name in means) == how


def test_a_training_taken_up_again_has_the_same_adapters(ground: Path, encoder: Encoder, tmp_path: Path, monkeypatch) -> None:
    def fitted(folder: Path, *, resume: bool = False) -> dict[str, torch.Tensor]:
        lightning.seed_everything(0, verbose=False)
        words = FROM_LABELS | {"pretrained": str(encoder.path), "adapter": "lora", "layer_decay": 0.5, "ema": None}
        data = ScenesDataModule([ground / "scene.tif"], [ground / "labels.tif"], words, opening=OPENING)
        module = SupervisedSegmentation(["land", "water"], ["red", "nir"], words)
        _trainer.fit(module, data, folder, resume=resume, accelerator="cpu")
        state: dict[str, torch.Tensor] = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        return state

    def stop(self: SupervisedSegmentation, *_: Any) -> None:
        if self.current_epoch == 1:
            raise RuntimeError("power cut")

    whole = fitted(tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(SupervisedSegmentation, "on_train_batch_end", stop)
        with pytest.raises(RuntimeError, match="power cut"):
            fitted(tmp_path / "halves")
    half = torch.load(tmp_path / "halves" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    halves = fitted(tmp_path / "halves", resume=True)
    adapters = [name for name in whole if "lora_B" in name]
    assert len(adapters) == 4
    assert all(torch.equal(tensor, halves[name]) for name, tensor in whole.items())
    assert all(not torch.equal(whole[name], half[name]) for name in adapters), "the second epoch teaches them something"
    module = SupervisedSegmentation.load_from_checkpoint(tmp_path / "halves" / "checkpoints" / "last.ckpt", weights_only=True)
    assert torch.equal(module.state_dict()[adapters[0]], halves[adapters[0]])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["-s", "adapter=lora"], "name one with pretrained, encoder_weights or start"),
        (["-s", "pretrained=ENCODER", "-s", "adapter=prefix"], "'lora', 'dora' or 'ia3'"),
        (["-s", "pretrained=ENCODER", "-s", "adapter={rang: 8}"], "did you mean 'rank'?"),
        (["-s", "pretrained=ENCODER", "-s", "adapter={targets: [query]}"], "no linear layer of query"),
        (["-s", "pretrained=ENCODER", "-s", "adapter=lora", "-s", "freeze=true"], "leave freeze out"),
        (["-s", "pretrained=ENCODER", "-s", "freeze=7"], "freeze: 7 blocks, and the encoder has 2"),
    ],
)
def test_nonsense_is_refused(ground: Path, encoder: Encoder, geoseg, tmp_path: Path, words: list[str], says: str) -> None:
    words = [word.replace("ENCODER", str(encoder.path)) for word in words] + ["-s", "tile=32", "-s", "block=48", "-s", "guard=4"]
    scene = (ground / "scene.tif", "--sensor", "sentinel-2-l1c", "--bands", "red,nir", "--labels", ground / "labels.tif")
    assert says in refusal(geoseg, tmp_path, "train", *scene, "-o", "new", *words)


def test_a_name_alone_is_a_method_with_its_usual_options() -> None:
    assert Settings(adapter="dora").adapter == Adapter(method="dora")
    with pytest.raises(InputError, match="rank"):
        parse(Settings, {"adapter": {"rank": 0}}, source="test")
