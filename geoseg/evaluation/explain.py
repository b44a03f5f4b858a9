"""What each band, index and sensor contributed to a map: the map made again without it, and what that costs the winning class's score.

This is occlusion (Zeiler and Fergus, "Visualizing and understanding convolutional networks", ECCV 2014) over inputs instead of
places. A band is taken away by putting its usual number wherever it is valid, before indices are made of it; an index by putting
its mean. It says what this network made use of, not what the ground would tell another; bands that tell the same cover for one
another, and then each alone seems to count for little.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.io import DatasetReader
from rasterio.windows import Window

from geoseg.errors import InputError
from geoseg.io.atomic import atomic
from geoseg.io.blocks import BlockWriter
from geoseg.io.class_maps import class_profile, finish_class_map
from geoseg.io.cog import write_cog
from geoseg.io.opening import gdal_env
from geoseg.io.staging import Staging, check_free, move_results
from geoseg.layers.infill import with_infill
from geoseg.legend import Legend
from geoseg.mapping.network import open_network
from geoseg.mapping.plan import MapOptions, MapPlan, plan_map
from geoseg.mapping.rasters import Parts, join_strips, write_strips
from geoseg.mapping.rows import finished_strips
from geoseg.mapping.windows import area_of
from geoseg.models.package import ModelPackage, Output
from geoseg.scene import Scene

Progress = Callable[[int, int], None]
"""Called with the maps made and their number."""

LEAST_DROP = 0.02
"""What costs the winning class less score than this is not said to be what counted most."""
_NOTHING = "nothing alone"
_SILENT = 1e30
"""A standard deviation that makes of any value its mean."""
_SIDE = 2048
"""Of the windows in which maps are compared, in pixels; a multiple of the blocks that are written."""


@dataclass(frozen=True)
class Input:
    """Something that a network is told, and that can be taken away."""

    name: str
    kind: str
    """`band`, `index` or `sensor`."""
    roles: tuple[str, ...]
    """Bands that are taken away; none for an index, which goes alone."""


@dataclass(frozen=True)
class Explanation:
    """What the inputs of a network contributed to one map."""

    files: dict[str, Path]
    """`explain`: the loss of the winning class's score, a band for each input; `most`: the input whose loss is greatest; `report`: JSON."""
    rows: tuple[dict[str, Any], ...]
    """For each class and input: `class`, `input`, `kind`, `pixels` of the class in the full map, `score_loss` (mean loss of the class's
    score there, -1…1) and `changed_share` (0…1, of these pixels, that get another class)."""
    warnings: tuple[str, ...]


def inputs_of(package: ModelPackage) -> tuple[Input, ...]:
    """All that can be taken away from this package's network: bands, then indices, then all of radar or of optical where it has both."""
    preparation = package.preparation
    bands = [Input(need.role, "band", (need.role,)) for need in preparation.bands]
    indices = [Input(channel.name, "index", ()) for channel in preparation.channels if channel.kind == "index"]
    radar = tuple(need.role for need in preparation.bands if need.is_radar)
    others = tuple(need.role for need in preparation.bands if need.unit == "reflectance")
    sensors = [Input(name, "sensor", roles) for name, roles in (("radar", radar), ("optical", others)) if roles and radar and others]
    return (*bands, *indices, *sensors)


