"""Which tokens an image gives a transformer that takes bands in groups and months: every group whose bands are all there, each month.

This is what Galileo and Presto have in common, with how they tell months, places and NDVI, and how their graphs save memory.

Roles of one date are plain (`red`), those of several carry their period (`red@05`); what does not change holds for all (`height`).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch

from geoseg.errors import PackageError
from geoseg.preprocess.series import split_role

Groups = Mapping[str, tuple[str, ...]]
"""Group → the roles of its bands, in the order in which its weights take them."""
_MONTHS = 12
_PARTS = 16
_TINY = 1e-12

NDVI = "NDVI"
SENTINEL: Groups = {
    "S1": ("vv", "vh"),
    "S2_RGB": ("blue", "green", "red"),
    "S2_Red_Edge": ("rededge071", "rededge075", "rededge078"),
    "S2_NIR_10m": ("nir",),
    "S2_NIR_20m": ("nir08",),
    "S2_SWIR": ("swir16", "swir22"),
    NDVI: ("red", "nir"),
}
"""Sentinel-1 and -2; what NDVI is made of."""
TERRAIN = ("height", "slope")


@dataclass(frozen=True)
class BandToken:
    """One token of each place: a group of bands on one date."""

    group: str
    places: tuple[int, ...]
    """Channels of the image with the group's bands, in the group's order."""
    step: int | None
    """Which of the dates, counted from 0; None for what holds for all of them."""
    month: int | None
    """0 (January) … 11; None for what holds for all dates."""


def find_tokens(
    roles: Sequence[str],
    dated: Groups,
    lasting: Groups,
    *,
    month: int,
    periods: Sequence[str] | None = None,
    months: Sequence[int] | None = None,
    longest: int = 24,
) -> tuple[BandToken, ...]:
    """The tokens of an image whose channels are bands of these roles, in an order that does not depend on theirs.

    `dated` are groups that differ from date to date, `lasting` those that do not. `month` (1 … 12) is that of a single date. Of several
    dates `periods` names the order in time (else that of their names), `months` the month of each (else a name of two digits is one).
    PackageError for a band that no complete group takes, and for periods that are not clear.
    """
    own = {role for bands in lasting.values() for role in bands}
    dates, still = _sort(roles, own)
    order = _in_order(tuple(dates), periods)
    if len(order) > longest:
        raise PackageError(f"{len(order)} dates; this network takes at most {longest}")
    numbers = _months(order, month, months)
    tokens = [
        BandToken(group, places, step, numbers[step])
        for step, period in enumerate(order)
        for group, places in _complete(dated, dates.get(period, {}))
    ]
    tokens += [BandToken(group, places, None, None) for group, places in _complete(lasting, still)]
    _check_all_used(roles, tokens, {**dated, **lasting}, own)
    return tuple(tokens)


def month_circle(width: int) -> torch.Tensor:
    """(12, width): sine and cosine of each month, January at 0, over and over."""
    angles = torch.arange(_MONTHS) * (2 * math.pi / _MONTHS)
    return torch.cat([part[:, None].expand(-1, width // 2) for part in (angles.sin(), angles.cos())], dim=-1).contiguous()


def on_the_sphere(location: Sequence[float]) -> torch.Tensor:
    """(3,) of latitude and longitude in degrees; PackageError where these are none."""
    if len(location) != 2 or not (-90 <= location[0] <= 90 and -180 <= location[1] <= 180):
        raise PackageError(f"location is {list(location)}; expected latitude (-90 … 90) and longitude (-180 … 180) in degrees")
    north, east = (math.radians(angle) for angle in location)
    return torch.tensor([math.cos(north) * math.cos(east), math.cos(north) * math.sin(east), math.sin(north)])


def normalised_difference(red: torch.Tensor, nir: torch.Tensor) -> torch.Tensor:
    """NDVI; 0 where both reflectances are 0, and never beyond -1 … 1, which negative ones reach."""
    total = red + nir
    return torch.where(total > 0, (nir - red) / total.clamp_min(_TINY), torch.zeros_like(total)).clamp(-1, 1)


def exported_parts(x: torch.Tensor) -> list[torch.Tensor]:
    """Parts of what goes into an exported graph, along the first axis and one after the other, so that not all is in memory at once.

    Sixteen, some of them empty where `x` is short: such a graph has no loop, and how long `x` will be nobody knows.
    """
    bounds = [x.shape[0] * part // _PARTS for part in range(_PARTS + 1)]
    return [x[first:behind] for first, behind in pairwise(bounds)]


# ---------------------------------------------------------------- below: bands by date


def _sort(roles: Sequence[str], lasting: Collection[str]) -> tuple[dict[str | None, dict[str, int]], dict[str, int]]:
    """Role → channel of each date, whose name is None where there is one alone; and of what holds for all."""
    dates: dict[str | None, dict[str, int]] = {}
    still: dict[str, int] = {}
    for place, role in enumerate(roles):
        plain, period = split_role(role)
        bands = still if role in lasting else dates.setdefault(period, {})
        if plain in bands:
            raise PackageError(f"band {role!r} stands twice among {', '.join(roles)}; give each once")
        bands[plain] = place
    if None in dates and len(dates) > 1:
        single = next(iter(dates[None]))
        other = next(role for role in roles if split_role(role)[1] is not None)
        raise PackageError(f"{single!r} has no date, but {other!r} has; give all bands that change a period, or none")
    return dates, still


def _complete(groups: Groups, bands: Mapping[str, int]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Each group whose bands are all there, with their channels."""
    for group, needed in groups.items():
        if all(role in bands for role in needed):
            yield group, tuple(bands[role] for role in needed)


