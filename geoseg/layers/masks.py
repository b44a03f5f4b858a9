"""Masks from elsewhere: a raster or polygons that say where a scene is not to be believed, beside the scene's own quality layer."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from shapely.geometry.base import BaseGeometry

from geoseg.errors import InputError, LabelError, SceneError
from geoseg.io.class_maps import open_class_map
from geoseg.io.file_bands import sample_pixels
from geoseg.io.geotiff import Resampling, footprint, read_raster, unreadable
from geoseg.io.opening import file_geobox, opened
from geoseg.io.vectors import burn_area, read_area
from geoseg.legend import Legend
from geoseg.preprocess.quality import DEFAULT_MASK_CLASSES, Reason, quality_reasons
from geoseg.raster import Raster
from geoseg.scene import Layer, Scene, quality_roles
from geoseg.sensors import Band, QualityClass

MASK = "mask"
"""Role of the layer that `with_mask` adds."""

_BAND = Band("mask", MASK, unit="class")
_VECTORS = (".gpkg", ".geojson", ".json", ".shp", ".fgb", ".parquet", ".kml", ".gml", ".zip")
_COMPARE: Mapping[str, Callable[[Any, Any], Any]] = {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le}
_NAMED = (
    (r"shadow", Reason.CLOUD_SHADOW),
    (r"cirrus", Reason.CIRRUS),
    (r"cloud|haze", Reason.CLOUD),
    (r"no ?data|fill|defective", Reason.NO_DATA),
)
"""Class names of a mask, in the order in which they are tried, and what such ground is."""
_CLEAR_NAME = r"(?i)\b(clear|no|not|free|without|background|valid|observed)\b|cloud.?free|\bnon"
_SAMPLE_SIDE = 256


def with_mask(scene: Scene, path: str | Path, *, values: str | None = None) -> Scene:
    """The scene with a mask file as one more reason to leave ground out of a map.

    Polygons mask what lies inside. A raster that names its classes masks what is called cloud, shadow, cirrus or no data; one of
    two numbers masks the one that is not 0; any other needs `values`: the numbers that mask, such as `3,8,9`, or a threshold
    such as `>40`. It may have a grid and a CRS of its own and is read by the nearest pixel; where it says nothing, nothing is known
    of the ground. InputError or SceneError where the file, its place or its meaning is unclear.
    """
    grid = scene.geobox()
    reader = _polygons(path, values, grid) if str(path).lower().endswith(_VECTORS) else _raster(path, values)
    covered = float(reader.footprint(_thumbnail(grid)).mean())
    if covered == 0:
        raise SceneError(f"the mask {path} does not lie on {scene.source}; give the mask of this scene")
    told = scene.warnings
    if covered < 1 - 1 / _SAMPLE_SIDE:
        told = (*told, f"the mask {path} covers {100 * covered:.0f} % of the scene; the rest counts as not observed.")
    layer = Layer(_BAND, str(path), 1, f"mask file: {reader.rule}", reader, added=True)
    return replace(scene, layers=(*scene.layers, layer), warnings=told)


def mask_roles(scene: Scene, classes: Sequence[QualityClass] = DEFAULT_MASK_CLASSES) -> tuple[str, ...]:
    """The roles to read for `scene_reasons`: quality layers, if they are to mask any class, and a mask from elsewhere."""
    return (*(quality_roles(scene) if classes else ()), *((MASK,) if MASK in scene.roles else ()))


def scene_reasons(raster: Raster, scene: Scene, classes: Sequence[QualityClass] = DEFAULT_MASK_CLASSES) -> NDArray[np.uint8]:
    """(row, col) `Reason` of each pixel of a raster that holds `mask_roles`: OBSERVED, or why not.

    The quality layers mask `classes`; a mask from elsewhere always masks, where the quality layers let a pixel pass.
    """
    reasons = np.full(raster.geobox.shape, Reason.OBSERVED, np.uint8)
    if (quality := quality_roles(scene)) and classes and scene.sensor.quality is not None:
        reasons = quality_reasons(raster.select(*quality), scene.sensor.quality, classes)
    if MASK in scene.roles:
        plane = raster.index(MASK)
        masked = np.where(raster.valid[plane], raster.values[plane], Reason.NO_DATA).astype(np.uint8)
        reasons = np.where(reasons == Reason.OBSERVED, masked, reasons)
    return reasons


def masking_names(legend: Legend) -> tuple[str, ...]:
    """The names of the classes that mask, as `with_mask` reads them."""
    return tuple(one.name for one in legend.classes if _reason_named(one.name) != Reason.OBSERVED)


# ---------------------------------------------------------------- below: the two kinds of file


@dataclass(frozen=True)
class _RasterMask:
    """A raster whose numbers say what is masked."""

    path: str
    rule: str
    """How the numbers are read, for people."""
    reason_of: Callable[[NDArray[Any]], NDArray[np.uint8]]
    zero_is_clear: bool = False
    """A file may declare 0 as nodata and mean clear ground by it."""

    def geobox(self) -> GeoBox:
        return file_geobox(self.path)

    def read(self, bands: Mapping[int, Band], geobox: GeoBox, *, resampling: Resampling) -> Raster:
        raster = read_raster(self.path, bands, geobox, resampling="nearest")
        valid = (self.footprint(geobox) & ~unreadable(self.path, geobox))[np.newaxis] if self.zero_is_clear else raster.valid
        reasons = np.where(valid, self.reason_of(raster.values), 0).astype(np.uint8)
        return replace(raster, values=reasons, valid=valid)

    def footprint(self, geobox: GeoBox) -> NDArray[np.bool_]:
        return footprint(self.path, geobox)


@dataclass(frozen=True)
class _PolygonMask:
    """Polygons that mask what lies inside; elsewhere all is clear."""

    path: str
    grid: GeoBox
    """The scene's: polygons have none of their own."""
    rule: str = "inside its polygons"

    @cached_property
    def _areas(self) -> dict[str, BaseGeometry]:
        """CRS → the union of the polygons there."""
        return {}

    def geobox(self) -> GeoBox:
        return self.grid

    def read(self, bands: Mapping[int, Band], geobox: GeoBox, *, resampling: Resampling) -> Raster:
        crs = str(geobox.crs)
        if crs not in self._areas:
            self._areas[crs] = read_area(self.path, geobox.crs)
        reasons = np.where(burn_area(self._areas[crs], geobox), Reason.CLOUD, Reason.OBSERVED).astype(np.uint8)
        return Raster(reasons[np.newaxis], np.ones((1, *reasons.shape), dtype=bool), geobox, tuple(bands.values()))

    def footprint(self, geobox: GeoBox) -> NDArray[np.bool_]:
        return np.ones(geobox.shape, dtype=bool)


