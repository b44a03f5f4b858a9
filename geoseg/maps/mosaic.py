"""From maps of overlapping scenes to one: the whole way in one function."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import InputError
from geoseg.io.blocks import BlockWriter
from geoseg.io.class_maps import class_profile, finish_class_map
from geoseg.io.cog import write_cog
from geoseg.io.opening import files_kept_open, gdal_env
from geoseg.io.qgis_styles import polygons_qml
from geoseg.io.score_files import score_profile
from geoseg.io.staging import Staging, check_free, move_results
from geoseg.maps.map_results import MapResult, open_all_maps
from geoseg.maps.mosaic_plan import MosaicOptions, MosaicPlan, plan_mosaic
from geoseg.maps.mosaic_record import mosaic_names, provenance, summarise, write_mosaic_item, write_mosaic_project
from geoseg.maps.mosaic_windows import JoinedWindow, join_window
from geoseg.polygons.outlines import write_map_polygons
from geoseg.polygons.sieve import sieve
from geoseg.preprocess.quality import REASON_LEGEND

Progress = Callable[[int, int], None]
"""Called with the finished and with all pixel rows."""

_READING_CACHE_MB = 80


@dataclass(frozen=True)
class Mosaic:
    """A finished mosaic: where its files lie, and what it says in sum. Holds no pixels."""

    folder: Path
    name: str
    files: dict[str, Path]
    """What it is (`classes`, `classes_scores`, `classes_polygons`, `reason`, `source`, `observations`, `project`, `item`) → the file."""
    summary: dict[str, Any]
    """Area per class, what each map gave, and how far maps agree where they overlap."""
    warnings: tuple[str, ...] = ()


def make_mosaic(
    paths: Sequence[str | Path],
    out: Path,
    *,
    options: MosaicOptions | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Mosaic:
    """Join the maps behind `paths` (as `open_map_results` takes them) into one, in the folder `out` and by its name.

    Where several maps have a class for a pixel, the rule decides; no ground is counted twice. A pixel takes the nearest class of
    each map, and each class's mean score over the maps, interpolated between pixels. The memory for joining depends neither on
    the extent nor on the number of maps, that for polygons on how many there are; without them it is the same for a country. All
    files are there in the end, or none.

    Raises InputError where the maps do not fit together and where results are there already, OutputError where they cannot
    be written.

    >>> days = ["scene_2021-03-10.tif", "scene_2021-04-12.tif"]
    >>> results = [geoseg.predict(day, "my_model", f"part_{place}").folder for place, day in enumerate(days)]
    >>> geoseg.make_mosaic(results, Path("country")).files["classes"].name
    'country_classes.tif'
    """
    began = time.perf_counter()
    options = options or MosaicOptions()
    maps = open_all_maps(paths)
    name = out.resolve().name or "mosaic"
    _check_apart(maps, out)
    plan = plan_mosaic(maps, options)
    names = mosaic_names(name, scores=bool(plan.scores), polygons=options.polygons)
    check_free(out, names.values(), overwrite=overwrite)
    with gdal_env(), Staging(out) as folder:
        parts, done = folder / "parts", folder / "done"
        with gdal_env(_READING_CACHE_MB), files_kept_open():
            pairs_m2, most = _write_parts(plan, parts, progress)
        if not most:
            raise InputError(f"none of the maps has a class on the mosaic's grid{_where(options)}, so there is nothing to join")
        if options.min_area_m2 > 0:
            sieve(parts / "classes.tif", parts / "sieved.tif", legend=plan.legend, min_area_m2=options.min_area_m2)
            (parts / "sieved.tif").replace(parts / "classes.tif")
        _finish(plan, parts, {what: done / file for what, file in names.items()})
        write_mosaic_project(done, names, plan, most)
        summary = summarise(plan, parts, pairs_m2, seconds=time.perf_counter() - began)
        write_mosaic_item(done, out, name, names, plan, options, summary)
        move_results(done, out, last=names["item"])
    return Mosaic(out, name, {what: out / file for what, file in names.items()}, summary, plan.warnings)


def _check_apart(maps: Sequence[MapResult], out: Path) -> None:
    if inside := [one.path for one in maps if one.path.resolve().parent == out.resolve()]:
        raise InputError(f"{inside[0]} is one of the maps and lies in {out}, where the mosaic would go; choose another -o")


def _where(options: MosaicOptions) -> str:
    return " inside the area that is to be mapped" if options.aoi is not None else ""


def _write_parts(plan: MosaicPlan, parts: Path, progress: Progress | None) -> tuple[NDArray[np.float64], int]:
    """Join all windows into unfinished rasters; return the ground by pairs of what maps say, and the most maps on one pixel."""
    pairs_m2, most = np.zeros((len(plan.legend), len(plan.legend))), 0
    with ExitStack() as stack:

        def begin(name: str, profile: Mapping[str, Any]) -> BlockWriter:
            tags = {**provenance(plan), **profile.get("tags", {})}
            return stack.enter_context(BlockWriter(parts / f"{name}.tif", plan.geobox, **{**profile, "tags": tags}))

        writers = {name: begin(name, profile) for name, profile in _profiles(plan).items()}
        for rows, cols in plan.windows():
            window = join_window(plan, rows, cols)
            for name, values in _planes(window, plan).items():
                writers[name].write(rows, cols, values)
            pairs_m2 += window.pairs_m2
            most = max(most, int(window.observations.max()))
            if progress is not None and cols.stop == plan.geobox.shape[1]:
                progress(rows.stop, plan.geobox.shape[0])
    return pairs_m2, most


def _profiles(plan: MosaicPlan) -> dict[str, Mapping[str, Any]]:
    profiles: dict[str, Mapping[str, Any]] = {
        "classes": class_profile(plan.legend),
        "reason": class_profile(REASON_LEGEND),
        "source": class_profile(plan.source_legend) | {"descriptions": ("map",)},
        "observations": {"count": 1, "dtype": np.uint16, "nodata": 0, "descriptions": ("number of maps",)},
    }
    return profiles | ({"scores": score_profile(plan.legend, calibrated=plan.calibrated)} if plan.scores else {})


def _planes(window: JoinedWindow, plan: MosaicPlan) -> dict[str, NDArray[Any]]:
    """Part → (band, row, col) of one window."""
    planes: dict[str, NDArray[Any]] = {
        "classes": window.classes[np.newaxis],
        "reason": window.reason[np.newaxis],
        "source": window.source[np.newaxis].astype(plan.source_legend.dtype),
        "observations": window.observations[np.newaxis],
    }
    return planes | ({"scores": window.scores} if window.scores is not None else {})


def _finish(plan: MosaicPlan, parts: Path, paths: Mapping[str, Path]) -> None:
    finish_class_map(parts / "classes.tif", paths["classes"], plan.legend)
    finish_class_map(parts / "reason.tif", paths["reason"], REASON_LEGEND)
    finish_class_map(parts / "source.tif", paths["source"], plan.source_legend)
    write_cog(parts / "observations.tif", paths["observations"], kind="continuous")
    if plan.scores:
        write_cog(parts / "scores.tif", paths["classes_scores"], kind="continuous")
    if "classes_polygons" not in paths:
        return
    scores = parts / "scores.tif" if plan.scores else None
    write_map_polygons(paths["classes_polygons"], parts / "classes.tif", plan.legend, scores=scores, style_qml=polygons_qml(plan.legend))
