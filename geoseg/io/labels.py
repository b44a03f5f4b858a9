"""Labels for training and evaluation: polygons with a class column, or a label raster, onto a scene's grid."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas
import shapely
from geopandas import GeoDataFrame
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pandas import DataFrame

from geoseg.errors import InputError, LabelError
from geoseg.ground import distance_km
from geoseg.io.geoparquet import is_geoparquet
from geoseg.io.geotiff import file_geobox, footprint, read_raster
from geoseg.io.label_features import NO_FEATURE, LabelFeatures
from geoseg.io.label_rules import LabelRules, plain_value
from geoseg.io.legends import NamedCode, Names, is_a_class, make_legend, names_in
from geoseg.io.ogr import pyogrio
from geoseg.io.opening import opened
from geoseg.io.postgis import is_database
from geoseg.io.vectors import read_features
from geoseg.legend import Legend

CLASS_COLUMNS = ("class_code", "class", "class_name", "label", "code")
"""Columns taken for the class where none is named, in this order."""

_SHOWN = 8
"""So many unknown classes are named in a message."""
_UNLABELLED, _STRANGE = -1, -2
_AS_THEY_ARE = LabelRules()


def read_labels(
    path: str | Path,
    geobox: GeoBox,
    legend: Legend | None = None,
    class_column: str | None = None,
    *,
    rules: LabelRules = _AS_THEY_ARE,
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Class indices (row, col) on the grid, 0 where there is no label, and (row, col) True where there is one.

    Polygons label the pixels whose centre they cover, lines and points those they pass; where features overlap, the later
    one in the file wins, unless the `rules` say otherwise. `class_column` holds class codes or class names; None looks for one of
    CLASS_COLUMNS. Features whose class is null are no labels. A label raster holds codes in its first band and is read nearest.
    None as `legend` means `read_legend(path, class_column, rules=rules)`. Where a raster names its numbers, names go before codes.

    Raises LabelError where there is no file or no such column (naming those there are), where a class is not in the legend,
    and where nothing lies on the grid (saying how far away it is).
    """
    legend = legend if legend is not None else read_legend(path, class_column, rules=rules)
    labels = Labels(path, legend, class_column, rules=rules)
    labels.check_near(geobox)
    return labels.read(geobox)


class Labels:
    """Labels that are opened once and read piece by piece, by the rules of `read_labels`."""

    def __init__(self, path: str | Path, legend: Legend, class_column: str | None = None, *, rules: LabelRules = _AS_THEY_ARE) -> None:
        """Raises LabelError where there is no such file or column, or a vector file has a class that is not in `legend`.

        InputError where the rules are for features and this is a raster.
        """
        self.path, self.legend, self._rules = path, legend, rules
        self._features: LabelFeatures | None = None
        self._names: Names = {}
        rules.check(legend)
        if _is_vector(path):
            frame = _read_frame(path)
            indices = _class_indices(frame, _class_column(frame, class_column, path), legend, rules, path)
            self._features = LabelFeatures(frame, indices, rules, path)
            return
        self._names = _raster_names(str(path))
        if rules.shrink_m:
            raise InputError(f"{path} is a raster, whose labels cannot shrink; leave shrink_labels_m out, or give polygons")
        if rules.width_m:
            raise InputError(f"{path} is a raster, which has no lines or points to widen; leave label_width_m out, or give features")
        if rules.order_column is not None:
            raise InputError(f"{path} is a raster, which has no column {rules.order_column!r}; leave the order out, or give features")

    def check_near(self, geobox: GeoBox) -> None:
        """Raise LabelError where nothing lies on the grid, saying how far away it is."""
        if self._features is None:
            _check_raster_near(str(self.path), geobox)
        else:
            self._features.check_near(geobox)

    def read(self, geobox: GeoBox) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Class indices (row, col) on the grid, 0 where there is no label, and (row, col) True where there is one; perhaps nowhere.

        LabelError where a raster holds a code that is not in the legend.
        """
        if self._features is None:
            return _from_raster(str(self.path), geobox, self.legend, self._names, self._rules)
        numbers = self._features.burn(geobox)
        labelled = numbers != NO_FEATURE
        indices = np.zeros(numbers.shape, dtype=np.int64)
        indices[labelled] = self._features.indices[numbers[labelled]]
        return indices, labelled

    def read_plane(self, geobox: GeoBox, *, strip: int = 1024) -> NDArray[np.int16]:
        """(row, col) class indices, -1 where there is no label: as `read`, in a tenth of the memory, window by window of `strip` pixels."""
        rows, cols = geobox.shape
        plane = np.empty((rows, cols), dtype=np.int16)
        for top in range(0, rows, strip):
            for left in range(0, cols, strip):
                piece = slice(top, min(top + strip, rows)), slice(left, min(left + strip, cols))
                indices, labelled = self.read(geobox[piece])
                plane[piece] = np.where(labelled, indices, -1)
        return plane

    @property
    def columns(self) -> DataFrame | None:
        """What the file says of each labelled feature, in the order of `read_features`' numbers; None for a raster."""
        return None if self._features is None else self._features.columns

    def read_features(self, geobox: GeoBox) -> NDArray[np.int64]:
        """(row, col) the number of the feature that labels each pixel, -1 for none; only of a vector file."""
        assert self._features is not None, "a raster has no features"
        return self._features.burn(geobox)


