"""From a scene and an encoder to the scene's embeddings: a vector for each patch, as a raster that opens like a scene.

Read, prepared, tiled and blended as maps are (`make_map.py`), but a place of the result is a patch of `step` pixels. A transformer's
vector depends on all that lies in its tile and on where in it the patch lies, so that neighbouring tiles differ on the same patch. Such
vectors are blended, the more of each the further inside its tile: no step is left where a tile begins or ends, and the mean of two
views is nearer to what a network that sees everything would say than either. Taking each from the tile in which it lies most in the
middle would leave each vector as one tile has it, with a step where two tiles meet (docs/measured/embeddings.md).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import InputError, SceneError
from geoseg.io.damage import damage_warning, noted_blocks
from geoseg.io.opening import gdal_env
from geoseg.io.part_files import write_parts
from geoseg.io.staging import check_free, fresh_folder, move_results
from geoseg.io.working import WorkingFolder
from geoseg.mapping.embed_plan import EmbedOptions, EmbedPlan, plan_embedding
from geoseg.mapping.embedding_files import command_line, finish_embedding, plan_facts, write_item
from geoseg.mapping.journal import Journal, StripFacts
from geoseg.mapping.opened import open_item
from geoseg.mapping.pipeline import one_behind
from geoseg.mapping.rows import FinishedStrip, finished_strips
from geoseg.mapping.windows import area_of
from geoseg.preprocess.optical import to_physical
from geoseg.preprocess.quality import Reason
from geoseg.runtimes.features import EMBEDDING, Features
from geoseg.runtimes.open_runtime import found_device
from geoseg.scene import Scene, read_scene
from geoseg.scenes.open_scene import open_scene

if TYPE_CHECKING:
    from pystac import Item
    from xarray import DataArray, Dataset

Progress = Callable[[int, int], None]
"""Called with the finished and with all pixels of the scene."""


@dataclass(frozen=True)
class Embedding:
    """Finished embeddings: where they lie, and what they are. Holds no pixels."""

    folder: Path
    name: str
    """Of the scene."""
    files: dict[str, Path]
    """`embedding` and `item` → the file."""
    summary: dict[str, Any]
    """`width` of a vector, `step` in pixels, `rows` and `cols`, observed share, seconds, megapixels of the scene per second."""
    warnings: tuple[str, ...] = field(default=())

    def to_xarray(self) -> DataArray:
        """The vectors as an array (band, y, x), float32, NaN where nothing was seen; all of them, in memory."""
        scene = open_scene(self.files[EMBEDDING])
        array: DataArray = to_physical(read_scene(scene, scene.roles, scene.geobox())).to_xarray()
        return array

    def to_stac(self) -> Item:
        """The STAC Item: what was embedded how, with checksums. Needs pystac."""
        return open_item(self.files["item"])


def embed(
    source: Scene | str | Path | list[str | Path] | DataArray | Dataset,
    model: str | Path,
    out: str | Path,
    *,
    options: EmbedOptions | None = None,
    overwrite: bool = False,
    **opening: Any,
) -> Embedding:
    """Embed `source` with the encoder, or the package with one, at `model`, as `geoseg embed` does.

    `source` is a Scene, or whatever `open_scene` takes, with its words in `opening`, such as `sensor="sentinel-2-l2a"`. Raises what
    `open_scene` and `embed_scene` do.
    """
    if isinstance(source, Scene) and opening:
        raise InputError(f"{next(iter(opening))} was given with a Scene that is open already; give it to open_scene, or leave it out")
    scene = source if isinstance(source, Scene) else open_scene(source, **opening)
    return embed_scene(scene, model, out, options=options, overwrite=overwrite, opened_with=opening)


def embed_scene(
    scene: Scene,
    model: str | Path,
    out: str | Path,
    *,
    options: EmbedOptions | None = None,
    overwrite: bool = False,
    resume: bool = False,
    opened_with: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> Embedding:
    """Embed `scene` with the encoder, or the package with one, at `model`, and write the vectors and a STAC Item into the folder `out`.

    Files are finished in a hidden folder and then renamed, the Item last; finished strips are kept there, so that `resume` goes on with
    what was stopped, and the bytes of the vectors are those of a run that was not. Memory depends on the scene's width, not its height.

    Raises InputError where scene, encoder and options do not fit or results are there already, OutputError where they cannot be written.
    """
    began, out, options = time.perf_counter(), Path(out), options or EmbedOptions()
    features = Features(model, level=options.level, device=found_device("torch", options.device))
    plan = plan_embedding(scene, features, options)
    name = f"{scene.name}_embedding"
    names = {EMBEDDING: f"{name}.tif", "item": f"{name}.json"}
    command, facts = command_line(plan, opened_with or {}), plan_facts(plan, opened_with or {})
    check_free(out, () if resume else names.values(), overwrite=overwrite)
    with gdal_env(), WorkingFolder(out, name) as work:
        journal = Journal.open(work, facts, len(plan.map.tiles.strips), resume=resume, overwrite=overwrite)
        done, parts = work.path / "done", work.path / "parts"
        if not journal.placing:
            check_free(out, names.values(), overwrite=overwrite)
            _write_strips(plan, parts, journal, progress)
            finish_embedding(plan, parts, fresh_folder(done) / names[EMBEDDING])
            seconds, (height, width) = time.perf_counter() - began, plan.geobox.shape
            observed = sum(strip.observed for strip in journal.finished.values()) / (plan.patches.shape[0] * plan.patches.shape[1])
            notes = noted_blocks(note for strip in journal.finished.values() for note in strip.notes)
            summary = {
                "width": features.width, "step": features.step, "level": features.level, "rows": height, "cols": width,
                "observed_share": observed, "damaged_blocks": notes, "seconds": seconds,
                "megapixels_per_second": plan.map.pixels / 1e6 / seconds,
            }  # fmt: skip
            write_item(plan, done, names, command, facts, summary)
            journal.place()
        move_results(done, out, last=names["item"])
    files = {what: out / file for what, file in names.items()}
    summary = json.loads(files["item"].read_text(encoding="utf-8"))["properties"]["geoseg:run"]["summary"]
    return Embedding(out, scene.name, files, summary, (*plan.map.warnings, *damage_warning(summary["damaged_blocks"])))


def _write_strips(plan: EmbedPlan, parts: Path, journal: Journal, progress: Progress | None) -> None:
    """Compute and write the strips that the journal does not have."""
    strips = plan.map.tiles.strips
    missing = [strip for strip in strips if strip.number not in journal.finished]
    done = sum(strip.pixels for strip in strips) - sum(strip.pixels for strip in missing)
    planes = {EMBEDDING: plan.features.width}

    def write(strip: tuple[int, NDArray[np.float32]]) -> StripFacts:
        number, vectors = strip
        observed = int(np.isfinite(vectors[0]).sum())
        with gdal_env(plan.map.cache_mb):
            notes = () if plan.map.damaged is None else plan.map.damaged.news()
            facts = {"number": number, "observed": observed, "notes": notes}
            return StripFacts(number, observed, write_parts(parts / f"{number:06d}", {EMBEDDING: vectors}, facts), notes)

    finished = finished_strips(plan.map, plan.features, area_of(plan.map), missing, planes=planes, step=plan.step)
    with gdal_env(plan.map.cache_mb), closing(finished):
        for facts in one_behind(write, ((one.strip.number, _seen_vectors(one, plan.step)) for one in finished)):
            journal.add(facts)
            done += strips[facts.number].pixels
            if progress is not None:
                progress(done, plan.map.pixels)
    if not any(facts.observed for facts in journal.finished.values()):
        raise SceneError(f"{plan.map.scene.source} has no valid pixel to embed; check its nodata value and masks with geoseg info")


def _seen_vectors(finished: FinishedStrip, step: int) -> NDArray[np.float32]:
    """(width, row, col) of a strip's patches; NaN where not one pixel of the patch was observed."""
    vectors = finished.scores[EMBEDDING]
    rows, cols = vectors.shape[1:]
    observed = np.zeros((rows * step, cols * step), dtype=bool)
    observed[: finished.reason.shape[0], : finished.reason.shape[1]] = finished.reason == Reason.OBSERVED
    seen = observed.reshape(rows, step, cols, step).any(axis=(1, 3))
    return np.where(seen, vectors, np.float32(np.nan))
