"""The GeoPackage that is handed to whoever labels reference points in QGIS.

Beside its layer `points` with the form stand three tables more: `strata` and `classes` with their pixels and areas, so that the
estimate needs nothing else, and `design`, how the points were drawn.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from odc.geo.geobox import GeoBox

from geoseg.errors import InputError, OutputError
from geoseg.evaluation.point_form import points_qml
from geoseg.evaluation.points import LAYER
from geoseg.evaluation.sample import DrawnPoints, Population
from geoseg.ground import horizontal, pixel_size_m
from geoseg.io.ogr import pa, pyogrio
from geoseg.io.polygon_files import GEOMETRY, geopackage

_DESCRIPTION = "Reference points to label: choose for each the class on the ground, without looking at the map"
_TABLES = {
    "strata": "stratum TEXT NOT NULL, pixels INTEGER NOT NULL, area_m2 REAL NOT NULL, points INTEGER",
    "classes": "code INTEGER NOT NULL, name TEXT NOT NULL, colour TEXT NOT NULL, pixels INTEGER NOT NULL, area_m2 REAL NOT NULL",
    "design": "key TEXT NOT NULL, value TEXT",
}


def write_points(path: Path, population: Population, drawn: DrawnPoints, design: Mapping[str, Any]) -> None:
    """Write drawn points to a GeoPackage with empty columns for the labeller, its form, and the tables that the estimate needs.

    The file appears whole or not at all, and the same points give the same bytes. OutputError where it cannot be written.
    """
    count, geobox = len(drawn), population.map.geobox
    empty = pa.nulls(count, pa.string())
    columns = {
        "id": pa.array(np.arange(1, count + 1), pa.int32()),
        "reference_class": empty,
        "second_class": empty,
        "note": empty,
        "date": pa.nulls(count, pa.date32()),
        "stratum": pa.array([population.strata.names[at] for at in drawn.stratum], pa.string()),
        "map_class": pa.array([population.mapped.names[at] for at in drawn.mapped], pa.string()),
        "pixel_area_m2": pa.array(drawn.area_m2),
    }
    places = pa.array(shapely.to_wkb(shapely.points(drawn.centres(geobox))), pa.binary())
    pixel_m = float(np.sqrt(np.prod(pixel_size_m(geobox))))
    style = points_qml(population.mapped.classes, ("fid", *columns), pixel_m)
    with geopackage(path, LAYER, style) as package:
        pyogrio.raw.write_arrow(
            pa.table({**columns, GEOMETRY: places}),
            package.part,
            layer=LAYER,
            driver="GPKG",
            geometry_name=GEOMETRY,
            geometry_type="Point",
            crs=_crs_text(geobox),
            layer_options={"GEOMETRY_NAME": GEOMETRY, "DESCRIPTION": _DESCRIPTION},
            dataset_options={"VERSION": "1.3"},
        )
        with closing(sqlite3.connect(package.part)) as database, database:
            _write_tables(database, population, drawn, design)
        package.expected = count


def check_points_name(path: Path, *, overwrite: bool) -> None:
    """Raise where no points can be written there: OutputError for another ending than .gpkg, InputError for a file that is there."""
    if path.suffix.lower() != ".gpkg":
        raise _PointsNameError(f"{path} ends in {path.suffix or 'nothing'}; expected a name that ends in .gpkg")
    if path.exists() and not overwrite:
        raise InputError(f"{path} is there already, perhaps with labels in it; choose another -o, or replace it with --overwrite")


class _PointsNameError(OutputError):
    """The name of a file of points does not say what kind it is."""

    exit_code = 2


def _write_tables(database: sqlite3.Connection, population: Population, drawn: DrawnPoints, design: Mapping[str, Any]) -> None:
    strata, mapped = population.strata, population.mapped
    counts = np.bincount(drawn.stratum, minlength=len(strata))
    rows: dict[str, list[tuple[Any, ...]]] = {
        "strata": list(zip(strata.names, strata.pixels.tolist(), strata.area_m2.tolist(), counts.tolist(), strict=True)),
        "classes": [
            (one.code, one.name, one.colour, pixels, area)
            for one, pixels, area in zip(mapped.classes, mapped.pixels.tolist(), mapped.area_m2.tolist(), strict=True)
        ],
        "design": [(key, str(value)) for key, value in design.items()],
    }
    (moment,) = database.execute("SELECT last_change FROM gpkg_contents WHERE table_name = ?", (LAYER,)).fetchone()
    for name, columns in _TABLES.items():
        database.execute(f"CREATE TABLE {name} (fid INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, {columns})")
        given = [column.split()[0] for column in columns.split(", ")]
        marks = ", ".join("?" for _ in given)
        database.executemany(f"INSERT INTO {name} ({', '.join(given)}) VALUES ({marks})", rows[name])
        database.execute(
            "INSERT INTO gpkg_contents (table_name, data_type, identifier, description, last_change, srs_id)"
            " VALUES (?, 'attributes', ?, '', ?, 0)",
            (name, name, moment),
        )


def _crs_text(geobox: GeoBox) -> str:
    """The CRS without heights, by its EPSG code where it has one."""
    flat = horizontal(geobox.crs)
    code = flat.to_epsg()
    return f"EPSG:{code}" if code else str(flat.to_wkt("WKT1_GDAL"))
