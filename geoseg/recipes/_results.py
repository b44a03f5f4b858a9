"""What a training leaves behind: the package, the report, and the folder with logs and checkpoints."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import shapely
from pydantic import JsonValue

from geoseg.confusion import Confusion
from geoseg.errors import InputError, OutputError, PackageError
from geoseg.io.atomic import atomic
from geoseg.legend import Legend
from geoseg.models.description import DEFAULT_OUTPUT
from geoseg.models.encoders import EncoderDescription
from geoseg.models.package import Figure, ModelDescription, ModelPackage, Output, write_package
from geoseg.models.temperature import Temperature
from geoseg.preprocess.prepare import Preparation
from geoseg.recipes._common_settings import CommonSettings
from geoseg.recipes._ground import JudgedGround, mean_pixel_size_m, software_versions, trained_bbox
from geoseg.recipes._inherited import inherited, with_held_out_before, with_terms_of
from geoseg.settings import Settings

REPORT, REPORT_TEXT, HELD_OUT = "report.json", "report.md", "held_out.geojson"
PICTURE = "held_out.png"
"""Patches that were held out, with truth and guess."""
_SETTINGS = "settings.json"
_SIZE_RANGE = (0.7, 1.5)
"""Pixel sizes for which a network is offered, as shares of the one it was trained at."""
_DEGREE_DIGITS = 7
"""Of the held-out blocks' coordinates; a centimetre."""
_COUNTED = ("epochs", "parameters", "trees")
"""What a reader is told of a training's size, where a recipe states it."""
_MEASURES = ("iou", "f1", "precision", "recall")


@dataclass(frozen=True, eq=False)
class Model:
    """What has learned, as files, and how it is to be used."""

    onnx: bytes
    """Prepared images in, scores out: (batch, channel, row, col) to (batch, class, row, col)."""
    weights: bytes | None
    """Safetensors of the network that `architecture` describes; None where there is only the graph."""
    architecture: dict[str, JsonValue]
    stride: int
    """Images have a multiple of this many rows and columns."""
    tile: int
    """Edge in pixels of the tiles of a map."""
    overlap: int
    """Pixels that they share."""
    facts: Mapping[str, JsonValue]
    """What else the report says of it, such as `parameters` and `onnx_parity`."""


@dataclass(frozen=True, eq=False)
class Trained:
    """A model that has learned, and all that is known of how."""

    settings: CommonSettings
    model: Model
    legend: Legend
    preparation: Preparation
    ground: JudgedGround
    confusions: Mapping[Any, Confusion]
    """On the ground that was held out, by part; the last one is that of the figures on the model card. Empty where none was held out."""
    seconds: float
    facts: Mapping[str, JsonValue]
    """What else the report says of the learning, such as `epochs`, and whole sentences as `notes`."""
    pictures: Mapping[str, bytes] = field(default_factory=dict)
    """File name → PNG, shown in the report."""
    spread: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Class → least and greatest IoU, where the figures come from several folds."""
    coarsest: float = 1.0
    """How many times as large as the scenes' the pixels were that it has learned from, at most."""
    temperature: Temperature | None = None
    """Makes frequencies of the scores; None leaves them uncalibrated."""
    start: ModelPackage | None = None
    """The package that the learning started from; None where it began anew or with an encoder."""
    encoder: EncoderDescription | None = None
    """The encoder that it started from; None where there was none."""


def training_folder(out: str | Path) -> Path:
    """Where logs, checkpoints and the report of a training lie: beside the package."""
    out = Path(out)
    return out.with_name(f"{out.stem if out.suffix == '.zip' else out.name}_training")


def check_place(out: str | Path, settings: Settings, *, resume: bool) -> Path:
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


