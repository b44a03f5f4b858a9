"""Ground under clouds and in their shadow, and radar with more speckle: what other dates of the same place look like."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.ndimage import gaussian_filter, shift

from geoseg.preprocess.optical import to_physical
from geoseg.raster import Raster
from geoseg.settings import Settings

_NO_WAVELENGTH_UM = 0.56
_THICK = 0.5
"""Opacity from which the ground is not seen any more: such pixels are not valid, as a quality layer would have it."""
_SHADE = 0.65
"""Share of the light that a thick cloud keeps from the ground in its shadow, at 0.86 µm; blue sky lights the shadow in shorter waves."""


class Clouds(Settings):
    """How often, and how much of a patch, clouds cover; for bands in reflectance."""

    chance: float = Field(default=0.3, ge=0, le=1)
    """Of a patch to have any."""
    cover: float = Field(default=0.3, gt=0, le=1)
    """Greatest share of the patch that they cover."""
    size_px: float = Field(default=24.0, gt=0)
    """How far it is from the middle of a cloud to its edge, about."""

    def __call__(self, raster: Raster, generator: np.random.Generator) -> Raster:
        """The raster with soft-edged clouds and their shadows, in physical values.

        A cloud's reflectance is 0.4 to 0.9, a little less beyond 1.5 µm, where droplets absorb; it covers the ground by its opacity.
        The shadow lies where a random sun would throw it. Ground under a thick cloud is not valid any more.
        """
        if generator.random() >= self.chance:
            return raster
        physical = to_physical(raster)
        opacity = self._opacity(physical.values.shape[1:], generator)
        away = generator.uniform(0.5, 2.0) * self.size_px
        sun = generator.uniform(0, 2 * np.pi)
        shaded = shift(opacity, (away * np.cos(sun), away * np.sin(sun)), order=1, mode="constant").astype(np.float32)
        bright = generator.uniform(0.4, 0.9)
        values = physical.values.copy()
        for plane, band in zip(values, physical.bands, strict=True):
            if band.unit != "reflectance":
                continue
            wavelength = band.wavelength_um or _NO_WAVELENGTH_UM
            cloud = bright * (0.75 if wavelength > 1.5 else 1.0)
            plane *= 1 - np.float32(_SHADE * min(1.0, (wavelength / 0.86) ** 0.3)) * shaded
            plane += opacity * (np.float32(cloud) - plane)
        seen = physical.valid & ~(opacity >= _THICK)
        values[~seen] = 0
        return replace(physical, values=values, valid=seen)

    def _opacity(self, shape: tuple[int, ...], generator: np.random.Generator) -> NDArray[np.float32]:
        """(row, col) 0…1: smooth noise above the level that leaves the wanted share."""
        noise = gaussian_filter(generator.standard_normal(shape), self.size_px / 2, mode="wrap")
        level = np.quantile(noise, 1 - generator.uniform(0, self.cover))
        soft = (noise - level) / max(float(noise.std()), 1e-12)
        return np.asarray(np.clip(soft, 0, 1), dtype=np.float32)


class Speckle(Settings):
    """Speckle that is added to radar bands, as of a scene with fewer looks."""

    chance: float = Field(default=0.5, ge=0, le=1)
    """Of a patch to have any."""
    looks: float = Field(default=8.0, gt=0)
    """Equivalent number of looks of what is added; 1 is the most there is."""

    def __call__(self, raster: Raster, generator: np.random.Generator) -> Raster:
        """Each pixel's intensity times a random number of mean 1 and variance 1 / looks, of the gamma distribution (Goodman 1976)."""
        if generator.random() >= self.chance:
            return raster
        physical = to_physical(raster)
        values = physical.values.copy()
        for plane, band in zip(values, physical.bands, strict=True):
            if band.kind != "radar":
                continue
            factor = generator.gamma(self.looks, 1 / self.looks, plane.shape).astype(np.float32)
            if band.unit == "dB":
                plane += 10 * np.log10(np.maximum(factor, 1e-6))
            else:
                plane *= np.sqrt(factor) if band.unit == "amplitude" else factor
        values[~physical.valid] = 0
        return replace(physical, values=values)


class Augment(Settings):
    """What else training patches go through; nothing where nothing is named."""

    clouds: Clouds | None = None
    speckle: Speckle | None = None

    def __call__(self, raster: Raster, generator: np.random.Generator) -> Raster:
        """Clouds over the scene, speckle in it."""
        for step in (self.clouds, self.speckle):
            raster = raster if step is None else step(raster, generator)
        return raster
