"""A QGIS project for a map: its layers grouped and styled, found by relative paths, opened at the map.

Written without QGIS, as the XML that QGIS 3.22 to 3.44 read (https://docs.qgis.org, "QGIS project files"): a `.qgz` is a
zip with one `.qgs` inside. A folder that holds the project and its layers can be moved, renamed, zipped and sent.
"""

from __future__ import annotations

import math
import os
import uuid
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree as ET

import numpy as np
import pyproj
import rasterio
from odc.geo.crs import CRS
from pyproj.database import get_codes
from pyproj.enums import PJType
from rasterio.enums import ColorInterp, MaskFlags

from geoseg.errors import OutputError
from geoseg.io.atomic import atomic
from geoseg.io.qgis_styles import (
    QGIS_VERSION,
    add,
    classes_style,
    outlines_style,
    picture_style,
    polygons_style,
    ramp_style,
    to_text,
)
from geoseg.legend import Legend

_IDS = uuid.UUID("6f1d3c52-70a5-5c0e-9d35-0c1f4b6b8a11")
"""Namespace of the layers' ids: the same map gets the same ids each time."""
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)
"""The earliest that a zip can hold; a fixed one, so that the same map gives the same bytes."""
_LOOK_PIXELS = 1024
"""Side of the coarse look at a raster, by its overviews."""
_WGS84_ELLIPSOID = "7030"
_SAME_AXES_M = 1e-3
"""WGS 84 and GRS 1980 count as one: their axes differ by 0.1 mm, areas on them by a part in 10^10."""


@dataclass(frozen=True)
class ProjectLayer:
    """One layer of a QGIS project."""

    name: str
    """What a person reads in QGIS's list of layers."""
    path: Path
    """The GeoTIFF or GeoPackage, which must be there already."""
    kind: Literal["picture", "classes", "reason", "scores", "quantity", "polygons", "outlines"]
    """How it is drawn: red, green, blue · codes of `legend` (both classes and reason) · one band from 0 to 1 · one band between
    `value_range` · polygons of `legend` · polygons of which only the border matters."""
    legend: Legend | None = None
    """Needed for classes, reason and polygons."""
    visible: bool = True
    """Whether it is ticked when the project opens."""
    group: str = ""
    """Name of the group it stands in; none if empty."""
    band: int = 1
    """Band number, counted from 1, of scores or a quantity."""
    value_range: tuple[float, float] | None = None
    """The values of a quantity, in its unit, at the ends of the colours; None for the smallest and largest in the file."""
    table: str = "polygons"
    """Name of the layer inside the GeoPackage, for polygons and outlines."""
    attribute: str = "class_code"
    """Column of the polygons that holds the class code."""
    qml: str | None = None
    """A style of its own, as a `.qml` holds it, for polygons; None draws by kind and legend."""

    def __post_init__(self) -> None:
        if self.kind in ("classes", "reason", "polygons") and self.legend is None and self.qml is None:
            raise ValueError(f"layer {self.name!r} of kind {self.kind!r} needs a legend")

    @property
    def is_vector(self) -> bool:
        """Whether it holds polygons, not pixels."""
        return self.kind in ("polygons", "outlines")


def write_project(path: Path, layers: Sequence[ProjectLayer], *, title: str, crs: CRS, extent: Sequence[float]) -> None:
    """Write a portable `.qgz` with these layers, the first one on top.

    Layers of one group come together where its first one stands. `extent` (left, bottom, right, top, in units of `crs`) is
    what QGIS shows when it opens the project. Where the CRS has a height too, the project takes its horizontal part. The
    same layers give the same bytes. A layer's file that is not there raises OutputError.
    """
    for layer in layers:
        if not layer.path.is_file():
            raise OutputError(
                f"layer {layer.name!r} of {path.name} cannot be shown: no such file {layer.path}; write it before the project"
            )
    horizontal = pyproj.CRS.from_wkt(crs.to_wkt()).to_2d()
    ids = [_layer_id(path, layer, number) for number, layer in enumerate(layers)]

    root = ET.Element("qgis", version=QGIS_VERSION)
    add(root, "homePath", path="")
    add(root, "title", title)
    _add_crs(add(root, "projectCrs"), horizontal)
    _add_tree(root, path, layers, ids)
    _add_view(root, horizontal, extent)
    parts = add(root, "projectlayers")
    for layer, layer_id in zip(layers, ids, strict=True):
        _add_layer(parts, path, layer, layer_id, horizontal)
    _add_properties(root, horizontal)

    entry = zipfile.ZipInfo(path.with_suffix(".qgs").name, date_time=_ZIP_DATE)
    entry.create_system = 3  # Unix on every machine, so that Windows writes the same bytes
    entry.external_attr = 0o644 << 16
    # Stored, not deflated: compressed bytes differ between versions of zlib.
    with atomic(path) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(entry, "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n" + to_text(root))


