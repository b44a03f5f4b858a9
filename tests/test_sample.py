"""Reference points: every pixel as likely as any other, what the labeller is given, and the way back to areas."""

from __future__ import annotations

import csv
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pyogrio
import pytest
from affine import Affine
from class_map_files import THREE, class_map, plain, random_codes
from command_line import contents, refusal
from reference_points import CHANGE, CHANGE_PIXELS, label, map_and_truth

from geoseg.evaluation.area import Strata
from geoseg.evaluation.design import SampleWish, design_sample, estimate_areas
from geoseg.evaluation.sample import count_population, draw_numbers, draw_points
from geoseg.ground import pixel_areas_m2
from geoseg.io.class_maps import open_class_map

DEGREES = {"crs": "EPSG:4326", "transform": Affine(0.5, 0, 10, 0, -0.5, 75)}


def population(path, strata=None):
    return count_population(open_class_map(path), open_class_map(strata) if strata else None)


# The draw


def test_every_pixel_of_a_stratum_is_equally_likely(tmp_path):
    codes = random_codes(1, (12, 10))
    ground = population(class_map(tmp_path / "map.tif", codes))
    points, draws = np.array([3, 5, 2]), 250
    seen = np.zeros(codes.shape, int)
    for seed in range(draws):
        drawn = draw_points(ground, points, seed)
        assert len({*zip(drawn.row.tolist(), drawn.col.tolist(), strict=True)}) == 10
        np.add.at(seen, (drawn.row, drawn.col), 1)
    assert not seen[codes == 255].any()
    for stratum, wanted in enumerate(points):
        here = seen[codes == stratum]
        share = wanted / len(here)
        assert here.sum() == wanted * draws
        # Counts without replacement: each has variance draws * share * (1 - share), so that this is a chi-square of len - 1.
        chi_square = ((here - draws * share) ** 2).sum() / (draws * share * (1 - share)) * (len(here) - 1) / len(here)
        assert abs(chi_square - (len(here) - 1)) < 4.5 * np.sqrt(2 * (len(here) - 1))


