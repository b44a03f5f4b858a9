"""The same ground as it might have been seen: turned, mirrored, under another sky, without some bands."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from geoseg.preprocess.optical import to_physical
from geoseg.raster import Raster
from geoseg.settings import Settings

Number = TypeVar("Number", bound=np.generic)

_HAZE_REFERENCE_UM = 0.49
"""Wavelength (blue) at which the amount of haze is given."""
_NO_WAVELENGTH_UM = 0.56


class Jitter(Settings):
    """How much the light may differ from one scene to another, for bands in reflectance; 0 switches a part off."""

    gain: float = 0.0
    """Standard deviation of the logarithm of a factor common to all bands: sun, illumination, exposure."""
    band_gain: float = 0.0
    """Standard deviation of the logarithm of each band's own factor: calibration, colour of the ground."""
    haze: float = 0.0
    """Greatest reflectance that haze adds at 0.49 µm; clearer air takes away up to half as much. Both fall off with the wavelength
    to a power between -1 (coarse aerosol) and -4 (Rayleigh scattering)."""
    noise: float = 0.0
    """Standard deviation of each pixel's noise in reflectance."""

    def __call__(self, raster: Raster, labels: NDArray[np.int64], generator: np.random.Generator) -> Raster:
        """`jitter_reflectance`, whatever the labels are."""
        return jitter_reflectance(raster, self, generator)


def jitter_reflectance(raster: Raster, jitter: Jitter, generator: np.random.Generator) -> Raster:
    """The raster under another sky, in physical values (scale and offset spent); bands that are no reflectance stay as they are.

    It comes *before* `prepare`, so that the spectral indices are those of the altered reflectance and agree with the bands.
    Valid reflectances stay at or above a ten-thousandth: 0 would turn into 0 / 0 in an index.
    """
    physical = to_physical(raster)
    values = physical.values.copy()
    common = np.exp(jitter.gain * generator.standard_normal())
    haze = jitter.haze * generator.uniform(-0.5, 1.0)
    slope = generator.uniform(1.0, 4.0)
    for plane, band in zip(values, physical.bands, strict=True):
        if band.unit != "reflectance":
            continue
        own = np.exp(jitter.band_gain * generator.standard_normal())
        offset = haze * ((band.wavelength_um or _NO_WAVELENGTH_UM) / _HAZE_REFERENCE_UM) ** -slope
        plane *= np.float32(common * own)
        plane += np.float32(offset)
        if jitter.noise:
            plane += generator.normal(0, jitter.noise, plane.shape).astype(np.float32)
        np.maximum(plane, np.float32(1e-4), out=plane)
    values[~physical.valid] = 0
    return replace(physical, values=values)


def turn(planes: NDArray[Number], which: int) -> NDArray[Number]:
    """One of the eight ways to lay a square (…, row, col) on itself: `which` % 4 quarter turns, mirrored first from 4 on."""
    mirrored = planes[..., ::-1] if which >= 4 else planes
    return np.ascontiguousarray(np.rot90(mirrored, which % 4, axes=(-2, -1)))


def dropped(count: int, chance: float, generator: np.random.Generator) -> NDArray[np.bool_]:
    """(count,) True for what is left out, each with this chance; where all would be, one stays."""
    gone: NDArray[np.bool_] = generator.random(count) < chance
    if gone.all():
        gone[int(generator.integers(count))] = False
    return gone
