"""Sentinel-1 GRD products in a STAC catalogue: an Item whose assets are the files of a SAFE folder, read where they lie.

Planetary Computer, the Copernicus Data Space and others name the assets alike (`vv`, `safe-manifest`, `schema-product-vv`,
`schema-calibration-vv`, `schema-noise-vv`) and may have renamed the files behind them, so that they are asked for by asset.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from geoseg.io.names import gdal_path, safe_name
from geoseg.radar.safe import MANIFEST, Safe
from geoseg.scenes.stac_items import absolute, read_address

_MEMBER = "s1a-xx-grd-{}-asset"
"""A file's name as the format has it; the mission and mode in it are not used."""
_ASSETS: Mapping[str, str] = {
    "{}": f"measurement/{_MEMBER}.tiff",
    "schema-product-{}": f"annotation/{_MEMBER}.xml",
    "schema-calibration-{}": f"annotation/calibration/calibration-{_MEMBER}.xml",
    "schema-noise-{}": f"annotation/calibration/noise-{_MEMBER}.xml",
}
"""Asset → its place in a SAFE folder; braces stand for the polarisation."""


@dataclass(frozen=True)
class ItemSafe(Safe):
    """A SAFE folder whose files are the assets of an Item."""

    hrefs: Mapping[str, str] = field(default_factory=dict)
    """Member → its path or address."""

    @property
    def name(self) -> str:
        """Safe in file names."""
        return safe_name(self.inside)

    def read(self, member: str) -> bytes:
        """A file's bytes; SceneError where it cannot be fetched."""
        return read_address(self.hrefs[member])

    def gdal_path(self, member: str) -> str:
        """A file as GDAL opens it."""
        return gdal_path(self.hrefs[member])


def safe_of_item(given: str, item: Mapping[str, Any]) -> ItemSafe | None:
    """The GRD product that an Item's assets make up; None where they make up none."""
    assets = {key.lower().replace("_", "-"): asset for key, asset in (item.get("assets") or {}).items() if "href" in asset}
    if "safe-manifest" not in assets or "grd" not in f"{item.get('collection')} {item.get('id')}".lower():
        return None
    places = {asset.format(word): member.format(word) for asset, member in _ASSETS.items() for word in ("vv", "vh", "hh", "hv")}
    places["safe-manifest"] = MANIFEST
    hrefs = {places[key]: _annotation(absolute(asset["href"], given)) for key, asset in assets.items() if key in places}
    return ItemSafe(given, Path(given), str(item.get("id") or given), tuple(sorted(hrefs)), hrefs)


def _annotation(href: str) -> str:
    """The address of an annotation where Planetary Computer's Items name that of radio interference (`rfi`) instead, beside it."""
    return re.sub(r"/(annotation/rfi/)?rfi-([^/]+\.xml)", r"/annotation/\2", href)
