"""Two class maps on one grid: where they overlap, and the class of each pixel in both, window by window."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.enums import Resampling

from geoseg.errors import InputError, SceneError
from geoseg.ground import distance_km, outline, pixel_size_m
from geoseg.io.class_maps import NOT_OBSERVED, UNNAMED, ClassMap, open_class_map, read_class_indices
from geoseg.io.geotiff import footprint, read_raster
from geoseg.io.legends import is_a_class
from geoseg.io.opening import opened
from geoseg.io.resample import NOWHERE, Placement
from geoseg.legend import LegendClass
from geoseg.maps.map_results import MapResult, open_map_results
from geoseg.preprocess.quality import Reason
from geoseg.sensors import Band

_REASON = {1: Band("reason", "reason", unit="class")}
_LOOK_PIXELS = 512
_SAME_SIZE = 0.01
_SHOWN = 8


@dataclass(frozen=True)
class Classes:
    """The class names of both maps, those of the first one before those that only the second one has."""

    names: tuple[str, ...]
    colours: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True)
class Side:
    """One of two maps that are compared, and where it says why it has no class."""

    what: str
    """`BEFORE` or `AFTER`, for messages."""
    result: MapResult
    reason: Path | None
    unnamed: set[int] = field(default_factory=set)
    """Numbers without a name that were met while reading."""

    @property
    def map(self) -> ClassMap:
        """The class map."""
        return self.result.classes

    @property
    def classes(self) -> tuple[LegendClass, ...]:
        """Those of the legend that say what is there."""
        return tuple(one for one in self.map.legend.classes if is_a_class(one.name))

    def read(self, geobox: GeoBox, order: Classes) -> NDArray[np.int32]:
        """(row, col) place in `order` of each pixel's class, -1 where the map does not say what is there."""
        indices = read_class_indices(self.map, geobox)
        if (indices == UNNAMED).any():
            self._note_unnamed(geobox, indices == UNNAMED)
        place = {name.casefold(): at for at, name in enumerate(order.names)}
        legend = [place.get(one.name.casefold(), NOT_OBSERVED) for one in self.map.legend.classes]
        known = np.where(indices >= 0, np.array(legend, np.int32)[np.maximum(indices, 0)], NOT_OBSERVED).astype(np.int32)
        if self.reason is not None:
            reasons = read_raster(str(self.reason), _REASON, geobox, resampling="nearest")
            known[(reasons.values[0] != Reason.OBSERVED) | ~reasons.valid[0]] = NOT_OBSERVED
        return known

    def _note_unnamed(self, geobox: GeoBox, where: NDArray[np.bool_]) -> None:
        if len(self.unnamed) < _SHOWN:
            stored = read_raster(self.map.path, {1: Band("class", "class", unit="class")}, geobox, resampling="nearest").values[0]
            self.unnamed.update(int(code) for code in np.unique(stored[where])[:_SHOWN])


@dataclass(frozen=True)
class Pair:
    """Two maps of overlapping ground."""

    before: Side
    after: Side

    @cached_property
    def classes(self) -> Classes:
        """Matched by name, whatever their codes; upper and lower case are one. InputError where no name stands in both."""
        first, second = self.before.classes, self.after.classes
        mine = {one.name.casefold() for one in first}
        new = [one for one in second if one.name.casefold() not in mine]
        if len(new) == len(second):
            raise InputError(
                f"{self.before.map.path} has the classes {_listed(first)} and {self.after.map.path} has {_listed(second)}: none in common; "
                "classes are matched by name, so give maps of one legend, or rename the classes of one with --legend"
            )
        both = (*first, *new)
        return Classes(tuple(one.name for one in both), tuple(one.colour for one in both))

    @cached_property
    def finer(self) -> Side:
        """The map whose grid both are compared on: the one with the smaller pixels, of equals BEFORE."""
        sizes = [np.prod(pixel_size_m(side.map.geobox)) for side in (self.before, self.after)]
        return self.after if sizes[1] < sizes[0] * (1 - _SAME_SIZE) else self.before

    @cached_property
    def geobox(self) -> GeoBox:
        """The grid of the finer map, cut to where both overlap. SceneError where they do not, with the distance."""
        grid, other = self.finer.map.geobox, (self.after if self.finer is self.before else self.before).map
        rows, cols = _overlap(grid, other.geobox)
        if rows.start >= rows.stop or cols.start >= cols.stop:
            away = distance_km(shapely.box(*other.geobox.boundingbox.bbox), other.geobox.crs, grid)
            raise SceneError(
                f"{self.before.map.path} and {self.after.map.path} do not overlap: they lie about {away:,.0f} km apart; "
                "give two maps of one place"
            )
        return grid[rows, cols]

    @cached_property
    def aligned(self) -> bool:
        """Whether both maps have the very same pixels."""
        return Placement(self.before.map.geobox, self.after.map.geobox).shift is not None

    def inside(self, geobox: GeoBox) -> NDArray[np.bool_]:
        """(row, col) True where both maps reach, whether they know what is there or not."""
        return footprint(self.before.map.path, geobox) & footprint(self.after.map.path, geobox)

    def read(self, geobox: GeoBox) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """(row, col) of BEFORE and of AFTER: the class's place in `classes`, or -1 where that map does not know it."""
        return self.before.read(geobox, self.classes), self.after.read(geobox, self.classes)

    def how_they_lie(self) -> str | None:
        """How the grids differ, in words; None where they are one."""
        if self.aligned:
            return None
        finer, other = self.finer, self.after if self.finer is self.before else self.before
        placement = Placement(other.map.geobox, finer.map.geobox)
        if not placement.same_crs:
            return f"{other.what} lies in another CRS than {finer.what}"
        if not placement.separable or max(abs(size - 1) for size in placement.coarseness) > 1e-6:
            return f"{other.what} has other pixels than {finer.what}"
        row, col = (abs(place.ravel()[0] % 1 - 0.5) for place in placement(np.array([[0.5]]), np.array([[0.5]])))
        return f"the pixels of {other.what} are shifted by {row:.2g} x {col:.2g} of a pixel against those of {finer.what}"


