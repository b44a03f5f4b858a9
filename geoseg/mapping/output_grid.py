"""The grid of a map: that of the scene's finest band, unless the options say otherwise or its pixels are too fine for the package."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import CRS
from pyproj.exceptions import CRSError

from geoseg.errors import InputError
from geoseg.ground import pixel_size_m
from geoseg.io.geotiff import file_geobox
from geoseg.models.fit import averaged_pixel_size_m, check_bands
from geoseg.models.package import ModelPackage
from geoseg.scene import Scene

if TYPE_CHECKING:
    from geoseg.mapping.plan import MapOptions

_NEARLY_WHOLE = 0.01


def output_grid(scene: Scene, package: ModelPackage, options: MapOptions) -> GeoBox:
    """The map's grid: that of the finest band the model uses, origin and edges untouched, unless the options say otherwise.

    Where its pixels are finer than the package's range, they are averaged to the package's pixel size, from the same
    origin. Raises PackageError where the scene's own pixels, or the map's, are coarser than the range.
    """
    return averaged(asked_grid(scene, package, options), package, options)


def asked_grid(scene: Scene, package: ModelPackage, options: MapOptions) -> GeoBox:
    """The grid before pixels that are too fine are averaged."""
    check_bands(package, scene)
    native = scene.geobox([band.role for band in package.preparation.bands])
    averaged_pixel_size_m(package, native)  # a coarse scene does not become finer on a finer grid
    if options.like is not None:
        return file_geobox(options.like)
    if options.crs is not None:
        return _in_crs(native, options)
    if options.resolution is not None:
        _check_resolution(native, options.resolution)
        height, width = _resolution(native)
        return _coarser(native, options.resolution / height, options.resolution / width)
    return native


def _check_resolution(geobox: GeoBox, resolution: float) -> None:
    """Refuse pixels larger than the whole scene, whose places the CRS may not even describe; one pixel may grow twofold."""
    height, width = _resolution(geobox)
    most = 2 * max(height * geobox.shape[0], width * geobox.shape[1])
    if resolution > most:
        raise InputError(f"--resolution is {resolution:g}, larger than the whole scene; expected a pixel size in units of the map's CRS")


def averaged(geobox: GeoBox, package: ModelPackage, options: MapOptions) -> GeoBox:
    """The same ground in pixels of the package's size, where these are finer than it takes; InputError where `like` states them."""
    target = averaged_pixel_size_m(package, geobox)
    if target is None:
        return geobox
    sizes = pixel_size_m(geobox)
    if options.like is not None:
        raise InputError(
            f"{options.like} has pixels of {sizes[0]:.3g} x {sizes[1]:.3g} m, finer than {package.title} takes "
            f"({package.pixel_size_range_m[0]:g} m); choose a coarser --like, or --resolution"
        )
    return _coarser(geobox, *(_whole_if_near(target / size) for size in sizes))


def _whole_if_near(factor: float) -> float:
    """Whole pixels are averaged where the scale of the projection is all that stands in the way."""
    return round(factor) if abs(factor - round(factor)) < _NEARLY_WHOLE * factor else factor


def _resolution(geobox: GeoBox) -> tuple[float, float]:
    """Pixel size (row direction, col direction) in units of the CRS, also where the grid is rotated."""
    a = geobox.affine
    return float(np.hypot(a.b, a.e)), float(np.hypot(a.a, a.d))


def _coarser(geobox: GeoBox, row_factor: float, col_factor: float) -> GeoBox:
    """The same origin with pixels larger by these factors; the last row and column reach over the edge."""
    rows = max(1, int(np.ceil(geobox.shape[0] / row_factor - 1e-6)))
    cols = max(1, int(np.ceil(geobox.shape[1] / col_factor - 1e-6)))
    return GeoBox((rows, cols), geobox.affine @ Affine.scale(col_factor, row_factor), geobox.crs)


def _in_crs(geobox: GeoBox, options: MapOptions) -> GeoBox:
    try:
        crs = CRS.from_user_input(options.crs)
    except CRSError as error:
        raise InputError(f"--crs {options.crs!r} is no coordinate reference system; give a code such as EPSG:32633") from error
    moved = geobox.to_crs(crs)
    if options.resolution is None:
        return moved
    _check_resolution(moved, options.resolution)
    resolution: Any = options.resolution  # odc-geo's types leave numbers out
    return geobox.to_crs(crs, resolution=resolution)
