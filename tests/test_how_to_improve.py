"""The page on improving a map, run on stripes of land and water with fewer rounds; the truth stands in for the person who draws."""

from __future__ import annotations

import json
from pathlib import Path

import geopandas
import numpy as np
import pyogrio
import pytest
from command_line import Ran
from how_to import run_page
from labelled_ground import QUICK
from map_files import read
from scene_files import write
from shapely.geometry import box

pytest.importorskip("torch")
pytest.importorskip("lightning")
pytest.importorskip("sklearn")

from geoseg.legend import Legend
from geoseg.models.package import ModelPackage
from geoseg.recipes.supervised import Settings, run
from geoseg.scenes.open_scene import open_scene
from geoseg.settings import parse

pytestmark = pytest.mark.usefixtures("one_thread")

SIDE = 192
CLASSES = Legend.from_names(["land", "water"])


def draw(place: Path, water: np.ndarray) -> None:
    """Squares of one class in the suggested tiles, into the layer that waits for them."""
    rows = []
    for tile in geopandas.read_file(place / "map/scene_suggested.gpkg", layer="suggested").geometry:
        left, top = round((tile.bounds[0] - 5e5) / 10), round((4.8e6 - tile.bounds[3]) / 10)
        for row, col in ((top + down, left + right) for down in range(0, 24, 8) for right in range(0, 24, 8)):
            here = water[row : row + 4, col : col + 4]
            if here.shape == (4, 4) and here.all() == here.any():
                west, north = 5e5 + 10 * col, 4.8e6 - 10 * row
                rows.append({"class": CLASSES.names[int(here[0, 0])], "geometry": box(west, north - 40, west + 40, north)})
    drawn = geopandas.GeoDataFrame(rows, crs="EPSG:32630")
    pyogrio.write_dataframe(drawn, place / "map/scene_corrections.gpkg", layer="corrections", append=True, promote_to_multi=True)


def test_tiles_corrections_and_a_package_that_learned_on(place: Path, geoseg, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    water = (np.add.outer(np.arange(SIDE), np.arange(SIDE)) // 20) % 3 == 0
    levels = np.where(water, np.array([0.09, 0.04])[:, None, None], np.array([0.15, 0.26])[:, None, None])
    write(place / "scene.tif", (levels + generator.uniform(0, 0.03, levels.shape)).astype(np.float32), names=["red", "nir"])
    write(place / "truth.tif", water[np.newaxis].astype(np.uint8))
    labels = np.full((SIDE, SIDE), 255, np.uint8)
    labels[:96, :96] = water[:96, :96]
    labels[40:52, 60:72] = ~water[40:52, 60:72]  # drawn wrong
    write(place / "labels.tif", labels[np.newaxis], nodata=255)
    settings = parse(Settings, QUICK | {"compare": "none", "pictures": 0, "classes": CLASSES.classes}, source="test")
    run(settings, [open_scene(place / "scene.tif", sensor="generic")], [place / "truth.tif"], place / "landcover", accelerator="cpu")

    def person_between(*words: str) -> Ran:
        fewer = ("-s", "epochs=2", "-s", "draws=64") if words[0] == "train" else ()
        ran = geoseg(*words, *fewer)
        if words[:2] == ("suggest", "tiles"):
            draw(place, water)
        return ran

    run_page("improve-a-map.md", place, person_between, monkeypatch)
    start, better = (ModelPackage.open(place / name) for name in ("landcover", "better"))
    assert better.training["start"] == f"{start.name} {start.checksum}"
    assert json.loads((place / "better_training/report.json").read_text())["notes"]
    assert (read(place / "better_map/scene_classes.tif") == water).mean() > 0.8
    suspects = geopandas.read_file(place / "suspects/suspect_labels.gpkg", layer="suspects")
    wrong = box(5e5 + 600, 4.8e6 - 520, 5e5 + 720, 4.8e6 - 400)
    assert suspects.geometry.intersection(wrong).area.sum() > 0.9 * wrong.area
