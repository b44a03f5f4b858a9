"""Vector files: areas of interest and labels onto a grid, polygons into a GeoPackage."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pyogrio
import pyproj
import pytest
import rasterio
import shapely
from affine import Affine
from geopandas import GeoDataFrame
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.features import rasterize

from geoseg.errors import InputError, LabelError, OutputError
from geoseg.io.labels import read_labels, read_legend
from geoseg.io.vectors import burn_area, read_area, write_polygons
from geoseg.legend import Legend, LegendClass

LEGEND = Legend((LegendClass(0, 10, "water", "#0000ff"), LegendClass(1, 20, "wood", "#00ff00")))
GRID = GeoBox((20, 30), Affine(10, 0, 5e5, 0, -10, 5.7e6), "EPSG:32630")
HALF = shapely.box(5e5, 5.6998e6, 500150, 5.7e6)
"""The left half of GRID."""
REST = shapely.box(500150, 5.6998e6, 500300, 5.7e6)


def save(path: Path, shapes: list[Any], *, crs: str | None = "EPSG:32630", **columns: Any) -> Path:
    frame = GeoDataFrame(columns or {"id": range(len(shapes))}, geometry=shapes, crs=crs)
    pyogrio.write_dataframe(frame, path, **({"layer": "features"} if path.suffix == ".gpkg" else {}))
    return path


def geojson(path: Path, *polygons: list[tuple[float, float]]) -> Path:
    features = [{"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": [ring]}} for ring in polygons]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


# Areas of interest


@pytest.mark.parametrize("name", ["area.gpkg", "area.shp", "area.geojson", "area.fgb", "area.kml"])
def test_any_format_and_crs_burns_the_same_pixels(tmp_path: Path, name: str) -> None:
    frame = GeoDataFrame({"name": ["a"]}, geometry=[HALF.buffer(-3)], crs="EPSG:32630").to_crs(4326)
    pyogrio.write_dataframe(frame, tmp_path / name, driver=pyogrio.detect_write_driver(name) if name != "area.kml" else "KML")
    burned = burn_area(read_area(tmp_path / name, GRID.crs), GRID)
    np.testing.assert_array_equal(burned, np.tile(np.arange(30) < 15, (20, 1)))


def test_overlapping_and_bent_polygons_become_their_union(tmp_path: Path) -> None:
    bow_tie = shapely.Polygon([(0, 0), (10, 10), (10, 0), (0, 10)])
    area = read_area(save(tmp_path / "area.gpkg", [bow_tie, shapely.box(0, 0, 5, 10)]), "EPSG:32630")
    assert area.is_valid
    assert area.area == pytest.approx(75)


def test_a_straight_edge_in_degrees_is_not_straight_in_metres(tmp_path: Path) -> None:
    box = geojson(tmp_path / "area.geojson", [(0, 60), (20, 60), (20, 65), (0, 65), (0, 60)])
    area = read_area(box, "EPSG:32633")
    middle = pyproj.Transformer.from_crs(4326, 32633, always_xy=True).transform(10, 60.01)
    assert area.contains(shapely.Point(middle))
    below = pyproj.Transformer.from_crs(4326, 32633, always_xy=True).transform(10, 59.99)
    assert not area.contains(shapely.Point(below))


def test_a_continent_around_a_local_scene_is_everywhere(tmp_path: Path) -> None:
    world = geojson(tmp_path / "area.geojson", [(-180, -90), (180, -90), (180, 90), (-180, 90), (-180, -90)])
    assert burn_area(read_area(world, GRID.crs, near=GRID), GRID).all()


ANTIMERIDIAN = {
    "beyond 180": [[(179, -1), (181, -1), (181, 1), (179, 1), (179, -1)]],
    "leaping": [[(179, -1), (-179, -1), (-179, 1), (179, 1), (179, -1)]],
    "split": [[(179, -1), (180, -1), (180, 1), (179, 1), (179, -1)], [(-180, -1), (-179, -1), (-179, 1), (-180, 1), (-180, -1)]],
}


@pytest.mark.parametrize("rings", ANTIMERIDIAN.values(), ids=ANTIMERIDIAN)
@pytest.mark.parametrize(
    ("crs", "corner", "pixel"),
    [
        ("EPSG:4326", (178, 1), 0.1),
        ("EPSG:4326", (-182, 1), 0.1),
        ("EPSG:32601", (178, 1), 11132),
        ("EPSG:3857", (178, 1), 11132),
        ("EPSG:32660", (178, 1), 11132),
    ],
)
def test_areas_across_the_antimeridian_lie_where_they_belong(
    tmp_path: Path, rings: list[list[tuple[float, float]]], crs: str, corner: tuple[float, float], pixel: float
) -> None:
    x, y = corner if crs == "EPSG:4326" else pyproj.Transformer.from_crs(4326, crs, always_xy=True).transform(*corner)
    grid = GeoBox((20, 40), Affine(pixel, 0, x, 0, -pixel, y), crs)
    path = geojson(tmp_path / "area.geojson", *rings)
    col, row = np.meshgrid(np.arange(40) + 0.5, np.arange(20) + 0.5)
    lon, lat = pyproj.Transformer.from_crs(crs, 4326, always_xy=True).transform(x + pixel * col, y - pixel * row)
    expected = (np.abs((lon - 180 + 180) % 360 - 180) < 1) & (np.abs(lat) < 1)
    for area in (read_area(path, grid.crs), read_area(path, grid.crs, near=grid)):
        burned = burn_area(area, grid)
        assert (burned != expected).sum() <= (0 if crs == "EPSG:4326" else 20)  # 11132 m are not quite a tenth of a degree
        assert expected.sum() > 300


def test_an_area_far_away_says_how_far(tmp_path: Path) -> None:
    path = save(tmp_path / "area.gpkg", [shapely.box(5e5, 5.5e6, 6e5, 5.6e6)])
    with pytest.raises(InputError, match=r"area.gpkg does not touch the scene: it lies about 100 km away"):
        read_area(path, GRID.crs, near=GRID)
    assert not burn_area(read_area(path, GRID.crs), GRID).any()


def test_ground_to_leave_out_may_lie_elsewhere(tmp_path: Path) -> None:
    path = save(tmp_path / "area.gpkg", [shapely.box(5e5, 5.5e6, 6e5, 5.6e6)])
    area = read_area(path, GRID.crs, near=GRID, must_touch=False)
    assert area.is_empty
    assert not burn_area(area, GRID).any()


def test_a_line_left_over_by_a_bent_polygon_burns_nothing(tmp_path: Path) -> None:
    spike = shapely.Polygon([(500000, 5.7e6), (500100, 5.7e6), (500100, 5699900), (500300, 5699900), (500100, 5699900), (500000, 5699900)])
    assert not burn_area(read_area(save(tmp_path / "area.gpkg", [spike]), GRID.crs, near=GRID), GRID)[:, 10:].any()


def test_each_unusable_area_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "text.gpkg").write_text("not a file of polygons")
    (tmp_path / "nothing.geojson").write_text("")
    pyogrio.write_dataframe(GeoDataFrame({"id": [1]}, geometry=[HALF], crs=4326), tmp_path / "two.gpkg", layer="one")
    pyogrio.write_dataframe(GeoDataFrame({"id": [1]}, geometry=[HALF], crs=4326), tmp_path / "two.gpkg", layer="other", append=True)
    cases = {
        tmp_path / "missing.gpkg": "no such file",
        tmp_path / "text.gpkg": "not a vector file",
        tmp_path / "nothing.geojson": "not a vector file",
        geojson(tmp_path / "empty.geojson"): "is empty",
        save(tmp_path / "nowhere.shp", [HALF], crs=None): "states no CRS",
        save(tmp_path / "points.gpkg", [shapely.Point(5e5, 5.7e6)]): "holds Point but no polygons",
        tmp_path / "two.gpkg": "several layers: one, other",
        f"{tmp_path / 'two.gpkg'}|layername=third": "no layer 'third'",
    }
    for path, sentence in cases.items():
        with pytest.raises(InputError, match=sentence):
            read_area(path, GRID.crs)
    assert read_area(f"{tmp_path / 'two.gpkg'}|layername=other", "EPSG:4326").area > 0


# Labels


def burned_codes(path: Path, **options: Any) -> NDArray[np.integer]:
    indices, valid = read_labels(path, GRID, LEGEND, **options)
    return LEGEND.to_codes(indices, valid)


@pytest.mark.parametrize("values", [["water", "wood"], [10, 20], [10.0, 20.0], ["10", " 20 "]])
def test_classes_are_codes_or_names(tmp_path: Path, values: list[Any]) -> None:
    path = save(tmp_path / "labels.gpkg", [HALF, shapely.box(500200, 5.6998e6, 500300, 5.7e6)], **{"class": values})
    expected = np.repeat([10, 255, 20], [15, 5, 10])
    np.testing.assert_array_equal(burned_codes(path), np.tile(expected, (20, 1)))


def test_labels_in_degrees_cover_the_same_pixels_as_gdal_burns(tmp_path: Path) -> None:
    blobs = [shapely.Point(x, 5.6999e6).buffer(60) for x in (500060, 500110, 500230)]
    degrees = GeoDataFrame({"kind": ["water", "wood", "water"]}, geometry=blobs, crs="EPSG:32630").to_crs(4326)
    degrees.to_file(tmp_path / "labels.geojson")
    expected = rasterize(zip(blobs, (10, 20, 10), strict=True), GRID.shape, fill=255, transform=GRID.affine)
    np.testing.assert_array_equal(burned_codes(tmp_path / "labels.geojson", class_column="kind"), expected)


def test_features_without_a_class_are_no_labels(tmp_path: Path) -> None:
    path = save(tmp_path / "labels.gpkg", [HALF, REST], label=["wood", None])
    assert burned_codes(path)[0].tolist() == [20] * 15 + [255] * 15


def test_points_and_lines_label_the_pixels_they_pass(tmp_path: Path) -> None:
    line = shapely.LineString([(500005, 5699995), (500295, 5699995)])
    codes = burned_codes(save(tmp_path / "labels.gpkg", [line, shapely.Point(500005, 5699985)], label=["wood", "water"]))
    assert (codes[0] == 20).all()
    assert np.argwhere(codes == 10).tolist() == [[1, 0]]


def test_a_missing_class_column_lists_those_there_are(tmp_path: Path) -> None:
    path = save(tmp_path / "labels.gpkg", [HALF], area=[1.0], kind=["water"])
    with pytest.raises(LabelError, match=r"no class column 'klass' in .*labels.gpkg; it has area, kind"):
        read_labels(path, GRID, LEGEND, "klass")
    with pytest.raises(LabelError, match="it has area, kind"):
        read_labels(path, GRID, LEGEND)


def test_unknown_classes_are_listed(tmp_path: Path) -> None:
    path = save(tmp_path / "labels.gpkg", [HALF, HALF, HALF], label=["lava", "water", "cheese"])
    with pytest.raises(LabelError, match=r"not in the legend: cheese, lava in column 'label'; expected water \(10\), wood \(20\)"):
        read_labels(path, GRID, LEGEND)


def write_raster(path: Path, codes: NDArray[np.integer], *, transform: Affine = GRID.affine, nodata: int | None = 255) -> Path:
    profile = {"driver": "GTiff", "height": codes.shape[0], "width": codes.shape[1], "count": 1, "dtype": codes.dtype, "nodata": nodata}
    with rasterio.open(path, "w", **profile, crs="EPSG:32630", transform=transform) as file:
        file.write(codes, 1)
    return path


def test_a_label_raster_is_read_onto_the_grid(tmp_path: Path) -> None:
    codes = np.random.default_rng(0).choice(np.array([10, 20, 255], dtype=np.uint8), (20, 30))
    np.testing.assert_array_equal(burned_codes(write_raster(tmp_path / "labels.tif", codes)), codes)
    coarse = write_raster(tmp_path / "coarse.tif", codes[::2, ::2], transform=Affine(20, 0, 5e5, 0, -20, 5.7e6))
    np.testing.assert_array_equal(burned_codes(coarse), codes[::2, ::2].repeat(2, 0).repeat(2, 1))


def test_unknown_codes_of_a_label_raster_are_listed(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match=r"not in the legend: 3, 77; expected water \(10\)"):
        read_labels(write_raster(tmp_path / "labels.tif", np.tile(np.array([10, 77, 3], np.uint8), (20, 10))), GRID, LEGEND)


def test_labels_nowhere_near_the_scene_say_how_far(tmp_path: Path) -> None:
    away = save(tmp_path / "labels.gpkg", [shapely.box(5e5, 5.5e6, 5.1e5, 5.6e6)], label=["water"])
    raster = write_raster(tmp_path / "labels.tif", np.full((10, 10), 10, np.uint8), transform=Affine(10, 0, 5e5, 0, -10, 5.6e6))
    for path in (away, raster):
        with pytest.raises(LabelError, match="lie about 100 km away"):
            read_labels(path, GRID, LEGEND)


def test_missing_and_unreadable_labels_are_label_errors(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match="no such file"):
        read_labels(tmp_path / "labels.gpkg", GRID, LEGEND)
    with pytest.raises(LabelError, match="states no CRS"):
        read_labels(save(tmp_path / "labels.shp", [HALF], crs=None, label=["water"]), GRID, LEGEND)


def test_the_legend_comes_from_the_labels_where_none_is_given(tmp_path: Path) -> None:
    assert read_legend(save(tmp_path / "names.gpkg", [HALF, REST], label=["wood", "lake"])).names == ("lake", "wood")
    assert read_legend(save(tmp_path / "codes.gpkg", [HALF, REST], label=[30, 10])).codes == (10, 30)
    raster = read_legend(write_raster(tmp_path / "labels.tif", np.array([[254, 7], [3, 7]], dtype=np.uint8), nodata=None))
    assert (raster.codes, raster.nodata) == ((3, 7, 254), 255)


# Polygons out


def polygons() -> GeoDataFrame:
    columns = {
        "class_code": np.array([10, 20], np.int32),
        "class_name": ["wäter", "wood"],
        "area_m2": [3e4, 3e4],
        "mean_score": [0.5, np.nan],
    }
    return GeoDataFrame(columns, geometry=[HALF, REST], crs="EPSG:32630")


def test_a_geopackage_holds_what_was_given(tmp_path: Path) -> None:
    write_polygons(tmp_path / "map.gpkg", polygons())
    back = gpd.read_file(tmp_path / "map.gpkg", layer="polygons")
    assert back.crs.to_epsg() == 32630
    assert set(back.geom_type) == {"MultiPolygon"}
    assert back["class_name"].tolist() == ["wäter", "wood"]
    assert back["mean_score"].isna().tolist() == [False, True]
    assert back.geometry.geom_equals(polygons().geometry).all()
    with sqlite3.connect(tmp_path / "map.gpkg") as database:
        assert database.execute("PRAGMA user_version").fetchone() == (10300,)


def test_the_style_lies_inside_as_the_default(tmp_path: Path) -> None:
    write_polygons(tmp_path / "map.gpkg", polygons(), style_qml="<qgis>'\"é</qgis>")
    with sqlite3.connect(tmp_path / "map.gpkg") as database:
        row = database.execute("SELECT f_table_name, f_geometry_column, styleQML, useAsDefault FROM layer_styles").fetchone()
        kind = database.execute("SELECT data_type FROM gpkg_contents WHERE table_name = 'layer_styles'").fetchone()
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert database.execute("SELECT column_name FROM gpkg_geometry_columns WHERE table_name = ?", row[:1]).fetchone() == row[1:2]
    assert row[0] == "polygons"
    assert row[2:] == ("<qgis>'\"é</qgis>", 1)
    assert kind == ("attributes",)
    assert burn_area(read_area(tmp_path / "map.gpkg", GRID.crs), GRID).all()


def test_no_polygons_still_make_a_valid_layer(tmp_path: Path) -> None:
    write_polygons(tmp_path / "map.gpkg", polygons().iloc[:0], style_qml="<qgis/>")
    back = gpd.read_file(tmp_path / "map.gpkg", layer="polygons")
    assert len(back) == 0
    assert list(back.columns) == ["class_code", "class_name", "area_m2", "mean_score", "geometry"]
    assert pyogrio.read_info(tmp_path / "map.gpkg", layer="polygons")["geometry_type"] == "MultiPolygon"


def test_the_same_polygons_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "other"):
        write_polygons(tmp_path / name / "map.gpkg", polygons(), style_qml="<qgis/>")
    assert (tmp_path / "one" / "map.gpkg").read_bytes() == (tmp_path / "other" / "map.gpkg").read_bytes()


def test_a_compound_crs_comes_back(tmp_path: Path) -> None:
    write_polygons(tmp_path / "map.gpkg", polygons().set_crs("EPSG:32630+5773", allow_override=True))
    back = gpd.read_file(tmp_path / "map.gpkg", layer="polygons")
    assert pyproj.CRS(back.crs).equals(pyproj.CRS("EPSG:32630+5773"))


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_polygons(tmp_path / "map.gpkg", polygons())
    before = (tmp_path / "map.gpkg").read_bytes()

    def fail(*_: object, **__: object) -> None:
        raise pyogrio.errors.DataSourceError("disk I/O error")

    monkeypatch.setattr(pyogrio, "write_dataframe", fail)
    with pytest.raises(OutputError, match=r"map\.gpkg could not be written"):
        write_polygons(tmp_path / "map.gpkg", polygons())
    assert [path.name for path in tmp_path.iterdir()] == ["map.gpkg"]
    assert (tmp_path / "map.gpkg").read_bytes() == before
