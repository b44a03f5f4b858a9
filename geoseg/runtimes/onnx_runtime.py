"""onnxruntime on the CPU: what every installation of geoseg has."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import PackageError
from geoseg.models.package import INT8_ONNX, ONNX, ModelPackage
from geoseg.runtimes.allocator import give_back_freed_memory
from geoseg.runtimes.contract import Precision, check_images, checked_scores, short

_OUTER_WEIGHTS = "session.model_external_initializers_file_folder_path"
"""Where a graph may look for weights in other files: by default the current folder, so it is set to one that cannot exist."""


class OnnxRuntime:
    """Runs the package's ONNX graph; one session serves all threads that call it."""

    name, device = "onnx", "cpu"
    notes: tuple[str, ...] = ()

    def __init__(self, package: ModelPackage, *, precision: Precision = "fp32", threads: int = 1) -> None:
        import onnxruntime

        self.version: str = onnxruntime.__version__
        self.precision: str = precision
        self._package = package
        graph, options = network_graph(package, precision), _session_options(package, threads)
        try:
            self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's errors share no class of their own
            raise PackageError(f"the ONNX graph in {package.path} cannot be used ({short(error)}); make the package again") from error
        self._session._model_bytes = None  # onnxruntime keeps the graph to open the session anew, which nobody asks of it
        del graph
        give_back_freed_memory()
        inputs = [(node.name, node.type) for node in self._session.get_inputs()]
        check_graph(package, inputs, ("image", "tensor(float)"), [node.name for node in self._session.get_outputs()])

    def __call__(self, images: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """Scores for images (batch, channel, row, col): output name → (batch, class or 1, row, col)."""
        check_images(images, self._package)
        names = [output.name for output in self._package.outputs]
        scores = self._session.run(names, {"image": np.ascontiguousarray(images)})
        return checked_scores(dict(zip(names, scores, strict=True)), images, self._package)


def network_graph(package: ModelPackage, precision: str) -> bytes:
    """The ONNX graph for a precision: int8 has a file of its own."""
    return package.read(INT8_ONNX if precision == "int8" else ONNX)


def check_graph(package: ModelPackage, inputs: list[tuple[str, str]], expected: tuple[str, str], outputs: list[str]) -> None:
    """Raise PackageError where a graph does not take one float32 input `image`, or lacks an output of its package."""
    if inputs != [expected]:
        raise PackageError(f"the ONNX graph in {package.path} takes {inputs}; expected one float32 input named 'image'")
    if missing := [output.name for output in package.outputs if output.name not in outputs]:
        raise PackageError(f"the ONNX graph in {package.path} gives {', '.join(outputs)}; model.json promises {missing[0]!r}")


def _session_options(package: ModelPackage, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.enable_mem_pattern = False  # a fifth less memory at its peak, and no slower: the arena then reuses what is free
    options.add_session_config_entry(_OUTER_WEIGHTS, str(package.path / "model.json" / "none"))
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    return options
