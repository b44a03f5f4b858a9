"""What works here: versions, drivers, projections, runtimes and devices, and a small map made and checked in seconds."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyproj
import rasterio

from geoseg import __version__
from geoseg.errors import GeosegError
from geoseg.mapping.make_map import make_map
from geoseg.mapping.pipeline import usable_processors
from geoseg.mapping.plan import MapOptions
from geoseg.models.package import DEFAULT_PACKAGE, ModelPackage
from geoseg.runtimes.contract import RuntimeName
from geoseg.runtimes.open_runtime import open_runtime
from geoseg.runtimes.precision import PRECISIONS, processor_has_bf16
from geoseg.scenes.open_scene import open_scene

State = Literal["works", "absent", "broken"]
"""`absent` is something that one may do without; `broken` is not."""
_DRIVERS = {
    "GTiff": "GeoTIFF",
    "COG": "cloud optimised GeoTIFF",
    "VRT": "virtual rasters",
    "JP2OpenJPEG": "JPEG 2000, as in Sentinel-2 SAFE",
    "netCDF": "NetCDF",
    "Zarr": "Zarr",
    "HDF5": "HDF5",
}
_NEEDED = ("GTiff", "COG", "VRT")
_PLACE, _UTM = (9.0, 45.0), (500_000.0, 4_982_950.4)
"""Degrees on the central meridian of UTM zone 32, and its metres there (EPSG:32632), to a decimetre."""
_EXTRA = re.compile(r"""extra\s*==\s*["']([\w-]+)""")
_NOT_FOR_USERS = ("dev", "all", "docs")
_SIDE = 256
_WATER = (700, 500, 350, 150, 80, 60)
_LAND = (900, 1000, 1100, 3200, 2400, 1500)
"""Sentinel-2 Level-1C numbers of blue, green, red, near infrared and both short waves, as water and plants have them."""
_ROLES = ("blue", "green", "red", "nir", "swir16", "swir22")


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    part: str
    name: str
    state: State
    said: str


def examine() -> Iterator[Finding]:
    """What is there and works, quickest first; the last makes a small map with the shipped model."""
    machine = f"{platform.system()} {platform.machine()}"
    yield Finding("system", "geoseg", "works", f"{__version__}, Python {platform.python_version()}, {machine}")
    yield Finding("system", "processor", "works", f"{usable_processors()} threads, {'with' if processor_has_bf16() else 'no'} bf16")
    temporary = tempfile.gettempdir()
    yield Finding("system", "disk", "works", f"{shutil.disk_usage(temporary).free / 1e9:.0f} GB free in {temporary}")
    yield from _drivers()
    yield _projections()
    yield from _extras()
    yield from _runtimes()
    yield _small_map()


def _drivers() -> Iterator[Finding]:
    with rasterio.Env() as env:
        there = env.drivers()
    yield Finding("files", "GDAL", "works", f"{rasterio.__gdal_version__}, of rasterio {rasterio.__version__}")
    for name, title in _DRIVERS.items():
        missing: State = "broken" if name in _NEEDED else "absent"
        said = title if name in there else f"{title}: this GDAL cannot read it"
        yield Finding("files", name, "works" if name in there else missing, said)


def _projections() -> Finding:
    found = f"PROJ {pyproj.proj_version_str}"
    strange = [name for name in ("PROJ_LIB", "PROJ_DATA", "GDAL_DATA") if name in os.environ]
    try:
        moved = pyproj.Transformer.from_crs(4326, 32632, always_xy=True).transform(*_PLACE)
    except pyproj.exceptions.ProjError as error:
        return Finding("files", "PROJ", "broken", f"{found}: {error}; unset {', '.join(strange) or 'PROJ_DATA'}")
    if max(abs(one - other) for one, other in zip(moved, _UTM, strict=True)) > 1:
        return Finding("files", "PROJ", "broken", f"{found} puts {_PLACE} at {moved}; expected {_UTM}: install pyproj anew")
    said = f"; {', '.join(strange)} is set, which may point it at other data" if strange else ""
    return Finding("files", "PROJ", "works", f"{found}, EPSG:4326 to EPSG:32632 as it should be{said}")


