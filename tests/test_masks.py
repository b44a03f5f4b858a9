"""Masks from elsewhere: what they mask, on whatever grid they lie, and what is said of those whose meaning is unclear."""

from __future__ import annotations

from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
from affine import Affine
from command_line import UTM, write
from numpy.typing import ArrayLike
from shapely.geometry import box

from geoseg.errors import InputError, SceneError
from geoseg.io.categories import category_tags
from geoseg.layers.masks import mask_roles, scene_reasons
from geoseg.legend import Legend
from geoseg.preprocess.quality import Reason
from geoseg.scene import read_scene
from geoseg.scenes.open_scene import open_scene

SIDE = 60


def write_mask(path: Path, values: ArrayLike, *, legend: Legend | None = None, **profile) -> Path:
    """A raster of one band, on the scene's grid unless `profile` says otherwise."""
    plane = np.asarray(values)
    grid = {"crs": "EPSG:32632", "transform": UTM, "height": plane.shape[0], "width": plane.shape[1]}
    with rasterio.open(path, "w", driver="GTiff", count=1, dtype=plane.dtype, **{**grid, **profile}) as file:
        file.write(plane, 1)
        if legend is not None:
            file.update_tags(**category_tags(legend))
    return path


def half(dtype: str = "uint8", masked: float = 1, clear: float = 0) -> np.ndarray:
    """Masked in the left half."""
    plane = np.full((SIDE, SIDE), clear, dtype)
    plane[:, : SIDE // 2] = masked
    return plane


def reasons(folder: Path, mask: Path, **options) -> np.ndarray:
    scene = open_scene(folder / "scene.tif", mask=mask, **options)
    return scene_reasons(read_scene(scene, [*mask_roles(scene), "red"], scene.geobox()), scene)


def test_what_is_not_zero_is_masked_and_the_rest_is_not(place: Path) -> None:
    found = reasons(place, write_mask(place / "clouds.tif", half(masked=255)))
    assert (found[:, :30] == Reason.CLOUD).all()
    assert (found[:, 30:] == Reason.OBSERVED).all()


def test_zero_declared_as_nodata_is_still_clear_ground(place: Path) -> None:
    found = reasons(place, write_mask(place / "clouds.tif", half(), nodata=0))
    assert (found[:, 30:] == Reason.OBSERVED).all()


def test_class_names_say_what_masks(place: Path) -> None:
    legend = Legend.from_names(["cloud free", "thick cloud", "cloud shadow", "cirrus", "water"])
    codes = np.tile(np.arange(SIDE, dtype="uint8") // 12, (SIDE, 1))
    found = reasons(place, write_mask(place / "clouds.tif", codes, legend=legend))
    expected = [Reason.OBSERVED, Reason.CLOUD, Reason.CLOUD_SHADOW, Reason.CIRRUS, Reason.OBSERVED]
    assert found[0, 6::12].tolist() == expected


@pytest.mark.parametrize(("values", "masked"), [("3,8", {3, 8}), ("8", {8}), (">3", {8, 11}), (">=3", {3, 8, 11}), ("<3", {0})])
def test_values_name_what_masks(place: Path, values: str, masked: set[int]) -> None:
    codes = np.tile(np.repeat([0, 3, 8, 11], 15).astype("int16"), (SIDE, 1))
    found = reasons(place, write_mask(place / "scl.tif", codes), mask_values=values)
    assert {int(code) for code in codes[found == Reason.CLOUD]} == masked


def test_a_mask_in_another_crs_lies_where_it_belongs(place: Path) -> None:
    fine = write_mask(place / "fine.tif", half())
    with rasterio.open(fine) as file:
        from rasterio.warp import calculate_default_transform, reproject

        transform, width, height = calculate_default_transform(file.crs, "EPSG:4326", SIDE, SIDE, *file.bounds, resolution=2e-5)
        moved = np.full((height, width), 255, np.uint8)
        reproject(file.read(1), moved, src_transform=file.transform, src_crs=file.crs, dst_transform=transform, dst_crs="EPSG:4326",
                  init_dest_nodata=False)  # fmt: skip
    other = write_mask(place / "other.tif", moved, crs="EPSG:4326", transform=transform, nodata=255)
    assert (reasons(place, other) == reasons(place, fine)).mean() > 0.98


def test_ground_beside_the_mask_is_not_called_observed(place: Path) -> None:
    part = write_mask(place / "part.tif", np.zeros((SIDE, 20), np.uint8))
    scene = open_scene(place / "scene.tif", mask=part)
    assert (reasons(place, part)[:, 20:] == Reason.NO_DATA).all()
    assert "covers 33 % of the scene" in scene.warnings[-1]


def test_polygons_mask_what_lies_inside(place: Path) -> None:
    left = box(UTM.c, UTM.f - 600, UTM.c + 300, UTM.f)
    geopandas.GeoDataFrame(geometry=[left], crs="EPSG:32632").to_crs("EPSG:4326").to_file(place / "clouds.gpkg")
    found = reasons(place, place / "clouds.gpkg")
    assert (found[:, :29] == Reason.CLOUD).all()
    assert (found[:, 31:] == Reason.OBSERVED).all()


def test_the_map_has_no_class_under_the_mask_and_is_made_again_the_same(place: Path, geoseg) -> None:
    write_mask(place / "clouds.tif", half())
    assert geoseg("predict", "scene.tif", "--model", "model", "--mask", "clouds.tif", "-o", "out").code == 0
    with rasterio.open("out/scene_classes.tif") as classes, rasterio.open("out/scene_reason.tif") as reason:
        assert (classes.read(1)[:, :30] == classes.nodata).all()
        assert (classes.read(1)[:, 30:] != classes.nodata).all()
        assert (reason.read(1)[:, :30] == Reason.CLOUD).all()
    assert geoseg("predict", "--again", "out/scene.json", "-o", "again").code == 0
    write_mask(place / "clouds.tif", half(clear=1))
    assert "clouds.tif" in geoseg("predict", "--again", "out/scene.json", "-o", "third").err


@pytest.mark.parametrize(
    ("mask", "options", "said"),
    [
        ("scl.tif", {}, "does not say which of them mask"),
        ("scl.tif", {"mask_values": "cloud"}, "expected numbers such as 3,8,9"),
        ("areas.gpkg", {"mask_values": "1"}, "for rasters"),
        ("none.gpkg", {}, "no such file"),
        ("none.tif", {}, "no such file"),
        ("far.tif", {}, "does not lie on"),
        (None, {"mask_values": "1"}, "without --mask"),
    ],
)
def test_an_unclear_mask_is_one_sentence(place: Path, mask: str | None, options: dict[str, str], said: str) -> None:
    write_mask(place / "scl.tif", np.arange(SIDE * SIDE, dtype="uint16").reshape(SIDE, SIDE) % 12)
    write_mask(place / "far.tif", half(), transform=UTM @ Affine.translation(10_000, 0))
    geopandas.GeoDataFrame(geometry=[box(0, 0, 1, 1)], crs="EPSG:4326").to_file(place / "areas.gpkg")
    with pytest.raises((InputError, SceneError), match=said):
        open_scene(write(place / "scene.tif"), mask=mask and place / mask, **options)
