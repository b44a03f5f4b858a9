"""Learn classes from labelled scenes: supervised semantic segmentation in its simplest good form.

A network of segmentation-models-pytorch sees windows of valid, labelled ground, turned and mirrored at random, and learns the
class of each labelled pixel (cross entropy with Dice; the rest has no say). Blocks of the scenes are held out with a gap
around them: some to stop by, when their pooled mean IoU no longer grows, the others to be judged on once at the end. Windows
are read and prepared exactly as for mapping, with statistics of the training ground alone. In go scenes and label polygons
or label rasters, one for each scene; out comes a model package with ONNX, weights, the held-out blocks and a report.
Prefer it where a few thousand pixels of each class are labelled; nothing is downloaded unless `encoder_weights` asks for it.
"""

from __future__ import annotations

import logging
import pickle
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from pydantic import Field, JsonValue
from torch.utils.data import DataLoader

from geoseg.confusion import Confusion
from geoseg.data.augment import Jitter
from geoseg.data.patches import Alter, LabelledScene, TrainingPatches, ground_statistics
from geoseg.data.samplers import TileSampler
from geoseg.data.splits import Part, split_blocks
from geoseg.errors import InputError, require
from geoseg.io.opening import files_kept_open
from geoseg.legend import Legend, LegendClass
from geoseg.models.description import DEFAULT_OUTPUT
from geoseg.models.losses import get_loss
from geoseg.models.package import ModelPackage
from geoseg.models.segmenter import Segmenter, build_network
from geoseg.preprocess.calendars import Calendar
from geoseg.preprocess.normalise import fit_preparation
from geoseg.preprocess.prepare import Despeckle
from geoseg.preprocess.terrain_correction import TerrainCorrection
from geoseg.recipes import _ground as given
from geoseg.recipes import _training as shared
from geoseg.recipes._results import Trained, check_place, open_folder, write_trained
from geoseg.scene import Scene
from geoseg.settings import Settings as _Settings
from geoseg.stacks.series import one_date, series_preparation

log = logging.getLogger(__name__)


class Settings(_Settings):
    """What can be said of a training; every field has a value that works."""

    name: str = Field(default="", pattern=r"^([a-z][a-z0-9._-]{1,98}[a-z0-9])?$")
    """Name of the package; empty takes the name of its folder."""
    title: str = ""
    """One line for people; empty takes the name."""
    description: str = ""
    """What the model maps, from what, and what it is not good for."""
    licence: str = Field(default="other", pattern=r"^[\w.+-]+$")
    """SPDX identifier of the licence of the weights."""
    label_source: str = "labels given by the user"
    """Who or what made the labels; stands on the model card beside every figure."""

    bands: tuple[str, ...] = ()
    """Bands by role, in the order of the network's channels; empty takes all that the first scene has, but nothing of a `--dem`."""
    indices: tuple[str, ...] = ()
    """Spectral indices by spyndex's name, as further channels after the bands."""
    calendar: Calendar | None = None
    """The periods of a series, from all of which one map is made; None where each date is mapped by itself."""
    keep_indices_raw: bool = True
    """Leave indices as they are (they lie between -1 and 1); False normalises them as the bands."""
    terrain_correction: TerrainCorrection | None = None
    """`c` makes flat ground of slopes, in bands of reflectance, of scenes that are opened with a terrain model; None leaves them."""
    despeckle: Despeckle | None = None
    """`lee`, or `{method: lee, size: 5, looks: 4.4}`: the filter against speckle, in radar bands; None leaves them as they are."""
    classes: tuple[LegendClass, ...] = ()
    """The legend; empty takes the classes that the labels hold."""
    class_column: str | None = None
    """Column of label polygons that holds the class; None looks for the usual names."""

    family: str = "smp.Unet"
    encoder: str = "tu-mobilenetv3_small_050"
    encoder_weights: str | None = None
    """None starts from random weights; a name downloads published ones."""
    network: dict[str, JsonValue] = Field(default_factory=dict)
    """Further options of the network, such as `decoder_channels`."""

    tile: int = Field(default=256, ge=32)
    """Edge of the windows in pixels."""
    map_tile: int | None = Field(default=None, ge=32)
    """Edge of the tiles when mapping. None takes four times `tile`, at most 1024, which leaves fewer and fainter seams, where the network
    looks at a pixel's surroundings only; one with means over the whole tile, as in squeeze-and-excitation, keeps those of training."""
    block: int = Field(default=512, ge=32)
    """Edge in pixels of the blocks that are trained on or held out as a whole; at least `tile`."""
    guard: int = Field(default=32, ge=0)
    """Pixels between ground of two parts, at least."""
    validation: float = Field(default=0.15, gt=0, lt=0.5)
    test: float = Field(default=0.15, gt=0, lt=0.5)
    """Shares of the labelled blocks to stop by, and to be judged on."""

    batch: int = Field(default=8, ge=2)
    epochs: int = Field(default=50, ge=1)
    draws: int = Field(default=200, ge=2)
    """Windows in an epoch."""
    patience: int = Field(default=10, ge=1)
    """Epochs without a better mean IoU on the validation blocks after which training stops."""
    learning_rate: float = Field(default=2e-3, gt=0)
    weight_decay: float = Field(default=1e-2, ge=0)
    loss: str = "cross_entropy_dice"
    class_weights: Literal["balanced", "none"] = "balanced"
    """`balanced` weighs a class by one over the root of its share."""
    rare: float = Field(default=0.5, ge=0, le=1)
    """Share of windows drawn around a class that is drawn evenly among the classes."""
    jitter: Jitter = Jitter(gain=0.1, band_gain=0.03, haze=0.02, noise=0.002)
    """How the light is altered before indices are taken; only bands in reflectance."""

    seed: int = 0
    workers: int = Field(default=0, ge=0)
    """Processes that read windows; 0 reads in the training process."""
    hold_mb: float = 1024
    """Megabytes of scenes that are kept in memory; the others are read window by window."""


