"""Clouds of Sentinel-2 Level-1C before processing baseline 04.00: polygons in QI_DATA/MSK_CLOUDS_B00.gml, as a quality layer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from xml.etree import ElementTree

import numpy as np
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj import CRS
from rasterio.features import rasterize

from geoseg.errors import SceneError
from geoseg.io.geotiff import Resampling, footprint
from geoseg.io.opening import file_geobox
from geoseg.io.vectors import onto_grid
from geoseg.raster import Raster
from geoseg.scene import Layer, Scene, quality_roles
from geoseg.sensors import Band, QualityTable

_CODES = {"CIRRUS": 2, "OPAQUE": 1}
"""The format's mask types, in the order in which they are drawn, and the codes of the layer; 0 is clear."""
_TABLE = QualityTable("codes", {"cloud": (_CODES["OPAQUE"],), "cirrus": (_CODES["CIRRUS"],)})
_BAND = Band("MSK_CLOUDS", "quality", gsd_m=60, unit="class")


def with_cloud_polygons(scene: Scene, texts: Mapping[str, bytes]) -> Scene:
    """A Level-1C scene with the cloud polygons among its metadata files as its quality layer.

    Unchanged where the scene is something else, has cloud rasters, or no such file is there; one without polygons says that all is
    clear. SceneError where the file is damaged.
    """
    found = [path for path in texts if path.endswith("MSK_CLOUDS_B00.gml")]
    if scene.sensor.name != "sentinel-2-l1c" or quality_roles(scene) or not found:
        return scene
    reader = _CloudPolygons(scene.layers[0].path, *_polygons(found[0], texts[found[0]], scene))
    layer = Layer(_BAND, found[0], 1, "file name 'MSK_CLOUDS_B00'", reader)
    return replace(scene, sensor=replace(scene.sensor, quality=_TABLE), layers=(*scene.layers, layer))


def _polygons(path: str, text: bytes, scene: Scene) -> tuple[CRS, NDArray[np.object_], NDArray[np.uint8]]:
    """CRS, polygons and their codes, cirrus first."""
    try:
        root = ElementTree.fromstring(text)
        features = [(_text(node, "maskType"), _shape(node)) for node in root.iter() if _name(node) == "MaskFeature"]
    except (ElementTree.ParseError, ValueError) as error:
        raise SceneError(f"the clouds of {scene.source} ({path}) cannot be read ({error}); fetch the product again") from error
    codes = np.array([_CODES.get(kind, 0) for kind, _ in features], np.uint8)
    shapes = np.array([shape for _, shape in features], dtype=object)
    order = np.argsort(-codes.astype(int), kind="stable")
    order = order[codes[order] > 0]
    stated = next((match[1] for node in root.iter() if (match := re.search(r"EPSG:.*?:?(\d+)$", node.get("srsName", "")))), None)
    crs = f"EPSG:{stated}" if stated else str(scene.layers[0].geobox().crs)
    return CRS.from_user_input(crs), shapes[order], codes[order]


def _shape(feature: ElementTree.Element) -> shapely.Polygon:
    rings: dict[str, list[NDArray[np.float64]]] = {"exterior": [], "interior": []}
    for side in (node for node in feature.iter() if _name(node) in rings):
        for places in (node for node in side.iter() if _name(node) == "posList"):
            numbers = np.array((places.text or "").split(), np.float64)
            rings[_name(side)].append(numbers.reshape(-1, int(places.get("srsDimension", "2")))[:, :2])
    (outer,) = rings["exterior"]
    return shapely.Polygon(outer, rings["interior"])


def _name(node: ElementTree.Element) -> str:
    return node.tag.rsplit("}", 1)[-1]


def _text(feature: ElementTree.Element, name: str) -> str:
    return next(((node.text or "").strip() for node in feature.iter() if _name(node) == name), "")


@dataclass(frozen=True, eq=False)
class _CloudPolygons:
    """Codes of the polygons over each pixel's centre; opaque cloud wins over cirrus."""

    like: str
    """A band of the same tile: where it lies, something is known of clouds."""
    crs: CRS
    polygons: NDArray[np.object_]
    codes: NDArray[np.uint8]

    def geobox(self) -> GeoBox:
        return file_geobox(self.like)

    def read(self, bands: Mapping[int, Band], geobox: GeoBox, *, resampling: Resampling) -> Raster:
        """(1, row, col) uint8; always by the pixel's centre."""
        shapes, which = onto_grid(self.polygons, self.crs, geobox)
        values = np.zeros((1, *geobox.shape), np.uint8)
        if len(shapes):
            values[0] = rasterize(
                zip(shapes, self.codes[which].tolist(), strict=True), geobox.shape, transform=geobox.affine, dtype="uint8"
            )
        valid = self.footprint(geobox)[np.newaxis]
        return Raster(np.where(valid, values, 0), valid, geobox, tuple(bands.values()))

    def footprint(self, geobox: GeoBox) -> NDArray[np.bool_]:
        return footprint(self.like, geobox)
