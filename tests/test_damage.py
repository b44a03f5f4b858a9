"""Scenes with blocks that cannot be read: the block is named, or the rest is mapped and the block listed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import packages
import pytest
import rasterio
import rasterio.shutil
from command_line import UTM, contents, refusal
from rasterio.windows import Window

from geoseg.errors import SceneError
from geoseg.io.damage import DamagedBlock, DamageLog, damage_noted, damage_warning, noted_blocks
from geoseg.io.geotiff import read_raster
from geoseg.io.opening import file_geobox

SIDE, BLOCK = 192, 64


def scene(path: Path, *, roles=("red",), **profile) -> Path:
    """A tiled scene of smooth numbers, so that JPEG changes little; 3 x 3 blocks."""
    rows, cols = np.mgrid[:SIDE, :SIDE]
    values = np.stack([60 + 50 * np.sin(rows / 17 + band) + 50 * np.cos(cols / 13) + cols / 5 for band in range(len(roles))]).astype(
        "uint8"
    )
    tiled = {"tiled": True, "blockxsize": BLOCK, "blockysize": BLOCK, "compress": "deflate"}
    shape = {"count": len(roles), "height": SIDE, "width": SIDE, "dtype": "uint8", "crs": "EPSG:32632", "transform": UTM}
    with rasterio.open(path, "w", driver="GTiff", **shape, **tiled | profile) as file:
        file.descriptions = roles  # before the pixels, so that nothing but pixels lies at the end
        file.write(values)
    return path


def damage(path: Path, row: int, col: int, *, band: int = 1) -> Path:
    """Overwrite the bytes of one block with noise."""
    with rasterio.open(path) as file:
        offset, size = (int(file.get_tag_item(f"BLOCK_{what}_{col}_{row}", "TIFF", bidx=band)) for what in ("OFFSET", "SIZE"))
    data = bytearray(path.read_bytes())
    data[offset : offset + size] = np.random.default_rng(1).integers(0, 256, size).astype(np.uint8).tobytes()
    path.write_bytes(data)
    return path


def read_noted(path: Path, bands=(1,), geobox=None):
    log = DamageLog()
    with damage_noted(log):
        raster = read_raster(str(path), bands, geobox)
    return raster, log.blocks


def pixels(path: Path) -> np.ndarray:
    with rasterio.open(path) as file:
        return file.read()


# ---------------------------------------------------------------- reading


def test_a_block_that_cannot_be_read_is_named(tmp_path):
    path = damage(scene(tmp_path / "a.tif"), 1, 2)
    with pytest.raises(SceneError, match=r"a\.tif .*band 1, block \(1, 2\), pixel rows 64…127 and columns 128…191.*--on-error nodata"):
        read_raster(str(path), [1])


@pytest.mark.parametrize("compress", ["deflate", "zstd", "jpeg", "lzw"])
def test_all_but_the_damaged_block_is_read_and_the_block_noted(tmp_path, compress):
    path = scene(tmp_path / "a.tif", compress=compress)
    whole = read_raster(str(path), [1])
    raster, blocks = read_noted(damage(path, 1, 2))
    lost = np.zeros((1, SIDE, SIDE), dtype=bool)
    lost[:, 64:128, 128:] = True
    np.testing.assert_array_equal(raster.valid, whole.valid & ~lost)
    np.testing.assert_array_equal(raster.values, np.where(lost, 0, whole.values))
    assert blocks == (DamagedBlock(str(path), (1, 2), (64, 128), (128, 192), (1,)),)


@pytest.mark.parametrize(("interleave", "bands"), [("band", (2,)), ("pixel", (1, 2, 3))])
def test_only_the_bands_that_share_the_block_are_missing(tmp_path, interleave, bands):
    path = damage(scene(tmp_path / "a.tif", roles=("red", "green", "blue"), interleave=interleave), 0, 1, band=2)
    raster, blocks = read_noted(path, (1, 2, 3))
    assert [block.bands for block in blocks] == [bands]
    assert [number for number in (1, 2, 3) if not raster.valid[number - 1].all()] == list(bands)


def test_a_wanted_alpha_band_masks_no_other_band_beside_a_damaged_block(tmp_path):
    path = scene(tmp_path / "a.tif", roles=("red", "alpha"), interleave="band", photometric="MINISBLACK", alpha="YES")
    with rasterio.open(path, "r+") as file:
        file.write(np.zeros((SIDE, SIDE), "uint8"), 2)
    raster, _ = read_noted(damage(path, 0, 0), (1, 2))
    assert raster.valid[0].sum() == SIDE * SIDE - BLOCK * BLOCK


def test_a_file_cut_at_its_end_gives_what_is_there(tmp_path):
    path = scene(tmp_path / "a.tif")
    whole = read_raster(str(path), [1])
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    raster, blocks = read_noted(path)
    assert 1 < len(blocks) < 9
    assert blocks[-1].block == (2, 2)
    assert int((~raster.valid).sum()) == len(blocks) * BLOCK * BLOCK
    np.testing.assert_array_equal(raster.values[raster.valid], whole.values[raster.valid])


def test_a_jpeg_2000_file_that_is_cut_gives_what_is_there(tmp_path):
    path, made = scene(tmp_path / "a.tif"), tmp_path / "a.jp2"
    rasterio.shutil.copy(path, made, driver="JP2OpenJPEG", quality=100, reversible="YES", blockxsize=BLOCK, blockysize=BLOCK)
    whole, data = read_raster(str(made), [1]), made.read_bytes()
    made.write_bytes(data[: len(data) // 2])
    raster, blocks = read_noted(made)
    assert 1 < len(blocks) < 9
    np.testing.assert_array_equal(raster.values[raster.valid], whole.values[raster.valid])


def test_where_a_mask_is_damaged_its_bands_are_missing(tmp_path):
    path = scene(tmp_path / "a.tif", roles=("red", "nir"))
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK="NO"), rasterio.open(path, "r+") as file:
        file.write_mask(np.random.default_rng(0).integers(0, 2, (SIDE, SIDE)) > 0)
    mask = Path(f"{path}.msk")
    mask.write_bytes(mask.read_bytes()[: mask.stat().st_size * 2 // 3])
    with pytest.raises(SceneError, match=r"bands 1, 2, block \(\d, \d\)"):
        read_raster(str(path), [1, 2])
    raster, blocks = read_noted(path, (1, 2))
    assert {block.bands for block in blocks} == {(1, 2)}
    assert raster.valid.any()


@pytest.mark.parametrize("factor", [0.5, 2.0, 3.0])
def test_on_another_grid_only_what_the_block_reaches_is_missing(tmp_path, factor):
    path = scene(tmp_path / "a.tif")
    grid = file_geobox(str(path)).zoom_out(factor)
    whole = read_raster(str(path), [1], grid)
    raster, blocks = read_noted(damage(path, 1, 1), geobox=grid)
    near = np.zeros(grid.shape, dtype=bool)
    first, end = int(BLOCK / factor) - 2, int(2 * BLOCK / factor) + 3
    near[first:end, first:end] = True
    assert [block.block for block in blocks] == [(1, 1)]
    assert not raster.valid[0, int(1.5 * BLOCK / factor), int(1.5 * BLOCK / factor)]
    np.testing.assert_array_equal(raster.values[0][~near], whole.values[0][~near])
    np.testing.assert_array_equal(raster.valid[0][~near], whole.valid[0][~near])


def test_a_window_notes_the_whole_block_once(tmp_path):
    path, log = damage(scene(tmp_path / "a.tif"), 1, 1), DamageLog()
    with damage_noted(log):
        for rows in (slice(0, 70), slice(70, 90), slice(80, 192)):
            read_raster(str(path), [1], file_geobox(str(path))[rows, 60:70])
    assert [(block.rows, block.cols) for block in log.blocks] == [((64, 128), (64, 128))]


def test_the_log_is_in_order_and_tells_each_thing_once():
    log, other = DamageLog(), DamagedBlock("b.tif", (0, 0), (0, 64), (0, 64), (1,))
    for bands in ((2,), (1,), (2,)):
        log.note(other)
        log.note(DamagedBlock("a.tif", (3, 0), (192, 256), (0, 64), bands))
    assert [(block.file, block.bands) for block in log.blocks] == [("a.tif", (1, 2)), ("b.tif", (1,))]
    notes = log.news()
    assert log.news() == ()
    assert noted_blocks([*notes, *notes]) == [
        {"file": "a.tif", "block": [3, 0], "rows": [192, 256], "cols": [0, 64], "bands": [1, 2]},
        {"file": "b.tif", "block": [0, 0], "rows": [0, 64], "cols": [0, 64], "bands": [1]},
    ]
    assert "2 blocks of the scene cannot be read" in damage_warning(noted_blocks(notes))[0]


# ---------------------------------------------------------------- maps


@pytest.fixture
def damaged(place: Path) -> Path:
    """`good.tif` and `bad.tif`, which lacks the block (1, 2), and a package that sees one pixel."""
    packages.threshold_package(place / "pixel", tile=64, overlap=0)
    scene(place / "good.tif")
    damage(scene(place / "bad.tif"), 1, 2)
    return place


def test_the_rest_of_a_damaged_scene_is_mapped_as_if_nothing_were_wrong(geoseg, damaged):
    assert geoseg("predict", "good.tif", "--model", "pixel", "-o", "good").code == 0
    ran = geoseg("predict", "bad.tif", "--model", "pixel", "-o", "bad", "--on-error", "nodata")
    assert ran.code == 0, ran.err
    lost = np.s_[:, 64:128, 128:192]
    good, bad = pixels(damaged / "good" / "good_classes.tif"), pixels(damaged / "bad" / "bad_classes.tif")
    assert (bad[lost] == 255).all()
    good[lost] = 255
    np.testing.assert_array_equal(bad, good)
    assert (pixels(damaged / "bad" / "bad_reason.tif")[lost] == 2).all()


def test_a_map_lists_the_blocks_and_the_command_warns(geoseg, damaged):
    ran = geoseg("predict", "bad.tif", "--model", "pixel", "-o", "out", "--on-error", "nodata")
    assert "warning: 1 block of the scene cannot be read and the map has no data there: bad.tif: band 1, block (1, 2)" in ran.out
    run = json.loads((damaged / "out" / "bad.json").read_text())["properties"]["geoseg:run"]
    expected = {"file": "bad.tif", "block": [1, 2], "rows": [64, 128], "cols": [128, 192], "bands": [1]}
    assert run["summary"]["damaged_blocks"] == [expected]
    assert "--on-error nodata" in " ".join(run["command"])


def test_by_default_the_map_stops_and_names_the_block(geoseg, damaged):
    said = refusal(geoseg, damaged, "predict", "bad.tif", "--model", "pixel", "-o", "out")
    assert "band 1, block (1, 2)" in said
    assert "--on-error nodata" in said


def test_a_sound_scene_lists_nothing_and_its_map_is_the_same(geoseg, damaged):
    for mode in ("stop", "nodata"):
        assert geoseg("predict", "good.tif", "--model", "pixel", "-o", mode, "--on-error", mode).code == 0
    classes = [(damaged / mode / "good_classes.tif").read_bytes() for mode in ("stop", "nodata")]
    assert classes[0] == classes[1]
    assert json.loads((damaged / "nodata" / "good.json").read_text())["properties"]["geoseg:run"]["summary"]["damaged_blocks"] == []


def test_a_map_with_damage_is_made_again_from_its_item(geoseg, damaged):
    geoseg("predict", "bad.tif", "--model", "pixel", "-o", "out", "--on-error", "nodata")
    ran = geoseg("predict", "--again", "out/bad.json", "-o", "twice")
    assert ran.code == 0, ran.err


def test_a_stack_lists_the_file_that_is_damaged(geoseg, damaged):
    damage(scene(damaged / "nir.tif", roles=("nir",)), 0, 0)
    packages.per_pixel_package(damaged / "both", ("red", "nir"), [[1, 0], [0, 1]], tile=64, overlap=0)
    words = ("--stack", "--model", "both", "-o", "out", "--on-error", "nodata")
    ran = geoseg("predict", "good.tif", "nir.tif", *words)
    assert ran.code == 0, ran.err
    (item,) = (path for path in (damaged / "out").glob("*.json"))
    blocks = json.loads(item.read_text())["properties"]["geoseg:run"]["summary"]["damaged_blocks"]
    assert [(Path(block["file"]).name, block["block"]) for block in blocks] == [("nir.tif", [0, 0])]


def test_a_damaged_mask_hides_what_it_does_not_tell(geoseg, damaged):
    clear = np.zeros((1, SIDE, SIDE), "uint8")
    clear[:, :10] = 1
    with rasterio.open(damaged / "good.tif") as file:
        profile = file.profile | {"nodata": 0}
    with rasterio.open(damaged / "mask.tif", "w", **profile) as file:
        file.write(clear)
    damage(damaged / "mask.tif", 2, 0)
    words = ("--model", "pixel", "-o", "out", "--on-error", "nodata", "--mask", "mask.tif")
    ran = geoseg("predict", "good.tif", *words)
    assert ran.code == 0, ran.err
    reason = pixels(damaged / "out" / "good_reason.tif")[0]
    assert (reason[128:, :64] == 2).all()
    assert (reason[128:, 64:] == 1).all()


def test_after_a_stop_the_blocks_of_finished_strips_are_listed_still(geoseg, damaged, monkeypatch):
    import geoseg.mapping.make_map as make_map

    damage(damaged / "bad.tif", 0, 0)
    words = ("predict", "bad.tif", "--model", "pixel", "-o", "out", "--on-error", "nodata")
    with monkeypatch.context() as patch:
        patch.setattr(make_map, "join_strips", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert geoseg(*words).code == 130
    assert geoseg(*words, "--resume").code == 0
    blocks = json.loads((damaged / "out" / "bad.json").read_text())["properties"]["geoseg:run"]["summary"]["damaged_blocks"]
    assert [block["block"] for block in blocks] == [[0, 0], [1, 2]]


def test_a_scene_that_cannot_be_read_at_all_leaves_nothing_behind(geoseg, damaged):
    path = damaged / "bad.tif"
    path.write_bytes(path.read_bytes()[:1200])
    before = contents(damaged)
    ran = geoseg("predict", "bad.tif", "--model", "pixel", "-o", "out", "--on-error", "nodata")
    assert ran.code == 2
    assert contents(damaged) == before


def test_windows_of_a_large_scene_that_are_damaged_do_not_stop_its_planning(place, geoseg):
    path = scene(place / "large.tif", blockxsize=16, blockysize=16)
    with rasterio.open(path) as file:
        blocks = [(row, col) for row in range(0, 12, 2) for col in range(0, 12, 2)]
        assert file.read(1, window=Window(0, 0, 16, 16)).size
    for row, col in blocks:
        damage(path, row, col)
    assert geoseg("predict", "large.tif", "--model", "model", "-o", "out", "--on-error", "nodata", "--dry-run").code == 0
