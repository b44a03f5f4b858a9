"""xarray objects as scenes: an array in memory becomes a GeoTIFF in GDAL's memory, so that everything else reads it like a file."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio
from numpy.typing import NDArray

from geoseg.errors import SceneError

if TYPE_CHECKING:
    from xarray import DataArray, Dataset


def is_array(given: object) -> bool:
    """Whether this is an xarray DataArray or Dataset; asked without importing xarray."""
    return type(given).__module__.partition(".")[0] == "xarray"


def write_array(given: DataArray | Dataset) -> str:
    """Path of a GeoTIFF under `/vsimem/` with the array's bands, grid, nodata, scales and units.

    Takes (y, x) or (band, y, x) in any order, with a CRS as rioxarray or odc-geo write it; other dimensions must have length 1.
    Bands are described by the band coordinate, else `long_name`, else the array's name; a Dataset gives one band per variable.
    The copy lives as long as the process, and other processes do not see it.
    """
    import rioxarray
    from xarray import Dataset

    array = given.to_dataarray("band") if isinstance(given, Dataset) else given
    try:
        spatial, crs = (str(array.rio.y_dim), str(array.rio.x_dim)), array.rio.crs
    except rioxarray.exceptions.RioXarrayError:
        crs = None
    if crs is None:
        raise SceneError(
            f"the array with dimensions {tuple(array.dims)} does not say where it lies; give it a CRS with array.rio.write_crs('EPSG:…') "
            "and coordinates x and y."
        )
    planes, names = _planes(array, spatial)
    values = planes.to_numpy()
    if values.dtype == np.bool_:
        values = values.astype(np.uint8)
    if values.dtype == np.float16:
        values = values.astype(np.float32)
    if not all(_regular(array[dim].to_numpy()) for dim in spatial if dim in array.coords):
        raise SceneError("the array's x and y coordinates form no regular grid; resample it to one first.")
    grid = {"height": values.shape[1], "width": values.shape[2], "crs": crs.to_wkt(), "transform": array.rio.transform()}
    path = f"/vsimem/geoseg-{uuid.uuid4().hex}/{array.name or 'array'}.tif"
    profile = {"driver": "GTiff", "count": len(values), "dtype": values.dtype, "tiled": True, "compress": "zstd", "zstd_level": 1}
    with rasterio.open(path, "w", **profile, **grid, nodata=_nodata(array, values.dtype), photometric="minisblack") as file:
        file.write(values)
        file.descriptions = tuple(names)
        file.scales = (float(array.attrs.get("scale_factor", 1.0)),) * len(values)
        file.offsets = (float(array.attrs.get("add_offset", 0.0)),) * len(values)
        file.units = (str(array.attrs.get("units", "")),) * len(values)
    return path


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


def _nodata(array: DataArray, dtype: np.dtype[Any]) -> float | None:
    """The array's stated nodata; NaN for floats that state none."""
    for place in (array.attrs, array.encoding):
        for key in ("_FillValue", "nodata", "missing_value"):
            if place.get(key) is not None and (dtype.kind == "f" or not np.isnan(float(place[key]))):
                return float("nan") if dtype.kind == "f" and place is array.encoding else float(place[key])
    return float("nan") if dtype.kind == "f" else None
