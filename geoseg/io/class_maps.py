"""Class maps as files: a raster of codes with its legend, written with all that shows it, read also where others made it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.io import DatasetReader
from rasterio.windows import Window

from geoseg.errors import LabelError
from geoseg.ground import pixel_areas_m2
from geoseg.io.categories import category_names, category_tags, write_categories
from geoseg.io.cog import write_cog
from geoseg.io.opening import dataset_geobox, opened
from geoseg.io.qgis import write_style
from geoseg.io.qgis_styles import classes_qml
from geoseg.legend import Legend, LegendClass

_AREA_ROWS = 512


@dataclass(frozen=True)
class ClassMap:
    """A raster of class codes on disk, and what they mean; holds no pixels."""

    path: str
    legend: Legend
    geobox: GeoBox


def open_class_map(path: str | Path) -> ClassMap:
    """The class map in a GeoTIFF of geoseg's, or in any raster of whole numbers that names its classes.

    Names come from the tag CLASS_NAMES or from GDAL's category names, colours from the file's colour table where it has one.
    LabelError where the file holds no whole numbers or names no classes.
    """
    with opened(str(path)) as file:
        if file.count != 1 or np.dtype(file.dtypes[0]).kind != "u":
            raise LabelError(
                f"{path} has {file.count} band(s) of {file.dtypes[0]}; "
                "expected a class map: one band of unsigned whole numbers (uint8, uint16)"
            )
        return ClassMap(str(path), _legend(file, str(path)), dataset_geobox(file))


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
    wanted = tuple(codes)
    totals = np.zeros(max(wanted) + 1)
    with rasterio.open(part) as file:
        for top in range(0, file.height, _AREA_ROWS):
            height = min(_AREA_ROWS, file.height - top)
            values = file.read(1, window=Window(0, top, file.width, height))
            totals += sum_by_code(values, geobox[top : top + height, :], len(totals))
    return {code: float(totals[code]) for code in wanted}


def sum_by_code(values: NDArray[Any], geobox: GeoBox, length: int) -> NDArray[np.float64]:
    """(`length`,) ground area in square metres under each number of a (row, col) raster; numbers beyond `length` are left out."""
    weights = np.broadcast_to(pixel_areas_m2(geobox), values.shape)
    return np.asarray(np.bincount(values.ravel(), weights=weights.ravel(), minlength=length)[:length], dtype=np.float64)


# ---------------------------------------------------------------- below: the legend of a file


def _legend(file: DatasetReader, path: str) -> Legend:
    names = _names(file, path)
    if not names:
        raise LabelError(
            f"{path} does not say which classes its numbers are; expected category names as geoseg, GDAL and QGIS write them "
            '(a side file .tif.aux.xml), or a tag CLASS_NAMES such as {"1": "water"}'
        )
    nodata = file.nodata if file.nodata is not None else 255
    colours = _colours(file)
    spare = Legend.from_names(list(names.values())).classes
    classes = []
    for index, (code, name) in enumerate(sorted(names.items())):
        colour, alpha = colours.get(code, (spare[index].colour, 255))
        classes.append(LegendClass(index, code, name, colour, background=alpha == 0))
    return Legend(tuple(classes), nodata=int(nodata))


def _names(file: DatasetReader, path: str) -> Mapping[int, str]:
    """Code → name."""
    if told := file.tags().get("CLASS_NAMES"):
        return {int(code): str(name) for code, name in json.loads(told).items()}
    listed = category_names(Path(path))
    return {code: name for code, name in enumerate(listed) if name and code != file.nodata}


def _colours(file: DatasetReader) -> dict[int, tuple[str, int]]:
    """Code → colour and opacity of the file's colour table; empty where it has none."""
    try:
        table = file.colormap(1)
    except ValueError:
        return {}
    return {code: (f"#{red:02x}{green:02x}{blue:02x}", alpha) for code, (red, green, blue, alpha) in table.items()}
