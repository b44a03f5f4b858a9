"""Scene: the layers of one place and moment, and what each of them means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from math import hypot, isqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox

from geoseg.errors import BandError, SceneError
from geoseg.io.arrays import is_array, write_array
from geoseg.io.file_bands import RasterFile, open_files
from geoseg.io.geotiff import Resampling, read_raster
from geoseg.io.opening import file_geobox, files_kept_open
from geoseg.io.products import Product, find_product, time_in_name
from geoseg.io.radiometry import Override, doubts, settle
from geoseg.io.recognise import (
    Found,
    Hints,
    check_alpha,
    check_sensor,
    infer_sensor,
    listing,
    name_bands,
    one_each,
    recognise,
    recognise_colours,
    spellings,
)
from geoseg.io.sources import Source, find_source, safe_name
from geoseg.io.stac_items import is_item, read_item
from geoseg.raster import Raster
from geoseg.sensors import SENSORS, Band, Convention, Sensor, get_sensor

if TYPE_CHECKING:
    from xarray import DataArray, Dataset

_WINDOWS = 5
"""A sample is taken from this many windows down, and as many across."""
_LARGE = 100
"""Windows are worth it in scenes with this many times more pixels than the sample; in smaller ones they touch most blocks anyway."""
_LITTLE_DATA = 0.1
_DESCRIBED_PIXELS = 256 * 256


@dataclass(frozen=True)
class Layer:
    """One band of a scene: where it lies and what it means there."""

    band: Band
    """Scale, offset, nodata, unit and convention are those of this very file."""
    path: str
    """As GDAL opens it; also `/vsizip/…`, a remote address or a NetCDF variable."""
    index: int
    """Band number inside the file, counted from 1."""
    because: str
    """How the meaning was found, such as `band description 'B04'`."""


@dataclass(frozen=True)
class Scene:
    """The layers of one place and moment; holds no pixels."""

    name: str
    """Safe in file names."""
    source: str
    """What the user gave."""
    sensor: Sensor
    layers: tuple[Layer, ...]
    time: datetime | None = None
    product_id: str | None = None
    processing_baseline: str | None = None
    attribution: str = ""
    warnings: tuple[str, ...] = ()
    """What the user should know, each one sentence."""
    stack: tuple[str, ...] = ()
    """The files, in the order in which the user gave them one by one; empty where a single source was given."""

    @property
    def roles(self) -> tuple[str, ...]:
        """The layers' roles, in order."""
        return tuple(layer.band.role for layer in self.layers)

    def layer(self, role: str) -> Layer:
        """The layer with this role."""
        for layer in self.layers:
            if layer.band.role == role:
                return layer
        raise BandError(
            f"no {role!r} band in {self.source}; it has {', '.join(self.roles)}. "
            "Name the bands with --bands, or choose a model that needs only these."
        )

    def geobox(self, roles: Sequence[str] | None = None) -> GeoBox:
        """The grid of the finest of these layers (of all, where none are named; the first of equals), origin and edges untouched."""
        layers = self.layers if roles is None else [self.layer(role) for role in roles]
        grids = [file_geobox(path) for path in dict.fromkeys(layer.path for layer in layers)]
        finest: GeoBox = min(grids, key=lambda grid: round(abs(grid.affine.determinant), 12))
        return finest


def open_scene(
    source: str | Path | Sequence[str | Path] | DataArray | Dataset,
    *,
    sensor: str | None = None,
    bands: Sequence[str] | None = None,
    scale: float | None = None,
    offset: float | None = None,
    unit: str | None = None,
    convention: Convention | None = None,
) -> Scene:
    """The scene behind a file, folder, zip or tar, list of files, VRT, STAC Item, NetCDF, Zarr, `/vsi…` path or xarray array.

    `sensor` names one of `geoseg.sensors.SENSORS`. `bands` says what the bands are, by role or by the provider's name: one for each band
    in the order of the files (`-` skips one), or `role=NUMBER` or `role=FILE[:NUMBER]` for some. `scale`, `offset` (physical value =
    scale x stored number + offset; a scale alone means no offset), `unit` and `convention` override what files and table say.

    Nothing is read but a few thousand pixels where the meaning depends on them. Raises SceneError for files that cannot be used and
    BandError, with what was found and how to name it, where the meaning of the bands stays unclear.
    """
    named = get_sensor(sensor) if sensor else None
    given, hints, product = _locate(source, named)
    files = open_files(given.paths)
    _check_one_crs(files, given)
    chosen, clear = _recognise(files, hints, product, named, bands, given)
    found = one_each(clear)
    override = Override(scale, offset, unit, convention)
    layers = tuple(Layer(settle(item, chosen, product, hints, override), item.at.path, item.at.index, item.because) for item in found)
    time = product.time or time_in_name(given.name)
    return Scene(
        name=given.name,
        source=given.given,
        sensor=chosen,
        layers=layers,
        time=time,
        product_id=product.product_id,
        processing_baseline=product.baseline,
        attribution=" ".join(chosen.attribution.format(year=time.year if time else "").split()),
        warnings=(
            *_disagreements(named, product, files, clear),
            *doubts([(item.at, layer.band) for item, layer in zip(found, layers, strict=True)], chosen, product, override),
        ),
        stack=tuple(map(str, source)) if isinstance(source, (list, tuple)) else (),
    )


