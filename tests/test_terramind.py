"""TerraMind: published layout, layers by role, several kinds of data; features as the authors' code makes them."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("timm")

import torch
from published_layouts import drawn, image, layout_of, reference, row_layout

from geoseg.backbones.terramind import KINDS, TerraMind, build, load, place
from geoseg.errors import PackageError

LAYOUT_TESTED = (
    "terramind-1-tiny",
    "terramind-1-small",
    "terramind-1-base",
    "terramind-1-large",
    "terramind-1-base-s1grd",
    "terramind-1-base-s1rtc",
)
OPTICAL = KINDS["s2l2a"][1]
ALL = ("vv", "vh", "height", *OPTICAL)
LAYER = "encoder_embeddings.untok_sen2l2a@224.proj.weight"


def _filled(roles: tuple[str, ...] = OPTICAL, case: str = "terramind", **options: Any) -> TerraMind:
    backbone = build(roles, size="tiny", depth=2, gated=case != "terramind", **options).eval()
    report = load(backbone, reference(case)[0], case)
    assert (report.missing, report.unexpected, report.misshapen) == ((), (), ())
    return backbone


@pytest.mark.parametrize(("case", "roles", "edge"), [("terramind", OPTICAL, 224), ("terramind-all", ALL, 64)])
def test_features_are_those_of_the_authors_network(case: str, roles: tuple[str, ...], edge: int) -> None:
    with torch.no_grad():
        levels = _filled(roles, case)(image(1, len(roles), edge, edge))
    for level, numbers in zip(levels, reference(case)[1], strict=True):
        torch.testing.assert_close(drawn(level.flatten(2).transpose(1, 2)), numbers, atol=1e-4, rtol=1e-4)


def test_the_layer_of_some_bands_is_theirs_pixel_by_pixel() -> None:
    whole = reference("terramind")[0][LAYER].reshape(192, 256, 12)
    layer = _filled(("red", "green", "blue")).state_dict()[LAYER]
    assert torch.equal(layer, whole[:, :, [3, 2, 1]].flatten(1))
    assert not torch.equal(layer, whole.transpose(1, 2)[:, [3, 2, 1]].flatten(1))  # bands first, as a convolution has them


def test_bands_in_another_order_give_the_same_features() -> None:
    scene, order = image(1, len(ALL), 64, 96), [5, 0, 14, 2, 9, 1, 3, 13, 4, 12, 6, 11, 7, 10, 8]
    with torch.no_grad():
        straight = _filled(ALL, "terramind-all")(scene)[-1]
        turned = _filled(tuple(ALL[place] for place in order), "terramind-all")(scene[:, order])[-1]
        mistaken = _filled(ALL, "terramind-all")(scene[:, order])[-1]
    torch.testing.assert_close(turned, straight, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(mistaken, straight, atol=1e-2)


def test_an_encoder_for_some_bands_serves_fewer() -> None:
    placed = place(_filled(("blue", "vv", "red", "vh"), "terramind-all").state_dict(), ("blue", "vv", "red", "vh"), ("red",), size="tiny")
    torch.testing.assert_close(placed, dict(_filled(("red",), "terramind-all").state_dict()), rtol=0, atol=0)


def test_radar_on_terrain_has_an_embedding_of_its_own() -> None:
    state = reference("terramind-all")[0]
    with pytest.raises(PackageError, match="has no encoder_embeddings"):
        load(build(("vv", "vh"), size="tiny", depth=2, gated=True, radar="s1rtc"), state, "a file")
    load(build(("vv", "vh"), size="tiny", depth=2, gated=True, radar="s1grd"), state, "a file")


def test_a_band_of_no_kind_is_refused_or_has_no_say() -> None:
    with pytest.raises(PackageError, match="never saw cirrus"):
        _filled(("red", "cirrus"))
    backbone, scene = _filled(("red", "cirrus"), unseen="zero"), image(1, 2, 32, 32)
    other = torch.cat([scene[:, :1], scene[:, 1:] + 3.0], dim=1)
    with torch.no_grad():
        assert torch.equal(backbone(scene)[-1], backbone(other)[-1])


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(PackageError, match="not 's2' and"):
        build(OPTICAL, size="tiny", optical="s2")


@pytest.mark.parametrize("name", LAYOUT_TESTED)
def test_the_row_is_of_this_layout(name: str) -> None:
    model, layout = row_layout(name)
    kind = str(model.options.get("radar", "s1grd")) if "vv" in model.roles else "s2l2a"
    assert model.roles == KINDS[kind][1]
    case = "terramind-all" if model.options["size"] in ("base", "large") else "terramind"
    tested = layout_of(
        build(model.roles, size="tiny", depth=2, gated=case == "terramind-all", radar=kind if "vv" in model.roles else "s1grd")
    )
    assert layout == tested
