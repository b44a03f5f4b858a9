"""Pixels under zones, weighted by the share of each that a zone covers: the joint to exactextract (Baston, 2018-).

Zones come in pixel coordinates, so that turned grids and those with south up need no care. Pixels are decoded block by block and the
last blocks are kept, and zones are visited block by block: each block is decoded about once, and memory grows with neither the map
nor a zone.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from geoseg.errors import require

Reader = Callable[[slice, slice], NDArray[Any]]
"""(row, col) pixels of these rows and columns of the map."""

_Operation = tuple[str, str, Any, dict[str, Any]]
"""exactextract's name of it, the name of its result, the pixels it is for, its options."""

NOTHING = -1
"""Index of pixels without a class."""

_BLOCK = 512
_KEPT_BLOCKS = 64
_CELLS_AT_ONCE = 1 << 22
_WHOLE = 0.9999
"""Coverage from which a pixel counts as wholly inside; it is computed in 32-bit floating point."""


@dataclass(frozen=True)
class ZonePixels:
    """What the pixels under each zone say, in the order of the zones."""

    shares: NDArray[np.float64]
    """(zone, class) of the observed ground; all 0 where nothing is observed."""
    observed: NDArray[np.float64]
    """(zone,) pixels with a class, parts of pixels counted by their share."""
    inside: NDArray[np.float64]
    """(zone,) pixels of the map, observed or not."""
    whole: NDArray[np.int64]
    """(zone,) pixels that lie wholly inside."""


def to_pixels(geometries: NDArray[Any], geobox: GeoBox) -> NDArray[Any]:
    """Geometries in the map's CRS in pixel coordinates: x is the column, y the row counted up from the lower edge."""
    moved: NDArray[Any] = shapely.transform(geometries, _applied(Affine(1, 0, 0, 0, -1, geobox.shape[0]) @ ~geobox.affine))
    return moved


def count_classes(zones: NDArray[Any], read: Reader, shape: tuple[int, int], classes: int) -> ZonePixels:
    """Shares of `classes` under zones given in pixel coordinates; `read` gives class indices, NOTHING where there is no class."""
    pixels, everywhere = _source("classes", shape, _Blocks(read, shape), NOTHING), _source("map", shape, _ones, None)
    operations: tuple[_Operation, ...] = (
        ("unique", "classes", pixels, {}),
        ("frac", "shares", pixels, {}),
        ("count", "observed", pixels, {}),
        ("count", "inside", everywhere, {}),
        ("count", "whole", everywhere, {"min_coverage_frac": _WHOLE, "coverage_weight": "none"}),
    )
    found = _run(zones, operations)
    shares = np.zeros((len(zones), classes))
    lengths = [0 if one is None else len(one) for one in found["classes"]]
    if sum(lengths):
        which = np.repeat(np.arange(len(zones)), lengths)
        shares[which, np.concatenate([one for one in found["classes"] if one is not None])] = np.concatenate(
            [one for one in found["shares"] if one is not None]
        )
    observed, inside, whole = (np.asarray(found[name], dtype=np.float64) for name in ("observed", "inside", "whole"))
    return ZonePixels(shares, np.nan_to_num(observed), np.nan_to_num(inside), np.rint(np.nan_to_num(whole)).astype(np.int64))


def mean_values(zones: NDArray[Any], read: Reader, shape: tuple[int, int]) -> NDArray[np.float64]:
    """(zone,) mean of the values under each zone, weighted by coverage; NaN values are left out, and NaN where none is left."""
    found = _run(zones, (("mean", "mean", _source("values", shape, _Blocks(read, shape), None), {}),))
    return np.array([np.nan if one is None else one for one in found["mean"]], dtype=np.float64)


