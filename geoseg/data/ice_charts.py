"""Ice charts to labels: an analyst's egg codes to classes of concentration, stage of development and floe size.

The codes are those of SIGRID-3 (WMO/IOC 2004, revision 3 of 2014). Which codes make which class, that equal classes are merged before
the dominant one is sought, and the share of 0.65 that makes it dominant, follow the AutoICE challenge (Stokholm et al., "The AutoICE
Challenge", The Cryosphere 18, 2024) and its converter. We differ in two points: concentrations given as an interval (such as 46, four to
six tenths), which that data set has not, take their middle; and of three partial concentrations with the same class all three are
added, where the converter adds the last two found.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.features import rasterize

from geoseg.errors import LabelError
from geoseg.io.class_maps import class_profile, finish_class_map
from geoseg.io.cog import RowWriter
from geoseg.io.staging import Staging, check_free, move_results
from geoseg.io.vectors import onto_grid, read_features
from geoseg.legend import Legend, LegendClass

NO_LABEL = 255
DOMINANT_SHARE = 0.65
"""Of the total concentration; a polygon in which no class reaches it has no label."""

_STAGES = ("open water", "new ice", "young ice", "thin first-year ice", "thick first-year ice", "old ice")
_FLOES = ("open water", "ice cake", "small floe", "medium floe", "big floe", "vast floe", "icebergs")
_BLUES = ("#08306b", "#08519c", "#2171b5", "#4292c6", "#6baed6", "#9ecae1", "#c6dbef", "#deebf7", "#f7fbff", "#ffffff", "#fff5f0")
_STAGE_COLOURS = ("#08306b", "#f0d2fa", "#aa28f0", "#9bd200", "#00c814", "#b46432")
"""Near those of WMO's colour code for stages of development."""
_FLOE_COLOURS = ("#08306b", "#d9f0a3", "#addd8e", "#78c679", "#41ab5d", "#238443", "#cc4c02")


def _legend(names: Sequence[str], colours: Sequence[str]) -> Legend:
    return Legend(tuple(LegendClass(i, i, name, colour) for i, (name, colour) in enumerate(zip(names, colours, strict=True))), NO_LABEL)


ICE_LEGENDS: Mapping[str, Legend] = {
    "concentration": _legend([f"{10 * tenth} %" for tenth in range(11)], _BLUES),
    "stage": _legend(_STAGES, _STAGE_COLOURS),
    "floe": _legend(_FLOES, _FLOE_COLOURS),
}
"""The three charts: total concentration in tenths, stage of development, form (floe size)."""

_STAGE_OF = {0: 0, 80: 0, 81: 1, 82: 1, 83: 2, 84: 2, 85: 2, 86: 4, 87: 3, 88: 3, 89: 3, 91: 4, 93: 4, 95: 5, 96: 5, 97: 5}
"""SIGRID-3's S code → class; glacier ice (98), unknown (99) and codes that are not here have none."""
_FLOE_OF = {0: 0, 2: 1, 3: 2, 4: 3, 5: 4, 6: 5, 7: 5, 9: 6, 10: 6}
"""SIGRID-3's F code → class."""
_NO_FLOE = (1, 8, 21, 22)
"""Shuga, fast ice, level ice, pancake: a polygon with any of them has no label of floe size."""
_ICE_FREE = (0, 1, 2, 55, 98)
_NOT_FILLED = -9
_EMPTY = (None, "", "-9", "-99", "nan", "None")
_ROWS = 1024
_COLUMNS = ("CT", "CA", "SA", "FA", "CB", "SB", "FB", "CC", "SC", "FC")


@dataclass(frozen=True)
class Egg:
    """The egg code of one polygon, in SIGRID-3's numbers; -9 where nothing is filled in."""

    total: int
    """CT."""
    partials: tuple[tuple[int, int, int], ...]
    """(concentration, stage, form) of the oldest ice first: CA SA FA, CB SB FB, CC SC FC."""
    water: bool = False
    """POLY_TYPE `W`."""


