"""Areas with intervals: the published examples, the laws between the estimators, and coverage in samples with a known truth."""

from __future__ import annotations

import numpy as np
import pytest
from reference_points import CHANGE, CHANGE_PIXELS

from geoseg.errors import InputError
from geoseg.evaluation.allocation import allocate, expected_error, points_needed
from geoseg.evaluation.area import Strata, Tally, olofsson, stehman

PIXEL_HA = 0.09
FORTY = {
    (0, "A", "A"): 5, (0, "A", "C"): 1, (0, "A", "B"): 1, (0, "B", "A"): 1, (0, "B", "B"): 1, (0, "B", "C"): 1,
    (1, "A", "A"): 1, (1, "B", "B"): 7, (1, "B", "A"): 2,
    (2, "B", "C"): 2, (2, "C", "C"): 3, (2, "C", "D"): 2, (2, "C", "B"): 1, (2, "B", "B"): 1, (2, "B", "A"): 1,
    (3, "D", "D"): 7, (3, "D", "C"): 2, (3, "D", "B"): 1,
}  # fmt: skip
"""Stehman 2014, table 2: how many of the 40 units have this stratum, map class and reference class."""


def strata(pixels, area=900.0):
    pixels = np.asarray(pixels)
    return Strata(tuple(f"s{number}" for number in range(len(pixels))), pixels, pixels * np.asarray(area, np.float64))


def cube(matrix):
    """(stratum, map, reference) counts where the strata are the map classes."""
    return np.einsum("...ij,ik->...ikj", np.asarray(matrix), np.eye(len(CHANGE), dtype=int)[: np.shape(matrix)[-2], : np.shape(matrix)[-2]])


def forty():
    counts = np.zeros((4, 4, 4), int)
    for (stratum, mapped, reference), count in FORTY.items():
        counts[stratum, "ABCD".index(mapped), "ABCD".index(reference)] = count
    return counts


def every(found):
    for name in ("overall", "users", "producers", "shares"):
        yield name, getattr(found, name)


# The published examples


def test_the_example_of_olofsson():
    found = olofsson(CHANGE, CHANGE_PIXELS)
    hectares = CHANGE_PIXELS.sum() * PIXEL_HA
    assert found.overall.value == pytest.approx(0.947, abs=5e-4)
    assert found.overall.half_width == pytest.approx(0.018, abs=5e-4)
    assert np.round(found.shares.value * hectares)[0] == 21_158
    assert np.round(found.shares.half_width * hectares)[0] == 6_158
    np.testing.assert_allclose(found.users.value, [0.88, 0.73, 0.93, 0.96], atol=5e-3)
    np.testing.assert_allclose(found.users.half_width, [0.07, 0.10, 0.04, 0.02], atol=5e-3)
    np.testing.assert_allclose(found.producers.value, [0.75, 0.85, 0.93, 0.96], atol=5e-3)
    np.testing.assert_allclose(found.producers.half_width, [0.21, 0.25, 0.03, 0.02], atol=5e-3)


def test_the_example_of_stehman():
    found = stehman(Tally.of_counts(forty()), strata([40_000, 30_000, 20_000, 10_000]))
    assert found.overall.value == pytest.approx(0.63, abs=1e-9)
    assert found.overall.standard_error == pytest.approx(0.085, abs=5e-4)
    np.testing.assert_allclose(found.shares.value, [0.35, 0.34, 0.20, 0.11], atol=1e-9)
    assert found.shares.standard_error[[0, 2]] == pytest.approx([0.082, 0.064], abs=5e-4)
    assert (found.users.value[1], found.users.standard_error[1]) == pytest.approx((0.574, 0.125), abs=5e-4)
    assert (found.producers.value[1], found.producers.standard_error[1]) == pytest.approx((0.794, 0.117), abs=5e-4)
    assert found.matrix[1, 2] == pytest.approx(0.08)


def test_the_sizes_in_the_example_of_olofsson():
    ground, expected = strata(CHANGE_PIXELS), np.array([0.7, 0.6, 0.9, 0.95])
    assert points_needed(ground, expected, 0.01) == 641
    assert allocate(641, ground, "proportional").tolist() == [13, 10, 205, 413]
    assert sorted(allocate(641, ground, "equal").tolist()) == [160, 160, 160, 161]
    for least, published in ((50, [50, 50, 180, 360]), (75, [75, 75, 165, 325])):
        np.testing.assert_allclose(allocate(641, ground, "mixed", least), published, atol=3)


