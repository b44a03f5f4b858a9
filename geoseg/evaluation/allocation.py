"""How many reference points a map needs, and how many of them in which stratum; pure numbers.

The equation is Cochran's (Sampling Techniques, 1977, equation 5.25) as Olofsson et al. 2014 recommend it, their equation 13.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import InputError
from geoseg.evaluation.area import Strata

Allocation = Literal["mixed", "proportional", "equal"]
"""`mixed` gives every stratum a least number and shares out the rest by size, after Olofsson et al. 2014."""

LEAST = 2
"""Points in a stratum without which nothing is known of its spread."""


def points_needed(strata: Strata, expected: NDArray[np.float64], standard_error: float) -> int:
    """Points for overall accuracy to be known to `standard_error`, where `expected` (stratum,) are the user's accuracies hoped for."""
    if not 0 < standard_error < 0.5:
        raise InputError(f"the standard error asked for is {standard_error:g}; expected a share between 0 and 0.5, such as 0.01")
    spread = np.sqrt(expected * (1 - expected))
    shares = strata.shares
    most = float(strata.pixels.sum())
    needed = float(shares @ spread) ** 2 / (standard_error**2 + float(shares @ spread**2) / most)
    return min(math.ceil(round(needed, 6)), int(most))


def allocate(total: int, strata: Strata, how: Allocation = "mixed", least: int = 50) -> NDArray[np.int64]:
    """(stratum,) points, together `total`, or every pixel where that is more than there are.

    No stratum gets more than its pixels, nor fewer than `least` with `mixed` and than LEAST otherwise. InputError where `total`
    does not suffice for that.
    """
    floor = np.minimum(least_points(how, least), strata.pixels)
    if total < floor.sum():
        raise InputError(
            f"{total} points do not suffice for at least {least_points(how, least)} in each of {len(strata)} strata; "
            f"ask for {int(floor.sum())} or more, or for fewer in each with --least"
        )
    if total >= strata.pixels.sum():
        return strata.pixels.copy()
    wished = np.ones(len(strata)) if how == "equal" else strata.shares
    return _rounded(_between(total, wished, floor, strata.pixels), total, floor, strata.pixels)


def least_points(how: Allocation, least: int) -> int:
    """Points that no stratum may fall short of."""
    return max(least, LEAST) if how == "mixed" else LEAST


def expected_error(strata: Strata, expected: NDArray[np.float64], points: NDArray[np.int64]) -> float:
    """The standard error of overall accuracy to hope for with these (stratum,) points."""
    return float(np.sqrt((strata.shares**2 * expected * (1 - expected) / np.maximum(points, 1)).sum()))


def _between(total: int, wished: NDArray[np.float64], floor: NDArray[np.int64], most: NDArray[np.int64]) -> NDArray[np.float64]:
    """Parts of `total` in the proportions of `wished`, none below its floor or above its most: the scale is found by halving."""
    low, high = 0.0, total / float(wished[wished > 0].min()) + 1
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if np.clip(wished * middle, floor, most).sum() < total else (low, middle)
    return np.asarray(np.clip(wished * high, floor, most), np.float64)


def _rounded(parts: NDArray[np.float64], total: int, floor: NDArray[np.int64], most: NDArray[np.int64]) -> NDArray[np.int64]:
    """Whole numbers near `parts` that sum to `total`: the largest remainders are rounded up."""
    whole = np.floor(parts + 1e-9).astype(np.int64)
    order = np.argsort(-(parts - whole), kind="stable")
    for step in (1, -1):
        while (whole.sum() - total) * step < 0:
            free = (whole < most) if step > 0 else (whole > floor)
            place = next(at for at in order if free[at])
            whole[place] += step
            order = np.append(order[order != place], place)
    return whole
