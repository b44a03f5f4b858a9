"""Which class each number of a raster is, as geoseg, GDAL, ArcGIS and QGIS write it beside or inside a file, or as a table says it."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from rasterio.io import DatasetReader

from geoseg.errors import LabelError
from geoseg.io.categories import category_names
from geoseg.io.ogr import pyogrio
from geoseg.legend import Legend, LegendClass

_LARGEST_CODE = 65535
_CODE_COLUMNS = ("code", "value", "class_code", "dn", "id", "class_id", "number")
_NAME_COLUMNS = ("name", "class_name", "label", "class", "classname", "description", "category")
_COLOUR_COLUMNS = ("colour", "color", "color_hint", "hex")
_MIN_MAX, _NAME, _RED, _GREEN, _BLUE, _ALPHA = "5", "2", "6", "7", "8", "9"
"""What a column of GDAL's attribute tables is for (GFU_…)."""
_NO_CLASS = re.compile(r"(?i)no.?data|un-?observed|not observed|outside the scene")
_KEYS = "a code and a name for each class"


@dataclass(frozen=True)
class NamedCode:
    """What a file says of one number of a class map."""

    name: str
    colour: str | None = None
    """`#rrggbb`; None where the file states none."""
    hidden: bool = False
    """Drawn transparent."""


Names = Mapping[int, NamedCode]


def names_in(file: DatasetReader, path: str) -> Names:
    """The names that an open raster brings with it: the first of its tag CLASS_NAMES, attribute table, category names, QGIS style.

    The attribute table stands in `.aux.xml` or `.vat.dbf`, the style in a `.qml` of the same name; colours come from the first of
    them that has some for the same name. Empty where there are none.
    A number that the file declares as no data has no name.
    """
    side = Path(path)
    sources: Sequence[Callable[[], Names]] = (
        lambda: _from_tag(file.tags().get("CLASS_NAMES", "")),
        lambda: _from_attribute_table(side.with_name(side.name + ".aux.xml")),
        lambda: {code: NamedCode(name) for code, name in enumerate(category_names(side)) if name},
        lambda: _from_esri_table(side.with_name(side.name + ".vat.dbf")),
        lambda: _from_style(side.with_suffix(".qml")),
    )
    found: dict[int, NamedCode] = {}
    for source in sources:
        told = {code: one for code, one in source().items() if code != file.nodata}
        for code, one in told.items() if found else ():
            if code in found and found[code].colour is None and found[code].name == one.name:
                found[code] = one  # the same name, and how it is drawn
        found = found or told
    return found


def is_a_class(name: str) -> bool:
    """Whether a name says what is there, not that nothing is known: `no data` and `not observed` are no classes."""
    return _NO_CLASS.fullmatch(name.strip()) is None


def names_of_table(path: str | Path) -> Names:
    """The names in a legend's own file: JSON, CSV, or a style that QGIS saved as `.qml`.

    JSON is `{"1": "water"}`, `{"water": 1}`, a list of objects with code, name and colour, or a map's STAC Item. LabelError where
    there is no such file or no class in it.
    """
    path = Path(path)
    if not path.is_file():
        raise LabelError(f"no such file: {path}; expected a legend: .json, .csv or .qml with {_KEYS}, or another class map")
    try:
        kind = path.suffix.lower()
        found = _from_style(path) if kind == ".qml" else _from_csv(path) if kind in (".csv", ".txt") else _from_json(path)
    except (ValueError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise LabelError(f"{path} is no legend that geoseg can read ({error}); expected .json, .csv or .qml with {_KEYS}") from error
    if not found:
        raise LabelError(f"{path} names no classes; expected {_KEYS}")
    return found


def make_legend(names: Names, *, nodata: float | None, colours: Names | None = None) -> Legend:
    """A legend of these names, by code; colours from `colours` first, then as named, then from geoseg's palette.

    `nodata` is kept where a legend can have it, else a code that no class has stands for it. Names that occur twice get their
    code. LabelError for codes outside 0…65535.
    """
    if wrong := [code for code in names if not 0 <= code <= _LARGEST_CODE]:
        raise LabelError(f"the class {names[wrong[0]].name!r} has the code {wrong[0]}; expected codes from 0 to {_LARGEST_CODE}")
    spare = Legend.from_names([str(code) for code in names]).classes
    twice = {one.name for one in names.values() if [other.name for other in names.values()].count(one.name) > 1}
    classes = []
    for index, (code, one) in enumerate(sorted(names.items())):
        shown = (colours or {}).get(code, one)
        name = f"{one.name} ({code})" if one.name in twice else one.name
        classes.append(LegendClass(index, code, name, shown.colour or one.colour or spare[index].colour, shown.hidden or one.hidden))
    fits = nodata is not None and nodata in range(_LARGEST_CODE + 1) and nodata not in names
    free = next(code for code in chain((255, 0), range(_LARGEST_CODE, 0, -1)) if code not in names)
    return Legend(tuple(classes), nodata=int(nodata) if fits and nodata is not None else free)


# ---------------------------------------------------------------- below: one reader for each kind of source


def _from_tag(text: str) -> Names:
    try:
        return {int(code): NamedCode(str(name)) for code, name in json.loads(text or "{}").items()}
    except (ValueError, AttributeError):
        return {}


def _from_attribute_table(path: Path) -> Names:
    """GDAL's table of band 1 in a side file `.aux.xml`."""
    root = _xml(path)
    table = None if root is None else root.find("PAMRasterBand[@band='1']/GDALRasterAttributeTable")
    if table is None:
        return {}
    fields = sorted(table.iterfind("FieldDefn"), key=lambda field: int(field.get("index", "0")))
    usage = {field.findtext("Usage", ""): at for at, field in reversed(list(enumerate(fields)))}
    columns = [field.findtext("Name", "").lower() for field in fields]
    code, name = usage.get(_MIN_MAX, _column(columns, _CODE_COLUMNS)), usage.get(_NAME, _column(columns, _NAME_COLUMNS))
    if code is None or name is None:
        return {}
    found = {}
    for row in table.iterfind("Row"):
        cells = [cell.text or "" for cell in row.iterfind("F")]
        rgb = [int(float(cells[usage[part]])) for part in (_RED, _GREEN, _BLUE) if part in usage]
        colour = "#" + "".join(f"{part:02x}" for part in rgb) if len(rgb) == 3 and all(0 <= part <= 255 for part in rgb) else None
        hidden = _ALPHA in usage and float(cells[usage[_ALPHA]]) == 0
        if cells[name].strip():
            found[int(float(cells[code]))] = NamedCode(cells[name].strip(), colour, hidden)
    return found


def _from_esri_table(path: Path) -> Names:
    """ArcGIS's attribute table beside a raster."""
    if not path.is_file():
        return {}
    try:
        frame = pyogrio.read_dataframe(path, read_geometry=False)
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError):
        return {}
    return _from_rows(dict(row) for _, row in frame.iterrows())


