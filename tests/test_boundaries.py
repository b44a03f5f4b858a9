"""Edges of classes: against a reading of the definitions pixel by pixel, and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from map_files import write_map
from test_evaluate import MAP, TRUTH, features, ground, write_labels

from geoseg.evaluation.boundaries import count_boundaries
from geoseg.evaluation.evaluate import evaluate
from geoseg.maps import counting

SQUARE = np.zeros((40, 40), int)
SQUARE[10:30, 10:30] = 1


def all_rows(truth, guess, known=None, *, distance_m=20.0, pixel_m=(10.0, 10.0)):
    known = np.ones(truth.shape, bool) if known is None else known
    return count_boundaries(truth, guess, known, 3, distance_m=distance_m, pixel_m=pixel_m, core=slice(None))


def brute_force(truth, guess, known, index, distance_m, pixel_m):
    places = np.argwhere(np.ones(truth.shape, bool))
    metres = np.hypot(*((places[:, None] - places[None]) * pixel_m).transpose(2, 0, 1))

    def near(target, within):
        return (metres[:, target.ravel()] <= within + 1e-6).any(axis=1).reshape(truth.shape)

    inner, edge = [], []
    for plane in (truth, guess):
        mine = known & (plane == index)
        inner.append(mine & near(known & ~mine, distance_m))
        edge.append(mine & near(known & ~mine, max(pixel_m)))
    iou = (inner[0] & inner[1]).sum() / (inner[0] | inner[1]).sum()
    recall, precision = ((one & near(other, distance_m)).sum() / one.sum() for one, other in (edge, edge[::-1]))
    return iou, 2 * precision * recall / (precision + recall)


@pytest.mark.parametrize(("distance_m", "pixel_m"), [(10, (10, 10)), (25, (10, 10)), (20, (10, 7))])
def test_the_counts_are_those_of_the_definitions(distance_m, pixel_m):
    random = np.random.default_rng(2)
    truth = np.kron(random.integers(0, 3, (5, 6)), np.ones((4, 4), int))
    guess = np.where(random.random(truth.shape) < 0.9, np.roll(truth, 1, axis=1), 0)
    known = random.random(truth.shape) < 0.95
    found = all_rows(truth, guess, known, distance_m=distance_m, pixel_m=pixel_m)
    for index in range(3):
        iou, f1 = brute_force(truth, guess, known, index, distance_m, pixel_m)
        assert found.iou[index] == pytest.approx(iou)
        assert found.f1[index] == pytest.approx(f1)


def test_a_shift_that_iou_hardly_sees_shows_at_the_edge():
    shifted = np.roll(SQUARE, 3, axis=1)
    both, either = (SQUARE & shifted).sum(), (SQUARE | shifted).sum()
    found = all_rows(SQUARE, shifted, distance_m=10.0)
    assert both / either > 0.7
    assert found.iou[1] < 0.4
    assert all_rows(SQUARE, SQUARE).iou[1] == all_rows(SQUARE, SQUARE).f1[1] == 1


def test_there_is_no_edge_where_labels_end():
    known = np.zeros(SQUARE.shape, bool)
    known[12:28, 12:28] = True
    assert np.isnan(all_rows(SQUARE, SQUARE, known).iou).all()


@pytest.mark.parametrize("rows", [1, 5, 4096])
def test_strips_change_nothing(tmp_path, monkeypatch, rows):
    expected = count_boundaries(
        TRUTH.astype(int), MAP.astype(int), np.ones(MAP.shape, bool), 3, distance_m=20, pixel_m=(10.0, 10.0), core=slice(None)
    )
    monkeypatch.setattr(counting, "_STRIP_ROWS", rows)
    made = evaluate([write_map(tmp_path / "a", MAP)], [write_labels(tmp_path / "truth.tif")], boundary_m=20.5)
    np.testing.assert_array_equal(made.boundaries.counts, expected.counts)


def test_the_command_says_what_it_found(tmp_path, geoseg):
    labels = features(
        tmp_path / "truth.gpkg", [ground(slice(0, 20), slice(0, 50)), ground(slice(20, 40), slice(0, 50))], label=["ice", "land"]
    )
    words = ("evaluate", write_map(tmp_path / "a", MAP), "--labels", labels, "-o", tmp_path / "out", "--boundary-m")
    assert "Boundary IoU within 20 m" in geoseg(*words, "20").out
    assert "Edges, within 20 m" in (tmp_path / "out" / "report.html").read_text()
    assert "expected a distance above 0" in geoseg(*words, "-3", "--overwrite").sentence
