"""Cloud-free inputs from many scenes: for each period one raster of what was clear, and how often."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from geoseg.errors import SceneError
from geoseg.io.blocks import BlockWriter
from geoseg.io.cog import write_cog
from geoseg.io.opening import files_kept_open, gdal_env
from geoseg.io.staging import Staging, check_free, move_results
from geoseg.layers.masks import mask_roles
from geoseg.preprocess.quality import DEFAULT_MASK_CLASSES, Reason
from geoseg.scene import Scene
from geoseg.scenes.composites import OBSERVATIONS, composite_tags
from geoseg.sensors import SENSORS, Band, QualityClass, Sensor
from geoseg.stacks.grids import common_grid, lay_blocks, lay_strips
from geoseg.stacks.item import attribution, input_facts, write_composite_item
from geoseg.stacks.methods import Method, check_method, combine
from geoseg.stacks.observe import Masking, Stack, check_any, stored_again
from geoseg.stacks.periods import Period, find_periods, said_days

Progress = Callable[[int, int], None]
"""Called with the finished and with all windows."""

_BUDGET_BYTES = 256 << 20
"""What the observations of a window take at most; windows get smaller the more scenes and bands there are."""
_READING_CACHE_MB = 80
_SCALE, _OFFSET = 1e-4, -0.1
"""Reflectance is stored as Sentinel-2 stores it since 2022: (number - 1000) / 10000, from 1; 0 is nodata."""
_RAISED = 1000


@dataclass(frozen=True)
class CompositeOptions:
    """What the user may choose of composites."""

    period: str = "month"
    """`month`, or days such as `2021-05-01/2021-06-15`."""
    method: Method = "median"
    only: tuple[str, ...] = ()
    """Roles of the bands; empty takes all that change with time."""
    name: str = "composite"
    """What the files' names begin with."""
    mask_classes: tuple[QualityClass, ...] = DEFAULT_MASK_CLASSES
    mask_grow_m: float = 0.0
    like: str | None = None
    """Raster file whose grid the composites shall have."""
    crs: str | None = None
    """None keeps that of the earliest scene."""
    resolution: float | None = None
    """Pixel size in units of the CRS; None keeps that of the earliest scene's finest band."""


@dataclass(frozen=True)
class Composite:
    """A finished composite: where its files lie, and what it says in sum."""

    period: Period
    files: dict[str, Path]
    """`data`: the raster; `item`: what it was made from."""
    summary: dict[str, Any]
    """Scenes, share of pixels with a clear observation, mean number of these, clear share of each scene."""
    warnings: tuple[str, ...] = field(default=())


def composite(
    scenes: Sequence[Scene],
    out: Path,
    *,
    options: CompositeOptions | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> tuple[Composite, ...]:
    """One composite for each period, written into the folder `out`: all of them or, after an error, none.

    A pixel takes in the observations in which all of the bands have data and nothing is masked; with none it is nodata. The order
    of `scenes` does not matter. A period in which nothing is clear is left out with a warning, where others have something. Raises
    InputError and its kinds where scenes and options do not fit or nothing is clear at all, and OutputError.

    >>> scenes = [geoseg.open_scene(day) for day in ("scene_2021-03-10.tif", "scene_2021-04-12.tif")]
    >>> [made.period.name for made in geoseg.composite(scenes, Path("months"))]
    ['2021-03', '2021-04']
    """
    asked = options or CompositeOptions()
    check_any(scenes)
    masking = Masking(asked.mask_classes, asked.mask_grow_m)
    stack = Stack.of(scenes, asked.only, masking)
    check_method(asked.method, stack.bands)
    geobox = common_grid(stack.grids, [scene.source for scene in stack.scenes], like=asked.like, crs=asked.crs, resolution=asked.resolution)
    periods = find_periods(asked.period, stack.scenes)
    warnings = [*_left_out(stack, periods), *_unmasked(stack, masking), *_two_passes(stack)]
    members = [stack.during([period.holds(time) for time in stack.times]) for period in periods]
    jobs = [
        _Job(member, period, geobox, asked, f"{asked.name}_{period.name}")
        for member, period in zip(members, periods, strict=True)
        if member.scenes
    ]
    if not jobs:
        raise SceneError(f"no scene lies in the period {asked.period}; they are of {said_days(stack.scenes)}: choose another --period")
    check_free(out, [name for job in jobs for name in job.files.values()], overwrite=overwrite)
    blocks = sum(1 for job in jobs for _ in job.blocks())
    done = 0

    def told() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, blocks)

    with Staging(out) as folder:
        made = [(job, summary) for job in jobs if (summary := job.run(folder / "parts", folder / "done", told))["observed_share"] > 0]
        if not made:
            raise SceneError(f"no pixel is clear in any scene: {_figures(jobs)}; add scenes, or mask less with --mask-classes")
        bare = [job for job in jobs if job.nothing]
        warnings += [f"{job.period.name} is left out, since no pixel is clear in any scene: {_figures([job])}" for job in bare]
        for job, summary in made:
            job.write_item(folder / "done", summary)
        move_results(folder / "done", out, last=made[-1][0].files["item"])
    return tuple(
        Composite(job.period, {what: out / name for what, name in job.files.items()}, summary, tuple(warnings) if at == 0 else ())
        for at, (job, summary) in enumerate(made)
    )


