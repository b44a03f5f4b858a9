"""Tiles worth labelling: unsure ground first, no two of a kind, never labelled ground; files that a person can draw in at once."""

from __future__ import annotations

import geopandas
import jsonschema
import numpy as np
import pyogrio
import pytest
from command_line import contents, refusal
from map_files import LEGEND, write_map
from packages import per_pixel_package
from scene_files import write
from shapely.geometry import box
from test_machines import SCHEMA, lines

from geoseg.evaluation.ranking import choose
from geoseg.legend import Legend


def kept_lines(text: str) -> list[dict]:
    """The lines of --json, which keep the schema."""
    told = lines(text)
    for line in told:
        jsonschema.validate(line, SCHEMA)
    return told


def unsure_in_the_middle(patches: dict[tuple[int, int], float]) -> np.ndarray:
    """(class, 64, 64) sure scores, but for tiles of 16 pixels (row, col) whose first class has less."""
    scores = np.full((3, 64, 64), 0.05)
    scores[0] = 0.9
    for (row, col), first in patches.items():
        here = np.s_[16 * row : 16 * row + 16, 16 * col : 16 * col + 16]
        scores[0][here], scores[1][here], scores[2][here] = first, 1 - first - 0.05, 0.05
    return scores


def place_of(frame: geopandas.GeoDataFrame) -> list[tuple[int, int]]:
    """(row, col) of each tile of 160 m in a map of the tests."""
    return [(round((5_000_000 - b[3]) / 160), round((b[0] - 500_000) / 160)) for b in (shape.bounds for shape in frame.geometry)]


def square(row: int, col: int) -> object:
    """The tile of 160 m, less a rim of a metre."""
    left, top = 500_000 + 160 * col, 5_000_000 - 160 * row
    return box(left + 1, top - 159, left + 159, top - 1)


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
    assert kept_lines(ran.out)[-1]["summary"]["ranked"][0]["rank"] == 1
    frame = geopandas.read_file(tmp_path / "out/out_suggested.gpkg", layer="suggested")
    assert frame.geometry[0].bounds == (500_320, 4_999_680, 500_480, 4_999_840)
    assert pyogrio.read_info(tmp_path / "out/out_corrections.gpkg", layer="corrections")["fields"].tolist() == ["class", "note"]
    assert LEGEND.names[0] in frame.why[0]
    assert "out_suggested.gpkg is there already; rank again with --overwrite" in refusal(geoseg, tmp_path, "suggest", "tiles", "out")


def test_a_map_without_scores_says_which_option_makes_them(geoseg, tmp_path) -> None:
    write_map(tmp_path / "out", np.zeros((64, 64), int))
    assert "--scores" in refusal(geoseg, tmp_path, "suggest", "tiles", "out")


def test_labelled_and_held_out_ground_is_not_suggested(geoseg, tmp_path) -> None:
    write_map(tmp_path / "out", np.zeros((64, 64), int), scores=unsure_in_the_middle({(0, 0): 0.5, (1, 2): 0.55, (3, 3): 0.6}))
    assert geoseg("suggest", "tiles", "out", "--tile-m", 160, "--count", 16).code == 0
    assert place_of(geopandas.read_file(tmp_path / "out/out_suggested.gpkg", layer="suggested"))[0] == (0, 0)
    old = geopandas.GeoDataFrame({"class": ["water"]}, geometry=[square(0, 0)], crs="EPSG:32632")
    old.to_file(tmp_path / "old.gpkg")
    held = geopandas.GeoDataFrame({"part": ["test"]}, geometry=[square(1, 2)], crs="EPSG:32632")
    held.to_file(tmp_path / "out/out_held_out.gpkg")
    ran = geoseg("suggest", "tiles", "out", "--tile-m", 160, "--count", 16, "--labels", "old.gpkg", "--overwrite")
    assert ran.code == 0, ran.err
    found = geopandas.read_file(tmp_path / "out/out_suggested.gpkg", layer="suggested")
    assert len(found) == 14
    assert place_of(found)[0] == (3, 3)
    assert not {(0, 0), (1, 2)} & set(place_of(found))
    held.assign(geometry=[box(500_000, 4_999_000, 501_000, 5_000_000)]).to_file(tmp_path / "out/out_held_out.gpkg")
    said = refusal(geoseg, tmp_path, "suggest", "tiles", "out", "--overwrite")
    assert "no tile is left to suggest: of 1, 0 are labelled, 1 lie on ground that the model holds out" in said


