"""What recipes start from: labelled scenes, which part of the ground is which, what is prepared. Nothing here needs torch."""

from __future__ import annotations

import importlib.metadata
import logging
import math
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import pyproj
from geopandas import GeoDataFrame
from numpy.typing import NDArray

from geoseg.data.apart import check_apart
from geoseg.data.patches import LabelledScene, load_scene
from geoseg.data.splits import PARTS, Part, Split
from geoseg.data.windows import UNLABELLED
from geoseg.errors import BandError, LabelError, SceneError
from geoseg.ground import horizontal, pixel_areas_m2, pixel_size_m
from geoseg.io.label_rules import LabelRules
from geoseg.io.labels import read_legend
from geoseg.legend import Legend
from geoseg.preprocess.indices import get_index
from geoseg.preprocess.prepare import BandNeed, Channel, Despeckle, Preparation
from geoseg.preprocess.terrain_correction import TerrainCorrection
from geoseg.scene import Scene
from geoseg.sensors import Band

log = logging.getLogger(__name__)

_LARGEST_RATIO = 1.5
"""Of the pixel sizes of two scenes that are trained on together."""
_TRACED = ("geoseg", "torch", "lightning", "segmentation-models-pytorch", "timm", "scikit-learn", "numpy", "rasterio", "onnx")


class JudgedGround(Protocol):
    """Labelled scenes, and how their ground was shared out."""

    @property
    def scenes(self) -> Sequence[LabelledScene]:
        """All of them."""

    @property
    def shared_out(self) -> str:
        """One sentence: how the ground was shared out."""

    def stated(self, legend: Legend) -> dict[str, Any]:
        """Part → its `labelled_km2`, `pixels` by class and the number of its pieces, as plain data."""

    def meaning(self, part: str) -> str:
        """What the ground of a part was for."""

    def on(self, part: str) -> str:
        """Where the figures of a part come from, as a model card says it."""

    def held_out(self) -> GeoDataFrame:
        """The ground that was not learned from: columns `scene` (counted from 0), `part` and geometry in EPSG:4326; perhaps none."""


@dataclass(frozen=True, eq=False)
class Ground:
    """Labelled scenes, and the part of the ground that each pixel belongs to: blocks, with a gap between those of two parts."""

    scenes: tuple[LabelledScene, ...]
    split: Split
    masks: dict[Part, tuple[NDArray[np.bool_], ...]]
    """For each part, (row, col) of each scene."""

    @classmethod
    def of(cls, scenes: Sequence[LabelledScene], split: Split) -> Ground:
        """The scenes with the masks of each part; LabelError where a part has no labelled pixel, or two parts share ground."""
        masks = {part: tuple(split.mask(scene, part) for scene in range(len(scenes))) for part in PARTS}
        for part, planes in masks.items():
            if not any((scene.labels[mask] != UNLABELLED).any() for scene, mask in zip(scenes, planes, strict=True)):
                raise LabelError(
                    f"no labelled {part} ground is left: its {split.pieces(part)} pieces of ground lie off the labels, or within the gap "
                    f"of {split.guard} pixels to other parts; share the ground out as the labels lie, or make the gap (guard) smaller"
                )
        if not split.same_ground:
            names = [scene.scene.name for scene in scenes]
            check_apart([scene.geobox for scene in scenes], masks, guard=split.guard, names=names)
        return cls(tuple(scenes), split, masks)

    @property
    def guard_m(self) -> float:
        """Metres between ground of two parts, at least."""
        return round(self.split.guard * mean_pixel_size_m(self.scenes[0]), 2)

    @property
    def shared_out(self) -> str:
        """One sentence: how the ground was shared out."""
        return self.split.told(mean_pixel_size_m(self.scenes[0]))

    def stated(self, legend: Legend) -> dict[str, Any]:
        """Part → its `blocks`, `labelled_km2` and `pixels` by class, as plain data."""
        return {
            part: {
                "blocks": self.split.pieces(part),
                "labelled_km2": self.labelled_km2(part),
                "pixels": dict(zip(legend.names, self.class_pixels(part, len(legend)).tolist(), strict=True)),
            }
            for part in PARTS
        }

    def meaning(self, part: str) -> str:
        """What the ground of a part was for."""
        return {"train": "learned from", "validation": "training stopped by it"}.get(part, "not trained on, judged once at the end")

    def on(self, part: str) -> str:
        """Where the figures of a part come from, as a model card says it."""
        names, area = ", ".join(scene.scene.name for scene in self.scenes), sum(self.labelled_km2(one) for one in PARTS if one == part)
        return f"{part} blocks of {names}, {area:.4g} km² labelled, not trained on"

    def held_out(self) -> GeoDataFrame:
        """The blocks that were not learned from; see `BlockSplit.held_out`."""
        return self.split.held_out()

    def class_pixels(self, part: Part, classes: int) -> NDArray[np.int64]:
        """(class,) labelled pixels on the ground of a part."""
        total = np.zeros(classes, dtype=np.int64)
        for scene, mask in zip(self.scenes, self.masks[part], strict=True):
            known = scene.labels[mask & (scene.labels != UNLABELLED)]
            total += np.bincount(known, minlength=classes)
        return total

    def labelled_km2(self, part: Part) -> float:
        """Labelled ground of a part in square kilometres."""
        areas = 0.0
        for scene, mask in zip(self.scenes, self.masks[part], strict=True):
            known = mask & (scene.labels != UNLABELLED)
            areas += float((np.broadcast_to(pixel_areas_m2(scene.geobox), known.shape) * known).sum())
        return areas / 1e6


