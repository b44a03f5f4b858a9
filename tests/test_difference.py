"""What changed between two maps: laws of the matrix, a brute-force oracle, exclusions, other grids, and bad input."""

from __future__ import annotations

import csv
import json
from collections import Counter
from itertools import permutations

import geopandas
import numpy as np
import packages
import pytest
import rasterio
from affine import Affine
from class_map_files import LAND_WATER, THREE, UTM, class_map, plain, polygons, random_codes
from rasterio.features import rasterize
from shapely.geometry import box

from geoseg.errors import InputError
from geoseg.ground import geodesic_area_m2
from geoseg.io.class_maps import open_class_map
from geoseg.io.qgis import write_style
from geoseg.io.qgis_styles import classes_qml
from geoseg.legend import Legend
from geoseg.maps.difference import DifferenceOptions, compare_maps
from geoseg.preprocess.quality import REASON_LEGEND

BEFORE = np.array([[0, 0, 1], [1, 2, 255]], np.uint8)
AFTER = np.array([[0, 1, 1], [0, 2, 1]], np.uint8)


def compare(folder, before, after, *, legend=THREE, out="out", **options):
    paths = [class_map(folder / f"{name}.tif", codes, legend) for name, codes in (("before", before), ("after", after))]
    return compare_maps(*paths, folder / out, options=DifferenceOptions(**options), overwrite=True)


def read(path):
    with rasterio.open(path) as file:
        return file.read(1)


def areas(made):
    """(from name, to name) → square metres, of what occurs."""
    names = made.transitions.classes.names
    return {(names[i], names[j]): made.transitions.areas_m2[i, j] for i, j in np.argwhere(made.transitions.areas_m2 > 0)}


def changed_polygons(made):
    return geopandas.read_file(made.files["polygons"], layer="polygons")


# Laws and the oracle


def test_each_pixel_is_counted_once_under_its_pair(tmp_path):
    before, after = random_codes(1), random_codes(2)
    made = compare(tmp_path, before, after)
    pairs = zip(before.ravel().tolist(), after.ravel().tolist(), strict=True)
    counted = Counter((THREE.names[a], THREE.names[b]) for a, b in pairs if 255 not in (a, b))
    pixel = made.transitions.common_m2 / before.size
    assert areas(made) == pytest.approx({pair: count * pixel for pair, count in counted.items()}, rel=1e-4)
    assert pixel == pytest.approx(100, rel=1e-3)


def test_nothing_changes_between_a_map_and_itself(tmp_path):
    codes = random_codes(3)
    made = compare(tmp_path, codes, codes)
    assert made.transitions.changed_m2 == 0
    assert len(changed_polygons(made)) == 0
    assert set(np.unique(read(made.files["change"]))) == {0, 1}


def test_one_changed_pixel_is_found(tmp_path):
    codes = random_codes(3, share_missing=0)
    other = codes.copy()
    other[5, 7] = (codes[5, 7] + 1) % 3
    made = compare(tmp_path, codes, other)
    assert made.transitions.changed_m2 == pytest.approx(100, rel=1e-3)
    assert np.argwhere(read(made.files["change"]) >= 3).tolist() == [[5, 7]]


def test_turning_the_maps_around_transposes_the_matrix(tmp_path):
    before, after = random_codes(4), random_codes(5)
    forth, back = compare(tmp_path, before, after), compare(tmp_path, after, before, out="back")
    assert areas(back) == pytest.approx({(end, start): area for (start, end), area in areas(forth).items()})
    assert back.transitions.unobserved_m2["before"] == pytest.approx(forth.transitions.unobserved_m2["after"])


@pytest.mark.parametrize(
    ("crs", "transform"),
    [("EPSG:32632", UTM), ("EPSG:4326", Affine(0.01, 0, 8, 0, -0.01, 60)), ("EPSG:3035", Affine(60, 80, 4.2e6, 80, -60, 3e6))],
)
def test_all_areas_add_up_to_the_common_ground(tmp_path, crs, transform):
    before, after = (class_map(tmp_path / f"{n}.tif", random_codes(n), crs=crs, transform=transform) for n in (6, 7))
    shape = box(*(transform * (10, 5)), *(transform * (20, 25)))
    excluded = polygons(tmp_path / "out.gpkg", [shape], crs=crs)
    sums = compare_maps(before, after, tmp_path / "out", options=DifferenceOptions(exclude=(str(excluded),))).transitions
    corners = [transform * corner for corner in ((0, 0), (50, 0), (50, 40), (0, 40))]
    whole = geodesic_area_m2(
        [geopandas.GeoSeries.from_wkt([f"POLYGON(({', '.join(f'{x!r} {y!r}' for x, y in corners + corners[:1])}))"])[0]], crs
    )
    assert sums.areas_m2.sum() + sum(sums.unobserved_m2.values()) + sums.excluded_m2 == pytest.approx(whole[0], rel=1e-6)
    assert sums.excluded_m2 > 0


