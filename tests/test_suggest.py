"""Tiles worth labelling: unsure ground first, no two of a kind, never labelled ground; files that a person can draw in at once."""

from __future__ import annotations

import json

import geopandas
import numpy as np
import pyogrio
from command_line import refusal
from map_files import LEGEND, write_map

from geoseg.evaluation.ranking import choose


def test_look_alikes_are_not_all_chosen() -> None:
    worth, features = np.array([0.9, 0.89, 0.5, 0.1]), np.array([[0.0], [0.01], [1.0], [1.0]])
    ranked = choose(worth, features, np.ones(4, bool), np.array([], int), 3)
    assert ranked.tiles.tolist()[:2] == [0, 2]
    assert choose(worth, features, np.ones(4, bool), np.array([0]), 1).tiles.tolist() == [2]


def test_the_unsure_tile_is_first_and_a_layer_to_draw_in_lies_beside(geoseg, tmp_path) -> None:
    scores = np.full((3, 64, 64), 0.05)
    scores[0] = 0.9
    scores[:, 16:32, 32:48] = 1 / 3
    write_map(tmp_path / "out", np.zeros((64, 64), int), scores=scores)
    ran = geoseg("suggest", "tiles", "out", "--tile-m", 160, "--count", 3, "--json")
    assert ran.code == 0, ran.err
    assert json.loads(ran.out.splitlines()[-1])["ranked"][0]["rank"] == 1
    frame = geopandas.read_file(tmp_path / "out/out_suggested.gpkg", layer="suggested")
    assert frame.geometry[0].bounds == (500_320, 4_999_680, 500_480, 4_999_840)
    assert pyogrio.read_info(tmp_path / "out/out_corrections.gpkg", layer="corrections")["fields"].tolist() == ["class", "note"]
    assert LEGEND.names[0] in frame.why[0]
    assert "already holds out_suggested.gpkg" in refusal(geoseg, tmp_path, "suggest", "tiles", "out")


def test_a_map_without_scores_says_which_option_makes_them(geoseg, tmp_path) -> None:
    write_map(tmp_path / "out", np.zeros((64, 64), int))
    assert "--scores" in refusal(geoseg, tmp_path, "suggest", "tiles", "out")
