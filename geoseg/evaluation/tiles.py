"""Tiles of finished maps, each in a few numbers: how unsure the map is there, what it says, how the ground looks, where it lies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pyproj
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from shapely.geometry.base import BaseGeometry

from geoseg.data.windows import Window
from geoseg.errors import InputError
from geoseg.ground import corners_to_map, horizontal, pixel_size_m
from geoseg.io.class_maps import read_class_indices
from geoseg.io.geotiff import read_raster
from geoseg.io.labels import Labels, read_legend
from geoseg.io.opening import files_kept_open, gdal_env, opened
from geoseg.io.score_files import open_scores
from geoseg.io.vectors import burn_area, read_area
from geoseg.legend import Legend
from geoseg.mapping.uncertainty import entropy, margin
from geoseg.maps.counting import Progress
from geoseg.maps.map_results import MapResult
from geoseg.sensors import Band

Measure = Literal["entropy", "margin", "disagreement", "members"]
"""By which layer of the map it is told how unsure it is; a small margin is much uncertainty."""
TILE_PIXELS = 64
"""Edge of a tile where nobody says how many metres."""
_LEAST_PIXELS = 4
"""Edge below which a mean over a tile tells nothing."""
_FROM_SCORES = ("entropy", "margin")
_READING_CACHE_MB = 64


@dataclass(frozen=True, eq=False)
class Tiles:
    """Tiles of one or several maps; one with no observed pixel is not among them."""

    source: NDArray[np.int64]
    """(tile,) which map it is of."""
    windows: NDArray[np.int64]
    """(tile, 4) first row and column, rows and columns on the grid of that map."""
    uncertainty: NDArray[np.float64]
    """(tile,) mean over its observed pixels, 0…1."""
    observed: NDArray[np.float64]
    """(tile,) share of its pixels that the map has a class for."""
    classes: NDArray[np.float64]
    """(tile, class) mean scores, or shares of the classes where there are no scores."""
    unsure: NDArray[np.float64]
    """(tile, class) the same where each pixel weighs as much as it is unsure."""
    looks: NDArray[np.float64]
    """(tile, 2 x band) mean and spread of red, green and blue of the map's picture, 0…1; no columns where it has none."""
    place: NDArray[np.float64]
    """(tile, 3) its middle on the unit sphere."""
    labelled: NDArray[np.bool_]
    """(tile,) whether some of its ground is labelled already."""
    held_out: NDArray[np.bool_]
    """(tile,) whether some of its ground was held out when the model was trained."""

    def __len__(self) -> int:
        return len(self.source)

    def window(self, tile: int) -> Window:
        """Its pixels."""
        return Window(*self.windows[tile].tolist())


def measure_tiles(
    maps: Sequence[MapResult],
    *,
    tile_m: float | None = None,
    measure: Measure = "entropy",
    labels: Sequence[str | Path] = (),
    class_column: str | None = None,
    progress: Progress | None = None,
) -> Tiles:
    """All tiles of the maps, `tile_m` metres wide on the ground to the nearest pixel (None: 64 pixels), counted from pixel (0, 0).

    Reads a row of tiles at a time. InputError where a map has not the layer of that measure, saying which option of `geoseg predict`
    makes it; where maps have different classes, or tiles would be smaller than four pixels.
    """
    if measure not in get_args(Measure):
        raise InputError(f"how unsure a map is was to be taken by {measure!r}; expected one of {', '.join(get_args(Measure))}")
    legend = maps[0].classes.legend
    for other in maps[1:]:
        if other.classes.legend != legend:
            raise InputError(f"{maps[0].path} and {other.path} have different classes; suggest tiles of each alone")
    known = [Labels(path, read_legend(path, class_column), class_column) for path in labels]
    rows, done, parts = sum(result.classes.geobox.shape[0] for result in maps), 0, []
    with gdal_env(_READING_CACHE_MB), files_kept_open():
        for number, result in enumerate(maps):
            for part, height in _rows_of_tiles(number, result, _edge_pixels(result, tile_m), measure, known):
                parts.append(part)
                done += height
                if progress is not None:
                    progress(done, rows)
    joined = {one.name: np.concatenate([getattr(part, one.name) for part in parts]) for one in fields(Tiles)}
    seen = joined["observed"] > 0
    return Tiles(**{name: values[seen] for name, values in joined.items()})


def picture_of(result: MapResult) -> Path | None:
    """The picture of the scene beside a map."""
    return _there(result.path.with_name(f"{result.name}_image.tif"))


def held_out_of(result: MapResult) -> Path | None:
    """The ground beside a map that its model's training held out."""
    return _there(result.path.with_name(f"{result.name}_held_out.gpkg"))


def _there(path: Path) -> Path | None:
    return path if path.is_file() else None


def _edge_pixels(result: MapResult, tile_m: float | None) -> tuple[int, int]:
    """Rows and columns of a whole tile."""
    if tile_m is None:
        return TILE_PIXELS, TILE_PIXELS
    width, height = pixel_size_m(result.classes.geobox)
    edges = round(tile_m / height), round(tile_m / width)
    if min(edges) < _LEAST_PIXELS:
        raise InputError(
            f"tiles of {tile_m:g} m are {max(min(edges), 0)} pixels of {result.name} wide; expected at least {_LEAST_PIXELS}, which is "
            f"{_LEAST_PIXELS * max(width, height):.3g} m"
        )
    return edges


@dataclass(frozen=True)
class _Layers:
    """Where a map says how unsure it is, and what."""

    measure: Measure
    file: Path | None
    """The layer of the measure; None where it is computed from the scores."""
    scores: Path | None


