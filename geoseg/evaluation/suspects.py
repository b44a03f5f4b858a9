"""Labels that look wrong, from files to files: scores that have not learned from them, and what is found as a layer and a table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from geopandas import GeoDataFrame, GeoSeries
from numpy.typing import NDArray

from geoseg.errors import InputError
from geoseg.evaluation.label_errors import LabelErrors, ScoredLabels, find_label_errors, outlines
from geoseg.evaluation.tiles import held_out_of
from geoseg.ground import geodesic_area_m2, horizontal
from geoseg.io.atomic import atomic
from geoseg.io.geotiff import read_raster
from geoseg.io.labels import Labels
from geoseg.io.opening import files_kept_open, gdal_env
from geoseg.io.qgis_styles import polygons_qml
from geoseg.io.score_files import NO_SCORE, SCORE_STEPS, open_scores
from geoseg.io.staging import Staging, move_results
from geoseg.io.vectors import burn_area, read_area, read_features, write_polygons
from geoseg.legend import Legend
from geoseg.maps.map_results import MapResult, open_all_maps
from geoseg.recipes.forest_scores import score_folds
from geoseg.recipes.pixel_forest import Settings
from geoseg.scene import Scene
from geoseg.sensors import Band

NAMES = ("suspect_labels.gpkg", "suspect_labels.csv", "suspect_labels.json")
TABLE = "suspects"
"""Name of the layer inside the GeoPackage."""
_LEAST_REGION = 9
"""Pixels of a region of a label raster that is listed, where nobody says how many."""
_DESCRIPTION = "Labels that look wrong, the likeliest first, drawn in the colour of the class that they look like"
_READING_CACHE_MB = 64


@dataclass(frozen=True, eq=False)
class ScoredSet:
    """Labels and their scores, ready to be judged."""

    legend: Legend
    scenes: tuple[ScoredLabels, ...]
    files: tuple[str, ...]
    """Label files; `file` of each scene is a place among them."""
    told: tuple[str, ...]
    """Where the scores come from, and what to bear in mind."""


@dataclass(frozen=True)
class SuspectReport:
    """What was found, in sentences and figures, and where it lies."""

    told: tuple[str, ...]
    facts: dict[str, Any]
    files: dict[str, Path]


def score_by_folds(
    scenes: Sequence[Scene], labels: Sequence[str | Path], class_column: str | None = None, *, folds: int = 5, seed: int = 0
) -> ScoredSet:
    """Labels with scores of forests that have not seen them; see `geoseg.recipes.forest_scores`."""
    scored = score_folds(Settings(folds=folds, seed=seed, class_column=class_column), scenes, labels)
    files, paths = _files(labels, len(scenes))
    opened = {path: Labels(path, scored.legend, class_column) for path in files}
    found = [
        ScoredLabels(
            scene.scene.name, scene.geobox, scene.labels, scores, _features(opened[path], scene.geobox, scene.labels), files.index(path)
        )
        for scene, scores, path in zip(scored.scenes, scored.scores, paths, strict=True)
    ]
    return ScoredSet(scored.legend, tuple(found), files, (scored.told,))


def score_by_maps(maps: Sequence[str | Path], labels: Sequence[str | Path], class_column: str | None = None) -> ScoredSet:
    """Labels with the scores of finished maps. Where a map knows what its model held out, only labels on that ground are judged.

    InputError where a map has no scores beside it, or maps have different classes.
    """
    results = open_all_maps(maps)
    if len(labels) not in (1, len(results)):
        raise InputError(f"{len(labels)} files of labels for {len(results)} maps; give one for all, or one for each in the same order")
    files, paths = _files(labels, len(results))
    legend = results[0].classes.legend
    for result in results:
        if result.classes.legend != legend:
            raise InputError(f"{results[0].path} and {result.path} have different classes; look at the labels of each alone")
        if result.scores is None:
            raise InputError(f"{result.path} has no scores beside it; map it again with geoseg predict … --scores")
    opened = {path: Labels(path, legend, class_column) for path in files}
    found, told = [], []
    with gdal_env(_READING_CACHE_MB), files_kept_open():
        for result, path in zip(results, paths, strict=True):
            one, said = _of_map(result, opened[path], files.index(path))
            found.append(one)
            told.append(said)
    return ScoredSet(legend, tuple(found), files, tuple(told))


def write_suspects(scored: ScoredSet, out: Path, *, least_pixels: int | None = None) -> SuspectReport:
    """Judge the labels, and write what looks wrong into the folder `out`: `NAMES`, all of them or none.

    `least_pixels` None lists regions of label rasters from 9 pixels on, and all features. Raises LabelError as `find_label_errors`.
    """
    of_features = scored.scenes[0].features is not None
    least = least_pixels or (1 if of_features else _LEAST_REGION)
    errors = find_label_errors(scored.scenes, scored.legend, least_pixels=least)
    frame = _frame(scored, errors)
    facts = _facts(scored, errors, "features" if of_features else "pixels", least)
    with Staging(out) as work:
        tiles, table, figures = (work / "done" / name for name in NAMES)
        style = polygons_qml(scored.legend, "looks_like_code")
        write_polygons(tiles, frame, layer=TABLE, style_qml=style, description=_DESCRIPTION)
        with atomic(table) as part:
            _with_places(frame).to_csv(part, index=False, lineterminator="\n")
        with atomic(figures) as part:
            part.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
        move_results(work / "done", out, last=NAMES[-1])
    return SuspectReport(tuple(_sentences(scored, errors, facts)), facts, {Path(name).suffix[1:]: out / name for name in NAMES})


def _files(labels: Sequence[str | Path], scenes: int) -> tuple[tuple[str, ...], list[str]]:
    """The different label files, and the one of each scene."""
    paths = [str(path) for path in labels] * (scenes if len(labels) == 1 else 1)
    return tuple(dict.fromkeys(paths)), paths


def _features(labels: Labels, geobox: Any, plane: NDArray[np.int16]) -> NDArray[np.int64] | None:
    """(row, col) row in the file of the feature behind each label, counted from 0; None for a raster."""
    if labels.columns is None:
        return None
    rows = labels.columns.index.to_numpy(dtype=np.int64)
    numbers = labels.read_features(geobox)
    return np.where((plane >= 0) & (numbers >= 0), rows[np.maximum(numbers, 0)], -1)


def _of_map(result: MapResult, labels: Labels, file: int) -> tuple[ScoredLabels, str]:
    grid, legend = result.classes.geobox, labels.legend
    labels.check_near(grid)
    plane = labels.read_plane(grid)
    assert result.scores is not None, "was checked before"
    scores = open_scores(result.scores, legend)
    raster = read_raster(scores.path, {number: Band(f"score{number}", f"score{number}", unit="1") for number in scores.bands}, grid)
    stored = np.rint(np.clip(raster.values * scores.scale + scores.offset, 0, 1) * SCORE_STEPS).astype(np.uint8)
    stored[:, ~raster.valid_everywhere] = NO_SCORE
    model = (result.model or {}).get("title", "the model")
    held = held_out_of(result)
    if held is None:
        said = f"{result.name}: scores of the map. If {model} has learned from these labels, they say little: give the scene instead."
        return ScoredLabels(result.name, grid, plane, stored, _features(labels, grid, plane), file), said
    before = int((plane >= 0).sum())
    plane[~burn_area(read_area(held, grid.crs, near=grid, must_touch=False), grid)] = -1
    kept = int((plane >= 0).sum())
    said = f"{result.name}: scores of the map, on the ground that {model} has not learned from: {kept} of {before} labelled pixels."
    return ScoredLabels(result.name, grid, plane, stored, _features(labels, grid, plane), file), said


def _frame(scored: ScoredSet, errors: LabelErrors) -> GeoDataFrame:
    """The suspects by rank, in the CRS of the first scene."""
    which, examples, legend = errors.suspects, errors.examples, errors.legend
    given, looks = examples.labels[which], errors.suggested
    crs = horizontal(scored.scenes[0].geobox.crs)
    shapes = GeoSeries(list(_shapes(scored, errors, crs)), crs=crs)
    pair = [examples.scores[which, classes].round(4) for classes in (given, looks)]
    columns: dict[str, Any] = {
        "rank": np.arange(1, len(which) + 1),
        "label": [legend.names[one] for one in given],
        "looks_like": [legend.names[one] for one in looks],
        "margin": errors.margins[which].round(4),
        "score_of_label": pair[0],
        "score_looks_like": pair[1],
        "pixels": examples.pixels[which],
        "area_m2": geodesic_area_m2(shapes.to_numpy(), crs).round(1),
        "looks_like_code": np.array([legend.codes[one] for one in looks], dtype=np.int64),
        "scene": [scored.scenes[one].name for one in examples.scene[which]],
    }
    if not examples.regions:
        columns["row"] = examples.number[which] + 1
    return GeoDataFrame(columns, geometry=shapes, crs=crs)


def _shapes(scored: ScoredSet, errors: LabelErrors, crs: Any) -> NDArray[Any]:
    """The polygons of the label file themselves; else the outlines of the pixels."""
    examples, which = errors.examples, errors.suspects
    traced = outlines(scored.scenes, examples, which)
    for at, scene in enumerate(scored.scenes):
        mine = np.flatnonzero(examples.scene[which] == at)
        if not len(mine):
            continue
        moved = GeoSeries(list(traced[mine]), crs=horizontal(scene.geobox.crs)).to_crs(crs)
        if not examples.regions:
            own = read_features(scored.files[scene.file]).geometry.to_crs(crs).loc[examples.number[which[mine]]]
            areal = shapely.get_dimensions(own.to_numpy()) == 2
            moved = GeoSeries(np.where(areal, own.to_numpy(), moved.to_numpy()), crs=crs)
        traced[mine] = moved.to_numpy()
    return traced


def _with_places(frame: GeoDataFrame) -> Any:
    """The table with the middle of each outline in degrees in the place of its geometry."""
    middles = frame.geometry.representative_point().to_crs("EPSG:4326")
    return frame.drop(columns="geometry").assign(lon=middles.x.round(6), lat=middles.y.round(6))


def _facts(scored: ScoredSet, errors: LabelErrors, unit: str, least: int) -> dict[str, Any]:
    joint, names = errors.joint, errors.legend.names
    shares = joint.wrong_shares
    return {
        "labels": list(scored.files),
        "scores": list(scored.told),
        "counted_in": unit,
        "judged": len(errors.examples),
        "suspects": len(errors.suspects),
        "least_pixels": least,
        "classes": list(names),
        "thresholds": {name: _number(value) for name, value in zip(names, joint.thresholds, strict=True)},
        "joint": joint.counts.tolist(),
        "joint_is": "rows: label; columns: the class that the scores are confident of",
        "estimated_wrong_share": _number(joint.wrong_share),
        "estimated_wrong_shares": {name: _number(value) for name, value in zip(names, shares, strict=True)},
    }


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _sentences(scored: ScoredSet, errors: LabelErrors, facts: dict[str, Any]) -> list[str]:
    what = "features" if not errors.examples.regions else "regions"
    share = facts["estimated_wrong_share"]
    said = [*scored.told, f"{len(errors.suspects)} of {len(errors.examples)} {what} look wrong; look at them before you change anything."]
    if share is not None:
        worst = {name: value for name, value in facts["estimated_wrong_shares"].items() if value}
        by_class = ", ".join(f"{name} {value:.1%}" for name, value in sorted(worst.items(), key=lambda pair: -pair[1]))
        said.append(f"Of the {facts['counted_in']}, {share:.1%} are estimated to be wrong{f': {by_class}' if by_class else ''}.")
    return said
