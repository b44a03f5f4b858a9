"""What a megapixel costs in each runtime and precision that this processor has, on one thread, and how far the scores differ.

Run `python benchmarks/measure_runtimes.py [--rounds 8] [--tile 512]` (some five minutes). The network is a U-Net on a ResNet-18 with
random but fixed weights, 4 bands, 5 classes; its 8-bit one is calibrated on other ground than it is measured on. Every runtime has a
process of its own, and they take turns: a round is one tile for each. A cost is the median of the rounds, a ratio the median of the
rounds' ratios. Prints a Markdown table and writes benchmarks/results/runtimes.json. Memory is told on Linux only.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import re
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray

from geoseg import ModelPackage, open_runtime
from geoseg.errors import GeosegError
from geoseg.runtimes.contract import Precision, RuntimeName
from geoseg.runtimes.precision import PRECISIONS, check_precision, processor_flags

RESULTS = Path(__file__).parent / "results" / "runtimes.json"
BANDS = ("blue", "green", "red", "nir")
CLASSES = ("water", "wood", "field", "town", "rock")
ARCHITECTURE = {"family": "smp.Unet", "encoder": "resnet18", "in_channels": len(BANDS), "classes": len(CLASSES)}
SPREAD = 3.0
"""Standard deviation of the logits, near that of a trained network: in most pixels one class leads."""
SIDES = (1, 2, 4, 8, 16, 32)
"""Sizes of the grain in the images, in pixels."""
MEAN, STD = 1000.0, 200.0
"""Of the scene's stored numbers."""
TELLING = {"avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "asimd", "asimddp", "i8mm", "bf16"}
"""Instructions that decide about these figures."""

Way = tuple[RuntimeName, Precision]


@dataclass
class Contestant:
    """A process with one runtime in one precision, and what came out of it so far."""

    way: Way
    process: Any
    pipe: Connection
    costs: list[float] = field(default_factory=list)
    """CPU seconds a megapixel, one for each round."""
    largest: float = 0.0
    """The largest difference of a score from that of the first contestant."""
    agreeing: int = 0
    """Pixels whose class is that of the first contestant."""


def main(rounds: int, tile: int) -> None:
    """Measure all ways that there are here; print and write what came out."""
    spawn = multiprocessing.get_context("spawn")  # a process begins with nothing of what another has in memory
    with tempfile.TemporaryDirectory() as folder:
        maker = spawn.Process(target=write_network, args=(Path(folder), tile))
        maker.start()
        maker.join()
        if maker.exitcode:
            raise SystemExit("the network could not be made")
        package = Path(folder) / "int8"
        contestants = [start(spawn, package, way) for way in possible_ways(package)]
        starts = [one.pipe.recv() for one in contestants]
        for seed in range(1, rounds + 1):
            play_round(contestants, images(seed, tile))
        for one in contestants:
            one.pipe.send(None)
        rows = [found | figures(one, contestants[0], rounds * tile**2) for one, found in zip(contestants, starts, strict=True)]
        for one in contestants:
            one.process.join()
    print(table(rows))
    machine = {"cores": os.cpu_count(), "machine": platform.machine(), "flags": sorted(TELLING & processor_flags())}
    result = {"date": datetime.now(UTC).date().isoformat(), "machine": machine, "tile": tile, "rounds": rounds, "runs": rows}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def possible_ways(package: Path) -> list[Way]:
    """The runtimes and precisions that work here, onnx in fp32 first; says why others do not."""
    ways: list[Way] = []
    for name, several in PRECISIONS.items():
        for precision in several:
            try:
                check_precision(ModelPackage.open(package), name, precision, "cpu")
                ways.append((name, precision))
            except GeosegError as error:
                print(f"{name} {precision} is left out: {str(error).partition(';')[0]}\n")
    return ways


def start(spawn: Any, package: Path, way: Way) -> Contestant:
    """A process that opens the runtime, says what that cost, and then answers images with scores and CPU seconds until None comes."""
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=serve, args=(theirs, package, way))
    process.start()
    theirs.close()
    return Contestant(way, process, ours)


def serve(pipe: Connection, package: Path, way: Way) -> None:
    """What a contestant's process does."""
    before = time.process_time()
    runtime = open_runtime(ModelPackage.open(package), way[0], precision=way[1])
    tile = ModelPackage.open(package).tile
    runtime(np.zeros((1, len(BANDS), tile, tile), np.float32))  # compiles, and takes the memory that is needed
    opened = time.process_time() - before
    pipe.send({"runtime": way[0], "precision": way[1], "version": runtime.version, "start_cpu_seconds": round(opened, 2)})
    while (image := pipe.recv()) is not None:
        began = time.process_time()
        scores = runtime(image)["classes"]
        pipe.send((scores, time.process_time() - began))
    pipe.send(peak_mb())


