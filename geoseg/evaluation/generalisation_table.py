"""What a benchmark of generalisation is to measure: grounds, and pairs of them to learn on one and be judged on the other."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from geoseg.errors import InputError
from geoseg.scenes.open_scene import open_scene
from geoseg.settings import Settings, nearest, parse, read_yaml

CROSSEARTH_SAR = {
    "N2S": "region",
    "S2N": "region",
    "VV2F": "polarisation",
    "HH2F": "polarisation",
    "C(r)2R": "complex value",
    "C(i)2R": "complex value",
    "F2A": "",
    "A2F": "",
    "O2D": "",
    "D2O": "",
    "S2A": "",
    "D2F": "",
    "W2D": "",
}
"""Settings of CrossEarth-SAR's benchmark (arXiv 2603.12008) whose names are known to us, with their gap where that is known, too; there
are 22 in all, and none of their data comes with geoseg."""


class Place(Settings):
    """Scenes of one kind with their labels."""

    scenes: tuple[str, ...] = Field(min_length=1)
    """Whatever `open_scene` takes; a file is looked for beside the table."""
    labels: tuple[str, ...] = Field(min_length=1)
    """One file for each scene, or one for all."""
    opening: dict[str, Any] = Field(default_factory=dict)
    """What the scenes' numbers mean: arguments of `open_scene`. With `bands: [vv]` here and `bands: ["-", vv]` there, a network that has
    learned one band is shown another."""

    @field_validator("scenes", "labels", mode="before")
    @classmethod
    def _one_is_enough(cls, given: Any) -> Any:
        return (given,) if isinstance(given, str) else given

    @field_validator("opening")
    @classmethod
    def _known_words(cls, given: dict[str, Any]) -> dict[str, Any]:
        known = list(inspect.signature(open_scene).parameters)[1:]
        for word in given:
            if word not in known:
                raise ValueError(f"opening has no {word!r}; {nearest(word, known)}")
        return given

    @model_validator(mode="after")
    def _labels_for_all(self) -> Place:
        if len(self.labels) not in (1, len(self.scenes)):
            raise ValueError(f"{len(self.labels)} files of labels for {len(self.scenes)} scenes; give one for all, or one for each")
        return self


class Pair(Settings):
    """One row: learn here, be judged there."""

    name: str
    source: str
    target: str
    gap: str | None = None
    """In what they differ, such as `region` or `polarisation`; averages are taken of each. None takes that of a published name; `none` is
    a row without a gap, to compare with, and has no part in the average of all."""

    def gap_or_known(self) -> str:
        """The gap; empty where nobody says."""
        return CROSSEARTH_SAR.get(self.name, "") if self.gap is None else self.gap


class Table(Settings):
    """A whole benchmark."""

    recipe: Literal["supervised", "pixel_forest"] = "supervised"
    settings: dict[str, Any] = Field(default_factory=dict)
    """Of the recipe, without `seed`."""
    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1)
    """Each source is learned with each of them."""
    places: dict[str, Place]
    pairs: tuple[Pair, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _go_together(self) -> Table:
        for pair in self.pairs:
            for place in (pair.source, pair.target):
                if place not in self.places:
                    raise ValueError(f"the pair {pair.name!r} names {place!r}; {nearest(place, self.places)}")
        names = [pair.name for pair in self.pairs]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"the pair {twice[0]!r} stands twice; give each a name of its own")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds are {list(self.seeds)}; give each once")
        if "seed" in self.settings:
            raise ValueError("settings say a seed; name all of them in seeds, beside settings")
        return self


def read_table(path: str | Path) -> Table:
    """The table in a YAML file, its files as absolute paths; InputError for what is not one."""
    path = Path(path)
    plain = read_yaml(path)
    if not isinstance(plain, dict):
        raise InputError(f"{path} holds no table; write recipe, settings, seeds, places and pairs, each as KEY: VALUE")
    table = parse(Table, plain, source=str(path))
    places = {name: _beside(place, path.parent) for name, place in table.places.items()}
    return table.model_copy(update={"places": places})


def missing_file(place: Place) -> str | None:
    """The first of its files that is not there; None where all are. What is not on a disk (`/vsi…`, a URL) counts as there."""
    return next((name for name in (*place.scenes, *place.labels) if not _elsewhere(name) and not Path(name).exists()), None)


def _beside(place: Place, folder: Path) -> Place:
    scenes, labels = (tuple(_found(name, folder) for name in names) for names in (place.scenes, place.labels))
    return place.model_copy(update={"scenes": scenes, "labels": labels})


def _found(name: str, folder: Path) -> str:
    return name if _elsewhere(name) else str((folder / name).resolve())


def _elsewhere(name: str) -> bool:
    return name.startswith("/vsi") or "://" in name
