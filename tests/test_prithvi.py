"""Prithvi: published layouts, bands by role, several dates; features as the authors' code makes them."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("timm")

import torch
from published_layouts import drawn, image, layout_of, reference, row_layout

from geoseg.backbones.foreign_weights import kernels_by_role
from geoseg.backbones.prithvi import ROLES, Prithvi, build, load, place
from geoseg.errors import PackageError

LAYOUT_TESTED = (
    "prithvi-eo-1-100m",
    "prithvi-eo-2-tiny-tl",
    "prithvi-eo-2-100m-tl",
    "prithvi-eo-2-300m",
    "prithvi-eo-2-300m-tl",
    "prithvi-eo-2-600m",
    "prithvi-eo-2-600m-tl",
)


def _filled(roles: tuple[str, ...] = ROLES, case: str = "prithvi", **options: Any) -> Prithvi:
    backbone = build(roles, size="tiny", depth=2, **options).eval()
    load(backbone, reference(case)[0], case)
    return backbone


@pytest.mark.parametrize(("case", "rows", "cols"), [("prithvi", 224, 224), ("prithvi-wide", 64, 96)])
def test_features_are_those_of_the_authors_network(case: str, rows: int, cols: int) -> None:
    state, expected = reference(case)
    backbone = build(ROLES, size="tiny", depth=2).eval()
    report = load(backbone, state, case)
    assert (report.missing, report.unexpected, report.misshapen) == ((), (), ())
    with torch.no_grad():
        levels = backbone(image(1, 6, 1, rows, cols)[:, :, 0])
    flat = levels if rows == cols else [level.flatten(2).transpose(1, 2) for level in levels]
    for level, numbers in zip(flat, expected, strict=True):
        torch.testing.assert_close(drawn(level), numbers, atol=1e-4, rtol=1e-4)


def test_dates_days_and_places_are_those_of_the_authors_network() -> None:
    backbone = _filled(tuple(f"{role}@{date:02}" for date in (1, 2, 3) for role in ROLES), "prithvi-tl", coords=True)
    series = image(1, 6, 3, 48, 48).transpose(1, 2).flatten(1, 2)
    days, places = torch.tensor([[[2020.0, 30.0 * date] for date in range(3)]]), torch.tensor([[46.1, 14.5]])
    with torch.no_grad():
        levels, without = backbone(series, days=days, places=places), backbone(series)
    for level, numbers in zip(levels, reference("prithvi-tl")[1], strict=True):
        torch.testing.assert_close(drawn(level), numbers, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(levels[-1], without[-1], atol=1e-2)


def test_the_first_version_has_no_prefix() -> None:
    state = reference("prithvi")[0]
    first = {name.removeprefix("encoder.").removeprefix("decoder."): tensor for name, tensor in state.items()}
    assert len(first) == len(state)
    backbone = build(ROLES, size="tiny", depth=2)
    load(backbone, first, "Prithvi_EO_V1_100M.pt")
    torch.testing.assert_close(backbone.state_dict(), _filled().state_dict(), rtol=0, atol=0)


def test_kernels_of_some_bands_are_theirs_exactly() -> None:
    kernels = reference("prithvi")[0]["encoder.patch_embed.proj.weight"]
    backbone = _filled(("red", "green", "blue"))
    assert torch.equal(backbone.patch_embed.proj.weight, kernels[:, [2, 1, 0]])
    assert not torch.equal(backbone.patch_embed.proj.weight, kernels[:, :3])


def test_bands_in_another_order_give_the_same_features() -> None:
    scene, order = image(1, 6, 32, 32), [5, 0, 3, 1, 4, 2]
    with torch.no_grad():
        straight, turned = _filled()(scene), _filled(tuple(ROLES[place] for place in order))(scene[:, order])
        mistaken = _filled()(scene[:, order])
    torch.testing.assert_close(turned[-1], straight[-1], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(mistaken[-1], straight[-1], atol=1e-2)


def test_an_encoder_for_some_bands_serves_fewer() -> None:
    placed = place(_filled(("blue", "nir08", "red")).state_dict(), ("blue", "nir08", "red"), ("red", "blue"))
    torch.testing.assert_close(placed, dict(_filled(("red", "blue")).state_dict()), rtol=0, atol=0)


def test_the_near_infrared_of_landsat_stands_for_the_narrow_one() -> None:
    kernels = reference("prithvi")[0]["encoder.patch_embed.proj.weight"]
    assert torch.equal(_filled(("nir",)).patch_embed.proj.weight, kernels[:, [3]])


def test_a_band_that_no_weight_saw_is_refused_or_has_no_say() -> None:
    with pytest.raises(PackageError, match="never saw vv"):
        _filled(("red", "vv"))
    backbone, scene = _filled(("red", "vv"), unseen="zero"), image(1, 2, 32, 32)
    other = torch.cat([scene[:, :1], scene[:, 1:] + 3.0], dim=1)
    with torch.no_grad():
        assert torch.equal(backbone(scene)[-1], backbone(other)[-1])
        assert not torch.equal(backbone(scene)[-1], backbone(scene + 1.0)[-1])


def test_weights_that_saw_none_of_the_bands_are_refused() -> None:
    with pytest.raises(PackageError, match="never saw vv, vh"):
        _filled(("vv", "vh"), unseen="zero")


def test_dates_with_different_bands_are_refused() -> None:
    with pytest.raises(PackageError, match="nir08@06 is missing"):
        build(("red@05", "nir08@05", "red@06"))


def test_kernels_of_other_bands_than_stated_are_refused() -> None:
    with pytest.raises(PackageError, match="for 6 bands"):
        kernels_by_role(torch.zeros(4, 5, 1, 2, 2), ROLES, ("red",), unseen="refuse", source="a file")


@pytest.mark.parametrize("name", LAYOUT_TESTED)
def test_the_row_is_of_this_layout(name: str) -> None:
    model, layout = row_layout(name)
    coords = bool(model.options.get("coords"))
    assert model.roles == ROLES
    assert layout == layout_of(_filled(case="prithvi-tl" if coords else "prithvi", coords=coords))
