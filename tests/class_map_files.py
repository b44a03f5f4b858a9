"""Small class maps and parcels for the tests of comparisons and zones."""

from __future__ import annotations

from pathlib import Path

import geopandas
import numpy as np
import rasterio
from affine import Affine

from geoseg.io.class_maps import class_profile, finish_class_map
from geoseg.io.cog import RowWriter
from geoseg.io.opening import file_geobox
from geoseg.legend import Legend

UTM = Affine(10, 0, 500_000, 0, -10, 5_000_000)
LAND_WATER = Legend.from_names(("land", "water"))
THREE = Legend.from_names(("land", "water", "forest"))


def plain(path: Path, values, *, transform=UTM, crs="EPSG:32632", **profile) -> Path:
    """A raster of these numbers (row, col) that says nothing of classes."""
    values = np.asarray(values)
    shape = {"count": 1, "height": values.shape[0], "width": values.shape[1], "dtype": values.dtype}
    with rasterio.open(path, "w", driver="GTiff", crs=crs, transform=transform, **{**shape, **profile}) as file:
        file.write(values, 1)
    return path


def class_map(path: Path, codes, legend: Legend = THREE, **profile) -> Path:
    """A class map as geoseg writes it: names, colours, style, nodata."""
    grid = file_geobox(str(plain(path.with_suffix(".grid.tif"), np.asarray(codes, np.uint8), **profile)))
    with RowWriter(path.with_suffix(".part.tif"), grid, **class_profile(legend)) as writer:
        writer.append(np.asarray(codes, legend.dtype)[np.newaxis])
    finish_class_map(path.with_suffix(".part.tif"), path, legend)
    for helper in (".grid.tif", ".part.tif"):
        path.with_suffix(helper).unlink()
    return path


def random_codes(seed: int, shape=(40, 50), share_missing: float = 0.1) -> np.ndarray:
    """Codes 0, 1, 2 at random, and 255 here and there."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 3, shape).astype(np.uint8)
    codes[rng.random(shape) < share_missing] = 255
    return codes


def polygons(path: Path, shapes, *, crs="EPSG:32632", **columns) -> Path:
    """A vector file of these shapes."""
    geopandas.GeoDataFrame(columns, geometry=list(shapes), crs=crs).to_file(path)
    return path