def write_style(path: Path, qml: str) -> Path:
    """Write a style beside the raster or GeoPackage at `path`, under the name by which QGIS finds it by itself."""
    style = path.with_suffix(".qml")
    with atomic(style) as part:
        part.write_text(qml, encoding="utf-8", newline="\n")
    return style


def _layer_id(project: Path, layer: ProjectLayer, number: int) -> str:
    return f"{layer.kind}_{uuid.uuid5(_IDS, f'{number}|{_source(project, layer)}|{layer.band}')}".replace("-", "_")


def _source(project: Path, layer: ProjectLayer) -> str:
    """Where the layer lies, seen from the project's folder, as QGIS writes it on every system."""
    try:
        relative = Path(os.path.relpath(layer.path, project.parent)).as_posix()
    except ValueError:  # another drive of Windows, to which no relative path leads
        return layer.path.resolve().as_posix()
    source = relative if relative.startswith("../") else f"./{relative}"
    return f"{source}|layername={layer.table}" if layer.is_vector else source


def _style(layer: ProjectLayer) -> ET.Element:
    if layer.qml is not None:
        return ET.fromstring(layer.qml)
    if layer.kind == "picture":
        return _picture_style(layer.path)
    if layer.kind == "scores":
        return ramp_style(layer.band)
    if layer.kind == "quantity":
        return ramp_style(layer.band, layer.value_range or _value_range(layer.path, layer.band))
    if layer.kind == "outlines":
        return outlines_style()
    assert layer.legend is not None
    return polygons_style(layer.legend, layer.attribute) if layer.kind == "polygons" else classes_style(layer.legend)


def _value_range(path: Path, band: int) -> tuple[float, float]:
    """Smallest and largest value of a band, from a coarse look at it; (0, 1) where it holds no data or but one value."""
    with rasterio.open(path) as file:
        rows, cols = min(file.height, _LOOK_PIXELS), min(file.width, _LOOK_PIXELS)
        seen = file.read(band, out_shape=(rows, cols), masked=True).compressed()
        values = seen[np.isfinite(seen)] * file.scales[band - 1] + file.offsets[band - 1]
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)
    return (low, high) if low < high else (0.0, 1.0)


def _picture_style(path: Path) -> ET.Element:
    """Transparent where the file's alpha band or its mask says so.

    QGIS counts a mask as one more band after the last, but loses it where it must turn the raster to show it (rotated, or
    south up); there the black that masked pixels come out in is what is left to go by.
    """
    with rasterio.open(path) as file:
        if ColorInterp.alpha in file.colorinterp:
            return picture_style(file.colorinterp.index(ColorInterp.alpha) + 1)
        if MaskFlags.per_dataset not in file.mask_flag_enums[0]:
            return picture_style()
        north_up = file.transform.b == file.transform.d == 0 and file.transform.e < 0
        return picture_style(file.count + 1) if north_up else picture_style(black_is_nothing=True)


