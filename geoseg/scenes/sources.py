"""From what a user gives as a scene to the files that GDAL opens."""

from __future__ import annotations

import os
import re
import tarfile
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import rasterio
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from geoseg.errors import SceneError
from geoseg.io.names import gdal_path, safe_name
from geoseg.scenes.formats import check_format, check_members
from geoseg.scenes.sen2cor import DETAILS

RASTER_SUFFIXES = (".tif", ".tiff", ".jp2", ".j2k", ".vrt", ".img")
"""What counts as a raster inside a folder or an archive; a file that is named itself may be anything GDAL reads."""
NOT_BANDS = re.compile(
    r"(?i)(preview|browse|quicklook|thumb|overview|visual|(^|[_.])(TCI|PVI|AOT|WVP|QI_DATA|MSK|CLASSI|VCID_2"
    r"|SR_QA|SR_CLOUD_QA|SR_ATMOS_OPACITY|QA_AEROSOL|ST_\w*QA|ATRAN|CDIST|DRAD|EMIS|EMSD|TRAD|URAD|SAA|SZA|VAA|VZA|udm)(_\d+m)?(\.|_|$)"
    r"|_RTC\d+_\w_\w{6}_\w{4}_(rgb|area)\.|RTC-S1-STATIC_.*_(mask|number_of_looks|rtc_anf_\w+)\.)"
)
"""File names that stand beside bands and are none: pictures, aerosol, angles, areas and masks that no quality table reads."""
METADATA = re.compile(r"(?i)(^|/)(MTD_MSIL\w+\.xml|[^/]*_MTL\.(txt|xml))$")
"""A product's main metadata; where it is given instead of the product, its folder is meant."""
_BESIDE = re.compile(r"(?i)(^|/)(MTD_TL\.xml|MSK_CLOUDS_B00\.gml|[^/]*_MTL\.json|\d{8}_\d{6}_[^/]*metadata(_clip)?\.(xml|json))$")
"""Sun angles, clouds as polygons and other metadata beside the rasters."""


@dataclass(frozen=True)
class Source:
    """A scene as files, before any is opened."""

    name: str
    """Safe in file names."""
    given: str
    """What the user wrote, for messages."""
    paths: tuple[str, ...]
    """As GDAL opens them."""
    texts: Mapping[str, bytes] = field(default_factory=dict)
    """Metadata that lies beside the rasters, by path."""


def find_source(given: str | Path | Sequence[str | Path]) -> Source:
    """The files of a GeoTIFF, VRT, folder, zip or tar, list, NetCDF or Zarr, or `/vsi…` path; SceneError where there are none."""
    if not isinstance(given, (str, Path)):
        paths = tuple(gdal_path(str(path)) for path in given)
        if not paths:
            raise SceneError("an empty list was given as a scene; give at least one file.")
        return find_source(paths[0]) if len(paths) == 1 else Source(safe_name(paths[0]), ", ".join(map(str, given)), paths)
    text = str(given)
    path = Path(text)
    if METADATA.search(text.replace("\\", "/")) and path.is_file():
        path = path.parent
    if path.suffix.lower() == ".zarr" or text.lower().rstrip("/").endswith(".zarr"):
        return Source(safe_name(text), text, _variables(text, "Zarr"))
    if path.is_dir():
        return _folder(path, text)
    if path.is_file() and zipfile.is_zipfile(path):
        return _archive(path, text, "vsizip")
    if path.is_file() and path.suffix.lower() == ".tar" and tarfile.is_tarfile(path):
        return _archive(path, text, "vsitar")
    if path.suffix.lower() in (".nc", ".nc4", ".cdf"):
        return Source(safe_name(text), text, _variables(text, "netCDF"))
    check_format(text)
    return Source(safe_name(text), text, (gdal_path(text),))


def _tells(path: str) -> bool:
    """Whether a file beside the rasters says something of the product."""
    return any(pattern.search(path) for pattern in (METADATA, DETAILS, _BESIDE))


