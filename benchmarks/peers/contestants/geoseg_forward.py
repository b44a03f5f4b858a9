"""The bare network in one of geoseg's runtimes over the same overlapped windows: what `geoseg predict` is measured by.

Only the calls of the network count; reading and preparing its input do not, and nothing is blended or written.
"""

import time

import numpy as np
import rasterio
from contest import Contest
from rasterio.windows import Window

from geoseg import ModelPackage, open_runtime
from geoseg.mapping.tiles import plan_tiles

contest = Contest()
package = ModelPackage.open(contest.weights)
precision = {} if contest.precision == "fp32" else {"precision": contest.precision}
runtime = open_runtime(package, contest.runtime, threads=contest.threads, **precision)
mean, std = (np.array([getattr(channel, name) for channel in package.preparation.channels], np.float32) for name in ("mean", "std"))
contest.start()
cpu_s = wall_s = 0.0
with rasterio.open(contest.scene) as scene:
    plan = plan_tiles(scene.shape, tile=package.tile, overlap=package.overlap, stride=package.stride)
    for row in plan.row_origins:
        for col in plan.col_origins:
            pixels = scene.read(window=Window(col, row, plan.tile, plan.tile))
            image = ((pixels - mean[:, None, None]) / std[:, None, None])[None]  # (1, channel, row, col)
            cpu, wall = time.process_time(), time.perf_counter()
            runtime(image)
            cpu_s, wall_s = cpu_s + time.process_time() - cpu, wall_s + time.perf_counter() - wall
            contest.windows += 1
contest.finish(cpu_s=cpu_s, wall_s=wall_s)
