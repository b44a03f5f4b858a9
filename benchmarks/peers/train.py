"""A small network that knows the synthetic landscape, as weights for the peers and as a model package for geoseg.

    python benchmarks/peers/train.py FOLDER

Trains smp.Unet with a ResNet-18 from random weights for 300 steps on a scene of another seed (some three minutes on one core),
and says how often it is right there and on ground it has not seen. FOLDER gets for the network (`unet`), and for one convolution of
1 x 1 that shows what an engine costs without a network (`stub`):

    NAME.safetensors      the weights, with mean and standard deviation of each band's stored numbers in the header
    NAME/                 the same as a model package: tile 512, overlap 64, as the peers are given
    NAME-wide/            the same with tile 1024 and overlap 128
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import rasterio
import torch
from make_scene import BANDS, CLASSES, write_scene
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import nn

from geoseg.legend import Legend
from geoseg.models.description import DEFAULT_OUTPUT
from geoseg.models.export import check_parity, export_onnx, save_weights
from geoseg.models.package import ModelDescription, Output, write_package
from geoseg.models.segmenter import ScoredNetwork, Segmenter, build_network
from geoseg.preprocess.prepare import BandNeed, Channel, Preparation

ARCHITECTURE = {"family": "smp.Unet", "encoder": "resnet18", "in_channels": len(BANDS), "classes": len(CLASSES)}
TILES = {"": (512, 64), "-wide": (1024, 128)}
"""Ending of the package's name → tile and overlap in pixels."""
TRAINING_SEED, TRAINING_SIZE = 1, 1024
STEPS, BATCH, PATCH, LEARNING_RATE = 300, 4, 96, 2e-3
STRIDE = 32


def main(folder: Path) -> None:
    """Train, judge and write both networks; what is there already stays."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as temporary:
        pixels, truth = _landscape(Path(temporary), TRAINING_SEED)
        other = _landscape(Path(temporary), TRAINING_SEED + 1)
    mean, std = pixels.mean(axis=(1, 2)), pixels.std(axis=(1, 2))
    if not (folder / "stub.safetensors").exists():
        write(folder, "stub", Segmenter(nn.Conv2d(len(BANDS), len(CLASSES), 1), {DEFAULT_OUTPUT: len(CLASSES)}), None, mean, std)
    if not (folder / "unet.safetensors").exists():
        unet = build_network(ARCHITECTURE)
        learn(unet, _normalised(pixels, mean, std), truth)
        right = {"training ground": accuracy(unet, _normalised(pixels, mean, std), truth)}
        right["ground not seen"] = accuracy(unet, _normalised(other[0], mean, std), other[1])
        print("; ".join(f"{100 * share:.2f} % of the pixels right on {where}" for where, share in right.items()))
        write(folder, "unet", unet, ARCHITECTURE, mean, std)


def learn(network: Segmenter, image: torch.Tensor, truth: NDArray[np.uint8]) -> None:
    """Cross entropy on patches drawn at random, mirrored at random."""
    rng = np.random.default_rng(0)
    labels = torch.from_numpy(truth.astype(np.int64))
    optimiser = torch.optim.AdamW(network.parameters(), LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=STEPS)
    network.train()
    for _ in range(STEPS):
        places = rng.integers(0, truth.shape[0] - PATCH, (BATCH, 2))
        images = torch.stack([image[:, row : row + PATCH, col : col + PATCH] for row, col in places])
        classes = torch.stack([labels[row : row + PATCH, col : col + PATCH] for row, col in places])
        if rng.random() < 0.5:
            images, classes = images.flip(-1), classes.flip(-1)
        loss = nn.functional.cross_entropy(network(images)[DEFAULT_OUTPUT], classes)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    network.eval()


def accuracy(network: Segmenter, image: torch.Tensor, truth: NDArray[np.uint8]) -> float:
    """Share of pixels with the right class, 0…1."""
    with torch.inference_mode():
        guess = network(image[None])[DEFAULT_OUTPUT][0].argmax(dim=0).numpy()
    return float((guess == truth).mean())


def write(
    folder: Path, name: str, network: Segmenter, architecture: dict[str, object] | None, mean: NDArray[np.float64], std: NDArray[np.float64]
) -> None:
    """Write a network's packages, then its weights."""
    network.eval()
    output = Output.from_legend(DEFAULT_OUTPUT, Legend.from_names(CLASSES))
    scored = ScoredNetwork(network, [output])
    onnx = export_onnx(scored, len(BANDS))
    check_parity(onnx, scored, [np.random.default_rng(0).standard_normal((1, len(BANDS), 256, 256)).astype(np.float32)])
    channels = tuple(Channel(name=band, mean=float(m), std=float(s)) for band, m, s in zip(BANDS, mean, std, strict=True))
    for ending, (tile, overlap) in TILES.items():
        description = ModelDescription(
            name=f"peers-{name}{ending}",
            title=f"{name} for benchmarks/peers, tiles of {tile} pixels",
            description="Five classes of a synthetic landscape; good for nothing else.",
            licence="MIT",
            preparation=Preparation(bands=tuple(BandNeed(role=band, unit="1") for band in BANDS), channels=channels),
            outputs=(output,),
            pixel_size_m=10,
            pixel_size_range_m=(5, 20),
            tile=tile,
            overlap=overlap,
            stride=STRIDE,
            architecture=architecture or {},
            labels="the classes that the landscape was made from",
            created=datetime.now(UTC),
        )
        shutil.rmtree(folder / f"{name}{ending}", ignore_errors=True)
        write_package(folder / f"{name}{ending}", description, onnx=onnx, weights=save_weights(network) if architecture else None)
    header = {"network": name, "mean": json.dumps(mean.tolist()), "std": json.dumps(std.tolist())}
    save_file(network.network.state_dict(), folder / f"{name}.safetensors", header)


def _landscape(folder: Path, seed: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Stored numbers (band, row, col) and classes (row, col)."""
    write_scene(folder / "scene.tif", TRAINING_SIZE, labels=folder / "labels.tif", seed=seed)
    with rasterio.open(folder / "scene.tif") as scene, rasterio.open(folder / "labels.tif") as labels:
        return scene.read().astype(np.float32), labels.read(1)


def _normalised(pixels: NDArray[np.float32], mean: NDArray[np.float64], std: NDArray[np.float64]) -> torch.Tensor:
    return torch.from_numpy(((pixels - mean[:, None, None]) / std[:, None, None]).astype(np.float32))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    main(parser.parse_args().folder)
