"""Scene: the layers of one place and moment, and their pixels on any grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import isqrt
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox

from geoseg.errors import BandError, SceneError
from geoseg.io.block_rows import block_shape
from geoseg.io.geotiff import Resampling, footprint, read_raster
from geoseg.io.looks import few_windows, spread, window_shape
from geoseg.io.opening import file_geobox, files_kept_open
from geoseg.raster import Raster
from geoseg.sensors import Band, OrbitPass, Sensor

_WINDOWS = 5
"""A sample is taken from this many windows down, and as many across."""
_LARGE = 100
"""Windows are worth it in scenes with this many times more pixels than the sample; in smaller ones they touch most blocks anyway."""
_SAMPLED_SHARE = 0.05
"""Fewer windows are taken where they would touch more of the file's blocks than this."""
_LITTLE_DATA = 0.1


class LayerReader(Protocol):
    """Where a layer's pixels are computed when they are read, such as backscatter that is calibrated on the way."""

    def geobox(self) -> GeoBox:
        """The grid that suits the layer best."""

    def read(self, bands: Mapping[int, Band], geobox: GeoBox, *, resampling: Resampling) -> Raster:
        """These bands (by number, counted from 1) on `geobox`; values are 0 where not valid."""

    def footprint(self, geobox: GeoBox) -> NDArray[np.bool_]:
        """(row, col) True where the pixel's centre lies inside the layer's extent, data or not."""


@dataclass(frozen=True)
class Layer:
    """One band of a scene: where it lies and what it means there."""

    band: Band
    """Scale, offset, nodata, unit and convention are those of this very file."""
    path: str
    """As GDAL opens it; also `/vsizip/…`, a remote address or a NetCDF variable."""
    index: int
    """Band number inside the file, counted from 1."""
    because: str
    """How the meaning was found, such as `band description 'B04'`."""
    reader: LayerReader | None = None
    """Who computes the pixels; None where the file holds them. What one reader computes from one path is read at once."""
    added: bool = False
    """Laid over the scene from elsewhere, such as a mask or terrain: its grid never becomes the scene's."""

    def geobox(self) -> GeoBox:
        """The grid of the layer."""
        return self.reader.geobox() if self.reader is not None else file_geobox(self.path)

    def footprint(self, geobox: GeoBox) -> NDArray[np.bool_]:
        """(row, col) of `geobox`: True where the pixel's centre lies inside the layer's extent, data or not."""
        return self.reader.footprint(geobox) if self.reader is not None else footprint(self.path, geobox)


@dataclass(frozen=True)
class SunAngles:
    """The sun's place in the sky, for the middle of a scene."""

    zenith_deg: float
    """From straight above: 0 to 180 degrees."""
    azimuth_deg: float
    """Clockwise from true north: 0 to 360 degrees."""

    def __post_init__(self) -> None:
        if not (0 <= self.zenith_deg <= 180 and -360 <= self.azimuth_deg <= 360):
            raise SceneError(
                f"the scene's metadata put the sun at zenith {self.zenith_deg} and azimuth {self.azimuth_deg} degrees; expected 0…180 "
                "and 0…360: fetch the product again"
            )
        object.__setattr__(self, "azimuth_deg", self.azimuth_deg % 360)  # Landsat counts -180…180


@dataclass(frozen=True)
class Scene:
    """The layers of one place and moment; holds no pixels.

    >>> scene = geoseg.open_scene("scene.tif")
    >>> scene.name, scene.roles
    ('scene', ('red', 'nir'))
    """

    name: str
    """Safe in file names."""
    source: str
    """What the user gave."""
    sensor: Sensor
    layers: tuple[Layer, ...]
    time: datetime | None = None
    product_id: str | None = None
    processing_baseline: str | None = None
    attribution: str = ""
    warnings: tuple[str, ...] = ()
    """What the user should know, each one sentence."""
    orbit_pass: OrbitPass | None = None
    """Radar only: whether the satellite flew north or south; None where it is not known."""
    sun: SunAngles | None = None
    """Optical only: where the sun stood; None where it is not known."""
    stack: tuple[str, ...] = ()
    """The files, in the order in which the user gave them one by one; empty where a single source was given."""
    series: tuple[str, ...] = ()
    """The sources of the dates, as the user gave them; empty where this is no series."""
    inputs: tuple[str, ...] = ()
    """Files that are read beside those of the layers, such as those of a series' dates."""

    @property
    def roles(self) -> tuple[str, ...]:
        """The layers' roles, in order."""
        return tuple(layer.band.role for layer in self.layers)

    def layer(self, role: str) -> Layer:
        """The layer with this role."""
        for layer in self.layers:
            if layer.band.role == role:
                return layer
        raise BandError(
            f"no {role!r} band in {self.source}; it has {', '.join(self.roles)}. "
            "Name the bands with --bands, or choose a model that needs only these."
        )

    def geobox(self, roles: Sequence[str] | None = None) -> GeoBox:
        """The grid of the finest of these layers (of all, where none are named; the first of equals), origin and edges untouched.

        Layers that were laid over the scene count only where there are no others.
        """
        layers = self.layers if roles is None else [self.layer(role) for role in roles]
        own = [layer for layer in layers if not layer.added] or layers
        grids = [layer.geobox() for layer in {layer.path: layer for layer in own}.values()]
        finest: GeoBox = min(grids, key=lambda grid: round(abs(grid.affine.determinant), 12))
        return finest


