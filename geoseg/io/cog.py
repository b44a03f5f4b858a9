"""Writing rasters: by rows into a tiled GeoTIFF, then copied to a cloud optimised one; both proved complete before they count."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
import rasterio
import rasterio.shutil
from numpy.typing import DTypeLike, NDArray
from odc.geo.geobox import GeoBox
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.io import DatasetReader
from rasterio.windows import Window

from geoseg.errors import OutputError
from geoseg.io.atomic import atomic, check_name, output_error
from geoseg.io.opening import GDAL_ERRORS, gdal_env

__all__ = ["CogKind", "RowWriter", "write_cog"]

CogKind = Literal["classes", "continuous", "picture"]

_BLOCK = 512
_COG_CACHE_MB = 16
_LEAST_WINDOW, _WINDOW_NUMBERS = 128, 1 << 24
"""Edge of the windows in which files are compared, at least, and how many numbers one may hold before it is made smaller."""
_WRITE_ERRORS: tuple[type[Exception], ...] = (OSError, *GDAL_ERRORS)
_COG_OPTIONS: Mapping[str, Mapping[str, str]] = {
    "classes": {"COMPRESS": "DEFLATE", "OVERVIEW_RESAMPLING": "MODE"},
    "continuous": {"COMPRESS": "DEFLATE", "PREDICTOR": "YES", "OVERVIEW_RESAMPLING": "AVERAGE"},
    "picture": {"COMPRESS": "JPEG", "QUALITY": "85", "OVERVIEW_RESAMPLING": "AVERAGE"},
}
"""Overviews of a class map take the commonest class: GDAL's own choice, cubic, would invent classes."""


