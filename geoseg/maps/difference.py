"""Two maps of one place to what changed between them: a matrix of areas, a raster and polygons of the changes, a QGIS project."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geoseg.errors import InputError, SceneError
from geoseg.io.opening import gdal_env
from geoseg.io.staging import Staging, check_free, move_results
from geoseg.maps.counting import Progress, count_pairs, follow
from geoseg.maps.difference_files import trace_changes, write_changes, write_difference_item, write_difference_project, write_matrix
from geoseg.maps.exclusions import open_exclusions
from geoseg.maps.pairs import Pair, open_side
from geoseg.maps.transitions import Transitions


@dataclass(frozen=True)
class DifferenceOptions:
    """What the user may choose of a comparison."""

    only: str | None = None
    """The one class to follow: where it was gained, lost and kept."""
    legend: str | None = None
    """Names the codes that a map does not name itself."""
    exclude: tuple[str, ...] = ()
    """Ground that is left out, as `open_exclusions` reads it."""
    dem: str | None = None
    """Elevation model for `slope>…`."""
    reason_before: str | None = None
    """Says where BEFORE is not observed; None takes the reason layer beside it, if there is one."""
    reason_after: str | None = None
    """The same for AFTER."""
    min_area_m2: float = 0.0
    """Smaller changed polygons are not written; the matrix and the raster count every pixel."""
    simplify_m: float = 0.0
    """Tolerance of the polygons' outlines, in metres on the ground."""

    def __post_init__(self) -> None:
        for name in ("min_area_m2", "simplify_m"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise InputError(f"--{name.replace('_', '-')} is {getattr(self, name)}; expected 0 or more")


@dataclass(frozen=True)
class Difference:
    """A finished comparison: where its files lie, and what it says in sum. Holds no pixels."""

    folder: Path
    files: dict[str, Path]
    """What it is (`change`, `transitions`, `polygons`, `project`, `item`) → the file."""
    transitions: Transitions
    summary: dict[str, Any]
    """All areas, and how many changed polygons there are."""
    warnings: tuple[str, ...]


def compare_maps(
    before: str | Path,
    after: str | Path,
    out: Path,
    *,
    options: DifferenceOptions | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Difference:
    """Compare two maps of classes pixel by pixel and write what changed into the folder `out`.

    Both are folders that `make_map` wrote, their Items, or class GeoTIFFs with legends. Classes are matched by name. Pixels are
    those of the finer map, of equals those of BEFORE; the other one is read there by its nearest pixel. A pixel without a class in
    either map is not observed and never counts as changed; excluded ground counts as neither changed nor unchanged.

    All files appear together or not at all. InputError, LabelError or SceneError where the maps do not fit, OutputError where the
    results cannot be written.

    >>> days = ["scene_2021-03-10.tif", "scene_2021-04-12.tif"]
    >>> before, after = (geoseg.predict(day, "my_model", f"map_{place}").folder for place, day in enumerate(days))
    >>> geoseg.compare_maps(before, after, Path("changes")).files["transitions"].name
    'scene_2021-03-10_to_scene_2021-04-12_transitions.csv'
    """
    options = options or DifferenceOptions()
    pair = Pair(
        open_side("BEFORE", before, legend=options.legend, reason=options.reason_before),
        open_side("AFTER", after, legend=options.legend, reason=options.reason_after),
    )
    followed = follow(pair, options.only)
    names = _result_names(pair)
    check_free(out, names.values(), overwrite=overwrite)
    exclusions = open_exclusions(options.exclude, pair.geobox, dem=options.dem)
    with gdal_env(), Staging(out) as folder:
        parts, done = folder / "parts", folder / "done"
        transitions = count_pairs(pair, followed, exclusions, parts / "pairs.tif", progress)
        if transitions.common_m2 == 0:
            raise SceneError(f"{pair.before.map.path} and {pair.after.map.path} touch, but share no pixel; give two maps of one place")
        write_changes(parts, done / names["change"], transitions, pair.geobox)
        found = trace_changes(parts, done / names["polygons"], transitions, options.min_area_m2, options.simplify_m)
        write_matrix(done / names["transitions"], transitions)
        write_difference_project(done, names, transitions, pair)
        warnings = _warnings(pair, transitions)
        summary = {"grid": pair.finer.what.lower(), **found, **transitions.to_dict()}
        write_difference_item(done, names, pair, transitions, settings=vars(options), summary=summary, warnings=warnings)
        move_results(done, out, last=names["item"])
    return Difference(out, {what: out / name for what, name in names.items()}, transitions, summary, warnings)


def _result_names(pair: Pair) -> dict[str, str]:
    name = f"{pair.before.result.name}_to_{pair.after.result.name}"
    endings = {"change": "_change.tif", "transitions": "_transitions.csv", "polygons": ".gpkg", "project": ".qgz", "item": ".json"}
    return {what: name + ending for what, ending in endings.items()}


def _warnings(pair: Pair, transitions: Transitions) -> tuple[str, ...]:
    told = []
    if (differ := pair.how_they_lie()) and transitions.edge_m2 is not None:
        share = 100 * transitions.edge_m2 / (transitions.changed_m2 or 1.0)
        told.append(
            f"{differ}, and it was read there by its nearest pixel, so that edges move by up to half a pixel: {share:.0f} % of the "
            f"changed ground ({transitions.edge_m2 / 1e6:.3f} km²) lies within a pixel of an edge that either map has."
        )
    told += [
        f"{side.map.path} holds numbers that its legend does not name ({', '.join(map(str, sorted(side.unnamed)))}): they count as not "
        "observed; name them with --legend."
        for side in (pair.before, pair.after)
        if side.unnamed
    ]
    told += [
        f"--exclude {text} excludes nothing of the ground that both maps show."
        for text, area in transitions.excluded_by_m2.items()
        if not area
    ]
    if not transitions.compared_m2:
        told.append("no pixel has a class in both maps, so nothing could be compared.")
    return tuple(told)
