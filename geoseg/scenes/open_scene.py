"""From what a user names to a Scene: which files, which bands they hold, and what their numbers mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geoseg.errors import BandError, InputError, SceneError
from geoseg.io.file_bands import RasterFile, open_files
from geoseg.io.names import safe_name, time_in_name
from geoseg.layers.brightness import with_brightness
from geoseg.layers.cloud_polygons import with_cloud_polygons
from geoseg.layers.convert import with_convention
from geoseg.layers.masks import with_mask
from geoseg.layers.terrain import with_terrain
from geoseg.radar.safe import Safe, find_safe
from geoseg.scene import Layer, Scene, crs_name
from geoseg.scenes.arrays import is_array, write_array
from geoseg.scenes.composites import composite_facts
from geoseg.scenes.grd_scenes import check_words, open_grd
from geoseg.scenes.products import Product, find_product, pass_in_words
from geoseg.scenes.radiometry import Override, doubts, settle
from geoseg.scenes.recognise import (
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
from geoseg.scenes.safe_items import safe_of_item
from geoseg.scenes.sen2cor import terrain_corrected
from geoseg.scenes.sources import Source, find_source
from geoseg.scenes.stac_items import is_item, load_item, read_item
from geoseg.scenes.sun import sun_in_words
from geoseg.sensors import SENSORS, Band, Convention, Sensor, get_sensor

if TYPE_CHECKING:
    from xarray import DataArray, Dataset


def open_scene(
    source: str | Path | Sequence[str | Path] | DataArray | Dataset,
    *,
    sensor: str | None = None,
    bands: Sequence[str] | None = None,
    scale: float | None = None,
    offset: float | None = None,
    unit: str | None = None,
    convention: Convention | None = None,
    convert: Convention | None = None,
    mask: str | Path | None = None,
    mask_values: str | None = None,
    dem: str | Path | None = None,
) -> Scene:
    """The scene behind a file, folder, zip, tar or SAFE, list of files, VRT, STAC Item, NetCDF, Zarr, `/vsi…` path or xarray array.

    `sensor` names one of `geoseg.sensors.SENSORS`. `bands` says what the bands are, by role or by the provider's name: one for each band
    in the order of the files (`-` skips one), or `role=NUMBER` or `role=FILE[:NUMBER]` for some. `scale`, `offset` (physical value =
    scale x stored number + offset; a scale alone means no offset), `unit` and `convention` override what files and table say.

    `convert` refers radar bands to another convention by the incidence angle (`geoseg.layers.convert`).
    `dem` is a terrain model: its height, slope, aspect and illumination become layers (`geoseg.layers.terrain`).
    `mask` is a raster or polygons that say where the scene is not to be believed, `mask_values` what of it masks (`geoseg.layers.masks`).

    Nothing is read but a few thousand pixels where the meaning depends on them. Raises SceneError for files that cannot be used and
    BandError, with what was found and how to name it, where the meaning of the bands stays unclear.

    >>> geoseg.open_scene("scene.tif", sensor="generic", bands=["green", "nir"]).roles
    ('green', 'nir')
    """
    scene = _open(source, get_sensor(sensor) if sensor else None, bands, Override(scale, offset, unit, convention))
    if convert is not None:
        scene = with_convention(scene, convert)
    if dem is not None:
        scene = with_terrain(scene, dem)
    if mask is not None:
        scene = with_mask(scene, mask, values=mask_values)
    elif mask_values is not None:
        raise InputError("--mask-values was given without --mask; name the file that holds these values")
    return scene


# ---------------------------------------------------------------- below: files, bands, doubts


def _open(source: Any, named: Sensor | None, bands: Sequence[str] | None, override: Override) -> Scene:
    """The scene as its files and the user's words for them have it."""
    item = load_item(str(source)) if isinstance(source, (str, Path)) and is_item(str(source)) else None
    if (safe := _safe(source, item)) is not None:
        check_words(safe, named, bands, override)
        return open_grd(safe)
    given, hints, product = _locate(source, named) if item is None else read_item(str(source), item, named)
    files = open_files(given.paths)
    _check_one_crs(files, given)
    if own := composite_facts(files):
        product, chosen = own[0], named or SENSORS[own[0].sensor or "generic"]
        clear = [replace(item, because=product.because) for item in name_bands(files, bands or own[1], chosen)]
    else:
        chosen, clear = _recognise(files, hints, product, named, bands, given)
    found = one_each(clear)
    corrected = terrain_corrected(given.texts, chosen)
    settled = [_marked(settle(item, chosen, product, hints, override), corrected) for item in found]
    layers = tuple(Layer(band, item.at.path, item.at.index, item.because) for band, item in zip(settled, found, strict=True))
    time = product.time or time_in_name(given.name)
    scene = Scene(
        name=given.name,
        source=given.given,
        sensor=chosen,
        layers=layers,
        time=time,
        product_id=product.product_id,
        processing_baseline=product.baseline,
        attribution=product.attribution or " ".join(chosen.attribution.format(year=time.year if time else "").split()),
        warnings=(
            *_disagreements(named, product, files, clear),
            *doubts([(item.at, layer.band) for item, layer in zip(found, layers, strict=True)], chosen, product, override),
        ),
        orbit_pass=product.orbit_pass or pass_in_words(files[0].tags.get("ORBIT_PASS_DIRECTION", "")),  # the tag of OPERA's files
        sun=product.sun or sun_in_words(files[0].tags),  # the tags of HLS
        stack=tuple(map(str, source)) if isinstance(source, (list, tuple)) else (),
    )
    return with_cloud_polygons(with_brightness(scene, product.thermal), given.texts)


def _marked(band: Band, corrected: bool | None) -> Band:
    """A band of reflectance knows whether it is corrected for terrain."""
    return replace(band, terrain_corrected=corrected) if band.unit == "reflectance" else band


def _safe(source: Any, item: Mapping[str, Any] | None) -> Safe | None:
    """The Sentinel-1 product that this is, on disk or in a catalogue; None for anything else."""
    if item is not None:
        return safe_of_item(str(source), item)
    return find_safe(source) if isinstance(source, (str, Path)) else None


def _locate(source: Any, named: Sensor | None) -> tuple[Source, Hints, Product]:
    """The files behind what was given, what a catalogue says of their bands, and the product."""
    if is_array(source):
        path = write_array(source)
        return Source(safe_name(path), f"array {source.name!r}" if hasattr(source, "name") else "dataset", (path,)), {}, Product()
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
    found = recognise(files, chosen, hints, order=named is not None or product.ordered)
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