# The laws


def test_both_estimators_agree_where_the_strata_are_the_map_classes():
    one, other = olofsson(CHANGE, CHANGE_PIXELS), stehman(Tally.of_counts(cube(CHANGE)), strata(CHANGE_PIXELS))
    for (name, mine), (_, theirs) in zip(every(one), every(other), strict=True):
        np.testing.assert_allclose(mine.value, theirs.value, rtol=1e-12, err_msg=name)
        np.testing.assert_allclose(mine.standard_error, theirs.standard_error, rtol=1e-12, err_msg=name)
    np.testing.assert_allclose(one.matrix, other.matrix, rtol=1e-12)


def test_a_matrix_by_hand():
    # Half of the ground mapped as each class; 8 of 10 and 9 of 10 right.
    found = olofsson(np.array([[8, 2], [1, 9]]), np.array([500, 500]))
    np.testing.assert_allclose(found.matrix, [[0.4, 0.1], [0.05, 0.45]])
    assert found.overall.value == pytest.approx(0.85)
    assert found.overall.standard_error == pytest.approx(np.sqrt(0.25 * 0.16 / 9 + 0.25 * 0.09 / 9))
    np.testing.assert_allclose(found.shares.value, [0.45, 0.55])
    np.testing.assert_allclose(found.producers.value, [0.4 / 0.45, 0.45 / 0.55])
    np.testing.assert_allclose(found.users.standard_error, np.sqrt([0.16 / 9, 0.09 / 9]))


def test_with_every_pixel_labelled_nothing_is_left_unknown():
    counts = np.random.default_rng(0).integers(0, 9, (3, 4, 4))
    found = stehman(Tally.of_counts(counts), strata(counts.sum(axis=(1, 2))))
    whole = counts.sum(axis=0) / counts.sum()
    np.testing.assert_allclose(found.matrix, whole)
    np.testing.assert_allclose(found.users.value, np.diag(whole) / whole.sum(axis=1))
    np.testing.assert_allclose(found.producers.value, np.diag(whole) / whole.sum(axis=0))
    for _, estimate in every(found):
        np.testing.assert_array_equal(estimate.standard_error, 0)


def test_shares_add_up_and_the_matrix_has_them_in_its_margins():
    found = stehman(Tally.of_counts(forty()), strata([700, 500, 300, 200], [1, 4, 2, 9]))
    np.testing.assert_allclose(found.matrix.sum(axis=0), found.shares.value)
    assert found.shares.value.sum() == pytest.approx(1)


def test_a_stratum_cut_in_two_changes_nothing_when_its_points_are_alike():
    counts = np.zeros((1, 2, 2), int)
    counts[0] = [[40, 10], [20, 30]]
    halves = np.concatenate([counts, counts]) // 2
    whole, cut = (stehman(Tally.of_counts(of), strata(sizes)) for of, sizes in ((counts, [10**9]), (halves, [5 * 10**8] * 2)))
    np.testing.assert_allclose(whole.shares.value, cut.shares.value)
    assert cut.overall.standard_error == pytest.approx(whole.overall.standard_error * np.sqrt(99 / 98))


def test_pixels_of_another_unit_are_the_same_pixels():
    one = Tally(*(forty() * factor for factor in (1.0, 1.0, 1.0)))
    other = Tally(*(forty() * factor for factor in (1.0, 900.0, 810_000.0)))
    ground = strata([40_000, 30_000, 20_000, 10_000])
    for (_, mine), (_, theirs) in zip(every(stehman(one, ground)), every(stehman(other, ground)), strict=True):
        np.testing.assert_allclose(mine.value, theirs.value)
        np.testing.assert_allclose(mine.standard_error, theirs.standard_error)


def test_a_pixel_that_is_twice_as_large_counts_twice():
    stratum, mapped = np.zeros(3, int), np.zeros(3, int)
    tally = Tally.of_points(stratum, mapped, np.array([0, 1, 1]), (1, 2, 2), np.array([2.0, 1.0, 1.0]))
    assert stehman(tally, strata([1000])).shares.value.tolist() == [0.5, 0.5]


# What a sample cannot tell


