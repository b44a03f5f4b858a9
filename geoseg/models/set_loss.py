"""How queries learn: each class that is there is matched to the query that says it best, and the others learn to say nothing.

The losses of Mask2Former (Cheng et al., CVPR 2022), for classes of pixels: a target is all labelled ground of one class in an image.
Queries and targets are matched so that the cost over all pairs is least (Kuhn, 1955): 2 times minus the probability of the class, 5 times
cross entropy of the mask, 5 times Dice. What is matched learns its class and its mask by the same weights; what is not learns that it is
of no class, a tenth as much. This is done for what is said before the first layer and after each, and added up.

Masks are compared at 12,544 points of an image at most. Differences: points are pixels, of which those without a label never are one, so
that such ground has no say in costs and masks; an image with fewer labelled pixels has all of them compared. An image without any label
says nothing at all; the paper's would teach all queries that there is nothing. Of an image with labels on part of it nobody knows which
classes lie elsewhere: a query that says one of those learns that it is of none, as in the paper.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from scipy.optimize import linear_sum_assignment
from torch.nn import functional

from geoseg.backbones.query_decoder import Said
from geoseg.data.windows import UNLABELLED

CLASS, MASK, DICE = 2.0, 5.0, 5.0
"""Weights of the three parts, in costs and losses alike."""
NO_CLASS = 0.1
"""Weight of a query that is of no class."""
POINTS = 12_544
"""Pixels of an image at which masks are compared: 112 x 112."""
_OVERSAMPLED, _UNSURE = 3, 0.75
"""Of so many times the points that share is taken where a mask is least sure; the others are drawn from all."""


@dataclass(frozen=True, eq=False)
class LayerLosses:
    """The three parts, not weighed yet, of what was said after one layer."""

    classes: torch.Tensor
    masks: torch.Tensor
    dice: torch.Tensor

    @property
    def total(self) -> torch.Tensor:
        """The weighted sum."""
        return CLASS * self.classes + MASK * self.masks + DICE * self.dice


def set_loss(said: Sequence[Said], labels: torch.Tensor, *, points: int = POINTS, generator: torch.Generator | None = None) -> torch.Tensor:
    """One number for all layers, from labels (batch, row, col), UNLABELLED where nothing is known; 0 where nothing is known at all.

    `generator` draws the points of images with more labelled pixels than `points`; None takes torch's own.
    """
    return torch.stack([layer_losses(one, labels, points=points, generator=generator).total for one in said]).sum()


def layer_losses(said: Said, labels: torch.Tensor, *, points: int = POINTS, generator: torch.Generator | None = None) -> LayerLosses:
    """The parts for one layer: cross entropy of classes is a weighted mean over queries, those of masks are means over targets."""
    classes, masks = said.classes.float(), said.masks.float()
    none = classes.shape[-1] - 1
    counted, truths, cross, dice, targets = [], [], [], [], 0
    for number, truth in enumerate(labels):
        places = (truth != UNLABELLED).flatten().nonzero().squeeze(1)
        if not len(places):
            continue
        present = truth.flatten()[places].unique()
        seen = _some(places, points, generator)
        with torch.no_grad():
            at = values_at(masks[number], seen, truth.shape[1], said.step)
            queries, which = match(classes[number], at, _one_hot(truth, seen, present), present)
        wanted = torch.full_like(classes[number, :, 0], none, dtype=torch.long)
        wanted[queries] = present[which]
        counted.append(number)
        truths.append(wanted)
        chosen = masks[number, queries]
        values = partial(values_at, chosen, cols=truth.shape[1], step=said.step)
        where = unsure_places(values, len(chosen), places, points, generator)  # (target, point)
        logits = values(where)
        inside = (truth.flatten()[where] == present[which].unsqueeze(1)).to(logits.dtype)
        cross.append(functional.binary_cross_entropy_with_logits(logits, inside, reduction="none").mean(dim=1).sum())
        shares = logits.sigmoid()
        dice.append(_dice((shares * inside).sum(dim=1), shares.sum(dim=1), inside.sum(dim=1)).sum())
        targets += len(present)
    if not counted:
        nothing = classes.sum() * 0 + masks.sum() * 0
        return LayerLosses(nothing, nothing, nothing)
    weights = torch.ones(none + 1, device=classes.device)
    weights[none] = NO_CLASS
    of_classes = functional.cross_entropy(classes[counted].flatten(0, 1), torch.cat(truths), weight=weights)
    return LayerLosses(of_classes, torch.stack(cross).sum() / targets, torch.stack(dice).sum() / targets)


def match(classes: torch.Tensor, masks: torch.Tensor, inside: torch.Tensor, present: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Which query goes with which target, as two equally long lists of places, so that the sum of costs is least.

    `classes` (query, class + 1) and `masks` (query, point) are logits, `inside` (target, point) is 1 where a point is of the target,
    else 0, and `present` (target,) is its class.
    """
    likely = classes.softmax(dim=-1)[:, present]  # (query, target)
    # Cross entropy of a logit x against t is softplus(x) - x t.
    cross = functional.softplus(masks).mean(dim=1, keepdim=True) - masks @ inside.T / masks.shape[1]
    shares = masks.sigmoid()
    apart = _dice(shares @ inside.T, shares.sum(dim=1, keepdim=True), inside.sum(dim=1))
    costs = MASK * cross + DICE * apart - CLASS * likely
    queries, targets = linear_sum_assignment(torch.nan_to_num(costs).cpu().numpy())
    return torch.as_tensor(queries, device=masks.device), torch.as_tensor(targets, device=masks.device)