class SupervisedSegmentation(lightning.LightningModule):
    """A network, its loss, and the pooled confusion by which training stops."""

    class_weights: torch.Tensor | None
    """(class,) weights in the loss; None weighs all classes alike."""

    def __init__(self, network: Segmenter, legend: Legend, settings: Settings, class_weights: torch.Tensor | None) -> None:
        super().__init__()
        self.network, self.legend, self.settings = network, legend, settings
        self.loss = get_loss(settings.loss)
        self.register_buffer("class_weights", class_weights, persistent=False)
        self.counted = Confusion.empty(legend)
        """Of the pass over the validation ground that is running or was the last."""

    def training_step(self, batch: dict[str, torch.Tensor], _: int) -> torch.Tensor:
        """Loss of one batch: `image` (batch, channel, row, col), `labels` (batch, row, col)."""
        logits = self.network(batch["image"])[DEFAULT_OUTPUT]  # (batch, class, row, col)
        loss = self.loss(logits, batch["labels"], self.class_weights)
        self.log("loss", loss, on_step=False, on_epoch=True, prog_bar=True, batch_size=len(logits))
        return loss

    def on_validation_epoch_start(self) -> None:
        """Start to count anew."""
        self.counted = Confusion.empty(self.legend)

    def validation_step(self, batch: dict[str, torch.Tensor], _: int) -> None:
        """Count truth against guess, in evaluation mode; measures are taken of the sum, never averaged over batches."""
        self.counted += shared.count_batch(self.network(batch["image"])[DEFAULT_OUTPUT], batch["labels"], self.legend)

    def on_validation_epoch_end(self) -> None:
        """Log the pooled measures of the validation ground."""
        self.log("val_miou", self.counted.mean_iou, prog_bar=True)
        for name, figures in self.counted.figures().items():
            self.log(f"val_iou_{name}", figures["iou"])

    def configure_optimizers(self) -> Any:
        """AdamW, its rate warming up and falling to nothing over the epochs planned (one cycle, Smith & Topin 2018)."""
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.settings.learning_rate, weight_decay=self.settings.weight_decay)
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, self.settings.learning_rate, total_steps=steps, pct_start=0.2)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def run(
    settings: Settings,
    scenes: Sequence[Scene],
    labels: Sequence[str | Path],
    out: str | Path,
    *,
    resume: bool = False,
    progress: bool = False,
    alter: Alter | None = None,
    accelerator: str = "auto",
) -> ModelPackage:
    """Train on `scenes` with one label file for each (or one for all), and write the package to `out`, a new folder or .zip.

    Logs, checkpoints and the report lie in a folder beside it, named as `out` with `_training` behind; `resume` takes up a
    training that stopped there. `alter` replaces the jitter of the settings, see `geoseg.data.patches.Alter`. Raises
    InputError and its kinds for what was given.
    """
    if not scenes or len(labels) not in (1, len(scenes)):
        raise InputError(f"{len(scenes)} scenes and {len(labels)} label files; give one label file for each scene, or one for all")
    if settings.block < settings.tile:
        raise InputError(f"blocks of {settings.block} pixels are smaller than a tile of {settings.tile}; no window has room in one")
    if settings.calendar is not None and settings.terrain_correction is not None:
        raise InputError("a series is not corrected for terrain; leave out terrain_correction or calendar")
    started = time.monotonic()
    folder = check_place(out, settings, resume=resume)
    labels = list(labels) * len(scenes) if len(labels) == 1 else labels
    lightning.seed_everything(settings.seed, verbose=False)
    generator = np.random.default_rng(settings.seed)

    legend = Legend(settings.classes) if settings.classes else given.common_legend(labels, settings.class_column)
    if settings.calendar is None:
        plan = given.plan_preparation(scenes[0], settings.bands, settings.indices, settings.terrain_correction, settings.despeckle)
    else:
        plain = given.plan_preparation(one_date(scenes[0]), settings.bands, settings.indices, despeckle=settings.despeckle)
        plan = series_preparation(scenes[0], settings.calendar, plain)
    architecture = _architecture(settings, len(plan.channels), len(legend))
    network = build_network(architecture, encoder_weights=settings.encoder_weights)
    for tile in (settings.tile, settings.map_tile or settings.tile):
        if tile % network.stride:
            raise InputError(f"tiles of {tile} pixels; expected a multiple of {network.stride}, the network's coarsest step")

    ground = _divide(settings, given.load_scenes(scenes, labels, plan, legend, settings.class_column, settings.hold_mb), legend, generator)
    mine = ground.masks["train"]
    preparation = fit_preparation(plan, ground_statistics(ground.scenes, mine, plan), keep_indices_raw=settings.keep_indices_raw)
    known = [scene.labels for scene in ground.scenes]
    sampler = TileSampler(known, mine, tile=settings.tile, rare=settings.rare, generator=generator)
    patches = TrainingPatches(ground.scenes, mine, preparation, sampler, settings.seed, alter or settings.jitter)
    training = shared.training_loader(patches, draws=settings.draws, batch=settings.batch, workers=settings.workers)
    grid = partial(shared.grid_loader, ground, preparation=preparation, tile=settings.tile, batch=settings.batch, workers=settings.workers)

    weights = torch.from_numpy(given.balance(ground.class_pixels("train", len(legend)))) if settings.class_weights == "balanced" else None
    module = SupervisedSegmentation(network, legend, settings, weights)
    open_folder(folder, settings)
    with files_kept_open():
        epochs = _fit(module, training, grid("validation"), folder, resume=resume, progress=progress, accelerator=accelerator)
    held_out: tuple[Part, ...] = ("validation", "test")
    confusions = {part: shared.judge(network, grid(part), legend) for part in held_out}
    examples = [next(iter(grid(part)))["image"].numpy() for part in held_out]
    model = shared.exported(
        network.cpu(),
        legend,
        examples,
        architecture=architecture,
        channels=len(preparation.channels),
        tile=settings.tile,
        map_tile=settings.map_tile,
    )
    seconds = time.monotonic() - started
    trained = Trained(settings, model, legend, preparation, ground, confusions, seconds, {"epochs": epochs})
    return write_trained(trained, out, folder)