def _folder(path: Path, given: str) -> Source:
    """Rasters directly inside; the whole tree for a SAFE folder, or where only such a folder lies inside."""
    inside = sorted(path.iterdir())
    safes = [entry for entry in inside if entry.suffix.upper() == ".SAFE" and entry.is_dir()]
    if len(safes) > 1:
        raise SceneError(f"{given} holds {len(safes)} SAFE folders; give one of them, such as {safes[0].name}.")
    if safes and not any(entry.suffix.lower() in RASTER_SUFFIXES for entry in inside):
        return _folder(safes[0], given)
    deep = path.suffix.upper() == ".SAFE" or any(entry.name == "GRANULE" for entry in inside)
    files = sorted(Path(root) / name for root, _, names in os.walk(path) for name in names) if deep else inside
    rasters = _rasters([str(file) for file in files], given)
    texts = {str(file): file.read_bytes() for file in files if _tells(file.as_posix())}
    return Source(safe_name(str(path.resolve())), given, rasters, texts)


def _archive(path: Path, given: str, handler: str) -> Source:
    """Rasters anywhere inside a zip or tar, read in place."""
    texts: dict[str, bytes] = {}
    if handler == "vsizip":
        with zipfile.ZipFile(path) as archive:
            members = sorted(archive.namelist())
            texts = {name: archive.read(name) for name in members if _tells(name)}
    else:
        with tarfile.open(path) as tar:
            members = sorted(tar.getnames())
            for name in filter(_tells, members):
                if (file := tar.extractfile(name)) is not None:
                    texts[name] = file.read()
    return Source(safe_name(str(path)), given, _rasters([f"/{handler}/{path.resolve().as_posix()}/{m}" for m in members], given), texts)


def _rasters(paths: Sequence[str], given: str) -> tuple[str, ...]:
    rasters = [path for path in paths if path.lower().endswith(RASTER_SUFFIXES)]
    bands = [path for path in rasters if not _beside_bands(path)]
    if not bands:
        check_members(given, paths)
        raise SceneError(f"{given} holds no raster files ({', '.join(RASTER_SUFFIXES)}); give the folder or archive that holds the bands.")
    return tuple(bands)


def _beside_bands(path: str) -> bool:
    """Whether a raster is none of the bands; of the masks of Sentinel-2 only Level-1C's clouds are used: Level-2A has its SCL."""
    if re.search(r"(?i)L1C_.*QI_DATA.MSK_CLASSI_B00", path):
        return False
    return "QI_DATA" in path or NOT_BANDS.search(re.split(r"[\\/]", path)[-1]) is not None


def _variables(path: str, driver: str) -> tuple[str, ...]:
    """One GDAL name per variable on a grid; the file itself where it holds a single one."""
    if "://" not in path and not path.startswith("/vsi") and not Path(path).exists():
        raise SceneError(f"no such file: {path}; check the path.")
    with rasterio.Env() as env:
        if driver not in env.drivers():
            raise SceneError(
                f"{path} is {driver}, which this build of GDAL cannot read; open it with xarray (pip install 'geoseg[data]') "
                "and give the DataArray to geoseg.open_scene."
            )
    name = f'ZARR:"{gdal_path(path)}"' if driver == "Zarr" else path
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)  # the container itself has no place; its variables have
            return _on_grid(name)
    except RasterioError as error:
        raise SceneError(f"{path} cannot be read as {driver} ({error}); check that it is complete.") from error


def _on_grid(container: str) -> tuple[str, ...]:
    """Variables with rows and columns; the coordinates of others say nothing of place."""
    with rasterio.open(container) as file:
        names = file.subdatasets
        if not names and file.count:
            return (container,)
    kept = []
    for name in names:
        try:
            file = rasterio.open(name)
        except RasterioError:  # a coordinate: GDAL opens no array of one dimension
            continue
        with file:
            if file.crs is None or min(file.shape) < 2:
                continue
            kept.append(name)
            planes = [key.removeprefix("NETCDF_DIM_") for key in file.tags(1) if key.startswith("NETCDF_DIM_")]
            if file.count > 1 and planes:
                raise SceneError(
                    f"{name} holds {file.count} planes along {planes[0]!r}; choose one with xarray (.isel({planes[0]}=0)) "
                    "and give the DataArray to geoseg.open_scene."
                )
    if not kept:
        raise SceneError(
            f"GDAL finds no variable with a CRS in {container}; open it with xarray (pip install 'geoseg[data]'), "
            "add the CRS if it has none, and give the DataArray to geoseg.open_scene."
        )
    return tuple(kept)
