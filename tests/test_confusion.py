"""Counts of truth against guess, and the measures that follow."""

from __future__ import annotations

import numpy as np
import pytest

from geoseg.confusion import Confusion, pooled
from geoseg.errors import InputError
from geoseg.legend import Legend

LEGEND = Legend.from_names(("land", "water", "snow"))


def drawn(seed: int, size: int = 500) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 3, size), rng.integers(0, 3, size)


def test_every_count_is_that_of_a_brute_force_loop() -> None:
    truth, guess = drawn(1)
    counts = np.zeros((3, 3), dtype=int)
    for true, guessed in zip(truth, guess, strict=True):
        counts[true, guessed] += 1
    assert np.array_equal(Confusion.count(truth, guess, LEGEND).counts, counts)


def test_measures_equal_those_of_sets_of_pixels() -> None:
    truth, guess = drawn(2)
    confusion = Confusion.count(truth, guess, LEGEND)
    for c in range(3):
        real, found = set(np.flatnonzero(truth == c)), set(np.flatnonzero(guess == c))
        both = len(real & found)
        assert confusion.iou[c] == pytest.approx(both / len(real | found))
        assert confusion.precision[c] == pytest.approx(both / len(found))
        assert confusion.recall[c] == pytest.approx(both / len(real))
        assert confusion.f1[c] == pytest.approx(2 * both / (len(real) + len(found)))
        assert confusion.class_accuracy[c] == pytest.approx(np.mean((truth == c) == (guess == c)))
    assert confusion.accuracy == pytest.approx(np.mean(truth == guess))


def test_parts_add_up_to_the_whole_however_it_is_cut() -> None:
    truth, guess = drawn(3)
    whole = Confusion.count(truth, guess, LEGEND)
    for cut in (0, 1, 250, 499):
        parts = [Confusion.count(truth[s], guess[s], LEGEND) for s in (slice(0, cut), slice(cut, None))]
        assert pooled(parts, LEGEND) == whole


def test_pooled_iou_is_not_the_mean_over_batches() -> None:
    few = Confusion.count(np.array([1]), np.array([0]), LEGEND)
    many = Confusion.count(np.ones(99, int), np.ones(99, int), LEGEND)
    assert (few + many).iou[1] == pytest.approx(0.99)
    assert np.mean([few.iou[1], many.iou[1]]) == pytest.approx(0.5)


def test_a_class_nobody_saw_has_no_measure_and_does_not_lower_the_mean() -> None:
    confusion = Confusion.count(np.array([0, 0, 1]), np.array([0, 1, 1]), LEGEND)
    assert np.isnan(confusion.iou[2])
    assert confusion.mean_iou == pytest.approx((1 / 2 + 1 / 2) / 2)
    assert np.isnan(Confusion.empty(LEGEND).mean_iou)
    assert np.isnan(Confusion.empty(LEGEND).accuracy)


def test_pixels_that_do_not_count_are_left_out_whatever_they_hold() -> None:
    truth, guess = np.array([[0, 99], [1, -1]]), np.array([[0, 1], [1, 1]])
    counted = np.array([[True, False], [True, False]])
    assert Confusion.count(truth, guess, LEGEND, counted=counted).total == 2
    with pytest.raises(InputError, match="class index -1…99"):
        Confusion.count(truth, guess, LEGEND)


def test_confusions_of_two_legends_do_not_add_up() -> None:
    with pytest.raises(InputError, match="two legends"):
        Confusion.empty(LEGEND) + Confusion.empty(Legend.from_names(("a", "b", "c")))


def test_counts_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="asks for"):
        Confusion(np.zeros((2, 2), int), LEGEND)
    with pytest.raises(ValueError, match="negative"):
        Confusion(np.full((3, 3), -1), LEGEND)


def test_figures_name_each_class_once_with_plain_numbers() -> None:
    figures = Confusion.count(*drawn(4), LEGEND).figures()
    assert list(figures) == ["land", "water", "snow"]
    assert sum(row["pixels"] for row in figures.values()) == 500
    assert all(type(value) is float for row in figures.values() for value in row.values())
