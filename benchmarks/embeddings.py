"""Embeddings measured: whether tiles show in them, what few labels make of them, and what they cost.

    python benchmarks/embeddings.py DATA ENCODER [--parts seams probes speed] [--seeds 0 1 2] [--tile PIXELS] [--embedded FILE]

DATA holds `s2_wales` (Sentinel-2 reflectance of the coast of Wales and the land-cover map of a classifier). Agreement with that map is
never accuracy. ENCODER is an encoder of geoseg's for Sentinel-2 bands. Writes benchmarks/results/embeddings.json, each part when it is
done; the tables of docs/measured/embeddings.md are made of it.

*seams*: vectors of neighbouring patches on either side of a cut (a line where a tile begins, ends, or hands over to the next), over
those of all other neighbours; the same in a reference whose vectors all come from the middle of a tile of their own, so that the ground
itself makes no seam; and how far vectors are from that reference, in units of its usual difference between neighbours.

*probes*: a share of the labelled pixels of the north is learned from, drawn anew for each seed, and the south, less a gap of 32 pixels,
is scored from the finished map. All maps have the scene's own pixels: vectors of patches are interpolated (`--upsample`).

*speed*: the scene, and the same four times below one another, each in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import geopandas
import numpy as np
import rasterio
from numpy.typing import NDArray
from shapely.geometry import box

from geoseg.confusion import Confusion
from geoseg.legend import Legend, LegendClass
from geoseg.mapping.embed import embed_scene
from geoseg.mapping.embed_plan import EmbedOptions, EmbedPlan, plan_embedding
from geoseg.mapping.make_map import make_map
from geoseg.mapping.plan import MapOptions
from geoseg.mapping.rows import finished_strips
from geoseg.mapping.tiles import TilePlan
from geoseg.mapping.windows import area_of
from geoseg.preprocess.prepare import prepare
from geoseg.recipes import pixel_forest, probe
from geoseg.runtimes.features import EMBEDDING, Features
from geoseg.scene import Scene, read_scene
from geoseg.scenes.open_scene import open_scene

RESULTS = Path(__file__).parent / "results" / "embeddings.json"
BANDS = ("blue", "green", "red", "rededge071", "rededge075", "rededge078", "nir", "nir08", "swir16", "swir22")
LEGEND = Legend(
    (
        LegendClass(0, 1, "forest", "#006400"),
        LegendClass(1, 2, "grass", "#7cc83c"),
        LegendClass(2, 3, "urban", "#dc2828"),
        LegendClass(3, 4, "water", "#1e50dc"),
    )
)
GAP, NO_LABEL = 32, 255
CORNER = (400, 300, 256)
"""Row, column and edge in pixels of the ground on which seams are measured: land, towns and sea."""
SHARES = (0.01, 0.001)
"""Of the labelled pixels of the north: about 4300 and 430."""


def wales(data: Path, file: Path | None = None) -> Scene:
    """The scene; `file` is another with the same bands."""
    return open_scene(file or data / "s2_wales" / "s2_20210527.tif", sensor="sentinel-2-l2a", bands=list(BANDS), scale=0.001)


# ---------------------------------------------------------------- seams


class Central(TilePlan):
    """Tiles of which each place is taken from the one in which it lies most in the middle, the first of equals."""

    def coarser(self, step: int) -> TilePlan:
        """Counted in patches."""
        made = super().coarser(step)
        return Central(made.shape, made.tile, made.row_origins, made.col_origins, made.overlap)

    def row_weights(self, tile_row: int) -> NDArray[np.float32]:
        """1 where this row of tiles is taken, else 0."""
        return _hard(self.row_origins, tile_row, self.tile, self.shape[0])

    def col_weights(self, tile_col: int) -> NDArray[np.float32]:
        """1 where this column of tiles is taken, else 0."""
        return _hard(self.col_origins, tile_col, self.tile, self.shape[1])


def _hard(origins: tuple[int, ...], which: int, tile: int, size: int) -> NDArray[np.float32]:
    places = np.arange(origins[which], origins[which] + tile)
    inside = np.stack([np.minimum(places - origin, origin + tile - 1 - places) for origin in origins])
    return ((inside.argmax(axis=0) == which) & (places < size)).astype(np.float32)


def vectors_of(plan: EmbedPlan) -> NDArray[np.float32]:
    """(width, row, col) of all patches."""
    made = finished_strips(plan.map, plan.features, area_of(plan.map), planes={EMBEDDING: plan.features.width}, step=plan.step)
    return np.concatenate([strip.scores[EMBEDDING].copy() for strip in made], axis=1)


def centred(scene: Scene, features: Features, tile: int) -> NDArray[np.float32]:
    """(width, row, col) of all patches, each from a tile of its own in whose middle it lies; near the edge from the first or last tile."""
    geobox, step = scene.geobox(), features.step
    preparation = features.package.preparation
    image = prepare(read_scene(scene, [need.role for need in preparation.bands], geobox), preparation).values
    rows, cols = (size // step for size in geobox.shape)
    made = np.zeros((features.width, rows, cols), np.float32)
    places = [(row, col) for row in range(rows) for col in range(cols)]
    side = tile // step

    def first(place: int, count: int) -> int:
        return int(np.clip(place - side // 2, 0, count - side))

    for begin in range(0, len(places), 64):
        some = places[begin : begin + 64]
        firsts = [(first(row, rows), first(col, cols)) for row, col in some]
        tiles = np.stack([image[:, top * step : top * step + tile, left * step : left * step + tile] for top, left in firsts])
        found = features(tiles)[EMBEDDING]
        for (row, col), (top, left), one in zip(some, firsts, found, strict=True):
            made[:, row, col] = one[:, row - top, col - left]
    return made


def cuts(plan: EmbedPlan, join: str) -> tuple[set[int], set[int]]:
    """The rows, and the columns, of patches before which a tile begins or has ended, or hands over."""
    tiles = plan.map.tiles.coarser(plan.step)
    found = []
    for origins, size in ((tiles.row_origins, tiles.shape[0]), (tiles.col_origins, tiles.shape[1])):
        if join == "central":
            weights = np.stack([np.pad(_hard(origins, which, tiles.tile, size), (o, size))[:size] for which, o in enumerate(origins)])
            lines = set((np.flatnonzero(np.diff(weights.argmax(axis=0))) + 1).tolist())
        else:
            lines = set(origins) | {origin + tiles.tile for origin in origins}
        found.append({line for line in lines if 0 < line < size})
    return found[0], found[1]


def seam_ratio(vectors: NDArray[np.float32], lines: tuple[set[int], set[int]]) -> float:
    """The mean difference of neighbours across these lines, over that of all others."""
    down, across = (np.linalg.norm(np.diff(vectors.astype(np.float64), axis=axis), axis=0) for axis in (1, 2))
    at, other = [], []
    for differences, places in ((down, lines[0]), (across.T, lines[1])):
        chosen = np.isin(np.arange(1, len(differences) + 1), list(places))
        at.append(differences[chosen].ravel())
        other.append(differences[~chosen].ravel())
    return float(np.concatenate(at).mean() / np.concatenate(other).mean())


def measure_seams(data: Path, encoder: Path, folder: Path, tile: int | None) -> list[dict[str, Any]]:
    """A row for each way of joining tiles."""
    row, col, side = CORNER
    with rasterio.open(data / "s2_wales" / "s2_20210527.tif") as file:
        window = rasterio.windows.Window(col, row, side, side)
        profile = {**file.profile, "height": side, "width": side, "transform": file.window_transform(window)}
        with rasterio.open(folder / "corner.tif", "w", **profile) as corner:
            corner.write(file.read(window=window))
    scene, features, table = wales(data, folder / "corner.tif"), Features(encoder), []
    tile = tile or features.package.tile
    reference = centred(scene, features, tile)
    usual = np.mean([np.linalg.norm(np.diff(reference.astype(np.float64), axis=axis), axis=0).mean() for axis in (1, 2)])
    for join, overlap in (("abutting", 0), ("central", tile // 4), ("central", tile // 2), ("blended", tile // 4), ("blended", tile // 2)):
        plan = plan_embedding(scene, features, EmbedOptions(tile=tile, overlap=overlap, threads=1))
        tiles = plan.map.tiles
        if join == "central":
            tiles = Central(tiles.shape, tiles.tile, tiles.row_origins, tiles.col_origins, tiles.overlap)
        plan = replace(plan, map=replace(plan.map, tiles=tiles))
        began = time.process_time()
        made, lines = vectors_of(plan), cuts(plan, join)
        away = np.linalg.norm((made - reference).astype(np.float64), axis=0)
        table.append(
            {
                "join": join, "overlap": overlap, "tile": tile, "tiles": len(plan.map.tiles), "cpu_seconds": time.process_time() - began,
                "seam": seam_ratio(made, lines), "seam_of_reference": seam_ratio(reference, lines),
                "from_reference": float(away.mean() / usual), "length": float(np.linalg.norm(made, axis=0).mean()),
                "length_of_reference": float(np.linalg.norm(reference, axis=0).mean()),
            }
        )  # fmt: skip
        print(table[-1], flush=True)
    return table


# ---------------------------------------------------------------- probes


def draw_labels(data: Path, out: Path, share: float, seed: int) -> int:
    """Write a share of the labels of the north, drawn at random, to `out`; give their number."""
    with rasterio.open(data / "s2_wales" / "landcover.tif") as file:
        codes, profile = file.read(1), file.profile
    north = np.zeros(codes.shape, dtype=bool)
    north[: codes.shape[0] // 2 - GAP // 2] = True
    kept = north & np.isin(codes, LEGEND.codes) & (np.random.default_rng(seed).random(codes.shape) < share)
    profile.update(dtype="uint8", nodata=NO_LABEL, count=1)
    with rasterio.open(out, "w", **profile) as file:
        file.write(np.where(kept, codes, NO_LABEL).astype(np.uint8), 1)
    return int(kept.sum())


def write_south(data: Path, out: Path) -> Path:
    """The ground that is scored, as a polygon."""
    with rasterio.open(data / "s2_wales" / "landcover.tif") as file:
        bounds, size, crs = file.bounds, file.res[0], file.crs
        top = file.transform.f - (file.height // 2 + GAP // 2) * size
    geopandas.GeoDataFrame(geometry=[box(bounds.left, bounds.bottom, bounds.right, top)], crs=crs).to_file(out)
    return out


def score_south(data: Path, classes: Path) -> Confusion:
    """The map against the labels of the south."""
    with rasterio.open(data / "s2_wales" / "landcover.tif") as file:
        truth = file.read(1)
    with rasterio.open(classes) as file:
        guess = file.read(1)
    south = np.zeros(truth.shape, dtype=bool)
    south[truth.shape[0] // 2 + GAP // 2 :] = True
    known = south & np.isin(truth, LEGEND.codes) & np.isin(guess, LEGEND.codes)
    place = {code: index for index, code in enumerate(LEGEND.codes)}
    indices = [np.vectorize(place.__getitem__, otypes=[np.int64])(plane[known]) for plane in (truth, guess)]
    return Confusion.count(*indices, LEGEND)


def measure_probes(
    data: Path, encoder: Path, folder: Path, tile: int | None, seeds: list[int], embedded: Path | None
) -> Iterator[dict[str, Any]]:
    """A row for each way of learning, share of labels and seed."""
    options = EmbedOptions(upsample=True, dtype="int8", tile=tile, threads=1)
    given = embedded or embed_scene(wales(data), encoder, folder / "embedded", options=options).files[EMBEDDING]
    bands, vectors = wales(data), open_scene(given)
    ways = {
        ("bands", "pixel_forest"): (bands, pixel_forest, pixel_forest.Settings(classes=LEGEND.classes)),
        ("bands", "linear"): (bands, probe, probe.Settings(classes=LEGEND.classes, method="linear")),
        ("embedding", "linear"): (vectors, probe, probe.Settings(classes=LEGEND.classes, method="linear")),
        ("embedding", "knn"): (vectors, probe, probe.Settings(classes=LEGEND.classes, method="knn")),
    }
    mapping = MapOptions(picture=False, polygons=False, threads=1, aoi=str(write_south(data, folder / "south.gpkg")))
    for share in SHARES:
        for seed in seeds:
            labels = folder / f"labels_{share}_{seed}.tif"
            pixels = draw_labels(data, labels, share, seed)
            for (source, method), (scene, recipe, settings) in ways.items():
                began, out = time.process_time(), folder / f"{source}_{method}_{share}_{seed}"
                seeded = settings.model_copy(update={"seed": seed, "block": 64, "guard": 0, "folds": 2})
                package = recipe.run(seeded, [scene], [labels], out)
                learned = time.process_time() - began
                made = make_map(scene, package, folder / "maps", options=mapping, overwrite=True)
                confusion = score_south(data, made.files["classes"])
                yield {
                    "source": source, "method": method, "share": share, "pixels": pixels, "seed": seed,
                    "mean_iou": confusion.mean_iou, "iou": {name: row["iou"] for name, row in confusion.figures().items()},
                    "learn_cpu_seconds": learned, "map_seconds": made.summary["seconds"],
                }  # fmt: skip


# ---------------------------------------------------------------- speed


def measure_speed(data: Path, encoder: Path, folder: Path, tile: int | None) -> list[dict[str, Any]]:
    """A row for the scene, and one for four of it below one another: seconds and peak memory of a process of its own."""
    source = data / "s2_wales" / "s2_20210527.tif"
    with rasterio.open(source) as file:
        values, profile = file.read(), file.profile
    tall = folder / "tall.tif"
    with rasterio.open(tall, "w", **{**profile, "height": 4 * values.shape[1], "driver": "GTiff", "tiled": False}) as file:
        file.write(np.concatenate([values] * 4, axis=1))
    table = []
    for path in (source, tall):
        script = [sys.executable, __file__, str(data), str(encoder), "--alone", str(path), str(folder / path.stem)]
        script += ["--tile", str(tile)] if tile else []
        told = subprocess.run(script, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
        table.append(json.loads(told))
        print(table[-1], flush=True)
    return table


def peak_mb() -> float:
    """The most resident memory of this process so far, which Linux tells of the program alone, not of the one that started it."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def embed_alone(data: Path, encoder: Path, tile: int | None, path: Path, out: Path) -> dict[str, Any]:
    """Embed a file in this process, and say what it took."""
    before = peak_mb()
    began = time.process_time()
    made = embed_scene(wales(data, path), encoder, out, options=EmbedOptions(tile=tile, threads=1), overwrite=True)
    facts = made.summary
    peak = peak_mb()
    cpu = time.process_time() - began
    return {
        "rows": facts["rows"], "cols": facts["cols"], "step": facts["step"], "width": facts["width"], "cpu_seconds": cpu,
        "seconds": facts["seconds"], "megapixels": facts["rows"] * facts["cols"] * facts["step"] ** 2 / 1e6,
        "before_mb": before, "peak_mb": peak, "file_mb": made.files[EMBEDDING].stat().st_size / 1e6,
    }  # fmt: skip


