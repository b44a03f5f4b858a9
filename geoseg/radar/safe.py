"""SAFE products of Sentinel-1, as folders and zips: which files they hold, and their bytes."""

from __future__ import annotations

import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from geoseg.errors import SceneError
from geoseg.io.names import safe_name

MANIFEST = "manifest.safe"


@dataclass(frozen=True)
class Safe:
    """A SAFE folder, on disk or inside a zip."""

    given: str
    """What the user wrote."""
    folder: Path
    """The SAFE folder, or the zip."""
    inside: str
    """Path of the SAFE folder inside the zip, with a slash at its end; empty on disk."""
    members: tuple[str, ...]
    """Files, by their path from the SAFE folder."""

    @property
    def name(self) -> str:
        """Safe in file names."""
        return safe_name(self.inside or str(self.folder.resolve()))

    @property
    def is_zip(self) -> bool:
        """Whether the files lie inside a zip."""
        return self.folder.is_file()

    def read(self, member: str) -> bytes:
        """A file's bytes; SceneError where it is damaged."""
        try:
            if not self.is_zip:
                return (self.folder / member).read_bytes()
            with zipfile.ZipFile(self.folder) as archive:
                return archive.read(self.inside + member)
        except (OSError, zipfile.BadZipFile, EOFError) as error:
            raise SceneError(f"{member} of {self.given} cannot be read ({error}); fetch the product again") from error

    def gdal_path(self, member: str) -> str:
        """A file as GDAL opens it."""
        if self.is_zip:
            return f"/vsizip/{self.folder.resolve().as_posix()}/{self.inside}{member}"
        return str(self.folder / member)

    def parse(self, member: str) -> Element:
        """A file's XML; SceneError where it is none."""
        try:
            return ElementTree.fromstring(self.read(member))
        except ElementTree.ParseError as error:
            raise SceneError(f"{member} of {self.given} is not valid XML ({error}); fetch the product again") from error


def find_safe(given: str | Path) -> Safe | None:
    """The Sentinel-1 SAFE folder that this is, holds (folder or zip) or belongs to (manifest.safe); None where there is none or several.

    SceneError for a SAFE folder without its manifest, and for one image of a product.
    """
    path = Path(given)
    if path.name.lower() == MANIFEST and path.is_file():
        path = path.parent
    if path.is_file() and path.parent.name == "measurement" and (path.parent.parent / MANIFEST).is_file():
        raise SceneError(
            f"{given} is one image of a Sentinel-1 product and says nothing of its calibration; "
            f"give the whole product: {path.parent.parent}"
        )
    if path.is_dir():
        safe = _in_folder(path, str(given))
    elif path.is_file() and zipfile.is_zipfile(path):
        safe = _in_zip(path, str(given))
    else:
        return None
    return safe if safe is not None and b"SENTINEL-1" in safe.read(MANIFEST) else None


def _in_folder(path: Path, given: str) -> Safe | None:
    if not (path / MANIFEST).is_file():
        if re.fullmatch(r"(?i)s1[a-d]_.*\.safe", path.resolve().name):
            raise SceneError(f"{given} is a Sentinel-1 product without its {MANIFEST}; fetch the product again")
        inside = [entry for entry in path.iterdir() if entry.suffix.upper() == ".SAFE" and entry.is_dir()]
        return _in_folder(inside[0], given) if len(inside) == 1 else None
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return Safe(given, path, "", tuple(file.relative_to(path).as_posix() for file in files))


def _in_zip(path: Path, given: str) -> Safe | None:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    roots = [name.removesuffix(MANIFEST) for name in names if re.fullmatch(rf"([^/]+/)*{MANIFEST}", name)]
    if len(roots) != 1:
        return None
    members = [name.removeprefix(roots[0]) for name in names if name.startswith(roots[0]) and not name.endswith("/")]
    return Safe(given, path, roots[0], tuple(sorted(members)))
