"""The class map that every tiling is compared with: each pixel as the network sees it with all the context that it can use.

    python benchmarks/peers/reference.py --scene SCENE.tif --weights NAME.safetensors --out REFERENCE.tif [--threads 2]

Windows of 2048 pixels with 512 more on each side, where the scene goes on: the receptive field of the network (some 281 pixels to each
side) ends inside, and the windows begin at multiples of its stride. `--tile` and `--overlap` are the 2048 and the 512: with
512 and 288 a scene of 1024 x 1024 comes out as it does in one piece, pixel for pixel.
"""

import sys
from pathlib import Path

import numpy as np
import rasterio
import torch
from rasterio.windows import Window

sys.path.insert(0, str(Path(__file__).parent / "contestants"))
from contest import Contest
from network import load_network

CORE, CONTEXT = 2048, 512

contest = Contest()
network, mean, std = load_network(contest)
core, context = contest.tile or CORE, CONTEXT if contest.overlap is None else contest.overlap
with rasterio.open(contest.scene) as scene, torch.inference_mode():
    profile = scene.profile | {"count": 1, "dtype": "uint8", "nodata": None}
    with rasterio.open(contest.out, "w", **profile) as out:
        for row in range(0, scene.height, core):
            for col in range(0, scene.width, core):
                top, left = max(0, row - context), max(0, col - context)
                bottom, right = min(scene.height, row + core + context), min(scene.width, col + core + context)
                pixels = scene.read(window=Window(left, top, right - left, bottom - top))
                scores = network(torch.from_numpy((pixels - mean) / std)[None])[0]  # (class, row, col)
                classes = scores.argmax(dim=0)[row - top :, col - left :][:core, :core].numpy().astype(np.uint8)
                out.write(classes, 1, window=Window(col, row, classes.shape[1], classes.shape[0]))
contest.finish()