class _Blocks:
    """Windows put together from decoded blocks, of which the last ones are kept."""

    def __init__(self, read: Reader, shape: tuple[int, int]) -> None:
        self._read, self._shape = read, shape
        self._dtype = read(slice(0, 1), slice(0, 1)).dtype
        self._kept: OrderedDict[tuple[int, int], NDArray[Any]] = OrderedDict()

    def __call__(self, rows: slice, cols: slice) -> NDArray[Any]:
        """(row, col) pixels of the window."""
        window = np.empty((rows.stop - rows.start, cols.stop - cols.start), self._dtype)
        for down in range(rows.start // _BLOCK, -(-rows.stop // _BLOCK)):
            for across in range(cols.start // _BLOCK, -(-cols.stop // _BLOCK)):
                block, top, left = self._block(down, across), down * _BLOCK, across * _BLOCK
                up, end = max(rows.start, top), min(rows.stop, top + _BLOCK)
                near, far = max(cols.start, left), min(cols.stop, left + _BLOCK)
                part = block[up - top : end - top, near - left : far - left]
                window[up - rows.start : end - rows.start, near - cols.start : far - cols.start] = part
        return window

    def _block(self, down: int, across: int) -> NDArray[Any]:
        if (down, across) in self._kept:
            self._kept.move_to_end((down, across))
            return self._kept[down, across]
        ends = (min((place + 1) * _BLOCK, size) for place, size in zip((down, across), self._shape, strict=True))
        rows, cols = (slice(place * _BLOCK, end) for place, end in zip((down, across), ends, strict=True))
        block = self._read(rows, cols)
        self._kept[down, across] = block
        if len(self._kept) > _KEPT_BLOCKS:
            self._kept.popitem(last=False)
        return block


def _ones(rows: slice, cols: slice) -> NDArray[np.uint8]:
    return np.ones((rows.stop - rows.start, cols.stop - cols.start), np.uint8)


def _applied(affine: Affine) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    matrix, offset = np.array([[affine.a, affine.d], [affine.b, affine.e]]), np.array([affine.c, affine.f])
    return lambda xy: xy @ matrix + offset


def _source(name: str, shape: tuple[int, int], read: Reader, nodata: int | None) -> Any:
    """The map in pixel coordinates, as exactextract reads rasters."""
    raster = require("exactextract.raster", extra="zones")

    class Source(raster.RasterSource):  # type: ignore[misc, name-defined]  # its base comes with the optional library
        def res(self) -> tuple[float, float]:
            return 1.0, 1.0

        def extent(self) -> tuple[float, float, float, float]:
            return 0.0, 0.0, float(shape[1]), float(shape[0])

        def nodata_value(self) -> int | None:
            return nodata

        def srs_wkt(self) -> None:
            return None

        def read_window(self, x0: int, y0: int, nx: int, ny: int) -> NDArray[Any]:
            return read(slice(y0, y0 + ny), slice(x0, x0 + nx))

    source = Source()
    source.set_name(name)  # exactextract takes sources of one name for one
    return source


def _run(zones: NDArray[Any], operations: Sequence[_Operation]) -> dict[str, list[Any]]:
    """Name of each operation → its result for each zone; zones are visited block by block and come back in their order."""
    exactextract = require("exactextract", extra="zones")
    feature = require("exactextract.feature", extra="zones")

    class Zone(feature.Feature):  # type: ignore[misc, name-defined]  # its base comes with the optional library
        def __init__(self, wkb: bytes) -> None:
            super().__init__()
            self.wkb = wkb

        def geometry(self) -> bytes:
            return self.wkb

        def fields(self) -> list[str]:
            return []

    class Zones(feature.FeatureSource):  # type: ignore[misc, name-defined]  # its base comes with the optional library
        def count(self) -> int:
            return len(zones)

        def __iter__(self) -> Any:
            return (Zone(wkb) for wkb in shapely.to_wkb(zones[order]))

        def srs_wkt(self) -> None:
            return None

    order = _by_blocks(zones)
    made = [exactextract.Operation(stat, name, source, options=options) for stat, name, source, options in operations]
    frame = exactextract.exact_extract(None, Zones(), made, output="pandas", max_cells_in_memory=_CELLS_AT_ONCE) if len(zones) else None
    back = np.argsort(order)
    columns = {name: [] if frame is None else list(frame[name]) for _, name, _, _ in operations}
    return {name: [column[at] for at in back] if column else [] for name, column in columns.items()}


def _by_blocks(zones: NDArray[Any]) -> NDArray[np.int64]:
    """The zones in the order in which they are visited: row of blocks by row of blocks, to and fro."""
    left, bottom, right, top = np.nan_to_num(shapely.bounds(zones)).T
    down, across = -(bottom + top) // (2 * _BLOCK), (left + right) // (2 * _BLOCK)
    return np.lexsort((np.where(down % 2, -across, across), down))
