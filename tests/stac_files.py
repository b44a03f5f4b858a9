"""STAC Items and catalogues of local scenes for the tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def item(name: str, href: str) -> dict[str, Any]:
    """An Item with one asset, the band `red` of a sensor that nobody knows."""
    asset = {"href": href, "type": "image/tiff; application=geotiff", "roles": ["data"], "bands": [{"name": "red"}]}
    place = {"geometry": None, "links": [], "properties": {"datetime": "2024-05-06T10:00:00Z"}}
    return {"type": "Feature", "stac_version": "1.1.0", "id": name, "assets": {"red": asset}, **place}


def write_json(path: Path, fields: Any) -> Path:
    """The file, in a folder that is made for it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(fields), encoding="utf-8")
    return path


def catalog(*links: tuple[str, str], kind: str = "Catalog") -> dict[str, Any]:
    """A Catalog or Collection with these (rel, href)."""
    return {"type": kind, "stac_version": "1.1.0", "id": "all", "links": [{"rel": rel, "href": href} for rel, href in links]}


def collection_of(*items: dict[str, Any]) -> dict[str, Any]:
    """A FeatureCollection."""
    return {"type": "FeatureCollection", "features": list(items)}
