"""Objects are matched one to one, and counts add up."""

from __future__ import annotations

import math

import numpy as np
import pytest
import shapely
from scipy.optimize import linear_sum_assignment

from geoseg.polygons.objects import ObjectScore, match_objects


def squares(*lefts: float, top: float = 10) -> list[shapely.Polygon]:
    return [shapely.box(left, 0, left + 10, top) for left in lefts]


def test_the_same_objects_score_one():
    score = match_objects(squares(0, 20, 40), squares(40, 0, 20))
    assert (score.true, score.mapped, score.matched, score.f1, score.mean_iou) == (3, 3, 3, 1, 1)


def test_figures_are_those_computed_by_hand():
    # IoU 9/11 is found, 5/15 is not, one true object is missed and one mapped object is none.
    score = match_objects(squares(0, 20, 40), [*squares(1, 25), shapely.box(70, 0, 80, 10)])
    assert (score.matched, score.ious) == (1, (pytest.approx(9 / 11),))
    assert (score.precision, score.recall, score.f1) == (pytest.approx(1 / 3), pytest.approx(1 / 3), pytest.approx(1 / 3))


@pytest.mark.parametrize(("shift", "matched"), [(10 / 3 - 1e-9, 1), (10 / 3 + 1e-3, 0)])
def test_an_object_is_found_from_an_iou_of_one_half(shift, matched):
    assert match_objects(squares(0), squares(shift)).matched == matched


def test_an_object_is_matched_once():
    score = match_objects(squares(0), [*squares(0), *squares(1)])
    assert (score.matched, score.ious, score.precision) == (1, (1.0,), 0.5)
    merged = match_objects(squares(0, 10), [shapely.box(0, 0, 20, 10)])
    assert (merged.matched, merged.recall) == (1, 0.5)


@pytest.mark.parametrize("seed", range(4))
def test_the_count_is_that_of_the_best_assignment(seed):
    rng = np.random.default_rng(seed)
    true = [shapely.box(x, y, x + 8, y + 8) for x in range(0, 100, 10) for y in range(0, 100, 10)]
    mapped = [shapely.transform(one, lambda xy: xy + rng.normal(0, 1.5, 2)) for one in true if rng.random() < 0.9]
    iou = np.array([[one.intersection(other).area / one.union(other).area for other in mapped] for one in true])
    rows, cols = linear_sum_assignment(-(iou >= 0.5).astype(float))
    assert match_objects(true, mapped).matched == int((iou[rows, cols] >= 0.5).sum())


def test_scores_of_two_places_add_up():
    one, other = match_objects(squares(0), squares(0)), match_objects(squares(0, 20), squares(21))
    assert one + other == ObjectScore(3, 2, 2, (1.0, other.ious[0]))
    assert (one + other).f1 == pytest.approx(0.8)


def test_nothing_there_has_no_figures():
    empty, missed = match_objects([], []), match_objects(squares(0), [])
    assert math.isnan(empty.f1)
    assert math.isnan(missed.precision)
    assert (missed.recall, missed.f1) == (0, 0)
