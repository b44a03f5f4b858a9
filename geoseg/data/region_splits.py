"""Ground shared out by hand: polygons that say what is learned from, stopped by and judged on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.features import rasterize
from scipy.ndimage import maximum_filter

from geoseg.data.splits import PARTS, Part, gap_told
from geoseg.errors import InputError
from geoseg.io.vectors import onto_grid, read_features
from geoseg.settings import nearest


@dataclass(frozen=True, eq=False)
class RegionSplit:
    """Polygons of parts; where two overlap, the part that comes later in PARTS has the ground, and what none covers has no part."""

    geoboxes: tuple[GeoBox, ...]
    """Grid of each scene."""
    geometries: NDArray[Any]
    crs: Any
    parts: NDArray[np.intp]
    """(polygon,) place in PARTS."""
    guard: int
    """Pixels between the pixels of two parts, at least; counted along rows and columns."""
    same_ground: bool = False

    def told(self, pixel_m: float) -> str:
        """One sentence: how far the parts are from each other."""
        return gap_told(self.guard * pixel_m)

    def mask(self, scene: int, part: Part) -> NDArray[np.bool_]:
        """(row, col) of a scene; True on the ground of `part`, the guard gap left out on both sides."""
        grid, guard = self.geoboxes[scene].pad(self.guard), self.guard  # a polygon beside the scene counts, too
        placed, which = onto_grid(self.geometries, self.crs, grid)
        order = np.argsort(self.parts[which], kind="stable")
        shapes = list(zip(placed[order], (self.parts[which][order] + 1).tolist(), strict=True))
        size = tuple(grid.shape)
        burned = rasterize(shapes, out_shape=size, transform=grid.affine, dtype="uint8") if shapes else np.zeros(size, np.uint8)
        own = PARTS.index(part) + 1
        others = ((burned != own) & (burned != 0)).astype(np.uint8)
        near = maximum_filter(others, size=2 * guard + 1, mode="constant") > 0
        mask: NDArray[np.bool_] = (burned == own) & ~near
        return mask[guard : size[0] - guard, guard : size[1] - guard]

    def pieces(self, part: Part) -> int:
        """How many polygons the part has."""
        return int((self.parts == PARTS.index(part)).sum())

    def ground(self) -> geopandas.GeoDataFrame:
        """All polygons in EPSG:4326: columns `scene` (counted from 0) of each scene that one touches, `part`, geometry."""
        found = []
        for scene, grid in enumerate(self.geoboxes):
            _, which = onto_grid(self.geometries, self.crs, grid)
            found += [{"scene": scene, "part": PARTS[self.parts[one]], "geometry": self.geometries[one]} for one in np.unique(which)]
        frame = geopandas.GeoDataFrame(found, columns=["scene", "part", "geometry"], geometry="geometry", crs=self.crs)
        return frame.to_crs("EPSG:4326")

    def held_out(self) -> geopandas.GeoDataFrame:
        """Those of `ground` that were not learned from."""
        frame = self.ground()
        return frame[frame["part"] != "train"].reset_index(drop=True)


def split_regions(geoboxes: Sequence[GeoBox], path: str | Path, column: str, *, guard: int) -> RegionSplit:
    """The parts that polygons name in a column: train, validation, test. InputError where they do not, or one of the three is missing."""
    frame = read_features(path)
    names = [str(name) for name in frame.columns if name != frame.geometry.name]
    if column not in names:
        raise InputError(
            f"{path} has no column {column!r}; it has {', '.join(names) or 'no columns'}: name the one with {', '.join(PARTS)}"
        )
    texts = [str(value).strip().lower() for value in frame[column]]
    if strange := sorted({text for text in texts if text not in PARTS}):
        raise InputError(f"{path} says {strange[0]!r} in column {column!r}; expected {', '.join(PARTS)}: {nearest(strange[0], PARTS)}")
    if missing := [part for part in PARTS if part not in texts]:
        raise InputError(f"{path} has no polygon for {missing[0]} in column {column!r}; draw ground for each of {', '.join(PARTS)}")
    polygons = shapely.force_2d(frame.geometry.to_numpy())
    return RegionSplit(tuple(geoboxes), polygons, frame.crs, np.array([list(map(str, PARTS)).index(text) for text in texts]), guard)
