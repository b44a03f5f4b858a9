"""Reading Sentinel-1 GRD: backscatter calibrated on the way and placed by its geolocation grid, and the incidence angle.

sigma0 = max(DN² - noise, 0) / A²  with the product's tables of A (`sigmaNought`) and of thermal noise (ESA, MPC-0392): where the noise
is more than what was measured the power is 0, and data. DN 0, and the border (`geoseg.radar.borders`), are no data.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from math import ceil, floor
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.windows import Window

from geoseg.io.damage import read_into
from geoseg.io.geotiff import Resampling
from geoseg.io.opening import files_kept_open, gdal_env, opened, utm_epsg
from geoseg.io.resample import Floats, Method, cell_mean, inside, sample
from geoseg.radar.annotation import Channel, GrdProduct
from geoseg.radar.borders import Border, find_border, no_border
from geoseg.radar.geolocation import GeolocationGrid, Places
from geoseg.raster import Raster
from geoseg.sensors import Band

_COARSER = 1.5
"""Target pixels this many times larger than the source's take its mean, as in `geoseg.io.geotiff`."""
_MUCH_COARSER = 16.0
"""Where the nearest pixel is asked for on a grid so coarse, only some lines are read."""
_POLAR_DEGREES = 60.0
_UTM_DEGREES = 84.0
_NORTH_POLAR, _SOUTH_POLAR = "EPSG:3413", "EPSG:3031"
_SNAP = 1e-3
"""A pixel of the product's own grid that holds less than this part of the image is left away."""
_BLOCK = 512
"""Target pixels down and across that are computed at once."""
_SOURCE_PIXELS = 1 << 20
"""What is read at once for a block; a block that needs more is cut."""
_ZIP_CACHE_MB = 128
"""Lines of a compressed image that stay in memory, since blocks on a turned grid need them again."""


@dataclass(frozen=True, eq=False)
class Image:
    """What the layers of a product share: its pixels, its border and its own grid."""

    product: GrdProduct

    @property
    def shape(self) -> tuple[int, int]:
        """Lines and samples."""
        return self.product.grid.shape

    @cached_property
    def border(self) -> Border:
        """Found when a pixel is read for the first time."""
        channel = self.product.border_channel
        if channel.noise is None:
            return no_border(self.shape)
        with _reading(channel.image):
            return find_border(lambda lines, samples: self.read(channel, lines, samples), channel.noise, self.shape)

    @cached_property
    def geobox(self) -> GeoBox:
        """Its own spacing in UTM or, for wide swaths near a pole, polar stereographic; edges at multiples of the spacing."""
        spacing = self.product.spacing_m
        crs = _suitable_crs(self.product)
        outline = self.product.grid.outline(crs)
        left, bottom = np.floor(outline.min(axis=0) / spacing + _SNAP)
        right, top = np.ceil(outline.max(axis=0) / spacing - _SNAP)
        return GeoBox((int(top - bottom), int(right - left)), Affine(spacing, 0, left * spacing, 0, -spacing, top * spacing), crs)

    def read(self, channel: Channel, lines: slice, samples: slice) -> NDArray[Any]:
        """(line, sample) digital numbers; the slices lie inside the image. 0, which is no data, where a damaged block is noted."""
        window = Window.from_slices((lines.start, lines.stop), (samples.start, samples.stop))
        with opened(channel.image) as file:
            numbers: NDArray[Any] = np.zeros((window.height, window.width), file.dtypes[0])
            read_into((numbers[np.newaxis],), file, channel.image, [1], window, lambda bands, part: (file.read(list(bands), window=part),))
        return numbers


