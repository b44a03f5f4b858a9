"""A map that was stopped goes on where it was, and becomes the very map that it would have been."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import packages
import pytest
from command_line import write

from geoseg.io.working import WorkingFolder
from geoseg.mapping import plan as planning
from geoseg.mapping.make_map import make_map
from geoseg.mapping.plan import MapOptions, plan_map
from geoseg.mapping.rows import finished_strips
from geoseg.mapping.windows import Area
from geoseg.models.package import ModelPackage
from geoseg.runtimes.open_runtime import open_runtime
from geoseg.scenes.open_scene import open_scene

PREDICT = ("predict", "scene.tif", "--sensor", "generic", "--model", "net", "--scores", "--min-area-m2", "1000")
STRIPS = 7


def lay_out(folder):
    """A scene of seven strips and a network that sees its surroundings."""
    write(folder / "scene.tif", side=330)
    packages.neighbourhood_package(folder / "net", 5, tile=64, overlap=16)


@pytest.fixture
def stage(place):
    """The current folder, with scene and network."""
    lay_out(place)
    return place


def results(folder):
    """The bytes of every result but the two that tell the time or are QGIS's own."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix not in (".json", ".qgz")}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The results of `PREDICT`, made at once and from Python."""
    folder = tmp_path_factory.mktemp("undisturbed")
    lay_out(folder)
    options = MapOptions(scores=True, min_area_m2=1000)
    make_map(open_scene(folder / "scene.tif", sensor="generic"), ModelPackage.open(folder / "net"), folder / "whole", options=options)
    return results(folder / "whole")


def planned(**options):
    return plan_map(open_scene("scene.tif", sensor="generic"), ModelPackage.open("net"), MapOptions(**options))


def scores_of(plan, strips=None):
    """(number → scores) of the strips, copied."""
    runtime = open_runtime(plan.package)
    return {one.strip.number: one.scores["classes"].copy() for one in finished_strips(plan, runtime, Area(), strips)}


def stop_after(monkeypatch, strips, error):
    """Raise `error` once this many strips are in the journal."""
    from geoseg.mapping.journal import Journal

    add, seen = Journal.add, []

    def counted(self, facts):
        add(self, facts)
        seen.append(facts)
        if len(seen) == strips:
            raise error

    monkeypatch.setattr(Journal, "add", counted)


def test_a_strip_is_the_same_alone_as_among_all(stage):
    plan = planned()
    whole, strips = scores_of(plan), plan.tiles.strips
    for chosen in ([strips[4]], [strips[1], strips[2]], [strips[0], strips[5], strips[6]]):
        alone = scores_of(plan, chosen)
        assert list(alone) == [strip.number for strip in chosen]
        assert all((alone[number] == whole[number]).all() for number in alone)


def test_a_strip_without_the_tiles_above_it_would_not_be_the_same(stage, monkeypatch):
    plan = planned()
    whole = scores_of(plan)[4]
    monkeypatch.setattr(type(plan.tiles), "rows_reaching", lambda self, row: range(row, row + 1))
    assert not (scores_of(plan, [plan.tiles.strips[4]])[4] == whole).all()


def test_columns_cut_into_panels_change_no_bit(stage, monkeypatch):
    one_panel, whole = planned(), np.full((2, 330, 330), np.nan, np.float32)
    for name, value in (("_PANEL_MB", 0.01), ("_LEAST_TILES", 1)):
        monkeypatch.setattr(planning, name, value)
    plan, cut = planned(), whole.copy()
    assert (len(one_panel.tiles.panels), len(plan.tiles.panels)) == (1, 4)
    for target, source in ((whole, one_panel), (cut, plan)):
        for number, scores in scores_of(source).items():
            strip = source.tiles.strips[number]
            target[:, strip.rows, strip.panel.cols] = scores
    np.testing.assert_array_equal(cut, whole)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_map_does_not_depend_on_the_number_of_threads(stage, threads, undisturbed, geoseg):
    assert geoseg(*PREDICT, "--threads", threads, "-o", "out").code == 0
    assert results(stage / "out") == undisturbed


@pytest.mark.parametrize("error", [KeyboardInterrupt(), MemoryError(), OSError(28, "No space left on device")])
def test_what_was_finished_is_kept_and_gone_on_with(stage, undisturbed, geoseg, monkeypatch, error):
    with monkeypatch.context() as patch:
        stop_after(patch, 3, error)
        ran = geoseg(*PREDICT, "-o", "out")
    assert ran.code in (1, 130)
    assert f"3 of {STRIPS} strips are done and kept: the same command with --resume goes on" in ran.sentence
    assert [path.name for path in (stage / "out").iterdir()] == [".scene.geoseg"]
    done = geoseg(*PREDICT, "-o", "out", "--resume", "--json")
    progress = [json.loads(line)["done"] for line in done.out.splitlines() if '"progress"' in line]
    assert (done.code, len(progress)) == (0, STRIPS - 3)
    assert results(stage / "out") == undisturbed
    assert not (stage / "out" / ".scene.geoseg").exists()