def test_what_was_drawn_is_kept(geoseg, tmp_path) -> None:
    write_map(tmp_path / "out", np.zeros((64, 64), int), scores=unsure_in_the_middle({(0, 0): 0.5}))
    assert geoseg("suggest", "tiles", "out").code == 0
    path = tmp_path / "out/out_corrections.gpkg"
    drawn = geopandas.GeoDataFrame({"class": ["land"], "note": [""]}, geometry=[square(0, 0)], crs="EPSG:32632")
    pyogrio.write_dataframe(drawn, path, layer="corrections", append=True, promote_to_multi=True)
    before = path.read_bytes()
    ran = geoseg("suggest", "tiles", "out", "--overwrite", "--json")
    assert kept_lines(ran.out)[-1]["summary"]["corrections_kept"] is True
    assert path.read_bytes() == before
    assert pyogrio.read_dataframe(path, layer="corrections")["class"].tolist() == ["land"]


def test_tiles_of_several_maps_are_ranked_together(geoseg, tmp_path) -> None:
    for name, left, first in (("a", 500_000, 0.8), ("b", 510_000, 0.5)):
        write_map(tmp_path / name, np.zeros((64, 64), int), scores=unsure_in_the_middle({(2, 1): first}), left=left)
    ran = geoseg("suggest", "tiles", "a", "b", "--tile-m", 160, "--count", 20, "--json")
    assert ran.code == 0, ran.err
    told = {line["summary"]["name"]: [row["rank"] for row in line["summary"]["ranked"]] for line in kept_lines(ran.out)[-2:]}
    assert told["b"][0] == 1
    assert sorted(told["a"] + told["b"]) == list(range(1, 21))
    write_map(tmp_path / "other", np.zeros((64, 64), int), scores=unsure_in_the_middle({})[:2], legend=Legend.from_names(["x", "y"]))
    assert "have different classes" in refusal(geoseg, tmp_path, "suggest", "tiles", "a", "other", "--overwrite")


def test_a_scene_is_mapped_first(geoseg, tmp_path) -> None:
    values = np.full((1, 128, 128), -3.0, np.float32)
    values[:, 64:, :64] = 0.1  # neither class has much more than half of the score
    write(tmp_path / "ground.tif", values, names=["red"])
    per_pixel_package(tmp_path / "landcover", ["red"], [[1.0], [-1.0]], legend=Legend.from_names(["land", "water"]))
    words = ("suggest", "tiles", "ground.tif", "--sensor", "generic", "--model", "landcover", "-o", "map", "--json")
    ran = geoseg(*words, "--count", 1)
    assert ran.code == 0, ran.err
    (row,) = kept_lines(ran.out)[-1]["summary"]["ranked"]
    assert row["uncertainty"] > 0.9
    assert row["classes"] in ("land or water", "water or land")
    assert geopandas.read_file(tmp_path / "map/ground_suggested.gpkg", layer="suggested").geometry[0].bounds[:2] == (5e5, 4_798_720)
    assert {"ground_classes.tif", "ground_scores.tif", "ground_suggested.qgz"} <= set(contents(tmp_path / "map"))
    assert "already holds ground.json" in refusal(geoseg, tmp_path, *words)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("out", "-o", "new"), "--out is for a scene that --model maps"),
        (("scene.tif", "--model", "model"), "--model maps one scene into the folder of -o OUT"),
        (("out", "--tile-m", "20"), "are 2 pixels of out wide; expected at least 4, which is 40 m"),
        (("out", "--by", "members"), "geoseg predict … --uncertainty members"),
    ],
)
def test_what_cannot_be_ranked_is_refused(geoseg, tmp_path, words, said) -> None:
    write_map(tmp_path / "out", np.zeros((64, 64), int), scores=unsure_in_the_middle({}))
    assert said in refusal(geoseg, tmp_path, "suggest", "tiles", *words)
