"""Blocks held out with a gap around them."""

from __future__ import annotations

from pathlib import Path

import geopandas
import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox
from scipy.ndimage import distance_transform_cdt
from shapely.geometry import box

from geoseg.data.region_splits import split_regions
from geoseg.data.splits import PARTS, BlockSplit, assign_parts, split_blocks, split_scenes, write_split
from geoseg.errors import InputError, LabelError

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


# Whole scenes, and regions


def test_whole_scenes_are_held_out_and_their_ground_in_others_too() -> None:
    grids = [GeoBox((60, 60), Affine(10, 0, 400_000 + 600 * n, 0, -10, 5_000_000), "EPSG:32633") for n in range(5)]
    grids.append(GeoBox((60, 60), Affine(10, 0, 400_300, 0, -10, 5_000_000), "EPSG:32633"))  # half over the first, half over the second
    planes = [np.random.default_rng(n).integers(0, 2, (60, 60)) for n in range(6)]
    split = split_scenes(grids, planes, 2, guard=4, validation=0.2, test=0.2, generator=np.random.default_rng(2))
    assert sorted(int(part[0]) for part in split.parts) == [0, 0, 0, 0, 1, 2]
    for scene, (place,) in enumerate(split.parts):
        masks = [split.mask(scene, part) for part in PARTS]
        assert masks[place].any()
        assert sum(mask.any() for mask in masks) == 1
    last = split.parts[5][0]
    for neighbour, columns in ((0, slice(0, 30)), (1, slice(30, 60))):
        if split.parts[neighbour][0] > last:
            assert not split.mask(5, PARTS[last])[:, columns].any()


def test_two_scenes_are_too_few_to_hold_one_out() -> None:
    with pytest.raises(LabelError, match="2 scenes"):
        split_scenes(
            [GRID, GRID], [np.zeros(GRID.shape, int)] * 2, 2, guard=0, validation=0.2, test=0.2, generator=np.random.default_rng(0)
        )


def regions(tmp_path: Path, crs: str = "EPSG:32633", **parts: tuple[int, int]) -> Path:
    """Polygons of columns from … to, over all rows of GRID; named by their part."""
    boxes = [box(400_000 + 10 * left, 4_997_000, 400_000 + 10 * right, 5_000_000) for left, right in parts.values()]
    names = [name.rstrip("0123456789") for name in parts]
    geopandas.GeoDataFrame({"part": names}, geometry=boxes, crs="EPSG:32633").to_crs(crs).to_file(tmp_path / "regions.gpkg")
    return tmp_path / "regions.gpkg"


@pytest.mark.parametrize("crs", ["EPSG:32633", "EPSG:32634"])
@pytest.mark.parametrize("guard", [0, 5])
def test_regions_say_what_is_learned_from_and_the_gap_is_kept(tmp_path: Path, guard: int, crs: str) -> None:
    path = regions(tmp_path, crs, train=(0, 100), validation=(100, 150), test=(140, 200), train2=(200, 230))
    split = split_regions([GRID], path, "part", guard=guard)
    columns = {part: np.flatnonzero(split.mask(0, part)[150]) for part in PARTS}
    assert columns["train"].tolist() == [*range(100 - guard), *range(200 + guard, 230)]
    assert columns["validation"].tolist() == list(range(100 + guard, 140 - guard))
    assert columns["test"].tolist() == list(range(140 + guard, 200 - guard))
    assert split.pieces("train") == 2
    assert sorted(split.held_out()["part"]) == ["test", "validation"]


@pytest.mark.parametrize("guard", [0, 5])
def test_the_gap_is_kept_across_the_border_of_two_scenes(tmp_path: Path, guard: int) -> None:
    path = regions(tmp_path, train=(0, 100), test=(100, 230), validation=(230, 260))
    halves = [GRID[:, :100], GRID[:, 100:]]
    split, whole = split_regions(halves, path, "part", guard=guard), split_regions([GRID], path, "part", guard=guard)
    for part in PARTS:
        beside = np.concatenate([split.mask(0, part), split.mask(1, part)], axis=1)
        np.testing.assert_array_equal(beside, whole.mask(0, part))
    assert np.flatnonzero(split.mask(0, "train")[0])[-1] == 99 - guard
    assert np.flatnonzero(split.mask(1, "test")[0])[0] == guard


@pytest.mark.parametrize(
    ("parts", "column", "told"),
    [
        ({"train": (0, 9), "test": (20, 30)}, "part", "no polygon for validation"),
        ({"train": (0, 9), "validation": (10, 19), "tests": (20, 30)}, "part", "did you mean 'test'"),
        ({"train": (0, 9), "validation": (10, 19), "test": (20, 30)}, "role", "no column 'role'"),
    ],
)
def test_regions_that_name_no_parts_are_refused(tmp_path: Path, parts: dict[str, tuple[int, int]], column: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        split_regions([GRID], regions(tmp_path, **parts), column, guard=0)


def test_a_split_is_written_for_qgis_with_all_its_ground(tmp_path: Path) -> None:
    split = split_of([GRID], guard=0)
    write_split(tmp_path / "split.gpkg", split)
    frame = geopandas.read_file(tmp_path / "split.gpkg", layer="polygons")
    assert frame.groupby("part").size().to_dict() == {part: split.pieces(part) for part in PARTS}
    assert frame.to_crs(GRID.crs).area.sum() == pytest.approx(100 * 300 * 260, rel=1e-6)
