"""Conformal sets: for each pixel all classes that its scores do not rule out, as many as a promised share of being right needs.

The method is split conformal prediction with the least ambiguous sets of Sadinle, Lei and Wasserman ("Least ambiguous set-valued
classifiers with bounded error levels", JASA 2019), class by class (Vovk, "Conditional validity of inductive conformal predictors",
2012): a class belongs to the set where its own score is at least the class's threshold. `geoseg conformal` finds the thresholds on
labelled ground. A set may be empty: the pixel then looks like none of the classes.

Scores are compared in the steps of 1/250 in which score files hold them, here and where the thresholds are found.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from geoseg.errors import InputError
from geoseg.io.score_files import SCORE_STEPS
from geoseg.legend import Legend, LegendClass
from geoseg.models.package import ModelPackage, Output

MOST_IN_A_CODE = 8
"""Sets of so many classes are also told apart, a bit for each class; of more only the size is told."""
SIZE_SENTENCE = (
    "How many classes the scores do not rule out, at the share of right sets that the thresholds promise for ground like that they were "
    "found on; 0: the pixel looks like none of the classes."
)
SET_SENTENCE = "The classes that the scores do not rule out: the code has bit i (1, 2, 4 …) for class i of the legend, counted from 0."
SET_ENDS = ("_set", "_set_size")
"""How the names of the layers end."""
_NONE, _ALL_SURE, _ALL_UNSURE, _EVERY = "#222222", "#1b7837", "#d73027", "#bbbbbb"
_EXPECTED = "expected the .json that `geoseg conformal` writes"


class ClassThreshold(BaseModel):
    """From which score on a class belongs to the set."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    code: int
    name: str
    least_step: int = Field(ge=0, le=SCORE_STEPS + 1)
    """Score in steps of 1/250; 0 puts the class in every set."""
    pixels: int
    """Labelled pixels of this class from which the threshold comes."""


class Thresholds(BaseModel):
    """What `geoseg conformal` found."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    format: Literal["geoseg conformal 1"] = "geoseg conformal 1"
    method: str
    alpha: float = Field(gt=0, lt=1)
    """The sets leave out the true class in at most this share of pixels, on ground like that of the calibration."""
    classes: tuple[ClassThreshold, ...]
    model: tuple[str, ...]
    """Checksums of the model packages that made the scores; empty where they are not known."""
    tta: str | None = None
    """Test-time augmentation of these scores."""
    report: dict[str, Any]
    """How often the sets held the true class, on blocks of ground that the thresholds were not found on."""
    caveat: str


def read_thresholds(path: str | Path) -> Thresholds:
    """The thresholds in a file; InputError where it is none of these."""
    try:
        return Thresholds.model_validate_json(Path(path).read_bytes())
    except FileNotFoundError as error:
        raise InputError(f"no such file {path}; {_EXPECTED}") from error
    except (OSError, ValidationError) as error:
        raise InputError(f"{path} holds no conformal thresholds; {_EXPECTED}") from error


def check_thresholds(thresholds: Thresholds, package: ModelPackage, members: tuple[str, ...], tta: str | None) -> None:
    """Raise InputError where they are for another map than that of this package, these further members and this augmentation."""
    outputs = [output for output in package.outputs if output.kind == "classes"]
    ours = [(one.code, one.name) for output in outputs for one in output.classes]
    if len(outputs) != 1 or ours != [(one.code, one.name) for one in thresholds.classes]:
        theirs = ", ".join(f"{one.name} ({one.code})" for one in thresholds.classes)
        raise InputError(f"--conformal has thresholds for {theirs}, which is not what {package.title} maps; calibrate on its own scores")
    checksums = tuple(ModelPackage.open(path).checksum for path in members)
    if thresholds.model and thresholds.model != (package.checksum, *checksums):
        raise InputError("--conformal has thresholds for the scores of other model packages; calibrate on maps of those that are named")
    if thresholds.model and thresholds.tta != tta:
        raise InputError(f"--conformal has thresholds for --tta {thresholds.tta}, and --tta {tta} was asked for; use the same")


def contained(steps: NDArray[np.integer[Any]], thresholds: Thresholds) -> NDArray[np.bool_]:
    """(class, …) True where the class belongs to the set, of stored scores (class, …)."""
    least = np.array([one.least_step for one in thresholds.classes]).reshape(-1, *[1] * (steps.ndim - 1))
    return np.asarray(steps >= least)


def set_rasters(
    output: Output, thresholds: Thresholds, stored: NDArray[np.uint8], observed: NDArray[np.bool_]
) -> Iterator[tuple[str, NDArray[Any]]]:
    """The name and the pixels (1, row, col) of each layer, of stored scores (class, row, col), where `observed` (row, col)."""
    inside = contained(stored, thresholds)
    for name, legend in set_legends(output).items():
        weights = 1 << np.arange(len(inside)) if name == f"{output.name}_set" else np.ones(len(inside), int)
        codes = np.zeros(observed.shape, legend.dtype)
        for plane, weight in zip(inside, weights, strict=True):
            codes += plane * legend.dtype.type(weight)
        yield name, np.where(observed, codes, legend.dtype.type(legend.nodata))[np.newaxis]


def set_legends(output: Output) -> dict[str, Legend]:
    """Layer → its legend: sizes, and of at most `MOST_IN_A_CODE` classes, sets."""
    names, count = output.legend.names, len(output.legend)
    sizes = [_mixed([_ALL_SURE, _ALL_UNSURE], [count - size, size - 1]) if size else _NONE for size in range(count + 1)]
    words = ["none of the classes", "1 class", *(f"{size} classes" for size in range(2, count + 1))]
    made = {f"{output.name}_set_size": Legend.from_names(words, sizes)}
    if 2 <= count <= MOST_IN_A_CODE:
        colours = [one.colour for one in output.legend.classes]
        sets = [[index for index in range(count) if code >> index & 1] for code in range(1 << count)]
        classes = tuple(
            LegendClass(code, code, *_told([names[i] for i in one], [colours[i] for i in one])) for code, one in enumerate(sets)
        )
        made[f"{output.name}_set"] = Legend(classes, nodata=255 if len(sets) <= 255 else 1 << 15)
    return made


def _told(names: list[str], colours: list[str]) -> tuple[str, str]:
    """Name and colour of a set: the class's own of one class, paler the more there are."""
    if not names:
        return "none of the classes", _NONE
    return " or ".join(names), _mixed([*colours, _EVERY], [1] * len(colours) + [len(colours) - 1])


def _mixed(colours: list[str], weights: list[int]) -> str:
    parts = np.array([[int(colour[at : at + 2], 16) for at in (1, 3, 5)] for colour in colours])
    total = sum(weights)
    red, green, blue = np.rint(parts.T @ weights / total).astype(int) if total else parts[0]
    return f"#{red:02x}{green:02x}{blue:02x}"
