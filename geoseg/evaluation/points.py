"""Reference points that somebody has labelled, read from the GeoPackage of a design or from any table with a class column."""

from __future__ import annotations

import csv
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.errors import LabelError
from geoseg.evaluation.area import Strata
from geoseg.evaluation.sample import MappedClasses
from geoseg.io.ogr import pa, pyogrio
from geoseg.io.vectors import find_layer
from geoseg.legend import LegendClass

LAYER = "points"
"""The layer of points in the GeoPackage of a design."""
_NAMES = {
    "reference": ("reference_class", "reference", "class", "class_name", "class_code", "label"),
    "second": ("second_class", "second", "alternative"),
    "mapped": ("map_class", "map", "mapped", "map_code"),
    "stratum": ("stratum", "strata"),
    "date": ("date", "time", "datetime"),
    "id": ("id", "fid", "point", "plotid"),
    "area": ("pixel_area_m2",),
    "lon": ("lon", "longitude", "lng", "long"),
    "lat": ("lat", "latitude"),
    "x": ("x", "easting"),
    "y": ("y", "northing"),
}
"""What a column may be called, the first name first; upper and lower case are one."""

Words = tuple[str | None, ...]
"""One cell of each point as text; None where it is empty."""


@dataclass(frozen=True, eq=False)
class SampleTables:
    """What a sample's own file says of the ground from which it was drawn."""

    strata: Strata
    mapped: MappedClasses | None
    """None where only sizes of strata are known."""


@dataclass(frozen=True, eq=False)
class ReferencePoints:
    """Points as they were labelled, classes as they are written."""

    path: str
    ids: Words
    reference: Words
    """None where nobody has labelled the point."""
    second: Words | None = None
    mapped: Words | None = None
    stratum: Words | None = None
    dates: Words | None = None
    xy: NDArray[np.float64] | None = None
    """(point, 2) in `crs`"""
    crs: Any = None
    """None where x and y are given without one."""
    area_m2: NDArray[np.float64] | None = None
    """(point,) ground area of the pixel that each stands for; None where it is not known"""
    tables: SampleTables | None = None
    """None where the file is a plain table."""

    def __len__(self) -> int:
        return len(self.ids)


def read_points(path: str | Path, *, crs: str | None = None, class_column: str | None = None) -> ReferencePoints:
    """Reference points of a GeoPackage that `geoseg sample design` wrote, of any other vector file of points, or of a CSV.

    A CSV has columns lon and lat in degrees, or x and y in `crs`, or no place at all; commas, semicolons or tabs divide it.
    `class_column` holds the reference class; None looks for reference_class, reference, class … LabelError where the file cannot
    be used or has no such column.
    """
    if str(path).lower().endswith((".csv", ".txt", ".tsv")):
        columns, xy, found_crs = _read_csv(Path(path), crs)
        tables = None
    else:
        columns, xy, found_crs = _read_vector(str(path))
        tables = read_tables(path) if str(path).partition("|")[0].lower().endswith(".gpkg") else None
    known = dict(columns)

    def column(what: str) -> Words | None:
        name = _column_name(known, _NAMES[what])
        return None if name is None else known[name]

    reference = _reference_column(known, class_column, str(path))
    count = len(reference)
    if not count:
        raise LabelError(f"{path} is empty; expected a row for each reference point")
    area = column("area")
    areas = _numbers(area, "pixel_area_m2", str(path)) if area is not None and None not in area else None
    ids = column("id") or tuple(str(number) for number in range(1, count + 1))
    words = {what: column(what) for what in ("second", "mapped", "stratum")}
    return ReferencePoints(str(path), ids, reference, **words, dates=column("date"), xy=xy, crs=found_crs, area_m2=areas, tables=tables)


def read_tables(path: str | Path) -> SampleTables | None:
    """The sizes of strata and classes inside a GeoPackage of points; None where it holds none."""
    file = str(path).partition("|")[0]
    if not Path(file).is_file():
        return None
    try:
        with closing(sqlite3.connect(f"{Path(file).absolute().as_uri()}?mode=ro", uri=True)) as database:
            strata = database.execute("SELECT stratum, pixels, area_m2 FROM strata ORDER BY fid").fetchall()
            classes = database.execute("SELECT code, name, colour, pixels, area_m2 FROM classes ORDER BY fid").fetchall()
    except sqlite3.Error:
        return None
    kinds = tuple(LegendClass(index, int(code), name, colour) for index, (code, name, colour, _, _) in enumerate(classes))
    mapped = MappedClasses(kinds, np.array([row[3] for row in classes], np.int64), np.array([row[4] for row in classes], np.float64))
    return SampleTables(_strata(strata), mapped if kinds else None)


