"""Published networks as a group: rows of the table fit the networks that they name, and files of other networks are refused."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("timm")

import torch
from test_backbones import ROLES, SMALL

from geoseg.backbones.contract import build_backbone
from geoseg.backbones.croma import S1, S2
from geoseg.backbones.key_report import load_matching
from geoseg.backbones.published import published_models
from geoseg.errors import PackageError
from geoseg.models.states import read_state

CONVERTED = {name: model for name, model in published_models().items() if model.status == "layout test only"}


@pytest.mark.parametrize("name", CONVERTED)
def test_the_network_of_each_row_can_be_built_with_its_patches(name: str) -> None:
    model = CONVERTED[name]
    with torch.device("meta"):
        backbone = build_backbone({"family": model.family, **model.options}, model.roles)
    assert model.patch in (None, backbone.strides[0])


@pytest.mark.parametrize("family", sorted({str(model.family) for model in CONVERTED.values()}))
def test_a_file_of_another_network_is_refused(family: str) -> None:
    backbone = build_backbone({"family": family, **SMALL[family]}, ROLES)
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    other = {f"swin.layers.{number}.weight": torch.zeros(4) for number in range(379)}
    with pytest.raises(PackageError):
        import_module(f"geoseg.backbones.{family}").load(backbone, other, "a Swin transformer")
    torch.testing.assert_close(backbone.state_dict(), before, rtol=0, atol=0)


def test_a_file_without_any_name_of_the_network_is_refused_with_the_counts() -> None:
    """379 names in the file, 357 in the network, none in both: what torchgeo once loaded in silence (its issue 3991)."""
    network = torch.nn.Sequential(*(torch.nn.Linear(1, 1, bias=False) for _ in range(357)))
    state = {f"backbone.{number}.weight": torch.ones(1, 1) for number in range(379)}
    before = [layer.weight.clone() for layer in network]
    with pytest.raises(PackageError, match=r"0 of 357 tensors match.*379 unexpected"):
        load_matching(network, state, "deo.ckpt")
    assert all(torch.equal(layer.weight, kept) for layer, kept in zip(network, before, strict=True))
    report = load_matching(network, {name.removeprefix("backbone."): tensor for name, tensor in state.items()}, "deo.ckpt")
    assert len(report.matched) == 357


@pytest.mark.parametrize("wrapped", [lambda state: state, lambda state: {"model": state, "epoch": 3}, lambda state: {"state_dict": state}])
def test_states_inside_a_file_are_found_under_the_names_that_families_convert(
    tmp_path: Path, wrapped: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    """CROMA's file is a dict of dicts; others hold their state beside an epoch, or as Lightning does."""
    original = build_backbone({"family": "croma", **SMALL["croma"]}, (*S1, *S2))
    parts = ("s1_encoder", "s2_encoder", "joint_encoder")
    nested = {part: getattr(original, part).state_dict() for part in parts} | {"s1_GAP_FFN": {"0.weight": torch.ones(3)}}
    torch.save(wrapped(nested), tmp_path / "CROMA_base.pt")
    backbone = build_backbone({"family": "croma", **SMALL["croma"]}, (*S1, *S2))
    report = import_module("geoseg.backbones.croma").load(backbone, read_state(tmp_path / "CROMA_base.pt"), "CROMA_base.pt")
    assert report.share == 1.0
    torch.testing.assert_close(backbone.state_dict(), original.state_dict(), rtol=0, atol=0)


@pytest.mark.slow
@pytest.mark.parametrize("family", sorted({str(model.family) for model in CONVERTED.values()}))
def test_features_are_the_same_in_onnxruntime(family: str) -> None:
    """For other images than the graph was traced with; the class token and the places follow their number and size."""
    runtime = pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    backbone = build_backbone({"family": family, **SMALL[family]}, ROLES).eval()
    edge, graph = backbone.strides[-1], io.BytesIO()
    names = [f"level{number}" for number in range(len(backbone.strides))]
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer warns of each shape check, which is a constant here
        example = torch.randn(2, len(ROLES), 2 * edge, 2 * edge)
        free = {name: {0: "batch", 2: "row", 3: "col"} for name in ("image", *names)}
        words = {"input_names": ["image"], "output_names": names, "dynamic_axes": free, "opset_version": 17, "dynamo": False}
        torch.onnx.export(torch.nn.Sequential(backbone).eval(), (example,), graph, **words)
        session = runtime.InferenceSession(graph.getvalue(), providers=["CPUExecutionProvider"])
        for shape in ((1, len(ROLES), edge, 3 * edge), (3, len(ROLES), 4 * edge, 2 * edge)):
            scene = torch.randn(shape)
            for level, made in zip(backbone(scene), session.run(None, {"image": scene.numpy()}), strict=True):
                torch.testing.assert_close(torch.from_numpy(made), level, atol=2e-4, rtol=2e-4)
