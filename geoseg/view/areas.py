"""The ground that each class of a map covers, counted from its pixels."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

from geoseg.io.class_maps import NOT_OBSERVED, UNNAMED, ClassMap, read_class_indices, sum_by_code
from geoseg.io.opening import files_kept_open, gdal_env

_SIDE = 1024


def class_areas(classes: ClassMap) -> list[dict[str, Any]]:
    """Code, name, colour, area on the ground and share of what is mapped, of each class in the legend's order."""
    legend, grid = classes.legend, classes.geobox
    before = -min(NOT_OBSERVED, UNNAMED)  # what stands for no class is counted in front of the classes
    totals = np.zeros(before + len(legend))
    with gdal_env(), files_kept_open():
        for top, left in product(range(0, grid.shape[0], _SIDE), range(0, grid.shape[1], _SIDE)):
            piece = grid[top : min(top + _SIDE, grid.shape[0]), left : min(left + _SIDE, grid.shape[1])]
            totals += sum_by_code(read_class_indices(classes, piece) + before, piece, len(totals))
    areas = totals[before:]
    mapped = float(areas.sum())
    return [
        {
            "code": one.code,
            "name": one.name,
            "colour": one.colour,
            "background": one.background,
            "area_m2": float(area),
            "share": float(area) / mapped if mapped else None,
        }
        for one, area in zip(legend.classes, areas, strict=True)
    ]
