"""What a map says of parcels: a brute-force oracle, what must stay untouched, and parcels that are odd, small or elsewhere."""

from __future__ import annotations

import csv
import json
import sqlite3

import geopandas
import numpy as np
import packages
import pyarrow as pa
import pytest
import rasterio
import shapely
from affine import Affine
from class_map_files import LAND_WATER, THREE, UTM, class_map, plain, polygons, random_codes
from shapely.geometry import MultiPolygon, Point, Polygon, box

from geoseg.io.class_maps import open_class_map
from geoseg.io.feature_tables import read_table
from geoseg.maps.zones import open_zones, write_zones, zone_columns

pytest.importorskip("exactextract", reason="the extra zones brings it")


def columns(map_path, zones_path, **options):
    classes = open_class_map(map_path)
    found = zone_columns(open_zones(zones_path, classes.geobox), classes, **options)
    return {name: column.to_pylist() for name, column in found.items()}


def pixel_boxes(shape, transform=UTM):
    """(row, col) the pixels as polygons."""
    rows, cols = np.mgrid[: shape[0], : shape[1]]
    corners = [np.stack(transform * (cols + x, rows + y), axis=-1) for x, y in ((0, 0), (1, 0), (1, 1), (0, 1))]
    return shapely.polygons(np.stack(corners, axis=2))


def brute_force(zone, codes, legend, transform=UTM):
    """Shares of the classes by intersecting the zone with every pixel."""
    covered = shapely.area(shapely.intersection(pixel_boxes(codes.shape, transform), zone))
    by_class = np.array([covered[codes == code].sum() for code in legend.codes])
    return by_class / by_class.sum(), by_class.sum() / covered.sum(), covered.sum() / abs(transform.determinant)


