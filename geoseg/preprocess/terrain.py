"""The shape of the ground from its heights: gradient, slope, aspect, and how directly the sun shines on it.

The gradient is that of Horn (1981), "Hill shading and the reflectance map", Proceedings of the IEEE 69(1): in each direction the mean of
three differences over 3 x 3 pixels, the middle one counted twice. Beside a gap or an edge we take what is left of it, so that a plane
keeps its slope up to the last pixel; GDAL's gdaldem leaves such pixels out.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

FLAT_ASPECT = -1.0
"""The aspect of ground without any slope: it faces nowhere. (gdaldem writes -9999, ArcGIS -1.)"""


class Gradient(NamedTuple):
    """How steeply the ground rises: metres of height for each metre of ground."""

    east: Floats
    """(row, col) towards the east; 0 where not known."""
    north: Floats
    """(row, col) towards true north, not the grid's; 0 where not known."""
    known: NDArray[np.bool_]
    """(row, col) True where the pixel has a height, and neighbours that have one."""


def horn_gradient(height_m: Floats, valid: NDArray[np.bool_], steps_m: Floats) -> Gradient:
    """The gradient inside heights (row + 2, col + 2), which have one pixel more on each side, as `valid` has.

    `steps_m` (2, 2, row, col) holds the ground metres to the east and to true north (second axis) of one step to the next column and
    of one to the next row (first axis): so grids may be turned, upside down, or in degrees.
    """
    by_col, cols_known = _differences(height_m, valid)
    down, rows_known = _differences(height_m.T, valid.T)
    by_row = down.T
    (col_east, col_north), (row_east, row_north) = steps_m
    with np.errstate(all="ignore"):  # where a projection gives no place the steps are NaN, and nothing is known
        area = col_east * row_north - row_east * col_north
        east = (by_col * row_north - by_row * col_north) / area
        north = (by_row * col_east - by_col * row_east) / area
    known = valid[1:-1, 1:-1] & cols_known & rows_known.T & np.isfinite(east) & np.isfinite(north)
    return Gradient(np.where(known, east, 0), np.where(known, north, 0), known)


def slope_degrees(east: Floats, north: Floats) -> Floats:
    """The angle of the steepest way up against the horizontal, 0 to 90 degrees."""
    slope: Floats = np.degrees(np.arctan(np.hypot(east, north)))
    return slope


def aspect_degrees(east: Floats, north: Floats) -> Floats:
    """Where the ground faces, downhill: 0 to 360 degrees clockwise from true north (90 is east); FLAT_ASPECT where it has no slope."""
    facing = np.degrees(np.arctan2(-east, -north)) % 360.0
    facing[facing.astype(np.float32) == 360.0] = 0.0  # as it is stored, the last step before north is north
    aspect: Floats = np.where((east == 0) & (north == 0), FLAT_ASPECT, facing)
    return aspect


def solar_illumination(east: Floats, north: Floats, *, zenith_deg: float, azimuth_deg: float) -> Floats:
    """Cosine of the angle between the sun and the ground's upright, -1 to 1; below 0 the ground lies in its own shadow.

    `zenith_deg` is the sun's angle from straight above, `azimuth_deg` where it stands, clockwise from true north. The shadow of one
    hill on another is not known here.
    """
    zenith, azimuth = np.radians([zenith_deg, azimuth_deg])
    towards = np.cos(zenith) - np.sin(zenith) * (east * np.sin(azimuth) + north * np.cos(azimuth))
    illumination: Floats = towards / np.sqrt(1 + east * east + north * north)
    return illumination


# ---------------------------------------------------------------- below: differences beside gaps


def _differences(height: Floats, valid: NDArray[np.bool_]) -> tuple[Floats, NDArray[np.bool_]]:
    """(row, col) rise from a column to the next, from (row + 2, col + 2) heights, and where any of the three differences is known."""
    left, middle, right = height[:, :-2], height[:, 1:-1], height[:, 2:]
    rise = (right - left) / 2
    if valid.all():
        return (rise[:-2] + 2 * rise[1:-1] + rise[2:]) / 4, np.ones(rise[1:-1].shape, dtype=bool)
    has_left, has_middle, has_right = valid[:, :-2], valid[:, 1:-1], valid[:, 2:]
    rise = np.where(has_left, rise, right - middle)
    rise = np.where(has_right, rise, middle - left)
    known = (has_left & has_right) | (has_middle & (has_left | has_right))
    rise = np.where(known, rise, 0)
    weight = known[:-2] + 2.0 * known[1:-1] + known[2:]
    total = rise[:-2] + 2 * rise[1:-1] + rise[2:]
    return np.divide(total, weight, out=np.zeros_like(total), where=weight > 0), weight > 0
