"""Speckle filters: the laws that each must keep, what each is for, and brute-force twins."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import numpy as np
import pytest
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pydantic import ValidationError

from geoseg.preprocess.prepare import BandNeed, Channel, Despeckle, Preparation, halo, prepare
from geoseg.preprocess.sar import to_decibels, to_power
from geoseg.preprocess.speckle import SpeckleFilter, despeckle, quegan, window_size
from geoseg.raster import Raster
from geoseg.sensors import Band

LOOKS = 4.0
METHODS: tuple[SpeckleFilter, ...] = get_args(SpeckleFilter)
ADAPTIVE: tuple[SpeckleFilter, ...] = ("lee", "refined_lee", "gamma_map")
all_methods = pytest.mark.parametrize("method", METHODS)


def speckled(shape: tuple[int, ...], mean: float = 0.05, *, looks: float = LOOKS, seed: int = 0) -> NDArray[np.float32]:
    noise = np.random.default_rng(seed).gamma(looks, 1 / looks, shape)
    return (mean * noise).astype(np.float32)


def everywhere(power: NDArray[np.float32]) -> NDArray[np.bool_]:
    return np.ones(power.shape, dtype=bool)


# ---------------------------------------------------------------- twins, pixel by pixel


def minimum_error(seen: NDArray[np.float64], pixel: float) -> float:
    """Lee (1980): z = x n with E[n] = 1, var[n] = 1 / looks; x = m + k (z - m)."""
    mean, noise = seen.mean(), 1 / LOOKS
    ground = max((seen.var() + mean**2) / (noise + 1) - mean**2, 0.0)
    return mean + ground / (mean**2 * noise + ground) * (pixel - mean)


def most_probable(seen: NDArray[np.float64], pixel: float) -> float:
    """Lopes et al. (1993): the positive root of a x² + (looks + 1 - a) m x - looks m z = 0."""
    mean, variation = seen.mean(), seen.var() / seen.mean() ** 2
    if variation <= 1 / LOOKS:
        return float(mean)
    if variation >= 2 / LOOKS:
        return pixel
    order = (1 + 1 / LOOKS) / (variation - 1 / LOOKS)
    return float(np.roots([order, (LOOKS + 1 - order) * mean, -LOOKS * mean * pixel]).real.max())


def facing_half(window: NDArray[np.float64], known: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(7, 7) the half of Lee (1981) that lies on the middle's side of the strongest edge."""
    local = np.array([[window[r : r + 3, c : c + 3][known[r : r + 3, c : c + 3]] for c in (0, 2, 4)] for r in (0, 2, 4)], dtype=object)
    m = np.array([[cell.mean() if cell.size else window[known].mean() for cell in row] for row in local])
    y, x = np.mgrid[-3:4, -3:4]
    sides = {  # an edge's two sides: their sums of means, the mean in their middle, their pixels
        "|": ((m[:, 0].sum(), m[1, 0], x <= 0), (m[:, 2].sum(), m[1, 2], x >= 0)),
        "-": ((m[0].sum(), m[0, 1], y <= 0), (m[2].sum(), m[2, 1], y >= 0)),
        "\\": ((m[1, 0] + m[2, 0] + m[2, 1], m[2, 0], x <= y), (m[0, 1] + m[0, 2] + m[1, 2], m[0, 2], x >= y)),
        "/": ((m[0, 1] + m[0, 0] + m[1, 0], m[0, 0], x <= -y), (m[1, 2] + m[2, 2] + m[2, 1], m[2, 2], x >= -y)),
    }
    first, second = max(sides.values(), key=lambda pair: abs(pair[0][0] - pair[1][0]))
    return second[2] if abs(second[1] - m[1, 1]) < abs(first[1] - m[1, 1]) else first[2]


def brute_force(power: NDArray[np.float32], valid: NDArray[np.bool_], method: str, size: int) -> NDArray[np.float64]:
    out, half = np.zeros(power.shape), size // 2
    padded, known = np.pad(power.astype(np.float64), half), np.pad(valid, half)
    for row, col in zip(*np.nonzero(valid), strict=True):
        here = np.s_[row : row + size, col : col + size]
        window, there = padded[here], known[here]
        seen, pixel = window[there], float(power[row, col])
        if method == "refined_lee" and seen.var() > seen.mean() ** 2 / LOOKS:
            seen = window[there & facing_half(window, there)]
        out[row, col] = (
            seen.mean() if method == "boxcar" else most_probable(seen, pixel) if method == "gamma_map" else minimum_error(seen, pixel)
        )
    return out


