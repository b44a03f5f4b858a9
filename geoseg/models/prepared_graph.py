"""A package's network as one ONNX graph that takes a scene's own numbers: the whole preparation stands in front of the network.

For programs that know nothing of bands, units and nodata, such as QGIS's Deepness plugin. The formulas are those of
`geoseg.preprocess.prepare`, written as ONNX operators of the opset that packages have; pixels without data are 0 for the network, and have
scores of 0 in all classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from geoseg.errors import PackageError, require
from geoseg.models.package import ModelPackage, Output
from geoseg.preprocess.indices import get_index
from geoseg.preprocess.prepare import BandNeed, Channel, check_band
from geoseg.sensors import Band

INPUT, SCORES = "stored_image", "scores"
_NEPER = 10.0 / math.log(10.0)
_LARGEST = 1e18
_IR_VERSION = 9
"""The newest that onnxruntime 1.17 reads."""


@dataclass(frozen=True)
class Stored:
    """One band of the graph's input: which plane it is, and what its numbers mean."""

    plane: int
    """Counted from 0."""
    band: Band
    whole: bool
    """Whether its numbers are integers, which are rounded first: who divides and multiplies them does not quite give them back."""


@dataclass
class _Node:
    """A tensor of the graph, with arithmetic that adds operators to it."""

    graph: _Graph
    name: str

    def __add__(self, other: Any) -> _Node:
        return self.graph.op("Add", self, other)

    def __radd__(self, other: Any) -> _Node:
        return self.graph.op("Add", other, self)

    def __sub__(self, other: Any) -> _Node:
        return self.graph.op("Sub", self, other)

    def __rsub__(self, other: Any) -> _Node:
        return self.graph.op("Sub", other, self)

    def __mul__(self, other: Any) -> _Node:
        return self.graph.op("Mul", self, other)

    def __rmul__(self, other: Any) -> _Node:
        return self.graph.op("Mul", other, self)

    def __pow__(self, other: Any) -> _Node:
        return self.graph.op("Pow", self, other)

    def __rpow__(self, other: Any) -> _Node:
        return self.graph.op("Pow", other, self)

    def __neg__(self) -> _Node:
        return self.graph.op("Neg", self)

    def __truediv__(self, other: Any) -> _Node:
        return self.graph.quotient(self, other)

    def __rtruediv__(self, other: Any) -> _Node:
        return self.graph.quotient(other, self)

    def exp(self) -> _Node:
        """What numpy calls on what is no array of its own."""
        return self.graph.op("Exp", self)


