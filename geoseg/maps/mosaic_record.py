"""What is written down of a mosaic: its names, its figures, how QGIS lays it out, and its STAC Item."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg import __version__
from geoseg.io.atomic import atomic
from geoseg.io.class_maps import areas_m2
from geoseg.io.provenance import file_facts, software
from geoseg.io.qgis import ProjectLayer, write_project
from geoseg.io.stac import file_asset, map_item
from geoseg.maps.map_results import MapResult
from geoseg.maps.mosaic_plan import MosaicOptions, MosaicPlan
from geoseg.preprocess.quality import REASON_LEGEND, Reason

_COG = "image/tiff; application=geotiff; profile=cloud-optimized"
_MEDIA_TYPES = {".tif": _COG, ".gpkg": "application/geopackage+sqlite3", ".qgz": "application/zip"}
_METADATA = ("reason", "source", "observations")
_MOST_PAIRS = 10


def mosaic_names(name: str, *, scores: bool, polygons: bool = True) -> dict[str, str]:
    """What each result is → its file's name; side files (`.aux.xml`, `.qml`) go with their rasters."""
    names = {"classes": f"{name}_classes.tif"}
    if scores:
        names["classes_scores"] = f"{name}_scores.tif"
    if polygons:
        names["classes_polygons"] = f"{name}.gpkg"
    names |= {kind: f"{name}_{kind}.tif" for kind in _METADATA}
    return names | {"project": f"{name}.qgz", "item": f"{name}.json"}


def provenance(plan: MosaicPlan) -> dict[str, str]:
    """What every raster carries inside; no dates and no paths, so that the same maps give the same bytes."""
    tags = {
        "GEOSEG_VERSION": __version__,
        "GEOSEG_MOSAIC": f"{len(plan.maps)} maps by {plan.rule}",
        "ATTRIBUTION": _attribution(plan),
    }
    return {key: value for key, value in tags.items() if value}


def summarise(plan: MosaicPlan, parts: Path, pairs_m2: NDArray[np.float64], *, seconds: float) -> dict[str, Any]:
    """The mosaic in figures, every pixel counted once: area of each class, what each map gave, and how far maps agree where they overlap.

    The observed share is that of the ground inside any map and inside the area of interest.
    """
    geobox, legend = plan.geobox, plan.legend
    classes = areas_m2(parts / "classes.tif", legend.codes, geobox)
    reasons = areas_m2(parts / "reason.tif", REASON_LEGEND.codes, geobox)
    gave = areas_m2(parts / "source.tif", range(1, len(plan.maps) + 1), geobox)
    whole = sum(classes.values()) or 1.0
    asked = sum(area for code, area in reasons.items() if code not in (Reason.OUTSIDE, Reason.OUTSIDE_AREA))
    return {
        "classes": {
            "classes": [
                {"code": one.code, "name": one.name, "area_km2": classes[one.code] / 1e6, "percent": 100 * classes[one.code] / whole}
                for one in legend.classes
            ]
        },
        "observed_share": reasons[Reason.OBSERVED] / asked if asked else 0.0,
        "reasons_km2": {one.name: reasons[one.code] / 1e6 for one in REASON_LEGEND.classes if reasons[one.code]},
        "overlap": _overlap(plan, pairs_m2),
        "rule": plan.rule,
        "maps": [
            {"name": name, "time": _stamp(one.time), "gave_km2": gave[place] / 1e6}
            for place, (name, one) in enumerate(zip(plan.names, plan.maps, strict=True), 1)
        ],
        "rows": geobox.shape[0],
        "cols": geobox.shape[1],
        "seconds": seconds,
        "megapixels_per_second": float(np.prod(geobox.shape)) / 1e6 / seconds,
    }


def write_mosaic_project(folder: Path, names: Mapping[str, str], plan: MosaicPlan, most_observations: int) -> None:
    """Write the QGIS project of the mosaic in `folder`: polygons and classes; scores, sources and reasons unticked."""

    def layer(name: str, what: str, kind: Any, group: str, **more: Any) -> ProjectLayer:
        return ProjectLayer(name, folder / names[what], kind, group=group, **more)

    layers = [layer("classes", "classes", "classes", "Map", legend=plan.legend)]
    if "classes_polygons" in names:
        layers.insert(0, layer("classes: polygons", "classes_polygons", "polygons", "Map", legend=plan.legend, visible=False))
    if "classes_scores" in names:
        kind = "score" if plan.calibrated else "uncalibrated score"
        layers += [
            layer(f"{kind} of {one.name}", "classes_scores", "scores", "Scores", visible=False, band=one.index + 1)
            for one in plan.legend.classes
        ]
    counts = (0.0, float(max(1, most_observations)))
    layers += [
        layer("which map", "source", "classes", "Quality", legend=plan.source_legend, visible=False),
        layer("how many maps", "observations", "quantity", "Quality", visible=False, value_range=counts),
        layer("why there is no class", "reason", "reason", "Quality", legend=REASON_LEGEND, visible=False),
    ]
    crs, bounds = plan.geobox.crs, plan.geobox.boundingbox
    assert crs is not None, "a map has a CRS"
    extent = (bounds.left, bounds.bottom, bounds.right, bounds.top)
    write_project(folder / names["project"], layers, title=f"Mosaic of {len(plan.maps)} maps", crs=crs, extent=extent)