def convert_polygon(egg: Egg) -> tuple[int, int, int]:
    """Class codes (concentration, stage, floe) of a polygon; 255 where it has no label of that kind.

    Water is 0 in all three. A stage or floe size is that of the class whose partial concentrations add up to the largest, the first of
    equals, if that is at least DOMINANT_SHARE of the total.
    """
    total = 0 if egg.water else tenths(egg.total)
    if total == 0:
        return 0, 0, 0
    if total is None:
        return NO_LABEL, NO_LABEL, NO_LABEL
    parts = [tenths(concentration) or 0 for concentration, _, _ in egg.partials]
    if egg.partials and egg.partials[0][0] == _NOT_FILLED:
        parts[0] = total
    stages = [_STAGE_OF.get(stage, NO_LABEL) for _, stage, _ in egg.partials]
    forms = [_FLOE_OF.get(form, NO_LABEL) for _, _, form in egg.partials]
    if any(form in _NO_FLOE for _, _, form in egg.partials):
        return total, _dominant(stages, parts, total), NO_LABEL
    return total, _dominant(stages, parts, total), _dominant(forms, parts, total)


def tenths(code: int) -> int | None:
    """Total or partial concentration 0…10 of a SIGRID-3 code; None where it says nothing (99, -9)."""
    if code in _ICE_FREE:
        return 0
    if code in (91, 92):
        return 10
    low, high = divmod(code, 10)
    if not 10 <= code <= 90:
        return None
    if high == 0:
        return low
    return round((low + (10 if high == 1 else high)) / 2)


def parse_polygon_codes(lines: Sequence[str]) -> dict[int, Egg]:
    """Polygon's number → egg, from the `polygon_codes` of AI4Arctic's files: `id;CT;CA;SA;FA;…;POLY_TYPE`, a heading first.

    LabelError where a line has too few fields.
    """
    eggs = {}
    for line in lines:
        fields = [field.strip() for field in str(line).split(";")]
        if not fields[0].lstrip("-").isdecimal():
            continue
        if len(fields) < len(_COLUMNS) + 2:
            raise LabelError(f"polygon code {line!r} has {len(fields)} fields; expected id;CT;CA;SA;FA;CB;SB;FB;CC;SC;FC;…;POLY_TYPE")
        eggs[int(fields[0])] = _egg(fields[1 : len(_COLUMNS) + 1], fields[-1])
    return eggs


def convert_chart(polygons: NDArray[Any], eggs: Mapping[int, Egg]) -> dict[str, NDArray[np.uint8]]:
    """Three charts (row, col) by the names of ICE_LEGENDS from a raster of polygon numbers; 255 where there is no label.

    A number that no egg describes, such as land, and NaN have no label.
    """
    charts = {name: np.full(polygons.shape, NO_LABEL, np.uint8) for name in ICE_LEGENDS}
    for number, egg in eggs.items():
        here = polygons == number
        for chart, code in zip(charts.values(), convert_polygon(egg), strict=True):
            chart[here] = code
    return charts


@dataclass(frozen=True)
class IceChart:
    """A chart of polygons: their outlines in the file's CRS and their eggs."""

    path: str
    outlines: NDArray[Any]
    crs: Any
    eggs: tuple[Egg, ...]

    def burn(self, geobox: GeoBox) -> dict[str, NDArray[np.uint8]]:
        """Three charts (row, col) on a grid, by the names of ICE_LEGENDS; the later polygon wins where two overlap."""
        placed, positions = onto_grid(self.outlines, self.crs, geobox)
        charts = {}
        for which, name in enumerate(ICE_LEGENDS):
            shapes = [(shape, convert_polygon(self.eggs[at])[which]) for shape, at in zip(placed, positions, strict=True)]
            empty = np.full(geobox.shape, NO_LABEL, np.uint8)
            options = {"out_shape": tuple(geobox.shape), "transform": geobox.affine, "fill": NO_LABEL, "dtype": "uint8"}
            charts[name] = rasterize(shapes, **options) if shapes else empty
        return charts


