"""Published weights on other channels: hand-made ones, and those of networks made here; nothing is fetched."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("segmentation_models_pytorch")

import torch
from safetensors.torch import save_file

from geoseg.errors import PackageError
from geoseg.models import stems
from geoseg.models.segmenter import build_network
from geoseg.models.stems import adapt_stems, load_encoder

SMALL = {"family": "smp.Unet", "encoder": "tu-resnet10t", "encoder_depth": 3, "decoder_channels": [8, 8, 8], "classes": 2}
RED, GREEN, BLUE = (torch.full((1, 1, 1), value) for value in (1.0, 10.0, 100.0))
STEM = {"stem": torch.stack([RED, GREEN, BLUE], dim=1), "deeper": torch.ones(2, 3)}


def encoder_file(path: Path, architecture: dict[str, object], *, seed: int = 7) -> dict[str, torch.Tensor]:
    """The encoder of a network for red, green and blue, as a file."""
    torch.manual_seed(seed)
    state = build_network({**architecture, "in_channels": 3}).network.encoder.state_dict()
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
    return state


@pytest.mark.parametrize(
    ("channels", "expected"),
    [
        (["red", "green", "blue"], [1, 10, 100]),
        (["blue", "green", "red"], [100, 10, 1]),
        (["nir", "red", "green"], [37, 1, 10]),
        (["vv"], [111]),
        (["vv", "vh"], [55.5, 55.5]),
        (["blue", "green", "red", "nir", "NDVI", "height"], [50, 5, 0.5, 18.5, 18.5, 18.5]),
        (["red@04", "nir@04", "red@05", "nir@05"], [0.75, 27.75, 0.75, 27.75]),
    ],
)
def test_kernels_go_to_the_channels_of_their_role(channels: list[str], expected: list[float]) -> None:
    adapted = adapt_stems(STEM, ["stem"], channels)
    assert adapted["stem"].flatten().tolist() == pytest.approx(expected)
    assert adapted["deeper"] is STEM["deeper"]


def test_nir_red_green_is_not_taken_for_red_green_blue() -> None:
    """The image's red must meet the published red: what a plain copy of the three kernels gets wrong."""
    kernels = {"stem": torch.randn(5, 3, 3, 3, generator=torch.Generator().manual_seed(0))}
    only_red = torch.zeros(1, 3, 9, 9)
    only_red[:, 0] = torch.rand(9, 9, generator=torch.Generator().manual_seed(1))
    seen = torch.nn.functional.conv2d(only_red, kernels["stem"])
    moved = only_red[:, [1, 0, 2]]  # nir (nothing), red, green (nothing)
    adapted = adapt_stems(kernels, ["stem"], ["nir", "red", "green"])["stem"]
    assert torch.allclose(torch.nn.functional.conv2d(moved, adapted), seen, atol=1e-6)
    assert not torch.allclose(torch.nn.functional.conv2d(moved, kernels["stem"]), seen, atol=0.1)


@pytest.mark.parametrize("channels", [["blue", "green", "red", "nir", "swir16"], ["red", "green", "blue"], ["vv"]])
def test_a_grey_image_is_seen_exactly_as_before(tmp_path: Path, channels: list[str]) -> None:
    architecture = {**SMALL, "in_channels": len(channels)}
    published = build_network({**SMALL, "in_channels": 3})
    published.network.encoder.load_state_dict(encoder_file(tmp_path / "encoder.safetensors", SMALL))
    network = build_network(architecture)
    load_encoder(network, architecture, channels, str(tmp_path / "encoder.safetensors"))
    grey = torch.randn(1, 1, 32, 32)
    with torch.no_grad():
        before = published.eval().network.encoder(grey.expand(-1, 3, -1, -1))
        after = network.eval().network.encoder(grey.expand(-1, len(channels), -1, -1))
    for old, new in zip(before[1:], after[1:], strict=True):
        assert np.allclose(old, new, atol=1e-5)