# ---------------------------------------------------------------- below: one period


class _Job:
    """The composite of one period."""

    def __init__(self, stack: Stack, period: Period, geobox: GeoBox, options: CompositeOptions, name: str) -> None:
        self.stack, self.period, self._geobox, self._options = stack, period, geobox, options
        self.files = {"data": f"{name}.tif", "item": f"{name}.json"}
        self._bands = (*stack.bands, Band(OBSERVATIONS, OBSERVATIONS, unit="count"))
        self._as_integers = all(band.unit == "reflectance" for band in stack.bands)
        self._planes = len(stack.scenes) * (2 * len(stack.bands) + 4)
        """Numbers of 4 bytes that the observations of a pixel take, with what is held beside them."""
        self.seen = np.zeros((len(stack.scenes), 2), np.int64)
        """(scene, 2) pixels that are clear, and that the scene covers."""
        self.nothing = False

    def blocks(self) -> list[tuple[slice, slice]]:
        return list(lay_blocks(self._geobox.shape.yx, self._planes, _BUDGET_BYTES))

    def run(self, parts: Path, done: Path, told: Callable[[], None]) -> dict[str, Any]:
        """Write the raster into the folder `done` and sum it up; nothing is left there where no pixel is clear."""
        counts = np.zeros(len(self.stack.scenes) + 1, np.int64)
        part = parts / self.files["data"]
        with gdal_env(_READING_CACHE_MB), files_kept_open(), BlockWriter(part, self._geobox, **self._profile()) as writer:
            for rows, cols in self.blocks():
                values, observations = self._window(self._geobox[rows, cols])
                counts += np.bincount(observations.ravel(), minlength=len(counts))
                writer.write(rows, cols, self._stored(values, observations))
                told()
        pixels, clear = int(counts.sum()), int(counts[1:].sum())
        self.nothing = clear == 0
        if not self.nothing:
            write_cog(part, done / self.files["data"], kind="continuous")
        part.unlink()
        return {
            "scenes": len(self.stack.scenes),
            "observed_share": clear / pixels,
            "observations_mean": float((counts * np.arange(len(counts))).sum() / max(clear, 1)),
            "clear_share_of_scene": [float(seen / max(covered, 1)) for seen, covered in self.seen],
            "rows": self._geobox.shape[0],
            "cols": self._geobox.shape[1],
        }

    def write_item(self, folder: Path, summary: dict[str, Any]) -> None:
        facts = {
            "method": self._options.method,
            "options": asdict(self._options),
            "masked": list(self._options.mask_classes),
            "inputs": [input_facts(scene) for scene in self.stack.scenes],
            "summary": summary,
        }
        write_composite_item(
            folder / self.files["item"], folder / self.files["data"], geobox=self._geobox, period=self.period,
            scenes=self.stack.scenes, bands=self._bands, facts=facts,
        )  # fmt: skip

    def _window(self, window: GeoBox) -> tuple[NDArray[np.float32], NDArray[np.uint16]]:
        """(band, row, col) values and (row, col) number of observations, some rows at a time where there are many scenes."""
        values = np.zeros((len(self.stack.bands), *window.shape), np.float32)
        observations = np.zeros(window.shape, np.uint16)
        for rows in lay_strips(window.shape.yx, self._planes, _BUDGET_BYTES):
            seen = self.stack.observe(window[rows, :], self._geobox)
            clear = seen.clear
            values[:, rows] = stored_again(combine(seen.values, clear, self.stack.bands, self._options.method), self.stack.bands)
            observations[rows] = clear.sum(axis=0)
            covered = (seen.reasons != Reason.OUTSIDE) & (seen.reasons != Reason.OUTSIDE_AREA)
            self.seen += np.stack([clear.sum(axis=(1, 2)), covered.sum(axis=(1, 2))], axis=1)
        return values, observations

    def _stored(self, values: NDArray[np.float32], observations: NDArray[np.uint16]) -> NDArray[Any]:
        """(band, row, col) as the file holds them, the number of observations last."""
        observed = observations > 0
        if self._as_integers:
            whole = np.clip(np.rint(values / np.float32(_SCALE)) + _RAISED, 1, np.iinfo(np.uint16).max)
            return np.concatenate([np.where(observed, whole, 0).astype(np.uint16), observations[np.newaxis]])
        return np.concatenate([np.where(observed, values, np.float32(np.nan)), observations[np.newaxis].astype(np.float32)])

    def _profile(self) -> dict[str, Any]:
        """What `BlockWriter` needs to know."""
        measured = len(self.stack.bands)
        sensor = _sensor(self.stack)
        scale, offset = (_SCALE, _OFFSET) if self._as_integers else (1.0, 0.0)
        return {
            "count": len(self._bands),
            "dtype": np.uint16 if self._as_integers else np.float32,
            "nodata": 0 if self._as_integers else np.nan,
            "descriptions": [band.role for band in self._bands],
            "scales": [scale] * measured + [1.0],
            "offsets": [offset] * measured + [0.0],
            "units": [band.unit for band in self._bands],
            "wavelengths_um": [band.wavelength_um for band in self._bands],
            "tags": composite_tags(sensor, self._bands, self.period.middle)
            | {"GEOSEG_METHOD": self._options.method, "ATTRIBUTION": attribution(self.stack.scenes)},
        }


