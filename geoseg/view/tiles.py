"""Layers as map tiles: 256 x 256 pixels of the web's Mercator, read with rio-tiler, as PNG."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from math import ceil, cos, log2, radians
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.warp import reproject, transform_bounds

from geoseg.errors import require
from geoseg.ground import pixel_size_m
from geoseg.io.opening import dataset_geobox, gdal_env, opened
from geoseg.io.qgis_styles import ramp_style
from geoseg.legend import Legend
from geoseg.scene import Layer, read_scene, sample_scene
from geoseg.view.shown import Look, RasterLayer, ShownScene

SIZE = 256
"""Pixels of a tile each way."""
DEEPEST = 24
"""The highest zoom level."""
CACHE_MB = 256
"""What GDAL keeps of decoded blocks, for all layers together."""

_WORLD_M = 40_075_016.685578488
"""Of the web's Mercator from edge to edge (EPSG:3857)."""
_EDGE = _WORLD_M / 2
_COARSE = 2048
"""Pixels along the longer side of a scene that is read as a whole."""
_NEARER = 0.7
"""Tiles whose pixels are smaller than this share of those of the whole are read for themselves."""
_SMOOTH = 1.5
"""Tiles whose pixels are larger than so many of the file's are not smoothed."""
_LEAST = 48
"""What is smaller than so many pixels of the screen is not drawn: to warp it so small takes seconds where there are no overviews."""
_PICTURE_SAMPLE = 256
_SAMPLED = 1 << 16
"""About so many numbers of each band say where black and white are."""
_PNG = {"img_format": "PNG", "ZLEVEL": 1}
"""The page and the program share a machine, so that time counts and size does not."""


@dataclass(frozen=True)
class Tile:
    """A place in the pyramid of tiles, as the web counts: x from west to east, y from north to south."""

    z: int
    x: int
    y: int

    @property
    def grid(self) -> GeoBox:
        """Its pixels."""
        side = _WORLD_M / 2**self.z
        pixel = side / SIZE
        return GeoBox((SIZE, SIZE), Affine(pixel, 0, self.x * side - _EDGE, 0, -pixel, _EDGE - self.y * side), "EPSG:3857")

    def exists(self) -> bool:
        """Whether there is such a tile."""
        return 0 <= self.z <= DEEPEST and 0 <= self.x < 2**self.z and 0 <= self.y < 2**self.z


@dataclass(frozen=True)
class Stretch:
    """How numbers become brightness."""

    cut: float = 2.0
    """Per cent of the pixels that become black, and as many that become white."""
    gamma: float = 1.0
    """More makes the middle brighter."""


@dataclass(frozen=True)
class Planes:
    """What was read of a tile."""

    values: NDArray[Any]
    """(band, row, col)"""
    valid: NDArray[np.bool_]
    """(row, col)"""


class Imagery(Protocol):
    """What can be drawn as a picture of the ground."""

    title: str
    cut: float
    """With which it is shown first."""
    grid: GeoBox

    def sample(self) -> Sequence[NDArray[Any]]:
        """Some of the stored numbers of each band."""

    def read(self, tile: Tile) -> Planes | None:
        """The stored numbers on a tile; None where the tile is beside it."""