def test_classes_behind_unobserved_pixels_do_not_matter(tmp_path):
    before, after = random_codes(8), random_codes(9)
    first = compare(tmp_path, before, after)
    after[before == 255] = 2 - np.minimum(after[before == 255], 2)
    again = compare(tmp_path, before, after, out="again")
    assert areas(again) == areas(first)
    assert (read(again.files["change"]) == read(first.files["change"])).all()


def test_the_strip_height_does_not_matter(tmp_path, monkeypatch):
    before, after = random_codes(10, (70, 30)), random_codes(11, (70, 30))
    whole = compare(tmp_path, before, after)
    monkeypatch.setattr("geoseg.maps.counting._STRIP_PIXELS", 90)
    strips = compare(tmp_path, before, after, out="strips")
    assert areas(strips) == pytest.approx(areas(whole), rel=1e-9)
    assert (read(strips.files["change"]) == read(whole.files["change"])).all()


# What is written


def test_the_files_say_the_same(tmp_path):
    made = compare(tmp_path, BEFORE, AFTER)
    with rasterio.open(made.files["change"]) as file:
        names = {int(code): name for code, name in json.loads(file.tags()["CLASS_NAMES"]).items()}
        assert [[names[code] for code in row] for row in file.read(1).tolist()] == [
            ["unchanged", "land → water", "unchanged"],
            ["water → land", "unchanged", "not observed in one map or both"],
        ]
    assert [one.background for one in open_class_map(made.files["change"]).legend.classes] == [True, *[False] * 4]
    frame = changed_polygons(made)
    assert sorted(zip(frame.from_class, frame.to_class, strict=True)) == [("land", "water"), ("water", "land")]
    rows = list(csv.reader(made.files["transitions"].read_text(encoding="utf-8-sig").splitlines()))
    assert rows[0][1:] == ["land", "water", "forest", "total"]
    assert [row[0] for row in rows[1:]] == ["land", "water", "forest", "total", "(not observed in one map or both)", "(excluded)"]
    assert float(rows[1][2]) == pytest.approx(frame.area_m2[0], abs=0.01)
    item = json.loads(made.files["item"].read_text(encoding="utf-8"))
    assert item["properties"]["geoseg:difference"]["summary"]["changed"]["m2"] == pytest.approx(frame.area_m2.sum())
    assert made.files["project"].is_file()


def test_one_class_is_followed_as_gained_lost_and_kept(tmp_path):
    made = compare(tmp_path, BEFORE, AFTER, only="Water")
    pixel = made.transitions.common_m2 / 6
    assert areas(made) == pytest.approx(
        {("not water", "not water"): 2 * pixel, ("not water", "water"): pixel, ("water", "not water"): pixel, ("water", "water"): pixel}
    )
    legend = {one.code: one.name for one in made.transitions.change_legend().classes}
    assert [legend[code] for code in read(made.files["change"])[0].tolist()] == ["no water in either map", "water gained", "water kept"]
    assert sorted(changed_polygons(made).transition) == ["water gained", "water lost"]


def test_small_polygons_are_left_out_and_still_counted(tmp_path):
    after = np.zeros((6, 6), np.uint8)
    after[0, 0], after[3:5, 3:5] = 1, 1
    made = compare(tmp_path, np.zeros((6, 6)), after, min_area_m2=300)
    assert len(changed_polygons(made)) == 1
    assert made.summary["polygons_left_out"] == 1
    assert made.transitions.changed_m2 == pytest.approx(500, rel=1e-3)