def read_scene(scene: Scene, roles: Sequence[str], geobox: GeoBox, *, resampling: Resampling = "auto") -> Raster:
    """These layers on one grid, in this order: stored numbers, not yet physical ones; quality layers always by the nearest pixel.

    >>> scene = geoseg.open_scene("scene.tif")
    >>> geoseg.read_scene(scene, ["nir"], scene.geobox()[10:20, :]).band("nir").shape
    (10, 60)
    """
    layers = [scene.layer(role) for role in roles]
    parts: dict[tuple[str, int], Raster] = {}
    for place, one in {_place(layer): layer for layer in layers}.items():
        bands = {layer.index: layer.band for layer in layers if _place(layer) == place}
        if one.reader is not None:
            parts[place] = one.reader.read(bands, geobox, resampling=resampling)
        else:
            parts[place] = read_raster(one.path, bands, geobox, resampling=resampling)
    asked = tuple(layer.band for layer in layers)
    if len(parts) == 1 and layers[0].reader is None and (part := next(iter(parts.values()))).bands == asked:
        return Raster(part.values, part.valid, geobox, asked, scene.time)
    planes = [(parts[_place(layer)], parts[_place(layer)].index(layer.band.role)) for layer in layers]
    values = np.stack([part.values[at] for part, at in planes])
    valid = np.stack([part.valid[at] for part, at in planes])
    return Raster(values, valid, geobox, asked, scene.time)


def _place(layer: Layer) -> tuple[str, int]:
    """The same for layers that are read at once; a file may also be read as it is and by a reader."""
    return layer.path, id(layer.reader)


def sample_scene(scene: Scene, roles: Sequence[str], *, max_pixels: int = 256 * 256) -> Raster:
    """Stored numbers of these layers from windows spread evenly over the scene and laid side by side: at most `max_pixels`.

    Only the file's blocks under the windows are read, however large the scene is: about one for each window. Its grid is the
    scene's made coarser, so that a pixel lies only about where the grid says. Of a small scene, and where the windows meet little
    data, single pixels are taken from everywhere.
    """
    geobox = scene.geobox(roles)
    if geobox.shape[0] * geobox.shape[1] < _LARGE * max_pixels:
        return thinned(scene, roles, max_pixels)
    blocks = finest_blocks(scene, roles)
    windows = few_windows(geobox.shape.yx, blocks, most=_WINDOWS, share=_SAMPLED_SHARE)
    if (side := isqrt(max_pixels) // windows) == 0:
        return thinned(scene, roles, max_pixels)
    tall, wide = window_shape(side, blocks, widest=geobox.shape[1] // windows)
    if geobox.shape[0] < tall * windows or wide == 0:
        return thinned(scene, roles, max_pixels)
    tops, lefts = (spread(*places, windows) for places in zip(geobox.shape, (tall, wide), blocks, strict=True))
    with files_kept_open():
        rows = [[read_scene(scene, roles, geobox[y : y + tall, x : x + wide], resampling="nearest") for x in lefts] for y in tops]
    values, valid = (np.block([[getattr(part, name) for part in row] for row in rows]) for name in ("values", "valid"))
    if valid.mean() < _LITTLE_DATA:
        return thinned(scene, roles, max_pixels)
    first = rows[0][0]
    return Raster(values, valid, geobox.zoom_to(values.shape[1:]), first.bands, scene.time)


def finest_blocks(scene: Scene, roles: Sequence[str]) -> tuple[int, int]:
    """(row, col) size of the blocks of the finest of these layers that lies in a file; (1, 1) where none does."""
    in_files = [layer for layer in map(scene.layer, roles) if layer.reader is None and not layer.added]
    finest = min(in_files, key=lambda layer: abs(layer.geobox().affine.determinant), default=None)
    return (1, 1) if finest is None else block_shape(finest.path)


def thinned(scene: Scene, roles: Sequence[str], max_pixels: int) -> Raster:
    """Stored numbers of these layers, thinned out to at most `max_pixels`: one pixel of each block of them, as it is."""
    geobox = scene.geobox(roles)
    rows, cols = geobox.shape
    factor = max(1.0, (rows * cols / max_pixels) ** 0.5)
    small = geobox.zoom_to((max(1, int(rows / factor)), max(1, int(cols / factor)))) if factor > 1 else geobox
    return read_scene(scene, roles, small, resampling="nearest")


def quality_roles(scene: Scene) -> tuple[str, ...]:
    """The roles to read for the sensor's quality table, planes or layers in order; empty where the scene has none, or lacks the first."""
    planes = sorted((role for role in scene.roles if role.startswith("quality")), key=lambda role: int(role[len("quality") :] or 0))
    table = scene.sensor.quality
    return () if table is None or (table.coding != "planes" and "quality" not in planes) else tuple(planes)


def crs_name(crs: CRS | None) -> str:
    """A CRS as people name it: `EPSG:32630` where it has a code, else its own name."""
    if crs is None:
        return "none"
    return f"EPSG:{code}" if (code := crs.proj.to_epsg()) else str(crs.proj.name)
