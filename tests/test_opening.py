"""Files that cannot be read end in one sentence that says what is wrong and what to do."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.control import GroundControlPoint
from rasterio.rpc import RPC

from geoseg.errors import SceneError
from geoseg.io.geotiff import files_kept_open, read_raster
from geoseg.io.opening import file_geobox, gdal_env

NORTH_UP = Affine(10, 0, 500000, 0, -10, 5000000)
ONE, NONE = [1.0] + [0.0] * 19, [0.0] * 20
RPCS = RPC(
    height_off=100, height_scale=50, lat_off=44.2, lat_scale=1, long_off=4.7, long_scale=1,
    line_off=5, line_scale=10, samp_off=5, samp_scale=10, err_bias=None, err_rand=None,
    line_num_coeff=NONE, line_den_coeff=ONE, samp_num_coeff=NONE, samp_den_coeff=ONE,
)  # fmt: skip


def write(path: Path, **profile: object) -> Path:
    values = np.random.default_rng(0).integers(0, 60000, (1, 200, 300)).astype("uint16")
    with rasterio.open(path, "w", driver="GTiff", width=300, height=200, count=1, dtype="uint16", **profile) as file:
        file.write(values)
    return path


def located(path: Path, **profile: object) -> Path:
    return write(path, crs="EPSG:32630", transform=NORTH_UP, **profile)


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(SceneError, match=r"no such file: .*absent\.tif"):
        file_geobox(str(tmp_path / "absent.tif"))


def test_folder_is_not_a_raster_file(tmp_path: Path) -> None:
    with pytest.raises(SceneError, match="is a folder"):
        file_geobox(str(tmp_path))


@pytest.mark.parametrize(("content", "sentence"), [(b"", r"empty \(zero bytes\)"), (b"hello, world", "not a raster that GDAL can open")])
def test_what_is_not_a_raster_is_said(tmp_path: Path, content: bytes, sentence: str) -> None:
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(SceneError, match=sentence):
        file_geobox(str(tmp_path / "a.tif"))


def test_remote_file_that_cannot_be_reached_is_said(tmp_path: Path) -> None:
    with pytest.raises(SceneError, match="see that it exists and can be reached"):
        file_geobox(f"/vsizip/{tmp_path}/absent.zip/a.tif")


@pytest.mark.parametrize("kept", [6, 60])
def test_geotiff_cut_in_its_header_is_called_truncated(tmp_path: Path, kept: int) -> None:
    path = located(tmp_path / "a.tif")
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(SceneError, match=r"a\.tif begins as a GeoTIFF .* truncated"):
        file_geobox(str(path))


@pytest.mark.parametrize("profile", [{}, {"compress": "deflate"}, {"tiled": True, "blockxsize": 64, "blockysize": 64, "compress": "zstd"}])
def test_geotiff_cut_in_its_pixels_opens_but_is_called_truncated_when_read(tmp_path: Path, profile: dict[str, object]) -> None:
    path = located(tmp_path / "a.tif", **profile)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    grid = file_geobox(str(path))
    with files_kept_open(), pytest.raises(SceneError, match=r"a\.tif opens but cannot be read in full"):
        read_raster(str(path), [1])
    with pytest.raises(SceneError, match=r"a\.tif opens but cannot be read in full"):
        read_raster(str(path), [1], grid.zoom_out(2))


def test_no_crs_is_said_with_the_cure(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", transform=NORTH_UP)
    with pytest.raises(SceneError, match=r"has no CRS.*rio edit-info --crs"):
        file_geobox(str(path))


def test_crs_without_a_place_is_said(tmp_path: Path) -> None:
    with pytest.raises(SceneError, match="no geotransform"):
        file_geobox(str(write(tmp_path / "a.tif", crs="EPSG:32630")))


def test_ground_control_points_alone_are_told_how_to_become_a_grid(tmp_path: Path) -> None:
    points = [GroundControlPoint(row, col, 4.7 + col / 1e4, 44.2 - row / 1e4) for row in (0, 200) for col in (0, 300)]
    path = write(tmp_path / "a.tif", gcps=points, crs="EPSG:4326")
    with pytest.raises(SceneError, match=r"only by 4 ground control points.*gdalwarp -tps -r bilinear -t_srs EPSG:32631 "):
        file_geobox(str(path))


def test_rational_polynomials_alone_are_told_how_to_become_a_grid(tmp_path: Path) -> None:
    with pytest.raises(SceneError, match=r"RPC.*gdalwarp -rpc -to RPC_DEM=dem.tif -r bilinear -t_srs EPSG:32631 "):
        file_geobox(str(write(tmp_path / "a.tif", rpcs=RPCS)))


def test_the_libraries_stay_silent(tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = write(tmp_path / "a.tif")
    with warnings.catch_warnings(record=True) as seen, caplog.at_level(logging.WARNING):
        warnings.simplefilter("always", rasterio.errors.NotGeoreferencedWarning)
        with pytest.raises(SceneError):
            file_geobox(str(path))
    assert [str(one.message) for one in seen if one.category is rasterio.errors.NotGeoreferencedWarning] == []
    assert capfd.readouterr() == ("", "")


def test_files_are_closed_after_reading_and_kept_only_inside_the_block(tmp_path: Path) -> None:
    descriptors = Path("/proc/self/fd")
    if not descriptors.is_dir():
        pytest.skip("this platform does not list open files under /proc")
    path = located(tmp_path / "a.tif")

    def held() -> int:
        return sum(entry.resolve() == path for entry in descriptors.iterdir())

    read_raster(str(path), [1])
    assert held() == 0
    with files_kept_open():
        read_raster(str(path), [1])
        read_raster(str(path), [1])
        assert held() == 1
    assert held() == 0


def test_the_block_cache_is_counted_in_megabytes_and_not_made_smaller_inside():
    with gdal_env(64):
        assert rasterio.env.getenv()["GDAL_CACHEMAX"] == 64 * 1024 * 1024
        with gdal_env(16):
            assert rasterio.env.getenv()["GDAL_CACHEMAX"] == 64 * 1024 * 1024
    with gdal_env(16):
        assert rasterio.env.getenv()["GDAL_CACHEMAX"] == 16 * 1024 * 1024
