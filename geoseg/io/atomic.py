"""Files appear whole or not at all: written beside their place, then renamed."""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from geoseg.errors import OutputError

_FULL = {getattr(errno, name) for name in ("ENOSPC", "EFBIG", "EDQUOT") if hasattr(errno, name)}
_FULL_WORDS = re.compile(r"no space left|file too large|disk quota|not enough space|disk is full|disk full|no more room", re.IGNORECASE)
_FORBIDDEN = re.compile(r'[<>:"|?*\\\x00-\x1f]')
_RESERVED = re.compile(r"(con|prn|aux|nul|com[1-9]|lpt[1-9])(\..*)?", re.IGNORECASE)
_NEARLY_FULL_BYTES = 1 << 20
_ON_WINDOWS = os.name == "nt"


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A path to write to, in a folder of its own beside `path`; it becomes `path` when the block ends without an error.

    Missing parent folders are made; a file that stands at `path` is replaced. After an error nothing is left, whatever side
    files a library put beside the written one; an OSError comes out as OutputError.
    """
    check_name(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=".geoseg-", dir=path.parent))
    except OSError as error:
        raise output_error(path, error) from error
    try:
        part = folder / path.name
        yield part
        os.replace(part, path)
    except OSError as error:
        raise output_error(path, error) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def check_name(path: Path) -> None:
    """Raise OutputError where the file's name cannot exist on Windows, so that results can be moved to any machine."""
    name = path.name
    if found := _FORBIDDEN.search(name):
        raise OutputError(
            f"the output name {name!r} contains {found[0]!r}, which Windows and GDAL do not take in a file name; choose another"
        )
    if _RESERVED.fullmatch(name):
        raise OutputError(f"the output name {name!r} is a reserved word on Windows; choose another")
    if name != name.rstrip(". "):
        raise OutputError(f"the output name {name!r} ends with a dot or a space, which Windows drops; choose another")


def output_error(path: Path, error: BaseException | str) -> OutputError:
    """The sentence for a failed write to `path`: disk full, not permitted, open elsewhere, or what the library said."""
    number = error.errno if isinstance(error, OSError) else None
    if number in _FULL or _FULL_WORDS.search(_one_line(error)) or _free_bytes(path.parent) < _NEARLY_FULL_BYTES:
        return OutputError(f"{path} could not be written: the disk is full, or files may not grow that large there; free some space")
    if isinstance(error, PermissionError) and _ON_WINDOWS and path.exists():
        return OutputError(f"{path} could not be written: it is open in another program (QGIS?); close it there and try again")
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        return OutputError(f"{path} could not be written: no permission to write in {path.parent}; choose another output folder")
    if number in (errno.ENOTDIR, errno.EEXIST, errno.ENOENT) and not path.parent.is_dir():
        return OutputError(f"{path} could not be written: {path.parent} is not a folder; choose another output folder")
    if isinstance(error, IsADirectoryError) or path.is_dir():
        return OutputError(f"{path} could not be written: a folder of that name is there; choose another output name")
    return OutputError(
        f"{path} could not be written whole ({_one_line(error)}); most likely the disk is full: free some space and try again"
    )


def _one_line(error: BaseException | str) -> str:
    """What was said, with what a library keeps in the error's cause."""
    cause = error.__cause__ if isinstance(error, BaseException) else None
    return " ".join(str(cause or error).split()).rstrip(".")


def _free_bytes(folder: Path) -> int:
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return _NEARLY_FULL_BYTES
