"""Small networks of several layers for the tests, seeded, as model packages."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from packages import describe

from geoseg.legend import Legend
from geoseg.models.package import ModelPackage, Output, write_package


def layered_package(
    folder: Path,
    roles: Sequence[str] = ("red",),
    *,
    seed: int = 0,
    layers: int = 3,
    quantity: bool = False,
    calibrated: bool = False,
    **changes: Any,
) -> ModelPackage:
    """Random 3 x 3 convolutions with rectifiers between them, then softmax over three classes, or a quantity from 0 to 100 %.

    No kernel has a symmetry, so a turned image gives other scores than the turned ones.
    """
    generator = np.random.default_rng(seed)
    counts = [len(roles), *[8] * (layers - 1), 1 if quantity else 3]
    nodes, tensors, before = [], [], "image"
    for layer, (given, made) in enumerate(pairwise(counts)):
        weights = generator.normal(0, np.sqrt(2 / (9 * given)), (made, given, 3, 3)).astype(np.float32)
        tensors += [
            numpy_helper.from_array(weights, f"weights{layer}"),
            numpy_helper.from_array(np.zeros(made, np.float32), f"bias{layer}"),
        ]
        last = layer + 1 == layers
        nodes.append(helper.make_node("Conv", [before, f"weights{layer}", f"bias{layer}"], [f"sums{layer}"], pads=[1] * 4))
        if not last:
            nodes.append(helper.make_node("Relu", [f"sums{layer}"], [f"rectified{layer}"]))
        before = f"sums{layer}" if last else f"rectified{layer}"
    if quantity:
        outputs = (Output(name="cover", kind="quantity", unit="%", range=(0.0, 100.0)),)
        tensors += [numpy_helper.from_array(np.float32(value), name) for name, value in (("half", 50), ("least", 0), ("most", 100))]
        nodes += [helper.make_node("Add", [before, "half"], ["moved"]), helper.make_node("Clip", ["moved", "least", "most"], ["cover"])]
    else:
        outputs = (Output.from_legend("classes", Legend.from_names(["class 0", "class 1", "class 2"]), calibrated=calibrated),)
        nodes.append(helper.make_node("Softmax", [before], ["classes"], axis=1))
    return write_package(folder, describe(roles, outputs, **changes), onnx=_graph(nodes, tensors, len(roles), outputs[0]))


def _graph(nodes: list[Any], tensors: list[Any], channels: int, output: Output) -> bytes:
    def plane(name: str, count: int) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", count, "row", "col"])

    graph = helper.make_graph(nodes, "layers", [plane("image", channels)], [plane(output.name, output.planes)], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    made: bytes = model.SerializeToString()
    return made