def explain(
    scene: Scene,
    package: ModelPackage,
    out: Path,
    *,
    options: MapOptions | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Explanation:
    """Map `scene` with and without each input of `package`, and write what each contributed into the folder `out`.

    As many maps are made as there are inputs, and one more; `options.aoi` keeps that short on large scenes. Memory is that of one map.
    Raises InputError for a package that maps no classes or a whole series, and where results are there already, OutputError where
    they cannot be written, and what `make_map` raises where scene and package do not fit.
    """
    output = next((one for one in package.outputs if one.kind == "classes"), None)
    if output is None or package.preparation.calendar is not None:
        what = "maps no classes" if output is None else "makes one map of a series of dates"
        raise InputError(f"{package.title} {what}; explaining takes a model that maps the classes of single dates")
    given = options or MapOptions()
    plan = plan_map(scene, package, replace(given, scores=True, picture=False, polygons=False, ensemble=(), zones=None, shape=None))
    names = {what: f"{scene.name}_explain{end}" for what, end in (("explain", ".tif"), ("most", "_most.tif"), ("report", ".json"))}
    check_free(out, [*names.values(), f"{scene.name}_explain_most.qml"], overwrite=overwrite)
    inputs = inputs_of(package)
    with gdal_env(), Staging(out) as work:
        full, done = _mapped(plan, work / "parts" / "full"), work / "done"
        without = []
        for number, one in enumerate(inputs, 1):
            if progress is not None:
                progress(number, len(inputs) + 1)
            without.append(_mapped(_plan_without(plan, one), work / "parts" / f"{number:03d}"))
        rows = _compare(plan, output, full, without, inputs, {what: done / name for what, name in names.items()}, work / "parts")
        _write_report(done / names["report"], plan, rows)
        if progress is not None:
            progress(len(inputs) + 1, len(inputs) + 1)
        move_results(done, out, last=names["report"])
    return Explanation({what: out / name for what, name in names.items()}, rows, plan.warnings)


def _plan_without(plan: MapPlan, one: Input) -> MapPlan:
    """The same plan in which the network is not told this."""
    if one.roles:
        return replace(plan, scene=with_infill(plan.scene, one.roles))
    preparation = plan.package.preparation
    channels = tuple(
        channel.model_copy(update={"std": _SILENT}) if channel.name == one.name else channel for channel in preparation.channels
    )
    changed = preparation.model_copy(update={"channels": channels})
    return replace(plan, package=plan.package.model_copy(update={"preparation": changed}))


def _mapped(plan: MapPlan, folder: Path) -> Parts:
    """The map's unfinished rasters in a folder."""
    parts = Parts(folder, plan)
    with gdal_env(plan.cache_mb), closing(finished_strips(plan, open_network(plan), area_of(plan))) as strips:
        for _ in write_strips(parts, strips):
            pass
    join_strips(parts, {})
    return parts


def _compare(
    plan: MapPlan, output: Output, full: Parts, without: Sequence[Parts], inputs: Sequence[Input], files: dict[str, Path], folder: Path
) -> tuple[dict[str, Any], ...]:
    """Write the rasters, window by window, and sum up the table."""
    legend = Legend.from_names([_NOTHING, *(one.name for one in inputs)], ["#bbbbbb", *_colours(len(inputs))])
    count = len(output.legend)
    pixels, lost, changed = np.zeros(count, np.int64), np.zeros((len(inputs), count)), np.zeros((len(inputs), count), np.int64)
    described = tuple(f"loss of score without {one.name}" for one in inputs)
    drops_form: dict[str, Any] = {"count": len(inputs), "dtype": np.float32, "nodata": float("nan"), "descriptions": described}
    with ExitStack() as stack:
        codes, scores = (stack.enter_context(rasterio.open(full.path(name))) for name in (output.name, f"{output.name}_scores"))
        others = [stack.enter_context(rasterio.open(parts.path(f"{output.name}_scores"))) for parts in without]
        drops = stack.enter_context(BlockWriter(folder / "drops.tif", plan.geobox, **drops_form))
        most = stack.enter_context(BlockWriter(folder / "most.tif", plan.geobox, **class_profile(legend)))
        for rows, cols in _windows(plan.geobox.shape.yx):
            window = Window.from_slices(rows, cols)
            winner, known = output.legend.to_indices(codes.read(1, window=window))
            before = _of_class(scores, window, winner)
            here = np.full((len(inputs), *winner.shape), np.nan, np.float32)
            pixels += np.bincount(winner[known], minlength=count)
            for number, file in enumerate(others):
                after = file.read(window=window)
                loss = before - np.take_along_axis(after, winner[np.newaxis], axis=0)[0] * np.float32(file.scales[0])
                here[number][known] = loss[known]
                lost[number] += np.bincount(winner[known], weights=loss[known], minlength=count)
                changed[number] += np.bincount(winner[known & (after.argmax(axis=0) != winner)], minlength=count)
            drops.write(rows, cols, here)
            greatest = np.where(known, here, -1.0)
            which = np.where(greatest.max(axis=0) >= LEAST_DROP, greatest.argmax(axis=0) + 1, 0)
            most.write(rows, cols, legend.to_codes(which, known)[np.newaxis])
    write_cog(folder / "drops.tif", files["explain"], kind="continuous")
    finish_class_map(folder / "most.tif", files["most"], legend)
    return tuple(
        {
            "class": output.legend.names[index],
            "input": one.name,
            "kind": one.kind,
            "pixels": int(pixels[index]),
            "score_loss": float(lost[number, index] / pixels[index]),
            "changed_share": float(changed[number, index] / pixels[index]),
        }
        for index in range(count)
        if pixels[index]
        for number, one in enumerate(inputs)
    )


def _of_class(scores: DatasetReader, window: Window, winner: NDArray[np.int64]) -> NDArray[np.float32]:
    """(row, col) score of each pixel's class."""
    stored: NDArray[Any] = np.take_along_axis(scores.read(window=window), winner[np.newaxis], axis=0)[0]
    return np.asarray(stored * np.float32(scores.scales[0]), np.float32)


def _windows(shape: tuple[int, int]) -> Iterator[tuple[slice, slice]]:
    for top in range(0, shape[0], _SIDE):
        for left in range(0, shape[1], _SIDE):
            yield slice(top, min(top + _SIDE, shape[0])), slice(left, min(left + _SIDE, shape[1]))


def _colours(count: int) -> list[str]:
    """Colours of geoseg's palette, over and over."""
    return [one.colour for one in Legend.from_names([str(number) for number in range(count)]).classes]


def _write_report(path: Path, plan: MapPlan, rows: Sequence[dict[str, Any]]) -> None:
    facts = {
        "scene": plan.scene.product_id or plan.scene.name,
        "model": f"{plan.package.name} sha256:{plan.package.checksum}",
        "how": "each input replaced by its usual value wherever it is valid, and the map made again",
        "least_loss_that_counts": LEAST_DROP,
        "inputs": list(rows),
    }
    with atomic(path) as part:
        part.write_text(json.dumps(facts, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
