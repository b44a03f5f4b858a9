"""How QGIS draws what geoseg writes: one style for each kind of layer, as a `.qml` file or inside a project.

A style is an XML element `<qgis>`. Saved alone it is a `.qml`; its children stand inside a layer of a project. Only what
QGIS 3.22 to 3.44 need is written; all else is left to QGIS's defaults.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from xml.etree import ElementTree as ET

from geoseg.legend import Legend, LegendClass

QGIS_VERSION = "3.22.0-Białowieża"
"""The oldest QGIS aimed at: a project that claims to be newer than the QGIS that opens it brings a warning."""

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_FILL_ALPHA = 70
"""Of 255: polygons tint the imagery below and leave a class map of the same colour as it is."""
_OUTLINE_SHADE = 0.55
"""Outlines are the class's colour, darkened, so that they show on the class map too."""
_OUTLINE_MM = "0.1"
"""Thin enough that a whole scene's polygons do not turn into their outlines."""
_RAMP = ("#440154", "#3b528b", "#21918c", "#5ec962", "#fde725")
"""Viridis, at equal steps: even to the eye, and in print, and for colour-blind readers."""


def classes_qml(legend: Legend) -> str:
    """Style of a raster of class codes: the legend's colours and names, background transparent."""
    return to_text(classes_style(legend))


def ramp_qml(band: int = 1, value_range: tuple[float, float] = (0.0, 1.0)) -> str:
    """Style of one band of scores or of a quantity, coloured evenly over `value_range`, in its unit.

    QGIS applies the band's scale and offset first, so scores stored as 0…250 count from 0 to 1.
    """
    return to_text(ramp_style(band, value_range))


def picture_qml(alpha_band: int | None = None) -> str:
    """Style of red, green and blue in bands 1, 2 and 3, already stretched to 0…255.

    `alpha_band` is transparent where 0; QGIS counts a mask inside the file as one more band after the last.
    """
    return to_text(picture_style(alpha_band))


def polygons_qml(legend: Legend, attribute: str = "class_code") -> str:
    """Style of polygons whose `attribute` holds the class code: filled lightly, outlined darker, background hidden."""
    return to_text(polygons_style(legend, attribute))


def outlines_qml() -> str:
    """Style of polygons of which only the border matters, legible on any ground."""
    return to_text(outlines_style())


def classes_style(legend: Legend) -> ET.Element:
    """`classes_qml` as an element."""
    style, renderer = _raster_style("paletted", band="1", alphaBand="-1")
    palette = add(renderer, "colorPalette")
    for one in legend.classes:
        alpha = "0" if one.background else "255"
        add(palette, "paletteEntry", value=str(one.code), label=one.name, color=one.colour, alpha=alpha)
    return style


def ramp_style(band: int = 1, value_range: tuple[float, float] = (0.0, 1.0)) -> ET.Element:
    """`ramp_qml` as an element."""
    low, high = map(float, value_range)
    ends = {"classificationMin": repr(low), "classificationMax": repr(high)}
    style, renderer = _raster_style("singlebandpseudocolor", band=str(band), alphaBand="-1", **ends)
    interpolated = {"colorRampType": "INTERPOLATED", "classificationMode": "1", "clip": "0"}
    ramp = add(add(renderer, "rastershader"), "colorrampshader", minimumValue=repr(low), maximumValue=repr(high), **interpolated)
    for step, colour in enumerate(_RAMP):
        value = low + (high - low) * step / (len(_RAMP) - 1)
        add(ramp, "item", value=repr(value), label=f"{value:.4g}", color=colour, alpha="255")
    return style


