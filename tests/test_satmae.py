"""SatMAE: published layout, groups of bands by role; features as the authors' code makes them."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("timm")

import timm
import torch
from published_layouts import drawn, image, layout_of, reference, row_layout

from geoseg.backbones import timm_features
from geoseg.backbones.satmae import GROUPS, SatMae, build, load, place
from geoseg.errors import PackageError

LAYOUT_TESTED = ("satmae-s2-base", "satmae-s2-large", "satmae-rgb-large")
ROLES = ("blue", "green", "red", "rededge071", "rededge075", "rededge078", "nir", "nir08", "swir16", "swir22")
"""As the published network takes them; its groups are (0, 1, 2, 6), (3, 4, 5, 7), (8, 9)."""


def _filled(roles: tuple[str, ...] = ROLES, **options: Any) -> SatMae:
    backbone = build(roles, size="small", depth=2, **options).eval()
    report = load(backbone, reference("satmae")[0], "pretrain-vit-base-e199.pth")
    assert (report.missing, report.unexpected, report.misshapen) == ((), (), ())
    return backbone


def test_features_are_those_of_the_authors_network() -> None:
    [expected] = reference("satmae")[1]
    with torch.no_grad():
        level = _filled()(image(1, 10, 96, 96))[-1]
    torch.testing.assert_close(drawn(level.flatten(2).transpose(1, 2)), expected, atol=1e-4, rtol=1e-4)


def test_kernels_of_some_bands_are_theirs_exactly_and_groups_without_bands_are_gone() -> None:
    state, backbone = reference("satmae")[0], _filled(("nir", "red", "nir08"))
    kept = {name: tensor for name, tensor in backbone.state_dict().items() if name.startswith("patch_embed.")}
    assert set(kept) == {f"patch_embed.{group}.proj.{end}" for group in (0, 1) for end in ("weight", "bias")}
    assert torch.equal(kept["patch_embed.0.proj.weight"], state["patch_embed.0.proj.weight"][:, [3, 2]])
    assert torch.equal(kept["patch_embed.1.proj.weight"], state["patch_embed.1.proj.weight"][:, [3]])


def test_bands_in_another_order_give_the_same_features() -> None:
    scene, order = image(1, 10, 48, 64), [8, 0, 6, 2, 9, 4, 1, 3, 7, 5]
    with torch.no_grad():
        straight = _filled()(scene)[-1]
        turned = _filled(tuple(ROLES[place] for place in order))(scene[:, order])[-1]
        mistaken = _filled()(scene[:, order])[-1]
    torch.testing.assert_close(turned, straight, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(mistaken, straight, atol=1e-2)


def test_a_band_of_no_group_is_refused_or_has_no_say() -> None:
    with pytest.raises(PackageError, match="never saw coastal"):
        _filled(("red", "coastal"))
    backbone, scene = _filled(("red", "coastal"), unseen="zero"), image(1, 2, 32, 32)
    other = torch.cat([scene[:, :1], scene[:, 1:] + 3.0], dim=1)
    with torch.no_grad():
        assert torch.equal(backbone(scene)[-1], backbone(other)[-1])


def test_an_encoder_for_some_bands_serves_fewer() -> None:
    placed = place(_filled(("swir16", "red", "blue")).state_dict(), ("swir16", "red", "blue"), ("red",))
    torch.testing.assert_close(placed, dict(_filled(("red",)).state_dict()), rtol=0, atol=0)
    with pytest.raises(PackageError, match="has no patch_embed"):
        place(_filled(("red",)).state_dict(), ("red",), GROUPS[1])


def test_tokens_without_room_for_groups_are_refused() -> None:
    with pytest.raises(PackageError, match="choose a larger size than tiny"):
        build(ROLES, size="tiny")


def test_the_colour_version_is_a_plain_transformer_with_a_decoder_beside_it() -> None:
    original = timm.create_model("vit_tiny_patch16_224", depth=2, num_classes=0, dynamic_img_size=True).eval()
    decoder = {"mask_token": torch.zeros(1, 1, 512), "decoder_embed.weight": torch.zeros(512, 192), "decoder_pred.bias": torch.zeros(768)}
    backbone = timm_features.build(("blue", "red", "green"), model="vit_tiny_patch16_224", depth=2).eval()
    report = timm_features.load(backbone, {**original.state_dict(), **decoder}, "fmow_pretrain.pth")
    assert (report.missing, report.unexpected) == ((), tuple(decoder))
    scene = image(1, 3, 224, 224)
    with torch.no_grad():
        level, expected = backbone(scene[:, [2, 0, 1]])[-1], original.forward_features(scene)[:, 1:]
    torch.testing.assert_close(level.flatten(2).transpose(1, 2), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", LAYOUT_TESTED)
def test_the_row_is_of_this_layout(name: str) -> None:
    model, layout = row_layout(name)
    if model.family == "satmae":
        assert model.roles == ROLES
        assert layout == layout_of(_filled())
    else:
        assert model.roles == timm_features.COLOURS
        assert layout == layout_of(timm_features.build(model.roles, model="vit_tiny_patch16_224", depth=2))
