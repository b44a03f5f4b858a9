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
    """The package's held-out blocks that touch this grid, in its CRS, with `area_m2`; None where there are none."""
    if HELD_OUT not in package.checksums:
        return None
    blocks = geopandas.read_file(io.BytesIO(package.read(HELD_OUT))).to_crs(geobox.crs.to_wkt() if geobox.crs else None)
    shapes = shapely.force_2d(blocks.geometry.values)
    touching = blocks[shapely.intersects(shapes, Polygon(outline(geobox)))]
    if touching.empty:
        return None
    return GeoDataFrame(
        {"area_m2": geodesic_area_m2(touching.geometry.values, geobox.crs)}, geometry=touching.geometry.values, crs=blocks.crs
    )
