"""The page on embeddings, run as it stands: a small encoder on a scene of two crops, and a file in AlphaEarth's layout."""

from __future__ import annotations

from pathlib import Path

import geopandas
import numpy as np
import pytest
from how_to import run_page
from map_files import read
from scene_files import write
from shapely.geometry import box

pytest.importorskip("torch")
pytest.importorskip("timm")
pytest.importorskip("sklearn")
pytest.importorskip("onnx")

from test_alphaearth import LAYOUT, NAMES, stored_of
from test_embed import make_encoder

pytestmark = pytest.mark.usefixtures("one_thread")

FIELDS, FIELD = 4, 24
"""On a side; pixels."""


def test_embeddings_to_a_map_of_few_labels(place: Path, geoseg, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    water = (np.add.outer(np.arange(FIELDS), np.arange(FIELDS)) % 2 == 0).repeat(FIELD, axis=0).repeat(FIELD, axis=1)
    noise = generator.integers(0, 200, (2, *water.shape))
    image = np.stack([np.where(water, 500, 900), np.where(water, 200, 3000)]) + noise
    write(place / "scene.tif", image.astype(np.uint16), names=["B04", "B08"], nodata=0)
    make_encoder(place / "encoder", alone=True)
    vectors = generator.normal(size=(2, 64))[water.astype(int)] + generator.normal(0, 0.5, (*water.shape, 64))
    stored = stored_of(np.moveaxis(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True), -1, 0))[:, ::-1]  # from south to north
    bottom = LAYOUT["transform"] @ LAYOUT["transform"].__class__.translation(0, -water.shape[0])
    write(place / "alphaearth.tiff", stored, names=NAMES, **{**LAYOUT, "transform": bottom})
    corners = [(row, col) for row in range(FIELDS) for col in range(FIELDS)]
    edge, inner = 10 * FIELD, 60
    shapes = [
        box(5e5 + edge * col + inner, 4.8e6 - edge * (row + 1) + inner, 5e5 + edge * (col + 1) - inner, 4.8e6 - edge * row - inner)
        for row, col in corners
    ]
    kinds = ["water" if (row + col) % 2 == 0 else "field" for row, col in corners]
    geopandas.GeoDataFrame({"class": kinds}, geometry=shapes, crs="EPSG:32630").to_file(place / "fields.gpkg")
    run_page("embeddings.md", place, geoseg, monkeypatch)
    assert ((read(place / "map/scene_embedding_classes.tif") == 1) == water).mean() > 0.9
    assert ((read(place / "map_of_a_year/alphaearth_classes.tif") == 1)[::-1] == water).mean() > 0.99
