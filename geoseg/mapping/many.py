"""Many scenes to maps: on this machine, one after the other or several at once, or on many; one that fails does not stop the others."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from geoseg import __version__
from geoseg.errors import GeosegError, InputError
from geoseg.mapping.bands import made_by_workers, package_of
from geoseg.mapping.finished import finished_already
from geoseg.mapping.make_map import make_map
from geoseg.mapping.pipeline import usable_processors
from geoseg.mapping.plan import MapOptions, plan_map
from geoseg.mapping.processes import Lost, Task, run_in_processes
from geoseg.mapping.record import option_files, read_summary
from geoseg.mapping.results import result_names
from geoseg.mapping.summary_table import SummaryTable
from geoseg.models.package import ModelPackage
from geoseg.scene import Scene
from geoseg.scenes.many import Shard, expand_sources, from_root, likely_name
from geoseg.scenes.open_scene import open_scene

if TYPE_CHECKING:
    from distributed import Client


@dataclass(frozen=True)
class SceneResult:
    """What became of one scene of many; plain data."""

    name: str
    source: str
    state: Literal["finished", "skipped", "failed"]
    """`skipped`: the map was there already, made of the same files with the same package and options."""
    error: str | None = None
    """Why it failed, in one sentence; None where it did not."""
    seconds: float = 0.0
    files: dict[str, str] = field(default_factory=dict)
    """What it is (`classes`, `item` …) → the file; empty for a failed scene."""
    summary: dict[str, Any] = field(default_factory=dict)
    """The map in figures, as its Item has them; empty for a failed scene."""
    warnings: tuple[str, ...] = ()


class Watch(Protocol):
    """Who wants to know how far many scenes are."""

    def under_way(self, source: str, name: str, done: int, total: int) -> None:
        """So many pixels of a scene are finished."""
        ...

    def ended(self, result: SceneResult, count: int, total: int) -> None:
        """A scene is done, one way or the other: the `count`-th of all."""
        ...


def map_scenes(
    sources: Iterable[str | Path],
    package: ModelPackage | str | Path,
    out: str | Path,
    *,
    options: MapOptions | None = None,
    opened_with: Mapping[str, Any] | None = None,
    jobs: int | None = None,
    cluster: str | None = None,
    shard: Shard | None = None,
    overwrite: bool = False,
    resume: bool = False,
    skip_finished: bool = False,
    watch: Watch | None = None,
) -> list[SceneResult]:
    """Map every scene of `sources` (as `expand_sources` takes them) with one package, and tell what became of each, in their order.

    A scene that fails is a result with its sentence, and the others go on. A map that is there already, of the same files, package
    and options, is skipped; another map of the same name is an error of that scene; what an earlier run left unfinished is gone on
    with. With `overwrite` all maps are made anew, or with `skip_finished` beside it only those that differ; an unfinished one is then
    begun anew unless `resume` is asked for.

    `jobs` processes map a scene each (None: this one, one scene after the other) and share the processors unless `options` say how
    many threads each has; in a script, call it under `if __name__ == "__main__":`. `cluster` is the address of a Dask scheduler, or
    `local`; paths are then those that the workers see. `shard` maps one part of the list. A table of all scenes, also those of earlier
    runs, is kept in `out`: `summary.parquet`, for a part `summary_0_of_4.parquet` and so on.

    Raises InputError where sources, package or options cannot be used, OutputError where the table cannot be written.

    >>> results = geoseg.map_scenes(["scene_2021-03-10.tif", "nowhere.tif"], "my_model", "maps")
    >>> [result.state for result in results]
    ['finished', 'failed']
    """
    out = Path(out)
    package = package if isinstance(package, ModelPackage) else ModelPackage.open(package)
    options = _with_threads(options or MapOptions(), jobs, cluster)
    named = expand_sources(sources, apart_from=out)
    if cluster is not None:  # its workers know nothing of this process's folder
        named, out = [from_root(source) for source in named], out.absolute()
    table = SummaryTable.open(out, shard)
    _check_jobs(jobs, cluster)
    doubled = _doubled(named, opened_with or {})
    chosen = named if shard is None else shard.of(named)
    common = {
        "geoseg": __version__,
        "model": str(package.path.absolute()),
        "checksum": package.checksum,
        "out": str(out),
        "options": dataclasses.asdict(options) | option_files(options),
        "opened_with": dict(opened_with or {}),
        "overwrite": overwrite,
        "resume": resume or not overwrite,
        "skip_finished": skip_finished or not overwrite,
    }
    results = {source: _failed(source, doubled[source]) for source in chosen if source in doubled}
    tasks = [common | {"source": source} for source in chosen if source not in doubled]
    try:
        for count, result in enumerate(results.values(), 1):
            _say(watch, result, count, len(chosen))
        for task, ended in _run(tasks, jobs or 1, cluster, watch):
            result = _failed(task["source"], ended.because) if isinstance(ended, Lost) else SceneResult(**ended)
            results[task["source"]] = result
            _say(watch, result, len(results), len(chosen))
    finally:
        if results:
            table.write(results.values(), package)
    return [results[source] for source in chosen]


def map_scene(task: Task, tell: Callable[[Any], None], *, client: Client | None = None) -> dict[str, Any]:
    """Map one scene, told in plain data, in whatever process this is; returns the fields of a SceneResult.

    `tell` is called with the scene's name, the finished and all pixels; the workers of `client` (None: this process) make the strips.
    What is wrong with the scene is told in the result.
    """
    began, source = time.perf_counter(), task["source"]
    name = likely_name(source)
    try:
        package = package_of(task)
        scene = open_scene(source, **task["opened_with"])
        name = scene.name
        result = _map_or_skip(scene, package, task, tell, client)
    except GeosegError as error:
        result = _failed(source, "; ".join((str(error), *getattr(error, "__notes__", ()))))
    except MemoryError:
        result = _failed(source, "the memory of this machine does not suffice; map fewer scenes at once (--jobs), or a part with --aoi")
    except Exception as error:  # whatever is wrong with this scene, the others go on
        said = " ".join(str(error).split())
        result = _failed(source, f"unexpected error, please report it ({type(error).__name__}: {said})")
    return dataclasses.asdict(replace(result, name=name, seconds=time.perf_counter() - began))


# ---------------------------------------------------------------- below: who maps, and how one scene is mapped


def _run(tasks: Sequence[Task], jobs: int, cluster: str | None, watch: Watch | None) -> Iterator[tuple[Task, dict[str, Any] | Lost]]:
    """Every task with its result, from this process, from several, or from a cluster."""

    def tell(task: Task, said: Any) -> None:
        if watch is not None:
            watch.under_way(task["source"], *said)

    if not tasks:
        return
    if cluster is not None:
        from geoseg.mapping.cluster import connected, run_tasks

        with connected(cluster, jobs) as client:
            if len(tasks) > 1:
                yield from run_tasks(map_scene, tasks, client)
            else:
                yield tasks[0], map_scene(tasks[0], partial(tell, tasks[0]), client=client)
    elif jobs > 1 and len(tasks) > 1:
        yield from run_in_processes(map_scene, tasks, jobs=jobs, tell=tell)
    else:
        for task in tasks:
            yield task, map_scene(task, partial(tell, task))


def _map_or_skip(scene: Scene, package: ModelPackage, task: Task, tell: Callable[[Any], None], client: Client | None) -> SceneResult:
    out, options = Path(task["out"]), MapOptions(**task["options"])
    if task["skip_finished"] and (out / f"{scene.name}.json").exists():
        plan = plan_map(scene, package, options)
        if finished_already(out, plan, task["opened_with"], replace=task["overwrite"]):
            files = {what: str(out / name) for what, name in result_names(plan).items()}
            return SceneResult(scene.name, task["source"], "skipped", files=files, summary=read_summary(Path(files["item"])))
    made = make_map(
        scene,
        package,
        out,
        options=options,
        overwrite=task["overwrite"],
        resume=task["resume"],
        opened_with=task["opened_with"],
        progress=lambda done, total: tell((scene.name, done, total)),
        strips=None if client is None else made_by_workers(client, task),
    )
    files = {what: str(path) for what, path in made.files.items()}
    return SceneResult(scene.name, task["source"], "finished", files=files, summary=made.summary, warnings=made.warnings)


def _failed(source: str, because: str) -> SceneResult:
    return SceneResult(likely_name(source), source, "failed", because)


def _doubled(sources: Sequence[str], opened_with: Mapping[str, Any]) -> dict[str, str]:
    """Source → why it is refused, for each whose results would have the names of an earlier one's."""
    likely = {source: likely_name(source) for source in sources}
    counts = Counter(likely.values())
    taken: dict[str, str] = {}
    refused = {}
    for source in sources:
        if counts[likely[source]] == 1:
            continue
        try:
            name = open_scene(source, **opened_with).name
        except GeosegError:
            continue  # it has no results
        if taken.setdefault(name, source) != source:
            refused[source] = f"another scene of this command is called {name} too; map it with another -o"
    return refused


def _check_jobs(jobs: int | None, cluster: str | None) -> None:
    if jobs is not None and jobs < 1:
        raise InputError(f"--jobs is {jobs}; expected 1 or more")
    if jobs is not None and cluster not in (None, "local"):
        raise InputError(
            f"--jobs counts processes of this machine, and the scheduler at {cluster} has workers of its own; leave --jobs out"
        )


def _with_threads(options: MapOptions, jobs: int | None, cluster: str | None) -> MapOptions:
    """The options with the share of the processors that each of several scenes at once has; a worker of a cluster has one."""
    if options.threads is not None or (cluster is None and jobs in (None, 1)):
        return options
    return replace(options, threads=1 if cluster is not None else max(1, usable_processors() // (jobs or 1)))


def _say(watch: Watch | None, result: SceneResult, count: int, total: int) -> None:
    if watch is not None:
        watch.ended(result, count, total)
