"""Blocks held out with a gap around them."""

from __future__ import annotations

import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox
from scipy.ndimage import distance_transform_cdt

from geoseg.data.splits import PARTS, BlockSplit, assign_parts, split_blocks
from geoseg.errors import LabelError

GRID = GeoBox((300, 260), Affine(10, 0, 400_000, 0, -10, 5_000_000), "EPSG:32633")


def split_of(grids: list[GeoBox], labels: list[np.ndarray] | None = None, *, seed: int = 0, guard: int = 7) -> BlockSplit:
    planes = labels or [np.random.default_rng(0).integers(0, 2, grid.shape) for grid in grids]
    return split_blocks(grids, planes, 2, block=50, guard=guard, validation=0.2, test=0.2, generator=np.random.default_rng(seed))


@pytest.mark.parametrize("guard", [0, 1, 7, 12])
def test_pixels_of_two_parts_are_at_least_the_guard_apart(guard: int) -> None:
    split = split_of([GRID], guard=guard)
    masks = [split.mask(0, part) for part in PARTS]
    assert all(mask.any() for mask in masks)
    for own in range(3):
        reach = distance_transform_cdt(~masks[own], metric="chessboard")
        for other in range(own):
            assert reach[masks[other]].min() > guard


def test_every_pixel_belongs_to_one_part_where_there_is_no_guard() -> None:
    split = split_of([GRID], guard=0)
    assert (sum(split.mask(0, part).astype(int) for part in PARTS) == 1).all()


def test_the_same_seed_holds_out_the_same_blocks_and_another_others() -> None:
    one, again, other = (split_of([GRID], seed=seed).parts[0] for seed in (3, 3, 4))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


def test_held_out_polygons_cover_the_blocks_that_were_not_trained_on() -> None:
    split = split_of([GRID], guard=0)
    frame = split.held_out()
    assert frame.crs.to_epsg() == 4326
    area_m2 = frame.to_crs(GRID.crs).area.sum()
    assert area_m2 == pytest.approx(100 * (~split.mask(0, "train")).sum(), rel=1e-6)


def test_ground_held_out_in_one_scene_is_not_trained_on_in_another_that_overlaps_it() -> None:
    moved = GeoBox((300, 260), Affine(10, 0, 400_400, 0, -10, 4_999_700), "EPSG:32633")  # 40 columns, 30 rows further
    split = split_of([GRID, moved], guard=4)
    plane = np.zeros(GRID.shape, dtype=bool)
    for window, place in zip(split.blocks[0], split.parts[0], strict=True):
        plane[window.slices] = PARTS[place] != "train"
    assert plane[30:, 40:].any()
    assert not (split.mask(1, "train")[:-30, :-40] & plane[30:, 40:]).any()
    assert split.mask(1, "train").any()


def test_a_rare_class_comes_into_every_part() -> None:
    counts = np.zeros((20, 2), dtype=int)
    counts[:, 0] = 1000
    counts[:3, 1] = 10
    for seed in range(5):
        places = assign_parts(counts, validation=0.2, test=0.2, generator=np.random.default_rng(seed))
        assert sorted(places[:3]) == [0, 1, 2]


def test_every_part_has_a_block_even_of_three() -> None:
    places = assign_parts(np.ones((3, 2), int), validation=0.01, test=0.4, generator=np.random.default_rng(0))
    assert sorted(places) == [0, 1, 2]


def test_labels_in_fewer_than_three_blocks_are_refused_with_the_cure() -> None:
    labels = np.full(GRID.shape, -1)
    labels[:20, :80] = 1
    with pytest.raises(LabelError, match="2 blocks of 50 x 50 pixels; expected at least 3"):
        split_of([GRID], [labels])
