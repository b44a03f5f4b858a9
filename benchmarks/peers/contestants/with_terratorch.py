"""TerraTorch's tiled_inference, on the scene as one tensor: reflected borders, blended overlaps."""

import numpy as np
import rasterio
import torch
from contest import Contest
from network import load_network
from terratorch.tasks.tiled_inference import tiled_inference

contest = Contest()
network, mean, std = load_network(contest)
tiles = {} if contest.tile is None else {"crop": contest.tile, "stride": contest.tile - contest.overlap}
with rasterio.open(contest.scene) as scene:
    image = torch.from_numpy((scene.read().astype(np.float32) - mean) / std)[None]  # (1, channel, row, col)
    profile = scene.profile | {"count": 1, "dtype": "uint8", "nodata": None}
scores = tiled_inference(network, image, batch_size=contest.batch, **tiles)
classes = scores.argmax(dim=1)[0].to(torch.uint8).numpy()
with rasterio.open(contest.out, "w", **profile) as out:
    out.write(classes, 1)
contest.finish()
