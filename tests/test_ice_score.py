"""The AutoICE score: pooled over all pixels, weighted F1, R² of class numbers; other averages differ."""

from __future__ import annotations

import numpy as np
import pytest

from geoseg.confusion import Confusion
from geoseg.data.ice_charts import ICE_LEGENDS
from geoseg.errors import InputError
from geoseg.evaluation.ice_score import ice_score, r_squared, weighted_f1

TRUTH = {"concentration": [0, 0, 10, 5, 7, 10], "stage": [0, 0, 5, 3, 3, 3], "floe": [0, 1, 1, 1, 6, 6]}
GUESS = {"concentration": [0, 1, 9, 5, 8, 10], "stage": [0, 5, 5, 3, 3, 0], "floe": [0, 1, 1, 0, 6, 1]}


def counted(chart: str, truth: list[int], guess: list[int]) -> Confusion:
    return Confusion.count(np.array(truth), np.array(guess), ICE_LEGENDS[chart])


def all_counted() -> list[Confusion]:
    return [counted(chart, TRUTH[chart], GUESS[chart]) for chart in ICE_LEGENDS]


def test_the_score_is_that_of_the_definition() -> None:
    truth, guess = np.array(TRUTH["concentration"]), np.array(GUESS["concentration"])
    by_hand = 1 - ((truth - guess) ** 2).sum() / ((truth - truth.mean()) ** 2).sum()
    stage = (2 * (2 / 4) + 1 * (2 / 3) + 3 * (4 / 5)) / 6  # support x F1 of open water, old ice, thin first-year ice
    floe = (1 * (2 / 3) + 3 * (2 / 3) + 2 * (2 / 3)) / 6
    scores = ice_score(*all_counted())
    assert scores["concentration"] == pytest.approx(100 * by_hand)
    assert scores["stage"] == pytest.approx(100 * stage)
    assert scores["floe"] == pytest.approx(100 * floe)
    assert scores["combined"] == pytest.approx(100 * (2 * by_hand + 2 * stage + floe) / 5)


def test_macro_averages_and_means_of_scenes_are_other_numbers() -> None:
    stage = all_counted()[1]
    assert weighted_f1(stage) != pytest.approx(float(np.nanmean(stage.f1)))
    first, second = (counted("stage", TRUTH["stage"][part], GUESS["stage"][part]) for part in (slice(0, 3), slice(3, 6)))
    assert first + second == stage
    assert weighted_f1(stage) != pytest.approx((weighted_f1(first) + weighted_f1(second)) / 2)


def test_r_squared_of_perfect_mean_and_worse_guesses() -> None:
    assert r_squared(counted("concentration", [0, 4, 8], [0, 4, 8])) == 1
    assert r_squared(counted("concentration", [0, 4, 8], [4, 4, 4])) == 0
    assert r_squared(counted("concentration", [0, 4, 8], [8, 4, 0])) < 0


def test_a_chart_without_labels_is_refused() -> None:
    with pytest.raises(InputError, match="no pixel has a label of floe"):
        ice_score(*all_counted()[:2], Confusion.empty(ICE_LEGENDS["floe"]))
