"""Blocks of a file that cannot be read: named in the error, or noted while the rest of the file is used."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.io import DatasetReader
from rasterio.windows import Window

from geoseg.errors import SceneError
from geoseg.io.opening import GDAL_ERRORS, gdal_said
from geoseg.io.remote import line_failed, persistently

ReadBands = Callable[[Sequence[int], Window], tuple[NDArray[Any], ...]]
"""Numbers of bands (from 1) and a window of the file → arrays (band, row, col)."""


@dataclass(frozen=True, order=True)
class DamagedBlock:
    """A block of a file that cannot be read."""

    file: str
    block: tuple[int, int]
    """(row, col) among the file's blocks, counted from 0."""
    rows: tuple[int, int]
    """(first, end) of its pixel rows."""
    cols: tuple[int, int]
    bands: tuple[int, ...]
    """Numbers, from 1, of the bands that are missing there."""

    def __str__(self) -> str:
        bands = f"band {self.bands[0]}" if len(self.bands) == 1 else f"bands {', '.join(map(str, self.bands))}"
        rows, cols = (f"{first}…{end - 1}" for first, end in (self.rows, self.cols))
        return f"{bands}, block ({self.block[0]}, {self.block[1]}), pixel rows {rows} and columns {cols}"


class DamageLog:
    """Blocks that could not be read, each once; several threads may note them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bands: dict[DamagedBlock, set[int]] = {}
        self._untold: list[DamagedBlock] = []

    def note(self, block: DamagedBlock) -> None:
        """Add a block, or further bands of one that is known."""
        with self._lock:
            known = self._bands.setdefault(DamagedBlock(block.file, block.block, block.rows, block.cols, ()), set())
            if not known.issuperset(block.bands):
                known.update(block.bands)
                self._untold.append(block)

    @property
    def blocks(self) -> tuple[DamagedBlock, ...]:
        """All blocks, by file and then from the top left."""
        with self._lock:
            found = [DamagedBlock(one.file, one.block, one.rows, one.cols, tuple(sorted(bands))) for one, bands in self._bands.items()]
        return tuple(sorted(found))

    def news(self) -> tuple[str, ...]:
        """What was noted since this was asked last, as text that `noted_blocks` reads."""
        with self._lock:
            untold, self._untold = self._untold, []
        return tuple(json.dumps(asdict(block), ensure_ascii=False) for block in sorted(untold))


def noted_blocks(notes: Iterable[str]) -> list[dict[str, Any]]:
    """The blocks of many notes, each once, as plain data for a record: file, block, rows, cols, bands."""
    log = DamageLog()
    for note in notes:
        facts = json.loads(note)
        log.note(DamagedBlock(facts.pop("file"), **{name: tuple(value) for name, value in facts.items()}))
    return [{name: list(value) if isinstance(value, tuple) else value for name, value in asdict(one).items()} for one in log.blocks]


def damage_warning(blocks: Sequence[dict[str, Any]]) -> list[str]:
    """A sentence on blocks as `noted_blocks` gives them; none where there are none."""
    if not blocks:
        return []
    few = [DamagedBlock(one["file"], *(tuple(one[name]) for name in ("block", "rows", "cols", "bands"))) for one in blocks[:_SHOWN]]
    named = "; ".join(f"{one.file}: {one}" for one in few)
    count = "1 block" if len(blocks) == 1 else f"{len(blocks)} blocks"
    more = f"; and {len(blocks) - _SHOWN} more, all listed in the Item" if len(blocks) > _SHOWN else ""
    return [f"{count} of the scene cannot be read and the map has no data there: {named}{more}"]


_SHOWN = 3
_noting: ContextVar[DamageLog | None] = ContextVar("damage", default=None)


@contextmanager
def damage_noted(log: DamageLog | None) -> Iterator[None]:
    """Inside this block, in this thread, what a damaged block held is not valid, and it is noted; None: an error, as elsewhere.

    So does `gdal_env` hold for whatever reads: files on any grid, bands computed from several, masks, terrain, the dates of a series.
    """
    before = _noting.set(log)
    try:
        yield
    finally:
        _noting.reset(before)


def known_damage(path: str) -> list[DamagedBlock]:
    """What is noted of this file by now; nothing outside `damage_noted`."""
    log = _noting.get()
    return [] if log is None else [block for block in log.blocks if block.file == path]


def read_into(
    arrays: tuple[NDArray[Any], ...], dataset: DatasetReader, path: str, numbers: Sequence[int], window: Window, read: ReadBands
) -> None:
    """Put what `read` gives for these bands of a window into `arrays` (band, row, col), which hold 0.

    Where that fails, block by block; what cannot be read stays 0 inside `damage_noted`. Otherwise SceneError names the first such
    block. What a server does not deliver after several tries is no damage, and raises.
    """
    try:
        whole = persistently(path, lambda: read(numbers, window), failures=GDAL_ERRORS)
    except GDAL_ERRORS as error:
        if line_failed(path, error):
            raise
        for cell in _cells(dataset, path, numbers, window):
            _read_cell(arrays, cell, numbers, window, read)
    else:
        for array, got in zip(arrays, whole, strict=True):
            array[:] = got


def _cells(dataset: DatasetReader, path: str, numbers: Sequence[int], window: Window) -> Iterator[DamagedBlock]:
    """The blocks under a window, row by row."""
    tall, wide = dataset.block_shapes[numbers[0] - 1]
    for row in range(window.row_off // tall, -(-(window.row_off + window.height) // tall)):
        for col in range(window.col_off // wide, -(-(window.col_off + window.width) // wide)):
            rows, cols = (
                (at * size, min((at + 1) * size, end)) for at, size, end in zip((row, col), (tall, wide), dataset.shape, strict=True)
            )
            yield DamagedBlock(path, (row, col), rows, cols, ())


def _read_cell(arrays: tuple[NDArray[Any], ...], cell: DamagedBlock, numbers: Sequence[int], window: Window, read: ReadBands) -> None:
    """Fill in what can be read of one block; note the bands that cannot, or raise."""
    top, left = window.row_off, window.col_off
    rows = max(cell.rows[0], top), min(cell.rows[1], top + window.height)
    cols = max(cell.cols[0], left), min(cell.cols[1], left + window.width)
    here = np.s_[:, rows[0] - top : rows[1] - top, cols[0] - left : cols[1] - left]
    part, damaged = Window.from_slices(rows, cols), []
    failure: Exception | None = None
    for place, number in enumerate(numbers):
        try:
            got = persistently(cell.file, partial(read, [number], part), failures=GDAL_ERRORS)
        except GDAL_ERRORS as error:
            if line_failed(cell.file, error):
                raise
            failure = error
            damaged.append(number)
        else:
            for array, plane in zip(arrays, got, strict=True):
                array[here][place] = plane[0]
    if failure is None:
        return
    found, log = DamagedBlock(cell.file, cell.block, cell.rows, cell.cols, tuple(damaged)), _noting.get()
    if log is None:
        raise SceneError(
            f"{found.file} opens but cannot be read in full ({found}): it is truncated or damaged; fetch it again, or map the rest with "
            f"--on-error nodata ({gdal_said(failure)})"
        ) from failure
    log.note(found)
