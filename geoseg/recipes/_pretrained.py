"""Learning from labels that starts with an encoder of `masked_pretraining`: its network, its weights by role, its statistics."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence

import torch

from geoseg.backbones.vit_segmenter import VitSegmenter
from geoseg.errors import PackageError, require
from geoseg.models.encoders import Encoder
from geoseg.models.segmenter import VIT, Segmenter
from geoseg.preprocess.prepare import Preparation
from geoseg.preprocess.series import split_role
from geoseg.recipes._settings import Settings

log = logging.getLogger(__name__)

_RATE = 5e-4
"""Learning rate where the settings name none: a transformer that knows something forgets it at the usual one."""
_FAR = 3.0
"""Standard deviations between the means of scene and encoder that are worth a warning."""
_KERNELS = "embed.weight"


def with_network_of(encoder: Encoder, settings: Settings) -> Settings:
    """The settings with the family and the options of the encoder's network, and a lower learning rate where they name none.

    PackageError where they name another family or other sizes, or published weights as well.
    """
    if settings.family != VIT and "family" in settings.model_fields_set:
        raise PackageError(f"pretrained: {encoder.path} is a transformer, and family says {settings.family}; leave out one of them")
    if settings.encoder_weights is not None:
        raise PackageError("pretrained and encoder_weights were given, and a network starts from one of them; leave out the other")
    theirs = {name: value for name, value in encoder.architecture.items() if value is not None}
    if clash := [name for name in theirs if settings.network.get(name, theirs[name]) != theirs[name]]:
        said = f"pretrained: {encoder.path} has {clash[0]} {theirs[clash[0]]}, and network says {settings.network[clash[0]]}"
        raise PackageError(f"{said}; leave it out of network")
    network = {**settings.network, **theirs}
    rate = settings.learning_rate if "learning_rate" in settings.model_fields_set else _RATE
    return settings.model_copy(update={"family": VIT, "network": network, "learning_rate": rate})


def freeze(network: Segmenter) -> None:
    """Leave the network's encoder as it is: only what stands behind it learns. PackageError for a network without one."""
    encoder = getattr(network.network, "encoder", None)
    if not isinstance(encoder, torch.nn.Module):
        raise PackageError("freeze: this network has no encoder that could be left as it is; leave freeze out")
    encoder.requires_grad_(False)


def load_pretrained(network: Segmenter, encoder: Encoder, channels: Sequence[str]) -> str:
    """Fill the network's transformer with the encoder's weights, by the roles of `channels`; gives a sentence that says how.

    A channel takes the kernel of its band; one that the encoder has never seen begins with zeros, without a say. Several dates of one
    band, as `red@05`, share its kernel, so that ground that does not change is seen as on one date. Raises PackageError
    where none of the channels is known, or the weights do not fit.
    """
    roles = [split_role(name)[0] for name in channels]
    known = [name for name, role in zip(channels, roles, strict=True) if role in encoder.roles]
    if not known:
        raise PackageError(
            f"pretrained: {encoder.path} has learned {', '.join(encoder.roles)}, and the network reads {', '.join(channels)}; "
            "choose bands that it knows"
        )
    inner = network.network
    assert isinstance(inner, VitSegmenter), "the settings were made by with_network_of"
    try:
        state = require("safetensors.torch", extra="train").load(encoder.weights)
        state[_KERNELS] = place_kernels(state[_KERNELS], encoder.roles, roles)
        inner.encoder.load_state_dict(state)
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


def place_kernels(kernels: torch.Tensor, have: Sequence[str], wanted: Sequence[str]) -> torch.Tensor:
    """(width, channel, row, col) of `wanted` roles, from kernels (width, band, row, col) of the roles `have`.

    Those of the same role, bit for bit; zeros where there is none; a role that is wanted several times has its kernel shared out.
    """
    times = Counter(wanted)
    nothing = torch.zeros_like(kernels[:, 0])
    return torch.stack([kernels[:, list(have).index(role)] / times[role] if role in have else nothing for role in wanted], dim=1)


def with_its_statistics(preparation: Preparation, encoder: Encoder) -> Preparation:
    """The preparation with the encoder's means and spreads for the bands that it knows, as it has learned to see them.

    Warns of a band whose own mean lies more than three of the encoder's standard deviations away. PackageError where a band
    is in another unit or, of radar, another convention.
    """
    theirs = {channel.name: channel for channel in encoder.preparation.channels}
    needs = {need.role: need for need in encoder.preparation.bands}
    for need in preparation.bands:
        role = split_role(need.role)[0]
        if role not in needs:
            continue
        if need.unit != needs[role].unit or need.convention != needs[role].convention:
            has, learned = (f"{one.unit} {one.convention or ''}".strip() for one in (need, needs[role]))
            raise PackageError(f"pretrained: {encoder.path} has learned {role} in {learned}, the scene has it in {has}; choose another")
    channels = []
    for channel in preparation.channels:
        known = theirs.get(split_role(channel.name)[0]) if channel.kind == "band" else None
        if known is not None:
            if abs(channel.mean - known.mean) > _FAR * known.std:
                log.warning(
                    "%s has a mean of %.4g here and of %.4g ± %.4g where %s has learned; look whether its numbers mean the same",
                    channel.name, channel.mean, known.mean, known.std, encoder.name,
                )  # fmt: skip
            channel = channel.model_copy(update={"mean": known.mean, "std": known.std})
        channels.append(channel)
    return preparation.model_copy(update={"channels": tuple(channels)})
