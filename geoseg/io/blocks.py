"""Writing a raster window by window into a tiled GeoTIFF: memory grows neither with its height nor with its width."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import rasterio
from numpy.typing import DTypeLike, NDArray
from odc.geo.geobox import GeoBox
from rasterio.windows import Window

from geoseg.io.atomic import check_name, output_error
from geoseg.io.cog import incomplete
from geoseg.io.opening import GDAL_ERRORS, gdal_env

_BLOCK = 512
_WRITE_ERRORS: tuple[type[Exception], ...] = (OSError, *GDAL_ERRORS)


class BlockWriter:
    """Writes a raster in windows of whole blocks (512 x 512 unless `block` says otherwise), each window once.

    `close` reads the windows back and compares: a full disk is an OutputError, never a hole. Use it in a `with` block, which
    closes it at the end and removes the file when the block fails.
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
        scales: Sequence[float] = (),
        offsets: Sequence[float] = (),
        units: Sequence[str] = (),
        colours: Mapping[int, tuple[int, int, int, int]] | None = None,
        tags: Mapping[str, str] | None = None,
        wavelengths_um: Sequence[float | None] = (),
        block: int = _BLOCK,
    ) -> None:
        """Begin the file at `path`; the sequences have one entry for each band, or none; `colours` as in `RowWriter`."""
        check_name(path)
        self.path, self._shape, self._count, self._dtype = path, geobox.shape, count, np.dtype(dtype)
        self._written: list[tuple[Window, int]] = []
        self._block = block
        profile = {
            "driver": "GTiff", "height": self._shape[0], "width": self._shape[1], "count": count, "dtype": self._dtype, "nodata": nodata,
            "crs": geobox.crs.to_wkt() if geobox.crs else None, "transform": geobox.affine, "tiled": True, "blockxsize": block,
            "blockysize": block, "compress": "zstd", "zstd_level": 1, "interleave": "band", "BIGTIFF": "IF_SAFER",
            "photometric": "MINISBLACK", "alpha": "NO",
        }  # fmt: skip
        try:
            with gdal_env():
                path.parent.mkdir(parents=True, exist_ok=True)
                self._file = rasterio.open(path, "w", **profile)
                for name, given in (("descriptions", descriptions), ("scales", scales), ("offsets", offsets), ("units", units)):
                    if given:
                        setattr(self._file, name, tuple(given))
                if colours is not None:
                    self._file.write_colormap(1, dict(colours))
                self._file.update_tags(**(tags or {}))
                for band, wavelength in enumerate(wavelengths_um, 1):
                    if wavelength is not None:
                        self._file.update_tags(band, ns="IMAGERY", CENTRAL_WAVELENGTH_UM=f"{wavelength:g}")
        except _WRITE_ERRORS as error:
            raise output_error(path, error) from error

    def write(self, rows: slice, cols: slice, values: NDArray[Any]) -> None:
        """Write (band, row, col) into this window, which begins at multiples of the block and ends there or at the edge."""
        cuts = ((rows, self._shape[0]), (cols, self._shape[1]))
        whole = all(cut.start % self._block == 0 and (cut.stop % self._block == 0 or cut.stop == size) for cut, size in cuts)
        if not whole or values.shape != (self._count, rows.stop - rows.start, cols.stop - cols.start) or values.dtype != self._dtype:
            raise ValueError(f"{values.shape} {values.dtype} does not fit rows {rows}, columns {cols} of {self.path}")
        window = Window.from_slices(rows, cols)
        try:
            with gdal_env():
                self._file.write(values, window=window)
        except _WRITE_ERRORS as error:
            raise output_error(self.path, error) from error
        self._written.append((window, zlib.crc32(np.ascontiguousarray(values).data)))

    def close(self) -> None:
        """Close the file and prove it complete."""
        if sum(window.width * window.height for window, _ in self._written) != self._shape[0] * self._shape[1]:
            raise ValueError(f"{self.path} did not get all of its windows")
        try:
            with gdal_env():
                self._file.close()
                with rasterio.open(self.path) as file:
                    whole = all(zlib.crc32(np.ascontiguousarray(file.read(window=window)).data) == sum_ for window, sum_ in self._written)
        except _WRITE_ERRORS as error:
            raise output_error(self.path, error) from error
        if not whole:
            raise incomplete(self.path)

    def discard(self) -> None:
        """Close the file without further ado and remove it."""
        with gdal_env():
            try:
                self._file.close()
            except GDAL_ERRORS:
                pass  # It is thrown away: what was lost in closing does not matter.
        self.path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if kind is None:
                self.close()
        except BaseException:
            self.discard()
            raise
        if kind is not None:
            self.discard()
