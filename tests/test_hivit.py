"""HiViT of SARATR-X: published layout, one amplitude for three channels; features as the authors' code makes them."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("timm")

import torch
from published_layouts import drawn, image, layout_of, reference, row_layout

from geoseg.backbones.hivit import RADAR, HiVit, build, load, place
from geoseg.errors import PackageError

LAYOUT_TESTED = ("saratr-x",)


def _filled(roles: tuple[str, ...] = ("vv",), **options: Any) -> HiVit:
    backbone = build(roles, depth=2, **options).eval()
    report = load(backbone, reference("hivit")[0], "checkpoint-200.pth")
    assert (report.missing, report.unexpected, report.misshapen) == ((), (), ())
    return backbone


def test_features_are_those_of_the_authors_network() -> None:
    with torch.no_grad():
        levels = _filled()(image(1, 1, 224, 224))
    for level, numbers in zip(levels, reference("hivit")[1], strict=True):
        torch.testing.assert_close(drawn(level), numbers, atol=1e-4, rtol=1e-4)


def test_several_bands_share_what_one_has() -> None:
    kernels, one = reference("hivit")[0]["patch_embed.proj.weight"], image(1, 1, 64, 96)
    assert torch.equal(_filled().patch_embed.proj.weight, kernels.sum(dim=1, keepdim=True))
    with torch.no_grad():
        alone, twice = _filled()(one), _filled(("hh", "hv"))(one.expand(-1, 2, -1, -1))
        other = _filled(("hh", "hv"))(torch.cat([one, -one], dim=1))
    torch.testing.assert_close(twice[-1], alone[-1], atol=1e-4, rtol=1e-4)
    assert not torch.allclose(other[-1], alone[-1], atol=1e-2)


def test_bands_that_are_not_radar_are_refused_or_have_no_say() -> None:
    with pytest.raises(PackageError, match="never height"):
        _filled(("vv", "height"))
    with pytest.raises(PackageError, match="give any of vv"):
        _filled(("red",), unseen="zero")
    backbone, scene = _filled(("vv", "height"), unseen="zero"), image(1, 2, 32, 32)
    other = torch.cat([scene[:, :1], scene[:, 1:] + 3.0], dim=1)
    with torch.no_grad():
        assert torch.equal(backbone(scene)[-1], backbone(other)[-1])


def test_an_encoder_for_some_bands_serves_fewer() -> None:
    state = _filled(("vv", "vh")).state_dict()
    assert torch.equal(place(state, ("vv", "vh"), ("vh",))["patch_embed.proj.weight"], state["patch_embed.proj.weight"][:, 1:])


def test_kernels_for_other_channels_than_published_are_refused() -> None:
    state = {**reference("hivit")[0], "patch_embed.proj.weight": torch.zeros(128, 1, 4, 4)}
    with pytest.raises(PackageError, match="expected 3 channels"):
        load(build(("vv",), depth=2), state, "checkpoint-200.pth")


@pytest.mark.parametrize("name", LAYOUT_TESTED)
def test_the_row_is_of_this_layout(name: str) -> None:
    model, layout = row_layout(name)
    assert set(model.roles) <= set(RADAR)
    assert layout == layout_of(_filled())