def open_side(what: str, path: str | Path, *, legend: str | Path | None = None, reason: str | Path | None = None) -> Side:
    """BEFORE or AFTER: a folder with one map, its Item, or any class GeoTIFF. The reason layer is that beside it unless one is named."""
    if legend is not None and Path(path).is_file() and Path(path).suffix.lower() != ".json":
        result = MapResult(Path(path).stem, open_class_map(path, legend=legend))
    else:
        found = open_map_results(path)
        if len(found) > 1:
            raise InputError(
                f"{path} holds several maps: {', '.join(one.path.name for one in found)}; give the file of the one that is meant"
            )
        result = found[0]
    if reason is not None:
        _check_reason(str(reason), what)
    return Side(what, result, Path(reason) if reason is not None else result.reason)


def one_pixel_around(geobox: GeoBox) -> GeoBox:
    """The grid with one more row and column on every side."""
    rows, cols = geobox.shape
    return GeoBox((rows + 2, cols + 2), geobox.affine @ Affine.translation(-1, -1), geobox.crs)


def _check_reason(path: str, what: str) -> None:
    """Refuse a file that holds no reasons as geoseg writes them."""
    option = f"--reason-{what.lower()}"
    with opened(path) as file:
        shape = (min(file.height, _LOOK_PIXELS), min(file.width, _LOOK_PIXELS))
        seen = np.unique(file.read(1, out_shape=shape, resampling=Resampling.nearest)) if file.count == 1 else np.array([-1])
    if not np.isin(seen, [*Reason, 255]).all():
        raise SceneError(f"{path} holds numbers that are no reasons; expected for {option} a _reason.tif that geoseg predict wrote")


def _overlap(grid: GeoBox, other: GeoBox) -> tuple[slice, slice]:
    """Rows and columns of `grid` around the ground of `other`; all where its outline tells nothing."""
    back = Placement(grid, other)
    to_pixels, (x, y) = ~other.affine, outline(other).T
    edge = to_pixels.d * x + to_pixels.e * y + to_pixels.f, to_pixels.a * x + to_pixels.b * y + to_pixels.c
    row, col = back(*edge) if not back.separable else _separate(back, other)
    known = (row > NOWHERE) & (col > NOWHERE)
    if not known.any():
        return slice(0, grid.shape[0]), slice(0, grid.shape[1])
    rows, cols = (
        slice(max(0, int(np.floor(place.min() + _ROUNDING))), min(size, int(np.ceil(place.max() - _ROUNDING))))
        for place, size in ((row[known], grid.shape[0]), (col[known], grid.shape[1]))
    )
    return rows, cols


_ROUNDING = 1e-6


def _separate(back: Placement, other: GeoBox) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Places of the two opposite corners, where rows and columns are separate."""
    row, col = back(np.array([[0.0], [other.shape[0]]]), np.array([[0.0, other.shape[1]]]))
    return row.ravel(), col.ravel()


def _listed(classes: tuple[LegendClass, ...]) -> str:
    names = [one.name for one in classes]
    return ", ".join(names[:_SHOWN]) + (" …" if len(names) > _SHOWN else "")
