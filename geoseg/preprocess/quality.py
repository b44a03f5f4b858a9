"""Why a pixel has a class or has none: quality layers read into reasons, and reasons grown by a margin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import BandError
from geoseg.legend import Legend, LegendClass
from geoseg.preprocess.optical import to_physical
from geoseg.raster import Raster
from geoseg.sensors import QualityClass, QualityTable

DEFAULT_MASK_CLASSES: tuple[QualityClass, ...] = ("nodata", "saturated", "cloud", "cloud_shadow", "cirrus", "layover", "radar_shadow")
"""Masked unless asked otherwise; snow and water are ground."""


class Reason(IntEnum):
    """What the reason layer holds."""

    OUTSIDE = 0
    OBSERVED = 1
    NO_DATA = 2
    CLOUD = 3
    CLOUD_SHADOW = 4
    OUTSIDE_AREA = 5
    SATURATED = 6
    CIRRUS = 7
    SNOW = 8
    WATER = 9
    LAYOVER = 10
    RADAR_SHADOW = 11


REASON_LEGEND = Legend(
    (
        LegendClass(0, Reason.OUTSIDE, "outside the scene", "#000000", background=True),
        LegendClass(1, Reason.OBSERVED, "observed", "#ffffff", background=True),
        LegendClass(2, Reason.NO_DATA, "no data", "#555555"),
        LegendClass(3, Reason.CLOUD, "cloud", "#ee8866"),
        LegendClass(4, Reason.CLOUD_SHADOW, "cloud shadow", "#aa3377"),
        LegendClass(5, Reason.OUTSIDE_AREA, "outside the area of interest", "#bbbbbb"),
        LegendClass(6, Reason.SATURATED, "saturated", "#ee6677"),
        LegendClass(7, Reason.CIRRUS, "cirrus", "#ccbb44"),
        LegendClass(8, Reason.SNOW, "snow", "#66ccee"),
        LegendClass(9, Reason.WATER, "water", "#4477aa"),
        LegendClass(10, Reason.LAYOVER, "radar layover", "#ddaa33"),
        LegendClass(11, Reason.RADAR_SHADOW, "radar shadow", "#332288"),
    )
)
"""Codes, names and colours of the reason layer; the observed pixels are transparent, so that the map beneath is seen."""

REASON_OF: Mapping[QualityClass, Reason] = {
    "nodata": Reason.NO_DATA,
    "cloud": Reason.CLOUD,
    "cirrus": Reason.CIRRUS,
    "cloud_shadow": Reason.CLOUD_SHADOW,
    "saturated": Reason.SATURATED,
    "layover": Reason.LAYOVER,
    "radar_shadow": Reason.RADAR_SHADOW,
    "snow": Reason.SNOW,
    "water": Reason.WATER,
}
"""In order of precedence: where a pixel is several of these at once, the first is its reason."""

_NEVER_GROWN = (Reason.OUTSIDE, Reason.OBSERVED, Reason.NO_DATA, Reason.OUTSIDE_AREA)
"""A margin around the scene's own edge would only shrink the scene."""


def quality_reasons(
    codes: Raster | NDArray[np.integer[Any]], table: QualityTable, classes: Sequence[QualityClass] = DEFAULT_MASK_CLASSES
) -> NDArray[np.uint8]:
    """(row, col) `Reason` of each pixel as the quality layer tells: OBSERVED, or that of the first of `classes` it belongs to.

    `codes` is a Raster or (row, col), or (plane, row, col), as stored. Where a Raster's quality is itself not valid, nothing
    is known of the pixel: NO_DATA if `classes` has "nodata".
    """
    if unknown := sorted(set(classes) - set(REASON_OF)):
        raise BandError(f"no quality class {unknown[0]!r}; there are {', '.join(REASON_OF)}")
    layers = codes.values if isinstance(codes, Raster) else np.asarray(codes)
    layers = layers[np.newaxis] if layers.ndim == 2 else layers  # (plane, row, col)
    layers = layers if np.issubdtype(layers.dtype, np.unsignedinteger) else layers.astype(np.int64)
    reasons = np.full(layers.shape[1:], Reason.OBSERVED, dtype=np.uint8)
    for name in reversed(list(REASON_OF)):  # the first in precedence is written last
        if name in classes and name in table.meanings:
            reasons[_belongs(layers, table, table.meanings[name])] = REASON_OF[name]
    if isinstance(codes, Raster) and "nodata" in classes:
        unknown_ground = ~codes.valid[0] if table.coding == "bits" else ~codes.valid_everywhere  # further flags only add to the first
        reasons[unknown_ground] = Reason.NO_DATA
    return reasons


_LAYER_BITS = 16
"""So many bits are counted in each layer of flags."""


