"""A network's input from a series: each period prepared by itself, what is missing flagged or drawn from its neighbours in time.

Roles and channels of a period carry its name: `nir@03`, `NDVI@03`. Those without one, such as `height`, hold for all periods.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import BandError
from geoseg.preprocess.calendars import Calendar
from geoseg.preprocess.indices import get_index
from geoseg.preprocess.prepare import Channel, Preparation, prepare
from geoseg.raster import Raster
from geoseg.sensors import Band

_AT = "@"


def role_at(role: str, period: str) -> str:
    """The name of a band or channel in one period: `nir@03`."""
    return f"{role}{_AT}{period}"


def split_role(name: str) -> tuple[str, str | None]:
    """A name without its period, and the period; None where it holds for all."""
    plain, at, period = name.partition(_AT)
    return plain, period if at else None


def present_channels(calendar: Calendar) -> tuple[Channel, ...]:
    """One channel for each period that says whether it is there, where missing ones are flagged."""
    return tuple(Channel(name=role_at("present", name), kind="present") for name in calendar.names if calendar.fill == "flag")


def check_series(preparation: Preparation, calendar: Calendar) -> None:
    """Raise BandError where the bands and channels of a series do not fit its calendar."""
    parts = _parts(preparation)
    if strange := [period for period in parts if period is not None and period not in calendar.names]:
        raise BandError(f"no period {strange[0]!r} in the calendar; it has {', '.join(calendar.names)}")
    if missing := [name for name in calendar.names if name not in parts]:
        raise BandError(f"no band is read in the period {missing[0]!r} of the calendar; read at least one in each")
    flags = {channel.name for channel in preparation.channels if channel.kind == "present"}
    if unflagged := [channel.name for channel in present_channels(calendar) if channel.name not in flags]:
        raise BandError(f"the calendar flags missing periods, but there is no channel {unflagged[0]!r}; add one for each period")


def prepare_series(raster: Raster, preparation: Preparation, calendar: Calendar, masked: NDArray[np.bool_] | None = None) -> Raster:
    """As `prepare`, from a raster with a band for each role and period.

    A period is present at a pixel where all of its bands have data. The pixel is valid, in all channels alike, where enough
    periods are present and the bands that hold for all of them have data.
    """
    parts = _parts(preparation)
    values = np.zeros((len(preparation.channels), *raster.geobox.shape), np.float32)
    seen: dict[str | None, NDArray[np.bool_]] = {}
    for period, part in parts.items():
        got = prepare(part.cut(raster), part.preparation, masked)
        seen[period] = got.valid_everywhere
        values[part.places] = got.values
    present = np.stack([seen[name] for name in calendar.names])  # (period, row, col)
    valid = calendar.enough(present)
    valid = valid & seen[None] if None in seen else valid
    for place, channel in enumerate(preparation.channels):
        if channel.kind == "present":
            flag = present[calendar.names.index(split_role(channel.name)[1] or "")]
            values[place] = (flag - np.float32(channel.mean)) / np.float32(channel.std)
    if calendar.fill == "interpolate":
        _interpolate(values, present, preparation, calendar)
    values[:, ~valid] = 0
    bands = tuple(Band(channel.name, channel.name.lower()) for channel in preparation.channels)
    return Raster(values, np.broadcast_to(valid, values.shape), raster.geobox, bands, raster.time)


def counted_channels(prepared: Raster, preparation: Preparation) -> NDArray[np.bool_]:
    """(channel, row, col) where a prepared channel tells of the ground: valid, and not the 0 of a missing period.

    Only for what was prepared `without_statistics`, where a flag is 0 or 1.
    """
    flags = {split_role(c.name)[1]: at for at, c in enumerate(preparation.channels) if c.kind == "present"}
    counted = prepared.valid.copy()
    for at, channel in enumerate(preparation.channels):
        if channel.kind != "present" and (flag := flags.get(split_role(channel.name)[1])) is not None:
            counted[at] &= prepared.values[flag] > _HALF
    return counted


_HALF = 0.5


# ---------------------------------------------------------------- below: one period, and between periods


@dataclass(frozen=True)
class _Part:
    """What is read and made in one period."""

    preparation: Preparation
    """As for a single date, without the period's name."""
    roles: tuple[str, ...]
    """The bands' names in the series."""
    places: list[int]
    """Where its channels stand among all."""

    def cut(self, raster: Raster) -> Raster:
        """Its bands, as a single date has them."""
        chosen = raster.select(*self.roles)
        return replace(chosen, bands=tuple(replace(band, role=split_role(band.role)[0]) for band in chosen.bands))


