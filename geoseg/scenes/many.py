"""Many scenes by few words: patterns, lists and catalogues as one list of scenes, and the parts of it for several machines."""

from __future__ import annotations

import codecs
import glob
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import quote, unquote, urlsplit

from geoseg.errors import InputError
from geoseg.io.names import safe_name
from geoseg.scenes.sources import METADATA
from geoseg.scenes.stac_items import absolute

Item = TypeVar("Item")

_ADDRESS = re.compile(r"\w{2,}:|/vsi")
"""What is no path: `https://…`, `/vsizip/…`, `NETCDF:file.nc:name`; `C:` is a disk."""
_PATTERN = re.compile(r"[*?[]")


def expand_sources(sources: Iterable[str | Path], *, apart_from: Path | None = None) -> list[str]:
    """Each scene that is named, once, in the order given.

    Beside what `open_scene` takes, a source may be

    * a pattern (`scenes/*.tif`, `scenes/**/*.SAFE`): its matches in natural order (`tile9` before `tile10`), without hidden ones;
    * a text file (`.txt`) with a source on each line, `#` before a comment; paths count from the text file's folder;
    * a JSON file with a STAC ItemCollection (a FeatureCollection of Items), or a STAC Catalog or Collection with links to Items, also
      through catalogues inside it: each Item in the order of the file. An Item that has no file of its own is named `FILE#ID`.

    Matches inside the folder `apart_from`, where the results go, are left out unless the pattern itself begins there.
    Raises InputError where a pattern matches nothing, and where a list or catalogue is empty or cannot be read.
    """
    found = (scene for source in sources for scene in _expand(str(source), (), apart_from))
    return list({_identity(scene): scene for scene in reversed(list(found))}.values())[::-1]


def likely_name(source: str) -> str:
    """The name that a scene will have, as far as it can be known without opening it."""
    file, _, item = source.partition("#")
    if item and not Path(source).exists():
        return safe_name(unquote(item))
    path = Path(source)
    if path.suffix.lower() in (".json", ".geojson") and path.is_file():
        fields = _read_json(path)
        return safe_name(str(fields.get("id") or file)) if isinstance(fields, dict) else safe_name(file)
    if METADATA.search(path.as_posix()) and path.is_file():
        path = path.parent
    return safe_name(source if _ADDRESS.match(source) else str(path.resolve()))


def from_root(source: str) -> str:
    """The source as it is found from any folder of this machine."""
    return source if _ADDRESS.match(source) else os.path.abspath(source)


@dataclass(frozen=True)
class Shard:
    """One of several equal parts of a list, counted from 0."""

    part: int
    parts: int

    def __post_init__(self) -> None:
        if not 0 <= self.part < self.parts:
            raise InputError(
                f"--shard is {self.part}/{self.parts}; parts are counted from 0, as SLURM's --array=0-3 and Kubernetes' completion index "
                f"count them: {_convention(self.parts)}"
            )

    @classmethod
    def parse(cls, text: str) -> Self:
        """`0/4` … `3/4`; InputError for anything else."""
        match = re.fullmatch(r"(\d+)/(\d+)", text.strip())
        if match is None:
            raise InputError(f"--shard is {text!r}; expected PART/PARTS with parts counted from 0: {_convention(4)}")
        return cls(int(match[1]), int(match[2]))

    def of(self, items: Sequence[Item]) -> list[Item]:
        """Every so-many-th item: the parts share none, and together they are all; neighbours go to different parts."""
        return list(items[self.part :: self.parts])


def _convention(parts: int) -> str:
    return f"0/{parts} to {parts - 1}/{parts}" if parts > 1 else "0/1"


# ---------------------------------------------------------------- below: patterns, lists, catalogues


def _expand(source: str, inside: tuple[Path, ...], apart_from: Path | None) -> Iterator[str]:
    """The scenes behind one source; `inside` are the lists that led to it."""
    path = Path(source)
    if _ADDRESS.match(source):
        if "*" in source:
            raise InputError(
                f"{source} is a pattern of addresses; patterns match files of this machine only: list the addresses in a .txt file"
            )
        yield source
    elif _PATTERN.search(source) and not path.exists():
        for match in _matches(source, apart_from):
            yield from _expand(match, inside, apart_from)
    elif path.suffix.lower() == ".txt" and path.is_file() and not METADATA.search(path.as_posix()):
        for line in _lines(_entered(path, inside)):
            yield from _expand(line, (*inside, path.resolve()), apart_from)
    elif path.suffix.lower() in (".json", ".geojson") and path.is_file():
        yield from _catalogued(source, inside)
    else:
        yield source


