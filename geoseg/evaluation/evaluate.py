"""How well finished maps agree with labels: every labelled pixel that has a class is counted once, and all counts are pooled.

Averages over scenes or windows would weigh ten pixels of water like ten thousand, so there are none. Ground that the model's training held
out is counted apart where the map knows of it, since figures on ground that a model has learned from say little.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from geoseg.confusion import Confusion
from geoseg.errors import InputError, LabelError
from geoseg.evaluation.boundaries import Boundaries, count_boundaries, halo_rows
from geoseg.evaluation.guesses import guessed, read_scores
from geoseg.evaluation.named_areas import NamedAreas, named_areas
from geoseg.evaluation.objects import count_objects
from geoseg.evaluation.picture import ErrorPicture
from geoseg.ground import pixel_size_m
from geoseg.io.labels import Labels
from geoseg.io.legends import is_a_class
from geoseg.io.opening import files_kept_open, gdal_env
from geoseg.io.score_files import open_scores
from geoseg.legend import Legend, LegendClass
from geoseg.maps.counting import strips
from geoseg.maps.map_results import MapResult, open_all_maps
from geoseg.models.calibration import Calibration
from geoseg.polygons.objects import LEAST_IOU, ObjectScore
from geoseg.settings import nearest

Progress = Callable[[int, int], None]
"""Called with the finished pixel rows and all of them."""

_READING_CACHE_MB = 64
_OTHER_GROUND = "other ground"


@dataclass(eq=False)
class Counted:
    """One map against its labels."""

    name: str
    confusion: Confusion
    """Truth by what the map says, over all labelled pixels that have a class."""
    parts: dict[str, Confusion] = field(default_factory=dict)
    """Ground that was held out from training, by part, and all other; empty where the map does not know."""
    regions: dict[str, Confusion] = field(default_factory=dict)
    calibration: Calibration | None = None
    """Of the scores; None where there are none."""
    boundaries: Boundaries | None = None
    """Edges of the classes; None where they were not compared."""
    objects: dict[str, ObjectScore] = field(default_factory=dict)
    """By class, of the classes whose objects were counted."""
    picture: ErrorPicture | None = None
    """Where it is wrong."""
    unobserved: int = 0
    """Labelled pixels on which the map has no class."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Maps against labels."""

    maps: tuple[Counted, ...]
    labels: tuple[str, ...]
    legend: Legend
    warnings: tuple[str, ...]

    @property
    def confusion(self) -> Confusion:
        """All maps together."""
        return sum((one.confusion for one in self.maps), Confusion.empty(self.legend))

    @property
    def calibration(self) -> Calibration | None:
        """All maps with scores together."""
        found = [one.calibration for one in self.maps if one.calibration is not None]
        return sum(found[1:], found[0]) if found else None

    @property
    def boundaries(self) -> Boundaries | None:
        """All maps whose edges were compared together."""
        found = [one.boundaries for one in self.maps if one.boundaries is not None]
        return sum(found[1:], found[0]) if found else None

    @property
    def objects(self) -> dict[str, ObjectScore]:
        """All maps together, by class."""
        sums: dict[str, ObjectScore] = {}
        for one in self.maps:
            for name, score in one.objects.items():
                sums[name] = sums.get(name, ObjectScore(0, 0, 0)) + score
        return sums

    @property
    def unobserved(self) -> int:
        """Labelled pixels on which no map has a class."""
        return sum(one.unobserved for one in self.maps)

    def pooled(self, what: str) -> dict[str, Confusion]:
        """`parts` or `regions` of all maps, those of one name added up."""
        sums: dict[str, Confusion] = {}
        for one in self.maps:
            for name, counted in getattr(one, what).items():
                sums[name] = sums.get(name, Confusion.empty(self.legend)) + counted
        return sums

    def facts(self) -> dict[str, Any]:
        """All figures as plain data; None where one has no denominator."""
        calibration, boundaries = self.calibration, self.boundaries
        return {
            "labels": list(self.labels),
            "classes": list(self.legend.names),
            "unobserved_labelled_pixels": self.unobserved,
            **figures(self.confusion),
            "parts": {name: figures(one) for name, one in self.pooled("parts").items()},
            "regions": {name: figures(one) for name, one in self.pooled("regions").items()},
            "maps": {one.name: figures(one.confusion) for one in self.maps},
            "calibration": None if calibration is None else calibration.facts(),
            "boundaries": None if boundaries is None else boundaries.facts(self.legend.names),
            "objects": {name: _object_figures(one) for name, one in self.objects.items()},
            "warnings": list(self.warnings),
        }


