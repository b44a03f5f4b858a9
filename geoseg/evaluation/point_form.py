"""How QGIS shows reference points: the class is a click in a list, and what the map says of a point is not in the form.

Whoever knows the map's answer finds it on the ground more often than it is there, so the labeller sees neither stratum nor map
class: both are in the file, and hidden in the form and in the attribute table.
"""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree as ET

from geoseg.io.qgis_styles import QGIS_VERSION, add, to_text
from geoseg.legend import LegendClass

HIDDEN = ("fid", "stratum", "map_class", "pixel_area_m2")
"""Columns that the labeller does not see."""
_NULL = "{2839923C-8B7D-419E-B84B-CA2FE9B80EC7}"
"""What QGIS's value map takes for "no value"."""
_TO_LABEL = "#ff00ff"
_TITLES = {"reference_class": "Class on the ground", "second_class": "Or also", "note": "Note", "date": "Date of the imagery"}


def points_qml(classes: Sequence[LegendClass], columns: Sequence[str], pixel_m: float) -> str:
    """Style and form of a layer of reference points with these columns; a hollow square shows the pixel of `pixel_m` metres.

    Points without a reference class are magenta, the others have its colour.
    """
    style = ET.Element("qgis", version=QGIS_VERSION, styleCategories="Symbology|Fields|Forms|AttributeTable")
    _add_renderer(style, classes, pixel_m)
    fields = add(style, "fieldConfiguration")
    for name in columns:
        widget = add(add(fields, "field", name=name, configurationFlags="None"), "editWidget", type=_widget(name))
        config = add(add(widget, "config"), "Option", type="Map")
        if name in ("reference_class", "second_class"):
            _add_choices(config, [one.name for one in classes])
        elif name == "date":
            for key, value in (("display_format", "yyyy-MM-dd"), ("field_format", "yyyy-MM-dd")):
                add(config, "Option", name=key, type="QString", value=value)
            add(config, "Option", name="calendar_popup", type="bool", value="true")
            add(config, "Option", name="allow_null", type="bool", value="true")
    aliases, editable = add(style, "aliases"), add(style, "editable")
    table = add(add(style, "attributetableconfig", actionWidgetStyle="dropDown", sortExpression="", sortOrder="0"), "columns")
    for index, name in enumerate(columns):
        add(aliases, "alias", field=name, index=str(index), name=_TITLES.get(name, ""))
        add(editable, "field", name=name, editable="1" if name in _TITLES else "0")
        add(table, "column", name=name, type="field", hidden="1" if name in HIDDEN else "0", width="-1")
    add(style, "editorlayout", "generatedlayout")
    return to_text(style)


def _widget(column: str) -> str:
    if column in HIDDEN:
        return "Hidden"
    return {"reference_class": "ValueMap", "second_class": "ValueMap", "date": "DateTime"}.get(column, "TextEdit")


def _add_choices(config: ET.Element, names: Sequence[str]) -> None:
    choices = add(config, "Option", name="map", type="List")
    for shown, stored in (("not labelled", _NULL), *((name, name) for name in names)):
        add(add(choices, "Option", type="Map"), "Option", name=shown, type="QString", value=stored)


def _add_renderer(style: ET.Element, classes: Sequence[LegendClass], pixel_m: float) -> None:
    renderer = add(style, "renderer-v2", type="categorizedSymbol", attr="reference_class", enableorderby="0", symbollevels="0")
    categories, symbols = add(renderer, "categories"), add(renderer, "symbols")
    shown = [(one.name, one.name, "string", one.colour) for one in classes]
    for number, (value, label, kind, colour) in enumerate([*shown, ("", "to label", "NULL", _TO_LABEL)]):
        add(categories, "category", value=value, type=kind, symbol=str(number), label=label, render="true")
        symbol = add(symbols, "symbol", type="marker", name=str(number), alpha="1", clip_to_extent="1", force_rhr="0")
        _add_marker(symbol, "square", "#000000", pixel_m, "RenderMetersInMapUnits", "0.8")
        _add_marker(symbol, "square", colour, pixel_m, "RenderMetersInMapUnits", "0.4")
        _add_marker(symbol, "cross", colour, 3.0, "MM", "0.5")


def _add_marker(symbol: ET.Element, shape: str, colour: str, size: float, unit: str, width_mm: str) -> None:
    rgb = ",".join(str(int(colour[at : at + 2], 16)) for at in (1, 3, 5))
    layer = add(symbol, "layer", **{"class": "SimpleMarker", "enabled": "1", "locked": "0", "pass": "0"})
    options = add(layer, "Option", type="Map")
    settings = {"name": shape, "color": "0,0,0,0", "outline_color": f"{rgb},255", "outline_width": width_mm, "outline_width_unit": "MM"}
    for key, value in {**settings, "size": f"{size:.3f}", "size_unit": unit, "joinstyle": "miter"}.items():
        add(options, "Option", name=key, value=value, type="QString")
