"""Windows, what is drawn from a scene, and how it is turned and lit."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox

from geoseg.data.augment import Jitter, jitter_reflectance, turn
from geoseg.data.patches import GridPatches, LabelledScene, TrainingPatches, ground_statistics, load_scene
from geoseg.data.samplers import EpochSampler, TileSampler, grid_windows
from geoseg.data.windows import UNLABELLED, Window, lay_windows
from geoseg.errors import LabelError
from geoseg.legend import Legend
from geoseg.preprocess.prepare import BandNeed, Channel, Preparation, prepare
from geoseg.raster import Raster
from geoseg.scenes.open_scene import open_scene
from geoseg.sensors import Band

LEGEND = Legend.from_names(("land", "water"))
PREPARATION = Preparation(
    bands=(BandNeed(role="red", unit="reflectance"), BandNeed(role="nir", unit="reflectance")),
    channels=(Channel(name="red", mean=0.1, std=0.05), Channel(name="nir", mean=0.2, std=0.1), Channel(name="NDVI", kind="index")),
)
PROFILE = {"driver": "GTiff", "height": 90, "width": 70, "crs": "EPSG:32633", "transform": Affine(10, 0, 5e5, 0, -10, 5e6)}


@pytest.fixture
def labelled(tmp_path: Path) -> LabelledScene:
    """Two bands with a hole of nodata, and labels on the upper two thirds."""
    rng = np.random.default_rng(0)
    image = rng.integers(500, 3000, (2, 90, 70)).astype(np.uint16)
    image[:, 10:20, 10:20] = 0
    codes = np.where(np.arange(70) < 35, 0, 1) * np.ones((90, 1), np.uint8)
    codes[60:] = 255
    with rasterio.open(tmp_path / "scene.tif", "w", count=2, dtype="uint16", nodata=0, **PROFILE) as file:
        file.write(image)
    with rasterio.open(tmp_path / "labels.tif", "w", count=1, dtype="uint8", nodata=255, **PROFILE) as file:
        file.write(codes.astype(np.uint8), 1)
    scene = open_scene(tmp_path / "scene.tif", sensor="sentinel-2-l1c", bands=["red", "nir"])
    return load_scene(scene, tmp_path / "labels.tif", PREPARATION, LEGEND, hold_mb=0)


def held(scene: LabelledScene) -> LabelledScene:
    return LabelledScene(scene.scene, scene.geobox, scene.labels, scene.roles, scene.read(Window(0, 0, 90, 70)))


def test_windows_cover_a_shape_once() -> None:
    seen = np.zeros((97, 61), int)
    for window in lay_windows((97, 61), 20):
        seen[window.slices] += 1
    assert (seen == 1).all()


@pytest.mark.parametrize("window", [Window(-3, -2, 6, 9), Window(5, 7, 10, 4), Window(50, 50, 3, 3), Window(-9, 0, 4, 4)])
def test_a_cut_beyond_the_edge_equals_padding_first(window: Window) -> None:
    plane = np.arange(12 * 9).reshape(12, 9)
    padded = np.pad(plane, 100, constant_values=-7)
    assert np.array_equal(window.cut(plane, -7), padded[window.row + 100 :, window.col + 100 :][: window.rows, : window.cols])


def test_a_window_lies_where_its_pixels_lie() -> None:
    grid = GeoBox((90, 70), PROFILE["transform"], "EPSG:32633")
    assert Window(4, 6, 10, 12).geobox(grid) == grid[4:14, 6:18]


def test_labels_without_data_are_no_labels(labelled: LabelledScene) -> None:
    assert (labelled.labels[10:20, 10:20] == UNLABELLED).all()
    assert (labelled.labels[60:] == UNLABELLED).all()
    assert (labelled.labels[:60, 35:] == 1).all()


def test_reading_from_memory_and_from_the_file_are_the_same(labelled: LabelledScene) -> None:
    for window in (Window(3, 5, 32, 32), Window(-8, 50, 32, 32)):
        one, other = labelled.read(window), held(labelled).read(window)
        assert np.array_equal(one.values * one.valid, other.values * other.valid)
        assert np.array_equal(one.valid, other.valid)
        assert one.geobox == other.geobox


def test_statistics_are_those_of_the_training_ground_alone(labelled: LabelledScene) -> None:
    ground = np.zeros((90, 70), bool)
    ground[5:40, 5:30] = True
    statistics = ground_statistics([labelled], [ground], PREPARATION)
    raw = labelled.read(Window(0, 0, 90, 70))
    chosen = raw.values[:, ground & raw.valid_everywhere] * 1e-4
    assert statistics.mean[:2] == pytest.approx(chosen.mean(axis=1), rel=1e-5)
    assert statistics.std[:2] == pytest.approx(chosen.std(axis=1), rel=1e-5)


def sampler_of(labels: np.ndarray, ground: np.ndarray, *, rare: float = 0.5, tile: int = 16) -> TileSampler:
    return TileSampler([labels], [ground], tile=tile, rare=rare)


def test_drawn_windows_lie_on_the_ground_and_hold_labels() -> None:
    rng = np.random.default_rng(1)
    ground = np.zeros((90, 70), bool)
    ground[8:50, 4:40] = True
    labels = np.where(rng.random((90, 70)) < 0.02, 1, UNLABELLED)
    sampler = sampler_of(labels, ground)
    for draw in range(200):
        _, window = sampler.draw(np.random.default_rng(draw))
        assert ground[window.slices].all()
        assert (labels[window.slices] != UNLABELLED).any()


@pytest.mark.parametrize("tile", [1, 4, 5])
def test_a_window_has_room_where_all_of_it_lies_on_the_ground(tile: int) -> None:
    ground = np.random.default_rng(0).random((12, 10)) < 0.97
    labels = np.where(ground, 0, UNLABELLED)
    sampler = sampler_of(labels, ground, tile=tile)
    drawn = {sampler.draw(np.random.default_rng(i))[1] for i in range(3000)}
    everywhere = {Window(row, col, tile, tile) for row in range(13 - tile) for col in range(11 - tile)}
    assert drawn == {window for window in everywhere if ground[window.slices].all()}


def test_ground_too_small_for_a_window_is_refused() -> None:
    with pytest.raises(LabelError, match="no window of 64 x 64 pixels"):
        sampler_of(np.zeros((90, 70), int), np.eye(90, 70, dtype=bool), tile=64)


def test_each_epoch_draws_anew_and_each_run_the_same() -> None:
    sampler = EpochSampler(4)
    first = list(sampler)
    sampler.set_epoch(1)
    assert (first, list(sampler)) == ([0, 1, 2, 3], [4, 5, 6, 7])


def test_grid_cores_cover_each_pixel_of_the_ground_once() -> None:
    ground = np.random.default_rng(0).random((90, 70)) < 0.05
    seen = np.zeros((90, 70), int)
    for window, core in grid_windows(ground, tile=32, margin=4):
        seen[core.slices] += 1
        assert (window.rows, window.cols) == (32, 32)
        assert (core.row - window.row, core.col - window.col) == (4, 4)
    assert (seen[ground] == 1).all()


def test_judged_patches_hold_each_label_of_the_ground_once(labelled: LabelledScene) -> None:
    ground = np.zeros((90, 70), bool)
    ground[:45, 20:] = True
    windows = [(0, window, core) for window, core in grid_windows(ground, tile=32, margin=4)]
    patches = GridPatches([labelled], [ground], PREPARATION, windows)
    counts = sum(np.bincount(patches[i]["labels"][patches[i]["labels"] >= 0], minlength=2) for i in range(len(patches)))
    known = labelled.labels[ground & (labelled.labels != UNLABELLED)]
    assert np.array_equal(counts, np.bincount(known, minlength=2))


def test_a_patch_without_alteration_is_what_mapping_would_prepare(labelled: LabelledScene) -> None:
    ground = np.ones((90, 70), bool)
    patches = TrainingPatches([labelled], [ground], PREPARATION, sampler_of(labelled.labels, ground), seed=5)
    patch = patches[3]
    generator = np.random.default_rng((5, 3))
    _, window = patches.sampler.draw(generator)
    whole = prepare(labelled.read(Window(0, 0, 90, 70)), PREPARATION)
    expected = turn(whole.values[(slice(None), *window.slices)], int(generator.integers(8)))
    assert np.array_equal(patch["image"], expected)
    assert np.array_equal(patches[3]["image"], patch["image"])


def test_labels_of_other_parts_are_not_learned_from(labelled: LabelledScene) -> None:
    ground = np.ones((90, 70), bool)
    sampler = sampler_of(labelled.labels, ground)
    ground = ground & (np.arange(70) >= 35)
    patches = TrainingPatches([labelled], [ground], PREPARATION, sampler, seed=0)
    assert {int(v) for i in range(30) for v in np.unique(patches[i]["labels"])} == {UNLABELLED, 1}


def test_the_eight_turns_are_eight_and_keep_pixels_with_their_labels() -> None:
    square = np.arange(16).reshape(4, 4)
    turned = [turn(square, which) for which in range(8)]
    assert len({plane.tobytes() for plane in turned}) == 8
    assert all(np.array_equal(np.sort(plane, axis=None), square.ravel()) for plane in turned)
    image = np.stack([square, square + 100])
    assert all(np.array_equal(turn(image, which)[1], turned[which] + 100) for which in range(8))


def raster_of(reflectance: np.ndarray) -> Raster:
    bands = (
        Band("B04", "red", wavelength_um=0.665, scale=1e-4, unit="reflectance"),
        Band("B08", "nir", wavelength_um=0.833, scale=1e-4, unit="reflectance"),
        Band("DEM", "height", unit="m"),
    )
    valid = np.ones(reflectance.shape, bool)
    valid[:, 0, 0] = False
    return Raster(reflectance, valid, GeoBox(reflectance.shape[1:], PROFILE["transform"], "EPSG:32633"), bands)


def test_no_jitter_leaves_the_reflectance_as_it_was() -> None:
    raster = raster_of(np.full((3, 8, 8), 2000, np.uint16))
    same = jitter_reflectance(raster, Jitter(), np.random.default_rng(0))
    assert same.values[0, 1, 1] == pytest.approx(0.2)
    assert (same.values[:, 0, 0] == 0).all()


def test_haze_lifts_short_wavelengths_more_and_other_quantities_not_at_all() -> None:
    raster = raster_of(np.full((3, 8, 8), 2000, np.uint16))
    for seed in range(20):
        changed = jitter_reflectance(raster, Jitter(haze=0.05), np.random.default_rng(seed)).values[:, 1, 1]
        red, nir = changed[0] - 0.2, changed[1] - 0.2
        assert abs(red) > abs(nir) > 0
        assert changed[2] == 2000


def test_indices_agree_with_the_altered_bands() -> None:
    plain = Preparation(bands=PREPARATION.bands, channels=tuple(Channel(name=c.name, kind=c.kind) for c in PREPARATION.channels))
    raster = raster_of(np.random.default_rng(0).integers(500, 3000, (3, 8, 8)).astype(np.uint16))
    red, nir, ndvi = prepare(jitter_reflectance(raster, Jitter(gain=0.2, haze=0.03, noise=0.01), np.random.default_rng(1)), plain).values
    assert ndvi[1:] == pytest.approx((nir[1:] - red[1:]) / (nir[1:] + red[1:]), abs=1e-5)


def test_patches_reach_another_process_unchanged(labelled: LabelledScene) -> None:
    ground = np.ones((90, 70), bool)
    patches = TrainingPatches([labelled], [ground], PREPARATION, sampler_of(labelled.labels, ground), 0, Jitter(gain=0.1))
    assert np.array_equal(pickle.loads(pickle.dumps(patches))[7]["image"], patches[7]["image"])
