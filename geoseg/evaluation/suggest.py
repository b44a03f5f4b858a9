"""What to label next, as layers for QGIS: ranked tiles beside the map, and an empty layer to draw corrections in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from geopandas import GeoDataFrame

from geoseg.errors import InputError
from geoseg.evaluation.ranking import LEAST_OBSERVED, Ranked, rank_tiles
from geoseg.evaluation.tiles import Measure, Tiles, held_out_of, measure_tiles, outlines_of, picture_of
from geoseg.ground import geodesic_area_m2, horizontal
from geoseg.io.qgis import ProjectLayer, write_project
from geoseg.io.qgis_drawing import CLASS, drawing_qml, ranked_qml
from geoseg.io.staging import OutputExistsError, Staging, check_free, move_results
from geoseg.io.vectors import write_polygons
from geoseg.legend import Legend
from geoseg.mapping.make_map import make_map
from geoseg.mapping.plan import MapOptions
from geoseg.maps.counting import Progress
from geoseg.maps.map_results import MapResult, open_all_maps
from geoseg.models.package import ModelPackage
from geoseg.scene import Scene

TABLE, TO_DRAW = "suggested", "corrections"
"""Names of the layers inside the GeoPackages."""
_COLUMNS = {CLASS: "Class on the ground", "note": "Note"}
_DESCRIPTION = "Tiles worth labelling, by rank: where the map is unsure, and no two of a kind"
_PAIR = 2
_SURE = 0.9
"""Of what a map is unsure of, the share of one class beyond which no second one is named."""


@dataclass(frozen=True)
class SuggestOptions:
    """What is asked for."""

    count: int = 20
    tile_m: float | None = None
    """Edge of a tile on the ground; None takes 64 pixels."""
    measure: Measure = "entropy"
    labels: tuple[str, ...] = ()
    """Ground that is labelled already."""
    class_column: str | None = None


@dataclass(frozen=True)
class Suggested:
    """Ranked tiles of one map, and the files in which they lie."""

    name: str
    frame: GeoDataFrame
    """In the CRS of the map: `rank`, `uncertainty`, `distance`, `like`, `classes`, `observed_share`, `area_m2`, `why`."""
    tiles: Path
    corrections: Path
    """The layer to draw in; with what was drawn, where it was there already."""
    project: Path
    kept: bool
    """Whether the layer to draw in was there already."""


def suggest_tiles(
    maps: Sequence[str | Path],
    options: SuggestOptions | None = None,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> list[Suggested]:
    """Rank the tiles of finished maps together, and write those of each map beside it.

    `SCENE_suggested.gpkg` holds the tiles, `SCENE_corrections.gpkg` an empty layer to draw in, which is never replaced, and
    `SCENE_suggested.qgz` shows both over map and imagery. A map without a tile among the chosen gets no file. InputError where a layer
    is missing, no tile is left, or results are there already.
    """
    results = open_all_maps(maps)
    for result in results:
        _check_free(result, overwrite=overwrite)
    return _write(results, *_rank(results, options or SuggestOptions(), progress))


def suggest_for_scene(
    scene: Scene,
    package: ModelPackage,
    out: Path,
    options: SuggestOptions | None = None,
    *,
    opened_with: dict[str, Any] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> list[Suggested]:
    """Map `scene` with `package` into the folder `out`, and rank its tiles there; the map appears with them or not at all."""
    wanted = options or SuggestOptions()
    check_free(out, [f"{scene.name}{end}" for end in (".json", "_suggested.gpkg", "_suggested.qgz")], overwrite=overwrite)
    more = () if wanted.measure in ("entropy", "margin") else (wanted.measure,)
    with Staging(out) as work:
        made = make_map(
            scene,
            package,
            work / "done",
            options=MapOptions(scores=True, uncertainty=more, polygons=False),
            opened_with=opened_with,
            progress=progress,
        )
        check_free(out, [path.name for path in made.files.values()], overwrite=overwrite)
        ranked = _rank(open_all_maps([work / "done"]), wanted, None)
        move_results(work / "done", out, last=made.files["item"].name)
    return _write([one for one in open_all_maps([out]) if one.name == scene.name], *ranked)


def _rank(results: Sequence[MapResult], options: SuggestOptions, progress: Progress | None) -> tuple[Tiles, Ranked]:
    """The tiles of all maps, and the chosen ones. InputError where none is left."""
    if options.count < 1:
        raise InputError(f"{options.count} tiles were asked for; expected at least 1")
    tiles = measure_tiles(
        results,
        tile_m=options.tile_m,
        measure=options.measure,
        labels=options.labels,
        class_column=options.class_column,
        progress=progress,
    )
    ranked = rank_tiles(tiles, options.count)
    if not len(ranked.tiles):
        raise InputError(
            f"no tile is left to suggest: of {len(tiles)}, {int(tiles.labelled.sum())} are labelled, {int(tiles.held_out.sum())} lie on "
            f"ground that the model holds out, and {int((tiles.observed < LEAST_OBSERVED).sum())} are observed by less than half; take "
            "smaller tiles, or another scene"
        )
    return tiles, ranked


def _check_free(result: MapResult, *, overwrite: bool) -> None:
    """Raise OutputExistsError where a map has its tiles already; what was drawn is never in the way."""
    for name in _names(result)[::2]:
        if result.path.with_name(name).exists() and not overwrite:
            raise OutputExistsError(
                f"{result.path.with_name(name)} is there already; rank again with --overwrite, which keeps what was drawn"
            )


def _names(result: MapResult) -> tuple[str, str, str]:
    stem = result.path.stem.removesuffix("_classes")
    return f"{stem}_suggested.gpkg", f"{stem}_corrections.gpkg", f"{stem}_suggested.qgz"


def _write(results: Sequence[MapResult], tiles: Tiles, ranked: Ranked) -> list[Suggested]:
    """The files of each map that has a tile among the chosen."""
    frame = _frame(results, tiles, ranked)
    found = []
    for number, result in enumerate(results):
        mine = np.flatnonzero(tiles.source[ranked.tiles] == number)
        if len(mine):
            shapes = outlines_of(tiles, results, ranked.tiles[mine])
            own = GeoDataFrame(frame.iloc[mine].reset_index(drop=True), geometry=shapes, crs=horizontal(result.classes.geobox.crs))
            own.insert(6, "area_m2", geodesic_area_m2(own.geometry.to_numpy(), result.classes.geobox.crs))
            found.append(_write_one(result, own))
    return found


def _write_one(result: MapResult, frame: GeoDataFrame) -> Suggested:
    legend = result.classes.legend
    tiles, corrections, project = (result.path.with_name(name) for name in _names(result))
    write_polygons(tiles, frame, layer=TABLE, style_qml=ranked_qml("rank"), description=_DESCRIPTION)
    kept = corrections.exists()
    if not kept:
        write_corrections(corrections, legend, frame.crs)
    crs = result.classes.geobox.crs
    assert crs is not None, "a map has a CRS"
    bounds = result.classes.geobox.boundingbox
    extent = (bounds.left, bounds.bottom, bounds.right, bounds.top)
    write_project(project, _layers(result, tiles, corrections), title=f"What to label next: {result.name}", crs=crs, extent=extent)
    return Suggested(result.name, frame, tiles, corrections, project, kept)


def write_corrections(path: Path, legend: Legend, crs: Any) -> None:
    """An empty layer to draw polygons in, with the legend's classes to choose from."""
    empty = GeoDataFrame({name: np.array([], dtype=str) for name in _COLUMNS}, geometry=[], crs=crs)
    write_polygons(path, empty, layer=TO_DRAW, style_qml=drawing_qml(legend, {"fid": "", **_COLUMNS}))


