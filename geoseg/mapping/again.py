"""A map once more, from its STAC Item: made again, or what differs is said."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from geoseg.errors import InputError
from geoseg.io.provenance import checksum
from geoseg.io.stac import file_multihash
from geoseg.mapping.make_map import Prediction, Progress, make_map
from geoseg.mapping.plan import MapOptions
from geoseg.models.package import ModelPackage
from geoseg.scene import Scene
from geoseg.scenes.open_scene import open_scene
from geoseg.stacks.observe import Masking
from geoseg.stacks.series import open_dates

_NEVER_EQUAL = ("project",)
"""Not compared: QGIS's own file, which a user may have saved."""


@dataclass(frozen=True)
class Repetition:
    """A map made again, and where it is not the same."""

    prediction: Prediction
    differing: tuple[str, ...]
    """Results whose bytes are not those that the Item vouches for."""
    software: tuple[str, ...]
    """Software that is not of the version that made the first map, each `name: then → now`."""


def repeat_map(item_path: Path, out: Path, *, overwrite: bool = False, progress: Progress | None = None) -> Repetition:
    """Make the map of a STAC Item again in the folder `out` and compare the results with the checksums in the Item.

    Raises InputError where the Item is none of geoseg's, or where the scene or the package is no longer what it was, saying
    which file differs.
    """
    item = _read(item_path)
    run, model = item["properties"]["geoseg:run"], item["properties"]["geoseg:model"]
    settings = run["settings"]
    for given in settings["inputs"]:
        _check_input(given)
    package = ModelPackage.open(settings["model"])
    _check_package(package, model["checksum"])
    for path, then in zip(settings["options"].get("ensemble", ()), model.get("ensemble", ()), strict=True):
        _check_package(ModelPackage.open(path), then["checksum"])
    scene = replace(_scene(settings, package), name=item["id"])
    prediction = make_map(
        scene,
        package,
        out,
        options=_options(settings["options"]),
        overwrite=overwrite,
        opened_with=settings["opened_with"],
        progress=progress,
    )
    now = json.loads(prediction.files["item"].read_text(encoding="utf-8"))
    return Repetition(prediction, _differing(item, prediction), _software(item, now))


def _check_package(package: ModelPackage, then: str) -> None:
    if package.checksum != then:
        raise InputError(
            f"{package.path} is no longer the package that made the map: its checksum is {package.checksum[:12]}…, "
            f"the Item says {then[:12]}…; put the old package back, or make a new map with `geoseg predict`"
        )


def _scene(settings: dict[str, Any], package: ModelPackage) -> Scene:
    """The scene, or the series, of which the map was made."""
    if (calendar := package.preparation.calendar) is None:
        return open_scene(settings["source"], **settings["opened_with"])
    options = _options(settings["options"])
    return open_dates(settings["source"], calendar, Masking(options.mask_classes, options.mask_grow_m), **settings["opened_with"])


def _read(path: Path) -> dict[str, Any]:
    try:
        item: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        settings = item["properties"]["geoseg:run"]["settings"]
        known = all(key in settings for key in ("source", "model", "opened_with", "options", "inputs"))
        if not known or Path(item["id"]).name != item["id"] or "checksum" not in item["properties"]["geoseg:model"]:
            raise ValueError(f"{path} lacks what a map of geoseg has")
    except FileNotFoundError as error:
        raise InputError(f"no such file {path}; give the .json that `geoseg predict` wrote beside the map") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is not the Item of a map of geoseg; give the .json that `geoseg predict` wrote beside the map") from error
    return item


def _check_input(given: dict[str, Any]) -> None:
    path = Path(given["path"])
    if not path.is_file():
        raise InputError(f"no such file {path}, from which the map was made; put it back to make the map again")
    size = path.stat().st_size
    if size != given["size"]:
        raise InputError(
            f"{path} is no longer what the map was made from: it has {size} bytes, then {given['size']}; put the old file back"
        )
    if checksum(path) != given["sha256"]:
        raise InputError(f"{path} is no longer what the map was made from: its checksum differs; put the old file back")


def _options(stored: dict[str, Any]) -> MapOptions:
    known = {field.name for field in fields(MapOptions)}
    if unknown := sorted(set(stored) - known):
        raise InputError(f"the map was made with the option {unknown[0]!r}, which this geoseg does not know; use the version that made it")
    values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in stored.items()}
    return MapOptions(**values)


def _differing(item: dict[str, Any], prediction: Prediction) -> tuple[str, ...]:
    before = {name: asset["file:checksum"] for name, asset in item["assets"].items() if name not in _NEVER_EQUAL}
    return tuple(
        name for name, checksum in before.items() if name not in prediction.files or file_multihash(prediction.files[name]) != checksum
    )


def _software(before: dict[str, Any], now: dict[str, Any]) -> tuple[str, ...]:
    then, today = (item["properties"]["processing:software"] for item in (before, now))
    return tuple(f"{name}: {then.get(name)} → {today.get(name)}" for name in sorted({*then, *today}) if then.get(name) != today.get(name))
