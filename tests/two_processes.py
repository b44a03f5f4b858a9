"""A training by two processes, as one would start it oneself; Lightning starts this file a second time. Writes what each ended with.

Words: a folder, then `own`, or `replaced` where Lightning is let put a sampler of its own in place of ours, then further settings.
"""

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
    """Notes the draws of this process, epoch by epoch, and where the windows of all processes lie."""

    def __init__(self) -> None:
        self.numbers: list[list[int]] = []
        self.places: list[list[tuple[int, int]]] = []

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """The sampler that Lightning uses is asked, not the one that was made."""
        self.numbers.append([int(number) for number in trainer.train_dataloader.sampler])
        windows = [trainer.train_dataloader.dataset.place(number)[1] for number in range(36)]
        self.places.append([(window.row, window.col) for window in windows])


if __name__ == "__main__":
    folder, sampler, *further = Path(sys.argv[1]), *sys.argv[2:]
    torch.set_num_threads(1)
    settings = (
        QUICK | {"epochs": 2, "draws": 18, "batch": 3} | {name: float(value) for name, value in (word.split("=") for word in further)}
    )
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
        reload_dataloaders_every_n_epochs=1,
        use_distributed_sampler=sampler == "replaced",
        callbacks=[drawn, AveragedWeights(0.9)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, datamodule=data)
    found = {
        "drawn": drawn.numbers,
        "places": drawn.places,
        "weights": dict(module.named_parameters()),
        "confusion": torch.from_numpy(module.counted.counts),
    }
    torch.save(found, folder / f"process{trainer.global_rank}.pt")