def test_numbers_of_large_strata_are_even_and_distinct():
    rng = np.random.default_rng(0)
    pixels = np.array([7, 10**6, 10**12])
    first, second, third = draw_numbers(pixels, np.array([7, 20_000, 500]), rng)
    assert first.tolist() == list(range(7))
    assert len(np.unique(second)) == 20_000
    assert np.abs(np.bincount(second // 100_000) - 2000).max() < 5 * np.sqrt(2000 * 0.9)
    assert (np.diff(third) > 0).all()


def test_the_draw_depends_on_the_seed_and_not_on_how_the_map_is_read(tmp_path, monkeypatch):
    path = class_map(tmp_path / "map.tif", random_codes(2, (60, 50)))
    points = np.array([20, 30, 10])
    whole = draw_points(population(path), points, 3)
    monkeypatch.setattr("geoseg.maps.counting._STRIP_ROWS", 7)
    strips = draw_points(population(path), points, 3)
    other = draw_points(population(path), points, 4)
    assert whole.row.tolist() == strips.row.tolist()
    assert whole.col.tolist() == strips.col.tolist()
    np.testing.assert_allclose(whole.area_m2, strips.area_m2, rtol=1e-6)
    assert whole.row.tolist() != other.row.tolist()


def test_points_come_in_random_order(tmp_path):
    drawn = draw_points(population(class_map(tmp_path / "map.tif", random_codes(2, (60, 50)))), np.array([200, 200, 200]), 0)
    assert all(20 < (drawn.stratum[:100] == stratum).sum() < 47 for stratum in range(3))
    assert abs(np.corrcoef(drawn.row, np.arange(600))[0, 1]) < 0.15


def test_sizes_are_counted_on_the_ground(tmp_path):
    codes = random_codes(3, (20, 30))
    path = class_map(tmp_path / "map.tif", codes, **DEGREES)
    ground = population(path)
    areas = np.broadcast_to(pixel_areas_m2(open_class_map(path).geobox), codes.shape)
    for at in range(3):
        assert ground.strata.pixels[at] == (codes == at).sum()
        assert ground.strata.area_m2[at] == pytest.approx(areas[codes == at].sum(), rel=1e-9)
    drawn = draw_points(ground, np.array([9, 9, 9]), 0)
    np.testing.assert_allclose(drawn.area_m2, areas[drawn.row, drawn.col], rtol=1e-9)
    assert drawn.area_m2.max() > 1.3 * drawn.area_m2.min()


def test_strata_of_another_raster_and_grid(tmp_path):
    path = class_map(tmp_path / "map.tif", random_codes(4, (40, 40)))
    halves = np.zeros((4, 4), np.uint8)
    halves[2:], halves[0, 0] = 1, 255
    ground = population(path, class_map(tmp_path / "halves.tif", halves, transform=Affine(100, 0, 500_000, 0, -100, 5_000_000)))
    drawn = draw_points(ground, np.array([40, 40]), 0)
    assert ground.strata.names == ("land", "water")
    assert ((drawn.row >= 20) == (drawn.stratum == 1)).all()
    assert not ((drawn.row < 10) & (drawn.col < 10)).any()
    codes = random_codes(4, (40, 40))
    assert (codes[drawn.row, drawn.col] == drawn.mapped).all()


# What the labeller gets


def test_the_points_lie_in_the_middle_of_pixels_of_their_class(geoseg, tmp_path):
    mapped, _ = map_and_truth(tmp_path)
    ran = geoseg("sample", "design", "map.tif", "-o", "points.gpkg", "--points", "200", "--json")
    assert ran.code == 0, ran.err
    told = json.loads(ran.out.splitlines()[-1])["summary"]
    frame = pyogrio.read_dataframe(tmp_path / "points.gpkg", layer="points")
    assert told["points"] == len(frame) == 200
    assert {one["name"]: one["points"] for one in told["strata"]} == frame.stratum.value_counts().to_dict()
    col, row = (frame.geometry.x - 500_000) / 10, (5_000_000 - frame.geometry.y) / 10
    np.testing.assert_allclose(col % 1, 0.5)
    assert [THREE.names[code] for code in mapped[row.astype(int), col.astype(int)]] == frame.map_class.tolist() == frame.stratum.tolist()
    assert frame[["reference_class", "second_class", "note", "date"]].isna().all().all()
    assert frame.id.tolist() == list(range(1, 201))
    assert str(frame.crs) == "EPSG:32632"


def test_the_file_holds_all_that_the_estimate_needs(geoseg, tmp_path):
    mapped, _ = map_and_truth(tmp_path)
    assert geoseg("sample", "design", "map.tif", "-o", "points.gpkg", "--seed", "7").code == 0
    with closing(sqlite3.connect(tmp_path / "points.gpkg")) as database:
        strata = database.execute("SELECT stratum, pixels, area_m2 FROM strata").fetchall()
        design = dict(database.execute("SELECT key, value FROM design").fetchall())
        codes = database.execute("SELECT code, name, colour FROM classes").fetchall()
    assert [(name, count) for name, count, _ in strata] == [(name, (mapped == at).sum()) for at, name in enumerate(THREE.names)]
    assert (design["map"], design["seed"]) == ("map.tif", "7")
    assert codes == [(one.code, one.name, one.colour) for one in THREE.classes]
    assert pyogrio.list_layers(tmp_path / "points.gpkg")[:, 0].tolist()[0] == "points"


def test_the_form_offers_the_classes_and_hides_what_the_map_says(geoseg, tmp_path):
    map_and_truth(tmp_path)
    assert geoseg("sample", "design", "map.tif", "-o", "points.gpkg").code == 0
    with closing(sqlite3.connect(tmp_path / "points.gpkg")) as database:
        (qml,) = database.execute("SELECT styleQML FROM layer_styles WHERE f_table_name = 'points' AND useAsDefault = 1").fetchone()
    style = ET.fromstring(qml)
    widgets = {field.get("name"): field.find("editWidget").get("type") for field in style.iterfind("fieldConfiguration/field")}
    assert widgets["reference_class"] == widgets["second_class"] == "ValueMap"
    assert {name for name, widget in widgets.items() if widget == "Hidden"} == {"fid", "stratum", "map_class", "pixel_area_m2"}
    choices = style.findall("fieldConfiguration/field[@name='reference_class']//Option[@name='map']/Option/Option")
    assert [one.get("value") for one in choices[1:]] == list(THREE.names)
    hidden = {one.get("name") for one in style.iterfind("attributetableconfig/columns/column[@hidden='1']")}
    assert {"stratum", "map_class"} <= hidden


def test_the_same_seed_gives_the_same_bytes(geoseg, tmp_path):
    map_and_truth(tmp_path)
    for name in ("one.gpkg", "two.gpkg"):
        assert geoseg("sample", "design", "map.tif", "-o", name).code == 0
    assert (tmp_path / "one.gpkg").read_bytes() == (tmp_path / "two.gpkg").read_bytes()
    assert geoseg("sample", "design", "map.tif", "-o", "three.gpkg", "--seed", "1").code == 0
    assert (tmp_path / "one.gpkg").read_bytes() != (tmp_path / "three.gpkg").read_bytes()


def test_labels_are_not_overwritten_without_a_word(geoseg, tmp_path):
    map_and_truth(tmp_path)
    assert geoseg("sample", "design", "map.tif", "-o", "points.gpkg").code == 0
    assert "--overwrite" in refusal(geoseg, tmp_path, "sample", "design", "map.tif", "-o", "points.gpkg")
    assert geoseg("sample", "design", "map.tif", "-o", "points.gpkg", "--overwrite").code == 0


def test_expected_accuracies_say_how_many_points(geoseg, tmp_path):
    map_and_truth(tmp_path, shape=(300, 300))
    words = ("sample", "design", "map.tif", "--overwrite", "-o", "p.gpkg", "--json")
    rough, sure = (json.loads(geoseg(*words, "--expect", text).out.splitlines()[-1])["summary"] for text in ("0.7", "0.95"))
    assert rough["points"] > 3 * sure["points"]
    named = json.loads(geoseg(*words, "--expect", "0.95", "--expect", "Forest=0.6").out.splitlines()[-1])["summary"]
    assert [one["expected_accuracy"] for one in named["strata"]] == [0.95, 0.95, 0.6]


# The way back


def test_from_map_to_points_to_areas(geoseg, tmp_path):
    mapped, truth = map_and_truth(tmp_path, shape=(300, 300))
    assert geoseg("sample", "design", "map.tif", "-o", "points.gpkg", "--standard-error", "0.01").code == 0
    label(tmp_path / "points.gpkg", truth)
    ran = geoseg("sample", "estimate", "points.gpkg", "-o", "report.json")
    assert ran.code == 0, ran.err
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert report["method"].startswith("Olofsson")
    right = (mapped == truth[0]).mean()
    for told, known in [(report["overall_accuracy"], right)] + [
        (one["share"], (truth[0] == at).mean()) for at, one in enumerate(report["classes"])
    ]:
        assert abs(told["value"] - known) < 1.5 * told["half_width"]
    assert sum(one["area_km2"]["value"] for one in report["classes"]) == pytest.approx(9.0, rel=5e-3)
    assert [one["mapped_km2"] for one in report["classes"]] == pytest.approx([(mapped == at).sum() / 1e4 for at in range(3)], rel=5e-3)
    assert f"overall accuracy: {100 * report['overall_accuracy']['value']:.1f} ± " in ran.out
    assert "km²" in ran.out


def change_csv(path: Path, delimiter=",", **columns) -> Path:
    """The example of Olofsson et al. as one row a point, classes by name."""
    names = ("deforestation", "forest gain", "stable forest", "stable non-forest")
    rows = [(names[i], names[j]) for i in range(4) for j in range(4) for _ in range(CHANGE[i, j])]
    with path.open("w", encoding="utf-8", newline="") as stream:
        table = csv.writer(stream, delimiter=delimiter)
        table.writerow(["map_class", "stratum", "class", *columns])
        table.writerows([(one, one, other, *columns.values()) for one, other in rows])
    sizes = [(name, pixels, pixels * 900) for name, pixels in zip(names, CHANGE_PIXELS, strict=True)]
    lines = ["stratum,pixels,area_m2", *(",".join(map(str, row)) for row in sizes)]
    path.with_name("sizes.csv").write_text("\n".join(lines), encoding="utf-8")
    return path


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_the_example_of_olofsson_from_a_table(geoseg, tmp_path, delimiter):
    change_csv(tmp_path / "points.csv", delimiter)
    ran = geoseg("sample", "estimate", "points.csv", "--sizes", "sizes.csv", "--json")
    assert ran.code == 0, ran.err
    report = json.loads(ran.out.splitlines()[-1])["summary"]
    first = report["classes"][0]["area_km2"]
    assert (round(first["value"] * 100), round(first["half_width"] * 100)) == (21_158, 6_158)
    assert round(report["overall_accuracy"]["value"], 3) == 0.947


def test_another_map_is_judged_with_the_same_points(geoseg, tmp_path):
    _, truth = map_and_truth(tmp_path, shape=(300, 300))
    assert geoseg("sample", "design", "map.tif", "-o", "points.gpkg").code == 0
    label(tmp_path / "points.gpkg", truth)
    class_map(tmp_path / "right.tif", truth[0])
    report = estimate_areas(tmp_path / "points.gpkg", tmp_path / "right.tif").facts()
    assert report["overall_accuracy"]["value"] == 1
    assert report["method"].startswith("Stehman")
    first = estimate_areas(tmp_path / "points.gpkg").facts()
    for one, other in zip(report["classes"], first["classes"], strict=True):
        assert one["area_km2"]["value"] == pytest.approx(other["area_km2"]["value"])
    assert report["overall_accuracy"]["standard_error"] == 0
    assert 0.9 < report["overall_accuracy"]["low"] < report["overall_accuracy"]["high"] == 1
    assert any("no point speaks against these: overall accuracy" in warning for warning in report["warnings"])


def test_the_map_at_the_points_is_what_the_file_says_of_them(geoseg, tmp_path):
    _, truth = map_and_truth(tmp_path)
    assert geoseg("sample", "design", "map.tif", "-o", "points.gpkg").code == 0
    label(tmp_path / "points.gpkg", truth)
    own, read = estimate_areas(tmp_path / "points.gpkg").facts(), estimate_areas(tmp_path / "points.gpkg", tmp_path / "map.tif").facts()
    assert own == read


def test_a_table_in_degrees_with_a_map_in_metres(geoseg, tmp_path):
    _, truth = map_and_truth(tmp_path)
    assert geoseg("sample", "design", "map.tif", "-o", "points.gpkg").code == 0
    label(tmp_path / "points.gpkg", truth)
    frame = pyogrio.read_dataframe(tmp_path / "points.gpkg", layer="points")
    frame["reference_class"] = [THREE.names.index(name) for name in frame.reference_class]  # by code
    degrees = frame.to_crs("EPSG:4326").geometry
    frame.assign(lon=degrees.x, lat=degrees.y)[["id", "lon", "lat", "stratum", "reference_class"]].to_csv(tmp_path / "p.csv", index=False)
    frame.assign(x=frame.geometry.x, y=frame.geometry.y)[["x", "y", "reference_class"]].to_csv(tmp_path / "q.csv", index=False)
    whole = estimate_areas(tmp_path / "points.gpkg").facts()
    table = estimate_areas(tmp_path / "p.csv", tmp_path / "map.tif").facts()
    assert table["classes"][1]["area_km2"] == pytest.approx(whole["classes"][1]["area_km2"], rel=1e-6)
    assert table["overall_accuracy"] == pytest.approx(whole["overall_accuracy"], rel=1e-6)
    bare = estimate_areas(tmp_path / "q.csv", tmp_path / "map.tif", crs="EPSG:32632").facts()
    assert any("simple random sample" in warning for warning in bare["warnings"])


def test_areas_in_degrees_are_those_on_the_ground(geoseg, tmp_path):
    mapped, truth = map_and_truth(tmp_path, shape=(60, 40), **DEGREES)
    truth[0][:] = np.where(np.arange(60)[:, np.newaxis] < 30, 1, 0)  # the north, where pixels are small
    assert geoseg("sample", "design", "map.tif", "-o", "points.gpkg", "--points", "2400").code == 0
    label(tmp_path / "points.gpkg", truth)
    report = estimate_areas(tmp_path / "points.gpkg").facts()
    areas = np.broadcast_to(pixel_areas_m2(open_class_map(tmp_path / "map.tif").geobox), mapped.shape)
    north = report["classes"][1]["area_km2"]
    assert north["value"] == pytest.approx(areas[:30].sum() / 1e6, rel=1e-6)
    assert north["standard_error"] == 0
    assert areas[:30].sum() / areas.sum() < 0.42


def test_unlabelled_points_are_counted_and_left_out(geoseg, tmp_path):
    _, truth = map_and_truth(tmp_path)
    assert geoseg("sample", "design", "map.tif", "-o", "points.gpkg", "--points", "300").code == 0
    label(tmp_path / "points.gpkg", truth, only=set(range(1, 251)))
    report = estimate_areas(tmp_path / "points.gpkg").facts()
    assert (report["points"], report["unlabelled"]) == (250, 50)
    assert report["warnings"][0].startswith("50 of 300 points have no reference class")


def test_a_second_class_counts_where_it_is_asked_for(geoseg, tmp_path):
    mapped, truth = map_and_truth(tmp_path)
    assert geoseg("sample", "design", "map.tif", "-o", "points.gpkg").code == 0
    label(tmp_path / "points.gpkg", truth)
    label(tmp_path / "points.gpkg", (mapped, truth[1]), column="second_class", only=set(range(1, 101)))
    strict, kind = (estimate_areas(tmp_path / "points.gpkg", accept_second=accept).facts() for accept in (False, True))
    assert strict["overall_accuracy"]["value"] < kind["overall_accuracy"]["value"] < 1
    assert [one["area_km2"] for one in strict["classes"]] == [one["area_km2"] for one in kind["classes"]]
    assert kind["second_class_accepted"]


def test_a_stratum_that_nobody_labelled_is_named(geoseg, tmp_path):
    _, truth = map_and_truth(tmp_path)
    assert geoseg("sample", "design", "map.tif", "-o", "points.gpkg", "--points", "200").code == 0
    frame = pyogrio.read_dataframe(tmp_path / "points.gpkg", layer="points")
    label(tmp_path / "points.gpkg", truth, only=set(frame.id[frame.stratum != "forest"]))
    ran = geoseg("sample", "estimate", "points.gpkg", "-o", "report.json")
    assert ran.code == 0, ran.err
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert report["overall_accuracy"]["value"] is None
    assert "no labelled point in the strata forest" in report["classes"][0]["unknown"]["area"]
    assert report["classes"][0]["users_accuracy"]["half_width"] > 0
    assert "?" in ran.out
    assert "no labelled point in the strata forest" in ran.out


def test_few_and_heavy_points_are_warned_of(geoseg, tmp_path):
    mapped, truth = map_and_truth(tmp_path)
    assert geoseg("sample", "design", "map.tif", "-o", "points.gpkg", "--points", "24", "--least", "4").code == 0
    label(tmp_path / "points.gpkg", (mapped, truth[1]))
    frame = pyogrio.read_dataframe(tmp_path / "points.gpkg", layer="points")
    label(tmp_path / "points.gpkg", (np.full_like(mapped, 2), truth[1]), only={frame.id[frame.stratum == "land"].iloc[0]})
    warnings = " ".join(estimate_areas(tmp_path / "points.gpkg").facts()["warnings"])
    assert "fewer than 20 labelled points in the strata land" in warnings
    assert "a single point of the stratum land carries" in warnings
    assert "user's accuracy of water" in warnings[warnings.index("no point speaks against these: ") :]
    assert "user's of land (" in warnings


# Bad input, through the command line


@pytest.fixture(scope="module")
def wrong_files(tmp_path_factory):
    """A folder with a map, unlabelled and labelled points, and tables that are wrong in one way each."""
    folder = tmp_path_factory.mktemp("wrong")
    _, truth = map_and_truth(folder)
    plain(folder / "bare.tif", random_codes(9))
    class_map(folder / "far.tif", random_codes(9), transform=Affine(10, 0, 700_000, 0, -10, 5_000_000))
    for name in ("empty.gpkg", "points.gpkg"):
        design_sample(folder / "map.tif", folder / name, SampleWish(300, None, {}, 0.8, "mixed", 50, 0))
    label(folder / "points.gpkg", truth)
    frame = pyogrio.read_dataframe(folder / "points.gpkg", layer="points")
    frame["stratum"] = np.roll(frame.stratum, 1)
    columns = ["id", "x", "y", "stratum", "reference_class"]
    frame.assign(x=frame.geometry.x, y=frame.geometry.y)[columns].to_csv(folder / "other.csv", index=False)
    tables = {
        "odd.csv": "x,y,class\n500005,4999995,glacier\n",
        "near.csv": "x,y,class\n500005,4999995,forrest\n",
        "nowhere.csv": "class\nland\n",
        "columns.csv": "x,y,what\n1,2,3\n",
        "text.csv": "x,y,class\neast,2,land\n",
        "ragged.csv": "x,y,class\n1,2\n",
        "far.csv": "lon,lat,class\n-3.1,51.5,land\n",
        "strata.csv": "x,y,class,stratum\n500005,4999995,land,coast\n500005,4999985,land,inland\n",
        "small.csv": "stratum,pixels,area_m2\nland,3,300\nwater,3,300\nforest,3,300\n",
        "gap.csv": "stratum,pixels,area_m2\nland,3,\nwater,3,300\nforest,3,300\n",
        "header.csv": "x,y,class\n",
    }
    for name, text in tables.items():
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "latin.csv").write_bytes("class\nfor\xeat\n".encode("latin-1"))
    return folder


@pytest.fixture
def bad(wrong_files, geoseg, monkeypatch):
    """The same, as the current folder."""
    monkeypatch.chdir(wrong_files)
    return wrong_files


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["estimate", "empty.gpkg"], "has no reference class at any of its 300 points; label them first"),
        (["estimate", "gone.gpkg"], "no such file: gone.gpkg"),
        (["estimate", "gone.csv"], "no such file: gone.csv"),
        (["estimate", "latin.csv"], "no CSV in UTF-8"),
        (["estimate", "header.csv"], "is empty; expected a row for each reference point"),
        (["estimate", "ragged.csv"], "rows of [2, 3] cells"),
        (["estimate", "text.csv"], "holds no numbers in its column x"),
        (["estimate", "columns.csv"], "expected the reference class in a column called"),
        (["estimate", "points.gpkg", "--class-column", "kind"], "expected a column 'kind'"),
        (["estimate", "odd.csv", "--map", "map.tif", "--crs", "EPSG:32632"], "no class of the map is called 'glacier'; expected one of"),
        (["estimate", "near.csv", "--map", "map.tif", "--crs", "EPSG:32632"], "did you mean 'forest'?"),
        (["estimate", "odd.csv"], "has no column map_class; give the map that is to be judged with --map"),
        (["estimate", "nowhere.csv", "--map", "map.tif"], "says no places"),
        (["estimate", "strata.csv", "--map", "map.tif"], "does not say in which CRS its x and y are; add it"),
        (["estimate", "strata.csv", "--map", "map.tif", "--crs", "EPSG:99999999"], "is no CRS that is known"),
        (["estimate", "strata.csv", "--map", "map.tif", "--crs", "EPSG:32632"], "are not classes of the map (land, water, forest)"),
        (["estimate", "strata.csv", "--map", "map.tif", "--crs", "EPSG:4326"], "lie outside map.tif"),
        (["estimate", "far.csv", "--map", "map.tif"], "1 of 1 labelled points lie outside map.tif, the first with id 1"),
        (["estimate", "points.gpkg", "--map", "far.tif"], "km away; give a map that covers them, and check their CRS"),
        (["estimate", "points.gpkg", "--map", "bare.tif"], "--legend"),
        (["estimate", "other.csv", "--map", "map.tif", "--crs", "EPSG:32632"], "the points were drawn from another map"),
        (["estimate", "points.gpkg", "--sizes", "small.csv"], "has more points than its 3 pixels"),
        (["estimate", "points.gpkg", "--sizes", "gap.csv"], "are not all known; expected pixels and area_m2 of each"),
        (["estimate", "points.gpkg", "--sizes", "gone.csv"], "no such file: gone.csv"),
        (["estimate", "other.csv", "--map", "map.tif", "--crs", "EPSG:32632", "--accept-second"], "there is no second class to accept"),
        (["estimate", "points.gpkg", "--sizes", "odd.csv"], "expected stratum, pixels and area_m2"),
        (["design", "gone.tif", "-o", "p.gpkg"], "no such file or folder: gone.tif"),
        (["design", "bare.tif", "-o", "p.gpkg"], "--legend"),
        (["design", "map.tif", "-o", "p.csv"], "expected a name that ends in .gpkg"),
        (["design", "map.tif", "-o", "p.gpkg", "--points", "100"], "100 points do not suffice for at least 50 in each of 3 strata"),
        (["design", "map.tif", "-o", "p.gpkg", "--points", "400", "--standard-error", "0.01"], "leave one out"),
        (["design", "map.tif", "-o", "p.gpkg", "--expect", "wood=0.9"], "no stratum of this map is called 'wood'"),
        (["design", "map.tif", "-o", "p.gpkg", "--expect", "water=good"], "expected a share such as 0.9"),
        (["design", "map.tif", "-o", "p.gpkg", "--expect", "90"], "give shares between 0 and 1"),
        (["design", "map.tif", "-o", "p.gpkg", "--standard-error", "2"], "expected a share between 0 and 0.5"),
        (["design", "map.tif", "-o", "p.gpkg", "--strata", "far.tif"], "has no pixel with a class that has a stratum in far.tif"),
    ],
)
def test_bad_input_is_one_sentence(bad, geoseg, words, told):
    assert told in refusal(geoseg, bad, "sample", *words)


def test_an_unfinished_report_leaves_nothing(bad, geoseg):
    before = contents(bad)
    assert geoseg("sample", "estimate", "empty.gpkg", "-o", "report.json").code == 2
    assert contents(bad) == before


def test_a_number_without_a_name_is_refused(geoseg, tmp_path):
    codes = random_codes(1)
    codes[3, 4] = 77
    class_map(tmp_path / "map.tif", codes)
    assert "numbers that its legend does not name" in refusal(geoseg, tmp_path, "sample", "design", "map.tif", "-o", "p.gpkg")


def test_strata_need_ground():
    with pytest.raises(Exception, match="have no area"):
        Strata(("a",), np.array([0]), np.array([0.0]))
