"""A raster in parts: small GeoTIFFs that are on disk for good once they are named, and a VRT in which they are one raster again."""

from __future__ import annotations

import json
import os
import platform
import shutil
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, ElementTree, SubElement

import numpy as np
from affine import Affine
from numpy.typing import DTypeLike, NDArray
from odc.geo.geobox import GeoBox
from rasterio.io import MemoryFile

from geoseg.io.atomic import output_error
from geoseg.io.opening import GDAL_ERRORS, gdal_env

_BLOCK = 512
_BLOCK_STEP = 16
"""Sides of a TIFF's blocks are multiples of this."""
_WRITE_ERRORS: tuple[type[Exception], ...] = (OSError, *GDAL_ERRORS)
_FACTS = "facts.json"
_NOWHERE = Affine.translation(1, 1)
"""Any transform but the identity, of which rasterio warns; the VRT says where the raster lies."""
_GDAL_TYPES = {"uint8": "Byte", "uint16": "UInt16", "int16": "Int16", "uint32": "UInt32", "int32": "Int32", "float32": "Float32"}


@dataclass(frozen=True)
class RasterForm:
    """What a raster is beside its pixels and its place; the arguments of `RowWriter`."""

    count: int
    dtype: DTypeLike
    nodata: float | None = None
    descriptions: Sequence[str] = ()
    scales: Sequence[float] | None = None
    offsets: Sequence[float] | None = None
    colours: Mapping[int, tuple[int, int, int, int]] | None = None
    """Code → red, green, blue, alpha (0…255)."""
    tags: Mapping[str, str] = field(default_factory=dict)
    picture: bool = False
    """The four bands are red, green, blue and alpha."""


@dataclass(frozen=True)
class Part:
    """A finished rectangle of a raster."""

    path: Path
    rows: slice
    cols: slice


def write_parts(folder: Path, rasters: Mapping[str, NDArray[Any]], facts: Mapping[str, Any]) -> dict[str, int]:
    """Write arrays (band, row, col) as `NAME.tif` into a new folder that is there whole, also after a power failure, or not at all.

    Files are written beside it, brought to the disk one by one, and the folder gets its name last; one of that name is replaced.
    `facts` are written with them, for whoever finds the folder. Returns the CRC-32 of each file. OutputError where they cannot be
    written.
    """
    making, sums = folder.with_name(f".{folder.name}.{platform.node()}.{os.getpid()}"), {}
    try:
        making.mkdir(parents=True, exist_ok=True)
        for name, values in rasters.items():
            data = _tiff(values)
            _write(making / f"{name}.tif", data)
            sums[name] = zlib.crc32(data)
        _write(making / _FACTS, json.dumps({**facts, "sums": sums}).encode())
        folder_to_disk(making)
        if folder.exists():
            shutil.rmtree(folder)
        making.replace(folder)
        folder_to_disk(folder.parent)
    except _WRITE_ERRORS as error:
        shutil.rmtree(making, ignore_errors=True)
        raise output_error(folder, error) from error
    return sums


def found_facts(folder: Path) -> dict[str, Any] | None:
    """The facts that were written with these parts, and under `sums` the CRC-32 of each; None where they are not all there."""
    try:
        facts: dict[str, Any] = json.loads((folder / _FACTS).read_bytes())
    except (OSError, ValueError):
        return None
    return facts if parts_whole(folder, facts["sums"]) else None


def parts_whole(folder: Path, sums: Mapping[str, int]) -> bool:
    """Whether the folder holds these files and no bit of them has changed."""
    try:
        return all(zlib.crc32((folder / f"{name}.tif").read_bytes()) == expected for name, expected in sums.items())
    except OSError:
        return False


