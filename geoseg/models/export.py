"""A trained network as files: ONNX that any runtime opens, safetensors that torch loads, and proof that both agree."""

from __future__ import annotations

import io
import logging
import warnings
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from geoseg.errors import PackageError, require
from geoseg.models.segmenter import ScoredNetwork

OPSET = 17
"""The newest that every runtime we know of reads, QGIS's Deepness plugin (onnxruntime 1.17) included."""
INPUT_NAME = "image"
_LARGEST_DIFFERENCE = 1e-4
"""Of a score, between torch and onnxruntime on one machine; float32 rounding reaches 1e-5 in deep networks."""
_LEAST_AGREEMENT = 0.999
"""Of classes, where rounding may send a network that chooses another way."""


@dataclass(frozen=True)
class Parity:
    """How well an exported network agrees with the one it was made from."""

    largest_difference: float
    """Of any score of any output."""
    agreement: float
    """Share of pixels with the same class, 0…1, over all outputs that are classes; 1 where none is."""
    shapes: tuple[tuple[int, ...], ...]
    """Image shapes tried, (batch, channel, row, col)."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data for reports."""
        return asdict(self) | {"shapes": [list(shape) for shape in self.shapes]}


def export_onnx(network: ScoredNetwork, channels: int, *, tile: int = 64) -> bytes:
    """The network as ONNX, opset 17: input `image` (batch, channel, row, col) float32, one output by name for each of its outputs.

    Batch, row and col are free (rows and cols in multiples of the network's stride); softmax is inside the graph.
    `tile` is only the size of the example it is traced with.
    """
    require("onnx", extra="train")
    names = list(network.kinds)
    free = {0: "batch", 2: "row", 3: "col"}
    was_training = network.training
    network.eval()
    stream = io.BytesIO()
    with warnings.catch_warnings(), _quiet_exporter():
        warnings.simplefilter("ignore")  # the tracer warns of each shape check, which is a constant here
        torch.onnx.export(
            _InOrder(network),
            (torch.zeros(2, channels, tile, tile, device=_device(network)),),
            stream,  # type: ignore[arg-type]  # the older exporter writes to streams, only its annotation does not say so
            input_names=[INPUT_NAME],
            output_names=names,
            dynamic_axes=dict.fromkeys((INPUT_NAME, *names), free),
            opset_version=OPSET,
            dynamo=False,
        )
    network.train(was_training)
    return stream.getvalue()


def check_parity(onnx: bytes, network: ScoredNetwork, images: list[NDArray[np.float32]]) -> Parity:
    """Run the same images (each (batch, channel, row, col)) through both.

    PackageError where a score differs by more than 1e-4, or, of a network that chooses among experts, a class in a thousand pixels does.
    """
    runtime = require("onnxruntime", extra="train")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = runtime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
    largest, same, pixels = 0.0, 0, 0
    for image in images:
        theirs = dict(zip(network.kinds, session.run(list(network.kinds), {INPUT_NAME: image}), strict=True))
        ours = run_network(network, image)
        for name, kind in network.kinds.items():
            largest = max(largest, float(np.abs(theirs[name] - ours[name]).max()))
            if kind == "classes":
                agree = theirs[name].argmax(axis=1) == ours[name].argmax(axis=1)
                same, pixels = same + int(agree.sum()), pixels + agree.size
    chosen_alike = getattr(network.network, "chooses", False) and pixels and same / pixels >= _LEAST_AGREEMENT
    if not largest <= _LARGEST_DIFFERENCE and not (chosen_alike and largest <= 1):  # NaN is refused as well
        raise PackageError(
            f"the ONNX file's scores differ from the network's by up to {largest:.2g}; expected at most {_LARGEST_DIFFERENCE:g}"
        )
    return Parity(largest, same / pixels if pixels else 1.0, tuple(image.shape for image in images))


def run_network(network: ScoredNetwork, image: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """Scores by output name for an image (batch, channel, row, col), in evaluation mode."""
    was_training = network.training
    network.eval()
    with torch.inference_mode():
        scores = network(torch.from_numpy(np.ascontiguousarray(image)).to(_device(network)))
    network.train(was_training)
    return {name: plane.cpu().numpy() for name, plane in scores.items()}


def save_weights(network: nn.Module) -> bytes:
    """The network's state as safetensors: tensors and their names, nothing that could run."""
    safetensors = require("safetensors.torch", extra="train")
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    saved: bytes = safetensors.save(state)
    return saved


def load_weights(network: nn.Module, weights: bytes) -> None:
    """Fill a network built from the same description with `save_weights`' result; PackageError where they do not fit."""
    safetensors = require("safetensors.torch", extra="train")
    try:
        network.load_state_dict(safetensors.load(weights), strict=True)
    except Exception as error:  # safetensors raises its own type, torch RuntimeError
        raise PackageError(f"the weights do not fit the network that the package describes: {str(error).splitlines()[0]}") from error


class _InOrder(nn.Module):
    """Outputs as a tuple in the order of their names, which is what the tracer can take."""

    def __init__(self, network: ScoredNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """(batch, plane, row, col) of each output."""
        return tuple(self.network(image).values())


class _quiet_exporter:
    """Keep torch's exporter from logging each step as a warning."""

    def __enter__(self) -> None:
        self._logger = logging.getLogger("torch.onnx")
        self._level = self._logger.level
        self._logger.setLevel(logging.ERROR)

    def __exit__(self, *_: object) -> None:
        self._logger.setLevel(self._level)


def _device(network: nn.Module) -> torch.device:
    return next(network.parameters()).device
