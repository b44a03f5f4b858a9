"""Many scenes: named by patterns, lists and catalogues, mapped in several processes, once, and told in one table."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil

import geopandas
import numpy as np
import packages
import pytest
import rasterio
from command_line import contents, write
from dying_tasks import double
from stac_files import catalog, collection_of, item, write_json

from geoseg.errors import InputError
from geoseg.mapping.many import map_scenes
from geoseg.mapping.processes import Lost, run_in_processes
from geoseg.scenes.many import Shard, expand_sources, likely_name

GENERIC = ("--sensor", "generic", "--model", "model")
AS_GENERIC = {"sensor": "generic"}


def pixels(folder):
    """What the maps in a folder hold: every result but those that tell the time, or are QGIS's own."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix not in (".json", ".qgz", ".parquet")}


def table(folder, name="summary.parquet"):
    return geopandas.read_parquet(folder / name).set_index("name")


# ---------------------------------------------------------------- which scenes are meant


@pytest.fixture
def scenes(place):
    """Three scenes in a folder, of which names are in natural order 2, 9, 10, and one deeper down."""
    (place / "scenes" / "deep").mkdir(parents=True)
    for fill, name in enumerate(("tile2.tif", "tile10.tif", "tile9.tif", "deep/tile1.tif"), 1):
        write(place / "scenes" / name, fill=60 * fill)
    return place


def test_a_pattern_gives_its_files_in_natural_order(scenes):
    assert [os.path.basename(path) for path in expand_sources(["scenes/*.tif"])] == ["tile2.tif", "tile9.tif", "tile10.tif"]


def test_two_stars_look_into_folders(scenes):
    assert {os.path.basename(path) for path in expand_sources(["scenes/**/*.tif"])} == {"tile1.tif", "tile2.tif", "tile9.tif", "tile10.tif"}


def test_a_scene_named_twice_is_one(scenes):
    named = ["scenes/tile9.tif", "scenes/*.tif", "./scenes/tile2.tif", scenes / "scenes/tile10.tif"]
    assert [os.path.basename(path) for path in expand_sources(named)] == ["tile9.tif", "tile2.tif", "tile10.tif"]


def test_a_file_whose_name_looks_like_a_pattern_is_itself(place):
    write(place / "scene[1].tif")
    assert expand_sources(["scene[1].tif"]) == ["scene[1].tif"]


def test_addresses_stay_as_they_are(place):
    addresses = ["https://host/a?token=x[1]", "s3://bucket/b.tif", "/vsizip/c.zip/c.tif", 'NETCDF:"d.nc":red', "https://host/list.txt"]
    assert expand_sources(addresses) == addresses


def test_a_list_counts_paths_from_its_own_folder(scenes):
    words = "\ufeff# what was seen in May\n tile2.tif \n\ndeep/*.tif\nhttps://host/x.tif\n"
    (scenes / "scenes/list.txt").write_text(words, encoding="utf-8")
    expected = [os.path.join("scenes", "tile2.tif"), os.path.join("scenes", "deep", "tile1.tif"), "https://host/x.tif"]
    assert [os.path.normpath(path) if ":" not in path else path for path in expand_sources(["scenes/list.txt"])] == expected


def test_a_list_as_powershell_writes_it(scenes):
    (scenes / "scenes/list.txt").write_bytes("tile2.tif\r\ntile9.tif\r\n".encode("utf-16"))
    assert [os.path.basename(path) for path in expand_sources(["scenes/list.txt"])] == ["tile2.tif", "tile9.tif"]


def test_the_metadata_of_a_landsat_scene_is_no_list(place):
    (place / "LC08_MTL.txt").write_text("GROUP = L1_METADATA_FILE\n")
    assert expand_sources(["LC08_MTL.txt"]) == ["LC08_MTL.txt"]


def test_results_among_the_matches_are_left_out(scenes):
    (scenes / "scenes/out").mkdir()
    write(scenes / "scenes/out/tile2_classes.tif")
    everywhere = {os.path.basename(path) for path in expand_sources(["scenes/**/*.tif"], apart_from=scenes / "scenes/out")}
    assert "tile2.tif" in everywhere
    assert "tile2_classes.tif" not in everywhere
    assert len(expand_sources(["scenes/out/*.tif"], apart_from=scenes / "scenes/out")) == 1


