"""Which scenes belong together in time: calendar months, or from one day to another."""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime

from geoseg.errors import InputError, SceneError
from geoseg.scene import Scene


@dataclass(frozen=True)
class Period:
    """Some days in a row."""

    name: str
    """Stands in file names: `2021-05`, or `2021-05-01_2021-06-15`."""
    first: date
    last: date
    """The last day that belongs to it."""

    def holds(self, time: datetime) -> bool:
        """Whether this moment lies on one of its days (UTC)."""
        return self.first <= _day(time) <= self.last

    @property
    def middle(self) -> datetime:
        """Noon of the day in its middle."""
        day = self.first + (self.last - self.first) // 2
        return datetime(day.year, day.month, day.day, 12, tzinfo=UTC)


def find_periods(text: str, scenes: Sequence[Scene]) -> tuple[Period, ...]:
    """`month`: the calendar months that have scenes, in order; `A/B`: the days from A to B, both included.

    A and B are days (2021-05-01) or months (2021-05); one month alone is also a period. InputError for anything else.
    """
    if text == "month":
        months = sorted({(time.year, time.month) for scene in scenes if (time := scene.time) is not None})
        return tuple(month_period(year, month) for year, month in months)
    words = [word.strip() for word in text.split("/")]
    days = [_days(word) for word in words]
    if len(days) not in (1, 2) or None in days or (len(days) == 1 and words[0].count("-") > 1):
        raise InputError(f"--period is {text!r}; expected 'month', one month such as 2021-05, or two days such as 2021-05-01/2021-06-15")
    known = [pair for pair in days if pair is not None]
    first, last = known[0][0], known[-1][1]
    if first > last:
        raise InputError(f"--period {text!r} ends before it begins; write the earlier day first")
    return (Period("_".join(words), first, last),)


def month_period(year: int, month: int) -> Period:
    """A calendar month."""
    return Period(f"{year:04d}-{month:02d}", date(year, month, 1), date(year, month, monthrange(year, month)[1]))


def with_dates(scenes: Sequence[Scene], dates: Sequence[str] | None) -> list[Scene]:
    """The scenes with these days, one for each in their order; as they are where none are given. InputError where they do not fit."""
    if dates is None:
        return list(scenes)
    if len(dates) != len(scenes):
        raise InputError(f"--dates names {len(dates)} days for {len(scenes)} scenes; give one for each, in their order")
    return [replace(scene, time=_noon(text)) for scene, text in zip(scenes, dates, strict=True)]


def by_time(scenes: Sequence[Scene]) -> list[tuple[datetime, Scene]]:
    """The scenes with their moments, the earliest first, whatever the order in which they were given.

    SceneError where one does not say when it was taken, or where one is given twice.
    """
    timed = [(scene.time, scene) for scene in scenes if scene.time is not None]
    if len(timed) < len(scenes):
        unknown = next(scene for scene in scenes if scene.time is None)
        raise SceneError(
            f"{unknown.source} does not say when it was taken; "
            "give the days of all scenes in their order with --dates, such as 2021-05-03,2021-05-08"
        )
    files = [tuple((layer.path, layer.index) for layer in scene.layers) for _, scene in timed]
    if twice := sorted(scene.source for own, (_, scene) in zip(files, timed, strict=True) if files.count(own) > 1):
        raise SceneError(f"{twice[0]} is given twice; name each scene once, or it would count twice")
    return sorted(timed, key=lambda pair: (pair[0], pair[1].name, pair[1].source))


def said_days(scenes: Sequence[Scene]) -> str:
    """The scenes' days, as a message lists them."""
    days = sorted({f"{scene.time:%Y-%m-%d}" for scene in scenes if scene.time is not None})
    return ", ".join(days if len(days) <= _SHOWN else [*days[: _SHOWN // 2], "…", *days[-_SHOWN // 2 :]])


_SHOWN = 12


def _days(text: str) -> tuple[date, date] | None:
    """First and last day of a day or a month in words; None where it is neither."""
    try:
        if re.fullmatch(r"\d{4}-\d{2}", text):
            whole = month_period(int(text[:4]), int(text[5:]))
            return whole.first, whole.last
        if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):
            return date.fromisoformat(text), date.fromisoformat(text)
    except ValueError:  # the 31st of June, or a month 13
        return None
    return None


def _noon(text: str) -> datetime:
    days = _days(text.strip())
    if days is None or days[0] != days[1]:
        raise InputError(f"--dates holds {text.strip()!r}; expected days such as 2021-05-03, with commas between")
    return datetime(days[0].year, days[0].month, days[0].day, 12, tzinfo=UTC)


def _day(time: datetime) -> date:
    return (time if time.tzinfo is None else time.astimezone(UTC)).date()
