"""What one scene saw of a window: physical values, and where they are clear; and what the scenes of a stack have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from math import ceil

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from geoseg.errors import BandError, InputError, SceneError
from geoseg.io.geotiff import Resampling
from geoseg.layers.masks import MASK, mask_roles, scene_reasons
from geoseg.preprocess.optical import physical_values
from geoseg.preprocess.quality import DEFAULT_MASK_CLASSES, REASON_OF, Reason, grow_reasons
from geoseg.preprocess.sar import to_decibels, to_power
from geoseg.raster import Raster
from geoseg.scene import Scene, read_scene
from geoseg.sensors import Band, QualityClass
from geoseg.stacks.grids import reach_in_pixels, touches
from geoseg.stacks.periods import by_time

_LARGEST = 1e18
"""No quantity of the Earth is this large; a nodata value that a file forgot to declare is."""
_MOST_GROWN_PIXELS = 1024
_POWER_UNITS = ("linear power", "dB", "amplitude")


@dataclass(frozen=True)
class Masking:
    """What is not clear."""

    classes: tuple[QualityClass, ...] = DEFAULT_MASK_CLASSES
    """What the scenes' quality layers take out."""
    grow_m: float = 0.0
    """Masked ground is grown by this many metres."""

    def __post_init__(self) -> None:
        if not 0 <= self.grow_m < float("inf"):
            raise InputError(f"--mask-grow-m is {self.grow_m}; expected 0 or more")
        if unknown := [name for name in self.classes if name not in REASON_OF]:
            raise InputError(f"--mask-classes names {unknown[0]!r}; expected some of {', '.join(REASON_OF)}, or none")


@dataclass(frozen=True)
class Stack:
    """Scenes that show the same bands, by time. Holds no pixels."""

    scenes: tuple[Scene, ...]
    """The earliest first."""
    times: tuple[datetime, ...]
    bands: tuple[Band, ...]
    """What they have in common, in physical values: scale 1, offset 0; radar in decibels or linear power."""
    grids: tuple[GeoBox, ...]
    """Each scene's own: that of the finest of these bands."""
    masking: Masking = field(default_factory=Masking)

    @classmethod
    def of(cls, scenes: Sequence[Scene], only: Sequence[str] = (), masking: Masking | None = None) -> Stack:
        """The stack of these scenes in any order, with these roles, or all that change with time. Raises as `common_bands`, `by_time`."""
        timed = by_time(scenes)
        ordered = tuple(scene for _, scene in timed)
        bands = common_bands(ordered, only)
        roles = [band.role for band in bands]
        grids = tuple(scene.geobox(roles) for scene in ordered)
        return cls(ordered, tuple(time for time, _ in timed), bands, grids, masking or Masking())

    @property
    def roles(self) -> tuple[str, ...]:
        """The bands' roles, in order."""
        return tuple(band.role for band in self.bands)

    def during(self, holds: Sequence[bool]) -> Stack:
        """The scenes for which `holds` is True."""
        kept = [at for at, yes in enumerate(holds) if yes]
        return replace(
            self,
            scenes=tuple(self.scenes[at] for at in kept),
            times=tuple(self.times[at] for at in kept),
            grids=tuple(self.grids[at] for at in kept),
        )

    def observe(
        self, window: GeoBox, whole: GeoBox, bands: Sequence[Band] | None = None, *, resampling: Resampling = "auto"
    ) -> Observations:
        """What all scenes saw of a window of the grid `whole`, in some of the bands."""
        asked = self.bands if bands is None else tuple(bands)
        values = np.zeros((len(self.scenes), len(asked), *window.shape), np.float32)
        reasons = np.full((len(self.scenes), *window.shape), Reason.OUTSIDE, np.uint8)
        reach = reach_in_pixels(self.masking.grow_m, window, whole)
        for scene, grid, plane, reason in zip(self.scenes, self.grids, values, reasons, strict=True):
            if touches(grid, window):
                plane[:], reason[:] = _look(scene, asked, window, self.masking.classes, reach, resampling)
        return Observations(values, reasons)


@dataclass(frozen=True)
class Observations:
    """A window as several scenes saw it."""

    values: NDArray[np.float32]
    """(time, band, row, col) physical values, radar in linear power; meaningless where not clear."""
    reasons: NDArray[np.uint8]
    """(time, row, col) of `Reason`."""

    @property
    def clear(self) -> NDArray[np.bool_]:
        """(time, row, col) True where all bands have data and nothing masks them."""
        return np.asarray(self.reasons == Reason.OBSERVED)


def common_bands(scenes: Sequence[Scene], only: Sequence[str] = ()) -> tuple[Band, ...]:
    """The bands that all scenes have, in physical values; those named in `only`, or all that change with time.

    Raises BandError where the scenes have different bands and none are named, where one lacks a band that is, and where a band has
    another unit or radar convention in one scene than in another.
    """
    first = scenes[0]
    roles = tuple(only) or tuple(layer.band.role for layer in first.layers if _changes(layer.band))
    if not roles:
        raise BandError(f"{first.source} has no band that changes with time; it has {', '.join(first.roles)}")
    for scene in scenes[1:]:
        theirs = {layer.band.role for layer in scene.layers if _changes(layer.band)}
        if not only and theirs != set(roles):
            shared = [role for role in roles if role in theirs]
            advice = f"take those that all have with --only {','.join(shared)}" if shared else "give scenes of one sensor"
            raise BandError(
                f"{scene.source} ({scene.sensor.name}) has {', '.join(sorted(theirs))}; {first.source} ({first.sensor.name}) has "
                f"{', '.join(sorted(roles))}: {advice}"
            )
    return tuple(_common_band(role, scenes) for role in roles)


