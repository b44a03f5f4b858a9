"""Where the sun stood over a scene, as products and catalogues say it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree

from geoseg.scene import SunAngles


def sun_in_words(words: Mapping[str, Any]) -> SunAngles | None:
    """The angles in a table of names and values, however these are spelt there; None where one of them is missing.

    Known are Landsat's MTL (`SUN_ELEVATION`), STAC (`view:sun_elevation`), PlanetScope's metadata (`sun_elevation`,
    `illuminationElevationAngle`) and the tags of HLS (`MEAN_SUN_ZENITH_ANGLE`), whose Landsat part may state two scenes: the first counts.
    """
    plain = {re.sub(r"^.*:|[^a-z]", "", key.lower()): value for key, value in words.items()}
    zenith, elevation = (_first(plain, names) for names in (_ZENITH, _ELEVATION))
    azimuth = _first(plain, _AZIMUTH)
    if zenith is None and elevation is not None:
        zenith = 90 - elevation
    return None if zenith is None or azimuth is None else SunAngles(zenith, azimuth)


def find_sun(texts: Mapping[str, bytes]) -> SunAngles | None:
    """The angles that lie in a product's metadata files, by path; None where none of them has any, or they are damaged."""
    for path, text in sorted(texts.items()):
        sun = sun_in_safe(text) if re.search(r"(?i)MTD_(L1C_)?TL[^/\\]*\.xml$", path) else sun_in_words(leaves(path, text))
        if sun is not None:
            return sun
    return None


def sun_in_safe(text: bytes) -> SunAngles | None:
    """Sentinel-2's `Mean_Sun_Angle` in MTD_TL.xml; None where there is none."""
    mean = next((node for node in _xml(text) if node.tag.endswith("Mean_Sun_Angle")), None)
    if mean is None:
        return None
    return sun_in_words({f"sun_{node.tag}": node.text for node in mean})


def leaves(path: str, text: bytes) -> dict[str, str]:
    """Name → value of a metadata file of any of the usual forms: `NAME = VALUE` lines, XML, JSON.

    Of a name that comes twice the first counts: Landsat's Level-2 files repeat the Level-1 record behind their own.
    """
    if path.lower().endswith(".xml"):
        pairs = [(node.tag.rsplit("}", 1)[-1], (node.text or "").strip()) for node in _xml(text) if not len(node)]
    elif path.lower().endswith(".json"):
        try:
            pairs = _pairs(json.loads(text))
        except ValueError:
            pairs = []
    else:
        lines = re.findall(r"^\s*(\w+) = (.+?)\s*$", text.decode("utf-8", "replace"), re.MULTILINE)
        pairs = [(name, value.strip('"')) for name, value in lines]
    return dict(reversed(pairs))


_ZENITH = ("sunzenithangle", "meansunzenithangle", "sunzenith")
_ELEVATION = ("sunelevation", "illuminationelevationangle", "sunelevationangle")
_AZIMUTH = ("sunazimuth", "sunazimuthangle", "meansunazimuthangle", "illuminationazimuthangle")


def _first(words: Mapping[str, Any], names: tuple[str, ...]) -> float | None:
    """The first number under one of these names."""
    for name in names:
        if match := re.search(r"-?\d+(\.\d+)?([eE][-+]?\d+)?", str(words.get(name, ""))):
            return float(match.group())
    return None


def _xml(text: bytes) -> list[ElementTree.Element]:
    """All nodes; none where the text is damaged."""
    try:
        return list(ElementTree.fromstring(text).iter())
    except ElementTree.ParseError:
        return []


def _pairs(told: Any) -> list[tuple[str, str]]:
    """The leaves of nested JSON objects."""
    if not isinstance(told, dict):
        return []
    nested = [_pairs(value) if isinstance(value, dict) else [(str(key), str(value))] for key, value in told.items()]
    return [pair for pairs in nested for pair in pairs]
