"""A model package whose scores can be taken for probabilities, on ground like that which it is calibrated on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from geoseg.errors import InputError, LabelError, PackageError
from geoseg.evaluation.named_areas import NamedAreas
from geoseg.io.labels import Labels
from geoseg.mapping.network import open_network
from geoseg.mapping.plan import MapOptions, MapPlan, plan_map
from geoseg.mapping.rows import finished_strips
from geoseg.mapping.windows import area_of
from geoseg.models.calibration import Calibration
from geoseg.models.package import CARD, ONNX, WEIGHTS, Figure, ModelDescription, ModelPackage, Output, write_package
from geoseg.models.temperature import fit_temperature, tempered_pixels
from geoseg.scene import Scene

if TYPE_CHECKING:
    from geopandas import GeoDataFrame

_MOST = 400_000
"""Pixels that are held; a random share of more."""
_BLOCK = 64
"""Pixels: edge of the blocks that are shared out where a package tells of no ground that was held out."""
_SEED = 0
_FIGURE = "expected calibration error"
_FIT, _JUDGE = "fit", "judge"


@dataclass(frozen=True)
class Calibrated:
    """What came of it."""

    package: ModelPackage
    temperature: float
    before: float
    """Expected calibration error, 0…1, on ground that the temperature was not fitted on; with the temperature that the package had."""
    after: float
    fitted_on: str
    judged_on: str


@dataclass(frozen=True, eq=False)
class _Pixels:
    scores: NDArray[np.float32]
    """(pixel, class)"""
    truth: NDArray[np.int64]
    place: NDArray[np.str_]
    """(pixel,) `validation`, `test` or `other` ground, and whether its block is for fitting or judging."""


def calibrate(
    package: ModelPackage, scenes: Sequence[Scene], labels: Sequence[str | Path], out: str | Path, *, class_column: str | None = None
) -> Calibrated:
    """Write `package` once more to `out`, with the temperature at which its scores on labelled ground are frequencies.

    It is fitted on the validation ground of the package's training and judged on its test ground, where it tells of both; else on every
    other block of 64 pixels of all labelled ground, and judged on the blocks between. Class maps stay the same.

    A temperature that the package has is replaced. Raises PackageError where the package maps no or several classes, or `out` exists;
    InputError for labels that do not go with the scenes; LabelError where too little ground is labelled.
    """
    if Path(out).exists():
        raise PackageError(f"{out} exists already; choose another name for the model package, or remove it")
    outputs = [output for output in package.outputs if output.kind == "classes"]
    if len(outputs) != 1 or package.preparation.calendar is not None:
        raise PackageError(f"{package.path} is not a model of one map of classes of single dates, which is what can be calibrated")
    output = outputs[0]
    if len(labels) not in (1, len(scenes)):
        raise InputError(f"{len(labels)} files of labels for {len(scenes)} scenes; give one for all, or one for each in the same order")
    opened = [Labels(path, output.legend, class_column) for path in labels]
    generator = np.random.default_rng(_SEED)
    found = []
    for scene, source in zip(scenes, opened * (len(scenes) // len(opened)), strict=True):
        plan = plan_map(scene, package, MapOptions(picture=False, polygons=False))
        source.check_near(plan.geobox)
        found += list(_labelled(plan, source, output.name))
    pixels = _thinned(_Pixels(*(np.concatenate([getattr(one, name) for one in found]) for name in ("scores", "truth", "place"))), generator)
    fitted, judged, on = _shared_out(pixels)
    temperature = fit_temperature(pixels.scores[fitted], pixels.truth[fitted])
    before, after = (_error(pixels, judged, at) for at in (output.temperature or 1.0, temperature))
    changed = output.model_copy(update={"temperature": temperature, "calibrated": True})
    names = ", ".join(scene.name for scene in scenes)
    was = "without temperature" if output.temperature is None else "with the temperature that it had"
    figures = tuple(
        Figure(name=f"{_FIGURE} {what}", value=value, on=f"{on[1]} of {names}", by=package.labels or "labels given")
        for what, value in ((was, before), ("with its temperature", after))
    )
    made = _write(package, Path(out), changed, figures)
    return Calibrated(made, temperature, before, after, *on)


def _labelled(plan: MapPlan, labels: Labels, name: str) -> Iterator[_Pixels]:
    """The labelled pixels of a map, strip by strip."""
    areas = _areas(plan.held_out)
    for finished in finished_strips(plan, open_network(plan), area_of(plan)):
        rows, cols = finished.strip.rows, finished.strip.panel.cols
        here = plan.geobox[rows, cols]
        truth, labelled = labels.read(here)
        both = labelled & finished.observed
        if both.any():
            place = _places(here, areas, (rows.start, cols.start))
            yield _Pixels(finished.scores[name][:, both].T.copy(), truth[both], place[both])


def _areas(held_out: GeoDataFrame | None) -> NamedAreas | None:
    if held_out is None:
        return None
    parts = [str(part) for part in held_out["part"]]
    names = tuple(dict.fromkeys(parts))
    return NamedAreas(names, np.array([names.index(part) for part in parts], np.int64), held_out.geometry.to_numpy(), held_out.crs)


def _places(here: GeoBox, areas: NamedAreas | None, first: tuple[int, int]) -> NDArray[np.str_]:
    """(row, col) which ground a pixel is of."""
    rows, cols = (np.arange(size) + begin for size, begin in zip(here.shape.yx, first, strict=True))
    even = ((rows // _BLOCK)[:, np.newaxis] + cols // _BLOCK) % 2 == 0
    place = np.where(even, _FIT, _JUDGE).astype("<U10")
    for name, inside in () if areas is None else areas.on(here):
        place[inside] = name
    return place


def _thinned(pixels: _Pixels, generator: np.random.Generator) -> _Pixels:
    if len(pixels.truth) <= _MOST:
        return pixels
    kept = np.sort(generator.choice(len(pixels.truth), _MOST, replace=False))
    return _Pixels(pixels.scores[kept], pixels.truth[kept], pixels.place[kept])


def _shared_out(pixels: _Pixels) -> tuple[NDArray[np.bool_], NDArray[np.bool_], tuple[str, str]]:
    """Which pixels to fit on and which to judge on, and what they are in words."""
    of = {name: pixels.place == name for name in ("validation", "test", _FIT, _JUDGE)}
    if of["validation"].any() and of["test"].any():
        return of["validation"], of["test"], ("the validation blocks of its training", "the test blocks of its training")
    fitted, judged = of[_FIT] | of["validation"], of[_JUDGE] | of["test"]
    if not fitted.any() or not judged.any():
        raise LabelError(f"the labels lie in one block of {_BLOCK} pixels; label ground in more places, to fit on some and judge on others")
    return fitted, judged, (f"every other block of {_BLOCK} pixels", "the blocks between those that it was fitted on")


def _error(pixels: _Pixels, judged: NDArray[np.bool_], temperature: float) -> float:
    scores = tempered_pixels(pixels.scores[judged], temperature)
    guess = scores.argmax(axis=1)
    of_class = np.take_along_axis(scores, guess[:, np.newaxis], axis=1)[:, 0]
    return Calibration.count(of_class, guess == pixels.truth[judged]).error


def _write(package: ModelPackage, out: Path, output: Output, figures: tuple[Figure, ...]) -> ModelPackage:
    kept = {name: package.read(name) for name in package.checksums if name not in (CARD, ONNX, WEIGHTS)}
    stated = {name: getattr(package, name) for name in ModelDescription.model_fields}
    stated["outputs"] = tuple(output if one.name == output.name else one for one in package.outputs)
    kept_figures = (figure for figure in package.figures if not figure.name.startswith(_FIGURE))
    description = ModelDescription(**{**stated, "figures": (*kept_figures, *figures)})
    return write_package(out, description, onnx=package.onnx, weights=package.weights, others=kept)
