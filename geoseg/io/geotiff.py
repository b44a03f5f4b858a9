"""Reading a raster file onto any grid: its values, and where they are data."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.io import DatasetReader
from rasterio.windows import Window

from geoseg.errors import BandError, SceneError
from geoseg.io.block_rows import READ_PIXELS
from geoseg.io.damage import known_damage, read_into
from geoseg.io.opening import dataset_geobox, file_geobox, files_kept_open, gdal_env, opened
from geoseg.io.resample import NOWHERE, Floats, Method, Placement, axis_weights, blend, cell_mean, inside, sample
from geoseg.io.validity import valid_pixels
from geoseg.raster import Raster
from geoseg.sensors import Band

__all__ = ["Resampling", "file_geobox", "files_kept_open", "footprint", "gdal_env", "read_raster", "unreadable", "warp"]

Resampling = Literal["auto", "nearest", "bilinear", "average"]
"""`auto`: the mean where target pixels are at least 1.5 times coarser, else bilinear."""
ReadWindow = Callable[[tuple[int, int], tuple[int, int]], tuple[NDArray[Any], NDArray[np.bool_]]]
"""(first pixel (row, col), shape (row, col)) of a window inside the source grid → its values and validity (band, row, col)."""

_COARSER = 1.5
_BLOCK_PIXELS = 1 << 20
_SOURCE_PIXELS = READ_PIXELS
"""What is read at once for a block on another grid; a block that needs more is cut."""
_HALF = 0.5 - 1e-9


def read_raster(
    path: str, bands: Sequence[int] | Mapping[int, Band], geobox: GeoBox | None = None, *, resampling: Resampling = "auto"
) -> Raster:
    """The bands with these numbers (from 1), in this order, on the grid `geobox`; on the file's own where it is None.

    A window of the file's own grid is read as it is stored, whatever `resampling` says; beyond the file's edge it is not valid.
    On any other grid each pixel is computed at its exact place, so pieces equal the whole bit for bit. Bands with the role
    `quality` or the unit `class` take the nearest pixel; bands in `dB` are interpolated in linear power, encoded ones decoded.

    dtype: as stored on the file's own grid and where all bands take the nearest pixel; else float32, or float64 for 32-bit integers and
    wider. Values are 0 where not valid. Valid is right for nodata as a value or NaN, alpha, internal and sidecar masks;
    `Band.nodata` counts where the file states none. An interpolated pixel is valid where the source pixel at its centre is, a
    mean where at least half of its area is.

    SceneError: the file cannot be read, a block of it is damaged (unless inside `damage_noted`: then it is not valid), or it does not
    say where it lies. BandError: it has no such band.

    >>> raster = geoseg.read_raster("scene.tif", [2])
    >>> raster.values.shape, raster.values.dtype
    ((1, 60, 60), dtype('uint8'))
    """
    with opened(path) as dataset:
        source = dataset_geobox(dataset)
        target = source if geobox is None else geobox
        known = _describe(dataset, bands)
        placement = Placement(source, target)
        if (shift := placement.shift) is not None:
            values, valid = _read_window(dataset, path, known, shift, target.shape.yx)
        else:
            values, valid = _read_warped(dataset, path, known, placement, resampling)
    return Raster(values, valid, target, tuple(known.values()))


def footprint(path: str, geobox: GeoBox) -> NDArray[np.bool_]:
    """(row, col) of `geobox`: True where the pixel's centre lies inside the file's extent, data or not."""
    placement = Placement(file_geobox(path), geobox)
    covered = np.zeros(geobox.shape, dtype=bool)
    for rows, cols in _blocks(geobox.shape.yx, placement.separable):
        covered[rows, cols] = inside(*placement(*_centres(rows, cols)), placement.source.shape.yx)
    return covered


def unreadable(path: str, geobox: GeoBox) -> NDArray[np.bool_]:
    """(row, col) of `geobox`: True where the pixel's centre lies in a block of the file that is noted as damaged, in any band."""
    lost = np.zeros(geobox.shape, dtype=bool)
    if damage := known_damage(path):
        placement = Placement(file_geobox(path), geobox)
        for rows, cols in _blocks(geobox.shape.yx, placement.separable):
            row, col = placement(*_centres(rows, cols))
            for one in damage:
                lost[rows, cols] |= (row >= one.rows[0]) & (row < one.rows[1]) & (col >= one.cols[0]) & (col < one.cols[1])
    return lost