def _in_order(found: tuple[str | None, ...], periods: Sequence[str] | None) -> tuple[str | None, ...]:
    """The dates as they follow each other; None is one alone."""
    names = sorted(name for name in found if name is not None)
    if not names:
        return (None,)
    if periods is None:
        return tuple(names)
    if sorted(periods) != names:
        raise PackageError(f"periods are {', '.join(periods)}, but the bands have {', '.join(names)}; name each of these once, in order")
    return tuple(periods)


def _months(order: Sequence[str | None], month: int, months: Sequence[int] | None) -> list[int]:
    """0 … 11 of each date."""
    if months is not None:
        if len(months) != len(order):
            raise PackageError(f"{len(months)} months for {len(order)} dates; give one for each")
        numbers = list(months)
    elif order == (None,):
        numbers = [month]
    else:
        named = [str(name) for name in order]
        if strange := [name for name in named if not (len(name) == 2 and name.isdigit() and 1 <= int(name) <= _MONTHS)]:
            raise PackageError(f"the period {strange[0]!r} does not name a month (01 … 12); give months, one number for each date")
        numbers = [int(name) for name in named]
    if wrong := [number for number in numbers if not 1 <= number <= _MONTHS]:
        raise PackageError(f"month {wrong[0]}; expected 1 (January) to 12")
    return [number - 1 for number in numbers]


def _check_all_used(roles: Sequence[str], tokens: Sequence[BandToken], groups: Groups, lasting: Collection[str]) -> None:
    used = {place for token in tokens for place in token.places}
    for place, role in enumerate(roles):
        if place in used:
            continue
        plain, period = split_role(role)
        if period is not None and plain in lasting:
            raise PackageError(f"the band {role!r} is one for all dates here; call it {plain!r}")
        if not (wanting := [needed for needed in groups.values() if plain in needed]):
            known = dict.fromkeys(band for needed in groups.values() for band in needed)
            raise PackageError(f"this network knows no band {role!r}; it takes {', '.join(known)}")
        raise PackageError(
            f"the band {role!r} is taken only together with others ({' or '.join(', '.join(needed) for needed in wanting)}); "
            "give these too, or leave it out"
        )
