"""A picture of a map as QGIS shows it: the imagery, the map over it, a title, a legend and a scale bar. Run by check_project.py."""

from __future__ import annotations

import math
from pathlib import Path

from qgis.core import (
    Qgis,
    QgsDistanceArea,
    QgsMapLayer,
    QgsMapRendererParallelJob,
    QgsMapSettings,
    QgsPointXY,
    QgsProject,
    QgsRasterLayer,
    QgsRectangle,
)
from qgis.PyQt.QtCore import QPointF, QRectF, QSize, Qt
from qgis.PyQt.QtGui import QColor, QFont, QFontMetrics, QImage, QPainter, QPen
from shown import kind

WIDTH = 1200
MARGIN = 28
GAP = 20
HEADER = 92
FOOTER = 90
INK, GREY, LINE, PAPER = QColor("#1f2933"), QColor("#66727f"), QColor("#c5ccd3"), QColor("#ffffff")
FAMILY = "DejaVu Sans"


def draw_map(project_path: Path, picture: Path, *, credit: str = "") -> None:
    """Draw the project, which needs a class map, to a PNG 1200 pixels wide: imagery on the left, all that is visible on the right."""
    project = QgsProject.instance()
    project.read(str(project_path))
    visible = project.layerTreeRoot().checkedLayers()
    imagery = [layer for layer in visible if kind(layer) == "multibandcolor"]
    classes = next(layer for layer in visible if kind(layer) == "paletted")
    panels = [(imagery[0].name(), imagery)] if imagery else []
    above = " and ".join(reversed([layer.name().lower() for layer in visible if layer not in imagery]))
    panels.append((f"{above} over the imagery".capitalize() if imagery else above.capitalize(), visible))

    whole = classes_extent(classes, project)
    panel_width = (WIDTH - 2 * MARGIN - GAP * (len(panels) - 1)) / len(panels)
    panel_height = round(panel_width * min(1.15, max(0.5, whole.height() / whole.width())))
    image = QImage(WIDTH, HEADER + panel_height + FOOTER, QImage.Format_RGB32)
    image.fill(PAPER)
    painter = QPainter(image)
    painter.setRenderHint(QPainter.Antialiasing)
    write(painter, QRectF(MARGIN, 16, WIDTH - 2 * MARGIN, 32), project.title(), 18, INK, bold=True)
    for number, (caption, layers) in enumerate(panels):
        place = QRectF(MARGIN + number * (panel_width + GAP), HEADER, panel_width, panel_height)
        settings = draw_panel(painter, place, caption, layers, whole, project)
    draw_scale_bar(painter, place, settings, project)
    draw_legend(painter, classes, areas_km2(project), HEADER + panel_height + 26)
    draw_footer(painter, project, classes, credit, image.height() - 30)
    painter.end()
    picture.parent.mkdir(parents=True, exist_ok=True)
    if not image.save(str(picture)):
        raise OSError(f"{picture} could not be written")


def classes_extent(classes: QgsRasterLayer, project: QgsProject) -> QgsRectangle:
    """What the class map covers, in the project's CRS."""
    settings = QgsMapSettings()
    settings.setDestinationCrs(project.crs())
    return settings.layerExtentToOutputExtent(classes, classes.extent())


def draw_footer(painter: QPainter, project: QgsProject, classes: QgsRasterLayer, credit: str, top: float) -> None:
    """On the right what the map is drawn on, on the left who drew it and from whose data."""
    crs = project.crs()
    named = f"{crs.description()} ({crs.authid()})" if crs.authid() else crs.description() or "CRS without a code"
    grid = f"{named}  ·  {classes.width()} × {classes.height()} pixels"
    said = f"Opened and drawn by QGIS {Qgis.QGIS_VERSION.split('-')[0]}" + (f"  ·  {credit}" if credit else "")
    taken = QFontMetrics(font(9)).horizontalAdvance(grid) + GAP
    write(painter, QRectF(MARGIN, top, WIDTH - 2 * MARGIN, 18), grid, 9, GREY, right=True)
    write(painter, QRectF(MARGIN, top, WIDTH - 2 * MARGIN - taken, 18), said, 9, GREY)


