"""Warnings of what a model package has not seen of a scene, each with its figures."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from packages import describe, preparation_for
from scene_files import write

from geoseg.legend import Legend
from geoseg.models.fit import check_fit
from geoseg.models.package import Output
from geoseg.models.seen import unseen_place, unseen_season, unseen_values
from geoseg.preprocess.prepare import Channel, Preparation
from geoseg.scenes.open_scene import open_scene

OUTPUTS = (Output.from_legend("classes", Legend.from_names(["land", "water"])),)


def day(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.fixture
def scene(tmp_path):
    return open_scene(write(tmp_path / "scene.tif", names=["red"]), sensor="generic")  # 43 degrees north


@pytest.mark.parametrize(("share", "told"), [(0.04, False), (0.2, True)])
def test_values_beyond_those_of_training_are_told_with_their_share(share, told):
    values = np.zeros(1000, np.float32)
    values[: int(1000 * share)] = -4.5
    said = list(unseen_values(describe(["red"], OUTPUTS), Channel(name="red", mean=10, std=2), values))
    assert bool(said) == told
    assert not told or "20% of the pixels have red outside 2…18" in said[0]


@pytest.mark.parametrize(("south", "north", "told"), [(40, 50, False), (34, 36, False), (10, 32, True), (54, 60, True), (-45, -40, True)])
def test_ground_far_north_or_south_of_the_training_is_told(scene, south, north, told):
    package = describe(["red"], OUTPUTS, trained_bbox=(0, south, 1, north))
    said = list(unseen_place(package, scene.geobox(["red"])))
    assert bool(said) == told
    assert not told or "43.4° of latitude" in said[0]


@pytest.mark.parametrize(
    ("first", "last", "taken", "told"),
    [
        ("2021-05-01", "2021-06-01", "2023-07-20", False),
        ("2021-05-01", "2021-06-01", "2023-11-01", True),
        ("2020-12-01", "2021-01-31", "2024-02-15", False),
        ("2020-12-01", "2021-01-31", "2024-07-15", True),
        ("2019-01-01", "2021-06-01", "2024-10-15", False),
    ],
)
def test_another_season_is_told_across_the_turn_of_the_year_too(scene, first, last, taken, told):
    package = describe(["red"], OUTPUTS, trained_dates=(day(first), day(last)))
    assert bool(list(unseen_season(package, replace(scene, time=day(taken))))) == told


def test_what_is_not_known_is_not_warned_of(scene):
    package = describe(["red"], OUTPUTS)
    assert not [*unseen_place(package, scene.geobox(["red"])), *unseen_season(package, replace(scene, time=day("2021-01-01")))]


def test_a_part_of_a_scene_unlike_the_training_is_warned_of_when_it_is_mapped(tmp_path):
    values = np.full((1, 40, 50), 400, "uint16")
    values[:, :10] = 9000
    given = open_scene(write(tmp_path / "scene.tif", values, names=["red"]), sensor="generic")
    bands = preparation_for(["red"]).bands
    package = describe(["red"], OUTPUTS, preparation=Preparation(bands=bands, channels=(Channel(name="red", mean=400, std=100),)))
    said = [one for one in check_fit(package, given, geobox=given.geobox(["red"])) if "hardly seen" in one]
    assert len(said) == 1
    assert said[0].startswith("25% of the pixels have red outside 0…800")
