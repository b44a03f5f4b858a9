"""Where a raster file holds data: nodata values, masks and alpha bands, band by band."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.io import DatasetReader
from rasterio.windows import Window

from geoseg.sensors import Band

_GREY_SHARE = 0.01
"""An alpha band with more pixels than this share between 0 and 255 is not a mask."""
_LOOKS = 8
_LOOK_PIXELS = 128

_alpha_looks: dict[tuple[str, int, int], bool] = {}


def valid_pixels(dataset: DatasetReader, bands: Mapping[int, Band], stored: NDArray[Any], window: Window) -> NDArray[np.bool_]:
    """(band, row, col): True where `stored`, just read from `window`, is data.

    All that the file says counts together: each band's nodata value (`Band.nodata` where it states none), numbers that are not
    finite, the mask inside or beside the file, and the alpha band, unless that is one of `bands` or not a mask by its values.
    """
    valid = np.ones(stored.shape, dtype=bool)
    for plane, (number, band) in enumerate(bands.items()):
        stated = dataset.nodatavals[number - 1]
        _leave_out(valid[plane], stored[plane], band.nodata if stated is None else stated, np.dtype(dataset.dtypes[number - 1]))
        flags = dataset.mask_flag_enums[number - 1]
        if MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags:
            valid[plane] &= dataset.read_masks(number, window=window) > 0
    alpha = alpha_band(dataset)
    if alpha is not None and alpha not in bands and alpha_is_mask(dataset, alpha):
        valid &= dataset.read(alpha, window=window) > 0
    return valid


def alpha_band(dataset: DatasetReader) -> int | None:
    """Number of the band that GDAL flags as alpha; None where there is none."""
    return dataset.colorinterp.index(ColorInterp.alpha) + 1 if ColorInterp.alpha in dataset.colorinterp else None


def alpha_is_mask(dataset: DatasetReader, alpha: int) -> bool:
    """Whether the band flagged as alpha is one by its values: all 0 or the largest number, but for 1 % of its pixels.

    GDAL flags the fourth uint8 band of any untagged file, also a near infrared. Looked at once a file, in 64 places.
    """
    key = _identity(dataset)
    if key not in _alpha_looks:
        full = float(np.iinfo(dataset.dtypes[alpha - 1]).max) if np.dtype(dataset.dtypes[alpha - 1]).kind in "iu" else 1.0
        grey = seen = 0
        for window in _looks(dataset.height, dataset.width):
            values = dataset.read(alpha, window=window)
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


def _looks(height: int, width: int) -> list[Window]:
    """Windows spread evenly over the raster; the whole of a small one."""
    side = _LOOKS * _LOOK_PIXELS
    rows = [(height - _LOOK_PIXELS) * i // (_LOOKS - 1) for i in range(_LOOKS)] if height > side else [0]
    cols = [(width - _LOOK_PIXELS) * i // (_LOOKS - 1) for i in range(_LOOKS)] if width > side else [0]
    tall, wide = (_LOOK_PIXELS if len(places) > 1 else size for places, size in ((rows, height), (cols, width)))
    return [Window(col, row, wide, tall) for row in rows for col in cols]


def _identity(dataset: DatasetReader) -> tuple[str, int, int]:
    try:
        stat = Path(dataset.name).stat()
    except OSError:
        return dataset.name, 0, 0
    return dataset.name, stat.st_mtime_ns, stat.st_size