@pytest.mark.parametrize(("method", "size"), [("boxcar", 3), ("boxcar", 9), ("lee", 5), ("refined_lee", 7), ("gamma_map", 5)])
def test_filters_equal_brute_force_at_edges_and_gaps(method: SpeckleFilter, size: int) -> None:
    power = speckled((33, 27))
    power[:, 14:] *= 5
    valid = np.random.default_rng(1).random(power.shape) > 0.3
    filtered = despeckle(power, valid, method, size=size, looks=LOOKS)
    assert np.allclose(filtered, brute_force(power, valid, method, size), rtol=1e-5, atol=1e-9)


# ---------------------------------------------------------------- laws of all filters


@all_methods
@pytest.mark.parametrize("looks", [1.0, 4.4, 20.0])
def test_homogeneous_ground_keeps_its_mean_and_loses_its_speckle(method: SpeckleFilter, looks: float) -> None:
    power = speckled((300, 300), looks=looks)
    filtered = despeckle(power, everywhere(power), method, size=7, looks=looks).astype(np.float64)
    tolerance = {"boxcar": 0.001, "lee": 0.001, "refined_lee": 0.01, "gamma_map": 0.05}[method]
    assert filtered.mean() == pytest.approx(power.mean(dtype=np.float64), rel=tolerance)
    gained = power.var(dtype=np.float64) / filtered.var()
    assert 0.95 * 49 < gained < 1.05 * 49 if method == "boxcar" else 15 < gained < 49  # at most the 49 pixels of a window


def test_a_filter_in_decibels_would_lose_the_mean() -> None:
    power = speckled((200, 200))
    wrong = to_power(despeckle(to_decibels(power), everywhere(power), "boxcar"))
    assert wrong.mean() < 0.95 * power.mean()


def test_adaptive_filters_told_too_many_looks_keep_the_speckle() -> None:
    power = speckled((200, 200))
    for method in ADAPTIVE:
        believed, wrong = (despeckle(power, everywhere(power), method, looks=looks).var() for looks in (LOOKS, 40.0))
        assert wrong > 4 * believed


@all_methods
@pytest.mark.parametrize("value", [0.3, 1e-7, 0.0, -0.001])
def test_constant_ground_stays_exactly_as_it_is(method: SpeckleFilter, value: float) -> None:
    power = np.full((140, 30), value, dtype=np.float32)
    valid = np.random.default_rng(0).random(power.shape) > 0.2
    assert np.array_equal(despeckle(power, valid, method, looks=7.0), power * valid)


@all_methods
@pytest.mark.parametrize("garbage", [np.nan, np.inf, -3.4e38])
def test_what_is_not_valid_changes_nothing_and_stays_so(method: SpeckleFilter, garbage: float) -> None:
    power, valid = speckled((30, 30)), np.ones((30, 30), dtype=bool)
    valid[10:14, 5:9] = False
    clean = despeckle(power, valid, method)
    power[~valid] = garbage
    assert np.array_equal(despeckle(power, valid, method), clean)
    assert (clean[~valid] == 0).all()
    assert (clean[valid] > 0).all()


def test_zeros_instead_of_a_mask_would_darken_the_rim() -> None:
    power, valid = speckled((30, 30)), np.ones((30, 30), dtype=bool)
    valid[:, 15:] = False
    power[~valid] = 0
    leaking, kept = (despeckle(power, known, "boxcar")[:, 14].mean() for known in (everywhere(power), valid))
    assert leaking < 0.7 * kept


@all_methods
@pytest.mark.parametrize("cut", [(201, 451, 77, 201), (128, 256, 128, 256), (300, 301, 0, 300)])
def test_a_window_with_its_halo_equals_the_whole_bit_for_bit(method: SpeckleFilter, cut: tuple[int, int, int, int]) -> None:
    power, half = speckled((500, 300)) * 1e3, window_size(method, None) // 2
    power[350, 150] = 1e6
    valid = np.random.default_rng(2).random(power.shape) > 0.1
    top, bottom, left, right = cut
    inner_left, inner_right = min(left, half), min(300 - right, half)
    around = np.s_[top - half : bottom + half, left - inner_left : right + inner_right]
    tile = despeckle(power[around], valid[around], method)[half:-half, inner_left : right - left + inner_left]
    assert np.array_equal(tile, despeckle(power, valid, method)[top:bottom, left:right])


