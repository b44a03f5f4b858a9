"""What a map says of given polygons, such as parcels: one row for each, with its majority class, shares, score and how much was seen."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.io import DatasetReader
from rasterio.windows import Window

from geoseg.errors import InputError, SceneError, require
from geoseg.ground import distance_km, geodesic_area_m2, outline
from geoseg.io.class_maps import ClassMap, read_class_indices
from geoseg.io.feature_tables import LAYER as LAYER
from geoseg.io.feature_tables import FeatureTable, read_table, write_table
from geoseg.io.legends import is_a_class
from geoseg.io.ogr import pa
from geoseg.io.opening import dataset_geobox, files_kept_open, gdal_env, opened
from geoseg.io.qgis_styles import polygons_qml
from geoseg.io.resample import Placement
from geoseg.io.vectors import onto_grid
from geoseg.legend import Legend
from geoseg.maps.zone_pixels import NOTHING, Reader, ZonePixels, count_classes, mean_values, to_pixels

CODE_COLUMN = "map_code"
"""The majority class, by which QGIS colours the zones."""
SMALL = 9
"""Zones with fewer whole pixels are flagged: at most a 3 x 3 block that no neighbour mixes into."""

NOTE_COLUMN = "map_note"
NO_POLYGON, OUTSIDE, UNSEEN, CUT = "no polygon", "outside the map", "not observed", "reaches beyond the map"
SMALL_NOTE = f"small: fewer than {SMALL} whole pixels"

_TIE = 1e-6
"""Shares that differ by less are equal; coverage comes in 32-bit floating point."""
_READING_CACHE_MB = 64


@dataclass(frozen=True)
class Zones:
    """Polygons on the grid of a map."""

    table: FeatureTable
    """As they were given."""
    geobox: GeoBox
    pixels: NDArray[Any]
    """(placed zone,) multipolygons in pixel coordinates; only zones that touch the map."""
    place: NDArray[np.int64]
    """(placed zone,) its position in the table."""
    share_inside: NDArray[np.float64]
    """(placed zone,) share of its ground that lies on the map."""
    areal: NDArray[np.bool_]
    """(zone,) True where the table has a polygon."""


def open_zones(path: str | Path, geobox: GeoBox) -> Zones:
    """The polygons of a vector file, any format and CRS that GDAL reads, placed on a map.

    Invalid polygons are mended for counting; the given ones stay as they are. InputError where there is no such file, it holds no
    polygons, or none that touches the map, with the distance; MissingExtraError without exactextract.
    """
    require("exactextract", extra="zones")
    table = read_table(path, wanted="polygons")
    given = table.geometries()
    areal = np.isin(shapely.get_type_id(given), (shapely.GeometryType.POLYGON, shapely.GeometryType.MULTIPOLYGON)) & ~shapely.is_empty(
        given
    )
    if not areal.any():
        kinds = sorted({one.geom_type for one in given if one is not None})
        raise InputError(f"{path} holds {' and '.join(kinds) or 'no geometries'} but no polygons; give the zones as polygons")
    sound = given[areal]
    broken = ~shapely.is_valid(sound)
    sound[broken] = shapely.make_valid(sound[broken], method="structure", keep_collapsed=False)
    parts, of_part = onto_grid(sound, table.crs, geobox)
    if not len(parts):
        away = distance_km(shapely.union_all(sound[:1000]), table.crs, geobox)
        raise InputError(f"{path} does not touch the map: it lies about {away:,.0f} km away; give zones of this place")
    parts, again = shapely.get_parts(parts, return_index=True)
    of_part = of_part[again]
    polygonal = shapely.get_type_id(parts) == shapely.GeometryType.POLYGON
    parts, of_part = parts[polygonal], of_part[polygonal]
    placed, position = np.unique(of_part, return_inverse=True)
    whole = shapely.multipolygons(parts, indices=position)
    return Zones(
        table,
        geobox,
        to_pixels(whole, geobox),
        np.flatnonzero(areal)[placed],
        _share_inside(whole, sound[placed], table.crs, geobox),
        areal,
    )


def zone_columns(zones: Zones, classes: ClassMap, *, scores: str | Path | None = None) -> dict[str, pa.Array]:
    """Name → column of what the map says of each zone, null where it says nothing.

    `map_code`, `map_class`: the class with the largest share of the observed ground, of equals the lower code. `map_score`: mean
    score (0…1) of that class over the zone's observed ground; only with `scores`, one band for each class in the legend's order.
    `observed_share`: of the zone's ground, 0…1. `pixels_inside`: the zone's size in pixels of the map. `whole_pixels`: those that it
    covers wholly. `share_…`: of the observed ground, one for each class, adding up to 1. `map_note`: what to beware of,
    such as too few pixels.
    """
    count, legend = len(zones.table), classes.legend
    with gdal_env(_READING_CACHE_MB), files_kept_open():
        found = count_classes(zones.pixels, _class_reader(classes), zones.geobox.shape.yx, len(legend))
        majority = _majority(found, legend)
        mean = None if scores is None else _mean_scores(zones, majority, legend, scores)
    columns: dict[str, pa.Array] = {}

    def put(name: str, values: Any, kind: pa.DataType, known: NDArray[np.bool_]) -> None:
        whole: list[Any] = [None] * count
        for place, value in zip(zones.place[known].tolist(), np.asarray(values)[known].tolist(), strict=True):
            whole[place] = value
        columns[name] = pa.array(whole, kind)

    observed, everywhere = majority >= 0, np.ones(len(majority), bool)
    put(CODE_COLUMN, np.asarray(legend.codes)[majority], pa.int32(), observed)
    put("map_class", np.asarray(legend.names, object)[majority], pa.string(), observed)
    if mean is not None:
        put("map_score", mean, pa.float64(), observed & np.isfinite(mean))
    share = np.divide(found.observed, found.inside, out=np.zeros(len(observed)), where=found.inside > 0) * zones.share_inside
    put("observed_share", np.minimum(share, 1.0), pa.float64(), everywhere)
    put("pixels_inside", found.inside, pa.float64(), everywhere)
    put("whole_pixels", found.whole, pa.int64(), everywhere)
    for name, index in _share_names(legend).items():
        put(f"share_{name}", found.shares[:, index], pa.float64(), observed)
    columns[NOTE_COLUMN] = pa.array(_notes(zones, found, observed), pa.string())
    return columns


def write_zones(path: Path, zones: Zones, classes: ClassMap, *, scores: str | Path | None = None) -> dict[str, int]:
    """Write the zones with their new columns to a `.gpkg`, coloured by majority class, or a `.csv`; how many there are, with which notes.

    A new column whose name the zones have already gets a number behind it.
    """
    table = zones.table
    columns = {table.free_name(name): column for name, column in zone_columns(zones, classes, scores=scores).items()}
    write_table(path, table, columns, style_qml=polygons_qml(classes.legend, table.free_name(CODE_COLUMN)))
    notes = [note for told in columns[table.free_name(NOTE_COLUMN)].to_pylist() if told for note in told.split("; ")]
    return {"zones": len(table)} | {note: notes.count(note) for note in dict.fromkeys(notes)}


# ---------------------------------------------------------------- below: placing and reading


def _share_inside(placed: NDArray[Any], given: NDArray[Any], crs: str, geobox: GeoBox) -> NDArray[np.float64]:
    """(zone,) share of each zone's ground that lies on the map; 1 for those whose bounds do."""
    rows, cols = geobox.shape
    left, bottom, right, top = shapely.bounds(to_pixels(placed, geobox)).T
    shares = np.ones(len(placed))
    beyond = np.flatnonzero((left < -_TIE) | (bottom < -_TIE) | (right > cols + _TIE) | (top > rows + _TIE))
    if len(beyond):
        inside = shapely.intersection(placed[beyond], shapely.Polygon(outline(geobox)))
        whole = geodesic_area_m2(given[beyond], crs)
        part = geodesic_area_m2(inside, geobox.crs)
        shares[beyond] = np.minimum(1.0, np.divide(part, whole, out=np.zeros(len(beyond)), where=whole > 0))
    return shares


