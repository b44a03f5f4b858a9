"""The command line as people and programs use it: what it prints, where results lie, and maps made again."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import sys
from pathlib import Path

import geopandas
import packages
import pytest
import rasterio
from command_line import contents, write
from shapely.geometry import box

from geoseg.cli import _without_dask
from geoseg.scene import sample_scene
from geoseg.scenes.open_scene import open_scene

GENERIC = ("--sensor", "generic")
PREDICT = ("predict", "scene.tif", *GENERIC, "--model", "model")


def results(folder: Path) -> dict[str, bytes | None]:
    """All results but the Item, which holds the time, as the table of many scenes does, and QGIS's project."""
    return {name: data for name, data in contents(folder).items() if not name.endswith((".json", ".qgz", ".parquet"))}


def test_people_get_a_summary(geoseg):
    ran = geoseg(*PREDICT, "-o", "out")
    assert (ran.code, ran.err) == (0, "")
    for word in (
        "not validated",
        "class 0",
        "km²",
        "observed: 100.0 % of the ground asked for",
        "megapixels",
        os.path.join("out", "scene.qgz"),
    ):
        assert word in ran.out


def test_info_says_the_bands_and_which_models_fit(geoseg):
    ran = geoseg("info", "scene.tif", *GENERIC, "--model", "model")
    assert (ran.code, ran.err) == (0, "")
    for word in ("60 rows x 60 columns, EPSG:32632", "red", "100.0 %", "band description", "\nfits: Test model", "\ndoes not fit: "):
        assert word in ran.out


def test_info_gives_programs_one_json_object(geoseg):
    ran = geoseg("info", "scene.tif", *GENERIC, "--model", "model", "--json")
    facts = json.loads(ran.out, parse_constant=pytest.fail)  # no NaN, which JSON does not know
    assert (ran.code, ran.err, ran.out.count("\n")) == (0, "", 1)
    assert [band["role"] for band in facts["bands"]] == ["red"]
    assert [model["fits"] for model in facts["models"]] == [False, True]


def test_predict_gives_programs_json_lines_that_end_in_the_result(geoseg):
    ran = geoseg(*PREDICT, "-o", "out", "--json")
    *progress, result = (json.loads(line, parse_constant=pytest.fail) for line in ran.out.splitlines())
    assert (ran.code, ran.err) == (0, "")
    assert progress[-1] == {"event": "progress", "scene": "scene", "done": 3600, "total": 3600}
    assert result["event"] == "result"
    assert result["summary"]["observed_share"] == 1
    assert all(Path(path).is_file() for path in result["files"].values())


def test_a_dry_run_tells_the_cost_and_writes_nothing(geoseg, place):
    before = contents(place)
    ran = geoseg(*PREDICT, "--dry-run")
    assert (ran.code, ran.err) == (0, "")
    for word in ("60 x 60 pixels in 1 tiles of 64", "MB of memory", "MB of disk", " s\n", "onnx fp32, 1 threads", "tiles in a call: 1"):
        assert word in ran.out
    facts = json.loads(geoseg(*PREDICT, "-o", "out", "--dry-run", "--json").out)
    assert facts["tiles"] == 1
    assert facts["memory_mb"] > 100
    assert {"disk_mb", "seconds", "threads", "batch"} <= facts.keys()
    assert contents(place) == before


def test_a_scene_whose_sample_is_empty_is_still_mapped(geoseg, place):
    write(place / "scene.tif", side=1100, fill=0, nodata=0)
    with rasterio.open(place / "scene.tif", "r+") as file:
        file.write(pixel := file.read(1, window=((0, 1), (0, 1))) + 150, 1, window=((400, 401), (400, 401)))
    assert not sample_scene(open_scene(place / "scene.tif", sensor="generic"), ["red"]).valid.any()
    packages.threshold_package(place / "large", tile=512, overlap=0)
    assert geoseg("predict", "scene.tif", *GENERIC, "--model", "large", "-o", "out").code == 0
    with rasterio.open(place / "out/scene_classes.tif") as file:
        assert (file.read(1)[400, 400], (file.read_masks(1) > 0).sum()) == (pixel > 100, 1)


