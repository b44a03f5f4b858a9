"""The STAC Items of composites and despeckled scenes: from which scenes, how, and how much of the ground was seen."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, time
from pathlib import Path
from typing import Any

from odc.geo.geobox import GeoBox

from geoseg.io.atomic import atomic
from geoseg.io.provenance import file_facts, grid_fields, software
from geoseg.io.stac import FILE, PROCESSING, PROJECTION, STAC_VERSION, file_asset, footprint
from geoseg.scene import Scene
from geoseg.sensors import Band
from geoseg.stacks.periods import Period

_COG = "image/tiff; application=geotiff; profile=cloud-optimized"
_CHEAP_BYTES = 64 << 20
"""Larger files are named with their size and without a checksum: reading them once more would take longer than it is worth."""


def attribution(scenes: Sequence[Scene]) -> str:
    """What the providers of all scenes ask for, each once."""
    return "; ".join(dict.fromkeys(scene.attribution for scene in scenes if scene.attribution))


def write_composite_item(
    path: Path, data: Path, *, geobox: GeoBox, period: Period, scenes: Sequence[Scene], bands: Sequence[Band], facts: Mapping[str, Any]
) -> None:
    """Write the Item at `path`, beside its raster `data`; `facts` say how it was made and what came out."""
    stated = {
        "datetime": None,
        "start_datetime": _stamp(datetime.combine(period.first, time.min, UTC)),
        "end_datetime": _stamp(datetime.combine(period.last, time(23, 59, 59), UTC)),
        "title": f"{facts['method']} of {len(scenes)} scenes, {period.name}",
        "geoseg:composite": dict(facts),
        "geoseg:attribution": attribution(scenes),
    }
    _write_item(path, data, geobox=geobox, what="composite", bands=bands, stated=stated)


def write_despeckled_item(path: Path, data: Path, *, geobox: GeoBox, scene: Scene, bands: Sequence[Band], facts: Mapping[str, Any]) -> None:
    """Write the Item of one filtered scene at `path`, beside its raster `data`; where its time is not known, the present stands for it."""
    stated = {
        "datetime": _stamp(scene.time or datetime.now(UTC)),
        "title": f"{scene.name}, speckle filtered by {facts['method']}",
        "geoseg:time_known": scene.time is not None,
        "geoseg:despeckled": dict(facts),
        "geoseg:attribution": attribution([scene]),
    }
    _write_item(path, data, geobox=geobox, what="filtered scene", bands=bands, stated=stated)


def _write_item(path: Path, data: Path, *, geobox: GeoBox, what: str, bands: Sequence[Band], stated: Mapping[str, Any]) -> None:
    """Write an Item with these properties, and with what any raster on the grid has."""
    geometry, bbox = footprint(geobox)
    asset = file_asset(data, folder=data.parent, media_type=_COG, title=what, roles=["data"])
    asset["bands"] = [{"name": band.role, "unit": band.unit} for band in bands]
    item = {
        "type": "Feature",
        "stac_version": STAC_VERSION,
        "stac_extensions": [PROJECTION, FILE, PROCESSING],
        "id": path.stem,
        "geometry": geometry,
        "bbox": bbox,
        "properties": {
            "created": _stamp(datetime.now(UTC)),
            **grid_fields(geobox),
            "processing:software": software(),
            **stated,
        },
        "links": [],
        "assets": {"data": asset},
    }
    with atomic(path) as part:
        part.write_text(json.dumps(item, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def input_facts(scene: Scene) -> dict[str, Any]:
    """A scene that went into a composite: what it is, when it was taken, and its files with size and, where cheap, SHA-256."""
    paths = dict.fromkeys([layer.path for layer in scene.layers] + [scene.source])
    return {
        "id": scene.product_id or scene.name,
        "source": scene.source,
        "sensor": scene.sensor.name,
        "processing_baseline": scene.processing_baseline,
        "datetime": _stamp(scene.time) if scene.time else None,
        "files": [file_facts(Path(path), most_bytes=_CHEAP_BYTES) for path in paths if Path(path).is_file()],
    }


def _stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
