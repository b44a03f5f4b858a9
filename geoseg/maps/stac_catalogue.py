"""Finished maps as a static STAC catalogue: one file that lists their Items, to be put on any web server or share."""

from __future__ import annotations

import json
import logging
from collections import Counter
from pathlib import Path
from typing import Any

from geoseg.errors import InputError
from geoseg.io.atomic import atomic

log = logging.getLogger(__name__)

NAME = "collection.json"
_OURS = "geoseg:"
_OPEN_ENDED: list[list[str | None]] = [[None, None]]
_CLASSIFICATION = "https://stac-extensions.github.io/classification/v2.0.0/schema.json"
_MOST_VALUES = 200
"""So many models, codes or classes are listed in a summary."""


def write_catalogue(folder: str | Path, *, title: str | None = None, description: str | None = None, licence: str = "other") -> Path:
    """Write `collection.json` into a folder: a STAC 1.1 Collection with a relative link to each Item of geoseg's in it and below.

    Items stay as they are. Extents are those of all Items together; the summaries say which classes, CRS and models there are. `licence` is
    the SPDX identifier of the maps' licence. InputError where the folder holds no Item.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"no such folder: {folder}; give one that geoseg predict, composite or mosaic wrote")
    found = [(path, item) for path in sorted(folder.rglob("*.json")) if path.name != NAME and (item := _item(path)) is not None]
    if not found:
        raise InputError(f"{folder} holds no STAC Item of geoseg's, also not in the folders below; map something into it first")
    if twice := [name for name, count in Counter(item["id"] for _, item in found).items() if count > 1]:
        log.warning("%s stands in several folders; some programs want each Item's name once in a collection", ", ".join(sorted(twice)))
    items = [item for _, item in found]
    collection = {
        "type": "Collection",
        "stac_version": "1.1.0",
        "stac_extensions": [_CLASSIFICATION],
        "id": folder.resolve().name or "maps",
        "title": title or folder.resolve().name,
        "description": description or f"{len(items)} results of geoseg",
        "license": licence,
        "extent": _extent(items),
        "summaries": _summaries(items),
        "links": [
            {"rel": "root", "href": f"./{NAME}", "type": "application/json"},
            *(
                {"rel": "item", "href": f"./{path.relative_to(folder).as_posix()}", "type": "application/geo+json", "title": item["id"]}
                for path, item in found
            ),
        ],
    }
    with atomic(folder / NAME) as part:
        part.write_text(json.dumps(collection, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return folder / NAME


def _item(path: Path) -> dict[str, Any] | None:
    """The Item of geoseg's in a file; None where it is something else."""
    try:
        item: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        ours = item["type"] == "Feature" and any(key.startswith(_OURS) for key in item["properties"])
        return item if ours and {"id", "bbox", "assets"} <= item.keys() else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _extent(items: list[dict[str, Any]]) -> dict[str, Any]:
    """Of all together first, as the specification has it, then of each."""
    boxes = [item["bbox"] for item in items]
    west, south, east, north = zip(*boxes, strict=True)
    whole = [min(west), min(south), max(east), max(north)]
    if any(box[0] > box[2] for box in boxes):  # across the antimeridian
        whole = [-180.0, min(south), 180.0, max(north)]
    times = [time for item in items for key in ("datetime", "start_datetime", "end_datetime") if (time := item["properties"].get(key))]
    spatial = [whole, *boxes] if len(boxes) > 1 else [whole]
    return {"spatial": {"bbox": spatial}, "temporal": {"interval": [[min(times), max(times)]] if times else _OPEN_ENDED}}


def _summaries(items: list[dict[str, Any]]) -> dict[str, Any]:
    classes: dict[str, dict[str, Any]] = {}
    for item in items:
        for asset in item["assets"].values():
            if "data" in asset.get("roles", ()):
                classes |= {json.dumps(one, sort_keys=True): one for one in asset.get("classification:classes", [])}
    codes = sorted({code for item in items if (code := item["properties"].get("proj:code"))})
    models = sorted({model["title"] for item in items if (model := item["properties"].get("geoseg:model"))})
    found = {"classification:classes": list(classes.values()), "proj:code": codes, "geoseg:models": models}
    return {name: values[:_MOST_VALUES] for name, values in found.items() if values}