def _polygons(path: str | Path, values: str | None, grid: GeoBox) -> _PolygonMask:
    if values is not None:
        raise InputError(f"--mask-values is for rasters, and {path} holds polygons; leave it out")
    if not Path(path).is_file():
        raise InputError(f"no such file: {path}; check the path of --mask")
    return _PolygonMask(str(path), grid)


def _raster(path: str | Path, values: str | None) -> _RasterMask:
    file_geobox(str(path))  # says what is wrong with a file that cannot be used
    if values is not None:
        return _RasterMask(str(path), f"values {values}", _by_values(values))
    if by_code := _by_names(path):
        codes = np.array(sorted(by_code))
        return _RasterMask(str(path), "its class names", lambda stored: _looked_up(stored, codes, by_code))
    seen = np.unique(sample_pixels(str(path), 1))
    if len(seen[seen != 0]) > 1 or not np.isfinite(seen).all():
        raise InputError(
            f"{path} holds numbers from {np.nanmin(seen):g} to {np.nanmax(seen):g} and does not say which of them mask; "
            "name them with --mask-values, such as 3,8,9 or '>40'"
        )
    return _RasterMask(str(path), "everything but 0", _not_zero, zero_is_clear=_nodata(path) == 0)


def _not_zero(stored: NDArray[Any]) -> NDArray[np.uint8]:
    return np.where(stored != 0, Reason.CLOUD, Reason.OBSERVED).astype(np.uint8)


def _nodata(path: str | Path) -> float | None:
    with opened(str(path)) as file:
        nodata: float | None = file.nodatavals[0]
        return nodata


def _by_values(text: str) -> Callable[[NDArray[Any]], NDArray[np.uint8]]:
    """The rule in words such as `3,8,9` or `>40`."""
    number = r"-?\d+(?:\.\d+)?"
    if match := re.fullmatch(rf"\s*([<>]=?)\s*({number})\s*", text):
        compare, limit = _COMPARE[match[1]], float(match[2])
        return lambda stored: np.where(compare(stored, limit), Reason.CLOUD, Reason.OBSERVED).astype(np.uint8)
    if not re.fullmatch(rf"\s*{number}(\s*,\s*{number})*\s*", text):
        raise InputError(f"--mask-values is {text!r}; expected numbers such as 3,8,9, or a threshold such as '>40'")
    numbers = [float(word) for word in text.split(",")]
    return lambda stored: np.where(np.isin(stored, numbers), Reason.CLOUD, Reason.OBSERVED).astype(np.uint8)


def _by_names(path: str | Path) -> dict[int, Reason]:
    """Code → what its name says of the ground; empty where the file names no classes, or none that masks."""
    try:
        legend = open_class_map(path).legend
    except LabelError:
        return {}
    found = {one.code: _reason_named(one.name) for one in legend.classes}
    return found if set(found.values()) != {Reason.OBSERVED} else {}


def _reason_named(name: str) -> Reason:
    if not re.search(_CLEAR_NAME, name) or re.search(r"(?i)no ?data", name):
        for pattern, reason in _NAMED:
            if re.search(rf"(?i){pattern}", name):
                return reason
    return Reason.OBSERVED


def _looked_up(stored: NDArray[Any], codes: NDArray[np.int64], by_code: Mapping[int, Reason]) -> NDArray[np.uint8]:
    """The reason of each code; OBSERVED for numbers that are no code."""
    table = np.array([by_code[int(code)] for code in codes], np.uint8)
    at = np.clip(np.searchsorted(codes, stored), 0, len(codes) - 1)
    return np.where(codes[at] == stored, table[at], Reason.OBSERVED).astype(np.uint8)


def _thumbnail(geobox: GeoBox) -> GeoBox:
    rows, cols = geobox.shape
    return geobox.zoom_to((min(rows, _SAMPLE_SIDE), min(cols, _SAMPLE_SIDE)))
