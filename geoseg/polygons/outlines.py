"""Polygons of a class map: traced without loss, measured on the ground, simplified without gaps."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import shapely
from geopandas import GeoDataFrame
from numpy.typing import NDArray
from rasterio.windows import Window

from geoseg.errors import InputError, SceneError
from geoseg.ground import corners_to_map, geodesic_area_m2, metres_to_crs
from geoseg.legend import Legend
from geoseg.polygons.buildings import square_buildings
from geoseg.polygons.regions import Regions, find_regions, map_geobox, read_strips
from geoseg.polygons.touching import codes_of_pieces
from geoseg.polygons.trace import OUTSIDE, trace_outlines


def trace_polygons(
    classes: Path,
    legend: Legend,
    *,
    scores: Path | None = None,
    simplify_m: float = 0.0,
    square: Collection[int] = (),
    pieces: Path | None = None,
) -> GeoDataFrame:
    """One polygon for each region of a class map, in the map's CRS, in the order of the regions' first pixels.

    Columns: `class_code`, `class_name`, `area_m2` (on the ground), `mean_score` (0…1, of the polygon's own class; only with
    `scores`) and `geometry`. Pixels belong together by their sides, holes are kept, pixels without a class have no polygon.
    Rasterised again at pixel centres the polygons equal the map exactly, and their areas add up to the map's.

    `scores` holds one band for each class in the legend's order on the same grid; its scale and offset are applied.
    `simplify_m` is a tolerance in metres on the ground: corners go whose triangle with their neighbours is smaller than its
    square. Borders are simplified once for both sides, so no gaps and no overlaps arise; `area_m2` is then that of the
    polygon as written.

    Outlines of the class codes in `square` get right angles where `squares.py` allows it; a column `squared` then says which did.
    The other classes follow them, so that no polygons overlap. `pieces` is the map after `touching.split_touching`: its
    regions are traced.

    Raises InputError for a negative tolerance or a code that is not in the legend, SceneError for scores on another grid.
    """
    if simplify_m < 0:
        raise InputError(f"a tolerance of {simplify_m:g} m was given; expected 0 or more, in metres on the ground")
    divided = pieces or classes
    regions = find_regions(divided)
    codes = regions.codes if pieces is None else codes_of_pieces(regions.codes)
    which, _ = legend.to_indices(codes)
    geobox = map_geobox(classes)
    crs = rasterio.crs.CRS.from_wkt(geobox.crs.to_wkt()) if geobox.crs is not None else None
    transform = geobox.affine
    upright = transform.determinant < 0  # rows are drawn downwards on the map, so that outer rings turn as OGC wants them
    outlines = trace_outlines(_numbered(divided, regions, legend.nodata), nodes=simplify_m > 0 or bool(square), clockwise=not upright)
    corners = corners_to_map(transform, outlines.col, outlines.row)
    offsets = (outlines.ring_offsets, outlines.polygon_offsets)
    geometry = shapely.from_ragged_array(shapely.GeometryType.POLYGON, corners, offsets)
    columns: dict[str, Any] = {
        "class_code": codes[outlines.regions].astype(np.int32),
        "class_name": np.asarray(legend.names, dtype=object)[which[outlines.regions]],
        "area_m2": regions.areas_m2[outlines.regions],
    }
    if scores is not None:
        columns["mean_score"] = _mean_scores(scores, divided, regions, which)[outlines.regions]
    if simplify_m > 0 and len(geometry):
        geometry = shapely.coverage_simplify(geometry, metres_to_crs(geobox, geobox.crs, simplify_m))
        columns["area_m2"] = geodesic_area_m2(geometry, geobox.crs)
    if square:
        before = geometry
        geometry, columns["squared"] = square_buildings(geometry, outlines, np.isin(columns["class_code"], list(square)), geobox)
        moved = np.flatnonzero(geometry != before)
        columns["area_m2"][moved] = geodesic_area_m2(geometry[moved], geobox.crs)
    return GeoDataFrame(columns, geometry=geometry, crs=crs)


def _numbered(classes: Path, regions: Regions, nodata: int) -> Iterator[NDArray[np.int32]]:
    """The rows of the map strip by strip, each pixel the number of its region."""
    for strip, of_runs in zip(read_strips(classes), regions.of_runs, strict=True):
        yield strip.spread(np.where(regions.codes[of_runs] == nodata, np.int32(OUTSIDE), of_runs))


def _mean_scores(scores: Path, classes: Path, regions: Regions, which: NDArray[np.int64]) -> NDArray[np.float64]:
    """(region,) mean over its pixels of the score of its own class; NaN where no pixel has a score.

    `which` is the band, counted from 0, of each region's class.
    """
    geobox = map_geobox(scores)
    if geobox != map_geobox(classes):
        raise SceneError(f"{scores} and {classes} do not lie on the same grid; give the scores that were written with this class map")
    total, count = np.zeros(len(regions)), np.zeros(len(regions))
    with rasterio.open(scores) as source:
        scales, offsets = np.asarray(source.scales), np.asarray(source.offsets)
        for strip, of_runs in zip(read_strips(classes), regions.of_runs, strict=True):
            stored = source.read(window=Window(0, strip.first_row, source.width, strip.codes.shape[0]))  # (band, row, col)
            own = np.take_along_axis(stored, strip.spread(which[of_runs])[np.newaxis], axis=0)[0]
            known = np.isfinite(own) if source.nodata is None else (own != source.nodata) & np.isfinite(own)
            sums = np.add.reduceat(np.where(known, own, 0).ravel(), strip.firsts, dtype=np.float64)
            counts = np.add.reduceat(known.ravel(), strip.firsts, dtype=np.int64)
            band = which[of_runs]
            total += np.bincount(of_runs, weights=sums * scales[band] + counts * offsets[band], minlength=len(regions))
            count += np.bincount(of_runs, weights=counts, minlength=len(regions))
    mean: NDArray[np.float64] = np.divide(total, count, out=np.full(len(regions), np.nan), where=count > 0)
    return mean
