"""Files that are shown while somebody may replace or remove them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from geoseg.errors import GeosegError


class GoneError(GeosegError):
    """A file that was there when the page was opened is no longer the same."""


@dataclass(frozen=True)
class Watched:
    """A file as it was when the page was opened."""

    path: Path
    size: int
    """In bytes."""
    changed_ns: int

    @property
    def version(self) -> str:
        """Changes with the file: what a browser keeps of it is then no longer asked for."""
        return hashlib.sha256(f"{self.path}|{self.size}|{self.changed_ns}".encode()).hexdigest()[:12]

    def check(self) -> Path:
        """The path; GoneError where the file is no longer the one that was found."""
        try:
            now = self.path.stat()
        except OSError as error:
            raise GoneError(f"{self.path.name} was removed while it was shown; put it back, or start geoseg view again") from error
        if (now.st_size, now.st_mtime_ns) != (self.size, self.changed_ns):
            raise GoneError(f"{self.path.name} was replaced while it was shown; start geoseg view again to see the new one")
        return self.path


def watch(path: Path) -> Watched:
    """This file from now on."""
    found = path.stat()
    return Watched(path.resolve(), found.st_size, found.st_mtime_ns)
