"""The page on floods, run as it stands on two products in the layout of the format."""

from __future__ import annotations

import csv
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
from how_to import run_page
from packages import threshold_package
from safe_files import Grd, write_safe

from geoseg.legend import Legend
from geoseg.preprocess.prepare import BandNeed, Channel, Preparation

LAND, WATER = 600, 60
"""Digital numbers."""
SHAPE = (90, 110)


def lay_out(folder: Path) -> None:
    """A river before; a river and a lake beside it after; a steep east, of which a part turned dark as well."""
    before = np.full(SHAPE, LAND)
    before[:, 20:30] = WATER
    after = before.copy()
    after[30:60, 30:60] = WATER
    after[10:20, 90:100] = WATER  # shadow on the slope
    for name, numbers in (("before", before), ("after", after)):
        grd = Grd(numbers={"vv": numbers, "vh": numbers // 2}, noise=lambda line, sample: 0 * sample + 9.0)
        product = write_safe(folder / name, grd, zipped=True)
        product.rename(folder / f"{name}.zip")
    preparation = Preparation(bands=(BandNeed(role="vv", unit="dB", convention="sigma0"),), channels=(Channel(name="vv"),))
    names = Legend.from_names(["water", "land"])
    threshold_package(folder / "radar_water", ["vv"], -5.0, legend=names, preparation=preparation, sensors=("sentinel-1-grd",))


def write_dem(folder: Path) -> None:
    """Flat in the west, a ramp of 45 degrees in the east."""
    with rasterio.open(next(folder.glob("before/*_classes.tif"))) as file:
        profile = {"crs": file.crs, "transform": file.transform, "height": file.height, "width": file.width}
    heights = np.broadcast_to(np.maximum(np.arange(profile["width"]) - 75, 0) * 10.0, (profile["height"], profile["width"]))
    with rasterio.open(folder / "dem.tif", "w", driver="GTiff", count=1, dtype="float32", **profile) as file:
        file.write(heights.astype(np.float32), 1)


def test_a_flood_from_two_products_as_downloaded(place: Path, geoseg, monkeypatch: pytest.MonkeyPatch) -> None:
    lay_out(place)

    def with_dem(*words):
        if words[0] == "diff":
            write_dem(place)
        return geoseg(*words)

    run_page("a-flood-from-radar.md", place, with_dem, monkeypatch)
    polygons = geopandas.read_file(next((place / "flood").glob("*.gpkg")), layer="polygons")
    assert len(polygons) == 1
    assert polygons.to_crs("EPSG:32632").area.sum() == pytest.approx(30 * 30 * 100, rel=0.03)
    matrix = {row[0]: row[1:] for row in csv.reader(next((place / "flood").glob("*.csv")).open())}
    assert any("water" in key for key in matrix)
