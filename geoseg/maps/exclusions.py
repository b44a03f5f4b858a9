"""Ground that a comparison leaves out: inside polygons, where a raster says so, on steep slopes, in layover and radar shadow."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from shapely.geometry.base import BaseGeometry

from geoseg.errors import InputError, LabelError, SceneError
from geoseg.io.class_maps import ClassMap, open_class_map, read_class_indices
from geoseg.io.geotiff import footprint, read_raster
from geoseg.io.ogr import pyogrio
from geoseg.io.opening import file_geobox
from geoseg.io.vectors import burn_area, read_area
from geoseg.layers.terrain import terrain_raster
from geoseg.maps.names import find_name
from geoseg.preprocess.quality import Reason, quality_reasons
from geoseg.sensors import SENSORS, Band, QualityTable

_EXPECTED = "expected polygons, a raster, FILE:CLASS of a class map, or slope>DEGREES"
_COMPARE: Mapping[str, Callable[[NDArray[np.generic], float], NDArray[np.bool_]]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}
_BAND = Band("exclusion", "exclusion", unit="class")
_RADAR_MASKS = ((r"(?i)_ls_map$", "hyp3-rtc-s1"), (r"(?i)^opera_l2_rtc.*_mask$", "opera-rtc-s1"))
"""How the layover and shadow masks of products are called, and the sensor whose quality table reads them."""
_LOOK_PIXELS = 256


class Exclusion(Protocol):
    """Some ground that is left out."""

    @property
    def text(self) -> str:
        """As the user named it."""

    def mask(self, geobox: GeoBox) -> NDArray[np.bool_]:
        """(row, col) True where the pixel is left out."""


def open_exclusions(words: Sequence[str], geobox: GeoBox, *, dem: str | Path | None = None) -> tuple[Exclusion, ...]:
    """What `--exclude` names, each ready to be asked for windows of `geobox`.

    Polygons exclude what lies inside; a raster where it holds data other than 0; a class map the classes named behind its path
    (`map.tif:water,ice`); layover and shadow masks by the codes of their product; `slope>15` by a DEM, in degrees.
    InputError or SceneError for what cannot be read, is unclear, or where the DEM does not cover the grid.
    """
    if dem is not None and not any(re.match(r"\s*slope", word) for word in words):
        raise InputError("--dem was given, but nothing to exclude by it; add for example --exclude 'slope>15'")
    return tuple(_open(word, geobox, dem) for word in words)


def _open(word: str, geobox: GeoBox, dem: str | Path | None) -> Exclusion:
    if not _exists(word) and (rule := re.fullmatch(r"\s*(\w+)\s*([<>]=?)(.*)", word)):
        return _slope(word, rule, geobox, dem)
    file, colon, classes = (word, "", "") if _exists(word) else word.rpartition(":")
    if not file or not _exists(file):
        raise InputError(f"no such file to exclude: {word}; {_EXPECTED}")
    if _is_vector(file):
        return _Polygons(word, read_area(file, geobox.crs, near=geobox, must_touch=False))
    if colon:
        return _classes_named(word, file, classes)
    for pattern, sensor in _RADAR_MASKS:
        table = SENSORS[sensor].quality
        if re.search(pattern, Path(file).stem) and table is not None:
            return _RadarMask(word, file, table)
    return _raster(word, file)


def _exists(word: str) -> bool:
    path = word.partition("|layername=")[0]
    return path.startswith("/vsi") or "://" in path or Path(path).exists()


def _is_vector(path: str) -> bool:
    try:
        return len(pyogrio.list_layers(path.partition("|layername=")[0])) > 0
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError):
        return False


# ---------------------------------------------------------------- below: the kinds


@dataclass(frozen=True)
class _Polygons:
    text: str
    area: BaseGeometry

    def mask(self, geobox: GeoBox) -> NDArray[np.bool_]:
        return burn_area(self.area, geobox)


@dataclass(frozen=True)
class _Raster:
    """Data other than 0."""

    text: str
    path: str

    def mask(self, geobox: GeoBox) -> NDArray[np.bool_]:
        raster = read_raster(self.path, {1: _BAND}, geobox, resampling="nearest")
        return np.asarray(raster.valid[0] & (raster.values[0] != 0))


@dataclass(frozen=True)
class _Classes:
    """Some classes of a class map."""

    text: str
    map: ClassMap
    indices: tuple[int, ...]

    def mask(self, geobox: GeoBox) -> NDArray[np.bool_]:
        return np.isin(read_class_indices(self.map, geobox), self.indices)


@dataclass(frozen=True)
class _RadarMask:
    """Layover and shadow as the table of a product reads them."""

    text: str
    path: str
    table: QualityTable

    def mask(self, geobox: GeoBox) -> NDArray[np.bool_]:
        raster = read_raster(self.path, {1: _BAND}, geobox, resampling="nearest")
        reasons = quality_reasons(raster.values, self.table, ("layover", "radar_shadow"))
        return np.asarray(raster.valid[0] & (reasons != Reason.OBSERVED))


@dataclass(frozen=True)
class _Slope:
    """Ground steeper (or flatter) than a limit, and ground whose slope the DEM does not tell."""

    text: str
    dem: str
    compare: str
    limit: float

    def mask(self, geobox: GeoBox) -> NDArray[np.bool_]:
        slope = terrain_raster(self.dem, "slope", geobox)
        return np.asarray(~slope.valid[0] | _COMPARE[self.compare](slope.values[0], self.limit))


def _slope(word: str, rule: re.Match[str], geobox: GeoBox, dem: str | Path | None) -> _Slope:
    quantity, compare, limit = rule.groups()
    try:
        degrees = float(limit)
    except ValueError:
        degrees = float("nan")
    if quantity != "slope" or not 0 <= degrees < 90:
        raise InputError(f"--exclude {word!r} is no rule; expected slope and a limit from 0 to 90 degrees, such as 'slope>15'")
    if dem is None:
        raise InputError(f"--exclude {word!r} needs heights; name the elevation model with --dem FILE")
    file_geobox(str(dem))
    rows, cols = geobox.shape
    covered = float(footprint(str(dem), geobox.zoom_to((min(rows, _LOOK_PIXELS), min(cols, _LOOK_PIXELS)))).mean())
    if covered < 1:
        raise SceneError(f"{dem} covers {100 * covered:.0f} % of the ground that both maps show; give an elevation model of all of it")
    return _Slope(word, str(dem), compare, degrees)


def _classes_named(word: str, file: str, names: str) -> _Classes:
    classes = open_class_map(file)
    by_name = {one.name: one.index for one in classes.legend.classes}
    found = [by_name[find_name(name.strip(), by_name, f"class of {file}")] for name in names.split(",")]
    return _Classes(word, classes, tuple(found))


def _raster(word: str, file: str) -> Exclusion:
    """Any raster; of a class map with several classes the user must say which."""
    file_geobox(file)  # says what is wrong with a file that cannot be used
    try:
        legend = open_class_map(file).legend
    except LabelError:
        return _Raster(word, file)
    shown = [one.name for one in legend.classes if one.code != 0 and not one.background]
    if len(shown) > 1:
        raise InputError(f"{file} is a map of several classes; say which to exclude, such as --exclude '{file}:{shown[0]}'")
    return _Raster(word, file)
