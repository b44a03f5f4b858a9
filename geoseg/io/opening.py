"""Opening raster files: what is wrong with a file is said in one sentence, and open files can be kept for the next read."""

from __future__ import annotations

import os
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from itertools import count
from pathlib import Path
from weakref import WeakKeyDictionary

import rasterio
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from rasterio._err import CPLE_BaseError
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader

from geoseg.errors import SceneError
from geoseg.io.remote import http_settings, is_remote, line_failed, persistently, remote_settings

_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_NOT_A_PATH = re.compile(r"\w{2,}:")
"""An address, or a part of a file as GDAL names it: `https://…`, `NETCDF:file.nc:name`; `C:` is a disk."""
_KEPT_FILES = 64
GDAL_ERRORS: tuple[type[Exception], ...] = (RasterioError, CPLE_BaseError)
"""What rasterio raises, and what it lets through from GDAL, which has no public name."""


def gdal_env(cache_mb: float = 32) -> rasterio.Env:
    """GDAL's settings for everything geoseg reads and writes: a small stated block cache instead of 5 % of the memory, patience with
    servers.

    Inside a block that asked for a larger cache that one stays: making it smaller would drop what it holds.
    """
    outer = rasterio.env.getenv().get("GDAL_CACHEMAX", 0) if rasterio.env.hasenv() else 0
    cache = max(int(cache_mb * (1 << 20)), outer)  # rasterio counts it in bytes
    # One thread: what fails in further ones is lost, and a JPEG 2000 file that was cut off reads as noise.
    return rasterio.Env(GDAL_CACHEMAX=cache, GDAL_PAM_ENABLED=True, GDAL_NUM_THREADS=1, **http_settings())


class _Shelf:
    """Open files that nobody reads at the moment; each is lent to one reader at a time, as GDAL asks for."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.users = 0
        self.idle: list[tuple[str, DatasetReader]] = []

    def take(self, path: str) -> DatasetReader | None:
        with self.lock:
            for place in reversed(range(len(self.idle))):
                if self.idle[place][0] == path:
                    return self.idle.pop(place)[1]
        return None

    def give(self, path: str, dataset: DatasetReader) -> None:
        with self.lock:
            self.idle.append((path, dataset))
            keep = _KEPT_FILES if self.users else 0
            oldest = max(0, len(self.idle) - keep)
            closing, self.idle = self.idle[:oldest], self.idle[oldest:]
        for _, old in closing:
            old.close()

    def use(self, change: int) -> None:
        with self.lock:
            self.users += change
            closing, self.idle = ([], self.idle) if self.users else (self.idle, [])
        for _, old in closing:
            old.close()


_shelf = _Shelf()


def _forget_files() -> None:
    """A forked process shares its parent's files and their places in them, so it opens its own."""
    _shelf.lock, _shelf.idle = threading.Lock(), []


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_files)


@contextmanager
def files_kept_open() -> Iterator[None]:
    """Inside this block files stay open between reads, in every thread of the process; all are closed at its end.

    For a strip-wise reader: opening costs milliseconds and forgets the blocks that GDAL has decoded. A file must not be
    replaced or deleted inside the block.
    """
    _shelf.use(+1)
    try:
        yield
    finally:
        _shelf.use(-1)


@contextmanager
def opened(path: str) -> Iterator[DatasetReader]:
    """The open file, for one thread; SceneError says what is wrong with it, also where a block cannot be read."""
    with gdal_env():
        dataset = _shelf.take(path) or _open(path)
        try:
            yield dataset
        except GDAL_ERRORS as error:
            dataset.close()
            raise SceneError(_why_not_read(path, error)) from error
        except BaseException:
            dataset.close()
            raise
        _shelf.give(path, dataset)


def _open(path: str) -> DatasetReader:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            dataset = _open_remote(path) if is_remote(path) else rasterio.open(path)
    except GDAL_ERRORS as error:
        raise SceneError(_why_not_opened(path, error)) from error
    if dataset.count == 0:
        dataset.close()
        raise SceneError(
            f"{path} holds several rasters and no bands of its own; name one of them as GDAL does, such as NETCDF:file.nc:name"
        )
    return dataset


def _open_remote(path: str) -> DatasetReader:
    tries = count()

    def attempt() -> DatasetReader:
        with rasterio.Env(**remote_settings(path, again=next(tries) > 0)):
            return rasterio.open(path)

    return persistently(path, attempt, failures=GDAL_ERRORS)


