"""Embeddings as files: strips joined, stored in the numbers that were asked for, and what is written down of them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.io.atomic import atomic
from geoseg.io.blocks import BlockWriter
from geoseg.io.cog import write_cog
from geoseg.io.geotiff import read_raster
from geoseg.io.opening import files_kept_open
from geoseg.io.part_files import Part, RasterForm, write_vrt
from geoseg.io.provenance import file_facts, grid_fields, software
from geoseg.io.stac import ModelFacts, RunFacts, SceneFacts, file_asset, prediction_item
from geoseg.mapping.embed_plan import EmbedOptions, EmbedPlan, NumberType
from geoseg.mapping.record import all_sources, input_files
from geoseg.runtimes.features import EMBEDDING
from geoseg.scenes.composites import composite_tags
from geoseg.sensors import SENSORS

_BLOCK = 128
"""Edge of the file's blocks: all bands of one are read together, and there are many."""
_WRITTEN_COLS, _WRITTEN_NUMBERS = 512, 1 << 24
"""Columns that are written at once, at most, and so few that a row of blocks has no more numbers, if that is a block."""
_STEPS = 127
"""Numbers on either side of 0 in which a band is stored in a byte."""
_BYTE_NODATA = -128
_WITHOUT_EFFECT = ("threads", "on_error")
"""Options that change how vectors are made, not what they are."""
_COG = "image/tiff; application=geotiff; profile=cloud-optimized"


