"""Touching buildings told apart: each connected block of a class map divided along what a network says of edges or distances.

A block is flooded from its insides outwards (the watershed of Vincent and Soille 1991, "Watersheds in digital spaces: an
efficient algorithm based on immersion simulations"). Where their watershed also begins at every small peak, here two peaks
are two buildings only if the way between them falls below half of the lower one.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.io import DatasetReader
from rasterio.windows import Window

from geoseg.io.cog import RowWriter
from geoseg.polygons.regions import Regions, find_regions, strips_with_regions
from geoseg.polygons.strips import map_geobox, read_strips

_log = logging.getLogger(__name__)

_PIECE = 1 << 16
"""Number of a pixel: its class code plus this times the number of its piece; 0 is the whole of what was not divided."""
_LEVELS = 32
_SADDLE = 0.5
"""Two peaks are two buildings where the way from one to the other falls below this share of the lower one."""
_LEAST_PEAK = 0.5
"""A building has a pixel that is no edge with this score or more."""
_MOST_PIXELS = 2**22
"""Pixels around one block that are held at once; a larger block stays whole."""


@dataclass(frozen=True)
class Separator:
    """A raster on the map's grid that tells touching buildings apart."""

    path: Path
    kind: Literal["edge", "distance"]
    """`edge`: scores of being an edge, 0…1; `distance`: how far a pixel lies inside its building, in any unit."""
    bands: tuple[int, ...] = (1,)
    """Bands that add up to the score of an edge; the one of the distance. Scale, offset and nodata are applied."""


@dataclass(frozen=True)
class _Block:
    """A connected region of buildings: where it lies."""

    top: int
    left: int
    bottom: int
    """Row after its last."""
    right: int
    first_col: int
    """Column of its first pixel in the top row."""


@dataclass
class _Pieces:
    """The pieces of a block that are still to be written."""

    block: _Block
    numbers: NDArray[np.uint32]
    """(row, col) number of the piece; 0 outside the block."""


def codes_of_pieces(numbers: NDArray[np.integer]) -> NDArray[Any]:
    """The class codes of the numbers that `split_touching` wrote, of any shape."""
    return numbers % _PIECE


def split_touching(classes: Path, out: Path, *, codes: Collection[int], separator: Separator) -> int:
    """Write the class map as one of uint32, in which touching buildings are different numbers; return how many more there are.

    `codes` are those of buildings. Class map and separator are read strip by strip and block by block; what has
    more than 2048 x 2048 pixels around it stays whole. Pieces hang together by their sides, cover their block and do not
    depend on where the grid begins.
    """
    regions = find_regions(classes)
    blocks = _blocks(classes, regions, codes)
    made, count = 0, 0
    held: list[_Pieces] = []
    with ExitStack() as stack:
        writer = stack.enter_context(RowWriter(out, map_geobox(classes), count=1, dtype=np.uint32))
        source, scores = (stack.enter_context(rasterio.open(path)) for path in (classes, separator.path))
        for strip in read_strips(classes):
            stop = strip.first_row + strip.codes.shape[0]
            while blocks and blocks[-1].top < stop:
                pieces = _divide(blocks.pop(), source, scores, separator)
                if pieces is not None:
                    pieces.numbers[pieces.numbers > 0] += count
                    count = int(pieces.numbers.max())
                    made += len(np.unique(pieces.numbers[pieces.numbers > 0])) - 1
                    held.append(pieces)
            numbers = strip.codes.astype(np.uint32)
            for pieces in held:
                _paste(pieces, numbers, strip.first_row)
            held = [pieces for pieces in held if pieces.block.bottom > stop]
            writer.append(numbers[np.newaxis])
    return made


def _blocks(classes: Path, regions: Regions, codes: Collection[int]) -> list[_Block]:
    """The regions of these codes, the last one first."""
    wanted = np.flatnonzero(np.isin(regions.codes, list(codes)))
    number = np.full(len(regions), -1)
    number[wanted] = np.arange(len(wanted))
    far = np.iinfo(np.int64).max
    top, left, bottom, right, first_col = (np.full(len(wanted), value, dtype=np.int64) for value in (far, far, -1, -1, -1))
    for strip, of_runs in strips_with_regions(classes, regions):
        runs = np.flatnonzero(number[of_runs] >= 0)
        block = number[of_runs[runs]]
        row, col = np.divmod(strip.firsts[runs], strip.codes.shape[1])
        row += strip.first_row
        unseen, first = np.unique(block, return_index=True)
        new = first_col[unseen] < 0
        first_col[unseen[new]] = col[first[new]]
        np.minimum.at(top, block, row)
        np.minimum.at(left, block, col)
        np.maximum.at(bottom, block, row + 1)
        np.maximum.at(right, block, col + strip.lengths[runs])
    return [_Block(*corners) for corners in np.stack([top, left, bottom, right, first_col], axis=1)[::-1].tolist()]


