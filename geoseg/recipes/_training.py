"""What recipes with a network share: loaders, the count of truth against guess, the network as files. Functions, no base class."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import JsonValue
from torch.utils.data import DataLoader

from geoseg.confusion import Confusion
from geoseg.data.buffer import Deal
from geoseg.data.patches import GridPatches, TrainingPatches
from geoseg.data.samplers import EpochSampler, grid_windows
from geoseg.data.splits import Part
from geoseg.data.windows import UNLABELLED
from geoseg.legend import Legend
from geoseg.models.calibration import Calibration
from geoseg.models.description import DEFAULT_OUTPUT, Output
from geoseg.models.export import check_parity, export_onnx, save_weights
from geoseg.models.reach import looks_around_only
from geoseg.models.segmenter import ScoredNetwork, Segmenter, count_parameters
from geoseg.models.temperature import Temperature, fit_temperature, tempered_pixels
from geoseg.preprocess.prepare import Preparation
from geoseg.recipes._ground import Ground
from geoseg.recipes._results import Model

_MOST_SCORED, _FEWEST_SCORED = 400_000, 100
"""Pixels from which a temperature is taken."""
_LARGER, _LARGEST = 4, 1024
"""How much larger the tiles of a map are than those of training, and their largest edge: seams get fainter, memory grows."""


def training_loader(
    patches: TrainingPatches, *, draws: int, batch: int, workers: int, rank: int = 0, world: int = 1, group: int = 1
) -> DataLoader[Any]:
    """Batches of `image` (batch, channel, row, col) and `labels` (batch, row, col); `draws` patches in each epoch, never the same.

    `rank` is this process among `world` that learn together, each from its own share of an epoch. `group` patches are drawn from each
    region that is decoded, see `geoseg.data.buffer`.
    """
    sampler = EpochSampler(draws, rank=rank, world=world)
    dataset: Any = patches  # has what a torch Dataset needs, but is none: geoseg.data knows nothing of torch
    if group > 1:
        dataset = patches.in_groups(Deal.fitting(sampler.length, batch, world, group=group, patch_bytes=patches.patch_bytes))
    return DataLoader(dataset, batch_size=batch, sampler=sampler, drop_last=len(sampler) >= batch, **_workers(workers))


def grid_loader(ground: Ground, part: Part, preparation: Preparation, *, tile: int, batch: int, workers: int) -> DataLoader[Any]:
    """Batches that cover a part of the ground once; a pixel's label stands in one patch only, an eighth of a tile from its edge."""
    patches: Any = grid_patches(ground, part, preparation, tile=tile)  # no torch Dataset, as above
    return DataLoader(patches, batch_size=batch, **_workers(workers))


