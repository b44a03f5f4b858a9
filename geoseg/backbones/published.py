"""Published networks that `geoseg models fetch` makes encoders of: where they lie, under which licence, what they read, what was tried.

The table is `published.yaml` beside this file: one entry a network. What torchgeo and timm list themselves, `torchgeo:…` and `timm:…`,
is asked of them (`published_libraries.py`), not copied.
"""

from __future__ import annotations

import difflib
from functools import cache
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, JsonValue, model_validator

from geoseg.backbones import FAMILIES
from geoseg.errors import InputError
from geoseg.sensors import Convention
from geoseg.settings import Settings, read_settings

LIBRARIES = ("torchgeo:", "timm:")
"""How names begin of what libraries list themselves."""
TABLE = Path(__file__).with_suffix(".yaml")

Status = Literal["run on real weights", "layout test only", "listed"]
"""What was tried: the published file itself, through to its features; made-up tensors under the published names; nothing."""
Library = Literal["geoseg", "timm", "torchgeo", "transformers", "terratorch"]


class PublishedBand(Settings):
    """One channel of a published network."""

    role: str
    """geoseg's role of the band."""
    name: str = ""
    """The provider's name."""
    wavelength_um: float | None = None
    unit: str = "reflectance"
    """Of what geoseg's preparation gives: `reflectance`, `dB`, `m`, `K`, `1` (numbers as they are, such as 0 … 255) …"""
    convention: Convention | None = None
    """Radar only."""
    mean: float = 0.0
    std: Annotated[float, Field(gt=0)] = 1.0
    """As published: what reaches the network is (number - mean) / std."""
    scale: float | None = None
    """The same for this band alone; None for the network's."""


class Published(Settings):
    """One published network."""

    name: str = ""
    """What `geoseg models fetch` calls it: its key in the table."""
    title: str
    address: str
    """`hf:OWNER/NAME/PATH`, `zenodo:RECORD/FILE`, https, or `pypi:NAME==VERSION/PATH` of a file in a package."""
    licence: str
    """SPDX identifier of the weights' licence, or `LicenseRef-NAME`."""
    restriction: str = ""
    """One line that says what the licence forbids; where there is one, the licence has to be accepted."""
    citation: str = ""
    """Address of the paper."""
    through: Library
    """Who keeps the network."""
    family: str | None = None
    """Its family in `geoseg.backbones`; None where geoseg has no converter."""
    options: dict[str, JsonValue] = Field(default_factory=dict)
    """Of the family's `build`."""
    bands: tuple[PublishedBand, ...] = ()
    """In the order of the network's channels; empty only for networks that geoseg has no converter for."""
    scale: float = 1.0
    """Physical value, in the band's unit, = scale x a number of `mean` and `std`: 0.0001 where these are reflectance x 10 000."""
    pixel_size_m: Annotated[float, Field(gt=0)] | None = None
    """At which it has learned; None only where geoseg has no converter."""
    patch: int | None = None
    """Edge in pixels; None for networks without patches."""
    image: int | None = None
    """Edge in pixels of the images it has learned from."""
    size_mb: float | None = None
    """Of the download, in 10^6 bytes; None where it is not known here."""
    sha256: str | None = None
    """Of the file; None where nobody here has seen it."""
    note: str = ""
    """What else a user has to know, such as inputs that geoseg leaves out."""
    status: Status

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.family is None and self.status != "listed":
            raise ValueError(f"the status {self.status!r} needs a family that converts its weights")
        if self.family is not None and self.family not in FAMILIES:
            raise ValueError(f"there is no backbone {self.family!r}; known are {', '.join(FAMILIES)}")
        if self.family is not None and (not self.bands or self.pixel_size_m is None):
            raise ValueError("a network that can be converted states its bands and pixel_size_m")
        if twice := {role for role in self.roles if self.roles.count(role) > 1}:
            raise ValueError(f"the band {sorted(twice)[0]!r} stands twice; name each once")
        return self

    @property
    def roles(self) -> tuple[str, ...]:
        """The bands of its channels, in order."""
        return tuple(band.role for band in self.bands)

    def statistics(self, role: str) -> tuple[float, float]:
        """Mean and standard deviation of one band in its unit."""
        band = next(band for band in self.bands if band.role == role)
        scale = self.scale if band.scale is None else band.scale
        return band.mean * scale, band.std * scale


def _named(models: object) -> object:
    if isinstance(models, dict):
        return {key: {"name": key, **entry} if isinstance(entry, dict) else entry for key, entry in models.items()}
    return models


class PublishedTable(Settings):
    """What `published.yaml` holds."""

    bands: JsonValue = None
    """Bands that several entries share, for YAML's anchors; not read."""
    models: Annotated[dict[str, Published], BeforeValidator(_named)]


@cache
def published_models() -> dict[str, Published]:
    """Name → network, of the table."""
    return read_settings(PublishedTable, TABLE).models


def get_published(name: str) -> Published:
    """The network of this name, of the table or of a library; InputError with the nearest known for another."""
    models = published_models()
    if name in models:
        return models[name]
    if name.startswith(LIBRARIES):
        from geoseg.backbones.published_libraries import library_network

        return library_network(name)
    near = difflib.get_close_matches(name.lower(), models, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else "geoseg models list shows all"
    raise InputError(f"there is no published network {name!r}; {hint}")
