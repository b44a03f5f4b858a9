"""Random windows are cheap and still the same: against reading with files opened anew, and against looking everywhere."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

from geoseg.data.patches import TrainingPatches, load_scene
from geoseg.data.samplers import TileSampler
from geoseg.data.windows import Window
from geoseg.io import opening
from geoseg.io.geotiff import read_raster
from geoseg.io.opening import files_kept_open
from geoseg.legend import Legend
from geoseg.preprocess.prepare import BandNeed, Channel, Preparation
from geoseg.scenes.open_scene import open_scene

PREPARATION = Preparation(
    bands=(BandNeed(role="red", unit="reflectance"), BandNeed(role="nir", unit="reflectance")),
    channels=(Channel(name="red", mean=0.1, std=0.05), Channel(name="nir", mean=0.2, std=0.1)),
)


@pytest.fixture
def patches(tmp_path: Path) -> TrainingPatches:
    """Patches of two tiled scenes in two UTM zones, each with a hole of nodata and two classes."""
    rng, scenes = np.random.default_rng(0), []
    for zone in (32, 33):
        grid = {"crs": f"EPSG:{32600 + zone}", "transform": Affine(10, 0, 5e5, 0, -10, 5e6), "height": 150, "width": 170}
        blocks = {"driver": "GTiff", "tiled": True, "blockxsize": 64, "blockysize": 64, "compress": "deflate", **grid}
        image = rng.integers(500, 3000, (2, 150, 170)).astype(np.uint16)
        image[:, 60:80, 50:90] = 0
        with rasterio.open(tmp_path / f"scene{zone}.tif", "w", count=2, dtype="uint16", nodata=0, **blocks) as file:
            file.write(image)
        with rasterio.open(tmp_path / f"labels{zone}.tif", "w", count=1, dtype="uint8", nodata=255, **blocks) as file:
            file.write((rng.random((150, 170)) < 0.3).astype(np.uint8), 1)
        scene = open_scene(tmp_path / f"scene{zone}.tif", sensor="sentinel-2-l1c", bands=["red", "nir"])
        scenes.append(load_scene(scene, tmp_path / f"labels{zone}.tif", PREPARATION, Legend.from_names(("land", "water"))))
    ground = [np.ones(scene.labels.shape, bool) for scene in scenes]
    sampler = TileSampler([scene.labels for scene in scenes], ground, tile=48, rare=0.5, generator=np.random.default_rng(0))
    return TrainingPatches(scenes, ground, PREPARATION, sampler, seed=3)


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def test_patches_with_files_kept_open_are_those_with_files_opened_anew(patches: TrainingPatches) -> None:
    anew = [patches[draw] for draw in range(30)]
    with files_kept_open():
        kept = [patches[draw] for draw in range(30)]
    assert all(map(same, anew, kept))
    assert not same(anew[0], kept[1])


def test_a_window_of_a_scene_is_what_rasterio_reads_there(patches: TrainingPatches) -> None:
    rng, scene = np.random.default_rng(1), patches.scenes[1]
    with files_kept_open(), rasterio.open(scene.scene.source) as file:
        for row, col in rng.integers(0, 100, (30, 2)):
            raster = scene.read(Window(int(row), int(col), 48, 48))
            stored = file.read(window=rasterio.windows.Window(col, row, 48, 48))
            assert np.array_equal(raster.values, stored)
            assert np.array_equal(raster.valid, stored != 0)


def nearest_of_all(fits: np.ndarray, row: int, col: int, tile: int) -> Window:
    rows, cols = np.nonzero(fits)
    best = int(np.argmin((rows + tile // 2 - row) ** 2 + (cols + tile // 2 - col) ** 2))
    return Window(int(rows[best]), int(cols[best]), tile, tile)


@pytest.mark.parametrize("share", [0.5, 0.01, 0.0002])
def test_the_nearest_window_is_that_of_a_look_everywhere(share: float) -> None:
    rng, tile = np.random.default_rng(2), 9
    sampler = TileSampler([np.zeros((120, 90), int)], [np.ones((120, 90), bool)], tile=tile, rare=0.0, generator=rng)
    fits = rng.random((112, 82)) < share
    fits[rng.integers(112), rng.integers(82)] = True
    sampler._fits = [fits]
    for row, col in [*rng.integers(0, (120, 90), (200, 2)).tolist(), [0, 0], [119, 89], [0, 89]]:
        assert sampler._nearest(0, row, col) == nearest_of_all(fits, row, col, tile)


def _patch_in_worker(patches: TrainingPatches, draws: range, answers: multiprocessing.SimpleQueue) -> None:
    found = [patches[draw] for draw in draws]
    answers.put((found, len(opening._shelf.idle)))


@pytest.mark.parametrize("method", [name for name in ("fork", "spawn") if name in multiprocessing.get_all_start_methods()])
def test_a_worker_keeps_files_of_its_own_open_and_draws_the_same(patches: TrainingPatches, method: str) -> None:
    context = multiprocessing.get_context(method)
    with files_kept_open():
        here = [patches[draw] for draw in range(8)]
        answers = context.SimpleQueue()
        worker = context.Process(target=_patch_in_worker, args=(patches, range(8), answers))
        worker.start()
        there, kept = answers.get()
        worker.join()
    assert all(map(same, here, there))
    assert kept == 2


@pytest.mark.skipif(not hasattr(opening.os, "fork"), reason="no fork on this system")
def test_a_forked_process_takes_no_open_file_from_its_parent(patches: TrainingPatches) -> None:
    with files_kept_open():
        read_raster(patches.scenes[0].scene.source, [1])
        assert len(opening._shelf.idle) == 1
        worker = multiprocessing.get_context("fork").Process(target=_end_with_open_files)
        worker.start()
        worker.join()
        assert len(opening._shelf.idle) == 1
    assert worker.exitcode == 0
    assert not opening._shelf.idle


def _end_with_open_files() -> None:
    raise SystemExit(len(opening._shelf.idle))
