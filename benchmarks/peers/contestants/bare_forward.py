"""No library: windows side by side, without overlap, read with rasterio, through the eager network, and written at once."""

import numpy as np
import rasterio
import torch
from contest import Contest
from network import load_network
from rasterio.windows import Window

contest = Contest()
network, mean, std = load_network(contest)
tile = contest.tile
with rasterio.open(contest.scene) as scene:
    profile = {"driver": "GTiff", "count": 1, "dtype": "uint8", "compress": "deflate", "tiled": True, "crs": scene.crs}
    windows = [Window(col, row, tile, tile) for row in range(0, scene.height, tile) for col in range(0, scene.width, tile)]
    with (
        rasterio.open(contest.out, "w", height=scene.height, width=scene.width, transform=scene.transform, **profile) as out,
        torch.inference_mode(),
    ):
        for start in range(0, len(windows), contest.batch):
            batch = windows[start : start + contest.batch]
            images = np.stack([(scene.read(window=window) - mean) / std for window in batch])  # (batch, channel, row, col)
            classes = network(torch.from_numpy(images)).argmax(dim=1).to(torch.uint8).numpy()
            for window, window_classes in zip(batch, classes, strict=True):
                out.write(window_classes, 1, window=window)
contest.finish()
