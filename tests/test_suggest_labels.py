"""Labels that look wrong, from the command line: forests that have not seen them, features and rasters, finished maps."""

from __future__ import annotations

import csv
import json

import geopandas
import numpy as np
import pytest
from command_line import UTM, refusal
from map_files import write_map
from scene_files import write
from shapely.geometry import box
from test_suggest import kept_lines

from geoseg.io.score_files import NO_SCORE, SCORE_STEPS
from geoseg.legend import Legend
from geoseg.recipes.forest_scores import score_folds
from geoseg.recipes.pixel_forest import Settings
from geoseg.scenes.open_scene import open_scene

SIDE, CELL = 120, 15
NAMES = ("land", "water")


def truth() -> np.ndarray:
    """(row, col) cells of 15 pixels of two classes, as a chess board."""
    cells = np.indices((SIDE // CELL, SIDE // CELL)).sum(axis=0) % 2
    return cells.repeat(CELL, axis=0).repeat(CELL, axis=1)


@pytest.fixture
def ground(tmp_path):
    """scene.tif, and polygons.gpkg: an inner square of each cell, the sixth and the twentieth with the other class."""
    pytest.importorskip("sklearn")
    values = truth() - 0.5 + np.random.default_rng(0).normal(0, 0.1, (1, SIDE, SIDE))
    write(tmp_path / "ground.tif", values.astype(np.float32), names=["red"])
    rows = []
    for row in range(0, SIDE, CELL):
        for col in range(0, SIDE, CELL):
            left, top = 5e5 + 10 * (col + 3), 4.8e6 - 10 * (row + 3)
            rows.append({"class": NAMES[truth()[row, col]], "geometry": box(left, top - 90, left + 90, top)})
    frame = geopandas.GeoDataFrame(rows, crs="EPSG:32630")
    for wrong in (5, 19):
        frame.loc[wrong, "class"] = NAMES[1 - NAMES.index(frame["class"][wrong])]
    frame.to_file(tmp_path / "polygons.gpkg")
    return tmp_path


def test_wrong_polygons_are_found_and_no_others(geoseg, ground) -> None:
    words = ("suggest", "labels", "ground.tif", "--sensor", "generic", "--labels", "polygons.gpkg", "-o", "suspects")
    ran = geoseg(*words, "--json")
    assert ran.code == 0, ran.err
    told = kept_lines(ran.out)[-1]
    assert (told["summary"]["suspects"], told["summary"]["judged"]) == (2, 64)
    assert told["summary"] == json.loads((ground / "suspects/suspect_labels.json").read_text())
    assert told["summary"]["estimated_wrong_share"] == pytest.approx(2 / 64, abs=0.02)
    found = geopandas.read_file(ground / "suspects/suspect_labels.gpkg", layer="suspects")
    drawn = geopandas.read_file(ground / "polygons.gpkg")
    assert sorted(found["row"]) == [6, 20]
    for shape, row, looks, label in zip(found.geometry, found["row"], found["looks_like"], found["label"], strict=True):
        assert shape.equals(drawn.geometry[row - 1])
        assert {looks, label} == set(NAMES)
        assert label == drawn["class"][row - 1]
    table = list(csv.DictReader((ground / "suspects/suspect_labels.csv").open(encoding="utf-8")))
    assert [int(one["row"]) for one in table] == found["row"].tolist()
    assert "already holds suspect_labels.gpkg" in refusal(geoseg, ground, *words)


def test_each_pixel_is_scored_by_a_forest_that_has_not_seen_it(ground) -> None:
    settings = Settings(folds=4, trees=20, min_leaf=1)
    opened = [open_scene(ground / "ground.tif", sensor="generic")]
    scored = score_folds(settings, opened, [ground / "polygons.gpkg"])
    labels, scores = scored.scenes[0].labels, scored.scores[0]
    assert ((scores == NO_SCORE).all(axis=0) == (labels < 0)).all()
    sums = scores[:, labels >= 0].astype(int).sum(axis=0)
    assert abs(sums - SCORE_STEPS).max() <= 1
    wrong = labels != truth()
    wrong &= labels >= 0
    assert wrong.sum() == 2 * 81
    given = np.take_along_axis(scores, np.maximum(labels, 0)[np.newaxis].astype(int), axis=0)[0] / SCORE_STEPS
    assert given[wrong].mean() < 0.1  # a forest of leaves of one pixel would say 1 of what it has learned
    assert "has not seen it" in scored.told


def test_a_map_scores_labels_that_its_model_has_not_seen(geoseg, tmp_path) -> None:
    drawn = truth()
    scores = np.stack([np.where(drawn == one, 0.9, 0.1) for one in (0, 1)])
    write_map(tmp_path / "out", drawn, scores=scores, legend=Legend.from_names(NAMES))
    labels = drawn.copy()
    labels[20:26, 32:40] = 1 - labels[20:26, 32:40]
    write(tmp_path / "there.tif", labels[np.newaxis].astype(np.uint8), crs="EPSG:32632", transform=UTM)
    ran = geoseg("suggest", "labels", "--map", "out", "--labels", "there.tif", "-o", "suspects")
    assert ran.code == 0, ran.err
    assert "If the model has learned from these labels, they say little" in ran.out
    (shape,) = geopandas.read_file(tmp_path / "suspects/suspect_labels.gpkg", layer="suspects").geometry
    assert shape.equals(box(500_320, 4_999_740, 500_400, 4_999_800))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--labels", "labels.tif"), "give either SCENE"),
        (("scene.tif", "--map", "out", "--labels", "labels.tif"), "give either SCENE"),
        (("--map", "out", "--sensor", "generic", "--labels", "labels.tif"), "--sensor is for scenes; with --map leave it out"),
        (("--map", "out", "--labels", "a.tif", "--labels", "b.tif"), "2 files of labels for 1 maps"),
        (("--map", "out", "--labels", "labels.tif"), "has no scores beside it; map it again with geoseg predict … --scores"),
    ],
)
def test_what_cannot_be_judged_is_refused(geoseg, tmp_path, words, said) -> None:
    write_map(tmp_path / "out", truth(), legend=Legend.from_names(NAMES))
    assert said in refusal(geoseg, tmp_path, "suggest", "labels", *words, "-o", "new")
