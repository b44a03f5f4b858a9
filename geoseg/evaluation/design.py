"""From a map to points to label, and from labelled points to areas: both ways in one function each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geoseg import __version__
from geoseg.evaluation.allocation import Allocation, allocate, expected_error, least_points, points_needed
from geoseg.evaluation.area_report import AreaReport, report_areas
from geoseg.evaluation.labelled import join_sample
from geoseg.evaluation.point_package import write_points
from geoseg.evaluation.points import read_points, read_sizes
from geoseg.evaluation.sample import Population, count_population, draw_points, expected_accuracies, open_one_map
from geoseg.io.atomic import atomic
from geoseg.io.class_maps import open_class_map
from geoseg.io.legends import make_legend, names_of_table
from geoseg.legend import Legend
from geoseg.maps.counting import Progress


@dataclass(frozen=True)
class SampleWish:
    """How many points are wanted, and how they are to be spread."""

    points: int | None
    """None where they follow from the standard error"""
    standard_error: float | None
    """Of overall accuracy, as a share; None where the number of points is given"""
    expected: Mapping[str, float]
    """User's accuracies by stratum"""
    otherwise: float
    """User's accuracy of the other strata"""
    allocation: Allocation
    least: int
    """Points in every stratum, with mixed allocation"""
    seed: int


@dataclass(frozen=True, eq=False)
class SampleDesign:
    """Points that were drawn and written, and what is to be hoped of them."""

    path: Path
    population: Population
    wish: SampleWish
    points: NDArray[np.int64]
    """(stratum,)"""
    expected: NDArray[np.float64]
    """(stratum,) user's accuracies"""

    @property
    def expected_error(self) -> float:
        """Standard error of overall accuracy, if the accuracies are as expected."""
        return expected_error(self.population.strata, self.expected, self.points)


def design_sample(
    source: str | Path,
    out: Path,
    wish: SampleWish,
    *,
    strata: str | Path | None = None,
    legend: str | Path | None = None,
    progress: Progress | None = None,
) -> SampleDesign:
    """Draw points in the classes of a map, or in those of another raster `strata`, and write them to the GeoPackage `out`.

    The map is read twice, so that `progress` runs through twice its rows. Raises InputError where the wish cannot be met.
    """
    classes = open_one_map(source, legend=legend)
    rows = classes.geobox.shape[0]
    first, second = (None if progress is None else _shifted(progress, shift, 2 * rows) for shift in (0, rows))
    population = count_population(classes, open_one_map(strata) if strata is not None else None, first)
    expected = expected_accuracies(wish.expected, population.strata, wish.otherwise)
    points = allocate(_total(wish, population, expected), population.strata, wish.allocation, wish.least)
    drawn = draw_points(population, points, wish.seed, second)
    told = {
        "map": Path(classes.path).name,
        "strata": Path(population.strata_map.path).name if population.strata_map is not None else "the classes of the map",
        "allocation": wish.allocation,
        "seed": wish.seed,
        "points": int(points.sum()),
        "geoseg": __version__,
    }
    write_points(out, population, drawn, told)
    return SampleDesign(out, population, wish, points, expected)


def estimate_areas(
    points: str | Path,
    source: str | Path | None = None,
    *,
    legend: str | Path | None = None,
    sizes: str | Path | None = None,
    crs: str | None = None,
    class_column: str | None = None,
    accept_second: bool = False,
    progress: Progress | None = None,
) -> AreaReport:
    """Areas and accuracies with their intervals from labelled points and, where it is not the one they tell of, the map `source`."""
    read = read_points(points, crs=crs, class_column=class_column)
    class_map = open_one_map(source, legend=legend) if source is not None else None
    known = _legend(legend) if legend is not None and class_map is None else None
    strata = read_sizes(sizes) if sizes is not None else None
    return report_areas(join_sample(read, class_map, sizes=strata, legend=known, accept_second=accept_second, progress=progress))


def write_report(path: Path, report: AreaReport) -> None:
    """Write the report as JSON; it appears whole or not at all."""
    with atomic(path) as part:
        part.write_text(json.dumps(report.facts(), indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def _total(wish: SampleWish, population: Population, expected: NDArray[np.float64]) -> int:
    """The points asked for; where they follow from a standard error, no fewer than every stratum needs."""
    if wish.standard_error is None:
        assert wish.points is not None, "one of the two is given"
        return wish.points
    floor = np.minimum(least_points(wish.allocation, wish.least), population.strata.pixels)
    return max(points_needed(population.strata, expected, wish.standard_error), int(floor.sum()))


def _legend(path: str | Path) -> Legend:
    """The classes of a legend's own file, or of a class map."""
    if Path(path).suffix.lower() in (".json", ".csv", ".txt", ".qml"):
        return make_legend(names_of_table(path), nodata=None)
    return open_class_map(path).legend


def _shifted(progress: Progress, shift: int, total: int) -> Progress:
    def say(done: int, _: int) -> None:
        progress(shift + done, total)

    return say
