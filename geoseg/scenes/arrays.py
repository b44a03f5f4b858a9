"""xarray objects as scenes: an array in memory becomes a GeoTIFF in GDAL's memory, so that everything else reads it like a file."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio
import rasterio.shutil
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.crs import CRS
from rasterio.windows import Window

from geoseg.errors import SceneError

if TYPE_CHECKING:
    from xarray import DataArray, Dataset


_CORNER = 1e-3
"""Pixels by which a coordinate that stands for a corner may be off it."""


def is_array(given: object) -> bool:
    """Whether this is an xarray DataArray or Dataset; asked without importing xarray."""
    return type(given).__module__.partition(".")[0] == "xarray"


@dataclass(frozen=True)
class ArrayForm:
    """What an array is beside its values: enough to make a file of any of its rows."""

    name: str
    shape: tuple[int, int, int]
    """(band, row, col)"""
    dtype: str
    crs: str
    """As WKT."""
    transform: Affine
    nodata: float | None
    names: tuple[str, ...]
    """Of the bands; empty where nobody says."""
    scale: float
    offset: float
    unit: str

    @property
    def geobox(self) -> GeoBox:
        """CRS, affine transform and (row, col) shape."""
        return GeoBox(self.shape[1:], self.transform, self.crs)


def write_array(given: DataArray | Dataset) -> str:
    """Path of a GeoTIFF under `/vsimem/` with the array's bands, grid, nodata, scales and units; see `describe_array`.

    The copy lives as long as the process, and other processes do not see it.
    """
    planes, form = describe_array(given)
    return write_rows(form, planes.to_numpy())


def describe_array(given: DataArray | Dataset) -> tuple[DataArray, ArrayForm]:
    """The array as (band, y, x), and what it is; nothing of a lazy one is computed.

    Takes (y, x) or (band, y, x) in any order, with a CRS as rioxarray, odc-geo or stackstac write it; other dimensions must have length 1.
    Bands are named by the band coordinate, else `long_name`, else the array's name; a Dataset gives one band per variable. Raises
    SceneError where the array does not say where it lies, or lies on no regular grid.
    """
    import rioxarray
    from xarray import Dataset

    array = given.to_dataarray("band") if isinstance(given, Dataset) else given
    try:
        spatial = str(array.rio.y_dim), str(array.rio.x_dim)
        crs = array.rio.crs or _stated_crs(array)
    except rioxarray.exceptions.RioXarrayError:
        crs = None
    if crs is None:
        raise SceneError(
            f"the array with dimensions {tuple(array.dims)} does not say where it lies; give it a CRS with array.rio.write_crs('EPSG:…') "
            "and coordinates x and y."
        )
    if not all(_regular(array[dim].to_numpy()) for dim in spatial if dim in array.coords):
        raise SceneError("the array's x and y coordinates form no regular grid; resample it to one first.")
    planes, names = _planes(array, spatial)
    if planes.dtype in (np.bool_, np.float16):
        planes = planes.astype(np.uint8 if planes.dtype == np.bool_ else np.float32)
    form = ArrayForm(
        str(array.name or "array"),
        (planes.shape[0], planes.shape[1], planes.shape[2]),
        str(planes.dtype),
        crs.to_wkt(),
        _transform(array, spatial),
        stated_nodata(array, planes.dtype),
        tuple(names),
        float(array.attrs.get("scale_factor", 1.0)),
        float(array.attrs.get("add_offset", 0.0)),
        str(array.attrs.get("units", "")),
    )
    return planes, form


def write_rows(form: ArrayForm, values: NDArray[Any], first: int = 0) -> str:
    """Path of a GeoTIFF under `/vsimem/` of the whole grid with these rows (band, row, col), from row `first` on; the rest is void.

    `forget` takes it away again.
    """
    bands, rows, cols = form.shape
    path = f"/vsimem/geoseg-{uuid.uuid4().hex}/{form.name}.tif"
    grid = {"height": rows, "width": cols, "crs": form.crs, "transform": form.transform}
    profile = {
        "driver": "GTiff",
        "count": bands,
        "dtype": form.dtype,
        "tiled": True,
        "compress": "zstd",
        "zstd_level": 1,
        "sparse_ok": True,
    }
    with rasterio.open(path, "w", **profile, **grid, nodata=form.nodata, photometric="minisblack") as file:
        if values.shape[1]:
            file.write(values, window=Window(0, first, cols, values.shape[1]))
        file.descriptions = form.names
        file.scales, file.offsets, file.units = (form.scale,) * bands, (form.offset,) * bands, (form.unit,) * bands
    return path


def forget(path: str) -> None:
    """Free the memory of a file that `write_rows` made."""
    rasterio.shutil.delete(path)


def _stated_crs(array: DataArray) -> CRS | None:
    """What the coordinates say that STAC's projection extension names, as stackstac hands them on."""
    for name in ("proj:code", "proj:epsg", "epsg"):
        if name in array.coords and (told := {str(one) for one in np.unique(array[name].to_numpy())} - {"nan", "None"}):
            if len(told) > 1:
                raise SceneError(f"the array's {name} says {', '.join(sorted(told))}; bring all of it to one CRS first.")
            code = told.pop()
            return CRS.from_user_input(code if ":" in code else f"EPSG:{int(float(code))}")
    return None


