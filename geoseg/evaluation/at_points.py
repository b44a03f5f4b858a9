"""What a class map says at the places of reference points."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray

from geoseg.errors import InputError, LabelError
from geoseg.evaluation.points import ReferencePoints
from geoseg.ground import distance_km, pixel_areas_m2
from geoseg.io.class_maps import ClassMap, read_class_indices
from geoseg.io.opening import files_kept_open
from geoseg.legend import LegendClass

_BLOCK = 512
"""Points are visited block by block, in the size that most maps are stored in."""


def classes_at_points(
    points: ReferencePoints, wanted: NDArray[np.bool_], class_map: ClassMap, classes: Sequence[LegendClass]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """(wanted point,) place in `classes` and ground area of the pixels in which they lie.

    LabelError where there is no class at one of them or their place is not known, InputError where one lies outside the map.
    """
    grid = class_map.geobox
    rows, cols = _pixels(points, wanted, class_map)
    ids = [points.ids[at] for at in np.flatnonzero(wanted)]
    place = np.full(len(class_map.legend) + 2, -1, np.int64)  # the last two stand for no data and for numbers without a name
    for at, one in enumerate(classes):
        place[next(mine.index for mine in class_map.legend.classes if mine.code == one.code)] = at
    found, areas = np.full(len(rows), -1, np.int64), np.zeros(len(rows))
    with files_kept_open():
        for at in np.lexsort((cols // _BLOCK, rows // _BLOCK)).tolist():
            pixel = grid[int(rows[at]) : int(rows[at]) + 1, int(cols[at]) : int(cols[at]) + 1]
            found[at] = place[read_class_indices(class_map, pixel)[0, 0]]
            areas[at] = pixel_areas_m2(pixel)[0, 0]
    if (without := found < 0).any():
        raise LabelError(
            f"{int(without.sum())} of {len(rows)} labelled points lie where {class_map.path} has no class, the first with id "
            f"{ids[int(np.argmax(without))]}; give the map from which they were drawn, or one that is observed wherever that was"
        )
    return found, areas


def _pixels(points: ReferencePoints, wanted: NDArray[np.bool_], class_map: ClassMap) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row and column of the wanted points. LabelError where their place is not known, InputError where one lies outside the map."""
    if points.xy is None:
        raise LabelError(f"{points.path} says no places, so the map cannot be read there; expected columns lon and lat, or x and y")
    if points.crs is None:
        raise LabelError(f"{points.path} does not say in which CRS its x and y are; add it, such as --crs EPSG:32630")
    grid, xy = class_map.geobox, points.xy[wanted]
    try:
        move = pyproj.Transformer.from_crs(pyproj.CRS.from_user_input(points.crs), pyproj.CRS.from_user_input(grid.crs), always_xy=True)
    except pyproj.exceptions.ProjError as error:
        raise LabelError(f"{points.crs!r} is no CRS that is known; expected a code such as EPSG:32630") from error
    x, y = move.transform(*xy.T)
    inverse = ~grid.affine
    with np.errstate(invalid="ignore"):  # infinity stands for no place
        col, row = inverse.a * x + inverse.b * y + inverse.c, inverse.d * x + inverse.e * y + inverse.f
    inside = (row >= 0) & (row < grid.shape[0]) & (col >= 0) & (col < grid.shape[1])  # not so for NaN and infinity
    if not inside.all():
        ids = [points.ids[at] for at in np.flatnonzero(wanted)]
        known = np.isfinite(xy).all(axis=1)
        away = distance_km(shapely.MultiPoint(xy[known & ~inside]), points.crs, grid) if (known & ~inside).any() else float("inf")
        far = f"about {away:,.0f} km away" if np.isfinite(away) else "at no place that their CRS can describe"
        raise InputError(
            f"{int((~inside).sum())} of {len(xy)} labelled points lie outside {class_map.path}, the first with id "
            f"{ids[int(np.argmax(~inside))]}, the nearest {far}; give a map that covers them, and check their CRS"
        )
    return np.floor(row).astype(np.int64), np.floor(col).astype(np.int64)
