"""Patches of several sensors: each on the patch's ground in pixels of its own size, with what is valid and whether it is there.

A window is drawn on the pixels of the labels, as for one sensor. Every sensor's image covers exactly its ground, so that a quarter turn of
all of them is a quarter turn of the ground. What a scene does not show is not valid; a sensor of which nothing is valid is not present. No
data never becomes a value: images are 0 there, after normalising.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from geoseg.data.augment import dropped, turn
from geoseg.data.places import Place, SensorView, corrections
from geoseg.data.samplers import TileSampler
from geoseg.data.windows import UNLABELLED, Window, lay_windows
from geoseg.errors import InputError
from geoseg.preprocess.normalise import ChannelStatistics, fit_preparation, without_statistics
from geoseg.preprocess.terrain_correction import FittedCorrection
from geoseg.settings import Settings, nearest

_EPOCH = np.datetime64("1970-01-01", "D")


class SensorDropout(Settings):
    """What is taken from a patch at random, so that a network learns to do without; one sensor that is there always stays."""

    sensors: dict[str, float] = Field(default_factory=dict)
    """Sensor → chance, 0…1, to be left out whole: not present, nothing valid."""
    dates: float = Field(default=0.0, ge=0, le=1)
    """Chance of each date of a sensor with several; one of them stays."""
    channels: float = Field(default=0.0, ge=0, le=1)
    """Chance of each channel to be 0 throughout, which is its mean; one of a sensor stays."""


@dataclass(frozen=True, eq=False)
class SensorPatches:
    """Patches by number of draw, for a torch DataLoader; the same number is always the same patch.

    Each is a dict: `labels` (row, col), UNLABELLED also where no sensor sees anything, and for each sensor a dict of `image` (channel,
    row, col), `valid` (row, col) and `present` (). A sensor with several dates anywhere has one more axis in front, of as many dates as
    the place with the most: `image` (time, channel, row, col), `valid` (time, row, col), `present` (time,), and `days` (time,) since
    1970-01-01; dates that a place lacks are not present, and their day is 0.
    """

    places: Sequence[Place]
    ground: Sequence[NDArray[np.bool_]]
    """(row, col) for each place; labels elsewhere are not learned from."""
    views: Mapping[str, SensorView]
    """What `fitting_views` gives, or other sizes."""
    sampler: TileSampler
    """Of the places' labels, with windows of any size: `TileSampler([place.labels for place in places], ground, …)`."""
    seed: int
    dropout: SensorDropout = field(default_factory=SensorDropout)
    turned: bool = True
    """Whether patches are turned and mirrored at random."""

    def __post_init__(self) -> None:
        """InputError where dropout names a sensor that is not shown."""
        for name in self.dropout.sensors:
            if name not in self.views:
                raise InputError(f"dropout of {name!r}, which patches do not show; {nearest(name, tuple(self.views))}")

    @cached_property
    def dates(self) -> dict[str, int]:
        """Sensor → its dates where it has the most; 1 means none has several."""
        return {name: max((len(place.scenes.get(name, ())) for place in self.places), default=1) or 1 for name in self.views}

    @cached_property
    def _corrections(self) -> list[dict[str, tuple[FittedCorrection | None, ...]]]:
        return [corrections(place, self.views) for place in self.places]

    def __getitem__(self, draw: int) -> dict[str, Any]:
        """The patch of one draw."""
        generator = np.random.default_rng((self.seed, draw))
        which, window = self.sampler.draw(generator)
        place = self.places[which]
        dropped = self._dropped(place, generator)
        turned = int(generator.integers(8)) if self.turned else 0
        patch: dict[str, Any] = {}
        seen: NDArray[np.bool_] = np.zeros((window.rows, window.cols), dtype=np.bool_)
        for name in self.views:
            image, valid = self._read(which, name, window, dropped)
            seen |= _onto(np.asarray(valid.any(axis=0)), seen.shape)
            shown: dict[str, Any] = {"image": turn(image, turned), "valid": turn(valid, turned), "present": valid.any(axis=(1, 2))}
            if self.dates[name] == 1:
                shown = {what: planes[0] for what, planes in shown.items()}
            else:
                shown["days"] = self._days(place, name)
            patch[name] = shown
        known = window.cut(self.ground[which], False).astype(np.bool_) & seen
        patch["labels"] = turn(np.where(known, window.cut(place.labels, UNLABELLED), UNLABELLED).astype(np.int64), turned)
        return patch

    def _read(self, which: int, name: str, window: Window, dropped: _Dropped) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Images (time, channel, row, col) and what is valid of them (time, row, col)."""
        place, view = self.places[which], self.views[name]
        channels = len(view.preparation.channels)
        image = np.zeros((self.dates[name], channels, view.pixels, view.pixels), np.float32)
        valid = np.zeros((self.dates[name], view.pixels, view.pixels), np.bool_)
        for at, scene in enumerate(place.scenes.get(name, ())):
            if (name, at) in dropped.dates:
                continue
            raster = view.read(scene, window.geobox(place.geobox), self._corrections[which][name][at])
            image[at], valid[at] = raster.values, raster.valid_everywhere
        image[:, dropped.channels[name]] = 0
        return image, valid

    def _days(self, place: Place, name: str) -> NDArray[np.int64]:
        days = np.zeros(self.dates[name], np.int64)
        for at, scene in enumerate(place.scenes.get(name, ())):
            if scene.time is not None:
                days[at] = (np.datetime64(scene.time.replace(tzinfo=None), "D") - _EPOCH).astype(int)
        return days

    def _dropped(self, place: Place, generator: np.random.Generator) -> _Dropped:
        """What is left out of one patch; always as many random numbers, whatever is there."""
        chances = {name: self.dropout.sensors.get(name, 0.0) for name in self.views}
        numbers = {name: generator.random(1 + self.dates[name]) for name in self.views}
        gone = [name for name in self.views if numbers[name][0] < chances[name]]
        here = [name for name in self.views if place.scenes.get(name)]
        if here and set(here) <= set(gone):
            gone.remove(here[int(generator.integers(len(here)))])
        dates = set()
        for name in here:
            count = len(place.scenes[name])
            of_sensor = [at for at in range(count) if name in gone or (count > 1 and numbers[name][1 + at] < self.dropout.dates)]
            if len(of_sensor) == count and name not in gone:
                of_sensor.remove(int(generator.integers(count)))
            dates |= {(name, at) for at in of_sensor}
        chance = self.dropout.channels
        channels = {name: dropped(len(view.preparation.channels), chance, generator) for name, view in self.views.items()}
        return _Dropped(frozenset(dates), channels)


@dataclass(frozen=True, eq=False)
class _Dropped:
    dates: frozenset[tuple[str, int]]
    """(sensor, date)."""
    channels: Mapping[str, NDArray[np.bool_]]
    """Sensor → (channel,)."""


def fitted_views(
    places: Sequence[Place], ground: Sequence[NDArray[np.bool_]], views: Mapping[str, SensorView], *, tile: int
) -> dict[str, SensorView]:
    """The views with the mean and standard deviation of each sensor's valid pixels on the ground (row, col) of all places.

    Measured in the sensors' own pixels, window by window. InputError where a sensor has no valid pixel on it.
    """
    plain = {name: replace(view, preparation=without_statistics(view.preparation)) for name, view in views.items()}
    totals = {name: ChannelStatistics.empty([one.name for one in view.preparation.channels]) for name, view in views.items()}
    for place, plane in zip(places, ground, strict=True):
        fitted = corrections(place, views)
        for cut in lay_windows((plane.shape[0], plane.shape[1]), tile):
            window = Window(cut.row, cut.col, tile, tile)
            mine = window.cut(plane, False).astype(np.bool_)
            if not mine.any():
                continue
            for name, view in plain.items():
                for scene, correction in zip(place.scenes.get(name, ()), fitted[name], strict=True):
                    raster = view.read(scene, window.geobox(place.geobox), correction)
                    totals[name] += ChannelStatistics.of(replace(raster, valid=raster.valid & _onto(mine, (view.pixels, view.pixels))))
    return {name: replace(view, preparation=fit_preparation(view.preparation, totals[name])) for name, view in views.items()}


def _onto(plane: NDArray[np.bool_], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """A plane over the same ground in more or fewer pixels: that which holds each pixel's centre."""
    rows, cols = (((np.arange(new) + 0.5) * old / new).astype(np.intp) for old, new in zip(plane.shape, shape, strict=True))
    return plane[np.ix_(rows, cols)]
