"""Bands that say nothing: every valid pixel has the same, usual number, so that what a band tells a network can be taken away."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from geoseg.errors import SceneError
from geoseg.io.geotiff import Resampling, read_raster
from geoseg.raster import Raster
from geoseg.scene import Layer, Scene, sample_scene
from geoseg.sensors import Band


def with_infill(scene: Scene, roles: Collection[str]) -> Scene:
    """The scene with the bands of these roles replaced by their median, over a sample of their valid pixels, wherever they are valid.

    What is not valid stays so: only what the band says is gone, not where it was seen. BandError where the scene has no such band,
    SceneError where one has no valid pixel.
    """
    usual = {role: _median(scene, role) for role in roles}
    layers = (
        replace(layer, reader=_Infill(layer, usual[layer.band.role])) if layer.band.role in usual else layer for layer in scene.layers
    )
    return replace(scene, layers=tuple(layers))


def _median(scene: Scene, role: str) -> float:
    sample = sample_scene(scene, [role])
    valid = sample.values[sample.valid]
    if not valid.size:
        raise SceneError(f"band {role!r} of {scene.source} has no valid pixel, so there is nothing usual to put in its place")
    return float(np.median(valid))


@dataclass(frozen=True)
class _Infill:
    """Reads a layer for where it is valid, and puts one number there."""

    layer: Layer
    number: float
    """As the file stores it, before scale and offset."""

    def geobox(self) -> GeoBox:
        return self.layer.geobox()

    def read(self, bands: Mapping[int, Band], geobox: GeoBox, *, resampling: Resampling) -> Raster:
        layer = self.layer
        if layer.reader is not None:
            read = layer.reader.read(bands, geobox, resampling=resampling)
        else:
            read = read_raster(layer.path, dict(bands), geobox, resampling=resampling)
        kind = read.values.dtype
        number = kind.type(round(self.number) if kind.kind in "ui" else self.number)
        return Raster(np.where(read.valid, number, kind.type(0)), read.valid, geobox, read.bands, read.time)

    def footprint(self, geobox: GeoBox) -> NDArray[np.bool_]:
        return self.layer.footprint(geobox)
