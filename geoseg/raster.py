"""Raster: pixels that know their place and their meaning."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from geoseg.errors import BandError
from geoseg.sensors import Band


@dataclass(frozen=True)
class Raster:
    """Values of some bands on one grid, and where they are data.

    >>> raster = geoseg.read_raster("scene.tif", [1, 2])
    >>> raster.values.shape, raster.geobox.resolution.x, bool(raster.valid_everywhere.all())
    ((2, 60, 60), 10.0, True)
    """

    values: NDArray[Any]
    """(band, row, col); 0 where not valid."""
    valid: NDArray[np.bool_]
    """(band, row, col); True where there is data."""
    geobox: GeoBox
    """CRS, affine transform and (row, col) shape."""
    bands: tuple[Band, ...]
    """What each plane of `values` means, in order."""
    time: datetime | None = None
    """Moment of acquisition; None where it is not known."""

    def __post_init__(self) -> None:
        expected = (len(self.bands), *self.geobox.shape)
        if self.values.shape != expected or self.valid.shape != expected:
            raise ValueError(f"values {self.values.shape} and valid {self.valid.shape}; bands and grid ask for {expected}")
        if self.valid.dtype != np.bool_:
            raise ValueError(f"valid has dtype {self.valid.dtype}; expected bool")
        if len(set(self.roles)) != len(self.roles):
            raise BandError(f"a role stands twice among the bands: {', '.join(self.roles)}")

    @property
    def roles(self) -> tuple[str, ...]:
        """The bands' roles, in order."""
        return tuple(band.role for band in self.bands)

    @property
    def valid_everywhere(self) -> NDArray[np.bool_]:
        """(row, col); True where every band has data."""
        return np.asarray(self.valid.all(axis=0))

    def index(self, role: str) -> int:
        """Position of the band with this role."""
        if role not in self.roles:
            raise BandError(f"no {role!r} band; there are {', '.join(self.roles)}")
        return self.roles.index(role)

    def band(self, role: str) -> NDArray[Any]:
        """(row, col) values of the band with this role."""
        plane: NDArray[Any] = self.values[self.index(role)]
        return plane

    def select(self, *roles: str) -> Raster:
        """The bands with these roles, in this order."""
        order = [self.index(role) for role in roles]
        return replace(self, values=self.values[order], valid=self.valid[order], bands=tuple(self.bands[i] for i in order))

    def crop(self, rows: slice, cols: slice) -> Raster:
        """The part inside these rows and columns."""
        return replace(self, values=self.values[:, rows, cols], valid=self.valid[:, rows, cols], geobox=self.geobox[rows, cols])

    def to_xarray(self) -> Any:
        """An xarray.DataArray (band, y, x), band by role, with the grid as rioxarray and odc-geo read it; NaN where not valid."""
        from xarray import DataArray

        importlib.import_module("rioxarray")  # gives arrays their .rio
        dtype = np.result_type(self.values.dtype, np.float32)
        values = np.where(self.valid, self.values, np.nan).astype(dtype)
        affine = self.geobox.affine
        coordinates: dict[str, Any] = {"band": list(self.roles)}
        if affine.b == affine.d == 0:  # a rotated grid has no x and y for its columns and rows: its transform says where it lies
            coordinates["x"] = affine.c + affine.a * (np.arange(values.shape[2]) + 0.5)
            coordinates["y"] = affine.f + affine.e * (np.arange(values.shape[1]) + 0.5)
        array = DataArray(values, coordinates, ("band", "y", "x"))
        placed = array.rio.write_crs(self.geobox.crs.to_wkt()) if self.geobox.crs else array
        return placed.rio.write_transform(affine).rio.write_nodata(np.nan)
