"""Labels for training and evaluation: polygons with a class column, or a label raster, onto a scene's grid."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from affine import Affine
from geopandas import GeoDataFrame
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pandas import DataFrame
from rasterio.features import rasterize

from geoseg.errors import InputError, LabelError
from geoseg.ground import corners_to_map, distance_km, pixel_size_m
from geoseg.io.geotiff import file_geobox, footprint, read_raster
from geoseg.io.legends import NamedCode, Names, is_a_class, make_legend, names_in
from geoseg.io.ogr import pyogrio
from geoseg.io.opening import opened
from geoseg.io.vectors import onto_grid, read_features
from geoseg.legend import Legend

CLASS_COLUMNS = ("class_code", "class", "class_name", "label", "code")
"""Columns taken for the class where none is named, in this order."""

_SHOWN = 8
"""So many unknown classes are named in a message."""
_UNLABELLED, _STRANGE = -1, -2


def read_labels(
    path: str | Path, geobox: GeoBox, legend: Legend | None = None, class_column: str | None = None, *, shrink_m: float = 0.0
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Class indices (row, col) on the grid, 0 where there is no label, and (row, col) True where there is one.

    Polygons label the pixels whose centre they cover, lines and points those they pass; where features overlap, the later
    one in the file wins. `class_column` holds class codes or class names; None looks for one of CLASS_COLUMNS. Features
    whose class is null are no labels. A label raster holds codes in its first band and is read nearest. None as `legend`
    means `read_legend(path, class_column)`. Where a raster names its numbers, names go before codes. `shrink_m` takes so many metres
    from the edge of each polygon, where pixels are mixed.

    Raises LabelError where there is no file or no such column (naming those there are), where a class is not in the legend,
    and where nothing lies on the grid (saying how far away it is).
    """
    legend = legend if legend is not None else read_legend(path, class_column)
    labels = Labels(path, legend, class_column, shrink_m=shrink_m)
    labels.check_near(geobox)
    return labels.read(geobox)


class Labels:
    """Labels that are opened once and read piece by piece, by the rules of `read_labels`."""

    def __init__(self, path: str | Path, legend: Legend, class_column: str | None = None, *, shrink_m: float = 0.0) -> None:
        """Raises LabelError where there is no such file or column, or a vector file has a class that is not in `legend`.

        InputError for a negative `shrink_m`, and where a raster is to be shrunk.
        """
        self.path, self.legend, self._shrink_m = path, legend, shrink_m
        self._geometries: NDArray[Any] | None = None
        self._names: Names = {}
        if _is_vector(path):
            frame = _features(path)
            indices = _class_indices(frame, _class_column(frame, class_column, path), legend, path)
            labelled = indices != _UNLABELLED
            self._geometries, self._crs = frame.geometry.to_numpy()[labelled], frame.crs
            self._indices, self._columns = indices[labelled], frame.drop(columns=frame.geometry.name)[labelled]
        else:
            self._names = _raster_names(str(path))
        if shrink_m < 0:
            raise InputError(f"labels are to shrink by {shrink_m:g} m; expected 0 or more")
        if shrink_m and self._geometries is None:
            raise InputError(f"{path} is a raster, whose labels cannot shrink; leave shrink_labels_m out, or give polygons")

    def check_near(self, geobox: GeoBox) -> None:
        """Raise LabelError where nothing lies on the grid, saying how far away it is."""
        if self._geometries is None:
            _check_raster_near(str(self.path), geobox)
        elif not len(onto_grid(self._geometries, self._crs, geobox)[0]):
            far = (
                f"they lie about {distance_km(shapely.union_all(self._geometries), self._crs, geobox):,.0f} km away"
                if len(self._geometries)
                else "all classes are null"
            )
            raise LabelError(f"no label of {self.path} lies on the scene: {far}; give labels of this place")

    def read(self, geobox: GeoBox) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Class indices (row, col) on the grid, 0 where there is no label, and (row, col) True where there is one; perhaps nowhere.

        LabelError where a raster holds a code that is not in the legend.
        """
        if self._geometries is None:
            return _from_raster(str(self.path), geobox, self.legend, self._names)
        features = self.read_features(geobox)
        labelled = features >= 0
        return np.where(labelled, self._indices[np.maximum(features, 0)] if len(self._indices) else 0, 0), labelled

    @property
    def columns(self) -> DataFrame | None:
        """What the file says of each labelled feature, in the order of `read_features`' numbers; None for a raster."""
        return None if self._geometries is None else self._columns

    def read_features(self, geobox: GeoBox) -> NDArray[np.int64]:
        """(row, col) the number of the feature that labels each pixel, -1 for none; only of a vector file."""
        assert self._geometries is not None, "a raster has no features"
        placed, which = onto_grid(self._geometries, self._crs, geobox)
        if self._shrink_m:
            placed = _shrunk(placed, geobox, self._shrink_m)
            placed, which = placed[~shapely.is_empty(placed)], which[~shapely.is_empty(placed)]
        if not len(placed):
            return np.full(geobox.shape.yx, -1)
        shapes = zip(placed, (which + 1).tolist(), strict=True)
        burned = rasterize(shapes, out_shape=tuple(geobox.shape), transform=geobox.affine, dtype="int32").astype(np.int64)
        return np.asarray(burned - 1)


