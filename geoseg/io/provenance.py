"""What every result says of how it was made: software, input files, and its grid in STAC's words."""

from __future__ import annotations

import hashlib
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import rasterio
from odc.geo.geobox import GeoBox

from geoseg import __version__


def software() -> dict[str, str]:
    """Name → version of what computes pixels and places."""
    libraries = {name: version(name) for name in ("numpy", "rasterio", "shapely", "pyproj")}
    return libraries | {"geoseg": __version__, "python": platform.python_version(), "gdal": rasterio.__gdal_version__}


def file_facts(path: Path, *, most_bytes: int | None = None) -> dict[str, Any]:
    """Path from the root, size in bytes and SHA-256 of a file; the checksum is left out above `most_bytes`."""
    size = path.stat().st_size
    facts: dict[str, Any] = {"path": str(path.absolute()), "size": size}
    return facts if most_bytes is not None and size > most_bytes else facts | {"sha256": checksum(path)}


def checksum(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def grid_fields(geobox: GeoBox) -> dict[str, Any]:
    """The fields of STAC's projection extension."""
    crs = geobox.crs
    return {
        "proj:code": f"EPSG:{crs.epsg}" if crs and crs.epsg else None,
        "proj:wkt2": crs.proj.to_wkt(version="WKT2_2019") if crs else None,
        "proj:transform": list(geobox.affine)[:6],
        "proj:shape": list(geobox.shape),
    }
