"""What every runtime keeps: prepared images in, scores out, from several threads at once, each call on its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import PackageError
from geoseg.models.package import ModelPackage

RuntimeName = Literal["onnx", "openvino", "torch"]
Precision = Literal["fp32", "bf16", "int8"]
Device = Literal["cpu", "cuda", "auto"]

_LONGEST_MESSAGE = 200


class Runtime(Protocol):
    """Runs a package's network. It may be called from several threads at the same time; each call computes on threads of its own."""

    name: str
    version: str
    precision: str
    """`fp32`, `bf16` or `int8`."""
    device: str
    """`cpu` or `cuda`."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What happened on the way that the record of a map should tell."""
        ...

    def __call__(self, images: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """Scores for images (batch, channel, row, col): output name → (batch, class or 1, row, col)."""
        ...


def check_images(images: NDArray[np.float32], package: ModelPackage) -> None:
    """Raise ValueError where the caller gives what the network does not take."""
    channels = len(package.preparation.channels)
    if images.ndim != 4 or images.shape[1] != channels or images.dtype != np.float32:
        raise ValueError(f"images {images.shape} {images.dtype}; {package.name} takes (batch, {channels}, row, col) float32")


def checked_scores(
    scores: Mapping[str, NDArray[np.float32]], images: NDArray[np.float32], package: ModelPackage
) -> dict[str, NDArray[np.float32]]:
    """The scores as float32; PackageError where the network gave another shape than its package promises."""
    for output in package.outputs:
        expected = (images.shape[0], output.planes, *images.shape[2:])
        found = scores[output.name].shape if output.name in scores else None
        if found != expected:
            raise PackageError(
                f"output {output.name!r} of {package.path} has the shape {found}; expected {expected}: make the package again"
            )
    return {output.name: np.asarray(scores[output.name], dtype=np.float32) for output in package.outputs}


def short(error: Exception) -> str:
    """A library's message on one line."""
    text = " ".join(str(error).split())
    return text if len(text) <= _LONGEST_MESSAGE else f"{text[:_LONGEST_MESSAGE]}…"
