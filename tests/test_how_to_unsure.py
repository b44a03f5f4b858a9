"""The page on uncertainty, run as it stands on a scene whose labels are drawn from the network's own scores."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from how_to import run_page
from map_files import read
from packages import per_pixel_package
from scene_files import write

from geoseg.legend import Legend


def test_layers_sets_and_reasons_of_a_map(place: Path, geoseg, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(4)
    values = generator.normal(0, 1, (1, 300, 260)).astype(np.float32)
    write(place / "scene.tif", values, names=["red"])
    per_pixel_package(place / "landcover", ["red"], [[1.0], [-1.0]], legend=Legend.from_names(["land", "water"]))
    water = generator.random(values.shape) < 1 / (1 + np.exp(2 * values))
    write(place / "labels.tif", water.astype("uint8"))
    run_page("where-is-it-unsure.md", place, geoseg, monkeypatch)
    assert {f"scene_{name}.tif" for name in ("entropy", "margin", "disagreement")} <= {path.name for path in (place / "map").iterdir()}
    report = json.loads((place / "sets.json").read_text())["report"]
    assert report["coverage"] == pytest.approx(0.9, abs=0.02)
    sets, entropy = read(place / "sets/scene_set.tif"), read(place / "map/scene_entropy.tif")
    assert entropy[sets == 3].min() > np.median(entropy)  # both classes are possible where the map is unsure
    assert json.loads((place / "why/scene_explain.json").read_text())["inputs"]