def _describe(dataset: DatasetReader, bands: Sequence[int] | Mapping[int, Band]) -> dict[int, Band]:
    if wrong := [number for number in bands if not 1 <= number <= dataset.count]:
        raise BandError(f"no band {wrong[0]} in {dataset.name}; it has {dataset.count}, counted from 1")
    dtypes, descriptions = dataset.dtypes, dataset.descriptions
    if any(np.dtype(dtypes[number - 1]).kind == "c" for number in bands):
        raise SceneError(f"{dataset.name} holds complex numbers (single-look radar); give intensity or amplitude instead")
    if isinstance(bands, Mapping):
        return dict(bands)
    return {number: Band(descriptions[number - 1] or f"band {number}", f"band{number}") for number in bands}


def _read_window(
    dataset: DatasetReader, path: str, bands: Mapping[int, Band], first: tuple[int, int], shape: tuple[int, int]
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """A window of the file's own grid that starts at pixel `first` (row, col); outside the file it is not valid.

    Read in rows that end where the file's blocks do: bands, alpha and masks of one row of blocks come before the next, so that GDAL
    need not keep more than that.
    """
    values = np.zeros((len(bands), *shape), dtype=np.result_type(*(dataset.dtypes[number - 1] for number in bands)))
    valid = np.zeros(values.shape, dtype=bool)
    (top, left), (bottom, right) = first, (first[0] + shape[0], first[1] + shape[1])
    rows, cols = (max(top, 0), min(bottom, dataset.height)), (max(left, 0), min(right, dataset.width))
    if rows[0] >= rows[1] or cols[0] >= cols[1]:
        return values, valid

    def read(numbers: Sequence[int], window: Window) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        stored = dataset.read(list(numbers), window=window, out_dtype=values.dtype)
        known = valid_pixels(dataset, {number: bands[number] for number in numbers}, stored, window, beside=bands)
        if not known.all():
            np.copyto(stored, 0, where=~known)
        return stored, known

    for above, below in _along_blocks(dataset, rows, cols[1] - cols[0]):
        window = Window.from_slices((above, below), cols)
        part = np.s_[:, above - top : below - top, cols[0] - left : cols[1] - left]
        read_into((values[part], valid[part]), dataset, path, list(bands), window, read)
    return values, valid


def _along_blocks(dataset: DatasetReader, rows: tuple[int, int], width: int) -> Iterator[tuple[int, int]]:
    """(first, end) of these rows cut at the edges of the file's blocks: whole rows of them, and few pixels at once where that is one."""
    height = dataset.block_shapes[0][0]
    step = height * max(1, _SOURCE_PIXELS // (height * width))
    for edge in range(rows[0] - rows[0] % step, rows[1], step):
        yield max(edge, rows[0]), min(edge + step, rows[1])


def _read_warped(
    dataset: DatasetReader, path: str, bands: Mapping[int, Band], placement: Placement, resampling: Resampling
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    stored = np.result_type(*(dataset.dtypes[number - 1] for number in bands))
    return warp(lambda first, shape: _read_window(dataset, path, bands, first, shape), stored, tuple(bands.values()), placement, resampling)


def warp(
    read: ReadWindow, stored: np.dtype[Any], bands: Sequence[Band], placement: Placement, resampling: Resampling
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """(band, row, col) values and validity on the target grid of bands that `read` gives on the source grid as `stored` numbers.

    Windows are read one after the other, from the top, of at most four million source pixels unless a single target pixel needs more.
    """
    methods = [_method(band, placement, resampling) for band in bands]
    values = np.zeros(
        (len(bands), *placement.target.shape), dtype=stored if set(methods) == {"nearest"} else np.result_type(stored, np.float32)
    )
    valid = np.zeros(values.shape, dtype=bool)
    todo = deque(_blocks(placement.target.shape.yx, placement.separable))
    while todo:
        rows, cols = todo.popleft()
        places = _places(placement, rows, cols, cells="average" in methods)
        (top, bottom), (left, right) = places.window
        if top >= bottom or left >= right:
            continue
        if (bottom - top) * (right - left) > _SOURCE_PIXELS and (halves := _halves(rows, cols, placement.separable)):
            todo.extendleft(reversed(halves))
            continue
        source_values, source_valid = read((top, left), (bottom - top, right - left))
        for plane, (band, method) in enumerate(zip(bands, methods, strict=True)):
            numbers, curved = source_values[plane].astype(np.float64), _is_curved(band) and method != "nearest"
            numbers = _to_summable(numbers, source_valid[plane], band) if curved else numbers
            got, known = _resample(places, numbers, source_valid[plane], method)
            values[plane, rows, cols] = np.where(known, _to_stored(got, known, band) if curved else got, 0)
            valid[plane, rows, cols] = known
    return values, valid


def _method(band: Band, placement: Placement, resampling: Resampling) -> Method:
    if band.role == "quality" or band.unit == "class":
        return "nearest"
    if resampling == "auto":
        return "average" if max(placement.coarseness) >= _COARSER else "bilinear"
    return resampling


@dataclass(frozen=True)
class _Places:
    """Where the pixels of one target block lie in the source, and the source window that they need."""

    placement: Placement
    row: Floats
    col: Floats
    corners: tuple[Floats, Floats] | None
    """Places of the pixels' corners; None where no mean is asked for or rows and columns are separate."""
    window: tuple[tuple[int, int], tuple[int, int]]
    """(first, end) of rows and of columns; empty where the block lies beside the source."""


def _places(placement: Placement, rows: slice, cols: slice, *, cells: bool) -> _Places:
    row, col = placement(*_centres(rows, cols))
    corners = placement(*_edges(rows, cols)) if cells and not placement.separable else None
    margins = [c / 2 + 1 for c in placement.coarseness] if cells and placement.separable else [1.0, 1.0]
    window = [
        _needed(place if corner is None else corner, margin, size)
        for place, corner, margin, size in zip((row, col), corners or (None, None), margins, placement.source.shape, strict=True)
    ]
    return _Places(placement, row, col, corners, (window[0], window[1]))


def _needed(places: Floats, margin: float, size: int) -> tuple[int, int]:
    """(first, end) of the source rows or columns around these places."""
    known = places[places > NOWHERE]
    if not known.size:
        return 0, 0
    return max(0, floor(known.min() - margin)), min(size, ceil(known.max() + margin))


def _resample(places: _Places, values: Floats, valid: NDArray[np.bool_], method: Method) -> tuple[Floats, NDArray[np.bool_]]:
    """(row, col) values and validity of one target block, from one band of the source window."""
    (top, _), (left, _) = places.window
    placement = places.placement
    on_source = inside(places.row, places.col, placement.source.shape.yx)
    row, col = places.row - top, places.col - left
    if method == "nearest" or (method == "bilinear" and not placement.separable):
        got, known = sample(values, valid, row, col, method)
        return got, known & on_source
    if places.corners is not None:
        return cell_mean(values, valid, places.corners[0] - top, places.corners[1] - left, placement.coarseness)
    down, across = (
        axis_weights(place.ravel(), size, method, coarseness)
        for place, size, coarseness in zip((row, col), values.shape, placement.coarseness, strict=True)
    )
    got, weight = blend(values, valid, down, across)
    if method == "average":
        return got, weight >= _HALF
    return got, sample(values, valid, row, col, "nearest")[1] & on_source


def _is_curved(band: Band) -> bool:
    """Whether the mean of stored numbers is not the stored number of the mean."""
    return band.unit == "dB" or band.encoding != "linear"


def _to_summable(stored: Floats, valid: NDArray[np.bool_], band: Band) -> Floats:
    """Linear power of a band in decibels, physical values of an encoded one: what may be averaged; of no meaning where not valid."""
    scaled: Floats = band.scale * np.where(valid, stored, 0) + band.offset
    return np.where(valid, 10 ** (scaled / 10), 0) if band.unit == "dB" else scaled * np.abs(scaled)


def _to_stored(values: Floats, valid: NDArray[np.bool_], band: Band) -> Floats:
    """The numbers that the band would store for these."""
    scaled: Floats = 10 * np.log10(np.where(valid, values, 1)) if band.unit == "dB" else np.sign(values) * np.sqrt(np.abs(values))
    return (scaled - band.offset) / band.scale


def _blocks(shape: tuple[int, int], wide: bool) -> Iterator[tuple[slice, slice]]:
    """Blocks of at most a million pixels: as wide as the grid (how most files are stored), or about square."""
    cols = min(shape[1], _BLOCK_PIXELS if wide else 1024)
    rows = max(1, _BLOCK_PIXELS // cols)
    for top in range(0, shape[0], rows):
        for left in range(0, shape[1], cols):
            yield slice(top, min(top + rows, shape[0])), slice(left, min(left + cols, shape[1]))


def _halves(rows: slice, cols: slice, wide: bool) -> list[tuple[slice, slice]]:
    """The block cut across its longer side, or into rows as long as there are two; none for a single pixel."""
    row, col = (rows.start + rows.stop) // 2, (cols.start + cols.stop) // 2
    if rows.stop - rows.start > (1 if wide else max(1, cols.stop - cols.start - 1)):
        return [(slice(rows.start, row), cols), (slice(row, rows.stop), cols)]
    return [(rows, slice(cols.start, col)), (rows, slice(col, cols.stop))] if cols.stop - cols.start > 1 else []


def _centres(rows: slice, cols: slice) -> tuple[Floats, Floats]:
    return np.arange(rows.start, rows.stop)[:, None] + 0.5, np.arange(cols.start, cols.stop)[None, :] + 0.5


def _edges(rows: slice, cols: slice) -> tuple[Floats, Floats]:
    return np.arange(rows.start, rows.stop + 1.0)[:, None], np.arange(cols.start, cols.stop + 1.0)[None, :]