def picture_style(alpha_band: int | None = None, *, black_is_nothing: bool = False) -> ET.Element:
    """`picture_qml` as an element; `black_is_nothing` makes pure black transparent."""
    bands = {"redBand": "1", "greenBand": "2", "blueBand": "3", "alphaBand": str(alpha_band or -1)}
    style, renderer = _raster_style("multibandcolor", **bands)
    if black_is_nothing:
        clear = {"percentTransparent": "100", "red": "0", "green": "0", "blue": "0"}
        add(add(add(renderer, "rasterTransparency"), "threeValuePixelList"), "pixelListEntry", **clear)
    return style


def polygons_style(legend: Legend, attribute: str = "class_code") -> ET.Element:
    """`polygons_qml` as an element."""
    style = _style()
    renderer = add(style, "renderer-v2", type="categorizedSymbol", attr=attribute, enableorderby="0", symbollevels="0")
    categories, symbols = add(renderer, "categories"), add(renderer, "symbols")
    for number, one in enumerate(legend.classes):
        render = "false" if one.background else "true"
        add(categories, "category", value=str(one.code), type="long", symbol=str(number), label=one.name, render=render)
        _add_fill(symbols, str(number), _class_fill(one))
    # A code that someone typed while correcting the polygons shows too, in grey.
    other = str(len(legend))
    add(categories, "category", value="", type="NULL", symbol=other, label="other values", render="true")
    _add_fill(symbols, other, {"color": f"128,128,128,{_FILL_ALPHA}", "outline_color": "60,60,60,255", "outline_width": _OUTLINE_MM})
    return style


def outlines_style() -> ET.Element:
    """`outlines_qml` as an element."""
    style = _style()
    renderer = add(style, "renderer-v2", type="singleSymbol", enableorderby="0", symbollevels="0")
    casing = {"style": "no", "outline_color": "0,0,0,160", "outline_width": "1"}
    line = {"style": "no", "outline_color": "255,255,255,255", "outline_width": "0.5", "outline_style": "dash"}
    _add_fill(add(renderer, "symbols"), "0", casing, line)
    return style


def add(parent: ET.Element, tag: str, text: str | None = None, **attributes: str) -> ET.Element:
    """A new last child of `parent`; characters that XML cannot hold are dropped from its text and attributes."""
    child = ET.SubElement(parent, tag, {name: _NOT_XML.sub("", value) for name, value in attributes.items()})
    child.text = None if text is None else _NOT_XML.sub("", text)
    return child


def to_text(root: ET.Element) -> str:
    """The element as an XML document, indented."""
    ET.indent(root)
    return ET.tostring(root, encoding="unicode") + "\n"


def _style() -> ET.Element:
    return ET.Element("qgis", version=QGIS_VERSION, styleCategories="Symbology")


def _raster_style(renderer_type: str, **attributes: str) -> tuple[ET.Element, ET.Element]:
    """A raster's style, and the renderer inside it that is to be filled."""
    style = _style()
    return style, add(add(style, "pipe"), "rasterrenderer", type=renderer_type, opacity="1", nodataColor="", **attributes)


def _class_fill(one: LegendClass) -> Mapping[str, str]:
    red, green, blue = one.rgb
    dark = ",".join(str(round(part * _OUTLINE_SHADE)) for part in one.rgb)
    return {"color": f"{red},{green},{blue},{_FILL_ALPHA}", "outline_color": f"{dark},255", "outline_width": _OUTLINE_MM}


def _add_fill(symbols: ET.Element, name: str, *fills: Mapping[str, str]) -> None:
    """A polygon symbol of simple fills, the first one drawn first."""
    symbol = add(symbols, "symbol", type="fill", name=name, alpha="1", clip_to_extent="1", force_rhr="0")
    for fill in fills:
        layer = add(symbol, "layer", **{"class": "SimpleFill", "enabled": "1", "locked": "0", "pass": "0"})
        options = add(layer, "Option", type="Map")
        settings = {"style": "solid", "outline_style": "solid", "outline_width_unit": "MM", "joinstyle": "round", **fill}
        for key, value in settings.items():
            add(options, "Option", name=key, value=value, type="QString")
