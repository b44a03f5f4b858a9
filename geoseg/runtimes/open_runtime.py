"""The one door to all runtimes."""

from __future__ import annotations

from geoseg.errors import require
from geoseg.models.package import ModelPackage
from geoseg.runtimes.allocator import share_heaps
from geoseg.runtimes.contract import Device, Precision, Runtime, RuntimeName
from geoseg.runtimes.precision import check_precision


def open_runtime(
    package: ModelPackage,
    name: RuntimeName = "onnx",
    *,
    precision: Precision = "fp32",
    device: Device = "cpu",
    threads: int = 1,
    calls: int = 1,
) -> Runtime:
    """A runtime for this package, ready to be called from `calls` threads at once; a call on the CPU computes on `threads` threads.

    `auto` takes a GPU where torch finds one. Scores do not depend on `calls`. Raises PackageError, with the choices that work here,
    where runtime, precision, device, processor and package do not go together, and where the network cannot be used; MissingExtraError
    where the runtime is not installed.

    >>> runtime = geoseg.open_runtime(geoseg.ModelPackage.open("my_model"))
    >>> runtime(np.zeros((1, 1, 64, 64), np.float32))["classes"].shape  # (batch, class, row, col)
    (1, 2, 64, 64)
    """
    device = found_device(name, device)
    check_precision(package, name, precision, device)
    share_heaps()
    if name == "openvino":
        from geoseg.runtimes.openvino_runtime import OpenvinoRuntime

        return OpenvinoRuntime(package, precision=precision, threads=threads, calls=calls)
    if name == "torch":
        from geoseg.runtimes.torch_runtime import TorchRuntime

        return TorchRuntime(package, precision=precision, device=device, threads=threads)
    from geoseg.runtimes.onnx_runtime import OnnxRuntime

    return OnnxRuntime(package, precision=precision, threads=threads)


def found_device(name: RuntimeName, device: Device) -> Device:
    """The device that is meant: `auto` is a GPU where the runtime is torch and torch finds one, else the CPU."""
    if device != "auto" or name != "torch":
        return "cpu" if device == "auto" else device
    return "cuda" if require("torch", extra="train").cuda.is_available() else "cpu"
