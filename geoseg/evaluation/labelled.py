"""Labelled points put together with what they were drawn from: in which stratum, as which class mapped, of how much ground."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import InputError, LabelError
from geoseg.evaluation.area import Strata
from geoseg.evaluation.at_points import classes_at_points
from geoseg.evaluation.points import ReferencePoints, SampleTables, Words
from geoseg.evaluation.sample import MappedClasses, count_population
from geoseg.io.class_maps import ClassMap
from geoseg.io.legends import is_a_class
from geoseg.legend import Legend, LegendClass
from geoseg.maps.counting import Progress
from geoseg.maps.names import find_name

_ISO_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_OTHER_GROUND = 0.01
"""Share by which the ground of a map and of a sample may differ without a word."""


@dataclass(frozen=True, eq=False)
class LabelledSample:
    """All labelled points of a sample, by number of stratum and class."""

    path: str
    classes: tuple[LegendClass, ...]
    strata: Strata
    mapped: MappedClasses | None
    """How much of each class the map has; None where no map and no such table was given."""
    stratum: NDArray[np.int64]
    map_class: NDArray[np.int64]
    reference: NDArray[np.int64]
    """(point,) place of the first label in `classes`"""
    accepted: NDArray[np.int64]
    """(point,) the same, but the map's class where the second label agrees with it and is to count"""
    area_m2: NDArray[np.float64] | None
    """(point,) area of the pixels; None where all are taken for equally large"""
    unlabelled: int
    """Points in the file without a reference class; they are in none of the arrays."""
    dates: tuple[str, ...]
    """Those that are written year first, as 2021-05-27"""
    same_classes: bool
    """Whether the strata are the classes of this very map"""
    accept_second: bool
    notes: tuple[str, ...]
    """What had to be taken for granted."""

    def __len__(self) -> int:
        return len(self.stratum)


def join_sample(
    points: ReferencePoints,
    class_map: ClassMap | None = None,
    *,
    sizes: SampleTables | None = None,
    legend: Legend | None = None,
    accept_second: bool = False,
    progress: Progress | None = None,
) -> LabelledSample:
    """What the points say, with strata from `sizes`, else from their own file, else the classes of `class_map`.

    The map's class of a point is read from `class_map`, else from the points' column. Raises LabelError or InputError where nothing
    is labelled, a class or stratum is unknown, a point lies outside the map, or strata and map do not belong together.
    """
    labelled = np.array([word is not None for word in points.reference])
    if not labelled.any():
        raise LabelError(
            f"{points.path} has no reference class at any of its {len(points)} points; label them first, for example in QGIS, then run "
            "this again"
        )
    if accept_second and points.second is None:
        raise LabelError(f"{points.path} has no column second_class, so there is no second class to accept; leave --accept-second out")
    counted = count_population(class_map, progress=progress) if class_map is not None else None
    tables = sizes or points.tables
    mapped = counted.mapped if counted is not None else tables.mapped if tables is not None else None
    classes = mapped.classes if mapped is not None else _classes_without_map(points, legend)
    reference = _places(points.reference, classes, points.path)
    second = _places(points.second, classes, points.path) if points.second is not None else np.full(len(points), -1)
    map_class = np.full(len(points), -1)
    area = points.area_m2
    if class_map is not None:
        map_class[labelled], areas = classes_at_points(points, labelled, class_map, classes)
        area = _filled(labelled, areas) if area is None else area
    else:
        map_class = _map_classes(points, classes, labelled)
    strata = tables.strata if tables is not None else counted.strata if counted is not None else None
    if strata is None:
        raise LabelError(
            f"{points.path} does not say how large its strata are; give the map from which the points were drawn with --map, or the sizes "
            "with --sizes"
        )
    notes: list[str] = []
    stratum = _strata_places(points, strata, map_class, classes, own=tables is None, notes=notes)
    same = bool((_strata_as_classes(strata, classes)[stratum[labelled]] == map_class[labelled]).all())
    if tables is None and not same:
        _refuse_other_map(points, strata, stratum, map_class, classes, labelled, class_map)
    if counted is not None and tables is not None:
        same = same and _same_sizes(strata, counted.strata)
        notes += _other_ground(strata, counted.strata)
    return LabelledSample(
        points.path,
        classes,
        strata,
        mapped,
        stratum[labelled],
        map_class[labelled],
        reference[labelled],
        np.where(accept_second & (second == map_class), second, reference)[labelled],
        area[labelled] if area is not None else None,
        int((~labelled).sum()),
        tuple(date for date, known in zip(points.dates or (), labelled, strict=False) if known and date and _ISO_DATE.match(date)),
        same,
        accept_second,
        tuple(notes),
    )


def _classes_without_map(points: ReferencePoints, legend: Legend | None) -> tuple[LegendClass, ...]:
    """The classes of a legend, or those that the points name as mapped, or as strata."""
    if legend is not None:
        return tuple(one for one in legend.classes if is_a_class(one.name))
    words = points.mapped if points.mapped is not None else points.stratum
    if words is None or not any(words):
        raise LabelError(f"{points.path} has no column map_class; give the map that is to be judged with --map")
    return Legend.from_names(sorted({word for word in words if word is not None})).classes


