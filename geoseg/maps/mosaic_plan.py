"""What a mosaic will be before a pixel is read: which maps, in which order, by which rule, on which grid."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from odc.geo.geobox import GeoBox
from shapely.geometry.base import BaseGeometry

from geoseg.errors import InputError
from geoseg.io.score_files import ScoreFile, open_scores
from geoseg.io.vectors import read_area
from geoseg.legend import Legend, LegendClass
from geoseg.maps.map_results import MapResult
from geoseg.maps.mosaic_grid import Extent, extent_on, mosaic_grid

Rule = Literal["score", "newest", "first"]

NO_SOURCE = 0
"""In the source layer: no map has a class here; the maps count from 1."""

_BLOCK = 512
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class MosaicOptions:
    """What the user may choose of a mosaic."""

    crs: str | None = None
    """CRS of the mosaic; None keeps that of most maps."""
    resolution: float | None = None
    """Pixel size in units of the mosaic's CRS; None keeps the finest."""
    like: str | None = None
    """Raster file whose grid the mosaic shall have."""
    rule: Rule | None = None
    """Who is believed where several maps cover a pixel: the mean of their `score`s, the `newest`, or the `first` given.
    None takes the first of these that is possible."""
    aoi: str | None = None
    """Vector file: only this area is mapped."""
    min_area_m2: float = 0.0
    """Smaller regions are merged into the neighbour with the longest shared edge, in raster and polygons alike."""
    polygons: bool = True
    """Also trace the outlines of the classes, which holds all of them in memory."""

    def __post_init__(self) -> None:
        if self.like is not None and (self.crs is not None or self.resolution is not None):
            raise InputError("--like already states the grid; leave --crs and --resolution out")
        if self.resolution is not None and not 0 < self.resolution < float("inf"):
            raise InputError(f"--resolution is {self.resolution}; expected a pixel size above 0 in units of the mosaic's CRS")
        if not 0 <= self.min_area_m2 < float("inf"):
            raise InputError(f"--min-area-m2 is {self.min_area_m2}; expected 0 or more")
        if self.rule not in (None, "score", "newest", "first"):
            raise InputError(f"--rule is {self.rule!r}; expected score, newest or first")


@dataclass(frozen=True)
class MosaicPlan:
    """Which maps become one, on which grid and by which rule."""

    maps: tuple[MapResult, ...]
    """In the order in which they are believed where the rule is not `score`; for that rule in one that no user's order changes."""
    names: tuple[str, ...]
    """Of the maps, each unlike the others."""
    legend: Legend
    geobox: GeoBox
    rule: Rule
    extents: tuple[Extent, ...]
    """Where each map lies on the grid."""
    scores: tuple[ScoreFile, ...] = ()
    """Of each map, for the rule `score`; empty for the others."""
    area: BaseGeometry | None = None
    """Only this is mapped, in the grid's CRS; None for everything."""
    warnings: tuple[str, ...] = ()

    @property
    def calibrated(self) -> bool:
        """Whether the scores of all maps are."""
        return all(one.calibrated for one in self.scores)

    @property
    def source_legend(self) -> Legend:
        """What the numbers of the source layer mean: the maps, counted from 1."""
        colours = Legend.from_names([str(number) for number in range(len(self.names))]).classes
        classes = tuple(LegendClass(place, place + 1, name, colours[place].colour) for place, name in enumerate(self.names))
        return Legend(classes, nodata=NO_SOURCE)

    def windows(self) -> Iterator[tuple[slice, slice]]:
        """The grid in pieces of at most 512 x 512 pixels, row by row."""
        rows, cols = self.geobox.shape
        for top in range(0, rows, _BLOCK):
            for left in range(0, cols, _BLOCK):
                yield slice(top, min(top + _BLOCK, rows)), slice(left, min(left + _BLOCK, cols))

    def meeting(self, rows: slice, cols: slice) -> list[int]:
        """The places of the maps that may have pixels in this window, in their order."""
        return [place for place, extent in enumerate(self.extents) if extent.meets(rows, cols)]


def plan_mosaic(maps: Sequence[MapResult], options: MosaicOptions) -> MosaicPlan:
    """The plan of a mosaic; raises InputError where the maps do not fit together, or the rule does not fit them."""
    _check_legends(maps)
    rule, warnings = _choose_rule(maps, options.rule)
    warnings += _doubts(maps, rule, options)
    ordered = _in_order(maps, rule)
    grids = [one.classes.geobox for one in ordered]
    geobox = mosaic_grid(grids, crs=options.crs, resolution=options.resolution, like=options.like)
    assert geobox.crs is not None, "a map has a CRS"
    extents = [extent_on(geobox, grid) for grid in grids]
    rows, cols = (slice(0, size) for size in geobox.shape)
    warnings += [f"{one.path} lies outside the mosaic's grid" for one, e in zip(ordered, extents, strict=True) if not e.meets(rows, cols)]
    legend = ordered[0].classes.legend
    return MosaicPlan(
        maps=ordered,
        names=_unlike([one.name for one in ordered]),
        legend=legend,
        geobox=geobox,
        rule=rule,
        extents=tuple(extents),
        scores=tuple(open_scores(one.scores, legend) for one in ordered if one.scores) if rule == "score" else (),
        area=None if options.aoi is None else read_area(options.aoi, geobox.crs, near=geobox),
        warnings=tuple(warnings),
    )


