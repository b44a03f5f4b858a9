"""Where to look: reference points drawn at random among the mapped pixels, in strata.

Every pixel of a stratum is as likely as any other of it, and none is drawn twice. The map is read twice, strip by strip: the
pixels of each stratum are counted, numbers among them are drawn, and the pixels of these numbers are found again. What is drawn
depends on the seed and the map alone, not on how it is stored or read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from geoseg.errors import InputError, LabelError
from geoseg.evaluation.area import Strata
from geoseg.ground import corners_to_map, pixel_areas_m2
from geoseg.io.class_maps import UNNAMED, ClassMap, open_class_map, read_class_indices
from geoseg.io.legends import is_a_class
from geoseg.io.opening import files_kept_open, gdal_env
from geoseg.legend import LegendClass
from geoseg.maps.counting import Progress, strips
from geoseg.maps.map_results import open_map_results
from geoseg.maps.names import find_name

_READING_CACHE_MB = 128
"""As for comparing two maps: strips that cut blocks decode each once."""


@dataclass(frozen=True, eq=False)
class MappedClasses:
    """The classes of a map and how much of it each has."""

    classes: tuple[LegendClass, ...]
    """Those that say what is there, in the legend's order."""
    pixels: NDArray[np.int64]
    """(class,)"""
    area_m2: NDArray[np.float64]
    """(class,) on the ground"""

    @property
    def names(self) -> tuple[str, ...]:
        """In the legend's order."""
        return tuple(one.name for one in self.classes)


@dataclass(frozen=True, eq=False)
class Population:
    """All pixels of a map that have a class, in their strata; holds no pixels."""

    map: ClassMap
    strata_map: ClassMap | None
    """The raster whose classes are the strata, on any grid; None where they are the classes of the map."""
    mapped: MappedClasses
    strata: Strata
    """Those with pixels."""


@dataclass(frozen=True, eq=False)
class DrawnPoints:
    """Pixels of a map, in random order."""

    row: NDArray[np.int64]
    col: NDArray[np.int64]
    stratum: NDArray[np.int64]
    """(point,) place in the strata of the population"""
    mapped: NDArray[np.int64]
    """(point,) place in the classes of the map"""
    area_m2: NDArray[np.float64]
    """(point,) ground area of the pixel"""

    def __len__(self) -> int:
        return len(self.row)

    def centres(self, geobox: GeoBox) -> NDArray[np.float64]:
        """(point, 2) x and y of the pixels' centres on the map's grid."""
        return corners_to_map(geobox.affine, self.col + 0.5, self.row + 0.5)


def open_one_map(path: str | Path, *, legend: str | Path | None = None) -> ClassMap:
    """The class map in a folder of results, behind an Item, or in any class GeoTIFF. InputError where a folder holds several."""
    if legend is not None and Path(path).is_file():
        return open_class_map(path, legend=legend)
    found = open_map_results(path)
    if len(found) > 1:
        names = ", ".join(one.path.name for one in found)
        raise InputError(f"{path} holds several maps: {names}; give the file of the one that is meant")
    return found[0].classes


def count_population(classes: ClassMap, strata_map: ClassMap | None = None, progress: Progress | None = None) -> Population:
    """Count the pixels of every stratum and class, and measure them on the ground, in bounded memory.

    Only pixels that have both a class and a stratum are counted. LabelError where there is none, or where a raster holds a number
    that its legend does not name.
    """
    kinds, layers = _classes(classes), _classes(strata_map or classes)
    pixels, areas = np.zeros((len(layers), len(kinds)), np.int64), np.zeros((len(layers), len(kinds)))
    with gdal_env(_READING_CACHE_MB), files_kept_open():
        for rows in strips(classes.geobox):
            grid = classes.geobox[rows, :]
            cell = _cells(classes, strata_map, grid)
            known = cell >= 0
            weights = np.broadcast_to(pixel_areas_m2(grid), cell.shape)[known]
            pixels += np.bincount(cell[known], minlength=pixels.size).reshape(pixels.shape)
            areas += np.bincount(cell[known], weights=weights, minlength=areas.size).reshape(areas.shape)
            if progress is not None:
                progress(rows.stop, classes.geobox.shape[0])
    if not pixels.any():
        where = "" if strata_map is None else f" that has a stratum in {strata_map.path}"
        raise LabelError(f"{classes.path} has no pixel with a class{where}; there is nothing to draw points from")
    there = np.flatnonzero(pixels.any(axis=1))
    strata = Strata(tuple(layers[at].name for at in there), pixels[there].sum(axis=1), areas[there].sum(axis=1))
    return Population(classes, strata_map, MappedClasses(kinds, pixels.sum(axis=0), areas.sum(axis=0)), strata)


