"""Small real model packages for the tests: networks whose answer is known, written with onnx."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike
from onnx import TensorProto, helper, numpy_helper

from geoseg.legend import Legend, LegendClass
from geoseg.models.package import ModelDescription, ModelPackage, Output, write_package
from geoseg.preprocess.prepare import BandNeed, Channel, Preparation

WORLDCOVER = Legend(
    tuple(LegendClass(i, 10 * (i + 1), f"cover {10 * (i + 1)}", f"#{20 * (i + 1):02x}8040") for i in range(10)),
    nodata=0,
)
"""Ten classes with codes 10…100, as WorldCover has them."""
CORINE = Legend(
    tuple(LegendClass(i, code, f"land {code}", f"#40{10 + 40 * i:02x}80") for i, code in enumerate((111, 112, 211, 311, 512, 523))),
    nodata=0,
)
"""Six classes with codes up to 523, which need uint16."""


def preparation_for(roles: Sequence[str], *, unit: str | None = None) -> Preparation:
    """Every band as its own channel with mean 0 and deviation 1; units as in the sensor `generic` unless one is given."""
    radar = {"vv", "vh", "hh", "hv"}
    units = {"height": "m", "lwir11": "K", "incidence_angle": "degree"} | dict.fromkeys(radar, "dB")
    bands = tuple(
        BandNeed(role=role, unit=unit or units.get(role, "1"), convention="gamma0_rtc" if role in radar else None) for role in roles
    )
    return Preparation(bands=bands, channels=tuple(Channel(name=role) for role in roles))


def constant_package(
    folder: Path, roles: Sequence[str], class_index: int, n_classes: int, *, legend: Legend | None = None, **changes: Any
) -> ModelPackage:
    """Gives `class_index` everywhere, with a score of 0.75 (1 where there is but one class)."""
    scores = np.full(n_classes, 0.25 / max(1, n_classes - 1))
    scores[class_index] = 0.75 if n_classes > 1 else 1.0
    nodes, weights = _conv("image", "classes", np.zeros((n_classes, _channels(roles, changes), 1, 1)), scores)
    return _classes_package(folder, roles, nodes, weights, legend, n_classes, changes)


def per_pixel_package(
    folder: Path, roles: Sequence[str], weights: ArrayLike, bias: ArrayLike = 0.0, *, legend: Legend | None = None, **changes: Any
) -> ModelPackage:
    """Softmax of `weights` (class, channel) times the pixel's channels plus `bias` (class): sees one pixel."""
    matrix = np.asarray(weights, dtype=np.float32)
    nodes, tensors = _conv("image", "logits", matrix[:, :, None, None], np.broadcast_to(np.asarray(bias), matrix.shape[:1]))
    nodes.append(helper.make_node("Softmax", ["logits"], ["classes"], axis=1))
    return _classes_package(folder, roles, nodes, tensors, legend, len(matrix), changes)


