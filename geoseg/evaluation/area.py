"""Areas and accuracies from a reference sample, with the standard errors that follow from how the sample was drawn.

A count of mapped pixels is no estimate of an area: it is wrong by whatever the map is wrong. Points drawn at random in strata and
labelled with care say how wrong, and with it how large each class really is. Two ways are here:

- `olofsson`, where the strata are the classes of the map: Olofsson et al., Remote Sensing of Environment 148 (2014);
- `stehman`, whatever the strata are: Stehman, International Journal of Remote Sensing 35 (2014). Where the strata are the map's
  classes, it gives the same numbers.

What has no answer is NaN: a stratum without a point says nothing of its ground, and one with a single point nothing of its spread.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import InputError

Z_95 = 1.96
"""Standard errors to either side of an estimate that make its 95 % interval (normal approximation, as in both papers)."""

RULE_OF_THREE = 3.0
"""What n points do not show has less than 3 / n of a stratum, but for one sample in twenty: (1 - 3 / n) ** n < 0.05."""
NEGLIGIBLE = 0.05
"""Share of a stratum's pixels up to which it is taken for endless (Cochran, Sampling Techniques, 1977, section 2.6)."""
_ROUNDING = 1e-12
"""Standard errors below are 0."""


@dataclass(frozen=True, eq=False)
class Estimate:
    """Shares (0…1) and how far they may be off; of any shape."""

    value: NDArray[np.float64]
    """NaN where the sample does not tell."""
    standard_error: NDArray[np.float64]
    """NaN where the sample does not tell; 0 where no point speaks against the value, as the formulas have it."""
    unseen: NDArray[np.float64]
    """Half of the 95 % interval where the standard error is 0: what so few points may have missed, by the rule of three."""

    @property
    def unopposed(self) -> NDArray[np.bool_]:
        """Where no point speaks against the value, and not every pixel was labelled."""
        return np.asarray((self.standard_error <= _ROUNDING) & (self.unseen > 0))

    @property
    def half_width(self) -> NDArray[np.float64]:
        """Half of the 95 % interval: what stands behind ±; never 0 unless every pixel was labelled."""
        return np.where(self.unopposed, self.unseen, Z_95 * self.standard_error)

    @property
    def low(self) -> NDArray[np.float64]:
        """Lower end of the 95 % interval, not below 0."""
        return np.asarray(np.maximum(self.value - self.half_width, 0.0))

    @property
    def high(self) -> NDArray[np.float64]:
        """Upper end of the 95 % interval, not above 1."""
        return np.asarray(np.minimum(self.value + self.half_width, 1.0))


@dataclass(frozen=True, eq=False)
class Strata:
    """The parts of the ground in which points were drawn, each pixel of one as likely as any other of it."""

    names: tuple[str, ...]
    pixels: NDArray[np.int64]
    """(stratum,) pixels from which the points were drawn."""
    area_m2: NDArray[np.float64]
    """(stratum,) their area on the ground."""

    def __post_init__(self) -> None:
        if not self.area_m2.sum() > 0:
            raise InputError("the strata have no area; expected at least one with pixels in it")

    def __len__(self) -> int:
        return len(self.names)

    @property
    def shares(self) -> NDArray[np.float64]:
        """(stratum,) share of the whole area; together 1."""
        return np.asarray(self.area_m2 / self.area_m2.sum())


