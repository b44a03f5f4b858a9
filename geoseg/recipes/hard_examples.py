"""Windows where the network errs, drawn more often in the next epoch."""

from __future__ import annotations

from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback

from geoseg.data.windows import UNLABELLED
from geoseg.errors import InputError
from geoseg.recipes.datamodule import ScenesDataModule


def missed(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """(batch,) the mean over a patch's labelled pixels of one less the probability of the true class; 0 where it has none.

    `logits` (batch, class, row, col), `labels` (batch, row, col).
    """
    known = labels != UNLABELLED
    sure = logits.detach().float().softmax(dim=1).gather(1, labels.clamp(min=0).unsqueeze(1)).squeeze(1)
    return ((1 - sure) * known).sum(dim=(1, 2)) / known.sum(dim=(1, 2)).clamp(min=1)


class HardExamples(Callback):
    """Tells the data of each batch's errors, those of all processes, so that the next epoch's windows are drawn by them."""

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Raise InputError for data that cannot be told, and for a trainer that would not draw anew."""
        if not isinstance(getattr(trainer, "datamodule", None), ScenesDataModule):
            raise InputError("hard: goes with windows that geoseg draws; give the Trainer a ScenesDataModule, or leave hard out")
        if getattr(trainer, "reload_dataloaders_every_n_epochs", 0) != 1:
            raise InputError("hard: draws anew in each epoch; give the Trainer reload_dataloaders_every_n_epochs=1, or leave hard out")

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note the errors of this batch."""
        errors = trainer.strategy.all_gather(outputs["missed"]).reshape(trainer.world_size, -1)
        trainer.datamodule.note_errors(trainer.current_epoch, batch_idx, errors.cpu().numpy())  # type: ignore[attr-defined]  # checked at the start
