"""Calendar: the periods of a year that a model of a series was taught, and what may be missing of them."""

from __future__ import annotations

import re
from calendar import monthrange
from datetime import date
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

from geoseg.errors import InputError
from geoseg.settings import Settings

Method = Literal["median", "medoid", "max-ndvi", "mean"]
"""How the clear observations of a pixel become one; `geoseg.stacks.methods` says what each does."""


class CalendarPeriod(Settings):
    """Some days of any year."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,19}$")
    """Stands in roles: the near infrared of the period `03` is `nir@03`."""
    first: str
    """First day, as month and day: `03-01`."""
    last: str
    """Last day; it may lie in the next year (`12-15` to `01-15`). `02-29` is the end of February in every year."""

    @field_validator("first", "last")
    @classmethod
    def _a_day(cls, text: str) -> str:
        if (
            not re.fullmatch(r"\d{2}-\d{2}", text)
            or not 1 <= int(text[:2]) <= 12
            or not 1 <= int(text[3:]) <= _days_in(2000, int(text[:2]))
        ):
            raise ValueError(f"{text!r} is no day of the year; write month and day, such as 03-01")
        return text

    @classmethod
    def month(cls, number: int) -> Self:
        """A calendar month, named by its two digits."""
        return cls(name=f"{number:02d}", first=f"{number:02d}-01", last=f"{number:02d}-{_days_in(2000, number):02d}")


class Calendar(Settings):
    """The periods of a series in their order, how the dates of one become one observation, and how much may be missing.

    A pixel is observed where enough of its periods are clear. What is missing then is not filled with zeros in silence: with
    `flag` its channels are 0 *after* normalising and the channel `present@PERIOD` says 0; with `interpolate` it is drawn in
    a straight line between the nearest clear periods, and beyond the first and last the nearest is taken.
    """

    periods: tuple[CalendarPeriod, ...] = Field(min_length=2)
    """Also written as months (`[3, 4, 5]`) or days (`["03-01/03-20", …]`, named 01, 02 …). One that begins earlier in the year than
    the one before it lies in the next year, so that November to October is a season, too."""
    method: Method = "median"
    tolerated_gap: int = Field(default=1, ge=0)
    """So many periods in a row may be missing."""
    min_clear_share: float = Field(default=0.5, gt=0, le=1)
    """At least this share of the periods must be clear."""
    fill: Literal["flag", "interpolate"] = "flag"
    """What a network gets of a missing period."""

    @field_validator("periods", mode="before")
    @classmethod
    def _written_short(cls, given: Any) -> Any:
        return [_period(at, one) for at, one in enumerate(given, 1)] if isinstance(given, (list, tuple)) else given

    @model_validator(mode="after")
    def _named_once(self) -> Self:
        if twice := sorted({name for name in self.names if self.names.count(name) > 1}):
            raise InputError(f"the period {twice[0]!r} stands twice in the calendar; give each a name of its own")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The periods' names, in order."""
        return tuple(period.name for period in self.periods)

    def season(self, year: int) -> tuple[tuple[date, date], ...]:
        """First and last day of each period, where the first period begins in `year`."""
        days, before = [], ""
        for period in self.periods:
            year += period.first < before
            before = period.first
            days.append((_day(year, period.first), _day(year + (period.last < period.first), period.last)))
        return tuple(days)

    def enough(self, present: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """(…) where enough periods are `present` (period, …): their share is high enough and no gap is too long."""
        run = longest = np.zeros(present.shape[1:], np.int64)
        for one in present:
            run = np.where(one, 0, run + 1)
            longest = np.maximum(longest, run)
        return np.asarray((longest <= self.tolerated_gap) & (present.mean(axis=0) >= self.min_clear_share))

    def described(self) -> str:
        """The periods for people: `03-01…03-31, 04-01…04-30`."""
        shown = [f"{period.first}…{period.last}" for period in self.periods]
        return ", ".join(shown if len(shown) <= _SHOWN else [*shown[:2], "…", shown[-1]])


_SHOWN = 4


def _period(at: int, given: Any) -> Any:
    """One period as people may write it: a month's number, or two days."""
    if isinstance(given, int) and 1 <= given <= 12:
        return CalendarPeriod.month(given)
    if isinstance(given, str) and "/" in given:
        first, last = given.split("/", 1)
        return CalendarPeriod(name=f"{at:02d}", first=first.strip(), last=last.strip())
    return given


def _day(year: int, text: str) -> date:
    month = int(text[:2])
    return date(year, month, min(int(text[3:]), _days_in(year, month)))


def _days_in(year: int, month: int) -> int:
    return monthrange(year, month)[1]