def test_an_encoder_with_two_stems_has_both_adapted(tmp_path: Path) -> None:
    architecture = {"family": "smp.FPN", "encoder": "mobileone_s0", "classes": 2, "in_channels": 4}
    state = encoder_file(tmp_path / "encoder.safetensors", architecture)
    network = build_network(architecture)
    load_encoder(network, architecture, ["nir", "red", "green", "blue"], str(tmp_path / "encoder.safetensors"))
    for name in ("stage0.rbr_conv.0.conv.weight", "stage0.rbr_scale.conv.weight"):
        assert torch.allclose(network.network.encoder.state_dict()[name][:, 1:], state[name] * 0.75)


def test_timms_own_names_are_understood_and_its_classifier_left_out(tmp_path: Path) -> None:
    state = encoder_file(tmp_path / "encoder.safetensors", SMALL)
    plain = {name.removeprefix("model."): tensor.contiguous() for name, tensor in state.items()} | {"fc.weight": torch.ones(5, 5)}
    save_file(plain, tmp_path / "timm.safetensors")
    network = build_network({**SMALL, "in_channels": 3})
    load_encoder(network, {**SMALL, "in_channels": 3}, ["red", "green", "blue"], str(tmp_path / "timm.safetensors"))
    assert all(torch.equal(state[name], tensor) for name, tensor in network.network.encoder.state_dict().items())


def test_what_was_done_is_said_in_a_sentence(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    encoder_file(tmp_path / "e.safetensors", SMALL)
    architecture = {**SMALL, "in_channels": 4}
    with caplog.at_level(logging.INFO):
        load_encoder(build_network(architecture), architecture, ["nir", "red", "green", "NDVI"], str(tmp_path / "e.safetensors"))
    assert "red, green take the kernels of their colours; nir, NDVI, which these have never seen, take the mean" in caplog.text
    assert "all times 3/4" in caplog.text


def test_a_name_asks_for_the_published_weights_of_three_channels_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """A download is reached by name alone, and for red, green and blue, whatever the network's channels are."""
    asked, build = [], build_network

    def watched(architecture, *, encoder_weights=None):
        asked.append((architecture["in_channels"], encoder_weights))
        return build(architecture)

    architecture = {**SMALL, "in_channels": 5}
    network = build(architecture)
    monkeypatch.setattr(stems, "build_network", watched)
    load_encoder(network, architecture, ["red", "green", "blue", "nir", "swir16"], "imagenet")
    assert [pair for pair in asked if pair[1]] == [(3, "imagenet")]


def test_weights_that_cannot_be_fetched_are_said_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(architecture, *, encoder_weights=None):
        if encoder_weights:
            raise OSError("no route to host")
        return build_network(architecture)

    monkeypatch.setattr(stems, "build_network", offline)
    with pytest.raises(PackageError, match=r"'imagenet' of tu-resnet10t cannot be fetched \(no route to host\); give a .safetensors file"):
        load_encoder(build_network({**SMALL, "in_channels": 1}), {**SMALL, "in_channels": 1}, ["vv"], "imagenet")


def test_weights_of_another_encoder_are_refused(tmp_path: Path) -> None:
    encoder_file(tmp_path / "other.safetensors", {**SMALL, "encoder": "resnet18"})
    architecture = {**SMALL, "in_channels": 1}
    for path, message in (("other.safetensors", "is not there; expected kernels for red"), ("none.safetensors", "cannot be read")):
        with pytest.raises(PackageError, match=message):
            load_encoder(build_network(architecture), architecture, ["vv"], str(tmp_path / path))
    with pytest.raises(PackageError, match="no stem"):
        adapt_stems(STEM, [], ["vv"])
    ours = {"family": "autoice.UNet", "in_channels": 3, "classes": 2}
    with pytest.raises(PackageError, match="no encoder"):
        load_encoder(build_network(ours), ours, ["vv"] * 3, "imagenet")
