"""Labelled features, found by place: a window of a scene is burned in milliseconds, also from a file of a million polygons."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import shapely
from geopandas import GeoDataFrame
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pandas import DataFrame, Series
from pandas.api.types import is_datetime64_any_dtype, is_numeric_dtype
from rasterio.features import rasterize

from geoseg.errors import LabelError
from geoseg.ground import distance_km, world_width
from geoseg.io.label_ground import buffered, cells, grown
from geoseg.io.label_rules import LabelRules
from geoseg.io.vectors import box_around, onto_grid

NO_FEATURE = -1
"""Stands where no feature labels a pixel."""


class LabelFeatures:
    """The features of one file that have a class, in the order in which they are burned: the last one wins."""

    def __init__(self, frame: GeoDataFrame, indices: NDArray[np.int64], rules: LabelRules, path: str | Path) -> None:
        """`indices` (feature,) are those of the classes, negative where a feature has none and is left out.

        LabelError where the rules name a column for the order that is not there, or does not hold numbers or dates.
        """
        order = _burning_order(frame, rules.order_column, path)
        order = order[indices[order] >= 0]
        kept = frame.iloc[order]
        self.path, self.crs, self._rules = path, frame.crs, rules
        self.indices: NDArray[np.int64] = indices[order]
        """(feature,) class indices."""
        self.columns: DataFrame = kept.drop(columns=frame.geometry.name)
        """What the file says of each."""
        self._geometries: NDArray[Any] = kept.geometry.to_numpy()
        self._tree = shapely.STRtree(self._geometries)

    def check_near(self, geobox: GeoBox) -> None:
        """Raise LabelError where no feature lies on the grid, saying how far away they are."""
        wide = (grown(geobox[cell.slices], self._rules.width_m / 2 / cell.scale) for cell in cells(geobox) if self._rules.width_m)
        if any(len(self._placed(here, here)[0]) for here in itertools.chain([geobox], wide)):
            return
        everywhere = shapely.GeometryCollection(self._geometries.tolist())
        far = (
            f"they lie about {distance_km(everywhere, self.crs, geobox):,.0f} km away" if len(self._geometries) else "all classes are null"
        )
        raise LabelError(f"no label of {self.path} lies on the scene: {far}; give labels of this place")

    def burn(self, geobox: GeoBox) -> NDArray[np.int64]:
        """(row, col) the number of the feature that labels each pixel, NO_FEATURE for none; the same in every window of a grid.

        Polygons label the pixels whose centre they cover, lines and points those that they pass, as wide as the rules say.
        """
        if not self._rules.reach_m:
            return _burned(*self._placed(geobox, geobox), geobox)
        numbers = np.full(geobox.shape.yx, NO_FEATURE, dtype=np.int64)
        for cell in cells(geobox):
            here, reach = geobox[cell.slices], self._rules.reach_m / cell.scale
            placed, which = self._placed(grown(here, reach), grown(cell.ground, reach))
            if self._rules.shrink_m:
                placed = _shrunk(placed, self._rules.shrink_m, cell.scale)
            if self._rules.width_m:
                placed, which = _widened(placed, which, self._rules.width_m, cell.scale)
            numbers[cell.slices][cell.mine] = _burned(placed, which, here)[cell.mine]
        return numbers

    def _placed(self, geobox: GeoBox, wide: GeoBox) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """The geometries that touch a grid, in its CRS and cut to what lies around `wide`, and the number of each, ascending."""
        near = self._near(geobox)
        placed, which = onto_grid(self._geometries[near], self.crs, wide)
        return placed, near[which]

    def _near(self, geobox: GeoBox) -> NDArray[np.int64]:
        """Numbers of the features whose bounds touch what lies around a grid, ascending."""
        box = box_around(geobox, self.crs)
        if box is None:
            return np.arange(len(self._geometries))
        left, bottom, right, top = box
        width = world_width(self.crs)
        turns = (0.0,) if width is None else (-width, 0.0, width)
        found = self._tree.query([shapely.box(left + turn, bottom, right + turn, top) for turn in turns])
        return np.unique(found[1]).astype(np.int64)


def _burning_order(frame: GeoDataFrame, column: str | None, path: str | Path) -> NDArray[np.intp]:
    """Places of the features in the frame, the winners last."""
    if column is None:
        return np.arange(len(frame))
    names = [str(name) for name in frame.columns if name != frame.geometry.name]
    if column not in names:
        raise LabelError(f"no column {column!r} in {path} to order its features by; it has {', '.join(names) or 'no columns'}")
    values = _comparable(frame[column].reset_index(drop=True))
    if values is None:
        raise LabelError(f"column {column!r} of {path} holds text; expected numbers or dates, of which the greater wins: name another")
    return values.sort_values(kind="stable", na_position="first").index.to_numpy(dtype=np.intp)


def _comparable(values: Series[Any]) -> Series[Any] | None:
    """Numbers or moments, also where they are kept as text (dates as ISO 8601 has them); None for all else."""
    if is_numeric_dtype(values) or is_datetime64_any_dtype(values):
        return values
    texts: Series[Any] = values.map(str, na_action="ignore")
    try:
        return texts.astype("float64")
    except ValueError:
        pass
    try:
        return pandas.to_datetime(texts, format="ISO8601", utc=True)
    except ValueError:
        return None


def _burned(geometries: NDArray[Any], which: NDArray[np.int64], geobox: GeoBox) -> NDArray[np.int64]:
    """(row, col) the greatest number of the geometries that label each pixel, NO_FEATURE for none."""
    numbers = np.full(geobox.shape.yx, NO_FEATURE, dtype=np.int32)
    thin = shapely.get_dimensions(geometries) < 2
    for kind, passed in ((~thin, False), (thin, True)):
        some = kind & ~shapely.is_empty(geometries)
        if some.any():
            # GDAL's other way of burning lines depends on where they were cut.
            burned = rasterize(
                zip(geometries[some], which[some].tolist(), strict=True),
                geobox.shape.yx,
                fill=NO_FEATURE,
                transform=geobox.affine,
                all_touched=passed,
                dtype="int32",
            )
            np.maximum(numbers, burned, out=numbers)
    return numbers.astype(np.int64)


def _shrunk(geometries: NDArray[Any], metres: float, scale: NDArray[np.float64]) -> NDArray[Any]:
    """Polygons without `metres` of ground along their edges, perhaps empty; lines and points as they are."""
    areal = shapely.get_dimensions(geometries) == 2
    shrunk = geometries.copy()
    shrunk[areal] = buffered(geometries[areal], -metres, scale)
    return shrunk


def _widened(
    geometries: NDArray[Any], which: NDArray[np.int64], width_m: float, scale: NDArray[np.float64]
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """The geometries, and what lies within half of `width_m` of each line and point; and the number of each."""
    thin = shapely.get_dimensions(geometries) < 2
    return np.concatenate([geometries, buffered(geometries[thin], width_m / 2, scale)]), np.concatenate([which, which[thin]])