def test_each_item_of_a_collection_is_a_scene(place, geoseg):
    (place / "data").mkdir()
    write(place / "data/a.tif", fill=150)
    write(place / "data/b.tif", fill=50)
    write_json(place / "found.json", collection_of(item("one", "data/a.tif"), item("two/x", "./data/b.tif")))
    assert expand_sources(["found.json"]) == ["found.json#one", "found.json#two%2Fx"]
    assert geoseg("predict", "found.json", *GENERIC, "-o", "out").code == 0
    shares = {name: row["km2_class 1"] > 0 for name, row in table(place / "out").iterrows()}
    assert shares == {"one": True, "x": False}
    again = geoseg("predict", "--again", "out/one.json", "-o", "again")
    assert (again.code, again.sentence) == (0, "the same as the first map, byte for byte")


def test_a_catalogue_leads_to_items_also_through_others(place):
    write_json(place / "all/catalog.json", catalog(("self", "catalog.json"), ("child", "./may/collection.json"), ("item", "x.json")))
    write_json(place / "all/may/collection.json", catalog(("parent", "../catalog.json"), ("item", "../y.json"), kind="Collection"))
    assert expand_sources(["all/catalog.json"]) == [str(place / "all/y.json"), str(place / "all/x.json")]


def test_an_item_by_itself_is_the_scene_that_it_was(place):
    write_json(place / "one.json", item("one", "scene.tif"))
    assert expand_sources(["one.json"]) == ["one.json"]


NOT_SCENES = {
    "nothing matches": ("scenes/*.jp2", lambda place: None, "no file or folder matches scenes/*.jp2"),
    "an empty list": ("list.txt", lambda place: (place / "list.txt").write_text("# none\n"), "list.txt names no scene"),
    "a list of itself": ("list.txt", lambda place: (place / "list.txt").write_text("./list.txt\n"), "leads back to itself"),
    "a list in Latin-1": ("list.txt", lambda place: (place / "list.txt").write_bytes(b"\xe4.tif\n"), "not a text file in UTF-8"),
    "a pattern of addresses": ("s3://bucket/*.tif", lambda place: None, "patterns match files of this machine only"),
    "a collection of nothing": ("c.json", lambda place: write_json(place / "c.json", collection_of()), "without features"),
    "features that are no Items": (
        "c.geojson",
        lambda place: write_json(place / "c.geojson", collection_of({"type": "Feature", "properties": {}})),
        "holds features that are no STAC Items",
    ),
    "two Items of one name": (
        "c.json",
        lambda place: write_json(place / "c.json", collection_of(item("a", "x.tif"), item("a", "y.tif"))),
        "holds two different Items called a",
    ),
    "a catalogue of nothing": ("c.json", lambda place: write_json(place / "c.json", catalog()), "leads to no Item"),
    "a catalogue of itself": ("c.json", lambda place: write_json(place / "c.json", catalog(("child", "c.json"))), "leads back to itself"),
    "a catalogue elsewhere": (
        "c.json",
        lambda place: write_json(place / "c.json", catalog(("child", "https://host/c.json"))),
        "no file of this",
    ),
}


@pytest.mark.parametrize("what", NOT_SCENES)
def test_what_names_no_scene_is_refused_in_one_sentence(geoseg, place, what):
    word, prepare, says = NOT_SCENES[what]
    prepare(place)
    ran = geoseg("predict", word, *GENERIC, "-o", "out")
    assert (ran.code, says in ran.sentence) == (2, True), ran.err
    assert not (place / "out").exists()


def test_the_likely_name_is_the_name(scenes):
    write_json(scenes / "found.json", collection_of(item("one", "scene.tif")))
    write_json(scenes / "other.json", item("two", "scene.tif"))
    named = ["scenes/tile2.tif", "found.json#one", "other.json", "scene.tif"]
    results = map_scenes(named, "model", "out", opened_with=AS_GENERIC)
    assert [likely_name(source) for source in named] == [result.name for result in results]


# ---------------------------------------------------------------- parts of a list


