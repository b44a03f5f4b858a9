"""DOFA: torchgeo's network and layout, kernels that follow their wavelengths."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")
pytest.importorskip("torchgeo.models")

import torch
import torchgeo.models
from published_layouts import fill, image, layout_of, row_layout

from geoseg.backbones.dofa import WAVELENGTHS_UM, Dofa, build, load
from geoseg.errors import PackageError

LAYOUT_TESTED = ("dofa-base", "dofa-large")
ROLES = ("blue", "green", "red", "nir", "swir16")
ABSENT = {"fc_norm.weight", "fc_norm.bias", "head.weight", "head.bias"}
"""What torchgeo finds missing in the published files."""


@pytest.fixture(scope="module")
def original() -> torch.nn.Module:
    """torchgeo's network, small, as it stands behind `dofa_base_patch16_224`."""
    torch.manual_seed(0)
    network: torch.nn.Module = torchgeo.models.DOFA(embed_dim=192, depth=2, num_heads=3)
    fill(network)
    torch.nn.init.normal_(network.pos_embed, std=0.3)
    return network


def _state(original: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in original.state_dict().items() if name not in ABSENT}


def _filled(original: torch.nn.Module, roles: tuple[str, ...] = ROLES) -> Dofa:
    backbone = build(roles, size="tiny", depth=2).eval()
    report = load(backbone, _state(original), "dofa.pth")
    assert (report.missing, report.unexpected, report.misshapen) == ((), (), ())
    return backbone


def test_features_are_those_of_torchgeos_network(original: torch.nn.Module) -> None:
    scene, seen = image(2, 5, 224, 224), []
    hooks = [block.register_forward_hook(lambda *args: seen.append(args[2])) for block in original.blocks]
    with torch.no_grad():
        original(scene, [WAVELENGTHS_UM[role] for role in ROLES])
        levels = _filled(original)(scene)
    for hook in hooks:
        hook.remove()
    for level, tokens in zip(levels, seen, strict=True):
        torch.testing.assert_close(level.flatten(2).transpose(1, 2), tokens[:, 1:], atol=1e-4, rtol=1e-4)


def test_bands_in_another_order_give_the_same_features(original: torch.nn.Module) -> None:
    scene, order = image(1, 5, 64, 96), [4, 2, 0, 3, 1]
    with torch.no_grad():
        straight = _filled(original)(scene)[-1]
        turned = _filled(original, tuple(ROLES[place] for place in order))(scene[:, order])[-1]
        mistaken = _filled(original)(scene[:, order])[-1]
    torch.testing.assert_close(turned, straight, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(mistaken, straight, atol=1e-2)


def test_wavelengths_that_are_given_count() -> None:
    usual, given = (build(("red",), size="tiny", depth=1, wavelengths=told) for told in (None, {"red": 0.70, "nir": 0.9}))
    assert (usual.wavelengths, given.wavelengths) == ((0.665,), (0.70,))
    with pytest.raises(PackageError, match="'nirr', which is no known role"):
        build(("red",), size="tiny", depth=1, wavelengths={"nirr": 0.8})


def test_a_band_without_a_wavelength_is_refused() -> None:
    with pytest.raises(PackageError, match="'height' has no wavelength"):
        build(("red", "height"))


def test_weights_of_another_size_are_refused(original: torch.nn.Module) -> None:
    with pytest.raises(PackageError, match="misshapen"):
        load(build(ROLES, size="small", depth=2), _state(original), "dofa.pth")


@pytest.mark.parametrize("name", LAYOUT_TESTED)
def test_the_row_is_of_this_layout(original: torch.nn.Module, name: str) -> None:
    model, layout = row_layout(name)
    assert layout == layout_of(_filled(original))
    assert {band.role: band.wavelength_um for band in model.bands} == {role: WAVELENGTHS_UM[role] for role in model.roles}