# ---------------------------------------------------------------- tables


def spread(values: list[float]) -> str:
    """Mean and, of several, their standard deviation."""
    return f"{statistics.mean(values):.3f}" + (f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else "")


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("encoder", type=Path)
    parser.add_argument("--parts", nargs="+", default=["seams", "probes", "speed"], choices=["seams", "probes", "speed"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--tile", type=int, help="Edge in pixels of what the encoder sees at once; its usual one where none is named.")
    parser.add_argument("--embedded", type=Path, help="The scene's vectors, upsampled, where they are made already.")
    parser.add_argument("--alone", nargs=2, type=Path, metavar=("FILE", "OUT"), help=argparse.SUPPRESS)
    words = parser.parse_args()
    if words.alone:
        print(json.dumps(embed_alone(words.data, words.encoder, words.tile, *words.alone)))
        return
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    features = Features(words.encoder)
    mine = results.setdefault(features.package.name, {})
    mine["encoder"] = {
        "title": features.package.title,
        "width": features.width,
        "step": features.step,
        "tile": words.tile or features.package.tile,
    }
    mine["machine"] = {"processor": platform.processor() or platform.machine(), "python": platform.python_version()}
    for part in words.parts:
        with tempfile.TemporaryDirectory() as folder:
            if part == "seams":
                mine[part] = measure_seams(words.data, words.encoder, Path(folder), words.tile)
            elif part == "speed":
                mine[part] = measure_speed(words.data, words.encoder, Path(folder), words.tile)
            else:
                mine[part] = []
                for row in measure_probes(words.data, words.encoder, Path(folder), words.tile, words.seeds, words.embedded):
                    mine[part].append(row)
                    print(row, flush=True)
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    for (source, method, share), values in _grouped(mine.get("probes", [])).items():
        print(f"| {source} | {method} | {share} | {spread(values)} |")


def _grouped(rows: list[dict[str, Any]]) -> dict[tuple[str, str, float], list[float]]:
    found: dict[tuple[str, str, float], list[float]] = {}
    for row in rows:
        found.setdefault((row["source"], row["method"], row["share"]), []).append(row["mean_iou"])
    return found


if __name__ == "__main__":
    main()