def finish_embedding(plan: EmbedPlan, parts: Path, out: Path) -> None:
    """From the strips' parts to the finished file."""
    joined, stored = parts / f"{EMBEDDING}.vrt", parts / f"{EMBEDDING}_stored.tif"
    strips = plan.map.tiles.strips
    pieces = [
        Part(
            parts / f"{strip.number:06d}" / f"{EMBEDDING}.tif",
            slice(strip.rows.start // plan.step, -(-strip.rows.stop // plan.step)),
            strip.panel.coarser(plan.step).cols,
        )
        for strip in strips
    ]
    write_vrt(joined, plan.patches, RasterForm(plan.features.width, np.float32, nodata=float("nan")), pieces)
    names = tuple(band.name for band in plan.bands)
    with files_kept_open():
        stored_as = _byte_scales(plan, joined) if plan.options.dtype == "int8" else None
        kept = {"scales": stored_as[0].tolist(), "offsets": stored_as[1].tolist()} if stored_as is not None else {}
        writer = BlockWriter(
            stored,
            plan.geobox,
            count=plan.features.width,
            dtype=np.float32 if stored_as is None else np.int8,
            nodata=float("nan") if stored_as is None else _BYTE_NODATA,
            descriptions=names,
            units=("1",) * len(names),
            tags=_tags(plan),
            block=_BLOCK,
            **kept,
        )
        with writer:
            for rows, cols in _windows(plan):
                writer.write(rows, cols, _stored(_vectors(plan, joined, rows, cols), plan.options.dtype, stored_as))
    write_cog(stored, out, kind="continuous", block=_BLOCK)


def command_line(plan: EmbedPlan, opened_with: Mapping[str, Any]) -> list[str]:
    """The `geoseg embed` command, without -o: what is at its default is left out."""
    words = ["geoseg", "embed", *(plan.map.scene.stack or [plan.map.scene.source]), "--model", str(plan.features.package.path)]
    defaults = EmbedOptions()
    given: dict[str, Any] = {name: value for name, value in opened_with.items() if value is not None}
    given |= {
        one.name: getattr(plan.options, one.name)
        for one in dataclasses.fields(EmbedOptions)
        if getattr(plan.options, one.name) != getattr(defaults, one.name)
    }
    for name, value in given.items():
        flag = f"--{name.replace('_', '-')}"
        words += [flag] if value is True else [flag, (",".join(value) or "none") if isinstance(value, list | tuple) else str(value)]
    return words


def plan_facts(plan: EmbedPlan, opened_with: Mapping[str, Any]) -> dict[str, Any]:
    """All that decides what the file will be, as plain data."""
    tiles, features = plan.map.tiles, plan.features
    return {
        "source": all_sources(plan.map),
        "opened_with": {name: value for name, value in opened_with.items() if value is not None},
        "inputs": [file_facts(path) for path in input_files(plan.map)],
        "model": [features.package.checksum],
        "options": {name: value for name, value in dataclasses.asdict(plan.options).items() if name not in _WITHOUT_EFFECT},
        "software": software() | {features.name: features.version},
        "grid": grid_fields(plan.geobox),
        "tiles": {
            "tile": tiles.tile, "rows": tiles.row_origins, "cols": tiles.col_origins, "overlap": tiles.overlap,
            "panels": [panel.cols.stop for panel in tiles.panels],
        },
    }  # fmt: skip


def write_item(
    plan: EmbedPlan, folder: Path, names: Mapping[str, str], command: Sequence[str], facts: Mapping[str, Any], summary: Mapping[str, Any]
) -> None:
    """The STAC Item into `folder`, where the raster lies already."""
    scene, package = plan.map.scene, plan.features.package
    told = f"vectors of {plan.features.width} numbers, one for each {plan.step} x {plan.step} pixels"
    asset = file_asset(folder / names[EMBEDDING], folder=folder, media_type=_COG, title="embedding", roles=["data"], description=told) | {
        "bands": [{"name": band.name} for band in plan.bands]
    }
    item = prediction_item(
        scene.name,
        geobox=plan.geobox,
        time=scene.time,
        created=datetime.now(UTC).replace(microsecond=0),
        scene=SceneFacts(
            source=scene.source,
            sensor=scene.sensor.name,
            product_id=scene.product_id,
            processing_baseline=scene.processing_baseline,
            attribution=_credits(plan),
            warnings=list(plan.map.warnings),
        ),
        model=ModelFacts(name=package.name, title=package.title, licence=package.licence, checksum=package.checksum, figures=[]),
        run=RunFacts(
            command=list(command),
            settings={name: facts[name] for name in ("source", "opened_with", "options", "inputs")}
            | {"model": str(package.path.absolute())},
            masked=list(plan.options.mask_classes) if plan.map.quality_roles else [],
            summary=dict(summary),
            software=facts["software"],
        ),
        assets={EMBEDDING: asset},
    )
    with atomic(folder / names["item"]) as part:
        part.write_text(json.dumps(item, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def _windows(plan: EmbedPlan) -> Iterator[tuple[slice, slice]]:
    """(rows, columns) of windows of whole blocks, from the top."""
    height, width = plan.geobox.shape
    few = _WRITTEN_NUMBERS // (plan.features.width * _BLOCK) // _BLOCK * _BLOCK
    step = min(_WRITTEN_COLS, max(_BLOCK, few))
    for top in range(0, height, _BLOCK):
        for left in range(0, width, step):
            yield slice(top, min(top + _BLOCK, height)), slice(left, min(left + step, width))


def _vectors(plan: EmbedPlan, joined: Path, rows: slice, cols: slice) -> NDArray[np.float32]:
    """(width, row, col) on the file's grid, of length 1 where that is asked for; NaN where nothing was seen."""
    raster = read_raster(str(joined), range(1, plan.features.width + 1), plan.geobox[rows, cols], resampling="bilinear")
    vectors = raster.values.astype(np.float32, copy=False)
    if plan.options.normalise:
        squares = np.zeros(vectors.shape[1:])
        for plane in vectors:
            squares += np.square(plane, dtype=np.float64)
        vectors = (vectors / np.where(squares > 0, np.sqrt(squares), 1).astype(np.float32)).astype(np.float32, copy=False)
    return np.where(raster.valid, vectors, np.float32(np.nan))


def _byte_scales(plan: EmbedPlan, joined: Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(band,) scale and offset with which the least and the greatest number of each band are -127 and 127."""
    least, greatest = np.full(plan.features.width, np.inf), np.full(plan.features.width, -np.inf)
    for rows, cols in _windows(plan):
        vectors = _vectors(plan, joined, rows, cols)
        least = np.fmin(least, np.nanmin(vectors, axis=(1, 2), initial=np.inf))
        greatest = np.fmax(greatest, np.nanmax(vectors, axis=(1, 2), initial=-np.inf))
    scale = (greatest - least) / (2 * _STEPS)
    return np.where(scale > 0, scale, 1.0), (greatest + least) / 2


def _stored(
    vectors: NDArray[np.float32], dtype: NumberType, scales: tuple[NDArray[np.float64], NDArray[np.float64]] | None
) -> NDArray[np.float32] | NDArray[np.int8]:
    """The numbers of the file: float32, those that 16 bits hold, or bytes."""
    if scales is None:
        return vectors.astype(np.float16).astype(np.float32) if dtype == "float16" else vectors
    steps = (vectors - scales[1][:, None, None]) / scales[0][:, None, None]
    known = np.isfinite(steps)
    return np.where(known, np.rint(np.where(known, steps, 0)).clip(-_STEPS, _STEPS), _BYTE_NODATA).astype(np.int8)


def _credits(plan: EmbedPlan) -> str:
    """Whom scene and encoder ask to name, and what the encoder's licence forbids; what is learned from the vectors carries it on."""
    package = plan.features.package
    terms = f"Embedded with {package.title}, {package.licence}: {package.restriction}." if package.restriction else ""
    return " ".join(dict.fromkeys(text for text in (plan.map.scene.attribution, package.attribution, terms) if text))


def _tags(plan: EmbedPlan) -> dict[str, str]:
    """What the file says of itself: enough to open it as a scene, and where it is from; no dates, so that a run repeats its bytes."""
    package, scene = plan.features.package, plan.map.scene
    tags = {
        **composite_tags(SENSORS["generic"], [dataclasses.replace(band, role=band.name) for band in plan.bands], scene.time),
        "GEOSEG_VERSION": software()["geoseg"],
        "GEOSEG_MODEL": f"{package.name} sha256:{package.checksum}",
        "GEOSEG_LEVEL": f"{plan.features.level} of {plan.features.levels}",
        "GEOSEG_SCENE": scene.product_id or scene.name,
        "ATTRIBUTION": _credits(plan),
    }
    return {key: value for key, value in tags.items() if value}
