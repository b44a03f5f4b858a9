"""Which corners of outlines stay when borders are simplified: band by band of the map, so that memory does not grow with it."""

from __future__ import annotations

from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from geoseg.ground import metres_to_crs
from geoseg.polygons.stream import trace_outlines

_MOST_ROWS = 1024
_PIXELS_IN_A_BAND = 2**23
_BEYOND = -1


class Simplifier:
    """Says which corners stay: those that the coverage of a band keeps, and all on the lines between bands.

    Corners go whose triangle with their neighbours is smaller than the tolerance squared, smallest first (Visvalingam and
    Whyatt 1993, "Line generalisation by repeated elimination of points", as in GEOS's coverages: borders once for both
    sides, what meets at a point stays joined, lines never cross). Pixels without a class take part like a class.

    A band is `band_rows` pixel rows from a multiple of them, a power of two that depends on the map's width alone. On the
    lines between bands every corner stays, and every outline that crosses them has a vertex there, so that bands can be
    simplified by themselves; so does every corner on the map's edge.
    """

    def __init__(self, geobox: GeoBox, tolerance_m: float) -> None:
        # In pixels: an affine transform changes all areas alike.
        self._tolerance = metres_to_crs(geobox, geobox.crs, tolerance_m) / float(np.sqrt(abs(geobox.affine.determinant)))
        self.band_rows = max(1, min(_MOST_ROWS, 2 ** int(np.log2(max(1, _PIXELS_IN_A_BAND // geobox.shape[1])))))

    def __call__(self, codes: NDArray[Any]) -> NDArray[np.bool_]:
        """(row, corner col) True for the corners that stay above each row of a band of codes (row, col)."""
        stays = np.zeros((codes.shape[0] + 1, codes.shape[1] + 1), dtype=bool)
        stays[0] = True
        outlines = trace_outlines(codes.astype(np.int64), _BEYOND, nodes=True)
        corners = np.stack([outlines.col, outlines.row], axis=-1).astype(np.float64)
        offsets = (outlines.ring_offsets, outlines.polygon_offsets)
        coverage = shapely.from_ragged_array(shapely.GeometryType.POLYGON, corners, offsets)
        kept = shapely.coverage_simplify(coverage, self._tolerance, simplify_boundary=False)
        col, row = shapely.get_coordinates(kept).astype(np.int64).T
        stays[row, col] = True
        return stays[:-1]
