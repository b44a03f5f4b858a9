"""Patches in groups: drawn by the same law as one by one, read with fewer looks, the same for any number of workers."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

from geoseg.data import draws, samplers
from geoseg.data.buffer import Deal, GroupBuffer, Regions
from geoseg.data.patches import TrainingPatches, load_scene
from geoseg.data.samplers import TileSampler
from geoseg.data.windows import Window
from geoseg.legend import Legend
from geoseg.preprocess.prepare import BandNeed, Channel, Despeckle, Preparation
from geoseg.raster import Raster
from geoseg.scenes.open_scene import open_scene

DEAL = Deal(96, 6, group=4, places=3, lanes=2)


# Which draw is which patch of which group


@pytest.mark.parametrize(
    "deal", [DEAL, Deal(200, 16), Deal(50, 7, places=4), Deal(36, 5, 3, group=3, places=2, lanes=2), Deal(5, 2, group=1, places=1, lanes=1)]
)
def test_no_two_draws_of_a_training_are_the_same_patch_of_a_group(deal: Deal) -> None:
    dealt = [deal(draw) for draw in range(6 * deal.length)]
    assert len(set(dealt)) == len(dealt)
    assert {member for _, member in dealt} == set(range(deal.group))


def test_a_batch_holds_as_many_places_as_it_is_mixed_from() -> None:
    deal = Deal(1600, 16)
    for batch in range(100):
        assert len({deal(draw)[0] for draw in range(batch * 16, batch * 16 + 16)}) == 16
    assert {len({DEAL(draw)[0] for draw in range(batch * 6, batch * 6 + 6)}) for batch in range(48)} <= {3, 4, 5}


def test_batches_of_neighbouring_lanes_share_no_group_and_few_groups_begin_at_once() -> None:
    deal, seen = Deal(1600, 16), set[int]()
    for batch in range(100):
        now = {deal(draw)[0] for draw in range(batch * 16, batch * 16 + 16)}
        after = {deal(draw)[0] for draw in range(batch * 16 + 16, batch * 16 + 64)}
        assert not now & after
        assert batch < 4 or len(now - seen) == 2, "of sixteen places, two begin a group of eight in each batch"
        seen |= now


def test_processes_that_learn_together_never_share_a_group() -> None:
    deal = Deal(36, 5, 3, group=3, places=2, lanes=2)
    groups = [{deal(epoch * 36 + rank * 12 + own)[0] for epoch in range(5) for own in range(12)} for rank in range(3)]
    assert not groups[0] & groups[1] | groups[0] & groups[2] | groups[1] & groups[2]


# Regions


@pytest.mark.parametrize(
    ("scene", "blocks", "tile", "margin"),
    [((50, 40), (8, 8), 6, 0), ((50, 40), (8, 8), 6, 2), ((50, 40), (1, 40), 6, 1), ((30, 30), (64, 64), 6, 0), ((7, 40), (8, 8), 9, 1)],
)
def test_the_regions_that_hold_a_window_are_those_of_a_look_at_all(
    scene: tuple[int, int], blocks: tuple[int, int], tile: int, margin: int
) -> None:
    regions = Regions.fitting(scene, blocks, tile, margin, side=16)
    starts = [range(-4 * size - size % step, 60, step) for size, step in zip(regions.size, regions.step, strict=True)]
    generator = np.random.default_rng(0)
    first = [min(0, (size - tile) // 2) for size in scene]
    for row in range(first[0], max(first[0] + 1, scene[0] - tile + 1)):
        for col in range(first[1], max(first[1] + 1, scene[1] - tile + 1)):
            window = Window(row, col, tile, tile)
            down, across = (
                [
                    at
                    for at in starts[axis]
                    if at <= max(0, place - margin) and min(scene[axis], place + tile + margin) <= at + regions.size[axis]
                ]
                for axis, place in ((0, row), (1, col))
            )
            assert regions.holding(window) == len(down) * len(across) >= regions.fewest(tile) >= 1
            region = regions.around(window, generator)
            assert region.row in down
            assert region.col in across
            assert regions.holds(region, window)


@pytest.mark.parametrize(
    ("blocks", "size"), [((512, 512), (1024, 1024)), ((256, 256), (1024, 1024)), ((1024, 1024), (2048, 2048)), ((1, 10980), (257, 10980))]
)
def test_regions_are_whole_blocks(blocks: tuple[int, int], size: tuple[int, int]) -> None:
    assert Regions.fitting((10980, 10980), blocks, 256).size == size


# The law


@dataclass
class Nothing:
    """A scene whose pixels nobody asks for."""

    def read(self, window: Window) -> Raster:
        raise AssertionError("only windows are drawn")


def later_windows(labels: np.ndarray, rare: float, groups: int, *, regions: Regions, tile: int = 6) -> Counter[tuple[int, int]]:
    """Places of the last window of each of many groups: one of a group, so that they do not depend on each other."""
    sampler = TileSampler([labels], [labels > -9], tile=tile, rare=rare)
    buffer = GroupBuffer([Nothing()], [regions], sampler, Deal(100, 4, group=2), margin=0, seed=1)
    drawn = [buffer.windows(number)[1][-1] for number in range(groups)]
    return Counter((window.row, window.col) for window in drawn)


def misfit(found: Counter[tuple[int, int]], wanted: Callable[[int, int], float], places: list[tuple[int, int]]) -> float:
    """Chi-square by degree of freedom against likelihoods in proportion to `wanted`."""
    total, draws = sum(wanted(*place) for place in places), sum(found.values())
    law = {place: draws * wanted(*place) / total for place in places if wanted(*place)}
    assert set(found) <= set(law)
    return sum((found[place] - expected) ** 2 / expected for place, expected in law.items()) / (len(law) - 1)


@pytest.fixture
def small_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cells of labels that are small beside these small scenes, as they are beside real ones."""
    for module in (draws, samplers):
        monkeypatch.setattr(module, "CELL", 4)


