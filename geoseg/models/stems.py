"""Published weights for a network whose channels are other than red, green and blue.

Networks that were trained on photographs look through a stem: the layer that sees the image itself, with one kernel for each of
red, green and blue. Here each kernel goes to the channel of its role, wherever that stands: of near infrared, red, green the
second gets red's, the third green's. A channel that the published network has never seen (near infrared, an index, radar) gets
the mean of its three kernels, which finds edges and textures in any band. All are multiplied by 3 / channels, so that activations
keep their size: an image that is grey, red, green and blue among its channels, is seen exactly as before. The published
networks expect channels of about mean 0 and spread 1, which is what `prepare` gives.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from geoseg.errors import PackageError, require
from geoseg.models.segmenter import Segmenter, build_network
from geoseg.preprocess.series import split_role

log = logging.getLogger(__name__)

_KNOWN = ("red", "green", "blue")
"""Roles of the published kernels, in their order."""
_ENDING = ".safetensors"


def load_encoder(network: Segmenter, architecture: Mapping[str, Any], channels: Sequence[str], weights: str) -> str:
    """Fill the network's encoder with published weights, its stem adapted to `channels`; gives a sentence that says how.

    `channels` are the names of the image's planes, in order; those of a series, such as `red@05`, count by their role. `weights`
    is a name that segmentation-models-pytorch knows, such as `imagenet` (a download), or a .safetensors file with the state of
    this encoder for three channels. Raises PackageError where weights and encoder do not fit, or cannot be had.
    """
    encoder: nn.Module | None = getattr(network.network, "encoder", None)
    if encoder is None:
        raise PackageError(f"{architecture['family']} has no encoder that encoder_weights could fill; leave encoder_weights out")
    empty = encoder.state_dict()
    other = 4 if len(channels) == len(_KNOWN) else len(_KNOWN)
    changed = _encoder_state(build_network({**architecture, "in_channels": other}))
    stems = [name for name, tensor in empty.items() if tensor.shape != changed[name].shape]
    published = _read(Path(weights), empty) if weights.endswith(_ENDING) else _fetch(architecture, weights)
    state = adapt_stems(published, stems, channels)
    for name, tensor in empty.items():
        if name not in state or state[name].shape != tensor.shape:
            found = f"of shape {tuple(state[name].shape)} there" if name in state else "not there"
            raise PackageError(
                f"{weights} does not fit the encoder {architecture.get('encoder')}: {name}, of shape {tuple(tensor.shape)}, is {found}"
            )
    encoder.load_state_dict({name: state[name] for name in empty})
    sentence = _said(channels, weights)
    log.info("%s", sentence)
    return sentence


def adapt_stems(published: Mapping[str, torch.Tensor], stems: Collection[str], channels: Sequence[str]) -> dict[str, torch.Tensor]:
    """The state with the kernels of `stems`, (filter, 3, row, col) each, as (filter, channel, row, col) by the channels' roles.

    Raises PackageError where there is no stem, or one is not for three channels.
    """
    if not stems:
        raise PackageError("this encoder has no stem that sees the image; published weights cannot be adapted to its channels")
    roles = [split_role(name)[0] for name in channels]
    state = dict(published)
    for name in stems:
        kernels = state.get(name)
        if kernels is None or kernels.ndim != 4 or kernels.shape[1] != len(_KNOWN):
            found = "not there" if kernels is None else f"of shape {tuple(kernels.shape)}"
            raise PackageError(f"the stem {name} of the published weights is {found}; expected kernels for red, green and blue")
        mean = kernels.mean(dim=1)
        placed = [kernels[:, _KNOWN.index(role)] if role in _KNOWN else mean for role in roles]
        state[name] = torch.stack(placed, dim=1) * (len(_KNOWN) / len(roles))
    return state


def _fetch(architecture: Mapping[str, Any], weights: str) -> dict[str, torch.Tensor]:
    """The published state of the encoder for red, green and blue."""
    try:
        twin = build_network({**architecture, "in_channels": len(_KNOWN)}, encoder_weights=weights)
    except PackageError:
        raise
    except Exception as error:  # whatever a failed download raises; there are several libraries below
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise PackageError(
            f"the weights {weights!r} of {architecture.get('encoder')} cannot be fetched ({reason}); give a {_ENDING} file, or none"
        ) from error
    return _encoder_state(twin)


def _encoder_state(network: Segmenter) -> dict[str, torch.Tensor]:
    """By the names that stand inside the encoder."""
    start = "network.encoder."
    return {name.removeprefix(start): tensor for name, tensor in network.state_dict().items() if name.startswith(start)}


def _read(path: Path, empty: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The state in a file, under this encoder's names; timm's own names lack the `model.` that stands before them here."""
    safetensors = require("safetensors.torch", extra="train")
    try:
        state: dict[str, torch.Tensor] = safetensors.load_file(path)
    except Exception as error:  # safetensors raises a type of its own
        raise PackageError(f"encoder_weights: {path} cannot be read as safetensors ({error})") from error
    return {name: state[plain] for name in empty for plain in (name, name.removeprefix("model.")) if plain in state}


def _said(channels: Sequence[str], weights: str) -> str:
    known = [name for name in channels if split_role(name)[0] in _KNOWN]
    strange = [name for name in channels if name not in known]
    said = [f"{', '.join(known)} take the kernels of their colours"] if known else []
    said += [f"{', '.join(strange)}, which these have never seen, take the mean of red's, green's and blue's"] if strange else []
    return f"weights {weights}: {'; '.join(said)}; all times {len(_KNOWN)}/{len(channels)}"
