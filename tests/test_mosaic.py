"""Several maps become one: each ground pixel once, by a rule that no order, grid or zone of the maps changes."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import geopandas
import jsonschema
import numpy as np
import pytest
import rasterio
import rasterio.merge
from affine import Affine
from command_line import contents
from map_files import LEGEND, NODATA, read, write_map
from odc.geo.geobox import GeoBox
from pyproj import Geod, Transformer
from shapely.geometry import box

from geoseg.errors import InputError
from geoseg.legend import Legend
from geoseg.maps.map_results import open_map_results
from geoseg.maps.mosaic import Mosaic, make_mosaic
from geoseg.maps.mosaic_grid import mosaic_grid
from geoseg.maps.mosaic_plan import MosaicOptions, plan_mosaic
from geoseg.maps.mosaic_windows import join_window
from geoseg.preprocess.quality import Reason

SCHEMAS = Path(__file__).parent / "schemas"
WATER, LAND, ICE = LEGEND.codes


def noise(side=40, seed=0, gaps=0.2):
    rng = np.random.default_rng(seed)
    return np.where(rng.random((side, side)) < gaps, NODATA, rng.integers(0, 3, (side, side)))


def scores_of(classes, seed=0):
    """Scores of which the map's class has the highest, on steps of 1/250."""
    highest = np.random.default_rng(seed).integers(130, 250, classes.shape)
    scores = np.stack([np.where(classes == code, highest, (250 - highest) // 2) for code in LEGEND.codes])
    return scores / 250


def join(paths, out, *, overwrite=False, **options) -> Mosaic:
    return make_mosaic(paths, out, options=MosaicOptions(**options), overwrite=overwrite)


def layer(made: Mosaic, what: str) -> np.ndarray:
    return read(made.files[what])


# ---------------------------------------------------------------- laws


@pytest.mark.parametrize("rule", ["score", "newest", "first"])
@pytest.mark.parametrize("left", [500_000, 500_003.7])
def test_mosaic_of_one_map_is_that_map(tmp_path: Path, rule: str, left: float) -> None:
    one = write_map(tmp_path / "one", noise(), left=left, scores=scores_of(noise()), reason=noise() == NODATA, time="2021-05-01T10:00:00Z")
    made = join([one], tmp_path / "out", rule=rule)
    with rasterio.open(one / "one_classes.tif") as before, rasterio.open(made.files["classes"]) as after:
        assert (before.transform, before.shape, before.crs) == (after.transform, after.shape, after.crs)
        np.testing.assert_array_equal(before.read(), after.read())
    assert rule != "score" or np.array_equal(layer(made, "classes_scores"), read(one / "one_scores.tif"))


def test_a_mosaic_without_polygons_has_all_else(tmp_path: Path) -> None:
    one = write_map(tmp_path / "one", noise())
    with_them, without = (join([one], tmp_path / name, polygons=polygons) for name, polygons in (("with", True), ("without", False)))
    assert set(with_them.files) - set(without.files) == {"classes_polygons"}
    assert {path.suffix for path in (tmp_path / "without").iterdir()} == {".tif", ".xml", ".qml", ".qgz", ".json"}
    np.testing.assert_array_equal(layer(without, "classes"), layer(with_them, "classes"))


def test_a_map_joined_with_itself_stays_and_agrees_everywhere(tmp_path: Path) -> None:
    one = write_map(tmp_path / "one", noise(), scores=scores_of(noise()))
    made = join([one, one], tmp_path / "out")
    np.testing.assert_array_equal(layer(made, "classes"), noise())
    assert made.summary["overlap"]["agreement"] == pytest.approx(1)
    assert set(np.unique(layer(made, "observations"))) == {0, 2}
    assert any("given twice" in warning for warning in made.warnings)


@pytest.mark.parametrize("rule", ["score", "newest", "first"])
def test_order_of_the_maps_matters_to_the_rule_first_alone(tmp_path: Path, rule: str) -> None:
    maps = [
        write_map(tmp_path / f"m{k}", noise(seed=k), left=500_000 + 100 * k, scores=scores_of(noise(seed=k), k), time=f"2021-05-0{k + 1}")
        for k in range(3)
    ]
    one, other = (join(order, tmp_path / name, rule=rule) for order, name in ((maps, "a/out"), (maps[::-1], "b/out")))
    same = one.files["classes"].read_bytes() == other.files["classes"].read_bytes()
    assert same == (rule != "first")
    assert (one.files["source"].read_bytes() == other.files["source"].read_bytes()) == same


def test_mosaic_of_a_mosaic_weighs_every_scene_alike(tmp_path: Path) -> None:
    maps = [write_map(tmp_path / f"m{k}", noise(seed=k), scores=scores_of(noise(seed=k), k)) for k in range(3)]
    whole = join(maps, tmp_path / "whole")
    pair = join(maps[:2], tmp_path / "pair")
    stepwise = join([pair.folder, maps[2]], tmp_path / "stepwise")
    np.testing.assert_array_equal(layer(whole, "observations"), layer(stepwise, "observations"))
    steps = layer(whole, "classes_scores").astype(int) - layer(stepwise, "classes_scores")
    assert np.abs(steps).max() <= 1  # the pair's means were rounded
    assert np.mean(layer(whole, "classes") == layer(stepwise, "classes")) > 0.99


def test_windows_do_not_change_the_mosaic(tmp_path: Path) -> None:
    maps = [
        write_map(tmp_path / "a", noise(), scores=scores_of(noise()), reason=noise() == NODATA),
        write_map(tmp_path / "b", noise(seed=1), left=500_133, scores=scores_of(noise(seed=1)), crs="EPSG:32632", pixel=13),
    ]
    plan = plan_mosaic([open_map_results(one)[0] for one in maps], MosaicOptions())
    whole = join_window(plan, slice(0, plan.geobox.shape[0]), slice(0, plan.geobox.shape[1]))
    piece = join_window(plan, slice(7, 31), slice(11, 50))
    for name in ("classes", "reason", "source", "observations", "scores"):
        np.testing.assert_array_equal(getattr(whole, name)[..., 7:31, 11:50], getattr(piece, name))


# ---------------------------------------------------------------- rules, against numbers computed otherwise


def test_scores_are_averaged_before_the_class_is_chosen(tmp_path: Path) -> None:
    a, b = [[WATER, WATER]], [[LAND, NODATA]]
    one = write_map(tmp_path / "a", a, scores=[[[0.6, 0.6]], [[0.4, 0.4]], [[0, 0]]], time="2021-05-02")
    other = write_map(tmp_path / "b", b, scores=[[[0.2, 0]], [[0.8, 0]], [[0, 0]]], time="2021-05-01")
    made = join([one, other], tmp_path / "out")
    assert layer(made, "classes").tolist() == [[LAND, WATER]]
    np.testing.assert_allclose(layer(made, "classes_scores")[:, 0] / 250, [[0.4, 0.6], [0.6, 0.4], [0, 0]])
    assert [made.summary["maps"][code - 1]["name"] for code in layer(made, "source")[0]] == ["b", "a"]
    assert layer(join([one, other], tmp_path / "newest", rule="newest"), "classes").tolist() == [[WATER, WATER]]


def test_equal_mean_scores_go_to_the_class_of_most_maps(tmp_path: Path) -> None:
    tie = [[[0.4]], [[0.4]], [[0.2]]]
    maps = [write_map(tmp_path / f"m{k}", [[code]], scores=tie) for k, code in enumerate((LAND, WATER, LAND))]
    assert layer(join(maps, tmp_path / "out"), "classes") == LAND
    assert layer(join(maps[1:2], tmp_path / "one"), "classes") == WATER


def test_first_equals_rasterio_merge_and_newest_is_first_by_time(tmp_path: Path) -> None:
    maps = [
        write_map(tmp_path / f"m{k}", noise(seed=k), left=500_000 + 150 * k, top=5_000_000 - 70 * k, time=f"2021-05-0{3 - k}")
        for k in range(3)
    ]
    made = join(maps, tmp_path / "out", rule="first")
    merged, transform = rasterio.merge.merge([one / f"{one.name}_classes.tif" for one in maps], method="first")
    np.testing.assert_array_equal(layer(made, "classes"), merged[0])
    with rasterio.open(made.files["classes"]) as file:
        assert file.transform == transform
    newest = join(maps[::-1], tmp_path / "newest", rule="newest")
    np.testing.assert_array_equal(layer(newest, "classes"), merged[0])
    brute = np.zeros(merged[0].shape, int)
    for k in (2, 1, 0):
        seen = noise(seed=k) != NODATA
        brute[7 * k : 7 * k + 40, 15 * k : 15 * k + 40][seen] = k + 1
    np.testing.assert_array_equal(layer(made, "source"), brute)


def test_the_reason_that_says_most_is_kept(tmp_path: Path) -> None:
    a = write_map(tmp_path / "a", np.full((1, 5), NODATA), reason=[[Reason.NO_DATA, Reason.CLOUD, Reason.CLOUD_SHADOW, 0, Reason.CLOUD]])
    b = write_map(tmp_path / "b", [[NODATA] * 4 + [LAND]], reason=[[Reason.CLOUD, Reason.NO_DATA, Reason.CLOUD, 0, Reason.OBSERVED]])
    for order in ([a, b], [b, a]):
        made = join(order, tmp_path / "out", rule="first", overwrite=True)
        assert layer(made, "reason").tolist() == [[Reason.CLOUD] * 3 + [Reason.OUTSIDE, Reason.OBSERVED]]


def test_maps_without_reasons_have_no_data_inside_and_nothing_outside(tmp_path: Path) -> None:
    maps = [write_map(tmp_path / "a", [[LAND, NODATA]]), write_map(tmp_path / "b", [[WATER]], left=500_040)]
    made = join(maps, tmp_path / "out")
    assert layer(made, "reason").tolist() == [[Reason.OBSERVED, Reason.NO_DATA, Reason.OUTSIDE, Reason.OUTSIDE, Reason.OBSERVED]]
    assert made.summary["overlap"] == {"km2": 0, "agreement": None, "disagreements": []}


def test_overlap_is_counted_once_and_its_disagreements_are_named(tmp_path: Path) -> None:
    maps = [write_map(tmp_path / f"m{k}", [codes]) for k, codes in enumerate(([0, 0, 1, 1], [0, 1, 1, NODATA], [0, 2, 1, NODATA]))]
    summary = join(maps, tmp_path / "out", rule="first").summary
    pixel = summary["overlap"]["km2"] / 3
    assert pixel == pytest.approx(1e-4, rel=1e-3)
    assert summary["overlap"]["agreement"] == pytest.approx(2 / 3)  # all, none and all of the pairs
    assert {tuple(one["classes"]): one["km2"] / pixel for one in summary["overlap"]["disagreements"]} == {
        pair: pytest.approx(1 / 3) for pair in (("water", "land"), ("water", "ice"), ("land", "ice"))
    }
    assert sum(one["area_km2"] for one in summary["classes"]["classes"]) == pytest.approx(4 * pixel, rel=1e-3)
    assert sum(one["gave_km2"] for one in summary["maps"]) == pytest.approx(4 * pixel, rel=1e-3)


# ---------------------------------------------------------------- zones and grids


def striped(crs: str, bounds: tuple[float, float, float, float], pixel: float = 50) -> tuple[np.ndarray, GeoBox]:
    """Stripes that follow meridians and parallels, on the grid of a UTM zone; nothing outside the bounds in degrees."""
    grid = GeoBox.from_bbox(bounds, "EPSG:4326", resolution=1e-3).to_crs(crs, resolution=pixel)
    return stripes(grid, bounds), grid


def stripes(grid: GeoBox, bounds: tuple[float, float, float, float]) -> np.ndarray:
    west, south, east, north = bounds
    col, row = np.meshgrid(np.arange(grid.shape[1]) + 0.5, np.arange(grid.shape[0]) + 0.5)
    a = grid.affine
    lon, lat = Transformer.from_crs(grid.crs, "EPSG:4326", always_xy=True).transform(a.a * col + a.c, a.e * row + a.f)
    codes = (np.floor(lon * 100) + np.floor(lat * 100)).astype(int) % 3
    return np.where((lon > west) & (lon < east) & (lat > south) & (lat < north), codes, NODATA)


@pytest.mark.parametrize("rule", ["score", "first"])
def test_two_utm_zones_join_without_seam_or_gap_and_with_the_true_area(tmp_path: Path, rule: str) -> None:
    parts = {"EPSG:32632": (11.90, 48.0, 12.03, 48.1), "EPSG:32633": (11.97, 48.0, 12.10, 48.1)}
    maps = []
    for crs, bounds in parts.items():
        classes, grid = striped(crs, bounds)
        place = {"left": grid.affine.c, "top": grid.affine.f, "pixel": 50, "crs": crs}
        maps.append(write_map(tmp_path / crs[-2:], classes, scores=scores_of(classes), **place))
    made = join(maps, tmp_path / "out", rule=rule)
    with rasterio.open(made.files["classes"]) as file:
        grid = GeoBox(file.shape, file.transform, str(file.crs))
    whole = (11.90, 48.0, 12.10, 48.1)
    truth, classes = stripes(grid, whole), layer(made, "classes")
    assert np.mean(truth != classes) < 0.05  # the borders, moved by half a pixel
    within = stripes(grid, (11.9005, 48.0005, 12.0995, 48.0995)) != NODATA
    assert (classes[within] != NODATA).all()
    assert sorted(made.summary["maps"], key=lambda one: -one["gave_km2"])[1]["gave_km2"] > 20
    true_m2 = abs(Geod(ellps="WGS84").geometry_area_perimeter(box(*whole).segmentize(0.001))[0])
    assert sum(one["area_km2"] for one in made.summary["classes"]["classes"]) * 1e6 == pytest.approx(true_m2, rel=1e-3)
    polygons = geopandas.read_file(made.files["classes_polygons"], layer="polygons")
    assert polygons.area_m2.sum() == pytest.approx(true_m2, rel=1e-3)
    assert made.summary["overlap"]["agreement"] > 0.95


def test_maps_on_both_sides_of_the_antimeridian_lie_side_by_side(tmp_path: Path) -> None:
    place = {"top": 60, "pixel": 0.001, "crs": "EPSG:4326"}
    maps = [write_map(tmp_path / f"m{k}", np.full((10, 10), k), left=left, **place) for k, left in enumerate((179.99, -180))]
    for order in (maps, maps[::-1]):
        made = join(order, tmp_path / "out", rule="first", overwrite=True)
        np.testing.assert_array_equal(layer(made, "classes"), np.repeat([[0, 1]] * 10, 10, axis=1))
    with pytest.raises(InputError, match="both sides of the antimeridian"):
        join(maps, tmp_path / "cut", crs="EPSG:3857")


def test_utm_zones_on_both_sides_of_the_antimeridian_join(tmp_path: Path) -> None:
    grids = [GeoBox.from_bbox((lon, 0, lon + 0.02, 0.02), "EPSG:4326", resolution=1e-3) for lon in (179.98, -180.0)]
    maps = []
    for k, (grid, crs) in enumerate(zip(grids, ("EPSG:32660", "EPSG:32601"), strict=True)):
        utm = grid.to_crs(crs, resolution=100)
        maps.append(write_map(tmp_path / f"m{k}", np.full(utm.shape, k), left=utm.affine.c, top=utm.affine.f, pixel=100, crs=crs))
    classes = layer(join(maps, tmp_path / "out", rule="first"), "classes")
    assert classes.shape[1] < 60  # not once around the world
    assert np.isin([0, 1], classes).all()
    assert np.mean(classes == NODATA) < 0.1


def test_grid_is_the_commonest_crs_at_the_finest_pixels_on_whole_multiples() -> None:
    def grid(left, pixel, crs):
        return GeoBox((10, 10), Affine(pixel, 0, left, 0, -pixel, 5_000_000), crs)

    joined = mosaic_grid([grid(500_003, 20, "EPSG:32632"), grid(500_105, 20, "EPSG:32632"), grid(300_000, 10, "EPSG:32633")])
    assert (joined.crs.epsg, joined.affine.a, joined.affine.c % 10) == (32632, 10, 0)
    shared = mosaic_grid([grid(500_005, 20, "EPSG:32632"), grid(500_105, 20, "EPSG:32632")])
    assert (shared.affine.c, shared.shape.yx) == (500_005, (10, 15))  # no pixel has to be moved
    assert mosaic_grid([grid(500_005, 20, "EPSG:32632")], resolution=30).affine.c % 30 == 0
    assert mosaic_grid([grid(500_005, 20, "EPSG:32632")], crs="EPSG:3857").crs.epsg == 3857


def test_like_and_resolution_give_the_grid(tmp_path: Path, geoseg) -> None:
    one = write_map(tmp_path / "one", np.kron(noise(20), np.ones((2, 2))))
    assert geoseg("mosaic", one, "-o", tmp_path / "coarse", "--resolution", 20).code == 0
    assert geoseg("mosaic", one, "-o", tmp_path / "like", "--like", tmp_path / "coarse" / "coarse_classes.tif").code == 0
    for name in ("coarse", "like"):
        np.testing.assert_array_equal(read(tmp_path / name / f"{name}_classes.tif"), noise(20))


def test_more_maps_than_files_are_kept_open_are_joined(tmp_path: Path) -> None:
    maps = [write_map(tmp_path / f"m{k:03}", [[k % 3] * 3], left=500_000 + 20 * k) for k in range(70)]
    made = join(maps, tmp_path / "out", rule="first")
    assert layer(made, "source")[0].tolist() == [1 + max(0, (col - 1) // 2) for col in range(141)]


# ---------------------------------------------------------------- what is written


def test_results_are_those_of_a_map_and_say_from_what_they_were_made(tmp_path: Path) -> None:
    maps = [write_map(tmp_path / f"m{k}", noise(seed=k), scores=scores_of(noise(seed=k)), time=f"2021-05-0{k + 1}") for k in range(2)]
    made = join(maps, tmp_path / "out")
    (again,) = open_map_results(made.folder)
    assert (again.name, again.classes.legend.names, again.time) == ("out", LEGEND.names, datetime(2021, 5, 2, tzinfo=UTC))
    assert not again.is_edited()
    item = json.loads(made.files["item"].read_text(encoding="utf-8"))
    for address in item["stac_extensions"]:
        jsonschema.validate(item, json.loads((SCHEMAS / f"{address.split('/')[3]}.json").read_text()))
    assert [link["href"] for link in item["links"]] == ["../m0/m0.json", "../m1/m1.json"]
    assert item["properties"]["start_datetime"] == "2021-05-01T00:00:00Z"
    assert item["properties"]["geoseg:mosaic"]["rule"] == "score"
    assert item["properties"]["geoseg:attribution"] == "Contains Copernicus data"
    assert "mean_score" in geopandas.read_file(made.files["classes_polygons"], layer="polygons").columns
    assert {path.suffix for path in made.folder.iterdir()} == {".tif", ".xml", ".qml", ".gpkg", ".qgz", ".json"}


def test_aoi_and_smallest_area_hold_for_the_mosaic(tmp_path: Path, geoseg) -> None:
    classes = np.full((10, 10), WATER)
    classes[4, 4] = LAND
    one = write_map(tmp_path / "one", classes)
    area = box(500_000, 4_999_900, 500_080, 5_000_000)
    geopandas.GeoDataFrame(geometry=[area], crs="EPSG:32632").to_file(tmp_path / "area.gpkg")
    assert geoseg("mosaic", one, "-o", tmp_path / "out", "--aoi", tmp_path / "area.gpkg", "--min-area-m2", 150).code == 0
    joined, reason = (read(tmp_path / "out" / f"out_{kind}.tif") for kind in ("classes", "reason"))
    assert (joined[:, :8] == WATER).all()
    assert (joined[:, 8:] == NODATA).all()
    assert (reason[:, 8:] == Reason.OUTSIDE_AREA).all()


@pytest.mark.parametrize("kind", ["folder", "classes", "item"])
def test_a_map_is_found_by_folder_raster_or_item(tmp_path: Path, kind: str) -> None:
    one = write_map(tmp_path / "one", noise(), scores=scores_of(noise()), time="2021-05-01T10:30:00Z")
    path = {"folder": one, "classes": one / "one_classes.tif", "item": one / "one.json"}[kind]
    (found,) = open_map_results(path)
    assert (found.name, found.time, found.item) == ("one", datetime(2021, 5, 1, 10, 30, tzinfo=UTC), one / "one.json")
    assert found.scores == one / "one_scores.tif"


def test_of_several_outputs_of_a_scene_one_has_to_be_named(place: Path, geoseg) -> None:
    one = write_map(place / "one", noise())
    item = json.loads((one / "one.json").read_text())
    (one / "one_stage.tif").write_bytes((one / "one_classes.tif").read_bytes())
    item["assets"]["stage"] = {**item["assets"]["classes"], "href": "./one_stage.tif"}
    (one / "one.json").write_text(json.dumps(item))
    ran = geoseg("mosaic", "one", "-o", "out")
    assert "several maps of one: one_classes.tif, one_stage.tif" in ran.sentence
    (found,) = open_map_results(one / "one_stage.tif")
    assert (found.name, found.output) == ("one", "stage")


def test_a_raster_without_item_is_a_map_too(tmp_path: Path) -> None:
    one = write_map(tmp_path / "one", noise(), reason=noise() == NODATA)
    (one / "one.json").unlink()
    for path in (one, one / "one_classes.tif"):
        (found,) = open_map_results(path)
        assert (found.name, found.item, found.time) == ("one", None, None)
        assert found.reason == one / "one_reason.tif"


# ---------------------------------------------------------------- which rule, and doubts


def test_without_scores_the_newest_counts_and_without_times_the_first(tmp_path: Path) -> None:
    times = {"m0": "2021-05-01", "m1": "2021-05-02"}
    dated = [write_map(tmp_path / name, [[k]], time=time) for k, (name, time) in enumerate(times.items())]
    made = join(dated, tmp_path / "dated")
    assert (layer(made, "classes"), made.summary["rule"]) == (1, "newest")
    assert any("without scores" in warning for warning in made.warnings)
    undated = write_map(tmp_path / "m2", [[2]])
    made = join([*dated, undated], tmp_path / "undated")
    assert (layer(made, "classes"), made.summary["rule"]) == (0, "first")
    with pytest.raises(InputError, match="newest needs the time"):
        join([*dated, undated], tmp_path / "refused", rule="newest")


def test_a_map_corrected_by_hand_is_not_overruled_by_its_scores(tmp_path: Path) -> None:
    one = write_map(tmp_path / "one", [[WATER]], scores=[[[0.8]], [[0.2]], [[0]]])
    with rasterio.open(one / "one_classes.tif", "r+") as file:
        file.write(np.array([[[LAND]]], "uint8"))
    made = join([one], tmp_path / "out")
    assert layer(made, "classes") == LAND
    with pytest.raises(InputError, match="was changed after it was made"):
        join([one], tmp_path / "refused", rule="score")


def test_uncalibrated_scores_of_different_models_are_not_averaged(tmp_path: Path) -> None:
    maps = [write_map(tmp_path / m, noise(), scores=scores_of(noise()), calibrated=False, model=m, time="2021-05-01") for m in ("a", "b")]
    assert join(maps, tmp_path / "out").summary["rule"] == "newest"
    with pytest.raises(InputError, match="not calibrated"):
        join(maps, tmp_path / "refused", rule="score")
    calibrated = [write_map(tmp_path / f"c{m}", noise(), scores=scores_of(noise()), model=m) for m in ("a", "b")]
    made = join(calibrated, tmp_path / "calibrated")
    assert made.summary["rule"] == "score"
    assert any("different models (a, b)" in warning for warning in made.warnings)


# ---------------------------------------------------------------- bad input, through the command line


def lay_out(place: Path, name: str) -> None:
    """What the command line of a test names."""
    changes = {
        "one": {},
        "differs": {"legend": Legend.from_names(["water", "sand", "ice"])},
        "unplaced": {"crs": None},
        "far": {"left": 900_000, "top": 9_000_000},
        "strange": {"classes": np.full((3, 3), 7)},
        "nothing": {"classes": np.full((3, 3), NODATA)},
        "gone": {},
    }
    if name in changes:
        write_map(place / name, **{"classes": noise(), **changes[name]})
    if name == "gone":
        (place / "gone" / "gone_classes.tif").unlink()
    if name == "empty":
        (place / "empty").mkdir()
    if name == "far.gpkg":
        geopandas.GeoDataFrame(geometry=[box(0, 0, 1, 1)], crs="EPSG:4326").to_file(place / name)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["empty"], "empty holds no map"),
        (["absent"], "no such file or folder: absent"),
        (["one", "differs"], "1 is 'land' in"),
        (["unplaced"], "has no CRS"),
        (["scene.tif"], "does not say which classes"),
        (["one", "--rule", "best"], "Invalid value for '--rule'"),
        (["one", "--rule", "score"], "--rule score does not fit"),
        (["one", "--crs", "EPSG:0"], "no coordinate reference system"),
        (["one", "--resolution", "0"], "--resolution is 0.0"),
        (["one", "--like", "scene.tif", "--resolution", "5"], "--like already states the grid"),
        (["one", "--aoi", "far.gpkg"], "does not touch"),
        (["gone"], "which is not there"),
        (["strange"], "numbers that its legend does not name"),
        (["one", "far"], "lie so far apart"),
        (["nothing"], "none of the maps has a class"),
        ([], "no OUT was given"),
    ],
)
def test_bad_input_ends_in_one_sentence_and_leaves_nothing(place: Path, geoseg, words: list[str], said: str) -> None:
    for word in words:
        lay_out(place, word)
    before = contents(place)
    ran = geoseg("mosaic", *words, "-o", "out")
    assert ran.code == 2
    assert said in ran.sentence
    assert contents(place) == before


def test_results_are_replaced_only_when_asked_and_never_beside_their_maps(place: Path, geoseg) -> None:
    write_map(place / "one", noise())
    assert geoseg("mosaic", "one", "-o", "out").code == 0
    before = contents(place)
    assert "already holds out_classes.tif" in geoseg("mosaic", "one", "-o", "out").sentence
    assert "is one of the maps" in geoseg("mosaic", "one", "-o", "one").sentence
    assert contents(place) == before
    ran = geoseg("mosaic", "one", "-o", "out", "--overwrite", "--json")
    assert json.loads(ran.out.splitlines()[-1])["summary"]["rule"] == "first"
