"""Corrections as ground to learn from: what a package held out stays held out, and few labels may be too few to judge by."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import geopandas
import numpy as np
import shapely
from geopandas import GeoDataFrame
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from scipy.ndimage import maximum_filter

from geoseg.confusion import Confusion
from geoseg.data.patches import LabelledScene
from geoseg.data.splits import Part
from geoseg.data.windows import UNLABELLED
from geoseg.errors import LabelError
from geoseg.ground import horizontal, outline
from geoseg.io.vectors import burn_area, onto_grid
from geoseg.models.package import ModelPackage
from geoseg.recipes._results import HELD_OUT

log = logging.getLogger(__name__)

_FEW = 200
"""Labelled pixels below which a figure hangs on little."""


@dataclass(frozen=True, eq=False)
class AllLearned:
    """All ground is learned from and stopped by, and none is judged on; a `geoseg.data.splits.Split`."""

    geoboxes: tuple[GeoBox, ...]
    guard: int = 0
    same_ground: bool = True

    def told(self, pixel_m: float) -> str:
        """One sentence: how the ground was shared out."""
        return "All labels were learned from; they are too few to hold any out."

    def mask(self, scene: int, part: Part) -> NDArray[np.bool_]:
        """(row, col) of a scene; True on the ground of `part`."""
        return np.full(self.geoboxes[scene].shape.yx, part != "test")

    def pieces(self, part: Part) -> int:
        """Each scene is one piece."""
        return len(self.geoboxes) if part != "test" else 0

    def ground(self) -> GeoDataFrame:
        """The scenes, as learned from."""
        shapes = [geopandas.GeoSeries([shapely.Polygon(outline(grid))], crs=horizontal(grid.crs)).to_crs(4326)[0] for grid in self.geoboxes]
        return GeoDataFrame({"scene": range(len(shapes)), "part": ["train"] * len(shapes)}, geometry=shapes, crs="EPSG:4326")

    def held_out(self) -> GeoDataFrame:
        """Nothing."""
        return self.ground().iloc[:0]


def held_out_before(package: ModelPackage) -> NDArray[Any]:
    """The polygons in degrees that a package holds out, wherever they lie; perhaps none."""
    features = json.loads(package.read(HELD_OUT))["features"] if HELD_OUT in package.checksums else []
    return np.asarray(shapely.from_geojson([json.dumps(feature["geometry"]) for feature in features]), dtype=object)


def leave_out(scenes: Sequence[LabelledScene], before: NDArray[Any], guard: int) -> tuple[list[LabelledScene], str]:
    """The scenes without labels on ground held out before (polygons in degrees) or within `guard` pixels of it, and what to say of it.

    LabelError where no label is left.
    """
    kept, lost, total = [], 0, 0
    for scene in scenes:
        barred = _burned(before, scene.geobox, guard)
        labels = np.where(barred, UNLABELLED, scene.labels).astype(scene.labels.dtype)
        lost += int((scene.labels != UNLABELLED).sum() - (labels != UNLABELLED).sum())
        total += int((scene.labels != UNLABELLED).sum())
        kept.append(replace(scene, labels=labels))
    if lost == total:
        raise LabelError("all labels lie on ground that the package at the start holds out, to be judged on; label other ground")
    said = (
        f"{lost} of {total} labelled pixels lie on ground that the package at the start holds out, and were not learned from."
        if lost
        else ""
    )
    if said:
        log.warning("%s", said)
    return kept, said


def changed(before: Confusion, after: Confusion, pieces: int) -> str:
    """A sentence on what learning on has changed on ground that neither has learned from."""
    pixels = after.total
    rows = zip(before.figures().items(), after.figures().values(), strict=True)
    moved = ", ".join(f"{name} {was['iou']:.3f} to {now['iou']:.3f}" for (name, was), now in rows if not np.isnan(now["iou"]))
    grown = after.mean_iou - before.mean_iou
    how = "better" if grown > 0 else "worse: keep the package that it started from" if grown < 0 else "the same"
    hangs = " They hang on few labels, so draw more before you trust them." if pixels < _FEW or pieces < 2 else ""
    return (
        f"On {pixels} held-out pixels of the labels, mean IoU was {before.mean_iou:.3f} before and is {after.mean_iou:.3f} now, {how} "
        f"(IoU: {moved}).{hangs}"
    )


TOO_FEW = (
    "Too few labels, or too close together, to hold any out: all were learned from, no figure says whether the package is better now. "
    "Compare its map with the one before, or label in three places that lie apart."
)


def _burned(polygons: NDArray[Any], grid: GeoBox, guard: int) -> NDArray[np.bool_]:
    """(row, col) True on polygons in degrees and within `guard` pixels of them."""
    placed = onto_grid(polygons, "EPSG:4326", grid)[0] if len(polygons) else polygons
    if not len(placed):
        return np.zeros(grid.shape.yx, np.bool_)
    inside = burn_area(shapely.union_all(placed), grid)
    near: NDArray[np.bool_] = maximum_filter(inside.astype(np.uint8), size=2 * guard + 1, mode="constant") > 0
    return near
