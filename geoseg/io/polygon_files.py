"""Polygons into a GeoPackage in batches, as coordinate arrays: they are never all in memory, and never Python objects."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
from numpy.typing import NDArray

from geoseg.io.atomic import atomic, output_error
from geoseg.io.ogr import pa, pyogrio

GEOMETRY = "geom"
"""Name of the geometry column, as QGIS has it."""
_WRITTEN_AT = "2000-01-01T00:00:00.000Z"
"""Stands where a GeoPackage wants the moment of writing, so that the same polygons give the same bytes."""

# Well-known binary (OGC 06-103r4), in units of two bytes, in which all its parts are whole.
_MULTIPOLYGON_OF_ONE = np.frombuffer(b"\x01\x06\0\0\0\x01\0\0\0" + b"\x01\x03\0\0\0", dtype="<u2")
_HEADER = len(_MULTIPOLYGON_OF_ONE) + 2
"""With the number of rings."""
_COUNT, _VERTEX = 2, 8
_MOST_BYTES = 1 << 28
"""Geometries in one record batch, unless one polygon is larger."""


@dataclass(frozen=True)
class PolygonBatch:
    """Some polygons with their columns; rings are closed, the outer one first."""

    xy: NDArray[np.float64]
    """(vertex, 2)"""
    ring_offsets: NDArray[np.int64]
    """(ring + 1,) first vertex of each ring, and the number of vertices."""
    polygon_offsets: NDArray[np.int64]
    """(polygon + 1,) first ring of each polygon, and the number of rings."""
    columns: Mapping[str, NDArray[np.number] | pa.Array]
    """Name → (polygon,) values; NaN becomes NULL."""

    def __len__(self) -> int:
        return len(self.polygon_offsets) - 1

    def take(self, kept: NDArray[np.bool_]) -> PolygonBatch:
        """Those of the polygons that `kept` (polygon,) names."""
        rings = np.diff(self.polygon_offsets)
        of_rings = np.repeat(kept, rings)
        vertices = np.diff(self.ring_offsets)
        columns = {
            name: column[kept] if isinstance(column, np.ndarray) else column.take(pa.array(np.flatnonzero(kept)))
            for name, column in self.columns.items()
        }
        return PolygonBatch(self.xy[np.repeat(of_rings, vertices)], _offsets(vertices[of_rings]), _offsets(rings[kept]), columns)


def _offsets(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(lengths)])


def write_polygon_batches(
    path: Path,
    batches: Iterable[PolygonBatch],
    *,
    crs: Any,
    layer: str = "polygons",
    style_qml: str | None = None,
    description: str | None = None,
) -> int:
    """Write polygons as the one layer of a GeoPackage, as `io.vectors.write_polygons` does, while they are made; return how many.

    All batches have the same columns; the first, which may be empty, says which. Raises OutputError where the file cannot be
    written, and whatever making the batches raises; nothing is left then.
    """
    made = _Batches(batches)
    with geopackage(path, layer, style_qml) as package:
        try:
            pyogrio.write_arrow(
                made.reader(),
                package.part,
                driver="GPKG",
                layer=layer,
                geometry_name=GEOMETRY,
                geometry_type="MultiPolygon",
                crs=_crs_text(crs),
                layer_options=layer_options(description),
                dataset_options={"VERSION": "1.3"},
            )
        except Exception:
            if made.failure is not None:
                raise made.failure from None
            raise
        package.expected = made.count
    return made.count


@dataclass
class GeoPackage:
    """A GeoPackage that is being written."""

    part: Path
    expected: int = 0
    """Polygons that its layer has to hold in the end."""


@contextmanager
def geopackage(path: Path, layer: str, style_qml: str | None) -> Iterator[GeoPackage]:
    """Inside this block a GeoPackage is written at `part`; its count is checked, its style stored, and it appears at `path`."""
    with atomic(path) as part:
        package = GeoPackage(part)
        try:
            with fixed_date():
                yield package
            with closing(sqlite3.connect(part)) as database, database:
                written = database.execute(f'SELECT count(*) FROM "{layer}"').fetchone()[0]
                if written != package.expected:
                    raise output_error(path, f"{written} of {package.expected} polygons arrived")
                if style_qml is not None:
                    store_style(database, layer, style_qml)
        except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, sqlite3.Error, RuntimeError) as error:
            raise output_error(path, error) from error


def layer_options(description: str | None) -> dict[str, str]:
    """How a layer of polygons is made; `description` is what the file says of it."""
    return {"GEOMETRY_NAME": GEOMETRY, **({"DESCRIPTION": description} if description else {})}


@contextmanager
def fixed_date() -> Iterator[None]:
    """Inside this block GeoPackages are written with one and the same date."""
    before = pyogrio.get_gdal_config_option("OGR_CURRENT_DATE")
    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": _WRITTEN_AT})
    try:
        yield
    finally:
        pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": before})


def store_style(database: sqlite3.Connection, layer: str, style_qml: str) -> None:
    """The table in which QGIS keeps styles, registered as one without geometries."""
    database.execute(
        "CREATE TABLE layer_styles (id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, f_table_catalog TEXT(256), f_table_schema TEXT(256),"
        " f_table_name TEXT(256), f_geometry_column TEXT(256), styleName TEXT(30), styleQML TEXT, styleSLD TEXT, useAsDefault BOOLEAN,"
        " description TEXT, owner TEXT(30), ui TEXT(30), update_time DATETIME)"
    )
    database.execute(
        "INSERT INTO layer_styles (f_table_catalog, f_table_schema, f_table_name, f_geometry_column, styleName, styleQML, styleSLD,"
        " useAsDefault, description, owner, update_time) VALUES ('', '', ?, ?, ?, ?, '', 1, '', '', ?)",
        (layer, GEOMETRY, layer, style_qml, _WRITTEN_AT),
    )
    database.execute(
        "INSERT INTO gpkg_contents (table_name, data_type, identifier, description, last_change, srs_id)"
        " VALUES ('layer_styles', 'attributes', 'layer_styles', '', ?, 0)",
        (_WRITTEN_AT,),
    )


def multipolygons_wkb(
    xy: NDArray[np.float64], ring_offsets: NDArray[np.int64], polygon_offsets: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Each polygon as a multipolygon of one, as little-endian well-known binary: (polygon + 1,) first bytes, and all bytes."""
    rings = np.diff(polygon_offsets)
    first_vertex = ring_offsets[polygon_offsets]
    begins = np.concatenate([[0], np.cumsum(_HEADER + _COUNT * rings + _VERTEX * np.diff(first_vertex))])
    of_ring = np.repeat(np.arange(len(rings)), rings)
    rings_before = np.arange(len(of_ring)) - polygon_offsets[of_ring]
    vertices_before = ring_offsets[:-1] - first_vertex[of_ring]
    counts = (begins[of_ring] + _HEADER + _COUNT * rings_before + _VERTEX * vertices_before)[:, np.newaxis] + np.arange(_COUNT)
    headers = begins[:-1, np.newaxis] + np.arange(_HEADER)
    units = np.empty(begins[-1], dtype="<u2")
    is_vertex = np.ones(len(units), dtype=bool)
    is_vertex[headers] = is_vertex[counts] = False
    units[headers[:, :-_COUNT]] = _MULTIPOLYGON_OF_ONE
    units[headers[:, -_COUNT:]] = _as_units(rings)
    units[counts] = _as_units(np.diff(ring_offsets))
    units[is_vertex] = np.ascontiguousarray(xy, dtype="<f8").view("<u2").ravel()
    return begins * units.itemsize, units.view(np.uint8)


