"""What QGIS shows of a raster, pixel by pixel, beside what the file holds. Imported by the scripts that QGIS's Python runs."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from osgeo import gdal
from qgis.core import QgsMapLayer, QgsMapRendererParallelJob, QgsMapSettings, QgsRasterLayer, QgsRectangle
from qgis.PyQt.QtCore import QSize
from qgis.PyQt.QtGui import QColor, QImage

WINDOW = 700
"""Side of the squares, in pixels, whose rendering is compared with the file."""
OVERSAMPLING = 3
"""Screen pixels along a pixel of a raster that QGIS has to turn or stretch."""
MOVED_BY = 2
"""Pixels by which turning may move what is shown: nearest neighbour twice, on the turned grid and on the screen."""


def kind(layer: QgsMapLayer) -> str:
    """QGIS's name for the way the layer is drawn."""
    return layer.renderer().type() if layer.renderer() else "nothing"


def category_names(band: gdal.Band) -> dict[int, str]:
    """Code → name from the file's attribute table; empty where it has none."""
    table = band.GetDefaultRAT()
    if table is None:
        return {}
    column = {table.GetNameOfCol(i): i for i in range(table.GetColumnCount())}
    rows = range(table.GetRowCount())
    return {table.GetValueAsInt(row, column["Value"]): table.GetValueAsString(row, column["Class"]) for row in rows}


def windows(file: gdal.Dataset) -> Iterator[tuple[int, int, int, int]]:
    """A square in the first corner and one in the middle (col, row, cols, rows); one where they would be the same."""
    cols, rows = min(WINDOW, file.RasterXSize), min(WINDOW, file.RasterYSize)
    yield 0, 0, cols, rows
    if file.RasterXSize > cols or file.RasterYSize > rows:
        yield (file.RasterXSize - cols) // 2, (file.RasterYSize - rows) // 2, cols, rows


def to_map(file: gdal.Dataset, col: float, row: float) -> tuple[float, float]:
    """Map coordinates of a place in the raster."""
    left, x_col, x_row, top, y_col, y_row = file.GetGeoTransform()
    return left + x_col * col + x_row * row, top + y_col * col + y_row * row


def pixel_size(file: gdal.Dataset) -> tuple[float, float]:
    """Length of a pixel's sides, along a row and along a column, in map units."""
    _, x_col, x_row, _, y_col, y_row = file.GetGeoTransform()
    return float(np.hypot(x_col, y_col)), float(np.hypot(x_row, y_row))


def is_resampled(file: gdal.Dataset) -> bool:
    """Whether one pixel cannot be one pixel of the screen: the raster is rotated, or its pixels are not square."""
    transform, (along_row, along_col) = file.GetGeoTransform(), pixel_size(file)
    return bool(transform[2] or transform[4]) or abs(along_row / along_col - 1) > 1e-6


def comparable(file: gdal.Dataset, values: np.ndarray) -> np.ndarray:
    """(row, col) True where QGIS must show this very pixel: everywhere, or amid equal ones where it turns or stretches the raster."""
    if not is_resampled(file):
        return np.ones(values.shape, bool)
    steps = range(-MOVED_BY, MOVED_BY + 1)
    neighbours = [np.roll(values, (down, right), (0, 1)) == values for down in steps for right in steps]
    inner = np.zeros(values.shape, bool)
    inside = (slice(MOVED_BY, -MOVED_BY), slice(MOVED_BY, -MOVED_BY))
    inner[inside] = np.all(neighbours, axis=0)[inside]
    return inner


def shown_pixels(layer: QgsRasterLayer, file: gdal.Dataset, window: tuple[int, int, int, int]) -> np.ndarray:
    """(row, col, 4) red, green, blue, alpha that QGIS shows at the middle of each pixel of the window (col, row, cols, rows)."""
    col, row, cols, rows = window
    x, y = to_map(file, *np.meshgrid(np.arange(col, col + cols) + 0.5, np.arange(row, row + rows) + 0.5))
    corners = np.array([to_map(file, c, r) for c in (col, col + cols) for r in (row, row + rows)])
    (left, bottom), (right, top) = corners.min(axis=0), corners.max(axis=0)
    step = min(pixel_size(file)) / (OVERSAMPLING if is_resampled(file) else 1)
    # QGIS widens an extent that has not the shape of the screen, so it is given one that has.
    width, height = round((right - left) / step), round((top - bottom) / step)
    image = render([layer], layer.crs(), QgsRectangle(left, top - height * step, left + width * step, top), width, height)
    screen_row, screen_col = ((top - y) / step).astype(int), ((x - left) / step).astype(int)
    return image[screen_row.clip(0, height - 1), screen_col.clip(0, width - 1)]


def render(layers: list[QgsMapLayer], crs: object, extent: QgsRectangle, width: int, height: int) -> np.ndarray:
    """(row, col, 4) red, green, blue, alpha of the layers on nothing, without antialiasing."""
    settings = QgsMapSettings()
    settings.setLayers(layers)
    settings.setDestinationCrs(crs)
    settings.setOutputSize(QSize(width, height))
    settings.setExtent(extent)
    settings.setBackgroundColor(QColor(0, 0, 0, 0))
    settings.setFlag(QgsMapSettings.Antialiasing, False)
    job = QgsMapRendererParallelJob(settings)
    job.start()
    job.waitForFinished()
    image = job.renderedImage().convertToFormat(QImage.Format_RGBA8888)
    pixels = np.frombuffer(image.bits().asstring(image.sizeInBytes()), dtype=np.uint8)
    return pixels.reshape(height, image.bytesPerLine() // 4, 4)[:, :width]
