"""Maps against labels: pooled counts by hand, what was held out, regions, scores, and the report's files."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import geopandas
import numpy as np
import pytest
import rasterio
from affine import Affine
from command_line import refusal, write
from map_files import LEGEND, NODATA, write_map
from shapely.geometry import box

from geoseg.confusion import Confusion
from geoseg.errors import InputError, LabelError
from geoseg.evaluation.evaluate import evaluate
from geoseg.maps import counting
from geoseg.models.calibration import Calibration

LEFT, TOP, PIXEL = 500_000, 5_000_000, 10
RANDOM = np.random.default_rng(4)
MAP = RANDOM.integers(0, 3, (40, 50)).astype(np.uint8)
TRUTH = np.where(RANDOM.random(MAP.shape) < 0.7, MAP, RANDOM.integers(0, 3, MAP.shape)).astype(np.uint8)


def ground(rows: slice, cols: slice):
    """The box of these pixels."""
    return box(LEFT + cols.start * PIXEL, TOP - rows.stop * PIXEL, LEFT + cols.stop * PIXEL, TOP - rows.start * PIXEL)


def write_labels(path, truth=TRUTH, *, left=LEFT):
    shape = {"height": truth.shape[0], "width": truth.shape[1], "count": 1, "dtype": "uint8", "nodata": 255, "crs": "EPSG:32632"}
    with rasterio.open(path, "w", driver="GTiff", transform=Affine(PIXEL, 0, left, 0, -PIXEL, TOP), **shape) as file:
        file.write(truth, 1)
    return path


def features(path, shapes, **columns):
    geopandas.GeoDataFrame(columns, geometry=shapes, crs="EPSG:32632").to_file(path)
    return path


def test_every_labelled_and_observed_pixel_counts_once(tmp_path):
    truth, mapped = TRUTH.copy(), MAP.copy()
    truth[:5], mapped[3:8] = 255, NODATA
    made = evaluate([write_map(tmp_path / "a", mapped)], [write_labels(tmp_path / "truth.tif", truth)])
    both = (truth != 255) & (mapped != NODATA)
    expected = np.array([[((truth == t) & (mapped == m) & both).sum() for m in range(3)] for t in range(3)])
    np.testing.assert_array_equal(made.confusion.counts, expected)
    assert made.unobserved == ((truth != 255) & (mapped == NODATA)).sum()
    assert "have no class on the map" in made.warnings[0]


@pytest.mark.parametrize("rows", [1, 7, 4096])
def test_strips_change_nothing(tmp_path, monkeypatch, rows):
    monkeypatch.setattr(counting, "_STRIP_ROWS", rows)
    polygons = features(
        tmp_path / "truth.gpkg", [ground(slice(2, 30), slice(5, 20)), ground(slice(8, 33), slice(25, 49))], label=["ice", "land"]
    )
    made = evaluate([write_map(tmp_path / "a", MAP)], [polygons])
    for index, part in ((2, MAP[2:30, 5:20]), (1, MAP[8:33, 25:49])):
        np.testing.assert_array_equal(made.confusion.counts[index], np.bincount(part.ravel(), minlength=3))


def test_maps_are_pooled_not_averaged(tmp_path):
    small = write_map(tmp_path / "small", np.zeros((2, 5), np.uint8), left=LEFT + 10_000)
    shape = [ground(slice(0, 40), slice(0, 50)), box(LEFT + 10_000, TOP - 20, LEFT + 10_050, TOP)]
    labels = features(tmp_path / "truth.gpkg", shape, label=["water", "ice"])
    made = evaluate([write_map(tmp_path / "large", MAP), small], [labels])
    right = int((MAP == 0).sum())
    assert made.confusion.accuracy == pytest.approx(right / (MAP.size + 10))
    assert [one.name for one in made.maps] == ["large", "small"]
    assert made.maps[0].confusion + made.maps[1].confusion == made.confusion


def test_held_out_ground_and_regions_are_counted_apart(tmp_path):
    folder = write_map(tmp_path / "a", MAP)
    features(folder / "a_held_out.gpkg", [ground(slice(0, 10), slice(0, 50))], part=["test"])
    areas = features(
        tmp_path / "areas.gpkg", [ground(slice(0, 40), slice(0, 20)), ground(slice(0, 40), slice(30, 50))], name=["west", "east"]
    )
    made = evaluate([folder], [write_labels(tmp_path / "truth.tif")], regions=areas, region_column="name")
    parts, regions = made.pooled("parts"), made.pooled("regions")
    assert parts["test"] == Confusion.count(TRUTH[:10].astype(int), MAP[:10].astype(int), made.legend)
    assert parts["test"] + parts["other ground"] == made.confusion
    assert {name: one.total for name, one in regions.items()} == {"west": 800, "east": 800}
    assert any("75%" in warning for warning in made.warnings)


def test_the_calibration_error_is_that_of_the_winning_scores(tmp_path):
    score = RANDOM.uniform(0.4, 1.0, MAP.shape)
    planes = np.stack([np.where(MAP == index, score, (1 - score) / 2) for index in range(3)])
    made = evaluate([write_map(tmp_path / "a", MAP, scores=planes)], [write_labels(tmp_path / "truth.tif")])
    stored = np.rint(score * 250) / 250
    which = np.minimum((stored * 15).astype(int), 14)
    gaps = [abs((TRUTH == MAP)[which == one].mean() - stored[which == one].mean()) * (which == one).mean() for one in np.unique(which)]
    assert made.calibration.error == pytest.approx(sum(gaps), abs=1e-9)
    assert (made.calibration + made.calibration).error == pytest.approx(made.calibration.error)


def test_scores_that_keep_their_promise_have_no_error():
    scores = RANDOM.uniform(0.2, 1.0, 400_000)
    assert Calibration.count(scores, RANDOM.random(len(scores)) < scores).error < 0.005
    assert Calibration.count(scores, RANDOM.random(len(scores)) < scores - 0.1).error == pytest.approx(0.1, abs=0.01)


def test_kappa_is_that_of_the_textbook():
    counted = Confusion(np.array([[20, 5], [10, 15]]), type(LEGEND).from_names(["yes", "no"]))
    assert counted.kappa == pytest.approx(0.4)  # Cohen 1960 by hand: (0.7 - 0.5) / (1 - 0.5)
    assert np.isnan(Confusion.empty(LEGEND).kappa)


def test_kappa_agrees_with_scikit_learn(tmp_path):
    metrics = pytest.importorskip("sklearn.metrics")
    made = evaluate([write_map(tmp_path / "a", MAP)], [write_labels(tmp_path / "truth.tif")])
    assert made.confusion.kappa == pytest.approx(metrics.cohen_kappa_score(TRUTH.ravel(), MAP.ravel()))
    np.testing.assert_allclose(made.confusion.iou, metrics.jaccard_score(TRUTH.ravel(), MAP.ravel(), average=None))


def test_the_report_is_one_page_that_needs_nothing_else(tmp_path, geoseg):
    score = np.full((3, *MAP.shape), 0.2)
    score[0] = 0.6
    folder = write_map(tmp_path / "a<b", MAP, scores=score)
    labels = write_labels(tmp_path / "truth.tif")
    ran = geoseg("evaluate", folder, "--labels", labels, "-o", tmp_path / "out")
    assert (ran.code, ran.err) == (0, "")
    assert "mean IoU" in ran.out
    page = (tmp_path / "out" / "report.html").read_text()
    assert not re.search(r"""(src|href)=(?!"data:)|https?://|<script""", page)
    assert "a&lt;b against labels" in page
    opened = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attrs: opened.append(tag) if tag not in ("meta", "img") else None
    parser.handle_endtag = lambda tag: opened.remove(tag)
    parser.feed(page)
    assert opened == [], "what was opened is closed"
    facts = json.loads((tmp_path / "out" / "report.json").read_text())
    assert facts["accuracy"] == pytest.approx((TRUTH == MAP).mean())
    assert (tmp_path / "out" / "confusion.csv").read_text().splitlines()[0] == '"label, map",water,land,ice'


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        ({"left": LEFT + 300_000}, "km away"),
        ({"truth": np.full((40, 50), 7, np.uint8)}, "not in the legend"),
        ({"truth": np.full((40, 50), 255, np.uint8)}, "no label lies on them"),
    ],
)
def test_labels_that_do_not_fit_are_refused(tmp_path, geoseg, labels, says):
    folder = write_map(tmp_path / "a", MAP)
    said = refusal(geoseg, tmp_path, "evaluate", folder, "--labels", write_labels(tmp_path / "truth.tif", **labels), "-o", tmp_path / "out")
    assert says in said


