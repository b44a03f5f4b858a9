"""Labelled features, found by place: a window of a scene is burned in milliseconds, also from a file of a million polygons."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

import numpy as np
import shapely
from affine import Affine
from geopandas import GeoDataFrame
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pandas import DataFrame, Series
from pandas.api.types import is_datetime64_any_dtype, is_numeric_dtype
from rasterio.features import rasterize

from geoseg.errors import LabelError
from geoseg.ground import corners_to_map, distance_km, pixel_size_m, world_width
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
        if len(self._placed(geobox)[0]):
            return
        everywhere = shapely.GeometryCollection(self._geometries.tolist())
        far = (
            f"they lie about {distance_km(everywhere, self.crs, geobox):,.0f} km away" if len(self._geometries) else "all classes are null"
        )
        raise LabelError(f"no label of {self.path} lies on the scene: {far}; give labels of this place")

    def burn(self, geobox: GeoBox) -> NDArray[np.int64]:
        """(row, col) the number of the feature that labels each pixel, NO_FEATURE for none.

        Polygons label the pixels whose centre they cover, lines and points those that they pass, as wide as the rules say.
        """
        placed, which = self._placed(geobox)
        if not len(placed):
            return np.full(geobox.shape.yx, NO_FEATURE)
        shapes = zip(placed, (which + 1).tolist(), strict=True)
        burned = rasterize(shapes, out_shape=tuple(geobox.shape), transform=geobox.affine, dtype="int32").astype(np.int64)
        return np.asarray(burned + NO_FEATURE)

    def _placed(self, geobox: GeoBox) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """The geometries that matter to a grid, in its CRS and as they are burned, and the number of each."""
        wide = _padded(geobox, self._rules.reach_m)
        near = self._near(wide)
        placed, which = onto_grid(self._geometries[near], self.crs, wide)
        which = near[which]
        if self._rules.shrink_m:
            placed = _shrunk(placed, geobox, self._rules.shrink_m)
        if self._rules.width_m:
            placed, which = _widened(placed, which, geobox, self._rules.width_m)
        some = ~shapely.is_empty(placed)
        return placed[some], which[some]

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
    values: Series[Any] = frame[column]
    if not (is_numeric_dtype(values) or is_datetime64_any_dtype(values)):
        raise LabelError(f"column {column!r} of {path} holds text; expected numbers or dates, of which the greater wins: name another")
    return values.reset_index(drop=True).sort_values(kind="stable", na_position="first").index.to_numpy(dtype=np.intp)


def _padded(geobox: GeoBox, metres: float) -> GeoBox:
    if not metres:
        return geobox
    down, across = (math.ceil(metres / size) + 1 for size in pixel_size_m(geobox))
    return geobox.pad(across, down)


def _shrunk(geometries: NDArray[Any], geobox: GeoBox, metres: float) -> NDArray[Any]:
    """Polygons on a grid without `metres` of ground along their edges, perhaps empty; lines and points as they are."""
    areal = shapely.get_dimensions(geometries) == 2
    shrunk = geometries.copy()
    shrunk[areal] = _buffered(geometries[areal], geobox, -metres, join_style="mitre")
    return shrunk


def _widened(geometries: NDArray[Any], which: NDArray[np.int64], geobox: GeoBox, width_m: float) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """The geometries, each line and point followed by what lies within half of `width_m` of it; and the number of each."""
    thin = shapely.get_dimensions(geometries) < 2
    around = _buffered(geometries[thin], geobox, width_m / 2, join_style="round")
    numbers = np.concatenate([np.arange(len(geometries)), np.flatnonzero(thin)])
    order = np.argsort(numbers, kind="stable")
    return np.concatenate([geometries, around])[order], which[numbers[order]]


def _buffered(geometries: NDArray[Any], geobox: GeoBox, metres: float, *, join_style: Literal["mitre", "round"]) -> NDArray[Any]:
    """Buffers in metres on the ground, by the size of the grid's middle pixel."""
    down, across = pixel_size_m(geobox)
    to_metres = geobox.affine.scale(across, down) @ ~geobox.affine
    on_ground = shapely.buffer(_transformed(geometries, to_metres), metres, join_style=join_style)
    return _transformed(on_ground, ~to_metres)


def _transformed(geometries: NDArray[Any], affine: Affine) -> NDArray[Any]:
    moved: NDArray[Any] = shapely.transform(geometries, lambda xy: corners_to_map(affine, xy[:, 0], xy[:, 1]))
    return moved
