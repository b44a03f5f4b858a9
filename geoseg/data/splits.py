"""Ground to learn from, to stop by and to be judged on: blocks of the scenes, with a gap between them.

Pixels beside each other are alike, so a random split of pixels or tiles lets a network be judged on what it has all but seen
(Roberts et al., Ecography 40, 2017). Whole blocks are held out instead, and pixels of two parts are at least `guard` apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import geopandas
import numpy as np
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from scipy.ndimage import maximum_filter
from shapely.geometry.base import BaseGeometry

from geoseg.data.windows import UNLABELLED, Window, lay_windows
from geoseg.errors import LabelError
from geoseg.ground import divide_long_edges
from geoseg.io.qgis_styles import polygons_qml
from geoseg.io.vectors import burn_area, write_polygons
from geoseg.legend import Legend, LegendClass

Part = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = get_args(Part)

BLOCKS = (512, 256, 128, 96, 64, 32)
"""Edges in pixels that `fitting_block` chooses from."""
ENOUGH = 16
"""Blocks with labels, from which on some can be held out and still tell something."""
_COLOURS = ("#8c8c8c", "#e0a030", "#2b6cb0")
"""Of train, validation and test on a map."""
_TRIES = 500
"""Random assignments among which the one that shares out the classes most evenly is taken."""
_ABSENT = 10.0
"""What a part without a pixel of some class costs in that choice; beyond any difference of shares."""
_CORNERS = 16
"""Of a block's outline, at least."""


class Split(Protocol):
    """How ground is shared out among the parts."""

    @property
    def guard(self) -> int:
        """Pixels between the pixels of two parts, at least."""

    @property
    def same_ground(self) -> bool:
        """Whether two parts may show the same ground, as on other dates."""

    def told(self, pixel_m: float) -> str:
        """One sentence: how far the parts are from each other, with pixels of `pixel_m` metres."""

    def mask(self, scene: int, part: Part) -> NDArray[np.bool_]:
        """(row, col) of a scene; True on the ground of `part`."""

    def pieces(self, part: Part) -> int:
        """How many blocks, scenes or polygons the part has."""

    def ground(self) -> geopandas.GeoDataFrame:
        """All pieces in EPSG:4326, with columns `scene` (counted from 0), `part` and geometry."""

    def held_out(self) -> geopandas.GeoDataFrame:
        """Those of `ground` that were not learned from."""