def _why_not_read(path: str, error: Exception) -> str:
    if line_failed(path, error):
        return (
            f"{path} opens but could not be fetched in full, in several tries: see that its server can be reached and that the file is "
            f"whole, then try again ({gdal_said(error)})"
        )
    return f"{path} opens but cannot be read in full: it is truncated or damaged; fetch it again ({gdal_said(error)})"


def _why_not_opened(path: str, error: Exception) -> str:
    if path.startswith("/vsi") or _NOT_A_PATH.match(path):
        return f"{path} cannot be opened as a raster: see that it exists and can be reached ({gdal_said(error)})"
    file = Path(path)
    try:
        if not file.exists():
            return f"no such file: {path}; check the path for a spelling mistake"
        if file.is_dir():
            return f"{path} is a folder; give a raster file that lies in it"
        if file.stat().st_size == 0:
            return f"{path} is empty (zero bytes); fetch it again"
        with file.open("rb") as stream:
            start = stream.read(4)
    except OSError as failure:
        return f"{path} cannot be read: {failure.strerror or failure}; check the path and its permissions"
    if start in _TIFF_STARTS:
        return f"{path} begins as a GeoTIFF but cannot be opened: it is truncated or damaged; fetch it again"
    return f"{path} is not a raster that GDAL can open ({gdal_said(error)}); give a GeoTIFF or another raster format"


def gdal_said(error: BaseException) -> str:
    """What GDAL said, on one line; rasterio keeps it in the error's cause."""
    said = str(error.__cause__ or error).strip().rstrip(".")
    return " ".join(said.split())


def file_geobox(path: str) -> GeoBox:
    """The file's own grid: CRS, affine transform, shape.

    SceneError where the file cannot be opened or does not say where it lies; where it holds only ground control points or
    rational polynomial coefficients, the sentence holds the command that helps.
    """
    with opened(path) as dataset:
        return dataset_geobox(dataset)


def dataset_geobox(dataset: DatasetReader) -> GeoBox:
    """The grid of a file open for reading; raises as `file_geobox`. Found out once for as long as the file is open."""
    if (known := _geoboxes.get(dataset)) is None:
        known = _geoboxes[dataset] = _read_geobox(dataset)
    return known


_geoboxes: WeakKeyDictionary[DatasetReader, GeoBox] = WeakKeyDictionary()


def _read_geobox(dataset: DatasetReader) -> GeoBox:
    points, points_crs = dataset.gcps
    placed = dataset.crs is not None and not dataset.transform.is_identity
    if not placed and points:
        x, y = (sum(p.x for p in points) / len(points), sum(p.y for p in points) / len(points))
        zone = utm_epsg(x, y) if points_crs is not None and points_crs.is_geographic else "CODE"
        raise SceneError(
            f"{dataset.name} is located only by {len(points)} ground control points, not yet on a grid; put it on one with: "
            f"gdalwarp -tps -r bilinear -t_srs EPSG:{zone} {dataset.name} out.tif"
        )
    if not placed and dataset.rpcs is not None:
        zone = utm_epsg(dataset.rpcs.long_off, dataset.rpcs.lat_off)
        raise SceneError(
            f"{dataset.name} is located only by rational polynomial coefficients (RPC), not yet on a grid; put it on one with: "
            f"gdalwarp -rpc -to RPC_DEM=dem.tif -r bilinear -t_srs EPSG:{zone} {dataset.name} out.tif"
        )
    if dataset.crs is None:
        raise SceneError(
            f"{dataset.name} has no CRS, so its place on the ground is unknown; "
            f"if you know it, say so with: rio edit-info --crs EPSG:CODE {dataset.name}"
        )
    if not placed:
        raise SceneError(
            f"{dataset.name} has a CRS but no geotransform, so its place on the ground is unknown; look for a world file beside it"
        )
    return GeoBox(dataset.shape, dataset.transform, _crs(dataset.crs.to_wkt(), dataset.name))


@lru_cache(maxsize=256)
def _crs(wkt: str, name: str) -> CRS:
    try:
        return CRS(wkt)
    except Exception as error:
        raise SceneError(
            f"{name} has a CRS that PROJ does not understand ({error}); set it with: rio edit-info --crs EPSG:CODE {name}"
        ) from error


def utm_epsg(longitude: float, latitude: float) -> int:
    """EPSG code of the UTM zone of a place in degrees."""
    zone = int((longitude + 180) // 6) % 60 + 1
    return (32600 if latitude >= 0 else 32700) + zone
