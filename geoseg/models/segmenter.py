"""Networks by description: the `architecture` of a model package, built as one torch module with named outputs.

    {"family": "smp.Unet", "encoder": "tu-mobilenetv3_small_050", "in_channels": 9, "classes": 2}
    {"family": "smp.Unet", "encoder": "resnet18", "in_channels": 4, "outputs": {"ice": 6, "floe_size": 7}}
    {"family": "autoice.UNet", "in_channels": 3, "outputs": {"concentration": 11, "stage": 6, "floe": 7}, "skips": false}
    {"family": "vit.Pyramid", "size": "tiny", "patch": 8, "pixel_size_m": 10, "in_channels": 6, "classes": 4}
    {"family": "crossearth_sar.Pyramid", "size": "small", "experts": 6, "in_channels": 2, "classes": 4}
    {"family": "crossearth_sar.Pyramid", "size": "large", "decoder": "query", "in_channels": 2, "classes": 4}
    {"family": "encoder.Segmenter", "backbone": {"family": "timm_features", "model": "resnet18"}, "roles": ["red", "nir"], "in_channels": 2,
     "classes": 4, "decoder": "pyramid"}

`smp.` families are those of segmentation-models-pytorch, with `detail` features of each pixel beside them (`detail.py`); what else
stands in the description (`decoder_channels`, `encoder_depth` …) goes to that network as it is. A description never makes anything be
downloaded.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import nn

from geoseg.backbones.autoice_unet import AutoIceUNet
from geoseg.backbones.crossearth_segmenter import CrossEarthSegmenter
from geoseg.backbones.encoder_segmenter import EncoderSegmenter
from geoseg.backbones.query_decoder import QueryDecoder
from geoseg.backbones.vit_segmenter import VitSegmenter
from geoseg.errors import PackageError, require
from geoseg.models.description import DEFAULT_OUTPUT
from geoseg.models.detail import detail_branch
from geoseg.models.set_loss import set_loss

Scores = dict[str, torch.Tensor]
"""Output name → (batch, class or 1, row, col)."""

_SMP_FAMILIES = ("Unet", "UnetPlusPlus", "MAnet", "Linknet", "FPN", "PSPNet", "DeepLabV3", "DeepLabV3Plus", "PAN", "UPerNet", "Segformer")
_OURS = ("family", "encoder", "in_channels", "classes", "outputs", "detail")
_AUTOICE = "autoice.UNet"
VIT = "vit.Pyramid"
"""A transformer with a light decoder; what `masked_pretraining` makes is for it."""
CROSSEARTH_SAR = "crossearth_sar.Pyramid"
"""The same decoder behind a transformer for radar whose experts are chosen by physics."""
ENCODER = "encoder.Segmenter"
"""Any backbone of `geoseg.backbones`, as `geoseg models fetch` makes them of published networks, with a decoder."""
TRANSFORMERS: dict[str, type[nn.Module]] = {VIT: VitSegmenter, CROSSEARTH_SAR: CrossEarthSegmenter, ENCODER: EncoderSegmenter}
QUERY = "query"
"""The `decoder` that is Mask2Former's."""
_NOT_OFFERED = ("in_channels", "planes", "encoder_name", "encoder_weights", "self", "kwargs")


class OutputKind(Protocol):
    """What `ScoredNetwork` asks of a package's output."""

    @property
    def name(self) -> str:
        """Name of the network's output."""

    @property
    def kind(self) -> str:
        """`classes` or `quantity`."""


class Segmenter(nn.Module):
    """One network whose planes are shared out among named outputs, perhaps with a branch whose planes are added."""

    def __init__(self, network: nn.Module, outputs: Mapping[str, int], detail: nn.Module | None = None) -> None:
        super().__init__()
        self.network, self.detail = network, detail
        self.outputs = dict(outputs)
        """Output name → number of planes, in order."""

    @property
    def stride(self) -> int:
        """Rows and columns of an image are multiples of this: the network's coarsest step in pixels."""
        own = getattr(self.network, "stride", None)
        return int(own if own is not None else getattr(getattr(self.network, "encoder", None), "output_stride", 32))

    @property
    def chooses(self) -> bool:
        """Whether the network chooses among ways to go, so that rounding may now and then send it another way."""
        return bool(getattr(self.network, "chooses", False)) or self.queries is not None

    @property
    def queries(self) -> QueryDecoder | None:
        """The decoder where it is one of queries, whose loss is its own; None for one that scores pixels."""
        return next((part for part in self.network.modules() if isinstance(part, QueryDecoder)), None)

    def own_loss(self, labels: torch.Tensor) -> torch.Tensor | None:
        """The loss of the last pass in training against labels (batch, row, col); None where a loss of pixels is meant."""
        queries = self.queries
        return None if queries is None or queries.said is None else set_loss(queries.said, labels)

    def extra_loss(self) -> torch.Tensor | None:
        """What the network itself adds to the loss of the last pass; None where it adds nothing."""
        own = getattr(self.network, "extra_loss", None)
        return None if own is None else own()

    def forward(self, image: torch.Tensor) -> Scores:
        """Logits (or quantities) by output, (batch, plane, row, col), for an image (batch, channel, row, col)."""
        planes = self.network(image) if self.detail is None else self.network(image) + self.detail(image)
        return dict(zip(self.outputs, planes.split(list(self.outputs.values()), dim=1), strict=True))


