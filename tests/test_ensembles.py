"""Ensembles: several packages on the same tiles, the mean of their scores, and who may be a member."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import rasterio
from affine import Affine
from command_line import refusal, write
from networks import layered_package
from packages import constant_package, ice_chart_package, per_pixel_package

from geoseg.preprocess.prepare import BandNeed, Channel, Preparation
from geoseg.runtimes.ensemble import renormalisation


def with_statistics(*statistics):
    """A preparation of `red` and `nir` with these means and deviations."""
    roles = ("red", "nir")
    channels = [Channel(name=role, mean=mean, std=std) for role, (mean, std) in zip(roles, statistics, strict=True)]
    return Preparation(bands=tuple(BandNeed(role=role, unit="1") for role in roles), channels=tuple(channels))


def read(path):
    with rasterio.open(path) as file:
        return file.read()


def test_a_package_with_itself_gives_the_same_map(geoseg, place):
    layered_package(place / "layers", tile=32, overlap=8)
    words = ("predict", "scene.tif", "--sensor", "generic", "--scores", "--model", "layers")
    assert geoseg(*words, "-o", "alone").code == 0
    assert geoseg(*words, "--model", "layers", "--model", "layers", "-o", "together").code == 0
    for name in ("classes", "scores"):
        np.testing.assert_array_equal(read(place / "alone" / f"scene_{name}.tif"), read(place / "together" / f"scene_{name}.tif"))


def test_two_constant_packages_give_the_mean(geoseg, place):
    for name, which in (("a", 0), ("b", 1)):
        constant_package(place / name, ["red"], which, 4)
    geoseg("predict", "scene.tif", "--sensor", "generic", "--model", "a", "--model", "b", "--scores", "-o", "out")
    scores = read(place / "out" / "scene_scores.tif")
    expected = np.array([0.75 + 0.25 / 3, 0.75 + 0.25 / 3, 0.5 / 3, 0.5 / 3]) / 2
    np.testing.assert_allclose(scores[:, 5, 5] / scores[:, 5, 5].sum(), expected, atol=0.005)


def test_members_with_other_statistics_see_what_they_were_trained_on(geoseg, place):
    write(place / "two.tif", roles=("red", "nir"))
    weights = np.array([[1.0, -0.5], [-0.3, 0.8], [0.2, 0.1]])
    one, other = with_statistics((90.3, 40.0), (80.7, 30.0)), with_statistics((110.0, 55.0), (60.0, 25.0))
    first = per_pixel_package(place / "first", ["red", "nir"], np.zeros((3, 2)), preparation=one)
    per_pixel_package(place / "member", ["red", "nir"], weights, preparation=other)
    alone = per_pixel_package(place / "alone", ["red", "nir"], weights, preparation=other)
    assert first.checksum != alone.checksum
    words = ("predict", "two.tif", "--sensor", "generic")
    assert geoseg(*words, "--model", "alone", "-o", "expected").code == 0
    assert geoseg(*words, "--model", "first", "--model", "member", "-o", "out").code == 0
    np.testing.assert_array_equal(read(place / "out" / "two_classes.tif"), read(place / "expected" / "two_classes.tif"))


def test_renormalised_values_are_those_of_the_other_statistics_and_no_data_stays():
    ours, theirs = with_statistics((90.0, 40.0), (80.0, 30.0)), with_statistics((110.0, 55.0), (60.0, 25.0))
    values = np.random.default_rng(0).uniform(1, 200, (1, 2, 6, 6)).astype(np.float32)
    means, stds = ([[[getattr(c, name)]] for c in ours.channels] for name in ("mean", "std"))
    images = ((values - means) / stds).astype(np.float32)
    images[..., 0, 0] = 0
    images[:, 0, 0, 1], values[:, 0, 0, 1] = 0, 90  # no data only where all channels are 0
    change = renormalisation(ours, theirs)
    made = change(images)
    expected = (values - [[[c.mean]] for c in theirs.channels]) / [[[c.std]] for c in theirs.channels]
    expected[..., 0, 0] = 0
    np.testing.assert_allclose(made, expected, atol=1e-5)


def test_equal_statistics_need_no_change():
    assert renormalisation(with_statistics((9.0, 4.0), (8.0, 3.0)), with_statistics((9.0, 4.0), (8.0, 3.0))) is None


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: constant_package(folder, ["nir"], 0, 3), "differ in bands (red 1; nir 1)"),
        (lambda folder: constant_package(folder, ["red"], 0, 2), "its classes"),
        (lambda folder: layered_package(folder, pixel_size_m=12.0), "trained at 10 m and"),
        (lambda folder: layered_package(folder, stride=32), "multiples of 32"),
        (lambda folder: layered_package(folder, pixel_size_range_m=(9.5, 20.0)), "finer than"),
        (lambda folder: ice_chart_package(folder, ["red"]), "concentration, stage, floe"),
        (lambda folder: layered_package(folder, calibrated=True), "calibrated"),
    ],
)
def test_a_member_that_does_not_fit_is_refused(geoseg, place, make, said):
    constant_package(place / "first", ["red"], 0, 3, tile=32, overlap=12)
    make(place / "member")
    write(place / "two.tif", roles=("red", "nir"), transform=Affine(8, 0, 500_000, 0, -8, 5_000_000))
    sentence = refusal(geoseg, place, "predict", "two.tif", "--sensor", "generic", "--model", "first", "--model", "member", "-o", "out")
    assert said in sentence


def test_channels_without_statistics_cannot_become_others(geoseg, place):
    write(place / "two.tif", roles=("red", "nir"))
    per_pixel_package(place / "plain", ["red", "nir"], np.eye(2), preparation=with_statistics((0.0, 1.0), (80.0, 30.0)))
    per_pixel_package(place / "other", ["red", "nir"], np.eye(2), preparation=with_statistics((90.0, 40.0), (80.0, 30.0)))
    sentence = refusal(geoseg, place, "predict", "two.tif", "--sensor", "generic", "--model", "plain", "--model", "other", "-o", "out")
    assert "channel 'red' has no statistics" in sentence


def test_members_are_recorded_and_the_map_can_be_made_again(geoseg, place):
    layered_package(place / "a", tile=32, overlap=8)
    member = layered_package(place / "b", tile=32, overlap=8, seed=1)
    words = ("--tta", "flips", "--model", "a", "--model", "b")
    assert geoseg("predict", "scene.tif", "--sensor", "generic", *words, "-o", "out").code == 0
    item = json.loads((place / "out" / "scene.json").read_text())["properties"]
    assert [one["checksum"] for one in item["geoseg:model"]["ensemble"]] == [member.checksum]
    command = item["processing:lineage"]
    assert "--model a --model b" in command
    assert "--tta flips" in command
    with rasterio.open(place / "out" / "scene_classes.tif") as file:
        assert member.checksum in file.tags()["GEOSEG_ENSEMBLE"]
    assert geoseg("predict", "--again", "out/scene.json", "-o", "again").code == 0


def test_a_changed_member_is_noticed(geoseg, place):
    constant_package(place / "a", ["red"], 0, 3)
    constant_package(place / "b", ["red"], 1, 3)
    geoseg("predict", "scene.tif", "--sensor", "generic", "--model", "a", "--model", "b", "-o", "out")
    shutil.rmtree(place / "b")
    constant_package(place / "b", ["red"], 2, 3)
    assert "no longer the package" in refusal(geoseg, place, "predict", "--again", "out/scene.json", "-o", "again")