def read_scene(scene: Scene, roles: Sequence[str], geobox: GeoBox, *, resampling: Resampling = "auto") -> Raster:
    """These layers on one grid, in this order: stored numbers, not yet physical ones; quality layers always by the nearest pixel."""
    layers = [scene.layer(role) for role in roles]
    parts: dict[str, Raster] = {}
    for path in dict.fromkeys(layer.path for layer in layers):
        parts[path] = read_raster(path, {layer.index: layer.band for layer in layers if layer.path == path}, geobox, resampling=resampling)
    planes = [(parts[layer.path], parts[layer.path].index(layer.band.role)) for layer in layers]
    values = np.stack([part.values[at] for part, at in planes])
    valid = np.stack([part.valid[at] for part, at in planes])
    return Raster(values, valid, geobox, tuple(layer.band for layer in layers), scene.time)


def sample_scene(scene: Scene, roles: Sequence[str], *, max_pixels: int = 256 * 256) -> Raster:
    """Stored numbers of these layers from windows spread evenly over the scene and laid side by side: at most `max_pixels`.

    Only the file's blocks under the windows are read, however large the scene is. Its grid is the scene's made coarser, so that a
    pixel lies only about where the grid says. Of a small scene, and where the windows meet little data, single pixels are taken
    from everywhere.
    """
    geobox = scene.geobox(roles)
    side = isqrt(max_pixels) // _WINDOWS
    if side == 0 or geobox.shape[0] * geobox.shape[1] < _LARGE * max_pixels or min(geobox.shape) < side * _WINDOWS:
        return _thinned(scene, roles, max_pixels)
    tops, lefts = (np.linspace(0, size - side, _WINDOWS).astype(int) // side * side for size in geobox.shape)
    with files_kept_open():
        rows = [[read_scene(scene, roles, geobox[y : y + side, x : x + side], resampling="nearest") for x in lefts] for y in tops]
    values, valid = (np.block([[getattr(part, name) for part in row] for row in rows]) for name in ("values", "valid"))
    if valid.mean() < _LITTLE_DATA:
        return _thinned(scene, roles, max_pixels)
    first = rows[0][0]
    return Raster(values, valid, geobox.zoom_to(values.shape[1:]), first.bands, scene.time)


def _thinned(scene: Scene, roles: Sequence[str], max_pixels: int) -> Raster:
    """Stored numbers of these layers, thinned out to at most `max_pixels`: one pixel of each block of them, as it is."""
    geobox = scene.geobox(roles)
    rows, cols = geobox.shape
    factor = max(1.0, (rows * cols / max_pixels) ** 0.5)
    small = geobox.zoom_to((max(1, int(rows / factor)), max(1, int(cols / factor)))) if factor > 1 else geobox
    return read_scene(scene, roles, small, resampling="nearest")


def quality_roles(scene: Scene) -> tuple[str, ...]:
    """The roles to read for the sensor's quality table, planes in order; empty where the scene has none."""
    planes = sorted((role for role in scene.roles if role.startswith("quality")), key=lambda role: int(role[len("quality") :] or 0))
    return tuple(planes) if scene.sensor.quality is not None else ()


def describe_scene(scene: Scene) -> dict[str, Any]:
    """What `geoseg info` prints, as plain data: bands and why, CRS, grid, valid share and ranges of a thinned-out sample, warnings."""
    geobox = scene.geobox()
    bounds = geobox.extent.boundingbox
    return {
        "name": scene.name,
        "source": scene.source,
        "sensor": scene.sensor.name,
        "sensor_title": scene.sensor.title,
        "time": scene.time.isoformat() if scene.time else None,
        "product_id": scene.product_id,
        "processing_baseline": scene.processing_baseline,
        "crs": crs_name(geobox.crs),
        "grid": {
            "rows": geobox.shape[0],
            "cols": geobox.shape[1],
            "transform": list(geobox.affine)[:6],
            "bounds": [bounds.left, bounds.bottom, bounds.right, bounds.top],
        },
        "bands": [_describe_layer(scene, layer) for layer in scene.layers],
        "attribution": scene.attribution,
        "warnings": list(scene.warnings),
    }


def crs_name(crs: CRS | None) -> str:
    """A CRS as people name it: `EPSG:32630` where it has a code, else its own name."""
    if crs is None:
        return "none"
    return f"EPSG:{code}" if (code := crs.proj.to_epsg()) else str(crs.proj.name)


def _describe_layer(scene: Scene, layer: Layer) -> dict[str, Any]:
    sample = _thinned(scene, [layer.band.role], _DESCRIBED_PIXELS)
    values = sample.values[sample.valid].astype(np.float64)
    a, b, _, d, e, *_ = scene.geobox([layer.band.role]).affine
    scaled = values if layer.band.unit == "class" else values * layer.band.scale + layer.band.offset
    percentiles = [float(value) for value in np.percentile(scaled, [0, 1, 50, 99, 100])] if values.size else None
    return {
        "role": layer.band.role,
        "name": layer.band.name,
        "because": layer.because,
        "file": layer.path,
        "index": layer.index,
        "resolution": [hypot(b, e), hypot(a, d)],
        "dtype": str(sample.values.dtype),
        "scale": layer.band.scale,
        "offset": layer.band.offset,
        "unit": layer.band.unit,
        "convention": layer.band.convention,
        "nodata": "nan" if layer.band.nodata is not None and np.isnan(layer.band.nodata) else layer.band.nodata,
        "valid_share": float(sample.valid.mean()),
        "stored_range": [float(values.min()), float(values.max())] if values.size else None,
        "percentiles_0_1_50_99_100": percentiles,
    }


def _locate(source: Any, named: Sensor | None) -> tuple[Source, Hints, Product]:
    """The files behind what was given, what a catalogue says of their bands, and the product."""
    if is_array(source):
        path = write_array(source)
        return Source(safe_name(path), f"array {source.name!r}" if hasattr(source, "name") else "dataset", (path,)), {}, Product()
    if isinstance(source, (str, Path)) and is_item(str(source)):
        return read_item(str(source), named)
    given = find_source(source)
    return given, {}, find_product(given.given, given.paths, given.texts)


def _recognise(
    files: Sequence[RasterFile], hints: Hints, product: Product, named: Sensor | None, bands: Sequence[str] | None, given: Source
) -> tuple[Sensor, list[Found]]:
    """The sensor and the bands whose meaning is clear; BandError where there are none."""
    tokens = spellings(files, hints)
    if known := named or (SENSORS[product.sensor] if product.sensor else None):
        chosen, why = known, "" if named else f"by its {product.because}"
    else:
        chosen, why = infer_sensor(tokens if bands is None else [name.partition("=")[0] for name in bands], files)
    if bands is not None:
        return chosen, name_bands(files, bands, chosen)
    check_sensor(chosen, tokens)
    found = recognise(files, chosen, hints, order=named is not None)
    if why:
        found = [replace(item, because=f"{item.because}; {chosen.name}: {why}") for item in found]
    if named is None and not found and len(files) == 1:
        found, chosen = recognise_colours(files[0])
    if named is None:
        check_alpha(files, found)
    if not found:
        raise BandError(
            f"what the bands of {given.given} mean is unclear; found: {listing(files)}. Name them with --bands (such as "
            f"--bands red,green,blue,nir), or name a sensor whose order they have with --sensor{f' (not {named.name})' if named else ''}."
        )
    if chosen.name == "generic":
        return chosen, found
    return chosen, sorted(found, key=lambda item: _place(item.band, chosen))


def _place(band: Band, sensor: Sensor) -> int:
    """Where a band stands in the sensor's order; bands of no particular sensor come last."""
    roles = [own.role for own in sensor.bands]
    return roles.index(band.role) if band.role in roles else len(roles)


def _check_one_crs(files: Sequence[RasterFile], given: Source) -> None:
    first = files[0]
    for file in files[1:]:
        if file.geobox.crs != first.geobox.crs:
            raise SceneError(
                f"the files of {given.given} lie in different CRSs "
                f"({first.stem}: {crs_name(first.geobox.crs)}, {file.stem}: {crs_name(file.geobox.crs)}); "
                "give one scene at a time, or bring them to one CRS with: gdalwarp -t_srs EPSG:CODE in.tif out.tif"
            )


def _disagreements(named: Sensor | None, product: Product, files: Sequence[RasterFile], found: Sequence[Found]) -> list[str]:
    """Where the user and the product name different sensors, and what was not used."""
    warnings = []
    if named and product.sensor and named.name != product.sensor:
        warnings.append(f"the {product.because} says {product.sensor}, but {named.name} was asked for and is used.")
    if any(item.because.startswith("colour interpretation") for item in found):
        warnings.append(
            "red, green and blue are taken from the file's colour interpretation; if it is a false-colour picture, use --bands."
        )
    if len(files) > 1:
        clear = {item.file.path for item in found}
        if unused := [file.stem for file in files if file.path not in clear]:
            warnings.append(f"not used, since nothing says which band they hold: {', '.join(unused)}.")
    return warnings
