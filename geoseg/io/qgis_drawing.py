"""Styles of layers in which a person draws: a list of classes to click, and numbered outlines that say where to begin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from xml.etree import ElementTree as ET

from geoseg.io.qgis_styles import QGIS_VERSION, add, to_text
from geoseg.legend import Legend

CLASS = "class"
"""The column of a layer to draw in that holds the class by its name."""
_FILL_ALPHA = 110
"""Of 255: what is drawn tints the imagery, and both can be seen."""
_NOT_SAID = "255,0,255"
"""Of a polygon without a class: magenta, which no ground is."""
_RANKED = "255,170,0,255"


def drawing_qml(legend: Legend, columns: Mapping[str, str]) -> str:
    """Style and form of a layer to draw polygons in, coloured by their class; the class is chosen from the legend's names.

    `columns` are the layer's, with the title of each in the form, in order; `class` is among them. The list opens at the legend's
    first class, so that no polygon stays without one.
    """
    style = ET.Element("qgis", version=QGIS_VERSION, styleCategories="Symbology|Fields|Forms")
    renderer = add(style, "renderer-v2", type="categorizedSymbol", attr=CLASS, enableorderby="0", symbollevels="0")
    categories, symbols = add(renderer, "categories"), add(renderer, "symbols")
    shown = [(one.name, "string", one.name, ",".join(map(str, one.rgb))) for one in legend.classes]
    for number, (value, kind, label, rgb) in enumerate([*shown, ("", "NULL", "without a class", _NOT_SAID)]):
        add(categories, "category", value=value, type=kind, symbol=str(number), label=label, render="true")
        _add_outline(symbols, str(number), color=f"{rgb},{_FILL_ALPHA}", style="solid", outline_color=f"{rgb},255", outline_width="0.4")
    fields = add(style, "fieldConfiguration")
    for name in columns:
        widget = add(add(fields, "field", name=name, configurationFlags="None"), "editWidget", type=_WIDGETS.get(name, "TextEdit"))
        config = add(add(widget, "config"), "Option", type="Map")
        if name == CLASS:
            choices = add(config, "Option", name="map", type="List")
            for one in legend.names:
                add(add(choices, "Option", type="Map"), "Option", name=one, type="QString", value=one)
    aliases = add(style, "aliases")
    for index, (name, title) in enumerate(columns.items()):
        add(aliases, "alias", field=name, index=str(index), name=title)
    add(style, "editorlayout", "generatedlayout")
    return to_text(style)


def ranked_qml(column: str) -> str:
    """Style of outlines, each with the number in `column` at its middle."""
    style = ET.Element("qgis", version=QGIS_VERSION, styleCategories="Symbology|Labeling", labelsEnabled="1")
    renderer = add(style, "renderer-v2", type="singleSymbol", enableorderby="0", symbollevels="0")
    _add_outline(add(renderer, "symbols"), "0", color="0,0,0,0", style="no", outline_color=_RANKED, outline_width="0.7")
    settings = add(add(style, "labeling", type="simple"), "settings", calloutType="simple")
    text = {"fieldName": column, "isExpression": "0", "fontSize": "12", "fontWeight": "75", "textColor": _RANKED, "fontFamily": "Sans"}
    add(add(settings, "text-style", **text), "text-buffer", bufferDraw="1", bufferSize="0.8", bufferColor="0,0,0,255")
    add(settings, "placement", placement="1", quadOffset="4")
    add(settings, "rendering", drawLabels="1", obstacle="0", displayAll="1")
    return to_text(style)


_WIDGETS = {"fid": "Hidden", CLASS: "ValueMap"}


def _add_outline(symbols: ET.Element, name: str, **fill: str) -> None:
    symbol = add(symbols, "symbol", type="fill", name=name, alpha="1", clip_to_extent="1", force_rhr="0")
    layer = add(symbol, "layer", **{"class": "SimpleFill", "enabled": "1", "locked": "0", "pass": "0"})
    options = add(layer, "Option", type="Map")
    settings: Sequence[tuple[str, str]] = [*fill.items(), ("outline_style", "solid"), ("outline_width_unit", "MM"), ("joinstyle", "miter")]
    for key, value in settings:
        add(options, "Option", name=key, value=value, type="QString")
