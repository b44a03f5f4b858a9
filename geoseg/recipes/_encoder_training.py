"""What recipes have in common that make an encoder from scenes without labels: the training itself, its report, its files."""

from __future__ import annotations

import json
import logging
import math
import pickle
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from pydantic import JsonValue

from geoseg.backbones.vit import VisionTransformer
from geoseg.errors import InputError, require
from geoseg.io.atomic import atomic
from geoseg.io.opening import files_kept_open
from geoseg.models.encoders import Encoder, EncoderDescription, is_encoder, write_encoder
from geoseg.models.export import save_weights
from geoseg.models.segmenter import count_parameters
from geoseg.recipes._ground import software_versions
from geoseg.recipes._inherited import with_terms_of
from geoseg.recipes._masked_settings import Settings
from geoseg.recipes._progress import EpochDone, Progress
from geoseg.recipes._results import REPORT, check_place, name_of, open_folder
from geoseg.recipes._trainer import check_precision
from geoseg.recipes.masked_module import UnlabelledScenes
from geoseg.scene import Scene

_CLIP = 1.0
"""Greatest length of the gradient; a longer one is shortened to it."""


def learn_encoder(
    settings: Settings,
    scenes: Sequence[Scene],
    out: str | Path,
    make: Callable[[UnlabelledScenes], lightning.LightningModule],
    encoder_of: Callable[[lightning.LightningModule], VisionTransformer],
    said: Callable[[Sequence[float], UnlabelledScenes], str],
    *,
    training: Mapping[str, JsonValue],
    resume: bool,
    progress: Progress | None,
    accelerator: str,
) -> Encoder:
    """Train the module that `make` builds for the data, and write its encoder to `out`, a new folder or .zip.

    `said` is the report's sentence, from the losses of the epochs; `training` goes into the encoder's description. Logs, checkpoints and
    the report lie in a folder beside `out`, named as it with `_training` behind; `resume` takes up a training that stopped there.
    """
    data = UnlabelledScenes(scenes, settings)
    started = time.monotonic()
    folder = check_place(out, settings, resume=resume)
    check_precision(settings.precision, accelerator)
    lightning.seed_everything(settings.seed, verbose=False)

    data.look()
    module = make(data)
    data.setup()
    open_folder(folder, settings)
    with files_kept_open():
        losses = _fit(module, data, folder, settings, resume=resume, progress=progress, accelerator=accelerator)

    encoder = encoder_of(module).cpu()
    report = {
        "scenes": [scene.scene.name for scene in data.scenes],
        "settings": settings.model_dump(mode="json"),
        "bands": list(data.bands),
        "guide": list(data.guide),
        "pixel_size_m": data.pixel_size_m,
        "seconds": round(time.monotonic() - started, 1),
        "parameters": count_parameters(encoder),
        "losses": losses,
        "notes": [said(losses, data)],
        "versions": software_versions(),
    }
    text = (json.dumps(report, indent=2) + "\n").encode()
    with atomic(folder / REPORT) as part:
        part.write_bytes(text)
    description = _describe(settings, data, report, out, training)
    for source in _sources(settings):
        description = with_terms_of(description, source)
    return write_encoder(out, description, weights=save_weights(encoder), others={REPORT: text})


def _sources(settings: Settings) -> list[Encoder]:
    """The encoders that the settings start from or learn from, where they name any."""
    named = [str(path) for path in (getattr(settings, "start", None), getattr(settings, "teacher", None)) if path]
    return [Encoder.open(path) for path in named if is_encoder(path)]


class _EpochLosses(Callback):
    """Remembers the mean loss of each epoch, and tells `progress` of it."""

    def __init__(self, progress: Progress | None) -> None:
        self.progress = progress
        self.losses: list[float] = []
        self._began, self._first = 0.0, 0

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers, for a checkpoint."""
        return {"losses": list(self.losses)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.losses = list(state_dict["losses"])

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Time runs from here."""
        self._began, self._first = time.monotonic(), trainer.current_epoch

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Remember, and tell; the checkpoint is written after this."""
        self.losses.append(float(trainer.callback_metrics["loss"]))
        if self.progress is None or not trainer.is_global_zero:
            return
        epoch, epochs = trainer.current_epoch + 1, int(trainer.max_epochs or 0)
        each = (time.monotonic() - self._began) / (epoch - self._first)
        self.progress(EpochDone(epoch, epochs, self.losses[-1], math.nan, math.nan, 0, each * (epochs - epoch)))


def _fit(
    module: lightning.LightningModule,
    data: UnlabelledScenes,
    folder: Path,
    wanted: Settings,
    *,
    resume: bool,
    progress: Progress | None,
    accelerator: str,
) -> list[float]:
    """Train for all epochs, and give the mean loss of each; `last.ckpt` is where `resume` goes on."""
    require("tensorboard", extra="train")
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # it greets, and tells of its maker's products
    checkpoints = folder / "checkpoints"
    lines = _EpochLosses(progress)
    trainer = lightning.Trainer(
        max_epochs=wanted.epochs,
        accelerator=accelerator,
        devices=1,
        precision=wanted.precision,
        callbacks=[lines, ModelCheckpoint(checkpoints, filename="last", enable_version_counter=False)],
        logger=[CSVLogger(folder, "csv"), TensorBoardLogger(folder, "tensorboard")],
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
        gradient_clip_val=_CLIP,
        use_distributed_sampler=False,
    )
    last = checkpoints / "last.ckpt"
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")  # its own way with torch, and advice on workers
            trainer.fit(module, datamodule=data, ckpt_path=last if resume and last.exists() else None, weights_only=True)
    except SystemExit:  # what Lightning makes of Ctrl-C
        raise KeyboardInterrupt from None
    except pickle.UnpicklingError as error:
        raise InputError(f"{last} holds more than tensors and plain values, which geoseg does not read; remove {folder}") from error
    return lines.losses


def _describe(
    settings: Settings, data: UnlabelledScenes, report: dict[str, Any], out: str | Path, training: Mapping[str, JsonValue]
) -> EncoderDescription:
    name = settings.name or name_of(Path(out))
    bands = tuple(channel for channel in data.preparation.channels if channel.kind == "band")
    times = {key: report[key] for key in ("scenes", "seconds", "parameters")}
    return EncoderDescription(
        name=name,
        title=settings.title or name,
        description=settings.description,
        licence=settings.licence,
        preparation=data.preparation.model_copy(update={"channels": bands}),
        architecture={"size": settings.size, "patch": settings.patch, "depth": settings.depth},
        pixel_size_m=float(f"{data.pixel_size_m:.4g}"),
        sensors=tuple(dict.fromkeys(scene.scene.sensor.name for scene in data.scenes)),
        training=times | {"epochs": settings.epochs, "all_settings": REPORT, **training},
        attribution=" ".join(dict.fromkeys(scene.scene.attribution for scene in data.scenes if scene.scene.attribution)),
        created=datetime.now(UTC),
        versions=report["versions"],
    )