def read_sizes(path: str | Path) -> SampleTables:
    """Sizes of strata from the GeoPackage of a design, or from a CSV with the columns stratum, pixels and area_m2."""
    if not Path(path).is_file():
        raise LabelError(f"no such file: {path}; expected the GeoPackage of the design, or a CSV with the columns stratum, pixels, area_m2")
    if str(path).lower().endswith(".gpkg"):
        tables = read_tables(path)
        if tables is None:
            raise LabelError(f"{path} holds no table of strata; expected the GeoPackage that `geoseg sample design` wrote")
        return tables
    columns, _, _ = _read_csv(Path(path), None)
    wanted = [_column_name(columns, (name,)) for name in ("stratum", "pixels", "area_m2")]
    if None in wanted:
        raise LabelError(f"{path} has the columns {', '.join(columns)}; expected stratum, pixels and area_m2")
    names, pixels, areas = (columns[name] for name in wanted if name is not None)
    numbers = [_numbers(column, "pixels and area_m2", str(path)) for column in (pixels, areas)]
    return SampleTables(_strata(list(zip(names, *numbers, strict=True))), None)


# ---------------------------------------------------------------- below: one reader for each kind of file, and the columns


def _strata(rows: Sequence[tuple[Any, ...]]) -> Strata:
    names = tuple(str(row[0]) for row in rows)
    if len(set(names)) < len(names):
        raise LabelError(f"the strata {', '.join(names)} are not unique; expected one row for each")
    sizes = np.array([row[1:] for row in rows], np.float64).reshape(len(rows), 2)
    if not (np.isfinite(sizes) & (sizes >= 0)).all():
        raise LabelError(f"the sizes of the strata {', '.join(names)} are not all known; expected pixels and area_m2 of each, 0 or more")
    return Strata(names, sizes[:, 0].astype(np.int64), sizes[:, 1])


def _read_vector(path: str) -> tuple[dict[str, Words], NDArray[np.float64] | None, Any]:
    """Columns, places and CRS of a layer of points."""
    file, _, named = path.partition("|layername=")
    is_ours = not named and Path(file).is_file() and file.lower().endswith(".gpkg") and read_tables(file) is not None
    file, layer = find_layer(f"{file}|layername={LAYER}" if is_ours else path, wanted="points")
    try:
        told, table = pyogrio.raw.read_arrow(file, layer=layer)
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, RuntimeError) as error:
        raise LabelError(f"{file} is damaged and cannot be read ({error}); export it anew") from error
    geometry = told["geometry_name"] or "wkb_geometry"
    shapes = shapely.from_wkb(table[geometry].cast(pa.binary()).to_numpy(zero_copy_only=False))
    if (odd := ~np.isin(shapely.get_type_id(shapes), [-1, shapely.GeometryType.POINT])).any():
        raise LabelError(f"{path} holds {shapes[odd][0].geom_type}; expected points, one for each pixel that was labelled")
    places = np.stack([shapely.get_x(shapes), shapely.get_y(shapes)], axis=1) if len(shapes) else np.empty((0, 2))
    columns = {name: _words(table[name].to_pylist()) for name in table.column_names if name != geometry}
    return columns, places, told["crs"]


def _read_csv(path: Path, crs: str | None) -> tuple[dict[str, Words], NDArray[np.float64] | None, Any]:
    """Columns, places if there are any, and their CRS."""
    if not path.is_file():
        raise LabelError(f"no such file: {path}; expected reference points as GeoPackage or CSV")
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            first = stream.readline()
            stream.seek(0)
            rows = [row for row in csv.reader(stream, delimiter=max(",;\t", key=first.count)) if any(cell.strip() for cell in row)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise LabelError(f"{path} is no CSV in UTF-8 ({error}); save it anew as CSV UTF-8") from error
    if len({len(row) for row in rows}) > 1:
        raise LabelError(f"{path} has rows of {sorted({len(row) for row in rows})} cells; expected as many in each as in its first row")
    header, cells = (rows[0], list(zip(*rows[1:], strict=True))) if rows else ([], [])
    columns = {name.strip(): _words(column) for name, column in zip(header, cells or [()] * len(header), strict=True)}
    for pair, default in ((("lon", "lat"), "EPSG:4326"), (("x", "y"), None)):
        names = [_column_name(columns, _NAMES[what]) for what in pair]
        if (first_name := names[0]) is not None and (second_name := names[1]) is not None:
            both = [_numbers(columns[name], name, str(path)) for name in (first_name, second_name)]
            return columns, np.stack(both, axis=1), crs or default
    return columns, None, None


def _words(cells: Sequence[Any]) -> Words:
    return tuple(None if cell is None or not str(cell).strip() else str(cell).strip() for cell in cells)


def _numbers(cells: Words, name: str, path: str) -> NDArray[np.float64]:
    try:
        return np.array([float(cell) if cell is not None else np.nan for cell in cells])
    except ValueError as error:
        raise LabelError(f"{path} holds no numbers in its column {name} ({error}); expected figures such as 12.5") from error


def _column_name(columns: Mapping[str, Words], names: Sequence[str]) -> str | None:
    lower = {name.lower(): name for name in reversed(list(columns))}
    return next((lower[name] for name in names if name in lower), None)


def _reference_column(columns: Mapping[str, Words], asked: str | None, path: str) -> Words:
    name = _column_name(columns, _NAMES["reference"] if asked is None else (asked.lower(),))
    if name is None:
        wanted = f"a column {asked!r}" if asked is not None else f"the reference class in a column called {', '.join(_NAMES['reference'])}"
        raise LabelError(f"{path} has the columns {', '.join(columns) or 'none'}; expected {wanted}; name another with --class-column")
    return columns[name]
