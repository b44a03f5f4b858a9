"""Probes as ONNX graphs that map like any network: prepared images in, scores of the classes out, pixel by pixel.

A linear probe is a softmax over weighted sums. A nearest-neighbour probe compares a pixel's vector with all that it has learned, by the
cosine of their angle, and lets the nearest vote, each the more the nearer (Wu et al., "Unsupervised feature learning via non-parametric
instance discrimination", CVPR 2018, with their temperature).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import require
from geoseg.models.description import DEFAULT_OUTPUT

LINEAR, NEAREST = "probe.linear", "probe.knn"
"""Stand in the `architecture` of a package that holds a probe."""
TEMPERATURE = 0.07
"""A neighbour at cosine c has exp(c / temperature) votes (Wu et al., 2018)."""
_INPUT = "image"
_OPSET, _IR = 17, 8
_NO_SCORE = -1e9
"""Weighted sum of a class that was never seen: its score is exactly 0."""
_SHORTEST = 1e-12
"""A vector shorter than this has no direction, and is left as it is."""


def linear_onnx(weights: NDArray[np.floating[Any]], bias: NDArray[np.floating[Any]], classes: Sequence[int], count: int) -> bytes:
    """A linear probe as ONNX: `image` (batch, channel, row, col) float32 → `classes` (batch, class, row, col).

    `weights` (seen class, channel) and `bias` (seen class,) are those of `classes`, indices among `count`; the other ones get score 0.
    """
    kernel = np.zeros((count, weights.shape[1], 1, 1), np.float32)
    offset = np.full(count, _NO_SCORE, np.float32)
    kernel[list(classes), :, 0, 0], offset[list(classes)] = weights, bias
    helper = require("onnx.helper", extra="forest")
    nodes = [
        helper.make_node("Conv", [_INPUT, "kernel", "offset"], ["sums"]),
        helper.make_node("Softmax", ["sums"], [DEFAULT_OUTPUT], axis=1),
    ]
    return _model("linear", nodes, {"kernel": kernel, "offset": offset}, weights.shape[1], count)


def nearest_onnx(
    vectors: NDArray[np.floating[Any]], classes: NDArray[np.integer[Any]], neighbours: int, count: int, *, temperature: float = TEMPERATURE
) -> bytes:
    """A nearest-neighbour probe as ONNX: `image` (batch, channel, row, col) float32 → `classes` (batch, class, row, col).

    `vectors` (example, channel) are of `classes` (example,), indices among `count`; `neighbours` of them vote. What a tile of so many
    pixels takes in memory is their number times that of the examples.
    """
    helper = require("onnx.helper", extra="forest")
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    directions = (vectors / np.maximum(length, _SHORTEST)).astype(np.float32)
    channels = vectors.shape[1]
    constants = {
        "examples": np.ascontiguousarray(directions.T),  # (channel, example)
        "votes": np.eye(count, dtype=np.float32)[classes],  # (example, class)
        "shortest": np.array(_SHORTEST, np.float32),
        "neighbours": np.array([neighbours]),
        "one": np.array(1, np.float32),
        "temperature": np.array(temperature, np.float32),
        "pixels": np.array([-1, channels]),
        "count": np.array([count]),
        "behind": np.array([2]),
        "beside": np.array([1]),
    }
    nodes = [
        helper.make_node("Transpose", [_INPUT], ["last"], perm=[0, 2, 3, 1]),
        helper.make_node("Reshape", ["last", "pixels"], ["table"]),  # (pixel, channel)
        helper.make_node("ReduceL2", ["table"], ["length"], axes=[1], keepdims=1),
        helper.make_node("Max", ["length", "shortest"], ["divisor"]),
        helper.make_node("Div", ["table", "divisor"], ["directions"]),
        helper.make_node("MatMul", ["directions", "examples"], ["cosines"]),  # (pixel, example)
        helper.make_node("TopK", ["cosines", "neighbours"], ["nearest", "which"], axis=1),
        helper.make_node("Sub", ["nearest", "one"], ["below"]),  # at most 0, so that nothing grows too large
        helper.make_node("Div", ["below", "temperature"], ["powers"]),
        helper.make_node("Exp", ["powers"], ["weights"]),  # (pixel, neighbour)
        helper.make_node("Gather", ["votes", "which"], ["ballots"], axis=0),  # (pixel, neighbour, class)
        helper.make_node("Unsqueeze", ["weights", "behind"], ["weighing"]),
        helper.make_node("Mul", ["ballots", "weighing"], ["weighed"]),
        helper.make_node("ReduceSum", ["weighed", "beside"], ["sums"], keepdims=0),
        helper.make_node("ReduceSum", ["weights", "beside"], ["whole"], keepdims=1),
        helper.make_node("Div", ["sums", "whole"], ["shares"]),
        helper.make_node("Shape", ["last"], ["edges"], start=0, end=3),
        helper.make_node("Concat", ["edges", "count"], ["full"], axis=0),
        helper.make_node("Reshape", ["shares", "full"], ["scores"]),
        helper.make_node("Transpose", ["scores"], [DEFAULT_OUTPUT], perm=[0, 3, 1, 2]),
    ]
    return _model("nearest", nodes, constants, channels, count)


def vote_weights(distances: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """The same votes by cosine distance (1 - cosine), as scikit-learn's classifiers ask for their `weights`."""
    return np.asarray(np.exp(-distances / TEMPERATURE))


def _model(name: str, nodes: Sequence[Any], constants: dict[str, NDArray[Any]], channels: int, count: int) -> bytes:
    helper, numpy_helper = require("onnx.helper", extra="forest"), require("onnx.numpy_helper", extra="forest")
    from onnx import TensorProto

    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info(_INPUT, TensorProto.FLOAT, ["batch", channels, "row", "col"])],
        [helper.make_tensor_value_info(DEFAULT_OUTPUT, TensorProto.FLOAT, ["batch", count, "row", "col"])],
        [numpy_helper.from_array(values, constant) for constant, values in constants.items()],
    )
    model: bytes = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR).SerializeToString()
    return model
