"""Tiles drawn from scenes, prepared exactly as mapping prepares them: some to calibrate a network with, others to judge it by."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import SceneError
from geoseg.io.opening import files_kept_open
from geoseg.mapping.output_grid import output_grid
from geoseg.mapping.plan import MapOptions, MapPlan, plan_map
from geoseg.mapping.tiles import Panel
from geoseg.mapping.windows import Area, windows
from geoseg.models.package import ModelPackage
from geoseg.preprocess.quality import Reason
from geoseg.scene import Scene

_ENOUGH = 32
"""Smaller tiles are drawn where the scenes have fewer tiles than this of the package's size."""
_LEAST_SIDE = 64
_MOSTLY = 0.5
"""A tile counts where more than this share of its pixels is observed."""


@dataclass(frozen=True)
class Place:
    """Where a tile lies: in which plan, and which of its tiles."""

    plan: MapPlan
    tile_row: int
    tile_col: int


@dataclass(frozen=True)
class Tile:
    """What the network gets of a place, and where that counts."""

    image: NDArray[np.float32]
    """(1, channel, row, col) prepared; 0 where not observed."""
    observed: NDArray[np.bool_]
    """(row, col)"""


def read_tile(place: Place) -> Tile:
    """The pixels of a tile, read, masked and prepared on the very way that mapping takes."""
    tiles, tile_col = place.plan.tiles, place.tile_col
    first = tiles.col_origins[tile_col]
    panel = Panel(slice(first, min(first + tiles.tile, tiles.shape[1])), range(tile_col, tile_col + 1))
    with closing(windows(place.plan, Area(), panel, [place.tile_row])) as found:
        window = next(found)
    return Tile(window.image(first)[np.newaxis].copy(), window.reason[:, : tiles.tile] == Reason.OBSERVED)


def draw_tiles(
    scenes: Sequence[Scene], package: ModelPackage, count: int, *, seed: int = 0, options: MapOptions | None = None
) -> tuple[list[Place], list[Place]]:
    """Two times at most `count` tiles of which most pixels are observed, spread over the scenes; no pixel lies in two tiles.

    The first are to calibrate with, the second to judge by. They are as large as the package's, or a half, a quarter … of that where
    the scenes would have too few. The same seed draws the same tiles. Raises SceneError where there is none to calibrate with or none to
    judge by, and what `plan_map` raises where a scene does not fit the package.
    """
    chosen = options or MapOptions(picture=False, polygons=False, overlap=0)
    shapes = [output_grid(scene, package, chosen).shape.yx for scene in scenes]
    smaller = package.model_copy(update={"tile": _side(shapes, package.tile, package.stride)})
    generator = np.random.default_rng(seed)
    drawn: tuple[list[Place], list[Place]] = [], []
    with files_kept_open():
        for scene in scenes:
            plan = plan_map(scene, smaller, chosen)
            for which, places in enumerate(drawn):
                places += _spread(plan, which, -(-count // len(scenes)), generator)
    if not all(drawn):
        named = ", ".join(scene.source for scene in scenes)
        raise SceneError(
            f"{named} has not two tiles of {smaller.tile} x {smaller.tile} pixels with data in most of them, one to calibrate with and one "
            "to judge by; give a larger scene, or more"
        )
    return drawn


def _side(shapes: Sequence[tuple[int, int]], tile: int, stride: int) -> int:
    """The edge of the tiles in pixels: the package's, halved until there are enough."""
    while sum((rows // tile) * (cols // tile) for rows, cols in shapes) < _ENOUGH and tile % (2 * stride) == 0 and tile // 2 >= _LEAST_SIDE:
        tile //= 2
    return tile


def _spread(plan: MapPlan, which: int, count: int, generator: np.random.Generator) -> Iterator[Place]:
    """The scene's tiles of one colour of a chessboard, cut into `count` runs, and of each run the first that has data."""
    tiles = plan.tiles
    whole = [
        Place(plan, row, col)
        for row, top in enumerate(tiles.row_origins)
        for col, left in enumerate(tiles.col_origins)
        if (row + col) % 2 == which and top % tiles.tile == 0 and left % tiles.tile == 0  # others share pixels with their neighbours
    ]
    for run in np.array_split(np.arange(len(whole)), max(1, min(count, len(whole)))):
        shuffled = (whole[number] for number in generator.permutation(run))
        if (found := next((place for place in shuffled if read_tile(place).observed.mean() > _MOSTLY), None)) is not None:
            yield found
