"""The chain from stored numbers to a network's input, and its statistics."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pydantic import ValidationError

from geoseg.errors import BandError, InputError
from geoseg.preprocess.normalise import ChannelStatistics, fit_preparation, without_statistics
from geoseg.preprocess.optical import to_physical
from geoseg.preprocess.prepare import BandNeed, Channel, Despeckle, Preparation, halo, prepare
from geoseg.raster import Raster
from geoseg.sensors import Band

GREEN = Band("B03", "green", 0.56, scale=1e-4, offset=-0.1, nodata=0, unit="reflectance", kind="optical")
NIR = Band("B08", "nir", 0.83, scale=1e-4, offset=-0.1, nodata=0, unit="reflectance", kind="optical")
VV = Band("VV", "vv", unit="linear power", kind="radar", convention="gamma0_rtc")
HEIGHT = Band("height", "height", unit="m", kind="elevation")


def scene(*planes: tuple[Band, Any], valid: NDArray[np.bool_] | None = None) -> Raster:
    values = np.stack([np.atleast_2d(plane) for _, plane in planes])
    known = np.ones(values.shape, dtype=bool) if valid is None else valid
    return Raster(values, known, GeoBox(values.shape[1:], Affine(10, 0, 5e5, 0, -10, 5e6), "EPSG:32630"), tuple(b for b, _ in planes))


def water(**settings: Any) -> Preparation:
    needs = (BandNeed(role="green", unit="reflectance"), BandNeed(role="nir", unit="reflectance"))
    channels = (Channel(name="green", mean=0.1, std=0.05), Channel(name="nir", mean=0.2, std=0.1), Channel(name="NDWI", kind="index"))
    return Preparation(**({"bands": needs, "channels": channels} | settings))


def radar(unit: str = "dB", method: str | None = None, size: int = 5, **need: Any) -> Preparation:
    filtered = None if method is None else Despeckle(method=method, size=size, looks=4)  # type: ignore[arg-type]
    return Preparation(bands=(BandNeed(role="vv", unit=unit, **need),), channels=(Channel(name="vv", mean=-12, std=4),), despeckle=filtered)


def speckled(shape: tuple[int, int] = (80, 90)) -> NDArray[np.float32]:
    return (0.05 * np.random.default_rng(0).gamma(4, 0.25, shape)).astype(np.float32)


def test_channels_are_physical_values_normalised_in_order() -> None:
    prepared = prepare(scene((NIR, np.uint16([[3000]])), (GREEN, np.uint16([[2500]]))), water())
    assert prepared.values.ravel().tolist() == pytest.approx([(0.15 - 0.1) / 0.05, (0.2 - 0.2) / 0.1, -0.05 / 0.35], abs=1e-6)
    assert prepared.values.dtype == np.float32
    assert prepared.roles == ("green", "nir", "ndwi")


def test_invalid_pixels_are_zero_after_normalising_in_every_channel() -> None:
    valid = np.array([[[True, False, True]], [[True, True, False]]])
    prepared = prepare(scene((GREEN, np.uint16([[2500, 0, 2500]])), (NIR, np.uint16([[3500, 3500, 0]])), valid=valid), water())
    assert prepared.valid.tolist() == [[[True, False, False]]] * 3
    assert (prepared.values[:, 0, 1:] == 0).all()
    assert (prepared.values[:, 0, 0] != 0).all()


def test_masked_pixels_are_not_valid() -> None:
    raster = scene((GREEN, np.uint16([[2500, 2500]])), (NIR, np.uint16([[3500, 3500]])))
    prepared = prepare(raster, water(), np.array([[False, True]]))
    assert prepared.valid_everywhere.tolist() == [[True, False]]
    assert (prepared.values[:, 0, 1] == 0).all()


@pytest.mark.parametrize("garbage", [np.nan, np.inf, -np.inf, 3e38, -3.4028235e38, -1.797e308])
def test_undeclared_nodata_is_not_valid_and_changes_no_neighbour(garbage: float) -> None:
    power = speckled().astype(np.float64)
    clean = prepare(scene((VV, power)), radar(method="lee"), masked := np.zeros(power.shape, dtype=bool))
    power[40, 40] = garbage
    dirty = prepare(scene((VV, power)), radar(method="lee"))
    masked[40, 40] = True
    assert not dirty.valid[0, 40, 40]
    assert dirty.values[0, 40, 40] == 0
    beyond = np.ones(power.shape, dtype=bool)
    beyond[38:43, 38:43] = False
    assert np.array_equal(dirty.values[0][beyond], clean.values[0][beyond])
    assert np.isfinite(dirty.values).all()


@pytest.mark.parametrize("garbage", [np.nan, 1e30, -9999.0])
def test_what_lies_under_an_invalid_pixel_never_matters(garbage: float) -> None:
    power, valid = speckled(), np.ones((1, 80, 90), dtype=bool)
    valid[0, 20:30, 20:50] = False
    clean = prepare(scene((VV, power), valid=valid), radar(method="boxcar"))
    power[~valid[0]] = garbage
    assert np.array_equal(prepare(scene((VV, power), valid=valid), radar(method="boxcar")).values, clean.values)


def test_decibels_that_no_ground_scatters_are_no_data() -> None:
    decibels = scene((replace(VV, unit="dB"), np.float32([[-12.0, -9999.0, 9999.0]])))
    assert prepare(decibels, radar()).valid.ravel().tolist() == [True, False, False]


@pytest.mark.parametrize("channel", [Channel(name="nir", mean=3, std=2), Channel(name="CSIwoSWIR", kind="index", mean=3, std=2)])
def test_prepare_changes_nothing_it_was_given(channel: Channel) -> None:
    raster = scene((Band("nir", "nir"), np.float32([[5.0, np.nan]])))
    before = raster.values.copy()
    prepared = prepare(raster, Preparation(bands=(BandNeed(role="nir", unit="1"),), channels=(channel,)))
    assert prepared.values.ravel().tolist() == [1, 0]
    assert np.array_equal(raster.values, before, equal_nan=True)
    assert raster.valid.all()


@pytest.mark.parametrize("method", ["boxcar", "lee"])
@pytest.mark.parametrize("size", [3, 5, 9])
def test_a_tile_with_its_halo_equals_the_whole(method: str, size: int) -> None:
    preparation = radar(method=method, size=size)
    around = halo(preparation)
    valid = np.random.default_rng(1).random((1, 80, 90)) > 0.1
    raster = scene((VV, speckled()), valid=valid)
    masked = np.random.default_rng(2).random((80, 90)) > 0.95
    window = np.s_[20 - around : 61 + around, 13 - around : 70 + around]
    tile = prepare(raster.crop(*window), preparation, masked[window]).values[:, around:-around, around:-around]
    assert around == size // 2
    assert np.array_equal(tile, prepare(raster, preparation, masked).values[:, 20:61, 13:70])


def test_no_halo_is_needed_without_a_filter() -> None:
    assert halo(water()) == 0
    assert halo(water(despeckle=Despeckle(method="lee"))) == 0


def test_strips_prepared_apart_equal_the_whole() -> None:
    stored = np.random.default_rng(0).integers(0, 6000, (2, 300, 700), dtype=np.uint16)
    raster = scene((GREEN, stored[0]), (NIR, stored[1]), valid=stored > 0)
    whole = prepare(raster, water()).values
    parts = [prepare(raster.crop(slice(a, a + 50), slice(0, 700)), water()).values for a in range(0, 300, 50)]
    assert np.array_equal(np.concatenate(parts, axis=1), whole)


def test_power_decibels_and_amplitude_give_the_same_input() -> None:
    power = speckled()
    stored = {"linear power": power, "dB": 10 * np.log10(power), "amplitude": np.sqrt(power)}
    for method in (None, "lee"):
        first, *others = [prepare(scene((replace(VV, unit=unit), plane)), radar(method=method)).values for unit, plane in stored.items()]
        assert all(np.allclose(first, other, atol=1e-4) for other in others)


def test_a_model_may_take_linear_power() -> None:
    need = Preparation(bands=(BandNeed(role="vv", unit="linear power"),), channels=(Channel(name="vv"),))
    assert prepare(scene((replace(VV, unit="dB"), np.float32([[-10.0]]))), need).values.item() == pytest.approx(0.1)


@pytest.mark.parametrize("unit", ["unknown", "1", "reflectance"])
def test_a_radar_band_in_an_unknown_unit_is_refused(unit: str) -> None:
    with pytest.raises(BandError, match=rf"'VV' \(vv\) is in unit '{unit}'; expected linear power or dB or amplitude\. Say what"):
        prepare(scene((replace(VV, unit=unit), speckled())), radar())


def test_digital_numbers_are_not_taken_for_reflectance() -> None:
    raster = scene((replace(GREEN, unit="1"), np.uint8([[90]])), (NIR, np.uint8([[90]])))
    with pytest.raises(BandError, match=r"'B03' .* is in unit '1'; expected reflectance"):
        prepare(raster, water())


def test_another_radar_convention_is_refused() -> None:
    with pytest.raises(BandError, match="is gamma0_rtc; expected sigma0"):
        prepare(scene((VV, speckled())), radar(convention="sigma0"))


def test_an_unstated_convention_is_left_to_the_check_of_the_package() -> None:
    assert prepare(scene((replace(VV, convention=None), speckled())), radar(convention="sigma0")).valid.all()


def test_a_missing_band_is_refused() -> None:
    with pytest.raises(BandError, match="no 'nir' band"):
        prepare(scene((GREEN, np.uint16([[1]]))), water())


def test_a_black_pixel_is_valid_and_its_index_zero() -> None:
    prepared = prepare(scene((GREEN, np.uint16([[1000]])), (NIR, np.uint16([[1000]]))), water())
    assert prepared.valid.all()
    assert prepared.values[2].item() == 0


def test_an_index_without_a_value_is_its_mean() -> None:
    needs = tuple(BandNeed(role=role, unit="reflectance") for role in ("nir", "green"))
    ratio = Preparation(bands=needs, channels=(Channel(name="SR2", kind="index", mean=4.0, std=2.0),))
    prepared = prepare(scene((NIR, np.uint16([[3000, 3000]])), (GREEN, np.uint16([[1000, 2000]]))), ratio)
    assert prepared.valid.all()
    assert prepared.values.ravel().tolist() == pytest.approx([0, (2 - 4) / 2])


def test_constants_and_wavelengths_reach_the_formula() -> None:
    needs = tuple(BandNeed(role=r, unit="reflectance", wavelength_um=w) for r, w in (("nir", 0.83), ("green", 0.56), ("red", 0.66)))
    channels = (Channel(name="SAVI", kind="index"), Channel(name="DVIplus", kind="index"))
    bands = [Band(r, r, unit="reflectance") for r in ("nir", "green", "red")]
    raster = scene(*zip(bands, ([[0.4]], [[0.2]], [[0.1]]), strict=True))
    savi, dvi = prepare(raster, Preparation(bands=needs, channels=channels, index_constants={"L": 0.5})).values.ravel()
    share = (0.83 - 0.66) / (0.83 - 0.56)
    assert savi == pytest.approx(1.5 * 0.3 / 1.0, rel=1e-6)
    assert dvi == pytest.approx(share * 0.2 + (1 - share) * 0.4 - 0.1, rel=1e-5)


def test_stored_numbers_become_physical_without_rounding_noise() -> None:
    physical = to_physical(scene((GREEN, np.uint16([[1000, 0]])), valid=np.array([[[True, False]]])))
    assert physical.values.ravel().tolist() == [0, 0]
    assert to_physical(physical).values.tolist() == physical.values.tolist()


def test_large_integers_keep_their_digits() -> None:
    band = replace(HEIGHT, scale=0.001, offset=-20_000_000 * 0.001)
    assert to_physical(scene((band, np.int32([[20_000_001]])))).values.item() == pytest.approx(0.001, rel=1e-6)


def test_a_scale_of_zero_is_refused() -> None:
    with pytest.raises(BandError, match="has scale 0"):
        to_physical(scene((replace(GREEN, scale=0.0), np.uint16([[1]]))))


def test_a_preparation_survives_its_json() -> None:
    preparation = radar(method="lee", size=7, convention="sigma0", wavelength_um=55465.8)
    assert Preparation.model_validate_json(preparation.model_dump_json()) == preparation


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"channels": (Channel(name="red"),)}, "channel 'red' needs the band 'red'; the preparation reads green, nir"),
        ({"channels": (Channel(name="NDVI", kind="index"),)}, "channel 'NDVI' needs the band 'red'"),
        ({"channels": (Channel(name="NDWY", kind="index"),)}, "no spectral index 'NDWY'"),
        ({"index_constants": {"l": 0.5}}, "no index of the preparation has a constant 'l'; they have none"),
        ({"channels": (Channel(name="nir"), Channel(name="nir"))}, "channel 'nir' stands twice"),
    ],
)
def test_channels_that_the_bands_cannot_make_are_refused(changed: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BandError, match=sentence):
        water(**changed)


@pytest.mark.parametrize("numbers", [{"std": 0}, {"std": -1}, {"mean": float("nan")}, {"std": float("inf")}])
def test_statistics_that_cannot_normalise_are_refused(numbers: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        Channel(name="red", **numbers)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [1, 4, -3])
def test_a_filter_window_has_a_middle(size: int) -> None:
    with pytest.raises(ValidationError):
        Despeckle(method="lee", size=size)


def random_scene(seed: int, shape: tuple[int, int] = (31, 40)) -> Raster:
    rng = np.random.default_rng(seed)
    stored = rng.integers(1500, 6000, (2, *shape), dtype=np.uint16)
    return scene((GREEN, stored[0]), (NIR, stored[1]), valid=rng.random(stored.shape) > 0.2)


def test_statistics_of_parts_add_up_to_those_of_the_whole() -> None:
    parts = [prepare(random_scene(seed), without_statistics(water())) for seed in range(5)]
    total = sum((ChannelStatistics.of(part) for part in parts), ChannelStatistics.empty(("green", "nir", "NDWI")))
    for i in range(3):
        pixels = np.concatenate([part.values[i][part.valid[i]] for part in parts]).astype(np.float64)
        assert total.count[i] == pixels.size
        assert total.mean[i] == pytest.approx(pixels.mean(), rel=1e-12)
        assert total.std[i] == pytest.approx(pixels.std(), rel=1e-9)


def test_statistics_keep_their_digits_far_from_zero() -> None:
    halves = [scene((HEIGHT, 1e8 + np.arange(first, first + 500.0))) for first in (0, 500)]
    total = ChannelStatistics.of(halves[0]) + ChannelStatistics.of(halves[1])
    assert total.std.item() == pytest.approx(np.arange(1000).std(), rel=1e-9)


def test_a_fitted_preparation_gives_mean_zero_and_deviation_one() -> None:
    raster = random_scene(0)
    fitted = fit_preparation(water(), ChannelStatistics.of(prepare(raster, without_statistics(water()))))
    again = ChannelStatistics.of(prepare(raster, fitted))
    assert again.mean.tolist() == pytest.approx([0, 0, 0], abs=1e-5)
    assert again.std.tolist() == pytest.approx([1, 1, 1], rel=1e-5)


def test_indices_may_stay_out_of_the_normalisation() -> None:
    statistics = ChannelStatistics.of(prepare(random_scene(0), without_statistics(water())))
    green, _, ndwi = fit_preparation(water(), statistics, keep_indices_raw=True).channels
    assert (ndwi.mean, ndwi.std) == (0, 1)
    assert (green.mean, green.std) == pytest.approx((statistics.mean[0], statistics.std[0]))


def test_a_channel_that_never_varies_keeps_deviation_one() -> None:
    raster = scene((GREEN, np.full((4, 4), 3000, np.uint16)), (NIR, np.full((4, 4), 2000, np.uint16)))
    fitted = fit_preparation(water(), ChannelStatistics.of(prepare(raster, without_statistics(water()))))
    assert [channel.std for channel in fitted.channels] == [1, 1, 1]


def test_statistics_of_nothing_are_refused() -> None:
    with pytest.raises(InputError, match="no valid pixel of channel 'green'"):
        fit_preparation(water(), ChannelStatistics.empty(("green", "nir", "NDWI")))
