"""Presto: features of the authors' network with their weights, pixels by themselves, dates and groups that are there."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("timm")

import torch
from published_map import map_from
from reference_features import cases, difference, prepared

from geoseg.backbones import presto
from geoseg.backbones.presto import COVER_CLASSES, DATED, LASTING, STATISTICS, Presto, build, load, place
from geoseg.backbones.published import get_published
from geoseg.errors import PackageError

RUN_ON_REAL_WEIGHTS = ("presto",)
S2 = ("blue", "green", "red", "rededge071", "rededge075", "rededge078", "nir", "nir08", "swir16", "swir22")
LEVEL = {
    **dict.fromkeys(S2, (0.3, 0.2)),
    "vv": (-12, 5),
    "vh": (-18, 5),
    "height": (600, 500),
    "slope": (12, 10),
    "dynamic_world": (4.5, 4.5),
}
"""Around what, and how far, the bands of the reference input wave."""


def published(shared_data: Callable[[str], Path]) -> dict[str, torch.Tensor]:
    path = shared_data("weights") / "presto_default_model.pt"
    state: dict[str, torch.Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def seeded(roles: Sequence[str], **options: Any) -> Presto:
    torch.manual_seed(0)
    return build(roles, **options).eval()


def noise(roles: Sequence[str], rows: int = 5, cols: int = 4) -> torch.Tensor:
    return torch.rand(1, len(roles), rows, cols, generator=torch.Generator().manual_seed(2))


def features(backbone: Presto, image: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return backbone(image)[0]


@pytest.mark.parametrize("network", RUN_ON_REAL_WEIGHTS)
@pytest.mark.parametrize("case", cases("presto"), ids=lambda case: str(case["name"]))
def test_features_are_those_of_the_authors_network(network: str, case: Mapping[str, Any], shared_data: Callable[[str], Path]) -> None:
    state, image = published(shared_data), prepared(case["roles"], case["edge"], LEVEL, STATISTICS)
    options = {**get_published(network).options, **case["options"]}
    backbone = build(case["roles"], **options)
    report = load(backbone, state, network)
    assert (report.missing, report.misshapen) == ((), ())
    assert {name.partition(".")[0] for name in report.unexpected} == {"decoder"}
    assert difference(backbone, image, case) < 1e-5
    if "@" not in case["roles"][0]:
        january = build(case["roles"], **{**options, "month": 1})
        load(january, state, network)
        assert difference(january, image, case) > 1e-3


def test_the_encoder_is_the_half_of_the_file_that_makes_features(shared_data: Callable[[str], Path]) -> None:
    state, backbone = published(shared_data), build(S2)
    assert (sum(one.numel() for one in state.values()), len(state)) == (823_002, 102)
    encoder = {name: one for name, one in state.items() if name.startswith("encoder.")}
    assert (sum(one.numel() for one in encoder.values()), len(encoder)) == (404_160, 50)
    for name in ("pos_embed", "month_embed.weight"):  # tables that are not learned
        torch.testing.assert_close(backbone.state_dict()[name], encoder[f"encoder.{name}"], rtol=0, atol=1e-5)


def test_the_network_has_the_size_of_the_paper() -> None:
    backbone = build(S2)
    assert (sum(one.numel() for one in backbone.parameters()), len(backbone.state_dict())) == (404_160, 50)


@pytest.mark.parametrize("network", RUN_ON_REAL_WEIGHTS)
def test_the_table_has_the_authors_numbers(network: str) -> None:
    row = get_published(network)
    assert set(row.roles) == {role for group in (*DATED.values(), *LASTING.values()) for role in group} - {"dynamic_world"}
    for role in row.roles:
        assert row.statistics(role) == pytest.approx(STATISTICS[role], rel=1e-12)


def test_bands_in_another_order_give_the_same_features() -> None:
    roles, order = (*S2, "vv", "vh", "height", "slope"), [3, 11, 0, 12, 1, 13, 10, 2, 9, 4, 8, 5, 7, 6]
    image, turned = noise(roles), tuple(roles[at] for at in order)
    straight = features(seeded(roles), image)
    torch.testing.assert_close(features(seeded(turned), image[:, order]), straight, rtol=0, atol=1e-5)
    assert not torch.allclose(features(seeded(roles), image[:, order]), straight, atol=1e-2)


def test_a_group_that_is_not_there_gives_no_token() -> None:
    counts: list[int] = []
    with_radar, without = seeded((*S2, "vv", "vh")), seeded(S2)
    for backbone in (with_radar, without):
        backbone.blocks[0].register_forward_pre_hook(lambda _, given: counts.append(given[0].shape[1]))
    image = noise(S2)
    alone, zeros = features(without, image), features(with_radar, torch.cat([image, torch.zeros(1, 2, 5, 4)], dim=1))
    assert counts == [6, 7]
    assert not torch.allclose(alone, zeros, atol=1e-2)


def test_terrain_is_one_token_for_all_dates() -> None:
    backbone = seeded([*(f"{role}@{month:02d}" for month in (4, 5, 6) for role in ("vv", "vh")), "height", "slope"])
    assert [(token.group, token.step, token.month) for token in backbone.seen] == [
        *(("S1", step, month) for step, month in ((0, 3), (1, 4), (2, 5))),
        ("SRTM", None, None),
    ]


def test_a_pixel_is_seen_by_itself_however_many_go_through_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone, image = seeded(S2), noise(S2)
    together = features(backbone, image)
    assert together.shape == (1, 128, 5, 4)
    torch.testing.assert_close(features(backbone, image[..., 2:3, 1:2]), together[..., 2:3, 1:2], rtol=0, atol=1e-5)
    monkeypatch.setattr(presto, "_TOKENS_AT_ONCE", 40)
    torch.testing.assert_close(features(backbone, image), together, rtol=0, atol=1e-5)


def test_a_class_of_land_cover_is_looked_up_and_no_other_than_the_known() -> None:
    backbone = seeded(("dynamic_world",))
    made = features(backbone, torch.tensor([0.0, 4.0, 8.0, 8.9, -1.0]).view(1, 1, 1, 5))[0, :, 0]
    assert torch.equal(made[:, 2], made[:, 3])
    assert torch.equal(made[:, 0], made[:, 4])
    assert not torch.allclose(made[:, 0], made[:, 1], atol=1e-2)
    assert backbone.dw_embed.num_embeddings == COVER_CLASSES + 1


def test_weights_that_no_band_feeds_are_not_learned() -> None:
    backbone = seeded(S2)
    backbone(noise(S2))[0].sum().backward()
    assert [name for name, one in backbone.named_parameters() if one.requires_grad and one.grad is None] == []
    assert not backbone.eo_patch_embed["ERA5"].weight.requires_grad


def test_other_weights_are_refused() -> None:
    own = seeded(S2)
    state = {f"encoder.{name}": one for name, one in own.state_dict().items()}
    assert load(build(("vv", "vh")), state, "default_model.pt").share == 1
    with pytest.raises(PackageError, match="0 of 50 tensors match"):
        load(build(S2), {"blocks.0.attn.q.weight": torch.zeros(128, 128)}, "encoder.pt")
    assert place(state, S2, ("nir", "red")) == state


def test_the_exported_graph_takes_images_of_any_size() -> None:
    runtime, _ = pytest.importorskip("onnxruntime"), pytest.importorskip("onnx")
    backbone, stream = seeded(S2, location=(52.4, -4.1)), io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            backbone,
            (torch.rand(2, 10, 8, 8),),
            stream,
            input_names=["image"],
            dynamic_axes={"image": {0: "batch", 2: "row", 3: "col"}},
            opset_version=17,
            dynamo=False,
        )
    session = runtime.InferenceSession(stream.getvalue(), providers=["CPUExecutionProvider"])
    for shape in ((1, 10, 8, 8), (3, 10, 5, 12)):
        image = torch.rand(shape, generator=torch.Generator().manual_seed(3))
        np.testing.assert_allclose(session.run(None, {"image": image.numpy()})[0], features(backbone, image).numpy(), rtol=0, atol=1e-5)


@pytest.mark.slow
def test_the_published_file_becomes_a_map(tmp_path: Path, shared_data: Callable[[str], Path]) -> None:
    settings = ("epochs=3", "draws=24", "batch=2", "tile=32", "map_tile=32", "block=32")
    weights = shared_data("weights") / "presto_default_model.pt"
    agreement, commonest = map_from("presto", weights, shared_data("s2_wales"), tmp_path, 128, settings)
    assert agreement > commonest + 0.1
