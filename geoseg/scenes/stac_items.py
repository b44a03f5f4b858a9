"""STAC Items as scenes: which asset is which band, and what the catalogue says of its numbers.

Reads STAC 1.0 (`eo:bands`, `raster:bands`) and 1.1 (`bands`), from a file or an address. Catalogues differ; what is known of them:
Earth Search removes Sentinel-2's offset from most of its files and says so in `earthsearch:boa_offset_applied`, while its
`raster:bands` still state the offset; Planetary Computer keeps the numbers as ESA wrote them and states no offset.
"""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

from geoseg.errors import SceneError
from geoseg.io.names import gdal_path, parse_time, safe_name
from geoseg.scenes.products import Product, pass_in_words, product_from_name
from geoseg.scenes.recognise import Hint, Hints, is_known
from geoseg.scenes.sources import NOT_BANDS, RASTER_SUFFIXES, Source
from geoseg.scenes.sun import sun_in_words
from geoseg.sensors import SENSORS, Sensor

TIMEOUT_S = 30.0
RASTER_TYPES = re.compile(r"image/(tiff|jp2|x\.geotiff|vnd\.stac\.geotiff)")
NOT_DATA = frozenset({"thumbnail", "overview", "visual", "metadata"})
Json = Mapping[str, Any]


def is_item(given: str) -> bool:
    """Whether this names a STAC Item rather than a raster: a JSON file, or an address in a STAC API."""
    parts = urlsplit(given)
    remote = parts.scheme in ("http", "https", "file")
    return parts.path.lower().endswith((".json", ".geojson")) or (remote and "/collections/" in parts.path and "/items/" in parts.path)


def read_item(given: str, item: Json, sensor: Sensor | None) -> tuple[Source, Hints, Product]:
    """The item's rasters, what it says of their bands, and the product; only assets that may be bands of the sensor are listed."""
    product = product_from_item(item)
    known = sensor or (SENSORS[product.sensor] if product.sensor else None)
    hints: dict[tuple[str, int], Hint] = {}
    for key, asset in item["assets"].items():
        if not _is_data(key, asset):
            continue
        path = gdal_path(absolute(asset["href"], given))
        for index, hint in enumerate(_hints(key, asset), start=1):
            if known is None or any(is_known(name, known) for name in hint.names):
                hints[path, index] = _trusted(hint, product)
    paths = tuple(dict.fromkeys(path for path, _ in hints))
    if not paths:
        raise SceneError(
            f"{given} has no raster asset that is a band of {known.title if known else 'a sensor'}; it has {', '.join(item['assets'])}."
        )
    return Source(safe_name(str(item.get("id") or given)), given, paths), hints, product


def product_from_item(item: Json) -> Product:
    """Sensor, time, baseline and calibration from the item's properties and collection."""
    properties = item.get("properties", {})
    named = product_from_name(str(properties.get("s2:product_uri") or item.get("id") or ""))
    time = parse_time(str(properties.get("datetime") or properties.get("start_datetime") or ""))
    baseline = properties.get("s2:processing_baseline") or properties.get("processing:version") or named.baseline
    product = replace(
        named,
        sensor=_sensor(item, properties) or named.sensor,
        product_id=str(properties.get("s2:product_uri") or named.product_id or item.get("id") or "") or None,
        time=time or named.time,
        baseline=str(baseline) if baseline else None,
        orbit_pass=pass_in_words(str(properties.get("sat:orbit_state") or "")),
        offset_removed=properties.get("earthsearch:boa_offset_applied") is True,
        sun=sun_in_words(properties),
        because="STAC",
    )
    if item.get("collection") == "sentinel-1-rtc" and product.unit is None:  # Planetary Computer's: gamma0 in linear power
        return replace(product, unit="linear power", convention="gamma0_rtc")
    return product