def _transform(array: DataArray, spatial: tuple[str, str]) -> Affine:
    """Of pixel corners. stackstac's coordinates are corners, everyone else's are middles; its `transform` tells which, also of a part."""
    stated = array.attrs.get("transform")
    found: Affine = array.rio.transform()
    if stated is None or len(tuple(stated)) < 6 or any(dim not in array.coords for dim in spatial):
        return found
    whole = Affine(*tuple(stated)[:6])
    y, x = (float(array[dim].to_numpy()[0]) for dim in spatial)
    col, row = (x - whole.c) / whole.a, (y - whole.f) / whole.e
    if max(abs(col - round(col)), abs(row - round(row))) < _CORNER:
        return Affine(whole.a, 0, x, 0, whole.e, y)
    return found


def _regular(coordinates: NDArray[Any]) -> bool:
    """Whether coordinates are evenly spaced, to a thousandth of a pixel."""
    steps = np.diff(coordinates)
    return len(steps) == 0 or bool(np.ptp(steps) <= 1e-3 * abs(steps.mean()) and steps[0] != 0)


def _planes(array: DataArray, spatial: tuple[str, str]) -> tuple[DataArray, list[str]]:
    """The array as (band, y, x), and a description of each band."""
    others = [dim for dim in array.dims if dim not in spatial]
    long = [dim for dim in others if array.sizes[dim] > 1]
    if len(long) > 1 or (long and str(long[0]).lower() in ("time", "t", "date")):
        raise SceneError(
            f"the array has {', '.join(f'{dim}={array.sizes[dim]}' for dim in others)} beside rows and columns, but one scene holds "
            f"bands only; choose one {long[0]!r} with .isel({long[0]}=0)."
        )
    band = long[0] if long else others[0] if others else "band"
    planes = array if band in array.dims else array.expand_dims(band)
    planes = planes.squeeze([dim for dim in others if dim != band], drop=True).transpose(band, *spatial)
    labels: Any = planes[band].to_numpy() if band in planes.coords else []
    told = array.attrs.get("long_name", "")
    if len(labels) and np.asarray(labels).dtype.kind in "UOT":
        return planes, [str(label) for label in labels]
    if isinstance(told, (list, tuple)) and len(told) == planes.sizes[band]:
        return planes, [str(label) for label in told]
    single = str(told or array.name or "") if planes.sizes[band] == 1 else ""
    return planes, [single] * planes.sizes[band]


def stated_nodata(array: DataArray, dtype: np.dtype[Any]) -> float | None:
    """The array's stated nodata; NaN for floats that state none."""
    for place in (array.attrs, array.encoding):
        for key in ("_FillValue", "nodata", "missing_value"):
            if place.get(key) is not None and (dtype.kind == "f" or not np.isnan(float(place[key]))):
                return float("nan") if dtype.kind == "f" and place is array.encoding else float(place[key])
    return float("nan") if dtype.kind == "f" else None
