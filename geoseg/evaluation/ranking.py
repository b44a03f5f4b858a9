"""Which tiles to label next: where the map is unsure, and no two of a kind.

Greedy k-centre over features of the tiles, with the ground that is labelled already as its first centres, is the core-set choice of
Sener & Savarese, "Active learning for convolutional neural networks: a core-set approach", ICLR 2018. Where we differ: a tile's distance
to the nearest centre is multiplied by how unsure the map is there, since ground that is new but easy is not worth a person's time; and
the features are not those of the network's last layer but what any map has: mean scores, colours and place. So the choice is the same
for every kind of model, and depends on nothing random.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoseg.evaluation.tiles import Tiles

LEAST_OBSERVED = 0.5
"""Share of a tile that has to be observed for it to be suggested."""


@dataclass(frozen=True, eq=False)
class Ranked:
    """Tiles worth labelling, the first first."""

    tiles: NDArray[np.intp]
    """Places among all tiles."""
    distance: NDArray[np.float64]
    """(ranked,) to the nearest tile that was chosen before or is labelled, in features; 1 is the root mean square distance of two tiles
    in each kind of feature together. NaN where there was none before."""
    like: NDArray[np.intp]
    """(ranked,) that tile; -1 where there was none."""


def rank_tiles(tiles: Tiles, count: int) -> Ranked:
    """The `count` tiles that are most worth labelling, fewer where there are fewer; of equal ones the first in reading order.

    Never one on held-out or labelled ground, or observed by less than half.
    """
    offered = ~tiles.labelled & ~tiles.held_out & (tiles.observed >= LEAST_OBSERVED)
    features = join_features([tiles.classes, tiles.looks, tiles.place])
    return choose(tiles.uncertainty, features, offered, np.flatnonzero(tiles.labelled), count)


def choose(
    worth: NDArray[np.float64], features: NDArray[np.float64], offered: NDArray[np.bool_], known: NDArray[np.intp], count: int
) -> Ranked:
    """Choose among (tile,) `offered` ones by worth times distance to the nearest of those `known` or chosen, one after the other."""
    distance, like = np.full(len(worth), np.inf), np.full(len(worth), -1)
    for centre in known.tolist():
        _near(features, centre, distance, like)
    ranked, far, nearest = [], [], []
    left = offered.copy()
    for _ in range(min(count, int(offered.sum()))):
        gain = worth * np.where(np.isfinite(distance), distance, 1)
        best = int(np.argmax(np.where(left, gain, -np.inf)))
        ranked.append(best)
        far.append(float(distance[best]) if like[best] >= 0 else float("nan"))
        nearest.append(int(like[best]))
        left[best] = False
        _near(features, best, distance, like)
    return Ranked(np.array(ranked, np.intp), np.array(far), np.array(nearest, np.intp))


def join_features(kinds: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """(tile, feature) side by side, each kind (tile, feature) with the same say: two tiles differ by 1 in all kinds together, in the mean.

    A kind in which all tiles are alike, or that has no features, has no say.
    """
    spread = [(kind - kind.mean(axis=0), float(np.sqrt(2 * kind.var(axis=0).sum()))) for kind in kinds]
    said = [kind / size for kind, size in spread if size > 1e-9]
    if not said:
        return np.zeros((len(kinds[0]), 1))
    return np.asarray(np.concatenate(said, axis=1) / np.sqrt(len(said)))


def _near(features: NDArray[np.float64], centre: int, distance: NDArray[np.float64], like: NDArray[np.intp]) -> None:
    """Note in place which tiles are nearer to this centre than to any before."""
    here = np.sqrt(((features - features[centre]) ** 2).sum(axis=1))
    nearer = here < distance
    distance[nearer], like[nearer] = here[nearer], centre
