"""What is written down of a run: its command, its inputs and their checksums, its figures; enough to make the map again."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from geoseg.io.atomic import atomic
from geoseg.io.class_maps import all_areas_m2
from geoseg.io.provenance import file_facts, grid_fields, software
from geoseg.io.stac import ModelFacts, RunFacts, SceneFacts, file_asset, prediction_item
from geoseg.mapping.conformal import SET_ENDS, SET_SENTENCE, SIZE_SENTENCE, set_legends
from geoseg.mapping.held_out import held_out_facts
from geoseg.mapping.plan import MapOptions, MapPlan
from geoseg.mapping.rasters import Parts
from geoseg.mapping.uncertainty import layer_name, meaning
from geoseg.models.package import INT8_ONNX, ONNX, WEIGHTS, ModelPackage
from geoseg.preprocess.quality import REASON_LEGEND, Reason
from geoseg.runtimes.contract import Runtime

_COG = "image/tiff; application=geotiff; profile=cloud-optimized"
_MEDIA_TYPES = {
    ".tif": _COG,
    ".gpkg": "application/geopackage+sqlite3",
    ".parquet": "application/vnd.apache.parquet",
    ".fgb": "application/vnd.flatgeobuf",
    ".qgz": "application/zip",
}

_WITHOUT_EFFECT = ("threads", "on_error")
"""Options that change how a map is made, not what is finished of it."""


@dataclass(frozen=True)
class Run:
    """How a map is made, before it is made."""

    command: tuple[str, ...]
    """The full command, one argument each."""
    opened_with: dict[str, Any]
    """Arguments of `open_scene` beside the source."""
    inputs: tuple[dict[str, Any], ...]
    """Each local file that is read: path, size in bytes, SHA-256."""
    software: dict[str, str]
    tags: dict[str, str]
    """Provenance that every raster carries inside; no dates, so that the same run gives the same bytes."""


def describe_run(plan: MapPlan, runtime: Runtime, opened_with: Mapping[str, Any]) -> Run:
    """All that must be known to make this map again."""
    versions = software() | {runtime.name: runtime.version}
    network = plan.package.checksums.get(INT8_ONNX if runtime.precision == "int8" else WEIGHTS if runtime.name == "torch" else ONNX, "")
    tags = {
        "GEOSEG_VERSION": versions["geoseg"],
        "GEOSEG_MODEL": f"{plan.package.name} sha256:{plan.package.checksum}",
        "GEOSEG_NETWORK": f"{runtime.name} {runtime.precision} sha256:{network}",
        "GEOSEG_SCENE": plan.scene.product_id or plan.scene.name,
        "GEOSEG_ENSEMBLE": ", ".join(f"{member.name} sha256:{member.checksum}" for member in ensemble_members(plan)),
        "GEOSEG_CLOUD_MODEL": cloud_model_words(plan.options.cloud_model),
        "ATTRIBUTION": plan.scene.attribution,
    }
    given = {key: value for key, value in opened_with.items() if value is not None}
    inputs = tuple(file_facts(path) for path in input_files(plan))
    return Run(command_line(plan, given), given, inputs, versions, {key: value for key, value in tags.items() if value})


def cloud_model_words(path: str | None) -> str:
    """Name and checksum of the package that masks clouds; empty where none does."""
    if path is None:
        return ""
    package = ModelPackage.open(path)
    return f"{package.name} sha256:{package.checksum}"


def ensemble_members(plan: MapPlan) -> list[ModelPackage]:
    """The packages of the ensemble beside the first."""
    return [ModelPackage.open(path) for path in plan.options.ensemble]


def input_files(plan: MapPlan) -> list[Path]:
    """The local files behind the bands that are read, and behind the areas; remote ones have no place here."""
    layers = [plan.scene.layer(role).path for role in (*plan.roles, *plan.quality_roles)]
    areas = [str(path).partition("|layername=")[0] for path in (plan.options.aoi, plan.options.exclude, plan.options.zones) if path]
    others = (*plan.scene.stack, *plan.scene.inputs, *areas, plan.options.like, plan.options.conformal)
    paths = [Path(path) for path in (*layers, plan.scene.source, *others) if path]
    return [path for path in dict.fromkeys(paths) if path.is_file()]


def command_line(plan: MapPlan, opened_with: Mapping[str, Any]) -> tuple[str, ...]:
    """The `geoseg predict` command for this map, without -o: what is at its default is left out."""
    stack = [*plan.scene.stack, "--stack"] if plan.scene.stack else [*plan.scene.series, "--series"] if plan.scene.series else []
    words = ["geoseg", "predict", *(stack or [plan.scene.source]), "--model", str(plan.package.path)]
    words += [word for path in plan.options.ensemble for word in ("--model", path)]
    for name, value in opened_with.items():
        words += [f"--{name.replace('_', '-')}", ",".join(value) if isinstance(value, list | tuple) else str(value)]
    for option in dataclasses.fields(MapOptions):
        value = getattr(plan.options, option.name)
        if value == option.default or option.name == "ensemble":
            continue
        flag = option.name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            words += [f"--{flag}", (",".join(value) or "none") if isinstance(value, tuple) else str(value)]
    return tuple(words)


def plan_facts(plan: MapPlan, run: Run) -> dict[str, Any]:
    """All that decides what the map will be, as plain data: maps of equal facts are equal to the bit."""
    return {
        "source": all_sources(plan),
        "opened_with": run.opened_with,
        "inputs": list(run.inputs),
        "model": [plan.package.checksum, *(member.checksum for member in ensemble_members(plan))],
        "cloud_model": run.tags.get("GEOSEG_CLOUD_MODEL"),
        "options": deciding_options(plan.options),
        "software": run.software,
        "grid": grid_fields(plan.geobox),
        "tiles": {
            "tile": plan.tiles.tile, "rows": plan.tiles.row_origins, "cols": plan.tiles.col_origins, "overlap": plan.tiles.overlap,
            "panels": [panel.cols.stop for panel in plan.tiles.panels],
        },
    }  # fmt: skip


def read_summary(item: Path) -> dict[str, Any]:
    """The figures of a finished map, with its speed."""
    summary: dict[str, Any] = json.loads(item.read_text(encoding="utf-8"))["properties"]["geoseg:run"]["summary"]
    return summary


def deciding_options(options: MapOptions) -> dict[str, Any]:
    """The options that decide what is finished of a map, with files as they are found from any folder."""
    deciding = {name: value for name, value in dataclasses.asdict(options).items() if name not in _WITHOUT_EFFECT}
    return deciding | option_files(options)


def all_sources(plan: MapPlan) -> list[str] | str:
    """What the scene was opened from, as it is found from any folder; a list for a stack or a series."""
    return [_absolute(path) for path in plan.scene.stack or plan.scene.series] or _absolute(plan.scene.source)


def summarise(parts: Parts) -> dict[str, Any]:
    """The map in figures: area of each class in km² and per cent of what is observed, observed share, held-out ground.

    The observed share is that of the ground inside both the scene and the area of interest.
    """
    plan = parts.plan
    legends = {parts.path(output.name): output.legend.codes for output in plan.package.outputs if output.kind == "classes"}
    all_areas = all_areas_m2(legends | {parts.path("reason"): REASON_LEGEND.codes}, plan.geobox)
    reasons = all_areas[parts.path("reason")]
    asked = sum(area for code, area in reasons.items() if code not in (Reason.OUTSIDE, Reason.OUTSIDE_AREA))
    outputs = {}
    for output in plan.package.outputs:
        if output.kind == "classes":
            areas = all_areas[parts.path(output.name)]
            whole = sum(areas.values()) or 1.0
            outputs[output.name] = [
                {"code": one.code, "name": one.name, "area_km2": areas[one.code] / 1e6, "percent": 100 * areas[one.code] / whole}
                for one in output.legend.classes
            ]
    return {
        "classes": outputs,
        "observed_share": reasons[Reason.OBSERVED] / asked if asked else 0.0,
        "reasons_km2": {one.name: reasons[one.code] / 1e6 for one in REASON_LEGEND.classes if reasons[one.code]},
        "held_out": held_out_facts(plan.held_out),
        "rows": plan.geobox.shape[0],
        "cols": plan.geobox.shape[1],
    }


def write_item(folder: Path, names: Mapping[str, str], plan: MapPlan, run: Run, summary: Mapping[str, Any]) -> None:
    """Write the map's STAC Item into `folder`, where all its other files lie already."""
    classes = {output.name: output.legend.classes for output in plan.package.outputs if output.kind == "classes"}
    classes["reason"] = REASON_LEGEND.classes
    meanings = layer_meanings(plan)
    for output in plan.package.outputs if plan.thresholds is not None else ():
        classes |= {name: legend.classes for name, legend in set_legends(output).items()} if output.kind == "classes" else {}
    metadata = {"reason", *meanings}
    assets = {}
    for what, name in names.items():
        if what != "item":
            assets[what] = file_asset(
                folder / name,
                folder=folder,
                media_type=_MEDIA_TYPES[Path(name).suffix],
                title=what.replace("_", " "),
                roles=["metadata"] if what in metadata else ["visual"] if what in ("image", "project") else ["data"],
                classes=classes.get(what, ()),
                description=meanings.get(what),
            )
    scene, package = plan.scene, plan.package
    item = prediction_item(
        scene.name,
        geobox=plan.geobox,
        time=scene.time,
        created=datetime.now(UTC).replace(microsecond=0),
        scene=SceneFacts(
            source=scene.source,
            sensor=scene.sensor.name,
            product_id=scene.product_id,
            processing_baseline=scene.processing_baseline,
            attribution=scene.attribution,
            warnings=list(plan.warnings),
        ),
        model=ModelFacts(
            name=package.name,
            title=package.title,
            licence=package.licence,
            checksum=package.checksum,
            figures=[figure.model_dump(mode="json") for figure in package.figures],
            ensemble=[
                {"name": one.name, "title": one.title, "licence": one.licence, "checksum": one.checksum} for one in ensemble_members(plan)
            ],
        ),
        run=RunFacts(
            command=list(run.command),
            settings={
                "source": all_sources(plan),
                "model": _absolute(str(package.path)),
                "opened_with": run.opened_with,
                "options": dataclasses.asdict(plan.options) | option_files(plan.options),
                "inputs": list(run.inputs),
                "cloud_model": run.tags.get("GEOSEG_CLOUD_MODEL"),
                **({"terrain_correction": plan.correction.facts()} if plan.correction is not None else {}),
            },
            masked=list(plan.options.mask_classes) if plan.quality_roles else [],
            summary=dict(summary),
            software=run.software,
        ),
        assets=assets,
    )
    with atomic(folder / names["item"]) as part:
        part.write_text(json.dumps(item, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def layer_meanings(plan: MapPlan) -> dict[str, str]:
    """Result → what it says, of the results that need a sentence."""
    sets = {} if plan.thresholds is None else dict(zip(SET_ENDS, (SET_SENTENCE, SIZE_SENTENCE), strict=True))
    return {f"{output.name}{end}": text for output in plan.package.outputs for end, text in sets.items()} | {
        layer_name(output, measure): meaning(measure, calibrated=plan.calibrated(output))
        for output in plan.package.outputs
        if output.kind == "classes"
        for measure in plan.measures
    }


def option_files(options: MapOptions) -> dict[str, Any]:
    """The options that name files, so that they are found from any folder."""
    named = {name: getattr(options, name) for name in ("aoi", "exclude", "zones", "like", "cloud_model", "conformal")}
    files: dict[str, Any] = {name: _absolute(path) for name, path in named.items() if path is not None}
    return files | {"ensemble": [_absolute(path) for path in options.ensemble]}


def _absolute(path: str) -> str:
    """A local path from the root, also one with a layer's name or an Item's id behind it; any other address as it is."""
    mark = next((mark for mark in "|#" if Path(str(path).partition(mark)[0]).exists()), "|")
    file, bar, layer = str(path).partition(mark)
    return f"{Path(file).absolute()}{bar}{layer}" if Path(file).exists() else str(path)
