"""The package that ships with geoseg: small, honest on its card, and it knows water from land."""

from __future__ import annotations

import json
from pathlib import Path

import geopandas
import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox
from shapely.geometry import box

import geoseg
from geoseg.models.package import ModelPackage
from geoseg.preprocess.prepare import prepare
from geoseg.raster import Raster
from geoseg.runtimes.open_runtime import open_runtime
from geoseg.sensors import get_sensor

FOLDER = Path(geoseg.__file__).parent / "models" / "default"
RESULTS = Path(__file__).resolve().parents[1] / "benchmarks" / "results" / "default_model.json"
LARGEST_BYTES = 8_000_000


@pytest.fixture(scope="module")
def package() -> ModelPackage:
    return ModelPackage.open(FOLDER)


def test_networks_together_are_small_enough_to_ship(package: ModelPackage) -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < LARGEST_BYTES
    assert {"model.onnx", "weights.safetensors", "held_out.geojson", "README.md"} <= set(package.checksums)


@pytest.mark.parametrize(
    ("reflectance", "water"),
    [
        ((0.11, 0.09, 0.06, 0.03, 0.006, 0.004), True),  # the sea off Virginia
        ((0.13, 0.12, 0.12, 0.07, 0.010, 0.006), True),  # a river with sediment
        ((0.10, 0.09, 0.07, 0.32, 0.18, 0.09), False),  # a meadow
        ((0.13, 0.14, 0.16, 0.24, 0.30, 0.25), False),  # bare soil
        ((0.25, 0.26, 0.28, 0.30, 0.32, 0.30), False),  # sand
    ],
)
def test_plain_ground_is_told_for_what_it_is(package: ModelPackage, reflectance: tuple[float, ...], water: bool) -> None:
    bands = get_sensor("sentinel-2-l1c").select(*(need.role for need in package.preparation.bands))
    stored = np.round(np.array(reflectance) / 1e-4).astype(np.uint16)[:, None, None] * np.ones((1, 64, 64), np.uint16)
    grid = GeoBox((64, 64), Affine(10, 0, 4e5, 0, -10, 4e6), "EPSG:32630")
    raster = Raster(stored, np.ones(stored.shape, bool), grid, bands)
    scores = open_runtime(package)(prepare(raster, package.preparation).values[None])["classes"][0]
    names = package.outputs[0].legend.names
    assert names[int(scores[:, 16:48, 16:48].mean(axis=(1, 2)).argmax())] == ("water" if water else "not water")


def test_held_out_ground_lies_where_the_model_was_trained(package: ModelPackage) -> None:
    frame = geopandas.read_file(package.read("held_out.geojson").decode())
    assert set(frame["part"]) == {"validation", "test"}
    assert frame.within(box(*package.trained_bbox).buffer(1e-3)).all()


def test_the_card_says_that_a_rule_made_the_labels_and_what_people_found(package: ModelPackage) -> None:
    assert package.labels.startswith("rule-made")
    by_people = [figure for figure in package.figures if figure.by.startswith("hand-labelled")]
    assert {"IoU of water", "F1 of water", "precision of water", "recall of water"} <= {figure.name for figure in by_people}
    assert any("MNDWI > 0" in figure.name for figure in by_people)


def test_the_cards_figures_are_those_of_the_benchmark(package: ModelPackage) -> None:
    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    east = results["flood"]["east"]["networks"][f"seed {results['shipped_seed']}"]
    shown = {figure.name: figure.value for figure in package.figures if figure.by.startswith("hand-labelled")}
    assert (shown["IoU of water"], shown["recall of water"]) == (east["iou"], east["recall"])
    assert results["tries_on_the_west_half"]
