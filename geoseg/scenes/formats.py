"""Formats and products that cannot be read here: one sentence each, with the command that makes something of them that can."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import rasterio

from geoseg.errors import SceneError

_WAVELETS = {".ecw": "ECW", ".sid": "MrSID"}
"""Their libraries are not free, so that the usual builds of GDAL come without them."""
_HDF4_START = b"\x0e\x03\x13\x01"
_COMPRESSED_TARS = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")


def check_format(given: str | Path) -> None:
    """SceneError for a file that this build of GDAL has no driver for (ECW, MrSID, HDF4), and for a compressed tar."""
    path, name = Path(given), Path(given).name
    lower = name.lower()
    if path.suffix.lower() in _WAVELETS and not _has_driver(driver := _WAVELETS[path.suffix.lower()]):
        raise SceneError(
            f"{given} is {driver}, which this build of GDAL cannot read; convert it where gdalinfo --formats lists {driver}, such as the "
            f"OSGeo4W Shell of QGIS: gdal_translate -of COG -co COMPRESS=DEFLATE -co PREDICTOR=YES {name} {path.stem}.tif"
        )
    if lower.endswith(".hdf") and _starts_with(path, _HDF4_START) and not _has_driver("HDF4"):
        raise SceneError(
            f"{given} is HDF4, which this build of GDAL cannot read; where gdalinfo --formats lists HDF4, such as the OSGeo4W Shell of "
            f"QGIS, write each band that gdalinfo {name} lists into a file and give their folder: "
            f"gdal_translate HDF4_EOS:EOS_GRID:{name}:MOD_Grid_500m_Surface_Reflectance:sur_refl_b01 {path.stem}.sur_refl_b01.tif"
        )
    if lower.endswith(_COMPRESSED_TARS) and path.is_file():
        raise SceneError(
            f"{given} is a compressed archive, which cannot be read in place; unpack it with tar -xf {name} and give the folder."
        )


def check_members(given: str, paths: Sequence[str]) -> None:
    """SceneError for a folder or archive without rasters where its files tell what it is."""
    for path in paths:
        check_format(path)
    if any(".SEN3" in path.upper() for path in (given, *paths)):
        raise SceneError(
            f"{given} is a Sentinel-3 product, whose bands lie on no grid; put them on one with SNAP (Raster, Geometric, Reprojection), "
            "export that as GeoTIFF and give the file."
        )


def _has_driver(name: str) -> bool:
    with rasterio.Env() as env:
        return name in env.drivers()


def _starts_with(path: Path, start: bytes) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(start)) == start
    except OSError:
        return False