def test_polygons_cover_the_changed_pixels_of_their_transition_whatever_their_size(tmp_path):
    before, after = random_codes(5, share_missing=0), random_codes(6, share_missing=0)
    made = compare(tmp_path, before, after)
    frame, names = changed_polygons(made), THREE.names
    burnt = {}
    for start, end in {*zip(frame.from_class, frame.to_class, strict=True)}:
        shapes = frame.geometry[(frame.from_class == start) & (frame.to_class == end)]
        with rasterio.open(made.files["change"]) as file:
            burnt[start, end] = rasterize(shapes, out_shape=file.shape, transform=file.transform) == 1
    for start, end in permutations(range(3), 2):
        expected = (before == THREE.classes[start].code) & (after == THREE.classes[end].code)
        assert np.array_equal(burnt.get((names[start], names[end]), np.zeros_like(expected)), expected)
    large = compare(tmp_path, before, after, min_area_m2=250, out="large")
    kept = frame[frame.area_m2 >= 250]
    assert 0 < large.summary["polygons_left_out"] == len(frame) - len(kept)
    assert changed_polygons(large).geometry.equals(kept.geometry.reset_index(drop=True))


# Legends and unobserved ground


def test_classes_are_matched_by_name_and_new_ones_are_kept(tmp_path):
    before = class_map(tmp_path / "before.tif", [[0, 1]], LAND_WATER)
    after = class_map(tmp_path / "after.tif", [[0, 1]], Legend.from_names(("WATER", "ice")))
    made = compare_maps(before, after, tmp_path / "out")
    assert list(areas(made)) == [("land", "water"), ("water", "ice")]


def test_a_map_from_a_raster_calculator_gets_its_names_from_the_other(tmp_path):
    before = class_map(tmp_path / "before.tif", BEFORE)
    after = plain(tmp_path / "calculated.tif", AFTER.astype(np.float32), nodata=-9999)
    made = compare_maps(before, after, tmp_path / "out", options=DifferenceOptions(legend=str(before)))
    assert made.transitions.changed_m2 == pytest.approx(200, rel=1e-3)


def test_numbers_without_a_name_count_as_not_observed_and_are_told(tmp_path):
    after = AFTER.copy()
    after[0, 0] = 77
    made = compare(tmp_path, BEFORE, after)
    assert made.transitions.unobserved_m2["after"] == pytest.approx(100, rel=1e-3)
    assert any("77" in told and "--legend" in told for told in made.warnings)


def test_a_reason_layer_says_where_a_map_is_not_observed(tmp_path):
    reasons = np.ones((2, 3), np.uint8)
    reasons[0, 1] = 3
    cloudy = class_map(tmp_path / "cloudy.tif", reasons, REASON_LEGEND)
    made = compare(tmp_path, BEFORE, AFTER, reason_after=str(cloudy))
    assert ("land", "water") not in areas(made)
    assert made.transitions.unobserved_m2["after"] == pytest.approx(100, rel=1e-3)


# Exclusions


@pytest.mark.parametrize("kind", ["polygons", "raster", "class", "named class", "layover"])
def test_excluded_ground_is_neither_changed_nor_unchanged(tmp_path, kind):
    marks = np.zeros((2, 3), np.uint8)
    marks[0, 1] = 1
    word = {
        "polygons": lambda: polygons(tmp_path / "lake.gpkg", [box(500_010, 4_999_990, 500_020, 5_000_000)]),
        "raster": lambda: plain(tmp_path / "lake.tif", marks * 40.0, nodata=0),
        "class": lambda: class_map(tmp_path / "permanent_water.tif", marks, LAND_WATER),
        "named class": lambda: f"{class_map(tmp_path / 'cover.tif', marks * 2)}:Forest",
        "layover": lambda: plain(tmp_path / "S1A_ls_map.tif", np.where(marks, 1 + 4, 1).astype(np.uint8)),
    }[kind]()
    made = compare(tmp_path, BEFORE, AFTER, exclude=(str(word),))
    assert ("land", "water") not in areas(made)
    assert made.transitions.excluded_m2 == pytest.approx(100, rel=1e-3)
    assert read(made.files["change"])[0, 1] == 2


def test_overlapping_exclusions_count_once_in_sum_and_each_alone(tmp_path):
    first = polygons(tmp_path / "first.gpkg", [box(500_000, 4_999_980, 500_020, 5_000_000)])
    second = polygons(tmp_path / "second.gpkg", [box(500_010, 4_999_980, 500_020, 5_000_000)])
    sums = compare(tmp_path, BEFORE, AFTER, exclude=(str(first), str(second))).transitions
    assert sums.excluded_m2 == pytest.approx(400, rel=1e-3)
    assert list(sums.excluded_by_m2.values()) == pytest.approx([400, 200], rel=1e-3)


