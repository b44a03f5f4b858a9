"""Written rasters hold what was given, are valid COGs, and are whole or not there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.enums import ColorInterp, Compression

from geoseg.errors import OutputError
from geoseg.io.categories import category_tags, write_categories
from geoseg.io.cog import CogKind, RowWriter, write_cog
from geoseg.legend import Legend, LegendClass

WORLDCOVER = Legend(
    (LegendClass(0, 10, "Tree cover <dense>", "#006400"), LegendClass(1, 80, "Eau, été", "#0064c8", background=True)), nodata=0
)
CORINE = Legend((LegendClass(0, 111, "Urban", "#e6004d"), LegendClass(1, 523, "Sea", "#e6f2ff")), nodata=65535)


def grid(rows: int, cols: int) -> GeoBox:
    return GeoBox((rows, cols), Affine(10, 0, 500000, 0, -10, 5000000), "EPSG:32630")


def write_map(folder: Path, legend: Legend, rows: int = 700, cols: int = 1100) -> tuple[Path, NDArray[Any]]:
    rng = np.random.default_rng(0)
    codes = legend.to_codes(rng.integers(0, 2, (1, rows, cols)), rng.uniform(size=(1, rows, cols)) > 0.2)
    tags = {"GEOSEG_MODEL": "test", **category_tags(legend)}
    part, out = folder / "part.tif", folder / "a map.tif"
    with RowWriter(
        part,
        grid(rows, cols),
        count=1,
        dtype=legend.dtype,
        nodata=legend.nodata,
        descriptions=["class"],
        colours=legend.colour_table(),
        tags=tags,
    ) as writer:
        for row in range(0, rows, 130):
            writer.append(codes[:, row : row + 130])
    write_cog(part, out, kind="classes")
    write_categories(out, legend)
    return out, codes


def assert_valid_cog(path: Path, *, strict: bool = True) -> None:
    cogeo = pytest.importorskip("rio_cogeo.cogeo")
    valid, errors, _ = cogeo.cog_validate(str(path), strict=strict, quiet=True)
    assert (valid, errors) == (True, [])


@pytest.mark.parametrize("legend", [WORLDCOVER, CORINE])
def test_class_map_is_a_valid_cog_that_holds_codes_colours_names_and_provenance(tmp_path: Path, legend: Legend) -> None:
    path, codes = write_map(tmp_path, legend)
    assert_valid_cog(path)
    with rasterio.open(path) as file:
        assert np.array_equal(file.read(), codes)
        assert file.nodata == legend.nodata
        assert file.descriptions == ("class",)
        assert file.transform == grid(1, 1).affine
        assert file.crs.to_epsg() == 32630
        assert file.block_shapes == [(512, 512)]
        assert file.compression == Compression.deflate
        assert file.colorinterp == (ColorInterp.palette,)
        colours = file.colormap(1)
        assert {one.code: colours[one.code][:3] for one in legend.classes} == {one.code: one.rgb for one in legend.classes}
        assert colours[legend.nodata][3] == 0
        assert file.tags()["GEOSEG_MODEL"] == "test"
        assert json.loads(file.tags()["CLASS_NAMES"]) == {str(one.code): one.name for one in legend.classes}
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a map.tif", "a map.tif.aux.xml", "part.tif"]


def test_overviews_of_classes_take_the_commonest_and_invent_none(tmp_path: Path) -> None:
    path, codes = write_map(tmp_path, WORLDCOVER, 1024, 2048)
    with rasterio.open(path) as file:
        assert file.overviews(1) == [2, 4]
    with rasterio.open(path, overview_level=0) as file:
        small = file.read(1)
    assert np.isin(small, [10, 80, 0]).all()
    fours = codes[0].reshape(512, 2, 1024, 2).swapaxes(1, 2).reshape(512, 1024, 4)
    counts = np.stack([(fours == code).sum(axis=2) for code in (10, 80)], axis=2)
    sure = counts.max(axis=2) >= 3
    assert np.array_equal(small[sure], np.array([10, 80])[counts.argmax(axis=2)][sure])


@pytest.mark.parametrize("legend", [WORLDCOVER, CORINE])
def test_gdal_reads_the_category_names_and_the_attribute_table(tmp_path: Path, legend: Legend) -> None:
    path, _ = write_map(tmp_path, legend)
    try:
        asked = subprocess.run(["gdalinfo", "-json", "-nomd", str(path)], capture_output=True, text=True, timeout=60, check=True)
    except FileNotFoundError:
        pytest.skip("gdalinfo is not installed")
    told = json.loads(asked.stdout)
    names = told["bands"][0]["categories"]
    assert {code: name for code, name in enumerate(names) if name} == {one.code: one.name for one in legend.classes}
    assert [row["f"] for row in told["rat"]["row"]] == [
        [one.code, one.name, *one.rgb, 0 if one.background else 255] for one in legend.classes
    ]


def test_rows_come_back_as_they_were_appended_in_any_portions(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(3, 1200, 600)).astype("float32")
    with RowWriter(tmp_path / "a.tif", grid(1200, 600), count=3, dtype="float32", nodata=float("nan")) as writer:
        for first, end in ((0, 1), (1, 512), (512, 513), (513, 1100), (1100, 1100), (1100, 1200)):
            writer.append(values[:, first:end])
    with rasterio.open(tmp_path / "a.tif") as file:
        assert np.array_equal(file.read(), values)
        assert np.isnan(file.nodata)


def test_scores_keep_names_scales_offsets_and_tags_of_each_band(tmp_path: Path) -> None:
    part, out = tmp_path / "part.tif", tmp_path / "a_scores.tif"
    with RowWriter(
        part, grid(600, 600), count=4, dtype="uint8", nodata=255, descriptions=["a", "b", "c", "d"],
        scales=[0.004] * 4, offsets=[0.0, 0.1, 0, 0], band_tags=[{"CALIBRATED": "no"}, {}, {}, {"CODE": "80"}],
    ) as writer:  # fmt: skip
        writer.append(np.full((4, 600, 600), 9, dtype="uint8"))
    write_cog(part, out, kind="continuous")
    assert_valid_cog(out)
    with rasterio.open(out) as file:
        assert file.descriptions == ("a", "b", "c", "d")
        assert file.scales == (0.004,) * 4
        assert file.offsets == (0, 0.1, 0, 0)
        assert file.tags(1)["CALIBRATED"] == "no"
        assert file.tags(4)["CODE"] == "80"
        assert ColorInterp.alpha not in file.colorinterp
        assert file.read().min() == 9


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_continuous_cog_loses_nothing_and_averages_its_overviews(tmp_path: Path, dtype: str) -> None:
    values = (np.random.default_rng(0).uniform(0, 200, (2, 600, 1024))).astype(dtype)
    with RowWriter(tmp_path / "part.tif", grid(600, 1024), count=2, dtype=dtype) as writer:
        writer.append(values)
    write_cog(tmp_path / "part.tif", tmp_path / "out.tif", kind="continuous")
    assert_valid_cog(tmp_path / "out.tif")
    with rasterio.open(tmp_path / "out.tif") as file:
        assert np.array_equal(file.read(), values)
    with rasterio.open(tmp_path / "out.tif", overview_level=0) as file:
        means = values.reshape(2, 300, 2, 512, 2).astype(float).mean(axis=(2, 4))
        assert np.abs(file.read() - means).max() <= (0.51 if dtype != "float32" else 1e-3)


def test_picture_is_jpeg_with_a_mask(tmp_path: Path) -> None:
    values = np.full((4, 600, 700), 120, dtype="uint8")
    values[3] = 255
    values[:, :300, :] = 0
    with RowWriter(tmp_path / "part.tif", grid(600, 700), count=4, dtype="uint8", picture=True) as writer:
        writer.append(values)
    write_cog(tmp_path / "part.tif", tmp_path / "out.tif", kind="picture")
    assert_valid_cog(tmp_path / "out.tif")
    with rasterio.open(tmp_path / "out.tif") as file:
        assert file.count == 3
        assert file.compression == Compression.jpeg
        assert np.array_equal(file.dataset_mask() > 0, values[3] > 0)
        assert np.abs(file.read()[:, 320:].astype(int) - 120).max() <= 2


@pytest.mark.parametrize("shape", [(1, 1), (1, 1300), (1031, 1), (513, 511)])
@pytest.mark.parametrize("kind", ["classes", "continuous"])
def test_any_shape_becomes_a_valid_cog(tmp_path: Path, shape: tuple[int, int], kind: CogKind) -> None:
    with RowWriter(tmp_path / "part.tif", grid(*shape), count=1, dtype="uint8", nodata=0) as writer:
        writer.append(np.zeros((1, *shape), dtype="uint8"))
    write_cog(tmp_path / "part.tif", tmp_path / "out.tif", kind=kind)
    assert_valid_cog(tmp_path / "out.tif", strict=min(shape) > 1)  # a line is better without overviews


def test_after_an_error_no_part_is_left(tmp_path: Path) -> None:
    def interrupted() -> None:
        with RowWriter(tmp_path / "a.tif", grid(600, 600), count=1, dtype="uint8") as writer:
            writer.append(np.ones((1, 520, 600), dtype="uint8"))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_file_with_too_few_rows_is_our_own_mistake_and_removed(tmp_path: Path) -> None:
    writer = RowWriter(tmp_path / "a.tif", grid(600, 600), count=1, dtype="uint8")
    writer.append(np.ones((1, 520, 600), dtype="uint8"))
    with pytest.raises(ValueError, match="520 rows of 600"):
        writer.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "rows", [np.ones((1, 5, 601), "uint8"), np.ones((2, 5, 600), "uint8"), np.ones((1, 601, 600), "uint8"), np.ones((1, 5, 600))]
)
def test_rows_that_do_not_fit_are_our_own_mistake(tmp_path: Path, rows: NDArray[Any]) -> None:
    with pytest.raises(ValueError, match="do not fit"), RowWriter(tmp_path / "a.tif", grid(600, 600), count=1, dtype="uint8") as writer:
        writer.append(rows)


def test_output_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="is not a folder"):
        RowWriter(tmp_path / "file" / "a.tif", grid(10, 10), count=1, dtype="uint8")
    with pytest.raises(OutputError, match="Windows"):
        RowWriter(tmp_path / "10:30.tif", grid(10, 10), count=1, dtype="uint8")
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_block_that_vanished_from_the_part_is_noticed(tmp_path: Path) -> None:
    writer = RowWriter(tmp_path / "a.tif", grid(600, 600), count=1, dtype="uint8")
    writer.append(np.full((1, 600, 600), 7, dtype="uint8"))
    writer._checksum ^= 1  # as if the disk had kept other pixels
    with pytest.raises(OutputError, match="does not hold what was written"):
        writer.close()
    assert list(tmp_path.iterdir()) == []


FILL_THE_DISK = """
import resource, sys
from pathlib import Path
import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox
from geoseg.errors import OutputError
from geoseg.io.cog import RowWriter, write_cog