def draw_points(population: Population, points: NDArray[np.int64], seed: int, progress: Progress | None = None) -> DrawnPoints:
    """Draw so many (stratum,) pixels of each stratum without replacement; the same seed and map give the same points.

    The order is random, so that whoever labels the first hundred labels a random hundred.
    """
    rng = np.random.default_rng(seed)
    wanted = draw_numbers(population.strata.pixels, points, rng)
    found = list(_find(population, wanted, progress))
    parts = {name: np.concatenate([getattr(part, name) for part in found]) for name in ("row", "col", "stratum", "mapped", "area_m2")}
    in_reading_order = np.lexsort((parts["col"], parts["row"]))  # whatever strips they were found in
    shuffled = in_reading_order[rng.permutation(len(in_reading_order))]
    return DrawnPoints(**{name: part[shuffled] for name, part in parts.items()})


def draw_numbers(pixels: NDArray[np.int64], points: NDArray[np.int64], rng: np.random.Generator) -> list[NDArray[np.int64]]:
    """For each stratum which of its pixels are drawn, counted from 0 in reading order, ascending.

    Memory follows the number of points, not of pixels.
    """
    return [np.sort(rng.choice(int(most), int(count), replace=False)) for most, count in zip(pixels, points, strict=True)]


def expected_accuracies(given: Mapping[str, float], strata: Strata, otherwise: float) -> NDArray[np.float64]:
    """(stratum,) user's accuracies to expect: those given by name, else one for all. InputError for unknown names and no shares."""
    expected = np.full(len(strata), otherwise)
    for name, accuracy in given.items():
        expected[strata.names.index(find_name(name, strata.names, "stratum of this map"))] = accuracy
    if not ((expected > 0) & (expected < 1)).all():
        raise InputError(f"the user's accuracies expected are {', '.join(f'{one:g}' for one in expected)}; give shares between 0 and 1")
    return expected


def _classes(classes: ClassMap) -> tuple[LegendClass, ...]:
    return tuple(one for one in classes.legend.classes if is_a_class(one.name))


def _find(population: Population, wanted: list[NDArray[np.int64]], progress: Progress | None) -> Iterator[DrawnPoints]:
    """The pixels with the wanted numbers, strip by strip."""
    classes, kinds = population.map, len(population.mapped.classes)
    layers = [one.name for one in _classes(population.strata_map or classes)]
    place = [layers.index(name) for name in population.strata.names]
    before = np.zeros(len(place), np.int64)
    with gdal_env(_READING_CACHE_MB), files_kept_open():
        for rows in strips(classes.geobox):
            grid = classes.geobox[rows, :]
            cell = _cells(classes, population.strata_map, grid).ravel()
            layer = np.where(cell >= 0, cell // kinds, -1)
            areas = None
            for stratum, numbers in enumerate(wanted):
                here = np.flatnonzero(layer == place[stratum])
                first, last = np.searchsorted(numbers, [before[stratum], before[stratum] + len(here)])
                if last > first:
                    at = here[numbers[first:last] - before[stratum]]
                    row, col = np.divmod(at, grid.shape[1])
                    areas = np.broadcast_to(pixel_areas_m2(grid), grid.shape) if areas is None else areas
                    yield DrawnPoints(row + rows.start, col, np.full(len(at), stratum), cell[at] % kinds, areas[row, col])
                before[stratum] += len(here)
            if progress is not None:
                progress(rows.stop, classes.geobox.shape[0])


def _cells(classes: ClassMap, strata_map: ClassMap | None, grid: GeoBox) -> NDArray[np.int64]:
    """(row, col) stratum x number of classes + class, by their places among those that are classes; -1 where one is not known."""
    kind = _places(classes, grid)
    layer = kind if strata_map is None else _places(strata_map, grid)
    return np.where((kind >= 0) & (layer >= 0), layer * len(_classes(classes)) + kind, -1)


def _places(classes: ClassMap, grid: GeoBox) -> NDArray[np.int64]:
    """(row, col) place of each pixel's class among those that say what is there, else -1."""
    indices = read_class_indices(classes, grid)
    if (indices == UNNAMED).any():
        raise LabelError(
            f"{classes.path} holds numbers that its legend does not name, so it is not known what there is to sample; "
            "name them all with --legend"
        )
    place = np.full(len(classes.legend) + 1, -1, np.int64)  # the last stands for -1, not observed
    for at, one in enumerate(_classes(classes)):
        place[one.index] = at
    return place[indices]
