"""Where a raster file holds data: nodata values, masks and alpha bands, band by band."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.io import DatasetReader
from rasterio.windows import Window

from geoseg.io.looks import few_windows, spread, window_shape
from geoseg.io.opening import GDAL_ERRORS
from geoseg.sensors import Band

_GREY_SHARE = 0.01
"""An alpha band with more pixels than this share between 0 and 255 is not a mask."""
_LOOKS = 8
_LOOK_PIXELS = 128
_LOOKED_SHARE = 0.02
"""Fewer looks are taken where they would touch more of the file's blocks than this."""

_alpha_looks: dict[tuple[str, int, int], bool] = {}


def valid_pixels(
    dataset: DatasetReader, bands: Mapping[int, Band], stored: NDArray[Any], window: Window, *, beside: Collection[int] = ()
) -> NDArray[np.bool_]:
    """(band, row, col): True where `stored`, just read from `window`, is data.

    All that the file says counts together: each band's nodata value (`Band.nodata` where it states none), numbers that are not
    finite, the mask inside or beside the file, and the alpha band, unless that is one of `bands` or of those read `beside` them, or is
    not a mask by its values.
    """
    valid = np.ones(stored.shape, dtype=bool)
    nodata, dtypes, flags = dataset.nodatavals, dataset.dtypes, dataset.mask_flag_enums  # each looks at all bands, and there may be many
    for plane, (number, band) in enumerate(bands.items()):
        stated = nodata[number - 1]
        _leave_out(valid[plane], stored[plane], band.nodata if stated is None else stated, np.dtype(dtypes[number - 1]))
    masked = [number for number in bands if _is_mask(flags[number - 1])]
    if masked:  # one for all bands
        mask = dataset.read_masks(masked[0], window=window) > 0
        valid[[number in masked for number in bands]] &= mask
    alpha = alpha_band(dataset)
    if alpha is not None and alpha not in (*bands, *beside) and alpha_is_mask(dataset, alpha):
        valid &= dataset.read(alpha, window=window) > 0
    return valid


def _is_mask(flags: Collection[MaskFlags]) -> bool:
    """Whether a mask inside or beside the file tells where a band with these flags is data."""
    return MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags


def alpha_band(dataset: DatasetReader) -> int | None:
    """Number of the band that GDAL flags as alpha; None where there is none."""
    return dataset.colorinterp.index(ColorInterp.alpha) + 1 if ColorInterp.alpha in dataset.colorinterp else None


def alpha_is_mask(dataset: DatasetReader, alpha: int) -> bool:
    """Whether the band flagged as alpha is one by its values: all 0 or the largest number, but for 1 % of its pixels.

    GDAL flags the fourth uint8 band of any untagged file, also a near infrared. Looked at once a file, in 9 to 64 places.
    """
    key = _identity(dataset)
    if key not in _alpha_looks:
        full = float(np.iinfo(dataset.dtypes[alpha - 1]).max) if np.dtype(dataset.dtypes[alpha - 1]).kind in "iu" else 1.0
        grey = seen = 0
        for window in _looks(dataset.shape, dataset.block_shapes[alpha - 1]):
            try:
                values = dataset.read(alpha, window=window)
            except GDAL_ERRORS:  # whoever reads in full is told
                continue
            grey += int(np.count_nonzero((values != 0) & (values != full)))
            seen += values.size
        _alpha_looks[key] = grey <= _GREY_SHARE * seen
    return _alpha_looks[key]


def _leave_out(valid: NDArray[np.bool_], values: NDArray[Any], nodata: float | None, dtype: np.dtype[Any]) -> None:
    if dtype.kind == "f":
        valid &= np.isfinite(values)
    if nodata is None or np.isnan(nodata):
        return
    if dtype.kind == "f":
        # Tags hold nodata in decimal: -9999.9 must be rounded as the pixels were.
        valid &= values != dtype.type(nodata).astype(values.dtype)
    elif float(nodata).is_integer() and np.iinfo(dtype).min <= nodata <= np.iinfo(dtype).max:
        valid &= values != int(nodata)


def _looks(shape: tuple[int, int], block: tuple[int, int]) -> list[Window]:
    """Windows of a raster of this shape (row, col) spread evenly over it; the whole of a small one."""
    if max(shape) <= _LOOKS * _LOOK_PIXELS:
        return [Window(0, 0, shape[1], shape[0])]
    count = few_windows(shape, block, most=_LOOKS, share=_LOOKED_SHARE)
    tall, wide = window_shape(_LOOK_PIXELS, block, widest=shape[1])
    tall = min(tall, shape[0])
    rows, cols = (spread(size, side, edge, count) for size, side, edge in zip(shape, (tall, wide), block, strict=True))
    return [Window(int(col), int(row), wide, tall) for row in dict.fromkeys(rows) for col in dict.fromkeys(cols)]


def _identity(dataset: DatasetReader) -> tuple[str, int, int]:
    try:
        stat = Path(dataset.name).stat()
    except OSError:
        return dataset.name, 0, 0
    return dataset.name, stat.st_mtime_ns, stat.st_size
