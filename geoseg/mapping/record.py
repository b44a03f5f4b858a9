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
from geoseg.io.class_maps import areas_m2
from geoseg.io.provenance import file_facts, grid_fields, software
from geoseg.io.stac import ModelFacts, RunFacts, SceneFacts, file_asset, prediction_item
from geoseg.mapping.held_out import held_out_facts
from geoseg.mapping.plan import MapOptions, MapPlan
from geoseg.mapping.rasters import Parts
from geoseg.mapping.runtimes import Runtime
from geoseg.models.package import ModelPackage
from geoseg.preprocess.quality import REASON_LEGEND, Reason

_COG = "image/tiff; application=geotiff; profile=cloud-optimized"
_MEDIA_TYPES = {".tif": _COG, ".gpkg": "application/geopackage+sqlite3", ".qgz": "application/zip"}

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
    tags = {
        "GEOSEG_VERSION": versions["geoseg"],
        "GEOSEG_MODEL": f"{plan.package.name} sha256:{plan.package.checksum}",
        "GEOSEG_SCENE": plan.scene.product_id or plan.scene.name,
        "GEOSEG_CLOUD_MODEL": _cloud_model(plan.options.cloud_model),
        "ATTRIBUTION": plan.scene.attribution,
    }
    given = {key: value for key, value in opened_with.items() if value is not None}
    inputs = tuple(file_facts(path) for path in input_files(plan))
    return Run(command_line(plan, given), given, inputs, versions, {key: value for key, value in tags.items() if value})


def _cloud_model(path: str | None) -> str:
    if path is None:
        return ""
    package = ModelPackage.open(path)
    return f"{package.name} sha256:{package.checksum}"


def input_files(plan: MapPlan) -> list[Path]:
    """The local files behind the bands that are read, and behind the areas; remote ones have no place here."""
    layers = [plan.scene.layer(role).path for role in (*plan.roles, *plan.quality_roles)]
    areas = [str(path).partition("|layername=")[0] for path in (plan.options.aoi, plan.options.exclude, plan.options.zones) if path]
    paths = [Path(path) for path in (*layers, plan.scene.source, *plan.scene.stack, *plan.scene.inputs, *areas, plan.options.like) if path]
    return [path for path in dict.fromkeys(paths) if path.is_file()]


def command_line(plan: MapPlan, opened_with: Mapping[str, Any]) -> tuple[str, ...]:
    """The `geoseg predict` command for this map, without -o: what is at its default is left out."""
    stack = [*plan.scene.stack, "--stack"] if plan.scene.stack else [*plan.scene.series, "--series"] if plan.scene.series else []
    words = ["geoseg", "predict", *(stack or [plan.scene.source]), "--model", str(plan.package.path)]
    for name, value in opened_with.items():
        words += [f"--{name.replace('_', '-')}", ",".join(value) if isinstance(value, list | tuple) else str(value)]
    for option in dataclasses.fields(MapOptions):
        value = getattr(plan.options, option.name)
        if value == option.default:
            continue
        flag = option.name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            words += [f"--{flag}", (",".join(value) or "none") if isinstance(value, tuple) else str(value)]
    return tuple(words)


def plan_facts(plan: MapPlan, run: Run) -> dict[str, Any]:
    """All that decides what the map will be, as plain data: maps of equal facts are equal to the bit."""
    options = {name: value for name, value in dataclasses.asdict(plan.options).items() if name not in _WITHOUT_EFFECT}
    return {
        "source": _sources(plan),
        "opened_with": run.opened_with,
        "inputs": list(run.inputs),
        "model": plan.package.checksum,
        "options": options | _option_files(plan.options),
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


def _sources(plan: MapPlan) -> list[str] | str:
    return [_absolute(path) for path in plan.scene.stack or plan.scene.series] or _absolute(plan.scene.source)


def summarise(parts: Parts) -> dict[str, Any]:
    """The map in figures: area of each class in km² and per cent of what is observed, observed share, held-out ground.

    The observed share is that of the ground inside both the scene and the area of interest.
    """
    plan = parts.plan
    reasons = areas_m2(parts.path("reason"), REASON_LEGEND.codes, plan.geobox)
    asked = sum(area for code, area in reasons.items() if code not in (Reason.OUTSIDE, Reason.OUTSIDE_AREA))
    outputs = {}
    for output in plan.package.outputs:
        if output.kind == "classes":
            areas = areas_m2(parts.path(output.name), output.legend.codes, plan.geobox)
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
    assets = {}
    for what, name in names.items():
        if what != "item":
            assets[what] = file_asset(
                folder / name,
                folder=folder,
                media_type=_MEDIA_TYPES[Path(name).suffix],
                title=what.replace("_", " "),
                roles=["metadata"] if what == "reason" else ["visual"] if what in ("image", "project") else ["data"],
                classes=classes.get(what, ()),
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
        ),
        run=RunFacts(
            command=list(run.command),
            settings={
                "source": _sources(plan),
                "model": _absolute(str(package.path)),
                "opened_with": run.opened_with,
                "options": dataclasses.asdict(plan.options) | _option_files(plan.options),
                "inputs": list(run.inputs),
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


def _option_files(options: MapOptions) -> dict[str, str]:
    """The options that name files, so that they are found from any folder."""
    named = {name: getattr(options, name) for name in ("aoi", "exclude", "zones", "like", "cloud_model")}
    return {name: _absolute(path) for name, path in named.items() if path is not None}


def _absolute(path: str) -> str:
    """A local path from the root, also one with a layer's name behind it; any other address as it is."""
    file, bar, layer = str(path).partition("|")
    return f"{Path(file).absolute()}{bar}{layer}" if Path(file).exists() else str(path)
