"""ScaleMAE, Panopticon and CROMA: torchgeo's networks and layouts, with bands by role."""

from __future__ import annotations

import copy

import pytest

pytest.importorskip("torch")
pytest.importorskip("torchgeo.models")

import torch
import torchgeo.models
from published_layouts import fill, image, layout_of, row_layout
from torch import nn
from torchgeo.models.croma import get_2dalibi

from geoseg.backbones import croma, panopticon, scale_mae
from geoseg.errors import PackageError

LAYOUT_TESTED = ("scalemae-large", "panopticon-base", "croma-base-s2", "croma-large-s2", "croma-base-s1")


def _outputs(blocks: nn.ModuleList) -> list[torch.Tensor]:
    """A list that fills with what each block makes when it runs."""
    seen: list[torch.Tensor] = []
    for block in blocks:
        block.register_forward_hook(lambda *args: seen.append(args[2]))
    return seen


def _close(levels: list[torch.Tensor], tokens: list[torch.Tensor]) -> None:
    for level, expected in zip(levels, tokens, strict=True):
        torch.testing.assert_close(level.flatten(2).transpose(1, 2), expected, atol=1e-4, rtol=1e-4)


# ---------------------------------------------------------------- ScaleMAE


@pytest.fixture(scope="module")
def original_scale_mae() -> nn.Module:
    """As torchgeo's `scalemae_large_patch16` builds it, small."""
    network: nn.Module = torchgeo.models.ScaleMAE(
        res=2.0, img_size=64, patch_size=16, embed_dim=192, depth=2, num_heads=3, num_classes=0, qkv_bias=True
    )
    for module in network.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = 1e-6
    fill(network)
    return network


def test_scale_mae_is_that_of_torchgeo(original_scale_mae: nn.Module) -> None:
    backbone = scale_mae.build(scale_mae.ROLES, size="tiny", depth=2, pixel_size_m=2.0).eval()
    report = scale_mae.load(backbone, original_scale_mae.state_dict(), "scalemae.pth")
    assert (report.missing, report.unexpected, report.misshapen) == ((), (), ())
    scene = image(2, 3, 64, 64)
    with torch.no_grad():
        levels, expected = backbone(scene), original_scale_mae.forward_features(scene)
        backbone.pixel_size_m = 1.0
        finer = backbone(scene)
    _close(levels[-1:], [expected[:, 1:]])
    assert not torch.allclose(finer[-1], levels[-1], atol=1e-2)


def test_scale_mae_takes_each_band_by_role(original_scale_mae: nn.Module) -> None:
    state = original_scale_mae.state_dict()
    backbone = scale_mae.build(("blue", "red"), size="tiny", depth=2)
    scale_mae.load(backbone, state, "scalemae.pth")
    assert torch.equal(backbone.network.patch_embed.proj.weight, state["patch_embed.proj.weight"][:, [2, 0]])
    with pytest.raises(PackageError, match="never saw nir"):
        scale_mae.load(scale_mae.build(("red", "nir"), size="tiny", depth=2), state, "scalemae.pth")
    placed = scale_mae.place(backbone.state_dict(), ("blue", "red"), ("red",))
    assert torch.equal(placed["network.patch_embed.proj.weight"], state["patch_embed.proj.weight"][:, [0]])


# ---------------------------------------------------------------- Panopticon

BANDS = ("blue", "red", "nir", "vv", "vh")
NUMBERS = [[492.4, 664.6, 832.8, -5.0, -6.0]]


@pytest.fixture(scope="module")
def original_panopticon() -> nn.Module:
    """torchgeo's network with two of its blocks, for images of 518 pixels, as its weights were published."""
    network: nn.Module = torchgeo.models.Panopticon(img_size=518).model
    network.blocks = network.blocks[:2]
    network.head = nn.Identity()
    fill(network)
    nn.init.normal_(network.pos_embed, std=0.3)
    return network


@pytest.fixture(scope="module")
def filled_panopticon(original_panopticon: nn.Module) -> panopticon.Panopticon:
    """Ours, with the tensors of the original."""
    backbone = panopticon.build(BANDS, depth=2, orbit="ascending").eval()
    state = {**original_panopticon.state_dict(), "mask_token": torch.zeros(1, 768)}
    report = panopticon.load(backbone, state, "panopticon.pth")
    assert (report.missing, report.unexpected, report.misshapen) == ((), (), ())
    assert report.reshaped == ("pos_embed",)
    return backbone


def test_panopticon_is_that_of_torchgeo(original_panopticon: nn.Module, filled_panopticon: panopticon.Panopticon) -> None:
    scene, same = image(1, 5, 224, 224), copy.deepcopy(original_panopticon).eval()
    same.pos_embed = nn.Parameter(torchgeo.models.copernicusfm.resize_abs_pos_embed(same.pos_embed, 16, 37))
    with torch.no_grad():
        levels, expected = filled_panopticon(scene), same.forward_features({"imgs": scene, "chn_ids": torch.tensor(NUMBERS)})
    _close(levels[-1:], [expected[:, 1:]])