def _fit(
    module: SupervisedSegmentation,
    training: DataLoader[Any],
    validation: DataLoader[Any],
    folder: Path,
    *,
    resume: bool,
    progress: bool,
    accelerator: str,
) -> int:
    """Train, leave the best weights of all epochs in the module, and say how many epochs there were."""
    require("tensorboard", extra="train")
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # it greets, and tells of its maker's products
    best = ModelCheckpoint(
        folder / "checkpoints", filename="best", monitor="val_miou", mode="max", save_last=True, enable_version_counter=False
    )
    settings = module.settings
    trainer = lightning.Trainer(
        max_epochs=settings.epochs,
        accelerator=accelerator,
        devices=1,
        callbacks=[best, EarlyStopping("val_miou", mode="max", patience=settings.patience)],
        logger=[CSVLogger(folder, "csv"), TensorBoardLogger(folder, "tensorboard")],
        enable_progress_bar=progress,
        enable_model_summary=False,
        log_every_n_steps=1,
        num_sanity_val_steps=0,
        gradient_clip_val=1.0,
    )
    last = folder / "checkpoints" / "last.ckpt"
    try:
        # weights_only: a checkpoint holds tensors and plain values; anything else in it is not unpickled.
        trainer.fit(module, training, validation, ckpt_path=last if resume and last.exists() else None, weights_only=True)
    except SystemExit:  # what Lightning makes of Ctrl-C
        raise KeyboardInterrupt from None
    except pickle.UnpicklingError as error:
        raise InputError(f"{last} holds more than tensors and plain values, which geoseg does not read; remove {folder}") from error
    state = torch.load(best.best_model_path, map_location="cpu", weights_only=True)["state_dict"]
    module.load_state_dict(state)
    log.info("best mean IoU on the validation blocks: %.4f", float(best.best_model_score or 0))
    return trainer.current_epoch


def _divide(settings: Settings, scenes: Sequence[LabelledScene], legend: Legend, generator: np.random.Generator) -> given.Ground:
    """The scenes' blocks, some of them held out."""
    split = split_blocks(
        [scene.geobox for scene in scenes],
        [scene.labels for scene in scenes],
        len(legend),
        block=settings.block,
        guard=settings.guard,
        validation=settings.validation,
        test=settings.test,
        generator=generator,
    )
    return given.Ground.of(scenes, split)


def _architecture(settings: Settings, channels: int, classes: int) -> dict[str, JsonValue]:
    """What `build_network` takes, now and whenever the package is opened."""
    return {
        "family": settings.family,
        "encoder": settings.encoder,
        "in_channels": channels,
        "classes": classes,
        **settings.network,
    }
