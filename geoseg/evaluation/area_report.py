"""What a labelled sample says of a map: areas and accuracies with their intervals, and how far these are to be believed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.evaluation.area import AreaEstimates, Estimate, Tally, stehman
from geoseg.evaluation.labelled import LabelledSample

FEW = 20
"""Points in a stratum below which the normal approximation behind ± is poor: a rule of thumb."""
HEAVY = 0.2
"""Share of an area above which a single point must not carry it without a word."""
EXCEPTIONS = 5
"""Points on either side of a share below which its interval is rough: the usual condition of the normal approximation."""
_OLOFSSON = "Olofsson et al. 2014: the strata are the classes of the map"
_STEHMAN = "Stehman 2014: the strata are not the classes of the map"


@dataclass(frozen=True, eq=False)
class AreaReport:
    """Estimates from a sample, with what is needed to judge them."""

    sample: LabelledSample
    accuracies: AreaEstimates
    """From the labels that count: the second one too, where that was asked for."""
    shares: Estimate
    """(class,) share of the ground, always from the first label"""
    counts: NDArray[np.int64]
    """(map class, reference class) points, from the labels that count"""

    @property
    def total_m2(self) -> float:
        """The ground that the sample stands for."""
        return float(self.sample.strata.area_m2.sum())

    @cached_property
    def per_stratum(self) -> NDArray[np.int64]:
        """(stratum,) labelled points."""
        return np.bincount(self.sample.stratum, minlength=len(self.sample.strata))

    @cached_property
    def warnings(self) -> tuple[str, ...]:
        """What makes the figures less than they look, most important first."""
        return (*self.sample.notes, *_about_labels(self), *_about_strata(self), *_about_weights(self), *_about_certainty(self))

    def facts(self) -> dict[str, Any]:
        """The whole report as JSON takes it; what is not known is null, with its reason in `unknown`."""
        sample, found = self.sample, self.accuracies
        names = [one.name for one in sample.classes]
        classes = []
        for at, one in enumerate(sample.classes):
            mapped = None if sample.mapped is None else sample.mapped.area_m2[at] / 1e6
            area = {key: value if value is None else value * self.total_m2 / 1e6 for key, value in _told(self.shares, at).items()}
            classes.append(
                {
                    "name": one.name,
                    "code": one.code,
                    "mapped_km2": mapped,
                    "area_km2": area,
                    "share": _told(self.shares, at),
                    "users_accuracy": _told(found.users, at),
                    "producers_accuracy": _told(found.producers, at),
                    "points_mapped": int(self.counts[at].sum()),
                    "points_reference": int(self.counts[:, at].sum()),
                    "unknown": _why_unknown(self, at),
                }
            )
        strata = zip(
            sample.strata.names, sample.strata.pixels.tolist(), sample.strata.area_m2.tolist(), self.per_stratum.tolist(), strict=True
        )
        return {
            "points": len(sample),
            "unlabelled": sample.unlabelled,
            "method": _OLOFSSON if sample.same_classes else _STEHMAN,
            "interval": "95 %: normal approximation, or the rule of three where no point speaks against a value",
            "second_class_accepted": sample.accept_second,
            "dates": [min(sample.dates), max(sample.dates)] if sample.dates else None,
            "total_km2": self.total_m2 / 1e6,
            "overall_accuracy": _told(found.overall, ()),
            "classes": classes,
            "strata": [dict(zip(("name", "pixels", "area_m2", "points"), row, strict=True)) for row in strata],
            "matrix": {
                "rows": "map",
                "columns": "reference",
                "classes": names,
                "points": self.counts.tolist(),
                "share": _plain(found.matrix),
            },
            "warnings": list(self.warnings),
        }


def report_areas(sample: LabelledSample) -> AreaReport:
    """Areas and accuracies from a labelled sample, whatever its strata."""
    possible = None
    if sample.same_classes:
        names = [name.casefold() for name in sample.strata.names]
        possible = np.array([[one.name.casefold() == name for one in sample.classes] for name in names])
    shape = (len(sample.strata), len(sample.classes), len(sample.classes))

    def tallied(reference: NDArray[np.int64]) -> Tally:
        return Tally.of_points(sample.stratum, sample.map_class, reference, shape, sample.area_m2, possible)

    tally = tallied(sample.accepted)
    accuracies = stehman(tally, sample.strata)
    first = accuracies if not sample.accept_second else stehman(tallied(sample.reference), sample.strata)
    return AreaReport(sample, accuracies, first.shares, tally.points.sum(axis=0).astype(np.int64))


def _told(estimate: Estimate, at: Any) -> dict[str, float | None]:
    """One estimate as JSON takes it."""
    parts = {"value": estimate.value, "standard_error": estimate.standard_error, "low": estimate.low, "high": estimate.high}
    return {name: _number(part[at]) for name, part in {**parts, "half_width": estimate.half_width}.items()}


def _number(value: Any) -> float | None:
    return float(value) if math.isfinite(value) else None


def _plain(matrix: NDArray[np.float64]) -> list[list[float | None]]:
    return [[_number(value) for value in row] for row in matrix]


# ---------------------------------------------------------------- below: what is not known, and what is not known well


def _why_unknown(report: AreaReport, at: int) -> dict[str, str]:
    """Why an estimate of a class has no value or no interval; empty where all have both."""
    name = report.sample.classes[at].name
    thin = _thin_strata(report)
    told = {}
    estimates = {"area": report.shares, "users_accuracy": report.accuracies.users, "producers_accuracy": report.accuracies.producers}
    none_there = {"users_accuracy": f"no labelled point is mapped as {name}", "producers_accuracy": f"no point is {name} in the reference"}
    seen = {"users_accuracy": report.counts[at].sum(), "producers_accuracy": report.counts[:, at].sum()}
    for what, estimate in estimates.items():
        if math.isnan(estimate.standard_error[at]):
            told[what] = none_there[what] if seen.get(what) == 0 else thin
    return told


def _thin_strata(report: AreaReport) -> str:
    """Which strata say too little for an interval."""
    strata, points = report.sample.strata, report.per_stratum
    empty = [name for name, count, pixels in zip(strata.names, points, strata.pixels, strict=True) if count == 0 < pixels]
    single = [name for name, count, pixels in zip(strata.names, points, strata.pixels, strict=True) if count == 1 < pixels]
    parts = [
        f"{what} in the strata {', '.join(names)}"
        for what, names in (("no labelled point", empty), ("a single labelled point", single))
        if names
    ]
    return " and ".join(parts)


def _about_labels(report: AreaReport) -> list[str]:
    sample, told = report.sample, []
    if sample.unlabelled:
        told.append(
            f"{sample.unlabelled} of {sample.unlabelled + len(sample)} points have no reference class and are left out; that is harmless "
            "only where they were left out by chance, not because they were hard"
        )
    if sample.accept_second:
        helped = int((sample.accepted != sample.reference).sum())
        told.append(f"the second class made {helped} points right in the accuracies; areas rest on the first class alone")
    return told


def _about_strata(report: AreaReport) -> list[str]:
    told = []
    if thin := _thin_strata(report):
        told.append(f"there is {thin}, so what depends on them is not known; label at least two points in each, better {FEW}")
    strata, points = report.sample.strata, report.per_stratum
    few = [
        f"{name} ({count})" for name, count, pixels in zip(strata.names, points, strata.pixels, strict=True) if 1 < count < min(FEW, pixels)
    ]
    if few:
        told.append(f"fewer than {FEW} labelled points in the strata {', '.join(few)}: their intervals are rough, and often too narrow")
    return told


def _about_weights(report: AreaReport) -> list[str]:
    """Classes whose area hangs on single points of large strata."""
    sample = report.sample
    weight = sample.strata.shares / np.maximum(report.per_stratum, 1)
    told = []
    for at, one in enumerate(sample.classes):
        here = np.unique(sample.stratum[sample.reference == at])
        if not len(here) or not report.shares.value[at] > 0:
            continue
        heaviest = int(here[np.argmax(weight[here])])
        carried = float(weight[heaviest] / report.shares.value[at])
        if carried > HEAVY:
            told.append(
                f"a single point of the stratum {sample.strata.names[heaviest]} carries {100 * min(carried, 1):.0f} % of the area of "
                f"{one.name}: one label more or less changes it by that much; more points there make it firm"
            )
    return told


def _about_certainty(report: AreaReport) -> list[str]:
    """Figures that rest on few exceptions or none."""
    found, told, rough = report.accuracies, [], []
    sure = ["overall accuracy"] if found.overall.unopposed else []
    for at, one in enumerate(report.sample.classes):
        right = int(report.counts[at, at])
        for what, estimate, of in (("user's", found.users, report.counts[at]), ("producer's", found.producers, report.counts[:, at])):
            wrong = int(of.sum()) - right
            if estimate.unopposed[at]:
                sure.append(f"{what} accuracy of {one.name}")
            elif 0 < min(right, wrong) < EXCEPTIONS:
                rough.append(f"{what} of {one.name} ({right} right, {wrong} wrong)")
        if report.shares.unopposed[at]:
            sure.append(f"area of {one.name}")
    if sure:
        told.append(
            f"no point speaks against these: {', '.join(sure)}; the formulas would give ± 0, so ± is what so many points may have missed "
            "(rule of three)"
        )
    if rough:
        told.append(f"these accuracies rest on few exceptions, so that ± is rough and often too small: {', '.join(rough)}")
    return told
