"""Maps that are there already: which files of a folder belong together, and what their Items say of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from geoseg.errors import InputError
from geoseg.io.class_maps import ClassMap, open_class_map
from geoseg.io.stac import file_multihash

_CLASSES = "_classes"
_EXPECTED = "expected a folder that `geoseg predict` wrote, one of its _classes.tif or .json files, or any class GeoTIFF with a legend"


@dataclass(frozen=True)
class MapResult:
    """One map of classes on disk, and what lies beside it; holds no pixels."""

    name: str
    """The scene's name, or the file's where no Item tells it."""
    classes: ClassMap
    output: str = "classes"
    """Which output of its model package it is: several where one package maps several things."""
    reason: Path | None = None
    """Why each pixel has a class or has none, codes of REASON_LEGEND; None where no such file is there."""
    scores: Path | None = None
    """A band for each class; None where scores were not kept."""
    observations: Path | None = None
    """How many maps gave each pixel; only mosaics have it."""
    item: Path | None = None
    """The STAC Item that tells of it; None for a map from elsewhere."""
    time: datetime | None = None
    """Moment of the scene, of the newest one for a mosaic; None where it is not known."""
    model: Mapping[str, Any] | None = None
    """Name, title, licence, checksum and figures of the model package; None where it is not known, or several were at work."""
    attribution: str = ""
    checksum: str | None = None
    """Multihash of the class map as its Item vouches for it."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """With which it was made; empty where that is not known."""
    min_area_m2: float = 0.0
    """Regions below this were merged into their neighbours when the map was made, so that scores and classes differ there."""

    @property
    def path(self) -> Path:
        """The class map's file."""
        return Path(self.classes.path)

    @cached_property
    def file_checksum(self) -> str:
        """Multihash of the class map as it lies there."""
        return file_multihash(self.path)

    def is_edited(self) -> bool:
        """Whether the class map is no longer the file that its Item vouches for, for example because somebody corrected it."""
        return self.checksum is not None and self.file_checksum != self.checksum


def open_map_results(path: str | Path) -> list[MapResult]:
    """The maps behind a folder of results, one `_classes.tif`, one Item, or any class GeoTIFF with a legend; by name.

    A folder gives every map in it (but not in folders inside it), also those without an Item that end in `_classes.tif`; a
    package with several outputs gives one map each. InputError where there is no map or a file that an Item names is gone;
    LabelError where a raster is no class map; SceneError where it cannot be read or has no CRS.
    """
    path = Path(path)
    if path.is_dir():
        found = list(_in_folder(path))
        if not found:
            raise InputError(f"{path} holds no map; {_EXPECTED}")
        return sorted(found, key=lambda result: (result.name, result.output))
    if not path.exists():
        raise InputError(f"no such file or folder: {path}; {_EXPECTED}")
    if path.suffix.lower() == ".json":
        item = _read_item(path)
        if not _map_assets(item):
            raise InputError(f"{path} is not the Item of a map; {_EXPECTED}")
        return [_from_item(path, item, output) for output in _map_assets(item)]
    for candidate in _items_beside(path):
        item = _read_item(candidate)
        for output, asset in _map_assets(item).items():
            if (candidate.parent / asset["href"]).resolve() == path.resolve():
                return [_from_item(candidate, item, output)]
    return [_without_item(path)]


def open_all_maps(paths: Sequence[str | Path]) -> list[MapResult]:
    """The maps behind several paths, in the order given.

    InputError as in `open_map_results`, and where a path holds several outputs of one scene, of which only one can be meant.
    """
    results = []
    for path in paths:
        found = open_map_results(path)
        names = [result.name for result in found]
        if doubled := next((result for result in found if names.count(result.name) > 1), None):
            outputs = ", ".join(result.path.name for result in found if result.name == doubled.name)
            raise InputError(f"{path} holds several maps of {doubled.name}: {outputs}; give the file of the one that is meant")
        results += found
    return results


def _in_folder(folder: Path) -> Iterator[MapResult]:
    told = set()
    for candidate in sorted(folder.glob("*.json")):
        item = _read_item(candidate)
        for output in _map_assets(item):
            result = _from_item(candidate, item, output)
            told.add(result.path.resolve())
            yield result
    for path in sorted(folder.glob(f"*{_CLASSES}.tif")):
        if path.resolve() not in told:
            yield _without_item(path)


def _items_beside(path: Path) -> Iterator[Path]:
    """The Items that may tell of a raster: those whose name it begins with, the longest first."""
    words = path.stem.split("_")
    for end in range(len(words), 0, -1):
        candidate = path.with_name("_".join(words[:end]) + ".json")
        if candidate.is_file():
            yield candidate


def _read_item(path: Path) -> dict[str, Any]:
    """The STAC Item in a file; empty where it is something else."""
    try:
        item: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        known = item["type"] == "Feature" and isinstance(item["id"], str)
        known = known and isinstance(item["properties"], dict) and isinstance(item["assets"], dict)
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return item if known else {}


def _map_assets(item: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Name → asset of every class map that an Item tells of; reasons and sources are metadata."""
    return {
        name: asset
        for name, asset in item.get("assets", {}).items()
        if "classification:classes" in asset and "data" in asset.get("roles", ()) and str(asset.get("href", "")).endswith(".tif")
    }


def _from_item(path: Path, item: Mapping[str, Any], output: str) -> MapResult:
    assets, properties = item["assets"], item["properties"]

    def file(name: str) -> Path | None:
        place = path.parent / assets[name]["href"] if name in assets else None
        return place if place is not None and place.is_file() else None

    classes = file(output)
    if classes is None:
        raise InputError(f"{path} tells of {assets[output]['href']}, which is not there; put the map back beside its Item")
    options = properties.get("geoseg:run", {}).get("settings", {}).get("options", {})
    return MapResult(
        name=item["id"],
        classes=open_class_map(classes),
        output=output,
        reason=file("reason"),
        scores=file(f"{output}_scores"),
        observations=file("observations"),
        item=path,
        time=_time(properties),
        model=properties.get("geoseg:model"),
        attribution=properties.get("geoseg:attribution", ""),
        checksum=assets[output].get("file:checksum"),
        options=options,
        min_area_m2=float(options.get("min_area_m2", 0.0)),
    )


def _without_item(path: Path) -> MapResult:
    stem = path.stem.removesuffix(_CLASSES)

    def beside(kind: str) -> Path | None:
        place = path.with_name(f"{stem}_{kind}.tif")
        return place if place.is_file() else None

    return MapResult(stem, open_class_map(path), reason=beside("reason"), scores=beside("scores"), observations=beside("observations"))


def _time(properties: Mapping[str, Any]) -> datetime | None:
    """When the scene was taken; the end of a period; None where the Item only knows when the map was made."""
    stamp = properties.get("end_datetime") or properties.get("datetime")
    if stamp is None or not properties.get("geoseg:time_known", True):
        return None
    try:
        time = datetime.fromisoformat(stamp)
    except ValueError:
        return None
    return time if time.tzinfo else time.replace(tzinfo=UTC)
