"""C-correction: reflectance as it would be on flat ground.

Teillet, Guindon & Goodenough (1982), "On the slope-aspect correction of multispectral scanner data", Canadian Journal of Remote
Sensing 8(2): over a scene, a band's reflectance rises with the illumination i (cosine of the local solar incidence angle) as b + m i.
With c = b / m, which stands for the light of the sky, and the illumination i0 of flat ground, what is seen on a slope becomes

    flat = slope x (i0 + c) / (i + c)

c = 0 is the cosine correction, which brightens steep shaded slopes far too much; with c without bounds nothing changes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

ILLUMINATION = "illumination"
"""Role of the layer that the correction reads."""

_FEWEST_PIXELS = 200
"""A line through fewer pixels than these says little of a scene."""
_ROUNDING = 1e-13
"""Correlation below which a rise is what rounding makes of a level line."""


class TerrainCorrection(BaseModel):
    """Bands in reflectance are corrected for the slope of the ground before anything else is made of them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: Literal["c"] = "c"
    min_illumination: float = Field(default=0.1, ge=0.0, lt=1.0, allow_inf_nan=False)
    """Darker slopes count as lit so: they lie in shadow, of whose light the method knows nothing."""

    @model_validator(mode="before")
    @classmethod
    def _from_a_word(cls, data: Any) -> Any:
        """The method's name alone will do."""
        return {"method": data} if isinstance(data, str) else data


@dataclass(frozen=True)
class FittedCorrection:
    """A correction with what it takes from one scene; the same for all of its windows."""

    flat_illumination: float
    """Cosine of the sun's zenith angle: how flat ground is lit."""
    c: Mapping[str, float]
    """Role → c, 0 or more; infinite where the band does not grow brighter with the light, and stays as it is."""
    min_illumination: float

    def factor(self, role: str, illumination: NDArray[np.float32]) -> NDArray[np.float32]:
        """What reflectance on a slope is multiplied by, of any shape; exactly 1 on flat ground."""
        return c_factor(illumination, self.flat_illumination, self.c[role], self.min_illumination)

    def facts(self) -> dict[str, object]:
        """For records; None stands for an infinite c."""
        by_band = {role: (value if np.isfinite(value) else None) for role, value in self.c.items()}
        return {"method": "c", "c": by_band, "flat_illumination": self.flat_illumination, "min_illumination": self.min_illumination}


def c_factor(illumination: NDArray[np.float32], flat_illumination: float, c: float, min_illumination: float) -> NDArray[np.float32]:
    """(flat_illumination + c) / (illumination + c), the illumination at least `min_illumination`; 1 where c is infinite."""
    if not np.isfinite(c):
        return np.ones_like(illumination)
    lit = np.maximum(illumination, np.float32(min(min_illumination, flat_illumination)))
    factor: NDArray[np.float32] = (np.float32(flat_illumination) + np.float32(c)) / (lit + np.float32(c))
    return factor


def fit_c(reflectance: NDArray[np.floating], illumination: NDArray[np.floating], min_illumination: float) -> float:
    """c of one band from pixels (pixel,): intercept over slope of the least-squares line of reflectance on illumination.

    Pixels below `min_illumination` have no say. At least 0: a negative c would divide by nothing somewhere. Infinite where the band
    does not grow brighter with the light, or there are too few pixels to tell.
    """
    lit = illumination >= min_illumination
    x, y = illumination[lit].astype(np.float64), reflectance[lit].astype(np.float64)
    if x.size < _FEWEST_PIXELS:
        return float("inf")
    spread = x - x.mean()
    variance, rise = float(spread @ spread), float(spread @ (y - y.mean()))
    if variance == 0 or rise <= _ROUNDING * math.sqrt(variance * float(y @ y)):
        return float("inf")
    slope = rise / variance
    return max(0.0, float(y.mean() - slope * x.mean()) / slope)
