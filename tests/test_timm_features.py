"""Networks of timm as backbones: timm's own features, kernels by role, torchgeo's layouts, and the published EfficientNet-Lite0."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")
pytest.importorskip("timm")

import timm
import torch
from weights_at_hand import weights_at_hand

from geoseg.backbones.published import get_published
from geoseg.backbones.timm_features import TimmStages, TimmVit, build, load, place, stems
from geoseg.errors import PackageError
from geoseg.models.states import read_state

RUN_ON_REAL_WEIGHTS = ("efficientnet-lite0",)
RGB = ("red", "green", "blue")
STAGES = ("test_resnet", "test_efficientnet", "test_convnext")
IMAGE = torch.randn(2, 3, 96, 64, generator=torch.Generator().manual_seed(0))


def published(model: str, channels: int = 3, **options: object) -> dict[str, torch.Tensor]:
    """The state of timm's whole network, with its head, in random numbers."""
    torch.manual_seed(1)
    return dict(timm.create_model(model, pretrained=False, in_chans=channels, **options).state_dict())


def _whole(name: str, state: dict[str, torch.Tensor]) -> str:
    """The whole network's name of a tensor, of which timm's class for features joins the first two steps by an underscore."""
    return name if name in state else name.replace("_", ".", 1)


@pytest.mark.parametrize("model", STAGES)
def test_stages_are_those_that_timm_gives(model: str) -> None:
    state = published(model)
    ours = build(RGB, model=model).eval()
    report = load(ours, state, "file")
    theirs = timm.create_model(model, pretrained=False, features_only=True).eval()
    theirs.load_state_dict({name: state[_whole(name, state)] for name in theirs.state_dict()})
    assert report.share == 1
    assert isinstance(ours, TimmStages)
    assert ours.channels == tuple(theirs.feature_info.channels())
    assert ours.strides == tuple(theirs.feature_info.reduction())
    with torch.inference_mode():
        torch.testing.assert_close(ours(IMAGE), theirs(IMAGE), rtol=0, atol=1e-4)


@pytest.mark.parametrize("model", ["test_vit", "test_vit2", "test_vit3", "vit_tiny_patch16_224"])
def test_a_transformer_ends_as_timms_own_where_the_image_has_its_size(model: str) -> None:
    state = published(model)
    ours = build(RGB, model=model).eval()
    load(ours, state, "file")
    theirs = timm.create_model(model, pretrained=False).eval()
    theirs.load_state_dict(state)
    edge = theirs.pretrained_cfg["input_size"][-1]
    image = torch.randn(1, 3, edge, edge, generator=torch.Generator().manual_seed(0))
    assert isinstance(ours, TimmVit)
    with torch.inference_mode():
        last = theirs.forward_features(image)[:, theirs.num_prefix_tokens :]
        torch.testing.assert_close(ours(image)[-1].flatten(2).transpose(1, 2), last, rtol=0, atol=1e-4)


def test_kernels_go_to_the_bands_by_role_bit_for_bit() -> None:
    state = published("test_resnet")
    some = build(("blue", "red"), model="test_resnet")
    (stem,) = stems(some.network)
    kernels = state[stem]
    report = load(some, state, "file")
    assert torch.equal(some.network.state_dict()[stem], kernels[:, [2, 0]])
    assert report.reshaped == (stem,)
    assert not torch.equal(some.network.state_dict()[stem], kernels[:, [0, 2]])


def test_swapping_bands_with_their_roles_changes_nothing() -> None:
    state = published("test_vit")
    one, other = build(RGB, model="test_vit").eval(), build(("blue", "red", "green"), model="test_vit").eval()
    load(one, state, "file")
    load(other, state, "file")
    with torch.inference_mode():
        torch.testing.assert_close(one(IMAGE), other(IMAGE[:, [2, 0, 1]]), rtol=0, atol=1e-5)
        assert not torch.allclose(one(IMAGE)[-1], other(IMAGE)[-1], atol=1e-3)


def test_an_encoders_own_state_is_placed_for_other_bands() -> None:
    state = published("test_vit")
    whole, some = build(RGB, model="test_vit"), build(("nir", "green"), model="test_vit")
    load(whole, state, "file")
    some.load_state_dict(place(whole.state_dict(), RGB, ("nir", "green"), model="test_vit"))
    kernels = some.network.patch_embed.proj.weight
    assert torch.equal(kernels[:, 1], state["patch_embed.proj.weight"][:, 1])
    assert not kernels[:, 0].any()


def test_positions_are_stretched_and_the_class_tokens_stays() -> None:
    state = published("test_vit")
    larger = build(RGB, model="test_vit", img_size=320)
    report = load(larger, state, "file")
    assert report.reshaped == ("pos_embed",)
    assert torch.equal(larger.network.pos_embed[:, :1], state["pos_embed"][:, :1])
    assert larger.network.pos_embed.shape[1] == 1 + (320 // larger.strides[0]) ** 2


@pytest.mark.parametrize(
    ("strange", "said"),
    [
        ({"layer1.0.conv1.weight": torch.zeros(3)}, "the kernels that see the image"),
        ({"conv1.weight": torch.zeros(64, 13, 7, 7)}, r"expected them for 3 bands \(red, green, blue\)"),
        ({"conv1.weight": torch.zeros(64, 3, 7, 7)}, "tensors match.*missing"),
        ({"_conv_stem.weight": torch.zeros(32, 3, 3, 3), "_fc.bias": torch.zeros(10)}, "names of EfficientNet-PyTorch"),
    ],
)
def test_weights_of_another_network_are_refused_and_nothing_is_loaded(strange: dict[str, torch.Tensor], said: str) -> None:
    backbone = build(RGB, model="resnet18")
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    with pytest.raises(PackageError, match=said):
        load(backbone, strange, "weights.pth")
    torch.testing.assert_close(backbone.state_dict(), before, rtol=0, atol=0)


def test_a_name_that_timm_does_not_know_is_refused() -> None:
    with pytest.raises(PackageError, match=r"timm has no network 'resnet_19'; it has"):
        build(RGB, model="resnet_19")


@pytest.fixture(scope="module")
def real_state() -> dict[str, torch.Tensor]:
    return read_state(weights_at_hand("efficientnet-lite0"))


@pytest.mark.parametrize("name", RUN_ON_REAL_WEIGHTS)
def test_the_published_network_gives_timms_features(name: str, real_state: dict[str, torch.Tensor]) -> None:
    """The port's names stand in timm's order; timm's own class for features, filled by that order alone, is the reference."""
    network = get_published(name)
    ours = build(network.roles, **network.options).eval()
    report = load(ours, real_state, "file")
    theirs = timm.create_model("tf_efficientnet_lite0", pretrained=False, features_only=True).eval()
    filled = dict(zip(theirs.state_dict(), real_state.values(), strict=False))  # it ends before the head
    theirs.load_state_dict(filled)
    assert report.share == 1
    assert not report.missing
    with torch.inference_mode():
        found, expected = ours(IMAGE), theirs(IMAGE)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    assert max(level.abs().max() for level in expected) > 1  # not the silence of random weights