limits = sys.argv[1:]
values = np.random.default_rng(0).integers(0, 255, (1, 700, 700)).astype("uint8")
grid = GeoBox((700, 700), Affine(10, 0, 500000, 0, -10, 5000000), "EPSG:32630")
unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
for begin, limit in ((begin, limit) for begin in ("part", "cog") for limit in limits):
    folder = Path(begin, limit)
    folder.mkdir(parents=True)
    try:
        if begin == "part":
            resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), unlimited[1]))
        with RowWriter(folder / "part.tif", grid, count=1, dtype="uint8") as writer:
            for row in range(0, 700, 100):
                writer.append(values[:, row:row + 100])
        if begin == "cog":
            resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), unlimited[1]))
            write_cog(folder / "part.tif", folder / "out.tif", kind="classes")
        print("written")
    except OutputError as error:
        print(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
"""


LIMITS = (0, 100, 10_000, 70_000, 240_000, 450_000, 489_900, 490_500, 510_000, 600_000, 20_000_000)
"""Sizes that a file may have, in bytes; the pixels alone take 490,000."""


@pytest.fixture(scope="module")
def full_disks(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A folder with what each limit left in `part/LIMIT` and `cog/LIMIT`, and what was said of each."""
    pytest.importorskip("resource", reason="this platform cannot limit the size of a file")
    folder = tmp_path_factory.mktemp("full")
    child = [sys.executable, "-B", "-W", "ignore", "-c", FILL_THE_DISK, *map(str, LIMITS)]
    paths = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(child, capture_output=True, text=True, timeout=120, cwd=folder, env=paths, check=True)
    assert "Traceback" not in done.stderr
    return folder, done.stdout.splitlines()


@pytest.mark.parametrize("begin", ["part", "cog"])
def test_full_disk_leaves_a_sentence_and_nothing_else(full_disks: tuple[Path, list[str]], begin: str) -> None:
    folder, said = full_disks
    sentences = said[: len(LIMITS)] if begin == "part" else said[len(LIMITS) :]
    values = np.random.default_rng(0).integers(0, 255, (1, 700, 700)).astype("uint8")
    assert sentences[-1] == "written"
    for limit, sentence in zip(LIMITS, sentences, strict=True):
        left = sorted(file.name for file in (folder / begin / str(limit)).iterdir())
        if sentence == "written":
            with rasterio.open(folder / begin / str(limit) / left[0]) as file:
                assert np.array_equal(file.read(), values)
        else:
            assert limit < 20_000_000
            assert "the disk is full" in sentence
            assert left == ([] if begin == "part" else ["part.tif"])
    assert sum(sentence != "written" for sentence in sentences) >= 7