def _from_style(path: Path) -> Names:
    """QGIS's style of a raster: paletted, or a colour ramp with exact values."""
    root = _xml(path)
    if root is None:
        return {}
    found = {}
    for entry in [*root.iterfind(".//paletteEntry"), *root.iterfind(".//colorrampshader[@colorRampType='EXACT']/item")]:
        value, label = float(entry.get("value", "nan")), (entry.get("label") or "").strip()
        if value.is_integer() and label:
            found[int(value)] = NamedCode(label, _colour(entry.get("color")), hidden=entry.get("alpha") == "0")
    return found


def _from_csv(path: Path) -> Names:
    with path.open(encoding="utf-8-sig", newline="") as stream:
        first = stream.readline()
        stream.seek(0)
        delimiter = max(",;\t", key=first.count)
        return _from_rows(csv.DictReader(stream, delimiter=delimiter))


def _from_json(path: Path) -> Names:
    told: Any = json.loads(path.read_text(encoding="utf-8-sig"))
    if isinstance(told, dict) and "assets" in told:
        lists = [one["classification:classes"] for one in told["assets"].values() if "classification:classes" in one]
        # An Item slugs its names and keeps what people read in the description.
        return _from_rows({**one, "name": one.get("description") or one["name"]} for one in (lists or [[]])[0])
    if isinstance(told, dict) and not any(isinstance(value, (list, dict)) for value in told.values()):
        pairs = [(key, value) if str(key).strip().isdigit() else (value, key) for key, value in told.items()]
        return {int(code): NamedCode(str(name)) for code, name in pairs}
    return _from_rows(told["classes"] if isinstance(told, dict) else told)


def _from_rows(rows: Iterable[Mapping[str, Any]]) -> Names:
    """Rows with columns for code, name and perhaps colour; KeyError where one of the first two is missing."""
    found = {}
    for row in rows:
        columns = [str(column).strip().lower() for column in row]
        code, name, colour = (_column(columns, known) for known in (_CODE_COLUMNS, _NAME_COLUMNS, _COLOUR_COLUMNS))
        if code is None or name is None:
            raise KeyError(
                f"columns {', '.join(columns)}; expected one of {', '.join(_CODE_COLUMNS)} and one of {', '.join(_NAME_COLUMNS)}"
            )
        cells = list(row.values())
        if str(cells[name] or "").strip():
            found[int(float(cells[code]))] = NamedCode(str(cells[name]).strip(), _colour(None if colour is None else cells[colour]))
    return found


def _column(columns: Sequence[str], known: Sequence[str]) -> int | None:
    """Place of the first column that has one of these names, the first name first."""
    return next((columns.index(name) for name in known if name in columns), None)


def _colour(text: Any) -> str | None:
    plain = str(text or "").strip().lower().lstrip("#")
    return f"#{plain}" if re.fullmatch("[0-9a-f]{6}", plain) else None


def _xml(path: Path) -> ET.Element | None:
    try:
        return ET.parse(path).getroot() if path.is_file() else None
    except ET.ParseError:
        return None
