"""Training scenes in small blocks: the same numbers, masks and grid, made once, and never taken for those of another file."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

from geoseg.data.patches import load_scene
from geoseg.data.retile import dear_to_read, retiled
from geoseg.errors import SceneError
from geoseg.legend import Legend
from geoseg.preprocess.prepare import BandNeed, Channel, Preparation
from geoseg.scene import Scene, read_scene
from geoseg.scenes.open_scene import open_scene

ROLES = ("red", "nir")


def write(path: Path, dtype: str = "uint16", *, masked: bool = False, seed: int = 0, **form: object) -> Path:
    pixels = np.random.default_rng(seed).integers(1, 200, (2, 300, 5000)).astype(dtype)
    grid = {"crs": "EPSG:32633", "transform": Affine(10, 0, 4e5, 0, -10, 5e6)}
    with rasterio.open(path, "w", driver="GTiff", count=2, height=300, width=5000, dtype=dtype, **grid, **form) as file:
        file.write(pixels)
        file.descriptions = ROLES
        if masked:
            file.write_mask(np.broadcast_to(np.arange(5000) % 7 > 0, (300, 5000)))
    return path


def opened(path: Path) -> Scene:
    return open_scene(path, sensor="sentinel-2-l1c")


@pytest.mark.parametrize(
    ("dtype", "form"), [("uint16", {}), ("uint16", {"nbits": 12}), ("float32", {"nodata": 7}), ("int16", {"interleave": "band"})]
)
def test_a_copy_reads_as_the_file_does(tmp_path: Path, dtype: str, form: dict[str, object]) -> None:
    scene = opened(write(tmp_path / "scene.tif", dtype, masked="nodata" not in form, **form))
    copied = retiled(scene, ROLES, tmp_path / "copies")
    before, after = (read_scene(one, ROLES, scene.geobox(ROLES)) for one in (scene, copied))
    assert np.array_equal(before.values, after.values)
    assert np.array_equal(before.valid, after.valid)
    assert not before.valid.all()
    assert copied.geobox(ROLES) == scene.geobox(ROLES)
    assert copied.source == scene.source, "where the scene came from stays what is told"
    with rasterio.open(copied.layers[0].path) as file:
        assert file.block_shapes[0] == (256, 256)


def test_a_copy_is_made_once_and_anew_when_the_file_changes(tmp_path: Path) -> None:
    path = write(tmp_path / "scene.tif")
    first = retiled(opened(path), ROLES, tmp_path / "copies").layers[0].path
    written = os.stat(first).st_mtime_ns
    assert retiled(opened(path), ROLES, tmp_path / "copies").layers[0].path == first
    assert os.stat(first).st_mtime_ns == written
    write(path, seed=1)
    assert retiled(opened(path), ROLES, tmp_path / "copies").layers[0].path != first


def test_scenes_in_small_blocks_are_not_dear_and_strips_are(tmp_path: Path) -> None:
    strips = opened(write(tmp_path / "strips.tif"))
    assert "retile: FOLDER" in (dear_to_read(strips, ROLES) or "")
    assert dear_to_read(retiled(strips, ROLES, tmp_path / "copies"), ROLES) is None


def test_training_reads_the_copy_where_the_memory_does_not_hold_the_scene(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    labels = tmp_path / "labels.tif"
    with rasterio.open(write(tmp_path / "scene.tif")) as file:
        profile = file.profile | {"count": 1, "dtype": "uint8"}
    with rasterio.open(labels, "w", **profile) as file:
        file.write(np.arange(300 * 5000).reshape(300, 5000) % 2, 1)
    preparation = Preparation(
        bands=tuple(BandNeed(role=role, unit="reflectance") for role in ROLES),
        channels=tuple(Channel(name=role, mean=0.1, std=0.05) for role in ROLES),
    )
    given = (opened(tmp_path / "scene.tif"), labels, preparation, Legend.from_names(("a", "b")))
    copies = tmp_path / "copies"
    assert str(copies) in load_scene(*given, retile=copies).scene.layers[0].path
    assert str(copies) not in load_scene(*given, retile=copies, hold_mb=100).scene.layers[0].path
    assert "dear to read" not in caplog.text
    load_scene(*given)
    assert "dear to read" in caplog.text


def test_a_damaged_scene_leaves_no_copy(tmp_path: Path) -> None:
    path = write(tmp_path / "scene.tif", compress="deflate")
    whole = path.read_bytes()
    third = len(whole) // 3
    path.write_bytes(whole[:third] + bytes(third) + whole[2 * third :])
    with pytest.raises(SceneError, match=r"scene\.tif"):
        retiled(opened(path), ROLES, tmp_path / "copies")
    assert not list((tmp_path / "copies").glob("*"))