def _matches(pattern: str, apart_from: Path | None) -> list[str]:
    """What lies on the disk and has a name like this, in natural order."""
    found = sorted(glob.glob(pattern, recursive=True), key=_natural)
    if not found:
        raise InputError(f"no file or folder matches {pattern}; check the pattern and the folder it begins in")
    if apart_from is None or _begins_in(pattern, apart_from):
        return found
    kept = [match for match in found if not Path(match).resolve().is_relative_to(apart_from.resolve())]
    if not kept:
        raise InputError(f"{pattern} matches nothing but results in {apart_from}; choose another -o, or another pattern")
    return kept


def _begins_in(pattern: str, folder: Path) -> bool:
    """Whether the part of a pattern before its first wildcard lies in the folder."""
    parts = Path(pattern).parts
    fixed = next(place for place, part in enumerate(parts) if _PATTERN.search(part))
    return Path(*parts[:fixed]).resolve().is_relative_to(folder.resolve())


def _natural(text: str) -> tuple[list[str | int], str]:
    """Sorts numbers inside names by their value."""
    return [int(part) if part.isdecimal() else part.casefold() for part in re.split(r"(\d+)", text)], text


def _entered(path: Path, inside: tuple[Path, ...]) -> Path:
    if path.resolve() in inside:
        raise InputError(f"{path} leads back to itself; take it out of the list or catalogue that names it")
    return path


def _lines(path: Path) -> list[str]:
    """The sources in a text file, with paths as they count from here."""
    data = path.read_bytes()
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))  # as PowerShell writes it
    try:
        lines = [line.strip() for line in data.decode("utf-16" if wide else "utf-8-sig").splitlines()]
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not a text file in UTF-8 ({error.reason}); save it as UTF-8, with one scene on a line") from error
    named = [line for line in lines if line and not line.startswith("#")]
    if not named:
        raise InputError(f"{path} names no scene; write one on each line")
    return [line if _ADDRESS.match(line) else str(path.parent / line) for line in named]


def _catalogued(source: str, inside: tuple[Path, ...]) -> Iterator[str]:
    """The Items behind a JSON file; one that is neither catalogue nor collection is a scene by itself."""
    fields = _read_json(Path(source))
    kind = fields.get("type") if isinstance(fields, dict) else None
    if kind == "FeatureCollection":
        yield from _members(source, fields["features"] if isinstance(fields.get("features"), list) else [])
    elif kind in ("Catalog", "Collection"):
        found = list(_linked(source, fields, (*inside, _entered(Path(source), inside).resolve())))
        if not found and not inside:
            raise InputError(f"{source} is a STAC {kind} that leads to no Item; give one with links of rel 'item' or 'child', or the Items")
        yield from found
    else:
        yield source


def _members(source: str, features: Sequence[Any]) -> Iterator[str]:
    """A collection's Items, each named by the file and its id."""
    if not features:
        raise InputError(f"{source} is a FeatureCollection without features; give one that holds STAC Items")
    seen: dict[str, Any] = {}
    for feature in features:
        if not isinstance(feature, dict) or not isinstance(feature.get("assets"), dict) or not isinstance(feature.get("id"), str):
            raise InputError(f"{source} holds features that are no STAC Items (with id and assets); give a collection of Items as scenes")
        if seen.setdefault(feature["id"], feature) != feature:
            raise InputError(f"{source} holds two different Items called {feature['id']}; keep one of them, or split the file")
        yield f"{source}#{quote(feature['id'], safe='')}"


def _linked(source: str, fields: dict[str, Any], inside: tuple[Path, ...]) -> Iterator[str]:
    """What a catalogue's links lead to: Items anywhere, catalogues on this machine only."""
    links = [link for link in fields.get("links") or () if isinstance(link, dict) and isinstance(link.get("href"), str)]
    for link in links:
        if link.get("rel") == "item":
            yield _local(absolute(link["href"], source))
        elif link.get("rel") == "child":
            child = _local(absolute(link["href"], source))
            if _ADDRESS.match(child) or not Path(child).is_file():
                raise InputError(
                    f"{source} leads on to {child}, which is no file of this machine; fetch it, or list its Items in a .txt file"
                )
            yield from _catalogued(child, inside)


def _local(address: str) -> str:
    """An address as a path where it is one of this machine, without detours."""
    path = urlsplit(address).path if address.startswith("file://") else address
    return path if _ADDRESS.match(path) else os.path.normpath(path)


def _read_json(path: Path) -> Any:
    """The file's content; None where it is no JSON, of which opening it as a scene will tell."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None


def _identity(source: str) -> str:
    """Equal for two spellings of one scene."""
    return source if _ADDRESS.match(source) else os.path.normcase(from_root(source))
