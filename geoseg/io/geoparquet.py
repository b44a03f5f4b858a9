"""GeoParquet files as features, by pyarrow: the GDAL that comes with pyogrio has no driver for them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from geoseg.errors import InputError

if TYPE_CHECKING:
    from geopandas import GeoDataFrame

_SUFFIXES = (".parquet", ".geoparquet")


def is_geoparquet(path: str | Path) -> bool:
    """Whether a file on this machine is named as GeoParquet is."""
    return str(path).lower().endswith(_SUFFIXES) and Path(path).is_file()


def read_geoparquet(path: str | Path) -> GeoDataFrame:
    """All features of a file; its CRS is longitude and latitude where it states none, as the standard (GeoParquet 1.1) has it.

    InputError where it is damaged, or a table without geometries.
    """
    import geopandas  # takes most of a second to load

    try:
        return geopandas.read_parquet(path)
    except (ValueError, OSError) as error:
        said = " ".join(str(error).split()).rstrip(".")
        raise InputError(f"{path} cannot be read as GeoParquet ({said}); export it anew, for example with QGIS") from error
