"""Place: labelled ground, and the scenes of several sensors that show it, each on a grid of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise
from math import sqrt
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from geoseg.data.windows import UNLABELLED, Window
from geoseg.errors import InputError, LabelError
from geoseg.ground import pixel_size_m
from geoseg.io.label_rules import LabelRules
from geoseg.io.labels import Labels
from geoseg.layers.light import fit_light
from geoseg.layers.masks import mask_roles, scene_reasons
from geoseg.legend import Legend
from geoseg.preprocess.prepare import Preparation, halo, needed_roles, prepare
from geoseg.preprocess.quality import Reason
from geoseg.preprocess.terrain_correction import FittedCorrection
from geoseg.raster import Raster
from geoseg.scene import Scene, read_scene


@dataclass(frozen=True, eq=False)
class Place:
    """Labels on the grid of one of the sensors, and the scenes that show their ground.

    The scenes may lie in other CRSs than the labels, have other pixel sizes, and cover only some of the ground.
    """

    geobox: GeoBox
    """Windows lie on these pixels."""
    labels: NDArray[np.int16]
    """(row, col) class indices or UNLABELLED, whatever the sensors see there."""
    scenes: Mapping[str, tuple[Scene, ...]]
    """Sensor → its scene here, or its dates in order of time; a sensor that was not there is left out."""

    @classmethod
    def of(
        cls,
        scenes: Mapping[str, Scene | Sequence[Scene]],
        labels: str | Path,
        legend: Legend,
        *,
        grid: str,
        class_column: str | None = None,
        rules: LabelRules | None = None,
    ) -> Place:
        """Labels on the grid of the finest band of the sensor `grid`, or of its first date.

        InputError where that sensor is not among the scenes, or one of several dates has none; LabelError where no label lies there.
        """
        dated = {name: in_time(name, [given] if isinstance(given, Scene) else given) for name, given in scenes.items()}
        if grid not in dated:
            raise InputError(
                f"windows are to lie on the pixels of {grid!r}, which is not among the sensors here: {', '.join(dated) or 'none'}"
            )
        geobox = dated[grid][0].geobox()
        source = Labels(labels, legend, class_column, rules=rules or LabelRules())
        source.check_near(geobox)
        plane = source.read_plane(geobox)
        if not (plane != UNLABELLED).any():
            raise LabelError(f"no label of {labels} lies on {dated[grid][0].source}; give labels of the ground that it shows")
        return cls(geobox, plane, dated)


def in_time(name: str, scenes: Sequence[Scene]) -> tuple[Scene, ...]:
    """The dates of a sensor in order; InputError where there are several and one does not say when it was, or two the same moment."""
    if not scenes:
        raise InputError(f"no scene is given for the sensor {name!r}; leave the sensor out where it was not there")
    if len(scenes) == 1:
        return tuple(scenes)
    times = {scene.source: scene.time for scene in scenes}
    if undated := [source for source, time in times.items() if time is None]:
        raise InputError(f"{undated[0]} does not say when it was; dates of {name!r} need their time to be put in order")
    ordered = sorted(scenes, key=_moment)
    for earlier, later in pairwise(ordered):
        if _moment(earlier) == _moment(later):
            raise InputError(f"{earlier.source} and {later.source} are of the same moment; give each date of {name!r} once")
    return tuple(ordered)


def _moment(scene: Scene) -> datetime:
    assert scene.time is not None, "was checked"
    return scene.time.replace(tzinfo=None)


@dataclass(frozen=True, eq=False)
class SensorView:
    """How patches show one sensor."""

    preparation: Preparation
    """Of one date."""
    pixels: int
    """Edge of its images; they cover the ground of the window, whatever the window's own pixels are."""

    def grid(self, window: GeoBox) -> GeoBox:
        """The window's ground in this sensor's pixels: the corners are those of the window."""
        rows, cols = window.shape
        return GeoBox((self.pixels, self.pixels), window.affine @ window.affine.scale(cols / self.pixels, rows / self.pixels), window.crs)

    def read(self, scene: Scene, window: GeoBox, correction: FittedCorrection | None = None) -> Raster:
        """The prepared window, (channel, `pixels`, `pixels`); not valid beyond the scene and where its quality layer says cloud or such.

        Read as for mapping: pixels that are much finer are averaged, others taken between their neighbours.
        """
        margin = halo(self.preparation)
        wide = Window(0, 0, self.pixels, self.pixels).grown(margin).geobox(self.grid(window))
        raster = read_scene(scene, needed_roles(self.preparation, correction), wide)
        if masks := mask_roles(scene):
            seen = scene_reasons(read_scene(scene, masks, wide), scene) == Reason.OBSERVED
            raster = replace(raster, valid=raster.valid & seen)
        inner = slice(margin, margin + self.pixels)
        return prepare(raster, self.preparation, correction=correction).crop(inner, inner)


def fitting_views(places: Sequence[Place], preparations: Mapping[str, Preparation], *, tile: int) -> dict[str, SensorView]:
    """A view of each sensor with pixels of about its own size, by the first place where it is.

    `tile` is the edge of a window in pixels of the labels. InputError for a sensor that is nowhere.
    """
    found = {}
    for name, preparation in preparations.items():
        place = next((place for place in places if name in place.scenes), None)
        if place is None:
            raise InputError(f"no place has a scene of {name!r}; leave the sensor out, or give some")
        own = _mean_size_m(place.scenes[name][0].geobox([band.role for band in preparation.bands]))
        found[name] = SensorView(preparation, max(1, round(tile * _mean_size_m(place.geobox) / own)))
    return found


def corrections(place: Place, views: Mapping[str, SensorView]) -> dict[str, tuple[FittedCorrection | None, ...]]:
    """Sensor → the terrain correction that its preparation asks for, fitted to each of its dates here."""
    return {
        name: tuple(fit_light(scene, view.preparation).correction for scene in place.scenes.get(name, ())) for name, view in views.items()
    }


def _mean_size_m(geobox: GeoBox) -> float:
    height, width = pixel_size_m(geobox)
    return sqrt(height * width)
