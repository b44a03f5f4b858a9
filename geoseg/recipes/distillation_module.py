"""What learns in the recipe `distillation`: a small transformer from a large one, without labels, for any Lightning Trainer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from torch import nn

from geoseg.backbones.crossearth_sar import CrossEarthSar
from geoseg.backbones.dinov2 import load_dinov2
from geoseg.backbones.gkd import DistillationHeads, DistillationLosses, hide
from geoseg.backbones.kernels import place_kernels
from geoseg.backbones.mae import patches_with_data
from geoseg.backbones.vit import VisionTransformer, positions
from geoseg.data.windows import UNLABELLED
from geoseg.errors import InputError, PackageError, require
from geoseg.models.encoders import Encoder
from geoseg.models.states import read_state
from geoseg.recipes._distillation_settings import Settings
from geoseg.recipes.masked_module import encoder_optimizer

_COLOURS = ("red", "green", "blue")


class Dinov2Teacher(nn.Module):
    """DINOv2 on the image's red, green and blue, or on its first band as if it stood three times."""

    def __init__(self, bands: Sequence[str], settings: Settings) -> None:
        """PackageError where the file cannot be read, or holds other weights."""
        super().__init__()
        self.taken = [bands.index(name) for name in _COLOURS] if set(_COLOURS) <= set(bands) else [0]
        self.network = CrossEarthSar(len(self.taken), size=settings.teacher_size, patch=settings.patch, experts=1)
        self.report = load_dinov2(self.network, read_state(Path(settings.teacher)), settings.teacher)
        self.width = self.network.width

    def forward(self, image: torch.Tensor, pixel_size_m: torch.Tensor) -> torch.Tensor:
        """(batch, 1 + patch, width), the class token first."""
        tokens: torch.Tensor = self.network(image[:, self.taken], image.new_zeros(len(image), 3))
        return tokens


class EncoderTeacher(nn.Module):
    """An encoder of geoseg's on those of the image's bands that it knows; the mean of its patches stands for its class token."""

    def __init__(self, bands: Sequence[str], encoder: Encoder, settings: Settings) -> None:
        """PackageError where it knows none of the bands, or has another patch."""
        super().__init__()
        sized: dict[str, Any] = {key: value for key, value in encoder.architecture.items() if value is not None}
        if (patch := sized.get("patch")) != settings.patch:
            raise PackageError(f"the teacher {encoder.path} has patch {patch}, and the settings say {settings.patch}; say patch={patch}")
        self.taken = [place for place, name in enumerate(bands) if name in encoder.roles]
        if not self.taken:
            raise PackageError(f"the teacher {encoder.path} knows {', '.join(encoder.roles)}, and the scenes have {', '.join(bands)}")
        state = require("safetensors.torch", extra="train").load(encoder.weights)
        state["embed.weight"] = place_kernels(state["embed.weight"], encoder.roles, [bands[place] for place in self.taken])
        self.network = VisionTransformer(len(self.taken), **sized)
        self.network.load_state_dict(state)
        self.width = self.network.width

    def forward(self, image: torch.Tensor, pixel_size_m: torch.Tensor) -> torch.Tensor:
        """(batch, 1 + patch, width)."""
        return with_mean(self.network(image[:, self.taken], pixel_size_m=pixel_size_m))


class PlainDistillation(nn.Module):
    """Student tokens (batch, token, student) in the teacher's width, each by itself: what GKD's queries are compared with."""

    def __init__(self, student: int, teacher: int) -> None:
        super().__init__()
        self.norm, self.proj = nn.LayerNorm(student), nn.Linear(student, teacher)

    def forward(self, student: torch.Tensor, teacher: torch.Tensor, counts: torch.Tensor | None = None) -> torch.Tensor:
        """(batch, token, teacher); neither the teacher's tokens nor which of them `counts` is asked."""
        told: torch.Tensor = self.proj(self.norm(student))
        return told