EVERYWHERE = [(row, col) for row in range(25) for col in range(19)]
BLOCKS = Regions.fitting((30, 24), (8, 8), 6, side=16)


@pytest.mark.usefixtures("small_cells")
def test_later_windows_of_a_group_are_equally_likely_everywhere_also_across_the_edges_of_blocks() -> None:
    found = later_windows(np.zeros((30, 24), int), 0.0, 6000, regions=BLOCKS)
    assert set(found) == set(EVERYWHERE)
    assert misfit(found, lambda row, col: 1, EVERYWHERE) < 1.4


@pytest.mark.usefixtures("small_cells")
def test_without_the_weight_of_regions_they_would_not_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Regions, "holding", lambda self, window: self.fewest(window.rows))
    assert misfit(later_windows(np.zeros((30, 24), int), 0.0, 4000, regions=BLOCKS), lambda row, col: 1, EVERYWHERE) > 1.8


@pytest.mark.usefixtures("small_cells")
def test_later_windows_follow_sparse_labels_and_rare_classes_as_single_draws_do() -> None:
    labels = np.where(np.random.default_rng(2).random((30, 24)) < 0.1, 0, -1)
    labels[20:23, 4:7] = 1

    def held(row: int, col: int, index: int) -> float:
        return float((labels[row : row + 6, col : col + 6] == index).sum())

    totals = [sum(held(*place, index) for place in EVERYWHERE) for index in (0, 1)]
    found = later_windows(labels, 1.0, 6000, regions=BLOCKS)
    assert misfit(found, lambda row, col: held(row, col, 0) / totals[0] + held(row, col, 1) / totals[1], EVERYWHERE) < 1.4


# The pixels


PREPARATION = Preparation(
    bands=(BandNeed(role="vv", unit="dB"), BandNeed(role="vh", unit="dB")),
    channels=(Channel(name="vv", mean=-10, std=5), Channel(name="vh", mean=-17, std=5)),
    despeckle=Despeckle(method="lee", size=5),
)


@pytest.fixture
def patches(tmp_path: Path) -> TrainingPatches:
    """Patches of radar, filtered with a margin, of two scenes in two zones with a hole; the second is smaller than a patch."""
    rng, scenes = np.random.default_rng(0), []
    for zone, shape in ((32, (230, 190)), (33, (40, 120))):
        grid = {"crs": f"EPSG:{32600 + zone}", "transform": Affine(10, 0, 5e5, 0, -10, 5e6), "height": shape[0], "width": shape[1]}
        blocks = {"driver": "GTiff", "tiled": True, "blockxsize": 32, "blockysize": 32, "compress": "deflate", **grid}
        image = rng.gamma(4, 0.02, (2, *shape)).astype(np.float32)
        image[:, 10:20, 50:90] = np.nan
        with rasterio.open(tmp_path / f"scene{zone}.tif", "w", count=2, dtype="float32", nodata=np.nan, **blocks) as file:
            file.write(image)
        with rasterio.open(tmp_path / f"labels{zone}.tif", "w", count=1, dtype="uint8", nodata=255, **blocks) as file:
            file.write((rng.random(shape) < 0.3).astype(np.uint8), 1)
        scene = open_scene(tmp_path / f"scene{zone}.tif", sensor="sentinel-1-grd", bands=["vv", "vh"], unit="linear power")
        scenes.append(load_scene(scene, tmp_path / f"labels{zone}.tif", PREPARATION, Legend.from_names(("land", "water"))))
    ground = [np.ones(scene.labels.shape, bool) for scene in scenes]
    sampler = TileSampler([scene.labels for scene in scenes], ground, tile=48, rare=0.5)
    return TrainingPatches(scenes, ground, PREPARATION, sampler, seed=3)