def test_one_broken_scene_of_several_does_not_stop_the_others(geoseg, place):
    write(place / "other.tif")
    (place / "broken.tif").write_text("hello")
    ran = geoseg("predict", "scene.tif", "broken.tif", "other.tif", *GENERIC, "--model", "model", "-o", "out")
    assert ran.code == 3
    assert ran.sentence.startswith("geoseg: broken.tif: ")
    assert {path.name for path in (place / "out").glob("*_classes.tif")} == {"scene_classes.tif", "other_classes.tif"}


def test_what_is_wrong_for_all_scenes_is_said_once(geoseg, place):
    write(place / "other.tif")
    for wrong in (("--model", "nothing"), ("--model", "model", "--resolution", "0"), ("--model", "model", "--batch", "x")):
        ran = geoseg("predict", "scene.tif", "other.tif", *GENERIC, *wrong, "-o", "out")
        assert (ran.code, ran.sentence.count("geoseg: ")) == (2, 1)


def test_scenes_of_one_name_do_not_replace_each_other(geoseg, place):
    (place / "later").mkdir()
    write(place / "later/scene.tif", fill=150)
    ran = geoseg("predict", "scene.tif", "later/scene.tif", *GENERIC, "--model", "model", "--overwrite", "-o", "out")
    assert (ran.code, "another scene" in ran.sentence) == (3, True)
    assert geoseg(*PREDICT, "-o", "alone").code == 0
    assert results(place / "out") == results(place / "alone")


def test_overwrite_replaces_results_and_leaves_other_files(geoseg, place):
    assert geoseg(*PREDICT, "-o", "out").code == 0
    first = results(place / "out")
    (place / "out/notes.txt").write_text("mine")
    write(place / "scene.tif", fill=150)
    assert geoseg(*PREDICT, "-o", "out", "--overwrite").code == 0
    second = results(place / "out")
    assert second.pop("notes.txt") == b"mine"
    assert second.keys() == first.keys()
    assert second["scene_classes.tif"] != first["scene_classes.tif"]


@pytest.mark.parametrize("words", [(), ("--min-area-m2", "500", "--simplify-m", "5", "--scores"), ("--aoi", "aoi.gpkg|layername=field")])
def test_a_map_made_again_is_the_same_byte_for_byte(geoseg, place, monkeypatch, words):
    geopandas.GeoDataFrame(geometry=[box(500_100, 4_999_500, 500_500, 4_999_900)], crs="EPSG:32632").to_file(
        place / "aoi.gpkg", layer="field"
    )
    assert geoseg(*PREDICT, *words, "-o", "out").code == 0
    (place / "elsewhere").mkdir()
    monkeypatch.chdir(place / "elsewhere")
    ran = geoseg("predict", "--again", "../out/scene.json", "-o", "again")
    assert (ran.code, ran.sentence) == (0, "the same as the first map, byte for byte")
    assert results(Path("again")) == results(place / "out")


def test_a_stack_of_files_is_one_scene_and_can_be_made_again(geoseg, place):
    write(place / "a_red.tif", roles=("red",))
    write(place / "a_nir.tif", roles=("nir",))
    packages.per_pixel_package(place / "two", ["red", "nir"], [[0.02, -0.03], [-0.01, 0.02]])
    assert geoseg("predict", "a_red.tif", "a_nir.tif", "--stack", "--bands", "red,nir", "--model", "two", "-o", "out").code == 0
    item = json.loads((place / "out/a_red.json").read_text(encoding="utf-8"))
    assert item["properties"]["geoseg:run"]["command"][2:5] == ["a_red.tif", "a_nir.tif", "--stack"]
    assert geoseg("predict", "--again", "out/a_red.json", "-o", "again").code == 0
    assert results(place / "again") == results(place / "out")