def _belongs(layers: NDArray[Any], table: QualityTable, numbers: tuple[int, ...]) -> NDArray[np.bool_]:
    """(row, col); True where the quality layer says one of these codes, bits or planes."""
    if table.coding == "codes":
        return np.isin(layers[0], numbers)
    if table.coding == "bits":
        flagged = np.zeros(layers.shape[1:], dtype=bool)
        for place, layer in enumerate(layers):
            bits = {number - _LAYER_BITS * place for number in numbers if number // _LAYER_BITS == place}
            flagged |= (layer & layer.dtype.type(sum(1 << bit for bit in bits if bit < 8 * layer.dtype.itemsize))) != 0
        return flagged
    if max(numbers) > len(layers):
        raise BandError(f"the quality layer has {len(layers)} bands; expected at least {max(numbers)}, one for each class")
    planes: NDArray[np.bool_] = (layers[[number - 1 for number in numbers]] != 0).any(axis=0)
    return planes


CLOUDY_SHARE = 0.05
"""A scene that looks cloudier than this deserves a quality mask: clear ones stay under 0.02 in `cloudy_share`."""


def cloudy_share(raster: Raster) -> float | None:
    """Share (0…1) of the valid pixels that look like cloud by their colours; None without reflectance in green, red and swir16.

    The rule of Braaten, Cohen & Yang, "Automated cloud and cloud shadow identification in Landsat MSS imagery" (2015), with the
    shortwave threshold that Sentinel-2 users added: bright in green, not redder than green, not dark at 1.6 µm as snow
    is. It misses thin cloud and knows no shadow: enough to warn where a scene has no quality layer, not to mask.
    """
    roles = ("green", "red", "swir16")
    if not set(roles) <= set(raster.roles) or any(band.unit != "reflectance" for band in raster.select(*roles).bands):
        return None
    physical = to_physical(raster.select(*roles))
    valid = physical.valid_everywhere
    if not valid.any():
        return None
    green, red, swir16 = physical.values[:, valid]
    looks_cloudy = (swir16 > _SNOW_SWIR16) & ((green > _BRIGHT_GREEN) | ((green > _HAZY_GREEN) & (green > red)))
    return float(looks_cloudy.mean())


_HAZY_GREEN, _BRIGHT_GREEN, _SNOW_SWIR16 = 0.175, 0.39, 0.1
"""Reflectance thresholds of that rule."""


def grow_reasons(reasons: NDArray[np.uint8], pixels: float | tuple[float, float]) -> NDArray[np.uint8]:
    """(row, col) reasons in which clouds, shadows and what else was masked also cover observed pixels within `pixels` of them.

    Only OBSERVED pixels change, to the reason that takes precedence among those in reach. No data and what lies outside do
    not grow. `pixels` as in `grow`.
    """
    grown = reasons.copy()
    for reason in reversed(list(REASON_OF.values())):
        if reason not in _NEVER_GROWN and (mask := reasons == reason).any():
            np.copyto(grown, np.uint8(reason), where=grow(mask, pixels) & (reasons == Reason.OBSERVED))
    return grown


def grow(mask: NDArray[np.bool_], pixels: float | tuple[float, float]) -> NDArray[np.bool_]:
    """(row, col) `mask` and all pixels whose centre is within `pixels` of the centre of one of its own.

    `pixels` is a radius, or one for rows and one for columns (an ellipse) where the pixels are not square on the ground.
    Exact, so a pixel that far from a tile's edge is as in the whole scene; 0 returns a copy.
    """
    row_radius, col_radius = pixels if isinstance(pixels, tuple) else (pixels, pixels)
    if not (row_radius >= 0 and col_radius >= 0 and np.isfinite(row_radius + col_radius)):
        raise ValueError(f"a mask cannot grow by {pixels} pixels; expected 0 or more")
    grown = mask.copy()
    if not mask.any():
        return grown
    distance = _distance_along_row(mask)
    rows = mask.shape[0]
    for shift in range(min(int(row_radius + _ROUNDING), rows - 1) + 1):
        reach = int(col_radius * np.sqrt(max(1 - (shift / max(row_radius, 1)) ** 2, 0)) + _ROUNDING)
        within = distance <= min(reach, _FAR - 1)
        grown[shift:] |= within[: rows - shift]
        grown[: rows - shift] |= within[shift:]
    return grown


_FAR = np.iinfo(np.uint16).max
_ROUNDING = 1e-6
"""A margin of 30 m over 10 m pixels is 3 pixels, whatever the division left behind the point."""


def _distance_along_row(mask: NDArray[np.bool_]) -> NDArray[np.uint16]:
    """(row, col) columns to the nearest True of the same row, at most 65535; 65535 where the row has none."""
    cols = mask.shape[1]
    here = np.arange(cols)
    distance = np.full(mask.shape, _FAR, dtype=np.uint16)
    for row in np.flatnonzero(mask.any(axis=1)):
        left = np.maximum.accumulate(np.where(mask[row], here, -_FAR))
        right = np.minimum.accumulate(np.where(mask[row], here, cols + _FAR)[::-1])[::-1]
        distance[row] = np.minimum(np.minimum(here - left, right - here), _FAR)
    return distance
