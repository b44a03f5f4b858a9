"""What can be said of a masked pretraining, checked when it is read."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from geoseg.preprocess.prepare import Despeckle
from geoseg.preprocess.terrain_correction import TerrainCorrection
from geoseg.recipes._settings import Precision
from geoseg.settings import Settings as Base


class Settings(Base):
    """What can be said of a pretraining; every field has a value that works."""

    name: str = Field(default="", pattern=r"^([a-z][a-z0-9._-]{1,98}[a-z0-9])?$")
    """Name of the encoder; empty takes the name of its folder."""
    title: str = ""
    """One line for people; empty takes the name."""
    description: str = ""
    """What it has learned from."""
    licence: str = Field(default="other", pattern=r"^[\w.+-]+$")
    """SPDX identifier of the licence of the encoder."""

    bands: tuple[str, ...] = ()
    """Bands by role, all of them seen and guessed; empty takes all that the first scene has, but nothing of a `--dem`."""
    terrain_correction: TerrainCorrection | None = None
    """`c` makes flat ground of slopes, in bands of reflectance, of scenes that are opened with a terrain model; None leaves them."""
    despeckle: Despeckle | None = None
    """The filter against speckle, in radar bands; None leaves them as they are."""

    size: Literal["tiny", "small", "base", "large"] = "tiny"
    """Of the transformer: 5, 21, 85 or 302 million parameters."""
    depth: int | None = Field(default=None, ge=1)
    """Blocks of the encoder; None takes those of its size."""
    patch: int = Field(default=8, ge=2)
    """Edge of a patch in pixels."""
    tile: int = Field(default=128, ge=16)
    """Edge of the windows in pixels, a multiple of `patch`."""

    method: Literal["sigmae", "mae", "c2fmae"] = "sigmae"
    """`sigmae` hides what spectral indices say is worth guessing, `mae` anything; `c2fmae` hides whole classes first, then whole pieces of
    ground, then anything, and guesses classes, pieces and pixels one after the other."""
    ratio: float = Field(default=0.75, gt=0, lt=1)
    """Share of the patches that is hidden; 0.75 and 0.9 are usual."""
    guide: tuple[str, ...] = ()
    """Spectral indices by spyndex's name that say what is worth guessing, and for `c2fmae` to which class a pixel belongs; empty takes
    those of NDVI, NDWI, NDBI that the bands allow. `mae` needs none."""
    richness: float = Field(default=0.5, ge=0, le=1)
    """What richness counts in saliency, heterogeneity counts the rest: 1 is richness alone, 0 heterogeneity alone."""
    curriculum: Literal["linear", "cosine", "none"] = "linear"
    """How the share of patches that the indices choose rises from 0 to 1 over the training; `none` lets them choose all from the start.
    Of `c2fmae` only `none` is minded, which hides anything throughout."""

    batch: int = Field(default=32, ge=2)
    epochs: int = Field(default=100, ge=1)
    draws: int = Field(default=1024, ge=2)
    """Windows in an epoch."""
    learning_rate: float = Field(default=5e-4, gt=0)
    """The greatest of the schedule, a cosine."""
    warm_up: float = Field(default=0.1, gt=0, lt=1)
    """Share of all steps in which the learning rate rises."""
    weight_decay: float = Field(default=0.05, ge=0)
    """Of matrices; biases and norms are left alone."""
    precision: Precision = "32"
    """`bf16-mixed` and `16-mixed` are for devices that compute in them."""
    group: int = Field(default=8, ge=1)
    """Windows drawn from each piece of ground that is read, in scenes too large for the memory; 1 reads each window by itself."""

    workers: int = Field(default=0, ge=0)
    """Processes that read windows; 0 reads in the training process."""
    seed: int = 0
    hold_mb: float = 1024
    """Megabytes of scenes that are kept in memory; the others are read window by window."""
    retile: Path | None = None
    """Folder where those others are copied once into small blocks that are quick to read."""