def _add_layer(parent: ET.Element, project: Path, layer: ProjectLayer, layer_id: str, crs: pyproj.CRS) -> None:
    attributes = {"type": "vector", "geometry": "Polygon"} if layer.is_vector else {"type": "raster"}
    element = add(parent, "maplayer", **attributes)
    add(element, "id", layer_id)
    add(element, "datasource", _source(project, layer))
    add(element, "layername", layer.name)
    _add_crs(add(element, "srs"), crs)
    if layer.is_vector:
        add(element, "provider", "ogr", encoding="UTF-8")
    else:
        add(element, "provider", "gdal")
    style = _style(layer)
    if "labelsEnabled" in style.attrib:
        element.set("labelsEnabled", style.attrib["labelsEnabled"])
    element.extend(style)


def _add_tree(root: ET.Element, project: Path, layers: Sequence[ProjectLayer], ids: Sequence[str]) -> None:
    """QGIS's list of layers, with their groups."""
    tree = add(root, "layer-tree-group")
    groups = {"": tree}
    for layer, layer_id in zip(layers, ids, strict=True):
        if layer.group not in groups:
            groups[layer.group] = add(tree, "layer-tree-group", name=layer.group, expanded="1", checked="Qt::Checked")
        add(
            groups[layer.group],
            "layer-tree-layer",
            id=layer_id,
            name=layer.name,
            source=_source(project, layer),
            providerKey="ogr" if layer.is_vector else "gdal",
            checked="Qt::Checked" if layer.visible else "Qt::Unchecked",
            expanded="1" if layer.visible and layer.legend is not None else "0",
        )


def _add_view(root: ET.Element, crs: pyproj.CRS, extent: Sequence[float]) -> None:
    """What QGIS's map window shows at first; QGIS itself keeps the last view here when the user saves."""
    canvas = add(root, "mapcanvas", name="theMapCanvas", annotationsVisible="1")
    add(canvas, "units", "degrees" if crs.is_geographic else "meters")
    limits = add(canvas, "extent")
    for name, value in zip(("xmin", "ymin", "xmax", "ymax"), extent, strict=True):
        add(limits, name, repr(float(value)))
    add(canvas, "rotation", "0")
    _add_crs(add(canvas, "destinationsrs"), crs)


def _add_crs(parent: ET.Element, crs: pyproj.CRS) -> None:
    """A CRS as QGIS reads it: the WKT decides, the authority's code names it where there is one."""
    authority = crs.to_authority()
    element = add(parent, "spatialrefsys")
    add(element, "wkt", crs.to_wkt("WKT2_2019"))
    add(element, "authid", ":".join(authority) if authority else "")
    add(element, "description", crs.name)
    add(element, "geographicflag", "true" if crs.is_geographic else "false")


def _add_properties(root: ET.Element, crs: pyproj.CRS) -> None:
    properties = add(root, "properties")
    # Without this switch QGIS ignores the project's CRS.
    add(add(properties, "SpatialRefSys"), "ProjectionsEnabled", "1", type="int")
    add(add(properties, "Paths"), "Absolute", "false", type="bool")
    # QGIS measures on the plane of the map unless it is told the ellipsoid; our areas are those on the ground.
    add(add(properties, "Measure"), "Ellipsoid", _ellipsoid_code(crs), type="QString")
    units = add(properties, "Measurement")
    add(units, "DistanceUnits", "meters", type="QString")
    add(units, "AreaUnits", "m2", type="QString")


def _ellipsoid_code(crs: pyproj.CRS) -> str:
    """EPSG's code of the CRS's ellipsoid, found by its axes since a CRS seldom names it; WGS 84 where EPSG has none like it.

    QGIS would take the axes themselves, but then measures nothing (3.22).
    """
    if crs.ellipsoid is not None:
        wanted = (crs.ellipsoid.semi_major_metre, crs.ellipsoid.semi_minor_metre)
        for code in [_WGS84_ELLIPSOID, *get_codes("EPSG", PJType.ELLIPSOID)]:
            known = crs.ellipsoid.from_epsg(code)
            if math.dist(wanted, (known.semi_major_metre, known.semi_minor_metre)) < _SAME_AXES_M:
                return f"EPSG:{code}"
    return f"EPSG:{_WGS84_ELLIPSOID}"
