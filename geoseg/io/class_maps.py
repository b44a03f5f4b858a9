"""Class maps as files: a raster of codes with its legend, written with all that shows it, read also where others made it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.enums import ColorInterp
from rasterio.io import DatasetReader
from rasterio.windows import Window

from geoseg.errors import LabelError
from geoseg.ground import pixel_areas_m2
from geoseg.io.categories import category_tags, write_categories
from geoseg.io.cog import write_cog
from geoseg.io.geotiff import read_raster
from geoseg.io.legends import NamedCode, Names, is_a_class, make_legend, names_in, names_of_table
from geoseg.io.opening import dataset_geobox, gdal_env, opened
from geoseg.io.qgis import write_style
from geoseg.io.qgis_styles import classes_qml
from geoseg.legend import Legend
from geoseg.sensors import Band

NOT_OBSERVED, UNNAMED = -1, -2
"""Stand for the index of a class where there is none: no data, and a number without a name."""

_AREA_SIDE = 512
_LOOK_PIXELS = 512
_BAND = Band("class", "class", unit="class")
_LEGEND_FILES = (".json", ".csv", ".txt", ".qml")


@dataclass(frozen=True)
class ClassMap:
    """A raster of class codes on disk, and what they mean; holds no pixels."""

    path: str
    legend: Legend
    geobox: GeoBox


def open_class_map(path: str | Path, *, legend: str | Path | None = None) -> ClassMap:
    """The class map in a GeoTIFF of geoseg's, or in any raster of whole numbers that names its classes.

    The numbers may be stored as integers of any width or as floating point, as raster calculators write them. Names are those that
    `names_in` finds; `legend`, a file as `names_of_table` reads it or another class map, names the codes that are left.
    LabelError where the file holds no whole numbers or names no classes.
    """
    with opened(str(path)) as file:
        _check_one_band(file, str(path))
        names = {**(_names_elsewhere(legend) if legend is not None else {}), **names_in(file, str(path))}
        if not names:
            raise LabelError(
                f"{path} does not say which classes its numbers are; give them with --legend (.json, .csv, a .qml that QGIS saved, or the "
                'class map from which it was made), or inside the file as category names or as a tag CLASS_NAMES such as {"1": "water"}'
            )
        _check_whole(file, str(path))
        return ClassMap(str(path), make_legend(names, nodata=file.nodata, colours=_colours(file, names)), dataset_geobox(file))


def read_class_indices(classes: ClassMap, geobox: GeoBox) -> NDArray[np.int32]:
    """(row, col) place in the legend of each pixel's class on `geobox`, by the nearest pixel of the map.

    NOT_OBSERVED where the map has no data, a class called `no data` or does not reach; UNNAMED where it holds a number that its
    legend does not name.
    """
    raster = read_raster(classes.path, {1: _BAND}, geobox, resampling="nearest")
    stored, valid = raster.values[0], raster.valid[0]
    if stored.dtype.kind == "f":
        _refuse_fractions(stored[valid], classes.path)
    return np.where(valid, _looked_up(stored, classes.legend), np.int32(NOT_OBSERVED))


def class_profile(legend: Legend) -> dict[str, Any]:
    """What `RowWriter` needs to know of a raster of this legend's codes."""
    return {
        "count": 1,
        "dtype": legend.dtype,
        "nodata": legend.nodata,
        "colours": legend.colour_table(),
        "descriptions": ("class",),
        "tags": category_tags(legend),
    }


def finish_class_map(part: Path, out: Path, legend: Legend) -> None:
    """The cloud optimised class map at `out` from a finished GeoTIFF, with colours, names, attribute table and QGIS style."""
    write_cog(part, out, kind="classes")
    write_categories(out, legend)
    write_style(out, classes_qml(legend))


def areas_m2(part: Path, codes: Iterable[int], geobox: GeoBox) -> dict[int, float]:
    """Area on the ground in square metres of each code in a raster of codes."""
    return all_areas_m2({part: codes}, geobox)[part]


