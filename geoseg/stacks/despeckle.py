"""Radar scenes with less speckle: one filtered raster for each, from its own pixels or with what all dates show."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
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
from geoseg.layers.masks import mask_roles, scene_reasons
from geoseg.preprocess.quality import DEFAULT_MASK_CLASSES, Reason
from geoseg.scene import Scene, read_scene
from geoseg.scenes.composites import composite_tags
from geoseg.sensors import Band, QualityClass
from geoseg.stacks.grids import common_grid, lay_blocks, touches
from geoseg.stacks.item import attribution, input_facts, write_despeckled_item
from geoseg.stacks.observe import check_any, common_bands, physical_plane
from geoseg.stacks.periods import by_time
from geoseg.stacks.speckle_filters import DespeckleMethod, Filter, check_together, radar_roles, result_names

Progress = Callable[[int, int], None]
"""Called with the finished and with all windows."""

_BUDGET_BYTES = 256 << 20
"""What the dates of a window take at most, unless 512 x 512 pixels of all dates take more; windows get smaller the more dates there are."""
_READING_CACHE_MB = 80
_LARGEST = 1e18
"""No backscatter is this large; a nodata value that a file forgot to declare is."""
_ANGLES = ("incidence_angle", "local_incidence_angle")

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class DespeckleOptions:
    """What the user may choose."""

    method: DespeckleMethod | None = None
    """None takes `quegan` for two scenes or more, and `refined_lee` for one."""
    size: int | None = None
    """Width of the window in pixels, odd; None takes the method's usual one."""
    looks: float | None = None
    """Equivalent number of looks, for the filters that ask for it; None takes 1."""
    only: tuple[str, ...] = ()
    """Polarisations, such as `vv`; empty takes all that the scenes have."""
    mask_classes: tuple[QualityClass, ...] = DEFAULT_MASK_CLASSES
    """What of the scenes' quality layers counts as no data."""
    like: str | None = None
    """Raster file whose grid the results shall have."""
    crs: str | None = None
    resolution: float | None = None
    """Pixel size in units of the CRS. Where nothing is said, `quegan` takes the first scene's grid and the others each scene's own."""


@dataclass(frozen=True)
class Despeckled:
    """A filtered scene: where its files lie, and what it says in sum."""

    name: str
    files: dict[str, Path]
    """`data`: the raster; `item`: what it was made from."""
    summary: dict[str, Any]
    """Method, window, looks, size; for each band its valid share and its mean power before and after."""
    warnings: tuple[str, ...] = ()


def despeckle_scenes(
    scenes: Sequence[Scene],
    out: Path,
    *,
    options: DespeckleOptions | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> tuple[Despeckled, ...]:
    """A filtered raster in linear power for each scene, in their order, in the folder `out`: all of them or, after an error, none.

    A pixel takes part on the dates on which its own polarisation has data and nothing masks it, and is nodata on the others. Angles of
    incidence are kept as they are. Raises InputError and its kinds where scenes and options do not fit, and OutputError.
    """
    asked = options or DespeckleOptions()
    check_any(scenes)
    chosen = Filter.of(asked.method or ("quegan" if len(scenes) > 1 else "refined_lee"), asked.size, asked.looks)
    names = result_names(scenes, chosen.method)
    groups = [slice(None)] if chosen.takes_all_dates else [slice(at, at + 1) for at in range(len(scenes))]
    warnings = [*chosen.warnings(), *(check_together(scenes) if chosen.takes_all_dates else ())]
    jobs = [_Job(scenes[group], names[group], chosen, asked) for group in groups]
    check_free(out, [f"{name}.{kind}" for name in names for kind in ("tif", "json")], overwrite=overwrite)
    windows = sum(1 for job in jobs for _ in job.windows())
    done = 0

    def told() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, windows)

    with Staging(out) as folder:
        made = [result for job in jobs for result in job.run(folder / "parts", folder / "done", out, told)]
        move_results(folder / "done", out, last=f"{names[-1]}.json")
    made[0] = replace(made[0], warnings=(*warnings, *made[0].warnings))
    return tuple(made)


# ---------------------------------------------------------------- below: scenes that are filtered together


