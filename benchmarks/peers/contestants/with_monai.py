"""MONAI's SlidingWindowInferer with Gaussian weights, on the scene as one tensor."""

import numpy as np
import rasterio
import torch
from contest import Contest
from monai.inferers import SlidingWindowInferer
from network import load_network

TILE = 512
"""MONAI has no default of its own."""

contest = Contest()
network, mean, std = load_network(contest)
tile = contest.tile or TILE
overlap = {} if contest.overlap is None else {"overlap": contest.overlap / tile}
inferer = SlidingWindowInferer(roi_size=(tile, tile), sw_batch_size=contest.batch, mode="gaussian", **overlap)
with rasterio.open(contest.scene) as scene:
    image = torch.from_numpy((scene.read().astype(np.float32) - mean) / std)[None]  # (1, channel, row, col)
    profile = scene.profile | {"count": 1, "dtype": "uint8", "nodata": None}
with torch.inference_mode():
    classes = inferer(image, network).argmax(dim=1)[0].to(torch.uint8).numpy()
with rasterio.open(contest.out, "w", **profile) as out:
    out.write(classes, 1)
contest.finish()