def write_mosaic_item(
    folder: Path, out: Path, name: str, names: Mapping[str, str], plan: MosaicPlan, options: MosaicOptions, summary: Mapping[str, Any]
) -> None:
    """Write the mosaic's STAC Item into `folder`, where all its other files lie already, to be moved to `out`."""
    legends = {"classes": plan.legend, "reason": REASON_LEGEND, "source": plan.source_legend}
    assets = {
        what: file_asset(
            folder / file,
            folder=folder,
            media_type=_MEDIA_TYPES[Path(file).suffix],
            title=what.replace("_", " "),
            roles=["metadata"] if what in _METADATA else ["visual"] if what == "project" else ["data"],
            classes=legends[what].classes if what in legends else (),
        )
        for what, file in names.items()
        if what != "item"
    }
    created = datetime.now(UTC).replace(microsecond=0)
    times = [one.time for one in plan.maps if one.time is not None]
    known = len(times) == len(plan.maps)
    models = {json.dumps(one.model, sort_keys=True) for one in plan.maps}
    facts = {
        "geoseg:time_known": known,
        **({"geoseg:model": plan.maps[0].model} if len(models) == 1 and plan.maps[0].model else {}),
        "geoseg:mosaic": {
            "rule": plan.rule,
            "warnings": list(plan.warnings),
            "maps": [_map_facts(label, one) for label, one in zip(plan.names, plan.maps, strict=True)],
        },
        "geoseg:run": {"command": _command(plan, options), "settings": {"options": dataclasses.asdict(options)}, "summary": dict(summary)},
        "geoseg:attribution": _attribution(plan),
    }
    item = map_item(
        name,
        geobox=plan.geobox,
        times=(min(times), max(times)) if known else (created, created),
        created=created,
        title=f"Mosaic of {len(plan.maps)} maps: {name}",
        command=_command(plan, options),
        software=software(),
        facts=facts,
        assets=assets,
        links=[{"rel": "derived_from", "href": _relative(one.item, out)} for one in plan.maps if one.item is not None],
    )
    with atomic(folder / names["item"]) as part:
        part.write_text(json.dumps(item, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def _overlap(plan: MosaicPlan, pairs_m2: NDArray[np.float64]) -> dict[str, Any]:
    """Ground covered by several maps, the share of it on which pairs of them agree, and the commonest disagreements."""
    whole, agreed = float(pairs_m2.sum()), float(np.trace(pairs_m2))
    upper = np.triu(pairs_m2 + pairs_m2.T, k=1)
    commonest = [divmod(int(place), len(upper)) for place in np.argsort(-upper, axis=None, kind="stable")[:_MOST_PAIRS]]
    names = plan.legend.names
    return {
        "km2": whole / 1e6,
        "agreement": agreed / whole if whole else None,
        "disagreements": [
            {"classes": [names[one], names[other]], "km2": float(upper[one, other]) / 1e6} for one, other in commonest if upper[one, other]
        ],
    }


def _map_facts(label: str, one: MapResult) -> dict[str, Any]:
    files = {"classes": one.path, "scores": one.scores, "reason": one.reason, "item": one.item}
    return {
        "name": label,
        "time": _stamp(one.time),
        "model": one.model.get("name") if one.model else None,
        "files": {what: file_facts(path) for what, path in files.items() if path is not None},
    }


def _command(plan: MosaicPlan, options: MosaicOptions) -> list[str]:
    """The `geoseg mosaic` command for this mosaic, without -o: what is at its default is left out."""
    words = ["geoseg", "mosaic", *(str(one.path) for one in plan.maps)]
    for option in dataclasses.fields(MosaicOptions):
        value = getattr(options, option.name)
        if value is False:
            words.append(f"--no-{option.name}")
        elif value != option.default:
            words += [f"--{option.name.replace('_', '-')}", str(value)]
    return words


def _attribution(plan: MosaicPlan) -> str:
    """What the providers of all scenes ask for, each once."""
    return "; ".join(dict.fromkeys(one.attribution for one in plan.maps if one.attribution))


def _relative(item: Path, folder: Path) -> str:
    try:
        return Path(os.path.relpath(item.resolve(), folder.resolve())).as_posix()
    except ValueError:  # another drive of Windows, to which no relative path leads
        return item.resolve().as_uri()


def _stamp(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat().replace("+00:00", "Z")
