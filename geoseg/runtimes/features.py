"""The part of a network that sees, without the part that decides: prepared images in, a vector for each patch out. Torch runs it."""

from __future__ import annotations

import hashlib
import importlib
import json
import threading
import zipfile
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import GeosegError, InputError, PackageError, require
from geoseg.models.encoders import DESCRIPTION, Encoder
from geoseg.models.package import ModelPackage, Output
from geoseg.runtimes.allocator import keep_freed_memory
from geoseg.runtimes.contract import short

EMBEDDING = "embedding"
"""Name of the one output."""
_TILE = 224
"""Edge in pixels of what an encoder sees at once, about, where nothing says it: that of most published ones."""
_SIZE_RANGE = (0.5, 2.0)
"""Pixel sizes for which an encoder is offered, as shares of the one it was trained at; finer scenes are averaged, coarser ones refused."""
_LARGEST = 1e30
_EXAMPLE = 2
"""Coarsest strides on a side of the image from which a network's levels are learned."""


class Features:
    """Runs an encoder, or what sees in a model package; a `geoseg.runtimes.contract.Runtime` whose output is `embedding`."""

    name = "torch"
    precision = "fp32"
    notes: tuple[str, ...] = ()

    def __init__(self, path: str | Path, *, level: int | None = None, device: str = "cpu") -> None:
        """`level` counts the network's levels from 1, fine to coarse or early to late; None takes the last.

        PackageError for what is neither encoder nor a package with one; InputError for a level or a device that is not there.
        """
        torch = require("torch", extra="train")
        if device == "cuda" and not torch.cuda.is_available():
            raise InputError("--device cuda was asked for, but torch finds no GPU that it can use; leave it out, or say --device auto")
        self.version: str = torch.__version__
        self.device, self._torch = device, torch
        opened = _open(Path(path))
        network = _encoder_of(opened) if isinstance(opened, ModelPackage) else _open_backbone(opened)
        channels = len(opened.preparation.channels)
        whole = int(network.strides[-1]) if hasattr(network, "strides") else int(getattr(opened, "stride", 1))
        side = _EXAMPLE * whole
        with torch.inference_mode():
            levels = network(torch.zeros(1, channels, side, side))
        if level is not None and not 1 <= level <= len(levels):
            raise InputError(f"--level is {level}; {opened.title} has levels 1 to {len(levels)}")
        self.level = level or len(levels)
        self.levels = len(levels)
        made = levels[self.level - 1]
        self.width: int = int(made.shape[1])
        """Numbers of a vector."""
        self.step: int = side // int(made.shape[-1])
        """Pixels on a side of the patch that a vector is of."""
        self.package = _as_package(opened, network, whole) if isinstance(opened, Encoder) else _with_stride(opened, whole)
        """What the engine of maps has to know: bands, preparation, pixel sizes, tiles."""
        self._network = network.to(device)
        self._of_thread = threading.local()
        if device == "cpu":
            keep_freed_memory()

    def __call__(self, images: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """`embedding` → (batch, width, row / step, col / step) for images (batch, channel, row, col)."""
        torch = self._torch
        if not hasattr(self._of_thread, "ready"):
            torch.set_num_threads(1)  # OpenMP counts for each calling thread
            self._of_thread.ready = True
        try:
            with torch.inference_mode():
                made = self._network(torch.from_numpy(np.ascontiguousarray(images)).to(self.device))[self.level - 1]
                return {EMBEDDING: made.float().cpu().contiguous().numpy()}
        except torch.OutOfMemoryError as error:
            raise GeosegError(
                f"{len(images)} tiles do not fit into the memory of the GPU; give a smaller --batch or --tile, or say --device cpu"
            ) from error


def _open(path: Path) -> Encoder | ModelPackage:
    """Whatever lies there, by the file that describes it."""
    if path.is_dir():
        is_encoder = (path / DESCRIPTION).exists()
    elif is_encoder := path.is_file() and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            is_encoder = DESCRIPTION in archive.namelist()
    return Encoder.open(path) if is_encoder else ModelPackage.open(path)


def _open_backbone(encoder: Encoder) -> Any:
    return importlib.import_module("geoseg.models.encoder_network").open_backbone(encoder)


def _encoder_of(package: ModelPackage) -> Any:
    """What gives the levels of a package's network, ready to be run; PackageError where there is nothing of that kind."""
    weights = package.weights
    if weights is None or not package.architecture:
        raise PackageError(f"{package.path} has no weights for torch, so that nothing but its scores can be had; give an encoder")
    segmenter = importlib.import_module("geoseg.models.segmenter").build_network(package.architecture)
    try:
        segmenter.load_state_dict(require("safetensors.torch", extra="train").load(weights))
    except (RuntimeError, ValueError) as error:
        raise PackageError(f"the weights in {package.path} do not fit its architecture ({short(error)}); make it again") from error
    segmenter.eval()
    network = segmenter.network
    encoder: Any = getattr(network, "encoder", None)
    vit = importlib.import_module("geoseg.backbones.vit")
    if type(encoder) is vit.VisionTransformer:
        backbone = vit.VitBackbone(encoder.embed.in_channels, pixel_size_m=network.pixel_size_m, **_vit_options(package))
        backbone.load_state_dict(encoder.state_dict())
        return backbone.eval()
    if hasattr(encoder, "strides") and hasattr(encoder, "channels"):
        return encoder
    if hasattr(encoder, "out_channels"):  # of segmentation-models-pytorch, whose first level is the image itself
        return _WithoutImage(encoder)
    raise PackageError(f"{package.title} has no encoder whose levels could be taken; give a package of another network, or an encoder")


def _vit_options(package: ModelPackage) -> dict[str, Any]:
    return {name: package.architecture[name] for name in ("size", "patch", "depth") if package.architecture.get(name) is not None}


class _WithoutImage:
    """An encoder of segmentation-models-pytorch without the level that is the image."""

    def __init__(self, encoder: Any) -> None:
        self._encoder = encoder

    def to(self, device: str) -> _WithoutImage:
        self._encoder.to(device)
        return self

    def __call__(self, image: Any) -> list[Any]:
        return list(self._encoder(image)[1:])


def _usual_tile(encoder: Encoder, network: Any, whole: int) -> int:
    """A multiple of `whole`: what the network looks at together (`window`, in patches), else what it was trained on, else `_TILE`."""
    window = getattr(network, "window", None)
    if isinstance(window, int) and window > 1:
        return window * whole
    stated = encoder.training.get("all_settings")
    trained = json.loads(encoder.read(stated))["settings"].get("tile") if isinstance(stated, str) else None
    return max(2, (trained if isinstance(trained, int) else _TILE) // whole) * whole


def _with_stride(package: ModelPackage, whole: int) -> ModelPackage:
    """The same package with tiles of which its encoder makes whole patches."""
    return package.model_copy(update={"stride": whole, "tile": max(1, package.tile // whole) * whole, "overlap": 0})


def _as_package(encoder: Encoder, network: Any, whole: int) -> ModelPackage:
    """An encoder in the words in which the engine of maps knows a network."""
    described = encoder.model_dump_json(exclude={"path"})
    return ModelPackage(
        name=encoder.name,
        title=encoder.title,
        description=encoder.description,
        licence=encoder.licence,
        restriction=encoder.restriction,
        preparation=encoder.preparation,
        outputs=(Output(name=EMBEDDING, kind="quantity", unit="1", range=(-_LARGEST, _LARGEST)),),
        pixel_size_m=encoder.pixel_size_m,
        pixel_size_range_m=cast(tuple[float, float], tuple(share * encoder.pixel_size_m for share in _SIZE_RANGE)),
        tile=_usual_tile(encoder, network, whole),
        overlap=0,
        stride=whole,
        sensors=encoder.sensors,
        architecture=encoder.architecture,
        attribution=encoder.attribution,
        created=encoder.created,
        versions=encoder.versions,
        path=encoder.path,
        checksum=hashlib.sha256(described.encode()).hexdigest(),
        checksums=encoder.checksums,
    )