def test_an_unfinished_map_is_neither_lost_nor_gone_on_with_unasked(stage, undisturbed, geoseg, monkeypatch):
    with monkeypatch.context() as patch:
        stop_after(patch, 2, KeyboardInterrupt())
        geoseg(*PREDICT, "-o", "out")
    ran = geoseg(*PREDICT, "-o", "out")
    assert ran.code == 2
    assert f"holds an unfinished map of scene, 2 of {STRIPS} strips done; go on with --resume" in ran.sentence
    assert geoseg(*PREDICT, "-o", "out", "--overwrite").code == 0
    assert results(stage / "out") == undisturbed


CHANGES = {
    "the scene": (lambda stage: write(stage / "scene.tif", side=330, fill=7), (), "another input files"),
    "the package": (lambda stage: (shutil.rmtree(stage / "net"), packages.neighbourhood_package(stage / "net", 4, tile=64, overlap=16)),
                    (), "another model package"),
    "an option": (lambda stage: None, ("--overlap", "32"), "--overlap (then None, now 32)"),
    "what the scene is read as": (lambda stage: None, ("--bands", "red"), "another way of opening the scene"),
}  # fmt: skip


@pytest.mark.parametrize("what", CHANGES)
def test_a_changed_plan_is_noticed_and_refused(stage, geoseg, monkeypatch, what):
    change, words, says = CHANGES[what]
    with monkeypatch.context() as patch:
        stop_after(patch, 2, KeyboardInterrupt())
        geoseg(*PREDICT, "-o", "out")
    change(stage)
    ran = geoseg(*PREDICT, *words, "-o", "out", "--resume")
    assert ran.code == 2
    assert "the unfinished map of scene in out was begun with" in ran.sentence
    assert says in ran.sentence
    assert (stage / "out" / ".scene.geoseg" / "journal.jsonl").exists()


def test_a_line_cut_short_and_a_damaged_part_are_made_again(stage, undisturbed, geoseg, monkeypatch):
    with monkeypatch.context() as patch:
        stop_after(patch, 4, KeyboardInterrupt())
        geoseg(*PREDICT, "-o", "out")
    work = stage / "out" / ".scene.geoseg"
    journal = (work / "journal.jsonl").read_bytes()
    (work / "journal.jsonl").write_bytes(journal[:-20])
    part = work / "parts" / "000001" / "classes.tif"
    part.write_bytes(part.read_bytes()[:-1] + b"?")
    done = geoseg(*PREDICT, "-o", "out", "--resume", "--json")
    assert sum('"progress"' in line for line in done.out.splitlines()) == STRIPS - 2
    assert results(stage / "out") == undisturbed


def test_a_second_run_of_the_same_map_is_refused(stage, geoseg):
    with WorkingFolder(stage / "out", "scene"):
        ran = geoseg(*PREDICT, "-o", "out", "--resume")
    assert (ran.code, "another process is making scene in out now" in ran.sentence) == (2, True)
    assert geoseg(*PREDICT, "-o", "out").code == 0


def test_results_that_were_being_put_in_place_take_their_places(stage, undisturbed, geoseg, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("geoseg.mapping.make_map.move_results", lambda *_, **__: signal.raise_signal(signal.SIGINT))
        assert geoseg(*PREDICT, "-o", "out").code == 130
    done = stage / "out" / ".scene.geoseg" / "done"
    (done / "scene_classes.tif").rename(stage / "out" / "scene_classes.tif")  # one of them had its place
    monkeypatch.setattr("geoseg.mapping.make_map.made_here", None)  # nothing is computed
    assert geoseg(*PREDICT, "-o", "out", "--resume").code == 0
    assert results(stage / "out") == undisturbed


def test_resuming_where_nothing_was_begun_maps_it(stage, undisturbed, geoseg):
    assert geoseg(*PREDICT, "-o", "out", "--resume").code == 0
    assert results(stage / "out") == undisturbed


# ---------------------------------------------------------------- a real process, killed without a warning


def killed(stage, *, after_strips, pause_s=0.0):
    """Begin the map in a process of its own, and kill it this long after so many strips."""
    words = ["geoseg", *PREDICT, "-o", "out", "--json", "--resume"]
    code = f"import sys\nsys.argv = {words!r}\nfrom geoseg.cli import main\nmain()"
    running = subprocess.Popen([sys.executable, "-c", code], cwd=stage, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert running.stdout is not None
    for _ in range(after_strips):
        running.stdout.readline()
    time.sleep(pause_s)
    running.kill()
    running.communicate(timeout=60)


@pytest.mark.parametrize("after_strips", [1, 4, 7])
def test_a_map_killed_at_three_points_is_the_same_in_the_end(stage, undisturbed, geoseg, after_strips):
    killed(stage, after_strips=after_strips)
    assert not list((stage / "out").glob("*.tif"))
    assert geoseg(*PREDICT, "-o", "out", "--resume").code == 0
    assert results(stage / "out") == undisturbed


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_a_map_killed_again_and_again_at_random_is_the_same_in_the_end(stage, undisturbed, geoseg, seed):
    chance = random.Random(seed)
    for _ in range(4):
        killed(stage, after_strips=chance.randrange(0, 3), pause_s=chance.random() * 1.5)
    ran = geoseg(*PREDICT, "-o", "out", "--resume", "--overwrite")
    assert ran.code == 0, ran.err
    assert results(stage / "out") == undisturbed
