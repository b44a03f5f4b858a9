"""Losses of class maps by name, and those of single pixels; those of whole regions are in `region_losses.py`.

Each takes logits, labels and the classes' weights, and leaves out the pixels without a label: these have no say and get no gradient.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from functools import partial

import torch
from torch.nn import functional

from geoseg.data.windows import UNLABELLED
from geoseg.errors import InputError
from geoseg.models.region_losses import boundary as boundary
from geoseg.models.region_losses import dice as dice
from geoseg.models.region_losses import lovasz as lovasz
from geoseg.models.region_losses import tversky as tversky

Loss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor | None], torch.Tensor]
"""(logits (batch, class, row, col), labels (batch, row, col), class weights (class,) or None) → one number."""


def cross_entropy(
    logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor | None = None, *, smoothing: float = 0.0
) -> torch.Tensor:
    """Weighted mean of -log p(true class) over the labelled pixels; 0 where there is none.

    `smoothing` is the share of each label that is spread evenly over all classes (Szegedy et al., 2016).
    """
    counted = labels != UNLABELLED if weights is None else (labels != UNLABELLED) & (weights[labels.clamp(min=0)] > 0)
    if not counted.any():
        return logits.sum() * 0
    return functional.cross_entropy(logits, labels, weight=weights, ignore_index=UNLABELLED, label_smoothing=smoothing)


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


LOSSES: dict[str, Loss] = {loss.__name__: loss for loss in (cross_entropy, focal, dice, tversky, lovasz, boundary)}
"""The losses by name."""
_NAMES = "|".join(LOSSES)


def get_loss(name: str, *, label_smoothing: float = 0.0) -> Loss:
    """The loss of this name, or the mean of several whose names are joined by `_`, such as `cross_entropy_dice`.

    Logits in half precision are taken to float32 first, since sums over many pixels would not fit. Raises InputError for a name
    that nobody knows, and for `label_smoothing` of a loss without cross entropy.
    """
    if not re.fullmatch(f"({_NAMES})(_({_NAMES}))*", name):
        near = difflib.get_close_matches(name, [*LOSSES, "cross_entropy_dice"], n=1)
        known = f"known are {', '.join(LOSSES)}, and their means, such as cross_entropy_dice"
        raise InputError(f"no loss {name!r}; {f'did you mean {near[0]}?' if near else known}")
    parts = re.findall(_NAMES, name)
    if label_smoothing and "cross_entropy" not in parts:
        raise InputError(f"label_smoothing is for cross_entropy, and the loss is {name}; leave it out, or take cross_entropy_{name}")
    smoothed: Loss = partial(cross_entropy, smoothing=label_smoothing)
    return partial(_mean, [smoothed if part == "cross_entropy" else LOSSES[part] for part in parts])


def _mean(losses: list[Loss], logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor | None = None) -> torch.Tensor:
    plain = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
    return torch.stack([loss(plain, labels, weights) for loss in losses]).mean()
