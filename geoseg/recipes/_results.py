"""What a training leaves behind: the package, the report, and the folder with logs and checkpoints."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import shapely
from numpy.typing import NDArray
from pydantic import JsonValue

from geoseg.confusion import Confusion
from geoseg.data.splits import PARTS, Part
from geoseg.errors import InputError, OutputError, PackageError
from geoseg.io.atomic import atomic
from geoseg.legend import Legend
from geoseg.models.export import Parity, check_parity, export_onnx, save_weights
from geoseg.models.package import Figure, ModelDescription, ModelPackage, Output, write_package
from geoseg.models.reach import looks_around_only
from geoseg.models.segmenter import DEFAULT_OUTPUT, ScoredNetwork, Segmenter, count_parameters
from geoseg.preprocess.prepare import Preparation
from geoseg.recipes._training import Ground, mean_pixel_size_m, software_versions, trained_bbox

REPORT, REPORT_TEXT, HELD_OUT = "report.json", "report.md", "held_out.geojson"
_SETTINGS = "settings.json"
_SIZE_RANGE = (0.7, 1.5)
"""Pixel sizes for which a network is offered, as shares of the one it was trained at."""
_DEGREE_DIGITS = 7
"""Of the held-out blocks' coordinates; a centimetre."""
_LARGER, _LARGEST = 4, 1024
"""How much larger the tiles of a map are than those of training, and their largest edge: seams get fainter, memory grows."""
_MEASURES = ("iou", "f1", "precision", "recall")


class PackageSettings(Protocol):
    """What the package takes from a recipe's settings."""

    name: str
    title: str
    description: str
    licence: str
    label_source: str
    tile: int
    map_tile: int | None

    def model_dump(self, *, mode: str) -> dict[str, Any]:
        """All settings as plain values."""


@dataclass(frozen=True, eq=False)
class Trained:
    """A network that has learned, and all that is known of how."""

    settings: PackageSettings
    architecture: dict[str, JsonValue]
    network: Segmenter
    legend: Legend
    preparation: Preparation
    ground: Ground
    confusions: Mapping[Part, Confusion]
    """On the ground that was held out."""
    examples: list[NDArray[np.float32]]
    """Prepared images (batch, channel, row, col) on which ONNX and network are compared."""
    epochs: int
    seconds: float


def training_folder(out: str | Path) -> Path:
    """Where logs, checkpoints and the report of a training lie: beside the package."""
    out = Path(out)
    return out.with_name(f"{out.stem if out.suffix == '.zip' else out.name}_training")


def check_place(out: str | Path, settings: PackageSettings, *, resume: bool) -> Path:
    """The training's folder, not yet made; PackageError where `out` exists, InputError where another training lies there."""
    if Path(out).exists():
        raise PackageError(f"{out} exists already; choose another name for the model package, or remove it")
    folder = training_folder(out)
    known = folder / _SETTINGS
    if known.exists() and not resume:
        raise InputError(f"{folder} holds a training already; take it up with --resume, or remove it, or choose another name")
    if known.exists() and known.read_text(encoding="utf-8") != _stated(settings):
        raise InputError(f"{known} says other settings than those given; take the training up with the same, or remove the folder")
    return folder