def test_steep_ground_is_excluded_by_a_dem(tmp_path):
    flat_then_steep = np.cumsum(np.where(np.arange(60) < 30, 0.0, 10.0))  # 45 degrees from column 30 of the DEM
    dem = plain(tmp_path / "dem.tif", np.tile(flat_then_steep.astype(np.float32), (60, 1)), transform=UTM @ Affine.translation(-10, -10))
    made = compare(tmp_path, random_codes(1), random_codes(2), exclude=("slope>15",), dem=str(dem))
    excluded = read(made.files["change"]) == 2
    assert excluded[:, 21:].all()
    assert not excluded[:, :18].any()


# Other grids


def test_the_coarser_map_is_read_on_the_pixels_of_the_finer(tmp_path):
    coarse = class_map(tmp_path / "coarse.tif", [[0, 1], [1, 0]])
    fine = class_map(tmp_path / "fine.tif", np.zeros((4, 4)), transform=UTM @ Affine.scale(0.5))
    forth, back = compare_maps(coarse, fine, tmp_path / "forth"), compare_maps(fine, coarse, tmp_path / "back")
    assert read(forth.files["change"]).shape == read(back.files["change"]).shape == (4, 4)
    assert areas(forth)[("water", "land")] == areas(back)[("land", "water")] == pytest.approx(200, rel=1e-3)
    assert forth.summary["grid"] == "after"
    assert back.summary["grid"] == "before"


def test_only_the_ground_of_both_is_compared(tmp_path):
    before = class_map(tmp_path / "before.tif", np.zeros((6, 6)))
    after = class_map(tmp_path / "after.tif", np.ones((6, 6)), transform=UTM @ Affine.translation(4, -3))
    made = compare_maps(before, after, tmp_path / "out")
    assert read(made.files["change"]).shape == (3, 2)
    assert made.transitions.common_m2 == made.transitions.changed_m2 == pytest.approx(600, rel=1e-3)
    assert made.warnings == ()


def test_half_a_pixel_of_shift_warns_of_its_edges(tmp_path):
    codes = np.zeros((20, 20), np.uint8)
    codes[5:15, 5:15] = 1
    before = class_map(tmp_path / "before.tif", codes)
    after = class_map(tmp_path / "after.tif", codes, transform=UTM @ Affine.translation(0.6, 0))
    made = compare_maps(before, after, tmp_path / "out")
    (told,) = made.warnings
    assert "shifted by 0 x 0.4 of a pixel" in told
    assert "100 % of the changed ground" in told
    assert made.transitions.changed_m2 > 0


def test_a_real_change_is_not_taken_for_an_edge(tmp_path):
    codes = np.zeros((20, 20), np.uint8)
    codes[5:15, 5:15] = 1
    before = class_map(tmp_path / "before.tif", np.zeros((20, 20)))
    after = class_map(tmp_path / "after.tif", codes, transform=UTM @ Affine.translation(0.5, 0.5))
    sums = compare_maps(before, after, tmp_path / "out").transitions
    assert sums.edge_m2 == pytest.approx(36 / 100 * sums.changed_m2, rel=1e-3)


def test_maps_in_two_crs_agree_with_themselves(tmp_path):
    codes = np.repeat([[0, 1], [2, 0]], 40, axis=0).repeat(40, axis=1)
    before = class_map(tmp_path / "before.tif", codes)
    with rasterio.open(before) as file, rasterio.vrt.WarpedVRT(file, crs="EPSG:4326", resampling=rasterio.enums.Resampling.nearest) as vrt:
        warped = vrt.read(1)
        after = class_map(tmp_path / "after.tif", warped, crs="EPSG:4326", transform=vrt.transform)
    sums = compare_maps(before, after, tmp_path / "out").transitions
    assert sums.changed_m2 < 0.03 * sums.compared_m2
    assert sums.edge_m2 == pytest.approx(sums.changed_m2)


# Through the command line


def test_the_command_prints_the_matrix_and_writes_the_files(geoseg, tmp_path):
    class_map(tmp_path / "before.tif", BEFORE)
    class_map(tmp_path / "after.tif", AFTER)
    ran = geoseg("diff", "before.tif", "after.tif", "-o", "out", "--class", "water", "--json")
    assert ran.code == 0, ran.err
    told = json.loads(ran.out.splitlines()[-1])
    assert told["summary"]["changed"]["ha"] == pytest.approx(0.02, rel=1e-3)
    assert sorted(path.name for path in (tmp_path / "out").iterdir() if path.suffix in (".tif", ".gpkg", ".qgz", ".csv", ".json")) == [
        "before_to_after.gpkg",
        "before_to_after.json",
        "before_to_after.qgz",
        "before_to_after_change.tif",
        "before_to_after_transitions.csv",
    ]
    shown = geoseg("diff", "before.tif", "after.tif", "-o", "out", "--overwrite")
    assert "not observed in one map or both: 0.010 ha" in shown.out


