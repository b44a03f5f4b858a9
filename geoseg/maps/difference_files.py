"""The files of a comparison: raster, matrix, polygons, QGIS project and STAC Item."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from odc.geo.geobox import GeoBox
from rasterio.windows import Window

from geoseg.io.atomic import atomic
from geoseg.io.class_maps import class_profile, finish_class_map
from geoseg.io.cog import RowWriter
from geoseg.io.opening import gdal_env
from geoseg.io.polygon_files import PolygonBatch, text_column, write_polygon_batches
from geoseg.io.provenance import grid_fields, software
from geoseg.io.qgis import ProjectLayer, write_project
from geoseg.io.qgis_styles import polygons_qml
from geoseg.io.stac import CLASSIFICATION, FILE, PROCESSING, PROJECTION, STAC_VERSION, file_asset, file_multihash, footprint
from geoseg.maps.counting import strips
from geoseg.maps.pairs import Pair, Side
from geoseg.maps.transitions import Transitions
from geoseg.polygons.outlines import write_map_polygons

_MEDIA_TYPES = {
    ".tif": "image/tiff; application=geotiff; profile=cloud-optimized",
    ".gpkg": "application/geopackage+sqlite3",
    ".qgz": "application/zip",
    ".csv": "text/csv",
}


def write_changes(parts: Path, out: Path, transitions: Transitions, geobox: GeoBox) -> None:
    """The map of changes at `out`, from `pairs.tif` in the folder `parts`; the changed pixels alone become `changed.tif` there."""
    whole, changed = transitions.change_legend(), transitions.polygon_legend()
    with ExitStack() as stack, gdal_env():
        pairs = stack.enter_context(rasterio.open(parts / "pairs.tif"))
        writers = [(transitions.lookup(), stack.enter_context(RowWriter(parts / "change.tif", geobox, **class_profile(whole))))]
        if changed is not None:
            profile = class_profile(changed) | {"dtype": whole.dtype}
            writers.append((transitions.lookup(polygons=True), stack.enter_context(RowWriter(parts / "changed.tif", geobox, **profile))))
        for rows in strips(geobox):
            numbers = pairs.read(1, window=Window(0, rows.start, pairs.width, rows.stop - rows.start))
            for table, writer in writers:
                writer.append(table[numbers][np.newaxis])
    finish_class_map(parts / "change.tif", out, whole)


def trace_changes(parts: Path, out: Path, transitions: Transitions, min_area_m2: float, simplify_m: float) -> dict[str, Any]:
    """The changed polygons of at least this size at `out`; how many there are, and how many and how large those left out."""
    legend = transitions.polygon_legend()
    chosen = _LargeChanges(transitions, min_area_m2)
    if legend is None:
        with rasterio.open(parts / "pairs.tif") as file:
            write_polygon_batches(out, [chosen(_NO_POLYGON)], crs=file.crs)
        count = 0
    else:
        changed, style = parts / "changed.tif", polygons_qml(legend)
        count = write_map_polygons(out, changed, legend, simplify_m=simplify_m, style_qml=style, change=chosen)
    return {"polygons": count, "polygons_left_out": chosen.left_out, "polygons_left_out_m2": chosen.left_out_m2}


class _LargeChanges:
    """Changed polygons with what they changed from and to, without the small ones, which are counted."""

    def __init__(self, transitions: Transitions, min_area_m2: float) -> None:
        self._names, self._min_area_m2 = transitions.classes.names, min_area_m2
        self._ends = np.zeros((max((*transitions.change_codes().values(), 0)) + 1, 2), dtype=np.int64)
        for ends, code in transitions.change_codes().items():
            self._ends[code] = ends
        self.left_out, self.left_out_m2 = 0, 0.0

    def __call__(self, batch: PolygonBatch) -> PolygonBatch:
        areas, codes = (np.asarray(batch.columns[name]) for name in ("area_m2", "class_code"))
        large = areas >= self._min_area_m2
        self.left_out += int((~large).sum())
        self.left_out_m2 += float(areas[~large].sum())
        start, end = self._ends[codes].T
        columns = {
            "class_code": codes,
            "transition": batch.columns["class_name"],
            "from_class": text_column(self._names, start),
            "to_class": text_column(self._names, end),
            "area_m2": areas,
        }
        return replace(batch, columns=columns).take(large)


_NO_POLYGON = PolygonBatch(
    xy=np.zeros((0, 2)),
    ring_offsets=np.zeros(1, dtype=np.int64),
    polygon_offsets=np.zeros(1, dtype=np.int64),
    columns={
        "class_code": np.zeros(0, dtype=np.int32),
        "class_name": text_column([], np.zeros(0, dtype=np.int64)),
        "area_m2": np.zeros(0),
    },
)


def write_matrix(path: Path, transitions: Transitions) -> None:
    """The matrix as CSV; the mark at its beginning tells spreadsheets that it is UTF-8."""
    with atomic(path) as part:
        part.write_text(transitions.to_csv(), encoding="utf-8-sig", newline="")


def write_difference_project(folder: Path, names: Mapping[str, str], transitions: Transitions, pair: Pair) -> None:
    """The QGIS project: changed polygons over the map of changes."""
    layers = [ProjectLayer("change", folder / names["change"], "classes", transitions.change_legend(), group="Change")]
    if (legend := transitions.polygon_legend()) is not None:
        layers.insert(0, ProjectLayer("changed polygons", folder / names["polygons"], "polygons", legend, group="Change", visible=False))
    crs = pair.geobox.crs
    assert crs is not None, "a map has a CRS"
    bounds = pair.geobox.boundingbox
    extent = (bounds.left, bounds.bottom, bounds.right, bounds.top)
    write_project(folder / names["project"], layers, title=_title(pair), crs=crs, extent=extent)


def write_difference_item(
    folder: Path,
    names: Mapping[str, str],
    pair: Pair,
    transitions: Transitions,
    *,
    settings: Mapping[str, Any],
    summary: Mapping[str, Any],
    warnings: Sequence[str],
) -> None:
    """The STAC Item of the comparison: both maps with their checksums, all settings, all figures."""
    geobox, created = pair.geobox, datetime.now(UTC).replace(microsecond=0)
    geometry, bbox = footprint(geobox)
    times = [side.result.time for side in (pair.before, pair.after)]
    assets = {
        what: file_asset(
            folder / name,
            folder=folder,
            media_type=_MEDIA_TYPES[Path(name).suffix],
            title=what,
            roles=["change" if what == "change" else "visual" if what == "project" else "data"],
            classes=transitions.change_legend().classes if what == "change" else (),
        )
        for what, name in names.items()
        if what != "item"
    }
    properties = {
        "datetime": _stamp(times[1] or created),
        "created": _stamp(created),
        "title": _title(pair),
        **grid_fields(geobox),
        "processing:software": software(),
        "geoseg:difference": {
            "before": _side_facts(pair.before),
            "after": _side_facts(pair.after),
            "settings": dict(settings),
            "summary": dict(summary),
            "warnings": list(warnings),
        },
        "geoseg:attribution": "; ".join(
            dict.fromkeys(side.result.attribution for side in (pair.before, pair.after) if side.result.attribution)
        ),
    }
    if all(times):
        properties["start_datetime"], properties["end_datetime"] = (_stamp(moment) for moment in sorted(t for t in times if t))
    item = {
        "type": "Feature",
        "stac_version": STAC_VERSION,
        "stac_extensions": [PROJECTION, FILE, CLASSIFICATION, PROCESSING],
        "id": Path(names["item"]).stem,
        "geometry": geometry,
        "bbox": bbox,
        "properties": properties,
        "links": [],
        "assets": assets,
    }
    with atomic(folder / names["item"]) as part:
        part.write_text(json.dumps(item, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def _side_facts(side: Side) -> dict[str, Any]:
    """One of the two maps: its file with its checksum, and what reason layer was used."""
    edited = side.result.is_edited()
    return {
        "path": str(Path(side.map.path).absolute()),
        "checksum": file_multihash(Path(side.map.path)),
        "corrected_after_mapping": edited,
        "reason": str(side.reason.absolute()) if side.reason is not None else None,
        "datetime": _stamp(side.result.time) if side.result.time else None,
        "model": dict(side.result.model) if side.result.model else None,
    }


def _title(pair: Pair) -> str:
    return f"change from {pair.before.result.name} to {pair.after.result.name}"


def _stamp(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
