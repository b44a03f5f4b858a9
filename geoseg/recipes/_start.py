"""Learning on from a model package, such as from corrections of its maps: its network, bands, statistics and classes, and little changed.

A network that learns a few new labels forgets what these do not show. Against that stand a small learning rate, few epochs, running
statistics that stay as they are, and "learning without forgetting" (Li & Hoiem, ECCV 2016): where nothing is labelled, its scores are held
to those of the network that it started from. Where we differ: their old answers are those of another task on the same images, ours are
those of the same task on the ground beside the labels.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import JsonValue
from torch.nn.functional import kl_div, log_softmax
from torch.nn.modules.batchnorm import _BatchNorm

from geoseg.data.windows import UNLABELLED
from geoseg.errors import InputError, PackageError, require
from geoseg.models.description import DEFAULT_OUTPUT
from geoseg.models.fit import averaged_pixel_size_m, check_bands
from geoseg.models.package import ModelPackage
from geoseg.models.segmenter import Segmenter
from geoseg.recipes._settings import Settings
from geoseg.scene import Scene

_RATE, _EPOCHS, _PATIENCE = 2e-4, 8, 4
"""Where the settings say none of their own: a tenth of the usual rate, and fewer rounds."""
_ITS_OWN = ("bands", "indices", "terrain_correction", "despeckle", "keep_indices_raw", "classes")
"""What the package says, and the settings must not."""
_ARCHITECTURE = ("family", "encoder", "detail", "in_channels", "classes")


def open_start(path: str | Path) -> ModelPackage:
    """The package to start from; PackageError where it has no weights that could learn on, or maps other things than one set of classes."""
    package = ModelPackage.open(path)
    if package.weights is None or not package.architecture:
        raise PackageError(
            f"start: {path} holds no weights that could learn on, as packages of `geoseg train` with a network do; train a new one with "
            "the old labels and the new ones"
        )
    if [output.name for output in package.outputs] != [DEFAULT_OUTPUT] or "outputs" in package.architecture:
        mapped = ", ".join(output.name for output in package.outputs)
        raise PackageError(f"start: {path} maps {mapped}; expected a package with the one output {DEFAULT_OUTPUT}")
    return package


def with_start(settings: Settings, package: ModelPackage) -> Settings:
    """The settings with the package's network, and with a small rate and few epochs where they name none; the same if asked twice.

    InputError where they say something that the package says already, or another start as well.
    """
    if both := [name for name in ("pretrained", "encoder_weights") if getattr(settings, name) is not None]:
        raise InputError(f"start and {both[0]} were given, and a network starts from one of them; leave the other out")
    if said := [name for name in _ITS_OWN if name in settings.model_fields_set and getattr(settings, name) not in ((), None)]:
        raise InputError(f"start: {package.path} brings its own {said[0]}; leave {said[0]} out")
    if settings.calendar != package.preparation.calendar:
        theirs = package.preparation.calendar
        maps = "single dates; leave calendar out" if theirs is None else f"series ({theirs.described()}); give that calendar"
        raise InputError(f"start: {package.path} maps {maps}")
    given = dict(package.architecture)
    network: dict[str, JsonValue] = {name: value for name, value in given.items() if name not in _ARCHITECTURE}
    theirs_of: dict[str, Any] = {"family": given["family"], "detail": given.get("detail", 0), "network": network}
    if "encoder" in given:
        theirs_of["encoder"] = given["encoder"]
    for name, value in theirs_of.items():
        if name in settings.model_fields_set and getattr(settings, name) != value:
            raise InputError(f"start: {package.path} brings its own {name}, and the settings say another; leave {name} out")
    few = {"learning_rate": _RATE, "epochs": _EPOCHS, "patience": _PATIENCE}
    few = {name: value for name, value in few.items() if name not in settings.model_fields_set}
    return settings.model_copy(update=theirs_of | few)


def check_channels(package: ModelPackage, classes: Sequence[str], channels: Sequence[str]) -> None:
    """Raise InputError where a module is asked for other classes or channels than the package has."""
    own = (*package.outputs[0].legend.names,), tuple(channel.name for channel in package.preparation.channels)
    for what, theirs, asked in zip(("classes", "channels"), own, (classes, channels), strict=True):
        if tuple(asked) != theirs:
            raise InputError(f"start: {package.path} has the {what} {', '.join(theirs)}; asked for were {', '.join(asked)}")


def check_start_fits(package: ModelPackage, scene: Scene) -> None:
    """Raise BandError or PackageError where the scene lacks what the package reads, or has pixels that it was not made for."""
    check_bands(package, scene)
    grid = scene.geobox([need.role for need in package.preparation.bands])
    if (averaged := averaged_pixel_size_m(package, grid)) is not None:
        raise PackageError(
            f"start: {package.path} is for pixels of {averaged:g} m, and those of {scene.source} are finer; average the scene first, with "
            "gdalwarp -tr and -r average"
        )


def load_start(network: Segmenter, package: ModelPackage) -> str:
    """Fill the network with the package's weights, its running statistics to stay; gives a sentence that says so.

    PackageError where the weights do not fit its description.
    """
    try:
        network.load_state_dict(require("safetensors.torch", extra="train").load(package.weights))
    except (KeyError, RuntimeError) as error:
        raise PackageError(f"the weights in {package.path} do not fit its description ({str(error).splitlines()[0]})") from error
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            module.eval()
    return f"Starts from {package.title} ({package.name}, {package.checksum[:12]}), whose held-out ground was not learned from."


class Stay:
    """How far a network has gone from where it started, on ground without labels; no module: no checkpoint holds the start twice."""

    def __init__(self, network: Segmenter, weight: float) -> None:
        """`weight` is that in the loss."""
        self.weight = weight
        self._start = copy.deepcopy(network).requires_grad_(False).eval()

    def loss(self, batch: dict[str, torch.Tensor], logits: torch.Tensor) -> torch.Tensor:
        """Weight times the mean divergence (Kullback & Leibler) of scores from those of the start, over valid pixels without a label."""
        image, labels = batch["image"], batch["labels"]
        open_ground = (labels == UNLABELLED) & (image != 0).any(dim=1)
        if not open_ground.any():
            return logits.sum() * 0
        with torch.no_grad():
            before = log_softmax(self._start.to(image.device)(image)[DEFAULT_OUTPUT], dim=1)
        apart = kl_div(log_softmax(logits, dim=1), before, reduction="none", log_target=True).sum(dim=1)  # (batch, row, col)
        return self.weight * apart[open_ground].mean()
