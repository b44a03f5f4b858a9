"""Class names beside a class map, as GDAL and QGIS read them: a TIFF has no field for names."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree as ET

from geoseg.io.atomic import atomic
from geoseg.legend import Legend

_INTEGER, _TEXT = 0, 2
_MIN_MAX, _NAME, _RED, _GREEN, _BLUE, _ALPHA = 5, 2, 6, 7, 8, 9
_FIELDS = (
    ("Value", _INTEGER, _MIN_MAX),
    ("Class", _TEXT, _NAME),
    ("Red", _INTEGER, _RED),
    ("Green", _INTEGER, _GREEN),
    ("Blue", _INTEGER, _BLUE),
    ("Alpha", _INTEGER, _ALPHA),
)
"""Column name, GDAL's column type (GFT_…), GDAL's column usage (GFU_…)."""


def category_tags(legend: Legend) -> dict[str, str]:
    """The class names as one tag of the raster, JSON of code → name; it stays when side files are lost."""
    return {"CLASS_NAMES": json.dumps({str(one.code): one.name for one in legend.classes}, ensure_ascii=False)}


def category_names(tif: Path) -> tuple[str, ...]:
    """The names of codes 0, 1, 2 … in the side file that GDAL and QGIS keep beside `tif`; empty where there is none."""
    side = tif.with_name(tif.name + ".aux.xml")
    if not side.is_file():
        return ()
    try:
        root = ET.parse(side).getroot()
    except ET.ParseError:
        return ()
    return tuple((node.text or "").strip() for node in root.iterfind("PAMRasterBand[@band='1']/CategoryNames/Category"))


def write_categories(tif: Path, legend: Legend) -> Path:
    """Write category names and a thematic attribute table of band 1 beside `tif`, and return the side file `NAME.tif.aux.xml`.

    Atomic; what stood in such a file is replaced.
    """
    root = ET.Element("PAMDataset")
    band = ET.SubElement(root, "PAMRasterBand", band="1")
    names = ET.SubElement(band, "CategoryNames")
    by_code = {one.code: one.name for one in legend.classes}
    for code in range(max(by_code) + 1):
        ET.SubElement(names, "Category").text = by_code.get(code, "")
    table = ET.SubElement(band, "GDALRasterAttributeTable", tableType="thematic")
    for index, (name, kind, usage) in enumerate(_FIELDS):
        field = ET.SubElement(table, "FieldDefn", index=str(index))
        for key, value in (("Name", name), ("Type", str(kind)), ("Usage", str(usage))):
            ET.SubElement(field, key).text = value
    for index, one in enumerate(sorted(legend.classes, key=lambda one: one.code)):
        row = ET.SubElement(table, "Row", index=str(index))
        for cell in (one.code, one.name, *one.rgb, 0 if one.background else 255):
            ET.SubElement(row, "F").text = str(cell)
    ET.indent(root)
    side = tif.with_name(tif.name + ".aux.xml")
    with atomic(side) as part:
        part.write_bytes(ET.tostring(root, encoding="utf-8"))
    return side
