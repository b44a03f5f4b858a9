"""What people see while a network learns: one line an epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback


@dataclass(frozen=True)
class EpochDone:
    """How a training stands after an epoch."""

    epoch: int
    """Counted from 1."""
    epochs: int
    """How many there are at most."""
    loss: float
    """Mean over the epoch's batches."""
    mean_iou: float
    """Pooled, on the validation blocks; NaN where nothing was judged."""
    best: float
    """The greatest mean IoU so far; NaN where it learns without labels."""
    best_epoch: int
    seconds_left: float
    """If no epoch is left out at the end."""


Progress = Callable[[EpochDone], None]


class EpochLines(Callback):
    """Remembers the best epoch, and tells `progress` of each."""

    def __init__(self, progress: Progress | None = None) -> None:
        self.progress = progress
        self.best, self.best_epoch = -math.inf, 0
        self._began, self._first = 0.0, 0

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers, for a checkpoint."""
        return {"best": self.best, "best_epoch": self.best_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.best, self.best_epoch = state_dict["best"], state_dict["best_epoch"]

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Time runs from here."""
        self._began, self._first = time.monotonic(), trainer.current_epoch

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Is it the best so far? Checkpoints are written after this."""
        found = float(trainer.callback_metrics["val_miou"])
        if not trainer.sanity_checking and found > self.best:
            self.best, self.best_epoch = found, trainer.current_epoch + 1

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Tell."""
        if self.progress is None or not trainer.is_global_zero:
            return
        epoch, epochs = trainer.current_epoch + 1, int(trainer.max_epochs or 0)
        each = (time.monotonic() - self._began) / (epoch - self._first)
        figures = {name: float(value) for name, value in trainer.callback_metrics.items()}
        self.progress(
            EpochDone(epoch, epochs, figures["loss"], figures["val_miou"], self.best, self.best_epoch, each * max(epochs - epoch, 0))
        )
