"""Learning from labels that starts with an encoder, ours or a published one: its network, its weights by role, its statistics."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from geoseg.backbones.contract import USUAL, place_bands, takes_pixel_size
from geoseg.errors import PackageError, require
from geoseg.models.encoders import Encoder
from geoseg.models.segmenter import ENCODER, VIT, Segmenter
from geoseg.preprocess.prepare import Preparation
from geoseg.preprocess.series import split_role
from geoseg.recipes._settings import Settings

log = logging.getLogger(__name__)

_RATE = 5e-4
"""Learning rate where the settings name none: a transformer that knows something forgets it at the usual one."""
_FAR = 3.0
"""Standard deviations between the means of scene and encoder that are worth a warning."""
_PLAIN = "1"
"""Unit of numbers that mean nothing of themselves, such as colours from 0 to 255."""


def with_network_of(encoder: Encoder, settings: Settings, channels: Sequence[str]) -> Settings:
    """The settings with the family and the options of the encoder's network, and a lower learning rate where they name none.

    PackageError where they name another family or other sizes, or published weights as well.
    """
    ours = encoder.architecture.get("family", USUAL) == USUAL
    family = VIT if ours else ENCODER
    if settings.family != family and "family" in settings.model_fields_set:
        raise PackageError(
            f"pretrained: the network of {encoder.path} is {family}, and family says {settings.family}; leave out one of them"
        )
    if settings.encoder_weights is not None:
        raise PackageError("pretrained and encoder_weights were given, and a network starts from one of them; leave out the other")
    theirs: dict[str, Any] = {name: value for name, value in encoder.architecture.items() if value is not None and name != "family"}
    if not ours:
        theirs = {"backbone": dict(encoder.architecture), "roles": list(channels)}
    if clash := [name for name in theirs if settings.network.get(name, theirs[name]) != theirs[name]]:
        said = f"pretrained: {encoder.path} has {clash[0]} {theirs[clash[0]]}, and network says {settings.network[clash[0]]}"
        raise PackageError(f"{said}; leave it out of network")
    network = {**settings.network, **theirs}
    rate = settings.learning_rate if "learning_rate" in settings.model_fields_set else _RATE
    return settings.model_copy(update={"family": family, "network": network, "learning_rate": rate})


def with_pixel_size(settings: Settings, pixel_size_m: float) -> Settings:
    """The settings with the pixel size of all images, for networks that are told of it and where they name none."""
    sized = float(f"{pixel_size_m:.4g}")
    network, backbone = dict(settings.network), settings.network.get("backbone")
    if settings.family == VIT:
        network = {"pixel_size_m": sized, **network}
    elif settings.family == ENCODER and isinstance(backbone, dict) and takes_pixel_size(backbone):
        network["backbone"] = {**backbone, "pixel_size_m": sized}
    return settings.model_copy(update={"network": network})


def load_pretrained(network: Segmenter, encoder: Encoder, channels: Sequence[str]) -> str:
    """Fill the network's encoder with the encoder's weights, by the roles of `channels`; gives a sentence that says how.

    A channel takes the kernel of its band; one that the encoder has never seen begins with zeros, without a say. Several dates of one
    band, as `red@05`, share its kernel, so that ground that does not change is seen as on one date. Raises PackageError
    where none of the channels is known, the weights do not fit, or the network takes its own bands only.
    """
    roles = [split_role(name)[0] for name in channels]
    known = [name for name, role in zip(channels, roles, strict=True) if role in encoder.roles]
    if not known:
        raise PackageError(
            f"pretrained: {encoder.path} has learned {', '.join(encoder.roles)}, and the network reads {', '.join(channels)}; "
            "choose bands that it knows"
        )
    inner: Any = network.network
    try:
        state = require("safetensors.torch", extra="train").load(encoder.weights)
        inner.encoder.load_state_dict(place_bands(encoder.architecture, state, encoder.roles, channels))
    except (KeyError, RuntimeError) as error:
        raise PackageError(
            f"the weights in {encoder.path} do not fit its description ({str(error).splitlines()[0]}); make it again"
        ) from error
    new = [name for name in channels if name not in known]
    left = [role for role in encoder.roles if role not in roles]
    said = f"Starts from {encoder.name}, which has learned {', '.join(known)} at {encoder.pixel_size_m:g} m"
    said += f"; {', '.join(new)} it has never seen" if new else ""
    said += f"; of its bands {', '.join(left)} are not used" if left else ""
    log.info("%s", said)
    return said + "."


def with_its_statistics(preparation: Preparation, encoder: Encoder) -> Preparation:
    """The preparation with the encoder's means and spreads for the bands that it knows, as it has learned to see them.

    Warns of a band whose own mean lies more than three of the encoder's standard deviations away. What has learned from plain numbers,
    as of photographs, has no unit to compare: bands in a unit keep their own statistics then, which bring them to mean 0 and spread 1
    as its own were. PackageError where a band is in another unit otherwise or, of radar, another convention.
    """
    theirs = {channel.name: channel for channel in encoder.preparation.channels}
    needs = {need.role: need for need in encoder.preparation.bands}
    units = {split_role(need.role)[0]: need.unit for need in preparation.bands}
    strange = {role for role, need in needs.items() if need.unit == _PLAIN and units.get(role, _PLAIN) != _PLAIN}
    if strange:
        log.info("%s has learned from plain numbers; %s keep their own statistics", encoder.name, ", ".join(sorted(strange)))
    for need in preparation.bands:
        role = split_role(need.role)[0]
        if role not in needs or role in strange:
            continue
        conventions = {one.convention for one in (need, needs[role])} - {None}  # None: it is not known
        if need.unit != needs[role].unit or len(conventions) > 1:
            has, learned = (f"{one.unit} {one.convention or ''}".strip() for one in (need, needs[role]))
            raise PackageError(f"pretrained: {encoder.path} has learned {role} in {learned}, the scene has it in {has}; choose another")
    channels = []
    for channel in preparation.channels:
        role = split_role(channel.name)[0]
        known = theirs.get(role) if channel.kind == "band" and role not in strange else None
        if known is not None:
            if abs(channel.mean - known.mean) > _FAR * known.std:
                log.warning(
                    "%s has a mean of %.4g here and of %.4g ± %.4g where %s has learned; look whether its numbers mean the same",
                    channel.name, channel.mean, known.mean, known.std, encoder.name,
                )  # fmt: skip
            channel = channel.model_copy(update={"mean": known.mean, "std": known.std})
        channels.append(channel)
    return preparation.model_copy(update={"channels": tuple(channels)})
