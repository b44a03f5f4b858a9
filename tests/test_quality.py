"""Quality layers of each coding, and the growth of masks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from scipy import ndimage

from geoseg.errors import BandError
from geoseg.preprocess.quality import (
    CLOUDY_SHARE,
    DEFAULT_MASK_CLASSES,
    REASON_LEGEND,
    REASON_OF,
    Reason,
    cloudy_share,
    grow,
    grow_reasons,
    quality_reasons,
)
from geoseg.raster import Raster
from geoseg.sensors import SENSORS, Band, QualityClass, QualityTable, Sensor

SCL = QualityTable(
    "codes", {"nodata": (0,), "saturated": (1,), "cloud_shadow": (3,), "water": (6,), "cloud": (8, 9), "cirrus": (10,), "snow": (11,)}
)
QA_PIXEL = QualityTable("bits", {"nodata": (0,), "cloud": (1, 3), "cirrus": (2,), "cloud_shadow": (4,), "snow": (5,), "water": (7,)})
UDM2 = QualityTable("planes", {"snow": (2,), "cloud_shadow": (3,), "cloud": (5, 6)})
ALL: tuple[QualityClass, ...] = tuple(REASON_OF)


def row(*codes: int, dtype: type = np.uint8) -> NDArray[np.integer]:
    return np.array([codes], dtype=dtype)


def disc(mask: NDArray[np.bool_], radius: float, sampling: tuple[float, float] = (1, 1)) -> NDArray[np.bool_]:
    """The same by scipy's exact Euclidean distance."""
    return ndimage.distance_transform_edt(~mask, sampling=sampling) <= radius + 1e-6


def test_scene_classification_codes_become_reasons() -> None:
    reasons = quality_reasons(row(0, 1, 2, 3, 4, 6, 8, 9, 10, 11), SCL)
    assert reasons.tolist() == [[2, 6, 1, 4, 1, 1, 3, 3, 7, 1]]
    assert reasons.dtype == np.uint8


def test_snow_and_water_are_masked_only_when_asked() -> None:
    assert quality_reasons(row(6, 11), SCL).tolist() == [[Reason.OBSERVED, Reason.OBSERVED]]
    assert quality_reasons(row(6, 11, 8), SCL, ("snow", "water")).tolist() == [[Reason.WATER, Reason.SNOW, Reason.OBSERVED]]
    assert not {"snow", "water"} & set(DEFAULT_MASK_CLASSES)


def test_bits_are_read_whatever_else_is_set() -> None:
    clear, cloud, shadow, water, fill = 21824, 22280, 23888, 21952, 1  # values of the Landsat Collection 2 guide
    reasons = quality_reasons(row(clear, cloud, shadow, water, fill, dtype=np.uint16), QA_PIXEL)
    assert reasons.tolist() == [[Reason.OBSERVED, Reason.CLOUD, Reason.CLOUD_SHADOW, Reason.OBSERVED, Reason.NO_DATA]]


def test_signed_layers_with_their_highest_bit_set_are_read() -> None:
    table = QualityTable("bits", {"cloud": (15,)})
    assert quality_reasons(row(-32768, 1, dtype=np.int16), table).tolist() == [[Reason.CLOUD, Reason.OBSERVED]]


def test_the_first_in_precedence_is_the_reason_where_several_hold() -> None:
    fill_cloud, cloud_shadow_snow, cirrus_water = 0b1001, 0b111000, 0b10000100
    reasons = quality_reasons(row(fill_cloud, cloud_shadow_snow, cirrus_water), QA_PIXEL, ALL)
    assert reasons.tolist() == [[Reason.NO_DATA, Reason.CLOUD, Reason.CIRRUS]]


def test_planes_are_one_band_for_each_class() -> None:
    planes = np.zeros((8, 1, 4), dtype=np.uint8)
    planes[1, 0, 0] = planes[2, 0, 1] = planes[4, 0, 2] = planes[5, 0, 3] = 1
    reasons = quality_reasons(planes, UDM2, ALL)
    assert reasons.tolist() == [[Reason.SNOW, Reason.CLOUD_SHADOW, Reason.CLOUD, Reason.CLOUD]]


def test_too_few_planes_are_refused() -> None:
    with pytest.raises(BandError, match="has 1 bands; expected at least 3"):
        quality_reasons(row(0, 1), UDM2)


def test_where_the_quality_layer_ends_nothing_is_known() -> None:
    geobox = GeoBox((1, 2), Affine.identity(), "EPSG:32630")
    layer = Raster(np.array([[[4, 0]]], dtype=np.uint8), np.array([[[True, False]]]), geobox, (Band("SCL", "quality"),))
    assert quality_reasons(layer, SCL).tolist() == [[Reason.OBSERVED, Reason.NO_DATA]]
    assert quality_reasons(layer, SCL, ("cloud",)).tolist() == [[Reason.OBSERVED, Reason.OBSERVED]]


def test_an_unknown_class_is_answered_with_the_known_ones() -> None:
    with pytest.raises(BandError, match="no quality class 'haze'; there are nodata, cloud"):
        quality_reasons(row(0), SCL, ("haze",))  # type: ignore[arg-type]


