"""Losses of class maps by name; each leaves out the pixels without a label."""

from __future__ import annotations

import difflib
from collections.abc import Callable

import torch
from torch.nn import functional

from geoseg.data.windows import UNLABELLED
from geoseg.errors import InputError

Loss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor | None], torch.Tensor]
"""(logits (batch, class, row, col), labels (batch, row, col), class weights (class,) or None) → one number."""


def cross_entropy(logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor | None = None) -> torch.Tensor:
    """Weighted mean of -log p(true class) over the labelled pixels; 0 where there is none."""
    labelled = labels != UNLABELLED
    if not labelled.any():
        return logits.sum() * 0
    return functional.cross_entropy(logits, labels, weight=weights, ignore_index=UNLABELLED)


def dice(logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor | None = None) -> torch.Tensor:
    """1 - soft Dice (Milletari et al., 2016), pooled over the batch, mean over the classes that the batch contains.

    Differs from the paper: plain sums instead of squares below the line; a class without a labelled pixel is left out, so
    that it is not rewarded for staying away. `weights` weigh the classes.
    """
    labelled = (labels != UNLABELLED).unsqueeze(1)  # (batch, 1, row, col)
    if not labelled.any():
        return logits.sum() * 0
    guess = logits.softmax(dim=1) * labelled
    truth = functional.one_hot(labels.clamp(min=0), logits.shape[1]).movedim(-1, 1) * labelled  # (batch, class, row, col)
    both, either = (guess * truth).sum(dim=(0, 2, 3)), (guess + truth).sum(dim=(0, 2, 3))
    present = truth.sum(dim=(0, 2, 3)) > 0
    share = present.to(logits.dtype) if weights is None else weights * present
    return 1 - (share * 2 * both / either.clamp(min=1e-6)).sum() / share.sum()


def focal(logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor | None = None) -> torch.Tensor:
    """Cross entropy times (1 - p)², which quietens pixels that are already right (Lin et al., 2017, gamma 2).

    The mean is over labelled pixels; `weights` weigh each pixel by its class, as the paper's alpha.
    """
    labelled = labels != UNLABELLED
    if not labelled.any():
        return logits.sum() * 0
    nll = functional.cross_entropy(logits, labels, ignore_index=UNLABELLED, reduction="none")[labelled]
    loss = (1 - torch.exp(-nll)) ** 2 * nll
    return (loss if weights is None else loss * weights[labels[labelled]]).mean()


def cross_entropy_dice(logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor | None = None) -> torch.Tensor:
    """Mean of cross entropy (every pixel counts) and Dice (every class counts)."""
    return (cross_entropy(logits, labels, weights) + dice(logits, labels, weights)) / 2


def get_loss(name: str) -> Loss:
    """The loss of this name: `cross_entropy`, `dice`, `focal` or `cross_entropy_dice`."""
    losses: tuple[Loss, ...] = (cross_entropy, dice, focal, cross_entropy_dice)
    by_name = {loss.__name__: loss for loss in losses}
    if name not in by_name:
        near = difflib.get_close_matches(name, by_name, n=1)
        raise InputError(f"no loss {name!r}; {f'did you mean {near[0]}?' if near else 'known are ' + ', '.join(by_name)}")
    return by_name[name]
