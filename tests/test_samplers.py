"""Random windows: how likely each is, by counting; which process draws which; and that reading with open files changes nothing."""

from __future__ import annotations

import multiprocessing
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

from geoseg.data.patches import TrainingPatches, load_scene
from geoseg.data.samplers import EpochSampler, TileSampler
from geoseg.data.windows import UNLABELLED, Window
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
    sampler = TileSampler([scene.labels for scene in scenes], ground, tile=48, rare=0.5)
    return TrainingPatches(scenes, ground, PREPARATION, sampler, seed=3)


# How likely a window is: counted, against the law


def count(sampler: TileSampler, draws: int) -> dict[tuple[int, int, int], int]:
    """(scene, row, col) of a window → how often it was drawn."""
    generator, found = np.random.default_rng(11), Counter[tuple[int, int, int]]()
    for _ in range(draws):
        scene, window = sampler.draw(generator)
        found[scene, window.row, window.col] += 1
    return found


def likelihoods(labels: np.ndarray, tile: int, wanted: Callable[[np.ndarray], np.ndarray]) -> dict[tuple[int, int, int], float]:
    """The law for one scene by brute force: each window as likely as it holds many of the wanted labels."""
    rows, cols = (size - tile + 1 for size in labels.shape)
    held = {(0, row, col): float(wanted(labels[row : row + tile, col : col + tile]).sum()) for row in range(rows) for col in range(cols)}
    return {place: number / sum(held.values()) for place, number in held.items() if number}


def misfit(found: Mapping[tuple[int, int, int], int], law: Mapping[tuple[int, int, int], float]) -> float:
    """Chi-square by degree of freedom: about 1 where windows are drawn by the law."""
    assert set(found) <= set(law), "no window that the law does not know"
    draws = sum(found.values())
    return sum((found.get(place, 0) - draws * share) ** 2 / (draws * share) for place, share in law.items()) / (len(law) - 1)


LABELLED = np.random.default_rng(5).integers(0, 3, (20, 16))


def test_on_labelled_ground_every_place_is_equally_likely() -> None:
    law = likelihoods(LABELLED, 8, lambda part: np.ones(1))
    assert set(law.values()) == {1 / (13 * 9)}
    assert misfit(count(TileSampler([LABELLED], [LABELLED >= 0], tile=8, rare=0.0), 12_000), law) < 1.5


def test_windows_around_random_pixels_pushed_into_the_scene_are_not_equally_likely() -> None:
    generator, found = np.random.default_rng(0), Counter[tuple[int, int, int]]()
    for _ in range(12_000):
        row, col = generator.integers((20, 16)) - generator.integers(8, size=2)
        found[0, int(np.clip(row, 0, 12)), int(np.clip(col, 0, 8))] += 1
    assert misfit(found, likelihoods(LABELLED, 8, lambda part: np.ones(1))) > 10


@pytest.mark.parametrize("index", [None, 1])
def test_on_sparse_labels_a_window_is_as_likely_as_it_holds_labels(index: int | None) -> None:
    rng = np.random.default_rng(6)
    labels = np.where(rng.random((90, 70)) < 0.01, 1, UNLABELLED)  # more than one cell, some without a label
    labels[70:, 40:] = 1
    labels = labels if index is None else np.where(labels == UNLABELLED, 0, labels)
    sampler = TileSampler([labels], [labels > -9], tile=60, rare=0.0 if index is None else 1.0)
    law = likelihoods(labels, 60, lambda part: part == 1)
    if index is not None:
        other = likelihoods(labels, 60, lambda part: part == 0)
        law = {place: (law.get(place, 0) + other.get(place, 0)) / 2 for place in {*law, *other}}
    assert misfit(count(sampler, 6000), law) < 1.5


def test_a_scene_counts_by_its_labelled_area_and_a_small_one_is_padded() -> None:
    sizes = [(40, 30), (6, 9), (20, 5), (4, 16)]
    sampler = TileSampler([np.zeros(size, int) for size in sizes], [np.ones(size, bool) for size in sizes], tile=16, rare=0.0)
    found = count(sampler, 20_000)
    area = np.array([rows * cols for rows, cols in sizes])
    drawn = np.array([sum(times for (scene, *_), times in found.items() if scene == which) for which in range(4)])
    expected = 20_000 * area / area.sum()
    assert ((drawn - expected) ** 2 / expected).sum() < 16.3  # the 99.9 % point of chi-square with three degrees of freedom
    small = {(scene, row, col) for scene, row, col in found if scene}
    assert small == {(1, -5, -3), *((2, row, -5) for row in range(5)), (3, -6, 0)}, "in the middle along the side that is too short"


def test_a_padded_patch_holds_the_whole_small_scene(patches: TrainingPatches) -> None:
    sampler = TileSampler([scene.labels for scene in patches.scenes], patches.ground, tile=192, rare=0.5)
    patch = replace(patches, sampler=sampler)[0]
    known = sum(int((scene.labels != UNLABELLED).sum()) for scene in patches.scenes) // 2
    assert patch["image"].shape == (2, 192, 192)
    assert (patch["labels"] != UNLABELLED).sum() == pytest.approx(known, abs=0)


@pytest.mark.parametrize("rare", [0.0, 0.4, 1.0])
def test_classes_are_drawn_by_area_or_evenly_in_the_share_that_was_asked_for(rare: float) -> None:
    labels = np.zeros((64, 192), int)
    labels[20, 20], labels[40:44, 100:104] = 1, 2
    sampler, generator = TileSampler([labels], [labels >= 0], tile=8, rare=rare), np.random.default_rng(0)
    windows = [sampler.draw(generator)[1] for _ in range(4000)]
    for index in (1, 2):
        plain = np.mean([(labels[row : row + 8, col : col + 8] == index).any() for row in range(57) for col in range(185)])
        expected = rare / 3 + (1 - rare * 2 / 3) * plain  # around it, or elsewhere and by chance
        drawn = np.mean([(labels[window.slices] == index).any() for window in windows])
        assert drawn == pytest.approx(expected, abs=4 * np.sqrt(0.25 / 4000))


def test_a_label_that_no_window_can_hold_is_not_drawn_around() -> None:
    labels, ground = np.zeros((40, 40), int), np.zeros((40, 40), bool)
    ground[:20, :20] = True
    ground[30:34, 30:34] = True  # too small for a window
    labels[32, 32] = 1
    sampler = TileSampler([labels], [ground], tile=16, rare=1.0)
    assert {(row, col) for _, row, col in count(sampler, 500)} == {(row, col) for row in range(5) for col in range(5)}
    assert sampler.places[0].classes == (0,)


# Which process draws which


@pytest.mark.parametrize(("length", "world"), [(4, 1), (20, 2), (20, 3), (7, 7)])
def test_processes_share_out_each_epoch_without_duplicate_or_hole(length: int, world: int) -> None:
    samplers = [EpochSampler(length, rank=rank, world=world) for rank in range(world)]
    drawn: list[int] = []
    for epoch in range(3):
        for sampler in samplers:
            sampler.set_epoch(epoch)
            assert len(list(sampler)) == len(sampler) == length // world
            drawn += list(sampler)
    assert sorted(drawn) == list(range(3 * (length // world) * world))


@pytest.mark.parametrize(("length", "rank", "world"), [(4, 2, 2), (4, -1, 2), (1, 0, 2)])
def test_a_process_that_is_none_of_them_is_refused(length: int, rank: int, world: int) -> None:
    with pytest.raises(ValueError, match=f"process {rank} of {world} with {length} draws an epoch"):
        EpochSampler(length, rank=rank, world=world)


# Files that stay open


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
