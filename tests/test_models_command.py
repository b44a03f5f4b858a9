"""`geoseg models`: list, info, fetch; what cannot be fetched is refused in one sentence before anything is written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import Ran, refusal
from failing_server import serving

pytest.importorskip("torch")
pytest.importorskip("timm")

import timm
import torch
from safetensors.torch import load, load_file, save_file

from geoseg.backbones.published import published_models
from geoseg.commands import models as command
from geoseg.io import download
from geoseg.models.encoder_network import open_backbone
from geoseg.models.encoders import Encoder, is_encoder
from geoseg.models.published_encoder import weights_path
from geoseg.models.states import read_state

NAME = "efficientnet-lite0"
RESTRICTED = next(name for name, model in published_models().items() if model.restriction and model.family is not None)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file in the layout of timm's EfficientNet-Lite0, with its head, in random numbers."""
    path = tmp_path_factory.mktemp("weights") / "lite0.safetensors"
    torch.manual_seed(0)
    save_file(timm.create_model("tf_efficientnet_lite0", pretrained=False).state_dict(), path)
    return path


@pytest.fixture(autouse=True)
def folder_of_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty place for what is downloaded."""
    monkeypatch.setenv("GEOSEG_DATA", str(tmp_path / "fetched"))
    return tmp_path / "fetched"


def test_the_table_says_status_licence_pixel_size_and_bands(geoseg: Callable[..., Ran]) -> None:
    ran = geoseg("models", "list")
    lines = {line.split()[0]: line for line in ran.out.splitlines()}
    assert ran.code == 0
    assert set(lines) == {"network", *published_models()}
    assert lines[NAME].split() == [NAME, "run", "on", "real", "weights", "Apache-2.0", "1", "m", "17", "MB", "red,", "green,", "blue"]
    assert f"{published_models()[RESTRICTED].licence}*" in lines[RESTRICTED]


def test_the_list_can_be_narrowed_and_read_by_programs(geoseg: Callable[..., Ran]) -> None:
    found = [json.loads(line)["summary"] for line in geoseg("models", "list", "lite0", "--json").out.splitlines()]
    assert [(one["name"], one["status"]) for one in found] == [(NAME, "run on real weights")]
    nothing = geoseg("models", "list", "qqqq")
    assert (nothing.out, nothing.code) == ("", 0)
    assert "no published network has 'qqqq' in its name" in nothing.err


def test_all_holds_what_libraries_list(geoseg: Callable[..., Ran]) -> None:
    pytest.importorskip("torchgeo")
    out = geoseg("models", "list", "--all", "lite0").out
    assert "timm:efficientnet_lite0.ra_in1k" in out
    assert "torchgeo:ResNet18_Weights.SENTINEL2_ALL_MOCO" in geoseg("models", "list", "--all", "resnet18_weights").out


def test_info_tells_a_network_an_encoder_and_a_package(geoseg: Callable[..., Ran], place: Path, weights: Path) -> None:
    assert geoseg("models", "fetch", NAME, "--file", weights, "-o", "encoder").code == 0
    network, encoder, package = (geoseg("models", "info", name).out for name in (NAME, "encoder", "model"))
    assert "tried    run on real weights" in network
    assert "red          red            - 1                   127        128" in network
    assert "licence    Apache-2.0" in encoder
    assert "288 of 288 tensors match" in encoder
    assert package.startswith("# ")
    assert json.loads(geoseg("models", "info", "encoder", "--json").out)["summary"]["architecture"]["family"] == "timm_features"


def test_fetch_makes_an_encoder_and_names_every_tensor(geoseg: Callable[..., Ran], place: Path, weights: Path) -> None:
    ran = geoseg("models", "fetch", NAME, "--file", weights, "--bands", "blue,red", "-o", "encoder")
    encoder = Encoder.open(place / "encoder")
    assert ran.code == 0
    assert "unexpected classifier.bias" not in ran.out  # a head is no news
    assert "unexpected conv_head.weight" in ran.out
    assert "reshaped   conv_stem.weight" in ran.out
    assert "is not the published file byte by byte" in ran.err
    assert encoder.roles == ("blue", "red")
    assert [(one.name, one.mean, one.std) for one in encoder.preparation.channels] == [("blue", 127, 128), ("red", 127, 128)]
    kernels = load(encoder.weights)["network.conv_stem.weight"]
    assert torch.equal(kernels, load_file(weights)["conv_stem.weight"][:, [2, 0]])
    assert open_backbone(encoder).channels == (16, 24, 40, 112, 320)


def test_programs_get_all_names(geoseg: Callable[..., Ran], place: Path, weights: Path) -> None:
    said = json.loads(geoseg("models", "fetch", NAME, "--file", weights, "-o", "encoder.zip", "--json").out)
    assert len(said["summary"]["keys"]["matched"]) == 288
    assert said["summary"]["licence"] == "Apache-2.0"
    assert is_encoder(place / "encoder.zip")
    assert Encoder.open(said["files"]["encoder"]).roles == ("red", "green", "blue")


def test_what_was_downloaded_before_is_not_downloaded_again(geoseg: Callable[..., Ran], place: Path, weights: Path) -> None:
    path = weights_path(published_models()[NAME])
    path.parent.mkdir(parents=True)
    torch.save(load_file(weights), path)
    assert geoseg("models", "fetch", NAME, "-o", "encoder").code == 0  # tests have no network


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["efficentnet-lite0"], "there is no published network 'efficentnet-lite0'; did you mean efficientnet-lite0?"),
        ([NAME, "--bands", "red,nir"], "efficientnet-lite0 has no band 'nir'; it reads red, green, blue"),
        ([NAME, "--bands", "red,red"], "one stands twice"),
        ([NAME, "--file", "nowhere.pth"], "no such file: nowhere.pth; give a file of weights"),
        ([NAME, "--file", "half.safetensors"], "half.safetensors cannot be read as tensors"),
        ([NAME, "--file", "half.pth"], "half.pth cannot be read as tensors"),
        ([NAME, "--file", "code.pth"], "code.pth cannot be read as tensors"),
        ([NAME, "--file", "numbers.pth"], "numbers.pth holds something else than named tensors"),
        ([NAME, "--file", "scene.tif"], "scene.tif cannot be read as tensors"),
        ([NAME, "--file", "resnet.safetensors"], "has no conv_stem.weight, the kernels that see the image"),
        ([RESTRICTED, "--file", "half.pth"], "Add --accept-licence where you accept it"),
        ([RESTRICTED, "--accept-licence", "--file", "half.pth"], "half.pth cannot be read as tensors"),
        (["csmask-l1c", "--file", "half.pth"], "leave out --file"),
    ],
)
def test_what_cannot_be_fetched_is_refused(geoseg: Callable[..., Ran], place: Path, weights: Path, words: list[str], said: str) -> None:
    whole = weights.read_bytes()
    (place / "half.safetensors").write_bytes(whole[: len(whole) // 2])
    torch.save(load_file(weights), place / "whole.pth")
    whole = (place / "whole.pth").read_bytes()
    (place / "half.pth").write_bytes(whole[: len(whole) // 2])
    torch.save({"weights": print}, place / "code.pth")
    torch.save({"epoch": 3}, place / "numbers.pth")
    save_file(timm.create_model("test_resnet", pretrained=False).state_dict(), place / "resnet.safetensors")
    assert said in refusal(geoseg, place, "models", "fetch", *words, "-o", "encoder")


@pytest.mark.enable_socket
def test_half_a_download_is_no_encoder_and_goes_on_later(
    geoseg: Callable[..., Ran], place: Path, weights: Path, folder_of_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "_FIRST_PAUSE_S", 0.0)
    with serving(weights.parent) as server:
        address = server.path(weights.name).removeprefix("/vsicurl/")
        for name in (NAME, "other"):
            sha256 = hashlib.sha256(weights.read_bytes()).hexdigest() if name == NAME else "0" * 64
            changed = published_models()[NAME].model_copy(update={"name": name, "address": address, "sha256": sha256})
            monkeypatch.setitem(published_models(), name, changed)
        server.fail(5, "drop")
        broken = geoseg("models", "fetch", NAME, "-o", "encoder")
        assert broken.code == 1
        assert "check the connection, and run the command again to go on" in broken.err
        assert not (place / "encoder").exists()
        assert geoseg("models", "fetch", NAME, "-o", "encoder").code == 0
        wrong = geoseg("models", "fetch", "other", "-o", "wrong")
    assert wrong.code == 2
    assert "it is damaged, or not the file that was meant" in wrong.err
    assert not (place / "wrong").exists()
    assert [path.name for path in folder_of_data.rglob("*") if path.is_file()] == [weights.name]


def test_a_place_that_is_taken_is_refused_before_anything_is_fetched(geoseg: Callable[..., Ran], place: Path) -> None:
    (place / "taken").mkdir()
    assert "taken exists already" in refusal(geoseg, place, "models", "fetch", NAME, "-o", "taken")


def test_a_network_without_a_converter_is_listed_only(geoseg: Callable[..., Ran], place: Path) -> None:
    pytest.importorskip("torchgeo")
    said = refusal(geoseg, place, "models", "fetch", "torchgeo:Swin_V2_B_Weights.NAIP_RGB_MI_SATLAS", "--accept-licence", "-o", "encoder")
    assert "is listed only: geoseg has no network for its weights, which lie at https://" in said


def test_states_within_states_and_wrappers_are_read(tmp_path: Path) -> None:
    one, two = torch.ones(2), torch.zeros(3)
    torch.save({"state_dict": {"a": one}, "epoch": 3, "optimizer": {"lr": 0.1}}, tmp_path / "lightning.ckpt")
    torch.save({"s1": {"b": one}, "s2": {"c": {"d": two}}}, tmp_path / "nested.pt")
    assert list(read_state(tmp_path / "lightning.ckpt")) == ["a"]
    assert list(read_state(tmp_path / "nested.pt")) == ["s1.b", "s2.c.d"]


def test_the_lists_of_the_command_hold_no_name_twice() -> None:
    assert not set(command.CSMASK) & set(published_models())
