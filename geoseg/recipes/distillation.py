"""Take over what a large transformer knows into a small one, from scenes without labels (GKD).

In go scenes and a teacher: DINOv2's published weights, or a larger encoder of one's own; out comes a small encoder, with which
`geoseg train … -s pretrained=ENCODER -s freeze=true` learns the task without forgetting it. Two goes are best, the first on scenes of
everywhere, the second (`start: ENCODER`) on those of the ground and sensor that the task is about. Prefer it where maps have to be made on
a laptop, and ground or sensor will differ from what labels there are.

`distillation_module.py` holds the training step; it serves other trainers as well, also without this file.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from geoseg.backbones.vit import VisionTransformer
from geoseg.models.encoders import Encoder
from geoseg.recipes._distillation_settings import Settings as Settings
from geoseg.recipes._encoder_training import learn_encoder
from geoseg.recipes._progress import Progress
from geoseg.recipes.distillation_module import Distillation
from geoseg.recipes.masked_module import UnlabelledScenes
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
    """Learn from `scenes` what the teacher says of them, and write the student to `out`, a new folder or .zip; see `learn_encoder`.

    Raises InputError and its kinds for what was given.
    """
    return learn_encoder(
        settings,
        scenes,
        out,
        lambda data: Distillation(data.bands, settings),
        _student,
        _said,
        training={"method": "gkd" if settings.queries else "plain means", "teacher": Path(settings.teacher).name},
        resume=resume,
        progress=progress,
        accelerator=accelerator,
    )


def _student(module: Any) -> VisionTransformer:
    """What stays; teacher and heads are thrown away."""
    student: VisionTransformer = module.student
    return student


def _said(losses: Sequence[float], data: UnlabelledScenes) -> str:
    settings = data.settings
    teacher = Path(settings.teacher).name if isinstance(settings, Settings) else ""
    return f"Taken over from {teacher} without labels; loss {losses[0]:.4f} in the first epoch, {losses[-1]:.4f} in the last."