def figures(counted: Confusion) -> dict[str, Any]:
    """Overall and per class, as plain data; the matrix is truth (rows) by map (columns)."""
    by_class = {name: {what: _number(value) for what, value in row.items()} for name, row in counted.figures().items()}
    overall = {"accuracy": counted.accuracy, "mean_iou": counted.mean_iou, "kappa": counted.kappa}
    return {
        "pixels": counted.total,
        **{name: _number(value) for name, value in overall.items()},
        "per_class": by_class,
        "matrix": counted.counts.tolist(),
    }


def _object_figures(score: ObjectScore) -> dict[str, Any]:
    measures = {"f1": score.f1, "precision": score.precision, "recall": score.recall, "mean_iou": score.mean_iou}
    counts = {"least_iou": LEAST_IOU, "labelled": score.true, "mapped": score.mapped, "matched": score.matched}
    return counts | {name: _number(value) for name, value in measures.items()}


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def evaluate(
    maps: Sequence[str | Path],
    labels: Sequence[str | Path],
    *,
    class_column: str | None = None,
    regions: str | Path | None = None,
    region_column: str | None = None,
    boundary_m: float | None = None,
    objects: Sequence[str] = (),
    progress: Progress | None = None,
) -> Evaluation:
    """Compare finished maps with labels, window by window; memory does not grow with the maps' height.

    `maps` are folders that `make_map` wrote, or class GeoTIFFs with legends, all of one legend; `labels` is one file for all of them, or
    one for each: polygons, lines or points with a class column, or a raster of the maps' codes. `regions` are polygons that are counted
    apart, by the text in `region_column`. With `boundary_m`, edges are compared too, within so many metres on the ground. Of the classes
    `objects`, objects are matched one to one, see `count_objects`; their outlines are held in memory.

    Raises InputError where maps and labels do not go together, LabelError where classes are unknown or no label meets a map.
    """
    if boundary_m is not None and not 0 < boundary_m < np.inf:
        raise InputError(f"edges were to be compared within {boundary_m:g} m; expected a distance above 0")
    results = open_all_maps(maps)
    if len(labels) not in (1, len(results)):
        raise InputError(f"{len(labels)} files of labels for {len(results)} maps; give one for all, or one for each in the same order")
    legend = _common_legend(results)
    if unknown := [name for name in objects if name not in legend.names]:
        raise InputError(f"objects of {unknown[0]!r} were to be counted; {nearest(unknown[0], legend.names)}")
    opened = [Labels(path, legend, class_column) for path in labels]
    areas = None if regions is None else named_areas(regions, region_column)
    rows, done, counted = sum(result.classes.geobox.shape[0] for result in results), 0, []
    with gdal_env(_READING_CACHE_MB), files_kept_open():
        for result, source in zip(results, opened * (len(results) // len(opened)), strict=True):
            if len(opened) > 1 or len(results) == 1:
                source.check_near(result.classes.geobox)
            one = Counted(result.name, Confusion.empty(legend))
            for height in _count(result, source, areas, boundary_m, one):
                done += height
                if progress is not None:
                    progress(done, rows)
            one.objects = {name: count_objects(result, source, legend.names.index(name)) for name in objects}
            counted.append(one)
    made = Evaluation(tuple(counted), tuple(map(str, labels)), legend, tuple(_warnings(results, counted)))
    if made.confusion.total == 0:
        seen = f"{made.unobserved} labelled pixels lie where they have none" if made.unobserved else "no label lies on them"
        raise LabelError(f"no pixel of the maps has both a class and a label: {seen}; give labels of ground that is mapped")
    return made


def _count(result: MapResult, labels: Labels, areas: NamedAreas | None, boundary_m: float | None, counted: Counted) -> Iterator[int]:
    """Add up one map strip by strip; yields the height of each."""
    grid, legend = result.classes.geobox, labels.legend
    scores = None if result.scores is None or result.min_area_m2 > 0 else open_scores(result.scores, legend)
    groups = ((counted.parts, _held_out(result)), (counted.regions, areas))
    pixel = pixel_size_m(grid)
    margin = 0 if boundary_m is None else halo_rows(boundary_m, pixel)
    counted.picture = ErrorPicture.of_size(grid.shape.yx)
    for strip in strips(grid):
        wide = slice(max(0, strip.start - margin), min(grid.shape[0], strip.stop + margin))
        core = slice(strip.start - wide.start, strip.stop - wide.start)
        truth, labelled = labels.read(grid[wide])
        if not labelled[core].any():
            counted.picture.add(strip.start, truth[core], truth[core], labelled[core])
        else:
            guess = guessed(result, grid[wide], labelled, legend)
            both = labelled & (guess >= 0)
            if boundary_m is not None:
                more = count_boundaries(truth, guess, both, len(legend), distance_m=boundary_m, pixel_m=pixel, core=core)
                counted.boundaries = more if counted.boundaries is None else counted.boundaries + more
            truth, guess, both, labelled, here = truth[core], guess[core], both[core], labelled[core], grid[strip]
            counted.picture.add(strip.start, truth, guess, both)
            counted.unobserved += int((labelled & ~both).sum())
            counted.confusion += Confusion.count(truth, guess, legend, counted=both)
            for group, named in groups:
                for name, inside in () if named is None else named.on(here):
                    group[name] = group.get(name, Confusion.empty(legend)) + Confusion.count(truth, guess, legend, counted=both & inside)
            if scores is not None and both.any():
                of_class = np.take_along_axis(read_scores(scores, here), np.maximum(guess, 0)[np.newaxis], axis=0)[0]
                kept = Calibration.count(of_class[both], (truth == guess)[both])
                counted.calibration = kept if counted.calibration is None else counted.calibration + kept
        yield strip.stop - strip.start


def _held_out(result: MapResult) -> NamedAreas | None:
    """The blocks that the model's training held out, which `make_map` writes beside the map; None where there are none."""
    beside = result.path.with_name(f"{result.name}_held_out.gpkg")
    return named_areas(beside, "part", _OTHER_GROUND) if beside.is_file() else None


def _common_legend(results: Sequence[MapResult]) -> Legend:
    """The classes of the maps that say what is there. InputError where two maps have different ones."""
    first, *others = (_said(result.classes.legend) for result in results)
    for result, said in zip(results[1:], others, strict=True):
        if said != first:
            raise InputError(
                f"{results[0].path} has the classes {_listed(first)} and {result.path} {_listed(said)}; give maps of one legend"
            )
    classes = tuple(LegendClass(index, code, name, colour) for index, (code, name, colour) in enumerate(first))
    taken = {one.code for one in classes}
    return Legend(classes, nodata=next(code for code in (255, *range(65535, -1, -1)) if code not in taken))


def _said(legend: Legend) -> tuple[tuple[int, str, str], ...]:
    return tuple((one.code, one.name, one.colour) for one in legend.classes if is_a_class(one.name))


def _listed(said: tuple[tuple[int, str, str], ...]) -> str:
    return ", ".join(f"{name} ({code})" for code, name, _ in said)


def _warnings(results: Sequence[MapResult], counted: Sequence[Counted]) -> Iterator[str]:
    for result, one in zip(results, counted, strict=True):
        if one.unobserved:
            yield f"{one.name}: {one.unobserved} labelled pixels have no class on the map and are not counted"
        if one.parts and _OTHER_GROUND in one.parts and one.parts[_OTHER_GROUND].total:
            share = one.parts[_OTHER_GROUND].total / one.confusion.total
            yield f"{one.name}: {share:.0%} of the counted pixels may be ground that the model has learned from; see what was held out"
        if result.is_edited():
            yield f"{one.name}: the class map was changed after it was made; these are the figures of the changed one"