def blobs(count, seed=0, shape=(40, 50)):
    """Crooked polygons inside a map of that shape."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        angles = np.sort(rng.random(9)) * 2 * np.pi
        radius, row, col = rng.uniform(15, 80, 9), rng.uniform(9, shape[0] - 9), rng.uniform(9, shape[1] - 9)
        x, y = UTM * (col, row)
        made.append(shapely.make_valid(Polygon(np.column_stack([x + radius * np.cos(angles), y + radius * np.sin(angles)]))))
    return [one for one in made if one.geom_type in ("Polygon", "MultiPolygon")]


# The oracle and the laws


def test_shares_are_those_of_brute_force(tmp_path):
    codes, zones = random_codes(1), blobs(12)
    found = columns(class_map(tmp_path / "map.tif", codes), polygons(tmp_path / "zones.gpkg", zones))
    for at, zone in enumerate(zones):
        shares, observed, inside = brute_force(zone, codes, THREE)
        assert [found[f"share_{name}"][at] for name in THREE.names] == pytest.approx(shares, abs=1e-5)
        assert found["observed_share"][at] == pytest.approx(observed, abs=1e-5)
        assert found["pixels_inside"][at] == pytest.approx(inside, abs=1e-4)
        assert found["map_code"][at] == shares.argmax()


def test_the_shares_of_a_zone_add_up_to_one(tmp_path):
    found = columns(class_map(tmp_path / "map.tif", random_codes(2)), polygons(tmp_path / "zones.gpkg", blobs(30, seed=1)))
    sums = np.sum([found[f"share_{name}"] for name in THREE.names], axis=0)
    assert sums == pytest.approx(np.ones(len(sums)))


@pytest.mark.parametrize("transform", [UTM @ Affine.rotation(30), UTM @ Affine.scale(1, -1)], ids=["turned", "south up"])
def test_turned_maps_are_counted_alike(tmp_path, transform):
    codes = random_codes(3)
    zone = Polygon([transform * corner for corner in ((5.5, 5.25), (20, 7), (18.5, 30), (4, 22))])
    found = columns(class_map(tmp_path / "map.tif", codes, transform=transform), polygons(tmp_path / "zones.gpkg", [zone]))
    shares, observed, _ = brute_force(zone, codes, THREE, transform)
    assert [found[f"share_{name}"][0] for name in THREE.names] == pytest.approx(shares, abs=1e-5)
    assert found["observed_share"][0] == pytest.approx(observed, abs=1e-5)


def test_a_zone_of_exactly_one_pixel_is_that_pixel(tmp_path):
    codes = random_codes(4, share_missing=0)
    zones = pixel_boxes((40, 50))[7:9, 11:13].ravel()
    found = columns(class_map(tmp_path / "map.tif", codes), polygons(tmp_path / "zones.gpkg", zones))
    assert found["map_code"] == codes[7:9, 11:13].ravel().tolist()
    assert found["pixels_inside"] == pytest.approx([1, 1, 1, 1])
    assert found["whole_pixels"] == [1, 1, 1, 1]


def test_a_tie_goes_to_the_lower_code(tmp_path):
    path = class_map(tmp_path / "map.tif", [[2, 1], [1, 2]])
    assert columns(path, polygons(tmp_path / "zones.gpkg", [box(500_000, 4_999_980, 500_020, 5_000_000)]))["map_class"] == ["water"]


def test_unobserved_ground_has_no_vote(tmp_path):
    path = class_map(tmp_path / "map.tif", [[255, 255], [255, 1]])
    found = columns(path, polygons(tmp_path / "zones.gpkg", [box(500_000, 4_999_980, 500_020, 5_000_000)]))
    assert (found["map_class"], found["share_water"], found["observed_share"]) == (["water"], [1.0], [0.25])


def test_zones_larger_than_a_block_are_counted_whole(tmp_path, monkeypatch):
    codes = random_codes(5, (90, 80))
    path, zones = (
        class_map(tmp_path / "map.tif", codes),
        polygons(tmp_path / "zones.gpkg", [*blobs(20, shape=(90, 80)), Point(UTM * (40, 45)).buffer(390)]),
    )
    whole = columns(path, zones)
    monkeypatch.setattr("geoseg.maps.zone_pixels._BLOCK", 16)
    monkeypatch.setattr("geoseg.maps.zone_pixels._KEPT_BLOCKS", 2)
    monkeypatch.setattr("geoseg.maps.zone_pixels._CELLS_AT_ONCE", 100)
    for name, column in columns(path, zones).items():
        assert column == (pytest.approx(whole[name], abs=1e-5) if "share" in name or name == "pixels_inside" else whole[name])


def test_the_score_is_that_of_the_majority_over_what_is_observed(tmp_path):
    path = class_map(tmp_path / "map.tif", [[0, 1, 1, 255]], LAND_WATER)
    scores = np.array([[[200, 50, 100, 255]], [[50, 200, 150, 255]]], np.uint8)
    shape = {"count": 2, "height": 1, "width": 4, "dtype": "uint8", "nodata": 255, "crs": "EPSG:32632", "transform": UTM}
    with rasterio.open(tmp_path / "scores.tif", "w", driver="GTiff", **shape) as file:
        file.write(scores)
        file.scales = (1 / 250, 1 / 250)
    zones = polygons(tmp_path / "zones.gpkg", [box(500_000, 4_999_990, 500_040, 5_000_000)])
    found = columns(path, zones, scores=tmp_path / "scores.tif")
    assert found["map_class"] == ["water"]
    assert found["map_score"] == pytest.approx([(50 + 200 + 150) / 3 / 250])


# What is odd, small or elsewhere


def test_every_feature_keeps_its_row(tmp_path):
    good = box(500_000, 4_999_900, 500_100, 5_000_000)
    bow_tie = Polygon([(500_000, 5_000_000), (500_100, 4_999_900), (500_100, 5_000_000), (500_000, 4_999_900)])
    ring = good.difference(good.buffer(-20))
    shapes = [
        good,
        None,
        bow_tie,
        ring,
        MultiPolygon([box(500_000, 4_999_990, 500_010, 5_000_000), good.buffer(-30)]),
        Point(500_050, 4_999_950),
    ]
    shapes += [
        box(600_000, 4_999_900, 600_100, 5_000_000),
        box(500_400, 4_999_900, 500_600, 5_000_000),
        box(500_012, 4_999_912, 500_030, 4_999_930),
    ]
    codes = np.zeros((40, 50), np.uint8)
    found = columns(class_map(tmp_path / "map.tif", codes), polygons(tmp_path / "zones.gpkg", shapes))
    small = "small: fewer than 9 whole pixels"
    assert found["map_note"] == [None, "no polygon", None, None, None, "no polygon", "outside the map", "reaches beyond the map", small]
    assert [code is None for code in found["map_code"]] == [False, True, False, False, False, True, True, False, False]
    assert found["pixels_inside"][2:5] == pytest.approx([50, 64, 17], abs=1e-4)
    assert found["observed_share"][7] == pytest.approx(0.5, abs=1e-3)


def test_a_zone_under_cloud_says_so(tmp_path):
    path = class_map(tmp_path / "map.tif", np.full((40, 50), 255))
    found = columns(path, polygons(tmp_path / "zones.gpkg", [box(500_000, 4_999_900, 500_100, 5_000_000)]))
    assert (found["map_note"], found["map_class"], found["observed_share"]) == (["not observed"], [None], [0.0])


def test_geometry_attributes_and_ids_come_back_untouched(tmp_path):
    path = class_map(tmp_path / "map.tif", random_codes(6))
    shapes = [shapely.force_3d(box(9.0005 + 0.001 * k, 45.1515, 9.0012 + 0.001 * k, 45.152), 12.5) for k in range(4)]
    given = polygons(
        tmp_path / "parcels.gpkg", shapes, crs="EPSG:4326", crop=["oat", None, "rye", "oat"], map_code=[9, 8, 7, 6], n=[1.5, 2, 3, None]
    )
    with sqlite3.connect(given) as database:  # as a layer from which parcels were deleted
        for trigger in [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")]:
            database.execute(f'DROP TRIGGER "{trigger}"')
        database.execute("UPDATE parcels SET fid = fid * 10 + 3")
    classes = open_class_map(path)
    write_zones(tmp_path / "out.gpkg", open_zones(given, classes.geobox), classes)
    before, after = read_table(given), read_table(tmp_path / "out.gpkg")
    assert after.ids.tolist() == before.ids.tolist() == [13, 23, 33, 43]
    assert after.wkb.to_pylist() == before.wkb.to_pylist()
    assert after.crs == before.crs == "EPSG:4326"
    assert after.attributes.select(before.attributes.column_names).equals(before.attributes)
    assert "map_code_2" in after.attributes.column_names
    assert after.attributes["map_code_2"].type == pa.int32()


def test_zones_in_degrees_fall_on_the_same_pixels(tmp_path):
    codes, zones = random_codes(7), blobs(8, seed=2)
    path, utm = class_map(tmp_path / "map.tif", codes), polygons(tmp_path / "utm.gpkg", zones)
    degrees = polygons(tmp_path / "degrees.geojson", geopandas.GeoSeries(zones, crs="EPSG:32632").to_crs("EPSG:4326"), crs="EPSG:4326")
    first, second = columns(path, utm), columns(path, degrees)
    for name in THREE.names:
        assert second[f"share_{name}"] == pytest.approx(first[f"share_{name}"], abs=1e-4)


def test_shapefiles_of_single_and_multipolygons_become_one_type(tmp_path):
    path = class_map(tmp_path / "map.tif", random_codes(8))
    given = polygons(
        tmp_path / "parcels.shp",
        [blobs(1)[0], MultiPolygon([box(500_000, 4_999_990, 500_010, 5_000_000), box(500_100, 4_999_800, 500_200, 4_999_900)])],
    )
    classes = open_class_map(path)
    write_zones(tmp_path / "out.gpkg", open_zones(given, classes.geobox), classes)
    assert set(geopandas.read_file(tmp_path / "out.gpkg", layer="zones").geom_type) == {"MultiPolygon"}


# Through the command line


def test_the_command_writes_a_table_without_geometries(geoseg, tmp_path):
    class_map(tmp_path / "map.tif", random_codes(9))
    polygons(tmp_path / "parcels.gpkg", blobs(3, seed=4), owner=["Ä", "B", "C"])
    ran = geoseg("zones", "map.tif", "parcels.gpkg", "-o", "table.csv", "--json")
    assert ran.code == 0, ran.err
    assert json.loads(ran.out)["summary"]["zones"] == 3
    rows = list(csv.DictReader((tmp_path / "table.csv").read_text(encoding="utf-8-sig").splitlines()))
    assert [row["owner"] for row in rows] == ["Ä", "B", "C"]
    assert all(row["map_class"] in THREE.names for row in rows)
    assert "geom" not in rows[0]


def test_a_gap_in_the_command_is_refused_before_it_is_filled(geoseg, tmp_path):
    (tmp_path / "table.csv").write_text("mine")
    class_map(tmp_path / "map.tif", random_codes(9))
    polygons(tmp_path / "parcels.gpkg", blobs(3))
    assert "--overwrite" in geoseg("zones", "map.tif", "parcels.gpkg", "-o", "table.csv").sentence
    assert (tmp_path / "table.csv").read_text() == "mine"


def test_predict_adds_the_parcels_of_its_own_map(geoseg, place):
    packages.threshold_package(place / "halves", ("red",), 100)
    polygons(
        place / "parcels.gpkg", [box(500_000, 4_999_700, 500_300, 5_000_000), box(500_300, 4_999_400, 500_600, 4_999_700)], field=["a", "b"]
    )
    ran = geoseg("predict", "scene.tif", "--model", "halves", "-o", "out", "--zones", "parcels.gpkg")
    assert ran.code == 0, ran.err
    table = geopandas.read_file(place / "out" / "scene_zones.gpkg", layer="zones")
    with rasterio.open(place / "scene.tif") as file:
        above = file.read(1)[:30, :30] > 100
    assert table.field.tolist() == ["a", "b"]
    assert table.share_class_1[0] == pytest.approx(above.mean(), abs=1e-5)
    assert table.map_score[0] == pytest.approx(max(above.mean(), 1 - above.mean()), abs=1e-5)
    item = json.loads((place / "out" / "scene.json").read_text())
    assert "classes_zones" in item["assets"]
    again = geoseg("predict", "--again", "out/scene.json", "-o", "twice")
    assert again.code == 0, again.err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["map.tif", "gone.gpkg", "-o", "t.csv"], "no such file: gone.gpkg"),
        (["map.tif", "points.gpkg", "-o", "t.csv"], "holds Point but no polygons"),
        (["map.tif", "far.gpkg", "-o", "t.csv"], "does not touch the map: it lies about"),
        (["map.tif", "parcels.gpkg", "-o", "t.xlsx"], ".gpkg or .csv"),
        (["bare.tif", "parcels.gpkg", "-o", "t.csv"], "--legend"),
        (["map.tif", "parcels.gpkg", "-o", "t.csv", "--scores", "bare.tif"], "expected scores"),
    ],
)
def test_bad_input_is_one_sentence(geoseg, tmp_path, words, told):
    class_map(tmp_path / "map.tif", random_codes(9))
    plain(tmp_path / "bare.tif", random_codes(9))
    polygons(tmp_path / "parcels.gpkg", blobs(2))
    polygons(tmp_path / "points.gpkg", [Point(500_050, 4_999_950)])
    polygons(tmp_path / "far.gpkg", [box(700_000, 4_999_900, 700_100, 5_000_000)])
    ran = geoseg("zones", *words)
    assert ran.code == 2, ran.err
    assert told in ran.sentence
    assert not (tmp_path / words[-1]).exists() or words[-1] == "bare.tif"


def test_predict_refuses_distant_parcels_before_it_maps(geoseg, place):
    polygons(place / "far.gpkg", [box(700_000, 4_999_900, 700_100, 5_000_000)])
    ran = geoseg("predict", "scene.tif", "--model", "model", "--zones", "far.gpkg", "-o", "out")
    assert ran.code == 2
    assert "does not touch the map" in ran.sentence
    assert not (place / "out").exists()
