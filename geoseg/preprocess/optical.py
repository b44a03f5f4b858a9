"""Stored numbers to physical values: reflectance, kelvin, metres, whatever a band's unit says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import BandError
from geoseg.raster import Raster
from geoseg.sensors import Band


def to_physical(raster: Raster) -> Raster:
    """The same bands as float32 physical values, their scale, offset and encoding spent (1, 0 and linear); 0 where not valid."""
    values = np.zeros(raster.values.shape, dtype=np.float32)
    for plane, stored, valid, band in zip(values, raster.values, raster.valid, raster.bands, strict=True):
        with np.errstate(all="ignore"):  # what is not valid may overflow
            np.copyto(plane, physical_values(stored, band), where=valid)
    bands = tuple(replace(band, scale=1.0, offset=0.0, nodata=None, encoding="linear") for band in raster.bands)
    return replace(raster, values=values, bands=bands)


def physical_values(stored: NDArray[Any], band: Band) -> NDArray[np.float32]:
    """scale x stored + offset as float32, of any shape, squared with its sign where the band is so encoded.

    float32 that needs nothing comes back as it is, not copied.

    The offset is added first, in stored numbers: with -0.1 at a scale of 0.0001 a stored 1000 becomes exactly 0, so that a
    sum of two dark bands is 0 and not rounding noise, which indices would divide by.
    """
    if band.scale == 0:
        raise BandError(f"band {band.name!r} has scale 0, which makes every value the same; give its scale with --scale")
    if band.scale == 1 and band.offset == 0 and band.encoding == "linear":
        return stored.astype(np.float32, copy=False)
    exact = np.float32 if np.can_cast(stored.dtype, np.float32) else np.float64  # 32-bit integers lose digits in float32
    values: NDArray[np.floating[Any]] = stored.astype(exact)
    values += band.offset / band.scale
    values *= band.scale
    if band.encoding == "signed_square":
        values *= np.abs(values)
    return values.astype(np.float32, copy=False)