def play_round(contestants: Sequence[Contestant], image: NDArray[np.float32]) -> None:
    """One tile (1, channel, row, col) for each, one after the other."""
    expected: NDArray[np.float32] | None = None
    for one in contestants:
        one.pipe.send(image)
        scores, seconds = one.pipe.recv()
        expected = scores if expected is None else expected
        one.costs.append(seconds / image[0, 0].size * 1e6)
        one.largest = max(one.largest, float(np.abs(scores - expected).max()))
        one.agreeing += int((scores.argmax(axis=1) == expected.argmax(axis=1)).sum())


def figures(one: Contestant, first: Contestant, pixels: int) -> dict[str, Any]:
    """What is told of a contestant that has ended."""
    return {
        "cpu_seconds_per_mpx": round(float(np.median(one.costs)), 3),
        "times_less_than_onnx_fp32": round(float(np.median(np.array(first.costs) / np.array(one.costs))), 2),
        "largest_score_difference": float(f"{one.largest:.2g}"),
        "agreement_percent": round(100 * one.agreeing / pixels, 3),
        "peak_mb": one.pipe.recv(),
    }


def peak_mb() -> int | None:
    """The peak of this process's memory in MB; None where the system does not tell."""
    try:
        found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8"))
    except OSError:
        return None
    return None if found is None else round(int(found[1]) * 1024 / 1e6)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    lines = [
        "| runtime | precision | CPU s/Mpx | times less than onnx fp32 | largest score difference | same class % | peak MB | start CPU s |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {row['runtime']} {row['version']} | {row['precision']} | {row['cpu_seconds_per_mpx']:.2f} "
        f"| {row['times_less_than_onnx_fp32']:.2f} | {row['largest_score_difference']:.2g} | {row['agreement_percent']:.2f} "
        f"| {row['peak_mb']} | {row['start_cpu_seconds']:.1f} |"
        for row in rows
    ]
    return "\n".join(lines)


def images(seed: int, tile: int) -> NDArray[np.float32]:
    """A prepared tile (1, channel, row, col) of mean 0 and deviation 1, with grain of all sizes, so that it has edges and even ground."""
    rng = np.random.default_rng(seed)
    made = np.zeros((len(BANDS), tile, tile))
    for side in SIDES:
        coarse = rng.standard_normal((len(BANDS), -(-tile // side), -(-tile // side)))
        made += coarse.repeat(side, axis=1).repeat(side, axis=2)[:, :tile, :tile]
    made = (made - made.mean(axis=(1, 2), keepdims=True)) / made.std(axis=(1, 2), keepdims=True)
    return made[np.newaxis].astype(np.float32)


def write_network(folder: Path, tile: int) -> None:
    """Write the package `int8`: its network's normalisation has seen images, as after training, and its scores are spread."""
    import torch

    from geoseg.legend import Legend
    from geoseg.mapping.int8_export import export_int8
    from geoseg.models.description import DEFAULT_OUTPUT
    from geoseg.models.export import export_onnx, save_weights
    from geoseg.models.package import ModelDescription, Output, write_package
    from geoseg.models.segmenter import ScoredNetwork, build_network
    from geoseg.preprocess.prepare import BandNeed, Channel, Preparation
    from geoseg.scenes.open_scene import open_scene

    torch.manual_seed(0)
    network = build_network(ARCHITECTURE)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # the plain mean over all images
    with torch.inference_mode():
        for seed in range(4):
            logits = network.train()(torch.from_numpy(images(100 + seed, 256)))[DEFAULT_OUTPUT]
        head = [module for module in network.modules() if isinstance(module, torch.nn.Conv2d)][-1]
        head.weight *= SPREAD / logits.std()
    network.eval()
    output = Output.from_legend(DEFAULT_OUTPUT, Legend.from_names(CLASSES))
    description = ModelDescription(
        name="runtimes",
        title="U-Net of benchmarks/measure_runtimes.py",
        description="Random weights; good for nothing else.",
        licence="MIT",
        preparation=Preparation(
            bands=tuple(BandNeed(role=band, unit="1") for band in BANDS),
            channels=tuple(Channel(name=band, mean=MEAN, std=STD) for band in BANDS),
        ),
        outputs=(output,),
        pixel_size_m=10,
        pixel_size_range_m=(5, 20),
        tile=tile,
        overlap=0,
        stride=network.stride,
        architecture=ARCHITECTURE,
        labels="none",
        created=datetime.now(UTC),
    )
    graph = export_onnx(ScoredNetwork(network, [output]), len(BANDS))
    package = write_package(folder / "fp32", description, onnx=graph, weights=save_weights(network))
    scene, side = folder / "scene.tif", 4 * tile
    profile = {"count": len(BANDS), "height": side, "width": side, "dtype": "uint16", "crs": "EPSG:32632"}
    with rasterio.open(scene, "w", driver="GTiff", transform=rasterio.Affine(10, 0, 5e5, 0, -10, 5e6), **profile) as file:
        file.write((MEAN + STD * images(0, side)[0]).clip(1, 65535).astype(np.uint16))
        file.descriptions = BANDS
    export_int8(package, [open_scene(scene, sensor="generic")], folder / "int8", tiles=8, anyway=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--tile", type=int, default=512)
    main(**vars(parser.parse_args()))