class _Job:
    """The scenes whose pixels have a say in one another's results: all dates, or a single scene."""

    def __init__(self, scenes: Sequence[Scene], names: Sequence[str], chosen: Filter, options: DespeckleOptions) -> None:
        self._scenes, self._names, self._filter, self._options = scenes, names, chosen, options
        self._bands = common_bands(scenes, radar_roles(scenes, options.only))
        self._roles = [band.role for band in self._bands]
        self._grids = [scene.geobox(self._roles) for scene in scenes]
        self._grid = common_grid(self._grids[:1], [scenes[0].source], like=options.like, crs=options.crs, resolution=options.resolution)
        for scene, grid in zip(scenes, self._grids, strict=True):
            if not touches(grid, self._grid):
                raise SceneError(f"{scene.source} does not overlap {options.like or scenes[0].source}; give scenes of one place")
        self._order = [list(scenes).index(scene) for _, scene in by_time(scenes)] if chosen.takes_all_dates else [0]
        """The earliest first, so that the order in which scenes are given does not change a single bit."""
        self._sums = np.zeros((len(scenes), len(self._bands), 3))
        """(scene, band, 3) number of valid pixels, their power before and after."""
        self._shared = 0
        """Valid pixels of any date, counted once for each date that they share."""

    def windows(self) -> list[tuple[slice, slice]]:
        """Rows and columns of the grid that are filtered at a time."""
        planes = len(self._scenes) * (2 * len(self._bands) + len(_ANGLES) + 1)
        return list(lay_blocks(self._grid.shape.yx, planes, _BUDGET_BYTES))

    def run(self, parts: Path, done: Path, out: Path, told: Callable[[], None]) -> list[Despeckled]:
        """Write the rasters and their Items into the folder `done`, and sum them up; they will lie in `out`."""
        files = [f"{name}.tif" for name in self._names]
        with gdal_env(_READING_CACHE_MB), files_kept_open(), ExitStack() as writing:
            writers = [
                writing.enter_context(BlockWriter(parts / file, self._grid, **self._profile(scene)))
                for file, scene in zip(files, self._scenes, strict=True)
            ]
            for rows, cols in self.windows():
                for writer, planes in zip(writers, self._filtered(rows, cols), strict=True):
                    writer.write(rows, cols, planes)
                told()
        for file in files:
            write_cog(parts / file, done / file, kind="continuous")
            (parts / file).unlink()
        return [self._result(at, done, out) for at in range(len(self._scenes))]

    def _filtered(self, rows: slice, cols: slice) -> list[Floats]:
        """For each scene the (band, row, col) of a window as its file holds it; NaN where there is no data."""
        reach = self._filter.reach
        window, wide = self._grid[rows, cols], _grown(self._grid, rows, cols, reach)
        inner = np.s_[:, reach : reach + window.shape[0], reach : reach + window.shape[1]]
        results = [np.full((len(self._layout(scene)), *window.shape), np.nan, np.float32) for scene in self._scenes]
        masked = [self._masked(scene, wide) for scene in self._scenes]
        for plane, role in enumerate(self._roles):
            power, valid = self._power(role, wide, masked)
            after, before, seen = self._filter(power[self._order], valid[self._order])[inner], power[inner], valid[inner]
            for time, at in enumerate(self._order):
                results[at][plane] = np.where(seen[at], after[time], np.float32(np.nan))
                counted = (seen[at], before[at][seen[at]], after[time][seen[at]])
                self._sums[at, plane] += [part.sum(dtype=np.float64) for part in counted]
            dates = seen.sum(axis=0)
            self._shared += int((dates * dates).sum())
        for scene, planes in zip(self._scenes, results, strict=True):
            if angles := _angles(scene):
                raster = read_scene(scene, angles, window)
                for plane, role in enumerate(angles, len(self._roles)):
                    planes[plane] = np.where(raster.valid[raster.index(role)], physical_plane(raster, role), np.float32(np.nan))
        return results

    def _masked(self, scene: Scene, window: GeoBox) -> Mask:
        """(row, col) True where a quality layer or a mask says that the scene is not to be believed."""
        roles = mask_roles(scene, self._options.mask_classes)
        if not roles:
            return np.zeros(window.shape, dtype=bool)
        reasons = scene_reasons(read_scene(scene, roles, window), scene, self._options.mask_classes)
        return np.asarray(reasons != Reason.OBSERVED)

    def _power(self, role: str, window: GeoBox, masked: Sequence[Mask]) -> tuple[Floats, Mask]:
        """(scene, row, col) linear power of one polarisation, and where there is data that nothing masks."""
        power = np.zeros((len(self._scenes), *window.shape), np.float32)
        valid = np.zeros(power.shape, dtype=bool)
        for at, (scene, grid) in enumerate(zip(self._scenes, self._grids, strict=True)):
            if touches(grid, window):
                raster = read_scene(scene, [role], window)
                plane = physical_plane(raster, role)
                seen = raster.valid[0] & ~masked[at] & (np.abs(plane) < _LARGEST)  # False for NaN
                if raster.bands[0].unit == "dB":
                    seen &= plane > 0  # such as -9999 dB, a nodata value that nobody declared
                power[at], valid[at] = np.where(seen, plane, np.float32(0)), seen
        return power, valid

    def _layout(self, scene: Scene) -> tuple[Band, ...]:
        """The bands of a scene's file, in order."""
        measured = []
        for band in self._bands:
            own = scene.layer(band.role).band
            done = f"{own.despeckled}, then {self._filter.method}" if own.despeckled else self._filter.method
            measured.append(replace(band, unit="linear power", noise_removed=own.noise_removed, despeckled=done))
        return (*measured, *(scene.layer(role).band for role in _angles(scene)))

    def _profile(self, scene: Scene) -> dict[str, Any]:
        """What `BlockWriter` needs to know."""
        bands = self._layout(scene)
        orbit = {"ORBIT_PASS_DIRECTION": scene.orbit_pass} if scene.orbit_pass else {}
        told = {"GEOSEG_METHOD": str(self._filter), "ATTRIBUTION": attribution([scene])}
        return {
            "count": len(bands),
            "dtype": np.float32,
            "nodata": np.nan,
            "descriptions": [band.role for band in bands],
            "units": [band.unit for band in bands],
            "tags": composite_tags(scene.sensor, bands, scene.time) | orbit | told,
        }

    def _result(self, at: int, folder: Path, out: Path) -> Despeckled:
        scene, name, pixels = self._scenes[at], self._names[at], self._grid.shape[0] * self._grid.shape[1]
        bands = [
            {"role": role, "valid_share": count / pixels, "mean_before": before / max(count, 1), "mean_after": after / max(count, 1)}
            for role, (count, before, after) in zip(self._roles, self._sums[at].tolist(), strict=True)
        ]
        how = {"method": self._filter.method, "size": self._filter.size, "looks": self._filter.looks}
        summary = how | {"rows": self._grid.shape[0], "cols": self._grid.shape[1], "bands": bands}
        if self._filter.takes_all_dates:
            summary |= {"scenes": len(self._scenes), "dates_mean": self._shared / max(float(self._sums[..., 0].sum()), 1)}
        facts = {"method": str(self._filter), "options": asdict(self._options), "summary": summary}
        write_despeckled_item(
            folder / f"{name}.json", folder / f"{name}.tif", geobox=self._grid, scene=scene, bands=self._layout(scene),
            facts=facts | {"inputs": [input_facts(one) for one in self._scenes]},
        )  # fmt: skip
        files = {"data": out / f"{name}.tif", "item": out / f"{name}.json"}
        return Despeckled(name, files, summary, (*scene.warnings, *_doubts(scene, bands, self._filter)))


def _grown(grid: GeoBox, rows: slice, cols: slice, margin: int) -> GeoBox:
    """A window of a grid and a margin of pixels on each side, also beyond the grid's edge."""
    shape = (rows.stop - rows.start + 2 * margin, cols.stop - cols.start + 2 * margin)
    return GeoBox(shape, grid.affine @ grid.affine.translation(cols.start - margin, rows.start - margin), grid.crs)


def _angles(scene: Scene) -> tuple[str, ...]:
    return tuple(role for role in _ANGLES if role in scene.roles)


def _doubts(scene: Scene, bands: Sequence[dict[str, Any]], chosen: Filter) -> Iterator[str]:
    for band in bands:
        if band["valid_share"] == 0:
            yield f"{band['role']} of {scene.source} has no data on the grid: its result is empty"
        if filtered := scene.layer(band["role"]).band.despeckled:
            yield f"{band['role']} of {scene.source} was already filtered by {filtered}; {chosen.method} smooths it a second time"
