"""The ground of a map that the model was not trained on, where a package tells: there its figures mean something."""

from __future__ import annotations

import io

import geopandas
import shapely
from geopandas import GeoDataFrame
from odc.geo.geobox import GeoBox
from shapely.geometry import Polygon

from geoseg.ground import geodesic_area_m2, outline
from geoseg.models.package import ModelPackage

HELD_OUT = "held_out.geojson"
"""File of a package with the blocks of its training scenes that were held out."""


def held_out_ground(package: ModelPackage, geobox: GeoBox) -> GeoDataFrame | None:
    """The package's held-out blocks that touch this grid, in its CRS; None where there are none.

    Columns: `part` (`validation`: training stopped by it; `test`: used for nothing but the figures), `area_m2`, `geometry`.
    """
    if HELD_OUT not in package.checksums or geobox.crs is None:
        return None
    blocks = geopandas.read_file(io.BytesIO(package.read(HELD_OUT))).to_crs(geobox.crs.to_wkt())
    touching = blocks[shapely.intersects(blocks.geometry.values, Polygon(outline(geobox)))]
    if touching.empty:
        return None
    columns = {"part": touching["part"].to_numpy(), "area_m2": geodesic_area_m2(touching.geometry.values, geobox.crs)}
    return GeoDataFrame(columns, geometry=touching.geometry.values, crs=blocks.crs)


def held_out_facts(held_out: GeoDataFrame | None) -> dict[str, dict[str, float]]:
    """Part → how many blocks and how many km² of it there are; empty where nothing was held out."""
    if held_out is None:
        return {}
    areas = held_out.groupby("part")["area_m2"].agg(["size", "sum"])
    return {str(part): {"blocks": int(row["size"]), "km2": float(row["sum"]) / 1e6} for part, row in areas.iterrows()}