def test_a_window_without_its_halo_does_not_equal_the_whole() -> None:
    power = speckled((60, 60))
    valid = everywhere(power)
    assert not np.array_equal(despeckle(power[20:40], valid[20:40], "lee")[0], despeckle(power, valid, "lee")[20])


@all_methods
@pytest.mark.parametrize("factor", [4.0, 1e-6, 3e5])
def test_a_scaled_scene_gives_the_scaled_result(method: SpeckleFilter, factor: float) -> None:
    power, valid = speckled((60, 60)), np.random.default_rng(3).random((60, 60)) > 0.1
    power[:, 30:] *= 10
    scaled = despeckle(power * np.float32(factor), valid, method, looks=LOOKS)
    assert np.allclose(scaled, np.float32(factor) * despeckle(power, valid, method, looks=LOOKS), rtol=1e-4)


@all_methods
@pytest.mark.parametrize("turn", [np.transpose, np.flipud, np.fliplr, np.rot90])
def test_a_turned_scene_gives_the_turned_result(method: SpeckleFilter, turn: Callable[[NDArray], NDArray]) -> None:
    power, valid = speckled((60, 75)), np.random.default_rng(3).random((60, 75)) > 0.1
    power[np.add.outer(range(60), range(75)) > 70] *= 20
    turned = despeckle(turn(power), turn(valid), method, looks=LOOKS)
    assert np.allclose(turned, turn(despeckle(power, valid, method, looks=LOOKS)), rtol=1e-5)


@all_methods
def test_power_below_zero_as_subtracted_noise_leaves_it_stays_a_number(method: SpeckleFilter) -> None:
    power = speckled((50, 50)) - np.float32(0.06)
    assert np.isfinite(despeckle(power, everywhere(power), method)).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (3, 2)])
def test_scenes_smaller_than_the_window_work(shape: tuple[int, int]) -> None:
    power = np.arange(1, 1 + shape[0] * shape[1], dtype=np.float32).reshape(shape)
    assert np.allclose(despeckle(power, everywhere(power), "boxcar", size=19), power.mean(), rtol=1e-6)
    assert all(np.isfinite(despeckle(power, everywhere(power), method)).all() for method in METHODS)


@all_methods
def test_the_chain_s_halo_makes_a_tile_equal_the_whole(method: SpeckleFilter) -> None:
    need = BandNeed(role="vv", unit="dB")
    preparation = Preparation(bands=(need,), channels=(Channel(name="vv", mean=-12, std=4),), despeckle=Despeckle(method=method, looks=4))
    valid = np.random.default_rng(1).random((1, 80, 90)) > 0.1
    grid = GeoBox((80, 90), Affine(10, 0, 5e5, 0, -10, 5e6), "EPSG:32630")
    raster = Raster(speckled((1, 80, 90)), valid, grid, (Band("VV", "vv", unit="linear power", kind="radar"),))
    around = halo(preparation)
    tile = prepare(raster.crop(slice(20 - around, 61 + around), slice(13 - around, 70 + around)), preparation)
    assert around == window_size(method, None) // 2
    assert np.array_equal(tile.values[:, around:-around, around:-around], prepare(raster, preparation).values[:, 20:61, 13:70])


# ---------------------------------------------------------------- what each filter is for


@pytest.mark.parametrize("method", ADAPTIVE)
def test_a_step_is_kept_that_boxcar_smears(method: SpeckleFilter) -> None:
    power = speckled((200, 60))
    power[:, 30:] *= 10
    smeared, kept = (despeckle(power, everywhere(power), name, size=7, looks=LOOKS)[:, 27:30] for name in ("boxcar", method))
    dark = 0.05
    assert (smeared - dark).mean() > 2 * dark
    assert (kept - dark).mean() < 0.4 * (smeared - dark).mean()


@pytest.mark.parametrize("angle", [0, 45, 90, 135])
def test_refined_lee_is_nearer_to_the_truth_along_an_edge_than_lee(angle: int) -> None:
    rows, cols = np.mgrid[:200, :200] - 100
    across = cols * np.cos(np.radians(angle)) + rows * np.sin(np.radians(angle)) - 0.5
    truth = np.where(across > 0, np.float32(0.5), np.float32(0.05))
    power = speckled((200, 200), 1.0) * truth
    rim = np.abs(across) < 3
    plain, refined = (despeckle(power, everywhere(power), name, size=7, looks=LOOKS) / truth - 1 for name in ("lee", "refined_lee"))
    assert (refined[rim] ** 2).mean() < 0.75 * (plain[rim] ** 2).mean()


