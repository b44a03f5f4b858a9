"""The trainer of the recipe `supervised`: what is kept of a training, when it stops, and how it is taken up again."""

from __future__ import annotations

import json
import logging
import pickle
import warnings
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from geoseg.errors import InputError, require
from geoseg.io.atomic import atomic
from geoseg.recipes._fine_tuning import parameter_groups
from geoseg.recipes._progress import EpochLines, Progress
from geoseg.recipes._settings import Precision
from geoseg.recipes.datamodule import ScenesDataModule
from geoseg.recipes.ema import AveragedWeights
from geoseg.recipes.learning_rate import try_rates
from geoseg.recipes.modules import SupervisedSegmentation
from geoseg.runtimes.precision import processor_has_bf16

log = logging.getLogger(__name__)

_CLIP = 1.0
"""Greatest length of the gradient; a longer one is shortened to it."""


@dataclass(frozen=True)
class Fitted:
    """How a training went; the module holds the weights of its best epoch."""

    epochs: int
    best_epoch: int
    """Counted from 1."""
    ended: str
    """Why it ended when it did, in a sentence."""


def fit(
    module: SupervisedSegmentation,
    data: ScenesDataModule,
    folder: Path,
    *,
    resume: bool = False,
    progress: Progress | None = None,
    accelerator: str = "auto",
) -> Fitted:
    """Train until all epochs are over or `patience` runs out, and leave the weights of the best epoch in the module.

    Logs and checkpoints go to `folder`: `best.ckpt`, and `last.ckpt` of the last epoch that was completed, where `resume` goes
    on. Raises InputError for a precision that the device has not, for a loss that is no number, and for a foreign checkpoint.
    """
    require("tensorboard", extra="train")
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # it greets, and tells of its maker's products
    wanted, checkpoints = module.settings, folder / "checkpoints"
    check_precision(wanted.precision, accelerator)
    best = ModelCheckpoint(checkpoints, filename="best", monitor="val_miou", mode="max", enable_version_counter=False)
    every = ModelCheckpoint(checkpoints, filename="last", enable_version_counter=False)  # after `best`, whose state it keeps
    mean = AveragedWeights(wanted.ema) if wanted.ema is not None else None
    lines, stop = EpochLines(progress), _Stopping("val_miou", mode="max", patience=wanted.patience)
    callbacks: list[Callback] = [lines, stop, best, every]
    trainer = lightning.Trainer(
        max_epochs=wanted.epochs,
        accelerator=accelerator,
        devices=1,
        precision=wanted.precision,
        accumulate_grad_batches=wanted.accumulate,
        callbacks=callbacks if mean is None else [mean, *callbacks],
        logger=[CSVLogger(folder, "csv"), TensorBoardLogger(folder, "tensorboard")],
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
        num_sanity_val_steps=0,
        gradient_clip_val=_CLIP,
        use_distributed_sampler=False,
        reload_dataloaders_every_n_epochs=1 if wanted.hard else 0,
    )
    if wanted.learning_rate == "auto":
        module.learning_rate = _tested_rate(module, data, folder / "learning_rate.json", trainer.strategy.root_device, again=resume)
    last = checkpoints / "last.ckpt"
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")  # its own way with torch, and advice on workers
            # weights_only: a checkpoint holds tensors and plain values; anything else in it is not unpickled.
            trainer.fit(module, datamodule=data, ckpt_path=last if resume and last.exists() else None, weights_only=True)
    except SystemExit:  # what Lightning makes of Ctrl-C
        raise KeyboardInterrupt from None
    except pickle.UnpicklingError as error:
        raise InputError(f"{last} holds more than tensors and plain values, which geoseg does not read; remove {folder}") from error
    kept = torch.load(best.best_model_path, map_location="cpu", weights_only=True)
    module.load_state_dict(kept["state_dict"] if mean is None else kept["callbacks"][mean.state_key]["average"])
    epochs = trainer.current_epoch
    why = f"{wanted.patience} epochs brought none better" if epochs < wanted.epochs else "all epochs are over"
    ended = f"Best mean IoU on the validation blocks: {lines.best:.4f}, in epoch {lines.best_epoch} of {epochs}; {why}."
    log.info("%s", ended)
    return Fitted(epochs, lines.best_epoch, ended)


class _Stopping(EarlyStopping):
    """Early stopping that knows, when a training is taken up again, that it had stopped already."""

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Lightning's own would train one more epoch to find out."""
        trainer.should_stop = trainer.should_stop or self.wait_count >= self.patience


def check_precision(precision: Precision, accelerator: str) -> None:
    """Raise InputError, with what works, where the device does not compute in this precision, or only slower than in full."""
    if precision == "32":
        return
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        if precision == "bf16-mixed" and not torch.cuda.is_bf16_supported(including_emulation=False):
            raise InputError("precision: bf16-mixed is not for this GPU, which has no bf16; take 16-mixed or 32")
    elif precision == "16-mixed":
        raise InputError("precision: 16-mixed needs a CUDA device, and none is used here; take 32")
    elif not processor_has_bf16():
        raise InputError("precision: bf16-mixed is slower than 32 on this processor, which has no bf16 instructions; take 32")


def _tested_rate(module: SupervisedSegmentation, data: ScenesDataModule, file: Path, device: torch.device, *, again: bool) -> float:
    """The rate that a test of the untrained network finds, written to `file`; `again` takes the one that stands there, if any."""
    if again and file.exists():
        return float(json.loads(file.read_text(encoding="utf-8"))["learning_rate"])

    def loss(network: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return module.loss_of(network, batch)[0]

    groups = partial(parameter_groups, rate=1.0, layer_decay=module.settings.layer_decay)
    test = try_rates(module.network, loss, data.train_dataloader(), weight_decay=module.settings.weight_decay, device=device, groups=groups)
    found = float(f"{test.best:.2g}")
    with atomic(file) as part:
        part.write_text(json.dumps({"learning_rate": found, "rates": test.rates, "losses": test.losses}) + "\n", encoding="utf-8")
    log.info("learning rate %.2g, at which the loss fell fastest in a test from %.1g to %.1g", found, test.rates[0], test.rates[-1])
    return found
