"""Losses of regions instead of pixels: overlap (Dice, Tversky, Lovász) and distance from the true outline (boundary).

Regions are pooled over the batch, and the mean is over the classes that it contains: a class without a labelled pixel is left
out, so that it is not rewarded for staying away. Pixels without a label have no say; a batch without any costs nothing.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from torch.nn import functional

from geoseg.data.windows import UNLABELLED

_TVERSKY_FALSE, _TVERSKY_MISSED = 0.3, 0.7
"""What a false alarm and a miss cost; the best of Salehi et al."""


def dice(logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor | None = None) -> torch.Tensor:
    """1 - soft Dice (Milletari et al., 2016); `weights` weigh the classes.

    Differs from the paper: plain sums instead of squares below the line.
    """
    return _overlap(logits, labels, weights, false=0.5, missed=0.5)


def tversky(logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor | None = None) -> torch.Tensor:
    """1 - Tversky's index (Salehi et al., 2017): Dice in which a miss (0.7) costs more than a false alarm (0.3).

    For classes that are rare and must not be overlooked; `weights` weigh the classes.
    """
    return _overlap(logits, labels, weights, false=_TVERSKY_FALSE, missed=_TVERSKY_MISSED)


def lovasz(logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor | None = None) -> torch.Tensor:
    """1 - IoU, made smooth by its Lovász extension (Berman et al., 2018, Lovász-softmax); `weights` weigh the classes.

    For each class the errors |truth - probability| are sorted, and each is weighed by what the IoU loses when it joins those
    before it. At scores of 0 and 1 it is 1 - IoU exactly.
    """
    guess, truth = _labelled(logits, labels)  # (class, pixel) each
    if not truth.shape[1]:
        return logits.sum() * 0
    errors, order = (truth - guess).abs().sort(dim=1, descending=True)
    hits = truth.gather(1, order)
    positives = hits.sum(dim=1, keepdim=True)
    left, joined = positives - hits.cumsum(dim=1), positives + (1 - hits).cumsum(dim=1)
    jaccard = 1 - left / joined.clamp(min=1)  # of the pixels so far taken for wrong
    steps = torch.diff(jaccard, dim=1, prepend=torch.zeros_like(positives))
    return _mean_over_classes((errors * steps).sum(dim=1), truth, weights)


def boundary(logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor | None = None) -> torch.Tensor:
    """Mean of probability times distance from the true outline, which is negative inside the class (Kervadec et al., 2019).

    Differs from the paper: distances are shares of the image's longer edge, so that a mean with other losses needs no factor; it
    lies between -1 and 1 then. Across ground without a label they are measured to the nearest *labelled* pixel of the other side,
    and such ground itself counts for nothing. A class that fills all labelled ground of an image, or none, has no outline there.
    As in the paper it goes together with another loss, as `cross_entropy_boundary`: alone it hardly tells a thin class.
    """
    labelled = labels != UNLABELLED
    if not labelled.any():
        return logits.sum() * 0
    known = labels.cpu().numpy()
    distance = np.stack([signed_distances(plane, logits.shape[1]) for plane in known]) / max(known.shape[1:])
    share = torch.ones(logits.shape[1]) if weights is None else weights / weights.mean()
    cost = torch.from_numpy(distance).to(logits) * logits.softmax(dim=1) * share.to(logits)[:, None, None]
    return cost.sum() / labelled.sum()


def signed_distances(labels: NDArray[np.integer], classes: int) -> NDArray[np.float32]:
    """(class, row, col) pixels to the nearest pixel with another answer to "is it this class": outside above 0, inside 0 or below.

    `labels` (row, col) are class indices; it is 0 where they are UNLABELLED. Inside, a pixel at the outline has 0.
    """
    found = np.zeros((classes, *labels.shape), dtype=np.float32)
    labelled = labels != UNLABELLED
    for index in np.unique(labels[labelled]):
        inside = labels == index
        outside = labelled & ~inside
        if outside.any():
            found[index][outside] = distance_transform_edt(~inside)[outside]
            found[index][inside] = 1 - distance_transform_edt(~outside)[inside]
    return found


def _overlap(logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor | None, *, false: float, missed: float) -> torch.Tensor:
    """1 - hits / (hits + `false` x false alarms + `missed` x misses)."""
    guess, truth = _labelled(logits, labels)
    if not truth.shape[1]:
        return logits.sum() * 0
    hits = (guess * truth).sum(dim=1)
    wrong = false * (guess * (1 - truth)).sum(dim=1) + missed * ((1 - guess) * truth).sum(dim=1)
    return _mean_over_classes(1 - hits / (hits + wrong).clamp(min=1e-6), truth, weights)


def _labelled(logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Probability and truth (0 or 1) of each class on the labelled pixels, (class, pixel) each."""
    labelled = labels != UNLABELLED
    guess = logits.softmax(dim=1).movedim(1, 0)[:, labelled]
    truth = functional.one_hot(labels[labelled], logits.shape[1]).T.to(guess.dtype)
    return guess, truth


def _mean_over_classes(losses: torch.Tensor, truth: torch.Tensor, weights: torch.Tensor | None) -> torch.Tensor:
    """Weighted mean of (class,) losses over the classes that `truth` (class, pixel) contains; 0 where all of these weigh nothing."""
    present = (truth.sum(dim=1) > 0).to(losses.dtype)
    share = present if weights is None else weights.to(losses.dtype) * present
    return (share * losses).sum() / share.sum().clamp(min=torch.finfo(losses.dtype).tiny)
