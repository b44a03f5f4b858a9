"""Galileo: features of the authors' network with their weights, groups that are there, windows, and a map from its encoder."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import Ran, refusal

pytest.importorskip("torch")
pytest.importorskip("timm")

import torch
from published_map import map_from
from reference_features import cases, difference, prepared

from geoseg.backbones.galileo import DATED, LASTING, STATISTICS, Galileo, build, load, place
from geoseg.backbones.published import get_published
from geoseg.errors import PackageError
from geoseg.models.encoders import Encoder

RUN_ON_REAL_WEIGHTS = ("galileo-nano",)
LAYOUT_TESTED = ("galileo-tiny", "galileo-base")
S2 = ("blue", "green", "red", "rededge071", "rededge075", "rededge078", "nir", "nir08", "swir16", "swir22")
FILES = {"galileo-nano": "galileo_nano_encoder.pt"}
"""Published network → its file below `weights`."""


def published(shared_data: Callable[[str], Path], name: str = "galileo-nano") -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(shared_data("weights") / FILES[name], map_location="cpu", weights_only=True)
    return state


def seeded(roles: Sequence[str], **options: Any) -> Galileo:
    """Random weights, the same for any bands; groups are told apart, as they are after training."""
    torch.manual_seed(0)
    backbone = build(roles, **options).eval()
    with torch.no_grad():
        for name in ("s_t_channel_embed", "sp_channel_embed"):
            backbone.get_parameter(name).normal_(generator=torch.Generator().manual_seed(1))
    return backbone


def noise(roles: Sequence[str], rows: int = 16, cols: int = 16) -> torch.Tensor:
    return torch.randn(1, len(roles), rows, cols, generator=torch.Generator().manual_seed(2))


def last(backbone: Galileo, image: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return backbone(image)[-1]


@pytest.mark.parametrize("network", RUN_ON_REAL_WEIGHTS)
@pytest.mark.parametrize("case", cases("galileo"), ids=lambda case: str(case["name"]))
def test_features_are_those_of_the_authors_network(network: str, case: Mapping[str, Any], shared_data: Callable[[str], Path]) -> None:
    state, image = published(shared_data, network), prepared(case["roles"], case["edge"], STATISTICS, STATISTICS)
    options = {**get_published(network).options, **case["options"]}
    backbone = build(case["roles"], **options)
    report = load(backbone, state, network)
    assert (report.missing, report.unexpected, report.misshapen) == ((), (), ())
    assert difference(backbone, image, case) < 1e-5
    if "@" not in case["roles"][0]:
        december = build(case["roles"], **{**options, "month": 12})
        load(december, state, network)
        assert difference(december, image, case) > 1e-3


@pytest.mark.parametrize(("size", "parameters", "tensors"), [("nano", 1_037_856, 106), ("tiny", 5_705_520, 234), ("base", 86_523_072, 234)])
def test_sizes_are_those_of_the_paper(size: str, parameters: int, tensors: int) -> None:
    with torch.device("meta"):
        backbone = build(S2, size=size)
    assert (sum(one.numel() for one in backbone.parameters()), len(backbone.state_dict())) == (parameters, tensors)


@pytest.mark.parametrize("network", LAYOUT_TESTED)
def test_the_larger_files_are_laid_out_as_the_smallest(network: str, shared_data: Callable[[str], Path]) -> None:
    options = get_published(network).options
    with torch.device("meta"):
        backbone = build(S2, **options)
    wider = {32: backbone.width // 4, 128: backbone.width, 512: 4 * backbone.width}
    expected = {}
    for name, tensor in published(shared_data).items():
        shape = tuple(wider.get(edge, edge) for edge in tensor.shape)
        for block in range(len(backbone.blocks)) if name.startswith("blocks.0.") else (0,):
            expected[name.replace("blocks.0.", f"blocks.{block}.")] = shape
    assert {name: tuple(tensor.shape) for name, tensor in backbone.state_dict().items()} == expected


@pytest.mark.parametrize("network", RUN_ON_REAL_WEIGHTS + LAYOUT_TESTED)
def test_the_table_has_the_authors_statistics(network: str) -> None:
    row = get_published(network)
    assert set(row.roles) == {role for group in (*DATED.values(), LASTING["SRTM"]) for role in group}
    for role in row.roles:
        assert row.statistics(role) == pytest.approx(STATISTICS[role], rel=1e-12)


def test_bands_in_another_order_give_the_same_features() -> None:
    roles, order = (*S2, "vv", "vh", "height", "slope"), [3, 11, 0, 12, 1, 13, 10, 2, 9, 4, 8, 5, 7, 6]
    image, turned = noise(roles), tuple(roles[at] for at in order)
    straight = last(seeded(roles, patch=4), image)
    torch.testing.assert_close(last(seeded(turned, patch=4), image[:, order]), straight, rtol=0, atol=1e-6)
    assert not torch.allclose(last(seeded(roles, patch=4), image[:, order]), straight, atol=1e-2)


def test_a_group_that_is_not_there_gives_no_token() -> None:
    counts: list[int] = []
    with_radar, without = seeded((*S2, "vv", "vh"), patch=4), seeded(S2, patch=4)
    for backbone in (with_radar, without):
        backbone.blocks[0].register_forward_pre_hook(lambda _, given: counts.append(given[0].shape[1]))
    image = noise(S2)
    alone, zeros = last(without, image), last(with_radar, torch.cat([image, torch.zeros(1, 2, 16, 16)], dim=1))
    assert counts == [16 * 6, 16 * 7]
    assert not torch.allclose(alone, zeros, atol=1e-2)


def test_red_and_near_infrared_alone_are_an_index_and_a_band() -> None:
    assert [token.group for token in seeded(("nir", "red")).seen] == ["S2_NIR_10m", "NDVI"]


def test_no_reflectance_has_no_index_and_a_negative_one_a_bounded_one() -> None:
    backbone = seeded(("red", "nir"), patch=1)
    reflectance = torch.tensor([[0.0, 0.0], [-0.01, 0.0101], [0.1, 0.3]]).T[None, :, None]  # (1, band, 1, col)
    mean, std = (torch.tensor([STATISTICS[role][at] for role in ("red", "nir")]).view(1, 2, 1, 1) for at in (0, 1))
    made = backbone._ndvi((reflectance - mean) / std, backbone.seen[1])
    torch.testing.assert_close(made.flatten(), torch.tensor([0.0, 1.0, 0.5]), rtol=0, atol=1e-5)


def test_dates_in_another_order_give_the_same_features_and_their_order_in_time_counts() -> None:
    roles = ("red@11", "nir@11", "red@02", "nir@02", "vv@02", "vh@02")
    image, order = noise(roles), [4, 2, 0, 5, 3, 1]
    backbone = seeded(roles, patch=4)
    assert [(token.step, token.month) for token in backbone.seen] == [(0, 1)] * 3 + [(1, 10)] * 2
    straight = last(backbone, image)
    turned = last(seeded([roles[at] for at in order], patch=4), image[:, order])
    torch.testing.assert_close(turned, straight, rtol=0, atol=1e-6)
    winter = seeded(roles, patch=4, periods=["11", "02"])
    assert [(token.step, token.month) for token in winter.seen] == [(0, 10)] * 2 + [(1, 1)] * 3
    assert not torch.allclose(last(winter, image), straight, atol=1e-3)


def test_each_window_is_seen_by_itself() -> None:
    image = noise(S2, 24, 40)  # 6 x 10 patches: windows of at most 4 become 3 x 4, the last of them 3 x 2
    whole, cut = seeded(S2, patch=4), seeded(S2, patch=4, window=4)
    made = last(cut, image)
    assert made.shape == (1, 128, 6, 10)
    for row in (0, 3):
        for col, cols in ((0, 4), (4, 4), (8, 2)):
            alone = last(whole, image[..., 4 * row : 4 * (row + 3), 4 * col : 4 * (col + cols)])
            torch.testing.assert_close(made[..., row : row + 3, col : col + cols], alone, rtol=0, atol=1e-5)
    assert not torch.allclose(made, last(whole, image), atol=1e-2)


def test_weights_that_no_band_feeds_are_not_learned() -> None:
    backbone = seeded(S2, patch=4)
    for level in backbone(noise(S2)):
        level.sum().backward(retain_graph=True)
    silent = [name for name, one in backbone.named_parameters() if one.requires_grad and one.grad is None]
    assert silent == []
    assert not any(one.requires_grad for one in backbone.time_embed.parameters())


def test_names_with_backbone_in_them_load_and_other_sizes_are_refused() -> None:
    own = seeded(S2)
    state = {name.replace("blocks.", "blocks.backbone.").replace("norm.", "backbone.norm."): one for name, one in own.state_dict().items()}
    other = build(S2, size="nano")
    assert load(other, state, "encoder.pt").share == 1
    torch.testing.assert_close(last(other.eval(), noise(S2)), last(own, noise(S2)))
    before = {name: one.clone() for name, one in other.state_dict().items()}
    with pytest.raises(PackageError, match="misshapen"):
        load(other, {name: torch.zeros(3) for name in state}, "encoder.pt")
    few = dict(list(own.state_dict().items())[:90])
    with pytest.raises(PackageError, match="at least 90%"):
        load(other, few, "encoder.pt")
    torch.testing.assert_close(dict(other.state_dict()), before)
    assert place(state, S2, ("nir", "red")) == state


@pytest.mark.parametrize(
    ("roles", "options", "said"),
    [
        (("red", "nir", "lwir11"), {}, "no band 'lwir11'"),
        (("nir", "green"), {}, "only together with others \\(blue, green, red\\)"),
        (("red", "nir", "red"), {}, "stands twice"),
        (("red@05", "nir@05", "vv", "vh"), {}, "has no date"),
        (("nir@05", "height@05"), {}, "call it 'height'"),
        (("nir@spring",), {}, "does not name a month"),
        (("nir@01", "nir@02"), {"months": [1]}, "1 months for 2 dates"),
        (("nir@01", "nir@02"), {"periods": ["01", "03"]}, "the bands have 01, 02"),
        (("nir",), {"month": 0}, "expected 1 \\(January\\) to 12"),
        (("nir",), {"patch": 9}, "1 to 8"),
        (("nir",), {"size": "large"}, "nano, tiny, base"),
        (("nir",), {"window": 0}, "more than 0"),
        (("nir",), {"location": [100, 0]}, "latitude"),
        (tuple(f"nir@{at}" for at in range(100, 125)), {"months": [1] * 25}, "at most 24"),
    ],
)
def test_what_cannot_be_built_is_refused(roles: tuple[str, ...], options: dict[str, Any], said: str) -> None:
    with pytest.raises(PackageError, match=said):
        build(roles, **options)


def test_the_exported_graph_takes_images_of_any_size() -> None:
    runtime, _ = pytest.importorskip("onnxruntime"), pytest.importorskip("onnx")
    backbone, stream = seeded(S2, patch=4, window=5, location=(52.4, -4.1)), io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _Last(backbone).eval(),
            (torch.zeros(2, 10, 32, 32),),
            stream,
            input_names=["image"],
            output_names=["features"],
            dynamic_axes={"image": {0: "batch", 2: "row", 3: "col"}},
            opset_version=17,
            dynamo=False,
        )
    session = runtime.InferenceSession(stream.getvalue(), providers=["CPUExecutionProvider"])
    for shape in ((1, 10, 32, 32), (3, 10, 12, 44)):
        image = torch.randn(shape, generator=torch.Generator().manual_seed(3))
        np.testing.assert_allclose(session.run(None, {"image": image.numpy()})[0], last(backbone, image).numpy(), rtol=0, atol=1e-5)


class _Last(torch.nn.Module):
    def __init__(self, backbone: Galileo) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.backbone(image)[-1]
        return made


@pytest.mark.slow
def test_the_published_file_becomes_a_map(tmp_path: Path, shared_data: Callable[[str], Path]) -> None:
    settings = ("epochs=4", "draws=48", "batch=4", "tile=64", "map_tile=64", "block=64")
    weights = shared_data("weights") / "galileo_nano_encoder.pt"
    agreement, commonest = map_from("galileo-nano", weights, shared_data("s2_wales"), tmp_path, 256, settings)
    assert agreement > commonest + 0.1


def test_options_of_the_network_are_given_where_it_is_fetched(
    geoseg: Callable[..., Ran], place: Path, shared_data: Callable[[str], Path]
) -> None:
    weights = shared_data("weights") / "galileo_nano_encoder.pt"
    fetch = ("models", "fetch", "galileo-nano", "--file", weights, "--bands", "red,nir", "-o")
    assert geoseg(*fetch, "encoder", "-s", "month=2", "-s", "patch=4").code == 0
    architecture = Encoder.open(place / "encoder").architecture
    assert (architecture["month"], architecture["patch"]) == (2, 4)
    assert "month" in refusal(geoseg, place, *fetch, "other", "-s", "month=winter")