def test_stretched_positions_keep_the_class_tokens(original_panopticon: nn.Module) -> None:
    positions = original_panopticon.state_dict()["pos_embed"]
    stretched = panopticon.smooth_positions(positions, 32)
    assert stretched.shape == (1, 1 + 32 * 32, 768)
    assert torch.equal(stretched[:, 0], positions[:, 0])
    assert not torch.allclose(stretched[:, 1 : 1 + 32], positions[:, 1 : 1 + 32], atol=1e-2)


def test_panopticon_takes_bands_in_any_order(filled_panopticon: panopticon.Panopticon) -> None:
    scene, order = image(1, 5, 28, 42), [3, 1, 4, 0, 2]
    other = copy.deepcopy(filled_panopticon)
    other.numbers = panopticon.channel_numbers(tuple(BANDS[place] for place in order), "ascending", {})
    with torch.no_grad():
        straight, turned, mistaken = (network(shown)[-1] for network, shown in (
            (filled_panopticon, scene), (other, scene[:, order]), (filled_panopticon, scene[:, order])
        ))  # fmt: skip
    torch.testing.assert_close(turned, straight, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(mistaken, straight, atol=1e-3)


def test_panopticons_numbers_are_nanometres_and_those_of_radar() -> None:
    assert list(panopticon.channel_numbers(BANDS, "ascending", {})) == NUMBERS[0]
    assert panopticon.channel_numbers(("hv", "vv"), "either", {}) == (-4.0, -1.0)
    assert panopticon.channel_numbers(("hv", "vv"), "descending", {}) == (-12.0, -9.0)
    with pytest.raises(PackageError, match="'height' has no wavelength"):
        panopticon.channel_numbers(("height",), "either", {})


# ---------------------------------------------------------------- CROMA

BOTH = (*croma.S1, *croma.S2)


@pytest.fixture(scope="module")
def original_croma() -> nn.Module:
    """torchgeo's network, small, for images of 32 pixels."""
    network: nn.Module = torchgeo.models.CROMA(encoder_dim=192, encoder_depth=4, image_size=32)
    fill(network)
    return network


def _croma(original: nn.Module, roles: tuple[str, ...]) -> croma.Croma:
    backbone = croma.build(roles, size="tiny", depth=4).eval()
    report = croma.load(backbone, original.state_dict(), "CROMA.pt")
    assert (report.missing, report.unexpected, report.misshapen) == ((), (), ())
    return backbone


@pytest.mark.parametrize(("roles", "kind"), [(croma.S1, "sar"), (croma.S2, "optical"), (BOTH, "joint")])
def test_croma_is_that_of_torchgeo(original_croma: nn.Module, roles: tuple[str, ...], kind: str) -> None:
    scene = image(2, 14, 32, 32)
    shown = scene if len(roles) == 14 else scene[:, :2] if len(roles) == 2 else scene[:, 2:]
    with torch.no_grad():
        expected = original_croma(x_sar=scene[:, :2], x_optical=scene[:, 2:])[f"{kind}_encodings"]
        levels = _croma(original_croma, roles)(shown)
    _close(levels[-1:], [expected])


def test_cromas_distances_are_those_of_torchgeo() -> None:
    torch.testing.assert_close(croma.distance_bias((4, 4)), get_2dalibi(16, 16), atol=1e-5, rtol=1e-5)


def test_croma_takes_each_band_by_role(original_croma: nn.Module) -> None:
    scene, order = image(1, 14, 16, 24), [13, 0, 5, 3, 1, 9, 2, 12, 4, 11, 6, 10, 7, 8]
    with torch.no_grad():
        straight = _croma(original_croma, BOTH)(scene)[-1]
        turned = _croma(original_croma, tuple(BOTH[place] for place in order))(scene[:, order])[-1]
        mistaken = _croma(original_croma, BOTH)(scene[:, order])[-1]
    torch.testing.assert_close(turned, straight, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(mistaken, straight, atol=1e-2)
    layer = original_croma.state_dict()["s2_encoder.linear_input.weight"].reshape(192, 12, 64)
    assert torch.equal(_croma(original_croma, ("red", "blue")).s2_encoder.linear_input.weight, layer[:, [3, 1]].flatten(1))
    placed = croma.place(_croma(original_croma, ("red", "blue")).state_dict(), ("red", "blue"), ("blue",), size="tiny", depth=4)
    assert torch.equal(placed["s2_encoder.linear_input.weight"], layer[:, [1]].flatten(1))


def test_croma_refuses_bands_of_neither_sensor(original_croma: nn.Module) -> None:
    with pytest.raises(PackageError, match="never saw cirrus"):
        _croma(original_croma, ("red", "cirrus"))


# ---------------------------------------------------------------- the table


@pytest.mark.parametrize("name", LAYOUT_TESTED)
def test_the_row_is_of_this_layout(name: str) -> None:
    model, layout = row_layout(name)
    if model.family == "croma":
        assert model.roles == (croma.S1 if "s1" in name else croma.S2)
        assert layout == layout_of(croma.build(model.roles, size="tiny", depth=4))
    elif model.family == "scale_mae":
        assert model.roles == scale_mae.ROLES
        assert layout == layout_of(scale_mae.build(model.roles, size="tiny", depth=2))
    else:
        with torch.device("meta"):
            assert layout == layout_of(panopticon.build(BANDS, depth=2))
