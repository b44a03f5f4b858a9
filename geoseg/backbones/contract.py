"""What every backbone offers, whoever made it: an image in, features from fine to coarse out; and how one is built by its family's name.

A family is a module of this folder with the first of these functions, and those of the others that it can offer:

    build(roles, **options) -> nn.Module      the network for bands of these roles, with random weights; it is a `Backbone`
    load(backbone, state, source) -> KeyReport      fills it with a published state: names converted, kernels by role
    place(state, have, wanted, **options) -> state      its own state for bands `have`, for bands `wanted`: kernels by role

`options` are plain values, which stand in an encoder's `architecture` beside `family`, so that they rebuild the network for its weights.
"""

from __future__ import annotations

import difflib
import inspect
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
    family, options = family_of(architecture)
    try:
        built = family.build(tuple(roles), **options)
    except (TypeError, ValueError, RuntimeError) as error:
        raise PackageError(f"cannot build the backbone {family.__name__.rpartition('.')[2]} with {options}: {error}") from error
    return cast(nn.Module, built)


def family_of(architecture: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The module of an architecture's family, and the other options; PackageError for an unknown family."""
    family = str(architecture.get("family", USUAL))
    if family not in FAMILIES:
        near = difflib.get_close_matches(family, FAMILIES, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(FAMILIES)}"
        raise PackageError(f"there is no backbone {family!r}; {hint}")
    options = {name: value for name, value in architecture.items() if name != "family"}
    return import_module(f"geoseg.backbones.{family}"), options


def place_bands(
    architecture: Mapping[str, Any], state: Mapping[str, torch.Tensor], have: Sequence[str], wanted: Sequence[str]
) -> dict[str, torch.Tensor]:
    """A backbone's own state for bands `have` as that for bands `wanted`.

    PackageError where these differ, also in their order, and the family cannot place its kernels by role.
    """
    if list(have) == list(wanted):
        return dict(state)
    family, options = family_of(architecture)
    if not hasattr(family, "place"):
        raise PackageError(
            f"the backbone {architecture.get('family', USUAL)} reads {', '.join(have)} in this order, and the network gets "
            f"{', '.join(wanted)}; give it its own bands: -s bands=[{', '.join(have)}]"
        )
    placed: dict[str, torch.Tensor] = family.place(state, have, wanted, **options)
    return placed


def takes_pixel_size(architecture: Mapping[str, Any]) -> bool:
    """Whether the family is told the size of pixels, by the option `pixel_size_m`."""
    family, options = family_of(architecture)
    words = inspect.signature(family.build).parameters
    return "pixel_size_m" in options or "pixel_size_m" in words
