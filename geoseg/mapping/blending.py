"""Overlapping tiles to finished rows: one row of tiles is held, whatever the height of the scene."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from geoseg.mapping.tiles import Panel, TilePlan


class RowBlender:
    """Adds up the tiles' scores, each with its share, and hands out the pixel rows that are finished.

    Holds (channel, tile, col) float32 of one panel. Rows of tiles are added from the top, within a row from the left: every
    pixel's sum runs in the same order, whichever panel it lies in and wherever the work began, so that its bits are the same.
    The shares sum to one, so nothing is divided.
    """

    def __init__(self, plan: TilePlan, panel: Panel, channels: int, *, first_tile_row: int = 0) -> None:
        self._plan, self._cols = plan, panel.cols
        self._sums = np.zeros((channels, plan.tile, panel.cols.stop - panel.cols.start), np.float32)
        self._col_weights = {tile_col: plan.col_weights(tile_col) for tile_col in panel.tile_cols}
        self._row_weights = plan.row_weights(first_tile_row)
        self._filled = 0
        """So many rows from the top may differ from zero: what was not observed costs nothing."""

    def add(self, tile_col: int, scores: NDArray[np.float32]) -> None:
        """Add the scores, (channel, tile, tile), of one tile of the present row; its part beyond the panel is dropped."""
        origin = self._plan.col_origins[tile_col]
        first, stop = max(origin, self._cols.start), min(origin + self._plan.tile, self._cols.stop)
        inside = slice(first - origin, stop - origin)
        share = self._row_weights[:, None] * self._col_weights[tile_col][None, inside]
        self._filled = self._plan.tile
        held = self._sums[:, :, first - self._cols.start : stop - self._cols.start]
        for channel, plane in zip(held, scores, strict=True):  # plane by plane, which stays in the processor's cache
            channel += plane[:, inside] * share

    def finished(self, tile_row: int) -> NDArray[np.float32]:
        """(channel, row, col) scores of `plan.finished_rows(tile_row)`: a view, good until `move_on`."""
        rows = self._plan.finished_rows(tile_row)
        return self._sums[:, : rows.stop - rows.start]

    def move_on(self, tile_row: int) -> None:
        """Drop the rows that this row of tiles finished, and take the tiles of the next."""
        rows = self._plan.finished_rows(tile_row)
        height = rows.stop - rows.start
        if self._filled:
            if height < self._plan.tile:
                self._sums[:, :-height] = self._sums[:, height:]
            self._sums[:, -height:] = 0
            self._filled = max(0, self._filled - height)
        if tile_row + 1 < len(self._plan.row_origins):
            self._row_weights = self._plan.row_weights(tile_row + 1)