def test_a_stratum_without_points_leaves_the_sums_unknown_but_not_the_others_accuracies():
    matrix = CHANGE.copy()
    matrix[1] = 0
    for found in (
        olofsson(matrix, CHANGE_PIXELS),
        stehman(Tally.of_counts(cube(matrix), np.eye(4, dtype=bool)), strata(CHANGE_PIXELS)),
    ):
        assert np.isnan(found.overall.value)
        assert np.isnan(found.shares.value).all()
        assert np.isnan(found.users.value).tolist() == [False, True, False, False]
        assert found.users.standard_error[0] == pytest.approx(0.0378, abs=1e-4)


def test_a_single_point_has_a_value_and_no_error():
    matrix = CHANGE.copy()
    matrix[1] = [0, 1, 0, 0]
    for found in (olofsson(matrix, CHANGE_PIXELS), stehman(Tally.of_counts(cube(matrix)), strata(CHANGE_PIXELS))):
        assert np.isfinite(found.overall.value)
        assert np.isnan(found.overall.standard_error)
        assert np.isnan(found.shares.standard_error).all()
        assert found.users.value[1] == 1
        assert np.isnan(found.users.standard_error[1])


def test_where_no_point_was_wrong_the_interval_is_what_they_may_have_missed():
    matrix, sizes = np.diag([50, 100]), np.array([200, 800])
    for found in (olofsson(matrix, sizes), stehman(Tally.of_counts(cube(matrix), np.eye(2, dtype=bool)), strata(sizes * 10**6))):
        assert found.overall.standard_error == 0
        assert found.overall.half_width == pytest.approx(0.8 * 3 / 100)
        np.testing.assert_allclose(found.users.low, [1 - 3 / 50, 1 - 3 / 100])
        np.testing.assert_allclose(found.shares.half_width, 0.024)
        np.testing.assert_allclose(found.producers.low, [1 - 0.024 / 0.2, 1 - 0.024 / 0.8])


def test_an_omission_that_most_samples_miss_is_covered_all_the_same():
    rng = np.random.default_rng(5)
    share, missed = np.array([0.1, 0.9]), 0.004  # of the large stratum: four samples in five of 50 points see none of it
    counts = np.zeros((2000, 2, 2), int)
    counts[:, 0, 0] = 50
    counts[:, 1, 0] = rng.binomial(50, missed, 2000)
    counts[:, 1, 1] = 50 - counts[:, 1, 0]
    found, truth = olofsson(counts, share).producers, 0.1 / (0.1 + 0.9 * missed)
    unseen = counts[:, 1, 0] == 0
    assert unseen.mean() > 0.75
    assert (found.standard_error[unseen, 0] == 0).all()
    assert (np.abs(found.value[:, 0] - truth) <= found.half_width[:, 0])[unseen].all()


def test_a_class_that_is_nowhere_has_no_accuracy_and_no_area():
    matrix, mapped = np.zeros((4, 4), int), np.array([500, 500, 0, 0])
    matrix[:2, :2] = [[8, 2], [1, 9]]
    for found in (olofsson(matrix, mapped), stehman(Tally.of_counts(cube(matrix)[:2]), strata(mapped[:2]))):
        assert np.isnan(found.users.value[2:]).all()
        assert np.isnan(found.producers.value[2:]).all()
        assert found.shares.value[2:].tolist() == [0, 0]


def test_a_small_stratum_is_known_better_for_what_was_drawn_of_it():
    counts = np.zeros((1, 2, 2), int)
    counts[0] = np.diag([30, 20])
    errors = [stehman(Tally.of_counts(counts), strata([size])).shares.standard_error[0] for size in (100, 10_000, 10**9)]
    assert errors[0] == pytest.approx(errors[2] * np.sqrt(0.5))
    assert errors[1] == errors[2]


def test_more_points_than_pixels_are_refused():
    with pytest.raises(InputError, match="more points than its 60 pixels"):
        stehman(Tally.of_counts(cube(CHANGE)), strata([60, 150_000, 3_200_000, 6_450_000]))


# Allocation


@pytest.mark.parametrize("how", ["mixed", "proportional", "equal"])
def test_allocations_sum_up_and_keep_within_the_pixels(how):
    rng = np.random.default_rng(1)
    for _ in range(50):
        pixels = rng.integers(1, 2000, rng.integers(1, 8))
        total = int(rng.integers(50 * len(pixels), 400 * len(pixels)))
        points = allocate(total, strata(pixels), how)
        assert points.sum() == min(total, pixels.sum())
        assert (points <= pixels).all()
        assert (points >= np.minimum(pixels, 50 if how == "mixed" else 2)).all()