def test_folders_that_predict_wrote_are_compared(geoseg, tmp_path):
    for name, threshold in (("spring", 50), ("autumn", 150)):
        packages.threshold_package(tmp_path / f"{name}_model", ("red",), threshold)
        assert geoseg("predict", "scene.tif", "--model", f"{name}_model", "-o", name).code == 0
    ran = geoseg("diff", "spring", "autumn", "-o", "change")
    assert ran.code == 0, ran.err
    with rasterio.open(tmp_path / "scene.tif") as file:
        between = (file.read(1) > 50) & (file.read(1) <= 150)
    change = read(tmp_path / "change" / "scene_to_scene_change.tif")
    assert ((change >= 3) == between).all()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["bare.tif", "after.tif"], "bare.tif does not say which classes"),
        (["gone.tif", "after.tif"], "gone.tif"),
        (["far.tif", "after.tif"], "do not overlap"),
        (["other.tif", "after.tif"], "none in common"),
        (["before.tif", "after.tif", "--class", "watr"], "did you mean 'water'?"),
        (["before.tif", "after.tif", "--exclude", "gone.gpkg"], "no such file to exclude: gone.gpkg"),
        (["before.tif", "after.tif", "--exclude", "slope>abc"], "'slope>abc' is no rule"),
        (["before.tif", "after.tif", "--exclude", "slop>15"], "'slop>15' is no rule"),
        (["before.tif", "after.tif", "--exclude", "slope>15"], "--dem FILE"),
        (["before.tif", "after.tif", "--exclude", "slope>15", "--dem", "small.tif"], "covers 33 %"),
        (["before.tif", "after.tif", "--dem", "small.tif"], "nothing to exclude by it"),
        (["before.tif", "after.tif", "--exclude", "three.tif"], "say which to exclude"),
        (["before.tif", "after.tif", "--exclude", "three.tif:frost"], "did you mean 'forest'?"),
        (["before.tif", "after.tif", "--min-area-m2", "-1"], "--min-area-m2 is -1"),
        (["before.tif", "after.tif", "--reason-before", "odd.tif"], "--reason-before"),
        (["before.tif", "after.tif", "--legend", "gone.json"], "gone.json"),
    ],
)
def test_bad_input_is_one_sentence(geoseg, tmp_path, words, told):
    files = {
        "before.tif": lambda path: class_map(path, BEFORE),
        "after.tif": lambda path: class_map(path, AFTER),
        "three.tif": lambda path: class_map(path, AFTER),
        "other.tif": lambda path: class_map(path, BEFORE, Legend.from_names(("a", "b", "c"))),
        "far.tif": lambda path: class_map(path, BEFORE, transform=Affine(10, 0, 600_000, 0, -10, 5_000_000)),
        "bare.tif": lambda path: plain(path, BEFORE),
        "odd.tif": lambda path: plain(path, BEFORE + np.uint8(100)),
        "small.tif": lambda path: plain(path, np.zeros((2, 1), np.float32)),
    }
    for name in {word.partition(":")[0] for word in words} & files.keys():
        files[name](tmp_path / name)
    ran = geoseg("diff", *words, "-o", "out")
    assert ran.code == 2, ran.err
    assert told in ran.sentence
    assert not (tmp_path / "out").exists()


def test_results_are_not_replaced_unasked(tmp_path):
    compare(tmp_path, BEFORE, AFTER)
    with pytest.raises(Exception, match="--overwrite"):
        compare_maps(tmp_path / "before.tif", tmp_path / "after.tif", tmp_path / "out")


def test_options_are_checked():
    with pytest.raises(InputError, match="--simplify-m"):
        DifferenceOptions(simplify_m=float("nan"))


def test_a_style_alone_is_legend_enough(tmp_path):
    before, after = (plain(tmp_path / f"{name}.tif", codes, nodata=255) for name, codes in (("before", BEFORE), ("after", AFTER)))
    for path in (before, after):
        write_style(path, classes_qml(THREE))
    assert compare_maps(before, after, tmp_path / "out").transitions.changed_m2 == pytest.approx(200, rel=1e-3)
