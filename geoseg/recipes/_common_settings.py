"""What the settings of every recipe have: what the package says of itself, what it reads, which labels it learns from."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from geoseg.io.label_rules import LabelRules
from geoseg.legend import LegendClass
from geoseg.preprocess.calendars import Calendar
from geoseg.preprocess.prepare import Despeckle
from geoseg.preprocess.terrain_correction import TerrainCorrection
from geoseg.settings import Settings


class CommonSettings(Settings):
    """What can be said of any learning; every field has a value that works."""

    name: str = Field(default="", pattern=r"^([a-z][a-z0-9._-]{1,98}[a-z0-9])?$")
    """Name of the package; empty takes the name of its folder."""
    title: str = ""
    """One line for people; empty takes the name."""
    description: str = ""
    """What the model maps, from what, and what it is not good for."""
    licence: str = Field(default="other", pattern=r"^[\w.+-]+$")
    """SPDX identifier of the licence of the model."""
    label_source: str = "labels given by the user"
    """Who or what made the labels; stands on the model card beside every figure."""

    bands: tuple[str, ...] = ()
    """Bands by role, in the order of the model's channels; empty takes all that the first scene has, but nothing of a `--dem`."""
    indices: tuple[str, ...] = ()
    """Spectral indices by spyndex's name, as further channels after the bands."""
    calendar: Calendar | None = None
    """The periods of a series, from all of which one map is made; None where each date is mapped by itself."""
    terrain_correction: TerrainCorrection | None = None
    """`c` makes flat ground of slopes, in bands of reflectance, of scenes that are opened with a terrain model; None leaves them."""
    despeckle: Despeckle | Literal["auto"] | None = "auto"
    """The filter against speckle in radar bands: `lee`, or `{method: lee, size: 5, looks: 4.4}`; `auto` takes `lee` for what was not
    filtered before, null leaves all as it is."""
    classes: tuple[LegendClass, ...] = ()
    """The legend; empty takes the classes that the labels hold."""
    class_column: str | None = None
    """Column of label polygons that holds the class; None looks for the usual names."""
    shrink_labels_m: float = Field(default=0.0, ge=0)
    """Metres that are taken from the edges of label polygons, where pixels are mixed."""
    label_width_m: float = Field(default=0.0, ge=0)
    """Metres that label lines, points and scribbles are wide; they label at least the pixels that they pass."""
    label_order: str | None = None
    """Column of numbers or dates: where labels overlap, the greater one wins; None leaves it to the later in the file."""
    label_classes: dict[int | str, int | str | None] = Field(default_factory=dict)
    """What the labels say → the name or code of its class, such as `{10: forest, 20: forest, unsure: null}`; null is no label."""

    seed: int = 0
    hold_mb: float = 1024
    """Megabytes of scenes that are kept in memory; the others are read window by window."""
    retile: Path | None = None
    """Folder where those others are copied once into small blocks that are quick to read, and found again by later trainings; pays after
    some hundred windows of a scene."""

    @property
    def label_rules(self) -> LabelRules:
        """How labels become pixels."""
        return LabelRules(self.shrink_labels_m, self.label_width_m, self.label_order, self.label_classes)
