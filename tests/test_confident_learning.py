"""The confident joint against one counted by hand, one example at a time, and label errors that were put in."""

from __future__ import annotations

import numpy as np
import pytest
from odc.geo.geobox import GeoBox
from rasterio import Affine

from geoseg.errors import LabelError
from geoseg.evaluation.confident_learning import NO_CLASS, count_joint, find_suspects, normalised_margins
from geoseg.evaluation.label_errors import ScoredLabels, find_label_errors, outlines
from geoseg.legend import Legend


def examples(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(4), rng.integers(0, 4, 200)])
    scores = rng.random((204, 4))
    scores[np.arange(204), labels] += 0.6
    return scores / scores.sum(axis=1, keepdims=True), labels


@pytest.mark.parametrize("seed", range(5))
def test_the_joint_is_that_of_the_definition(seed: int) -> None:
    scores, labels = examples(seed)
    means = [np.mean([score[one] for score, label in zip(scores, labels, strict=True) if label == one]) for one in range(4)]
    by_hand = np.zeros((4, 4))
    for score, label in zip(scores, labels, strict=True):
        if sure := [one for one in range(4) if score[one] >= means[one]]:
            by_hand[label, max(sure, key=lambda one: score[one])] += 1
    joint = count_joint(scores, labels)
    np.testing.assert_allclose(joint.thresholds, means)
    np.testing.assert_array_equal(joint.counts, by_hand)
    suspects = find_suspects(joint, margins := normalised_margins(scores, labels), labels)
    assert len(suspects) == by_hand.sum() - by_hand.trace()
    assert (np.diff(margins[suspects]) >= 0).all()


def test_a_class_without_labels_is_never_confident() -> None:
    joint = count_joint(np.array([[0.2, 0.1, 0.7], [0.1, 0.6, 0.3]]), np.array([0, 1]))
    assert joint.guesses.tolist() == [0, 1]
    assert count_joint(np.array([[0.9, 0.1], [0.1, 0.9], [0.5, 0.5]]), np.array([0, 1, 0])).guesses[2] == NO_CLASS


def scene(wrong: bool) -> ScoredLabels:
    truth = np.repeat([0, 1], 10)[np.newaxis].repeat(12, axis=0)
    scores = np.stack([np.where(truth == one, 230, 20) for one in (0, 1)]).astype(np.uint8)
    labels = truth.astype(np.int16)
    if wrong:
        labels[2:6, 2:5] = 1
    return ScoredLabels("a", GeoBox((12, 20), Affine(10, 0, 5e5, 0, -10, 5e6), "EPSG:32630"), labels, scores)


def test_a_wrong_piece_of_a_raster_has_its_own_outline() -> None:
    one = scene(wrong=True)
    found = find_label_errors([one], Legend.from_names(["land", "water"]))
    assert found.suggested.tolist() == [0]
    assert outlines([one], found.examples, found.suspects)[0].area == 12 * 100
    assert len(find_label_errors([scene(wrong=False)], Legend.from_names(["land", "water"])).suspects) == 0


def test_one_class_alone_cannot_be_judged() -> None:
    one = scene(wrong=False)
    one.labels[:] = 0
    with pytest.raises(LabelError, match="expected at least two"):
        find_label_errors([one], Legend.from_names(["land", "water"]))