@dataclass(frozen=True, eq=False)
class Tally:
    """Labelled points by stratum, map class and reference class: (…, stratum, map class, reference class).

    This is all that the estimates need of the points, so that many samples at once are one more axis in front.
    """

    points: NDArray[np.float64]
    """How many there are."""
    weights: NDArray[np.float64]
    """Sum of the area of their pixels, in any unit; the same as `points` where all pixels are equally large."""
    squares: NDArray[np.float64]
    """Sum of the squares of these areas."""
    possible: NDArray[np.bool_] | None = None
    """(stratum, map class) False where that class cannot be in that stratum; None where any class may be in any."""

    @classmethod
    def of_counts(cls, counts: NDArray[np.integer], possible: NDArray[np.bool_] | None = None) -> Tally:
        """Points in pixels of one size, already counted: (…, stratum, map class, reference class)."""
        points = np.asarray(counts, np.float64)
        return cls(points, points, points, possible)

    @classmethod
    def of_points(
        cls,
        stratum: NDArray[np.integer],
        mapped: NDArray[np.integer],
        reference: NDArray[np.integer],
        shape: tuple[int, int, int],
        areas: NDArray[np.float64] | None = None,
        possible: NDArray[np.bool_] | None = None,
    ) -> Tally:
        """(point,) numbers of stratum, map class and reference class, and the areas of the points' pixels where these differ.

        `shape` is (strata, map classes, reference classes).
        """
        weights = np.ones(len(stratum)) if areas is None else areas
        cell = np.ravel_multi_index((stratum, mapped, reference), shape)

        def summed(of_points: NDArray[np.float64]) -> NDArray[np.float64]:
            return np.bincount(cell, weights=of_points, minlength=int(np.prod(shape))).reshape(shape).astype(np.float64)

        return cls(summed(np.ones(len(stratum))), summed(weights), summed(weights**2), possible)

    @property
    def per_stratum(self) -> NDArray[np.float64]:
        """(…, stratum) points."""
        return np.asarray(self.points.sum(axis=(-1, -2)))


@dataclass(frozen=True, eq=False)
class AreaEstimates:
    """What a reference sample says of a map and of the ground; every field may have further axes in front."""

    overall: Estimate
    """Share of the ground that is mapped right."""
    users: Estimate
    """(…, class) share of what is mapped as the class that is of it; 1 minus the commission error."""
    producers: Estimate
    """(…, class) share of what is of the class that is mapped as it; 1 minus the omission error."""
    shares: Estimate
    """(…, class) share of the ground that is of the class in the reference."""
    matrix: NDArray[np.float64]
    """(…, map class, reference class) share of the ground; together 1. The error matrix as both papers report it."""


def olofsson(counts: NDArray[np.integer], mapped: NDArray[np.number]) -> AreaEstimates:
    """Estimates from a plain error matrix, where the points were drawn in each class of the map.

    `counts` (…, map class, reference class) are labelled points, `mapped` (class,) the pixels or the area of each class in the
    map. Equations 1 to 11 of Olofsson et al. 2014; like these it takes the strata for endless, so that its errors are a trace
    too large where a good part of a stratum was sampled.
    """
    counts, share = np.asarray(counts, np.float64), np.asarray(mapped, np.float64) / np.sum(mapped)
    there = share > 0
    with np.errstate(invalid="ignore", divide="ignore"):
        points = counts.sum(axis=-1, keepdims=True)
        within = np.where(there[:, np.newaxis], counts / points, 0.0)  # (…, map, reference) share of a row's points
        matrix = share[:, np.newaxis] * within
        spread = np.where(there[:, np.newaxis], within * (1 - within) / (points - 1), 0.0)  # variance of `within`
        right, right_spread = _diagonal(within), _diagonal(spread)
        unseen = _unseen(share, points[..., 0])
        most = unseen.max(axis=-1)
        users = Estimate(np.where(there, right, np.nan), np.where(there, np.sqrt(right_spread), np.nan), unseen / share)
        overall = Estimate((share * right).sum(axis=-1), np.sqrt((share**2 * right_spread).sum(axis=-1)), most)
        area = matrix.sum(axis=-2)
        shares = Estimate(area, np.sqrt((share[:, np.newaxis] ** 2 * spread).sum(axis=-2)), _like(most, area))
        value = _diagonal(matrix) / area
        omitted = (share[:, np.newaxis] ** 2 * spread).sum(axis=-2) - share**2 * right_spread
        variance = (share**2 * (1 - value) ** 2 * right_spread + value**2 * omitted) / area**2
        producers = Estimate(value, np.sqrt(np.maximum(variance, 0.0)), _like(most, area) / area)
        return AreaEstimates(overall, users, producers, shares, matrix)