def _class_reader(classes: ClassMap) -> Reader:
    def read(rows: slice, cols: slice) -> NDArray[np.int16]:
        indices = read_class_indices(classes, classes.geobox[rows, cols])
        return np.maximum(indices, NOTHING).astype(np.int16)

    return read


def _majority(found: ZonePixels, legend: Legend) -> NDArray[np.int64]:
    """(zone,) index of the class with the largest share, of equals the lower code; -1 where nothing is observed."""
    by_code = np.argsort(legend.codes)
    largest = found.shares.max(axis=1, keepdims=True)
    first = (found.shares[:, by_code] >= largest - _TIE).argmax(axis=1)
    return np.where(largest[:, 0] > 0, by_code[first], -1)


def _mean_scores(zones: Zones, majority: NDArray[np.int64], legend: Legend, scores: str | Path) -> NDArray[np.float64]:
    """(zone,) mean score of the zone's own class; each class reads its own band for its own zones."""
    means = np.full(len(majority), np.nan)
    with opened(str(scores)) as file:
        if file.shape != zones.geobox.shape.yx or Placement(dataset_geobox(file), zones.geobox).shift != (0, 0):
            raise SceneError(f"{scores} does not lie on the grid of the map; give the scores that were written with this class map")
        bands = _score_bands(file, legend)
    for index in np.unique(majority[majority >= 0]).tolist():
        mine = np.flatnonzero(majority == index)
        means[mine] = mean_values(zones.pixels[mine], _score_reader(str(scores), bands[index]), zones.geobox.shape.yx)
    return means