def _parts(preparation: Preparation) -> Mapping[str | None, _Part]:
    """The parts by period, in the order of the bands; None for what holds for all periods."""
    made: dict[str | None, _Part] = {}
    for period in dict.fromkeys(split_role(need.role)[1] for need in preparation.bands):
        needs = [need for need in preparation.bands if split_role(need.role)[1] == period]
        places = [at for at, c in enumerate(preparation.channels) if c.kind != "present" and split_role(c.name)[1] == period]
        if not places:
            raise BandError(f"bands of the period {period!r} are read, but no channel is made of them; leave them out")
        channels = [_plain(preparation.channels[at]) for at in places]
        constants = {name for channel in channels if channel.kind == "index" for name in get_index(channel.name).constants}
        part = Preparation(
            bands=tuple(need.model_copy(update={"role": split_role(need.role)[0]}) for need in needs),
            channels=tuple(channels),
            despeckle=preparation.despeckle,
            power_floor=preparation.power_floor,
            index_constants={name: value for name, value in preparation.index_constants.items() if name in constants},
        )
        made[period] = _Part(part, tuple(need.role for need in needs), places)
    reached = {at for part in made.values() for at in part.places}
    if lost := [c.name for at, c in enumerate(preparation.channels) if c.kind != "present" and at not in reached]:
        raise BandError(f"channel {lost[0]!r} is made of no band that is read; read the bands of its period")
    return made


def _plain(channel: Channel) -> Channel:
    return channel.model_copy(update={"name": split_role(channel.name)[0]})


def _interpolate(values: NDArray[np.float32], present: NDArray[np.bool_], preparation: Preparation, calendar: Calendar) -> None:
    """Draw missing periods of each channel between their neighbours in time, in the channel's own unit; in place."""
    days = [(first.toordinal() + last.toordinal()) / 2 for first, last in calendar.season(2001)]
    by_name: dict[str, list[int]] = {}
    for at, channel in enumerate(preparation.channels):
        if channel.kind != "present" and split_role(channel.name)[1] is not None:
            by_name.setdefault(split_role(channel.name)[0], []).append(at)
    for places in by_name.values():
        channels = [preparation.channels[at] for at in places]
        mean, std = (np.array([getattr(c, name) for c in channels], np.float64)[:, None, None] for name in ("mean", "std"))
        periods = [calendar.names.index(split_role(c.name)[1] or "") for c in channels]
        order = np.argsort(periods)
        drawn = _between((values[places] * std + mean)[order], present[np.array(periods)[order]], [days[periods[at]] for at in order])
        values[np.array(places)[order]] = (drawn - mean[order]) / std[order]


def _between(values: NDArray[np.float64], present: NDArray[np.bool_], days: Sequence[float]) -> NDArray[np.float64]:
    """(period, row, col) with straight lines over what is not present; the nearest before the first and after the last."""
    earlier, later = np.full(present.shape, -1), np.full(present.shape, -1)
    for at in range(len(days)):
        earlier[at] = np.where(present[at], at, earlier[at - 1] if at else -1)
    for at in reversed(range(len(days))):
        later[at] = np.where(present[at], at, later[at + 1] if at + 1 < len(days) else -1)
    low, high = np.where(earlier < 0, later, earlier), np.where(later < 0, earlier, later)
    day = np.array(days)
    span = day[high] - day[low]
    share = np.divide(day[:, None, None] - day[low], span, out=np.zeros_like(span), where=span > 0)
    low_values, high_values = (np.take_along_axis(values, np.maximum(at, 0), axis=0) for at in (low, high))
    return np.where(present, values, low_values + share * (high_values - low_values))