class RowWriter:
    """Writes a raster from top to bottom into a tiled GeoTIFF.

    Rows are held until a row of 512 x 512 blocks is full, so that no compressed block is written twice. `close` reads
    the file back and compares: a full disk is an OutputError, never a hole. After an error the file is removed. Use it in a
    `with` block, which closes it at the end and removes the file when the block fails.
    """

    def __init__(
        self,
        path: Path,
        geobox: GeoBox,
        *,
        count: int,
        dtype: DTypeLike,
        nodata: float | None = None,
        descriptions: Sequence[str] = (),
        scales: Sequence[float] | None = None,
        offsets: Sequence[float] | None = None,
        colours: Mapping[int, tuple[int, int, int, int]] | None = None,
        tags: Mapping[str, str] | None = None,
        band_tags: Sequence[Mapping[str, str]] = (),
        picture: bool = False,
    ) -> None:
        """Begin the file at `path`.

        `colours` is code → red, green, blue, alpha (0…255), for one band of uint8 or uint16; `tags` belong to the file and
        `band_tags` to its bands in order; `picture` says that the four bands are red, green, blue and alpha.
        """
        check_name(path)
        self.path = path
        self._shape, self._count, self._dtype = geobox.shape, count, np.dtype(dtype)
        self._held: list[NDArray[Any]] = []
        self._held_rows = self._written_rows = self._checksum = 0
        profile = {
            "driver": "GTiff", "height": self._shape[0], "width": self._shape[1], "count": count, "dtype": self._dtype, "nodata": nodata,
            "crs": geobox.crs.to_wkt() if geobox.crs else None, "transform": geobox.affine, "tiled": True, "blockxsize": _BLOCK,
            "blockysize": _BLOCK, "compress": "zstd", "zstd_level": 1, "interleave": "pixel" if picture else "band", "BIGTIFF": "IF_SAFER",
            "photometric": "RGB" if picture else "MINISBLACK", "alpha": "YES" if picture else "NO",
        }  # fmt: skip
        with self._writing():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = rasterio.open(path, "w", **profile)
            if colours is not None:
                self._file.write_colormap(1, dict(colours))
            if picture:
                self._file.colorinterp = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)
            for band, text in enumerate(descriptions, 1):
                self._file.set_band_description(band, text)
            if scales is not None:
                self._file.scales = tuple(scales)
            if offsets is not None:
                self._file.offsets = tuple(offsets)
            self._file.update_tags(**(tags or {}))
            for band, pairs in enumerate(band_tags, 1):
                self._file.update_tags(band, **pairs)

    def append(self, rows: NDArray[Any]) -> None:
        """Add the next rows, (band, row, col), of the file's dtype; any number of them."""
        fits = rows.ndim == 3 and rows.shape[0] == self._count and rows.shape[2] == self._shape[1] and rows.dtype == self._dtype
        if not fits or self._written_rows + self._held_rows + rows.shape[1] > self._shape[0]:
            raise ValueError(f"rows {rows.shape} {rows.dtype} do not fit {self.path}: {self._count} x {self._shape} {self._dtype}")
        self._held.append(rows)
        self._held_rows += rows.shape[1]
        if self._held_rows >= _BLOCK:
            held = np.concatenate(self._held, axis=1)
            whole = self._held_rows - self._held_rows % _BLOCK
            for top in range(0, whole, _BLOCK):
                self._write(held[:, top : top + _BLOCK])
            # A copy, so that the rows already written can be freed.
            self._held, self._held_rows = [held[:, whole:].copy()], held.shape[1] - whole

    def close(self) -> None:
        """Write what is held, close the file and prove it complete."""
        if self._file.closed:
            return
        if self._held_rows:
            self._write(np.concatenate(self._held, axis=1))
        self._held, self._held_rows = [], 0
        if self._written_rows != self._shape[0]:
            self.discard()
            raise ValueError(f"{self.path} got {self._written_rows} rows of {self._shape[0]}")
        with self._writing():
            self._file.close()
            whole = _checksum(self.path) == self._checksum
        if not whole:
            self.discard()
            raise incomplete(self.path)

    def discard(self) -> None:
        """Close the file without further ado and remove it."""
        self._held, self._held_rows = [], 0
        with gdal_env():
            try:
                self._file.close()
            except GDAL_ERRORS:
                pass  # It is thrown away: what was lost in closing does not matter.
        self.path.unlink(missing_ok=True)

    def _write(self, rows: NDArray[Any]) -> None:
        with self._writing():
            self._file.write(rows, window=Window(0, self._written_rows, self._shape[1], rows.shape[1]))
        for left in range(0, self._shape[1], _BLOCK):
            self._checksum = zlib.crc32(np.ascontiguousarray(rows[..., left : left + _BLOCK]).data, self._checksum)
        self._written_rows += rows.shape[1]

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """GDAL's settings; a failure removes the file and comes out as OutputError."""
        try:
            with gdal_env():
                yield
        except _WRITE_ERRORS as error:
            if hasattr(self, "_file"):
                self.discard()
            raise output_error(self.path, error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()


def write_cog(part: Path, out: Path, *, kind: CogKind, block: int = _BLOCK) -> None:
    """Copy a finished GeoTIFF to a cloud optimised one at `out`, atomically; memory does not grow with its size.

    `classes`: overviews by the commonest class; `continuous`: by the mean, with a predictor; `picture`: JPEG, its alpha band
    becomes a mask. Colour table, nodata, names, scales and tags of `part` stay. `block` is the edge of the file's blocks: all bands of one
    are in memory together. OutputError when it cannot be written whole.
    """
    with atomic(out) as temporary, gdal_env(_COG_CACHE_MB):
        try:
            options = {**_COG_OPTIONS[kind], **({"OVERVIEWS": "NONE"} if _is_line(part) else {})}
            # One thread: each further one holds blocks of its own, and most of the time goes into overviews, which use one.
            rasterio.shutil.copy(str(part), str(temporary), driver="COG", BLOCKSIZE=str(block), BIGTIFF="IF_SAFER", **options)
            whole = _blocks_present(temporary) and (kind == "picture" or _checksum(temporary) == _checksum(part))
        except GDAL_ERRORS as error:
            raise output_error(out, error) from error
        if not whole:
            raise incomplete(out)


def incomplete(path: Path) -> OutputError:
    """The error for a file that does not hold what was written to it."""
    return OutputError(f"{path} does not hold what was written to it: the disk is full or failing; free some space and try again")


def _is_line(path: Path) -> bool:
    """Whether the raster is one pixel wide or high, so that an overview would be no smaller that way."""
    with rasterio.open(path) as file:
        return bool(min(file.shape) == 1)


def _checksum(path: Path) -> int:
    """CRC-32 of all pixels, block by block."""
    checksum = 0
    with rasterio.open(path) as file:
        for window in _block_windows(file):
            checksum = zlib.crc32(np.ascontiguousarray(file.read(window=window)).data, checksum)
    return checksum


def _block_windows(file: DatasetReader) -> Iterator[Window]:
    """Windows of 512 x 512 pixels, smaller where there are many bands, row of blocks by row of blocks: few pixels lie in memory."""
    side = _BLOCK
    while side > _LEAST_WINDOW and side**2 * file.count > _WINDOW_NUMBERS:
        side //= 2
    for top in range(0, file.height, side):
        for left in range(0, file.width, side):
            yield Window(left, top, min(side, file.width - left), min(side, file.height - top))


def _blocks_present(path: Path) -> bool:
    """Whether every block of the raster and of its overviews lies inside the file and can be decoded."""
    size = os.path.getsize(path)
    with rasterio.open(path) as file:
        levels = len(file.overviews(1))
    for level in (None, *range(levels)):
        with rasterio.open(path, **({} if level is None else {"overview_level": level})) as file:
            if not all(_is_written(file, band, row, col, size) for band in file.indexes for (row, col), _ in file.block_windows(band)):
                return False
            for window in _block_windows(file):
                file.read(window=window)
                if MaskFlags.per_dataset in file.mask_flag_enums[0]:
                    file.read_masks(1, window=window)
    return True


def _is_written(file: DatasetReader, band: int, row: int, col: int, size: int) -> bool:
    """Whether a block has a place inside a file of `size` bytes; a sparse one has none, and reads as nodata without complaint."""
    start, length = (file.get_tag_item(f"BLOCK_{what}_{col}_{row}", "TIFF", bidx=band) for what in ("OFFSET", "SIZE"))
    return start is not None and length is not None and int(length) > 0 and int(start) + int(length) <= size