def _score_bands(file: DatasetReader, legend: Legend) -> dict[int, int]:
    """Index of each class → its band, by the band's description; where it has none, in the legend's order."""
    if file.count != len(legend):
        raise SceneError(f"{file.name} has {file.count} bands; expected scores: one for each of the {len(legend)} classes")
    ends = [(description or "").rpartition("score of ")[2] for description in file.descriptions]
    return {one.index: ends.index(one.name) + 1 if one.name in ends else one.index + 1 for one in legend.classes}


def _score_reader(path: str, band: int) -> Reader:
    def read(rows: slice, cols: slice) -> NDArray[np.float32]:
        with opened(path) as file:
            stored = file.read(band, window=Window.from_slices((rows.start, rows.stop), (cols.start, cols.stop)))
            known = np.isfinite(stored) if file.nodata is None else stored != file.nodata
            return np.where(known, stored * file.scales[band - 1] + file.offsets[band - 1], np.nan).astype(np.float32)

    return read


def _share_names(legend: Legend) -> dict[str, int]:
    """What stands behind `share_` → index of the class: its name as a column can bear it, with its code where two would be alike."""
    slugs = {one.index: re.sub(r"\W+", "_", one.name).strip("_") or str(one.code) for one in legend.classes if is_a_class(one.name)}
    lower = [slug.lower() for slug in slugs.values()]
    return {f"{slug}_{legend.classes[index].code}" if lower.count(slug.lower()) > 1 else slug: index for index, slug in slugs.items()}


def _notes(zones: Zones, found: ZonePixels, observed: NDArray[np.bool_]) -> list[str | None]:
    """What to beware of in each zone; None where there is nothing."""
    notes: NDArray[Any] = np.where(zones.areal, OUTSIDE, NO_POLYGON).astype(object)
    small = np.where(found.whole < SMALL, SMALL_NOTE, "")
    partly = np.where(zones.share_inside < 1 - _TIE, CUT, "")
    unseen = np.where(observed, "", UNSEEN)
    notes[zones.place] = ["; ".join(filter(None, told)) or None for told in zip(unseen, partly, small, strict=True)]
    reached = np.ones(len(notes), bool)
    reached[zones.place] = found.inside > 0
    notes[~reached] = OUTSIDE
    return list(notes)
