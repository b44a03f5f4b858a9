"""Polygons of a class map: traced without loss, measured on the ground, simplified without gaps."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from geoseg.errors import InputError
from geoseg.ground import corners_to_map, geodesic_area_m2
from geoseg.io.polygon_files import PolygonBatch, text_column, write_polygon_batches
from geoseg.legend import Legend
from geoseg.polygons.buildings import square_buildings
from geoseg.polygons.measures import ClassBands, OwnScores, RunAreas, open_scores
from geoseg.polygons.simplify import Simplifier
from geoseg.polygons.stream import Traced, no_regions, trace_regions
from geoseg.polygons.strips import Runs, map_geobox, read_codes
from geoseg.polygons.touching import codes_of_pieces
from geoseg.polygons.trace import Outlines, join_outlines

if TYPE_CHECKING:
    from geopandas import GeoDataFrame


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
    `simplify_m` is a tolerance in metres on the ground, as `simplify.Simplifier` says: borders are simplified once for both
    sides, so no gaps and no overlaps arise; `area_m2` is then that of the polygon as written.

    Outlines of the class codes in `square` get right angles where `squares.py` allows it; a column `squared` then says which did.
    The other classes follow them, so that no polygons overlap. `pieces` is the map after `touching.split_touching`: its
    regions are traced.

    All polygons are held in memory, as shapely's; `write_map_polygons` writes maps of any size.

    Raises InputError for a negative tolerance or a code that is not in the legend, SceneError for scores on another grid.

    >>> prediction = geoseg.predict("scene.tif", "my_model", "traced")
    >>> frame = geoseg.trace_polygons(prediction.files["classes"], prediction.package.outputs[0].legend)
    >>> list(frame.columns)
    ['class_code', 'class_name', 'area_m2', 'geometry']
    """
    from geopandas import GeoDataFrame  # takes a second to load

    made = _Tracing(classes, legend, scores, simplify_m, pieces)
    parts = list(made.traced(nodes=bool(square)))
    geometry = np.concatenate([made.shapes(part.simplified) for part in parts])
    of_parts = [made.columns(part) for part in parts]
    order = np.argsort(np.concatenate([part.first_pixels for part in parts]))
    geometry = geometry[order]
    columns = {name: np.concatenate([part[name] for part in of_parts])[order] for name in of_parts[0]}
    columns["class_name"] = np.asarray(legend.names, dtype=object)[columns["class_name"]]
    if square:
        outlines, before = join_outlines([part.outlines for part in parts], order), geometry
        geometry, columns["squared"] = square_buildings(geometry, outlines, np.isin(columns["class_code"], list(square)), made.geobox)
        moved = np.flatnonzero(geometry != before)
        columns["area_m2"][moved] = geodesic_area_m2(geometry[moved], made.geobox.crs)
    return GeoDataFrame(columns, geometry=geometry, crs=made.crs_wkt)


def write_map_polygons(
    out: Path,
    classes: Path,
    legend: Legend,
    *,
    scores: Path | None = None,
    simplify_m: float = 0.0,
    style_qml: str | None = None,
    description: str | None = None,
    change: Callable[[PolygonBatch], PolygonBatch] | None = None,
) -> int:
    """Write the polygons of `trace_polygons` as a GeoPackage while they are traced; return how many there are.

    `change` makes of each batch, perhaps an empty one, what is written. In memory are a strip of the map and the regions that
    go on below it. The polygons come in the order of their last rows, and of their first pixels within one. Errors are those of
    `trace_polygons`, and OutputError where `out` cannot be written.
    """
    made = _Tracing(classes, legend, scores, simplify_m)
    batches = made.batches() if change is None else map(change, made.batches())
    return write_polygon_batches(out, batches, crs=made.crs_wkt, style_qml=style_qml, description=description)


