"""The prepared pixels under one row of tiles: read, masked and prepared, each pixel row of a panel once."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from shapely.geometry.base import BaseGeometry

from geoseg.io.damage import damage_noted
from geoseg.io.opening import gdal_env
from geoseg.io.vectors import burn_area, read_area
from geoseg.layers.masks import scene_reasons
from geoseg.mapping.picture import draw_picture
from geoseg.mapping.plan import MapPlan
from geoseg.mapping.tiles import Panel
from geoseg.preprocess.prepare import lacks_data, prepare
from geoseg.preprocess.quality import Reason, grow_reasons
from geoseg.scene import read_scene


@dataclass(frozen=True)
class Area:
    """Where to map: inside `inside` (None: everywhere) and not inside `outside` (None: nothing is left out)."""

    inside: BaseGeometry | None = None
    outside: BaseGeometry | None = None

    def mask(self, geobox: GeoBox) -> NDArray[np.bool_]:
        """(row, col), or (1, 1) where all is alike; True where the pixel's centre is to be mapped."""
        mask: NDArray[np.bool_] = np.ones((1, 1), dtype=bool) if self.inside is None else burn_area(self.inside, geobox)
        return mask if self.outside is None else mask & ~burn_area(self.outside, geobox)


def area_of(plan: MapPlan) -> Area:
    """Where the options want the map."""
    geobox, options = plan.geobox, plan.options
    inside = None if options.aoi is None else read_area(options.aoi, geobox.crs, near=geobox)
    outside = None if options.exclude is None else read_area(options.exclude, geobox.crs, near=geobox, must_touch=False)
    return Area(inside, outside)


@dataclass(frozen=True)
class Window:
    """What the network and the map need of the pixels under one row of tiles of a panel."""

    tile_row: int
    first_col: int
    """Pixel column of the grid at which the arrays begin: that of the panel's first tile."""
    values: NDArray[np.float32]
    """(channel, tile, col) network's input; 0 where nothing is valid, also beyond the grid."""
    reason: NDArray[np.uint8]
    """(tile, col) of `Reason`."""
    picture: NDArray[np.uint8] | None
    """(4, tile, col) red, green, blue, alpha; None where no picture is asked for."""

    def image(self, origin: int) -> NDArray[np.float32]:
        """(channel, tile, tile) of the tile that begins at this pixel column of the grid; a view."""
        first = origin - self.first_col
        return self.values[:, :, first : first + self.values.shape[1]]

    def seen(self, origin: int) -> bool:
        """Whether at least one pixel of this tile is observed; the others cost nothing."""
        first = origin - self.first_col
        return bool((self.reason[:, first : first + self.reason.shape[0]] == Reason.OBSERVED).any())

    def head(self, height: int, cols: slice) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
        """The reasons (row, col) of the first rows in these columns of the grid, and their picture (4, row, col)."""
        here = np.s_[..., :height, cols.start - self.first_col : cols.stop - self.first_col]
        return self.reason[here].copy(), None if self.picture is None else self.picture[here].copy()


def windows(plan: MapPlan, area: Area, panel: Panel, tile_rows: Iterable[int]) -> Generator[Window, None, None]:
    """The windows of these rows of tiles, from the top; rows that the one before held are not read again."""
    tiles = plan.tiles
    first_col = tiles.col_origins[panel.tile_cols.start]
    width = tiles.col_origins[panel.tile_cols.stop - 1] + tiles.tile - first_col  # what reaches beyond the grid stays 0: padded
    reader = _Reader(plan, slice(first_col, min(first_col + width, tiles.shape[1])))
    before: Window | None = None
    read_to = top_before = 0
    with gdal_env(plan.cache_mb), damage_noted(plan.damaged):
        for tile_row in tile_rows:
            top = tiles.row_origins[tile_row]
            bottom = min(top + tiles.tile, tiles.shape[0])
            window = _empty_window(plan, tile_row, first_col, width)
            kept = max(0, read_to - top)
            if before is not None:
                _copy_rows(before, top - top_before, window, kept)
            inside = area.mask(reader.geobox(slice(top, bottom)))
            if inside.any():
                for rows in _pieces(top + kept, bottom, plan.read_rows):
                    reader.read(rows, window, top)
                read_to = bottom
            if not inside.all():
                here = window.reason[: bottom - top, : reader.width]
                here[~np.broadcast_to(inside, here.shape)] = Reason.OUTSIDE_AREA
            before, top_before = window, top
            yield window


class _Reader:
    """Reads some columns of the scene, masks and prepares them."""

    def __init__(self, plan: MapPlan, cols: slice) -> None:
        self._plan, self._cols = plan, cols
        self.width = cols.stop - cols.start

    def geobox(self, rows: slice, margin: int = 0) -> GeoBox:
        """The grid of these rows, and of `margin` pixels around them."""
        grid = self._plan.geobox
        shape = (rows.stop - rows.start + 2 * margin, self.width + 2 * margin)
        return GeoBox(shape, grid.affine @ Affine.translation(self._cols.start - margin, rows.start - margin), grid.crs)

    def read(self, rows: slice, window: Window, top: int) -> None:
        """Fill these rows of a window that begins at row `top`; reads as much around them as makes the preparation exact."""
        plan, margin = self._plan, self._plan.halo
        raw = read_scene(plan.scene, plan.read_roles, self.geobox(rows, margin))
        reason = scene_reasons(raw, plan.scene, plan.options.mask_classes)
        reason = grow_reasons(reason, plan.grow_pixels) if plan.quality_roles and any(plan.grow_pixels) else reason
        prepared = prepare(raw, plan.package.preparation, reason != Reason.OBSERVED, correction=plan.correction)
        missing = lacks_data(raw, plan.package.preparation) | ((reason == Reason.OBSERVED) & ~prepared.valid_everywhere)
        reason[missing] = Reason.NO_DATA
        if missing.any():
            reason[~plan.scene.layer(plan.roles[0]).footprint(raw.geobox)] = Reason.OUTSIDE
        inner = np.s_[..., margin : margin + rows.stop - rows.start, margin : margin + self.width]
        here = np.s_[..., rows.start - top : rows.stop - top, : self.width]
        window.values[here] = prepared.values[inner]
        window.reason[here] = reason[inner]
        if window.picture is not None and plan.stretch is not None:
            window.picture[here] = draw_picture(raw.select(*plan.picture_roles), plan.stretch)[inner]


def _empty_window(plan: MapPlan, tile_row: int, first_col: int, width: int) -> Window:
    tile, channels = plan.tiles.tile, len(plan.package.preparation.channels)
    values = np.zeros((channels, tile, width), np.float32)
    picture = np.zeros((4, tile, width), np.uint8) if plan.picture_roles else None
    return Window(tile_row, first_col, values, np.full((tile, width), Reason.OUTSIDE, np.uint8), picture)


def _copy_rows(source: Window, first: int, target: Window, count: int) -> None:
    """Take over `count` rows from row `first` of the window before."""
    pairs = ((source.values, target.values), (source.reason, target.reason), (source.picture, target.picture))
    for old, new in pairs:
        if old is not None and new is not None and count:
            new[..., :count, :] = old[..., first : first + count, :]


def _pieces(first: int, stop: int, height: int) -> Iterator[slice]:
    """These rows cut at multiples of `height`: all bands of some rows are read before the next, so few pixels are held twice."""
    for top in range(first - first % height, stop, height):
        yield slice(max(top, first), min(top + height, stop))
