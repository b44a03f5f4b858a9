"""A folder like the one `geoseg predict` writes, small and made up, for QGIS to open."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import rasterio.features
import rasterio.shutil
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.enums import ColorInterp
from scipy.ndimage import gaussian_filter

from geoseg.ground import geodesic_area_m2
from geoseg.io.categories import write_categories
from geoseg.io.qgis import ProjectLayer, write_project, write_style
from geoseg.io.qgis_styles import classes_qml, polygons_qml
from geoseg.io.vectors import write_polygons
from geoseg.legend import Legend, LegendClass

LAND_AND_WATER = Legend((LegendClass(0, 0, "land", "#d8c9a3", background=True), LegendClass(1, 1, "water", "#2b6cb0")))
REASONS = Legend((LegendClass(0, 1, "observed", "#ffffff", background=True), LegendClass(1, 2, "no data", "#444444")), nodata=0)

WriteFolder = Callable[..., Path]


@pytest.fixture
def write_folder(tmp_path: Path) -> WriteFolder:
    """`write_folder(crs, transform, legend, name)` is the folder it wrote."""

    def write(
        crs: str, transform: rasterio.Affine, legend: Legend = LAND_AND_WATER, name: str = "scene", shape: tuple[int, int] = (90, 120)
    ) -> Path:
        folder = tmp_path / "written here"
        folder.mkdir()
        codes, score = made_up_map(legend, shape)
        write_map(folder, name, GeoBox(shape, transform, rasterio.CRS.from_user_input(crs).to_wkt()), legend, codes, score)
        return folder

    return write


def made_up_map(legend: Legend, shape: tuple[int, int]) -> tuple[NDArray[np.unsignedinteger], NDArray[np.float64]]:
    """(row, col) codes of smooth patches without data in one corner and a hole, and a score from 0 to 1."""
    noise = gaussian_filter(np.random.default_rng(7).normal(size=(len(legend), *shape)), (0, 6, 6))
    valid = np.add.outer(np.arange(shape[0]), np.arange(shape[1])) > 40
    valid[50:56, 70:80] = False
    return legend.to_codes(noise.argmax(axis=0), valid), (noise.max(axis=0) - noise.min()) / np.ptp(noise)


def write_map(
    folder: Path, name: str, geobox: GeoBox, legend: Legend, codes: NDArray[np.unsignedinteger], score: NDArray[np.float64]
) -> None:
    """Write the rasters, the polygons with their style inside, and the project."""
    classes, image, polygons = folder / f"{name}_classes.tif", folder / f"{name}_image.tif", folder / f"{name}.gpkg"
    reason, scores = folder / f"{name}_reason.tif", folder / f"{name}_scores.tif"
    quantity = folder / f"{name}_depth.tif"
    valid = codes != legend.nodata
    grid = {"crs": geobox.crs.to_wkt(), "transform": geobox.transform, "width": geobox.shape[1], "height": geobox.shape[0]}
    plane = {**grid, "driver": "GTiff", "count": 1, "dtype": "uint8"}
    with rasterio.open(classes, "w", **{**plane, "dtype": legend.dtype.name}, nodata=legend.nodata) as file:
        file.write(codes, 1)
        file.write_colormap(1, legend.colour_table())
    with rasterio.open(reason, "w", **plane, nodata=REASONS.nodata) as file:
        file.write(np.where(valid, 1, 2).astype(np.uint8), 1)
        file.write_colormap(1, REASONS.colour_table())
    with rasterio.open(scores, "w", **{**plane, "count": 2}, nodata=255) as file:
        file.write(np.where(valid, np.rint(np.stack([1 - score, score]) * 250), 255).astype(np.uint8))
        file.scales = [1 / 250, 1 / 250]
    write_picture(image, grid, np.stack([score * 200, 120 - score * 60, 40 + score * 80]).astype(np.uint8), valid)
    with rasterio.open(quantity, "w", **{**plane, "dtype": "float32"}, nodata=float("nan")) as file:
        file.write(np.where(valid, score * 40 - 5, np.nan).astype(np.float32), 1)
    frame = trace(codes, legend, geobox)
    write_polygons(polygons, frame, style_qml=polygons_qml(legend))
    write_categories(classes, legend)
    write_style(classes, classes_qml(legend))
    layers = [
        ProjectLayer("Polygons", polygons, "polygons", legend, group="Map"),
        ProjectLayer("Classes", classes, "classes", legend, group="Map"),
        ProjectLayer("Score", scores, "scores", visible=False, group="Scores", band=2),
        ProjectLayer("Depth (m)", quantity, "quantity", visible=False, group="Quantities"),
        ProjectLayer("Held out", polygons, "outlines", visible=False),
        ProjectLayer("Why not observed", reason, "reason", REASONS, visible=False),
        ProjectLayer("Imagery", image, "picture"),
    ]
    write_project(folder / f"{name}.qgz", layers, title=f"Map of {name}", crs=geobox.crs, extent=geobox.boundingbox)


def write_picture(path: Path, grid: dict[str, object], values: NDArray[np.uint8], valid: NDArray[np.bool_]) -> None:
    """(3, row, col) red, green, blue as a JPEG inside a COG, with a mask."""
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.MemoryFile() as memory:
        with memory.open(driver="GTiff", count=3, dtype="uint8", photometric="RGB", **grid) as file:
            file.write(values)
            file.write_mask(valid)
            file.colorinterp = [ColorInterp.red, ColorInterp.green, ColorInterp.blue]
        rasterio.shutil.copy(memory.name, path, driver="COG", compress="JPEG", quality=85)


def trace(codes: NDArray[np.unsignedinteger], legend: Legend, geobox: GeoBox) -> geopandas.GeoDataFrame:
    """Polygons of equal code, with the columns that geoseg writes."""
    shapes = rasterio.features.shapes(codes.astype(np.int32), mask=codes != legend.nodata, transform=geobox.transform)
    geometry, found = zip(*((shapely.geometry.shape(shape), int(code)) for shape, code in shapes), strict=True)
    names = dict(zip(legend.codes, legend.names, strict=True))
    columns = {"class_code": found, "class_name": [names[code] for code in found], "mean_score": 0.5}
    columns["area_m2"] = geodesic_area_m2(np.array(geometry), geobox.crs)
    return geopandas.GeoDataFrame(columns, geometry=list(geometry), crs=geobox.crs.to_wkt())
