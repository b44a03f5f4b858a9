"""The rasters of a map: strips written as parts when they are finished, joined and turned into cloud optimised GeoTIFFs at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.io.class_maps import class_profile, finish_class_map
from geoseg.io.opening import gdal_env
from geoseg.io.part_files import Part, RasterForm, found_facts, write_parts, write_vrt
from geoseg.io.score_files import best_class, score_profile, stored_scores
from geoseg.legend import Legend
from geoseg.mapping.conformal import set_legends, set_rasters
from geoseg.mapping.journal import StripFacts
from geoseg.mapping.pipeline import one_behind
from geoseg.mapping.plan import MapPlan
from geoseg.mapping.rows import FinishedStrip, finished_strips
from geoseg.mapping.tiles import Strip
from geoseg.mapping.uncertainty import layer_name, layer_profile, measured
from geoseg.mapping.windows import Area
from geoseg.models.package import Output
from geoseg.models.temperature import tempered
from geoseg.preprocess.quality import REASON_LEGEND
from geoseg.runtimes.contract import Runtime


@dataclass(frozen=True)
class Parts:
    """The unfinished rasters of a map, in one folder."""

    folder: Path
    plan: MapPlan

    def path(self, name: str) -> Path:
        """Where the raster of this name can be read as a whole, once the strips are joined; changed ones stand in for them."""
        changed = self.changed(name)
        return changed if changed.exists() else self.folder / f"{name}.vrt"

    def changed(self, name: str) -> Path:
        """Where a raster goes that takes the place of the one made of strips."""
        return self.folder / f"{name}.tif"

    def strip(self, number: int) -> Path:
        """The folder of a strip's files."""
        return self.folder / f"{number:06d}"


StripMaker = Callable[[Parts, Sequence[Strip]], Iterator[StripFacts]]
"""Computes and writes these strips, and tells of each that is on the disk."""


def made_here(runtime: Runtime, area: Area) -> StripMaker:
    """Strips made in this process."""

    def make(parts: Parts, strips: Sequence[Strip]) -> Iterator[StripFacts]:
        # Closing also closes the scene's files.
        with gdal_env(parts.plan.cache_mb), closing(finished_strips(parts.plan, runtime, area, strips)) as finished:
            yield from write_strips(parts, finished)

    return make


def write_strips(parts: Parts, strips: Iterable[FinishedStrip]) -> Iterator[StripFacts]:
    """Write each strip's parts, in a thread of its own while the next strip is made; say of each when it is on the disk."""

    def write(strip: tuple[int, int, dict[str, NDArray[Any]]]) -> StripFacts:
        number, observed, rasters = strip
        with gdal_env(parts.plan.cache_mb):
            notes = () if parts.plan.damaged is None else parts.plan.damaged.news()  # of this strip, since it is read, or of later ones
            facts = {"number": number, "observed": observed, "notes": notes}
            return StripFacts(number, observed, write_parts(parts.strip(number), rasters, facts), notes)

    rasters = ((one.strip.number, int(one.observed.sum()), dict(strip_rasters(parts.plan, one))) for one in strips)
    return one_behind(write, rasters)


def finished_parts(parts: Parts, number: int) -> StripFacts | None:
    """The facts of a strip whose parts are on the disk already; None where they are not, or damaged."""
    facts = found_facts(parts.strip(number))
    return None if facts is None else StripFacts(facts["number"], facts["observed"], facts["sums"], tuple(facts["notes"]))


def join_strips(parts: Parts, tags: Mapping[str, str]) -> None:
    """Make one raster of each kind from the parts of all strips; `tags` go into each."""
    for name, form in _forms(parts.plan).items():
        pieces = (Part(parts.strip(strip.number) / f"{name}.tif", strip.rows, strip.panel.cols) for strip in parts.plan.tiles.strips)
        write_vrt(parts.folder / f"{name}.vrt", parts.plan.geobox, RasterForm(**form | {"tags": {**tags, **form.get("tags", {})}}), pieces)


def finish_classes(parts: Parts, output: Output, out: Path) -> None:
    """The class map at `out`, sieved if that is asked for, with colours, names, attribute table and QGIS style.

    The part is sieved with it, so that polygons are traced from what is written.
    """
    options = parts.plan.options
    if options.min_area_m2 > 0:
        from geoseg.polygons.sieve import sieve  # scipy takes longer to load than a small map to make

        sieved = parts.changed(f"{output.name}_sieved")
        sieve(parts.path(output.name), sieved, legend=output.legend, min_area_m2=options.min_area_m2)
        sieved.replace(parts.changed(output.name))
    finish_class_map(parts.path(output.name), out, output.legend)


def finish_reason(parts: Parts, out: Path) -> None:
    """The reason layer at `out`: why each pixel has a class or has none."""
    finish_class_map(parts.path("reason"), out, REASON_LEGEND)


def _forms(plan: MapPlan) -> dict[str, dict[str, Any]]:
    """What each raster of this map is beside its pixels, by its name."""
    forms: dict[str, dict[str, Any]] = {"reason": class_profile(REASON_LEGEND)}
    for output in plan.package.outputs:
        if output.kind == "classes":
            forms[output.name] = class_profile(output.legend)
            if plan.keeps_scores:
                forms[f"{output.name}_scores"] = score_profile(output.legend, calibrated=plan.calibrated(output))
            if plan.thresholds is not None:
                forms |= {name: class_profile(legend) for name, legend in set_legends(output).items()}
            for measure in plan.measures:
                forms[layer_name(output, measure)] = layer_profile(measure, calibrated=plan.calibrated(output))
        else:
            forms[output.name] = {
                "count": 1, "dtype": np.float32, "nodata": float("nan"), "descriptions": (f"{output.name} ({output.unit})",)
            }  # fmt: skip
    if plan.picture_roles:
        forms["image"] = {"count": 4, "dtype": np.uint8, "picture": True}
    return forms


def strip_rasters(plan: MapPlan, finished: FinishedStrip) -> Iterator[tuple[str, NDArray[Any]]]:
    """Every raster of this map with its pixels (band, row, col) in a strip."""
    yield "reason", finished.reason[np.newaxis]
    observed = finished.observed
    for output in plan.package.outputs:
        scores = finished.scores[output.name]
        if output.kind == "classes":
            yield output.name, _codes(output.legend, scores, observed)[np.newaxis]
            thresholds = plan.thresholds
            told = plan.keeps_scores or plan.measures or thresholds is not None
            if told and output.temperature is not None and not plan.options.ensemble:
                scores = tempered(scores, output.temperature)
            if plan.keeps_scores or thresholds is not None:
                stored = stored_scores(scores, observed)
                if plan.keeps_scores:
                    yield f"{output.name}_scores", stored
                if thresholds is not None:
                    yield from set_rasters(output, thresholds, stored, observed)
            yield from measured(output, plan.measures, finished.scores, scores, observed)
        else:
            low, high = output.range if output.range is not None else (-np.inf, np.inf)
            yield output.name, np.where(observed, np.clip(scores, low, high), np.float32(np.nan)).astype(np.float32)
    if finished.picture is not None:
        yield "image", finished.picture


def _codes(legend: Legend, scores: NDArray[np.float32], observed: NDArray[np.bool_]) -> NDArray[np.unsignedinteger]:
    """(row, col) code of the class with the highest score; a strip without an observed pixel is not looked at."""
    if not observed.any():
        return np.full(observed.shape, legend.nodata, legend.dtype)
    return legend.to_codes(best_class(scores), observed)