class Distillation(lightning.LightningModule):
    """A student that learns what a frozen teacher says of the same windows, by GKD's three losses.

    Batches are those of `UnlabelledScenes`. The student has no class token; the mean of its patches stands for it.
    """

    def __init__(self, bands: Sequence[str], settings: Mapping[str, Any] | Settings) -> None:
        """`bands` by role, in the order of the image's planes; PackageError for a teacher that does not fit."""
        super().__init__()
        self.settings = settings if isinstance(settings, Settings) else Settings(**settings)
        wanted = self.settings
        self.student = VisionTransformer(len(bands), size=wanted.size, patch=wanted.patch, depth=wanted.depth)
        if wanted.start is not None:
            _go_on(self.student, Encoder.open(wanted.start), bands, wanted)
        teacher = self._open_teacher(bands).requires_grad_(False).eval()
        self._aside = (teacher,)  # no part of what learns, or goes into checkpoints: it stays in its file
        self.heads = DistillationHeads(self.student.width, teacher.width)
        for name in () if wanted.queries else ("token", "feature", "patch"):
            setattr(self.heads, name, PlainDistillation(self.student.width, teacher.width))
        self.mask_token = nn.Parameter(torch.zeros(self.student.width))
        nn.init.normal_(self.mask_token, std=0.02)

    def training_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> torch.Tensor:
        """The sum of the three losses; InputError where it is no number."""
        image, sizes = batch["image"], batch["pixel_size_m"]
        place = np.random.SeedSequence((self.settings.seed, self.current_epoch, batch_idx, self.global_rank))
        generator = torch.Generator().manual_seed(int(place.generate_state(1)[0]))  # by the place in the training alone
        losses = self.compare(image, sizes, patches_with_data(batch["labels"] != UNLABELLED, self.settings.patch), generator)
        if not torch.isfinite(losses.total):
            raise InputError(
                f"the loss is {losses.total.item():g} in epoch {self.current_epoch + 1}, batch {batch_idx + 1}; take a lower "
                "learning_rate, and look for values of the scenes that cannot be"
            )
        parts = {"token": losses.token, "feature": losses.feature, "patch": losses.patch}
        self.log_dict(parts, on_step=False, on_epoch=True, batch_size=len(image))
        self.log("loss", losses.total, on_step=False, on_epoch=True, batch_size=len(image))
        return losses.total

    @torch.no_grad()
    def ask(self, image: torch.Tensor, sizes: torch.Tensor) -> torch.Tensor:
        """What the teacher says (batch, 1 + patch, width) of images (batch, band, row, col), the class token first."""
        (teacher,) = self._aside
        told: torch.Tensor = teacher.to(image.device)(image, sizes)
        return told

    def compare(
        self,
        image: torch.Tensor,
        sizes: torch.Tensor,
        has_data: torch.Tensor,
        generator: torch.Generator,
        told: torch.Tensor | None = None,
    ) -> DistillationLosses:
        """GKD's losses of images (batch, band, row, col); patches without data say and learn nothing, in images that have others.

        `told` is what the teacher said of them before; None asks it.
        """
        told = self.ask(image, sizes) if told is None else told
        tokens = self.student.tokens(image, sizes)
        grid = image.shape[-2] // self.settings.patch, image.shape[-1] // self.settings.patch
        places = positions(*grid, self.student.width, sizes).to(tokens)
        hidden = hide(len(image), tokens.shape[1], generator).to(image.device)
        masked = torch.where(hidden[..., None], self.mask_token + places, tokens)
        plain, partly = (with_mean(self.student.encode(each, has_data)) for each in (tokens, masked))
        losses: DistillationLosses = self.heads(plain, partly, told, has_data)
        return losses

    def configure_optimizers(self) -> Any:
        """AdamW; the learning rate rises in a line and falls as a cosine."""
        return encoder_optimizer(self, self.settings)

    def _open_teacher(self, bands: Sequence[str]) -> Dinov2Teacher | EncoderTeacher:
        path = Path(self.settings.teacher)
        if path.suffix in (".safetensors", ".pth", ".pt"):
            return Dinov2Teacher(bands, self.settings)
        return EncoderTeacher(bands, Encoder.open(path), self.settings)


def with_mean(patches: torch.Tensor) -> torch.Tensor:
    """(batch, 1 + patch, width): their mean first."""
    return torch.cat([patches.mean(dim=1, keepdim=True), patches], dim=1)


def _go_on(student: VisionTransformer, encoder: Encoder, bands: Sequence[str], settings: Settings) -> None:
    theirs = {name: value for name, value in encoder.architecture.items() if value is not None}
    ours = {"size": settings.size, "patch": settings.patch, "depth": settings.depth}
    if clash := [name for name in theirs if theirs[name] != ours[name]]:
        raise PackageError(f"start: {encoder.path} has {clash[0]} {theirs[clash[0]]}, and the settings say {ours[clash[0]]}; say it alike")
    state = require("safetensors.torch", extra="train").load(encoder.weights)
    state["embed.weight"] = place_kernels(state["embed.weight"], encoder.roles, list(bands))
    student.load_state_dict(state)
