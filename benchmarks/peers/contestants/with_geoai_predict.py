"""geoai's predict_geotiff with its spline weights."""

import geoai.utils
import numpy as np
from contest import Contest
from geoai.inference import predict_geotiff
from network import CLASSES, load_network

contest = Contest()
network, mean, std = load_network(contest)
tiles = {} if contest.tile is None else {"tile_size": contest.tile, "overlap": contest.overlap}
predict_geotiff(
    network,
    contest.scene,
    contest.out,
    batch_size=contest.batch,
    num_classes=CLASSES,
    output_dtype="uint8",
    output_nodata=255,
    preprocess_fn=lambda tile: ((tile - mean) / std).astype(np.float32),
    postprocess_fn=lambda scores: scores.argmax(axis=0),
    device=str(geoai.utils.get_device()),
    verbose=False,
    **tiles,
)
contest.finish()
