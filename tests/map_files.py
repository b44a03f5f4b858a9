"""Small finished maps for the tests, as `geoseg predict` leaves them in a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import ArrayLike

from geoseg.io.categories import category_tags
from geoseg.io.score_files import SCORE_STEPS
from geoseg.io.stac import file_asset
from geoseg.legend import Legend

LEGEND = Legend.from_names(["water", "land", "ice"])
NODATA = LEGEND.nodata


def write_map(
    folder: Path,
    classes: ArrayLike,
    *,
    left: float = 500_000,
    top: float = 5_000_000,
    pixel: float = 10,
    crs: str = "EPSG:32632",
    legend: Legend = LEGEND,
    scores: ArrayLike | None = None,
    calibrated: bool = True,
    reason: ArrayLike | None = None,
    time: str | None = None,
    model: str = "model",
) -> Path:
    """The folder, named like its scene, with the class map (row, col), its Item and what else is given: scores (class, row, col), 0…1."""
    folder.mkdir(parents=True)
    planes = np.asarray(classes)
    place = {"crs": crs, "transform": Affine(pixel, 0, left, 0, -pixel, top), "height": planes.shape[0], "width": planes.shape[1]}

    def raster(kind: str, values: ArrayLike, nodata: int) -> Path:
        path, bands = folder / f"{folder.name}_{kind}.tif", np.asarray(values)
        bands = bands.reshape((-1, *planes.shape)).astype(legend.dtype if kind == "classes" else "uint8")
        with rasterio.open(path, "w", driver="GTiff", count=len(bands), dtype=bands.dtype, nodata=nodata, **place) as file:
            file.write(bands)
            if kind == "classes":
                file.update_tags(**category_tags(legend))
            if kind == "scores":
                file.descriptions = tuple(f"{'' if calibrated else 'uncalibrated '}score of {name}" for name in legend.names)
                file.scales = (1 / SCORE_STEPS,) * len(bands)
        return path

    files = {"classes": raster("classes", classes, legend.nodata)}
    if scores is not None:
        stored = np.rint(np.asarray(scores) * SCORE_STEPS)
        stored[:, planes == legend.nodata] = 255
        files["classes_scores"] = raster("scores", stored, 255)
    if reason is not None:
        files["reason"] = raster("reason", reason, 255)
    item: dict[str, Any] = {"type": "Feature", "id": folder.name, "assets": {}}
    item["properties"] = {
        "datetime": time or "2020-01-01T00:00:00Z",
        "geoseg:time_known": time is not None,
        "geoseg:model": {"name": model, "checksum": model},
        "geoseg:attribution": "Contains Copernicus data",
    }
    for what, path in files.items():
        of_map = {"roles": ["data"], "classes": legend.classes} if what == "classes" else {"roles": ["metadata"]}
        item["assets"][what] = file_asset(path, folder=folder, media_type="image/tiff", title=what, **of_map)
    (folder / f"{folder.name}.json").write_text(json.dumps(item))
    return folder


def read(path: Path) -> np.ndarray:
    """(row, col), or (band, row, col) where there are several."""
    with rasterio.open(path) as file:
        values = file.read()
    return values[0] if len(values) == 1 else values
