"""Whether Sen2Cor, which makes Sentinel-2's Level-2A, has corrected a product for terrain, from what it writes into the product.

`GRANULE/*/AUX_DATA/GIP_TL.xml` holds its settings where a user ran it; `DATASTRIP/*/MTD_DS.xml` the terrain model, or `None`. Without a
terrain model it treats the ground as flat; with one it corrects slopes unless its settings say otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from geoseg.sensors import Sensor

DETAILS = re.compile(r"(?i)(^|[/\\])(GIP_TL|MTD_DS)\.xml$")
"""The files of a product that tell of it."""

_NEVER = re.compile(r"sentinel-2-l1c|landsat-.*|hls-.*|modis-09")
"""Sensors of our table whose provider leaves slopes as bright as they are."""
_NO_MODEL = ("", "none")


def terrain_corrected(texts: Mapping[str, bytes], sensor: Sensor) -> bool | None:
    """Whether slopes are as bright as flat ground already, from a product's metadata files by path; None where nothing says it."""
    if _NEVER.fullmatch(sensor.name):
        return False
    if sensor.name != "sentinel-2-l2a":
        return None
    details = {name: text for path, text in texts.items() if (found := DETAILS.search(path)) and (name := found[2].upper())}
    settings = details.get("GIP_TL", b"")
    if _value(settings, "DEM_Terrain_Correction") == "false" or _value(settings, "DEM_Directory") in _NO_MODEL:
        return False
    if _value(settings, "DEM_Terrain_Correction") == "true":
        return True
    strip = details.get("MTD_DS", b"")
    model = _value(strip, "PRODUCTION_DEM_TYPE") if b"Level-2A" in strip[:4096] else None
    return None if model is None else model not in _NO_MODEL


def _value(text: bytes, tag: str) -> str | None:
    """What stands in the first element of this name, in small letters; None where there is none."""
    found = re.search(rb"<(?:\w+:)?%s(?:\s[^>]*)?>([^<]*)<" % tag.encode(), text)
    return found[1].decode("utf-8", "replace").strip().lower() if found else None
