"""Spectral indices against spyndex itself."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox

from geoseg.errors import BandError
from geoseg.preprocess.indices import LETTERS, get_index, needed_roles, spectral_index
from geoseg.raster import Raster
from geoseg.sensors import Band

WAVELENGTHS_NM = {"green": 560.0, "red": 665.0, "nir": 833.0, "nir08": 865.0, "swir16": 1614.0, "swir22": 2202.0}
LINEAR_POWER = ("vv", "vh", "hh", "hv")


def raster(values: dict[str, list[float]], unit: str = "reflectance") -> Raster:
    planes = np.array([[row] for row in values.values()], dtype=np.float32)  # (band, 1, col)
    bands = tuple(
        Band(role, role, WAVELENGTHS_NM[role] / 1000 if role in WAVELENGTHS_NM else None, unit=_unit(role, unit)) for role in values
    )
    geobox = GeoBox(planes.shape[1:], Affine(10, 0, 5e5, 0, -10, 5e6), "EPSG:32630")
    return Raster(planes, np.ones(planes.shape, dtype=bool), geobox, bands)


def _unit(role: str, unit: str) -> str:
    return "linear power" if role in LINEAR_POWER else "K" if role.startswith("lwir") else unit


def test_every_index_of_the_catalogue_equals_spyndex() -> None:
    spyndex = pytest.importorskip("spyndex")
    rng = np.random.default_rng(0)
    compared = 0
    for name in spyndex.indices:
        index = get_index(name)
        scene = raster({role: rng.uniform(0.05, 0.6, 40).tolist() for role in index.roles()})
        params = {letter: scene.band(needed[0]).astype(np.float64) for letter, needed in LETTERS.items() if needed[0] in scene.roles}
        params |= {"L": 1.0, "PAR": 3.0}
        params |= {c: spyndex.constants[c].default for c in spyndex.constants if c not in params and not c.startswith("lambda")}
        params |= {"lambda" + letter: WAVELENGTHS_NM[LETTERS[letter][0]] for letter in ("G", "R", "N", "N2", "S1", "S2")}
        for kernel in [v for v in index.letters if v[0] == "k" and len(v) == 3]:
            params[kernel] = spyndex.computeKernel("RBF", a=params[kernel[1]], b=params[kernel[2]], sigma=0.5)
        with np.errstate(all="ignore"):
            expected = np.broadcast_to(spyndex.computeIndex(name, params={v: params[v] for v in index.letters}), (1, 40))
        ours = spectral_index(name, scene, {"PAR": 3.0, "lambdaR": 665.0})  # FDI takes lambdaR without the red band
        defined = np.isfinite(expected)
        assert np.array_equal(np.isfinite(ours), defined), name
        assert np.allclose(ours[defined], expected[defined], rtol=2e-3, atol=2e-3 * np.abs(expected[defined]).max(initial=1e-3)), name
        compared += 1
    assert compared > 250


@pytest.mark.parametrize("name", ["NDVI", "NDWI", "MNDWI", "EVI", "SAVI", "NBR", "NDMI", "AWEInsh", "BI", "kNDVI", "DpRVIVV"])
def test_common_indices_keep_float32_digits(name: str) -> None:
    scene = raster({role: [0.31, 0.07, 0.22] for role in needed_roles(name)})
    values = np.random.default_rng(1).uniform(0.01, 0.5, scene.values.shape)
    exact = get_index(name).evaluate(dict(zip(scene.roles, values, strict=True)), {}, {})
    rounded = spectral_index(name, Raster(values.astype(np.float32), scene.valid, scene.geobox, scene.bands))
    assert rounded.dtype == np.float32
    assert np.allclose(rounded, exact, rtol=1e-4, atol=1e-5)


def test_ndvi_of_a_constant_image_is_zero_even_where_it_is_black() -> None:
    assert spectral_index("NDVI", raster({"nir": [0.3, 0.0], "red": [0.3, 0.0]})).tolist() == [[0, 0]]


def test_a_value_divided_by_zero_is_undefined() -> None:
    values = spectral_index("SR", raster({"nir": [0.3, 0.4], "red": [0.0, 0.2]}))
    assert np.isnan(values[0, 0])
    assert values[0, 1] == pytest.approx(2)


def test_negative_reflectance_counts_as_zero_so_that_ndwi_stays_within_one() -> None:
    values = spectral_index("NDWI", raster({"green": [0.0101, -0.002], "nir": [-0.01, -0.003]}))
    assert values.tolist() == [[1, 0]]


def test_stored_numbers_are_scaled_before_an_index_with_constants() -> None:
    bands = tuple(Band(role, role, scale=1e-4, offset=-0.1, unit="reflectance") for role in ("nir", "red", "blue"))
    stored = np.array([5000, 2000, 1500], dtype=np.uint16).reshape(3, 1, 1)
    scene = Raster(stored, np.ones(stored.shape, dtype=bool), GeoBox((1, 1), Affine.identity(), "EPSG:32630"), bands)
    expected = 2.5 * (0.4 - 0.1) / (0.4 + 6 * 0.1 - 7.5 * 0.05 + 1)
    assert spectral_index("EVI", scene)[0, 0] == pytest.approx(expected, rel=1e-5)


def test_radar_indices_are_taken_in_linear_power() -> None:
    power = raster({"vh": [0.02], "vv": [0.1]})
    bands = tuple(Band(r, r, unit="dB") for r in power.roles)
    decibels = Raster((10 * np.log10(power.values)).astype(np.float32), power.valid, power.geobox, bands)
    assert spectral_index("DpRVIVV", decibels)[0, 0] == pytest.approx(4 * 0.02 / 0.12, rel=1e-5)


def test_an_index_of_invalid_pixels_is_nan() -> None:
    scene = raster({"nir": [0.4, 0.4], "red": [0.1, 0.1]})
    scene.valid[1, 0, 1] = False
    assert np.isnan(spectral_index("NDVI", scene)).tolist() == [[False, True]]


def test_thermal_indices_take_the_thermal_band_that_the_scene_has() -> None:
    assert "lwir" in needed_roles("EBBI")
    assert "lwir11" in needed_roles("EBBI", ("swir16", "nir", "lwir11"))


def test_constants_replace_the_usual_ones() -> None:
    scene = raster({"nir": [0.4], "red": [0.1]})
    assert spectral_index("SAVI", scene, {"L": 0.5})[0, 0] == pytest.approx(1.5 * 0.3 / 1.0, rel=1e-6)
    assert spectral_index("SAVI", scene)[0, 0] == pytest.approx(2 * 0.3 / 1.5, rel=1e-6)


def test_an_unknown_index_is_answered_with_known_ones() -> None:
    with pytest.raises(BandError, match=r"no spectral index 'NDVY'.*NDVI"):
        get_index("NDVY")


def test_a_constant_without_a_usual_value_is_asked_for() -> None:
    with pytest.raises(BandError, match="NIRvP needs PAR"):
        spectral_index("NIRvP", raster({"nir": [0.4], "red": [0.1]}))


def test_a_missing_band_is_named() -> None:
    with pytest.raises(BandError, match="'nir'"):
        spectral_index("NDVI", raster({"red": [0.1]}))


def test_the_names_are_found_whatever_their_case() -> None:
    assert get_index("ndwi").name == "NDWI"


def test_the_catalogue_is_read_without_importing_spyndex() -> None:
    code = (
        "import sys; from geoseg.preprocess.indices import get_index; get_index('NDVI'); print({'spyndex', 'requests'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "set()"
