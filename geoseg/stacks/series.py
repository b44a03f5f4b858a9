"""A series as one Scene: for each period of a calendar what was clear of its dates, composed when it is read.

Roles carry the period: `nir@03`. What no date of a period saw clearly is not valid there, never zero.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from geoseg.errors import SceneError
from geoseg.io.geotiff import Resampling
from geoseg.layers.masks import MASK
from geoseg.preprocess.calendars import Calendar
from geoseg.preprocess.prepare import Preparation
from geoseg.preprocess.quality import REASON_OF, Reason
from geoseg.preprocess.series import present_channels, role_at, split_role
from geoseg.raster import Raster
from geoseg.scene import Layer, Scene
from geoseg.scenes.open_scene import open_scene
from geoseg.sensors import SENSORS, Band
from geoseg.stacks.grids import common_grid, lay_strips
from geoseg.stacks.item import attribution
from geoseg.stacks.methods import check_method, combine
from geoseg.stacks.observe import Masking, Stack, check_any, stored_again
from geoseg.stacks.periods import said_days, with_dates

_BUDGET_BYTES = 256 << 20
_PIECE = 1024
"""Columns that are composed at a time."""
_SAMPLES, _SAMPLE = 3, 32
"""Windows down and across, and their edge in pixels, from which it is judged how much is clear."""
_LITTLE = 0.5
"""Where less of the ground than this is clear often enough, the user is told."""


def open_dates(
    sources: Sequence[str | Path],
    calendar: Calendar,
    masking: Masking | None = None,
    *,
    dates: Sequence[str] | None = None,
    **opening: Any,
) -> Scene:
    """The series of these scenes; `dates` are their days, where they do not say them, `opening` the other arguments of `open_scene`."""
    scenes = with_dates([open_scene(source, **opening) for source in sources], dates)
    return open_series(scenes, calendar, masking)


def open_series(scenes: Sequence[Scene], calendar: Calendar, masking: Masking | None = None) -> Scene:
    """One Scene with a layer for each band and period, on the earliest scene's finest grid made to reach over all.

    The year is the one in which the scenes fill most periods. Terrain, which does not change, keeps its plain role. SceneError, with
    the figures, where too many periods have no scene or too little of the ground is clear; warnings name scenes that lie outside
    the calendar and periods that are missing.

    >>> from geoseg.preprocess.calendars import Calendar
    >>> scenes = [geoseg.open_scene(day) for day in ("scene_2021-03-10.tif", "scene_2021-04-12.tif")]
    >>> geoseg.open_series(scenes, Calendar(periods=[3, 4])).roles
    ('red@03', 'nir@03', 'red@04', 'nir@04', 'mask')
    """
    check_any(scenes)
    stack = Stack.of(scenes, masking=masking)
    check_method(calendar.method, stack.bands)
    season = _season(calendar, stack.times)
    holds = [[first <= time.date() <= last for time in stack.times] for first, last in season]
    warnings = _check_periods(stack, calendar, season, holds)
    used = stack.during([any(column) for column in zip(*holds, strict=True)])
    grid = common_grid(used.grids, [scene.source for scene in used.scenes])
    reader = _SeriesReader(calendar, tuple(stack.during(row) for row in holds), grid)
    warnings += _check_clear(reader, used)
    first, last = used.times[0], used.times[-1]
    sensors = {scene.sensor.name for scene in used.scenes}
    return Scene(
        name=f"series_{first:%Y-%m-%d}_{last:%Y-%m-%d}",
        source=f"the series of {len(scenes)} scenes from {first:%Y-%m-%d} to {last:%Y-%m-%d}",
        sensor=SENSORS[sensors.pop()] if len(sensors) == 1 else SENSORS["generic"],
        layers=(*reader.layers(), *_lasting(used.scenes)),
        time=last,
        attribution=attribution(used.scenes),
        warnings=tuple(dict.fromkeys([*(said for scene in used.scenes for said in scene.warnings), *warnings])),
        series=tuple(scene.source for scene in scenes),
        inputs=tuple(dict.fromkeys(layer.path for scene in used.scenes for layer in scene.layers)),
    )


def series_preparation(scene: Scene, calendar: Calendar, plain: Preparation) -> Preparation:
    """The preparation of a series from that of a single date: each band and channel once for every period, and its flags.

    What of `plain` the scene has without a period, such as `height`, stays as it is.
    """
    lasting = [need.role for need in plain.bands if need.role in scene.roles]
    bands = [need for need in plain.bands if need.role in lasting]
    channels = [channel for channel in plain.channels if channel.name in lasting]
    for name in calendar.names:
        bands += [need.model_copy(update={"role": role_at(need.role, name)}) for need in plain.bands if need.role not in lasting]
        of_date = [channel for channel in plain.channels if channel.name not in lasting]
        channels += [channel.model_copy(update={"name": role_at(channel.name, name)}) for channel in of_date]
    return Preparation(
        bands=tuple(bands),
        channels=(*channels, *present_channels(calendar)),
        despeckle=plain.despeckle,
        power_floor=plain.power_floor,
        index_constants=plain.index_constants,
        calendar=calendar,
    )


def one_date(scene: Scene) -> Scene:
    """A series with the layers of its first period under their plain roles: what a single date of it looks like."""
    period = next((found for role in scene.roles if (found := split_role(role)[1]) is not None), None)
    layers = [layer for layer in scene.layers if split_role(layer.band.role)[1] in (None, period) and layer.band.role != MASK]
    plain = [replace(layer, band=replace(layer.band, role=split_role(layer.band.role)[0])) for layer in layers]
    return replace(scene, layers=tuple(plain))


# ---------------------------------------------------------------- below: the pixels


@dataclass(frozen=True)
class _SeriesReader:
    """Composes the periods of a series when they are read."""

    calendar: Calendar
    members: tuple[Stack, ...]
    """The scenes of each period; a stack may be empty."""
    grid: GeoBox

    def layers(self) -> tuple[Layer, ...]:
        """One for each period and band, and the reasons why a pixel is not observed."""
        bands = [
            replace(band, name=role_at(band.name, name), role=role_at(band.role, name))
            for name in self.calendar.names
            for band in self.members[0].bands
        ]
        said = f"{self.calendar.method} of each period's clear observations"
        described = [(band, said) for band in bands] + [(Band(MASK, MASK, unit="class"), "masks of the dates")]
        return tuple(Layer(band, "series", at, because, self) for at, (band, because) in enumerate(described, 1))

    def geobox(self) -> GeoBox:
        """The grid that suits the series best."""
        return self.grid

    def footprint(self, geobox: GeoBox) -> NDArray[np.bool_]:
        """(row, col) True where at least one date covers the pixel."""
        covered = np.zeros(geobox.shape, dtype=bool)
        for scene in {scene.source: scene for member in self.members for scene in member.scenes}.values():
            covered |= scene.layer(self.members[0].roles[0]).footprint(geobox)
        return covered

    def read(self, bands: Mapping[int, Band], geobox: GeoBox, *, resampling: Resampling) -> Raster:
        """These bands (by number, counted from 1) on `geobox`, in physical values."""
        values = np.zeros((len(bands), *geobox.shape), np.float32)
        valid = np.zeros(values.shape, dtype=bool)
        numbers = list(bands)
        wanted = self._wanted(numbers)
        for rows, cols in self._pieces(geobox.shape.yx, max((len(ats) for ats in wanted.values()), default=1)):
            window = geobox[rows, cols]
            present, reasons = [], []
            for period, ats in wanted.items():
                member = self.members[period]
                asked = [member.bands[at] for at in ats]
                seen = member.observe(window, self.grid, asked, resampling=resampling)
                clear = seen.clear
                present.append(clear.any(axis=0))
                reasons.append(seen.reasons)
                if not present[-1].any():
                    continue
                composed = stored_again(combine(seen.values, clear, asked, self.calendar.method), asked)
                for at, plane in zip(ats, composed, strict=True):
                    if (number := 1 + period * len(member.bands) + at) in bands:
                        values[numbers.index(number), rows, cols] = plane
                        valid[numbers.index(number), rows, cols] = present[-1]
            if self._mask_number in bands:
                at = numbers.index(self._mask_number)
                values[at, rows, cols] = self._reasons(np.stack(present), reasons)
                valid[at, rows, cols] = True
        values[~valid] = 0
        return Raster(values, valid, geobox, tuple(bands.values()))

    @property
    def _mask_number(self) -> int:
        return 1 + len(self.members) * len(self.members[0].bands)

    def _wanted(self, numbers: Sequence[int]) -> dict[int, list[int]]:
        """Period → the bands to look at; where the mask is asked for, at least one in each period."""
        count = len(self.members[0].bands)
        wanted: dict[int, list[int]] = {period: [] for period in range(len(self.members))} if self._mask_number in numbers else {}
        for number in numbers:
            if number != self._mask_number:
                wanted.setdefault((number - 1) // count, []).append((number - 1) % count)
        return {period: ats or [0] for period, ats in sorted(wanted.items())}

    def _pieces(self, shape: tuple[int, int], bands: int) -> Iterator[tuple[slice, slice]]:
        most = max(len(member.scenes) for member in self.members)
        for left in range(0, shape[1], _PIECE):
            cols = slice(left, min(left + _PIECE, shape[1]))
            for rows in lay_strips((shape[0], cols.stop - left), most * (2 * bands + 4), _BUDGET_BYTES):
                yield rows, cols

    def _reasons(self, present: NDArray[np.bool_], reasons: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
        """(row, col): why too few periods are present; OBSERVED where enough are, and where nothing but missing data is the reason."""
        masked = np.full(present.shape[1:], Reason.OBSERVED, np.uint8)
        for reason in reversed([reason for reason in REASON_OF.values() if reason != Reason.NO_DATA]):
            hit = np.zeros(masked.shape, dtype=bool)
            for one in reasons:
                hit |= (one == reason).any(axis=0)
            masked[hit] = reason
        return np.where(self.calendar.enough(present), np.uint8(Reason.OBSERVED), masked)


def _lasting(scenes: Sequence[Scene]) -> list[Layer]:
    """Terrain, from the first scene that has it."""
    found: dict[str, Layer] = {}
    for scene in scenes:
        for layer in scene.layers:
            if layer.band.kind == "elevation":
                found.setdefault(layer.band.role, layer)
    return list(found.values())


# ---------------------------------------------------------------- below: whether the dates meet the calendar


def _season(calendar: Calendar, times: Sequence[datetime]) -> tuple[tuple[date, date], ...]:
    """The periods of the year in which most of them have a scene, then of most scenes, then the latest."""

    def met(year: int) -> tuple[int, int, int]:
        held = [sum(first <= time.date() <= last for time in times) for first, last in calendar.season(year)]
        return sum(map(bool, held)), sum(held), year

    return calendar.season(max(range(times[0].year - 1, times[-1].year + 1), key=met))


def _check_periods(stack: Stack, calendar: Calendar, season: Sequence[tuple[date, date]], holds: Sequence[Sequence[bool]]) -> list[str]:
    filled = np.array([any(row) for row in holds])
    missing = [name for name, there in zip(calendar.names, filled, strict=True) if not there]
    outside = [scene for scene, held in zip(stack.scenes, zip(*holds, strict=True), strict=True) if not any(held)]
    span = f"{season[0][0]} to {season[-1][1]}"
    if len(outside) == len(stack.scenes):
        raise SceneError(
            f"none of the {len(outside)} scenes ({said_days(outside)}) lies in the model's calendar ({calendar.described()}); "
            "give scenes of that season"
        )
    if not calendar.enough(filled):
        raise SceneError(
            f"{int(filled.sum())} of {len(filled)} periods from {span} have a scene ({', '.join(missing)} have none; scenes: "
            f"{said_days(stack.scenes)}); the model needs {calendar.min_clear_share:.0%} of them and no gap over {calendar.tolerated_gap}: "
            "add scenes of the missing periods"
        )
    warnings = []
    if outside:
        warnings.append(
            f"{len(outside)} of {len(stack.scenes)} scenes lie outside the model's calendar and are left out: {said_days(outside)}"
        )
    if missing:
        how = "drawn from the periods beside them" if calendar.fill == "interpolate" else "flagged as missing"
        warnings.append(f"{len(missing)} of {len(filled)} periods from {span} have no scene and are {how}: {', '.join(missing)}")
    return warnings


def _check_clear(reader: _SeriesReader, used: Stack) -> list[str]:
    """Judge a few windows: refuse what is clear too rarely everywhere, and say so where it is over most of the ground."""
    calendar, present = reader.calendar, []
    for rows, cols in _sampled(reader.grid):
        window = reader.grid[rows, cols]
        covered = reader.footprint(window)
        seen = [member.observe(window, reader.grid, used.bands[:1], resampling="nearest").clear.any(axis=0) for member in reader.members]
        present.append(np.stack(seen)[:, covered])
    pixels = np.concatenate(present, axis=1)  # (period, pixel)
    if not pixels.shape[1]:
        return []
    share = float(calendar.enough(pixels).mean())
    shares = ", ".join(f"{name} {part:.0%}" for name, part in zip(calendar.names, pixels.mean(axis=1), strict=True))
    figures = f"{share:.0%} of the ground looked at is clear in enough periods (clear in {shares})"
    if share == 0:
        raise SceneError(
            f"{figures}; the model needs {calendar.min_clear_share:.0%} of the periods and no gap over {calendar.tolerated_gap}: "
            "add scenes, or mask less with --mask-classes"
        )
    return [f"only {figures}"] if share < _LITTLE else []


def _sampled(grid: GeoBox) -> Iterator[tuple[slice, slice]]:
    """Windows spread evenly over a grid; all of it where it is small."""

    def cuts(size: int) -> list[slice]:
        if size <= _SAMPLES * _SAMPLE:
            return [slice(0, size)]
        return [slice(int(at), int(at) + _SAMPLE) for at in np.linspace(0, size - _SAMPLE, _SAMPLES)]

    return ((rows, cols) for rows in cuts(grid.shape[0]) for cols in cuts(grid.shape[1]))
