"""OpenVINO on the CPU: often the fastest runtime on Intel and AMD processors."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import PackageError, require
from geoseg.models.package import ModelPackage
from geoseg.runtimes.allocator import give_back_freed_memory
from geoseg.runtimes.contract import Precision, check_images, checked_scores, short
from geoseg.runtimes.onnx_runtime import check_graph, network_graph

_COMPUTED_IN = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}
"""OpenVINO's name of the type for all that is not int8; left to itself it takes bf16 wherever the processor has it."""


class OpenvinoRuntime:
    """Runs the package's ONNX graph; it is compiled once for each shape of images, and every calling thread has a request of its own."""

    name, device = "openvino", "cpu"
    notes: tuple[str, ...] = ()

    def __init__(self, package: ModelPackage, *, precision: Precision = "fp32", threads: int = 1, calls: int = 1) -> None:
        """`calls` is how many threads will call at once; each call computes on `threads` threads."""
        openvino = require("openvino", extra="openvino")
        self.version: str = openvino.__version__.split("-")[0]
        self.precision: str = precision
        self._package, self._core = package, openvino.Core()
        self._settings = {
            "INFERENCE_PRECISION_HINT": _COMPUTED_IN[precision],
            "NUM_STREAMS": calls,
            "INFERENCE_NUM_THREADS": threads * calls,
            "ENABLE_CPU_PINNING": False,
        }
        self._compiled: dict[tuple[int, ...], Any] = {}
        self._compiling, self._of_thread = threading.Lock(), threading.local()
        _meet_numpy(openvino)
        model = self._read()
        names = [(node.get_any_name(), node.get_element_type().get_type_name()) for node in model.inputs]
        check_graph(package, names, ("image", "f32"), [name for node in model.outputs for name in node.get_names()])

    def __call__(self, images: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """Scores for images (batch, channel, row, col): output name → (batch, class or 1, row, col)."""
        check_images(images, self._package)
        request = self._request(images.shape)
        request.infer({"image": np.ascontiguousarray(images)}, share_inputs=True)
        scores = {output.name: request.get_tensor(output.name).data.copy() for output in self._package.outputs}
        return checked_scores(scores, images, self._package)

    def _request(self, shape: tuple[int, ...]) -> Any:
        """This thread's request for images of this shape."""
        requests: dict[tuple[int, ...], Any] = self._of_thread.__dict__.setdefault("requests", {})
        if shape not in requests:
            with self._compiling:
                if shape not in self._compiled:
                    model = self._read()
                    model.reshape(list(shape))
                    self._compiled[shape] = self._core.compile_model(model, "CPU", self._settings)
                    del model
                    give_back_freed_memory()
                requests[shape] = self._compiled[shape].create_infer_request()
        return requests[shape]

    def _read(self) -> Any:
        try:
            return self._core.read_model(network_graph(self._package, self.precision))
        except RuntimeError as error:
            why = f"OpenVINO cannot use the ONNX graph in {self._package.path} ({short(error)})"
            raise PackageError(f"{why}; use --runtime onnx") from error


def _meet_numpy(openvino: Any) -> None:
    """Have OpenVINO look numpy up once, in one thread: two that are the first to do so at the same time wait for each other forever."""
    tensor = openvino.Tensor(np.zeros(1, np.float32))
    tensor.get_element_type().to_dtype()
    tensor.data.copy()