@pytest.mark.parametrize("parts", [1, 2, 3, 7, 20])
@pytest.mark.parametrize("count", [0, 1, 6, 17])
def test_parts_share_nothing_and_are_everything(parts, count):
    shares = [Shard.parse(f"{part}/{parts}").of(list(range(count))) for part in range(parts)]
    assert sorted(number for share in shares for number in share) == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize(("text", "says"), [("4/4", "0/4 to 3/4"), ("1", "expected PART/PARTS"), ("-1/4", "counted from 0"), ("0/0", "0")])
def test_a_part_that_is_none_is_refused_with_the_convention(geoseg, text, says):
    ran = geoseg("predict", "scene.tif", *GENERIC, "-o", "out", f"--shard={text}")
    assert (ran.code, says in ran.sentence, "--shard" in ran.sentence) == (2, True, True), ran.err


def test_shards_map_each_scene_once_and_keep_a_table_each(geoseg, scenes):
    for part in range(2):
        assert geoseg("predict", "scenes/*.tif", *GENERIC, "-o", "out", "--shard", f"{part}/2").code == 0
    shares = [set(table(scenes / "out", f"summary_{part}_of_2.parquet").index) for part in range(2)]
    assert shares == [{"tile2", "tile10"}, {"tile9"}]
    ran = geoseg("predict", "scene.tif", *GENERIC, "-o", "none", "--shard", "1/2")
    assert (ran.code, "nothing to do" in ran.out, (scenes / "none").exists()) == (0, True, False)


# ---------------------------------------------------------------- once and not again


def test_what_is_finished_and_unchanged_is_skipped(geoseg, scenes):
    assert geoseg("predict", "scenes/*.tif", *GENERIC, "-o", "out").code == 0
    before = {path: path.stat().st_mtime_ns for path in (scenes / "out").iterdir() if path.suffix != ".parquet"}
    write(scenes / "scenes/tile11.tif")
    shutil.move(scenes / "scenes", scenes / "elsewhere")
    ran = geoseg("predict", "elsewhere/*.tif", *GENERIC, "--threads", 1, "-o", "out")
    assert (ran.code, "4 scenes: 1 finished, 3 skipped" in ran.out) == (0, True), ran.err
    assert all(path.stat().st_mtime_ns == then for path, then in before.items())
    assert dict(table(scenes / "out")["state"]) == {"tile2": "skipped", "tile9": "skipped", "tile10": "skipped", "tile11": "finished"}


def other_package(place):
    shutil.rmtree(place / "model")
    packages.threshold_package(place / "model", threshold=50)


def other_version(place):
    path = place / "out/tile2.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"geoseg": "', '"geoseg": "0.0.'), encoding="utf-8")