@pytest.mark.parametrize("method", ADAPTIVE)
def test_a_point_target_is_kept_that_boxcar_spreads(method: SpeckleFilter) -> None:
    power = speckled((41, 41))
    power[20, 20] = 50.0
    spread, kept = (despeckle(power, everywhere(power), name, size=7, looks=LOOKS) for name in ("boxcar", method))
    assert spread[20, 20] < 2
    assert kept[20, 20] > 45
    assert kept[20, 17] < 0.3 * spread[20, 17] if method != "lee" else True


# ---------------------------------------------------------------- dates together


def test_a_date_alone_comes_back_as_it_is() -> None:
    stack = speckled((1, 40, 50))
    assert np.allclose(quegan(stack, everywhere(stack)), stack, rtol=1e-6)


def test_every_date_keeps_its_own_mean_and_all_lose_speckle() -> None:
    dates = np.float32([1.0, 5.0, 0.2, 2.0, 1.0, 3.0])
    stack = speckled((6, 200, 200)) * dates[:, None, None]
    filtered = quegan(stack, everywhere(stack), size=9).astype(np.float64)
    assert np.allclose(filtered.mean(axis=(1, 2)), stack.mean(axis=(1, 2), dtype=np.float64), rtol=0.01)
    gained = stack.var(axis=(1, 2), dtype=np.float64) / filtered.var(axis=(1, 2))
    expected = 1 / (1 / 6 + 1 / 81)  # of the texture over six dates, and of the mean over 81 pixels
    assert np.allclose(gained, expected, rtol=0.1)


def test_a_boxcar_of_the_same_gain_would_smear_an_edge_that_dates_together_keep() -> None:
    stack = speckled((8, 100, 60))
    stack[:, :, 30:] *= 10
    together = quegan(stack, everywhere(stack), size=7)
    alone = despeckle(stack[0], everywhere(stack[0]), "boxcar", size=3)
    assert abs(together[:, :, 29].mean() / 0.05 - 1) < 0.1
    assert alone[:, 29].mean() / 0.05 > 3


def test_a_date_without_data_neither_gives_nor_takes() -> None:
    stack = speckled((4, 40, 40))
    valid = everywhere(stack)
    valid[1, :, 20:] = False
    with_garbage = stack.copy()
    with_garbage[~valid] = np.nan
    filtered = quegan(with_garbage, valid)
    assert (filtered[~valid] == 0).all()
    assert np.array_equal(filtered[[0, 2, 3], :, 24:], quegan(stack[[0, 2, 3]], valid[[0, 2, 3]])[:, :, 24:])
    assert not np.array_equal(filtered[0, :, :20], quegan(stack[[0, 2, 3]], valid[[0, 2, 3]])[0, :, :20])


def test_dates_in_another_order_constant_dates_and_windows_are_as_they_should_be() -> None:
    stack, order = speckled((5, 300, 60)), [3, 0, 4, 1, 2]
    valid = np.random.default_rng(1).random(stack.shape) > 0.2
    whole = quegan(stack, valid)
    assert np.allclose(quegan(stack[order], valid[order]), whole[order], rtol=1e-6)
    assert np.array_equal(quegan(stack[:, 97:203], valid[:, 97:203])[:, 3:-3], whole[:, 100:200])
    levels = np.broadcast_to(np.float32([0.3, 0.7, 1e-5])[:, None, None], (3, 20, 20))
    assert np.array_equal(quegan(levels, everywhere(levels)), levels)


# ---------------------------------------------------------------- the setting


@pytest.mark.parametrize(("method", "size"), [("boxcar", 5), ("lee", 5), ("refined_lee", 7), ("gamma_map", 7)])
def test_each_method_has_its_usual_window(method: SpeckleFilter, size: int) -> None:
    assert Despeckle(method=method).size == Despeckle(method=method, size=size).size == size


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"method": "lee", "size": 4}, "no middle"),
        ({"method": "lee", "size": 1}, "from 3"),
        ({"method": "refined_lee", "size": 5}, "those of 7"),
        ({"method": "median"}, "'boxcar', 'lee', 'refined_lee' or 'gamma_map'"),
        ({"method": "lee", "looks": 0}, "greater than 0"),
    ],
)
def test_settings_that_no_filter_has_are_refused(given: dict, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Despeckle(**given)
