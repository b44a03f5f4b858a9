"""The table of sensors: names, roles and how numbers become physical quantities."""

from __future__ import annotations

import pytest

from geoseg.errors import BandError, InputError
from geoseg.sensors import SENSORS, get_sensor


@pytest.mark.parametrize("sensor", SENSORS.values(), ids=lambda sensor: sensor.name)
def test_every_role_and_name_stands_once_and_finds_its_band(sensor):
    assert len({band.role for band in sensor.bands}) == len(sensor.bands)
    for band in sensor.bands:
        assert sensor.band_named(band.name) is band
        assert sensor.select(band.role) == (band,)


@pytest.mark.parametrize("sensor", SENSORS.values(), ids=lambda sensor: sensor.name)
def test_quality_band_and_quality_table_come_together(sensor):
    assert (sensor.quality is not None) == (sensor.name != "generic" and any(band.role == "quality" for band in sensor.bands))


@pytest.mark.parametrize("spelling", ["B04", "B4", "b4", "Band 4", "band_04", "B04_10m", "B04_20m", "red"])
def test_all_spellings_of_a_sentinel_2_band_are_one_band(spelling):
    assert get_sensor("sentinel-2-l2a").band_named(spelling).name == "B04"


def test_b08_is_not_b8a():
    sensor = get_sensor("sentinel-2-l1c")
    assert [sensor.band_named(name).role for name in ("B8", "B08", "B8A", "b8a", "B08A")] == ["nir", "nir", "nir08", "nir08", "nir08"]


def test_level_1c_has_b10_and_level_2a_has_not():
    assert get_sensor("sentinel-2-l1c").band_named("B10").role == "cirrus"
    assert get_sensor("sentinel-2-l2a").band_named("B10") is None
    assert len([band for band in get_sensor("sentinel-2-l1c").bands if band.kind == "optical"]) == 13


@pytest.mark.parametrize(("sensor", "stored", "physical"), [("landsat-oli-c2-l2", 18639, 0.3125725), ("hls-l30", 1234, 0.1234)])
def test_red_reflectance_follows_the_provider_s_scale(sensor, stored, physical):
    band = get_sensor(sensor).select("red")[0]
    assert stored * band.scale + band.offset == pytest.approx(physical)
    assert band.unit == "reflectance"


def test_landsat_surface_temperature_is_in_kelvin():
    band = get_sensor("landsat-oli-c2-l2").select("lwir11")[0]
    assert (44177 * band.scale + band.offset, band.unit) == (pytest.approx(299.998, abs=1e-3), "K")


def test_radar_states_no_unit_that_nobody_gave():
    assert {(band.unit, band.convention) for band in get_sensor("sentinel-1-grd").select("vv", "vh")} == {("unknown", None)}
    assert get_sensor("sentinel-1-rtc").select("vv")[0].convention == "gamma0_rtc"


def test_wavelengths_of_optical_bands_lie_in_the_optical_range():
    for sensor in SENSORS.values():
        for band in sensor.bands:
            if band.kind == "optical":
                assert 0.4 < band.wavelength_um < 2.4
                assert band.bandwidth_um < 0.5


@pytest.mark.parametrize(
    ("sensor", "count", "first"),
    [("sentinel-2-l1c", 13, "coastal"), ("naip", 4, "red"), ("landsat-tm-c2-l1", 7, "blue"), ("dem", 1, "height")],
)
def test_unlabelled_bands_come_in_the_provider_s_order(sensor, count, first):
    bands = get_sensor(sensor).in_order(count)
    assert (len(bands), bands[0].role) == (count, first)


def test_thematic_mapper_s_thermal_band_is_the_sixth_of_seven():
    assert [band.name for band in get_sensor("landsat-tm-c2-l1").in_order(7)] == [f"B{number}" for number in range(1, 8)]


@pytest.mark.parametrize(("sensor", "count"), [("sentinel-2-l1c", 10), ("sentinel-1-grd", 2), ("naip", 3), ("generic", 3)])
def test_a_count_that_fits_no_product_gives_no_order(sensor, count):
    assert get_sensor(sensor).in_order(count) is None


def test_an_unknown_sensor_is_answered_with_the_nearest():
    with pytest.raises(InputError, match="did you mean sentinel-2-l2a"):
        get_sensor("sentinel2_l2a ")
    assert get_sensor("Sentinel-2_L2A").name == "sentinel-2-l2a"


def test_a_missing_role_names_the_roles_there_are():
    with pytest.raises(BandError, match=r"no 'nir' band; it has red, green, blue"):
        get_sensor("aerial-rgb").select("nir")