CHANGES = {
    "the scene": (lambda place: write(place / "scenes/tile2.tif", fill=61), (), "tile2.tif is not what it was made of"),
    "its size": (lambda place: (place / "scenes/tile2.tif").open("ab").write(b"\0"), (), "tile2.tif is not what it was made of"),
    "the package": (other_package, (), "another model package"),
    "an option": (lambda place: None, ("--overlap", 32), "--overlap was None and is 32"),
    "what it is read as": (lambda place: None, ("--bands", "red"), "opened with other words"),
    "geoseg": (other_version, (), "it was made by geoseg 0.0."),
    "a result is gone": (lambda place: (place / "out/tile2.gpkg").unlink(), (), "tile2.gpkg is no longer there"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_another_map_of_that_name_is_refused_with_what_differs(geoseg, scenes, what):
    change, words, says = CHANGES[what]
    assert geoseg("predict", "scenes/tile2.tif", *GENERIC, "-o", "out").code == 0
    change(scenes)
    before = contents(scenes / "out")
    ran = geoseg("predict", "scenes/tile2.tif", *GENERIC, *words, "-o", "out", "--skip-finished")
    assert ran.code == 3
    assert "out holds another map called tile2: " in ran.sentence
    assert says in ran.sentence
    assert {name: data for name, data in contents(scenes / "out").items() if name != "summary.parquet"} == before
    assert geoseg("predict", "scenes/tile2.tif", *GENERIC, *words, "-o", "out", "--skip-finished", "--overwrite").code == 0


def test_overwriting_makes_all_anew_or_only_what_differs(geoseg, scenes):
    predict = ("predict", "scenes/tile2.tif", "scenes/tile9.tif", *GENERIC, "-o", "out", "--overwrite")
    assert "2 finished" in geoseg(*predict).out
    write(scenes / "scenes/tile9.tif", fill=61)
    assert "1 finished, 1 skipped" in geoseg(*predict, "--skip-finished").out
    assert "2 finished" in geoseg(*predict).out


def test_a_single_scene_is_refused_as_ever_or_skipped_if_asked(geoseg, scenes):
    assert geoseg("predict", "scene.tif", *GENERIC, "-o", "out").code == 0
    assert not (scenes / "out/summary.parquet").exists()
    assert (ran := geoseg("predict", "scene.tif", *GENERIC, "-o", "out")).code == 2, ran.out
    assert "1 skipped" in geoseg("predict", "scene.tif", *GENERIC, "-o", "out", "--skip-finished").out


def test_a_map_corrected_by_hand_is_finished(geoseg, scenes):
    predict = ("predict", "scenes/*.tif", *GENERIC, "-o", "out")
    assert geoseg(*predict).code == 0
    with rasterio.open(scenes / "out/tile2_classes.tif", "r+", IGNORE_COG_LAYOUT_BREAK="YES") as file:
        file.write(np.ones((60, 60), np.uint8), 1)
    assert "3 skipped" in geoseg(*predict).out


def test_an_unfinished_map_of_many_is_gone_on_with(geoseg, scenes, monkeypatch):
    from geoseg.mapping.journal import Journal

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "place", stop)
        ran = geoseg("predict", "scenes/*.tif", *GENERIC, "-o", "out")
    assert ran.code == 130
    monkeypatch.setattr("geoseg.mapping.journal.Journal.add", stop)  # no strip of it is computed again
    ran = geoseg("predict", "scenes/tile2.tif", *GENERIC, "-o", "out", "--skip-finished")
    assert (ran.code, "1 finished" in ran.out) == (0, True)
    assert not [path for path in (scenes / "out").iterdir() if path.name.startswith(".")]


def test_ctrl_c_ends_all_and_keeps_what_is_finished(geoseg, scenes, monkeypatch):
    from geoseg.mapping import many

    original = many.make_map

    def stop(scene, *words, **named):
        if scene.name == "tile9":
            raise KeyboardInterrupt
        return original(scene, *words, **named)

    monkeypatch.setattr(many, "make_map", stop)
    ran = geoseg("predict", "scenes/*.tif", *GENERIC, "-o", "out")
    assert ran.code == 130
    assert dict(table(scenes / "out")["state"]) == {"tile2": "finished"}
    assert [path.name for path in (scenes / "out").glob("*_classes.tif")] == ["tile2_classes.tif"]


# ---------------------------------------------------------------- what is told


def test_the_table_tells_of_each_scene_and_its_ground(geoseg, scenes):
    (scenes / "scenes/tile3.tif").write_text("hello")
    ran = geoseg("predict", "scenes/*.tif", *GENERIC, "-o", "out")
    assert ran.code == 3
    assert ran.sentence.startswith("geoseg: scenes/tile3.tif: ")
    rows = table(scenes / "out")
    assert list(rows.index) == ["tile3", "tile2", "tile9", "tile10"]
    failed, tile9 = rows.loc["tile3"], rows.loc["tile9"]
    assert (failed["state"], failed["error"] in ran.sentence, failed.geometry) == ("failed", True, None)
    assert (tile9["source"], tile9["item"], tile9["observed_share"], tile9["megapixels"]) == ("scenes/tile9.tif", "tile9.json", 1, 0.0036)
    assert (tile9["km2_class 0"], tile9["km2_class 1"]) == pytest.approx((0, 0.36), rel=1e-2)
    assert (rows.crs.to_epsg(), rows.to_crs(32632).loc["tile9"].geometry.area) == (4326, pytest.approx(360_000, rel=1e-3))


def test_rows_of_earlier_runs_stay(geoseg, scenes):
    assert geoseg("predict", "scenes/tile2.tif", "scenes/tile9.tif", *GENERIC, "-o", "out").code == 0
    assert geoseg("predict", "scenes/tile9.tif", "scenes/tile10.tif", *GENERIC, "-o", "out").code == 0
    assert dict(table(scenes / "out")["state"]) == {"tile2": "finished", "tile9": "skipped", "tile10": "finished"}


def test_a_table_of_somebody_else_is_not_replaced(geoseg, scenes):
    (scenes / "out").mkdir()
    (scenes / "out/summary.parquet").write_text("mine")
    ran = geoseg("predict", "scenes/*.tif", *GENERIC, "-o", "out")
    assert (ran.code, "is not a table of geoseg" in ran.sentence) == (2, True)
    assert contents(scenes / "out") == {"summary.parquet": b"mine"}


def test_programs_get_a_line_for_each_scene(geoseg, scenes):
    (scenes / "scenes/tile3.tif").write_text("hello")
    ran = geoseg("predict", "scenes/*.tif", *GENERIC, "-o", "out", "--json")
    results = [line for line in map(json.loads, ran.out.splitlines()) if line["event"] == "result"]
    states = dict.fromkeys(("tile2", "tile9", "tile10"), "finished") | {"tile3": "failed"}
    assert {line["name"]: line["state"] for line in results} == states
    assert [(line["count"], line["total"]) for line in results] == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_a_dry_run_of_many_tells_each_and_writes_nothing(geoseg, scenes):
    before = contents(scenes)
    ran = geoseg("predict", "scenes/*.tif", *GENERIC, "--dry-run", "--shard", "0/2")
    assert (ran.code, ran.out.count("MB of memory")) == (0, 2)
    assert contents(scenes) == before


@pytest.mark.parametrize("words", [("--jobs", 2), ("--shard", "0/2"), ("--cluster", "local"), ("--skip-finished",)])
def test_one_scene_of_several_files_cannot_be_spread(geoseg, words):
    ran = geoseg("predict", "scene.tif", *GENERIC, "--stack", *words, "-o", "out")
    assert (ran.code, words[0] in ran.sentence) == (2, True)


# ---------------------------------------------------------------- several processes


def test_several_processes_make_the_same_maps(geoseg, scenes):
    (scenes / "scenes/tile3.tif").write_text("hello")
    assert geoseg("predict", "scenes/*.tif", *GENERIC, "-o", "one").code == 3
    ran = geoseg("predict", "scenes/*.tif", *GENERIC, "-o", "two", "--jobs", 2)
    assert (ran.code, "4 scenes: 3 finished, 1 failed" in ran.out) == (3, True), ran.err
    assert ran.sentence.startswith("geoseg: scenes/tile3.tif: ")
    assert pixels(scenes / "two") == pixels(scenes / "one")


def test_too_few_processes_are_refused(geoseg):
    ran = geoseg("predict", "scene.tif", *GENERIC, "-o", "out", "--jobs", 0)
    assert (ran.code, "--jobs is 0; expected 1 or more" in ran.sentence) == (2, True)


def test_a_process_that_dies_takes_nothing_but_its_task(tmp_path, caplog):
    tasks = [{"number": number, "folder": str(tmp_path), "deaths": {1: 1, 2: 5}.get(number, 0)} for number in range(5)]
    told = []
    ended = {task["number"]: result for task, result in run_in_processes(double, tasks, jobs=2, tell=lambda task, said: told.append(said))}
    lost = ended.pop(2)
    assert ended == {number: {"double": 2 * number} for number in (0, 1, 3, 4)}
    assert isinstance(lost, Lost)
    assert "killed" in lost.because
    assert sorted(told) == [0, 1, 3, 4]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.0", "2.0", "2.1"]
    assert {record.getMessage() for record in caplog.records} >= {"at 0", "at 4"}


def test_processes_end_with_whoever_waits_for_them(tmp_path):
    tasks = [{"number": number, "folder": str(tmp_path)} for number in range(4)]
    ending = run_in_processes(double, tasks, jobs=2, tell=lambda task, said: None)
    next(ending)
    ending.close()
    assert not multiprocessing.active_children()


def test_python_gets_the_same_results(scenes):
    results = map_scenes(["scenes/*.tif"], "model", scenes / "out", opened_with=AS_GENERIC)
    assert [(result.name, result.state) for result in results] == [("tile2", "finished"), ("tile9", "finished"), ("tile10", "finished")]
    with pytest.raises(InputError, match="leave --jobs out"):
        map_scenes(["scenes/*.tif"], "model", scenes / "out", opened_with=AS_GENERIC, jobs=2, cluster="tcp://host:8786")
