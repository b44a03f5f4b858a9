"""What a random training sample costs: processor seconds of geoseg, TorchGeo, bare windows and a memory map.

    python benchmarks/samplers.py [--samples 256] [--rounds 3]

A sample is an image of 256 x 256 pixels (4 bands, uint16) and its labels (uint8). The scenes are generated: 4096 x 4096 pixels,
tiled, deflate, in two UTM zones, and one of them once more without compression. All readers share one thread and a GDAL cache
of one size; the rounds are interleaved and medians are taken, so that other work on the machine weighs on all alike. *In groups* is how
training reads by default: eight patches from each region that is decoded, mixed over 32 regions; a round of 256 samples is one turn
of all of them. Writes benchmarks/results/samplers.json and prints a table. TorchGeo's rows are left out where it is not installed.
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from rasterio.windows import Window

from geoseg.data.buffer import Deal
from geoseg.data.patches import TrainingPatches, load_scene
from geoseg.data.samplers import TileSampler
from geoseg.io.opening import files_kept_open
from geoseg.legend import Legend
from geoseg.preprocess.prepare import BandNeed, Channel, Preparation
from geoseg.scenes.open_scene import open_scene

RESULTS = Path(__file__).parent / "results" / "samplers.json"
SIDE, TILE, BATCH = 4096, 256, 8
ROLES = ("blue", "green", "red", "nir")
CACHE_BYTES = 32 << 20
LEGEND = Legend.from_names(("land", "water"))
PREPARATION = Preparation(
    bands=tuple(BandNeed(role=role, unit="reflectance") for role in ROLES),
    channels=tuple(Channel(name=role, mean=0.1, std=0.05) for role in ROLES),
)

Draw = Callable[[int], object]
"""Number of a draw → its sample."""


@dataclass(frozen=True)
class Pair:
    """Files of one scene and its labels."""

    image: Path
    labels: Path


def write_pair(folder: Path, zone: int, compress: str, pixels: np.ndarray, codes: np.ndarray) -> Pair:
    """An image (band, row, col) and its labels (row, col), in blocks of 512 x 512 pixels."""
    grid = {"crs": f"EPSG:{32600 + zone}", "transform": Affine(10, 0, 300_000, 0, -10, 5_000_000), "height": SIDE, "width": SIDE}
    shape = {"driver": "GTiff", "tiled": True, "blockxsize": 512, "blockysize": 512, "compress": compress, **grid}
    pair = Pair(folder / f"image_{zone}_{compress}.tif", folder / f"labels_{zone}_{compress}.tif")
    closer = {"predictor": 2, "zlevel": 6} if compress == "deflate" else {}
    with rasterio.open(pair.image, "w", count=len(ROLES), dtype="uint16", nodata=0, interleave="pixel", **shape, **closer) as file:
        file.write(pixels)
        file.descriptions = ROLES
    with rasterio.open(pair.labels, "w", count=1, dtype="uint8", nodata=255, **shape) as file:
        file.write(codes, 1)
    return pair


def moved(pair: Pair, zone: int) -> Pair:
    """The same pixels in another UTM zone."""
    copies = [path.with_name(f"moved_{zone}_{path.name}") for path in (pair.image, pair.labels)]
    for path, copy in zip((pair.image, pair.labels), copies, strict=True):
        shutil.copy(path, copy)
        with rasterio.open(copy, "r+") as file:
            file.crs = f"EPSG:{32600 + zone}"
    return Pair(*copies)


def landscape() -> tuple[np.ndarray, np.ndarray]:
    """(band, row, col) reflectance of 1/10000 with hills and noise, and (row, col) codes 0 and 1."""
    rng, part = np.random.default_rng(0), 1024
    row, col = np.mgrid[:part, :part] * (2 * np.pi / part)
    hills = 1500 + 600 * np.sin(3 * row) * np.cos(5 * col)
    image = np.stack([hills * (1 + band / 4) for band in range(len(ROLES))]) + rng.normal(0, 60, (len(ROLES), part, part))
    times = SIDE // part
    return np.tile(image.astype(np.uint16), (1, times, times)), np.tile((hills < 1300).astype(np.uint8), (times, times))


def bare(pairs: list[Pair]) -> Draw:
    """Windows of files that stay open."""
    files = [(rasterio.open(pair.image), rasterio.open(pair.labels)) for pair in pairs]

    def draw(number: int) -> object:
        rng = np.random.default_rng(number)
        image, labels = files[int(rng.integers(len(files)))]
        window = Window(*(int(place) for place in rng.integers(0, SIDE - TILE + 1, 2)), TILE, TILE)
        return image.read(window=window), labels.read(1, window=window)

    return draw


def memory_map(folder: Path, pixels: np.ndarray, codes: np.ndarray) -> Draw:
    """Windows of arrays on the disk, not compressed: bands of a pixel side by side."""
    np.save(folder / "image.npy", np.ascontiguousarray(np.moveaxis(pixels, 0, -1)))
    np.save(folder / "labels.npy", codes)
    image, labels = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("image", "labels"))

    def draw(number: int) -> object:
        row, col = np.random.default_rng(number).integers(0, SIDE - TILE + 1, 2)
        here = np.s_[row : row + TILE, col : col + TILE]
        return np.ascontiguousarray(np.moveaxis(image[here], -1, 0)), np.array(labels[here])

    return draw


def own(pairs: list[Pair], retile: Path | None = None) -> TrainingPatches:
    """geoseg's patches as training draws them: prepared, turned, with labels where the image is valid."""
    opened = [open_scene(pair.image, sensor="sentinel-2-l1c", bands=list(ROLES)) for pair in pairs]
    scenes = [load_scene(one, pair.labels, PREPARATION, LEGEND, retile=retile) for one, pair in zip(opened, pairs, strict=True)]
    ground = [np.ones(scene.labels.shape, dtype=bool) for scene in scenes]
    sampler = TileSampler([scene.labels for scene in scenes], ground, tile=TILE, rare=0.5)
    return TrainingPatches(scenes, ground, PREPARATION, sampler, seed=0)