def plan_preparation(
    scene: Scene,
    bands: Sequence[str],
    indices: Sequence[str],
    terrain_correction: TerrainCorrection | None = None,
    despeckle: Despeckle | Literal["auto"] | None = None,
) -> Preparation:
    """What the network receives: these bands (all of the scene's own with a physical meaning, where none is named), then these indices.

    Radar is taken in decibels, its speckle filtered before by `despeckle`, if any; BandError where there is none to filter. `auto` is Lee's
    filter for radar that is not filtered yet, and none otherwise. The statistics are still those of no data: mean 0, standard deviation 1.
    """
    roles = tuple(bands) or tuple(
        role
        for role in scene.roles
        if not role.startswith("quality") and not scene.layer(role).added and scene.layer(role).band.unit not in ("class", "count")
    )
    if not roles:
        raise BandError(f"{scene.source} has no band to learn from; name the bands of the network with bands: [red, green, nir]")
    given = [scene.layer(role).band for role in roles]
    if despeckle == "auto":
        radar = [band for band in given if band.kind == "radar"]
        despeckle = Despeckle(method="lee") if radar and not any(band.despeckled for band in radar) else None
    _check_speckle(scene, given, despeckle)
    needs = tuple(
        BandNeed(role=b.role, unit="dB" if b.kind == "radar" else b.unit, convention=b.convention, wavelength_um=b.wavelength_um)
        for b in given
    )
    names = tuple(get_index(name).name for name in indices)
    channels = (*(Channel(name=role) for role in roles), *(Channel(name=name, kind="index") for name in names))
    return Preparation(bands=needs, channels=channels, despeckle=despeckle, terrain_correction=terrain_correction)


def _check_speckle(scene: Scene, bands: Sequence[Band], despeckle: Despeckle | None) -> None:
    """Refuse a filter without radar, and warn where the scene is filtered already."""
    if despeckle is None:
        return
    radar = [band for band in bands if band.kind == "radar"]
    if not radar:
        raise BandError(
            f"despeckle: {despeckle.method} is for radar, and the network reads {', '.join(band.role for band in bands)}; leave it out"
        )
    for band in radar:
        if band.despeckled:
            again = f"{despeckle.method} smooths it again"
            log.warning("%s of %s is already filtered by %s; %s", band.role, scene.source, band.despeckled, again)


def common_legend(labels: Sequence[str | Path], class_column: str | None, rules: LabelRules | None = None) -> Legend:
    """The classes that all label files hold; LabelError where they differ, since no order of theirs would be the right one."""
    legends = {path: read_legend(path, class_column, rules=rules or LabelRules()) for path in dict.fromkeys(labels)}
    first, legend = next(iter(legends.items()))
    for path, other in legends.items():
        if other != legend:
            theirs, ours = ", ".join(other.names), ", ".join(legend.names)
            raise LabelError(
                f"{path} has the classes {theirs}, {first} has {ours}; say which classes there are with classes: in the settings"
            )
    if len(legend) < 2:
        raise LabelError(
            f"{first} holds only the class {legend.names[0]!r}; label at least two, also the ground that is not what you look for"
        )
    return legend


def load_scenes(
    scenes: Sequence[Scene],
    labels: Sequence[str | Path],
    preparation: Preparation,
    legend: Legend,
    class_column: str | None,
    hold_mb: float,
    rules: LabelRules | None = None,
    retile: Path | None = None,
) -> list[LabelledScene]:
    """The scenes with their labels, in memory as long as these `hold_mb` megabytes last; SceneError where pixel sizes differ too much.

    `rules` say how labels become pixels; `retile` is a folder for copies in small blocks of scenes that the memory does not hold.
    """
    loaded: list[LabelledScene] = []
    left = hold_mb
    for scene, path in zip(scenes, labels, strict=True):
        loaded.append(load_scene(scene, path, preparation, legend, class_column=class_column, hold_mb=left, rules=rules, retile=retile))
        if loaded[-1].held is not None:
            left -= loaded[-1].held.values.nbytes / 1e6
    sizes = [mean_pixel_size_m(scene) for scene in loaded]
    if max(sizes) > _LARGEST_RATIO * min(sizes):
        raise SceneError(
            f"the scenes' pixels are {min(sizes):.3g} to {max(sizes):.3g} m on the ground; train on scenes of one pixel size, "
            "or bring them to one with gdalwarp -tr"
        )
    return loaded


def mean_pixel_size_m(scene: LabelledScene) -> float:
    """Edge of a square as large as one of the scene's pixels, in metres on the ground."""
    return math.sqrt(math.prod(pixel_size_m(scene.geobox)))


def balance(pixels: NDArray[np.int64]) -> NDArray[np.float32]:
    """(class,) weights against rarity: one over the root of each class's share, their mean over pixels 1.

    The root is between no weight at all and equal say for every class, which would trade many false alarms for few misses.
    A class without a pixel gets weight 0.
    """
    shares = pixels / pixels.sum()
    weights = np.where(pixels > 0, 1 / np.sqrt(np.maximum(shares, 1e-12)), 0)
    return np.asarray(weights / (weights * shares).sum(), dtype=np.float32)


def trained_bbox(scenes: Sequence[LabelledScene]) -> tuple[float, float, float, float]:
    """West, south, east, north of all scenes in degrees (WGS 84)."""
    boxes = []
    for scene in scenes:
        move = pyproj.Transformer.from_crs(horizontal(scene.geobox.crs), 4326, always_xy=True)
        boxes.append(move.transform_bounds(*scene.geobox.boundingbox.bbox))
    west, south, east, north = zip(*boxes, strict=True)
    return min(west), min(south), max(east), max(north)


def software_versions() -> dict[str, str]:
    """Name → version of the software that a trained network depends on."""
    found = {"python": platform.python_version()}
    for name in _TRACED:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