def write_vrt(path: Path, geobox: GeoBox, form: RasterForm, parts: Iterable[Part]) -> None:
    """Write a VRT in which the parts, each with the bands of `form`, are one raster; paths are relative to the VRT."""
    height, width = geobox.shape
    root = Element("VRTDataset", rasterXSize=str(width), rasterYSize=str(height))
    if geobox.crs is not None:
        SubElement(root, "SRS", dataAxisToSRSAxisMapping="1,2").text = geobox.crs.to_wkt()
    a = geobox.affine
    SubElement(root, "GeoTransform").text = ", ".join(repr(float(number)) for number in (a.c, a.a, a.b, a.f, a.d, a.e))
    _metadata(root, form.tags)
    typename, placed = _GDAL_TYPES[np.dtype(form.dtype).name], list(parts)
    for band in range(1, form.count + 1):
        element = SubElement(root, "VRTRasterBand", dataType=typename, band=str(band), blockXSize=str(_BLOCK), blockYSize=str(_BLOCK))
        _describe_band(element, form, band)
        for part in placed:
            source = SubElement(element, "SimpleSource")
            SubElement(source, "SourceFilename", relativeToVRT="1").text = Path(os.path.relpath(part.path, path.parent)).as_posix()
            SubElement(source, "SourceBand").text = str(band)
            rows, cols = part.rows.stop - part.rows.start, part.cols.stop - part.cols.start
            SubElement(
                source, "SourceProperties", RasterXSize=str(cols), RasterYSize=str(rows), DataType=typename,
                BlockXSize=str(_BLOCK), BlockYSize=str(_block_height(rows)),
            )  # fmt: skip
            SubElement(source, "SrcRect", xOff="0", yOff="0", xSize=str(cols), ySize=str(rows))
            SubElement(source, "DstRect", xOff=str(part.cols.start), yOff=str(part.rows.start), xSize=str(cols), ySize=str(rows))
    ElementTree(root).write(path, encoding="utf-8")


def to_disk(descriptor: int) -> None:
    """Have what was written to an open file brought to the disk itself."""
    os.fsync(descriptor)


def folder_to_disk(folder: Path) -> None:
    """Have the names in a folder brought to the disk; Windows has no such call and needs none."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        to_disk(file.fileno())


def _tiff(values: NDArray[Any]) -> bytes:
    """A tiled GeoTIFF without a place: made in memory, so that a full disk is seen where its bytes are written."""
    count, height, width = values.shape
    profile = {
        "driver": "GTiff", "count": count, "height": height, "width": width, "dtype": values.dtype, "tiled": True, "blockxsize": _BLOCK,
        "blockysize": _block_height(height), "compress": "zstd", "zstd_level": 1, "interleave": "band", "photometric": "MINISBLACK",
        "alpha": "NO", "transform": _NOWHERE,
    }  # fmt: skip
    with gdal_env(), MemoryFile() as memory:
        with memory.open(**profile) as file:
            file.write(values)
        return bytes(memory.getbuffer())


def _block_height(rows: int) -> int:
    return min(_BLOCK, -(-rows // _BLOCK_STEP) * _BLOCK_STEP)


def _describe_band(element: Element, form: RasterForm, band: int) -> None:
    if form.descriptions:
        SubElement(element, "Description").text = form.descriptions[band - 1]
    if form.nodata is not None:
        SubElement(element, "NoDataValue").text = repr(form.nodata)
    if form.picture:
        SubElement(element, "ColorInterp").text = ("Red", "Green", "Blue", "Alpha")[band - 1]
    elif form.colours is not None:
        SubElement(element, "ColorInterp").text = "Palette"
        table = SubElement(element, "ColorTable")
        for code in range(max(form.colours) + 1):
            red, green, blue, alpha = form.colours.get(code, (0, 0, 0, 255))
            SubElement(table, "Entry", c1=str(red), c2=str(green), c3=str(blue), c4=str(alpha))
    for name, numbers in (("Offset", form.offsets), ("Scale", form.scales)):
        if numbers is not None:
            SubElement(element, name).text = repr(float(numbers[band - 1]))


def _metadata(root: Element, tags: Mapping[str, str]) -> None:
    if tags:
        metadata = SubElement(root, "Metadata")
        for key, value in tags.items():
            SubElement(metadata, "MDI", key=key).text = value