def test_the_command_in_the_item_makes_the_same_map(geoseg, place):
    assert geoseg(*PREDICT, "--overlap", 32, "--mask-classes", "none", "--no-picture", "--resolution", 20, "-o", "out").code == 0
    item = json.loads((place / "out/scene.json").read_text(encoding="utf-8"))
    assert geoseg(*item["properties"]["geoseg:run"]["command"][1:], "-o", "again").code == 0
    assert results(place / "again") == results(place / "out")


def touch(path):
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")


def lengthen(path):
    path.write_bytes(path.read_bytes() + b"\0")


def exchange(package):
    package.rename(package.with_name("old"))
    packages.threshold_package(package, threshold=50)


CHANGES = {
    "scene touched": ("scene.tif", touch, "its checksum differs"),
    "scene longer": ("scene.tif", lengthen, "bytes, then"),
    "scene gone": ("scene.tif", Path.unlink, "no such file"),
    "another package": ("model", exchange, "no longer the package that made the map"),
    "package gone": ("model", shutil.rmtree, "there is no model package"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_differs_is_named_where_a_map_cannot_be_made_again(geoseg, place, name):
    what, change, says = CHANGES[name]
    assert geoseg(*PREDICT, "-o", "out").code == 0
    change(place / what)
    before = contents(place)
    ran = geoseg("predict", "--again", "out/scene.json", "-o", "again")
    assert ran.code == 2
    assert str(place / what) in ran.sentence
    assert says in ran.sentence
    assert contents(place) == before


def test_a_map_that_comes_out_otherwise_is_said_so(geoseg, place):
    assert geoseg(*PREDICT, "-o", "out").code == 0
    path = place / "out/scene.json"
    item = json.loads(path.read_text(encoding="utf-8"))
    item["assets"]["classes"]["file:checksum"] = "1220" + 64 * "0"
    item["properties"]["processing:software"]["gdal"] = "1.0"
    path.write_text(json.dumps(item), encoding="utf-8")
    ran = geoseg("predict", "--again", "out/scene.json", "-o", "again")
    assert ran.code == 1
    assert ran.sentence.startswith("not the same as the first map: classes; the software differs: gdal: 1.0 → ")


def test_an_item_cannot_write_outside_the_folder(geoseg, place):
    assert geoseg(*PREDICT, "-o", "out").code == 0
    path = place / "out/scene.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | {"id": "../../elsewhere"}), encoding="utf-8")
    ran = geoseg("predict", "--again", "out/scene.json", "-o", "again")
    assert (ran.code, "not the Item of a map" in ran.sentence) == (2, True)


def test_debug_shows_where_an_error_was_raised_and_keeps_the_code(geoseg):
    ran = geoseg("--debug", "predict", "nothing.tif", "-o", "out")
    assert ran.code == 2
    assert "Traceback" in ran.err
    assert "opening.py" in ran.err
    assert ran.err.splitlines()[-1].startswith("geoseg: no such file: nothing.tif")


@pytest.mark.parametrize(
    ("error", "says"), [(MemoryError(), "memory"), (ZeroDivisionError("a\nb"), "please report it (ZeroDivisionError: a b)")]
)
def test_what_nobody_expected_is_one_sentence_too(geoseg, monkeypatch, error, says):
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("geoseg.mapping.make_map.make_map", fail)
    ran = geoseg(*PREDICT, "-o", "out")
    assert (ran.code, says in ran.sentence) == (1, True)


@pytest.mark.parametrize("words", [("--help",), ("predict", "--help"), ("train", "--help"), ("--version",), ("sensors",), ("data", "list")])
def test_asking_for_help_is_no_error(geoseg, words):
    ran = geoseg(*words)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.strip()


@pytest.mark.parametrize(("words", "hidden"), [(["predict", "scene.tif"], True), (["predict", "scene.tif", "--cluster=local"], False)])
def test_dask_is_out_of_sight_only_while_a_command_needs_none(monkeypatch, words, hidden):
    monkeypatch.delitem(sys.modules, "dask", raising=False)
    monkeypatch.setattr(sys, "argv", ["geoseg", *words])
    with _without_dask():
        assert ("dask" in sys.modules) is hidden
        if hidden:
            with pytest.raises(ImportError):
                importlib.import_module("dask")
    assert "dask" not in sys.modules
