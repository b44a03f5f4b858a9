"""A training by two processes, as one would start it oneself; Lightning starts this file a second time. Writes what each ended with."""

from __future__ import annotations

import sys
from pathlib import Path

import lightning
import torch
from labelled_ground import QUICK

from geoseg.recipes.datamodule import ScenesDataModule
from geoseg.recipes.ema import AveragedWeights
from geoseg.recipes.modules import SupervisedSegmentation


class Drawn(lightning.Callback):
    """Notes the draws of this process, epoch by epoch."""

    def __init__(self) -> None:
        self.numbers: list[list[int]] = []

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """The sampler that Lightning uses is asked, not the one that was made."""
        self.numbers.append(list(trainer.train_dataloader.sampler))


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    torch.set_num_threads(1)
    settings = QUICK | {"epochs": 2, "draws": 18, "batch": 3}
    data = ScenesDataModule(
        [folder / "scene.tif"], [folder / "labels.tif"], settings, opening={"sensor": "sentinel-2-l1c", "bands": ["red", "nir"]}
    )
    module = SupervisedSegmentation(["land", "water"], ["red", "nir"], settings)
    drawn = Drawn()
    trainer = lightning.Trainer(
        accelerator="cpu",
        devices=2,
        strategy="ddp",
        max_epochs=2,
        use_distributed_sampler=False,
        callbacks=[drawn, AveragedWeights(0.9)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, datamodule=data)
    found = {"drawn": drawn.numbers, "weights": dict(module.named_parameters()), "confusion": torch.from_numpy(module.counted.counts)}
    torch.save(found, folder / f"process{trainer.global_rank}.pt")
