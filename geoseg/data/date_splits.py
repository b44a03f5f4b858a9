"""Scenes shared out by their dates: what is judged was taken later than all that is learned from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import geopandas
import numpy as np
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from geoseg.data.splits import PARTS, Part
from geoseg.errors import InputError
from geoseg.ground import outline


@dataclass(frozen=True, eq=False)
class DateSplit:
    """Whole scenes, the earliest to learn from, the latest to be judged on; their ground may be the same."""

    geoboxes: tuple[GeoBox, ...]
    """Grid of each scene."""
    parts: NDArray[np.intp]
    """(scene,) place in PARTS."""
    days: int
    """Between scenes of two parts, at least."""
    guard: int = 0
    same_ground: bool = True

    def mask(self, scene: int, part: Part) -> NDArray[np.bool_]:
        """(row, col) of a scene; True throughout or nowhere."""
        return np.full(self.geoboxes[scene].shape, bool(self.parts[scene] == PARTS.index(part)))

    def pieces(self, part: Part) -> int:
        """How many scenes the part has."""
        return int((self.parts == PARTS.index(part)).sum())

    def told(self, pixel_m: float) -> str:
        """One sentence: how far the parts are from each other."""
        return (
            f"Scenes of two parts were taken at least {self.days} days apart, what is judged last; they may show the same ground, so that "
            "this says how a map of another date will be, not one of another place."
        )

    def ground(self) -> geopandas.GeoDataFrame:
        """All scenes' outlines in EPSG:4326, with columns `scene` (counted from 0), `part` and geometry."""
        outlines = [geopandas.GeoSeries([shapely.Polygon(outline(grid))], crs=grid.crs).to_crs("EPSG:4326")[0] for grid in self.geoboxes]
        columns = {"scene": range(len(outlines)), "part": [PARTS[place] for place in self.parts]}
        return geopandas.GeoDataFrame(columns, geometry=outlines, crs="EPSG:4326")

    def held_out(self) -> geopandas.GeoDataFrame:
        """What of the held-out scenes' ground was learned from at no other date, as in `ground`; often none."""
        frame = self.ground()
        trained = frame["part"] == "train"
        held = frame[~trained].assign(geometry=frame.geometry[~trained].difference(frame.geometry[trained].union_all()))
        return held[~held.is_empty].reset_index(drop=True)


def split_dates(
    geoboxes: Sequence[GeoBox], dates: Sequence[date | None], names: Sequence[str], *, validation: float, test: float
) -> DateSplit:
    """Hold out the latest days: about `test` (0…1) of the scenes, before them about `validation`, a day of each at least.

    Scenes of one day stay together. InputError where a scene's date is not known, or there are fewer than three days.
    """
    for name, day in zip(names, dates, strict=True):
        if day is None:
            raise InputError(f"split: dates wants the date of each scene, and that of {name} is not known; split by scenes or by blocks")
    known = np.array([day.toordinal() for day in dates if day is not None])
    days, counts = np.unique(known, return_counts=True)
    if len(days) < len(PARTS):
        raise InputError(f"the scenes are of {len(days)} different days; expected at least {len(PARTS)} to split by dates")
    until = counts.cumsum() / counts.sum()  # share of the scenes up to each day
    last = int(np.clip(np.searchsorted(until, 1 - test + 1e-9), 2, len(days) - 1))
    middle = int(np.clip(np.searchsorted(until, 1 - test - validation + 1e-9), 1, last - 1))
    parts = np.searchsorted([days[middle], days[last]], known, side="right")
    return DateSplit(tuple(geoboxes), parts, int(min(days[middle] - days[middle - 1], days[last] - days[last - 1])))
