"""Orthos in layouts that are hard to read: each block is decoded once, within the memory that is announced, and borders stay empty."""

from __future__ import annotations

import numpy as np
import packages
import pytest
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.enums import ColorInterp

from geoseg.io import opening, validity
from geoseg.io.block_rows import block_rows
from geoseg.io.geotiff import read_raster
from geoseg.io.looks import few_windows, spread, window_shape
from geoseg.mapping import plan as planning
from geoseg.mapping import rows
from geoseg.mapping.plan import MapOptions, plan_map
from geoseg.models.package import ModelPackage
from geoseg.scenes.open_scene import open_scene

ROWS, COLS = 1536, 1500
UTM = Affine(0.1, 0, 450_000, 0, -0.1, 40_000)
RGBA = {"driver": "GTiff", "count": 4, "photometric": "rgb", "interleave": "pixel"}
TILES = {"tiled": True, "blockxsize": 128, "blockysize": 128}
LAYOUTS = {
    "one-row strips": {**RGBA, "tiled": False, "blockysize": 1},
    "one-row strips by band": {**RGBA, "tiled": False, "blockysize": 1, "interleave": "band"},
    "LZW strips": {**RGBA, "tiled": False, "blockysize": 1, "compress": "lzw"},
    "tiles": {**RGBA, **TILES, "compress": "deflate"},
    "tiles by band": {**RGBA, **TILES, "interleave": "band"},
    "JPEG with a mask": {**RGBA, **TILES, "count": 3, "compress": "jpeg", "photometric": "ycbcr"},
    "JPEG 2000": {"driver": "JP2OpenJPEG", "count": 3, "REVERSIBLE": "YES", "QUALITY": "100", "blockxsize": 1024, "blockysize": 128},
}


def write_ortho(path, layout, *, rows=ROWS, cols=COLS, border=200):
    """Bright in its right half, grained, nothing in its first columns."""
    rng = np.random.default_rng(0)
    image = np.full((4, rows, cols), 60, "uint8") + rng.integers(0, 60, (4, rows, cols), "uint8")
    image[:, :, cols // 2 :] += 110
    image[3] = 255
    image[:, :, :border] = 0
    profile = {"height": rows, "width": cols, "dtype": "uint8", "crs": "EPSG:32636", "transform": UTM, **layout}
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "w", **profile) as file:
        file.colorinterp = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)[: file.count]
        file.write(image[: file.count])
        if layout.get("compress") == "jpeg":
            file.write_mask(image[3] > 0)
    return path


class Reads:
    """Counts what GDAL reads of one file; it reads the bytes of a block each time it decodes it."""

    def __init__(self, path, monkeypatch):
        self.path, self.bytes, plain_open = path, 0, rasterio.open

        def counting_open(name, mode="r", **words):
            counted = mode == "r" and str(name) == str(path)
            return plain_open(name, mode, **words, **({"opener": self._open} if counted else {}))

        monkeypatch.setattr(rasterio, "open", counting_open)
        monkeypatch.setattr(validity, "_identity", lambda dataset: (str(path), 0, 0))  # a counted file gets a new name each time
        monkeypatch.setattr(rows, "one_ahead", lambda windows: windows)  # rasterio's Python openers cannot be used from several threads

    def _open(self, name, mode="rb", **_):
        reads = self

        class Counted:
            def __init__(self):
                self.file = open(name, "rb")

            def read(self, size=-1):
                part = self.file.read(size)
                reads.bytes += len(part)
                return part

            def __getattr__(self, word):
                return getattr(self.file, word)

            def __enter__(self):
                return self

            def __exit__(self, *_):
                self.file.close()

        return Counted()

    @property
    def ratio(self):
        """How often each byte was read, on average."""
        return self.bytes / self.path.stat().st_size


@pytest.fixture
def few_samples(monkeypatch):
    """Samples, windows and strips as small beside these orthos as they are beside real ones, and no more cache than the plan asks for."""
    monkeypatch.setattr(opening.gdal_env, "__defaults__", (0.1,))
    monkeypatch.setattr(validity, "_LOOK_PIXELS", 16)
    monkeypatch.setattr(validity, "_LOOKS", 2)
    monkeypatch.setattr("geoseg.scene._LARGE", 2)
    monkeypatch.setattr("geoseg.scene._WINDOWS", 2)
    monkeypatch.setattr("geoseg.io.geotiff._SOURCE_PIXELS", 1 << 16)
    monkeypatch.setattr("geoseg.io.block_rows.READ_PIXELS", 1 << 16)
    monkeypatch.setattr(planning, "_CACHE_MB", (0.1, 768.0))
    monkeypatch.setattr(planning, "_SAMPLING_CACHE_MB", 1)
    monkeypatch.setattr(planning, "READ_ROWS", 128)


