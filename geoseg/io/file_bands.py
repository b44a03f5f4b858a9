"""Files as they lie on disk: their bands before anyone knows what these mean."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.enums import Resampling
from rasterio.io import DatasetReader
from rasterio.windows import Window

from geoseg.io.opening import GDAL_ERRORS, dataset_geobox, opened
from geoseg.io.remote import is_remote, line_failed, persistently


@dataclass(frozen=True)
class FileBand:
    """One band of one file."""

    path: str
    index: int
    """Counted from 1."""
    description: str = ""
    """What the file says of the band; empty where it says nothing of use."""
    colour: str = "undefined"
    """GDAL's colour interpretation: `red`, `alpha`, `gray`, `undefined` …"""
    dtype: str = "uint8"
    scale: float = 1.0
    offset: float = 0.0
    unit: str = ""
    nodata: float | None = None
    wavelength_um: float | None = None


@dataclass(frozen=True)
class RasterFile:
    """One file that GDAL opens, without its pixels."""

    path: str
    geobox: GeoBox
    bands: tuple[FileBand, ...]
    tags: Mapping[str, str] = field(default_factory=dict)
    """What the file says of itself as a whole."""

    @property
    def stem(self) -> str:
        """The file's name without folder and extension; a variable's name in NetCDF and Zarr."""
        return stem(self.path)

    @property
    def pixel_area(self) -> float:
        """Area of a pixel in squared units of the CRS."""
        return abs(float(self.geobox.affine.determinant))


def stem(path: str) -> str:
    """The last part of a path without its extension; the variable of `NETCDF:"file":variable`."""
    name = PurePosixPath(path.replace("\\", "/").split("?")[0]).name
    if re.match(r"(?i)(netcdf|zarr|hdf5):", path):
        return re.split(r"[:/]+", path)[-1]
    return name.rsplit(".", 1)[0] if "." in name[1:] else name


def open_files(paths: Sequence[str]) -> list[RasterFile]:
    """The files in this order; remote ones are asked side by side, since each answer takes a while."""
    if len(paths) > 1 and any(map(is_remote, paths)):
        with ThreadPoolExecutor(max_workers=8) as pool:
            return list(pool.map(open_file, paths))
    return [open_file(path) for path in paths]


def open_file(path: str) -> RasterFile:
    """What one file says of itself; SceneError where it cannot be opened or does not say where it lies."""
    with opened(path) as file:
        bands = tuple(_band(file, path, index) for index in file.indexes)
        return RasterFile(path, dataset_geobox(file), _without_numbering(bands), file.tags())


def sample_pixels(path: str, index: int, *, side: int = 96, per_axis: int = 4) -> NDArray[Any]:
    """A few thousand stored numbers (1-D) spread over a band: small windows, or a coarse overview where the file has them.

    Windows that cannot be read are left out, unless all are: who reads in full is told.
    """
    with opened(path) as file:
        rows, cols = file.shape
        if file.driver.startswith("JP2") or file.overviews(index) or rows * cols <= 512 * 512:
            shape = (min(rows, 512), min(cols, 512))
            if (plane := _look(file, path, index, out_shape=shape, resampling=Resampling.nearest)) is not None:
                return plane
        tops = np.linspace(0, max(rows - side, 0), per_axis).astype(int)
        lefts = np.linspace(0, max(cols - side, 0), per_axis).astype(int)
        windows = [Window(int(left), int(top), min(side, cols), min(side, rows)) for top in tops for left in lefts]
        looks = [look for window in windows if (look := _look(file, path, index, window=window)) is not None]
        return np.concatenate(looks or [file.read(index, window=windows[0]).ravel()])


def _look(file: DatasetReader, path: str, index: int, **where: Any) -> NDArray[Any] | None:
    """Stored numbers (1-D) of a part of a band; None where a block of it is damaged."""
    try:
        numbers: NDArray[Any] = persistently(path, lambda: file.read(index, **where), failures=GDAL_ERRORS)
    except GDAL_ERRORS as error:
        if line_failed(path, error):
            raise
        return None
    return numbers.ravel()


def _band(file: DatasetReader, path: str, index: int) -> FileBand:
    at = index - 1
    tags = file.tags(index)
    imagery = file.tags(index, ns="IMAGERY")
    wavelength = imagery.get("CENTRAL_WAVELENGTH_UM")
    description = file.descriptions[at] or tags.get("long_name") or tags.get("NETCDF_VARNAME") or ""
    return FileBand(
        path=path,
        index=index,
        description=description.strip(),
        colour=file.colorinterp[at].name,
        dtype=file.dtypes[at],
        scale=file.scales[at],
        offset=file.offsets[at],
        unit=(file.units[at] or "").strip(),
        nodata=file.nodatavals[at],
        wavelength_um=float(wavelength) if wavelength else None,
    )


def _without_numbering(bands: tuple[FileBand, ...]) -> tuple[FileBand, ...]:
    """Descriptions that say where a band lies (`Band 1`, `Band 2` …) or the same of all bands do not say what it is: they are dropped."""
    numbered = all(re.fullmatch(rf"(?i)(band|layer|channel)[\s_-]*0*{band.index}", band.description) for band in bands)
    alike = len(bands) > 1 and len({band.description for band in bands}) == 1
    return tuple(replace(band, description="") for band in bands) if numbered or alike else bands