class ScoredNetwork(nn.Module):
    """A network with softmax behind each output of kind `classes`: what is exported and what maps are made with."""

    def __init__(self, network: nn.Module, outputs: Sequence[OutputKind]) -> None:
        super().__init__()
        self.network = network
        self.kinds = {output.name: output.kind for output in outputs}

    def forward(self, image: torch.Tensor) -> Scores:
        """Probabilities of classes (they sum to 1 over dim 1) and quantities in their unit, (batch, plane, row, col)."""
        planes = self.network(image)
        return {name: planes[name].softmax(dim=1) if kind == "classes" else planes[name] for name, kind in self.kinds.items()}


def output_planes(architecture: Mapping[str, Any]) -> dict[str, int]:
    """Output name → number of planes, from `outputs`, or from `classes` for the one output called `classes`."""
    if "outputs" in architecture:
        outputs = {str(name): int(planes) for name, planes in architecture["outputs"].items()}
    elif "classes" in architecture:
        outputs = {DEFAULT_OUTPUT: int(architecture["classes"])}
    else:
        raise PackageError("the architecture says neither 'classes' nor 'outputs'; give the number of classes")
    if not outputs or min(outputs.values()) < 1:
        raise PackageError(f"the architecture's outputs are {outputs}; each needs at least one plane")
    return outputs


def build_network(architecture: Mapping[str, Any], *, encoder_weights: str | None = None) -> Segmenter:
    """The network of a description, with random weights; `encoder_weights` names published ones for the encoder (a download).

    Gives output name → logits or quantity. Raises PackageError for an unknown family, encoder or option.
    """
    family = str(architecture.get("family", ""))
    known = [_AUTOICE, *TRANSFORMERS, *(f"smp.{name}" for name in _SMP_FAMILIES)]
    if family not in known:
        near = difflib.get_close_matches(family, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
        raise PackageError(f"unknown network family {family!r}; {hint}")
    if "in_channels" not in architecture:
        raise PackageError("the architecture does not say 'in_channels', the number of planes that the network receives")
    outputs = output_planes(architecture)
    options = {name: value for name, value in architecture.items() if name not in _OURS}
    if family == _AUTOICE:
        _check_options(AutoIceUNet, family, options)
        return Segmenter(AutoIceUNet(int(architecture["in_channels"]), sum(outputs.values()), **options), outputs)
    width, channels = int(architecture.get("detail", 0)), int(architecture["in_channels"])
    if options.get("decoder") == QUERY and (width or list(outputs) != [DEFAULT_OUTPUT]):
        raise PackageError("a decoder of queries says which classes there are: it takes no detail, and no outputs but classes")
    if family in TRANSFORMERS:
        _check_options(TRANSFORMERS[family], family, options)
        try:
            transformer = TRANSFORMERS[family](channels, sum(outputs.values()), **options)
        except (TypeError, ValueError, RuntimeError) as error:
            raise PackageError(f"cannot build {family} with {options}: {error}") from error
        return Segmenter(transformer, outputs, detail_branch(channels, sum(outputs.values()), width) if width else None)
    smp = require("segmentation_models_pytorch", extra="train")
    network = getattr(smp, family.removeprefix("smp."))
    _check_options(network, family, options)
    try:
        built: nn.Module = network(
            encoder_name=str(architecture.get("encoder", "resnet18")),
            encoder_weights=encoder_weights,
            in_channels=int(architecture["in_channels"]),
            classes=sum(outputs.values()),
            **options,
        )
    except (KeyError, ValueError, RuntimeError, AssertionError) as error:
        raise PackageError(f"cannot build {family} with encoder {architecture.get('encoder')!r} and {options}: {error}") from error
    return Segmenter(built, outputs, detail_branch(channels, sum(outputs.values()), width) if width else None)


def count_parameters(network: nn.Module) -> int:
    """How many numbers the network learns."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


def _check_options(network: Any, family: str, options: Mapping[str, Any]) -> None:
    accepted = [name for name in inspect.signature(network.__init__).parameters if name not in _NOT_OFFERED]
    if unknown := sorted(set(options) - set(accepted)):
        near = difflib.get_close_matches(unknown[0], accepted, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"it takes {', '.join(accepted)}"
        raise PackageError(f"{family} has no option {unknown[0]!r}; {hint}")
