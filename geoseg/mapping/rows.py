"""From the scene to finished strips of scores: read, prepare, run, blend; what can overlap in time does."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from geoseg.io.opening import files_kept_open
from geoseg.mapping.blending import RowBlender
from geoseg.mapping.pipeline import in_order, one_ahead
from geoseg.mapping.plan import MapPlan
from geoseg.mapping.tiles import Panel, Strip
from geoseg.mapping.uncertainty import more_planes
from geoseg.mapping.windows import Area, Window, windows
from geoseg.preprocess.quality import Reason
from geoseg.runtimes.contract import Runtime

_NO_IMAGES, _NO_REASON = np.empty((0, 0, 0, 0), np.float32), np.empty((0, 0), np.uint8)  # an empty view of a window would keep it


@dataclass(frozen=True)
class FinishedStrip:
    """Some pixels of the map to which nothing is added any more; the scores are good until the next strip is asked for."""

    strip: Strip
    scores: dict[str, NDArray[np.float32]]
    """Output name → (class or 1, row, col), and what `more_planes` names beside them; meaningless where not observed. Rows and columns
    are those of the strip, in steps."""
    reason: NDArray[np.uint8]
    """(row, col) of `Reason`; only what is OBSERVED gets a class."""
    picture: NDArray[np.uint8] | None
    """(4, row, col) red, green, blue, alpha; None where no picture is asked for."""

    @property
    def observed(self) -> NDArray[np.bool_]:
        """(row, col); True where the map has a class."""
        return np.asarray(self.reason == Reason.OBSERVED)


def finished_strips(
    plan: MapPlan,
    runtime: Runtime,
    area: Area,
    strips: Sequence[Strip] | None = None,
    *,
    planes: Mapping[str, int] | None = None,
    step: int = 1,
) -> Generator[FinishedStrip, None, None]:
    """These strips of the map (None: all) in their order; memory depends on the width of a panel and the tile, not on the height.

    A strip's pixels are the same to the bit whichever others are asked for: tiles that reach into it are computed again, and
    what they add is summed in the same order. `planes` are those that the runtime gives by name (None: the outputs' and what is measured
    beside them); `step` is how many pixels one of their places is wide and high.
    """
    wanted = plan.tiles.strips if strips is None else strips
    if planes is None:
        outputs = plan.package.outputs
        planes = {output.name: output.planes for output in outputs} | more_planes(outputs, plan.measures)
    with files_kept_open(), ThreadPoolExecutor(plan.workers, "geoseg-network") as pool:
        for run in _runs(wanted):
            yield from _finished_run(plan, runtime, area, run, pool, planes, step)


def _runs(strips: Iterable[Strip]) -> Iterator[list[Strip]]:
    """Strips that follow one another down a panel, together."""
    for _, run in groupby(enumerate(strips), key=lambda pair: (pair[1].panel.cols.start, pair[1].number - pair[0])):
        yield [strip for _, strip in run]


@dataclass(frozen=True)
class _Job:
    """Tiles of one row that go through the network together; none where the row is at its end."""

    tile_row: int
    tile_cols: Sequence[int]
    images: NDArray[np.float32]
    """(batch, channel, row, col)"""
    reason: NDArray[np.uint8]
    """(tile, col) of the panel, at the end of a row; else empty, as is the picture."""
    picture: NDArray[np.uint8] | None


def _finished_run(
    plan: MapPlan, runtime: Runtime, area: Area, run: Sequence[Strip], pool: ThreadPoolExecutor, planes: Mapping[str, int], step: int
) -> Generator[FinishedStrip, None, None]:
    tiles, panel = plan.tiles, run[0].panel
    tile_rows = range(tiles.rows_reaching(run[0].tile_row).start, run[-1].tile_row + 1)
    wanted = {strip.tile_row: strip for strip in run}
    places, across = tiles.coarser(step), panel.coarser(step)
    blenders = {name: RowBlender(places, across, count, first_tile_row=tile_rows.start) for name, count in planes.items()}

    def scores_of(job: _Job) -> dict[str, NDArray[np.float32]]:
        return runtime(job.images) if job.tile_cols else {}

    with closing(one_ahead(windows(plan, area, panel, tile_rows))) as ahead:
        for job, scores in in_order(pool, scores_of, _jobs(plan, ahead, panel), most=plan.workers + 1):
            for name, batch in scores.items():
                for col, score in zip(job.tile_cols, batch, strict=True):
                    blenders[name].add(col, score)
            if job.tile_cols:
                continue
            if (strip := wanted.get(job.tile_row)) is not None:
                finished = {name: blender.finished(job.tile_row) for name, blender in blenders.items()}
                yield FinishedStrip(strip, finished, job.reason, job.picture)
            for blender in blenders.values():
                blender.move_on(job.tile_row)


def _jobs(plan: MapPlan, ahead: Iterable[Window], panel: Panel) -> Iterator[_Job]:
    """The tiles of every window in which something is observed, batch by batch, and at the end of each row what else the map needs.

    Pixels are copied out of the window, so that it is free for the next as soon as its last tile is under way.
    """
    for window in ahead:
        seen = [col for col in panel.tile_cols if window.seen(plan.tiles.col_origins[col])]
        for start in range(0, len(seen), plan.batch):
            cols = seen[start : start + plan.batch]
            images = np.stack([window.image(plan.tiles.col_origins[col]) for col in cols])
            yield _Job(window.tile_row, cols, images, _NO_REASON, None)
            del images
        rows = plan.tiles.finished_rows(window.tile_row)
        yield _Job(window.tile_row, (), _NO_IMAGES, *window.head(rows.stop - rows.start, panel.cols))
        del window