def open_folder(folder: Path, settings: PackageSettings) -> None:
    """Make the training's folder and write down its settings; OutputError where that cannot be done."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _SETTINGS).write_text(_stated(settings), encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{folder} cannot be written ({error.strerror or error}); choose a place that can") from error


def write_trained(trained: Trained, out: str | Path, folder: Path) -> ModelPackage:
    """Write report.json and report.md to `folder`, and the package with both, its held-out blocks and its networks to `out`."""
    output = Output.from_legend(DEFAULT_OUTPUT, trained.legend)
    scored = ScoredNetwork(trained.network, [output])
    onnx = export_onnx(scored, len(trained.preparation.channels))
    parity = check_parity(onnx, scored, trained.examples)
    stated = _report(trained, parity)
    text = _report_text(trained, stated)
    others = {
        REPORT: (json.dumps(stated, indent=2) + "\n").encode(),
        REPORT_TEXT: text.encode(),
        HELD_OUT: (_held_out(trained) + "\n").encode(),
    }
    for name, data in others.items():
        with atomic(folder / name) as part:
            part.write_bytes(data)
    description = _describe(trained, output, stated, out)
    return write_package(out, description, onnx=onnx, weights=save_weights(trained.network), others=others)


def _stated(settings: PackageSettings) -> str:
    return json.dumps(settings.model_dump(mode="json"), indent=2)


def _report(trained: Trained, parity: Parity) -> dict[str, Any]:
    """Plain data; a measure without a denominator is None."""
    ground, classes = trained.ground, len(trained.legend)
    pixel_m = mean_pixel_size_m(ground.scenes[0])
    return {
        "scenes": [scene.scene.name for scene in ground.scenes],
        "settings": trained.settings.model_dump(mode="json"),
        "epochs": trained.epochs,
        "seconds": round(trained.seconds, 1),
        "parameters": count_parameters(trained.network),
        "guard_m": round(ground.split.guard * pixel_m, 2),
        "ground": {
            part: {
                "blocks": sum(int((places == PARTS.index(part)).sum()) for places in ground.split.parts),
                "labelled_km2": ground.labelled_km2(part),
                "pixels": dict(zip(trained.legend.names, ground.class_pixels(part, classes).tolist(), strict=True)),
            }
            for part in PARTS
        },
        "measures": {
            part: {
                "mean_iou": _plain(confusion.mean_iou),
                "accuracy": _plain(confusion.accuracy),
                "classes": {name: {k: _plain(v) for k, v in row.items()} for name, row in confusion.figures().items()},
                "confusion": confusion.counts.tolist(),
            }
            for part, confusion in trained.confusions.items()
        },
        "onnx_parity": parity.to_dict(),
        "versions": software_versions(),
    }


def _report_text(trained: Trained, stated: Mapping[str, Any]) -> str:
    """The report as a person reads it."""
    lines = [f"# Training of {trained.settings.title or trained.settings.name or 'a model'}", ""]
    lines.append(f"{stated['epochs']} epochs in {stated['seconds']:.0f} s, {stated['parameters']:,} parameters.")
    lines.append(f"Labels: {trained.settings.label_source}. Ground of two parts is at least {stated['guard_m']:g} m apart.")
    meaning = {"validation": "training stopped by it", "test": "not trained on, judged once at the end"}
    for part, measures in stated["measures"].items():
        area = stated["ground"][part]["labelled_km2"]
        lines += ["", f"## {part.capitalize()} blocks: {area:.4g} km² labelled, {meaning[part]}", ""]
        lines += ["| class | " + " | ".join(_MEASURES) + " | pixels |", "|---" * (len(_MEASURES) + 2) + "|"]
        for name, row in measures["classes"].items():
            cells = [f"{row[key]:.4f}" if row[key] is not None else "–" for key in _MEASURES]
            lines.append(f"| {name} | {' | '.join(cells)} | {row['pixels']:.0f} |")
        lines.append(
            f"\nMean IoU {_shown(measures['mean_iou'])}, accuracy {_shown(measures['accuracy'])}; rows of the confusion are the truth:"
        )
        lines.append(f"`{measures['confusion']}`")
    parity = stated["onnx_parity"]
    lines.append(
        f"\nONNX against torch: largest difference of a score {parity['largest_difference']:.1e}, same class on {parity['agreement']:.4%}."
    )
    return "\n".join(lines) + "\n"


def _describe(trained: Trained, output: Output, stated: Mapping[str, Any], out: str | Path) -> ModelDescription:
    settings, scenes = trained.settings, trained.ground.scenes
    name = settings.name or _name_of(Path(out))
    pixel_m = float(f"{mean_pixel_size_m(scenes[0]):.3g}")
    test = stated["measures"]["test"]
    on = f"test blocks of {', '.join(stated['scenes'])}, {stated['ground']['test']['labelled_km2']:.4g} km² labelled, not trained on"
    values = {f"IoU of {label}": row["iou"] for label, row in test["classes"].items()} | {"mean IoU": test["mean_iou"]}
    figures = tuple(Figure(name=what, value=value, on=on, by=settings.label_source) for what, value in values.items() if value is not None)
    stride = trained.network.stride
    tile = settings.map_tile or _map_tile(trained)
    times = [scene.scene.time for scene in scenes if scene.scene.time is not None]
    aware = sorted(time if time.tzinfo else time.replace(tzinfo=UTC) for time in times)
    return ModelDescription(
        name=name,
        title=settings.title or name,
        description=settings.description,
        licence=settings.licence,
        preparation=trained.preparation,
        outputs=(output,),
        pixel_size_m=pixel_m,
        pixel_size_range_m=(pixel_m * _SIZE_RANGE[0], pixel_m * _SIZE_RANGE[1]),
        tile=tile,
        overlap=min(max(settings.tile, tile // 2) // 4, tile - stride),
        stride=stride,
        sensors=tuple(dict.fromkeys(scene.scene.sensor.name for scene in scenes)),
        architecture=trained.architecture,
        labels=settings.label_source,
        training={
            key: stated[key] for key in ("scenes", "settings", "epochs", "seconds", "parameters", "guard_m", "ground", "onnx_parity")
        },
        figures=figures,
        attribution=" ".join(dict.fromkeys(scene.scene.attribution for scene in scenes if scene.scene.attribution)),
        trained_bbox=trained_bbox(scenes),
        trained_dates=(aware[0], aware[-1]) if len(aware) == len(scenes) else None,
        created=datetime.now(UTC),
        versions=stated["versions"],
    )


def _map_tile(trained: Trained) -> int:
    """Edge of the tiles of a map: as large as pays, where the network sees the same in a large tile as in those it has learned from."""
    tile = trained.settings.tile
    local = looks_around_only(trained.network, len(trained.preparation.channels))
    return max(tile, min(_LARGER * tile, _LARGEST)) if local else tile


def _in_short(stated: Mapping[str, Any]) -> dict[str, JsonValue]:
    """What the model card says of the training; report.json has all of it."""
    ground, settings = stated["ground"], stated["settings"]
    areas = {part: f"{row['labelled_km2']:.4g} km² in {row['blocks']} blocks" for part, row in ground.items()}
    return {
        "scenes": ", ".join(stated["scenes"]),
        "trained_on": areas["train"],
        "stopped_by": areas["validation"],
        "judged_on": f"{areas['test']}, at least {stated['guard_m']:g} m from the others",
        "epochs": stated["epochs"],
        "seconds": stated["seconds"],
        "parameters": stated["parameters"],
        "seed": settings.get("seed", 0),
        "loss": settings.get("loss", ""),
        "onnx_against_torch": f"scores differ by at most {stated['onnx_parity']['largest_difference']:.1g}",
        "all_settings": REPORT,
    }


def _held_out(trained: Trained) -> str:
    """The held-out blocks as GeoJSON (EPSG:4326), `scene` by name."""
    frame = trained.ground.split.held_out()
    frame.geometry = shapely.transform(frame.geometry.to_numpy(), lambda degrees: degrees.round(_DEGREE_DIGITS))
    frame["scene"] = [trained.ground.scenes[scene].scene.name for scene in frame["scene"]]
    text: str = frame.to_json(drop_id=True)
    return text


def _name_of(out: Path) -> str:
    """A package name from a file name: small letters, digits and a few signs, beginning with a letter."""
    plain = re.sub(r"[^a-z0-9._-]+", "-", (out.stem if out.suffix == ".zip" else out.name).lower()).strip("-._")
    return plain if re.match(r"[a-z].{2}", plain) else f"model-{plain or 'unnamed'}"


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
