"""A package's network in 8-bit integers: its ONNX graph quantised after calibration on tiles of real scenes."""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import PackageError, require
from geoseg.mapping.drawn_tiles import Place, read_tile
from geoseg.models.package import ONNX, ModelPackage

_PRODUCTS = ("Conv", "ConvTranspose", "MatMul", "Gemm")
"""The layers that hold nearly all of the arithmetic."""
_QUANTISED = ("Conv", "MatMul", "Gemm", "Relu", "Add", "Mul", "Concat", "Resize", "MaxPool", "AveragePool", "GlobalAveragePool")
"""Convolutions and what lies between them, so that numbers stay in 8 bits from one to the next. Rectifiers belong to it: without them
the range before each, half of which it throws away, shares the 256 steps (IoU drops by a point and more). No ConvTranspose: onnxruntime
has no 8-bit one for processors and would only convert to and fro."""
_PERCENTILE = 99.999
"""The share of an activation's values that its range holds. With the whole range a few bright pixels take the steps from all others: the
difference of the maps doubles."""


def quantise(package: ModelPackage, tiles: Sequence[Place]) -> bytes:
    """The package's ONNX graph with 8-bit layers, whose ranges are those that the activations have on these tiles.

    Weights are signed, symmetric and per channel, and of 7 bits: processors without VNNI add pairs of products of 8-bit numbers in 16
    bits, which overflow with weights of 8. The graph then means the same on every processor, at a loss that is small beside that of the
    activations (of unsigned 8 bits, per tensor). The layers that see the image first and make the scores stay in 32 bits: they are
    narrow, so it costs little, and they make half of the error. One tile is held in memory at a time.

    Raises PackageError where the package has no ONNX graph, or one in which there is nothing to quantise.
    """
    onnx = require("onnx", extra="train")
    library = require("onnxruntime.quantization", extra="train")
    graph = float_graph(package)
    with tempfile.TemporaryDirectory(prefix="geoseg-int8-") as folder, _quiet():
        given, plain, made = (Path(folder) / name for name in ("given.onnx", "plain.onnx", "made.onnx"))
        given.write_bytes(graph)
        try:
            library.quant_pre_process(given, plain, skip_symbolic_shape=True)
            model = _named(onnx.load(plain))
            kept = _edge_layers(model, package)
            onnx.save(model, plain)
            library.quantize_static(
                plain,
                made,
                _Calibration(tiles),
                quant_format=library.QuantFormat.QDQ,
                op_types_to_quantize=list(_QUANTISED),
                nodes_to_exclude=kept,
                per_channel=True,
                reduce_range=True,
                activation_type=library.QuantType.QUInt8,
                weight_type=library.QuantType.QInt8,
                calibrate_method=library.CalibrationMethod.Percentile,
                extra_options={
                    "WeightSymmetric": True,
                    "ActivationSymmetric": False,
                    "CalibTensorRangeSymmetric": False,
                    "CalibPercentile": _PERCENTILE,
                    "CalibStridedMinMax": 1,  # despite its name: so many tiles are held at once, whatever the method
                },
            )
        except PackageError:
            raise
        except Exception as error:  # onnx, onnxruntime and its quantisation raise errors of many classes
            said = " ".join(str(error).split())[:200]
            raise PackageError(f"the ONNX graph in {package.path} cannot be quantised ({said}); map with fp32 or bf16 instead") from error
        return made.read_bytes()


def float_graph(package: ModelPackage) -> bytes:
    """The package's ONNX graph; PackageError where it has torch weights only."""
    if ONNX not in package.checksums:
        raise PackageError(f"{package.path} has weights for torch only; int8 is made from an ONNX graph: make the package again with one")
    return package.onnx


class _Calibration:
    """Prepared tiles, read one after the other, as onnxruntime's calibration asks for them."""

    def __init__(self, tiles: Sequence[Place]) -> None:
        self._tiles = tiles
        self._coming = iter(tiles)

    def __len__(self) -> int:
        return len(self._tiles)

    def set_range(self, start_index: int, end_index: int) -> None:
        """Give only these tiles from now on."""
        self._coming = iter(self._tiles[start_index:end_index])

    def get_next(self) -> Mapping[str, NDArray[np.float32]] | None:
        """The next input of the network, None at the end."""
        place = next(self._coming, None)
        return None if place is None else {"image": read_tile(place).image}


def _named(model: Any) -> Any:
    """The same model, in which every node has a name to be told by."""
    for number, node in enumerate(model.graph.node):
        node.name = node.name or f"node_{number}"
    return model


def _edge_layers(model: Any, package: ModelPackage) -> list[str]:
    """Names of the nodes that stay in 32 bits: products with no other product before them, or none behind.

    PackageError where that leaves nothing, or the graph is in 8 bits already.
    """
    nodes = list(model.graph.node)
    if any(node.op_type in ("QuantizeLinear", "QLinearConv", "ConvInteger", "MatMulInteger") for node in nodes):
        raise PackageError(f"the ONNX graph in {package.path} is quantised already; give the package that it was made from")
    products = [node.name for node in nodes if node.op_type in _PRODUCTS]
    behind_one = _reached(nodes, forward=True)
    before_one = _reached(nodes, forward=False)
    edges = [name for name in products if name not in behind_one or name not in before_one]
    inner = [node.name for node in nodes if node.op_type in _PRODUCTS and node.op_type in _QUANTISED and node.name not in edges]
    if not inner:
        raise PackageError(
            f"the network in {package.path} has no layer between its first and its last that int8 would make faster; map with fp32"
        )
    return edges


def _reached(nodes: Sequence[Any], *, forward: bool) -> set[str]:
    """Names of the nodes that a product feeds, however indirectly (`forward`), or that feed one; nodes stand in their order."""
    tainted: set[str] = set()
    found = set()
    for node in nodes if forward else reversed(nodes):
        taken, given = (node.input, node.output) if forward else (node.output, node.input)
        if tainted.intersection(taken):
            found.add(node.name)
            tainted.update(name for name in given if name)
        elif node.op_type in _PRODUCTS:
            tainted.update(name for name in given if name)
    return found


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the quantisation from printing and from changing how this process logs."""
    handlers = list(logging.getLogger().handlers)
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(before)
        logging.getLogger().handlers[:] = handlers
