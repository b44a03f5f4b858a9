"""What a model package says of itself: what goes in, what comes out, at which pixel size, and what it was made from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from geoseg.errors import InputError, PackageError
from geoseg.legend import Legend, LegendClass
from geoseg.preprocess.prepare import Preparation

DEFAULT_OUTPUT = "classes"
"""Name of the output of a model that has only one and does not name it."""
_NAME = re.compile(r"[a-z][a-z0-9._-]{0,98}[a-z0-9]")
_LICENCE = re.compile(r"[\w.+-]+")
_SHORTEST_NAME = 3
"""The MLM extension takes no shorter names for models."""
_NAME_RULE = "use small letters, digits, '.', '_' and '-', beginning with a letter"


class Output(BaseModel):
    """One raster that a model makes: classes with a legend, or a quantity with unit and range."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str
    """Also the name of the ONNX graph's output; small letters, digits, `.`, `_` and `-`, because it goes into file names."""
    kind: Literal["classes", "quantity"]
    classes: tuple[LegendClass, ...] = ()
    """The legend's classes in the order of the network's outputs; empty for a quantity."""
    nodata: int = 255
    """Code of pixels without a class."""
    unit: str | None = None
    """Unit of a quantity, such as `%`, `m` or `1`; None for classes."""
    range: tuple[float, float] | None = None
    """Least and greatest value that a quantity can take; None for classes."""
    calibrated: bool = False
    """True where the scores were shown to be frequencies; else they are called uncalibrated."""
    temperature: float | None = Field(default=None, gt=0)
    """What makes them so: scores to the power of one over this, made to sum to one (`geoseg.models.temperature`); None leaves them."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not _NAME.fullmatch(self.name):
            raise PackageError(f"{self.name!r} is no name for an output; {_NAME_RULE}")
        if self.kind == "classes":
            Legend(self.classes, self.nodata)
            if self.unit is not None or self.range is not None:
                raise PackageError(f"output {self.name!r} holds classes and also states a unit or a range; leave these out")
        elif self.classes or self.unit is None or self.range is None or not self.range[0] < self.range[1]:
            raise PackageError(f"output {self.name!r} is a quantity; it needs a unit and a range (least, greatest), and no classes")
        return self

    @classmethod
    def from_legend(cls, name: str, legend: Legend, *, calibrated: bool = False) -> Output:
        """An output whose raster holds the codes of `legend`."""
        return cls(name=name, kind="classes", classes=legend.classes, nodata=legend.nodata, calibrated=calibrated)

    @property
    def legend(self) -> Legend:
        """The classes of this output; PackageError for a quantity, which has none."""
        if self.kind != "classes":
            raise PackageError(f"output {self.name!r} is a quantity in {self.unit}; it has no legend")
        return Legend(self.classes, self.nodata)

    @property
    def planes(self) -> int:
        """How many planes of scores the network gives for it: one for each class, or 1."""
        return len(self.classes) or 1


class Figure(BaseModel):
    """One measured number: what, how much, on which ground, and who said what is true there."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str
    """Such as `IoU of water`."""
    value: float
    on: str
    """The ground that it was measured on, such as `the east half of scene X, 12 km², not trained on`."""
    by: str
    """Who or what made the truth, such as `hand-labelled` or `rule-made: NDWI > 0`."""


class ModelDescription(BaseModel):
    """All that is known of a model without its weights; refuses to be born inconsistent (PackageError)."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str
    """Three or more small letters, digits, `.`, `_` and `-`, beginning with a letter."""
    title: str
    """One line for people."""
    description: str
    """What it maps, from what, and what it is not good for."""
    licence: str
    """SPDX identifier of the weights' licence, such as `CC-BY-4.0`."""
    restriction: str = ""
    """What that licence, or that of weights which this model began with, forbids, in one line; empty where nothing is known."""
    preparation: Preparation
    """The bands by role in order, and how they become the network's input."""
    outputs: tuple[Output, ...]
    pixel_size_m: float
    """Ground size of a pixel that it was trained at, in metres."""
    pixel_size_range_m: tuple[float, float]
    """Least and greatest pixel size at which it may be used: finer scenes are averaged, coarser ones refused."""
    tile: int
    """Edge of the square that the network sees, in pixels; a multiple of `stride`."""
    overlap: int
    """Pixels over which neighbouring tiles are blended unless the user says otherwise."""
    stride: int
    """Tiles begin at multiples of this: the network's coarsest step in pixels."""
    sensors: tuple[str, ...] = ()
    """Names of the sensors that it was validated on."""
    architecture: dict[str, JsonValue] = {}
    """What rebuilds the network for its weights; empty for a package with ONNX only."""
    labels: str = ""
    """Who or what made the labels it was trained on, and whether a rule made them."""
    training: dict[str, JsonValue] = {}
    """Data, settings and seeds of the training, as plain values."""
    figures: tuple[Figure, ...] = ()
    attribution: str = ""
    """What the training data's providers ask to be written beside results."""
    trained_bbox: tuple[float, float, float, float] | None = None
    """West, south, east, north in degrees (WGS 84) of the training ground; None where it has none, as synthetic data."""
    trained_dates: tuple[AwareDatetime, AwareDatetime] | None = None
    """First and last acquisition it was trained on; None where these are not known."""
    created: AwareDatetime
    versions: dict[str, str] = {}
    """Versions of the software that made it."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not _NAME.fullmatch(self.name) or len(self.name) < _SHORTEST_NAME:
            raise PackageError(f"{self.name!r} is no name for a model; {_NAME_RULE}")
        if not self.title.strip():
            raise PackageError(f"model {self.name!r} has no title; state one")
        if not _LICENCE.fullmatch(self.licence):
            raise PackageError(f"{self.licence!r} is no licence identifier of SPDX; state one such as CC-BY-4.0, or 'other'")
        if not self.outputs or len({output.name for output in self.outputs}) < len(self.outputs):
            raise PackageError(f"model {self.name!r} needs at least one output, and each a name of its own")
        self._check_sizes()
        return self

    def _check_sizes(self) -> None:
        finest, coarsest = self.pixel_size_range_m
        if not 0 < finest <= self.pixel_size_m <= coarsest:
            raise PackageError(f"pixel size {self.pixel_size_m} m is not inside the stated range of {finest}…{coarsest} m")
        if self.stride < 1 or self.tile < 1 or self.tile % self.stride or not 0 <= self.overlap <= self.tile - self.stride:
            given = f"tile {self.tile}, overlap {self.overlap}, stride {self.stride}"
            raise PackageError(f"{given}: the tile must be a multiple of the stride, the overlap 0 … tile minus stride")

    def output(self, name: str) -> Output:
        """The output with this name."""
        for output in self.outputs:
            if output.name == name:
                return output
        raise PackageError(f"model {self.name!r} has no output {name!r}; it has {', '.join(output.name for output in self.outputs)}")


def parse_description(given: Mapping[str, object], source: str) -> ModelDescription:
    """The description in plain values read from `source`; PackageError names the first field that is wrong."""
    try:
        return ModelDescription.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        what = f"{where}: {first['msg'].lower()}"
        raise PackageError(f"{source} is damaged or was not written by geoseg ({what}); fetch or make it again") from error
    except InputError as error:  # a noun inside it refused to be born
        raise PackageError(f"{source} is damaged or was not written by geoseg ({error}); fetch or make it again") from error
