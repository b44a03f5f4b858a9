"""TorchGeo as its documentation shows it: a RasterDataset, a gridded sampler, a DataLoader; each prediction is put in its place."""

import numpy as np
import rasterio
import torch
from contest import Contest
from network import load_network
from torch.utils.data import DataLoader
from torchgeo.datasets import RasterDataset, stack_samples
from torchgeo.samplers import GriddedPatchSampler

contest = Contest()
network, mean, std = load_network(contest)


def normalise(sample: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Mean 0 and deviation 1."""
    sample["image"] = (sample["image"] - torch.from_numpy(mean)) / torch.from_numpy(std)
    return sample


dataset = RasterDataset(contest.scene, transforms=normalise)
sampler = GriddedPatchSampler(dataset, size=contest.tile, stride=contest.tile - contest.overlap)
loader = DataLoader(dataset, batch_size=contest.batch, sampler=sampler, collate_fn=stack_samples)

with rasterio.open(contest.scene) as scene:
    profile = scene.profile | {"count": 1, "dtype": "uint8", "nodata": None}
classes = np.zeros((profile["height"], profile["width"]), np.uint8)
with torch.inference_mode():
    for sample in loader:
        predictions = network(sample["image"]).argmax(dim=1).numpy()
        for prediction, place in zip(predictions, sample["transform"], strict=True):
            col, row = ~profile["transform"] * (float(place[2]), float(place[5]))
            top, left = round(row), round(col)
            bottom, right = min(top + contest.tile, classes.shape[0]), min(left + contest.tile, classes.shape[1])
            first_row, first_col = max(top, 0), max(left, 0)
            classes[first_row:bottom, first_col:right] = prediction[first_row - top : bottom - top, first_col - left : right - left]
with rasterio.open(contest.out, "w", **profile) as out:
    out.write(classes, 1)
contest.finish()
