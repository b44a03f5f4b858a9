"""Raster Vision: a sliding-window data set, a learner in evaluation mode, smooth labels."""

import shutil
import tempfile
from pathlib import Path

import numpy as np
from contest import Contest
from network import CLASSES, load_network
from rastervision.core.data import ClassConfig, RasterTransformer, SemanticSegmentationLabels
from rastervision.pytorch_learner import (
    SemanticSegmentationGeoDataConfig,
    SemanticSegmentationLearner,
    SemanticSegmentationLearnerConfig,
    SemanticSegmentationSlidingWindowGeoDataset,
    SolverConfig,
)


class Normalise(RasterTransformer):
    """Mean 0 and deviation 1 of chips (row, col, channel)."""

    def __init__(self, mean: np.ndarray, std: np.ndarray) -> None:
        self.mean, self.std = mean.ravel(), std.ravel()

    def transform(self, chip: np.ndarray) -> np.ndarray:
        """(row, col, channel) float32."""
        return ((chip - self.mean) / self.std).astype(np.float32)

    def get_out_dtype(self, in_dtype: np.dtype) -> np.dtype:
        """What `transform` gives."""
        return np.dtype(np.float32)


contest = Contest()
network, mean, std = load_network(contest)
classes = ClassConfig(names=[f"class {which}" for which in range(CLASSES)], null_class="class 0")
dataset = SemanticSegmentationSlidingWindowGeoDataset.from_uris(
    image_uri=contest.scene,
    class_config=classes,
    image_raster_source_kw={"raster_transformers": [Normalise(mean, std)]},
    size=contest.tile,
    stride=contest.tile - contest.overlap,
)
config = SemanticSegmentationLearnerConfig(
    data=SemanticSegmentationGeoDataConfig(class_config=classes, num_workers=0), solver=SolverConfig(batch_sz=contest.batch)
)
learner = SemanticSegmentationLearner(config, model=network, training=False)
predictions = learner.predict_dataset(dataset, raw_out=True, numpy_out=True, progress_bar=False)
labels = SemanticSegmentationLabels.from_predictions(
    dataset.windows, predictions, extent=dataset.scene.extent, num_classes=CLASSES, smooth=True
)
with tempfile.TemporaryDirectory() as folder:
    labels.save(folder, crs_transformer=dataset.scene.raster_source.crs_transformer, class_config=classes, smooth_output=False)
    shutil.move(Path(folder) / "labels.tif", contest.out)
contest.finish()
