"""A scene that does not fit a model is refused or warned of, with the figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from packages import constant_package, preparation_for

from geoseg.errors import BandError, PackageError
from geoseg.models.fit import averaged_pixel_size_m, check_fit
from geoseg.models.package import ModelPackage
from geoseg.preprocess.prepare import BandNeed, Channel, Preparation
from geoseg.scene import Scene
from geoseg.scenes.open_scene import open_scene

ROLES = ("red", "nir")


def scene(folder: Path, values: np.ndarray, *, crs: str = "EPSG:32630", pixel: float = 10.0, y: float = 5_800_000, **options: Any) -> Scene:
    """A GeoTIFF with one band for each plane of `values`, described by ROLES unless `bands` names them."""
    path = folder / "scene.tif"
    profile = {"driver": "GTiff", "count": len(values), "height": values.shape[1], "width": values.shape[2], "dtype": values.dtype}
    with rasterio.open(path, "w", crs=crs, transform=Affine(pixel, 0, 300_000, 0, -pixel, y), **profile) as dataset:
        dataset.write(values)
        dataset.descriptions = ROLES[: len(values)]
    return open_scene(path, **options)


def reflectance(folder: Path, values: np.ndarray, **options: Any) -> Scene:
    return scene(folder, values, sensor="sentinel-2-l2a", bands=("B04", "B08"), **options)


def package(folder: Path, *, mean: float = 0.2, std: float = 0.05, **changes: Any) -> ModelPackage:
    bands = tuple(BandNeed(role=role, unit="reflectance") for role in ROLES)
    preparation = Preparation(bands=bands, channels=tuple(Channel(name=role, mean=mean, std=std) for role in ROLES))
    return constant_package(folder / "model", ROLES, 0, 2, **{"preparation": preparation, "sensors": ("sentinel-2-l2a",), **changes})


def numbers(low: int, high: int) -> np.ndarray:
    return np.random.default_rng(1).integers(low, high, size=(2, 40, 50)).astype(np.uint16)


def fit(model: ModelPackage, given: Scene) -> list[str]:
    return check_fit(model, given, geobox=given.geobox(ROLES))


def test_scene_like_the_training_data_fits_without_a_word(tmp_path: Path) -> None:
    assert fit(package(tmp_path), reflectance(tmp_path, numbers(2800, 3200), scale=1e-4, offset=-0.1)) == []


def test_missing_band_is_named_with_those_that_are_there(tmp_path: Path) -> None:
    model = constant_package(tmp_path / "model", ["red", "swir16", "vv"], 0, 2)
    with pytest.raises(BandError, match=r"needs red, swir16, vv; .* has red, nir, so swir16, vv is missing") as caught:
        fit(model, scene(tmp_path, numbers(1, 9)))
    assert caught.value.exit_code == 2


def test_other_unit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BandError, match="expected reflectance"):
        fit(package(tmp_path), scene(tmp_path, numbers(1, 255)))


def radar(folder: Path, **options: Any) -> Scene:
    return scene(folder, np.full((1, 40, 50), -12, dtype=np.float32), bands=("vv",), unit="dB", **options)


def test_other_radar_convention_is_refused(tmp_path: Path) -> None:
    model = constant_package(tmp_path / "model", ["vv"], 0, 2, preparation=preparation_for(["vv"]))
    given = radar(tmp_path, convention="sigma0")
    with pytest.raises(BandError, match="sigma0; expected gamma0_rtc"):
        check_fit(model, given, geobox=given.geobox(["vv"]))


def test_unknown_radar_convention_is_warned_of(tmp_path: Path) -> None:
    model = constant_package(tmp_path / "model", ["vv"], 0, 2, preparation=preparation_for(["vv"]), sensors=("generic",))
    given = radar(tmp_path)
    assert ["gamma0_rtc" in said for said in check_fit(model, given, geobox=given.geobox(["vv"]))] == [True]


def test_coarser_pixels_are_refused_with_both_sizes(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match=r"30 m on the ground; .* takes 5 to 20 m"):
        fit(package(tmp_path), reflectance(tmp_path, numbers(2800, 3200), pixel=30))


def test_finer_pixels_are_averaged_and_the_user_is_told(tmp_path: Path) -> None:
    given = reflectance(tmp_path, numbers(2800, 3200), pixel=2, scale=1e-4, offset=-0.1)
    warnings = fit(package(tmp_path), given)
    assert len(warnings) == 1
    assert "averaged to 10 m" in warnings[0]
    assert averaged_pixel_size_m(package(tmp_path / "again"), given.geobox(ROLES)) == 10


def test_pixel_size_is_measured_on_the_ground(tmp_path: Path) -> None:
    """In EPSG:3857 at 60° N a pixel of 30 units is 15 m on the ground, which the model takes."""
    y = 8_399_738  # 60° N
    given = reflectance(tmp_path, numbers(2800, 3200), crs="EPSG:3857", pixel=30, y=y, scale=1e-4, offset=-0.1)
    assert fit(package(tmp_path), given) == []


def test_values_unlike_the_training_data_are_warned_of_with_the_figures(tmp_path: Path) -> None:
    given = reflectance(tmp_path, numbers(5500, 5501), scale=1e-4, offset=0)
    warnings = fit(package(tmp_path), given)
    assert len(warnings) == len(ROLES)
    assert "median of red is 0.55" in warnings[0]
    assert "0.2 ± 0.05 (7.0 standard deviations away)" in warnings[0]


def test_values_that_cannot_be_meant_are_refused_with_the_likely_reason(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match="still have to be scaled"):
        fit(package(tmp_path), reflectance(tmp_path, numbers(2800, 3200), scale=1, offset=0))


def test_negative_reflectance_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match=r"negative.*offset"):
        fit(package(tmp_path, std=1.0), reflectance(tmp_path, numbers(500, 700), scale=1e-4, offset=-0.1))


def test_statistics_that_are_not_stored_are_not_compared(tmp_path: Path) -> None:
    assert fit(package(tmp_path, mean=0.0, std=1.0), reflectance(tmp_path, numbers(60000, 65000), scale=1e-2, offset=0)) == []


def test_invalid_pixels_do_not_count_among_the_values(tmp_path: Path) -> None:
    values = numbers(2800, 3200)
    values[:, :35] = 0
    assert fit(package(tmp_path), reflectance(tmp_path, values, scale=1e-4, offset=-0.1)) == []


def test_sensor_without_validation_is_warned_of(tmp_path: Path) -> None:
    model = package(tmp_path, sensors=("sentinel-2-l1c",))
    warnings = fit(model, reflectance(tmp_path, numbers(2800, 3200), scale=1e-4, offset=-0.1))
    assert len(warnings) == 1
    assert "not validated on Sentinel-2 Level-2A" in warnings[0]
    assert "only on Sentinel-2 Level-1C" in warnings[0]