@pytest.fixture
def model(tmp_path):
    def package(pixel):
        fine = {"pixel_size_m": pixel, "pixel_size_range_m": (pixel * 0.9, pixel * 1.1), "tile": 256}
        if not (path := tmp_path / f"model {pixel}").exists():
            packages.threshold_package(path, ["red", "green", "blue"], 145, **fine)
        return path

    return package


@pytest.mark.parametrize(("layout", "pixel"), [*((layout, 0.33) for layout in LAYOUTS), ("one-row strips", 0.1), ("tiles by band", 0.1)])
def test_a_whole_run_decodes_no_block_more_than_1_1_times(geoseg, tmp_path, model, monkeypatch, few_samples, layout, pixel):
    path = write_ortho(tmp_path / ("ortho.jp2" if "2000" in layout else "ortho.tif"), LAYOUTS[layout])
    if "2000" in layout:
        monkeypatch.setattr("geoseg.scene._WINDOWS", 1)  # one of its 24 tiles
    reads = Reads(path, monkeypatch)
    ran = geoseg("predict", path, "--model", model(pixel), "-o", tmp_path / "map", "--no-polygons")
    assert ran.code == 0, ran.err
    assert 0.99 < reads.ratio < (1.15 if "2000" in layout else 1.1)  # OpenJPEG reads a megabyte ahead of a tile


@pytest.mark.parametrize("layout", ["tiles", "JPEG with a mask"])
def test_without_the_cache_that_the_plan_asks_for_blocks_are_decoded_again(geoseg, tmp_path, model, monkeypatch, few_samples, layout):
    monkeypatch.setattr(planning, "_CACHE_MB", (0.1, 0.1))
    path = write_ortho(tmp_path / "ortho.tif", LAYOUTS[layout])
    reads = Reads(path, monkeypatch)
    assert geoseg("predict", path, "--model", model(0.33), "-o", tmp_path / "map", "--no-polygons").code == 0
    assert reads.ratio > 1.25


def test_turned_against_the_map_a_block_is_decoded_once_too(geoseg, tmp_path, model, monkeypatch, few_samples):
    path = write_ortho(tmp_path / "ortho.tif", LAYOUTS["tiles"], rows=1024, cols=1000)
    reads = Reads(path, monkeypatch)
    turned = ("--crs", "EPSG:32635", "--resolution", "0.33")
    ran = geoseg("predict", path, "--model", model(0.33), "-o", tmp_path / "map", *turned, "--no-polygons")
    assert ran.code == 0, ran.err
    assert 0.99 < reads.ratio < 1.1


@pytest.mark.parametrize(("layout", "pixel"), [("one-row strips", 0.1), ("tiles by band", 0.33), ("JPEG with a mask", 0.33)])
def test_classes_and_picture_end_where_alpha_or_mask_say_so(geoseg, tmp_path, model, layout, pixel):
    path = write_ortho(tmp_path / "ortho.tif", LAYOUTS[layout], rows=300, cols=600, border=66)
    assert geoseg("predict", path, "--model", model(pixel), "-o", tmp_path / "map").code == 0
    edge = round(66 * 0.1 / pixel)
    with rasterio.open(tmp_path / "map" / "ortho_classes.tif") as classes, rasterio.open(tmp_path / "map" / "ortho_image.tif") as picture:
        codes, seen = classes.read(1), picture.dataset_mask()
        assert (codes[:, :edge] == classes.nodata).all()
        assert not seen[:, :edge].any()
        assert (codes[:, edge:] != classes.nodata).all()
        assert seen[:, edge:].all()
        half = codes.shape[1] // 2
        assert ((codes[:, edge : half - 1] == 0).mean(), (codes[:, half + 1 :] == 1).mean()) == pytest.approx((1, 1), abs=0.02)


