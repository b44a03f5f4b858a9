"""xarray arrays, NetCDF and Zarr as scenes."""

from __future__ import annotations

import numpy as np
import pytest
import rioxarray
from odc.geo.geobox import GeoBox
from scene_files import stack
from xarray import DataArray

from geoseg.errors import SceneError
from geoseg.scene import read_scene
from geoseg.scenes.open_scene import open_scene

assert rioxarray  # gives arrays their .rio
GRID = GeoBox.from_bbox((500000, 4799600, 500400, 4800000), "EPSG:32630", resolution=10)


def array(values, labels=("red", "green", "nir"), **extra):
    """A DataArray (band, y, x) with these labels on the grid."""
    x, y = (GRID.coordinates[dim].values for dim in "xy")
    placed = DataArray(values, {"band": list(labels), "y": y, "x": x}, ("band", "y", "x"), attrs=extra)
    return placed.rio.write_crs(GRID.crs.to_wkt()).rio.write_transform(GRID.affine)


def test_an_array_is_read_as_it_is_on_its_own_grid():
    values = stack(3)
    values[1, :7] = 0
    scene = open_scene(array(values, nodata=0))
    raster = read_scene(scene, ["nir", "green"], scene.geobox())
    assert scene.geobox() == GRID
    assert np.array_equal(raster.values, values[[2, 1]])
    assert np.array_equal(raster.valid, values[[2, 1]] > 0)


def test_a_plane_a_transposed_array_and_a_dataset_are_scenes():
    whole = array(stack(3))
    assert open_scene(whole.isel(band=0, drop=True).rename("red")).roles == ("red",)
    turned = open_scene(whole.transpose("y", "x", "band"))
    assert np.array_equal(read_scene(turned, ["red"], GRID).values[0], whole.values[0])
    assert set(open_scene(whole.to_dataset("band")).roles) == {"red", "green", "nir"}


def test_nan_is_not_valid():
    values = stack(3).astype("float32")
    values[0, 3, 4] = np.nan
    valid = read_scene(open_scene(array(values)), ["red"], GRID).valid
    assert np.argwhere(~valid).tolist() == [[0, 3, 4]]


def test_sensor_and_names_count_for_arrays_too():
    scene = open_scene(array(stack(3), labels=[0, 1, 2]), sensor="sentinel-2-l2a", bands=["B04", "B08", "B11"])
    assert (scene.roles, scene.layer("red").band.scale) == (("red", "nir", "swir16"), 1e-4)


def test_several_dates_and_a_missing_place_are_refused():
    with pytest.raises(SceneError, match=r"time=3 .*\.isel\(time=0\)"):
        open_scene(array(stack(3)).rename(band="time"))
    with pytest.raises(SceneError, match="write_crs"):
        open_scene(DataArray(stack(3), dims=("band", "y", "x")))


@pytest.mark.parametrize("kind", ["nc", "zarr"])
def test_variables_of_a_file_are_bands(tmp_path, kind):
    dataset = array(stack(3)).to_dataset("band")
    path = tmp_path / f"scene.{kind}"
    if kind == "nc":
        pytest.importorskip("netCDF4", reason="NetCDF cannot be written here")
        dataset.to_netcdf(path)
    else:
        pytest.importorskip("zarr", reason="Zarr cannot be written here")
        dataset.to_zarr(path, zarr_format=2)
    scene = open_scene(path)
    assert set(scene.roles) == {"red", "green", "nir"}
    assert np.array_equal(read_scene(scene, ["nir"], GRID).values[0], dataset["nir"].values)


def test_a_file_of_many_dates_says_how_to_choose_one(shared_data):
    with pytest.raises(SceneError, match=r"12 planes along 't'.*isel\(t=0\)"):
        open_scene(shared_data("s1s2_timeseries_belgium") / "worldcereal_preprocessed_inputs.nc")


def test_files_that_hold_no_grid_or_do_not_exist_are_one_sentence(tmp_path):
    with pytest.raises(SceneError, match="no such file"):
        open_scene(tmp_path / "a.nc")
    (tmp_path / "b.nc").write_bytes(b"no NetCDF")
    with pytest.raises(SceneError, match="cannot be read as netCDF"):
        open_scene(tmp_path / "b.nc")