def _shrunk(geometries: NDArray[Any], geobox: GeoBox, metres: float) -> NDArray[Any]:
    """Polygons on a grid without `metres` of ground along their edges, perhaps empty; lines and points as they are."""
    down, across = pixel_size_m(geobox)
    to_metres = geobox.affine.scale(across, down) @ ~geobox.affine
    areal = shapely.get_dimensions(geometries) == 2
    shrunk = geometries.copy()
    on_ground = shapely.buffer(_transformed(geometries[areal], to_metres), -metres, join_style="mitre")
    shrunk[areal] = _transformed(on_ground, ~to_metres)
    return shrunk


def _transformed(geometries: NDArray[Any], affine: Affine) -> NDArray[Any]:
    moved: NDArray[Any] = shapely.transform(geometries, lambda xy: corners_to_map(affine, xy[:, 0], xy[:, 1]))
    return moved


def read_legend(path: str | Path, class_column: str | None = None) -> Legend:
    """The classes that a label file holds: names in alphabetical order with codes 0, 1, 2 …, or numbers as their own codes, by the
    names that a raster has for them.

    Raises LabelError where the file cannot be used or holds no label.
    """
    if _is_vector(path):
        frame = _features(path)
        found = set(_plain(frame[_class_column(frame, class_column, path)]))
    else:
        found = set(_raster_codes(str(path)))
    found.discard(None)
    if not found:
        raise LabelError(f"{path} holds no label; expected at least one class")
    if not all(isinstance(value, int) for value in found):
        return Legend.from_names(sorted(str(value) for value in found))
    codes = sorted(value for value in found if isinstance(value, int))
    if codes[0] < 0 or codes[-1] > np.iinfo(np.uint16).max:
        raise LabelError(f"{path} holds the class code {codes[0] if codes[0] < 0 else codes[-1]}; expected codes from 0 to 65535")
    stated = {} if _is_vector(path) else _raster_names(str(path))
    named = {code: stated.get(code, NamedCode(f"class {code}")) for code in codes}
    return make_legend({code: one for code, one in named.items() if is_a_class(one.name)}, nodata=None)


def _is_vector(path: str | Path) -> bool:
    file = str(path).partition("|layername=")[0]
    if not file.startswith("/vsi") and "://" not in file and not Path(file).exists():
        raise LabelError(f"no such file: {file}; expected labels as polygons with a class column, or a label raster")
    try:
        return len(pyogrio.list_layers(file)) > 0
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError):
        return False


def _features(path: str | Path) -> GeoDataFrame:
    try:
        return read_features(path, wanted="labelled polygons")
    except InputError as error:
        raise LabelError(str(error)) from error