@dataclass
class _Graph:
    """Operators in the order in which they are computed."""

    nodes: list[Any] = field(default_factory=list)
    constants: list[Any] = field(default_factory=list)

    def op(self, kind: str, *given: Any, **attributes: Any) -> _Node:
        """Add an operator; numbers become constants."""
        onnx = require("onnx", extra="train")
        names = [one.name if isinstance(one, _Node) else self.constant(one) for one in given]
        name = f"prepare/{kind}_{len(self.nodes)}"
        self.nodes.append(onnx.helper.make_node(kind, names, [name], name=name, **attributes))
        return _Node(self, name)

    def constant(self, value: Any, dtype: type = np.float32) -> str:
        """The name of a constant."""
        onnx = require("onnx", extra="train")
        name = f"prepare/constant_{len(self.constants)}"
        self.constants.append(onnx.numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def quotient(self, top: Any, bottom: Any) -> _Node:
        """top / bottom, and 0 for 0 / 0, as indices have it."""
        both = self.op("And", self.op("Equal", top, 0.0), self.op("Equal", bottom, 0.0))
        return self.op("Where", both, 0.0, self.op("Div", top, bottom))


def prepared_graph(package: ModelPackage, bands: Sequence[Stored], planes: int, *, tile: int | None = None, divided_by: float = 1.0) -> Any:
    """The onnx.ModelProto: `stored_image` (batch, plane, row, col) float32 numbers as stored, to `scores` (batch, class, row, col), 0…1.

    `bands` are those that the package reads, in its order, `planes` is how many the image has. `tile` fixes rows and columns, None leaves
    them free in multiples of the package's stride. `divided_by` is what the other program divides all numbers
    by first. Raises PackageError for a preparation that looks at more than one pixel or date, and for a package without classes; BandError
    for bands whose unit is not the one needed.
    """
    onnx = require("onnx", extra="train")
    output = output_of(package)
    preparation = package.preparation
    for what, there in (
        ("filters speckle", preparation.despeckle is not None),
        ("corrects for terrain", preparation.terrain_correction is not None),
        ("reads a series of dates", preparation.calendar is not None),
    ):
        if there:
            raise PackageError(f"{package.title} {what}, which a graph of single pixels cannot; map with geoseg predict")
    graph = _Graph()
    physical, valid = [], None
    for stored, need in zip(bands, preparation.bands, strict=True):
        check_band(stored.band, need)
        plane, seen = _read(graph, stored, divided_by)
        physical.append(_physical(graph, plane, stored.band, need))
        valid = seen if valid is None else graph.op("And", valid, seen)
    assert valid is not None, "a preparation reads at least one band"
    channels = [_channel(graph, channel, package, bands, physical) for channel in preparation.channels]
    image = graph.op("Concat", *(graph.op("Where", valid, plane, 0.0) for plane in channels), axis=1)

    model = onnx.load_from_string(package.onnx)
    given = model.graph.input[0].name
    graph.nodes.append(onnx.helper.make_node("Identity", [image.name], [given], name="prepare/end"))
    mask = graph.op("Cast", valid, to=onnx.TensorProto.FLOAT)
    last = onnx.helper.make_node("Mul", [output.name, mask.name], [SCORES], name="prepare/scores")
    size = ("row", "col") if tile is None else (tile, tile)
    made = onnx.helper.make_graph(
        [*graph.nodes, *model.graph.node, last],
        package.name,
        [onnx.helper.make_tensor_value_info(INPUT, onnx.TensorProto.FLOAT, ("batch", planes, *size))],
        [onnx.helper.make_tensor_value_info(SCORES, onnx.TensorProto.FLOAT, ("batch", output.planes, *size))],
        [*graph.constants, *model.graph.initializer],
    )
    whole = onnx.helper.make_model(made, opset_imports=model.opset_import, producer_name="geoseg")
    whole.ir_version = min(model.ir_version, _IR_VERSION)
    onnx.checker.check_model(whole)
    return whole


def output_of(package: ModelPackage) -> Output:
    """The package's first output of classes; PackageError where it has none."""
    found = next((output for output in package.outputs if output.kind == "classes"), None)
    if found is None:
        raise PackageError(f"{package.title} makes no classes; map with geoseg predict")
    return found


def _read(graph: _Graph, stored: Stored, divided_by: float) -> tuple[_Node, _Node]:
    """(batch, 1, row, col) numbers as stored, and where they are data."""
    where = _Node(graph, graph.constant([stored.plane], np.int64))
    plane = graph.op("Gather", _Node(graph, INPUT), where, axis=1)
    known = graph.op("Not", graph.op("IsNaN", plane))
    plane = plane * divided_by if divided_by != 1 else plane
    if stored.whole:
        plane = graph.op("Round", plane)
    seen = graph.op("And", known, graph.op("Less", graph.op("Abs", plane), _LARGEST))
    nodata = stored.band.nodata
    if nodata is not None and not math.isnan(nodata):
        away = graph.op("Abs", plane - nodata)
        seen = graph.op("And", seen, graph.op("Greater", away, abs(nodata) * 1e-6 if not stored.whole else 0.5))
    return plane, seen


def _physical(graph: _Graph, plane: _Node, band: Band, need: BandNeed) -> _Node:
    """Physical values; radar in linear power."""
    if band.scale != 1 or band.offset != 0:
        plane = (plane + band.offset / band.scale) * band.scale
    if band.encoding == "signed_square":
        plane = plane * graph.op("Abs", plane)
    if not need.is_radar or band.unit == "linear power":
        return plane
    return plane * plane if band.unit == "amplitude" else (plane * (1 / _NEPER)).exp()


def _channel(graph: _Graph, channel: Channel, package: ModelPackage, bands: Sequence[Stored], physical: Sequence[_Node]) -> _Node:
    """One normalised plane of the network's input."""
    preparation = package.preparation
    by_role = {need.role: (need, plane, one.band) for need, plane, one in zip(preparation.bands, physical, bands, strict=True)}
    if channel.kind == "index":
        index = get_index(channel.name)
        operands = {
            role: graph.op("Max", by_role[role][1], 0.0) if by_role[role][0].unit == "reflectance" else by_role[role][1]
            for role in index.roles(tuple(by_role))
        }
        wavelengths = {role: band.wavelength_um or need.wavelength_um for role, (need, _, band) in by_role.items()}
        values = index.express(operands, preparation.index_constants, wavelengths)
        if not isinstance(values, _Node):
            raise PackageError(f"{package.title} takes the index {channel.name}, which reads no band; map with geoseg predict")
        strange = graph.op("Or", graph.op("IsNaN", values), graph.op("IsInf", values))
        values = graph.op("Where", strange, channel.mean, values)
    else:
        need, values, _ = by_role[channel.name]
        if need.unit == "dB":
            values = graph.op("Log", graph.op("Max", values, preparation.power_floor)) * _NEPER
    return graph.op("Div", values - channel.mean, channel.std)
