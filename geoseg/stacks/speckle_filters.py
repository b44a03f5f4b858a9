"""Which filter against speckle, and which radar scenes it may take together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import BandError, InputError, SceneError
from geoseg.preprocess.speckle import SpeckleFilter, despeckle, quegan, window_size
from geoseg.scene import Scene

DespeckleMethod = Literal["quegan", "boxcar", "lee", "refined_lee", "gamma_map"]
_QUEGAN_SIZE = 7
_WITHOUT_LOOKS = ("quegan", "boxcar")


@dataclass(frozen=True)
class Filter:
    """A filter against speckle with all that it needs to know; call it with dates of one place."""

    method: DespeckleMethod
    size: int
    """Width of the window in pixels."""
    looks: float | None
    """Equivalent number of looks; None where the filter does not ask for it."""
    looks_known: bool = True
    """Whether somebody said the looks."""

    @classmethod
    def of(cls, method: DespeckleMethod, size: int | None, looks: float | None) -> Filter:
        """The filter with its usual window and one look, where nothing else is said; InputError for what it cannot take."""
        if looks is not None and method in _WITHOUT_LOOKS:
            raise InputError(f"--looks was given, but {method} takes plain means and asks for no looks; leave --looks out")
        if looks is not None and not 0 < looks < float("inf"):
            raise InputError(f"--looks is {looks:g}; expected a number above 0, such as 4.4 for Sentinel-1 IW GRD in high resolution")
        try:
            width = window_size("boxcar", size or _QUEGAN_SIZE) if method == "quegan" else window_size(method, size)
        except ValueError as error:
            raise InputError(f"--size {size}: {error}") from error
        return cls(method, width, None if method in _WITHOUT_LOOKS else looks or 1.0, looks is not None)

    @property
    def takes_all_dates(self) -> bool:
        """Whether the dates have a say in one another."""
        return self.method == "quegan"

    @property
    def reach(self) -> int:
        """Pixels around a window that it must see so that the window comes out as in the whole scene."""
        return self.size // 2

    def __str__(self) -> str:
        looks = f", {self.looks:g} looks" if self.looks is not None else ""
        return f"{self.method} ({self.size} x {self.size} pixels{looks})"

    def __call__(self, power: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[np.float32]:
        """(time, row, col) linear power with less speckle, 0 where not `valid`."""
        if self.method == "quegan":
            return quegan(power, valid, size=self.size)
        single: SpeckleFilter = self.method
        filtered = [
            despeckle(plane, seen, single, size=self.size, looks=self.looks or 1.0) for plane, seen in zip(power, valid, strict=True)
        ]
        return np.stack(filtered)

    def warnings(self) -> Iterator[str]:
        """What the user should know of the choice."""
        if self.looks is not None and not self.looks_known:
            yield (
                f"{self.method} was told no number of looks and takes 1, which smooths most; say it with --looks, "
                "such as 4.4 for Sentinel-1 IW GRD in high resolution"
            )


def radar_roles(scenes: Sequence[Scene], only: Sequence[str] = ()) -> tuple[str, ...]:
    """The polarisations to filter: those named in `only`, or all that the scenes have; BandError where they differ or there are none."""
    found = [tuple(layer.band.role for layer in scene.layers if layer.band.kind == "radar" and not layer.added) for scene in scenes]
    for scene, roles in zip(scenes, found, strict=True):
        if not roles:
            raise BandError(
                f"{scene.source} ({scene.sensor.title}) has {', '.join(scene.roles)} and no radar backscatter, which alone has speckle; "
                "give radar scenes, or say with --bands which band is vv, vh, hh or hv"
            )
        if strange := [role for role in only if role not in roles]:
            raise BandError(f"--only names {strange[0]!r}; the radar bands of {scene.source} are {', '.join(roles)}")
        if not only and set(roles) != set(found[0]):
            shared = [role for role in found[0] if role in roles]
            advice = f"take those that all have with --only {','.join(shared)}" if shared else "give scenes of one polarisation"
            raise BandError(f"{scene.source} has {', '.join(roles)}; {scenes[0].source} has {', '.join(found[0])}: {advice}")
    return tuple(only) or found[0]


def check_together(scenes: Sequence[Scene]) -> list[str]:
    """What the user should know before these dates are filtered together; SceneError where they are too few or of several sensors."""
    if len(scenes) < 2:
        raise SceneError(
            f"quegan shares what several dates show, and only {scenes[0].source} was given; "
            "give two scenes of one place or more, or choose --method refined_lee"
        )
    for scene in scenes[1:]:
        if scene.sensor.name != scenes[0].sensor.name:
            raise SceneError(
                f"{scene.source} is {scene.sensor.name} and {scenes[0].source} is {scenes[0].sensor.name}; "
                "quegan takes dates of one sensor and processing: filter each kind by itself"
            )
    passes = {scene.orbit_pass: scene for scene in scenes if scene.orbit_pass}
    if len(passes) < 2:
        return []
    named = ", ".join(f"{scene.source} {word}" for word, scene in passes.items())
    return [f"the scenes are of both orbit passes ({named}), which see slopes and edges from two sides: filter each pass by itself"]


def result_names(scenes: Sequence[Scene], method: str) -> list[str]:
    """The names of the results without extension, each once; scenes of one name are told apart by their time, or InputError."""
    plain = [scene.name for scene in scenes]
    names = [
        f"{name}_{scene.time:%Y%m%dT%H%M%S}" if plain.count(name) > 1 and scene.time else name
        for name, scene in zip(plain, scenes, strict=True)
    ]
    if twice := [scene.name for scene, name in zip(scenes, names, strict=True) if names.count(name) > 1]:
        raise InputError(f"two scenes of this command are called {twice[0]}; say their days with --dates, or give each scene once")
    return [f"{name}_{method}" for name in names]
