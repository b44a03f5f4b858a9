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
from geoseg.models.description import DEFAULT_OUTPUT, Output
from geoseg.models.export import check_parity, export_onnx, save_weights
from geoseg.models.reach import looks_around_only
from geoseg.models.segmenter import ScoredNetwork, Segmenter, count_parameters
from geoseg.preprocess.prepare import Preparation
from geoseg.recipes._ground import Ground
from geoseg.recipes._results import Model

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