def stehman(tally: Tally, strata: Strata) -> AreaEstimates:
    """Estimates where the strata may be anything: the classes of another map, regions, or those of this map.

    Where pixels differ in size, as in degrees, their areas are weights, so that all shares are shares of ground. A stratum of which
    more than a twentieth was drawn is known better for it; with every pixel labelled nothing is left unknown.
    InputError where a stratum has more points than pixels.
    """
    if too_many := np.flatnonzero((tally.per_stratum > strata.pixels).reshape(-1, len(strata)).any(axis=0)).tolist():
        name, pixels = strata.names[too_many[0]], int(strata.pixels[too_many[0]])
        raise InputError(f"stratum {name!r} has more points than its {pixels} pixels; the sizes belong to another map or sample")
    kinds = range(tally.points.shape[-1])
    diagonal, every = np.eye(len(kinds)), np.ones((len(kinds), len(kinds)))
    mapped, of_class = every[:, np.newaxis] * diagonal[..., np.newaxis], every[:, np.newaxis] * diagonal[:, np.newaxis]

    def each(part: NDArray[np.float64], whole: NDArray[np.float64]) -> Estimate:
        found = [share_of(tally, strata, part[kind], whole[kind]) for kind in kinds]
        return Estimate(*(np.stack([getattr(one, name) for one in found], -1) for name in ("value", "standard_error", "unseen")))

    all_of_it = np.broadcast_to(every, mapped.shape)
    with np.errstate(invalid="ignore", divide="ignore"):
        within = tally.weights / tally.weights.sum(axis=(-1, -2), keepdims=True)
        there = strata.shares[:, np.newaxis, np.newaxis]
        matrix = np.where(there > 0, there * within, 0.0).sum(axis=-3)
    return AreaEstimates(
        share_of(tally, strata, diagonal, every),
        each(mapped * of_class, mapped),
        each(mapped * of_class, of_class),
        each(of_class, all_of_it),
        matrix,
    )


def share_of(tally: Tally, strata: Strata, part: NDArray[np.float64], whole: NDArray[np.float64]) -> Estimate:
    """Area of `part` over area of `whole`, each (map class, reference class) of 0 and 1: a combined ratio of stratified means.

    The ratio estimator of Stehman 2014 (its numerator and denominator are indicators) with the pixels' areas as weights; the mean
    of a stratum is itself a ratio, so that the stratum's known area is used.
    """
    share = strata.shares
    concerned = np.asarray((part != 0) | (whole != 0)).any(axis=-1)
    may_matter = (share > 0) & (concerned if tally.possible is None else tally.possible & concerned).any(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        points, area = tally.per_stratum, tally.weights.sum(axis=(-1, -2))
        mean_part, mean_whole = (np.where(may_matter, (tally.weights * wanted).sum(axis=(-1, -2)) / area, 0.0) for wanted in (part, whole))
        total = (share * mean_whole).sum(axis=-1)
        value = (share * mean_part).sum(axis=-1) / total
        left = (part - _planes(mean_part)) - _planes(value[..., np.newaxis]) * (whole - _planes(mean_whole))
        squares = (left**2 * tally.squares).sum(axis=(-1, -2)) * (points / area) ** 2
        unseen = np.where(points > NEGLIGIBLE * strata.pixels, 1 - points / strata.pixels, 1.0)
        variance = np.where(may_matter & (points != strata.pixels), squares / (points - 1) / points * unseen, 0.0)
        error = np.sqrt((share**2 * variance).sum(axis=-1)) / total
        missed = np.where(may_matter & (points < strata.pixels), _unseen(share, points), 0.0).max(axis=-1) / total
    return Estimate(np.asarray(value), np.asarray(error), np.asarray(missed))


def _unseen(share: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64]:
    """(…, stratum) share of the ground that may be otherwise in a stratum whose points are all alike."""
    return share * np.minimum(RULE_OF_THREE / points, 1.0)


def _like(of_samples: NDArray[np.float64], of_classes: NDArray[np.float64]) -> NDArray[np.float64]:
    """(…) repeated for each class: (…, class)."""
    return np.broadcast_to(of_samples[..., np.newaxis], of_classes.shape)


def _planes(of_strata: NDArray[np.float64]) -> NDArray[np.float64]:
    """(…, stratum) as (…, stratum, 1, 1), to stand beside map and reference classes."""
    return of_strata[..., np.newaxis, np.newaxis]


def _diagonal(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """(…, class) of (…, class, class)."""
    return np.diagonal(matrix, axis1=-2, axis2=-1)
