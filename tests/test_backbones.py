"""What all backbones have in common, each built by its family's name."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("timm")

import torch

import geoseg.backbones
from geoseg.backbones import FAMILIES
from geoseg.backbones.contract import Backbone, build_backbone
from geoseg.errors import PackageError

SMALL = {
    "clay": {"size": "tiny", "depth": 5},
    "croma": {"size": "tiny", "depth": 5},
    "dinov2_vit": {"size": "small", "depth": 4, "grid": 4},
    "dinov3": {"size": "small", "depth": 4},
    "dofa": {"size": "tiny", "depth": 5},
    "galileo": {"size": "nano", "patch": 4},
    "hivit": {"depth": 2},
    "olmoearth": {"size": "nano"},
    "panopticon": {"depth": 2},
    "presto": {},
    "prithvi": {"size": "tiny", "depth": 5},
    "satmae": {"size": "small", "depth": 5},
    "scale_mae": {"size": "tiny", "depth": 5},
    "terramind": {"size": "tiny", "depth": 5},
    "timm_features": {"model": "test_resnet"},
    "vit": {"size": "tiny", "patch": 8, "depth": 5},
}
"""Family → options that make it small."""
ROLES = ("red", "nir")


def test_every_module_that_can_be_built_is_listed() -> None:
    folder = Path(geoseg.backbones.__file__).parent
    found = {path.stem for path in folder.glob("*.py") if "\ndef build(" in path.read_text(encoding="utf-8")}
    assert found == set(FAMILIES) == set(SMALL)


@pytest.mark.parametrize("family", FAMILIES)
def test_features_have_the_stated_channels_and_strides(family: str) -> None:
    torch.manual_seed(0)
    backbone = build_backbone({"family": family, **SMALL[family]}, ROLES).eval()
    assert isinstance(backbone, Backbone)
    edge = 2 * backbone.strides[-1]
    with torch.no_grad():
        features = backbone(torch.randn(2, len(ROLES), edge, 2 * edge))
    expected = [(2, made, edge // stride, 2 * edge // stride) for made, stride in zip(backbone.channels, backbone.strides, strict=True)]
    assert [tuple(level.shape) for level in features] == expected
    assert list(backbone.strides) == sorted(backbone.strides)


@pytest.mark.parametrize("family", FAMILIES)
def test_features_come_from_the_pixels(family: str) -> None:
    torch.manual_seed(0)
    backbone = build_backbone({"family": family, **SMALL[family]}, ROLES).eval()
    edge = 2 * backbone.strides[-1]
    with torch.no_grad():
        one, other = backbone(torch.randn(2, len(ROLES), edge, edge))[-1]
    assert not torch.allclose(one, other)


@pytest.mark.parametrize("architecture", [{"family": "vitt"}, {"family": "vit", "size": "huge"}, {"family": "vit", "heads": 3}])
def test_what_cannot_be_built_is_refused(architecture: dict[str, object]) -> None:
    with pytest.raises(PackageError):
        build_backbone(architecture, ROLES)
