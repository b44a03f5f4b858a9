"""The ground of a map that the model was not trained on, where a package tells: there its figures mean something."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import shapely
from odc.geo.geobox import GeoBox
from pyproj import Transformer

from geoseg.ground import geodesic_area_m2, outline
from geoseg.models.package import ModelPackage

if TYPE_CHECKING:
    from geopandas import GeoDataFrame

HELD_OUT = "held_out.geojson"
"""File of a package with the blocks of its training scenes that were held out; in degrees, as all GeoJSON (RFC 7946)."""


def held_out_ground(package: ModelPackage, geobox: GeoBox) -> GeoDataFrame | None:
    """The package's held-out blocks that touch this grid, in its CRS; None where there are none.

    Columns: `part` (`validation`: training stopped by it; `test`: used for nothing but the figures), `area_m2`, `geometry`.
    """
    if HELD_OUT not in package.checksums or geobox.crs is None:
        return None
    features = json.loads(package.read(HELD_OUT))["features"]
    crs = geobox.crs.to_wkt()
    to_map = Transformer.from_crs("EPSG:4326", crs, always_xy=True)
    blocks = shapely.from_geojson([json.dumps(feature["geometry"]) for feature in features])
    blocks = shapely.transform(blocks, lambda lonlat: np.column_stack(to_map.transform(*lonlat.T)))
    touching = np.flatnonzero(shapely.intersects(blocks, shapely.Polygon(outline(geobox))))
    if not len(touching):
        return None
    from geopandas import GeoDataFrame  # most maps touch none, and it takes most of a second to load

    parts = [features[block]["properties"]["part"] for block in touching]
    areas = geodesic_area_m2(blocks[touching], geobox.crs)
    return GeoDataFrame({"part": parts, "area_m2": areas}, geometry=blocks[touching], crs=crs)


def held_out_facts(held_out: GeoDataFrame | None) -> dict[str, dict[str, float]]:
    """Part → how many blocks and how many km² of it there are; empty where nothing was held out."""
    if held_out is None:
        return {}
    areas = held_out.groupby("part")["area_m2"].agg(["size", "sum"])
    return {str(part): {"blocks": int(row["size"]), "km2": float(row["sum"]) / 1e6} for part, row in areas.iterrows()}
