"""Benchmarks of generalisation: rows learn on one place and are judged on another, and what is missing is said."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import yaml
from affine import Affine
from command_line import Ran, refusal
from labelled_ground import QUICK

pytest.importorskip("sklearn")
pytest.importorskip("onnx")

from geoseg.evaluation.generalisation import Generalisation, Row, generalise
from geoseg.evaluation.generalisation_table import Pair, Place, Table, read_table

SIDE = 96
OPENING = {"sensor": "sentinel-1-rtc", "unit": "dB"}


def write_place(folder: Path, name: str, *, east: float, second: float) -> None:
    """`NAME.tif`, checks of land and of water 12 dB below it; its second band has that contrast times `second`. `NAME_labels.tif`."""
    rng = np.random.default_rng(len(name))
    rows, cols = np.mgrid[:SIDE, :SIDE]
    water = (rows // 8 + cols // 8) % 2 == 0
    image = np.stack([np.where(water, -20 * share, -8 * share) for share in (1, second)]) + rng.normal(0, 1, (2, SIDE, SIDE))
    profile = {"driver": "GTiff", "height": SIDE, "width": SIDE, "crs": "EPSG:32630", "transform": Affine(10, 0, east, 0, -10, 4_500_000)}
    with rasterio.open(folder / f"{name}.tif", "w", count=2, dtype="float32", nodata=np.nan, **profile) as file:
        file.write(image.astype(np.float32))
    with rasterio.open(folder / f"{name}_labels.tif", "w", count=1, dtype="uint8", nodata=255, **profile) as file:
        file.write(np.where(water, 20, 10).astype(np.uint8), 1)


def words_of(name: str, bands: list[str]) -> dict[str, object]:
    return {"scenes": f"{name}.tif", "labels": f"{name}_labels.tif", "opening": {**OPENING, "bands": bands}}


def write_table(folder: Path) -> None:
    """Two places, and `table.yaml` with a row of each kind over them."""
    write_place(folder, "here", east=500_000, second=0.1)
    write_place(folder, "there", east=600_000, second=0.1)
    words = {
        "recipe": "pixel_forest",
        "settings": {"trees": 5},
        "seeds": [0, 1],
        "places": {
            "here": words_of("here", ["vv", "-"]),
            "there": words_of("there", ["vv", "-"]),
            "there, other band": words_of("there", ["-", "vv"]),
            "without vv": words_of("there", ["vh", "-"]),
            "nowhere": words_of("nowhere", ["vv"]),
        },
        "pairs": [
            {"name": "S2N", "source": "here", "target": "there"},
            {"name": "other band", "source": "here", "target": "there, other band", "gap": "polarisation"},
            {"name": "W2D", "source": "nowhere", "target": "here"},
            {"name": "no vv", "source": "here", "target": "without vv", "gap": "band"},
            {"name": "stay", "source": "here", "target": "here", "gap": "none"},
        ],
    }
    (folder / "table.yaml").write_text(yaml.safe_dump(words, sort_keys=False), encoding="utf-8")


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], list[str]]:
    """A folder where the table was run, the figures, and what was told of the progress."""
    folder, told = tmp_path_factory.mktemp("generalisation"), []
    write_table(folder)
    made = generalise(read_table(folder / "table.yaml"), folder / "out", told.append)
    assert json.loads((folder / "out" / "generalisation.json").read_text(encoding="utf-8")) == made.facts()
    return folder, made.facts(), told


@pytest.fixture
def ground(tmp_path: Path, geoseg: Callable[..., Ran]) -> Path:
    """The folder of the command, with the table."""
    write_table(tmp_path)
    return tmp_path


def test_rows_are_run_or_say_why_not(ran: tuple[Path, dict[str, Any], list[str]]) -> None:
    folder, facts, _ = ran
    rows = {row["name"]: row for row in facts["rows"]}
    assert [row["state"] for row in facts["rows"]] == ["run", "run", "not run", "failed", "failed"]
    assert min(rows["S2N"]["mean_iou"]) > 0.9
    assert max(rows["other band"]["mean_iou"]) < 0.6, "water and land look alike there"
    assert "nowhere.tif is not there" in rows["W2D"]["why"]
    assert "vv is missing" in rows["no vv"]["why"]
    text = (folder / "out" / "generalisation.md").read_text(encoding="utf-8")
    assert "| W2D | nowhere | here | - | not run: data absent" in text
    assert "2 of 5 rows were run" in text


def test_published_settings_bring_their_gap_and_are_named_where_they_are_absent(ran: tuple[Path, dict[str, Any], list[str]]) -> None:
    _, facts, _ = ran
    assert facts["rows"][0]["gap"] == "region"
    assert "N2S" in facts["published_settings_without_data"]
    assert not {"S2N", "W2D"} & set(facts["published_settings_without_data"])


def test_each_source_is_learned_once_with_each_seed(ran: tuple[Path, dict[str, Any], list[str]]) -> None:
    _, _, told = ran
    assert [said for said in told if "learned" in said] == ["here: learned with seed 0", "here: learned with seed 1"]


def test_ground_that_was_learned_from_is_not_judged_on(ran: tuple[Path, dict[str, Any], list[str]]) -> None:
    _, facts, _ = ran
    assert "lie on ground that was learned from, and none of it was held out" in facts["rows"][4]["why"]
    assert (facts["rows"][0]["labelled_pixels"], facts["rows"][0]["held_out_only"]) == (SIDE * SIDE, False)


def test_what_was_learned_is_not_learned_again(
    geoseg: Callable[..., Ran], ran: tuple[Path, dict[str, Any], list[str]], tmp_path: Path
) -> None:
    shutil.copytree(ran[0] / "out", tmp_path / "again")
    again = geoseg("benchmark", "dg", ran[0] / "table.yaml", "-o", tmp_path / "again", "--only", "S2N", "--json")
    assert (again.code, again.err) == (0, "S2N: judged with seed 0\nS2N: judged with seed 1\n")
    assert json.loads(again.out)["summary"]["rows"] == ran[1]["rows"][:1]
    other = read_table(ran[0] / "table.yaml").model_copy(update={"settings": {"trees": 6}})
    assert "learned from other settings" in generalise(other, tmp_path / "again").rows[0].why


@pytest.mark.slow
def test_of_ground_that_was_learned_from_the_held_out_blocks_count(tmp_path: Path) -> None:
    pytest.importorskip("lightning")
    pytest.importorskip("segmentation_models_pytorch")
    write_table(tmp_path)
    table = read_table(tmp_path / "table.yaml")
    quick = {**QUICK, "bands": ["vv"], "epochs": 1, "tile": 32, "block": 32, "guard": 0, "calibrate": False, "compare": "none"}
    table = table.model_copy(update={"recipe": "supervised", "settings": quick, "seeds": (0,), "pairs": table.pairs[-1:]})
    (row,) = generalise(table, tmp_path / "out").rows
    assert (row.state, row.held_out_only) == ("run", True), row.why
    assert 0 < row.pixels < SIDE * SIDE / 2


def test_averages_count_each_row_alike_whatever_its_pixels() -> None:
    place = Place(scenes=("a.tif",), labels=("b.tif",))
    names = [("x", "region"), ("y", "region"), ("z", "band"), ("stay", "none"), ("w", None)]
    pairs = tuple(Pair(name=name, source="a", target="a", gap=gap) for name, gap in names)
    table = Table(places={"a": place}, pairs=pairs, seeds=(0, 1))
    figures = [(0.2, 0.4), (0.6, 0.4), (0.1, 0.1), (0.9, 0.9)]
    rows = [Row(pair, "run", mean_iou=ious, pixels=10**n) for n, (pair, ious) in enumerate(zip(pairs[:4], figures, strict=True))]
    averages = Generalisation(table, (*rows, Row(pairs[4], "failed", "why"))).averages()
    assert list(averages) == ["region", "band", "none", "all"]
    assert averages["region"] == pytest.approx((0.4, 0.4))
    assert averages["all"] == pytest.approx((0.3, 0.3))
    assert Generalisation(table, (Row(pairs[0], "not run", "why"),)).averages() == {}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("target: there", "target: ther", "the pair 'S2N' names 'ther'; did you mean 'there'"),
        ("name: stay", "name: S2N", "the pair 'S2N' stands twice"),
        ("- 0\n- 1", "- 0\n- 0", "give each once"),
        ("sensor: sentinel-1-rtc", "sensr: sentinel-1-rtc", "opening has no 'sensr'; did you mean 'sensor'"),
        ("settings:\n", "settings:\n  seed: 3\n", "name all of them in seeds"),
        ("settings:\n", "settings:\n  tree: 3\n", "unknown key 'tree'; did you mean 'trees'"),
        ("recipe: pixel_forest", "recipe: forest", "at recipe"),
    ],
)
def test_a_table_that_makes_no_sense_is_refused(geoseg: Callable[..., Ran], ground: Path, old: str, new: str, said: str) -> None:
    text = (ground / "table.yaml").read_text(encoding="utf-8")
    assert old in text
    (ground / "table.yaml").write_text(text.replace(old, new, 1), encoding="utf-8")
    assert said in refusal(geoseg, ground, "benchmark", "dg", "table.yaml", "-o", "out")


def test_a_row_that_is_not_in_the_table_is_refused(geoseg: Callable[..., Ran], ground: Path) -> None:
    assert "has no row 'sta'; did you mean 'stay'" in refusal(geoseg, ground, "benchmark", "dg", "table.yaml", "-o", "o", "--only", "sta")
    assert "cannot be read" in refusal(geoseg, ground, "benchmark", "dg", "absent.yaml", "-o", "o")
