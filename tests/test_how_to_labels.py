"""The page on labels of one's own, run as it stands on fields of two crops and water."""

from __future__ import annotations

from pathlib import Path

import geopandas
import numpy as np
import pytest
from how_to import run_page
from map_files import read
from scene_files import write
from shapely.geometry import box

from geoseg.models.package import ModelPackage

pytest.importorskip("sklearn")

VALUES = {"wheat": 0.2, "maize": 0.3, "water": -0.5}


def test_polygons_to_a_forest_its_map_and_its_report(place: Path, geoseg, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    kinds = generator.choice(list(VALUES), (8, 8))
    truth = kinds.repeat(30, axis=0).repeat(30, axis=1)
    values = np.vectorize(VALUES.get)(truth) + generator.normal(0, 0.02, truth.shape)
    write(place / "scene.tif", values[np.newaxis].astype(np.float32), names=["red"])
    corners = [(row, col) for row in range(8) for col in range(8)]
    shapes = [box(5e5 + 300 * col, 4.8e6 - 300 * row - 300, 5e5 + 300 * col + 300, 4.8e6 - 300 * row) for row, col in corners]
    frame = geopandas.GeoDataFrame({"class": kinds.ravel()}, geometry=shapes, crs="EPSG:32630")
    drawn, kept = frame.iloc[:40], frame.iloc[40:].assign(**{"class": frame["class"].replace({"wheat": "crop", "maize": "crop"})})
    drawn.to_file(place / "fields.gpkg")
    kept.to_file(place / "elsewhere.gpkg")
    run_page("your-own-labels.md", place, geoseg, monkeypatch)
    assert ModelPackage.open(place / "forest").outputs[0].legend.names == ("crop", "water")
    np.testing.assert_array_equal(read(place / "map/scene_classes.tif"), truth == "water")
    assert (place / "report/report.html").exists()