def grid_patches(ground: Ground, part: Part, preparation: Preparation, *, tile: int) -> GridPatches:
    """The patches of `grid_loader`, one by one."""
    windows = [
        (scene, window, core)
        for scene, (loaded, mask) in enumerate(zip(ground.scenes, ground.masks[part], strict=True))
        for window, core in grid_windows(mask & (loaded.labels != UNLABELLED), tile=tile, margin=tile // 8)
    ]
    return GridPatches(ground.scenes, ground.masks[part], preparation, windows)


def count_batch(logits: torch.Tensor, labels: torch.Tensor, legend: Legend) -> Confusion:
    """Truth against guess over the labelled pixels of a batch: logits (batch, class, row, col), labels (batch, row, col)."""
    guess, truth = logits.argmax(dim=1).cpu().numpy(), labels.cpu().numpy()
    return Confusion.count(truth, guess, legend, counted=truth != UNLABELLED)


def judge(network: Segmenter, batches: DataLoader[Any], legend: Legend) -> Confusion:
    """The pooled confusion of a network over all batches, in evaluation mode."""
    network.eval()
    device = next(network.parameters()).device
    total = Confusion.empty(legend)
    with torch.inference_mode():
        for batch in batches:
            total += count_batch(network(batch["image"].to(device))[DEFAULT_OUTPUT], batch["labels"], legend)
    return total


def temperature_of(network: Segmenter, fitted: DataLoader[Any], judged: DataLoader[Any], *, seed: int) -> Temperature | None:
    """The temperature at which a network's scores are frequencies on the ground of `fitted`, and what it does on that of `judged`.

    None where either has too few labelled pixels to say.
    """
    generator = np.random.default_rng(seed)
    (scores, truth), (seen, known) = (_scored_pixels(network, batches, generator) for batches in (fitted, judged))
    if min(len(truth), len(known)) < _FEWEST_SCORED:
        return None
    found = fit_temperature(scores, truth)
    errors = (_calibration_error(tempered_pixels(seen, value), known) for value in (1.0, found))
    return Temperature(found, *errors)


def _calibration_error(scores: NDArray[np.float32], truth: NDArray[np.int64]) -> float:
    """Expected calibration error of scores (pixel, class), 0…1."""
    return Calibration.count(scores.max(axis=1), scores.argmax(axis=1) == truth).error


def _scored_pixels(
    network: Segmenter, batches: DataLoader[Any], generator: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Scores (pixel, class) and true classes (pixel,) of labelled pixels; of more than some 400,000 a random share, all alike."""
    network.eval()
    device = next(network.parameters()).device
    kept: list[tuple[NDArray[np.float32], NDArray[np.int64]]] = []
    share = 1.0
    with torch.inference_mode():
        for batch in batches:
            scores = network(batch["image"].to(device))[DEFAULT_OUTPUT].softmax(dim=1).movedim(1, -1).cpu().numpy()
            truth = batch["labels"].numpy()
            chosen = (truth != UNLABELLED) & (generator.random(truth.shape) < share)
            kept.append((scores[chosen], truth[chosen]))
            if sum(len(one) for _, one in kept) > _MOST_SCORED:
                share /= 2
                halves = [generator.random(len(one)) < 0.5 for _, one in kept]
                kept = [(scores[half], truth[half]) for (scores, truth), half in zip(kept, halves, strict=True)]
    return np.concatenate([scores for scores, _ in kept]), np.concatenate([truth for _, truth in kept])


def guess(network: Segmenter, images: NDArray[np.float32]) -> NDArray[np.int64]:
    """(batch, row, col) class indices for images (batch, channel, row, col), in evaluation mode."""
    network.eval()
    device = next(network.parameters()).device
    with torch.inference_mode():
        logits = network(torch.from_numpy(images).to(device))[DEFAULT_OUTPUT]
    found: NDArray[np.int64] = logits.argmax(dim=1).cpu().numpy()
    return found


def _workers(count: int) -> dict[str, Any]:
    """Loader processes are spawned on every system: forked ones inherit GDAL's and torch's threads half-dead."""
    return {"num_workers": count, "multiprocessing_context": "spawn", "persistent_workers": True} if count else {"num_workers": 0}


def exported(
    network: Segmenter,
    legend: Legend,
    examples: list[NDArray[np.float32]],
    *,
    architecture: dict[str, JsonValue],
    channels: int,
    tile: int,
    map_tile: int | None,
) -> Model:
    """The network in ONNX and as weights, compared on `examples` (batch, channel, row, col), with the tiles of its maps.

    `tile` is the edge of the windows it has learned from. Where it sees the same in larger tiles, maps take as large ones as
    pays, unless `map_tile` says which.
    """
    scored = ScoredNetwork(network, [Output.from_legend(DEFAULT_OUTPUT, legend)])
    onnx = export_onnx(scored, channels)
    parity = check_parity(onnx, scored, examples)
    edge = map_tile or (max(tile, min(_LARGER * tile, _LARGEST)) if looks_around_only(network, channels) else tile)
    return Model(
        onnx=onnx,
        weights=save_weights(network),
        architecture=architecture,
        stride=network.stride,
        tile=edge,
        overlap=min(max(tile, edge // 2) // 4, edge - network.stride),
        facts={"parameters": count_parameters(network), "onnx_parity": parity.to_dict()},
    )