def values_at(planes: torch.Tensor, places: torch.Tensor, cols: int, step: float) -> torch.Tensor:
    """(plane, point) of planes (plane, row, col) at an image's pixels, bilinear between the planes' own places.

    `places` (plane, point), or (point,) for all planes alike, number the pixels of an image of `cols` columns row by row. A place of the
    planes is `step` pixels wide; they begin where the image begins, and may go on behind its end.
    """
    across = (2 * (places % cols) + 1) / (planes.shape[-1] * step) - 1
    down = (2 * (places // cols) + 1) / (planes.shape[-2] * step) - 1
    grid = torch.stack([across, down], dim=-1).to(planes.dtype)  # (plane, point, 2) or (point, 2)
    alike = places.ndim == 1
    given, grid = (planes.unsqueeze(0), grid[None, None]) if alike else (planes.unsqueeze(1), grid.unsqueeze(1))
    found = functional.grid_sample(given, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return found[0, :, 0] if alike else found[:, 0, 0]


def _dice(common: torch.Tensor, mine: torch.Tensor, theirs: torch.Tensor) -> torch.Tensor:
    """1 less Dice's coefficient of what two masks hold in common and each, with 1 added above and below."""
    return 1 - (2 * common + 1) / (mine + theirs + 1)


def _one_hot(labels: torch.Tensor, places: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
    """(target, point)."""
    return (labels.flatten()[places] == present.unsqueeze(1)).float()


def _some(places: torch.Tensor, points: int, generator: torch.Generator | None) -> torch.Tensor:
    """All of the places, or as many as `points` of them, drawn with none twice."""
    if len(places) <= points:
        return places
    return places[torch.randperm(len(places), generator=generator, device=places.device)[:points]]


def unsure_places(
    values: Callable[[torch.Tensor], torch.Tensor], count: int, places: torch.Tensor, points: int, generator: torch.Generator | None = None
) -> torch.Tensor:
    """(mask, point) places at which each of `count` masks is compared: all, or `points` of them, most where it is unsure.

    `values` gives the masks' logits at places (mask, point). Importance sampling of PointRend (Kirillov et al., CVPR 2020).
    """
    if len(places) <= points:
        return places.expand(count, -1)

    def draw(size: int) -> torch.Tensor:
        return places[torch.randint(len(places), (count, size), generator=generator, device=places.device)]

    offered, unsure = draw(_OVERSAMPLED * points), int(_UNSURE * points)
    with torch.no_grad():
        nearest = values(offered).abs().topk(unsure, dim=1, largest=False).indices
    return torch.cat([offered.gather(1, nearest), draw(points - unsure)], dim=1)