def _sensor(item: Json, properties: Json) -> str | None:
    """The sensor by collection and properties; None where they name none that is known."""
    collection = str(item.get("collection") or "").lower().replace("_", "-")
    if "sentinel-2" in collection or "sentinel-2" in str(properties.get("platform", "")).lower():
        said = f"{collection} {properties.get('s2:product_type', '')} {properties.get('processing:level', '')}".lower()
        return "sentinel-2-l1c" if re.search(r"l1c|msi1c", said) else "sentinel-2-l2a" if re.search(r"l2a|msi2a|\bl2\b", said) else None
    if "sentinel-1" in collection:
        return "sentinel-1-rtc" if "rtc" in collection else "sentinel-1-grd"
    if match := re.search(r"hls.*?([ls]30)", collection):
        return f"hls-{match[1]}"
    if match := re.search(r"landsat-?0?([4-9])", str(properties.get("platform", "")).lower()):
        instrument = {"4": "tm", "5": "tm", "7": "etm"}.get(match[1], "oli")
        level = 1 if re.search(r"l1|level-1", f"{collection} {properties.get('landsat:correction', '')}".lower()) else 2
        return f"landsat-{instrument}-c2-l{level}"
    if "modis-09" in collection or re.match(r"m[oy]d09", collection):
        return "modis-09"
    return "naip" if collection == "naip" else None


def _is_data(key: str, asset: Json) -> bool:
    """Whether an asset may hold bands: a raster that is neither picture nor thumbnail nor another file's copy."""
    name = urlsplit(str(asset.get("href", ""))).path
    raster = bool(RASTER_TYPES.search(str(asset.get("type", "")))) or name.lower().endswith(RASTER_SUFFIXES)
    picture = NOT_DATA & set(asset.get("roles") or ()) or NOT_BANDS.search(key) or key.endswith("-jp2")
    return bool(asset.get("href")) and raster and not picture


def _hints(key: str, asset: Json) -> list[Hint]:
    """One hint per band of the asset."""
    modern: Sequence[Json] = asset.get("bands") or ()
    spectral: Sequence[Json] = asset.get("eo:bands") or ()
    stored: Sequence[Json] = asset.get("raster:bands") or ()
    count = max(len(modern), len(spectral), len(stored), 1)
    hints = []
    for at in range(count):
        told: dict[str, Any] = {}
        for source in (asset, *(bands[at] for bands in (stored, spectral, modern) if at < len(bands))):
            told.update({name.removeprefix("raster:").removeprefix("eo:"): value for name, value in source.items()})
        names = [told.get("name"), key if count == 1 else None, told.get("common_name")]
        nodata = told.get("nodata")
        hints.append(
            Hint(
                names=tuple(str(name) for name in names if name),
                scale=_number(told.get("scale")),
                offset=_number(told.get("offset")),
                unit=told.get("unit"),
                nodata=float("nan") if nodata == "nan" else _number(nodata),
            )
        )
    return hints


def _trusted(hint: Hint, product: Product) -> Hint:
    """The hint without what is known to mislead: Sentinel-2 offsets that are removed already, or a scale that leaves the offset open."""
    if not (product.sensor or "").startswith("sentinel-2"):
        return hint
    return replace(hint, scale=None, offset=None) if product.offset_removed or hint.offset is None else hint


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def absolute(href: str, given: str) -> str:
    """An asset's address; a relative one counts from the item's own place."""
    if urlsplit(href).scheme in ("http", "https", "s3", "gs", "az", "abfs", "file") or href.startswith("/vsi"):
        return href
    if urlsplit(given).scheme in ("http", "https", "file"):
        return urljoin(given, href)
    return str(Path(given).resolve().parent / href)


def load_item(given: str) -> dict[str, Any]:
    """The Item itself, or the one of a collection that `FILE#ID` names; SceneError where there is none."""
    address, _, name = (given, "", "") if Path(given).exists() else given.partition("#")
    try:
        item = json.loads(read_address(address))
    except ValueError as error:
        raise SceneError(f"{given} is not valid JSON ({error}); give a STAC Item.") from error
    if name and isinstance(item, dict):
        members = item.get("features") or ()
        item = next((one for one in members if isinstance(one, dict) and one.get("id") == unquote(name)), None)
    if not isinstance(item, dict) or item.get("type") != "Feature" or not isinstance(item.get("assets"), dict):
        raise SceneError(f"{given} is JSON but no STAC Item (type 'Feature' with assets); give the Item of one scene.")
    return item


def read_address(given: str) -> bytes:
    """What lies at an address or path; SceneError where it cannot be had."""
    try:
        if urlsplit(given).scheme in ("http", "https", "file"):
            with urllib.request.urlopen(given, timeout=TIMEOUT_S) as answer:
                return bytes(answer.read())
        return Path(given).read_bytes()
    except FileNotFoundError as error:
        raise SceneError(f"no such file: {given}; check the path for a spelling mistake") from error
    except (OSError, urllib.error.URLError) as error:
        raise SceneError(f"{given} cannot be fetched ({error}); check the address and the connection.") from error