# ---------------------------------------------------------------- memory


def test_wide_one_row_strips_need_a_few_rows_of_cache_and_tiles_a_row_of_them(tmp_path, model, monkeypatch):
    wide = 40_000
    monkeypatch.setattr(planning, "stretch_limits", lambda *_: None)
    plans = {}
    for name, layout in (("strips", LAYOUTS["one-row strips"]), ("tiles", {**RGBA, "tiled": True, "blockxsize": 512, "blockysize": 512})):
        profile = {"height": 2048, "width": wide, "dtype": "uint8", "crs": "EPSG:32636", "transform": UTM, "SPARSE_OK": "TRUE", **layout}
        with rasterio.open(tmp_path / f"{name}.tif", "w", **profile) as file:
            file.colorinterp = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)
        scene = open_scene(tmp_path / f"{name}.tif")
        plans[name] = plan_map(scene, ModelPackage.open(model(0.1)), MapOptions())
    row, written = 512 * 40_448 * 4 / 1e6, 256 * wide * (1 + 2 + 1 + 4) / 1e6  # class, two scores, reason, picture
    assert plans["tiles"].cache_mb == pytest.approx(1.1 * (2 * row + written))
    assert plans["strips"].cache_mb == 32
    held = plans["tiles"].memory_mb() - plans["tiles"].cache_mb
    assert plans["strips"].memory_mb() - plans["strips"].cache_mb == pytest.approx(held)


def test_kept_blocks_by_hand(tmp_path):
    profile = {"driver": "GTiff", "count": 2, "height": 1000, "width": 900, "dtype": "uint16", "crs": "EPSG:32636", "transform": UTM}
    with rasterio.open(tmp_path / "a.tif", "w", **profile, tiled=True, blockxsize=256, blockysize=256, interleave="band"):
        pass
    grid = GeoBox((1000, 900), UTM, "EPSG:32636")
    row_mb = 1024 * 256 * 2 / 1e6
    path = str(tmp_path / "a.tif")
    assert block_rows(path, [1], grid, rows=512, overlap=0).kept == 0
    assert block_rows(path, [1], grid, rows=500, overlap=0).kept == pytest.approx(row_mb)
    assert block_rows(path, [1, 2], grid, rows=512, overlap=20).kept == pytest.approx(2 * row_mb)
    assert block_rows(path, [1], grid, rows=512, overlap=300).kept == pytest.approx(2 * row_mb)
    coarse = GeoBox((300, 270), UTM @ Affine.scale(10 / 3), "EPSG:32636")
    assert block_rows(path, [1], coarse, rows=128, overlap=0).kept == pytest.approx(row_mb)
    whole = block_rows(path, [1], grid.rotate(30), rows=512, overlap=0)
    assert whole.kept == pytest.approx(4 * row_mb)


def test_values_do_not_depend_on_how_much_is_read_at_once(tmp_path, monkeypatch):
    path = str(write_ortho(tmp_path / "ortho.tif", LAYOUTS["tiles"], rows=300, cols=400, border=30))
    grid = GeoBox((90, 120), UTM @ Affine.scale(10 / 3), "EPSG:32636")
    whole = [read_raster(path, [1, 2, 3], target) for target in (None, grid)]
    monkeypatch.setattr("geoseg.io.geotiff._SOURCE_PIXELS", 2000)
    pieces = [read_raster(path, [1, 2, 3], target) for target in (None, grid)]
    for one, other in zip(whole, pieces, strict=True):
        assert np.array_equal(one.values, other.values)
        assert np.array_equal(one.valid, other.valid)


# ---------------------------------------------------------------- where samples are taken


def test_windows_are_few_where_blocks_are_few_and_stand_at_their_edges():
    assert few_windows((10980, 10980), (1024, 1024), most=5, share=0.05) == 3
    assert few_windows((40_000, 40_000), (512, 512), most=5, share=0.05) == 5
    assert spread(10980, 85, 1024, 3).tolist() == [0, 5120, 10240]
    assert spread(400, 6, 1, 5).tolist() == [0, 96, 192, 294, 390]
    assert window_shape(128, (512, 512), widest=4000) == (128, 128)
    assert window_shape(128, (1, 40_000), widest=8000) == (16, 1024)
    assert window_shape(128, (1, 900), widest=180) == (16, 180)