def _places(words: Words, classes: Sequence[LegendClass], path: str) -> NDArray[np.int64]:
    """(point,) place of each class, written as name or code; -1 where there is none. LabelError for one that is not in the legend."""
    by_word: dict[str | None, int] = {None: -1}
    names = {one.name.casefold(): at for at, one in enumerate(classes)}
    codes = {float(one.code): at for at, one in enumerate(classes)}
    for word in {word for word in words if word is not None}:
        at = names.get(word.casefold(), codes.get(_as_number(word)))
        if at is None:
            try:
                find_name(word, [one.name for one in classes], "class of the map")
            except InputError as error:
                raise LabelError(f"{path} holds a class that the map does not have: {error}") from None
        by_word[word] = at if at is not None else -1
    return np.array([by_word[word] for word in words], np.int64)


def _as_number(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        return float("nan")


def _map_classes(points: ReferencePoints, classes: Sequence[LegendClass], labelled: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The class as which each point is mapped, as the file says it; the stratum where it has no such column."""
    words = points.mapped if points.mapped is not None else points.stratum
    if words is None:
        raise LabelError(f"{points.path} has no column map_class; give the map that is to be judged with --map")
    found = _places(words, classes, points.path)
    if (missing := labelled & (found < 0)).any():
        raise LabelError(
            f"{points.path} has {int(missing.sum())} labelled points without a map class, the first with id "
            f"{points.ids[int(np.argmax(missing))]}; give the map with --map"
        )
    return found


def _filled(wanted: NDArray[np.bool_], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(point,) the values where they are wanted, NaN elsewhere."""
    filled = np.full(len(wanted), np.nan)
    filled[wanted] = values
    return filled


def _strata_as_classes(strata: Strata, classes: Sequence[LegendClass]) -> NDArray[np.int64]:
    """(stratum,) the class of the same name, -2 where there is none."""
    names = {one.name.casefold(): at for at, one in enumerate(classes)}
    return np.array([names.get(name.casefold(), -2) for name in strata.names], np.int64)


def _strata_places(
    points: ReferencePoints,
    strata: Strata,
    map_class: NDArray[np.int64],
    classes: Sequence[LegendClass],
    *,
    own: bool,
    notes: list[str],
) -> NDArray[np.int64]:
    """(point,) place of each point's stratum; `own` where the strata are the classes of the map that was given."""
    as_classes = _strata_as_classes(strata, classes)
    if points.stratum is None or not any(points.stratum):
        if len(strata) > 1 and not own:
            raise LabelError(f"{points.path} has no column stratum; expected one of {', '.join(strata.names)} for each point")
        if own:
            notes.append(
                "the points name no strata, so they are taken for a simple random sample of the whole map; points that were chosen in any "
                "other way give no honest interval"
            )
            place = np.full(len(classes) + 1, -1, np.int64)
            place[as_classes] = np.arange(len(strata))
            return place[map_class]
        return np.zeros(len(points), np.int64)
    names = {name.casefold(): at for at, name in enumerate(strata.names)}
    for at, one in enumerate(as_classes.tolist()):
        if one >= 0:
            names.setdefault(str(classes[one].code), at)
    unknown = sorted({word for word in points.stratum if word is not None and word.casefold() not in names})
    if unknown and own:
        raise InputError(
            f"the strata of {points.path} ({', '.join(unknown[:3])} …) are not classes of the map ({', '.join(strata.names)}); say how "
            "large they are with --sizes: the GeoPackage of the design, or a CSV with the columns stratum, pixels, area_m2"
        )
    if unknown:
        find_name(unknown[0], strata.names, "stratum of this sample")
    if None in points.stratum:
        first = points.ids[points.stratum.index(None)] or "unknown"
        raise LabelError(
            f"{points.path} has points without a stratum, the first with id {first}; points added by hand are no part of a random "
            "sample, so take them out"
        )
    return np.array([names[word.casefold()] for word in points.stratum if word is not None], np.int64)


def _refuse_other_map(
    points: ReferencePoints,
    strata: Strata,
    stratum: NDArray[np.int64],
    map_class: NDArray[np.int64],
    classes: Sequence[LegendClass],
    labelled: NDArray[np.bool_],
    class_map: ClassMap | None,
) -> None:
    """The sizes of strata cannot come from a map in which the points are of another class than their stratum."""
    of_map = class_map.path if class_map is not None else "the map"
    other = labelled & (_strata_as_classes(strata, classes)[stratum] != map_class)
    first = int(np.argmax(other))
    raise InputError(
        f"{int(other.sum())} of {int(labelled.sum())} points are of another class in {of_map} than their "
        f"stratum, the first with id {points.ids[first]}: {classes[map_class[first]].name} instead of {strata.names[stratum[first]]}; the "
        "points were drawn from another map, so say how large its strata are with --sizes"
    )


def _same_sizes(strata: Strata, others: Strata) -> bool:
    mine, theirs = (dict(zip(one.names, one.pixels.tolist(), strict=True)) for one in (strata, others))
    return {name: count for name, count in mine.items() if count} == theirs


def _other_ground(strata: Strata, others: Strata) -> list[str]:
    mine, theirs = float(strata.area_m2.sum()), float(others.area_m2.sum())
    if abs(mine - theirs) <= _OTHER_GROUND * mine:
        return []
    return [f"the map covers {theirs / 1e6:,.3f} km² and the sample stands for {mine / 1e6:,.3f} km²: the estimates are of the latter"]
