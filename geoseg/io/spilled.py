"""Arrays that grow piece by piece, and lie in a file without a name once they are large: the system holds what it has room for."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from geoseg.io.atomic import output_error

LARGE = 1 << 25
"""Bytes from which an array goes to the disk."""


class Pieces:
    """Arrays (item,) of one type, one after the other; in a file from `LARGE` bytes on.

    The file lies in `folder`, has no name that anybody else sees, and is gone with the last array that shows it, also after a crash.
    OutputError where the disk is full.
    """

    def __init__(self, folder: Path, dtype: DTypeLike) -> None:
        self._folder, self._dtype = folder, np.dtype(dtype)
        self._held: list[NDArray[Any]] = []
        self._held_bytes = 0
        self._file: IO[bytes] | None = None
        self._ends: list[int] = []

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def append(self, piece: NDArray[Any]) -> None:
        """Put these items behind the others."""
        self._ends.append(len(self) + len(piece))
        self._held.append(np.ascontiguousarray(piece, self._dtype))
        self._held_bytes += self._held[-1].nbytes
        if self._held_bytes >= LARGE:
            self._write()

    def whole(self) -> NDArray[Any]:
        """All items as one array, which may be written to; nothing may be appended any more."""
        if self._file is None:
            self._held = [np.concatenate([np.empty(0, self._dtype), *self._held])]
            return self._held[0]
        self._write(last=True)
        return np.memmap(self._file, self._dtype, mode="r+", shape=(len(self),))

    def parts(self, whole: NDArray[Any]) -> Iterator[NDArray[Any]]:
        """What was appended, piece by piece, as views of `whole`."""
        for start, end in zip([0, *self._ends], self._ends, strict=False):
            yield whole[start:end]

    def _write(self, *, last: bool = False) -> None:
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=self._folder, prefix=".geoseg-")
            for piece in self._held:
                self._file.write(piece.data)
            if last:
                self._file.flush()
        except OSError as error:
            raise output_error(self._folder / "what is too large for memory", error) from error
        self._held, self._held_bytes = [], 0


def on_disk_if_large(values: NDArray[Any], folder: Path) -> NDArray[Any]:
    """The same values; in a file where they are large."""
    pieces = Pieces(folder, values.dtype)
    pieces.append(values)
    return pieces.whole()


def numbers(count: int, folder: Path) -> NDArray[np.int64]:
    """0, 1, 2 … up to `count` (exclusive), which may be written to; in a file where they are large."""
    pieces = Pieces(folder, np.int64)
    step = max(1, LARGE // 8)
    for start in range(0, count, step):
        pieces.append(np.arange(start, min(start + step, count)))
    return pieces.whole()
