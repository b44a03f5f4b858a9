"""Tasks on many machines: plain data to the workers of a Dask scheduler, plain data back, and a task whose worker dies goes to another."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from geoseg.errors import InputError, require
from geoseg.mapping.pipeline import usable_processors
from geoseg.mapping.processes import Function, Lost, Task

if TYPE_CHECKING:
    from distributed import Client

LOCAL = "local"
"""Stands for a scheduler and workers of this machine, which end with the command."""

_LOCAL_SETTINGS = {
    "distributed.scheduler.allowed-failures": 2,  # so many workers may die with a task before it counts as lost
    "distributed.deploy.lost-worker-timeout": "1 day",  # else a worker that is slow to start again is given up, and perhaps the last one
}
"""Of a scheduler on this machine; others have their own."""

_CONNECT_S = 30


@contextmanager
def connected(address: str, jobs: int | None = None) -> Iterator[Client]:
    """A client of the Dask scheduler at this address, or of one for this block with `jobs` worker processes where it is `local`.

    MissingExtraError where Dask is not installed, InputError where no scheduler answers.
    """
    distributed, dask = require("distributed", extra="cluster"), require("dask", extra="cluster")
    if address == LOCAL:
        workers = {"n_workers": jobs or usable_processors(), "threads_per_worker": 1, "processes": True}
        with (
            dask.config.set(_LOCAL_SETTINGS),
            distributed.LocalCluster(**workers, dashboard_address="127.0.0.1:0", silence_logs=logging.CRITICAL) as cluster,
            distributed.Client(cluster, set_as_default=False) as client,
        ):
            yield client
        return
    try:
        client = distributed.Client(address, timeout=_CONNECT_S, set_as_default=False)
    except (OSError, ValueError) as error:  # ValueError: no such protocol
        logging.getLogger("asyncio").addFilter(_not_late)
        said = " ".join(str(error).split())
        raise InputError(f"no Dask scheduler answers at {address} ({said}); give its tcp://host:port, or local for this machine") from error
    with client:
        yield client


def _not_late(record: logging.LogRecord) -> bool:
    """Not what a client that gave up leaves behind: its last attempt may time out when the failure was told already."""
    late = record.exc_info is not None and isinstance(record.exc_info[1], OSError)  # TimeoutError is one
    return not (late and "never retrieved" in record.getMessage())


def thread_count(client: Any) -> int:
    """How many tasks the workers do at once; 1 where there are none yet."""
    return sum(client.nthreads().values()) or 1


def run_tasks(function: Function, tasks: Iterable[Task], client: Client) -> Generator[tuple[Task, dict[str, Any] | Lost], None, None]:
    """Every task with its result, as they are ready, from the workers of a cluster.

    `function` must be importable there. A task whose worker dies is given to another, at most as often as the scheduler allows
    (`distributed.scheduler.allowed-failures`), and so is one whose result died with its worker: a task must bear being done twice.
    A task may be a scene, or any part of one.
    """
    as_completed = require("distributed", extra="cluster").as_completed
    given = {client.submit(_work, function, dict(task), pure=False): task for task in tasks}
    with client.as_current():
        ready = as_completed(list(given), raise_errors=False)
    for future in ready:
        task = given.pop(future)
        try:
            yield task, future.result()  # waits once more where the result died with its worker
        except Exception as error:  # Dask's own, or whatever the worker could not do
            yield task, Lost(_why(error))


def _work(function: Function, task: Task) -> dict[str, Any]:
    """What runs on a worker; its progress is told to nobody."""
    return function(task, lambda said: None)


def _why(error: BaseException) -> str:
    if type(error).__name__ in ("CancelledError", "FutureCancelledError"):
        return "the scheduler gave the task up; see its log"
    if type(error).__name__ == "KilledWorker":
        return "its workers died again and again, perhaps because the memory did not suffice: give them more, or fewer threads each"
    return f"the worker could not do it ({type(error).__name__}: {' '.join(str(error).split())})"
