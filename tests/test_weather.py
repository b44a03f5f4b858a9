"""Clouds and speckle on training patches: the laws that they follow, and nothing else changed."""

from __future__ import annotations

import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox

from geoseg.data.weather import Augment, Clouds, Speckle
from geoseg.raster import Raster
from geoseg.sensors import Band

GRID = GeoBox((128, 128), Affine(10, 0, 500_000, 0, -10, 5_000_000), "EPSG:32632")


def raster(*bands: Band, value: float = 0.2) -> Raster:
    values = np.full((len(bands), 128, 128), value, np.float32)
    valid = np.ones(values.shape, bool)
    valid[:, :8] = False
    values[~valid] = 0
    return Raster(values, valid, GRID, bands)


BLUE = Band("B02", "blue", unit="reflectance", wavelength_um=0.49)
SWIR = Band("B12", "swir22", unit="reflectance", wavelength_um=2.2)
HEIGHT = Band("height", "height", unit="m")


def radar(unit: str) -> Band:
    return Band("VV", "vv", unit=unit, kind="radar", convention="sigma0")


@pytest.mark.parametrize("looks", [1.0, 4.0, 16.0])
def test_speckle_has_mean_one_and_the_variance_of_its_looks(looks: float) -> None:
    scene = raster(radar("linear power"), value=1.0)
    made = Speckle(chance=1, looks=looks)(scene, np.random.default_rng(0)).values[scene.valid]
    assert made.mean() == pytest.approx(1, abs=0.03)
    assert made.var() == pytest.approx(1 / looks, rel=0.06)
    assert made.var() != pytest.approx(2 / looks, rel=0.2)


def test_speckle_is_the_same_in_decibels_and_in_amplitude() -> None:
    power = Speckle(chance=1)(raster(radar("linear power"), value=1.0), np.random.default_rng(1))
    decibels = Speckle(chance=1)(raster(radar("dB"), value=0.0), np.random.default_rng(1))
    amplitude = Speckle(chance=1)(raster(radar("amplitude"), value=1.0), np.random.default_rng(1))
    np.testing.assert_allclose(10 ** (decibels.values[power.valid] / 10), power.values[power.valid], rtol=1e-3)
    np.testing.assert_allclose(amplitude.values[power.valid] ** 2, power.values[power.valid], rtol=1e-3)


def test_clouds_brighten_shadows_darken_and_thick_ones_hide() -> None:
    scene = raster(BLUE, SWIR, HEIGHT)
    made = Clouds(chance=1, cover=0.5)(scene, np.random.default_rng(3))
    blue, swir = made.values[0][made.valid[0]], made.values[1][made.valid[1]]
    assert blue.max() > 0.21
    assert blue.min() < 0.19
    assert swir.min() < blue.min()  # blue sky lights the shadow
    assert blue.min() > 0
    hidden = scene.valid & ~made.valid
    assert 0 < hidden[0].mean() < 0.5
    assert np.array_equal(hidden[0], hidden[2])
    assert np.array_equal(made.values[2][made.valid[2]], scene.values[2][made.valid[2]])
    assert not (made.valid & ~scene.valid).any()
    assert (made.values[~made.valid] == 0).all()


@pytest.mark.parametrize("augment", [Augment(), Augment(clouds=Clouds(chance=0), speckle=Speckle(chance=0))])
def test_nothing_is_the_same_to_the_bit(augment: Augment) -> None:
    scene = raster(BLUE, radar("dB"))
    assert augment(scene, np.random.default_rng(0)) is scene


def test_one_generator_gives_one_sky() -> None:
    both = Augment(clouds=Clouds(chance=1), speckle=Speckle(chance=1))
    first, again, other = (both(raster(BLUE, radar("dB")), np.random.default_rng(seed)) for seed in (5, 5, 6))
    assert np.array_equal(first.values, again.values)
    assert not np.array_equal(first.values, other.values)
