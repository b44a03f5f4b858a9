"""STAC Items: of a model package (with the MLM extension) and of a map. Plain data in, dictionaries out."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import numpy as np
import shapely
from odc.geo.geobox import GeoBox
from pyproj import Transformer

from geoseg.ground import horizontal, outline
from geoseg.io.provenance import grid_fields
from geoseg.legend import LegendClass

STAC_VERSION = "1.1.0"
_EXTENSIONS = "https://stac-extensions.github.io"
MLM = f"{_EXTENSIONS}/mlm/v1.5.0/schema.json"
FILE = f"{_EXTENSIONS}/file/v2.1.0/schema.json"
CLASSIFICATION = f"{_EXTENSIONS}/classification/v2.0.0/schema.json"
PROJECTION = f"{_EXTENSIONS}/projection/v2.0.0/schema.json"
PROCESSING = f"{_EXTENSIONS}/processing/v1.2.0/schema.json"

_SHA2_256 = "1220"
"""Multihash prefix: function sha2-256 (0x12), 32 bytes long (0x20)."""
_BLOCK = 1 << 20
_STAC_FIELDS = {"name": "mlm:name", "title": "title", "description": "description", "licence": "license", "created": "created"}
"""Fields of a model's description that STAC has a place of its own for; the others get the prefix `geoseg:`."""


class SceneFacts(TypedDict):
    """What a map's Item says of the scene that was mapped."""

    source: str
    sensor: str
    product_id: str | None
    processing_baseline: str | None
    attribution: str
    """What the providers of the inputs ask to be written beside results."""
    warnings: NotRequired[list[str]]


class ModelFacts(TypedDict):
    """What a map's Item says of the model package."""

    name: str
    title: str
    licence: str
    checksum: str
    """SHA-256 of the package's model.json, which holds the checksums of its other files."""
    figures: list[dict[str, Any]]
    ensemble: NotRequired[list[dict[str, str]]]
    """Name, title, licence and checksum of every further package whose scores went into the mean."""


class RunFacts(TypedDict):
    """What a map's Item says of the run that made it."""

    command: list[str]
    """The full command, one argument each."""
    settings: dict[str, Any]
    """Every option with its value, also those left at their defaults."""
    masked: list[str]
    """Quality classes that got no class, such as `cloud`."""
    summary: dict[str, Any]
    """Areas per class, observed share, time."""
    software: dict[str, str]
    """Name → version."""