def read_ice_chart(path: str | Path) -> IceChart:
    """A chart in SIGRID-3, as ice services give it out: polygons with the columns CT, CA, SA, FA … FC and POLY_TYPE.

    Polygons of land (POLY_TYPE `L`) and those without a shape are left out. LabelError where columns are missing or nothing is left.
    """
    try:
        frame = read_features(path)
    except pyogrio.errors.DataSourceError as error:
        raise LabelError(f"{path} cannot be read as polygons ({error}); give the shapefile of an ice chart") from error
    columns = {str(name).upper(): name for name in frame.columns}
    if missing := [name for name in ("CT", "SA", "FA") if name not in columns]:
        raise LabelError(
            f"{path} has no column {', '.join(missing)}; it has {', '.join(map(str, frame.columns))}; expected SIGRID-3's CT, CA, SA, FA …"
        )
    kinds = frame[columns["POLY_TYPE"]].astype(str) if "POLY_TYPE" in columns else ["I"] * len(frame)
    rows = zip(*(frame[columns[name]] if name in columns else [_NOT_FILLED] * len(frame) for name in _COLUMNS), strict=True)
    described = [
        (shape, _egg(fields, kind))
        for shape, fields, kind in zip(frame.geometry, rows, kinds, strict=True)
        if shape is not None and not shape.is_empty and kind.upper() not in ("L", "N")
    ]
    if not described:
        raise LabelError(f"{path} holds no polygon of ice or water; give an ice chart that covers the scene")
    return IceChart(str(path), np.array([shape for shape, _ in described], dtype=object), frame.crs, tuple(egg for _, egg in described))


def write_ice_labels(chart: IceChart, geobox: GeoBox, out: Path, *, overwrite: bool = False) -> dict[str, Path]:
    """The three charts as class maps in the folder `out`, `CHART_concentration.tif` and so on, all or none; name → path.

    LabelError where the chart does not touch the grid, OutputError where results cannot be written or are there already.
    """
    names = {name: f"{Path(chart.path).stem}_{name}.tif" for name in ICE_LEGENDS}
    check_free(out, names.values(), overwrite=overwrite)
    labelled = False
    with Staging(out) as folder:
        with ExitStack() as stack:
            files = {
                name: stack.enter_context(RowWriter(folder / "parts" / names[name], geobox, **class_profile(legend)))
                for name, legend in ICE_LEGENDS.items()
            }
            for top in range(0, geobox.shape[0], _ROWS):
                charts = chart.burn(geobox[top : min(top + _ROWS, geobox.shape[0]), :])
                labelled = labelled or bool((charts["concentration"] != NO_LABEL).any())
                for name, rows in charts.items():
                    files[name].append(rows[np.newaxis])
        if not labelled:
            raise LabelError(f"{chart.path} does not touch the scene; give the ice chart of its place and day")
        for name, legend in ICE_LEGENDS.items():
            finish_class_map(folder / "parts" / names[name], folder / "done" / names[name], legend)
        move_results(folder / "done", out, last=names["floe"])
    return {name: out / file for name, file in names.items()}


def _egg(fields: Sequence[Any], kind: str) -> Egg:
    numbers = [_number(field) for field in fields]
    partials = tuple((numbers[at], numbers[at + 1], numbers[at + 2]) for at in (1, 4, 7))
    return Egg(numbers[0], partials, water=kind.strip().upper() == "W")


def _number(field: Any) -> int:
    return _NOT_FILLED if field is None or str(field).strip() in _EMPTY else int(float(field))


def _dominant(classes: Sequence[int], parts: Sequence[int], total: int) -> int:
    """The class with the largest sum of partial concentrations, or NO_LABEL where it is too small a share of the total."""
    sums: dict[int, int] = {}
    for one, part in zip(classes, parts, strict=True):
        sums[one] = sums.get(one, 0) + part
    best = max(sums, key=lambda one: sums[one])
    return best if sums[best] >= DOMINANT_SHARE * total else NO_LABEL