def test_maps_of_two_legends_are_refused(tmp_path):
    other = type(LEGEND).from_names(["a", "b", "c"])
    maps = [write_map(tmp_path / "a", MAP), write_map(tmp_path / "b", MAP, legend=other)]
    with pytest.raises(InputError, match="of one legend"):
        evaluate(maps, [write_labels(tmp_path / "truth.tif")])
    with pytest.raises(InputError, match="2 files of labels for 1 maps"):
        evaluate(maps[:1], ["x", "y"])


def test_a_region_column_that_is_not_there_is_named(tmp_path):
    areas = features(tmp_path / "areas.gpkg", [ground(slice(0, 40), slice(0, 20))], name=["west"])
    with pytest.raises(InputError, match="no column 'county'; name one of name"):
        evaluate([write_map(tmp_path / "a", MAP)], [write_labels(tmp_path / "truth.tif")], regions=areas, region_column="county")
    with pytest.raises(LabelError, match="no pixel of the maps has both"):
        evaluate([write_map(tmp_path / "b", np.full_like(MAP, NODATA))], [write_labels(tmp_path / "t.tif")])


def test_names_of_a_label_raster_go_before_its_codes(tmp_path):
    mapped = write_map(tmp_path / "a", MAP)
    other = np.array([5, 2, 9], np.uint8)[TRUTH]  # other codes for the same classes; 2 is another class's own
    labels = write_labels(tmp_path / "truth.tif", other)
    with rasterio.open(labels, "r+") as file:
        file.update_tags(CLASS_NAMES=json.dumps({"5": LEGEND.names[0].upper(), "2": LEGEND.names[1], "9": LEGEND.names[2]}))
    expected = evaluate([mapped], [write_labels(tmp_path / "plain.tif")])
    assert evaluate([mapped], [labels]).confusion == expected.confusion
    with rasterio.open(labels, "r+") as file:
        file.update_tags(CLASS_NAMES=json.dumps({"5": "no data", "2": LEGEND.names[1], "9": LEGEND.names[2]}))
    assert evaluate([mapped], [labels]).confusion.total == (TRUTH != 0).sum()
    with rasterio.open(labels, "r+") as file:
        file.update_tags(CLASS_NAMES=json.dumps({"5": "swamp"}))
    with pytest.raises(LabelError, match=r"swamp \(5\)"):
        evaluate([mapped], [labels])