@pytest.mark.parametrize("sensor", [s for s in SENSORS.values() if s.quality], ids=lambda s: s.name)
def test_the_table_of_every_sensor_is_read(sensor: Sensor) -> None:
    table = sensor.quality
    assert table is not None
    for name, numbers in table.meanings.items():
        for number in numbers:
            planes = np.zeros((32, 1, 1), dtype=np.uint16)
            planes[number - 1] = 1
            flags = np.zeros((2, 1, 1), dtype=np.uint16)
            flags[number // 16] = 1 << number % 16
            layer = {"codes": row(number), "bits": flags, "planes": planes}[table.coding]
            assert quality_reasons(layer, table, (name,)).item() == REASON_OF[name]


def test_the_legend_names_every_reason() -> None:
    assert REASON_LEGEND.codes == tuple(Reason)
    assert REASON_LEGEND.colour_table()[Reason.OBSERVED][3] == 0


@pytest.mark.parametrize("radius", [0, 0.5, 1, 1.5, 2, 5, 7.3, 40])
def test_growth_is_a_euclidean_disc(radius: float) -> None:
    mask = np.random.default_rng(0).random((61, 47)) < 0.003
    assert mask.any()
    assert np.array_equal(grow(mask, radius), disc(mask, radius))


@pytest.mark.parametrize(("rows", "cols"), [(2, 5), (6, 3), (1, 8), (0, 3), (3, 0.4)])
def test_growth_is_an_ellipse_where_pixels_are_not_square_on_the_ground(rows: float, cols: float) -> None:
    mask = np.random.default_rng(0).random((40, 50)) < 0.003
    expected = disc(mask, 1, (1 / max(rows, 1e-3), 1 / max(cols, 1e-3)))
    assert np.array_equal(grow(mask, (rows, cols)), expected)


def test_growth_of_a_tile_with_its_halo_equals_the_whole() -> None:
    mask = np.random.default_rng(3).random((90, 90)) < 0.002
    assert np.array_equal(grow(mask[15:75, 20:80], 6)[6:-6, 6:-6], grow(mask, 6)[21:69, 26:74])


def test_an_empty_mask_stays_empty_and_a_negative_margin_is_refused() -> None:
    empty = np.zeros((5, 5), dtype=bool)
    assert not grow(empty, 3).any()
    with pytest.raises(ValueError, match="cannot grow by -1"):
        grow(empty, -1)


def test_clouds_grow_onto_observed_ground_only() -> None:
    reasons = row(0, 2, 3, 1, 1, 4, 5, 4, 1, 1)
    assert grow_reasons(reasons, 1).tolist() == [[0, 2, 3, 3, 4, 4, 5, 4, 4, 1]]
    assert reasons.tolist() == [[0, 2, 3, 1, 1, 4, 5, 4, 1, 1]]


def test_the_edge_of_the_data_does_not_grow() -> None:
    reasons = row(0, 2, 5, 1, 1)
    assert grow_reasons(reasons, 3).tolist() == [[0, 2, 5, 1, 1]]


def test_cloud_wins_over_shadow_where_both_grow() -> None:
    assert grow_reasons(row(4, 1, 3), 1).tolist() == [[4, Reason.CLOUD, 3]]


def reflectance(**planes: NDArray[np.floating]) -> Raster:
    values = np.stack(list(planes.values())).astype(np.float32)
    geobox = GeoBox(values.shape[1:], Affine.identity(), "EPSG:32630")
    return Raster(values, np.ones(values.shape, dtype=bool), geobox, tuple(Band(r, r, unit="reflectance") for r in planes))


def test_cloud_is_told_from_grass_sand_water_and_snow() -> None:
    cloud, grass, sand, water, snow = (0.5, 0.48, 0.4), (0.08, 0.06, 0.2), (0.25, 0.3, 0.4), (0.05, 0.03, 0.01), (0.8, 0.8, 0.05)
    green, red, swir16 = np.array([[cloud, grass, sand, water, snow]]).transpose(2, 0, 1)
    assert cloudy_share(reflectance(green=green, red=red, swir16=swir16)) == pytest.approx(1 / 5)


def test_cloud_is_not_guessed_without_the_bands_or_in_digital_numbers() -> None:
    plane = np.full((2, 2), 0.5)
    assert cloudy_share(reflectance(green=plane, red=plane)) is None
    raster = reflectance(green=plane, red=plane, swir16=plane)
    assert cloudy_share(replace(raster, bands=tuple(replace(band, unit="1") for band in raster.bands))) is None


@pytest.mark.parametrize("sensor", ["sentinel2", "landsat5", "landsat7"])
def test_labelled_scenes_with_clouds_look_cloudy(sensor: str, shared_data: Callable[[str], Path]) -> None:
    scene = np.load(shared_data("clouds_s2_l7_l5") / f"{sensor}.npz")
    cloud = scene["msk"].squeeze() == 4
    green, red, swir16 = (np.atleast_2d(np.moveaxis(scene["img"], -1, 0)[band]) for band in (1, 2, 4))
    assert (cloudy_share(reflectance(green=green, red=red, swir16=swir16)) or 0) > CLOUDY_SHARE
    clear = {"green": green[~cloud][None], "red": red[~cloud][None], "swir16": swir16[~cloud][None]}
    assert (cloudy_share(reflectance(**clear)) or 0) < CLOUDY_SHARE
