"""From the scene to finished rows of scores: read, prepare, run, blend, one row of tiles at a time."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from shapely.geometry.base import BaseGeometry

from geoseg.io.opening import files_kept_open
from geoseg.io.vectors import burn_area
from geoseg.layers.masks import scene_reasons
from geoseg.mapping.blending import RowBlender
from geoseg.mapping.picture import draw_picture
from geoseg.mapping.plan import READ_ROWS, MapPlan
from geoseg.mapping.runtimes import Runtime
from geoseg.preprocess.prepare import lacks_data, prepare
from geoseg.preprocess.quality import Reason, grow_reasons
from geoseg.scene import read_scene


@dataclass(frozen=True)
class FinishedRows:
    """Some pixel rows of the map, over its whole width, to which nothing is added any more."""

    scores: dict[str, NDArray[np.float32]]
    """Output name → (class or 1, row, col); meaningless where not observed."""
    reason: NDArray[np.uint8]
    """(row, col) of `Reason`; only what is OBSERVED gets a class."""
    picture: NDArray[np.uint8] | None
    """(4, row, col) red, green, blue, alpha; None where no picture is asked for."""

    @property
    def observed(self) -> NDArray[np.bool_]:
        """(row, col); True where the map has a class."""
        return np.asarray(self.reason == Reason.OBSERVED)


@dataclass(frozen=True)
class Area:
    """Where to map: inside `inside` (None: everywhere) and not inside `outside` (None: nothing is left out)."""

    inside: BaseGeometry | None = None
    outside: BaseGeometry | None = None

    def mask(self, geobox: GeoBox) -> NDArray[np.bool_]:
        """(row, col), or (1, 1) where all is alike; True where the pixel's centre is to be mapped."""
        mask: NDArray[np.bool_] = np.ones((1, 1), dtype=bool) if self.inside is None else burn_area(self.inside, geobox)
        return mask if self.outside is None else mask & ~burn_area(self.outside, geobox)


def finished_rows(plan: MapPlan, runtime: Runtime, area: Area) -> Generator[FinishedRows, None, None]:
    """The whole map from top to bottom; holds the rows of one row of tiles, whatever the height of the scene."""
    tiles = plan.tiles
    blenders = {output.name: RowBlender(tiles, output.planes) for output in plan.package.outputs}
    window = _Window(plan, area)
    with files_kept_open():
        for tile_row, top in enumerate(tiles.row_origins):
            window.move_to(top)
            for cols in _batches(window.cols_with_data(), plan.batch):
                images = np.stack([window.image(tiles.col_origins[col]) for col in cols])  # (batch, channel, row, col)
                for name, scores in runtime(images).items():
                    for col, score in zip(cols, scores, strict=True):
                        blenders[name].add(col, score)
            done = tiles.finished_rows(tile_row)
            finished = {name: blender.finish(tile_row) for name, blender in blenders.items()}
            yield FinishedRows(finished, *window.head(done.stop - done.start))


def _batches(cols: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    return (cols[start : start + size] for start in range(0, len(cols), size))


class _Window:
    """The prepared rows under one row of tiles; moves down the scene and reads each pixel row once."""

    def __init__(self, plan: MapPlan, area: Area) -> None:
        self._plan, self._area = plan, area
        self._rows, self._cols = plan.tiles.shape
        self._tile, self._channels = plan.tiles.tile, len(plan.package.preparation.channels)
        width = plan.tiles.col_origins[-1] + self._tile  # what reaches beyond the scene stays 0: padded, not valid
        self._values = np.zeros((self._channels, self._tile, width), np.float32)
        self._reason = np.full((self._tile, width), Reason.OUTSIDE, np.uint8)
        self._picture = np.zeros((4, self._tile, self._cols), np.uint8) if plan.picture_roles else None
        self._top = 0
        self._read_to = 0
        """Row before which all of the window is read."""

    def move_to(self, top: int) -> None:
        """Make `top` the first row; rows that an earlier position had are kept, the others are read where they are needed."""
        bottom = min(top + self._tile, self._rows)
        inside = self._area.mask(self._geobox(slice(top, bottom)))
        kept = max(0, self._read_to - top)
        for held in (self._values, self._reason, self._picture):
            if held is not None:
                held[..., :kept, :] = held[..., top - self._top : top - self._top + kept, :].copy()
                held[..., kept:, :] = 0
        self._top = top
        if inside.any():
            for rows in _pieces(top + kept, bottom):
                self._read(rows)
            self._read_to = bottom
        if not inside.all():
            self._reason[: bottom - top, : self._cols][~np.broadcast_to(inside, (bottom - top, self._cols))] = Reason.OUTSIDE_AREA

    def cols_with_data(self) -> list[int]:
        """The columns of tiles in which at least one pixel is observed; the others cost nothing."""
        seen = (self._reason == Reason.OBSERVED).any(axis=0)
        origins = self._plan.tiles.col_origins
        return [col for col, start in enumerate(origins) if seen[start : start + self._tile].any()]

    def image(self, first_col: int) -> NDArray[np.float32]:
        """(channel, row, col) of the tile that begins at this pixel column."""
        return self._values[:, :, first_col : first_col + self._tile]

    def head(self, height: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
        """The first rows' reasons (row, col), and their picture (4, row, col)."""
        picture = None if self._picture is None else self._picture[:, :height].copy()
        return self._reason[:height, : self._cols].copy(), picture

    def _geobox(self, rows: slice, margin: int = 0) -> GeoBox:
        grid = self._plan.geobox
        shape = (rows.stop - rows.start + 2 * margin, self._cols + 2 * margin)
        return GeoBox(shape, grid.affine @ Affine.translation(-margin, rows.start - margin), grid.crs)

    def _read(self, rows: slice) -> None:
        """Read, mask and prepare these rows of the scene, with as much around them as makes the preparation exact."""
        plan, margin = self._plan, self._plan.halo
        quality = plan.quality_roles
        raw = read_scene(plan.scene, plan.read_roles, self._geobox(rows, margin))
        reason = scene_reasons(raw, plan.scene, plan.options.mask_classes)
        reason = grow_reasons(reason, plan.grow_pixels) if quality and any(plan.grow_pixels) else reason
        prepared = prepare(raw, plan.package.preparation, reason != Reason.OBSERVED, correction=plan.correction)
        missing = lacks_data(raw, plan.package.preparation) | ((reason == Reason.OBSERVED) & ~prepared.valid_everywhere)
        reason[missing] = Reason.NO_DATA
        if missing.any():
            reason[~plan.scene.layer(plan.roles[0]).footprint(raw.geobox)] = Reason.OUTSIDE
        inner = np.s_[..., margin : margin + rows.stop - rows.start, margin : margin + self._cols]
        here = slice(rows.start - self._top, rows.stop - self._top)
        self._values[:, here, : self._cols] = prepared.values[inner]
        self._reason[here, : self._cols] = reason[inner]
        if self._picture is not None and plan.stretch is not None:
            self._picture[:, here] = draw_picture(raw.select(*plan.picture_roles), plan.stretch)[inner]


def _pieces(first: int, stop: int) -> Iterator[slice]:
    """These rows cut where most files cut their blocks: all bands of one row of blocks are read before the next, so few are held."""
    for top in range(first - first % READ_ROWS, stop, READ_ROWS):
        yield slice(max(top, first), min(top + READ_ROWS, stop))