def _class_column(frame: GeoDataFrame, named: str | None, path: str | Path) -> str:
    columns = [str(column) for column in frame.columns if column != frame.geometry.name]
    for column in CLASS_COLUMNS if named is None else (named,):
        if column in columns:
            return column
    missing = f"no class column {named!r}" if named is not None else f"no class column ({', '.join(CLASS_COLUMNS)})"
    raise LabelError(
        f"{missing} in {path}; it has {', '.join(columns) or 'no columns'}. Name the one that holds the class with -s class_column=NAME"
    )


def _plain(values: Iterable[Any]) -> list[int | str | None]:
    """Whole numbers as int, also where they are stored as text or floating point; other text stripped; missing ones None."""
    plain: list[int | str | None] = []
    for value in values:
        text = "" if value is None or value != value else str(value).strip()
        whole = text.removesuffix(".0")
        plain.append(int(whole) if whole.isdecimal() else text or None)
    return plain


def _class_indices(frame: GeoDataFrame, column: str, legend: Legend, path: str | Path) -> NDArray[np.int64]:
    """(feature,) index of each feature's class; _UNLABELLED where it is null."""
    known: dict[int | str | None, int] = {None: _UNLABELLED}
    known |= {item.code: item.index for item in legend.classes}
    known |= {value: item.index for item in legend.classes for value in _plain([item.name])}
    values = _plain(frame[column])
    if unknown := sorted({str(value) for value in values if value not in known}):
        more = f" and {len(unknown) - _SHOWN} more" if len(unknown) > _SHOWN else ""
        expected = ", ".join(f"{item.name} ({item.code})" for item in legend.classes)
        raise LabelError(
            f"{path} has classes that are not in the legend: {', '.join(unknown[:_SHOWN])}{more} in column {column!r}; expected {expected}"
        )
    return np.asarray([known[value] for value in values], dtype=np.int64)


def _check_raster_near(path: str, geobox: GeoBox) -> None:
    if not footprint(path, geobox).any():
        theirs = file_geobox(path)
        away = distance_km(shapely.box(*theirs.boundingbox.bbox), theirs.crs, geobox)
        raise LabelError(f"no label of {path} lies on the scene: they lie about {away:,.0f} km away; give labels of this place")


def _from_raster(path: str, geobox: GeoBox, legend: Legend, names: Names) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Where the raster names a number as the legend names a class, that is what it is, whatever the legend's own code."""
    raster = read_raster(path, [1], geobox, resampling="nearest")
    numbers, of_pixels = np.unique(raster.values[0], return_inverse=True)
    by_code = {one.code: one.index for one in legend.classes} | {legend.nodata: _UNLABELLED}
    by_name = {one.name.casefold(): one.index for one in legend.classes}
    by_code |= {code: by_name[one.name.casefold()] for code, one in names.items() if one.name.casefold() in by_name}
    by_code |= {code: _UNLABELLED for code, one in names.items() if not is_a_class(one.name)}
    indices = np.array([by_code.get(number, _STRANGE) for number in numbers.tolist()], dtype=np.int64)[of_pixels.reshape(geobox.shape.yx)]
    labelled = raster.valid[0] & (indices != _UNLABELLED)
    if strange := sorted(set(raster.values[0][labelled & (indices == _STRANGE)].tolist())):
        expected = ", ".join(f"{item.name} ({item.code})" for item in legend.classes)
        said = ", ".join(f"{names[code].name} ({code})" if code in names else f"{code:g}" for code in strange[:_SHOWN])
        raise LabelError(
            f"{path} has codes that are not in the legend: {said}; expected {expected}, or names of these classes for its own codes in a "
            "tag CLASS_NAMES, an attribute table or a .qml beside it"
        )
    return np.where(labelled, indices, 0), labelled


def _raster_names(path: str) -> Names:
    """What a raster says that its numbers are; empty where it says nothing."""
    with opened(path) as file:
        return names_in(file, path)


def _raster_codes(path: str) -> list[int]:
    raster = read_raster(path, [1], resampling="nearest")
    return [int(code) for code in np.unique(raster.values[0][raster.valid[0]])]
