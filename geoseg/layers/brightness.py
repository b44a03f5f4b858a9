"""Landsat Level-1 thermal bands as temperature: radiance through the inverse of Planck's law, when it is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from geoseg.io.geotiff import Resampling, footprint, read_raster
from geoseg.io.opening import file_geobox
from geoseg.raster import Raster
from geoseg.scene import Layer, Scene
from geoseg.sensors import Band

RADIANCE = "W/(m2 sr um)"
"""Unit of what Landsat measures."""


def with_brightness(scene: Scene, constants: Mapping[str, tuple[float, float]]) -> Scene:
    """The scene with its thermal radiance as brightness temperature at the top of the atmosphere, in kelvin.

    `constants` are K1 and K2 of the MTL by band name (`B10`, `B6_VCID_1`). Bands without constants, and those whose radiance
    is not known either, stay as they are.
    """
    return replace(scene, layers=tuple(_temperature(layer, constants) for layer in scene.layers))


def _temperature(layer: Layer, constants: Mapping[str, tuple[float, float]]) -> Layer:
    names = (layer.band.name, *layer.band.aliases)
    known = next((constants[name] for name in names if name in constants), None)
    if known is None or layer.band.unit != RADIANCE:
        return layer
    band = replace(layer.band, scale=1.0, offset=0.0, nodata=None, unit="K")
    return replace(layer, band=band, reader=_Brightness(layer.path, layer.band, *known))


@dataclass(frozen=True)
class _Brightness:
    """T = K2 / ln(K1 / L + 1), L the radiance (Landsat 8-9 Data Users Handbook, section 5; the same for Landsat 4-7)."""

    path: str
    stored: Band
    """With the gain and bias that make radiance."""
    k1: float
    k2: float

    def geobox(self) -> GeoBox:
        return file_geobox(self.path)

    def read(self, bands: Mapping[int, Band], geobox: GeoBox, *, resampling: Resampling) -> Raster:
        """float32 kelvin; radiance is what is averaged, since it is what adds up. Not valid where there is no radiance."""
        raster = read_raster(self.path, dict.fromkeys(bands, self.stored), geobox, resampling=resampling)
        radiance = raster.values.astype(np.float64) * self.stored.scale + self.stored.offset
        valid = raster.valid & (radiance > 0)
        kelvin = self.k2 / np.log1p(self.k1 / np.where(valid, radiance, 1.0))
        return Raster(np.where(valid, kelvin, 0).astype(np.float32), valid, geobox, tuple(bands.values()))

    def footprint(self, geobox: GeoBox) -> NDArray[np.bool_]:
        return footprint(self.path, geobox)