def threshold_package(
    folder: Path, roles: Sequence[str] = ("red",), threshold: float = 100, *, legend: Legend | None = None, **changes: Any
) -> ModelPackage:
    """Class 1 where the channel `red` (the first where there is none) exceeds `threshold`, else 0; scores are exactly 0 and 1."""
    channel = list(roles).index("red") if "red" in roles else 0
    tensors = [
        numpy_helper.from_array(np.array([channel], dtype=np.int64), "channel"),
        numpy_helper.from_array(np.array(threshold, dtype=np.float32), "threshold"),
    ]
    nodes = [
        helper.make_node("Gather", ["image", "channel"], ["red"], axis=1),
        helper.make_node("Greater", ["red", "threshold"], ["above"]),
        helper.make_node("Not", ["above"], ["below"]),
        helper.make_node("Cast", ["above"], ["yes"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["below"], ["no"], to=TensorProto.FLOAT),
        helper.make_node("Concat", ["no", "yes"], ["classes"], axis=1),
    ]
    return _classes_package(folder, roles, nodes, tensors, legend, 2, changes)


def neighbourhood_package(
    folder: Path, radius: int, roles: Sequence[str] = ("red",), *, legend: Legend | None = None, **changes: Any
) -> ModelPackage:
    """Softmax of minus and plus the mean of all channels over a window of 2 x `radius` + 1: sees just that far; 0 beyond the tile."""
    size, channels = 2 * radius + 1, _channels(roles, changes)
    mean = np.ones((1, channels, size, size)) / (size * size * channels)
    nodes, tensors = _conv("image", "logits", np.concatenate([-mean, mean]), np.zeros(2), pad=radius)
    nodes.append(helper.make_node("Softmax", ["logits"], ["classes"], axis=1))
    return _classes_package(folder, roles, nodes, tensors, legend, 2, changes)


def ice_chart_package(folder: Path, roles: Sequence[str] = ("hh", "hv"), **changes: Any) -> ModelPackage:
    """Three outputs: concentration (0…100 %), stage of development and floe size, as an ice chart has them.

    Concentration is 50 + 10 x the first channel, kept inside 0…100; the classes are softmaxes of fixed weights.
    """
    stage = Legend.from_names(("open water", "new ice", "young ice", "thin first-year ice", "thick first-year ice", "old ice"))
    floe = Legend(tuple(LegendClass(i, code, f"floe {code}", f"#{30 * i:02x}a0a0") for i, code in enumerate((22, 30, 31, 32))), nodata=99)
    outputs = (
        Output(name="concentration", kind="quantity", unit="%", range=(0.0, 100.0)),
        Output.from_legend("stage", stage),
        Output.from_legend("floe", floe),
    )
    channels = _channels(roles, changes)
    first = np.eye(1, channels)[:, :, None, None]
    nodes, tensors = _conv("image", "tenfold", 10 * first, np.full(1, 50.0))
    nodes.append(helper.make_node("Clip", ["tenfold", "least", "greatest"], ["concentration"]))
    tensors += [numpy_helper.from_array(np.array(value, dtype=np.float32), name) for name, value in (("least", 0), ("greatest", 100))]
    for name, legend in (("stage", stage), ("floe", floe)):
        slopes = np.linspace(-1, 1, len(legend))[:, None, None, None] * np.ones((1, channels, 1, 1))
        more_nodes, more_tensors = _conv("image", f"{name}_logits", slopes, np.zeros(len(legend)))
        nodes += [*more_nodes, helper.make_node("Softmax", [f"{name}_logits"], [name], axis=1)]
        tensors += more_tensors
    return _package(folder, roles, nodes, tensors, outputs, changes)


def building_package(folder: Path, *, separator: str | None = None, **changes: Any) -> ModelPackage:
    """Building where the first of two channels, `red` and `nir`, exceeds 0.5; `nir` is what a second output gives.

    `separator` is `edges` (classes "inside" and "edge", whose scores are 1 - nir and nir), `distance` (in m), or None.
    """
    roles = ("red", "nir")
    nodes, tensors = _conv("image", "logits", np.array([[-1000.0, 0], [1000, 0]])[:, :, None, None], np.array([500.0, -500]))
    nodes.append(helper.make_node("Softmax", ["logits"], ["classes"], axis=1))
    outputs = [Output.from_legend("classes", Legend.from_names(["ground", "building"]))]
    if separator == "edges":
        outputs.append(Output.from_legend("edges", Legend.from_names(["inside", "edge"])))
        more = _conv("image", "edges", np.array([[0.0, -1], [0, 1]])[:, :, None, None], np.array([1.0, 0]))
    elif separator == "distance":
        outputs.append(Output(name="distance", kind="quantity", unit="m", range=(0.0, 1000.0)))
        more = _conv("image", "distance", np.array([[0.0, 1]])[:, :, None, None], np.zeros(1))
    else:
        more = [], []
    fine = {"pixel_size_m": 0.3, "pixel_size_range_m": (0.1, 20.0)}
    return _package(folder, roles, nodes + more[0], tensors + more[1], outputs, {**fine, **changes})


def describe(roles: Sequence[str], outputs: Sequence[Output], **changes: Any) -> ModelDescription:
    """A description for tests: 10 m pixels (5…20), tiles of 64 with overlap 16 and stride 1; `changes` replace its fields."""
    fields: dict[str, Any] = {
        "name": "test-model",
        "title": "Test model",
        "description": "A network whose answer is known; it maps nothing real.",
        "licence": "MIT",
        "preparation": preparation_for(roles),
        "outputs": tuple(outputs),
        "pixel_size_m": 10.0,
        "pixel_size_range_m": (5.0, 20.0),
        "tile": 64,
        "overlap": 16,
        "stride": 1,
        "created": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    }
    return ModelDescription(**{**fields, **changes})


def _channels(roles: Sequence[str], changes: dict[str, Any]) -> int:
    return len(changes["preparation"].channels) if "preparation" in changes else len(roles)


def _conv(source: str, target: str, weights: Any, bias: Any, *, pad: int = 0) -> tuple[list[Any], list[Any]]:
    named = ((f"{target}_weights", weights), (f"{target}_bias", bias))
    tensors = [numpy_helper.from_array(np.asarray(values, dtype=np.float32), name) for name, values in named]
    return [helper.make_node("Conv", [source, *(tensor.name for tensor in tensors)], [target], pads=[pad] * 4)], tensors


def _classes_package(
    folder: Path, roles: Sequence[str], nodes: list[Any], tensors: list[Any], legend: Legend | None, n_classes: int, changes: dict[str, Any]
) -> ModelPackage:
    legend = legend or Legend.from_names([f"class {i}" for i in range(n_classes)])
    assert len(legend) == n_classes
    return _package(folder, roles, nodes, tensors, (Output.from_legend("classes", legend),), changes)


def _package(
    folder: Path, roles: Sequence[str], nodes: list[Any], tensors: list[Any], outputs: Sequence[Output], changes: dict[str, Any]
) -> ModelPackage:
    def plane(name: str, count: int) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", count, "row", "col"])

    image = plane("image", _channels(roles, changes))
    graph = helper.make_graph(nodes, "known", [image], [plane(output.name, output.planes) for output in outputs], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return write_package(folder, describe(roles, outputs, **changes), onnx=model.SerializeToString())
