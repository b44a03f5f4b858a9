"""Open the folder that geoseg wrote in the real QGIS, away from where it was written, and compare what it shows with the files.

Run by the Python that QGIS was installed for, without a screen:

    QT_QPA_PLATFORM=offscreen /usr/bin/python3 tests/qgis/check_project.py FOLDER [--render PICTURE.png] [--credit TEXT]

Prints a line for each thing looked at; exit status 1 where one of them is wrong.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from osgeo import gdal
from qgis.core import (
    QgsApplication,
    QgsDistanceArea,
    QgsMapLayer,
    QgsPointXY,
    QgsProject,
    QgsRasterLayer,
    QgsVectorLayer,
)
from qgis.gui import QgsMapCanvas
from shown import category_names, comparable, kind, shown_pixels, to_map, windows

MOVED_NAME = "moved away, é"


class Report:
    """What was looked at, and how much of it was wrong."""

    def __init__(self) -> None:
        self.wrong = 0

    def check(self, right: bool, what: str, seen: object = "") -> None:
        """Print one line; `seen` is what QGIS has, told where it is wrong."""
        self.wrong += not right
        print(f"  ok    {what}" if right else f"  WRONG {what}: {seen}")


def main() -> int:
    arguments = argparse.ArgumentParser(description="Check in the real QGIS what geoseg wrote.")
    arguments.add_argument("folder", type=Path, help="where `geoseg predict` or `geoseg demo` wrote")
    arguments.add_argument("--render", type=Path, help="also draw a picture of the map to this PNG")
    arguments.add_argument("--credit", default="", help="who made the imagery; drawn below the picture")
    given = arguments.parse_args()
    report = Report()
    with tempfile.TemporaryDirectory() as elsewhere:
        moved = Path(elsewhere).resolve() / MOVED_NAME
        shutil.copytree(given.folder, moved)
        paths = sorted(moved.glob("*.qgz"))
        report.check(bool(paths), "there is a QGIS project", list(given.folder.iterdir()))
        for path in paths:
            print(path.name)
            check_project(path, report)
        if given.render and not report.wrong:
            from draw_map import draw_map

            draw_map(paths[0], given.render, credit=given.credit)
            print(f"drawn to {given.render}")
    print("all is right" if not report.wrong else f"{report.wrong} wrong")
    return int(report.wrong > 0)


def check_project(path: Path, report: Report) -> None:
    """Look at one project and all its layers."""
    canvas = QgsMapCanvas()
    canvas.setObjectName("theMapCanvas")  # the name by which QGIS's own window finds the view in the project
    canvas.resize(1000, 800)
    project = QgsProject.instance()
    report.check(project.read(str(path)), "QGIS reads the project", project.error())
    report.check(bool(project.title()), "it has a title")
    report.check(project.crs().isValid(), "it has a CRS")
    report.check(project.ellipsoid() not in ("", "NONE"), "it measures on the ellipsoid", project.ellipsoid())

    nodes = project.layerTreeRoot().findLayers()
    layers = [node.layer() for node in nodes]
    report.check(len(nodes) > 0 and len(nodes) == len(project.mapLayers()), "the list of layers is whole", len(nodes))
    for node in nodes:
        layer = node.layer()
        if layer is None or not layer.isValid():
            report.check(False, f"layer {node.name()!r} is valid", "" if layer is None else layer.source())
            return
        source = Path(layer.source().split("|")[0])
        report.check(source.resolve().is_relative_to(path.parent), f"{layer.name()!r} lies in the moved folder", source)
        if source.name.endswith("_reason.tif"):
            report.check(not node.isVisible(), f"{layer.name()!r} is off", "on")
    check_order(layers, report)
    check_saved_again(project, path, report)
    for layer in layers:
        check_layer(layer, layers, project, report)
    check_view(canvas, layers, report)


def check_order(layers: list[QgsMapLayer], report: Report) -> None:
    """Polygons above classes above imagery."""
    kinds = [kind(layer) for layer in layers]
    places = [kinds.index(name) for name in ("categorizedSymbol", "paletted", "multibandcolor") if name in kinds]
    report.check(places == sorted(places), "polygons lie above classes above imagery", kinds)


def check_saved_again(project: QgsProject, path: Path, report: Report) -> None:
    """QGIS keeps the paths relative when the user saves."""
    again = path.with_name("again.qgz")
    project.write(str(again))
    with zipfile.ZipFile(again) as archive:
        text = archive.read(next(name for name in archive.namelist() if name.endswith(".qgs")))
    sources = [element.text or "" for element in ElementTree.fromstring(text).iterfind("projectlayers/maplayer/datasource")]
    report.check(all(source.startswith("./") for source in sources), "paths stay relative when QGIS saves", sources)
    again.unlink()
    project.setFileName(str(path))


def check_view(canvas: QgsMapCanvas, layers: list[QgsMapLayer], report: Report) -> None:
    """QGIS's window opens at the map: all of it inside, not much more around."""
    seen = canvas.extent()
    for layer in layers:
        if kind(layer) == "paletted":
            extent = canvas.mapSettings().layerExtentToOutputExtent(layer, layer.extent())
            inside = seen.buffered(extent.width() * 1e-2).contains(extent)
            close = max(extent.width() / seen.width(), extent.height() / seen.height()) > 0.5
            report.check(inside and close, f"the project opens at {layer.name()!r}", f"{seen.toString(6)} for {extent.toString(6)}")


