"""One large scene on many machines: bands of its strips go to workers as plain data, and their parts into a shared folder."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geoseg import __version__
from geoseg.errors import GeosegError, InputError
from geoseg.layers.masks import MASK, with_mask
from geoseg.mapping.cluster import run_tasks, thread_count
from geoseg.mapping.journal import StripFacts
from geoseg.mapping.network import open_network
from geoseg.mapping.plan import MapOptions, MapPlan, plan_map
from geoseg.mapping.processes import Lost, Task
from geoseg.mapping.rasters import Parts, StripMaker, finished_parts, made_here
from geoseg.mapping.record import deciding_options, input_files
from geoseg.mapping.tiles import Strip
from geoseg.mapping.windows import area_of
from geoseg.models.package import ModelPackage
from geoseg.scenes.open_scene import open_scene

if TYPE_CHECKING:
    from distributed import Client

_BANDS_A_WORKER = 4
"""So many that the last ones end at about the same time."""
_LEAST_STRIPS = 2
"""A band computes the tiles that reach into its first strip from above once more; smaller ones would do little else."""


def made_by_workers(client: Client, scene: Task) -> StripMaker:
    """Strips made by the workers of a cluster, each once whatever dies; `scene` is the task of the whole scene, as `map_scene` takes it.

    All see the scene, the package and the folder of the results under the same paths. GeosegError where a band could not be made.
    """

    def make(parts: Parts, strips: Sequence[Strip]) -> Iterator[StripFacts]:
        size = max(_LEAST_STRIPS, -(-len(strips) // (_BANDS_A_WORKER * thread_count(client))))
        mask = str(parts.plan.scene.layer(MASK).path) if scene["options"]["cloud_model"] else None
        common = dict(scene) | {"parts": str(parts.folder.absolute()), "key": _key(parts.plan, mask), "mask": mask}
        bands = [[strip.number for strip in strips[first : first + size]] for first in range(0, len(strips), size)]
        for task, ended in run_tasks(map_band, [common | {"strips": band} for band in bands], client):
            if isinstance(ended, Lost):
                raise GeosegError(f"strips {task['strips'][0]} to {task['strips'][-1]} could not be made: {ended.because}")
            yield from (StripFacts(**facts) for facts in ended["strips"])

    return make


def map_band(task: Task, tell: Callable[[Any], None]) -> dict[str, Any]:
    """Make some strips of a scene, told in plain data, in whatever process this is; those that are on the disk are not made again."""
    package = package_of(task)
    plan = plan_map(open_scene(task["source"], **task["opened_with"]), package, MapOptions(**task["options"]))
    if _key(plan, None) != task["key"]:
        raise InputError(f"this worker sees another {task['source']} than the command, or other files of its options; share them all")
    area = area_of(plan)
    if task["mask"] is not None:
        plan = replace(plan, scene=with_mask(plan.scene, Path(task["mask"])))
    parts = Parts(Path(task["parts"]), plan)
    there = {number: facts for number in task["strips"] if (facts := finished_parts(parts, number)) is not None}
    missing = [plan.tiles.strips[number] for number in task["strips"] if number not in there]
    if missing:
        there |= {facts.number: facts for facts in made_here(open_network(plan), area)(parts, missing)}
    return {"strips": [dataclasses.asdict(there[number]) for number in task["strips"]]}


def package_of(task: Task) -> ModelPackage:
    """The task's package, if this process sees what the one that wrote the task saw."""
    if task["geoseg"] != __version__:
        raise InputError(f"this worker has geoseg {__version__}, the command {task['geoseg']}; install the same version on both")
    package = ModelPackage.open(task["model"])
    if package.checksum != task["checksum"]:
        raise InputError(f"{task['model']} is another model package here than when the command began; put the same one in its place")
    return package


def _key(plan: MapPlan, mask: str | None) -> str:
    """Stands for all that decides the pixels of a map, but for what is inside the files; those are told by name and size.

    `mask` is the cloud map that was made on the way, which does not count.
    """
    tiles = plan.tiles
    facts: Mapping[str, Any] = {
        "options": deciding_options(plan.options),
        "grid": [str(plan.geobox.crs), list(plan.geobox.affine), list(plan.geobox.shape)],
        "tiles": [tiles.tile, tiles.overlap, tiles.row_origins, tiles.col_origins, [panel.cols.stop for panel in tiles.panels]],
        "inputs": [(str(path.absolute()), path.stat().st_size) for path in input_files(plan) if str(path) != mask],
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
