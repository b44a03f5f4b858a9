"""The polygons of a GeoPackage once more in formats of other tools, batch by batch: FlatGeobuf, and GeoParquet with its metadata.

GeoParquet is written by pyarrow, since the GDAL that comes with pyogrio has no driver for it: version 1.1 of the standard, geometries as
well-known binary, with the bounding box of each as a covering, so that readers fetch only what they need.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import CRS

from geoseg.errors import InputError
from geoseg.io.atomic import atomic, output_error
from geoseg.io.ogr import pa, pyogrio

FORMATS = {"parquet": "GeoParquet", "fgb": "FlatGeobuf"}
"""Ending of a copy → the format's name."""
_BATCH = 16_384
"""Features held at once."""
_SIDES = ("xmin", "ymin", "xmax", "ymax")
_COVERING = "bbox"


def check_formats(formats: tuple[str, ...]) -> None:
    """InputError for an ending that is not in `FORMATS`."""
    if unknown := [name for name in formats if name not in FORMATS]:
        known = ", ".join(f"{ending} ({name})" for ending, name in FORMATS.items())
        raise InputError(f"--vectors has {unknown[0]!r}; expected some of {known}, with commas between them")


def copy_features(package: Path, out: Path) -> None:
    """Write the one layer of polygons of a GeoPackage to `out`, in the format of its ending, whole or not at all.

    Raises OutputError where it cannot be written.
    """
    with atomic(out) as part, pyogrio.open_arrow(package, layer=_layer(package), batch_size=_BATCH, use_pyarrow=True) as (facts, reader):
        try:
            if out.suffix == ".parquet":
                _write_parquet(part, facts, reader)
            else:
                pyogrio.write_arrow(
                    reader, part, driver="FlatGeobuf", geometry_name=_geometry(facts), geometry_type="MultiPolygon", crs=facts["crs"]
                )
        except (OSError, RuntimeError) as error:
            raise output_error(out, error) from error


def _layer(package: Path) -> str:
    """The layer that has geometries; the other, if there is one, holds its style."""
    return next(str(name) for name, kind in pyogrio.list_layers(package) if kind is not None)


def _geometry(facts: dict[str, Any]) -> str:
    """The column of geometries, which some versions of pyogrio name in vain."""
    return facts["geometry_name"] or "wkb_geometry"


def _write_parquet(part: Path, facts: dict[str, Any], reader: Any) -> None:
    from pyarrow import parquet

    name = _geometry(facts)
    place = reader.schema.get_field_index(name)
    box = pa.field(_COVERING, pa.struct([(side, pa.float64()) for side in _SIDES]))
    schema = reader.schema.set(place, pa.field("geometry", pa.binary())).append(box)
    bounds = np.array([np.inf, np.inf, -np.inf, -np.inf])
    with parquet.ParquetWriter(part, schema.remove_metadata(), compression="zstd") as writer:
        for columns, boxes in _with_boxes(reader, place):
            if len(boxes):
                bounds = np.concatenate(
                    [np.minimum(bounds[:2], boxes[:, :2].min(axis=0)), np.maximum(bounds[2:], boxes[:, 2:].max(axis=0))]
                )
            covering = pa.StructArray.from_arrays([pa.array(side) for side in boxes.T], names=list(_SIDES))
            writer.write_batch(pa.record_batch([*columns, covering], schema=schema.remove_metadata()))
        writer.add_key_value_metadata({"geo": json.dumps(_metadata(facts["crs"], bounds))})


def _with_boxes(reader: Any, place: int) -> Iterator[tuple[list[Any], NDArray[np.float64]]]:
    """Each batch's columns, geometries as well-known binary, and the bounds (feature, 4) of its geometries."""
    for batch in reader:
        columns = list(batch.columns)
        columns[place] = columns[place].cast(pa.binary())
        yield columns, shapely.bounds(shapely.from_wkb(columns[place].to_numpy(zero_copy_only=False))).reshape(-1, 4)


def _metadata(crs: str | None, bounds: NDArray[np.float64]) -> dict[str, Any]:
    column: dict[str, Any] = {
        "encoding": "WKB",
        "geometry_types": ["MultiPolygon"],
        "crs": None if crs is None else CRS.from_user_input(crs).to_json_dict(),
        "covering": {_COVERING: {side: [_COVERING, side] for side in _SIDES}},
    }
    if np.isfinite(bounds).all():
        column["bbox"] = bounds.tolist()
    return {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}
