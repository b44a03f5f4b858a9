"""Scenes on a real Dask scheduler with workers in processes of their own, of which one is killed."""

from __future__ import annotations

import logging
import multiprocessing
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import geopandas
import packages
import pytest
from command_line import write
from dying_tasks import double

from geoseg import __version__
from geoseg.mapping.bands import made_by_workers
from geoseg.mapping.cluster import connected, run_tasks
from geoseg.mapping.make_map import MapOptions, make_map
from geoseg.mapping.processes import Lost, Task
from geoseg.models.package import ModelPackage
from geoseg.scenes.open_scene import open_scene

distributed = pytest.importorskip("distributed", reason="the extra cluster brings it")

pytestmark = pytest.mark.enable_socket  # of this machine only

GENERIC = ("--sensor", "generic", "--model", "net")
SCENES = 4
PATIENCE_S = 60
WORKER = ("-m", "distributed.cli.dask_worker", "--host", "127.0.0.1", "--nthreads", "1", "--no-nanny", "--no-dashboard")


@pytest.fixture
def cluster(place: Path) -> Iterator[str]:
    """The address of a scheduler with two workers of one thread each, processes that end with the test."""
    packages.neighbourhood_package(place / "net", 9, tile=64, overlap=32)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (Path(__file__).parent, Path(__file__).parents[1])))}
    with (
        distributed.LocalCluster(n_workers=0, processes=False, host="127.0.0.1", protocol="tcp://", dashboard_address=None) as scheduler,
        distributed.Client(scheduler, set_as_default=False) as client,
    ):
        words = [sys.executable, *WORKER, "--preload", "geoseg.mapping.many", "--preload", "dying_worker", scheduler.scheduler_address]
        started = [
            subprocess.Popen(words, cwd=place, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for _ in range(2)
        ]
        try:
            client.wait_for_workers(2, timeout=PATIENCE_S)
            yield scheduler.scheduler_address
        finally:
            for process in started:
                process.kill()
            for process in started:
                process.wait(PATIENCE_S)


def pixels(folder: Path) -> dict[str, bytes]:
    """What the maps in a folder hold: every result but those that tell the time, or are QGIS's own."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix not in (".json", ".qgz", ".parquet")}


def one_died(address: str, place: Path) -> bool:
    """Whether the worker that was to die did, and the scheduler is left with the other one."""
    with distributed.Client(address, set_as_default=False) as client:
        return not (place / "dies_after").exists() and len(client.scheduler_info()["workers"]) == 1


def test_bands_of_one_scene_are_the_map_of_one_process_although_a_worker_was_killed(cluster: str, place: Path, geoseg) -> None:
    write(place / "scene_large.tif", side=400)
    assert geoseg("predict", "scene_large.tif", *GENERIC, "-o", "alone").code == 0
    (place / "dies_after").write_text("3")  # the second band of that worker is cut in its middle
    ran = geoseg("predict", "scene_large.tif", *GENERIC, "-o", "out", "--cluster", cluster)
    assert ran.code == 0, ran.err
    assert one_died(cluster, place)
    assert pixels(place / "out") == pixels(place / "alone")
    assert not [path for path in (place / "out").iterdir() if path.name.startswith(".")]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_every_scene_is_there_once_although_a_worker_was_killed(cluster: str, place: Path, geoseg, seed: int) -> None:
    for name in range(SCENES):
        write(place / f"scene{name}.tif", side=200)
    assert geoseg("predict", "scene[0-9].tif", *GENERIC, "-o", "alone").code == 0
    (place / "dies_after").write_text(str(random.Random(seed).randint(1, 10)))
    ran = geoseg("predict", "scene[0-9].tif", *GENERIC, "-o", "out", "--cluster", cluster)
    assert ran.code == 0, ran.err
    assert one_died(cluster, place)
    assert f"{SCENES} scenes: {SCENES} finished" in ran.out
    assert pixels(place / "out") == pixels(place / "alone")
    assert not [path for path in (place / "out").iterdir() if path.name.startswith(".")]
    rows = geopandas.read_parquet(place / "out/summary.parquet")
    assert sorted(rows["name"]) == [f"scene{name}" for name in range(SCENES)]


def test_strips_that_are_on_the_disk_are_not_made_again(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packages.neighbourhood_package(place / "net", 9, tile=64, overlap=32)
    write(place / "scene.tif", side=200)

    def run_twice(function, tasks, client):
        """Every band twice, as where a worker's answer was lost; the second time there is no network."""
        for task in tasks:
            first = function(task, print)
            with monkeypatch.context() as patch:
                patch.setattr("geoseg.mapping.bands.open_network", None)
                assert function(task, print) == first
            yield task, first

    monkeypatch.setattr("geoseg.mapping.bands.thread_count", lambda client: 1)
    monkeypatch.setattr("geoseg.mapping.bands.run_tasks", run_twice)
    package, generic = ModelPackage.open("net"), {"sensor": "generic"}
    task = {"geoseg": __version__, "source": "scene.tif", "opened_with": generic, "model": "net", "checksum": package.checksum}
    workers = made_by_workers(None, task | {"options": asdict(MapOptions())})
    made = make_map(open_scene("scene.tif", **generic), package, place / "out", opened_with=generic, strips=workers)
    assert made.summary["observed_share"] == 1


def dies(task: Task, tell: Callable[[object], None]) -> dict[str, int]:
    """What a client hears where workers died, and where a worker cannot do what it is asked to."""
    if task["number"] == 1:
        raise distributed.scheduler.KilledWorker("task", SimpleNamespace(address="tcp://worker"), 3)
    if task["number"] == 2:
        raise ModuleNotFoundError("No module named 'geoseg'")
    return {"same": task["number"]}


def test_a_task_without_a_result_is_lost_and_the_others_are_done() -> None:
    with distributed.Client(processes=False, n_workers=1, threads_per_worker=1, dashboard_address=None, set_as_default=False) as client:
        ended = {task["number"]: result for task, result in run_tasks(dies, [{"number": number} for number in range(4)], client)}
    assert (ended[0], ended[3]) == ({"same": 0}, {"same": 3})
    assert isinstance(ended[1], Lost)
    assert "died again and again" in ended[1].because
    assert ended[2] == Lost("the worker could not do it (ModuleNotFoundError: No module named 'geoseg')")


def test_workers_of_this_machine_are_started_and_ended(tmp_path: Path) -> None:
    tasks = [{"number": number, "folder": str(tmp_path)} for number in range(3)]
    with connected("local", 1) as client:
        assert {task["number"]: result for task, result in run_tasks(double, tasks, client)} == {n: {"double": 2 * n} for n in range(3)}
    assert not multiprocessing.active_children()


def test_a_scheduler_that_is_not_there_is_said_so(geoseg, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geoseg.mapping.cluster._CONNECT_S", 0.2)
    ran = geoseg("predict", "scene.tif", "--sensor", "generic", "--model", "model", "-o", "out", "--cluster", "tcp://127.0.0.1:9")
    assert (ran.code, "no Dask scheduler answers at tcp://127.0.0.1:9" in ran.sentence) == (2, True)
    ran = geoseg("predict", "scene.tif", "--sensor", "generic", "--model", "model", "-o", "out", "--cluster", "nonsense://x")
    assert (ran.code, "no Dask scheduler answers at nonsense://x" in ran.sentence) == (2, True)


@pytest.mark.parametrize(
    ("error", "text", "told"),
    [
        (TimeoutError(), "exception was never retrieved", False),
        (ValueError(), "exception was never retrieved", True),
        (TimeoutError(), "slow", True),
    ],
)
def test_only_what_a_client_leaves_behind_is_kept_quiet(error: Exception, text: str, told: bool) -> None:
    from geoseg.mapping.cluster import _not_late

    record = logging.LogRecord("asyncio", logging.ERROR, "", 0, text, None, (type(error), error, None))
    assert _not_late(record) == told
