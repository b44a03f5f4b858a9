"""Runtimes: one contract, prepared images in and scores out, with onnxruntime or torch behind it."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import PackageError, require
from geoseg.models.package import ModelPackage

RuntimeName = Literal["onnx", "torch"]

_LONGEST_MESSAGE = 200
_OUTER_WEIGHTS = "session.model_external_initializers_file_folder_path"
"""Where a graph may look for weights in other files: by default the current folder, so it is set to one that cannot exist."""


class Runtime(Protocol):
    """Runs a package's network."""

    name: str
    version: str

    def __call__(self, images: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """Scores for images (batch, channel, row, col): output name → (batch, class or 1, row, col)."""
        ...


class OnnxRuntime:
    """Runs model.onnx with onnxruntime on the CPU."""

    name = "onnx"

    def __init__(self, package: ModelPackage, *, threads: int | None = None) -> None:
        import onnxruntime

        self.version: str = onnxruntime.__version__
        self._package = package
        graph, options = package.onnx, _session_options(package, threads)
        try:
            self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's errors share no class of their own
            raise PackageError(f"the ONNX graph in {package.path} cannot be used ({_short(error)}); make the package again") from error
        self._check_graph()

    def __call__(self, images: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """Scores for images (batch, channel, row, col): output name → (batch, class or 1, row, col)."""
        _check_images(images, self._package)
        names = [output.name for output in self._package.outputs]
        scores = self._session.run(names, {"image": np.ascontiguousarray(images)})
        return _checked(dict(zip(names, scores, strict=True)), images, self._package)

    def _check_graph(self) -> None:
        inputs = [(node.name, node.type) for node in self._session.get_inputs()]
        if inputs != [("image", "tensor(float)")]:
            raise PackageError(f"the ONNX graph in {self._package.path} takes {inputs}; expected one float32 input named 'image'")
        given = [node.name for node in self._session.get_outputs()]
        if missing := [output.name for output in self._package.outputs if output.name not in given]:
            raise PackageError(f"the ONNX graph in {self._package.path} gives {', '.join(given)}; model.json promises {missing[0]!r}")


class TorchRuntime:
    """Runs the weights with torch: the network is built anew from `architecture`, its weights come from safetensors."""

    name = "torch"

    def __init__(self, package: ModelPackage, *, threads: int | None = None) -> None:
        weights = package.weights
        if weights is None or not package.architecture:
            raise PackageError(f"{package.path} has no weights for torch; map with the ONNX runtime (--runtime onnx)")
        torch = require("torch", extra="train")
        self.version: str = torch.__version__
        self._torch, self._package = torch, package
        if threads is not None:
            torch.set_num_threads(threads)
        self._network = _build_torch(package, weights)

    def __call__(self, images: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """Scores for images (batch, channel, row, col): output name → (batch, class or 1, row, col)."""
        _check_images(images, self._package)
        with self._torch.inference_mode():
            scores = self._network(self._torch.from_numpy(np.ascontiguousarray(images)))
        return _checked({name: score.numpy() for name, score in scores.items()}, images, self._package)


def open_runtime(package: ModelPackage, name: RuntimeName = "onnx", *, threads: int | None = None) -> Runtime:
    """A runtime for this package; `threads` limits the processor threads inside the network (None: as the library chooses)."""
    members: Mapping[str, Callable[..., Runtime]] = {"onnx": OnnxRuntime, "torch": TorchRuntime}
    if name not in members:
        raise PackageError(f"no runtime {name!r}; there are {', '.join(members)}")
    return members[name](package, threads=threads)


def _session_options(package: ModelPackage, threads: int | None) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.enable_mem_pattern = False  # a third less memory at its peak, and no slower: the arena then reuses what is free
    options.add_session_config_entry(_OUTER_WEIGHTS, str(package.path / "model.json" / "none"))
    options.log_severity_level = 3
    if threads is not None:
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
    return options


def _build_torch(package: ModelPackage, weights: bytes) -> Any:
    safetensors, load = require("safetensors", extra="train"), require("safetensors.torch", extra="train").load
    segmenter = importlib.import_module("geoseg.models.segmenter")
    network = segmenter.build_network(package.architecture)
    try:
        network.load_state_dict(load(weights))
    except (RuntimeError, ValueError, safetensors.SafetensorError) as error:
        raise PackageError(f"the weights in {package.path} do not fit its architecture ({_short(error)}); make it again") from error
    return segmenter.ScoredNetwork(network, package.outputs).eval()


def _short(error: Exception) -> str:
    """A library's message on one line."""
    text = " ".join(str(error).split())
    return text if len(text) <= _LONGEST_MESSAGE else f"{text[:_LONGEST_MESSAGE]}…"


def _check_images(images: NDArray[np.float32], package: ModelPackage) -> None:
    channels = len(package.preparation.channels)
    if images.ndim != 4 or images.shape[1] != channels or images.dtype != np.float32:
        raise ValueError(f"images {images.shape} {images.dtype}; {package.name} takes (batch, {channels}, row, col) float32")


def _checked(
    scores: Mapping[str, NDArray[np.float32]], images: NDArray[np.float32], package: ModelPackage
) -> dict[str, NDArray[np.float32]]:
    for output in package.outputs:
        expected = (images.shape[0], output.planes, *images.shape[2:])
        found = scores[output.name].shape if output.name in scores else None
        if found != expected:
            raise PackageError(
                f"output {output.name!r} of {package.path} has the shape {found}; expected {expected}: make the package again"
            )
    return {output.name: np.asarray(scores[output.name], dtype=np.float32) for output in package.outputs}
