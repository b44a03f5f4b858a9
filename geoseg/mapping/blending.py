"""Overlapping tiles to finished rows: one row of tiles is held, whatever the height of the scene."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from geoseg.mapping.tiles import TilePlan


class RowBlender:
    """Adds up the tiles' scores, each with its share, and hands out the pixel rows that are finished.

    Holds (channel, tile, col) float32. Rows of tiles are added from the top; within a row the order does not matter
    but for rounding. The shares sum to one, so nothing is divided.
    """

    def __init__(self, plan: TilePlan, channels: int) -> None:
        self._plan = plan
        self._sums = np.zeros((channels, plan.tile, plan.shape[1]), np.float32)
        self._col_weights = [plan.col_weights(tile_col) for tile_col in range(len(plan.col_origins))]
        self._row_weights = plan.row_weights(0)

    def add(self, tile_col: int, scores: NDArray[np.float32]) -> None:
        """Add the scores, (channel, tile, tile), of one tile of the present row; its part beyond the grid is dropped."""
        start = self._plan.col_origins[tile_col]
        inside = min(self._plan.tile, self._plan.shape[1] - start)
        share = self._row_weights[:, None] * self._col_weights[tile_col][None, :inside]
        self._sums[:, :, start : start + inside] += scores[:, :, :inside] * share

    def finish(self, tile_row: int) -> NDArray[np.float32]:
        """(channel, row, col) scores of `plan.finished_rows(tile_row)`; then moves on to the next row of tiles."""
        rows = self._plan.finished_rows(tile_row)
        height = rows.stop - rows.start
        finished = self._sums[:, :height].copy()
        if height < self._plan.tile:
            self._sums[:, :-height] = self._sums[:, height:]
        self._sums[:, -height:] = 0
        if tile_row + 1 < len(self._plan.row_origins):
            self._row_weights = self._plan.row_weights(tile_row + 1)
        return finished
