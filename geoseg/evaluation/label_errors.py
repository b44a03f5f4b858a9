"""Labels that look wrong: polygons, and regions of label rasters, ranked by confident learning.

A feature of a vector file is one example. Of a raster, an example is a connected region of pixels with one label and one class that the
scores say is there: so a wrong piece of a large region has an outline of its own. An example's scores are the means of its pixels';
features count alike, regions by their pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.features import shapes
from scipy import ndimage
from shapely.geometry import shape
from shapely.geometry.base import BaseGeometry

from geoseg.errors import LabelError
from geoseg.evaluation.confident_learning import ConfidentJoint, count_joint, find_suspects, normalised_margins
from geoseg.io.score_files import NO_SCORE, SCORE_STEPS, best_class
from geoseg.legend import Legend

UNLABELLED = -1


@dataclass(frozen=True, eq=False)
class ScoredLabels:
    """Labels of one scene, and scores that were not learned from them."""

    name: str
    geobox: GeoBox
    labels: NDArray[np.int16]
    """(row, col) class indices; UNLABELLED where there is none."""
    scores: NDArray[np.uint8]
    """(class, row, col) as score files store them; NO_SCORE where there is none."""
    features: NDArray[np.int64] | None = None
    """(row, col) row in the vector file of the feature that labels a pixel, -1 for none; None where the labels are a raster."""
    file: int = 0
    """Which label file it is: features of two have nothing in common."""

    @property
    def judged(self) -> NDArray[np.bool_]:
        """(row, col) True where there are a label and scores."""
        return np.asarray((self.labels != UNLABELLED) & (self.scores[0] != NO_SCORE))


@dataclass(frozen=True, eq=False)
class Examples:
    """What is judged as a whole."""

    scores: NDArray[np.float64]
    """(example, class) means over its pixels, 0…1."""
    labels: NDArray[np.int64]
    pixels: NDArray[np.int64]
    scene: NDArray[np.int64]
    """(example,) the scene it lies in; of a feature in several scenes, the first."""
    number: NDArray[np.int64]
    """(example,) row of the feature in its file, or number of the region in its scene."""
    regions: tuple[NDArray[np.int32], ...] = ()
    """For each scene (row, col) number of the region, -1 for none; empty where the examples are features."""

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class LabelErrors:
    """Labels that look wrong, the likeliest first."""

    legend: Legend
    examples: Examples
    joint: ConfidentJoint
    margins: NDArray[np.float64]
    """(example,)"""
    suspects: NDArray[np.intp]
    """Places of the examples that look wrong."""

    @property
    def suggested(self) -> NDArray[np.int64]:
        """(suspect,) the class that each looks like."""
        return self.joint.guesses[self.suspects]


def find_label_errors(scenes: Sequence[ScoredLabels], legend: Legend, *, least_pixels: int = 1) -> LabelErrors:
    """Judge all labels together, and rank what looks wrong; suspects of fewer than `least_pixels` are left out.

    LabelError where fewer than two classes have both labels and scores.
    """
    examples = _of_features(scenes) if scenes[0].features is not None else _of_regions(scenes)
    if len(np.unique(examples.labels)) < 2:
        found = ", ".join(legend.names[one] for one in np.unique(examples.labels)) or "none"
        raise LabelError(f"of the classes, labels that can be judged have: {found}; expected at least two, on ground that has scores")
    weights = None if not examples.regions else examples.pixels.astype(np.float64)
    joint = count_joint(examples.scores, examples.labels, weights)
    margins = normalised_margins(examples.scores, examples.labels)
    suspects = find_suspects(joint, margins, examples.labels)
    return LabelErrors(legend, examples, joint, margins, suspects[examples.pixels[suspects] >= least_pixels])


def outlines(scenes: Sequence[ScoredLabels], examples: Examples, which: NDArray[np.intp]) -> NDArray[np.object_]:
    """(example,) outline of the pixels of these examples in the CRS of their scene; of features, of those in their first scene."""
    found = np.empty(len(which), dtype=object)
    for at, scene in enumerate(scenes):
        mine = np.flatnonzero(examples.scene[which] == at)
        if not len(mine):
            continue
        plane = examples.regions[at] if examples.regions else scene.features
        assert plane is not None, "features have their plane"
        boxes = ndimage.find_objects(plane + 1)
        for place in mine.tolist():
            number = int(examples.number[which[place]])
            rows, cols = boxes[number]
            found[place] = _outline(plane[rows, cols] == number, scene.geobox[rows, cols])
    return found


def _of_features(scenes: Sequence[ScoredLabels]) -> Examples:
    """One example for each feature, whatever scenes it lies in."""
    keys, classes, scores, places = [], [], [], []
    for number, scene in enumerate(scenes):
        assert scene.features is not None, "all labels are features, or none are"
        judged = scene.judged
        keys.append(np.column_stack([np.full(int(judged.sum()), scene.file), scene.features[judged]]))
        classes.append(scene.labels[judged].astype(np.int64))
        scores.append(scene.scores[:, judged].T)
        places.append(np.full(len(classes[-1]), number))
    known, first, places_of = np.unique(np.concatenate(keys), axis=0, return_index=True, return_inverse=True)
    means, pixels = _means(np.concatenate(scores), places_of.ravel(), len(known))
    return Examples(means, np.concatenate(classes)[first], pixels, np.concatenate(places)[first], known[:, 1])


def _of_regions(scenes: Sequence[ScoredLabels]) -> Examples:
    """One example for each connected region with one label and one best class, side by side in the order of scenes."""
    parts, planes = [], []
    for number, scene in enumerate(scenes):
        regions, count = _regions(scene)
        planes.append(regions)
        inside = regions >= 0
        means, pixels = _means(scene.scores[:, inside].T, regions[inside], count)
        labels = np.zeros(count, np.int64)
        labels[regions[inside]] = scene.labels[inside]
        parts.append(Examples(means, labels, pixels, np.full(count, number), np.arange(count)))
    joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in ("scores", "labels", "pixels", "scene", "number")}
    return Examples(**joined, regions=tuple(planes))


def _regions(scene: ScoredLabels) -> tuple[NDArray[np.int32], int]:
    """(row, col) number of each pixel's region, -1 for none, and how many there are; pixels that share an edge hang together."""
    judged = scene.judged
    best = best_class(np.where(judged, scene.scores, 0).astype(np.float32)).astype(np.int64)
    pair = np.where(judged, scene.labels * len(scene.scores) + best, -1)
    regions, count = np.full(pair.shape, -1, np.int32), 0
    for one in np.unique(pair[judged]).tolist():
        numbered, more = ndimage.label(pair == one)
        regions[numbered > 0] = numbered[numbered > 0] - 1 + count
        count += more
    return regions, count


def _means(stored: NDArray[np.uint8], of_pixels: NDArray[np.integer], count: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """(example, class) mean scores of stored ones (pixel, class), and the pixels of each."""
    pixels = np.bincount(of_pixels, minlength=count)
    sums = [np.bincount(of_pixels, weights=stored[:, one], minlength=count) for one in range(stored.shape[1])]
    return np.stack(sums, axis=1) / SCORE_STEPS / np.maximum(pixels, 1)[:, np.newaxis], pixels


def _outline(mask: NDArray[np.bool_], geobox: GeoBox) -> BaseGeometry:
    """The pixels of a mask (row, col) as one geometry."""
    traced = shapes(mask.astype(np.uint8), mask=mask, transform=geobox.affine)
    return shapely.union_all([shape(traced_one) for traced_one, _ in traced])