@dataclass(frozen=True)
class _Tracing:
    """What is to be traced."""

    classes: Path
    legend: Legend
    scores: Path | None = None
    simplify_m: float = 0.0
    pieces: Path | None = None

    def __post_init__(self) -> None:
        if self.simplify_m < 0:
            raise InputError(f"a tolerance of {self.simplify_m:g} m was given; expected 0 or more, in metres on the ground")

    @cached_property
    def geobox(self) -> GeoBox:
        """The grid of the map."""
        return map_geobox(self.classes)

    @property
    def crs_wkt(self) -> str | None:
        """The map's CRS; None where it has none."""
        return None if self.geobox.crs is None else str(self.geobox.crs.to_wkt())

    def traced(self, *, nodes: bool = False) -> Iterator[Traced]:
        """Finished regions; at least one batch, which may be empty."""
        upright = self.geobox.affine.determinant < 0  # rows are drawn downwards on the map, so that outer rings turn as OGC wants them
        divided, keep, rows = self.pieces or self.classes, None, None
        if self.simplify_m > 0:
            keep = Simplifier(self.geobox, self.simplify_m)
            rows = keep.band_rows
        with ExitStack() as stack:
            opened = None if self.scores is None else stack.enter_context(open_scores(self.scores, self.classes, self.geobox))
            sums = _Sums(
                RunAreas(self.geobox), ClassBands(self.legend), None if opened is None else OwnScores(opened), self.pieces is not None
            )
            batches = trace_regions(
                read_codes(divided, rows), self.legend.nodata, sums=sums, keep=keep, nodes=nodes or keep is not None, clockwise=not upright
            )
            empty = True
            for batch in batches:
                empty = False
                yield batch
        if empty:
            yield no_regions(2 if self.scores is None else 3)

    def batches(self) -> Iterator[PolygonBatch]:
        """Polygons as they are written."""
        for part in self.traced():
            columns = self.columns(part)
            named = {name: text_column(self.legend.names, values) if name == "class_name" else values for name, values in columns.items()}
            outlines = part.simplified
            yield PolygonBatch(self._corners(outlines), outlines.ring_offsets, outlines.polygon_offsets, named)

    def columns(self, part: Traced) -> dict[str, NDArray[Any]]:
        """The columns of a batch; `class_name` by its position in the legend."""
        codes = codes_of_pieces(part.codes) if self.pieces is not None else part.codes
        columns: dict[str, NDArray[Any]] = {
            "class_code": codes.astype(np.int32),
            "class_name": ClassBands(self.legend).of(codes),
            "area_m2": part.sums[0],
        }
        if self.scores is not None:
            total, count = part.sums[1:]
            columns["mean_score"] = np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0)
        if self.simplify_m > 0 and len(part):
            columns["area_m2"] = geodesic_area_m2(self.shapes(part.simplified), self.geobox.crs)
        return columns

    def shapes(self, outlines: Outlines) -> NDArray[Any]:
        """(polygon,) as shapely's."""
        offsets = (outlines.ring_offsets, outlines.polygon_offsets)
        polygons: NDArray[Any] = shapely.from_ragged_array(shapely.GeometryType.POLYGON, self._corners(outlines), offsets)
        return polygons

    def _corners(self, outlines: Outlines) -> NDArray[np.float64]:
        return corners_to_map(self.geobox.affine, outlines.col, outlines.row)


@dataclass(frozen=True)
class _Sums:
    """What is added up over each region: square metres, and, where there are scores, their sum and the pixels that have one."""

    areas: RunAreas
    bands: ClassBands
    scores: OwnScores | None
    in_pieces: bool

    def __call__(self, runs: Runs) -> NDArray[np.float64]:
        areas = self.areas.of(runs)
        if self.scores is None:
            return areas[np.newaxis]
        codes = runs.codes.ravel()[runs.firsts]
        bands = self.bands.of(codes_of_pieces(codes) if self.in_pieces else codes)
        return np.stack([areas, *self.scores.sums(bands, runs)])
