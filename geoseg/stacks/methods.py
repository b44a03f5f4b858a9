"""Many observations of a pixel to one: median, medoid, greatest NDVI and mean, over what is clear."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import BandError, InputError
from geoseg.preprocess.calendars import Method
from geoseg.sensors import Band

__all__ = ["METHODS", "Method", "check_method", "combine"]

METHODS: tuple[Method, ...] = get_args(Method)
"""How the clear observations of a pixel become one.

`median`: of each band by itself; of an even number the mean of the middle two. `medoid`: the observation whose bands lie nearest to
those medians, by the sum of squared distances, so that all bands are of one date (Flood, Remote Sensing 5, 2013, minimises the sum
over all observations instead). `max-ndvi`: the observation with the highest NDVI (Holben, Int. J. Remote Sensing 7, 1986). `mean`:
of each band by itself. The earliest wins a tie.
"""

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]


def combine(values: Floats, clear: Mask, bands: Sequence[Band], method: Method) -> Floats:
    """(band, row, col) from physical `values` (time, band, row, col), of which those count that are `clear` (time, row, col).

    0 where no observation is clear. Radar comes in linear power. The medoid looks at bands in reflectance only, where there are
    any: kelvins would outweigh them. Raises BandError for `max-ndvi` without red and near infrared.
    """
    if method == "median":
        return np.stack([_median(values[:, band], clear) for band in range(values.shape[1])]).astype(np.float32)
    if method == "mean":
        return _mean(values, clear)
    if method == "medoid":
        return _chosen(values, _nearest_to_median(values, clear, bands), clear)
    return _chosen(values, _greenest(values, clear, bands), clear)


def check_method(method: str, bands: Sequence[Band]) -> Method:
    """The method of this name; InputError for an unknown one, BandError where these bands do not allow it."""
    if method not in METHODS:
        raise InputError(f"--method is {method!r}; expected one of {', '.join(METHODS)}")
    if method == "max-ndvi":
        _red_and_nir(bands)
    return next(known for known in METHODS if known == method)


# ---------------------------------------------------------------- below: one function for each method


def _median(plane: Floats, clear: Mask) -> NDArray[np.float64]:
    """(row, col) median of one band, (time, row, col); not rounded, so that two observations lie equally far from it."""
    ordered = np.where(clear, plane, np.float32(np.inf))
    ordered.sort(axis=0)
    count = clear.sum(axis=0)[np.newaxis]
    middle = (np.maximum(count - 1, 0) // 2, np.minimum(count // 2, len(clear) - 1))
    low, high = (np.take_along_axis(ordered, at, axis=0)[0] for at in middle)
    return np.where(count[0] > 0, (low.astype(np.float64) + high) / 2, 0)


def _mean(values: Floats, clear: Mask) -> Floats:
    """In float64, date by date: a date that is nowhere clear adds nothing, not even rounding."""
    total = np.zeros(values.shape[1:], np.float64)
    for one, seen in zip(values, clear, strict=True):
        np.add(total, one, out=total, where=seen[np.newaxis])
    mean: Floats = (total / np.maximum(clear.sum(axis=0), 1)).astype(np.float32)
    return mean


def _nearest_to_median(values: Floats, clear: Mask, bands: Sequence[Band]) -> NDArray[np.float64]:
    """(time, row, col) squared distance of each observation to the medians."""
    looked_at = [at for at, band in enumerate(bands) if band.unit == "reflectance"] or list(range(len(bands)))
    distance = np.zeros(clear.shape, np.float64)
    for band in looked_at:
        distance += np.square(values[:, band].astype(np.float64) - _median(values[:, band], clear))
    return distance


def _greenest(values: Floats, clear: Mask, bands: Sequence[Band]) -> NDArray[np.float64]:
    """(time, row, col) minus the NDVI of each observation; reflectance below 0, which is noise, counts as 0."""
    red, nir = (np.maximum(values[:, at].astype(np.float64), 0) for at in _red_and_nir(bands))
    total = nir + red
    ndvi: NDArray[np.float64] = np.divide(nir - red, total, out=np.zeros_like(total), where=total > 0)
    return -ndvi


def _red_and_nir(bands: Sequence[Band]) -> tuple[int, int]:
    roles = [band.role for band in bands]
    if missing := [role for role in ("red", "nir") if role not in roles]:
        raise BandError(f"max-ndvi needs the bands red and nir; {missing[0]} is missing among {', '.join(roles)}: choose another --method")
    return roles.index("red"), roles.index("nir")


def _chosen(values: Floats, cost: NDArray[Any], clear: Mask) -> Floats:
    """(band, row, col) of the clear observation with the least cost (time, row, col), the earliest of equals."""
    best = np.where(clear, cost, np.inf).argmin(axis=0)[np.newaxis, np.newaxis]
    taken: Floats = np.take_along_axis(values, best, axis=0)[0]
    return np.where(clear.any(axis=0), taken, np.float32(0))
