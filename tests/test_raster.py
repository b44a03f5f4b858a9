"""A Raster is refused when its parts do not fit, and keeps place and meaning in all that is cut from it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox

from geoseg.errors import BandError
from geoseg.io.geotiff import read_raster
from geoseg.raster import Raster
from geoseg.scenes.arrays import write_array
from geoseg.sensors import Band

STRAIGHT = GeoBox((4, 5), Affine(10, 0, 500_000, 0, -10, 5_000_000), "EPSG:32632")
TURNED = GeoBox((4, 5), STRAIGHT.affine @ Affine.rotation(30), "EPSG:32632")


def raster(geobox=STRAIGHT):
    values = np.arange(40, dtype=np.uint16).reshape(2, 4, 5)
    return Raster(values, values % 7 > 0, geobox, (Band("B04", "red"), Band("B08", "nir")))


def test_parts_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="ask for"):
        replace(raster(), values=np.zeros((1, 4, 5)))
    with pytest.raises(ValueError, match="bool"):
        replace(raster(), valid=np.ones((2, 4, 5), np.uint8))
    with pytest.raises(BandError, match="twice"):
        replace(raster(), bands=(Band("B04", "red"), Band("B4", "red")))


def test_bands_are_asked_for_by_role():
    whole = raster()
    assert np.array_equal(whole.band("nir"), whole.values[1])
    assert whole.select("nir", "red").roles == ("nir", "red")
    with pytest.raises(BandError, match="red, nir"):
        whole.band("swir16")


def test_a_part_knows_its_place():
    part = raster().crop(slice(1, 3), slice(2, 5))
    assert np.array_equal(part.values, raster().values[:, 1:3, 2:5])
    assert part.geobox.affine == STRAIGHT.affine @ Affine.translation(2, 1)


def test_valid_everywhere_is_valid_in_all_bands():
    assert np.array_equal(raster().valid_everywhere, raster().valid[0] & raster().valid[1])


@pytest.mark.parametrize("geobox", [STRAIGHT, TURNED])
def test_xarray_keeps_values_place_and_roles(geobox):
    array = raster(geobox).to_xarray()
    assert array.rio.transform().almost_equals(geobox.affine)
    assert array.rio.crs.to_epsg() == 32632
    assert array.band.values.tolist() == ["red", "nir"]
    again = read_raster(write_array(array), [1, 2])
    assert np.array_equal(again.valid, raster().valid)
    assert np.array_equal(again.values, np.where(raster().valid, raster().values, 0))
    assert again.geobox.affine.almost_equals(geobox.affine)
