"""Learn from scenes without labels: most of each window is hidden, and what it shows has to be told from the rest.

A Vision Transformer sees a quarter (or a tenth) of the patches of a window; a smaller decoder guesses all bands of the others. What is
hidden is what spectral indices call rich or mixed, more of it the longer it has learned (SIGMAE), or anything (`method: mae`), or
whole classes and pieces of ground, which are then guessed before the pixels (`method: c2fmae`).
Windows are drawn evenly from valid ground and prepared exactly as for mapping. In go scenes; out comes an encoder: weights, bands by
role, statistics and pixel size, from which `geoseg train … -s pretrained=ENCODER` starts. Prefer it where scenes are many and
labels few; it needs many more steps than learning from labels does, so that a GPU is worth having.

`masked_module.py` holds the training step and the windows; both serve other trainers as well, also without this file.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from geoseg.backbones.vit import VisionTransformer
from geoseg.models.encoders import Encoder
from geoseg.recipes._encoder_training import learn_encoder
from geoseg.recipes._masked_settings import Settings as Settings
from geoseg.recipes._progress import Progress
from geoseg.recipes.masked_module import MaskedPretraining, UnlabelledScenes
from geoseg.scene import Scene


def run(
    settings: Settings,
    scenes: Sequence[Scene],
    out: str | Path,
    *,
    resume: bool = False,
    progress: Progress | None = None,
    accelerator: str = "auto",
) -> Encoder:
    """Learn from `scenes` and write the encoder to `out`, a new folder or .zip.

    Logs, checkpoints and the report lie in a folder beside it, named as `out` with `_training` behind; `resume` takes up a
    training that stopped there. `progress` is told of each epoch. Raises InputError and its kinds for what was given.
    """
    return learn_encoder(
        settings,
        scenes,
        out,
        lambda data: MaskedPretraining(data.bands, data.guide, settings),
        _encoder,
        _said,
        training={"method": settings.method, "ratio": settings.ratio},
        resume=resume,
        progress=progress,
        accelerator=accelerator,
    )


def _encoder(module: Any) -> VisionTransformer:
    """What stays of the network; its decoder is thrown away."""
    encoder: VisionTransformer = module.network.encoder
    return encoder


def _said(losses: Sequence[float], data: UnlabelledScenes) -> str:
    settings = data.settings
    how = {"mae": "at random", "sigmae": f"guided by {', '.join(data.guide)}", "c2fmae": "from coarse to fine"}[settings.method]
    ends = f"loss {losses[0]:.4f} in the first epoch, {losses[-1]:.4f} in the last"
    rises = ", which tends to rise as the mask gets harder" if settings.method == "sigmae" and settings.curriculum != "none" else ""
    return f"{settings.ratio:.0%} of the patches hidden {how}; {ends}{rises}."
