"""What read_raster returns: values and validity on the file's own grid, and interpolated ones on another."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.enums import ColorInterp
from rasterio.shutil import copy as copy_raster

import geoseg.io.geotiff as geotiff
from geoseg.errors import BandError, SceneError
from geoseg.io.geotiff import file_geobox, files_kept_open, footprint, read_raster
from geoseg.sensors import Band

UTM30 = "EPSG:32630"
NORTH_UP = Affine(10, 0, 500000, 0, -10, 5000000)


def write(path: Path, values: NDArray[Any], *, transform: Affine = NORTH_UP, crs: str = UTM30, **profile: Any) -> str:
    planes = values if values.ndim == 3 else values[None]
    size = {"count": planes.shape[0], "height": planes.shape[1], "width": planes.shape[2], "dtype": planes.dtype}
    with rasterio.open(path, "w", driver="GTiff", crs=crs, transform=transform, **size, **profile) as file:
        file.write(planes)
    return str(path)


def finer(shape: tuple[int, int], pixel: float, crs: str = UTM30) -> GeoBox:
    return GeoBox(shape, Affine(pixel, 0, 500000, 0, -pixel, 5000000), crs)


def test_whole_file_comes_as_it_is_stored(tmp_path: Path) -> None:
    values = np.arange(60, dtype="uint16").reshape(2, 5, 6) + 1
    raster = read_raster(write(tmp_path / "a.tif", values), [2, 1])
    assert raster.values.dtype == np.uint16
    assert np.array_equal(raster.values, values[::-1])
    assert raster.valid.all()
    assert raster.geobox == GeoBox((5, 6), NORTH_UP, UTM30)


@pytest.mark.parametrize("first", [(-3, -2), (3, 4), (1, 1), (-2, 30), (0, -40)])
def test_window_beyond_the_edge_is_not_valid_there(tmp_path: Path, first: tuple[int, int]) -> None:
    values = np.arange(1, 31, dtype="int16").reshape(5, 6)
    path = write(tmp_path / "a.tif", values)
    row, col = first
    raster = read_raster(path, [1], GeoBox((4, 5), NORTH_UP * Affine.translation(col, row), UTM30))
    padded = np.pad(values, 50)[50 + row : 54 + row, 50 + col : 55 + col]
    assert raster.values.dtype == np.int16
    assert np.array_equal(raster.values[0], padded)
    assert np.array_equal(raster.valid[0], padded > 0)
    assert np.array_equal(footprint(path, raster.geobox), padded > 0)


@pytest.mark.parametrize("away", [(449, 0), (-449, 0), (0, 449), (0, -449), (449, 449)])
def test_nothing_is_valid_where_the_window_lies_wholly_outside(tmp_path: Path, away: tuple[int, int]) -> None:
    path = write(tmp_path / "blocks.tif", np.ones((300, 300), np.uint8), tiled=True, blockxsize=256, blockysize=256)
    there = file_geobox(path).translate_pix(away[1], away[0])
    raster = read_raster(path, [1], there)
    assert raster.values.shape == (1, 300, 300)
    assert not raster.valid.any()
    assert not raster.values.any()


@pytest.mark.parametrize(
    ("dtype", "nodata", "stored"),
    [
        ("uint8", 7, 7),
        ("float32", float("nan"), np.nan),
        ("float32", -9999.9, -9999.9),
        ("float64", -1e300, -1e300),
        ("int32", -(2**31), -(2**31)),
    ],
)
def test_nodata_value_is_not_valid(tmp_path: Path, dtype: str, nodata: float, stored: float) -> None:
    values = np.ones((2, 3), dtype=dtype)
    values[0, 1] = stored
    raster = read_raster(write(tmp_path / "a.tif", values, nodata=nodata), [1])
    assert raster.valid[0].tolist() == [[True, False, True], [True, True, True]]
    assert raster.values[0, 0, 1] == 0


def test_nan_and_infinity_are_never_data(tmp_path: Path) -> None:
    values = np.array([[np.nan, np.inf, -np.inf, 1]], dtype="float32")
    raster = read_raster(write(tmp_path / "a.tif", values, nodata=-1), [1])
    assert raster.valid[0].tolist() == [[False, False, False, True]]
    assert raster.values[0].tolist() == [[0, 0, 0, 1]]


def test_nodata_that_the_dtype_cannot_hold_hides_nothing(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", np.array([[0, 241, 255]], dtype="uint8"))  # -9999 modulo 256 is 241
    (tmp_path / "a.vrt").write_text(
        f'<VRTDataset rasterXSize="3" rasterYSize="1"><SRS>{UTM30}</SRS><GeoTransform>500000,10,0,5000000,0,-10</GeoTransform>'
        f'<VRTRasterBand dataType="Byte" band="1"><NoDataValue>-9999</NoDataValue><SimpleSource><SourceFilename>{path}</SourceFilename>'
        "</SimpleSource></VRTRasterBand></VRTDataset>"
    )
    raster = read_raster(str(tmp_path / "a.vrt"), [1])
    assert raster.valid.all()
    assert raster.values[0].tolist() == [[0, 241, 255]]


def test_validity_is_each_bands_own(tmp_path: Path) -> None:
    raster = read_raster(write(tmp_path / "a.tif", np.array([[[0, 1]], [[1, 0]]], dtype="uint8"), nodata=0), [1, 2])
    assert raster.valid.tolist() == [[[False, True]], [[True, False]]]


@pytest.mark.parametrize(("stated", "valid"), [(None, [False, True]), (5, [True, False])])
def test_nodata_of_the_band_counts_where_the_file_states_none(tmp_path: Path, stated: int | None, valid: list[bool]) -> None:
    path = write(tmp_path / "a.tif", np.array([[0, 5]], dtype="uint16"), nodata=stated)
    assert read_raster(path, {1: Band("B04", "red", nodata=0)}).valid[0, 0].tolist() == valid


@pytest.mark.parametrize("internal", [True, False])
def test_mask_inside_or_beside_the_file_counts(tmp_path: Path, internal: bool) -> None:
    mask = np.array([[255, 0, 255]], dtype="uint8")
    path = write(tmp_path / "a.tif", np.array([[[1, 2, 3]]] * 3, dtype="uint8"))
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=internal), rasterio.open(path, "r+") as file:
        file.write_mask(mask)
    assert (tmp_path / "a.tif.msk").exists() is not internal
    assert read_raster(path, [1, 3]).valid[:, 0].tolist() == [[True, False, True]] * 2


def rgba(tmp_path: Path, fourth: NDArray[Any]) -> str:
    values = np.full((4, *fourth.shape), 9, dtype="uint8")
    values[3] = fourth
    path = write(tmp_path / "a.tif", values)
    with rasterio.open(path) as file:
        assert file.colorinterp[3] == ColorInterp.alpha  # GDAL's guess, from the count alone
    return path


def test_alpha_of_0_and_255_is_a_mask(tmp_path: Path) -> None:
    raster = read_raster(rgba(tmp_path, np.array([[0, 255]], dtype="uint8")), [1, 2, 3])
    assert raster.valid[:, 0].tolist() == [[False, True]] * 3


def test_near_infrared_flagged_as_alpha_hides_nothing(tmp_path: Path) -> None:
    path = rgba(tmp_path, np.array([[0, 90, 255]], dtype="uint8"))
    assert read_raster(path, [1, 2, 3]).valid.all()
    assert read_raster(path, [4]).values[0].tolist() == [[0, 90, 255]]


def test_alpha_that_is_asked_for_is_data(tmp_path: Path) -> None:
    assert read_raster(rgba(tmp_path, np.array([[0, 255]], dtype="uint8")), [1, 4]).valid.all()


def test_bilinear_is_the_weighted_mean_of_valid_neighbours(tmp_path: Path) -> None:
    values = np.array([[4, 8, 0, 16]], dtype="uint8")
    raster = read_raster(write(tmp_path / "a.tif", values, nodata=0), [1], finer((2, 8), 5))
    assert raster.values.dtype == np.float32
    assert raster.values[0].tolist() == [[4, 5, 7, 8, 0, 0, 16, 16]] * 2  # 0.75 x 4 + 0.25 x 8 = 5; 8 beside nodata stays 8
    assert raster.valid[0].tolist() == [[True] * 4 + [False] * 2 + [True] * 2] * 2


def test_mean_weighs_by_area_and_is_valid_from_half(tmp_path: Path) -> None:
    values = np.array([[2, 4, 6, 0, 0, 0, 5, 0]], dtype="uint16")
    raster = read_raster(write(tmp_path / "a.tif", values.repeat(2, axis=0), nodata=0), [1], finer((1, 4), 20))
    assert raster.values[0].tolist() == [[3, 6, 0, 5]]
    assert raster.valid[0].tolist() == [[True, True, False, True]]
    coarse = read_raster(str(tmp_path / "a.tif"), [1], GeoBox((1, 1), Affine(25, 0, 500000, 0, -20, 5000000), UTM30))
    assert coarse.values[0, 0, 0] == pytest.approx((2 + 4 + 0.5 * 6) / 2.5)


def test_quality_and_classes_take_the_nearest_pixel_and_keep_their_dtype(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", np.array([[3, 9], [3, 9]], dtype="uint8"))
    for band in (Band("SCL", "quality"), Band("map", "landcover", unit="class")):
        raster = read_raster(path, {1: band}, finer((1, 1), 16), resampling="average")
        assert raster.values.dtype == np.uint8
        assert raster.values[0].tolist() == [[3]]


def test_decibels_are_interpolated_in_linear_power(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", np.array([[0, 10], [0, 10]], dtype="float32"))
    raster = read_raster(path, {1: Band("VV", "vv", unit="dB")}, finer((1, 1), 20))
    assert raster.values[0, 0, 0] == pytest.approx(10 * np.log10((1 + 10) / 2))


def test_decibels_stored_as_scaled_integers_are_interpolated_in_linear_power_too(tmp_path: Path) -> None:
    band = Band("VV", "vv", unit="dB", scale=0.01, offset=-50)
    path = write(tmp_path / "a.tif", np.array([[5000, 6000], [5000, 6000]], dtype="uint16"))  # 0 and 10 dB
    expected = (10 * np.log10((1 + 10) / 2) + 50) / 0.01
    assert read_raster(path, {1: band}, finer((1, 1), 20)).values[0, 0, 0] == pytest.approx(expected)
    assert read_raster(path, {1: band}, finer((1, 1), 20), resampling="nearest").values[0, 0, 0] == 6000


@pytest.mark.parametrize(
    ("stored", "interpolated"), [("uint8", "f4"), ("int16", "f4"), ("float32", "f4"), ("int32", "f8"), ("uint32", "f8"), ("float64", "f8")]
)
def test_interpolated_values_keep_the_precision_of_the_stored_ones(tmp_path: Path, stored: str, interpolated: str) -> None:
    path = write(tmp_path / "a.tif", np.ones((2, 2), dtype=stored))
    assert read_raster(path, [1], finer((4, 4), 5)).values.dtype == np.dtype(interpolated)


def test_a_constant_stays_constant(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", np.full((40, 50), 1234, dtype="uint16"))
    for pixel in (3.7, 10.4, 15, 33):
        raster = read_raster(path, [1], finer((round(300 / pixel), round(400 / pixel)), pixel))
        assert np.unique(raster.values[raster.valid]).tolist() == [1234]


def test_reading_needs_no_more_than_a_bounded_window_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.arange(120 * 90, dtype="float32").reshape(120, 90)
    path, sizes, plain = write(tmp_path / "a.tif", values), [], geotiff._read_window
    whole = read_raster(path, [1], finer((4, 3), 300))
    monkeypatch.setattr(geotiff, "_SOURCE_PIXELS", 1200)
    monkeypatch.setattr(geotiff, "_read_window", lambda *given: sizes.append(given[-1][0] * given[-1][1]) or plain(*given))
    raster = read_raster(path, [1], finer((4, 3), 300))
    assert max(sizes) <= 1200
    assert len(sizes) == 12
    assert np.array_equal(raster.values, whole.values)
    assert np.allclose(raster.values[0], values.reshape(4, 30, 3, 30).mean(axis=(1, 3)))


def test_band_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(BandError, match=r"no band 3 in .*a\.tif; it has 1"):
        read_raster(write(tmp_path / "a.tif", np.ones((2, 2), dtype="uint8")), [3])


def test_complex_pixels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SceneError, match="complex numbers"):
        read_raster(write(tmp_path / "a.tif", np.ones((2, 2), dtype="complex64")), [1])


def test_file_can_be_replaced_after_reading_and_the_new_one_is_read(tmp_path: Path) -> None:
    first, second = (write(tmp_path / f"{value}.tif", np.full((2, 2), value, dtype="uint8")) for value in (1, 2))
    with files_kept_open():
        assert read_raster(first, [1]).values.max() == read_raster(first, [1]).values.max() == 1
    Path(second).replace(first)
    assert read_raster(first, [1]).values.max() == 2


def test_threads_read_the_same_file_side_by_side(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(1, 9999, (256, 256)).astype("uint16")
    path = write(tmp_path / "a.tif", values, tiled=True, blockxsize=16, blockysize=16, compress="deflate")
    grid = file_geobox(path)
    windows = [np.s_[row : row + 32, :] for row in range(0, 225, 8)] * 4
    with files_kept_open(), ThreadPoolExecutor(8) as pool:
        read = list(pool.map(lambda window: read_raster(path, [1], grid[window]).values[0], windows))
    assert all(np.array_equal(got, values[window]) for got, window in zip(read, windows, strict=True))


def test_jpeg2000_reads_like_a_geotiff(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", np.arange(64 * 64, dtype="uint16").reshape(64, 64))
    copy_raster(path, str(tmp_path / "a.jp2"), driver="JP2OpenJPEG", QUALITY="100", REVERSIBLE="YES")
    assert np.array_equal(read_raster(str(tmp_path / "a.jp2"), [1]).values, read_raster(path, [1]).values)