def check_layer(layer: QgsMapLayer, layers: list[QgsMapLayer], project: QgsProject, report: Report) -> None:
    """Look at one layer in the way that fits how it is drawn."""
    how = kind(layer)
    if how == "paletted":
        check_classes(layer, report)
    elif how == "multibandcolor":
        check_picture(layer, report)
    elif how == "singlebandpseudocolor":
        check_scores(layer, report)
    elif how == "categorizedSymbol":
        check_polygons(layer, [other for other in layers if kind(other) == "paletted"], project, report)
    else:
        report.check(how == "singleSymbol", f"{layer.name()!r} is drawn in a known way", how)


def check_classes(layer: QgsRasterLayer, report: Report) -> None:
    """A class raster is drawn in the file's own colours, and not at all where it has no data."""
    name, file = layer.name(), gdal.Open(layer.source())
    band = file.GetRasterBand(1)
    styled = {int(entry.value): entry for entry in layer.renderer().classes()}
    table = band.GetColorTable()
    wrong = [c for c, entry in styled.items() if table and table.GetColorEntry(c)[:3] != entry.color.getRgb()[:3]]
    report.check(not wrong, f"{name!r} has the colours of the file's colour table", wrong)
    names = category_names(band)
    wrong = [c for c, entry in styled.items() if names and names.get(c) != entry.label]
    report.check(not wrong, f"{name!r} has the names of the file's categories", wrong)

    drawn = 0
    for col, row, cols, rows in windows(file):
        codes = band.ReadAsArray(col, row, cols, rows)
        shown, compared = shown_pixels(layer, file, (col, row, cols, rows)), comparable(file, codes)
        for code in np.unique(codes[compared]):
            here = shown[compared & (codes == code)]
            if code == band.GetNoDataValue():
                report.check(bool((here[:, 3] == 0).all()), f"{name!r} shows nothing where there is no data", here[:3])
                continue
            if int(code) not in styled:
                report.check(False, f"{name!r} has a colour for code {code}", sorted(styled))
                continue
            wanted = styled[int(code)].color.getRgb()
            right = (here[:, 3] == 0).all() if wanted[3] == 0 else (here == wanted).all()
            report.check(bool(right), f"{name!r} shows {styled[int(code)].label!r} in {styled[int(code)].color.name()}", here[:3])
            drawn += len(here)
    report.check(drawn > 0, f"{name!r} has pixels to look at")

    beside = Path(layer.source()).with_suffix(".qml")
    if beside.exists():
        alone = QgsRasterLayer(layer.source(), "alone")
        same = kind(alone) == "paletted" and [(c.value, c.label) for c in alone.renderer().classes()] == [
            (c.value, c.label) for c in layer.renderer().classes()
        ]
        report.check(same, f"{beside.name} styles the raster when it is opened alone", kind(alone))


def check_picture(layer: QgsRasterLayer, report: Report) -> None:
    """A picture is drawn as it is, and not at all where it is masked."""
    file = gdal.Open(layer.source())
    for window in windows(file):
        shown = shown_pixels(layer, file, window)
        mask = file.GetRasterBand(1).GetMaskBand().ReadAsArray(*window)
        red = file.GetRasterBand(1).ReadAsArray(*window)
        valid, masked, compared = mask > 0, comparable(file, mask) & (mask == 0), comparable(file, mask) & (mask > 0)
        report.check(bool((shown[masked][:, 3] == 0).all()), f"{layer.name()!r} shows nothing where there is no data", shown[masked][:3])
        same = (shown[compared][:, 3] == 255).all() and (shown[..., 0] == red)[valid & comparable(file, red)].all()
        report.check(bool(same), f"{layer.name()!r} is shown as it is", shown[compared][:3])


