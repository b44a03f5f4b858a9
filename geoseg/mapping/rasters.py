"""The rasters of a map, written row by row as they are finished, and turned into cloud optimised GeoTIFFs at the end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.io.class_maps import class_profile, finish_class_map
from geoseg.io.cog import RowWriter
from geoseg.io.score_files import score_profile, stored_scores
from geoseg.mapping.plan import MapPlan
from geoseg.mapping.rows import FinishedRows
from geoseg.models.package import Output
from geoseg.polygons.sieve import sieve
from geoseg.preprocess.quality import REASON_LEGEND


@dataclass(frozen=True)
class Parts:
    """The unfinished rasters of a map, plain tiled GeoTIFFs in one folder."""

    folder: Path
    plan: MapPlan

    def path(self, name: str) -> Path:
        """Where the part of this name lies."""
        return self.folder / f"{name}.tif"


def write_parts(parts: Parts, rows: Iterable[FinishedRows], tags: Mapping[str, str]) -> int:
    """Write all rows into parts: one per output, the scores of each, the reasons and the picture; return the observed pixels."""
    plan, observed = parts.plan, 0
    with ExitStack() as stack:

        def begin(name: str, **profile: Any) -> RowWriter:
            profile["tags"] = {**tags, **profile.get("tags", {})}
            return stack.enter_context(RowWriter(parts.path(name), plan.geobox, **profile))

        maps = {output.name: begin(output.name, **_map_profile(output)) for output in plan.package.outputs}
        scores = {
            output.name: begin(f"{output.name}_scores", **score_profile(output.legend, calibrated=output.calibrated))
            for output in _with_scores(plan)
        }
        reason = begin("reason", **class_profile(REASON_LEGEND))
        picture = begin("image", count=4, dtype=np.uint8, picture=True) if plan.picture_roles else None
        for finished in rows:
            observed += int(finished.observed.sum())
            for output in plan.package.outputs:
                maps[output.name].append(_map_rows(output, finished))
                if output.name in scores:
                    scores[output.name].append(stored_scores(finished.scores[output.name], finished.observed))
            reason.append(finished.reason[np.newaxis])
            if picture is not None and finished.picture is not None:
                picture.append(finished.picture)
    return observed


def finish_classes(parts: Parts, output: Output, out: Path) -> None:
    """The class map at `out`, sieved if that is asked for, with colours, names, attribute table and QGIS style.

    The part is sieved with it, so that polygons are traced from what is written.
    """
    part, options = parts.path(output.name), parts.plan.options
    if options.min_area_m2 > 0:
        sieved = parts.path(f"{output.name}_sieved")
        sieve(part, sieved, legend=output.legend, min_area_m2=options.min_area_m2)
        sieved.replace(part)
    finish_class_map(part, out, output.legend)


def finish_reason(parts: Parts, out: Path) -> None:
    """The reason layer at `out`: why each pixel has a class or has none."""
    finish_class_map(parts.path("reason"), out, REASON_LEGEND)


def _with_scores(plan: MapPlan) -> tuple[Output, ...]:
    """Class outputs; their scores are always written as parts, because polygons state their mean score."""
    return tuple(output for output in plan.package.outputs if output.kind == "classes")


def _map_profile(output: Output) -> dict[str, Any]:
    if output.kind == "classes":
        return class_profile(output.legend)
    return {"count": 1, "dtype": np.float32, "nodata": float("nan"), "descriptions": (f"{output.name} ({output.unit})",)}


def _map_rows(output: Output, finished: FinishedRows) -> NDArray[np.generic]:
    scores = finished.scores[output.name]
    if output.kind == "classes":
        return output.legend.to_codes(scores.argmax(axis=0), finished.observed)[np.newaxis]
    low, high = output.range if output.range is not None else (-np.inf, np.inf)
    return np.where(finished.observed, np.clip(scores, low, high), np.float32(np.nan)).astype(np.float32)