def _extras() -> Iterator[Finding]:
    """What `pip install 'geoseg[…]'` adds, by the packages that each asks for."""
    asked: dict[str, list[str]] = {}
    for text in importlib.metadata.requires("geoseg") or ():
        needed, _, condition = text.partition(";")
        extra = _EXTRA.search(condition)
        package = re.match(r"[\w.-]+", needed.strip())
        if extra and package and package[0].lower() != "geoseg" and extra[1] not in _NOT_FOR_USERS:
            asked.setdefault(extra[1], []).append(package[0])
    for name, names in sorted(asked.items()):
        missing = [one for one in names if not _installed(one)]
        cure = f"without {', '.join(missing)}; pip install 'geoseg[{name}]'"
        yield Finding("extras", name, "absent" if missing else "works", cure if missing else ", ".join(names))


def _installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _runtimes() -> Iterator[Finding]:
    package = ModelPackage.open(DEFAULT_PACKAGE)
    image = np.zeros((1, len(package.preparation.channels), package.tile, package.tile), np.float32)
    for name in PRECISIONS:
        if name != "onnx" and importlib.util.find_spec(name) is None:
            yield Finding("runtimes", name, "absent", f"not installed; pip install 'geoseg[{'train' if name == 'torch' else name}]'")
            continue
        try:
            began = time.perf_counter()
            open_runtime(package, name)(image)
            yield Finding("runtimes", name, "works", f"opened and one tile scored in {time.perf_counter() - began:.2f} s{_gpu(name)}")
        except (GeosegError, RuntimeError, ImportError, OSError) as error:
            yield Finding("runtimes", name, "broken", str(error).splitlines()[0])


def _gpu(runtime: RuntimeName) -> str:
    if runtime != "torch":
        return ""
    import torch

    return f"; GPU: {torch.cuda.get_device_name()}" if torch.cuda.is_available() else "; no GPU"


def _small_map() -> Finding:
    """Half land, half water, mapped and counted."""
    began = time.perf_counter()
    values = np.empty((len(_ROLES), _SIDE, _SIDE), np.uint16)
    values[:, :, : _SIDE // 2] = np.array(_WATER)[:, None, None]
    values[:, :, _SIDE // 2 :] = np.array(_LAND)[:, None, None]
    values += np.random.default_rng(0).integers(0, 30, values.shape, dtype=np.uint16)
    with tempfile.TemporaryDirectory(prefix="geoseg-doctor-") as place:
        path = Path(place) / "scene.tif"
        profile = {"driver": "GTiff", "width": _SIDE, "height": _SIDE, "count": len(values), "dtype": "uint16", "crs": "EPSG:32632"}
        with rasterio.open(path, "w", transform=rasterio.Affine(10, 0, 500_000, 0, -10, 5_000_000), **profile) as file:
            file.write(values)
        try:
            scene = open_scene(path, sensor="sentinel-2-l1c", bands=_ROLES)
            made = make_map(scene, ModelPackage.open(DEFAULT_PACKAGE), Path(place) / "map", options=MapOptions())
            with rasterio.open(made.files["classes"]) as file:
                classes = file.read(1)
        except (GeosegError, RuntimeError, OSError) as error:
            return Finding("self-test", "a small map", "broken", str(error).splitlines()[0])
    legend = made.package.outputs[0].legend
    water = classes == next(one.code for one in legend.classes if one.name == "water")
    right = (water[:, : _SIDE // 2].mean() + (~water[:, _SIDE // 2 :]).mean()) / 2
    said = f"{100 * right:.1f} % of {_SIDE} x {_SIDE} pixels as they should be, in {time.perf_counter() - began:.1f} s"
    return Finding("self-test", "a small map", "works" if right > 0.98 else "broken", said)