@dataclass
class Looks:
    """A scene that notes what is read of it."""

    scene: object
    windows: list[Window] = field(default_factory=list)

    def read(self, window: Window) -> Raster:
        self.windows.append(window)
        return self.scene.read(window)  # type: ignore[attr-defined]


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return all(np.array_equal(one[name], other[name]) for name in ("image", "labels"))


def test_a_window_read_with_its_group_is_bit_for_bit_what_is_read_alone(patches: TrainingPatches) -> None:
    buffer, seen = patches.in_groups(DEAL).buffer, Counter[int]()
    assert buffer is not None
    for draw in range(60):
        scene, window, raster = buffer.take(draw)
        alone, seen[scene] = patches.scenes[scene].read(window.grown(2)), seen[scene] + 1
        assert np.array_equal(raster.values, alone.values)
        assert np.array_equal(raster.valid, alone.valid)
        assert raster.geobox == alone.geobox
        assert raster.valid.flags.writeable
    assert len(seen) == 2


@pytest.mark.parametrize("workers", [2, 3, 4])
def test_any_number_of_workers_and_any_start_give_the_same_patches(patches: TrainingPatches, workers: int) -> None:
    grouped = patches.in_groups(DEAL)
    alone = [grouped[draw] for draw in range(48)]
    shared = [pickle.loads(pickle.dumps(grouped)) for _ in range(workers)]
    for draw in range(48):
        assert same(shared[draw // 6 % workers][draw], alone[draw]), "a loader hands out batches in turn"
    again = patches.in_groups(DEAL)
    assert all(same(again[draw], alone[draw]) for draw in [30, 7, 7, 31, 2])
    assert not same(alone[0], alone[1])


@pytest.mark.parametrize("workers", [1, 2])
def test_each_region_is_read_once_for_all_patches_of_its_group(patches: TrainingPatches, workers: int) -> None:
    deal = Deal(960, 6, group=8, places=3, lanes=2)
    buffer = patches.in_groups(deal).buffer
    assert buffer is not None
    buffer.scenes = looks = [Looks(scene) for scene in patches.scenes]  # type: ignore[assignment]
    for worker in range(workers):
        mine = pickle.loads(pickle.dumps(buffer)) if worker else buffer
        mine.scenes = looks
        for batch in range(worker, 40, workers):
            for draw in range(batch * 6, batch * 6 + 6):
                mine.take(draw)
    groups = {deal(draw)[0] for draw in range(240)}
    assert sum(len(scene.windows) for scene in looks) == len(groups) <= 240 // 8 + deal.open_groups


def test_the_buffer_holds_no_more_groups_than_are_open(patches: TrainingPatches) -> None:
    buffer = patches.in_groups(DEAL).buffer
    assert buffer is not None
    for draw in np.random.default_rng(0).integers(0, 5000, 60):
        buffer.take(int(draw))
        assert len(buffer._open) <= DEAL.open_groups == 6


def test_scenes_in_memory_need_no_groups(patches: TrainingPatches) -> None:
    in_memory = [replace(scene, held=scene.read(Window(0, 0, *scene.labels.shape))) for scene in patches.scenes]
    held = replace(patches, scenes=in_memory)
    assert held.in_groups(DEAL) is held
    mixed = replace(patches, scenes=[in_memory[0], patches.scenes[1]]).in_groups(DEAL)
    assert mixed.buffer is not None
    assert mixed.buffer.regions[0] is None
    for draw in range(12):
        scene, window, raster = mixed.buffer.take(draw)
        assert np.array_equal(raster.values * raster.valid, patches.scenes[scene].read(window.grown(2)).values)


def test_a_batch_is_mixed_from_fewer_places_where_patches_are_large() -> None:
    assert Deal.fitting(100, 16, patch_bytes=1 << 20).places == 16
    large = Deal.fitting(100, 16, patch_bytes=4 << 20)
    assert large.places == 7
    assert large.open_groups * (large.group + 1) / 2 * (4 << 20) <= 512 << 20
    assert Deal.fitting(100, 16, patch_bytes=1 << 40).places == 1