def _sensor(stack: Stack) -> Sensor:
    """The sensor of all scenes; `generic` where there are several."""
    names = {scene.sensor.name for scene in stack.scenes}
    return SENSORS[names.pop()] if len(names) == 1 else SENSORS["generic"]


def _left_out(stack: Stack, periods: Sequence[Period]) -> list[str]:
    outside = [scene for scene, time in zip(stack.scenes, stack.times, strict=True) if not any(period.holds(time) for period in periods)]
    if not outside or len(outside) == len(stack.scenes):
        return []
    named = ", ".join(f"{scene.name} ({scene.time:%Y-%m-%d})" for scene in outside)
    return [f"{len(outside)} of {len(stack.scenes)} scenes lie outside {periods[0].name} and are left out: {named}"]


def _unmasked(stack: Stack, masking: Masking) -> list[str]:
    bare = [scene.name for scene in stack.scenes if scene.sensor.kind == "optical" and not mask_roles(scene, masking.classes)]
    if not bare:
        return []
    why = "nothing is masked" if not masking.classes else "there is no quality layer or mask"
    return [f"{why} in {len(bare)} of {len(stack.scenes)} scenes, so that clouds count as clear ground there: {', '.join(bare[:5])}"]


def _two_passes(stack: Stack) -> list[str]:
    if not {"ascending", "descending"} <= {scene.orbit_pass for scene in stack.scenes}:
        return []
    return ["radar of ascending and descending passes is mixed: slopes look different from the two sides; give one pass for a purer signal"]


def _figures(jobs: Sequence[_Job]) -> str:
    """The clear share of each scene, as a message lists them."""
    shares = [
        f"{scene.name} {100 * clear / max(covered, 1):.1f} % of {covered} pixels"
        for job in jobs
        for scene, (clear, covered) in zip(job.stack.scenes, job.seen.tolist(), strict=True)
    ]
    return ", ".join(shares[:8]) + (", …" if len(shares) > 8 else "")