def check_scores(layer: QgsRasterLayer, report: Report) -> None:
    """Scores and quantities count in QGIS as the scale in the file says, scores from 0 to 1."""
    file, number = gdal.Open(layer.source()), layer.renderer().band()
    band = file.GetRasterBand(number)
    scale, offset = band.GetScale() or 1.0, band.GetOffset() or 0.0
    raw = band.ReadAsArray()
    low, high = (0, 1) if layer.source().endswith("_scores.tif") else (-np.inf, np.inf)
    valid = (raw != band.GetNoDataValue()) & np.isfinite(raw) & comparable(file, raw)
    for row, col in np.argwhere(valid)[:: max(1, int(valid.sum()) // 50)]:
        x, y = to_map(file, col + 0.5, row + 0.5)
        value, found = layer.dataProvider().sample(QgsPointXY(x, y), number)
        expected = raw[row, col] * scale + offset
        if not (found and abs(value - expected) < 1e-6 * max(1, abs(expected)) and low <= value <= high):
            report.check(False, f"{layer.name()!r} is {expected} at row {row}, column {col}", value)
            return
    report.check(True, f"{layer.name()!r} counts as the file's scale says")


NAME_BESIDE = {"class_code": ("class_name", "transition"), "map_code": ("map_class",)}
"""The columns of a class's code → those that may hold its name: in maps and differences, and in given polygons."""


def check_polygons(layer: QgsVectorLayer, rasters: list[QgsRasterLayer], project: QgsProject, report: Report) -> None:
    """Polygons carry the legend's names and colours, also when opened alone, and their areas are those that QGIS measures."""
    name = layer.name()
    by_code = layer.renderer().classAttribute()
    fields = layer.fields().names()
    by_name = next((field for field in NAME_BESIDE.get(by_code, ()) if field in fields), "")
    report.check(bool(by_name), f"{name!r} is drawn by a code that has its name beside it", f"{by_code} of {fields}")
    if not by_name:
        return
    report.check(layer.featureCount() > 0, f"{name!r} has features")
    categories = {str(c.value()): c for c in layer.renderer().categories()}
    palettes = [{str(int(entry.value)): entry for entry in raster.renderer().classes()} for raster in rasters]
    labels = {code: category.label() for code, category in categories.items() if code.isdigit()}
    palette = next((found for found in palettes if labels.items() <= {code: entry.label for code, entry in found.items()}.items()), {})
    report.check(bool(palette), f"{name!r} has the legend of a class raster", labels)
    ruler = QgsDistanceArea()
    ruler.setSourceCrs(layer.crs(), project.transformContext())
    ruler.setEllipsoid(project.ellipsoid())
    measured = stated = 0.0
    codes: dict[str, str] = {}
    for feature in layer.getFeatures():
        codes[str(feature[by_code])] = feature[by_name]
        if "area_m2" in fields:
            measured += ruler.measureArea(feature.geometry())
            stated += feature["area_m2"]
    if "area_m2" in fields:
        report.check(abs(measured / stated - 1) < 1e-3, f"{name!r} has the area that QGIS measures", f"{stated} m2, QGIS {measured} m2")
    for code, class_name in sorted(codes.items()):
        category = categories.get(code)
        report.check(
            category is not None and category.label() == class_name, f"{name!r} has a style for {class_name!r}", sorted(categories)
        )
        if category is not None and code in palette:
            same = category.symbol().color().getRgb()[:3] == palette[code].color.getRgb()[:3]
            same &= category.renderState() == (palette[code].color.alpha() > 0)
            report.check(same and palette[code].label == class_name, f"{class_name!r} looks the same as polygon and as pixel")
    alone = QgsVectorLayer(layer.source(), "alone")
    same = kind(alone) == "categorizedSymbol" and {str(c.value()) for c in alone.renderer().categories()} == set(categories)
    report.check(same, "the GeoPackage brings its style when it is opened alone", kind(alone))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as profile:
        os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
        os.environ.setdefault("XDG_RUNTIME_DIR", profile)
        os.environ["QGIS_CUSTOM_CONFIG_PATH"] = profile
        application = QgsApplication([], True)
        application.initQgis()
        status = main()
    sys.stdout.flush()
    os._exit(status)  # PyQGIS does not always survive its own end
