"""Ensembles: several networks on the same tiles, and the mean of their scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import PackageError
from geoseg.models.description import ModelDescription, Output
from geoseg.preprocess.prepare import Channel, Preparation
from geoseg.runtimes.contract import Runtime
from geoseg.runtimes.means import Scores, mean_scores

_NO_STATISTICS = (0.0, 1.0)
_PIXEL_TOLERANCE = 0.01
"""Pixel sizes of training grounds differ by this much in most projections."""


@dataclass(frozen=True)
class Renormalisation:
    """What makes tiles that were normalised with one package's statistics those of another: factor x value + shift, by channel."""

    factors: NDArray[np.float32]
    """(channel, 1, 1)"""
    shifts: NDArray[np.float32]
    """(channel, 1, 1)"""
    alone: NDArray[np.bool_]
    """(channel, 1, 1) True where 0 stands for no value whatever the other channels hold: of indices, and of missing dates."""

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Images (batch, channel, row, col); what is 0 in all channels has no data and stays 0."""
        zero = images == 0
        missing = zero.all(axis=1, keepdims=True) | (zero & self.alone)
        made: NDArray[np.float32] = np.where(missing, np.float32(0), images * self.factors + self.shifts)
        return made


class Ensemble:
    """Runs its members on the same tiles and takes the mean of their scores: probabilities of classes, quantities in their unit."""

    def __init__(self, members: Sequence[tuple[Runtime, Renormalisation | None]]) -> None:
        first = members[0][0]
        self.name, self.version = first.name, first.version
        self.precision, self.device = first.precision, first.device
        self._members = tuple(members)

    @property
    def notes(self) -> tuple[str, ...]:
        """Those of all members."""
        return tuple(dict.fromkeys(note for runtime, _ in self._members for note in runtime.notes))

    def __call__(self, images: NDArray[np.float32]) -> Scores:
        """Scores for images (batch, channel, row, col), prepared for the first member: output name → (batch, class or 1, row, col)."""
        return mean_scores(
            runtime(images if renormalise is None else renormalise(images)) for runtime, renormalise in self._members
        )  # summed in the members' order


def renormalisation(first: Preparation, other: Preparation) -> Renormalisation | None:
    """From the statistics of `first` to those of `other`, which is the same otherwise; None where they are equal.

    Raises PackageError where `first` leaves a channel as it is, so that 0 there may be a value as well as no data.
    """
    pairs = list(zip(first.channels, other.channels, strict=True))
    for ours, theirs in pairs:
        if _statistics(ours) == _NO_STATISTICS != _statistics(theirs):
            raise PackageError(
                f"channel {ours.name!r} has no statistics in the ensemble's first package (mean 0, deviation 1), but mean "
                f"{theirs.mean:g} and deviation {theirs.std:g} in another; name that one first"
            )
    if all(_statistics(ours) == _statistics(theirs) for ours, theirs in pairs):
        return None
    factors = [ours.std / theirs.std for ours, theirs in pairs]
    shifts = [(ours.mean - theirs.mean) / theirs.std for ours, theirs in pairs]
    alone = [first.calendar is not None or channel.kind != "band" for channel in first.channels]
    by_channel = np.s_[:, np.newaxis, np.newaxis]
    return Renormalisation(
        np.array(factors, np.float32)[by_channel], np.array(shifts, np.float32)[by_channel], np.array(alone, np.bool_)[by_channel]
    )


def check_members(first: ModelDescription, other: ModelDescription) -> None:
    """Raise PackageError, with what differs, where two packages cannot map the same tiles and have one mean.

    They may differ in their networks, in the statistics of their channels, in tile and overlap (those of the first hold).
    """
    if (differing := _differing_preparation(first.preparation, other.preparation)) is not None:
        raise PackageError(f"{first.title} and {other.title} differ in {differing}; an ensemble reads and prepares each tile once for all")
    ours, theirs = ([output.name for output in one.outputs] for one in (first, other))
    if ours != theirs:
        raise PackageError(
            f"{first.title} makes {', '.join(ours)} and {other.title} {', '.join(theirs)}; the members of an ensemble make the same"
        )
    for mine, its in zip(first.outputs, other.outputs, strict=True):
        if (what := _differing_output(mine, its)) is not None:
            raise PackageError(
                f"output {mine.name!r} of {first.title} and of {other.title} differs in {what}, so their mean has no meaning; "
                "choose members that agree in it"
            )
    if abs(first.pixel_size_m / other.pixel_size_m - 1) > _PIXEL_TOLERANCE:
        raise PackageError(
            f"{first.title} was trained at {first.pixel_size_m:g} m and {other.title} at {other.pixel_size_m:g} m; the members of an "
            "ensemble have pixels of one size"
        )


def _statistics(channel: Channel) -> tuple[float, float]:
    return channel.mean, channel.std


def _differing_preparation(first: Preparation, other: Preparation) -> str | None:
    """The first thing beside the statistics in which two preparations differ, in words; None where there is none."""
    ours, theirs = (_without_statistics(one) for one in (first, other))
    for name in ours:
        if ours[name] != theirs[name]:
            return f"{name.replace('_', ' ')} ({_said(ours[name])}; {_said(theirs[name])})"
    return None


def _without_statistics(preparation: Preparation) -> dict[str, Any]:
    plain = preparation.model_dump(mode="json")
    plain["channels"] = [{"name": one["name"], "kind": one["kind"]} for one in plain["channels"]]
    return plain


def _said(value: Any) -> str:
    """A setting in a few words: of bands and channels their names, unless these are not what differs."""
    if isinstance(value, list):
        return ", ".join(" ".join(str(part) for part in one.values() if part is not None) for one in value)
    return "none" if value is None else str(value)


def _differing_output(ours: Output, theirs: Output) -> str | None:
    """In what two outputs of one name differ, in words; None where their scores mean the same. Colours do not matter."""
    if ours.kind != theirs.kind or [(c.code, c.name) for c in ours.classes] != [(c.code, c.name) for c in theirs.classes]:
        return f"its classes ({_classes(ours)}; {_classes(theirs)})"
    if ours.calibrated != theirs.calibrated:
        return "whether its scores are calibrated"
    if (ours.unit, ours.range) != (theirs.unit, theirs.range):
        return f"unit or range ({ours.unit} {ours.range}; {theirs.unit} {theirs.range})"
    return None


def _classes(output: Output) -> str:
    return ", ".join(f"{one.code} {one.name}" for one in output.classes) or f"a quantity in {output.unit}"
