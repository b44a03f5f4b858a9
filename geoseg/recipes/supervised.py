"""Learn classes from labelled scenes: supervised semantic segmentation in its simplest good form.

A network of segmentation-models-pytorch sees windows of valid, labelled ground, turned and mirrored at random, and learns the
class of each labelled pixel (cross entropy with Dice; the rest has no say). Blocks of the scenes are held out with a gap
around them: some to stop by, when their pooled mean IoU no longer grows, the others to be judged on once at the end. Windows
are read and prepared exactly as for mapping, with statistics of the training ground alone. In go scenes and label polygons
or label rasters, one for each scene; out comes a model package with ONNX, weights, the held-out blocks and a report.
Prefer it where a few thousand pixels of each class are labelled; nothing is downloaded unless `encoder_weights` asks for it.

`modules.py` holds the training step, `datamodule.py` the windows; both serve other trainers as well, also without this file.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import lightning
import numpy as np
import torch
from pydantic import JsonValue

from geoseg.confusion import Confusion
from geoseg.data.patches import Alter
from geoseg.data.pictures import draw_patches
from geoseg.data.splits import Part, write_split
from geoseg.errors import InputError
from geoseg.io.opening import files_kept_open
from geoseg.models.encoders import Encoder
from geoseg.models.package import ModelPackage
from geoseg.models.temperature import Temperature
from geoseg.recipes import _training as shared
from geoseg.recipes._corrections import TOO_FEW, changed
from geoseg.recipes._fine_tuning import check_adapter, merge_adapters
from geoseg.recipes._progress import Progress
from geoseg.recipes._results import PICTURE, Trained, check_place, open_folder, plain_figures, write_trained
from geoseg.recipes._settings import Settings as Settings
from geoseg.recipes._trainer import check_precision, fit
from geoseg.recipes.datamodule import ScenesDataModule
from geoseg.recipes.modules import SupervisedSegmentation
from geoseg.recipes.pixel_forest import judge_forest
from geoseg.scene import Scene

SPLIT = "split.gpkg"
"""Which ground was learned from, stopped by and judged on, to look at in QGIS."""


def run(
    settings: Settings,
    scenes: Sequence[Scene],
    labels: Sequence[str | Path],
    out: str | Path,
    *,
    resume: bool = False,
    progress: Progress | None = None,
    alter: Alter | None = None,
    accelerator: str = "auto",
) -> ModelPackage:
    """Train on `scenes` with one label file for each (or one for all), and write the package to `out`, a new folder or .zip.

    Logs, checkpoints and the report lie in a folder beside it, named as `out` with `_training` behind; `resume` takes up a
    training that stopped there. `progress` is told of each epoch. `alter` replaces the jitter of the settings, see
    `geoseg.data.patches.Alter`. Raises InputError and its kinds for what was given.
    """
    check_adapter(settings)
    data = ScenesDataModule(scenes, labels, settings, alter=alter)
    started = time.monotonic()
    folder = check_place(out, settings, resume=resume)
    lightning.seed_everything(settings.seed, verbose=False)

    data.look()
    module = SupervisedSegmentation(data.legend.names, data.channels, settings, pixel_size_m=data.pixel_size_m)
    for tile in (settings.tile, settings.map_tile):
        if tile is not None and tile % module.network.stride:
            raise InputError(f"tiles of {tile} pixels; expected a multiple of {module.network.stride}, the network's coarsest step")
    data.setup()
    if (weights := data.class_weights()) is not None:
        module.class_weights = torch.from_numpy(weights)
    check_precision(settings.precision, accelerator)

    held_out: tuple[Part, ...] = ("validation", "test") if data.ground.split.pieces("test") else ()
    before = None
    if data.start is not None and held_out:
        before = shared.judge(copy.deepcopy(module.network), data.grid("test"), data.legend)

    open_folder(folder, settings)
    write_split(folder / SPLIT, data.ground.split)
    with files_kept_open():
        fitted = fit(module, data, folder, resume=resume, progress=progress, accelerator=accelerator)
    network = module.network
    if settings.adapter is not None:
        merge_adapters(network)
    confusions = {part: shared.judge(network, data.grid(part), data.legend) for part in held_out}
    examples = [next(iter(data.grid(part)))["image"].numpy() for part in held_out or ("train",)]
    model = shared.exported(
        network.cpu(),
        data.legend,
        examples,
        architecture=module.architecture,
        channels=len(data.channels),
        tile=data.tile,
        map_tile=settings.map_tile or (None if data.start is None else data.start.tile),
    )
    temperature = None
    if settings.calibrate and held_out:
        temperature = shared.temperature_of(network, data.grid("validation"), data.grid("test"), seed=settings.seed)
    compared = _forest(data) if held_out else None
    facts: dict[str, JsonValue] = {
        "epochs": fitted.epochs,
        "best_epoch": fitted.best_epoch,
        "learning_rate": module.learning_rate,
        "guard_m": data.ground.guard_m,
        "tile": data.tile,
        "notes": [
            said
            for said in (
                fitted.ended if held_out else TOO_FEW,
                _rate_said(module),
                module.stem,
                data.left_out,
                "" if before is None else changed(before, confusions["test"], data.ground.split.pieces("test")),
                _calibrated(temperature),
                _compared(compared, confusions.get("test")),
            )
            if said
        ],
        "pixel_forest": {} if compared is None else plain_figures(compared),
        **({} if before is None else {"before": plain_figures(before)}),
    }
    trained = Trained(
        settings,
        model,
        data.legend,
        data.preparation,
        data.ground,
        confusions,
        time.monotonic() - started,
        facts,
        pictures=_pictures(module, data),
        coarsest=settings.coarsen,
        temperature=temperature,
        start=data.start,
        encoder=None if settings.pretrained is None else Encoder.open(settings.pretrained),
    )
    return write_trained(trained, out, folder)


def _forest(data: ScenesDataModule) -> Confusion | None:
    """What a forest on single pixels does on the test ground; None where it is not asked for, or scikit-learn is not there."""
    if data.settings.compare == "none" or find_spec("sklearn") is None:
        return None
    return judge_forest(data.ground, data.preparation, data.legend, seed=data.settings.seed)


def _compared(forest: Confusion | None, network: Confusion | None) -> str:
    if forest is None or network is None:
        return ""
    found = ", ".join(f"{name} {figures['iou']:.3f}" for name, figures in forest.figures().items())
    better = "less" if forest.mean_iou <= network.mean_iou else "more, so look whether a network is worth it here"
    return f"A random forest on single pixels of the same ground: mean IoU {forest.mean_iou:.3f} on the test blocks ({found}), {better}."


def _calibrated(found: Temperature | None) -> str:
    if found is None:
        return ""
    return (
        f"Scores are taken at a temperature of {found.value:.2f}, fitted on the validation blocks: on the test blocks their expected "
        f"calibration error is {found.after:.3f}, without it {found.before:.3f}."
    )


def _rate_said(module: SupervisedSegmentation) -> str:
    tested = module.settings.learning_rate == "auto"
    return f"Learning rate {module.learning_rate:.2g}, at which the loss fell fastest in a test (learning_rate.json)." if tested else ""


def _pictures(module: SupervisedSegmentation, data: ScenesDataModule) -> dict[str, bytes]:
    """Some of the test ground beside truth and guess."""
    shown = data.examples("test", module.settings.pictures)
    if not shown:
        return {}
    images, labels = (np.stack([patch[name] for patch in shown]) for name in ("image", "labels"))
    guesses = shared.guess(module.network, images)
    return {PICTURE: draw_patches(images, labels, guesses, data.legend, data.channels)}
