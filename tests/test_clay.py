"""Clay: published layouts of two versions, kernels that follow their wavelengths; features as the authors' code makes them."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from published_layouts import drawn, image, layout_of, reference, row_layout

from geoseg.backbones.clay import WAVELENGTHS_UM, Clay, build, load
from geoseg.errors import PackageError

LAYOUT_TESTED = ("clay-1-base", "clay-1.5-large", "clay-1.5-large-landsat")
ROLES = ("blue", "green", "red", "nir")


def _filled(roles: tuple[str, ...] = ROLES, case: str = "clay-1.5", **options: Any) -> Clay:
    backbone = build(roles, size="tiny", depth=2, **options).eval()
    report = load(backbone, reference(case)[0], f"{case}.ckpt")
    assert (report.missing, report.unexpected, report.misshapen) == ((), (), ())
    return backbone


@pytest.mark.parametrize("case", ["clay-1", "clay-1.5"])
def test_features_are_those_of_the_authors_network(case: str) -> None:
    with torch.no_grad():
        level = _filled(case=case)(image(1, 4, 64, 64), told=image(1, 8))[-1]
    torch.testing.assert_close(drawn(level.flatten(2).transpose(1, 2)), reference(case)[1][0], atol=1e-4, rtol=1e-4)


def test_bands_in_another_order_give_the_same_features() -> None:
    scene, order = image(1, 4, 32, 48), [3, 0, 2, 1]
    with torch.no_grad():
        straight = _filled()(scene)[-1]
        turned = _filled(tuple(ROLES[place] for place in order))(scene[:, order])[-1]
        mistaken = _filled()(scene[:, order])[-1]
    torch.testing.assert_close(turned, straight, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(mistaken, straight, atol=1e-3)


def test_pixel_size_time_and_place_are_told() -> None:
    scene = image(1, 4, 32, 32)
    with torch.no_grad():
        usual, finer = _filled()(scene)[-1], _filled(pixel_size_m=1.0)(scene)[-1]
        told = _filled()(scene, told=torch.ones(1, 8))[-1]
    assert not torch.allclose(usual, finer, atol=1e-3)
    assert not torch.allclose(usual, told, atol=1e-3)


def test_a_band_without_a_wavelength_is_refused() -> None:
    with pytest.raises(PackageError, match="'height' has no wavelength"):
        build(("red", "height"))


def test_the_decoder_alone_is_refused() -> None:
    decoder = {name.replace(".encoder.", ".decoder."): tensor for name, tensor in reference("clay-1.5")[0].items()}
    with pytest.raises(PackageError, match="0 of"):
        load(build(ROLES, size="tiny", depth=2), decoder, "clay.ckpt")


@pytest.mark.parametrize("name", LAYOUT_TESTED)
def test_the_row_is_of_this_layout(name: str) -> None:
    model, layout = row_layout(name)
    assert layout == layout_of(_filled())
    told = {**WAVELENGTHS_UM, **model.options.get("wavelengths", {})}
    assert {band.role: band.wavelength_um for band in model.bands} == {role: told[role] for role in model.roles}