def open_folder(folder: Path, settings: Settings) -> None:
    """Make the training's folder and write down its settings; OutputError where that cannot be done."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _SETTINGS).write_text(_stated(settings), encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{folder} cannot be written ({error.strerror or error}); choose a place that can") from error


def write_trained(trained: Trained, out: str | Path, folder: Path) -> ModelPackage:
    """Write report.json and report.md to `folder`, and the package with both, its held-out blocks and its networks to `out`."""
    output = Output.from_legend(DEFAULT_OUTPUT, trained.legend)
    if trained.temperature is not None:
        output = output.model_copy(update={"temperature": trained.temperature.value, "calibrated": True})
    stated = _report(trained)
    text = _report_text(trained, stated)
    others = {
        REPORT: (json.dumps(stated, indent=2) + "\n").encode(),
        REPORT_TEXT: text.encode(),
        HELD_OUT: (_held_out(trained) + "\n").encode(),
        **trained.pictures,
    }
    for name, data in others.items():
        with atomic(folder / name) as part:
            part.write_bytes(data)
    description = _describe(trained, output, stated, out)
    if trained.start is not None:
        description = inherited(description, trained.start)
    if trained.encoder is not None:
        description = with_terms_of(description, trained.encoder)
    return write_package(out, description, onnx=trained.model.onnx, weights=trained.model.weights, others=others)


def _stated(settings: Settings) -> str:
    return json.dumps(settings.model_dump(mode="json"), indent=2)


def _report(trained: Trained) -> dict[str, Any]:
    """Plain data; a measure without a denominator is None."""
    return {
        "scenes": [scene.scene.name for scene in trained.ground.scenes],
        "settings": trained.settings.model_dump(mode="json"),
        "seconds": round(trained.seconds, 1),
        **trained.facts,
        **trained.model.facts,
        "shared_out": trained.ground.shared_out,
        "ground": trained.ground.stated(trained.legend),
        "calibration": None if trained.temperature is None else asdict(trained.temperature),
        "measures": {
            part: {
                "mean_iou": _plain(confusion.mean_iou),
                "accuracy": _plain(confusion.accuracy),
                "classes": plain_figures(confusion),
                "confusion": confusion.counts.tolist(),
            }
            for part, confusion in trained.confusions.items()
        },
        "versions": software_versions(),
    }


def _report_text(trained: Trained, stated: Mapping[str, Any]) -> str:
    """The report as a person reads it."""
    lines = [f"# Training of {trained.settings.title or trained.settings.name or 'a model'}", ""]
    lines.append(_effort(stated))
    lines += stated.get("notes", [])
    lines.append(f"Labels: {trained.settings.label_source}. {stated['shared_out']}")
    for part, measures in stated["measures"].items():
        area = stated["ground"][part]["labelled_km2"]
        lines += ["", f"## {part.capitalize()}: {area:.4g} km² labelled, {trained.ground.meaning(part)}", ""]
        lines += ["| class | " + " | ".join(_MEASURES) + " | pixels |", "|---" * (len(_MEASURES) + 2) + "|"]
        for name, row in measures["classes"].items():
            cells = [f"{row[key]:.4f}" if row[key] is not None else "–" for key in _MEASURES]
            lines.append(f"| {name} | {' | '.join(cells)} | {row['pixels']:.0f} |")
        lines.append(
            f"\nMean IoU {_shown(measures['mean_iou'])}, accuracy {_shown(measures['accuracy'])}; rows of the confusion are the truth:"
        )
        lines.append(f"`{measures['confusion']}`")
    if trained.spread:
        ranges = ", ".join(f"{name} {least:.4f} to {greatest:.4f}" for name, (least, greatest) in trained.spread.items())
        lines.append(f"\nIoU of the single folds, least to greatest: {ranges}.")
    if parity := stated.get("onnx_parity"):
        difference, agreement = parity["largest_difference"], parity["agreement"]
        lines.append(f"\nONNX against what has learned: largest difference of a score {difference:.1e}, same class on {agreement:.4%}.")
    lines += [f"\n![image, truth and prediction of ground that was held out]({name})" for name in trained.pictures]
    return "\n".join(lines) + "\n"


def _describe(trained: Trained, output: Output, stated: Mapping[str, Any], out: str | Path) -> ModelDescription:
    settings, scenes = trained.settings, trained.ground.scenes
    name = settings.name or name_of(Path(out))
    pixel_m = float(f"{mean_pixel_size_m(scenes[0]):.3g}")
    part = list(trained.confusions)[-1] if trained.confusions else None
    values: dict[str, float | None] = {}
    if part is not None:
        measured = stated["measures"][part]
        values = {f"IoU of {label}": row["iou"] for label, row in measured["classes"].items()} | {"mean IoU": measured["mean_iou"]}
    for label, (least, greatest) in trained.spread.items():
        values |= {f"IoU of {label}, least of the folds": least, f"IoU of {label}, greatest of the folds": greatest}
    if trained.temperature is not None:
        values |= {"expected calibration error": trained.temperature.after}
    on = "" if part is None else trained.ground.on(part)
    figures = tuple(Figure(name=what, value=value, on=on, by=settings.label_source) for what, value in values.items() if value is not None)
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
        pixel_size_range_m=(pixel_m * _SIZE_RANGE[0], pixel_m * _SIZE_RANGE[1] * trained.coarsest),
        tile=trained.model.tile,
        overlap=trained.model.overlap,
        stride=trained.model.stride,
        sensors=tuple(dict.fromkeys(scene.scene.sensor.name for scene in scenes)),
        architecture=trained.model.architecture,
        labels=settings.label_source,
        training=_in_short(stated),
        figures=figures,
        attribution=" ".join(dict.fromkeys(scene.scene.attribution for scene in scenes if scene.scene.attribution)),
        trained_bbox=trained_bbox(scenes),
        trained_dates=(aware[0], aware[-1]) if len(aware) == len(scenes) else None,
        created=datetime.now(UTC),
        versions=stated["versions"],
    )


def _effort(stated: Mapping[str, Any]) -> str:
    """How long it took, in one sentence."""
    counted = [f"{stated[key]:,} {key}" for key in _COUNTED if key in stated]
    return f"{', '.join(counted) or 'Learned'} in {stated['seconds']:.0f} s."


def _in_short(stated: Mapping[str, Any]) -> dict[str, JsonValue]:
    """What the model card says of the training; report.json has all of it."""
    settings = stated["settings"]
    areas = {part: f"{row['labelled_km2']:.4g} km²" for part, row in stated["ground"].items()}
    short = {
        "scenes": ", ".join(stated["scenes"]),
        "labelled": ", ".join(f"{part} {area}" for part, area in areas.items()),
        "shared_out": stated["shared_out"],
        "seconds": stated["seconds"],
        **{key: stated[key] for key in _COUNTED if key in stated},
        **{key: settings[key] for key in ("seed", "loss") if key in settings},
    }
    if parity := stated.get("onnx_parity"):
        short["onnx"] = f"scores differ by at most {parity['largest_difference']:.1g} from what has learned"
    return short | {"all_settings": REPORT}


def _held_out(trained: Trained) -> str:
    """The held-out blocks as GeoJSON (EPSG:4326), `scene` by name."""
    frame = trained.ground.held_out()
    frame.geometry = shapely.transform(frame.geometry.to_numpy(), lambda degrees: degrees.round(_DEGREE_DIGITS))
    frame["scene"] = [trained.ground.scenes[scene].scene.name for scene in frame["scene"]]
    text: str = frame.to_json(drop_id=True)
    return text if trained.start is None else with_held_out_before(text, trained.start, HELD_OUT)


def name_of(out: Path) -> str:
    """A package name from a file name: small letters, digits and a few signs, beginning with a letter."""
    plain = re.sub(r"[^a-z0-9._-]+", "-", (out.stem if out.suffix == ".zip" else out.name).lower()).strip("-._")
    return plain if re.match(r"[a-z].{2}", plain) else f"model-{plain or 'unnamed'}"


def plain_figures(confusion: Confusion) -> dict[str, JsonValue]:
    """Class → its measures, None where one has no denominator."""
    return {name: {key: _plain(value) for key, value in row.items()} for name, row in confusion.figures().items()}


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