def read_legend(path: str | Path, class_column: str | None = None, *, rules: LabelRules = _AS_THEY_ARE) -> Legend:
    """The classes that a label file holds: names in alphabetical order with codes 0, 1, 2 …, or numbers as their own codes, by the
    names that a raster has for them; what `rules.classes` renames, by its new name.

    Raises LabelError where the file cannot be used or holds no label.
    """
    if _is_vector(path):
        frame = _read_frame(path)
        found = set(rules.renamed(frame[_class_column(frame, class_column, path)].unique()))
    else:
        found = set(rules.renamed(_raster_codes(str(path))))
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
    if is_database(file) or is_geoparquet(file):
        return True
    if not file.startswith("/vsi") and "://" not in file and not Path(file).exists():
        raise LabelError(f"no such file: {file}; expected labels as polygons with a class column, or a label raster")
    try:
        return len(pyogrio.list_layers(file)) > 0
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError):
        return False


def _read_frame(path: str | Path) -> GeoDataFrame:
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


def _class_indices(frame: GeoDataFrame, column: str, legend: Legend, rules: LabelRules, path: str | Path) -> NDArray[np.int64]:
    """(feature,) index of each feature's class; _UNLABELLED where it is null."""
    known: dict[int | str | None, int] = {None: _UNLABELLED}
    known |= {item.code: item.index for item in legend.classes}
    known |= {plain_value(item.name): item.index for item in legend.classes}
    places, said = pandas.factorize(frame[column], use_na_sentinel=False)  # (feature,) place of its value among the different ones
    values = rules.renamed(said)
    if unknown := sorted({str(value) for value in values if value not in known}):
        more = f" and {len(unknown) - _SHOWN} more" if len(unknown) > _SHOWN else ""
        expected = ", ".join(f"{item.name} ({item.code})" for item in legend.classes)
        raise LabelError(
            f"{path} has classes that are not in the legend: {', '.join(unknown[:_SHOWN])}{more} in column {column!r}; expected {expected}"
        )
    return np.asarray([known[value] for value in values], dtype=np.int64)[places]


def _check_raster_near(path: str, geobox: GeoBox) -> None:
    if not footprint(path, geobox).any():
        theirs = file_geobox(path)
        away = distance_km(shapely.box(*theirs.boundingbox.bbox), theirs.crs, geobox)
        raise LabelError(f"no label of {path} lies on the scene: they lie about {away:,.0f} km away; give labels of this place")


def _from_raster(path: str, geobox: GeoBox, legend: Legend, names: Names, rules: LabelRules) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Where the raster names a number as the legend names a class, that is what it is, whatever the legend's own code; but what the
    rules say of a number, or of its name, goes first.
    """
    raster = read_raster(path, [1], geobox, resampling="nearest")
    numbers, of_pixels = np.unique(raster.values[0], return_inverse=True)
    by_code: dict[float, int] = {one.code: one.index for one in legend.classes}
    by_code[legend.nodata] = _UNLABELLED
    by_name = {one.name.casefold(): one.index for one in legend.classes}
    by_code |= {code: by_name[one.name.casefold()] for code, one in names.items() if one.name.casefold() in by_name}
    by_code |= {code: _UNLABELLED for code, one in names.items() if not is_a_class(one.name)}
    by_code |= _ruled(numbers.tolist(), names, legend, rules)
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


def _ruled(numbers: list[float], names: Names, legend: Legend, rules: LabelRules) -> dict[float, int]:
    """Index of the class for each number of a raster that the rules name, by the number itself before its name."""
    classes: dict[int | str | None, int] = {None: _UNLABELLED}
    classes |= {item.code: item.index for item in legend.classes}
    classes |= {plain_value(item.name): item.index for item in legend.classes}
    said = {plain_value(value): classes[plain_value(means)] for value, means in rules.classes.items()}
    known = ((number, plain_value(number), names.get(int(number)) if math.isfinite(number) else None) for number in numbers)
    found: dict[float, int] = {}
    for number, plain, named in known:
        if plain in said:
            found[number] = said[plain]
        elif named is not None and plain_value(named.name) in said:
            found[number] = said[plain_value(named.name)]
    return found


def _raster_names(path: str) -> Names:
    """What a raster says that its numbers are; empty where it says nothing."""
    with opened(path) as file:
        return names_in(file, path)


def _raster_codes(path: str) -> list[int]:
    raster = read_raster(path, [1], resampling="nearest")
    return [int(code) for code in np.unique(raster.values[0][raster.valid[0]])]
