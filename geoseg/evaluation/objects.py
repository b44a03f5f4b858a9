"""Objects of one class on a map against those of the labels: found, missed, invented, each counted once whatever its size."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.evaluation.guesses import guessed
from geoseg.io.labels import Labels
from geoseg.maps.counting import strips
from geoseg.maps.map_results import MapResult
from geoseg.polygons.objects import ObjectScore, match_objects
from geoseg.polygons.stream import trace_regions

_NONE = -1


def count_objects(result: MapResult, labels: Labels, index: int) -> ObjectScore:
    """How many objects of a class (its index in the labels' legend) are on the map, in the labels, and the same.

    An object of the map is a region of the class; one of the labels is a feature where they are features, so that two buildings wall to
    wall are two, else a region. Both are compared on labelled ground alone, pixel by pixel, as `match_objects` says.
    """
    return match_objects(_shapes(_true(result, labels, index)), _shapes(_mapped(result, labels, index)))


def _true(result: MapResult, labels: Labels, index: int) -> Iterator[NDArray[np.int64]]:
    """Strips (row, col) of numbers of objects; _NONE elsewhere."""
    for strip in strips(result.classes.geobox):
        here = result.classes.geobox[strip]
        truth, labelled = labels.read(here)
        mine = labelled & (truth == index)
        yield np.where(mine, 0 if labels.columns is None else labels.read_features(here), _NONE)


def _mapped(result: MapResult, labels: Labels, index: int) -> Iterator[NDArray[np.int64]]:
    for strip in strips(result.classes.geobox):
        here = result.classes.geobox[strip]
        _, labelled = labels.read(here)
        mine = labelled & (guessed(result, here, labelled, labels.legend) == index) if labelled.any() else labelled
        yield np.where(mine, 0, _NONE)


def _shapes(numbers: Iterator[NDArray[np.int64]]) -> NDArray[np.object_]:
    """(object,) outlines in pixels."""
    found = []
    for part in trace_regions(numbers, _NONE):
        lines = part.outlines
        corners = np.stack([lines.col, lines.row], axis=-1).astype(np.float64)
        found.append(shapely.from_ragged_array(shapely.GeometryType.POLYGON, corners, (lines.ring_offsets, lines.polygon_offsets)))
    return np.concatenate(found) if found else np.zeros(0, dtype=object)
