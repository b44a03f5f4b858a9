"""Training scenes written once more in small blocks, where windows of them are dear to read."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import rasterio
import rasterio.shutil
from rasterio.io import DatasetReader

from geoseg.io.atomic import atomic, output_error
from geoseg.io.opening import GDAL_ERRORS, opened
from geoseg.io.remote import is_remote
from geoseg.scene import Layer, Scene, finest_blocks

log = logging.getLogger(__name__)

BLOCK = 256
"""Edge of the blocks in pixels: a window of as many touches four at most."""
DEAR = 12
"""From so many decoded pixels for each that a window of BLOCK x BLOCK holds, blocks are worth a word; tiles of 512 come to 9."""


def retiled(scene: Scene, roles: Sequence[str], folder: Path) -> Scene:
    """The scene with these layers read from copies in `folder`, made where they are not there yet.

    A copy holds the same stored numbers, masks, tags and grid, in blocks of 256 x 256 pixels, each band by itself, compressed with
    zstd, which is quick to decode. Its name tells the file, its size and its time, so that no copy of an older file is taken.
    Layers that are computed when they are read stay as they are. Raises OutputError where `folder` cannot be written, and
    SceneError where a file cannot be read to its end.
    """
    wanted = {layer.path for layer in map(scene.layer, roles) if layer.reader is None}
    copies = {path: str(_copy(path, folder)) for path in sorted(wanted)}

    def moved(layer: Layer) -> Layer:
        return replace(layer, path=copies.get(layer.path, layer.path)) if layer.reader is None else layer

    return replace(scene, layers=tuple(map(moved, scene.layers)))


def dear_to_read(scene: Scene, roles: Sequence[str]) -> str | None:
    """A sentence where windows of the scene cost much more than they hold; None where they do not."""
    rows, cols = finest_blocks(scene, roles)
    decoded = (BLOCK + rows - 1) * (BLOCK + cols - 1) / BLOCK**2
    remote = any(is_remote(scene.layer(role).path) for role in roles)
    if decoded < DEAR and not remote:
        return None
    why = "it is read over a network" if remote else f"stored in blocks of {rows} x {cols}, some {decoded:.0f} pixels are decoded for each"
    return (
        f"windows of {scene.source} are dear to read: {why}; the setting retile: FOLDER copies it once into small blocks, which pays after "
        "some hundred windows"
    )


def _copy(path: str, folder: Path) -> Path:
    """The copy of one file, perhaps from an earlier time."""
    with opened(path) as source:
        out = folder / f"{_stem(path)}_{_key(path, source)}.tif"
        if out.exists():
            return out
        size = source.width * source.height / 1e6
        log.info("copying %s (%.0f megapixels, %d bands) into blocks of %d pixels: %s", path, size, source.count, BLOCK, out)
        with atomic(out) as part:
            try:
                with rasterio.Env(GDAL_TIFF_INTERNAL_MASK="YES"):
                    rasterio.shutil.copy(source, part, driver="GTiff", strict=False, **_form(source))
            except GDAL_ERRORS as error:
                if part.exists():  # what was read could be written, up to here
                    raise output_error(out, error) from error
                raise
            _check_same(source, part, out)
    return out


def _check_same(source: DatasetReader, part: Path, out: Path) -> None:
    """Raise OutputError where a copy does not read back as what it was made from."""
    try:
        with rasterio.open(part) as copy:
            same = all(copy.checksum(band) == source.checksum(band) for band in source.indexes)
    except GDAL_ERRORS as error:
        raise output_error(out, error) from error
    if not same:
        raise output_error(out, "what was written does not read back as it was")


def _form(source: DatasetReader) -> dict[str, Any]:
    """Creation options that keep every number."""
    kind, odd = source.dtypes[0], "NBITS" in source.tags(1, ns="IMAGE_STRUCTURE")
    predictor = 1 if odd or kind.startswith("complex") else 3 if kind.startswith("float") else 2
    return {
        "tiled": True,
        "blockxsize": BLOCK,
        "blockysize": BLOCK,
        "compress": "zstd",
        "zstd_level": 1,
        "predictor": predictor,
        "interleave": "band",
        "bigtiff": "if_safer",
    }


def _stem(path: str) -> str:
    """What is left of a file's name, for people."""
    return "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in Path(path).stem)[:60].strip("-") or "scene"


def _key(path: str, source: DatasetReader) -> str:
    """Says which file it is, and that it is still the same."""
    seen = [path, *source.shape, source.count]
    for name in source.files:
        if os.path.exists(name):
            facts = os.stat(name)
            seen += [os.path.abspath(name), facts.st_size, facts.st_mtime_ns]
    return hashlib.sha256(repr(seen).encode()).hexdigest()[:12]