def text_column(texts: Sequence[str], which: NDArray[np.integer]) -> pa.Array:
    """(polygon,) the texts at these positions, made from their bytes: `pyarrow.array` loads pandas, which takes most of a second."""
    encoded = [text.encode() for text in texts]
    ends = np.cumsum(np.array([len(text) for text in encoded])[which])
    content = b"".join([encoded[position] for position in which.tolist()])
    offsets = np.concatenate([[0], ends]).astype(np.int32)
    return pa.Array.from_buffers(pa.string(), len(which), [None, pa.py_buffer(offsets), pa.py_buffer(content)])


def _numbers(values: NDArray[np.number]) -> pa.Array:
    """Numbers as a column, NaN as NULL."""
    known = ~np.isnan(values)
    validity = None if known.all() else pa.py_buffer(np.packbits(known, bitorder="little"))
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [validity, pa.py_buffer(np.ascontiguousarray(values))])


class _Batches:
    """Batches on their way into Arrow: counted, and with the error that ended them, which Arrow does not hand on."""

    def __init__(self, batches: Iterable[PolygonBatch]) -> None:
        self._batches = iter(batches)
        self.count = 0
        self.failure: BaseException | None = None

    def reader(self) -> pa.RecordBatchReader:
        """All of them as Arrow reads them."""
        first = next(self._batches)
        head = _record_batch(first)
        self.count += len(first)
        return pa.RecordBatchReader.from_batches(head.schema, self._records(first, head.schema))

    def _records(self, first: PolygonBatch, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        yield _record_batch(first)
        try:
            for batch in self._batches:
                yield _record_batch(batch)
                self.count += len(batch)
        except BaseException as error:
            self.failure = error
            raise


def _record_batch(batch: PolygonBatch) -> pa.RecordBatch:
    begins, content = multipolygons_wkb(batch.xy, batch.ring_offsets, batch.polygon_offsets)
    geometries = pa.Array.from_buffers(pa.large_binary(), len(batch), [None, pa.py_buffer(begins.astype(np.int64)), pa.py_buffer(content)])
    values = {name: _numbers(column) if isinstance(column, np.ndarray) else column for name, column in batch.columns.items()}
    fields = [pa.field(name, column.type) for name, column in values.items()]
    fields.append(pa.field(GEOMETRY, geometries.type, metadata={"ARROW:extension:name": "geoarrow.wkb"}))
    return pa.RecordBatch.from_arrays([*values.values(), geometries], schema=pa.schema(fields))


def _as_units(numbers: NDArray[np.int64]) -> NDArray[np.uint16]:
    """(number, 2) as unsigned integers of four bytes, in units of two."""
    return numbers.astype("<u4").view("<u2").reshape(-1, _COUNT)


def _crs_text(crs: Any) -> str | None:
    """The CRS as GDAL takes it: by its EPSG code where it has one."""
    if crs is None:
        return None
    parsed = pyproj.CRS.from_user_input(crs)
    code = parsed.to_epsg()
    return f"EPSG:{code}" if code else str(parsed.to_wkt("WKT1_GDAL"))