def _layers(result: MapResult, measure: Measure) -> _Layers:
    """InputError with the option of `geoseg predict` that makes what is missing."""
    file = _there(result.path.with_name(f"{result.path.stem.removesuffix('_classes')}_{measure}.tif"))
    if file is None and (result.scores is None or measure not in _FROM_SCORES):
        option = "--scores" if measure in _FROM_SCORES else f"--uncertainty {measure}"
        raise InputError(
            f"{result.path} has no layer beside it that says how unsure it is by {measure}; map it again with geoseg predict … {option}"
        )
    return _Layers(measure, file, result.scores)


def _rows_of_tiles(
    number: int, result: MapResult, edge: tuple[int, int], measure: Measure, labels: Sequence[Labels]
) -> Iterator[tuple[Tiles, int]]:
    """The tiles of one map row by row, and the height of each row in pixels."""
    grid, layers, picture = result.classes.geobox, _layers(result, measure), picture_of(result)
    held = held_out_of(result)
    area = None if held is None else read_area(held, grid.crs, near=grid, must_touch=False)
    starts = np.arange(0, grid.shape[1], edge[1])
    widths = np.minimum(edge[1], grid.shape[1] - starts)
    for top in range(0, grid.shape[0], edge[0]):
        height = min(edge[0], grid.shape[0] - top)
        here = grid[top : top + height, :]
        unsure, planes, seen = _read_map(result, layers, here)
        pixels = _sums(seen, starts)
        count = np.maximum(pixels, 1)
        weight = _sums(unsure, starts)
        labelled = np.zeros(here.shape.yx, np.bool_)
        for one in labels:
            labelled |= one.read(here)[1]
        barred = np.zeros(here.shape.yx, np.bool_) if area is None else burn_area(area, here)
        yield (
            Tiles(
                source=np.full(len(starts), number),
                windows=np.column_stack([np.full_like(starts, top), starts, np.full_like(starts, height), widths]),
                uncertainty=weight / count,
                observed=pixels / (height * widths),
                classes=_sums(planes, starts).T / count[:, np.newaxis],
                unsure=_sums(planes * unsure, starts).T / np.maximum(weight, 1e-12)[:, np.newaxis],
                looks=_looks(picture, here, starts, seen),
                place=_on_sphere(grid, top + height / 2, starts + widths / 2),
                labelled=_sums(labelled, starts) > 0,
                held_out=_sums(barred, starts) > 0,
            ),
            height,
        )


def _read_map(result: MapResult, layers: _Layers, here: GeoBox) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]]:
    """(row, col) how unsure, (class, row, col) scores or classes as 0 and 1, (row, col) True where there are any; 0 elsewhere."""
    legend = result.classes.legend
    if layers.scores is not None:
        planes, seen = _read_scores(layers.scores, legend, here)
    else:
        indices = read_class_indices(result.classes, here)
        seen = indices >= 0
        planes = (indices == np.arange(len(legend))[:, np.newaxis, np.newaxis]).astype(np.float32)
    if layers.file is None:
        unsure = entropy(planes) if layers.measure == "entropy" else margin(planes)
    else:
        raster = read_raster(str(layers.file), {1: Band("unsure", "unsure", unit="1")}, here, resampling="nearest")
        unsure = np.asarray(raster.values[0] * np.float32(_scale_of(layers.file)), np.float32)
        seen = seen & raster.valid[0]
    if layers.measure == "margin":
        unsure = 1 - unsure
    return np.where(seen, unsure, 0).astype(np.float32), np.where(seen, planes, 0), seen


def _scale_of(path: Path) -> float:
    """By which the stored numbers of a layer are multiplied."""
    with opened(str(path)) as file:
        return float(file.scales[0])


def _read_scores(path: Path, legend: Legend, here: GeoBox) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    file = open_scores(path, legend)
    raster = read_raster(file.path, {number: Band(f"score{number}", f"score{number}", unit="1") for number in file.bands}, here)
    return np.asarray(raster.values * file.scale + file.offset, np.float32), raster.valid_everywhere


def _looks(picture: Path | None, here: GeoBox, starts: NDArray[np.int64], seen: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(tile, 6) mean and spread of red, green and blue, 0…1."""
    if picture is None:
        return np.zeros((len(starts), 0))
    bands = {number: Band(f"colour{number}", f"colour{number}", unit="1") for number in (1, 2, 3)}
    colours = np.where(seen, read_raster(str(picture), bands, here, resampling="nearest").values / np.float32(255), 0)
    count = np.maximum(_sums(seen, starts), 1)
    means = _sums(colours, starts) / count
    squares = _sums(colours * colours, starts) / count
    return np.concatenate([means, np.sqrt(np.maximum(squares - means * means, 0))]).T


def _sums(plane: NDArray[np.generic], starts: NDArray[np.int64]) -> NDArray[np.float64]:
    """(…, tile) sums of (…, row, col) over all rows and the columns of each tile."""
    return np.asarray(np.add.reduceat(plane.sum(axis=-2, dtype=np.float64), starts, axis=-1))


def _on_sphere(grid: GeoBox, row: float, cols: NDArray[np.float64]) -> NDArray[np.float64]:
    """(tile, 3) of middles on one line of a grid."""
    xy = corners_to_map(grid.affine, cols, np.full(len(cols), row))
    to_degrees = pyproj.Transformer.from_crs(horizontal(grid.crs), 4326, always_xy=True)
    lon, lat = np.radians(to_degrees.transform(*xy.T))
    return np.column_stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])


def outlines_of(tiles: Tiles, maps: Sequence[MapResult], which: NDArray[np.integer]) -> list[BaseGeometry]:
    """(tile,) the outline of each of these tiles in the CRS of its map."""
    found = []
    for tile in np.asarray(which).tolist():
        found.append(tiles.window(tile).geobox(maps[int(tiles.source[tile])].classes.geobox).extent.geom)
    return found