class DrawnImagery:
    """Imagery as tiles, in the stretch that the user chooses."""

    def __init__(self, imagery: Imagery) -> None:
        self.imagery = imagery
        self._lock = threading.Lock()
        self._sample: Sequence[NDArray[Any]] | None = None
        self._limits: dict[float, NDArray[np.float32]] = {}

    def tile(self, tile: Tile, stretch: Stretch) -> bytes:
        """The picture as PNG."""
        with gdal_env(CACHE_MB):
            planes = self.imagery.read(tile)
        if planes is None or not planes.valid.any():
            return empty_tile()
        picture = np.empty((3, SIZE, SIZE), np.uint8)
        limits = self.limits(stretch.cut)
        for band, (dark, bright) in enumerate(limits):
            if planes.values.dtype == np.uint8 and (dark, bright, stretch.gamma) == (0, 255, 1):
                picture[band] = planes.values[band]
                continue
            share = np.clip((planes.values[band].astype(np.float32) - dark) / (bright - dark), 0, 1)
            picture[band] = 255 * np.nan_to_num(share if stretch.gamma == 1 else share ** (1 / stretch.gamma))
        if len(limits) == 1:
            picture[1:] = picture[0]
        return _png(picture, None if planes.valid.all() else np.where(planes.valid, np.uint8(255), np.uint8(0)))

    def limits(self, cut: float) -> NDArray[np.float32]:
        """(band, 2) stored numbers shown as black and as white. Whole bytes without a cut are shown as they are."""
        with self._lock:  # several tiles ask at once, and looking takes a moment
            if self._sample is None:
                self._sample = [seen[:: max(1, seen.size // _SAMPLED)] for seen in self.imagery.sample()]
            if cut not in self._limits:
                self._limits[cut] = np.array([_ends(seen, cut) for seen in self._sample], np.float32)
            return self._limits[cut]


class Picture:
    """A picture that `geoseg predict` left beside its map."""

    title = "Picture beside the map"
    cut = 0.0

    def __init__(self, layer: RasterLayer, grid: GeoBox) -> None:
        self._file, self.grid = layer.file, grid
        with opened(str(layer.file.path)) as file:
            self._bands = (1, 2, 3) if file.count >= 3 else (1,)

    def sample(self) -> Sequence[NDArray[Any]]:
        """Some of the stored numbers of each band."""
        with opened(str(self._file.check())) as file:
            shape = (len(self._bands), min(file.height, _PICTURE_SAMPLE), min(file.width, _PICTURE_SAMPLE))
            seen = file.read(self._bands, out_shape=shape, masked=True)
        return [band.compressed() for band in seen]

    def read(self, tile: Tile) -> Planes | None:
        """The stored numbers on a tile."""
        return read_grid(self._file.check(), self._bands, tile.grid, "bilinear")


class SceneLook:
    """Some bands of a scene on a tile.

    GeoTIFFs with overviews, which can be looked at from afar, are read tile by tile. Anything else is read once as a whole,
    coarsely, and again only for what is nearer than that: JPEG 2000 is slow to decode, and layers may be computed.
    """

    cut = 2.0

    def __init__(self, shown: ShownScene, look: Look) -> None:
        self.title, self.grid = look.title, shown.grid
        self._shown, self._look = shown, look
        self._layers = [shown.scene.layer(role) for role in look.roles]
        self._lock = threading.Lock()
        self._whole: Planes | None = None
        factor = max(shown.grid.shape) / _COARSE
        quick = all(map(_is_quick, self._layers))
        self._coarse = None if quick else shown.grid if factor <= 1 else shown.grid.zoom_out(factor)

    def sample(self) -> Sequence[NDArray[Any]]:
        """Some of the stored numbers of each band."""
        self._check()
        if self._coarse is not None:
            whole = self._whole_scene(self._coarse)
            return [values[whole.valid & np.isfinite(values)] for values in whole.values]
        seen = sample_scene(self._shown.scene, self._look.roles)
        return [values[valid & np.isfinite(values)] for values, valid in zip(seen.values, seen.valid, strict=True)]

    def read(self, tile: Tile) -> Planes | None:
        """The stored numbers on a tile."""
        self._check()
        coarse, pixel = self._coarse, min(pixel_size_m(tile.grid))
        if coarse is not None and (coarse is self.grid or pixel >= _NEARER * min(pixel_size_m(coarse))):
            return _reprojected(self._whole_scene(coarse), coarse, tile.grid)
        return self._on(tile.grid, "bilinear")

    def _whole_scene(self, grid: GeoBox) -> Planes:
        """All of the scene on this grid; read once, while others wait."""
        with self._lock:
            if self._whole is None:
                self._whole = self._on(grid, "nearest")
            assert self._whole is not None, "a scene reaches its own grid"
            return self._whole

    def _on(self, grid: GeoBox, resampling: Literal["nearest", "bilinear"]) -> Planes | None:
        """The bands on a grid, by rio-tiler where they lie in files."""
        if any(layer.reader is not None for layer in self._layers) or grid.affine.b or grid.affine.d:
            raster = read_scene(self._shown.scene, self._look.roles, grid, resampling=resampling)
            return Planes(raster.values, raster.valid_everywhere)
        planes: dict[str, NDArray[Any]] = {}
        valid = np.ones(grid.shape, bool)
        for path in dict.fromkeys(layer.path for layer in self._layers):
            mine = [layer for layer in self._layers if layer.path == path]
            part = read_grid(path, [layer.index for layer in mine], grid, resampling, nodata=mine[0].band.nodata)
            if part is None:
                return None
            planes |= {layer.band.role: values for layer, values in zip(mine, part.values, strict=True)}
            valid &= part.valid
        return Planes(np.stack([planes[role] for role in self._look.roles]), valid)

    def _check(self) -> None:
        for file in self._shown.files:
            file.check()


def draw_layer(layer: RasterLayer, tile: Tile) -> bytes:
    """Classes in their legend's colours, each pixel that of the nearest of the map; quantities in the colours that QGIS shows them in."""
    with gdal_env(CACHE_MB):
        planes = read_grid(layer.file.check(), (layer.band,), tile.grid, "nearest")
    if planes is None or not planes.valid.any():
        return empty_tile()
    if layer.legend is not None:
        rgba = _class_colours(layer.legend, planes.values[0])
    else:
        low, high = layer.ends
        share = (planes.values[0].astype(np.float32) * layer.scale + layer.offset - low) / (high - low)
        rgba = ramp()[np.clip(np.nan_to_num(share) * 255, 0, 255).astype(np.uint8)]
    alpha = np.where(planes.valid, rgba[..., 3], 0)
    return _png(np.moveaxis(rgba[..., :3], -1, 0), alpha) if alpha.any() else empty_tile()


def read_grid(
    path: str | Path, bands: Sequence[int], grid: GeoBox, resampling: Literal["nearest", "bilinear"], *, nodata: float | None = None
) -> Planes | None:
    """Stored numbers of these bands of a file on an upright grid; None where they do not meet. `nodata` is for files that state none."""
    reader = require("rio_tiler.io", extra="web").Reader
    assert grid.crs is not None, "a tile has a place"
    box, crs = grid.boundingbox, _crs(grid.crs.proj.to_wkt())
    with opened(str(path)) as file, reader(input=str(path), dataset=file) as source:
        pixels = min(pixel_size_m(grid)) / min(pixel_size_m(dataset_geobox(file)))
        if max(file.shape) < _LEAST * pixels:
            return None
        if pixels > _SMOOTH:
            resampling = "nearest"  # GDAL takes the overview that suits; to smooth that again takes long and shows nothing more
        west, south, east, north = transform_bounds(file.crs, crs, *file.bounds) if file.crs != crs else file.bounds
        if east <= box.left or west >= box.right or north <= box.bottom or south >= box.top:
            return None
        image = source.part(
            box.bbox,
            bounds_crs=crs,
            dst_crs=crs,
            height=grid.shape[0],
            width=grid.shape[1],
            indexes=tuple(bands),
            resampling_method=resampling,
            reproject_method=resampling,
            **({} if nodata is None or file.nodata is not None else {"nodata": nodata}),
        )
    return Planes(image.array.data, image.mask > 0)


def bounds_lonlat(grid: GeoBox) -> tuple[float, float, float, float]:
    """West, south, east and north of a grid in degrees; east is beyond 180 where it crosses the date line."""
    box = grid.boundingbox
    assert grid.crs is not None, "what is shown has a place"
    west, south, east, north = transform_bounds(grid.crs.proj.to_wkt(), "EPSG:4326", box.left, box.bottom, box.right, box.top)
    return west, max(south, -85.0), east + 360 if east < west else east, min(north, 85.0)


def deepest_zoom(grid: GeoBox) -> int:
    """The zoom level from which on tiles say nothing new: their pixels are half as large as the grid's."""
    _, south, _, north = bounds_lonlat(grid)
    pixel = min(pixel_size_m(grid)) / 2
    return int(np.clip(ceil(log2(_WORLD_M * cos(radians((south + north) / 2)) / (SIZE * pixel))), 0, DEEPEST))


@cache
def ramp() -> NDArray[np.uint8]:
    """(256, 4) colours of a quantity from its lower to its upper end: those of the QGIS style."""
    stops = [item.attrib["color"] for item in ramp_style().iter("item")]
    rgb = np.array([[int(stop[place : place + 2], 16) for place in (1, 3, 5)] for stop in stops], float)
    at = np.linspace(0, len(stops) - 1, 256)
    planes = [np.interp(at, range(len(stops)), rgb[:, band]) for band in range(3)]
    return np.stack([*planes, np.full(256, 255.0)], axis=1).round().astype(np.uint8)


@cache
def empty_tile() -> bytes:
    """A tile in which nothing is drawn."""
    return _png(np.zeros((3, SIZE, SIZE), np.uint8), np.zeros((SIZE, SIZE), np.uint8))


# ---------------------------------------------------------------- below: pixels to colours


def _ends(seen: NDArray[Any], cut: float) -> tuple[float, float]:
    """What is black and what is white, so that there is something between them."""
    if cut == 0 and seen.dtype == np.uint8:
        return 0, 255
    dark, bright = np.percentile(seen, (cut, 100 - cut)).astype(np.float32) if seen.size else np.array([0, 1], np.float32)
    return float(dark), float(max(bright, np.nextafter(dark, np.float32(np.inf))))


def _class_colours(legend: Legend, codes: NDArray[Any]) -> NDArray[np.uint8]:
    """(row, col, 4); numbers that the legend does not name are transparent, as in QGIS."""
    table = legend.colour_table()
    known = np.array(sorted(table))
    colours = np.array([table[int(code)] for code in known], np.uint8)
    place = np.minimum(np.searchsorted(known, codes), len(known) - 1)
    rgba: NDArray[np.uint8] = np.where((known[place] == codes)[..., np.newaxis], colours[place], np.uint8(0))
    return rgba


def _png(rgb: NDArray[np.uint8], alpha: NDArray[Any] | None) -> bytes:
    mask = None if alpha is None else alpha.astype(np.uint8)
    drawn: bytes = require("rio_tiler.utils", extra="web").render(np.ascontiguousarray(rgb), mask, **_PNG)
    return drawn


def _reprojected(planes: Planes, source: GeoBox, target: GeoBox) -> Planes | None:
    """What is in memory on another grid; None where they do not meet. Where pixels of the target are far coarser, some are left out."""
    assert source.crs is not None, "a scene has a place"
    assert target.crs is not None, "so has a tile"
    here, there = _crs(source.crs.proj.to_wkt()), _crs(target.crs.proj.to_wkt())
    step = max(1, int(min(pixel_size_m(target)) / min(pixel_size_m(source))))
    box = target.boundingbox
    x, y = _outline(transform_bounds(there, here, *box.bbox))
    col, row = ~source.affine * (x, y)
    rows, cols = (_reach(at, size, step) for at, size in zip((row, col), source.shape, strict=True))
    if rows.start >= rows.stop or cols.start >= cols.stop:
        return None
    corner = source.affine * Affine.translation(cols.start, rows.start) * Affine.scale(step)
    place = {"src_transform": corner, "src_crs": here, "dst_transform": target.affine, "dst_crs": there}
    values = np.zeros((len(planes.values), *target.shape), np.float32)
    reproject(planes.values[:, rows, cols].astype(np.float32), values, **place, resampling=Resampling.bilinear)
    valid = np.zeros(target.shape, np.uint8)
    reproject(planes.valid[rows, cols].astype(np.uint8), valid, **place, resampling=Resampling.nearest)
    return Planes(values, valid > 0)


def _outline(box: tuple[float, float, float, float]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """x and y of the corners of (left, bottom, right, top)."""
    left, bottom, right, top = box
    return np.array([left, right, right, left]), np.array([bottom, bottom, top, top])


def _reach(at: NDArray[np.float64], size: int, step: int) -> slice:
    """Every `step`-th of the rows or columns that hold these places, with some around them for interpolation."""
    return slice(max(0, int(at.min()) - 2 * step), min(size, int(at.max()) + 2 * step + 1), step)


@lru_cache(maxsize=64)
def _crs(wkt: str) -> CRS:
    return CRS.from_wkt(wkt)


def _is_quick(layer: Layer) -> bool:
    """Whether a layer can be read tile by tile, also from afar."""
    if layer.reader is not None:
        return False
    with opened(layer.path) as file:
        return file.driver == "GTiff" and bool(file.overviews(layer.index))