# A package and scenes


def test_a_package_is_evaluated_on_the_maps_that_it_makes(geoseg, tmp_path):
    scene = write(tmp_path / "scene.tif", roles=("red",), side=60)
    with rasterio.open(scene) as file:
        values, grid = file.read(1), file.transform
    truth = np.where(values > 120, 1, 0).astype(np.uint8)
    truth[:10] = 255
    with rasterio.open(
        tmp_path / "truth.tif",
        "w",
        driver="GTiff",
        height=60,
        width=60,
        count=1,
        dtype="uint8",
        nodata=255,
        crs="EPSG:32632",
        transform=grid,
    ) as file:
        file.write(truth, 1)
    words = ("--labels", tmp_path / "truth.tif", "-o", tmp_path / "report", "--keep-maps", tmp_path / "maps")
    ran = geoseg("evaluate", tmp_path / "model", scene, *words)
    assert ran.code == 0, ran.err
    facts = json.loads((tmp_path / "report" / "report.json").read_text())
    expected = [[((truth == t) & ((values > 100) == m)).sum() for m in (0, 1)] for t in (0, 1)]
    assert facts["matrix"] == np.array(expected).tolist()
    again = geoseg("evaluate", next((tmp_path / "maps").iterdir()), "--labels", tmp_path / "truth.tif", "-o", tmp_path / "again")
    assert again.code == 0
    assert json.loads((tmp_path / "again" / "report.json").read_text())["matrix"] == facts["matrix"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("model",), "name the scenes"),
        (("map.tif", "--sensor", "sentinel-2-l2a"), "is no model package"),
        (("model", "scene.tif", "--keep-maps", "."), "there already"),
        (("map.tif", "--objects", "wter"), "did you mean"),
    ],
)
def test_what_is_no_package_and_no_map_is_one_sentence(geoseg, tmp_path, monkeypatch, words, told):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "scene.tif", roles=("red",), side=60)
    write_map(tmp_path / "map", MAP)
    write_labels(tmp_path / "truth.tif")
    (folder,) = [path for path in (tmp_path / "map").iterdir() if path.name.endswith("classes.tif")][:1]
    words = tuple(str(folder) if word == "map.tif" else word for word in words)
    assert told in refusal(geoseg, tmp_path, "evaluate", *words, "--labels", "truth.tif", "-o", "report")


# Objects


def objects(tmp_path, mapped, labels):
    made = evaluate([write_map(tmp_path / "a", mapped)], [labels], objects=["water"])
    return made.objects["water"]


def test_objects_are_counted_once_whatever_their_size(tmp_path):
    truth, mapped = np.ones((40, 50), np.uint8), np.ones((40, 50), np.uint8)
    truth[2:6, 2:6], truth[10:30, 10:30], truth[35:38, 40:44] = 0, 0, 0
    mapped[2:6, 2:5], mapped[10:30, 30:50], mapped[35:38, 40:44] = 0, 0, 0  # IoU 0.75, 0, 1
    score = objects(tmp_path, mapped, write_labels(tmp_path / "truth.tif", truth))
    assert (score.true, score.mapped, score.matched) == (3, 3, 2)
    assert score.ious == pytest.approx((0.75, 1.0))


def test_buildings_wall_to_wall_are_two_where_the_labels_are_features(tmp_path):
    mapped = np.ones((40, 50), np.uint8)
    mapped[10:20, 10:20] = 0
    mapped[10:20, 20] = 1
    mapped[10:20, 21:30] = 0
    shapes = [ground(slice(0, 40), slice(0, 50)), ground(slice(10, 20), slice(10, 20)), ground(slice(10, 20), slice(20, 30))]
    two = objects(tmp_path, mapped, features(tmp_path / "truth.gpkg", shapes, label=["land", "water", "water"]))
    assert (two.true, two.mapped, two.matched) == (2, 2, 2)
    truth = np.ones((40, 50), np.uint8)
    truth[10:20, 10:30] = 0
    one = objects(tmp_path / "raster", mapped, write_labels(tmp_path / "truth.tif", truth))
    assert (one.true, one.mapped) == (1, 2)