def not_prepared(patches: TrainingPatches) -> Draw:
    """What geoseg's patches are made from: stored numbers, where they are valid, and labels."""

    def draw(number: int) -> object:
        if patches.buffer is not None:
            which, window, raster = patches.buffer.take(number)
            return raster, patches.scenes[which].cut_labels(window)
        which, window = patches.sampler.draw(np.random.default_rng(number))
        return patches.scenes[which].read(window), patches.scenes[which].cut_labels(window)

    return draw


def torchgeo(pairs: list[Pair]) -> Draw | None:
    """TorchGeo's image & mask with its random sampler; None where it is not installed."""
    try:
        from torchgeo.datasets import RasterDataset
        from torchgeo.samplers import RandomGeoSampler
    except ImportError:
        return None

    class Labels(RasterDataset):
        is_image = False

    both = RasterDataset([str(pair.image) for pair in pairs]) & Labels([str(pair.labels) for pair in pairs])
    places: Iterator[Any] = iter(RandomGeoSampler(both, size=TILE, length=10**6))
    return lambda number: both[next(places)]


def contenders(folder: Path) -> dict[str, dict[str, Draw]]:
    """Kind of scene → reader → its draw."""
    pixels, codes = landscape()
    deflated, stored = write_pair(folder, 32, "deflate", pixels, codes), write_pair(folder, 32, "none", pixels, codes)
    groups = {"two zones, deflate": [deflated, moved(deflated, 33)], "one zone, deflate": [deflated], "one zone, not compressed": [stored]}
    found: dict[str, dict[str, Draw]] = {}
    for kind, pairs in groups.items():
        patches = own(pairs)
        grouped = patches.in_groups(Deal.fitting(1 << 20, BATCH, patch_bytes=patches.patch_bytes))
        draws = {
            "bare windows": bare(pairs),
            "geoseg, not prepared": not_prepared(patches),
            "geoseg, ready for a network": patches.__getitem__,
            "geoseg in groups, not prepared": not_prepared(grouped),
            "geoseg in groups, ready for a network": grouped.__getitem__,
            "TorchGeo": torchgeo(pairs),
            "geoseg, retiled, not prepared": not_prepared(own(pairs, folder / "retiled")),
        }
        found[kind] = {name: draw for name, draw in draws.items() if draw is not None}
    found["one zone, not compressed"]["memory map"] = memory_map(folder, pixels, codes)
    return found


def cost(draw: Draw, first: int, samples: int) -> float:
    """Processor milliseconds a sample."""
    before = time.process_time()
    for number in range(first, first + samples):
        draw(number)
    return (time.process_time() - before) / samples * 1e3


def main() -> None:
    """Measure all in turn, several times, and write down the medians."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--samples", type=int, default=256)
    words.add_argument("--rounds", type=int, default=3)
    given = words.parse_args()
    logging.getLogger("torchgeo").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder, rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES, GDAL_NUM_THREADS=1), files_kept_open():
        draws = contenders(Path(folder))
        measured: dict[tuple[str, str], list[float]] = {(kind, name): [] for kind, names in draws.items() for name in names}
        for kind, name in measured:
            cost(draws[kind][name], 0, given.samples)  # imports and open files are there, and groups in the middle of their turn
        for round_number in range(given.rounds):
            for kind, name in measured:
                measured[kind, name].append(cost(draws[kind][name], (1 + round_number) * given.samples, given.samples))
    median = {key: statistics.median(costs) for key, costs in measured.items()}
    rows = [
        {
            "scenes": kind,
            "reader": name,
            "cpu_ms": round(median[kind, name], 2),
            "ratio": round(median[kind, name] / median[kind, "bare windows"], 2),
        }
        for kind, name in measured
    ]
    try:
        peer: str | None = version("torchgeo")
    except PackageNotFoundError:
        peer = None
    facts = {"date": time.strftime("%Y-%m-%d"), "samples": given.samples, "rounds": given.rounds, "torchgeo": peer, "rows": rows}
    RESULTS.write_text(json.dumps(facts, indent=2) + "\n")
    print("| scenes | reader | CPU ms a sample | times the bare windows |\n| --- | --- | ---: | ---: |")
    for row in rows:
        print(f"| {row['scenes']} | {row['reader']} | {row['cpu_ms']} | {row['ratio']} |")


if __name__ == "__main__":
    main()
