"""Tiles cover every pixel, lie on the network's stride, and their shares sum to one."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from geoseg.errors import InputError
from geoseg.mapping.blending import RowBlender
from geoseg.mapping.tiles import plan_tiles

SHAPES = [(1, 1), (1, 700), (509, 1), (64, 64), (65, 63), (127, 211), (200, 317), (512, 512)]
SETTINGS = [(64, 0, 32), (64, 16, 8), (64, 32, 32), (64, 50, 2), (96, 31, 16), (512, 64, 32)]


def blended(plan, value):
    whole = np.full((1, *plan.shape), np.nan, np.float32)
    for panel in plan.panels:
        blender = RowBlender(plan, panel, channels=1)
        for i in range(len(plan.row_origins)):
            for j in panel.tile_cols:
                blender.add(j, value(plan.row_origins[i], plan.col_origins[j]))
            whole[:, plan.finished_rows(i), panel.cols] = blender.finished(i)
            blender.move_on(i)
    return whole


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("tile", "overlap", "stride"), SETTINGS)
def test_a_constant_is_blended_to_itself_borders_and_corners_included(shape, tile, overlap, stride):
    plan = plan_tiles(shape, tile=tile, overlap=overlap, stride=stride)
    constant = blended(plan, lambda row, col: np.full((1, tile, tile), 0.7, np.float32))
    assert constant.shape == (1, *shape)
    np.testing.assert_allclose(constant, 0.7, atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("tile", "overlap", "stride"), SETTINGS)
def test_each_tile_lands_where_it_was_cut(shape, tile, overlap, stride):
    truth = np.random.default_rng(0).random(shape, np.float32)
    plan = plan_tiles(shape, tile=tile, overlap=overlap, stride=stride)
    padded = np.pad(truth, ((0, tile), (0, tile)))
    np.testing.assert_allclose(blended(plan, lambda row, col: padded[None, row : row + tile, col : col + tile])[0], truth, atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("tile", "overlap", "stride"), SETTINGS)
def test_origins_are_multiples_of_the_stride_and_leave_no_gap(shape, tile, overlap, stride):
    plan = plan_tiles(shape, tile=tile, overlap=overlap, stride=stride)
    for origins, size in ((plan.row_origins, shape[0]), (plan.col_origins, shape[1])):
        assert all(origin % stride == 0 for origin in origins)
        assert all(after - before <= tile - overlap for before, after in itertools.pairwise(origins))
        assert origins[0] == 0
        assert origins[-1] + tile >= size
        assert origins[-1] == 0 or origins[-1] + tile - size < stride


def test_the_last_tile_moves_inside_the_scene():
    assert plan_tiles((64, 100), tile=64, overlap=0, stride=4).col_origins == (0, 36)


def test_the_last_tile_is_padded_where_the_stride_forbids_to_move_further():
    assert plan_tiles((64, 100), tile=64, overlap=0, stride=32).col_origins == (0, 64)


def test_neighbours_change_smoothly_into_each_other():
    plan = plan_tiles((64, 112), tile=64, overlap=16, stride=16)
    step = blended(plan, lambda row, col: np.full((1, 64, 64), float(col > 0), np.float32))[0, 0]
    assert step[47] == 0
    assert step[64] == 1
    assert np.abs(np.diff(step)).max() < 0.12
    assert np.all(np.diff(step) >= 0)


@pytest.mark.parametrize(("tile", "overlap", "stride"), [(100, 0, 32), (64, 64, 32), (64, -1, 32), (0, 0, 1)])
def test_impossible_tiles_are_refused(tile, overlap, stride):
    with pytest.raises(InputError):
        plan_tiles((100, 100), tile=tile, overlap=overlap, stride=stride)
