"""What can be said of a distillation, checked when it is read."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from geoseg.recipes._masked_settings import Settings as Pretraining


class Settings(Pretraining):
    """As of `masked_pretraining`, but for the teacher; nothing is guided, and what is hidden is always a half."""

    teacher: str
    """A file of DINOv2's weights, .safetensors or .pth, or an encoder that geoseg made, a folder or .zip."""
    teacher_size: Literal["tiny", "small", "base", "large"] = "base"
    """Of DINOv2's transformer; an encoder says its own."""
    start: str | None = None
    """An encoder to go on with as the student: one that took over from scenes of everywhere goes on with those of one's own ground. None
    begins with random weights."""
    queries: bool = True
    """The student's tokens ask the teacher's, as in GKD; False compares each with the teacher's at its place, through a linear layer."""
    patch: int = Field(default=16, ge=2)
    """Edge of a patch in pixels, the teacher's as well, whose kernels are stretched to it."""
    method: Literal["mae"] = "mae"
    """Nothing to choose."""
