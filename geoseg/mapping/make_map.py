"""From a scene and a model package to a map: the whole way in one function. Read this file first."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geoseg.errors import InputError, SceneError
from geoseg.io.class_maps import finish_class_map
from geoseg.io.cog import write_cog
from geoseg.io.damage import damage_warning, noted_blocks
from geoseg.io.feature_copies import copy_features
from geoseg.io.opening import gdal_env
from geoseg.io.qgis_styles import outlines_qml
from geoseg.io.staging import check_free, fresh_folder, move_results
from geoseg.io.vectors import write_polygons
from geoseg.io.working import WorkingFolder
from geoseg.mapping.clouds import masked_by_clouds, plan_clouds
from geoseg.mapping.conformal import set_legends
from geoseg.mapping.journal import Journal
from geoseg.mapping.network import open_network
from geoseg.mapping.opened import open_item, open_map, open_outlines
from geoseg.mapping.plan import MapOptions, MapPlan, plan_map
from geoseg.mapping.polygons import finish_polygons
from geoseg.mapping.rasters import Parts, StripMaker, finish_classes, finish_reason, join_strips, made_here
from geoseg.mapping.record import describe_run, plan_facts, read_summary, summarise, write_item
from geoseg.mapping.results import result_names
from geoseg.mapping.show import write_map_project
from geoseg.mapping.uncertainty import finish_measure, layer_name
from geoseg.mapping.windows import area_of
from geoseg.mapping.zones import finish_zones, planned_zones
from geoseg.maps.zones import Zones
from geoseg.models.package import ModelPackage, Output
from geoseg.scene import Scene

if TYPE_CHECKING:
    from geopandas import GeoDataFrame
    from pystac import Item
    from xarray import DataArray

Progress = Callable[[int, int], None]
"""Called with the finished and with all pixels."""


@dataclass(frozen=True)
class Prediction:
    """A finished map: where its files lie, and what it says in sum. Holds no pixels.

    >>> prediction = geoseg.predict("scene.tif", "my_model", "opened")
    >>> prediction.to_xarray().geoseg.classes.names
    ('dry land', 'water')
    >>> prediction.to_geopandas().class_name.unique().tolist()
    ['dry land', 'water']
    """

    folder: Path
    name: str
    files: dict[str, Path]
    """What it is (`classes`, `reason`, `scores`, `polygons`, `project`, `item`, `image` …) → the file."""
    package: ModelPackage
    summary: dict[str, Any]
    """Area per class, observed share, seconds, megapixels per second."""
    warnings: tuple[str, ...] = field(default=())

    def to_xarray(self, what: str | None = None) -> DataArray:
        """One of its rasters, by its key in `files` (None: the package's first output); a class map brings its legend."""
        outputs = {output.name: output for output in self.package.outputs}
        what = what or next(iter(outputs))
        return open_map(self._file(what), outputs.get(what))

    def to_geopandas(self, what: str | None = None) -> GeoDataFrame:
        """Its polygons (None: those of the package's first output), with class, area in square metres on the ground and mean score."""
        return open_outlines(self._file(what or f"{self.package.outputs[0].name}_polygons"))

    def to_stac(self) -> Item:
        """Its STAC Item: what was mapped how, with checksums. Needs pystac."""
        return open_item(self._file("item"))

    def _file(self, what: str) -> Path:
        if what not in self.files:
            raise InputError(f"the map {self.name} has no {what!r}; it has {', '.join(self.files)}")
        return self.files[what]


def make_map(
    scene: Scene,
    package: ModelPackage,
    out: Path,
    *,
    options: MapOptions | None = None,
    overwrite: bool = False,
    resume: bool = False,
    opened_with: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
    strips: StripMaker | None = None,
) -> Prediction:
    """Map `scene` with `package` and write the results into the folder `out`.

    All files are finished in a hidden folder beside their place and then renamed, the Item last. Finished strips are kept there
    with a journal: after the user or the system stopped it, even in the middle of a write, `resume` goes on with an unfinished
    map, and its pixels and polygons are those of one that was never stopped. `opened_with` are the arguments of `open_scene`, kept
    so that the map can be made again. `strips` makes the strips elsewhere, as on the workers of a cluster (None: in this process).

    Raises InputError where scene, package and options do not fit, where results or an unfinished map are there already, or what
    was begun with is no longer the same; OutputError where the results cannot be written.

    >>> scene, package = geoseg.open_scene("scene.tif"), geoseg.ModelPackage.open("my_model")
    >>> prediction = geoseg.make_map(scene, package, Path("made"))
    >>> prediction.files["classes"].name, prediction.summary["observed_share"]
    ('scene_classes.tif', 1.0)
    """
    began = time.perf_counter()
    plan = plan_map(scene, package, options or MapOptions())
    names = result_names(plan)
    area, zones = area_of(plan), planned_zones(plan)
    clouds = plan_clouds(plan)
    runtime = open_network(plan)
    run = describe_run(plan, runtime, opened_with or {})
    check_free(out, () if resume else names.values(), overwrite=overwrite)
    with gdal_env(), WorkingFolder(out, scene.name) as work:
        journal = Journal.open(work, plan_facts(plan, run), len(plan.tiles.strips), resume=resume, overwrite=overwrite)
        done = work.path / "done"
        if not journal.placing:
            check_free(out, names.values(), overwrite=overwrite)
            if clouds is not None:
                plan = masked_by_clouds(plan, clouds, work.path, area_of(clouds))
            parts = Parts(work.path / "parts", plan)
            _write_strips(parts, journal, strips or made_here(runtime, area), progress)
            join_strips(parts, run.tags)
            summary = _finish(parts, fresh_folder(done), names, zones)
            seconds = time.perf_counter() - began
            summary |= {"damaged_blocks": noted_blocks(note for strip in journal.finished.values() for note in strip.notes)}
            summary |= {"seconds": seconds, "megapixels_per_second": plan.pixels / 1e6 / seconds}
            write_item(done, names, plan, run, summary)
            journal.place()
        move_results(done, out, last=names["item"])
    files = {what: out / name for what, name in names.items()}
    summary = read_summary(files["item"])
    return Prediction(out, scene.name, files, package, summary, (*plan.warnings, *damage_warning(summary["damaged_blocks"])))


def _write_strips(parts: Parts, journal: Journal, make: StripMaker, progress: Progress | None) -> None:
    """Have the strips made that the journal does not have, and say how far the map is after each."""
    plan, strips = parts.plan, parts.plan.tiles.strips
    missing = [strip for strip in strips if strip.number not in journal.finished]
    done = sum(strip.pixels for strip in strips) - sum(strip.pixels for strip in missing)
    for facts in make(parts, missing):
        journal.add(facts)
        done += strips[facts.number].pixels
        if progress is not None:
            progress(done, plan.pixels)
    if not any(facts.observed for facts in journal.finished.values()):
        raise SceneError(_nothing_seen(plan))


def _finish(parts: Parts, done: Path, names: Mapping[str, str], zones: Zones | None) -> dict[str, Any]:
    """From joined parts to all results but the Item, in the folder `done`; returns the map in figures."""
    plan = parts.plan
    buildings: list[dict[str, Any]] = []
    found_zones: dict[str, dict[str, int]] = {}
    for output in plan.package.outputs:
        buildings += _finish_output(parts, output, {what: done / name for what, name in names.items()})
        if zones is not None and output.kind == "classes":
            found_zones[output.name] = finish_zones(parts, output, zones, done / names[f"{output.name}_zones"])
    finish_reason(parts, done / names["reason"])
    if "image" in names:
        write_cog(parts.path("image"), done / names["image"], kind="picture")
    if plan.held_out is not None:
        write_polygons(done / names["held_out"], plan.held_out, style_qml=outlines_qml())
    write_map_project(done, names, plan)
    return summarise(parts) | {"buildings": buildings, "zones": found_zones}


def _finish_output(parts: Parts, output: Output, paths: Mapping[str, Path]) -> list[dict[str, Any]]:
    """Finish the raster of one output, for classes also its scores and polygons; return its count of buildings, if asked for."""
    if output.kind == "quantity":
        write_cog(parts.path(output.name), paths[output.name], kind="continuous")
        return []
    finish_classes(parts, output, paths[output.name])
    if f"{output.name}_scores" in paths:
        write_cog(parts.path(f"{output.name}_scores"), paths[f"{output.name}_scores"], kind="continuous")
    if parts.plan.thresholds is not None:
        for name, legend in set_legends(output).items():
            finish_class_map(parts.path(name), paths[name], legend)
    for measure in parts.plan.measures:
        name = layer_name(output, measure)
        finish_measure(parts.path(name), paths[name], measure)
    if f"{output.name}_polygons" not in paths:
        return []
    outlines = paths[f"{output.name}_polygons"]
    buildings = finish_polygons(parts, output, outlines)
    for ending in parts.plan.options.vectors:
        copy_features(outlines, paths[f"{output.name}_polygons_{ending}"])
    return buildings


def _nothing_seen(plan: MapPlan) -> str:
    asked = plan.options.aoi is not None or plan.options.exclude is not None
    where = " inside the area that is to be mapped" if asked else ""
    masked = ", and --mask-classes" if plan.quality_roles else ""
    return f"{plan.scene.source} has no valid pixel{where}, so there is nothing to map; check its nodata value{masked} with geoseg info"
