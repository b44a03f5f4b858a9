"""Which runtime computes in which precision, on this processor and with this package."""

from __future__ import annotations

import platform
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

from geoseg.errors import InputError, PackageError
from geoseg.models.package import INT8_ONNX, ONNX, WEIGHTS, ModelPackage
from geoseg.runtimes.contract import Device, Precision, RuntimeName

PRECISIONS: dict[RuntimeName, tuple[Precision, ...]] = {
    "onnx": ("fp32", "int8"),
    "openvino": ("fp32", "bf16", "int8"),
    "torch": ("fp32", "bf16"),
}
"""Runtime → the precisions that it has."""

_BF16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}
"""As Linux calls them, on x86 and on ARM."""


def check_precision(package: ModelPackage, runtime: RuntimeName, precision: Precision, device: Device) -> None:
    """Raise PackageError, with the choices that work here, where a runtime cannot run this package in this precision."""
    if runtime not in PRECISIONS:
        raise InputError(f"no runtime {runtime!r}; there are {', '.join(PRECISIONS)}")
    why = _why_not(package, runtime, precision, device)
    if why is not None:
        works = [f"{name} {one}" for name, several in PRECISIONS.items() for one in several if _why_not(package, name, one, "cpu") is None]
        raise PackageError(f"{why}; with this package and processor work (--runtime --precision): {', '.join(works)}")


def _why_not(package: ModelPackage, runtime: RuntimeName, precision: Precision, device: Device) -> str | None:
    needed = WEIGHTS if runtime == "torch" else INT8_ONNX if precision == "int8" else ONNX
    if precision not in PRECISIONS[runtime]:
        return f"--runtime {runtime} does not compute in {precision}"
    if device == "cuda" and runtime != "torch":
        return f"--runtime {runtime} does not run on a GPU, --runtime torch does"
    if needed not in package.checksums:
        if needed == INT8_ONNX:
            return f"{package.path} has no int8 network, which `geoseg export {package.path} --int8` makes"
        return f"{package.path} has no {needed}, which --runtime {runtime} needs"
    if precision == "bf16" and device == "cpu" and not processor_has_bf16():
        return "this processor has no bf16 instructions (AVX512_BF16 or AMX), and without them bf16 is slower than fp32"
    return None


@lru_cache(maxsize=1)
def processor_has_bf16() -> bool:
    """Whether this processor multiplies bf16 numbers itself; False where that cannot be found out."""
    return bool(_BF16_FLAGS & processor_flags())


def processor_flags() -> set[str]:
    """What this processor can do, in Linux's words; empty where the system does not say."""
    if sys.platform == "darwin":
        if platform.machine() != "arm64":
            return set()
        told = subprocess.run(["sysctl", "-n", "hw.optional.arm.FEAT_BF16"], capture_output=True, text=True, check=False)
        return {"bf16"} if told.stdout.strip() == "1" else set()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return set()
    return {flag for line in lines if line.split(":")[0].strip() in ("flags", "Features") for flag in line.partition(":")[2].split()}
