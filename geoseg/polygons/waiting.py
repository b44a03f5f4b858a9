"""Corners of the regions that go on below a strip, kept until their region ends."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoseg.polygons.trace import ranges

_LEAST_USED = 0.5
"""Kept corners are packed anew when less than this share of them is still of open regions."""


@dataclass
class _Chunk:
    """Corners of open regions from one strip, region by region."""

    words: NDArray[np.int64]
    used: int
    """Corners whose region is still open."""


class WaitingCorners:
    """Corners of open regions. Each strip leaves one piece for each region; a piece is a slice of that strip's chunk."""

    def __init__(self) -> None:
        self._chunks: dict[int, _Chunk] = {}
        self._next = 0
        self._region, self._chunk, self._start, self._stop = (np.zeros(0, dtype=np.int64) for _ in range(4))

    def push(self, words: NDArray[np.int64], region: NDArray[np.int32]) -> None:
        """Keep these corners."""
        if not len(region):
            return
        order = np.argsort(region, kind="stable")
        ordered = region[order]
        start = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
        self._add(ordered[start], start, words[order])

    def pop(self, ended: NDArray[np.bool_]) -> tuple[list[NDArray[np.int64]], list[NDArray[np.int64]]]:
        """The corners of the regions that have ended, row by row, and the region of each; they are kept no longer."""
        words, regions = [], []
        out = ended[self._region]
        for number in np.unique(self._chunk[out]).tolist():
            mine = np.flatnonzero(out & (self._chunk == number))
            chunk = self._chunks[number]
            places = ranges(self._start[mine], self._stop[mine])
            part, region = chunk.words[places], np.repeat(self._region[mine], self._stop[mine] - self._start[mine])
            order = np.argsort(part)
            words.append(part[order])
            regions.append(region[order])
            chunk.used -= len(places)
        self._forget(out)
        return words, regions

    def renumber(self, number: NDArray[np.integer]) -> None:
        """Regions are called by other numbers from now on; several may be one."""
        self._region = number[self._region].astype(np.int64)

    def _forget(self, out: NDArray[np.bool_]) -> None:
        """Drop pieces, and what chunks hold in vain."""
        self._region, self._chunk, self._start, self._stop = (part[~out] for part in (self._region, self._chunk, self._start, self._stop))
        for number, chunk in list(self._chunks.items()):
            if chunk.used == 0:
                del self._chunks[number]
            elif chunk.used < _LEAST_USED * len(chunk.words):
                mine = np.flatnonzero(self._chunk == number)
                lengths = self._stop[mine] - self._start[mine]
                self._chunks[number] = _Chunk(chunk.words[ranges(self._start[mine], self._stop[mine])], chunk.used)
                self._stop[mine] = np.cumsum(lengths)
                self._start[mine] = self._stop[mine] - lengths

    def _add(self, region: NDArray[np.int32], start: NDArray[np.int64], words: NDArray[np.int64]) -> None:
        size = len(words)
        self._chunks[self._next] = _Chunk(words, size)
        self._region = np.concatenate([self._region, region])
        self._chunk = np.concatenate([self._chunk, np.full(len(region), self._next)])
        self._start = np.concatenate([self._start, start])
        self._stop = np.concatenate([self._stop, start[1:], [size]])
        self._next += 1
