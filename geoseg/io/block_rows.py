"""How much of a file GDAL must keep decoded, so that no block is decoded twice while a grid is read from top to bottom."""

from __future__ import annotations

from collections.abc import Collection
from math import ceil
from typing import NamedTuple

import numpy as np
from odc.geo.geobox import GeoBox
from rasterio.enums import Interleaving, MaskFlags
from rasterio.io import DatasetReader

from geoseg.io.opening import dataset_geobox, opened
from geoseg.io.resample import NOWHERE, Placement
from geoseg.io.validity import alpha_band

READ_PIXELS = 1 << 22
"""Pixels of each band that are read at once, in rows over the whole width of what is asked for."""
_PLACES = 5
"""A reprojected strip is looked at in this many places down the grid."""


class BlockRows(NamedTuple):
    """MB (10^6 bytes) of a file's decoded blocks."""

    kept: float
    """What two strips share, and so must survive all that is read and written between them."""
    at_once: float
    """What is needed while the file is read."""


def block_rows(path: str, numbers: Collection[int], grid: GeoBox, *, rows: int, overlap: int) -> BlockRows:
    """The blocks of these bands (from 1) of a file that GDAL must keep for none of them to be decoded twice.

    `grid` is read from the top in strips of `rows` rows, each of which begins `overlap` rows above the end of the one before.
    Files whose rows run along those of the grid share a few rows between strips; of others all that one strip crosses is kept.
    """
    with opened(path) as dataset:
        source = dataset_geobox(dataset)
        height, width = dataset.block_shapes[0]
        placement = Placement(source, grid)
        shared = _shared_rows(placement, grid, rows, overlap)
        cut = placement.shift is None or rows % height != 0 or placement.shift[0] % height != 0
        kept = height * ceil((shared - 1) / height) if shared > 1 else height * cut
        row_mb = width * ceil(dataset.width / width) * _pixel_bytes(dataset, numbers) / 1e6
        tallest = height * ceil(dataset.height / height)
        return BlockRows(min(kept, tallest) * row_mb, min(max(height, READ_PIXELS // dataset.width), tallest) * row_mb)


def block_shape(path: str) -> tuple[int, int]:
    """(row, col) size of the blocks of a file's first band."""
    with opened(path) as dataset:
        rows, cols = dataset.block_shapes[0]
        return rows, cols


def _shared_rows(placement: Placement, grid: GeoBox, rows: int, overlap: int) -> int:
    """Rows of the file that a strip reads once more, or crosses where it lies at an angle."""
    if placement.shift is not None:
        return overlap
    if placement.separable:
        return ceil(overlap * placement.coarseness[0]) + 4  # interpolation looks two rows further on each side
    tallest = 0.0
    for top in np.linspace(0, max(0, grid.shape[0] - rows), _PLACES).astype(int):
        strip = grid[top : min(top + rows, grid.shape[0]), :]
        edges = np.array([[0.0], [strip.shape[0] / 2], [strip.shape[0]]]), np.linspace(0, strip.shape[1], 65)[None]
        row, _ = Placement(placement.source, strip)(*edges)
        known = np.clip(row[row > NOWHERE], 0, placement.source.shape[0])
        tallest = max(tallest, float(np.ptp(known)) if known.size else 0.0)
    return ceil(tallest + overlap * placement.coarseness[0]) + 4


def _pixel_bytes(dataset: DatasetReader, numbers: Collection[int]) -> int:
    """Bytes that are decoded for a pixel: of all bands where they are stored together; with alpha, or a mask beside."""
    alpha = alpha_band(dataset)
    together = dataset.interleaving == Interleaving.pixel
    decoded = set(dataset.indexes) if together else {*numbers, *({alpha} if alpha else ())}
    masked = any(MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags for flags in dataset.mask_flag_enums)
    return int(sum(np.dtype(dataset.dtypes[number - 1]).itemsize for number in decoded) + masked)
