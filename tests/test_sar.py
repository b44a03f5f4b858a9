"""Decibels and speckle filters: their laws, and a brute-force twin."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from geoseg.preprocess.sar import SpeckleFilter, despeckle, to_decibels, to_power

LOOKS = 4.0
METHODS: tuple[SpeckleFilter, ...] = ("boxcar", "lee")


def speckled(shape: tuple[int, int], mean: float = 0.05, seed: int = 0) -> NDArray[np.float32]:
    noise = np.random.default_rng(seed).gamma(LOOKS, 1 / LOOKS, shape)
    return (mean * noise).astype(np.float32)


def everywhere(power: NDArray[np.float32]) -> NDArray[np.bool_]:
    return np.ones(power.shape, dtype=bool)


def brute_force(power: NDArray[np.float32], valid: NDArray[np.bool_], method: str, size: int) -> NDArray[np.float64]:
    """Lee (1980) pixel by pixel: z = x n with E[n] = 1, var[n] = 1 / looks; x = m + k (z - m)."""
    out = np.zeros(power.shape)
    half, noise = size // 2, 1 / LOOKS
    for row, col in zip(*np.nonzero(valid), strict=True):
        window = np.s_[max(row - half, 0) : row + half + 1, max(col - half, 0) : col + half + 1]
        seen = power[window][valid[window]].astype(np.float64)
        mean = seen.mean()
        ground = max((seen.var() + mean**2) / (noise + 1) - mean**2, 0.0)
        gain = ground / (mean**2 * noise + ground) if method == "lee" else 0.0
        out[row, col] = mean + gain * (float(power[row, col]) - mean)
    return out


def test_decibels_and_power_are_each_others_inverse() -> None:
    power = np.array([1e-5, 0.01, 1.0, 250.0], dtype=np.float32)
    assert to_decibels(power).tolist() == pytest.approx([-50, -20, 0, 23.9794], abs=1e-4)
    assert np.allclose(to_power(to_decibels(power)), power, rtol=1e-5)


def test_power_below_the_floor_is_the_floor() -> None:
    assert to_decibels(np.array([0, -0.3, 1e-9], dtype=np.float32), 1e-4).tolist() == pytest.approx([-40, -40, -40], abs=1e-4)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", [3, 5, 9])
def test_filters_equal_brute_force_at_edges_and_gaps(method: SpeckleFilter, size: int) -> None:
    power = speckled((23, 17))
    power[:, 9:] *= 20
    valid = np.random.default_rng(1).random(power.shape) > 0.3
    assert np.allclose(despeckle(power, valid, method, size=size, looks=LOOKS), brute_force(power, valid, method, size), rtol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_the_mean_over_homogeneous_ground_is_kept(method: SpeckleFilter) -> None:
    power = speckled((400, 400))
    filtered = despeckle(power, everywhere(power), method, size=7, looks=LOOKS)
    assert filtered.mean(dtype=np.float64) == pytest.approx(power.mean(dtype=np.float64), rel=0.02)
    assert filtered.std() < 0.5 * power.std()


def test_a_filter_in_decibels_would_lose_the_mean() -> None:
    power = speckled((200, 200))
    wrong = to_power(despeckle(to_decibels(power), everywhere(power), "boxcar"))
    assert wrong.mean() < 0.95 * power.mean()


def test_lee_keeps_an_edge_that_boxcar_smears() -> None:
    power = speckled((60, 60))
    power[:, 30:] *= 100
    smeared, kept = (despeckle(power, everywhere(power), method, size=7, looks=LOOKS) for method in METHODS)
    last_dark = np.s_[:, 29]
    assert smeared[last_dark].mean() > 20 * power[:, :25].mean()
    assert kept[last_dark].mean() < 0.4 * smeared[last_dark].mean()


@pytest.mark.parametrize("method", METHODS)
def test_constant_ground_stays_as_it_is(method: SpeckleFilter) -> None:
    power = np.full((12, 12), 0.3, dtype=np.float32)
    assert np.allclose(despeckle(power, everywhere(power), method), 0.3, rtol=1e-6)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("garbage", [np.nan, np.inf, -3.4e38])
def test_invalid_pixels_change_nothing(method: SpeckleFilter, garbage: float) -> None:
    power, valid = speckled((30, 30)), np.ones((30, 30), dtype=bool)
    valid[10:14, 5:9] = False
    clean = despeckle(power, valid, method)
    power[~valid] = garbage
    dirty = despeckle(power, valid, method)
    assert np.array_equal(clean, dirty)
    assert (dirty[~valid] == 0).all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", [3, 7])
def test_a_tile_with_its_halo_equals_the_whole_bit_for_bit(method: SpeckleFilter, size: int) -> None:
    power, half = speckled((700, 300)) * 1e3, size // 2
    power[350, 150] = 1e6
    valid = np.random.default_rng(2).random(power.shape) > 0.1  # 700 x 300: several blocks
    whole = despeckle(power, valid, method, size=size)
    around = np.s_[201 - half : 451 + half, 77 - half : 201 + half]
    tile = despeckle(power[around], valid[around], method, size=size)[half:-half, half:-half]
    assert np.array_equal(tile, whole[201:451, 77:201])


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (3, 2)])
def test_scenes_smaller_than_the_window_work(shape: tuple[int, int]) -> None:
    power = np.arange(1, 1 + shape[0] * shape[1], dtype=np.float32).reshape(shape)
    assert np.allclose(despeckle(power, everywhere(power), "boxcar", size=19), power.mean(), rtol=1e-6)