def test_more_points_never_make_it_worse():
    ground, expected = strata(CHANGE_PIXELS), np.full(4, 0.8)
    errors = [expected_error(ground, expected, allocate(total, ground)) for total in range(200, 2000, 100)]
    assert (np.diff(errors) < 0).all()
    needed = points_needed(ground, expected, 0.01)
    assert expected_error(ground, expected, allocate(needed, ground, "proportional")) == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize("wrong", [0, -0.1, 0.5, float("nan")])
def test_an_impossible_standard_error_is_refused(wrong):
    with pytest.raises(InputError, match="expected a share between 0 and"):
        points_needed(strata(CHANGE_PIXELS), np.full(4, 0.8), wrong)


# 2,000 samples with a known truth


def coverage(found, truth):
    """Share of the samples whose 95 % interval holds the truth, for each estimate."""
    return {name: (np.abs(estimate.value - truth[name]) <= estimate.half_width).mean(axis=0) for name, estimate in every(found)}


def truth_of(joint):
    """What a (map, reference) table of shares says."""
    right = np.diag(joint)
    return {
        "overall": right.sum(),
        "users": right / joint.sum(axis=1),
        "producers": right / joint.sum(axis=0),
        "shares": joint.sum(axis=0),
    }


def test_intervals_cover_the_truth_where_strata_are_map_classes():
    rng = np.random.default_rng(2)
    share, within = np.array([0.2, 0.3, 0.5]), np.array([[0.7, 0.2, 0.1], [0.15, 0.75, 0.1], [0.1, 0.1, 0.8]])
    counts = np.stack([rng.multinomial(points, row, size=2000) for points, row in zip((150, 200, 300), within, strict=True)], axis=1)
    for name, covered in coverage(olofsson(counts, share), truth_of(share[:, np.newaxis] * within)).items():
        assert ((covered > 0.93) & (covered < 0.97)).all(), (name, covered)


def test_intervals_cover_the_truth_where_strata_are_something_else():
    rng = np.random.default_rng(3)
    share, cells = np.array([0.3, 0.2, 0.5]), rng.dirichlet(np.full(9, 2.0), size=3)
    counts = np.stack([rng.multinomial(250, row, size=2000).reshape(-1, 3, 3) for row in cells], axis=1)
    found = stehman(Tally.of_counts(counts), strata(share * 10**9))
    for name, covered in coverage(found, truth_of((share @ cells).reshape(3, 3))).items():
        assert ((covered > 0.93) & (covered < 0.97)).all(), (name, covered)
    naive = counts.sum(axis=(1, 2)) / counts.sum(axis=(1, 2, 3))[:, np.newaxis]  # without weights: not the truth
    assert (np.abs(naive.mean(axis=0) - truth_of((share @ cells).reshape(3, 3))["shares"]) > 0.01).any()


def test_intervals_cover_the_truth_where_pixels_differ_in_size():
    rng = np.random.default_rng(4)
    pixels = 4000
    area = np.linspace(1.0, 0.3, pixels)  # as towards a pole, with the classes changing on the way there
    reference = (rng.random(pixels) < np.linspace(0.2, 0.8, pixels)).astype(int)
    mapped = np.where(rng.random(pixels) < 0.8, reference, 1 - reference)
    members = [np.flatnonzero(mapped == kind) for kind in range(2)]
    ground = Strata(("a", "b"), np.array([len(one) for one in members]), np.array([area[one].sum() for one in members]))
    tables = np.zeros((3, 2000, 2, 2, 2))
    for sample, stratum in np.ndindex(2000, 2):
        drawn = rng.choice(members[stratum], 100, replace=False)
        for power in range(3):
            tables[power, sample, stratum, stratum] = np.bincount(reference[drawn], weights=area[drawn] ** power, minlength=2)
    truth = truth_of(np.array([[area[(mapped == i) & (reference == j)].sum() for j in range(2)] for i in range(2)]) / area.sum())
    for name, covered in coverage(stehman(Tally(*tables), ground), truth).items():
        assert ((covered > 0.93) & (covered < 0.97)).all(), (name, covered)
    assert abs(reference.mean() - truth["shares"][1]) > 0.02  # counting pixels would be wrong
