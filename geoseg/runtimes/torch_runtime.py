"""torch, on the CPU and on NVIDIA's GPUs: the network is built anew from its architecture, its weights come from safetensors."""

from __future__ import annotations

import copy
import importlib
import logging
import threading
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import GeosegError, InputError, PackageError, require
from geoseg.models.package import ModelPackage
from geoseg.runtimes.allocator import keep_freed_memory
from geoseg.runtimes.contract import Device, Precision, check_images, checked_scores, short

_log = logging.getLogger(__name__)


class TorchRuntime:
    """Runs the weights in channels-last order, with batch normalisation folded into the convolutions before it.

    On a GPU images go through pinned memory; where it is too small for a batch, half of it is tried, and that is noted.
    """

    name = "torch"

    def __init__(self, package: ModelPackage, *, precision: Precision = "fp32", device: Device = "cpu", threads: int = 1) -> None:
        torch = require("torch", extra="train")
        if device == "cuda" and not torch.cuda.is_available():
            raise InputError("--device cuda was asked for, but torch finds no GPU that it can use; leave it out, or say --device auto")
        self.version: str = torch.__version__
        self.precision: str = precision
        self.device: str = device
        self._torch, self._package, self._threads = torch, package, threads
        self._most: int | None = None
        """So many images at once are known to fit; None: all that came so far did."""
        self._notes: list[str] = []
        self._of_thread = threading.local()
        self._network = _build(torch, package, in_bf16=precision == "bf16" and device == "cpu").to(
            device=device, memory_format=torch.channels_last
        )
        if device == "cpu":
            keep_freed_memory()

    @property
    def notes(self) -> tuple[str, ...]:
        """Whether batches had to be made smaller."""
        return tuple(self._notes)

    def __call__(self, images: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """Scores for images (batch, channel, row, col): output name → (batch, class or 1, row, col)."""
        check_images(images, self._package)
        if not hasattr(self._of_thread, "ready"):
            self._torch.set_num_threads(self._threads)  # OpenMP counts for each calling thread
            self._of_thread.ready = True
        while True:
            most = self._most or len(images)
            try:
                parts = [self._run(images[first : first + most]) for first in range(0, len(images), most)]
            except self._torch.OutOfMemoryError as error:
                self._halve(min(most, len(images)), error)
                continue
            scores = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
            return checked_scores(scores, images, self._package)

    def _run(self, images: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        torch = self._torch
        tensor = torch.from_numpy(np.ascontiguousarray(images))
        if self.device == "cpu":
            with torch.inference_mode():
                scores = self._network(tensor.to(memory_format=torch.channels_last))
            return {name: score.contiguous().numpy() for name, score in scores.items()}
        with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16, enabled=self.precision == "bf16"):
            on_gpu = tensor.pin_memory().to("cuda", non_blocking=True).to(memory_format=torch.channels_last)
            scores = self._network(on_gpu)
            return {name: score.float().contiguous().cpu().numpy() for name, score in scores.items()}

    def _halve(self, most: int, error: Exception) -> None:
        """From now on take half as many images at once; raise GeosegError where one alone does not fit."""
        if most == 1:
            raise GeosegError(
                f"one tile of {self._package.tile} pixels does not fit into the memory of the GPU; free some of it, or say --device cpu"
            ) from error
        self._most = most // 2
        if self.device == "cuda":
            self._torch.cuda.empty_cache()
        self._notes.append(f"the memory did not suffice for {most} tiles at once; {self._most} were taken instead")
        _log.warning("%s", self._notes[-1])


def scored_network(package: ModelPackage) -> Any:
    """The network of a package as a torch module that gives scores, in float32 on the CPU, as maps are made with.

    PackageError where it has no weights for torch, MissingExtraError where torch is not installed.
    """
    return _build(require("torch", extra="train"), package, in_bf16=False)


def _build(torch: Any, package: ModelPackage, *, in_bf16: bool) -> Any:
    """The network with its weights, in evaluation mode."""
    weights = package.weights
    if weights is None or not package.architecture:
        raise PackageError(f"{package.path} has no weights for torch; map with the ONNX runtime (--runtime onnx)")
    safetensors, load = require("safetensors", extra="train"), require("safetensors.torch", extra="train").load
    segmenter = importlib.import_module("geoseg.models.segmenter")
    network = segmenter.build_network(package.architecture)
    try:
        network.load_state_dict(load(weights))
    except (RuntimeError, ValueError, safetensors.SafetensorError) as error:
        raise PackageError(f"the weights in {package.path} do not fit its architecture ({short(error)}); make it again") from error
    side = 2 * max(package.stride, 32)
    example = torch.randn(1, len(package.preparation.channels), side, side, generator=torch.Generator().manual_seed(0))
    network = folded(torch, network.eval(), example)
    return segmenter.ScoredNetwork(_in_bf16(torch, network) if in_bf16 else network, package.outputs).eval()


def folded(torch: Any, network: Any, example: Any) -> Any:
    """The same network with batch normalisation folded into the convolutions before it, which need not be computed apart then.

    Taken as one after the other is what a module declares so; where the answer to `example` (batch, channel, row, col) then is not
    the same, the network computes in another order and is returned unchanged.
    """
    made = copy.deepcopy(network)
    for module in made.modules():
        for (first, conv), (second, norm) in pairwise(list(module.named_children())):
            if type(conv) is torch.nn.Conv2d and type(norm) is torch.nn.BatchNorm2d:
                setattr(module, first, torch.nn.utils.fuse_conv_bn_eval(conv, norm))
                setattr(module, second, torch.nn.Identity())
    with torch.inference_mode():
        before, after = network(example), made(example)
    same = all(torch.allclose(after[name], before[name], rtol=1e-3, atol=1e-3 * float(before[name].abs().max())) for name in before)
    return made if same else network


def _in_bf16(torch: Any, network: Any) -> Any:
    """A module that computes in bf16 and answers in float32, so that scores are made of logits in full precision."""

    class InBf16(torch.nn.Module):  # type: ignore[misc]  # torch is not imported where types are checked
        def __init__(self) -> None:
            super().__init__()
            self.network = network.to(torch.bfloat16)

        def forward(self, image: Any) -> Any:
            return {name: logits.float() for name, logits in self.network(image.to(torch.bfloat16)).items()}

    return InBf16()
