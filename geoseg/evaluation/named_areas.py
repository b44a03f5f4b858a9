"""Polygons whose ground is counted apart, such as regions, or the blocks that a training held out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.features import rasterize

from geoseg.errors import InputError
from geoseg.io.vectors import onto_grid, read_features


@dataclass(frozen=True)
class NamedAreas:
    """Polygons with names."""

    names: tuple[str, ...]
    which: NDArray[np.int64]
    """(polygon,) place in `names`."""
    geometries: NDArray[Any]
    crs: Any
    rest: str | None = None
    """The name of all other ground; None where it is not counted."""

    def on(self, grid: GeoBox) -> Iterator[tuple[str, NDArray[np.bool_]]]:
        """Every name that lies on the grid, and (row, col) where; a pixel belongs to the last polygon that covers its centre."""
        placed, position = onto_grid(self.geometries, self.crs, grid)
        shapes = list(zip(placed, (self.which[position] + 1).tolist(), strict=True))
        shape = tuple(grid.shape)
        burned = rasterize(shapes, out_shape=shape, transform=grid.affine, dtype="int32") if shapes else np.zeros(shape, np.int32)
        for number in np.unique(burned).tolist():
            if number > 0:
                yield self.names[number - 1], burned == number
            elif self.rest is not None:
                yield self.rest, burned == 0


def named_areas(path: str | Path, column: str | None, rest: str | None = None) -> NamedAreas:
    """The polygons of a file by the text in a column; `rest` names all other ground. InputError where there is no such file or column."""
    frame = read_features(path)
    columns = [str(name) for name in frame.columns if name != frame.geometry.name]
    if column is None or column not in columns:
        asked = "no --region-column was given" if column is None else f"{path} has no column {column!r}"
        raise InputError(f"{asked}; name one of {', '.join(columns) or 'its columns, of which there are none'}")
    texts = [str(value) for value in frame[column]]
    names = tuple(dict.fromkeys(texts))
    which = np.array([names.index(text) for text in texts], np.int64)
    return NamedAreas(names, which, frame.geometry.to_numpy(), frame.crs, rest)
