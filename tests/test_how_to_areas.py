"""The page on areas, run as it stands on a generated map; the labels are set where the page says to label."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyogrio
import pytest
from class_map_files import THREE, UTM, class_map
from how_to import commands
from reference_points import label

PAGE = "areas-with-confidence.md"


def lay_out(folder: Path) -> np.ndarray:
    """A map in which water is overestimated, a corrected one, and points from the field; the true codes."""
    rng = np.random.default_rng(0)
    truth = rng.choice(3, (250, 250), p=[0.7, 0.05, 0.25]).astype(np.uint8)
    mapped = np.where((truth == 0) & (rng.random(truth.shape) < 0.1), 1, truth).astype(np.uint8)
    (folder / "map").mkdir()
    class_map(folder / "map" / "scene_classes.tif", mapped, THREE)
    class_map(folder / "corrected.tif", truth, THREE)
    rows, cols = rng.integers(0, 250, (2, 300))
    x, y = UTM * (cols + 0.5, rows + 0.5)
    lines = [f"{east:.1f},{north:.1f},{THREE.names[code]}" for east, north, code in zip(x, y, truth[rows, cols], strict=True)]
    (folder / "field.csv").write_text("\n".join(["x,y,class", *lines]), encoding="utf-8")
    return truth


def test_the_areas_hold_the_truth_that_the_count_misses(place: Path, geoseg, monkeypatch: pytest.MonkeyPatch) -> None:
    truth = lay_out(place)
    monkeypatch.chdir(place)
    for words in commands(PAGE):
        ran = geoseg(*words)
        assert ran.code == 0, f"geoseg {' '.join(words)}\n{ran.err}"
        if words[:2] == ["sample", "design"]:
            label(place / "points.gpkg", (truth, UTM))
    assert {words[1] for words in commands(PAGE)} == {"design", "estimate"}
    assert len(pyogrio.read_dataframe(place / "points.gpkg", layer="points")) > 150

    water = json.loads((place / "areas.json").read_text(encoding="utf-8"))["classes"][1]
    true_km2 = (truth == 1).sum() * 1e-4
    assert water["mapped_km2"] > 2 * true_km2
    assert water["area_km2"]["low"] < true_km2 < water["area_km2"]["high"] < water["mapped_km2"]
    assert "taken for a simple random sample" in ran.out
