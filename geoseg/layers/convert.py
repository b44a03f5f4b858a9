"""Radar backscatter from one convention to another on the ellipsoid, by the incidence angle, while it is read.

With the ellipsoid's incidence angle θ: sigma0 = beta0 sin θ = gamma0 cos θ (D. Small, "Flattening gamma", IEEE TGRS 49, 2011, eq. 1–3).
Terrain-corrected gamma0 refers to the area that the terrain itself shows the radar. No angle tells that area, so it is neither made
nor undone here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from geoseg.errors import BandError
from geoseg.io.geotiff import Resampling, read_raster
from geoseg.preprocess.optical import physical_values
from geoseg.raster import Raster
from geoseg.scene import Layer, Scene
from geoseg.sensors import ELLIPSOID_CONVENTIONS, Band, Convention

_TO_SIGMA0: Mapping[Convention, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "beta0": np.sin,
    "sigma0": np.ones_like,
    "gamma0_ellipsoid": np.cos,
}
"""What power is multiplied by to become sigma0; takes the incidence angle in radians."""

_IN_UNIT: Mapping[str, Callable[[NDArray[Any], NDArray[np.float64]], NDArray[Any]]] = {
    "linear power": np.multiply,
    "amplitude": lambda values, factor: values * np.sqrt(factor),
    "dB": lambda values, factor: values + 10 * np.log10(factor),
}
"""Multiplies power by a factor, for values that are kept in a unit."""


def with_convention(scene: Scene, wanted: Convention) -> Scene:
    """The scene with all its radar bands referred to as `wanted`, in the unit they are in; bands that are so already stay as they are.

    Needs the band `incidence_angle`. BandError where there is none, where unit or convention are not known, and for terrain-corrected
    gamma0, which no angle makes or undoes.
    """
    radar = [layer for layer in scene.layers if layer.band.kind == "radar"]
    if not radar:
        raise BandError(f"--convert {wanted} is for radar, and {scene.source} has only {', '.join(scene.roles)}; leave --convert out")
    others = [layer for layer in radar if layer.band.convention != wanted]
    if not others:
        return scene
    for layer in others:
        _check(layer.band, scene, wanted)
    angle, changed = _angle(scene, wanted), {layer.path for layer in others}
    layers = []
    for layer in scene.layers:
        if layer.path not in changed:
            layers.append(layer)
            continue
        stored = {other.index: other.band for other in scene.layers if other.path == layer.path}
        layers.append(_converted(layer, _Converted(layer, stored, angle, wanted)))
    return replace(scene, layers=tuple(layers), inputs=(*scene.inputs, angle.path))


def _converted(layer: Layer, reader: _Converted) -> Layer:
    """The layer as `reader` gives it."""
    if layer.band.kind != "radar" or layer.band.convention == reader.wanted:
        return replace(layer, reader=reader)
    band = replace(layer.band, scale=1.0, offset=0.0, nodata=None, convention=reader.wanted)
    return replace(layer, band=band, because=f"{layer.because}; converted from {layer.band.convention}", reader=reader)


@dataclass(frozen=True)
class _Converted:
    """Reads the layers of one path and converts those that are radar backscatter."""

    layer: Layer
    """One of the layers of the path, as they are stored."""
    stored: Mapping[int, Band]
    """The path's bands by number, as they are stored."""
    angle: Layer
    wanted: Convention

    def geobox(self) -> GeoBox:
        return self.layer.geobox()

    def footprint(self, geobox: GeoBox) -> NDArray[np.bool_]:
        return self.layer.footprint(geobox)

    def read(self, bands: Mapping[int, Band], geobox: GeoBox, *, resampling: Resampling) -> Raster:
        """Backscatter is in physical values and valid only where the angle is known; other bands come as they are stored."""
        raster = _read(self.layer, {number: self.stored[number] for number in bands}, geobox, resampling)
        angle = _read(self.angle, {self.angle.index: self.angle.band}, geobox, resampling)
        degrees = physical_values(angle.values[0], self.angle.band).astype(np.float64)
        usable = angle.valid[0] & (degrees > 0) & (degrees < 90)  # beyond, a wave does not reach the ellipsoid
        radians = np.radians(np.where(usable, degrees, 45.0))
        values = raster.values.astype(np.result_type(raster.values.dtype, np.float32))
        valid = raster.valid.copy()
        for plane, (number, band) in enumerate(bands.items()):
            own = self.stored[number]
            if own.kind != "radar" or own.convention is None or own.convention == self.wanted:
                continue
            valid[plane] &= usable
            factor = _TO_SIGMA0[own.convention](radians) / _TO_SIGMA0[self.wanted](radians)
            with np.errstate(all="ignore"):  # what is not valid may be any number
                converted = _IN_UNIT[band.unit](physical_values(raster.values[plane], own), factor)
            values[plane] = np.where(valid[plane], converted, 0)
        return Raster(values, valid, geobox, tuple(bands.values()), raster.time)


def _read(layer: Layer, bands: Mapping[int, Band], geobox: GeoBox, resampling: Resampling) -> Raster:
    if layer.reader is not None:
        return layer.reader.read(bands, geobox, resampling=resampling)
    return read_raster(layer.path, bands, geobox, resampling=resampling)


# ---------------------------------------------------------------- below: what cannot be converted


def _check(band: Band, scene: Scene, wanted: Convention) -> None:
    """Raise BandError where a band cannot become `wanted`, with the reason."""
    said = f"{band.role} of {scene.source}"
    if band.convention is None:
        raise BandError(f"nothing says what {said} refers to, so it cannot become {wanted}; say it with --convention, such as sigma0")
    if wanted not in ELLIPSOID_CONVENTIONS:
        raise BandError(
            f"{said} is {band.convention}, and gamma0_rtc cannot be made from it by an angle: terrain correction takes an elevation model "
            "and the orbit; fetch a terrain-corrected product of the scene, such as OPERA RTC-S1 or HyP3's"
        )
    if band.convention not in ELLIPSOID_CONVENTIONS:
        raise BandError(
            f"{said} is gamma0_rtc, corrected with an elevation model and the orbit, which the incidence angle cannot undo; "
            f"choose a scene that is not terrain-corrected, or a model for gamma0_rtc, instead of --convert {wanted}"
        )
    if band.unit not in _IN_UNIT:
        raise BandError(f"nothing says whether {said} holds decibels or linear power, so it cannot be converted; say it with --unit")


def _angle(scene: Scene, wanted: Convention) -> Layer:
    if "incidence_angle" in scene.roles:
        return scene.layer("incidence_angle")
    local = "only the local one, on the slope of the terrain" if "local_incidence_angle" in scene.roles else "none"
    raise BandError(
        f"--convert {wanted} takes the incidence angle on the ellipsoid, and {scene.source} has {local}; put its file beside the others "
        "and name it with --bands, such as --bands vv=VV.tif,incidence_angle=ANGLE.tif"
    )
