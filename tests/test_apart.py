"""No ground in two parts, and scenes shared out by their dates."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox

from geoseg.data.apart import check_apart
from geoseg.data.date_splits import DateSplit, split_dates
from geoseg.data.splits import PARTS, BlockSplit, split_blocks
from geoseg.errors import InputError, LabelError

GRID = GeoBox((300, 260), Affine(10, 0, 590_000, 0, -10, 5_000_000), "EPSG:32633")
NEXT_ZONE = GeoBox((300, 260), Affine(10, 0, 119_500, 0, -10, 5_012_000), "EPSG:32634")  # 6 degrees further, on much of the same ground


def blocks(grids: list[GeoBox], guard: int, seed: int = 0) -> BlockSplit:
    planes = [np.random.default_rng(0).integers(0, 2, grid.shape) for grid in grids]
    return split_blocks(grids, planes, 2, block=50, guard=guard, validation=0.2, test=0.2, generator=np.random.default_rng(seed))


def masks_of(split: BlockSplit | DateSplit) -> dict[str, list[np.ndarray]]:
    return {part: [split.mask(scene, part) for scene in range(len(split.geoboxes))] for part in PARTS}


def check(grids: list[GeoBox], masks: dict[str, list[np.ndarray]], guard: int) -> None:
    check_apart(grids, masks, guard=guard, names=[f"scene {number}" for number in range(len(grids))])


@pytest.mark.parametrize("guard", [0, 1, 8])
@pytest.mark.parametrize("other", [GRID, GRID[20:, 33:], NEXT_ZONE], ids=["same", "shifted", "next zone"])
@pytest.mark.parametrize("seed", [0, 1])
def test_blocks_of_scenes_that_overlap_are_apart(other: GeoBox, guard: int, seed: int) -> None:
    grids = [GRID, other]
    check(grids, masks_of(blocks(grids, guard, seed)), guard)


@pytest.mark.parametrize("other", [GRID, GRID[20:, 33:], NEXT_ZONE], ids=["same", "shifted", "next zone"])
def test_scenes_shared_out_each_by_itself_share_ground(other: GeoBox) -> None:
    alone = [masks_of(blocks([grid], 8, seed)) for seed, grid in enumerate((GRID, other))]
    with pytest.raises(LabelError, match="ground of scene 1 and scene 0 lie nearer than"):
        check([GRID, other], {part: [one[part][0] for one in alone] for part in PARTS}, 8)


def test_a_gap_of_one_pixel_less_is_noticed() -> None:
    masks = masks_of(blocks([GRID], 8))
    check([GRID], masks, 8)
    test = masks["test"][0]
    grown = test | np.roll(test, 1, axis=1) | np.roll(test, -1, axis=1)
    with pytest.raises(LabelError, match="ground of scene 0 lie nearer than 90 m"):
        check([GRID], masks | {"test": [grown]}, 8)


def test_a_pixel_in_two_parts_is_noticed() -> None:
    masks = masks_of(blocks([GRID], 0))
    masks["test"][0][0, 0] = masks["train"][0][0, 0] = True
    with pytest.raises(LabelError, match="in two parts"):
        check([GRID], masks, 0)


# By date


def dated(*days: str | None, test: float = 0.25, validation: float = 0.25) -> DateSplit:
    known = [None if day is None else date.fromisoformat(day) for day in days]
    return split_dates([GRID] * len(days), known, [f"s{number}" for number in range(len(days))], validation=validation, test=test)


def test_the_latest_days_are_judged_on_and_a_day_stays_together() -> None:
    split = dated("2026-07-01", "2026-05-01", "2026-06-01", "2026-04-01", "2026-07-01", "2026-04-06", "2026-06-11", "2026-04-16")
    assert [PARTS[place] for place in split.parts] == ["test", "train", "validation", "train", "test", "train", "validation", "train"]
    assert split.days == 20
    assert split.pieces("train") == 4
    assert "at least 20 days apart" in split.told(10)


@pytest.mark.parametrize(("test", "validation"), [(0.01, 0.01), (0.49, 0.49), (0.3, 0.1)])
def test_each_part_has_a_day_whatever_the_shares(test: float, validation: float) -> None:
    split = dated("2026-01-01", "2026-01-02", "2026-01-03", test=test, validation=validation)
    assert split.parts.tolist() == [0, 1, 2]


def test_what_was_learned_from_at_another_date_is_not_called_held_out() -> None:
    assert dated("2026-01-01", "2026-01-02", "2026-01-03").held_out().empty
    days = [date(2026, 1, day) for day in (1, 2, 3)]
    grids = [GRID[:, :130], GRID[:, 100:], GRID[:, 200:]]
    held = split_dates(grids, days, ["a", "b", "c"], validation=0.3, test=0.3).held_out()
    assert held["part"].tolist() == ["validation", "test"]
    assert held.to_crs(GRID.crs).area.tolist() == pytest.approx([130 * 300 * 100, 60 * 300 * 100], rel=1e-4)


@pytest.mark.parametrize(
    ("days", "told"),
    [(("2026-01-01", "2026-01-01", "2026-01-05"), "2 different days"), (("2026-01-01", None, "2026-01-05"), "of s1 is not")],
)
def test_too_few_dates_or_none_are_refused(days: tuple[str | None, ...], told: str) -> None:
    with pytest.raises(InputError, match=told):
        dated(*days)
