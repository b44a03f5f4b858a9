"""What every backbone offers, whoever made it: an image in, features from fine to coarse out; and how one is built by its family's name.

A family is a module of this folder with two functions:

    build(roles, **options) -> nn.Module      the network for bands of these roles, with random weights; it is a `Backbone`
    load(backbone, state, source) -> KeyReport      fills it with a published state: names converted, kernels by role (optional)

`options` are plain values, which stand in an encoder's `architecture` beside `family`, so that they rebuild the network for its weights.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, Protocol, cast, runtime_checkable

import torch
from torch import nn

from geoseg.backbones import FAMILIES
from geoseg.errors import PackageError

USUAL = "vit"
"""The family of an architecture that names none: what `masked_pretraining` makes."""


@runtime_checkable
class Backbone(Protocol):
    """A network module that makes features of images (batch, channel, row, col), whose channels are bands in the order of `roles`."""

    channels: tuple[int, ...]
    """Features of each level, fine to coarse; transformers have the same width at several depths."""
    strides: tuple[int, ...]
    """Pixels of the image for one place of each level. Rows and columns of images are multiples of the last."""

    def __call__(self, image: torch.Tensor) -> list[torch.Tensor]:
        """(batch, channels[i], row / strides[i], col / strides[i]) for each level."""


def build_backbone(architecture: Mapping[str, Any], roles: Sequence[str]) -> nn.Module:
    """The `Backbone` of an encoder's architecture for bands of these roles, with random weights.

    PackageError for an unknown family, an option that it does not take, or bands that it cannot see.
    """
    family = str(architecture.get("family", USUAL))
    options = {name: value for name, value in architecture.items() if name != "family"}
    if family not in FAMILIES:
        near = difflib.get_close_matches(family, FAMILIES, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(FAMILIES)}"
        raise PackageError(f"there is no backbone {family!r}; {hint}")
    try:
        built = import_module(f"geoseg.backbones.{family}").build(tuple(roles), **options)
    except (TypeError, ValueError, RuntimeError) as error:
        raise PackageError(f"cannot build the backbone {family} with {options}: {error}") from error
    return cast(nn.Module, built)