def model_item(description: Mapping[str, Any], assets: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The `model.json` of a package: a STAC Item with the MLM extension.

    `description` holds the plain values of a `ModelDescription`; `assets` one entry for every other file of the package.
    """
    preparation = description["preparation"]
    properties: dict[str, Any] = {_STAC_FIELDS.get(key, f"geoseg:{key}"): value for key, value in description.items()}
    properties["datetime"] = description["created"]
    if description["trained_dates"]:
        properties["start_datetime"], properties["end_datetime"] = description["trained_dates"]
    properties["bands"] = [_band_object(band) for band in preparation["bands"]]
    properties["mlm:architecture"] = str(description["architecture"].get("family", "not stated"))
    properties["mlm:tasks"] = sorted({_task(output) for output in description["outputs"]})
    properties["mlm:input"] = [_input_object(preparation, description["tile"])]
    properties["mlm:output"] = [_output_object(output, description["tile"]) for output in description["outputs"]]
    # STAC 1.1 takes bands of an Item only where an asset names them too; the MLM extension asks for those of the Item.
    named = {"bands": [{"name": band["role"]} for band in preparation["bands"]]}
    networks = {name: {**asset, **named} if "mlm:model" in asset["roles"] else asset for name, asset in assets.items()}
    bbox = description["trained_bbox"]
    geometry = _geojson(shapely.box(*bbox)) if bbox else None
    return _item(description["name"], geometry, bbox, properties, networks, [MLM, FILE, CLASSIFICATION])


def model_description(item: Mapping[str, Any]) -> dict[str, Any]:
    """What `model_item` was given as `description`, read back from its Item; missing fields are left out."""
    properties: Mapping[str, Any] = item["properties"]
    ours = {key.removeprefix("geoseg:"): value for key, value in properties.items() if key.startswith("geoseg:")}
    return ours | {field: properties[place] for field, place in _STAC_FIELDS.items() if place in properties}


def prediction_item(
    name: str,
    *,
    geobox: GeoBox,
    time: datetime | None,
    created: datetime,
    scene: SceneFacts,
    model: ModelFacts,
    run: RunFacts,
    assets: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """The Item of a map on the grid `geobox`, of a scene acquired at `time` (None: not known, then `created` stands for it).

    `assets` are made by `file_asset`. Enough is stored to make the map again, or to say what differs.
    """
    facts = {
        "geoseg:time_known": time is not None,
        "geoseg:scene": dict(scene),
        "geoseg:model": dict(model),
        "geoseg:run": {key: value for key, value in run.items() if key != "software"},
        "geoseg:attribution": scene["attribution"],
    }
    return map_item(
        name,
        geobox=geobox,
        times=(time or created, time or created),
        created=created,
        title=f"{model['title']}: {name}",
        command=run["command"],
        software=run["software"],
        facts=facts,
        assets=assets,
    )


def map_item(
    name: str,
    *,
    geobox: GeoBox,
    times: tuple[datetime, datetime],
    created: datetime,
    title: str,
    command: Sequence[str],
    software: Mapping[str, str],
    facts: Mapping[str, Any],
    assets: Mapping[str, Mapping[str, Any]],
    links: Sequence[Mapping[str, str]] = (),
) -> dict[str, Any]:
    """The Item of any raster result on the grid `geobox`, of what was seen between two `times` (one moment where they are equal).

    `facts` are further properties, each with a prefix; `assets` are made by `file_asset`; `links` are STAC's, such as
    `{"rel": "derived_from", "href": …}`.
    """
    crs = geobox.crs
    assert crs is not None, "a map has a CRS"
    geometry, bbox = footprint(geobox)
    first, last = (_stamp(time) for time in times)
    properties: dict[str, Any] = {
        **({"datetime": first} if first == last else {"datetime": None, "start_datetime": first, "end_datetime": last}),
        "created": _stamp(created),
        "title": title,
        **grid_fields(geobox),
        "processing:software": dict(software),
        "processing:lineage": " ".join(command),
        **facts,
    }
    item = _item(name, geometry, bbox, properties, assets, [PROJECTION, FILE, CLASSIFICATION, PROCESSING])
    return item | {"links": [dict(link) for link in links]}


def asset(data: bytes, *, href: str, media_type: str, title: str, roles: Sequence[str]) -> dict[str, Any]:
    """An asset with size and checksum of `data`."""
    return _asset(href, media_type, title, roles, len(data), _SHA2_256 + hashlib.sha256(data).hexdigest())


def file_asset(
    path: Path,
    *,
    folder: Path,
    media_type: str,
    title: str,
    roles: Sequence[str],
    classes: Sequence[LegendClass] = (),
    description: str | None = None,
) -> dict[str, Any]:
    """An asset for a file inside `folder`, where the Item will lie: relative address, size, checksum, and its classes if it has any.

    `description` says what its numbers mean (None: the title does).
    """
    href = f"./{path.relative_to(folder).as_posix()}"
    made = _asset(href, media_type, title, roles, path.stat().st_size, file_multihash(path))
    told = {} if description is None else {"description": description}
    return made | told | ({"classification:classes": class_objects(classes)} if classes else {})


def file_multihash(path: Path) -> str:
    """SHA-256 of a file, as the file extension writes checksums: a multihash in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return _SHA2_256 + digest.hexdigest()


def class_objects(classes: Sequence[LegendClass]) -> list[dict[str, Any]]:
    """The classes as the classification extension writes them; `value` is the code that the raster holds."""
    return [
        {
            "value": c.code,
            "name": _slug(c.name) or f"class_{c.code}",
            "description": c.name,
            "color_hint": c.colour.lstrip("#").upper(),
        }
        for c in classes
    ]


def footprint(geobox: GeoBox) -> tuple[dict[str, Any], list[float]]:
    """The grid's outline as GeoJSON geometry in degrees (WGS 84), and its bounding box west, south, east, north.

    An outline across the antimeridian is cut there into a MultiPolygon, and west is then greater than east (RFC 7946).
    """
    lon, lat = Transformer.from_crs(horizontal(geobox.crs), "EPSG:4326", always_xy=True).transform(*outline(geobox).T)
    known = np.isfinite(lon) & np.isfinite(lat)
    lon, lat = np.unwrap(lon[known], period=360.0), lat[known]
    if abs(turn := lon[-1] - lon[0]) > 180:  # a pole lies inside: go there and back along the two ends
        pole = 90.0 if lat.mean() > 0 else -90.0
        lon, lat = np.append(lon, [lon[0] + np.sign(turn) * 360, lon[0]]), np.append(lat, [pole, pole])
    shape = shapely.make_valid(shapely.Polygon(np.column_stack([lon, lat])))
    shifts = range(int(np.floor((lon.min() + 180) / 360)), int(np.ceil((lon.max() + 180) / 360)))
    parts = [shapely.affinity.translate(shape.intersection(shapely.box(360 * k - 180, -90, 360 * k + 180, 90)), -360 * k) for k in shifts]
    parts = [part for part in parts if part.area > 0]
    whole = shapely.orient_polygons(shapely.set_precision(shapely.union_all(parts), 1e-7))
    west, south, east, north = whole.bounds
    if len(parts) == 2 and whole.geom_type == "MultiPolygon":
        west, east = parts[0].bounds[0], parts[1].bounds[2]
    return _geojson(whole), [round(float(value), 7) for value in (west, south, east, north)]


def _geojson(geometry: shapely.Geometry) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(shapely.to_geojson(geometry))
    return made


def _item(
    name: str,
    geometry: Mapping[str, Any] | None,
    bbox: Sequence[float] | None,
    properties: Mapping[str, Any],
    assets: Mapping[str, Mapping[str, Any]],
    extensions: Sequence[str],
) -> dict[str, Any]:
    item: dict[str, Any] = {"type": "Feature", "stac_version": STAC_VERSION, "stac_extensions": list(extensions), "id": name}
    item["geometry"] = geometry
    if bbox is not None:
        item["bbox"] = list(bbox)
    return item | {"properties": dict(properties), "links": [], "assets": {key: dict(value) for key, value in assets.items()}}


def _asset(href: str, media_type: str, title: str, roles: Sequence[str], size: int, checksum: str) -> dict[str, Any]:
    return {"href": href, "type": media_type, "title": title, "roles": list(roles), "file:size": size, "file:checksum": checksum}


def _band_object(band: Mapping[str, Any]) -> dict[str, Any]:
    convention = {"geoseg:convention": band["convention"]} if band["convention"] else {}
    return {"name": band["role"], "unit": band["unit"], **convention}


def _input_object(preparation: Mapping[str, Any], tile: int) -> dict[str, Any]:
    channels = preparation["channels"]
    return {
        "name": "image",
        "bands": [c["name"] if c["kind"] != "index" else _index_band(c["name"]) for c in channels],
        "input": {"shape": [-1, len(channels), tile, tile], "dim_order": ["batch", "bands", "height", "width"], "data_type": "float32"},
        "value_scaling": [{"type": "z-score", "mean": c["mean"], "stddev": c["std"]} for c in channels],
        "resize_type": None,
        "pre_processing_function": {"format": "python", "expression": "geoseg.preprocess.prepare:prepare"},
    }


def _index_band(name: str) -> dict[str, Any]:
    return {"name": name, "format": "spyndex", "expression": name}


def _output_object(output: Mapping[str, Any], tile: int) -> dict[str, Any]:
    classes = [LegendClass(**c) for c in output["classes"]]
    shape = [-1, len(classes) or 1, tile, tile]
    dim_order = ["batch", "classes" if classes else "quantity", "height", "width"]
    return {
        "name": output["name"],
        "description": "probability of each class" if classes else f"{output['unit']}, {output['range'][0]} to {output['range'][1]}",
        "tasks": [_task(output)],
        "result": {"shape": shape, "dim_order": dim_order, "data_type": "float32"},
        "classification:classes": class_objects(classes),
    }


def _task(output: Mapping[str, Any]) -> str:
    return "semantic-segmentation" if output["kind"] == "classes" else "regression"


def _stamp(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def _slug(name: str) -> str:
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return re.sub(r"[^0-9A-Za-z]+", "_", plain).strip("_").lower()
