"""Conformal sets: their promise on exchangeable scores, where it fails, and the layers that maps get."""

from __future__ import annotations

import json

import numpy as np
import packages
import pytest
from command_line import refusal
from map_files import read
from scene_files import write

from geoseg.evaluation.conformal import least_steps
from geoseg.legend import Legend
from geoseg.mapping.conformal import contained, read_thresholds, set_legends
from geoseg.models.package import Output

ALPHA = 0.1


def drawn(generator, count, ability):
    """Classes and their scores, (pixel,) and (class, pixel): the more able, the higher that of the true one."""
    truth = generator.integers(0, 3, count)
    logits = generator.normal(0, 1, (3, count))
    logits[truth, np.arange(count)] += ability
    scores = np.exp(logits) / np.exp(logits).sum(axis=0)
    return truth, np.rint(scores * 250).astype(np.int64)


def thresholds(folder, least):
    classes = [{"code": i, "name": f"class {i}", "least_step": int(step), "pixels": 9} for i, step in enumerate(least)]
    said = {"format": "geoseg conformal 1", "method": "m", "alpha": ALPHA, "classes": classes, "model": [], "report": {}, "caveat": "c"}
    (folder / "sets.json").write_text(json.dumps(said))
    return read_thresholds(folder / "sets.json")


def coverages(folder, ability, times=60):
    """(time, class) share of new pixels of each class whose set holds it, each time calibrated anew on pixels of ability 1.5."""
    generator, found = np.random.default_rng(11), []
    for _ in range(times):
        truth, steps = drawn(generator, 900, 1.5)
        counts = np.zeros((3, 251), np.int64)
        np.add.at(counts, (truth, steps[truth, np.arange(900)]), 1)
        made = thresholds(folder, least_steps(counts, ALPHA))
        truth, steps = drawn(generator, 3000, ability)
        right = contained(steps, made)[truth, np.arange(3000)]
        found.append([right[truth == index].mean() for index in range(3)])
    return np.array(found)


def test_the_sets_of_exchangeable_pixels_hold_the_true_class_as_often_as_promised(tmp_path):
    shares = coverages(tmp_path, 1.5)
    bound = 3 * np.sqrt(ALPHA * (1 - ALPHA) * (1 / 300 + 1 / 1000) / len(shares))
    assert (shares.mean(axis=0) >= 1 - ALPHA - bound).all()
    assert shares.mean() < 1 - ALPHA + 0.02  # steps of 1/250 give away a little, no more


def test_the_sets_of_other_ground_do_not(tmp_path):
    assert (coverages(tmp_path, 0.3, times=5).mean(axis=0) < 1 - ALPHA - 0.1).all()


def test_the_threshold_is_an_order_statistic_by_hand():
    counts = np.zeros((3, 251), int)
    counts[0, [10, 20, 30, 40, 50, 60, 70, 80, 90]] = 1  # nine pixels: floor(0.2 x 10) = 2, the second smallest
    counts[1, [100, 200]] = 1  # two: too few for 0.2
    assert least_steps(counts, 0.2).tolist() == [20, 0, 0]


def test_every_set_of_eight_classes_has_a_code_and_nine_have_only_sizes():
    eight, nine = (set_legends(Output.from_legend("land", Legend.from_names([f"c{i}" for i in range(count)]))) for count in (8, 9))
    assert len(eight["land_set"]) == 256
    assert eight["land_set"].names[0b101] == "c0 or c2"
    assert eight["land_set"].nodata > 255
    assert [len(legend) for legend in nine.values()] == [10]


@pytest.fixture
def ground(place):
    """A scene, a map of it with scores, and labels drawn from these scores: pixels are exchangeable."""
    generator = np.random.default_rng(2)
    values = generator.normal(0, 1, (1, 400, 300)).astype(np.float32)
    values[:, :9, :9] = -9999
    write(place / "ground.tif", values, names=["red"], nodata=-9999)
    packages.per_pixel_package(place / "net", ["red"], [[1.0], [0], [-1]])
    seen = np.where(values == -9999, 0, values)
    logits = np.concatenate([seen, 0 * seen, -seen])
    scores = np.exp(logits) / np.exp(logits).sum(axis=0)
    truth = (generator.random(values.shape[1:]) > np.cumsum(scores, axis=0)[:2]).sum(axis=0)
    write(place / "labels.tif", truth[np.newaxis].astype("uint8"), nodata=255)
    return place


MAP = ("predict", "ground.tif", "--sensor", "generic", "--model", "net", "--no-polygons", "--no-picture")
FIND = ("conformal", "map", "--labels", "labels.tif", "-o", "sets.json", "--alpha", "0.2", "--block", "32")


def test_thresholds_are_found_checked_and_used(geoseg, ground):
    assert geoseg(*MAP, "--scores", "-o", "map").code == 0
    found = geoseg(*FIND)
    assert found.code == 0, found.err
    assert "another region, season or sensor is not" in found.err
    made = read_thresholds("sets.json")
    assert [abs(one["coverage"] - 0.8) < 0.02 for one in made.report["classes"].values()] == [True] * 3
    assert made.report["pixels"] + sum(one.pixels for one in made.classes) == 400 * 300 - 81
    assert geoseg(*MAP, "--conformal", "sets.json", "-o", "again").code == 0
    scores, sets, sizes = (
        read(ground / "map/ground_scores.tif"),
        read(ground / "again/ground_set.tif"),
        read(ground / "again/ground_set_size.tif"),
    )
    inside = scores >= np.array([one.least_step for one in made.classes])[:, None, None]
    seen = scores[0] != 255
    np.testing.assert_array_equal(sets[seen], (inside * np.array([1, 2, 4])[:, None, None]).sum(axis=0)[seen])
    np.testing.assert_array_equal(sizes[seen], inside.sum(axis=0)[seen])
    assert (sets[~seen] == 255).all()
    assets = json.loads((ground / "again/ground.json").read_text())["assets"]
    assert assets["classes_set"]["classification:classes"][3]["description"] == "class 0 or class 1"
    assert "bit i" in assets["classes_set"]["description"]
    assert not (ground / "again/ground_scores.tif").exists()


def test_thresholds_of_another_network_are_refused(geoseg, ground):
    geoseg(*MAP, "--scores", "-o", "map")
    geoseg(*FIND)
    packages.per_pixel_package(ground / "other", ["red"], [[2.0], [0], [-1]])
    said = refusal(geoseg, ground, *MAP, "--model", "other", "--conformal", "sets.json", "-o", "again")
    assert "other model packages" in said
    assert "thresholds for --tta None" in refusal(geoseg, ground, *MAP, "--tta", "d4", "--conformal", "sets.json", "-o", "again")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--alpha", "1.5"], "expected a share between 0 and 1"),
        (["--block", "0"], "expected 1 pixel or more"),
        (["--block", "1000"], "label ground in more places"),
    ],
)
def test_what_cannot_be_calibrated_is_refused(geoseg, ground, words, said):
    geoseg(*MAP, "--scores", "-o", "map")
    assert said in refusal(geoseg, ground, *FIND, *words)


def test_maps_without_scores_and_strange_files_are_refused(geoseg, ground):
    geoseg(*MAP, "-o", "map")
    assert "make the map again with geoseg predict --scores" in refusal(geoseg, ground, *FIND)
    (ground / "strange.json").write_text("{}")
    assert "holds no conformal thresholds" in refusal(geoseg, ground, *MAP, "--conformal", "strange.json", "-o", "again")
    assert "no such file" in refusal(geoseg, ground, *MAP, "--conformal", "nothing.json", "-o", "again")
