"""The page on two UTM zones, run as it stands on two generated scenes with a lake across the border of the zones."""

from __future__ import annotations

import json
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
from affine import Affine
from how_to import run_page
from packages import threshold_package
from pyproj import Geod, Transformer

from geoseg.legend import Legend

LAKE = (12.0, 48.0)
"""Longitude and latitude of its middle, on the border of zones 32 and 33."""
RADIUS_M = 1500.0
BRIGHT, DARK = 150, 20


def write_scene(path: Path, zone: int, west_m: float, east_m: float) -> None:
    """Pixels of 20 m in a UTM zone, from so far west to so far east of the lake's middle; red is dark where the lake is."""
    crs = f"EPSG:326{zone}"
    x, y = Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(*LAKE)
    transform = Affine(20, 0, round((x - west_m) / 20) * 20, 0, -20, round((y + 2500) / 20) * 20)
    cols, rows = np.meshgrid(np.arange(int((west_m + east_m) / 20)) + 0.5, np.arange(250) + 0.5)
    lon, lat = Transformer.from_crs(crs, "EPSG:4326", always_xy=True).transform(transform.c + 20 * cols, transform.f - 20 * rows)
    _, _, away = Geod(ellps="WGS84").inv(lon, lat, np.full_like(lon, LAKE[0]), np.full_like(lat, LAKE[1]))
    profile = {"count": 1, "dtype": "uint8", "crs": crs, "transform": transform, "height": lon.shape[0], "width": lon.shape[1]}
    with rasterio.open(path, "w", driver="GTiff", **profile) as file:
        file.write(np.where(away < RADIUS_M, DARK, BRIGHT).astype("uint8"), 1)
        file.set_band_description(1, "red")


def test_two_scenes_in_two_zones_become_one_map(place: Path, geoseg, monkeypatch: pytest.MonkeyPatch) -> None:
    write_scene(place / "west.tif", 32, 4000, 800)
    write_scene(place / "east.tif", 33, 800, 4000)
    legend = Legend.from_names(["water", "land"])
    threshold_package(place / "landcover", legend=legend, pixel_size_m=20.0, pixel_size_range_m=(10.0, 40.0))
    run_page("two-utm-zones-one-map.md", place, geoseg, monkeypatch)

    summary = json.loads((place / "region" / "region.json").read_text(encoding="utf-8"))["properties"]["geoseg:run"]["summary"]
    water_m2 = {one["name"]: 1e6 * one["area_km2"] for one in summary["classes"]["classes"]}["water"]
    assert water_m2 == pytest.approx(np.pi * RADIUS_M**2, rel=2e-3)
    assert summary["rule"] == "score"
    assert summary["overlap"]["agreement"] > 0.98
    (lake,) = geopandas.read_file(place / "region" / "region.gpkg", layer="polygons").query("class_name == 'water'").itertuples()
    assert lake.area_m2 == pytest.approx(water_m2)
    with rasterio.open(place / "region_3035" / "region_3035_classes.tif") as file:
        assert file.crs.to_epsg() == 3035