def all_areas_m2(codes: Mapping[Path, Iterable[int]], geobox: GeoBox) -> dict[Path, dict[int, float]]:
    """The areas of several rasters of codes on one grid, as `areas_m2` gives them; raster → its codes."""
    wanted = {part: tuple(of_part) for part, of_part in codes.items()}
    totals = {part: np.zeros(max(of_part) + 1) for part, of_part in wanted.items()}
    with gdal_env(), ExitStack() as stack:
        files = {part: stack.enter_context(rasterio.open(part)) for part in wanted}
        for top, left in product(range(0, geobox.shape[0], _AREA_SIDE), range(0, geobox.shape[1], _AREA_SIDE)):
            height, width = min(_AREA_SIDE, geobox.shape[0] - top), min(_AREA_SIDE, geobox.shape[1] - left)
            weights = np.broadcast_to(pixel_areas_m2(geobox[top : top + height, left : left + width]), (height, width)).ravel()
            for part, file in files.items():
                values = file.read(1, window=Window(left, top, width, height))
                totals[part] += _weighed(values, weights, len(totals[part]))
    return {part: {code: float(totals[part][code]) for code in of_part} for part, of_part in wanted.items()}


def sum_by_code(values: NDArray[Any], geobox: GeoBox, length: int) -> NDArray[np.float64]:
    """(`length`,) ground area in square metres under each number of a (row, col) raster; numbers beyond `length` are left out."""
    return _weighed(values, np.broadcast_to(pixel_areas_m2(geobox), values.shape).ravel(), length)


def _weighed(values: NDArray[Any], weights: NDArray[np.float64], length: int) -> NDArray[np.float64]:
    return np.asarray(np.bincount(values.ravel(), weights=weights, minlength=length)[:length], dtype=np.float64)


# ---------------------------------------------------------------- below: what a file must be, and its colours


def _looked_up(stored: NDArray[Any], legend: Legend) -> NDArray[np.int32]:
    """The index of each number of a raster, UNNAMED where the legend has no such code."""
    indices = np.array([one.index if is_a_class(one.name) else NOT_OBSERVED for one in legend.classes], np.int32)
    codes = np.asarray(legend.codes)
    if stored.dtype.kind == "u" and stored.dtype.itemsize <= 2:
        table = np.full(np.iinfo(stored.dtype).max + 1, UNNAMED, np.int32)
        possible = codes < len(table)
        table[codes[possible]] = indices[possible]
        looked_up: NDArray[np.int32] = table[stored]
        return looked_up
    order = np.argsort(codes)
    at = order[np.minimum(np.searchsorted(codes[order], stored), len(codes) - 1)]
    return np.where(codes[at] == stored, indices[at], np.int32(UNNAMED))


def _check_one_band(file: DatasetReader, path: str) -> None:
    kinds = [np.dtype(dtype).kind for dtype in file.dtypes]
    with_alpha = file.count == 2 and file.colorinterp[1] == ColorInterp.alpha
    if (file.count != 1 and not with_alpha) or kinds[0] not in "uif":
        hint = "; if it is a rendered picture of a map, export the raw data instead" if file.count in (3, 4) else ""
        raise LabelError(f"{path} has {file.count} band(s) of {file.dtypes[0]}; expected a class map: one band of whole numbers{hint}")


def _check_whole(file: DatasetReader, path: str) -> None:
    """A coarse look at a raster of floating point numbers: do they look like codes?"""
    if np.dtype(file.dtypes[0]).kind == "f":
        shape = (min(file.height, _LOOK_PIXELS), min(file.width, _LOOK_PIXELS))
        _refuse_fractions(file.read(1, out_shape=shape, masked=True).compressed(), path)


def _refuse_fractions(numbers: NDArray[np.floating[Any]], path: str) -> None:
    fractions = numbers[np.isfinite(numbers) & (numbers != np.rint(numbers))]
    if fractions.size:
        raise LabelError(f"{path} holds numbers such as {fractions[0]:g}; expected a class map: whole numbers, one for each class")


def _names_elsewhere(path: str | Path) -> Names:
    """The names in a legend's own file, or in another class map."""
    if Path(path).suffix.lower() in _LEGEND_FILES or not Path(path).is_file():
        return names_of_table(path)
    return {one.code: NamedCode(one.name, one.colour, one.background) for one in open_class_map(path).legend.classes}


def _colours(file: DatasetReader, names: Names) -> Names:
    """What the file's colour table says of these codes; empty where it has none."""
    try:
        table = file.colormap(1)
    except ValueError:
        return {}
    shown = {code: table[code] for code in names if code in table}
    return {
        code: NamedCode(names[code].name, f"#{red:02x}{green:02x}{blue:02x}", alpha == 0)
        for code, (red, green, blue, alpha) in shown.items()
    }