def stored_again(values: NDArray[np.float32], bands: Sequence[Band]) -> NDArray[np.float32]:
    """(band, row, col) physical values with radar from linear power to what its band says: decibels last."""
    for plane, band in zip(values, bands, strict=True):
        if band.unit == "dB":
            plane[:] = to_decibels(plane)
    return values


# ---------------------------------------------------------------- below: one band, one scene


def _changes(band: Band) -> bool:
    """Whether a band shows the ground at a moment: no terrain, no quality layer, no count."""
    return band.kind != "elevation" and band.unit not in ("class", "count") and not band.role.startswith(("quality", MASK))


def _common_band(role: str, scenes: Sequence[Scene]) -> Band:
    found = [(scene, scene.layer(role).band) for scene in scenes]
    first_scene, first = found[0]
    for scene, band in found[1:]:
        both_radar = band.unit in _POWER_UNITS and first.unit in _POWER_UNITS
        if (band.unit != first.unit and not both_radar) or band.convention != first.convention:
            raise BandError(
                f"{role} is {_meaning(first)} in {first_scene.source} and {_meaning(band)} in {scene.source}; "
                "give scenes of one kind, or say what their numbers mean with --unit or --scale"
            )
    if first.kind == "radar" and first.unit not in _POWER_UNITS:
        raise BandError(
            f"{role} of {first_scene.source} is in unit {first.unit!r}; say what its numbers are with --unit dB or --unit 'linear power'"
        )
    unit = first.unit
    if unit in _POWER_UNITS:
        unit = "dB" if any(band.unit == "dB" for _, band in found) else "linear power"
    noise_removed = first.noise_removed if len({band.noise_removed for _, band in found}) == 1 else None
    despeckled = next((band.despeckled for _, band in found if band.despeckled), None)
    return replace(
        first, scale=1.0, offset=0.0, nodata=None, encoding="linear", unit=unit, noise_removed=noise_removed, despeckled=despeckled
    )


def _meaning(band: Band) -> str:
    return f"in {band.unit}" + (f" ({band.convention})" if band.convention else "")


def _look(
    scene: Scene,
    bands: Sequence[Band],
    window: GeoBox,
    classes: tuple[QualityClass, ...],
    reach: tuple[float, float],
    resampling: Resampling,
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Values (band, row, col) and reasons (row, col) of one scene, masked as `predict` masks it."""
    roles, masks = [band.role for band in bands], mask_roles(scene, classes)
    grown = bool(masks) and any(reach)
    raster = read_scene(scene, [*roles, *(() if grown else masks)], window, resampling=resampling)
    reasons = _grown(scene, masks, window, classes, reach) if grown else scene_reasons(raster, scene, classes) if masks else None
    values = np.stack([physical_plane(raster, role) for role in roles])
    seen = raster.select(*roles).valid_everywhere & (np.abs(values) < _LARGEST).all(axis=0)  # False for NaN
    if reasons is None:
        reasons = np.full(window.shape, Reason.OBSERVED, np.uint8)
    reasons = np.where(seen, reasons, Reason.NO_DATA).astype(np.uint8)
    if not seen.all():
        reasons[~seen & ~scene.layer(roles[0]).footprint(window)] = Reason.OUTSIDE
    return values, reasons


def physical_plane(raster: Raster, role: str) -> NDArray[np.float32]:
    """(row, col) of one band; radar in linear power, 0 where not valid."""
    at = raster.index(role)
    band = raster.bands[at]
    with np.errstate(all="ignore"):  # what is not valid may overflow
        values = physical_values(raster.values[at], band)
        values = to_power(values) if band.unit == "dB" else np.square(values) if band.unit == "amplitude" else values
    return np.where(raster.valid[at], values, np.float32(0))


def _grown(
    scene: Scene, masks: Sequence[str], window: GeoBox, classes: tuple[QualityClass, ...], reach: tuple[float, float]
) -> NDArray[np.uint8]:
    """(row, col) reasons of a window in which masked ground is grown, also from beyond its edge."""
    margin = ceil(max(reach))
    if margin > _MOST_GROWN_PIXELS:
        raise InputError(
            f"masked ground would grow by {margin} pixels; expected at most {_MOST_GROWN_PIXELS}: choose a smaller --mask-grow-m"
        )
    rows, cols = window.shape
    wide = GeoBox((rows + 2 * margin, cols + 2 * margin), window.affine @ Affine.translation(-margin, -margin), window.crs)
    reasons = grow_reasons(scene_reasons(read_scene(scene, masks, wide), scene, classes), reach)
    return reasons[margin : margin + rows, margin : margin + cols]


def check_any(scenes: Sequence[Scene]) -> None:
    """Raise SceneError where there is no scene at all."""
    if not scenes:
        raise SceneError("no scene was given; name the scenes of one place")
