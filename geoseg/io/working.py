"""The hidden folder in which one result of a command is made: one process at a time, and kept where work can go on from it."""

from __future__ import annotations

import errno
import logging
import shutil
import sys
from contextlib import suppress
from pathlib import Path
from typing import IO, Self

from geoseg.errors import OutputError
from geoseg.io.atomic import check_name, output_error

_log = logging.getLogger(__name__)
_BUSY = (errno.EAGAIN, errno.EACCES, errno.EWOULDBLOCK, errno.EDEADLK)


class BusyError(OutputError):
    """Another process makes the same result."""

    exit_code = 2


class WorkingFolder:
    """`.NAME.geoseg` inside `out`, for one process at a time; gone at the end, unless it holds what a later run can go on from.

    Set `worth_keeping` once it does: after an error it then stays, and a note on the error says what helps. What an earlier run
    left stays after an error, too, unless `empty` was called. Otherwise the folder goes, and those that were made on the way to it.
    """

    def __init__(self, out: Path, name: str) -> None:
        self.path = out / f".{name}.geoseg"
        self.worth_keeping: str | None = None
        """What a later run can go on from, as a sentence; None where there is nothing of that kind."""
        self._out, self._fresh = out, not self.path.exists()
        self._made = [folder for folder in (out, *out.parents) if not folder.exists()]
        self._lock: IO[bytes] | None = None

    def __enter__(self) -> Self:
        check_name(self.path)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = (self.path / "lock").open("ab")
            if not _locked(self._lock):
                self._lock.close()
                raise BusyError(
                    f"another process is making {self.path.name[1:].removesuffix('.geoseg')} in {self._out} now; wait until it is done, "
                    "stop it, or choose another -o"
                )
        except OSError as error:
            self._clear(keep_folders=False)
            raise output_error(self._out / "map" if self._out.is_dir() else self._out, error) from error
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, *_: object) -> None:
        if error is not None and self.worth_keeping is not None:
            error.add_note(self.worth_keeping)
        if error is None or (self._fresh and self.worth_keeping is None):
            self._clear(keep_folders=error is None)
        elif self._lock is not None:
            self._lock.close()

    def empty(self) -> None:
        """Remove what an earlier run left."""
        self._fresh = True
        for path in self.path.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != "lock":
                path.unlink()

    def _clear(self, *, keep_folders: bool) -> None:
        if self._lock is not None:
            self._lock.close()
            shutil.rmtree(self.path, ignore_errors=True)
        for folder in () if keep_folders else self._made:
            with suppress(OSError):  # holds something by now, or was never made
                folder.rmdir()


def _locked(file: IO[bytes]) -> bool:
    """Whether this process now has the file to itself; the system takes that back when the process ends, however it ends."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _BUSY:
            return False
        _log.warning("%s cannot be locked (%s): see that no other process makes the same map", file.name, error)  # as on some network disks
    return True
