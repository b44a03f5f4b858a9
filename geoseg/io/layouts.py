"""Folders of images and labels, by patterns: which label goes with which image, and which split both are of.

`{split}/images/{name}.png` and `{split}/masks/{name}.png` pair all images with the masks of the same split and name. A word in braces
stands for one part of a path without slashes, and for the same wherever it stands.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from geoseg.errors import InputError

_WORD = re.compile(r"\{([a-z_]+)\}")
_SHOWN = 3
"""So many of the files that lack something are named."""


@dataclass(frozen=True)
class Pair:
    """An image, and its labels."""

    name: str
    """Tells it from all others: what stood for the pattern's words, joined by slashes."""
    split: str | None
    """`train`, `val` or `test`; None where the pattern does not say."""
    image: Path
    labels: Path | None
    """None in splits without labels."""


def find_pairs(
    folder: Path,
    images: str,
    labels: str | None,
    *,
    splits: Mapping[str, str] | None = None,
    unlabelled: tuple[str, ...] = (),
) -> list[Pair]:
    """All images of a folder that fit the pattern `images`, in the order of their names, each with its labels by the pattern `labels`.

    `splits` says what the data set's own words for a split mean, such as `validation` → `val`. InputError where no image fits, and,
    with the names, where labels are missing, unless their split is one of `unlabelled`.
    """
    if labels is not None and (extra := set(_WORD.findall(labels)) - set(_WORD.findall(images))):
        raise InputError(f"the pattern {labels!r} has {{{sorted(extra)[0]}}}, which {images!r} has not; use the words of the images")
    found, missing = [], []
    for path, words in _matches(folder, images):
        split = words.get("split")
        split = (splits or {}).get(split, split) if split is not None else None
        partner = None if labels is None else folder / labels.format_map(words)
        if partner is not None and not partner.is_file():
            if split not in unlabelled:
                missing.append(f"{path.relative_to(folder).as_posix()} (expected {partner.relative_to(folder).as_posix()})")
            partner = None
        found.append(Pair("/".join(words.values()), split, path, partner))
    if not found:
        raise InputError(f"no file in {folder} fits the pattern {images}; is this the data set's folder, unpacked as it came?")
    if missing:
        more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        raise InputError(f"{len(missing)} of {len(found)} images in {folder} have no labels: {', '.join(missing[:_SHOWN])}{more}")
    return sorted(found, key=lambda pair: pair.name)


def _matches(folder: Path, pattern: str) -> Iterator[tuple[Path, dict[str, str]]]:
    """The files that fit, and what stands for each word."""
    seen: set[str] = set()
    parts = []
    for at, text in enumerate(_WORD.split(pattern)):
        if at % 2 == 0:
            parts.append(re.escape(text))
        else:
            parts.append(f"(?P={text})" if text in seen else f"(?P<{text}>[^/]+?)")
            seen.add(text)
    fits = re.compile("".join(parts))
    for place, _, names in os.walk(folder):
        for name in names:
            path = Path(place, name)
            if (match := fits.fullmatch(path.relative_to(folder).as_posix())) is not None:
                yield path, match.groupdict()
