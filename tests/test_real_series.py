"""Composites and series of real stacks: a summer in Slovenia and a year in Belgium, against numpy and published indices."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import rasterio
from test_series import LEGEND, mean_ndvi_package

from geoseg.mapping.make_map import make_map
from geoseg.mapping.plan import MapOptions
from geoseg.preprocess.calendars import Calendar
from geoseg.preprocess.indices import spectral_index
from geoseg.scene import read_scene
from geoseg.scenes.open_scene import open_scene
from geoseg.stacks.composite import CompositeOptions, composite
from geoseg.stacks.series import open_series

CLOUD_MASK = {"count": 1, "dtype": "uint8", "nodata": None, "photometric": "minisblack"}


def test_a_summer_in_slovenia_agrees_with_the_published_ndvi(shared_data, tmp_path, geoseg):
    folder = shared_data("s2_timeseries_slovenia")
    published = np.load(folder / "ndvi_68dates.npz")
    days = [str(day)[:10] for day in published["dates"]]
    scenes = []
    for path in sorted(folder.glob("s2_l1c_*.tif")):
        at = days.index(path.stem[-10:])
        with rasterio.open(path) as file, rasterio.open(tmp_path / f"{days[at]}.tif", "w", **file.profile | CLOUD_MASK) as mask:
            mask.write(published["clm"][at][np.newaxis])
        scenes.append(open_scene(path, mask=tmp_path / f"{days[at]}.tif"))
    made = composite(scenes, tmp_path / "months")
    assert [one.period.name for one in made] == ["2015-07", "2015-08", "2015-09"]
    assert [one.summary["observations_mean"] for one in made] == [1, 1, 1]  # one date of July and one of August are all cloud
    clear = [published["ndvi"][days.index(day)] / 1e4 for day in ("2015-07-11", "2015-08-30", "2015-09-09")]
    for one, ndvi in zip(made, clear, strict=True):
        scene = open_scene(one.files["data"])
        np.testing.assert_allclose(spectral_index("NDVI", read_scene(scene, ["red", "nir"], scene.geobox())), ndvi, atol=1e-4)
    summer = Calendar(periods=(7, 8, 9))
    package = mean_ndvi_package(tmp_path / "summer", summer, threshold=0.7, sensors=("sentinel-2-l1c",))
    prediction = make_map(open_series(scenes, summer), package, tmp_path / "map", options=MapOptions(picture=False))
    with rasterio.open(prediction.files["classes"]) as file:
        green, mean = file.read(1) == LEGEND.classes[1].code, np.mean(clear, axis=0)
    np.testing.assert_array_equal(green[np.abs(mean - 0.7) > 1e-4], (mean > 0.7)[np.abs(mean - 0.7) > 1e-4])


def belgian_months(folder: Path, names: list[str], **opening):
    """The stored numbers (band, month, row, col) of these variables, and a scene for each month."""
    pytest.importorskip("netCDF4")
    pytest.importorskip("rioxarray")
    xarray = pytest.importorskip("xarray")
    with xarray.open_dataset(folder / "worldcereal_preprocessed_inputs.nc", mask_and_scale=False, engine="netcdf4") as stored:
        months = stored[names].to_dataarray("band").astype("uint16").assign_attrs(nodata=65535).rio.write_crs(32631)
    days = [datetime.fromisoformat(str(day)[:10]).replace(tzinfo=UTC) for day in months.t.values]
    scenes = [replace(open_scene(months.isel(t=at, drop=True), **opening), time=day) for at, day in enumerate(days)]
    return months.to_numpy(), scenes


def test_a_year_in_belgium_makes_one_map(shared_data, tmp_path):
    names = ["S2-L2A-B04", "S2-L2A-B08", "S2-L2A-B11"]
    stored, scenes = belgian_months(shared_data("s1s2_timeseries_belgium"), names, sensor="sentinel-2-l2a", scale=1e-4, offset=0)
    year = Calendar(periods=(11, 12, *range(1, 11)), tolerated_gap=2)
    series = open_series(scenes, year)
    assert series.name == "series_2020-11-01_2021-10-01"
    prediction = make_map(series, mean_ndvi_package(tmp_path / "year", year, threshold=0.5), tmp_path / "map")
    red, nir, there = stored[0] / 1e4, stored[1] / 1e4, (stored[:2] != 65535).all(axis=0)
    mean = (np.where(there, (nir - red) / (nir + red), 0)).sum(axis=0) / np.maximum(there.sum(axis=0), 1)
    sure = year.enough(there) & (np.abs(mean - 0.5) > 1e-4)
    with rasterio.open(prediction.files["classes"]) as file:
        np.testing.assert_array_equal((file.read(1) == LEGEND.classes[1].code)[sure], (mean > 0.5)[sure])


def test_a_belgian_winter_of_radar_is_averaged_in_power(shared_data, tmp_path):
    opening = {"sensor": "sentinel-1-grd", "unit": "amplitude", "scale": 10**-4.15, "convention": "sigma0"}
    stored, scenes = belgian_months(shared_data("s1s2_timeseries_belgium"), ["S1-SIGMA0-VV", "S1-SIGMA0-VH"], **opening)
    (winter,) = composite(scenes, tmp_path, options=CompositeOptions(period="2020-12/2021-02", method="mean"))
    power = (stored[0, 1:4] * 10**-4.15) ** 2
    there = (stored[:, 1:4] != 65535).all(axis=0)
    with rasterio.open(winter.files["data"]) as file:
        got, count = file.read(1), file.read(3)
    np.testing.assert_array_equal(count, there.sum(axis=0))
    np.testing.assert_allclose(got[count == 3], power.mean(axis=0)[count == 3], rtol=1e-5)