def _divide(block: _Block, classes: DatasetReader, scores: DatasetReader, separator: Separator) -> _Pieces | None:
    """The block's pieces, numbered from 1; None where it is one building."""
    from scipy import ndimage  # few maps divide blocks, and it takes long to load

    height, width = block.bottom - block.top, block.right - block.left
    if height * width > _MOST_PIXELS:
        _log.warning("a block of buildings of %d x %d pixels is too large to be divided and stays whole", height, width)
        return None
    window = Window(block.left, block.top, width, height)
    codes = classes.read(1, window=window)
    parts, _ = ndimage.label(codes == codes[0, block.first_col - block.left])
    mask = parts == parts[0, block.first_col - block.left]
    inside = np.where(mask, _inside(scores, separator, window), 0)
    peak = float(inside.max())
    if peak <= 0:
        return None
    levels = np.floor(inside / peak * _LEVELS).astype(np.uint8)
    least = _LEAST_PEAK * _LEVELS / peak if separator.kind == "edge" else 1
    markers = _markers(levels, least)
    return None if len(markers) < 2 else _Pieces(block, _flood(levels, mask, markers))


def _inside(scores: DatasetReader, separator: Separator, window: Window) -> NDArray[np.float64]:
    """(row, col) 0 or more: how much a pixel is inside a building; 0 where that is not known."""
    total = np.zeros((window.height, window.width))
    for band in separator.bands:
        stored = scores.read(band, window=window, masked=True).astype(np.float64)
        values = stored * scores.scales[band - 1] + scores.offsets[band - 1]
        total += np.ma.filled(np.ma.masked_invalid(values), 1.0 if separator.kind == "edge" else 0.0)
    return np.maximum(0, 1 - total if separator.kind == "edge" else total)


def _markers(levels: NDArray[np.uint8], least: float) -> list[int]:
    """A pixel of each building, counted along the rows: the peaks that no higher way joins to a higher peak."""
    from scipy import ndimage

    markers: dict[int, int] = {}  # pixel → level of its peak
    for level in range(_LEVELS, 0, -1):
        if not (levels == level).any():
            continue
        parts, count = ndimage.label(levels >= level)
        of_pixels = parts.ravel()
        found: dict[int, list[int]] = {}
        for pixel in markers:
            found.setdefault(int(of_pixels[pixel]), []).append(pixel)
        if level >= least and len(found) < count:
            numbers, first = np.unique(of_pixels, return_index=True)
            fresh = zip(numbers.tolist(), first.tolist(), strict=True)
            markers |= {pixel: level for number, pixel in fresh if number and number not in found}
        for together in found.values():
            highest = min(together, key=lambda pixel: (-markers[pixel], pixel))
            for pixel in together:
                if pixel != highest and level >= _SADDLE * markers[pixel]:
                    del markers[pixel]
    return sorted(markers)


def _flood(levels: NDArray[np.uint8], mask: NDArray[np.bool_], markers: list[int]) -> NDArray[np.uint32]:
    """(row, col) number of the marker from which each pixel of the mask is reached first, going down; of equal ones the lower."""
    none = np.uint32(len(markers) + 1)
    numbers = np.full((mask.shape[0] + 2, mask.shape[1] + 2), none, dtype=np.uint32)
    inner = numbers[1:-1, 1:-1]
    inner[np.unravel_index(markers, mask.shape)] = np.arange(1, len(markers) + 1)
    for level in range(_LEVELS, -1, -1):
        allowed = mask & (levels >= level)
        while True:
            near = np.minimum.reduce([numbers[:-2, 1:-1], numbers[2:, 1:-1], numbers[1:-1, :-2], numbers[1:-1, 2:]])
            new = allowed & (inner == none) & (near < none)
            if not new.any():
                break
            inner[new] = near[new]
    return np.where(mask, inner, 0).astype(np.uint32)


def _paste(pieces: _Pieces, numbers: NDArray[np.uint32], first_row: int) -> None:
    """Add what lies in these rows of a block's pieces to the codes there."""
    block = pieces.block
    top, bottom = max(block.top, first_row), min(block.bottom, first_row + len(numbers))
    here = numbers[top - first_row : bottom - first_row, block.left : block.right]
    here += pieces.numbers[top - block.top : bottom - block.top] * np.uint32(_PIECE)
