"""Labels that belong together, and folds that never cut them: pixels of one polygon, field or farm are judged together or not at all.

Pixels of one polygon are all but alike, so a model that has seen some of them has all but seen the others (Roberts et al.,
"Cross-validation strategies for data with temporal, spatial, hierarchical, or phylogenetic structure", Ecography 40, 2017).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoseg.data.patches import LabelledScene
from geoseg.data.windows import UNLABELLED
from geoseg.errors import LabelError
from geoseg.io.labels import Labels

FEW = 30
"""From so many groups of each class on, neighbouring groups are kept together, too."""
VERY_FEW = 5
"""A class with fewer groups is named: its figures hang on one or two of them."""

_APART = 1 << 40


@dataclass(frozen=True, eq=False)
class Groups:
    """Which group each labelled pixel of some scenes belongs to."""

    planes: tuple[NDArray[np.int64], ...]
    """For each scene (row, col) number of the group; -1 where there is no label."""
    sizes: NDArray[np.int64]
    """(group, class) labelled pixels."""
    kind: str
    """What a group is, in the plural: `polygons`, `values of FIELD`, `blocks of 512 pixels`."""

    def of_classes(self) -> NDArray[np.int64]:
        """(class,) groups with at least one pixel of each class."""
        return np.asarray((self.sizes > 0).sum(axis=0))


def find_groups(
    scenes: Sequence[LabelledScene], labels: Sequence[Labels], classes: int, *, column: str | None, block: int, guard: int
) -> Groups:
    """Groups of the labels: the polygons, or those with one value of `column`; blocks of `block` pixels where labels are rasters.

    One file is the same in all scenes, so a polygon in two of them is one group. With FEW polygons or more of each class, those whose
    middles lie in one block are one group. Of rasters, `guard` pixels between blocks are in no group. Raises LabelError where there
    is no such column, naming those there are, and for rasters and vectors side by side.
    """
    if len({one.columns is None for one in labels}) > 1:
        raise LabelError("some labels are rasters and some are features; give one kind, so that they can be shared out by one rule")
    if labels[0].columns is None:
        if column is not None:
            raise LabelError(f"{labels[0].path} is a raster, which has no column {column!r}; leave group_column out")
        planes = [_of_blocks(scene, block, guard) + _apart(number) for number, scene in enumerate(scenes)]
        return _counted(scenes, planes, classes, f"blocks of {block} pixels")
    files = list(dict.fromkeys(str(one.path) for one in labels))
    planes = [_of_features(scene, one, column) + _apart(files.index(str(one.path))) for scene, one in zip(scenes, labels, strict=True)]
    found = _counted(scenes, planes, classes, "polygons" if column is None else f"values of {column}")
    counts = found.of_classes()
    if column is None and (counts[counts > 0] >= FEW).all():
        planes = [_joined(plane, block) + _apart(number) for number, plane in enumerate(found.planes)]
        return _counted(scenes, planes, classes, f"polygons together by blocks of {block} pixels")
    return found


def deal_folds(sizes: NDArray[np.integer], folds: int, generator: np.random.Generator) -> NDArray[np.intp]:
    """(group,) the fold of each group, from its (group, class) pixels: each class is shared out as evenly as whole groups allow.

    The groups of a class go one after the other, rare classes and large groups first, to the fold with the fewest groups and then
    the fewest pixels of that class, so that each fold has every class of which there are enough groups.
    """
    shares = sizes / np.maximum(sizes.sum(axis=0), 1)
    main = shares.argmax(axis=1)
    rare_first = np.argsort((sizes > 0).sum(axis=0), kind="stable")
    place = np.full(len(sizes), -1, dtype=np.intp)
    groups, pixels = np.zeros((folds, sizes.shape[1])), np.zeros((folds, sizes.shape[1]))
    for one in rare_first.tolist():
        mine = generator.permutation(np.flatnonzero(main == one))
        for group in mine[np.argsort(-sizes[mine, one], kind="stable")].tolist():
            tie = generator.permutation(folds)
            fold = tie[np.lexsort((pixels[tie, one], groups[tie, one]))[0]]
            place[group] = fold
            groups[fold] += sizes[group] > 0
            pixels[fold] += shares[group]
    return place


def _of_features(scene: LabelledScene, labels: Labels, column: str | None) -> NDArray[np.int64]:
    """(row, col) number of the group in the label file; -1 where the scene has no label."""
    features, columns = labels.read_features(scene.geobox), labels.columns
    assert columns is not None, "a raster has no features"
    if column is not None:
        if column not in columns:
            raise LabelError(
                f"no column {column!r} in {labels.path}; it has {', '.join(map(str, columns.columns))}: name one with group_column"
            )
        numbers = columns.groupby(column, dropna=False, sort=True).ngroup().to_numpy().astype(np.int64)
        features = np.where(features >= 0, numbers[np.maximum(features, 0)], -1)
    return np.where(scene.labels != UNLABELLED, features, -1)


def _of_blocks(scene: LabelledScene, block: int, guard: int) -> NDArray[np.int64]:
    """(row, col) number of the block, -1 within half of `guard` pixels of another and where there is no label."""
    rows, cols = scene.labels.shape
    across = -(-cols // block)
    number = (np.arange(rows) // block)[:, np.newaxis] * across + np.arange(cols) // block
    gap = np.broadcast_to(_inner(rows, block, guard)[:, np.newaxis] & _inner(cols, block, guard), scene.labels.shape)
    return np.where(gap & (scene.labels != UNLABELLED), number, -1)


def _inner(length: int, block: int, guard: int) -> NDArray[np.bool_]:
    """(pixel,) True where a pixel is at least half of `guard` from the next block along its line; a map's edge is no block's."""
    place, half = np.arange(length), -(-guard // 2)
    inside = place % block
    return ((inside >= half) | (place < block)) & ((inside < block - half) | (place >= (length - 1) // block * block))


def _joined(plane: NDArray[np.int64], block: int) -> NDArray[np.int64]:
    """The groups of features, those whose middles lie in one block as one."""
    known = plane >= 0
    _, of_pixels = np.unique(plane[known], return_inverse=True)
    middles = [np.bincount(of_pixels, weights=places) / np.bincount(of_pixels) for places in np.nonzero(known)]
    across = -(-plane.shape[1] // block)
    blocks = (middles[0] // block * across + middles[1] // block).astype(np.int64)
    joined = np.full_like(plane, -1)
    joined[known] = blocks[of_pixels]
    return joined


def _apart(number: int) -> int:
    """Added to the groups of one file or scene, so that those of two have nothing in common."""
    return number * _APART


def _counted(scenes: Sequence[LabelledScene], planes: Sequence[NDArray[np.int64]], classes: int, kind: str) -> Groups:
    """The groups numbered without gaps, with their pixels; where a plane is -1, however far apart it was put, there is none."""
    numbers = np.unique(np.concatenate([np.unique(plane) for plane in planes]))
    numbers = numbers[numbers % _APART != _APART - 1]
    sizes = np.zeros((len(numbers), classes), dtype=np.int64)
    dense = []
    for scene, plane in zip(scenes, planes, strict=True):
        known = plane % _APART != _APART - 1
        group = np.searchsorted(numbers, plane[known])
        np.add.at(sizes, (group, scene.labels[known].astype(np.int64)), 1)
        dense.append(np.full_like(plane, -1))
        dense[-1][known] = group
    return Groups(tuple(dense), sizes, kind)