def _check_legends(maps: Sequence[MapResult]) -> None:
    first = maps[0]
    expected = dict(zip(first.classes.legend.codes, first.classes.legend.names, strict=True))
    for other in maps[1:]:
        given = dict(zip(other.classes.legend.codes, other.classes.legend.names, strict=True))
        differing = [code for code in sorted({*expected, *given}) if expected.get(code) != given.get(code)]
        if differing:
            code = differing[0]
            one, two = (f"{legend[code]!r}" if code in legend else "no class" for legend in (expected, given))
            raise InputError(
                f"the legends differ: {code} is {one} in {first.path} and {two} in {other.path}; give maps with the same codes and names"
            )


def _choose_rule(maps: Sequence[MapResult], asked: Rule | None) -> tuple[Rule, list[str]]:
    """The rule, and a sentence where it is not the one that would be best."""
    if asked == "first":
        return asked, []
    timeless = [one for one in maps if one.time is None]
    if asked == "newest":
        if timeless:
            raise InputError(f"--rule newest needs the time of every scene, but none is known of {timeless[0].path}; take --rule first")
        return asked, []
    obstacle = _against_scores(maps)
    if asked == "score" and obstacle:
        raise InputError(f"--rule score does not fit: {obstacle}; take --rule newest or first")
    if not obstacle:
        return "score", []
    if len(maps) == 1:
        return "first", []
    if timeless:
        return "first", [f"{obstacle}, and the time of {timeless[0].path} is not known: where maps overlap, the one given first counts"]
    return "newest", [f"{obstacle}: where maps overlap, the newest one counts"]


def _against_scores(maps: Sequence[MapResult]) -> str | None:
    """Why the maps' scores cannot be averaged; None where they can."""
    for one in maps:
        if one.scores is None:
            return f"{one.path} comes without scores, which `geoseg predict --scores` keeps"
        if one.is_edited():
            return f"{one.path} was changed after it was made, of which its scores know nothing"
    files = [open_scores(one.scores, one.classes.legend) for one in maps if one.scores]
    models = _models(maps)
    if len(models) > 1 and not all(file.calibrated for file in files):
        return f"the scores of different models ({', '.join(models.values())}) are not calibrated and cannot be averaged"
    return None


def _doubts(maps: Sequence[MapResult], rule: Rule, options: MosaicOptions) -> list[str]:
    """What a user should know before the mosaic is trusted."""
    doubts = []
    if len(models := _models(maps)) > 1:
        doubts.append(f"the maps were made by different models ({', '.join(models.values())}): classes of one name may differ")
    if twice := [path for path, count in Counter(one.path.resolve() for one in maps).items() if count > 1]:
        doubts.append(f"{twice[0]} is given twice")
    if rule == "score" and not options.min_area_m2 and (sieved := [one for one in maps if one.min_area_m2]):
        doubts.append(
            f"{sieved[0].path} was made with --min-area-m2 {sieved[0].min_area_m2:g}, of which its scores know nothing: "
            "small regions come back unless it is given here too"
        )
    return doubts


def _models(maps: Sequence[MapResult]) -> dict[str, str]:
    """Checksum → name of the model packages that are known."""
    return {one.model["checksum"]: str(one.model.get("name", "unnamed")) for one in maps if one.model and "checksum" in one.model}


def _in_order(maps: Sequence[MapResult], rule: Rule) -> tuple[MapResult, ...]:
    """As the rule believes them; among equals by name and content, so that the order in which they are given changes no pixel."""
    if rule == "first":
        return tuple(maps)
    by_name = sorted(maps, key=lambda one: (one.name, one.file_checksum))
    return tuple(sorted(by_name, key=lambda one: one.time or _LONG_AGO, reverse=rule == "newest"))


def _unlike(names: Sequence[str]) -> tuple[str, ...]:
    """The names, each unlike the others: the second `a` becomes `a (2)`."""
    unlike: list[str] = []
    for name in names:
        number = 1
        while (label := name if number == 1 else f"{name} ({number})") in unlike:
            number += 1
        unlike.append(label)
    return tuple(unlike)
