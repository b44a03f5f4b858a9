"""OlmoEarth 1: published layout, groups of bands by role; features as the authors' code makes them."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("timm")

import torch
from published_layouts import drawn, image, layout_of, reference, row_layout

from geoseg.backbones.olmoearth import GROUPS, OlmoEarth, build, load, place
from geoseg.errors import PackageError

LAYOUT_TESTED = ("olmoearth-1-nano", "olmoearth-1-tiny", "olmoearth-1-base", "olmoearth-1-large")
ROLES = tuple(band for bands in GROUPS.values() for band in bands)
"""Sentinel-2's twelve bands in the published order, then radar."""


def _filled(roles: tuple[str, ...] = ROLES, **options: Any) -> OlmoEarth:
    backbone = build(roles, size="nano", **options).eval()
    report = load(backbone, reference("olmoearth")[0], "weights.pth")
    assert (report.missing, report.unexpected, report.misshapen) == ((), (), ())
    return backbone


@pytest.mark.parametrize(("case", "patch"), [("olmoearth", 8), ("olmoearth-fine", 4)])
def test_features_are_those_of_the_authors_network(case: str, patch: int) -> None:
    scene = torch.cat([image(1, 12, 24, 24), image(1, 2, 24, 24)], dim=1)
    with torch.no_grad():
        level = _filled(patch=patch, month=3)(scene)[-1]
    torch.testing.assert_close(drawn(level.flatten(2).transpose(1, 2)), reference(case)[1][0], atol=1e-4, rtol=1e-4)


def test_kernels_of_some_bands_are_theirs_exactly_and_groups_without_bands_are_gone() -> None:
    backbone, name = _filled(("nir", "red", "vh")), "encoder.patch_embeddings.per_modality_embeddings"
    state = reference("olmoearth")[0]
    assert set(backbone.patch_embeddings) == {"sentinel2_l2a__0", "sentinel1__0"}
    optical, radar = (backbone.patch_embeddings[group].weight for group in ("sentinel2_l2a__0", "sentinel1__0"))
    assert torch.equal(optical, state[f"{name}.sentinel2_l2a.sentinel2_l2a__0.proj.weight"][:, [3, 2]])
    assert torch.equal(radar, state[f"{name}.sentinel1.sentinel1__0.proj.weight"][:, [1]])


def test_bands_in_another_order_give_the_same_features() -> None:
    scene, order = image(1, 14, 16, 24), [8, 0, 6, 12, 2, 9, 4, 1, 13, 3, 7, 5, 11, 10]
    with torch.no_grad():
        straight = _filled()(scene)[-1]
        turned = _filled(tuple(ROLES[place] for place in order))(scene[:, order])[-1]
        mistaken = _filled()(scene[:, order])[-1]
    torch.testing.assert_close(turned, straight, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(mistaken, straight, atol=1e-2)


def test_month_and_pixel_size_are_told() -> None:
    scene = image(1, 14, 16, 16)
    with torch.no_grad():
        usual, winter, finer = (_filled(**words)(scene)[-1] for words in ({}, {"month": 12}, {"pixel_size_m": 1.0}))
    assert not torch.allclose(usual, winter, atol=1e-3)
    assert not torch.allclose(usual, finer, atol=1e-3)


def test_a_band_of_no_group_is_refused_or_has_no_say() -> None:
    with pytest.raises(PackageError, match="never saw cirrus"):
        _filled(("red", "cirrus"))
    backbone, scene = _filled(("red", "cirrus"), unseen="zero"), image(1, 2, 16, 16)
    other = torch.cat([scene[:, :1], scene[:, 1:] + 3.0], dim=1)
    with torch.no_grad():
        assert torch.equal(backbone(scene)[-1], backbone(other)[-1])


def test_an_encoder_for_some_bands_serves_fewer() -> None:
    placed = place(_filled(("vv", "red", "blue")).state_dict(), ("vv", "red", "blue"), ("red",))
    torch.testing.assert_close(placed, dict(_filled(("red",)).state_dict()), rtol=0, atol=0)


def test_later_versions_are_refused() -> None:
    """From 1.1 on patches go through a linear layer."""
    name = "encoder.patch_embeddings.per_modality_embeddings.sentinel2_l2a.sentinel2_l2a__0.proj.weight"
    with pytest.raises(PackageError, match=r"as version 1\.1"):
        load(build(ROLES, size="nano"), {**reference("olmoearth")[0], name: torch.zeros(128, 12 * 64)}, "weights.pth")


def test_patches_and_months_that_there_are_not_are_refused() -> None:
    for words in ({"patch": 16}, {"month": 0}):
        with pytest.raises(PackageError, match="patches of 1 to 8 pixels and months 1 to 12"):
            build(ROLES, size="nano", **words)


@pytest.mark.parametrize("name", LAYOUT_TESTED)
def test_the_row_is_of_this_layout(name: str) -> None:
    model, layout = row_layout(name)
    assert model.roles == ROLES[:12]
    assert layout == layout_of(_filled(model.roles))