@dataclass(frozen=True)
class Backscatter:
    """Reads one polarisation."""

    channel: Channel
    image: Image

    def geobox(self) -> GeoBox:
        """The grid that suits the image best."""
        return self.image.geobox

    def footprint(self, geobox: GeoBox) -> NDArray[np.bool_]:
        """(row, col) True where the pixel's centre lies inside the image, data or not."""
        return _footprint(self.image.product.grid, geobox)

    def read(self, bands: Mapping[int, Band], geobox: GeoBox, *, resampling: Resampling) -> Raster:
        """sigma0 in linear power (float32), interpolated or averaged as power.

        A window equals the same part of the whole, bit for bit. On grids more than 16 times coarser the nearest pixel is one within
        an eighth of a target pixel, so that few lines need to be read.
        """
        places = Places(self.image.product.grid, geobox)
        values = np.zeros((1, *geobox.shape), np.float32)
        valid = np.zeros(values.shape, dtype=bool)
        coarseness = max(places.coarseness)
        method: Method = "average" if coarseness >= _COARSER else "bilinear"
        method = method if resampling == "auto" else resampling
        sparse = method == "nearest" and coarseness >= _MUCH_COARSER
        compute = self._thinned if sparse else self._resampled
        with _reading(self.channel.image):
            todo = list(_blocks(geobox.shape.yx))
            while todo:
                rows, cols = todo.pop()
                got = compute(places, rows, cols, method)
                if got is None:
                    todo.extend(_halves(rows, cols))
                else:
                    values[0, rows, cols], valid[0, rows, cols] = np.where(got[1], got[0], 0), got[1]
        return Raster(values, valid, geobox, tuple(bands.values()))

    def _resampled(self, places: Places, rows: slice, cols: slice, method: Method) -> tuple[Floats, NDArray[np.bool_]] | None:
        """Values and validity of a block; None where it needs more of the image than is read at once."""
        shape = self.image.shape
        row, col = places(*_centres(rows, cols))
        corners = places(*_edges(rows, cols)) if method == "average" else None
        (top, bottom), (left, right) = _needed(*(corners or (row, col)), shape)
        if top >= bottom or left >= right:
            return np.zeros(row.shape), np.zeros(row.shape, dtype=bool)
        if (bottom - top) * (right - left) > _SOURCE_PIXELS and row.size > 1:
            return None
        lines, samples = np.arange(top, bottom), np.arange(left, right)
        numbers = self.image.read(self.channel, slice(top, bottom), slice(left, right))
        power, data = self._calibrated(numbers, lines, samples)
        if corners is not None:
            return cell_mean(power, data, corners[0] - top, corners[1] - left, places.coarseness)
        on_image = inside(row, col, shape)
        got, known = sample(power, data, row - top, col - left, "nearest" if method == "nearest" else "bilinear")
        return got, known & on_image

    def _thinned(self, places: Places, rows: slice, cols: slice, method: Method) -> tuple[Floats, NDArray[np.bool_]]:
        """One pixel near the middle of each target pixel; only lines that are a part of a target pixel apart are read."""
        row, col = places(*_centres(rows, cols))
        power, valid = np.zeros(row.shape), inside(row, col, self.image.shape)
        step = int(max(places.coarseness) // 4)
        lines = np.minimum(row[valid].astype(np.int64) // step * step + step // 2, self.image.shape[0] - 1)
        samples, at = col[valid].astype(np.int64), np.flatnonzero(valid)
        order = np.lexsort((samples, lines))
        for part in np.split(order, np.flatnonzero(np.diff(lines[order])) + 1) if order.size else []:
            line, wanted = lines[part[:1]], np.unique(samples[part])
            stretch = slice(int(wanted[0]), int(wanted[-1]) + 1)
            numbers = self.image.read(self.channel, slice(int(line[0]), int(line[0]) + 1), stretch)[:, wanted - stretch.start]
            got, known = self._calibrated(numbers, line, wanted)
            back = np.searchsorted(wanted, samples[part])
            power.flat[at[part]], valid.flat[at[part]] = got[0, back], known[0, back]
        return power, valid

    def _calibrated(self, numbers: NDArray[Any], lines: NDArray[Any], samples: NDArray[Any]) -> tuple[Floats, NDArray[np.bool_]]:
        """sigma0 of digital numbers (line, sample), and where they are data."""
        power = np.square(numbers.astype(np.float64))
        if self.channel.noise is not None:
            power = np.maximum(power - self.channel.noise.at(lines, samples), 0.0)
        power /= np.square(self.channel.calibration.at(lines, samples))
        return power, (numbers > 0) & self.image.border.inside(lines, samples)


@dataclass(frozen=True)
class IncidenceAngle:
    """Computes the incidence angle, in degrees, from the geolocation grid."""

    grid: GeolocationGrid
    image: Image

    def geobox(self) -> GeoBox:
        """The grid of the backscatter."""
        return self.image.geobox

    def footprint(self, geobox: GeoBox) -> NDArray[np.bool_]:
        """(row, col) True where the pixel's centre lies inside the image."""
        return _footprint(self.grid, geobox)

    def read(self, bands: Mapping[int, Band], geobox: GeoBox, *, resampling: Resampling) -> Raster:
        """The angle at each pixel's centre (float32); valid inside the image, also where it holds no data."""
        places = Places(self.grid, geobox)
        values = np.zeros((1, *geobox.shape), np.float32)
        valid = np.zeros(values.shape, dtype=bool)
        for rows, cols in _blocks(geobox.shape.yx):
            row, col = places(*_centres(rows, cols))
            valid[0, rows, cols] = inside(row, col, self.grid.shape)
            values[0, rows, cols] = np.where(valid[0, rows, cols], self.grid.incidence_at(row, col), 0)
        return Raster(values, valid, geobox, tuple(bands.values()))


# ---------------------------------------------------------------- below: grids, blocks and windows


def _suitable_crs(product: GrdProduct) -> str:
    longitude, latitude = product.grid.centre
    if abs(latitude) > (_POLAR_DEGREES if product.mode.upper() == "EW" else _UTM_DEGREES):
        return _NORTH_POLAR if latitude > 0 else _SOUTH_POLAR
    return f"EPSG:{utm_epsg(longitude, latitude)}"


def _footprint(grid: GeolocationGrid, geobox: GeoBox) -> NDArray[np.bool_]:
    places, covered = Places(grid, geobox), np.zeros(geobox.shape, dtype=bool)
    for rows, cols in _blocks(geobox.shape.yx):
        covered[rows, cols] = inside(*places(*_centres(rows, cols)), grid.shape)
    return covered


@contextmanager
def _reading(path: str) -> Iterator[None]:
    """Settings for reading windows of an image: lines of an uncompressed one are taken from the file in part, others are kept."""
    settings = gdal_env(_ZIP_CACHE_MB) if path.startswith("/vsi") else rasterio.Env(GTIFF_DIRECT_IO="YES")
    with settings, files_kept_open():
        yield


def _blocks(shape: tuple[int, int]) -> Iterator[tuple[slice, slice]]:
    for top in range(0, shape[0], _BLOCK):
        for left in range(0, shape[1], _BLOCK):
            yield slice(top, min(top + _BLOCK, shape[0])), slice(left, min(left + _BLOCK, shape[1]))


def _halves(rows: slice, cols: slice) -> list[tuple[slice, slice]]:
    """The block cut across its longer side."""
    row, col = (rows.start + rows.stop) // 2, (cols.start + cols.stop) // 2
    if rows.stop - rows.start >= cols.stop - cols.start:
        return [(slice(rows.start, row), cols), (slice(row, rows.stop), cols)]
    return [(rows, slice(cols.start, col)), (rows, slice(col, cols.stop))]


def _centres(rows: slice, cols: slice) -> tuple[Floats, Floats]:
    return np.arange(rows.start, rows.stop) + 0.5, np.arange(cols.start, cols.stop) + 0.5


def _edges(rows: slice, cols: slice) -> tuple[Floats, Floats]:
    return np.arange(rows.start, rows.stop + 1.0), np.arange(cols.start, cols.stop + 1.0)


def _needed(row: Floats, col: Floats, shape: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
    """(first, end) of lines and of samples around the places that lie on the image or beside it; empty where none do."""
    near = (row > -1) & (row < shape[0] + 1) & (col > -1) & (col < shape[1] + 1)
    if not near.any():
        return (0, 0), (0, 0)
    lines, samples = (
        (max(0, floor(place[near].min()) - 1), min(size, ceil(place[near].max()) + 1))
        for place, size in zip((row, col), shape, strict=True)
    )
    return lines, samples
