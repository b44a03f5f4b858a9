"""A picture of patches for people: image, truth and, where there is one, prediction side by side."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.data.windows import UNLABELLED
from geoseg.errors import require
from geoseg.legend import Legend
from geoseg.preprocess.series import split_role

_TITLES = ("image", "truth", "prediction")
_NO_LABEL, _PAPER, _INK = (214, 214, 214), (255, 255, 255), (40, 40, 40)
_GAP, _LINE = 8, 22
"""Pixels between panels; of a line of text."""
_EDGE = 192
"""Pixels that a panel has at least; smaller patches are shown larger, each pixel as a square."""
_STRETCH = (2, 98)
"""Percentiles that are shown black and white."""
_COLOURS = (("red", "green", "blue"), ("nir", "red", "green"), ("swir16", "nir", "red"))
"""Roles that are shown in red, green and blue: the first of these that an image has, else its first channel in grey."""


def draw_patches(
    images: NDArray[np.float32], labels: NDArray[np.int64], guesses: NDArray[np.int64] | None, legend: Legend, channels: Sequence[str]
) -> bytes:
    """A PNG with a row for each patch: `images` (patch, channel, row, col), then `labels` and `guesses`, if any (patch, row, col).

    Both are class indices in the legend's colours; grey where `labels` are UNLABELLED. All images are stretched alike, and below
    stands the legend.
    """
    pillow = require("PIL.Image", extra="train")
    larger = max(1, -(-_EDGE // max(images.shape[-2:])))
    size = images.shape[-1] * larger, images.shape[-2] * larger
    columns = [_shown(images, channels), _painted(labels, legend)] + ([] if guesses is None else [_painted(guesses, legend)])
    step_x, step_y = size[0] + _GAP, size[1] + _GAP
    lines = _legend_lines(legend, len(columns) * step_x)
    picture = pillow.new("RGB", (len(columns) * step_x + _GAP, _LINE + len(images) * step_y + _GAP + _LINE * len(lines)), _PAPER)
    for place, title in enumerate(_TITLES[: len(columns)]):
        _write(picture, (_GAP + place * step_x, 3), title)
    for down, panels in enumerate(zip(*columns, strict=True)):
        for across, panel in enumerate(panels):
            enlarged = pillow.fromarray(panel).resize(size, pillow.Resampling.NEAREST)
            picture.paste(enlarged, (_GAP + across * step_x, _LINE + down * step_y))
    _write_legend(picture, lines, _LINE + len(images) * step_y)
    file = io.BytesIO()
    picture.save(file, format="PNG", optimize=True)
    return file.getvalue()


def _shown(images: NDArray[np.float32], channels: Sequence[str]) -> NDArray[np.uint8]:
    """(patch, row, col, 3) as a person sees it; exact zeros, which stand for no data, have no say in the stretch."""
    roles = [split_role(name)[0] for name in channels]
    wanted = next((colours for colours in _COLOURS if set(colours) <= set(roles)), (roles[0],) * 3)
    planes = images[:, [roles.index(role) for role in wanted]]
    valid = (images != 0).any(axis=1)
    shown = np.zeros((*images.shape[:1], *images.shape[2:], 3), dtype=np.uint8)
    for colour in range(3):
        plane = planes[:, colour]
        least, most = np.percentile(plane[valid], _STRETCH) if valid.any() else (0.0, 1.0)
        shown[..., colour] = np.where(valid, np.clip((plane - least) / max(most - least, 1e-6), 0, 1) * 255, 0)
    return shown


def _painted(indices: NDArray[np.int64], legend: Legend) -> NDArray[np.uint8]:
    """(…, 3) in the legend's colours."""
    colours = np.array([*(one.rgb for one in legend.classes), _NO_LABEL], dtype=np.uint8)
    return colours[np.where(indices == UNLABELLED, len(legend), indices)]


def _legend_lines(legend: Legend, width: int) -> list[list[tuple[int, str, tuple[int, int, int]]]]:
    """The legend's entries (left edge, name, colour), in as many lines as it takes."""
    lines: list[list[tuple[int, str, tuple[int, int, int]]]] = [[]]
    left = _GAP
    for name, colour in [*((one.name, one.rgb) for one in legend.classes), ("no label", _NO_LABEL)]:
        needed = _LINE + 7 * len(name) + 2 * _GAP
        if left + needed > width and lines[-1]:
            lines.append([])
            left = _GAP
        lines[-1].append((left, name, colour))
        left += needed
    return lines


def _write_legend(picture: Any, lines: list[list[tuple[int, str, tuple[int, int, int]]]], top: int) -> None:
    draw = require("PIL.ImageDraw", extra="train").Draw(picture)
    for number, line in enumerate(lines):
        row = top + number * _LINE
        for left, name, colour in line:
            draw.rectangle((left, row + 3, left + 14, row + 17), fill=colour, outline=_INK)
            _write(picture, (left + 20, row + 3), name)


def _write(picture: Any, place: tuple[int, int], text: str) -> None:
    """Text in Pillow's own typeface; a letter that this lacks becomes a question mark."""
    draw = require("PIL.ImageDraw", extra="train").Draw(picture)
    draw.text(place, text.encode("latin-1", errors="replace").decode("latin-1"), fill=_INK)
