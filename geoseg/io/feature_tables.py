"""Vector layers to which columns are added: geometries, attributes and ids go through untouched, byte for byte."""

from __future__ import annotations

import csv
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.errors import InputError, OutputError
from geoseg.io.atomic import atomic, output_error
from geoseg.io.ogr import pa, pyogrio
from geoseg.io.polygon_files import fixed_date, store_style
from geoseg.io.vectors import find_layer

LAYER = "zones"
"""The name of the layer in a GeoPackage that `write_table` makes."""
_GEOMETRY = "geom"
_ID = "fid"


@dataclass(frozen=True)
class FeatureTable:
    """All features of one layer, in the file's order."""

    path: str
    """The file, for messages."""
    attributes: pa.Table
    """Every column but geometry and id, as stored."""
    ids: NDArray[np.int64]
    """(feature,) the ids by which GIS programs know them."""
    wkb: pa.ChunkedArray
    """(feature,) geometries as stored, heights and all; null where there is none."""
    geometry_type: str
    """As GDAL calls it: `Polygon`, `MultiPolygon`, `Unknown` …"""
    crs: str

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def id_name(self) -> str:
        """Name of the id's column as written; another than usual where an attribute is called so."""
        return _free(_ID, self.attributes.column_names)

    @property
    def geometry_name(self) -> str:
        """Name of the geometry's column as written."""
        return _free(_GEOMETRY, self.attributes.column_names)

    def free_name(self, name: str) -> str:
        """This name for a new column, with a number behind it where the layer has one of that name already."""
        return _free(name, (*self.attributes.column_names, self.id_name, self.geometry_name))

    def geometries(self) -> NDArray[Any]:
        """(feature,) shapely geometries, flat; None where there is none, or none that can be read."""
        made: NDArray[Any] = shapely.force_2d(shapely.from_wkb(self.wkb.to_numpy(zero_copy_only=False), on_invalid="ignore"))
        return made


def read_table(path: str | Path, *, wanted: str = "polygons") -> FeatureTable:
    """The one spatial layer of a vector file, or the layer in `FILE|layername=NAME`, with features that have no geometry.

    InputError where there is no such file, it is no vector file, several layers could be meant, it states no CRS, or holds nothing.
    """
    file, layer = find_layer(path, wanted=wanted)
    try:
        told, table = pyogrio.raw.read_arrow(file, layer=layer, return_fids=True)
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, pyogrio.errors.GeometryError, RuntimeError) as error:
        raise InputError(f"{file} is damaged and cannot be read ({error}); export it anew") from error
    if not len(table):
        raise InputError(f"{file} is empty; expected at least one of: {wanted}")
    if told["crs"] is None:
        raise InputError(
            f"{file} states no CRS, so its place is not known; assign one, for example with: ogr2ogr -a_srs EPSG:4326 fixed.gpkg {file}"
        )
    fids, geometry = told["fid_column"] or "OGC_FID", told["geometry_name"] or "wkb_geometry"
    wkb = table[geometry].cast(pa.binary()) if table.schema.field(geometry).type != pa.binary() else table[geometry]
    return FeatureTable(file, table.drop_columns([fids, geometry]), table[fids].to_numpy(), wkb, told["geometry_type"], told["crs"])


def write_table(path: Path, table: FeatureTable, columns: Mapping[str, pa.Array], *, style_qml: str | None = None) -> None:
    """Write the features with more columns to a GeoPackage (`.gpkg`) or, without geometries, to a `.csv`.

    The columns bear names that `FeatureTable.free_name` gave. The file appears whole or not at all. OutputError for other endings
    and where it cannot be written.
    """
    check_table_name(path)
    whole = table.attributes
    for name, column in columns.items():
        whole = whole.append_column(name, column)
    with atomic(path) as part:
        if path.suffix.lower() == ".csv":
            _write_csv(part, whole, table)
        else:
            _write_geopackage(part, path, whole, table, style_qml)


def check_table_name(path: Path) -> None:
    """Raise OutputError where `write_table` cannot tell by the file's ending what to write."""
    if path.suffix.lower() not in (".gpkg", ".csv"):
        raise TableNameError(f"{path} ends in {path.suffix or 'nothing'}; expected a name that ends in .gpkg or .csv")


class TableNameError(OutputError):
    """The name of a table does not say what kind it is."""

    exit_code = 2


def _write_csv(part: Path, whole: pa.Table, table: FeatureTable) -> None:
    with part.open("w", encoding="utf-8-sig", newline="") as stream:  # the mark tells spreadsheets that it is UTF-8
        rows = csv.writer(stream, lineterminator="\n")
        rows.writerow([table.id_name, *whole.column_names])
        done = 0
        for batch in whole.to_batches(max_chunksize=10_000):
            columns = [column.to_pylist() for column in batch.columns]
            rows.writerows(zip(table.ids[done : done + batch.num_rows].tolist(), *columns, strict=True))
            done += batch.num_rows


def _write_geopackage(part: Path, path: Path, whole: pa.Table, table: FeatureTable, style_qml: str | None) -> None:
    kind, wkb = _one_type(table)
    whole = whole.add_column(0, table.id_name, pa.array(table.ids, pa.int64())).append_column(table.geometry_name, wkb)
    try:
        with fixed_date():
            pyogrio.raw.write_arrow(
                whole,
                part,
                layer=LAYER,
                driver="GPKG",
                geometry_name=table.geometry_name,
                geometry_type=kind,
                crs=table.crs,
                layer_options={"GEOMETRY_NAME": table.geometry_name, "FID": table.id_name},
                dataset_options={"VERSION": "1.3"},
            )
        with closing(sqlite3.connect(part)) as database, database:
            written = database.execute(f'SELECT count(*) FROM "{LAYER}"').fetchone()[0]
            if written != len(table):
                raise output_error(path, f"{written} of {len(table)} features arrived")
            if style_qml is not None:
                store_style(database, LAYER, style_qml)
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, sqlite3.Error, RuntimeError) as error:
        raise output_error(path, error) from error


def _one_type(table: FeatureTable) -> tuple[str, pa.ChunkedArray]:
    """The layer's geometry type and its geometries; where a layer of polygons has multipolygons too (shapefiles), all become such."""
    if table.geometry_type not in ("Polygon", "Unknown"):
        return table.geometry_type, table.wkb
    geometries = shapely.from_wkb(table.wkb.to_numpy(zero_copy_only=False), on_invalid="ignore")
    kinds = set(shapely.get_type_id(geometries[~shapely.is_missing(geometries)]).tolist())
    if kinds == {shapely.GeometryType.POLYGON, shapely.GeometryType.MULTIPOLYGON}:
        single = shapely.get_type_id(geometries) == shapely.GeometryType.POLYGON
        geometries[single] = [shapely.MultiPolygon([one]) for one in geometries[single]]
        return "MultiPolygon", pa.array(shapely.to_wkb(geometries, output_dimension=3), pa.binary())
    return table.geometry_type, table.wkb


def _free(name: str, taken: Iterable[str]) -> str:
    lower = {one.lower() for one in taken}  # SQLite knows no upper and lower case in names
    others = (f"{name}_{number}" for number in range(2, len(lower) + 3))
    return next(one for one in (name, *others) if one.lower() not in lower)
