"""A random forest on pixels: the graph says what scikit-learn says, labels that belong together stay together, files to a map."""

from __future__ import annotations

import json
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
from affine import Affine
from command_line import refusal
from rasterio.features import rasterize
from shapely.geometry import box

from geoseg.data.groups import deal_folds
from geoseg.io.label_rules import LabelRules
from geoseg.io.labels import Labels
from geoseg.legend import Legend
from geoseg.models.package import ModelPackage

CRS, GRID = "EPSG:32630", Affine(10, 0, 500_000, 0, -10, 4_500_000)
SIDE = 96
BANDS = ("red", "nir")
WORDS = ("--sensor", "sentinel-2-l2a", "--bands", ",".join(BANDS), "--scale", "0.0001", "--offset", "0")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """scene.tif, whose water is dark in nir, and polygons.gpkg: eight of water, nine of land, two in each field."""
    folder, rng = tmp_path_factory.mktemp("forest"), np.random.default_rng(0)
    rows, cols = np.mgrid[:SIDE, :SIDE]
    water = (rows // 12 + cols // 12) % 2 == 0
    image = np.stack([np.where(water, 500, 700), np.where(water, 200, 3000)]) + rng.normal(0, 100, (2, SIDE, SIDE))
    with rasterio.open(
        folder / "scene.tif", "w", driver="GTiff", height=SIDE, width=SIDE, count=2, dtype="uint16", nodata=0, crs=CRS, transform=GRID
    ) as file:
        file.write(np.maximum(image, 1).astype(np.uint16))
    rectangles, classes = [], []
    for row, col in [
        (0, 0),
        (0, 1),
        (1, 0),
        (1, 1),
        (2, 2),
        (2, 3),
        (3, 2),
        (3, 3),
        (4, 4),
        (4, 5),
        (5, 4),
        (5, 5),
        (6, 6),
        (6, 7),
        (7, 6),
        (7, 7),
        (0, 7),
    ]:
        left, top = GRID @ (col * 12 + 2, row * 12 + 2)
        rectangles.append(box(left, top - 80, left + 80, top))
        classes.append("water" if (row + col) % 2 == 0 else "land")
    fields = [f"field {number // 2}" for number in range(len(classes))]
    geopandas.GeoDataFrame({"class": classes, "field": fields}, geometry=rectangles, crs=CRS).to_file(folder / "polygons.gpkg")
    return folder


# The graph


@pytest.mark.parametrize(("count", "present"), [(2, (0, 1)), (4, (0, 1, 2, 3)), (4, (1, 3)), (3, (2,))])
def test_the_graph_says_what_scikit_learn_says(count: int, present: tuple[int, ...]) -> None:
    runtime = pytest.importorskip("onnxruntime")
    ensemble = pytest.importorskip("sklearn.ensemble")
    pytest.importorskip("onnx")
    from geoseg.models.forest import forest_onnx

    rng = np.random.default_rng(1)
    values = rng.normal(size=(400, 3)).astype(np.float32)
    classes = np.array(present)[(np.abs(values).sum(axis=1) * 2).astype(int) % len(present)]
    forest = ensemble.RandomForestClassifier(12, min_samples_leaf=2, random_state=0).fit(values, classes)
    graph = forest_onnx([tree.tree_ for tree in forest.estimators_], forest.classes_.tolist(), 3, count)
    image = rng.normal(size=(2, 3, 7, 5)).astype(np.float32)
    image[0, :, 0] = forest.estimators_[0].tree_.threshold[:5]  # exactly at thresholds, or what float32 makes of them
    (scores,) = runtime.InferenceSession(graph, providers=["CPUExecutionProvider"]).run(["classes"], {"image": image})
    expected = np.zeros((70, count))
    expected[:, forest.classes_] = forest.predict_proba(np.moveaxis(image, 1, -1).reshape(70, 3))
    assert scores.shape == (2, count, 7, 5)
    assert np.abs(np.moveaxis(scores, 1, -1).reshape(70, count) - expected).max() < 1e-6


def test_thresholds_part_float32_numbers_as_before() -> None:
    from geoseg.models.forest import round_down

    rng = np.random.default_rng(2)
    thresholds = rng.normal(size=2000)
    near = np.stack([np.nextafter(thresholds.astype(np.float32), np.float32(to)) for to in (-9, 9)]).astype(np.float32)
    numbers = np.concatenate([near, thresholds.astype(np.float32)[np.newaxis]])
    assert np.array_equal(numbers <= round_down(thresholds), numbers.astype(np.float64) <= thresholds)
    assert not np.array_equal(numbers <= thresholds.astype(np.float32), numbers.astype(np.float64) <= thresholds)


# Folds


def test_folds_share_out_every_class_by_whole_groups() -> None:
    rng = np.random.default_rng(3)
    sizes = np.zeros((37, 3), dtype=np.int64)
    sizes[np.arange(37), np.repeat([0, 1, 2], [25, 7, 5])] = rng.integers(1, 500, 37)
    folds = deal_folds(sizes, 5, np.random.default_rng(0))
    counts = np.array([[(sizes[folds == fold, one] > 0).sum() for one in range(3)] for fold in range(5)])
    assert counts.sum() == 37
    assert (counts.max(axis=0) - counts.min(axis=0) <= 1).all()
    assert not np.array_equal(folds, deal_folds(sizes, 5, np.random.default_rng(1)))


# From files to a map


def test_a_forest_learns_maps_and_says_how_good_it_is(place: Path, geoseg, tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    pytest.importorskip("onnx")
    ran = geoseg(
        "train", place / "scene.tif", "--labels", place / "polygons.gpkg", "--recipe", "pixel_forest", "-o", tmp_path / "forest.zip", *WORDS
    )
    assert ran.code == 0, ran.err
    assert "least of the folds" in ran.out
    assert "Accuracy lost where a channel is shuffled: nir" in ran.out
    report = json.loads((tmp_path / "forest_training" / "report.json").read_text())
    assert report["ground"]["folds"]["groups"] == {"land": 9, "water": 8}
    assert geoseg("predict", place / "scene.tif", "--model", tmp_path / "forest.zip", "-o", tmp_path / "map", *WORDS).code == 0
    rows, cols = np.mgrid[:SIDE, :SIDE]
    water = (rows // 12 + cols // 12) % 2 == 0
    with rasterio.open(tmp_path / "map" / "scene_classes.tif") as file:
        assert np.array_equal(file.read(1) == 1, water)


def test_no_pixel_is_judged_by_a_forest_that_has_seen_its_field(place: Path, geoseg, tmp_path: Path, monkeypatch) -> None:
    pytest.importorskip("sklearn")
    pytest.importorskip("onnx")
    from geoseg.recipes import pixel_forest

    seen: list[tuple[set[int], set[int]]] = []
    fit, count = pixel_forest._fit, pixel_forest._count
    monkeypatch.setattr(
        pixel_forest, "_fit", lambda pixels, settings: (seen.append((set(pixels.groups.tolist()), set())), fit(pixels, settings))[1]
    )
    monkeypatch.setattr(
        pixel_forest,
        "_count",
        lambda forest, pixels, legend: (seen[-1][1].update(pixels.groups.tolist()), count(forest, pixels, legend))[1],
    )
    ran = geoseg(
        "learn", "pixel_forest", f"scenes=[{place / 'scene.tif'}]", f"labels=[{place / 'polygons.gpkg'}]", f"out={tmp_path / 'forest'}",
        "group_column=field", "folds=3", "opening={sensor: sentinel-2-l2a, bands: [red, nir], scale: 0.0001, offset: 0}",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    *folds, last = seen
    assert len(folds) == 3
    assert all(not learned & judged for learned, judged in folds)
    assert set().union(*(judged for _, judged in folds)) == last[0] == set(range(9))


def test_shrunk_polygons_label_only_what_lies_inside(place: Path) -> None:
    legend = Legend.from_names(("land", "water"))
    frame = geopandas.read_file(place / "polygons.gpkg")
    from odc.geo.geobox import GeoBox

    geobox = GeoBox((SIDE, SIDE), GRID, CRS)
    shrunk = Labels(place / "polygons.gpkg", legend, rules=LabelRules(shrink_m=12)).read(geobox)[1]
    expected = rasterize(frame.geometry.buffer(-12), out_shape=(SIDE, SIDE), transform=GRID) == 1
    assert np.array_equal(shrunk, expected)
    assert shrunk.sum() < Labels(place / "polygons.gpkg", legend).read(geobox)[1].sum()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("-s", "group_column=farm"), "no column 'farm'"),
        (("-s", "classes=[{index: 0, code: 0, name: land, colour: '#000000'}]"), "not in the legend: water"),
        (("--shrink-labels-m", "100"), "no label of"),
        (("-s", "tree=3"), "did you mean 'trees'"),
        (("--resume",), "learns in one go"),
    ],
)
def test_what_cannot_be_used_is_one_sentence(place: Path, geoseg, tmp_path: Path, words: tuple[str, ...], told: str) -> None:
    pytest.importorskip("sklearn")
    pytest.importorskip("onnx")
    told_so = refusal(
        geoseg,
        tmp_path,
        "train",
        place / "scene.tif",
        "--labels",
        place / "polygons.gpkg",
        "--recipe",
        "pixel_forest",
        "-o",
        tmp_path / "new",
        *WORDS,
        *words,
    )
    assert told in told_so


@pytest.mark.parametrize("recipe", ["supervised", "pixel_forest"])
def test_shipped_settings_are_those_of_their_recipe(recipe: str) -> None:
    pytest.importorskip("torch" if recipe == "supervised" else "sklearn")
    from importlib import import_module

    from geoseg.settings import parse, read_yaml

    module = import_module("geoseg.recipes._settings" if recipe == "supervised" else "geoseg.recipes.pixel_forest")
    settings = read_yaml(Path(__file__).parents[1] / "docs" / "settings" / f"{recipe}.yaml")
    assert {"scenes", "labels", "out", "opening"} <= settings.keys()
    parse(
        module.Settings, {key: value for key, value in settings.items() if key not in ("scenes", "labels", "out", "opening")}, source=recipe
    )


def test_the_package_says_that_only_onnx_runs_it(place: Path, geoseg, tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    pytest.importorskip("onnx")
    geoseg(
        "train",
        place / "scene.tif",
        "--labels",
        place / "polygons.gpkg",
        "--recipe",
        "pixel_forest",
        "-o",
        tmp_path / "forest",
        "-s",
        "trees=3",
        *WORDS,
    )
    assert ModelPackage.open(tmp_path / "forest").weights is None
    told = refusal(
        geoseg,
        tmp_path,
        "predict",
        place / "scene.tif",
        "--model",
        tmp_path / "forest",
        "-o",
        tmp_path / "map",
        "--runtime",
        "torch",
        *WORDS,
    )
    assert "onnx" in told
