"""A random forest as an ONNX graph that maps like any network: prepared images in, scores of the classes out, pixel by pixel.

The trees are a TreeEnsembleClassifier of ONNX's operators for machine learning (ai.onnx.ml 1), which onnxruntime computes. scikit-learn
compares float32 numbers with float64 thresholds; rounded down to float32, a threshold parts the same numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import require
from geoseg.models.description import DEFAULT_OUTPUT

FAMILY = "forest"
"""Stands in the `architecture` of a package that holds a forest."""
_INPUT = "image"
_OPSET, _ML_OPSET, _IR = 17, 1, 8


class Tree(Protocol):
    """What is read of one of scikit-learn's trees."""

    children_left: NDArray[np.int64]
    """(node,) where a number that is at most the threshold goes; -1 at a leaf."""
    children_right: NDArray[np.int64]
    feature: NDArray[np.int64]
    threshold: NDArray[np.float64]
    value: NDArray[np.float64]
    """(node, 1, class) shares, or weights, of the classes."""


def forest_onnx(trees: Sequence[Tree], classes: Sequence[int], channels: int, count: int) -> bytes:
    """The mean of the trees' class shares as ONNX: `image` (batch, channel, row, col) float32 → `classes` (batch, class, row, col).

    `classes` are the indices of the classes in the order of the trees' shares; the other ones of the `count` classes get score 0.
    """
    helper = require("onnx.helper", extra="forest")
    from onnx import TensorProto

    shape = ["batch", "row", "col"]
    constants = {"pixels": np.array([-1, channels]), "count": np.array([count])}
    trees_of = {"domain": "ai.onnx.ml", **_attributes(trees, classes, count)}
    nodes = [
        helper.make_node("Transpose", [_INPUT], ["last"], perm=[0, 2, 3, 1]),
        helper.make_node("Reshape", ["last", "pixels"], ["table"]),
        helper.make_node("TreeEnsembleClassifier", ["table"], ["guess", "shares"], **trees_of),
        helper.make_node("Shape", ["last"], ["edges"], start=0, end=3),
        helper.make_node("Concat", ["edges", "count"], ["full"], axis=0),
        helper.make_node("Reshape", ["shares", "full"], ["scores"]),
        helper.make_node("Transpose", ["scores"], [DEFAULT_OUTPUT], perm=[0, 3, 1, 2]),
    ]
    graph = helper.make_graph(
        nodes,
        "forest",
        [helper.make_tensor_value_info(_INPUT, TensorProto.FLOAT, [shape[0], channels, *shape[1:]])],
        [helper.make_tensor_value_info(DEFAULT_OUTPUT, TensorProto.FLOAT, [shape[0], count, *shape[1:]])],
        [helper.make_tensor(name, TensorProto.INT64, values.shape, values) for name, values in constants.items()],
    )
    opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid("ai.onnx.ml", _ML_OPSET)]
    model: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=_IR).SerializeToString()
    return model


def _attributes(trees: Sequence[Tree], classes: Sequence[int], count: int) -> dict[str, Any]:
    """All nodes of all trees side by side, as the operator has them."""
    parts: dict[str, list[NDArray[Any]]] = {name: [] for name in ("tree", "node", "feature", "value", "leaf", "left", "right")}
    weights: list[NDArray[np.float32]] = []
    for number, tree in enumerate(trees):
        nodes = np.arange(len(tree.feature))
        leaf = tree.children_left < 0
        parts["tree"].append(np.full(len(nodes), number))
        parts["node"].append(nodes)
        parts["feature"].append(np.where(leaf, 0, tree.feature))
        parts["value"].append(np.where(leaf, 0, round_down(tree.threshold)))
        parts["leaf"].append(leaf)
        parts["left"].append(np.where(leaf, 0, tree.children_left))
        parts["right"].append(np.where(leaf, 0, tree.children_right))
        shares = tree.value[leaf, 0]
        weights.append((shares / shares.sum(axis=1, keepdims=True) / len(trees)).astype(np.float32))
    whole = {name: np.concatenate(columns) for name, columns in parts.items()}
    leaves = np.flatnonzero(whole["leaf"])
    return {
        "nodes_treeids": whole["tree"].tolist(),
        "nodes_nodeids": whole["node"].tolist(),
        "nodes_featureids": whole["feature"].tolist(),
        "nodes_values": whole["value"].tolist(),
        "nodes_modes": np.where(whole["leaf"], "LEAF", "BRANCH_LEQ").tolist(),
        "nodes_truenodeids": whole["left"].tolist(),
        "nodes_falsenodeids": whole["right"].tolist(),
        "class_treeids": np.repeat(whole["tree"][leaves], len(classes)).tolist(),
        "class_nodeids": np.repeat(whole["node"][leaves], len(classes)).tolist(),
        "class_ids": np.tile(np.asarray(classes), len(leaves)).tolist(),
        "class_weights": np.concatenate(weights).ravel().tolist(),
        "classlabels_int64s": list(range(count)),
        "post_transform": "NONE",
    }


def round_down(thresholds: NDArray[np.float64]) -> NDArray[np.float32]:
    """The largest float32 that is not above each threshold: a float32 is at most the one where it is at most the other."""
    near = thresholds.astype(np.float32)
    below: NDArray[np.float32] = np.where(near > thresholds, np.nextafter(near, np.float32(-np.inf)), near)
    return below
