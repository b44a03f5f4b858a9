"""Patches in larger pixels: their values are means over the ground, their place and size are true, and held-out ground is not seen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from labelled_ground import write_ground
from odc.geo.geobox import GeoBox

from geoseg.data.augment import dropped
from geoseg.data.patches import TrainingPatches, load_scene
from geoseg.data.samplers import TileSampler
from geoseg.data.scale import coarser, draw_factor, margin_of
from geoseg.data.windows import UNLABELLED
from geoseg.legend import Legend, LegendClass
from geoseg.preprocess.prepare import BandNeed, Channel, Preparation
from geoseg.raster import Raster
from geoseg.scenes.open_scene import open_scene
from geoseg.sensors import Band

LEGEND = Legend((LegendClass(0, 10, "land", "#7cc83c"), LegendClass(1, 20, "water", "#1e50dc")))


def raster_of(values: np.ndarray, valid: np.ndarray | None = None, **band: object) -> Raster:
    grid = GeoBox(values.shape[1:], Affine(10, 0, 5e5, 0, -10, 5e6), "EPSG:32633")
    bands = tuple(Band(f"b{at}", f"b{at}", **band) for at in range(len(values)))
    return Raster(values.astype(np.float32), np.ones(values.shape, bool) if valid is None else valid, grid, bands)


def test_pixels_are_means_over_their_ground_and_say_their_size() -> None:
    values = np.random.default_rng(0).random((2, 24, 24))
    labels = np.arange(24 * 24).reshape(24, 24)
    seen, known = coarser(raster_of(values), labels, 8, 2.0)
    assert seen.values == pytest.approx(values[:, 4:20, 4:20].reshape(2, 8, 2, 8, 2).mean(axis=(2, 4)), abs=1e-6)
    assert seen.geobox.affine == Affine(20, 0, 5e5 + 40, 0, -20, 5e6 - 40)
    assert np.array_equal(known, labels[5:20:2, 5:20:2])


@pytest.mark.parametrize("factor", [1.0, 1.3, 1.9])
def test_ground_stays_where_it_is(factor: float) -> None:
    rows, cols = np.mgrid[:40, :40] + 0.5  # an eighth of a pixel is what the mean of whole pixels may be off
    seen, _ = coarser(raster_of(np.stack([rows, cols])), np.zeros((40, 40), np.int64), 16, factor)
    x, y = seen.geobox.affine @ (np.arange(16) + 0.5, np.arange(16) + 0.5)
    assert seen.values[1, 0] * 10 + 5e5 == pytest.approx(x, abs=1.3)
    assert 5e6 - seen.values[0, :, 0] * 10 == pytest.approx(y, abs=1.3)


def test_no_data_takes_no_part_in_a_mean() -> None:
    values, valid = np.full((1, 16, 16), 5.0), np.ones((1, 16, 16), bool)
    values[0, ::2], valid[0, ::2] = 1000, False
    seen, _ = coarser(raster_of(values, valid), np.zeros((16, 16), np.int64), 6, 2.0)
    assert (seen.values[seen.valid] == 5).all()
    assert seen.valid.all()


def test_decibels_are_averaged_as_power() -> None:
    values = np.tile([0.0, -20.0], (1, 16, 8))
    seen, _ = coarser(raster_of(values, unit="dB"), np.zeros((16, 16), np.int64), 6, 2.0)
    assert seen.values == pytest.approx(10 * np.log10((1 + 0.01) / 2), abs=1e-3)


def test_factors_are_even_in_their_logarithm_and_what_is_read_is_enough() -> None:
    generator = np.random.default_rng(0)
    drawn = np.array([draw_factor(2.0, generator) for _ in range(4000)])
    assert drawn.min() >= 1
    assert drawn.max() <= 2
    assert (drawn < np.sqrt(2)).mean() == pytest.approx(0.5, abs=0.03)
    for tile, halo, most in [(64, 0, 1.5), (33, 3, 2.0), (64, 3, 1.0)]:
        read = tile + 2 * margin_of(tile, halo, most)
        assert (tile + 2 * halo) * most <= read


@pytest.fixture
def patches(tmp_path: Path) -> TrainingPatches:
    write_ground(tmp_path)
    needs = tuple(BandNeed(role=role, unit="reflectance") for role in ("red", "nir"))
    preparation = Preparation(bands=needs, channels=tuple(Channel(name=need.role, mean=0.0, std=1.0) for need in needs))
    scene = open_scene(tmp_path / "scene.tif", sensor="sentinel-2-l1c", bands=["red", "nir"])
    loaded = load_scene(scene, tmp_path / "labels.tif", preparation, LEGEND, hold_mb=100)
    ground = np.zeros(loaded.labels.shape, bool)
    ground[:, :96] = True
    sampler = TileSampler([loaded.labels], [ground], tile=32, rare=0.0)
    return TrainingPatches([loaded], [ground], preparation, sampler, 0, coarsen=2.0)


def test_ground_that_is_held_out_is_not_seen(patches: TrainingPatches) -> None:
    shown = [patches[draw] for draw in range(40)]
    assert all(patch["image"].shape == (2, 32, 32) for patch in shown)
    blind = [(patch["image"] == 0).all(axis=0) for patch in shown]
    assert any(plane.any() for plane in blind), "some windows lie beside held-out ground"
    assert all((patch["labels"][plane] == UNLABELLED).all() for patch, plane in zip(shown, blind, strict=True))
    assert all((patch["labels"] != UNLABELLED).any() for patch in shown)


def test_channels_that_are_left_out_are_at_their_mean_and_one_stays(patches: TrainingPatches) -> None:
    some = replace(patches, coarsen=1.0, drop_channels=0.5)
    gone = np.array([[not plane.any() for plane in some[draw]["image"]] for draw in range(200)])
    assert not gone.all(axis=1).any()
    assert gone.mean(axis=0) == pytest.approx(0.375, abs=0.09)
    assert not np.array([[not plane.any() for plane in replace(some, drop_channels=0.0)[draw]["image"]] for draw in range(20)]).any()
    assert not dropped(3, 0.0, np.random.default_rng(0)).any()
