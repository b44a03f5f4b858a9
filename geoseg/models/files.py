"""The files of a model package, in a folder or a .zip: read as bytes, never run, never outside the package."""

from __future__ import annotations

import hashlib
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from geoseg.errors import PackageError

_PICKLES = (".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".bin", ".t7")
_PICKLE_START = b"\x80"
"""First byte of a pickle of protocol 2 or later."""
_ZIP_START = b"PK"
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://|/vsi", re.IGNORECASE)
_BLOCK = 1 << 20
LARGEST_METADATA, LARGEST_FILE = 16 << 20, 8 << 30
"""In bytes: what is larger is more likely a zip that was made to fill the memory."""


@dataclass(frozen=True)
class PackageFiles:
    """Reads single files of a package by name."""

    path: Path
    archive: zipfile.ZipFile | None
    """None for a folder."""

    def read(self, name: str, *, largest: int = LARGEST_FILE) -> bytes:
        """All bytes of one file; PackageError where it is missing, unreadable, or has more than `largest` bytes."""
        return b"".join(self._blocks(name, largest))

    def digest(self, name: str) -> str:
        """SHA-256 of one file in hexadecimal digits, read in blocks."""
        digest = hashlib.sha256()
        for block in self._blocks(name, LARGEST_FILE):
            digest.update(block)
        return digest.hexdigest()

    def _blocks(self, name: str, largest: int) -> Iterator[bytes]:
        size = 0
        try:
            with self._stream(name) as stream:
                while block := stream.read(_BLOCK):
                    size += len(block)
                    if size > largest:
                        raise PackageError(f"{name} in {self.path} has more than {largest:,} bytes; no model package of geoseg has that")
                    yield block
        except (KeyError, FileNotFoundError) as error:
            raise PackageError(f"{self.path} has no {name}; expected a model package, a folder or .zip that geoseg wrote") from error
        except (OSError, zipfile.BadZipFile, EOFError, RuntimeError, NotImplementedError, ValueError) as error:
            raise PackageError(f"{name} in {self.path} cannot be read ({error}); fetch or make the package again") from error
        except _decompression_errors() as error:
            raise PackageError(f"{name} in {self.path} is damaged ({error}); fetch or make the package again") from error

    def _stream(self, name: str) -> IO[bytes]:
        if self.archive is not None:
            return self.archive.open(name)
        file = self.path / name
        if file.resolve().parent != self.path.resolve():
            raise PackageError(f"{name} in {self.path} is a link that leads out of the package; put the file itself there")
        return file.open("rb")


@contextmanager
def open_files(path: str | Path) -> Iterator[PackageFiles]:
    """The files of the package at `path`; PackageError in one sentence where that is no package."""
    if _ADDRESS.match(str(path)):
        raise PackageError(f"{path} is an address; geoseg downloads no models: fetch it and give the folder or .zip")
    path = Path(path)
    if path.is_dir():
        yield PackageFiles(path, None)
        return
    _refuse_other_files(path)
    try:
        archive = zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile, ValueError) as error:
        raise PackageError(f"{path} is damaged: it cannot be read as a .zip ({error}); fetch or make the package again") from error
    with archive:
        _check_members(archive, path)
        yield PackageFiles(path, archive)


def _refuse_other_files(path: Path) -> None:
    try:
        with path.open("rb") as stream:
            start = stream.read(2)
    except FileNotFoundError as error:
        raise PackageError(f"there is no model package {path}; give a folder or .zip that geoseg wrote") from error
    except OSError as error:
        raise PackageError(f"the model package {path} cannot be read: {error.strerror}; give a folder or .zip that geoseg wrote") from error
    if path.suffix.lower() in _PICKLES or start.startswith(_PICKLE_START):
        _refuse_pickle(path)
    if start != _ZIP_START:
        raise PackageError(f"{path} is no model package; expected a folder or .zip with model.json, such as geoseg train writes")


def _check_members(archive: zipfile.ZipFile, path: Path) -> None:
    names = archive.namelist()
    for name in names:
        if name.startswith(("/", "\\")) or "\\" in name or ":" in name or ".." in PurePosixPath(name).parts:
            raise PackageError(f"{path} holds the file name {name!r}, which leads out of the package; geoseg does not open it")
    if len(set(names)) < len(names):
        raise PackageError(f"{path} holds a file name twice; geoseg does not open it: fetch or make the package again")
    if "model.json" not in names and any(PurePosixPath(name).name == "data.pkl" for name in names):
        _refuse_pickle(path)
    if "model.json" not in names and any(PurePosixPath(name).name == "model.json" for name in names):
        raise PackageError(f"{path} has its model.json inside a folder; zip the files themselves, so that model.json lies at the top")


def _refuse_pickle(path: Path) -> None:
    raise PackageError(
        f"{path} is a pickle, which can run any code when it is loaded, so geoseg does not open it; "
        "expected a model package, a folder or .zip with model.json, such as geoseg train writes"
    )


def _decompression_errors() -> tuple[type[Exception], ...]:
    """What the decompressors raise on damaged bytes."""
    import lzma
    import zlib

    return zlib.error, lzma.LZMAError