def draw_panel(
    painter: QPainter, place: QRectF, caption: str, layers: list[QgsMapLayer], extent: QgsRectangle, project: QgsProject
) -> QgsMapSettings:
    """One map with its caption above; gives the settings it was drawn with."""
    write(painter, QRectF(place.left(), place.top() - 30, place.width(), 22), caption, 11, INK)
    settings = QgsMapSettings()
    settings.setLayers(layers)
    settings.setDestinationCrs(project.crs())
    settings.setTransformContext(project.transformContext())
    settings.setOutputSize(QSize(int(place.width()), int(place.height())))
    settings.setOutputDpi(96)
    settings.setExtent(extent)
    settings.setBackgroundColor(QColor("#f3f4f6"))
    job = QgsMapRendererParallelJob(settings)
    job.start()
    job.waitForFinished()
    painter.drawImage(place.topLeft(), job.renderedImage())
    painter.setPen(QPen(LINE, 1))
    painter.setBrush(Qt.NoBrush)
    painter.drawRect(place)
    return settings


def draw_scale_bar(painter: QPainter, place: QRectF, settings: QgsMapSettings, project: QgsProject) -> None:
    """A bar of a round length on the ground, in the panel's lower right corner."""
    ruler = QgsDistanceArea()
    ruler.setSourceCrs(project.crs(), project.transformContext())
    ruler.setEllipsoid(project.ellipsoid())
    seen = settings.visibleExtent()
    middle = seen.center().y()
    metres = ruler.convertLengthMeasurement(ruler.measureLine(QgsPointXY(seen.xMinimum(), middle), QgsPointXY(seen.xMaximum(), middle)), 0)
    longest = metres / 3
    unit = 10 ** math.floor(math.log10(longest))
    length = max(step * unit for step in (1, 2, 5) if step * unit <= longest)
    bar = place.width() * length / metres
    text = f"{length / 1000:g} km" if length >= 1000 else f"{length:g} m"
    box = QRectF(place.right() - bar - 36, place.bottom() - 50, bar + 24, 38)
    painter.setPen(Qt.NoPen)
    painter.setBrush(QColor(255, 255, 255, 215))
    painter.drawRoundedRect(box, 4, 4)
    write(painter, QRectF(box.left(), box.top() + 3, box.width(), 18), text, 9, INK, centre=True)
    painter.setPen(QPen(INK, 2))
    left, right, base = box.left() + 12, box.right() - 12, box.bottom() - 9
    painter.drawPolyline(QPointF(left, base - 5), QPointF(left, base), QPointF(right, base), QPointF(right, base - 5))


def areas_km2(project: QgsProject) -> dict[int, float]:
    """Class code → area on the ground, from the polygons; empty where there are none."""
    areas: dict[int, float] = {}
    for layer in project.mapLayers().values():
        if kind(layer) == "categorizedSymbol":
            for feature in layer.getFeatures():
                areas[feature["class_code"]] = areas.get(feature["class_code"], 0.0) + feature["area_m2"] / 1e6
    return areas


def draw_legend(painter: QPainter, classes: QgsRasterLayer, areas: dict[int, float], top: float) -> None:
    """A swatch, a name and the area of each class, as many as fit into the line."""
    x = float(MARGIN)
    for entry in classes.renderer().classes():
        hidden = entry.color.alpha() == 0
        area = areas.get(int(entry.value))
        measured = "" if area is None else f"  {area:.3g} km²" if area < 100 else f"  {area:,.0f} km²"
        label = f"{entry.label}{measured}{' (not drawn)' if hidden else ''}"
        width = QFontMetrics(font(11)).horizontalAdvance(label)
        if x + 30 + width > WIDTH - MARGIN:
            write(painter, QRectF(x, top - 4, 20, 24), "…", 11, GREY)
            return
        painter.setPen(QPen(GREY, 1, Qt.DashLine) if hidden else QPen(entry.color.darker(150), 1))
        painter.setBrush(Qt.NoBrush if hidden else entry.color)
        painter.drawRoundedRect(QRectF(x, top, 22, 16), 2, 2)
        write(painter, QRectF(x + 30, top - 4, width + 8, 24), label, 11, GREY if hidden else INK)
        x += 30 + width + 28


def font(points: int, *, bold: bool = False) -> QFont:
    """The picture's one typeface."""
    return QFont(FAMILY, points, QFont.Bold if bold else QFont.Normal)


def write(
    painter: QPainter,
    place: QRectF,
    text: str,
    points: int,
    colour: QColor,
    *,
    bold: bool = False,
    right: bool = False,
    centre: bool = False,
) -> None:
    """One line of text, shortened with an ellipsis where it does not fit."""
    painter.setFont(font(points, bold=bold))
    painter.setPen(colour)
    across = Qt.AlignRight if right else Qt.AlignHCenter if centre else Qt.AlignLeft
    shortened = painter.fontMetrics().elidedText(text, Qt.ElideRight, int(place.width()))
    painter.drawText(place, across | Qt.AlignVCenter, shortened)
