"""A series is learned from as it is mapped: `geoseg train --series`."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin
from test_composite import CLEAR, CLOUD, level_2a

pytest.importorskip("torch")
pytest.importorskip("lightning")
pytest.importorskip("segmentation_models_pytorch")

from geoseg.models.package import ModelPackage

SIDE = 192
SETTINGS = (
    "epochs=2", "draws=48", "batch=8", "tile=32", "block=48", "guard=4", "validation=0.2", "test=0.2", "learning_rate=0.01",
    "encoder=tu-resnet10t", "network={encoder_depth: 3, decoder_channels: [8, 8, 8]}", "indices=[NDVI]", "calendar={periods: [4, 5, 6]}",
)  # fmt: skip


@pytest.fixture
def fields(tmp_path):
    """Three dates of two crops that differ only in when they are green, some of May under cloud; their label raster."""
    rng = np.random.default_rng(0)
    early = (np.add.outer(np.arange(SIDE), np.arange(SIDE)) // 20) % 2 == 0
    paths = []
    for month, green in ((4, early), (5, np.ones_like(early)), (6, ~early)):
        red, nir = np.where(green, 1400, 2600), np.where(green, 5000, 3600)
        noise = rng.integers(0, 200, (2, SIDE, SIDE))
        scl = np.where(rng.random((SIDE // 2, SIDE // 2)) < (0.3 if month == 5 else 0), CLOUD, CLEAR)
        paths.append(level_2a(tmp_path, f"20210{month}10", red=red + noise[0], nir=nir + noise[1], scl=scl, side=SIDE))
    profile = {"count": 1, "height": SIDE, "width": SIDE, "dtype": "uint8", "crs": "EPSG:32632", "nodata": 255}
    with rasterio.open(tmp_path / "labels.tif", "w", driver="GTiff", transform=from_origin(6e5, 5e6, 10, 10), **profile) as file:
        file.write(np.where(early, 1, 2).astype(np.uint8), 1)
    return paths, early


def test_crops_that_differ_in_time_are_learned_and_mapped(fields, tmp_path, geoseg):
    paths, early = fields
    words = [word for setting in SETTINGS for word in ("-s", setting)]
    trained = geoseg("train", *paths, "--series", "--labels", tmp_path / "labels.tif", "-o", tmp_path / "crops", *words)
    assert trained.code == 0, trained.err
    preparation = ModelPackage.open(tmp_path / "crops").preparation
    assert [channel.name for channel in preparation.channels] == [
        *(f"{name}@0{month}" for month in (4, 5, 6) for name in ("red", "nir", "NDVI")),
        *(f"present@0{month}" for month in (4, 5, 6)),
    ]
    may = {channel.name: channel.mean for channel in preparation.channels}["red@05"]
    assert may == pytest.approx(0.05, abs=0.002)  # pixels without a clear May do not count as 0
    mapped = geoseg("predict", *paths, "--series", "--model", tmp_path / "crops", "-o", tmp_path / "map", "--no-picture")
    assert mapped.code == 0, mapped.err
    with rasterio.open(next((tmp_path / "map").glob("*_classes.tif"))) as file:
        assert ((file.read(1) == 1) == early).mean() > 0.9


def test_a_series_without_a_calendar_is_refused(fields, tmp_path, geoseg):
    paths, _ = fields
    ran = geoseg("train", *paths, "--series", "--labels", tmp_path / "labels.tif", "-o", tmp_path / "crops")
    assert ran.code == 2
    assert "--series needs the periods of the series" in ran.sentence
    ran = geoseg("train", *paths, "--labels", tmp_path / "labels.tif", "-o", tmp_path / "crops", "-s", "calendar={periods: [4, 5]}")
    assert "a calendar or --dates was given without --series" in ran.sentence
