"""Conformal sets calibrated on labelled ground, and checked on blocks of it that they were not calibrated on.

Half of the blocks, drawn at random, give each class's threshold (see `geoseg.mapping.conformal`); on the other half it is counted how
often the sets hold the true class. The promise is one for pixels that are exchangeable with those of the calibration. Neighbouring pixels
are alike, so the blocks tell more than the number of pixels; and pixels of another region, season or sensor are not exchangeable.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import InputError, LabelError
from geoseg.evaluation.guesses import guessed, read_scores
from geoseg.io.atomic import atomic
from geoseg.io.labels import Labels
from geoseg.io.opening import files_kept_open, gdal_env
from geoseg.io.score_files import SCORE_STEPS, open_scores
from geoseg.mapping.conformal import ClassThreshold, Thresholds, contained
from geoseg.maps.counting import strips
from geoseg.maps.map_results import MapResult, open_all_maps

METHOD = "split conformal, least ambiguous sets (Sadinle, Lei and Wasserman 2019), class by class, calibrated and checked by spatial block"
CAVEAT = (
    "The share of right sets holds for pixels that are exchangeable with the calibration ground; another region, season or sensor is not: "
    "there the sets may leave out the true class more often, and only labels of that ground can tell."
)
_READING_CACHE_MB = 64
_SEED = 7
_FEW_BLOCKS = 10


@dataclass(frozen=True, eq=False)
class _Pixels:
    """Labelled pixels of one strip that have scores."""

    steps: NDArray[np.int64]
    """(class, pixel) scores in steps of 1/250."""
    truth: NDArray[np.int64]
    block: NDArray[np.int64]
    """(pixel,) number of the block within its map."""


def least_steps(counts: NDArray[np.integer[Any]], alpha: float) -> NDArray[np.int64]:
    """(class,) the least score, in steps, with which a class belongs to the set.

    `counts` (class, step) says how many calibration pixels of a class have this score of it. With n of them it is the
    floor(alpha (n + 1))-th smallest, so that a further pixel of the class has less with a probability of at most `alpha`; 0, which puts
    the class in every set, where there are too few to say.
    """
    found = counts.sum(axis=1)
    rank = np.floor(alpha * (found + 1) + 1e-9).astype(np.int64)
    at = (counts.cumsum(axis=1) < rank[:, np.newaxis]).sum(axis=1)
    return np.where(rank >= 1, at, 0)


def conformal(
    maps: Sequence[str | Path],
    labels: Sequence[str | Path],
    out: Path,
    *,
    alpha: float = 0.1,
    class_column: str | None = None,
    block_pixels: int = 64,
    overwrite: bool = False,
) -> Thresholds:
    """Find the thresholds of conformal sets for maps with scores, check them, and write them to the .json `out`.

    `labels` is one file for all maps, or one for each. Reads strip by strip, twice; memory does not grow with the maps' height.

    Raises InputError where maps have no scores or other classes than the first, or were made otherwise; LabelError where all labels lie
    in blocks that are for one purpose only.
    """
    _check_settings(out, alpha, block_pixels, overwrite=overwrite)
    results = open_all_maps(maps)
    _check_alike(results)
    if len(labels) not in (1, len(results)):
        raise InputError(f"{len(labels)} files of labels for {len(results)} maps; give one for all, or one for each in the same order")
    legend = results[0].classes.legend
    opened = [Labels(path, legend, class_column) for path in labels] * (len(results) // len(labels))
    counts = np.zeros((len(legend), SCORE_STEPS + 1), np.int64)
    with gdal_env(_READING_CACHE_MB), files_kept_open():
        for number, (result, source) in enumerate(zip(results, opened, strict=True)):
            source.check_near(result.classes.geobox)
            for pixels in _labelled(result, source, block_pixels):
                mine = _is_for_calibration(pixels.block, number)
                own = np.take_along_axis(pixels.steps, pixels.truth[np.newaxis], axis=0)[0]
                np.add.at(counts, (pixels.truth[mine], own[mine]), 1)
        if not counts.any():
            raise LabelError("no labelled pixel with scores lies in the blocks that calibrate; label ground in more places")
        rows = zip(legend.classes, least_steps(counts, alpha), counts.sum(axis=1), strict=True)
        classes = tuple(ClassThreshold(code=one.code, name=one.name, least_step=int(least), pixels=int(n)) for one, least, n in rows)
        found = Thresholds(
            method=METHOD, alpha=alpha, classes=classes, model=_model(results[0]), tta=_tta(results[0]), report={}, caveat=CAVEAT
        )
        report = _checked(results, opened, found, block_pixels)
    made = found.model_copy(update={"report": report})
    with atomic(out) as part:
        part.write_text(made.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return made


def _checked(results: Sequence[MapResult], opened: Sequence[Labels], found: Thresholds, block_pixels: int) -> dict[str, Any]:
    """Coverage by class and by block on the blocks that did not calibrate."""
    count = len(found.classes)
    held, total, sizes = np.zeros(count, np.int64), np.zeros(count, np.int64), np.zeros(count + 1, np.int64)
    blocks: list[dict[str, Any]] = []
    for number, (result, source) in enumerate(zip(results, opened, strict=True)):
        sums: dict[int, NDArray[np.int64]] = {}
        for pixels in _labelled(result, source, block_pixels):
            kept = ~_is_for_calibration(pixels.block, number)
            inside = contained(pixels.steps[:, kept], found)
            truth, right = pixels.truth[kept], np.take_along_axis(inside, pixels.truth[kept][np.newaxis], axis=0)[0]
            held += np.bincount(truth[right], minlength=count)
            total += np.bincount(truth, minlength=count)
            sizes += np.bincount(inside.sum(axis=0), minlength=count + 1)
            for block in np.unique(pixels.block[kept]):
                mine = pixels.block[kept] == block
                sums[int(block)] = sums.get(int(block), np.zeros(2, np.int64)) + np.array([right[mine].sum(), mine.sum()])
        across = -(-result.classes.geobox.shape[1] // block_pixels)
        for block, (right_here, here) in sorted(sums.items()):
            place = {"map": result.name, "row": block // across * block_pixels, "col": block % across * block_pixels}
            blocks.append({**place, "pixels": int(here), "coverage": float(right_here / here)})
    if not blocks:
        raise LabelError("no labelled pixel with scores lies in the blocks that check; label ground in more places")
    shares = np.array([block["coverage"] for block in blocks])
    names = [one.name for one in found.classes]
    return {
        "coverage": float(held.sum() / total.sum()),
        "pixels": int(total.sum()),
        "mean_set_size": float((sizes * np.arange(count + 1)).sum() / sizes.sum()),
        "set_sizes": {str(size): float(share) for size, share in enumerate(sizes / sizes.sum())},
        "classes": {
            name: {"pixels": int(n), "coverage": float(h / n) if n else None} for name, h, n in zip(names, held, total, strict=True)
        },
        "block_pixels": block_pixels,
        "blocks_that_fall_short": float((shares < 1 - found.alpha).mean()),
        "worst_tenth_of_blocks": float(np.quantile(shares, 0.1)),
        "blocks": blocks,
        "warnings": list(_warnings(found, total, len(blocks))),
    }


def _warnings(found: Thresholds, total: NDArray[np.int64], blocks: int) -> Iterator[str]:
    for one, checked in zip(found.classes, total, strict=True):
        if one.least_step == 0:
            yield f"{one.name} has {one.pixels} labelled pixels to calibrate with, too few or all scored 0: it is in every set"
        if not checked:
            yield f"{one.name} has no labelled pixel in the blocks that check, so nothing is known of its share of right sets"
    if blocks < _FEW_BLOCKS:
        yield f"only {blocks} blocks check the sets; pixels of one block are alike, so the figures are rough"


def _labelled(result: MapResult, labels: Labels, block_pixels: int) -> Iterator[_Pixels]:
    """The labelled pixels of a map that have scores, strip by strip."""
    assert result.scores is not None
    grid, legend = result.classes.geobox, labels.legend
    scores = open_scores(result.scores, legend)
    across = -(-grid.shape[1] // block_pixels)
    for strip in strips(grid):
        here = grid[strip]
        truth, labelled = labels.read(here)
        if not labelled.any():
            continue
        both = labelled & (guessed(result, here, labelled, legend) >= 0)
        rows, cols = np.nonzero(both)
        block = (rows + strip.start) // block_pixels * across + cols // block_pixels
        steps = np.rint(read_scores(scores, here)[:, both] * SCORE_STEPS).astype(np.int64)
        yield _Pixels(steps, truth[both], block)


def _is_for_calibration(blocks: NDArray[np.int64], number: int) -> NDArray[np.bool_]:
    """Whether each block of a map calibrates, by a draw of its own that does not depend on the others."""
    found, at = np.unique(blocks, return_inverse=True)
    drawn = np.array([np.random.default_rng((_SEED, number, int(block))).random() < 0.5 for block in found], np.bool_)
    return drawn[at]


def _check_settings(out: Path, alpha: float, block_pixels: int, *, overwrite: bool) -> None:
    if not 0 < alpha < 1:
        raise InputError(f"--alpha is {alpha:g}; expected a share between 0 and 1, such as 0.1 for sets that are right nine times in ten")
    if block_pixels < 1:
        raise InputError(f"--block is {block_pixels}; expected 1 pixel or more")
    if out.exists() and not overwrite:
        raise InputError(f"{out} is there already; choose another -o, or replace it with --overwrite")


def _check_alike(results: Sequence[MapResult]) -> None:
    """Raise InputError where a map has no scores, or not those of the first one's network."""
    first = results[0]
    for result in results:
        if result.scores is None:
            raise InputError(f"{result.path} has no scores beside it; make the map again with geoseg predict --scores")
        if (result.classes.legend.codes, result.classes.legend.names) != (first.classes.legend.codes, first.classes.legend.names):
            raise InputError(f"{result.path} has other classes than {first.path}; give maps of one model")
        if (_model(result), _tta(result)) != (_model(first), _tta(first)):
            raise InputError(f"{result.path} was made by another model than {first.path}, or with another --tta; give maps of one kind")


def _model(result: MapResult) -> tuple[str, ...]:
    """Checksums of the packages at work; none where the map does not know."""
    if result.model is None:
        return ()
    return (result.model["checksum"], *(one["checksum"] for one in result.model.get("ensemble", ())))


def _tta(result: MapResult) -> str | None:
    return result.options.get("tta")