def _layers(result: MapResult, tiles: Path, corrections: Path) -> list[ProjectLayer]:
    """What is drawn over where to look, over the imagery; the map unticked, so that it does not lead the hand."""
    legend = result.classes.legend
    drawing = drawing_qml(legend, {"fid": "", **_COLUMNS})
    layers = [
        ProjectLayer("corrections", corrections, "polygons", legend, table=TO_DRAW, qml=drawing),
        ProjectLayer("tiles worth labelling", tiles, "outlines", table=TABLE, qml=ranked_qml("rank")),
    ]
    if (held := held_out_of(result)) is not None:
        layers.append(ProjectLayer("held out: do not label here", held, "outlines"))
    layers.append(ProjectLayer("map", result.path, "classes", legend, visible=False))
    if (picture := picture_of(result)) is not None:
        layers.append(ProjectLayer("imagery", picture, "picture"))
    return layers


def _frame(results: Sequence[MapResult], tiles: Tiles, ranked: Ranked) -> Any:
    """The chosen tiles of all maps by rank, as a table without geometries."""
    import pandas

    names = results[0].classes.legend.names
    rank = {int(tile): place for place, tile in enumerate(ranked.tiles, 1)}
    likes = [rank.get(int(tile)) for tile in ranked.like]
    pairs = [_pair(tiles.unsure[tile], names) for tile in ranked.tiles]
    rows = {
        "rank": np.arange(1, len(ranked.tiles) + 1),
        "uncertainty": tiles.uncertainty[ranked.tiles].round(4),
        "distance": ranked.distance.round(4),
        "like": pandas.array(likes, dtype="Int32"),
        "classes": pairs,
        "observed_share": tiles.observed[ranked.tiles].round(4),
        "why": [
            _why(pair, float(tiles.uncertainty[tile]), like, labelled=bool(nearest >= 0 and like is None))
            for pair, tile, like, nearest in zip(pairs, ranked.tiles, likes, ranked.like, strict=True)
        ],
    }
    return pandas.DataFrame(rows)


def _pair(weighed: np.ndarray[Any, Any], names: Sequence[str]) -> str:
    """The classes between which a tile is unsure."""
    order = np.argsort(-weighed, kind="stable")[:_PAIR]
    total = weighed.sum()
    if len(order) < _PAIR or total <= 0 or weighed[order[0]] > _SURE * total:
        return names[int(order[0])]
    return " or ".join(names[int(one)] for one in order)


def _why(pair: str, uncertainty: float, like: int | None, *, labelled: bool) -> str:
    """One sentence for the person who labels."""
    said = f"The map is unsure here ({uncertainty:.2f} of 1), mostly of {pair}"
    if labelled:
        return f"{said}; of all that is labelled or ranked before, labelled ground is most like it."
    return f"{said}." if like is None else f"{said}; of the tiles ranked before, {like} is most like it."
