"""`geoseg.predict` writes what the command writes, and its result opens in the tools of others."""

from __future__ import annotations

import json
from pathlib import Path

import command_line
import numpy as np
import pytest
from scene_files import write

import geoseg as package_geoseg
from geoseg.errors import InputError


def test_it_writes_the_files_of_the_command(place: Path, geoseg) -> None:
    assert geoseg("predict", "scene.tif", "--sensor", "generic", "--model", "model", "-o", "by_command").code == 0
    made = package_geoseg.predict("scene.tif", "model", "by_python", sensor="generic")
    names = {path.name for path in (place / "by_command").iterdir()}
    assert names == {path.name for path in (place / "by_python").iterdir()}
    for name in names - {"scene.json"}:
        assert (place / "by_command" / name).read_bytes() == (place / "by_python" / name).read_bytes(), name
    assert made.files["classes"].name in names


def test_its_map_is_that_of_the_array_with_the_same_legend(place: Path) -> None:
    rioxarray = pytest.importorskip("rioxarray")
    made = package_geoseg.predict("scene.tif", "model", "out").to_xarray()
    ours = rioxarray.open_rasterio("scene.tif").assign_coords(band=["red"]).geoseg.predict("model")
    np.testing.assert_array_equal(made, ours)
    assert made.geoseg.classes == ours.geoseg.classes
    assert made.rio.transform() == ours.rio.transform()
    assert made.geoseg.evaluate(ours).accuracy == 1


def test_its_polygons_cover_its_map_and_its_item_names_its_files(place: Path) -> None:
    made = package_geoseg.predict("scene.tif", "model", "out")
    assert made.to_geopandas().geometry.area.sum() == pytest.approx(600 * 600)
    pytest.importorskip("pystac", reason="the extra dev brings it")
    item = made.to_stac()
    assert item.id == json.loads(made.files["item"].read_text(encoding="utf-8"))["id"]
    assert all(Path(asset.href).is_file() for asset in item.assets.values())


def test_what_it_does_not_have_is_named(place: Path) -> None:
    made = package_geoseg.predict("scene.tif", "model", "out")
    with pytest.raises(InputError, match="no 'entropy'; it has classes"):
        made.to_xarray("entropy")
    with pytest.raises(InputError, match="bands was given with a Scene"):
        package_geoseg.predict(package_geoseg.open_scene("scene.tif"), "model", "other", bands=["red"])


def test_the_map_of_another_mask_can_be_made_again(place: Path, geoseg) -> None:
    command_line.write(place / "mask.tif", roles=("anything",))
    made = package_geoseg.predict("scene.tif", "model", "out", mask="mask.tif", mask_values=">100")
    assert 0.3 < made.summary["observed_share"] < 0.7
    ran = geoseg("predict", "--again", place / "out" / "scene.json", "-o", "again")
    assert ran.code == 0, ran.err
    assert "byte for byte" in ran.err


ROLES = ("blue", "green", "red", "nir", "swir16", "swir22")


def same_in_arrays_and_files(path: Path, bands: list[str]) -> None:
    """The shipped model gives the file, its array and its dask array the same pixels, with something of both classes."""
    rioxarray = pytest.importorskip("rioxarray")
    pytest.importorskip("dask.array")
    words = {"sensor": "sentinel-2-l1c", "bands": bands}
    theirs = package_geoseg.predict(path, package_geoseg.DEFAULT_PACKAGE, path.parent / "by_file", **words).to_xarray()
    assert {0, 1} <= set(np.unique(theirs))
    for chunks in (None, {"y": 130, "x": 70}):
        array = rioxarray.open_rasterio(path, chunks=chunks)
        ours = array.geoseg.predict(package_geoseg.DEFAULT_PACKAGE, **words)
        assert (ours.chunks is None) == (chunks is None)
        np.testing.assert_array_equal(ours, theirs)


def test_the_shipped_model_gives_arrays_and_files_the_same_pixels(place: Path) -> None:
    water, land = ([1100, 900, 600, 300, 60, 40], [1000, 900, 700, 3200, 1800, 900])
    wet = np.hypot(*np.mgrid[-150:150, -140:140]) < 90
    values = np.where(wet, np.reshape(water, (6, 1, 1)), np.reshape(land, (6, 1, 1)))
    values = values * np.random.default_rng(2).uniform(0.9, 1.1, values.shape)
    values[:, 200:220, :40] = 0
    same_in_arrays_and_files(write(place / "lake.tif", values.astype("uint16"), nodata=0), list(ROLES))


def test_so_it_does_on_a_real_scene(place: Path, shared_data) -> None:
    source = shared_data("s1s2_flood_spain")
    bands = ["blue=2", "green=3", "red=4", "nir=8", "swir16=12", "swir22=13"]
    path = place / "flood.tif"
    path.write_bytes((source / "Spain_7370579_S2Hand.tif").read_bytes())
    same_in_arrays_and_files(path, bands)