@dataclass(frozen=True, eq=False)
class BlockSplit:
    """Which block of which scene belongs to which part."""

    geoboxes: tuple[GeoBox, ...]
    """Grid of each scene."""
    blocks: tuple[tuple[Window, ...], ...]
    """For each scene, the windows that cover it once."""
    parts: tuple[NDArray[np.intp], ...]
    """For each scene, the place in `PARTS` of each of its blocks."""
    guard: int
    """Pixels between the pixels of two parts, at least; counted along rows and columns."""
    same_ground: bool = False

    def told(self, pixel_m: float) -> str:
        """One sentence: how far the parts are from each other."""
        return gap_told(self.guard * pixel_m)

    def mask(self, scene: int, part: Part) -> NDArray[np.bool_]:
        """(row, col) of a scene; True on the ground of `part`, the guard gap left out on both sides.

        Where scenes overlap, ground held out in one is not trained on in another, and test ground of one is not validation
        ground of another.
        """
        own = PARTS.index(part)
        plane = np.empty(self.geoboxes[scene].shape, dtype=np.uint8)
        for window, place in zip(self.blocks[scene], self.parts[scene], strict=True):
            plane[window.slices] = place != own
        reach = 2 * (-(-self.guard // 2)) + 1
        mask: NDArray[np.bool_] = maximum_filter(plane, size=reach, mode="nearest") == 0
        for other, grid in enumerate(self.geoboxes):
            if other != scene and (ground := self._held_out_ground(other, own)) is not None:
                mask &= ~burn_area(_move(ground, grid, self.geoboxes[scene].crs), self.geoboxes[scene])
        return mask

    def pieces(self, part: Part) -> int:
        """How many blocks the part has, in all scenes."""
        return sum(int((places == PARTS.index(part)).sum()) for places in self.parts)

    def ground(self) -> geopandas.GeoDataFrame:
        """All blocks, as polygons in EPSG:4326 with columns `scene` (counted from 0), `part` and geometry."""
        rows = [
            {"scene": scene, "part": PARTS[place], "geometry": _move(_outline(grid, window), grid, "EPSG:4326")}
            for scene, grid in enumerate(self.geoboxes)
            for window, place in zip(self.blocks[scene], self.parts[scene], strict=True)
        ]
        return geopandas.GeoDataFrame(rows, columns=["scene", "part", "geometry"], geometry="geometry", crs="EPSG:4326")

    def held_out(self) -> geopandas.GeoDataFrame:
        """The blocks that were not trained on, as in `ground`."""
        frame = self.ground()
        return frame[frame["part"] != "train"].reset_index(drop=True)

    def _held_out_ground(self, scene: int, own: int) -> BaseGeometry | None:
        """Blocks of parts that come after `own` in PARTS, with the guard gap around them, in the scene's CRS."""
        grid = self.geoboxes[scene]
        later = [w.grown(self.guard) for w, place in zip(self.blocks[scene], self.parts[scene], strict=True) if place > own]
        return shapely.union_all([_outline(grid, window) for window in later]) if later else None


def split_blocks(
    geoboxes: Sequence[GeoBox],
    labels: Sequence[NDArray[np.integer]],
    classes: int,
    *,
    block: int,
    guard: int,
    validation: float,
    test: float,
    generator: np.random.Generator,
) -> BlockSplit:
    """Share out the scenes' blocks of `block` pixels: about `validation` and `test` (0…1) of them are held out, at least one each.

    `labels` are (row, col) class indices, UNLABELLED where there is none. Among many random assignments the one is taken whose
    parts have the classes in the most equal shares. Blocks without a label are trained on, which is to say only looked at from
    beside. Raises LabelError where fewer than three blocks hold labels.
    """
    blocks = tuple(tuple(lay_windows((grid.shape[0], grid.shape[1]), block)) for grid in geoboxes)
    counts = [
        np.bincount(plane[window.slices][plane[window.slices] != UNLABELLED], minlength=classes)
        for windows, plane in zip(blocks, labels, strict=True)
        for window in windows
    ]
    table = np.array(counts)  # (block of any scene, class)
    labelled = np.flatnonzero(table.sum(axis=1))
    if labelled.size < len(PARTS):
        raise LabelError(
            f"labels lie in {_several(labelled.size, 'block')} of {block} x {block} pixels; expected at least {len(PARTS)}, to train on "
            "some and be judged on others: label ground in more places, or make the blocks smaller"
        )
    places = np.zeros(len(table), dtype=np.intp)
    places[labelled] = assign_parts(table[labelled], validation=validation, test=test, generator=generator)
    bounds = np.cumsum([len(windows) for windows in blocks])[:-1]
    return BlockSplit(tuple(geoboxes), blocks, tuple(np.split(places, bounds)), guard)


def split_scenes(
    geoboxes: Sequence[GeoBox],
    labels: Sequence[NDArray[np.integer]],
    classes: int,
    *,
    guard: int,
    validation: float,
    test: float,
    generator: np.random.Generator,
) -> BlockSplit:
    """Share out whole scenes, as `split_blocks` does blocks: what is judged is then a place that was never seen.

    Raises LabelError where fewer than three scenes hold labels.
    """
    wholes = tuple((Window(0, 0, *grid.shape.yx),) for grid in geoboxes)
    table = np.array([np.bincount(plane[plane != UNLABELLED], minlength=classes) for plane in labels])  # (scene, class)
    labelled = np.flatnonzero(table.sum(axis=1))
    if labelled.size < len(PARTS):
        found = _several(labelled.size, "scene")
        raise LabelError(f"labels lie in {found}; expected at least {len(PARTS)} to split by scenes, or split by blocks")
    places = np.zeros(len(table), dtype=np.intp)
    places[labelled] = assign_parts(table[labelled], validation=validation, test=test, generator=generator)
    return BlockSplit(tuple(geoboxes), wholes, tuple(places[:, np.newaxis]), guard)


def gap_told(gap_m: float) -> str:
    """One sentence on parts that lie on ground of their own."""
    return f"Ground of two parts is at least {round(gap_m, 2):g} m apart."


def write_split(path: Path, split: Split) -> None:
    """The ground of the parts as a GeoPackage that QGIS draws in three colours."""
    frame = split.ground()
    frame["part_code"] = [PARTS.index(part) for part in frame["part"]]
    classes = (LegendClass(code, code, name, colour) for code, (name, colour) in enumerate(zip(PARTS, _COLOURS, strict=True)))
    write_polygons(path, frame, style_qml=polygons_qml(Legend(tuple(classes)), "part_code"))


def fitting_block(labels: Sequence[NDArray[np.integer]], *, least: int = 32) -> int:
    """Edge in pixels of blocks that share out these labels (row, col) well: the largest of BLOCKS of which ENOUGH hold a label, or the
    smallest one that is at least `least`.
    """
    for block in BLOCKS:
        held = sum(bool((plane[window.slices] != UNLABELLED).any()) for plane in labels for window in lay_windows(plane.shape[:2], block))
        if held >= ENOUGH:
            return max(block, least)
    return max(BLOCKS[-1], least)


def assign_parts(counts: NDArray[np.integer], *, validation: float, test: float, generator: np.random.Generator) -> NDArray[np.intp]:
    """Place in PARTS of each block, from its (block, class) pixel counts; every part gets at least one block."""
    total = len(counts)
    held = [max(1, round(share * total)) for share in (validation, test)]
    while sum(held) > total - 1:
        held[held.index(max(held))] -= 1
    plain = np.repeat(np.arange(len(PARTS)), [total - sum(held), *held])
    tries = [generator.permutation(plain) for _ in range(_TRIES)]
    return min(tries, key=lambda places: _unevenness(counts, places))


def _several(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _unevenness(counts: NDArray[np.integer], places: NDArray[np.intp]) -> float:
    """How far the parts' shares of each class are from their shares of the blocks."""
    present = counts.sum(axis=0) > 0
    cost = 0.0
    for place in range(len(PARTS)):
        shares = counts[places == place][:, present].sum(axis=0) / counts[:, present].sum(axis=0)
        cost += float(np.abs(shares - (places == place).mean()).sum()) + _ABSENT * float((shares == 0).sum())
    return cost


def _outline(grid: GeoBox, window: Window) -> shapely.Polygon:
    """A window as a polygon in the grid's CRS, with enough corners to stay where it is when projected."""
    box = window.geobox(grid).extent.geom
    polygon: shapely.Polygon = divide_long_edges(np.array([box]), box.length / _CORNERS)[0]
    return polygon


def _move(geometry: BaseGeometry, grid: GeoBox, crs: Any) -> BaseGeometry:
    """A geometry on the grid, in another CRS."""
    moved: BaseGeometry = geopandas.GeoSeries([geometry], crs=grid.crs).to_crs(crs).iloc[0]
    return moved
