"""The QGIS files as XML: portable, reproducible, with the legend's codes, names and colours. What QGIS makes of them: tests/qgis."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pyproj
import pytest
import rasterio
from odc.geo.crs import CRS
from rasterio import Affine

from geoseg.errors import OutputError
from geoseg.io.qgis import ProjectLayer, write_project, write_style
from geoseg.io.qgis_styles import classes_qml, outlines_qml, picture_qml, polygons_qml, ramp_qml
from geoseg.legend import Legend, LegendClass

NAME = 'Forêt <dense> & "haute"'
LEGEND = Legend((LegendClass(0, 10, "Bare", "#aabbcc", background=True), LegendClass(1, 523, NAME, "#102030")), nodata=65535)
UTM, EXTENT = CRS("EPSG:32630"), (500_000.0, 5_799_000.0, 501_000.0, 5_800_000.0)


def write_raster(path: Path, *, count: int = 1, transform: Affine | None = None, mask: bool = False, value: float = 7) -> Path:
    grid = {"width": 8, "height": 6, "crs": "EPSG:32630", "transform": transform or Affine(10, 0, 5e5, 0, -10, 5.8e6)}
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(path, "w", driver="GTiff", dtype="float32", count=count, **grid) as file,
    ):
        file.write(np.full((count, 6, 8), value, np.float32) * np.linspace(1, 2, 8, dtype=np.float32))
        if mask:
            file.write_mask(np.eye(6, 8, dtype=bool))
    return path


def read_project(path: Path) -> ET.Element:
    with zipfile.ZipFile(path) as archive:
        (name,) = archive.namelist()
        assert name.endswith(".qgs")
        return ET.fromstring(archive.read(name))


def write_simple(folder: Path, *, crs: CRS = UTM, **layer: object) -> ET.Element:
    raster = write_raster(folder / "scene_classes.tif")
    options = {"name": "Classes", "path": raster, "kind": "classes", "legend": LEGEND} | layer
    write_project(folder / "scene.qgz", [ProjectLayer(**options)], title="A map", crs=crs, extent=EXTENT)
    return read_project(folder / "scene.qgz")


def options_of(symbol: ET.Element) -> dict[str, str]:
    return {option.get("name", ""): option.get("value", "") for option in symbol.iter("Option")}


def test_class_style_holds_codes_names_and_colours_and_hides_the_background():
    entries = [entry.attrib for entry in ET.fromstring(classes_qml(LEGEND)).iter("paletteEntry")]
    assert entries == [
        {"value": "10", "label": "Bare", "color": "#aabbcc", "alpha": "0"},
        {"value": "523", "label": NAME, "color": "#102030", "alpha": "255"},
    ]


def test_polygon_style_fills_lightly_and_outlines_darker():
    style = ET.fromstring(polygons_qml(LEGEND, "code"))
    assert style.find("renderer-v2").get("attr") == "code"
    symbols = {symbol.get("name"): options_of(symbol) for symbol in style.iter("symbol")}
    fill = [int(part) for part in symbols["1"]["color"].split(",")]
    outline = [int(part) for part in symbols["1"]["outline_color"].split(",")]
    assert fill[:3] == [0x10, 0x20, 0x30]
    assert 0 < fill[3] < 255
    assert outline[3] == 255
    assert all(dark < light for dark, light in zip(outline[:3], fill[:3], strict=True))


def test_polygon_style_has_a_category_for_each_class_and_one_for_the_rest():
    categories = list(ET.fromstring(polygons_qml(LEGEND)).iter("category"))
    assert [(one.get("value"), one.get("label"), one.get("render")) for one in categories] == [
        ("10", "Bare", "false"),
        ("523", NAME, "true"),
        ("", "other values", "true"),
    ]


def test_ramp_runs_from_one_end_of_the_range_to_the_other():
    values = [float(item.get("value")) for item in ET.fromstring(ramp_qml(3, (-5, 35))).iter("item")]
    assert values == [-5, 5, 15, 25, 35]


def test_a_name_with_control_characters_stays_xml():
    legend = Legend((LegendClass(0, 1, "wet\x00 \x1bland\ud800", "#000000"),))
    assert ET.fromstring(classes_qml(legend)).find(".//paletteEntry").get("label") == "wet land"


@pytest.mark.parametrize("qml", [classes_qml(LEGEND), polygons_qml(LEGEND), ramp_qml(), picture_qml(4), outlines_qml()])
def test_a_style_is_one_qgis_document(qml):
    assert ET.fromstring(qml).tag == "qgis"


def test_style_stands_where_qgis_looks_for_it(tmp_path):
    style = write_style(tmp_path / "S2A.v2_classes.tif", classes_qml(LEGEND))
    assert style == tmp_path / "S2A.v2_classes.qml"
    assert NAME in [entry.get("label") for entry in ET.parse(style).iter("paletteEntry")]


def test_no_path_of_this_machine_is_in_a_project(tmp_path):
    project = write_simple(tmp_path)
    assert project.findtext(".//datasource") == "./scene_classes.tif"
    assert str(tmp_path) not in ET.tostring(project, encoding="unicode")


def test_layers_beside_and_above_the_project_are_found(tmp_path):
    (tmp_path / "projects").mkdir()
    (tmp_path / "data").mkdir()
    raster = write_raster(tmp_path / "data" / "a.tif")
    layer = ProjectLayer("A", raster, "scores")
    write_project(tmp_path / "projects" / "p.qgz", [layer], title="t", crs=UTM, extent=EXTENT)
    assert read_project(tmp_path / "projects" / "p.qgz").findtext(".//datasource") == "../data/a.tif"


def test_polygons_name_their_layer_in_the_geopackage(tmp_path):
    (tmp_path / "scene.gpkg").write_bytes(b"")
    project = write_simple(tmp_path, path=tmp_path / "scene.gpkg", kind="polygons", table="ice")
    assert project.findtext(".//datasource") == "./scene.gpkg|layername=ice"
    assert project.find(".//maplayer").get("type") == "vector"


def test_the_same_map_gives_the_same_bytes_elsewhere(tmp_path):
    (tmp_path / "a").mkdir()
    write_simple(tmp_path / "a")
    first = (tmp_path / "a" / "scene.qgz").read_bytes()
    shutil.move(tmp_path / "a", tmp_path / "b é")
    write_simple(tmp_path / "b é")
    assert (tmp_path / "b é" / "scene.qgz").read_bytes() == first


def test_layers_keep_their_order_inside_groups_and_unticked_ones_stay_so(tmp_path):
    raster = write_raster(tmp_path / "a.tif")
    given = [("1", "Map", True), ("2", "", True), ("3", "Map", False), ("4", "Scores", False)]
    layers = [ProjectLayer(name, raster, "scores", group=group, visible=visible) for name, group, visible in given]
    write_project(tmp_path / "p.qgz", layers, title="t", crs=UTM, extent=EXTENT)
    tree = read_project(tmp_path / "p.qgz").find("layer-tree-group")
    ticked = {layer.get("name"): layer.get("checked") == "Qt::Checked" for layer in tree.iter("layer-tree-layer")}
    assert [child.get("name") for child in tree] == ["Map", "2", "Scores"]
    assert list(ticked.items()) == [("1", True), ("3", False), ("2", True), ("4", False)]


def test_every_layer_has_an_id_of_its_own_also_where_two_show_one_file(tmp_path):
    raster = write_raster(tmp_path / "a.tif", count=2)
    layers = [ProjectLayer("same", raster, "scores", band=band) for band in (1, 2, 2)]
    write_project(tmp_path / "p.qgz", layers, title="t", crs=UTM, extent=EXTENT)
    project = read_project(tmp_path / "p.qgz")
    ids = [element.text for element in project.iterfind("projectlayers/maplayer/id")]
    assert len(set(ids)) == 3
    assert ids == [layer.get("id") for layer in project.iter("layer-tree-layer")]


@pytest.mark.parametrize(
    ("given", "authority", "geographic"),
    [
        ("EPSG:32630", "EPSG:32630", "false"),
        ("EPSG:4326", "EPSG:4326", "true"),
        ("EPSG:32630+5703", "EPSG:32630", "false"),
        ("ESRI:102003", "ESRI:102003", "false"),
        ("+proj=laea +lat_0=52 +lon_0=5 +ellps=GRS80", None, "false"),
    ],
)
def test_crs_is_told_by_wkt_and_named_where_it_has_a_code(tmp_path, given, authority, geographic):
    told = write_simple(tmp_path, crs=CRS(pyproj.CRS(given).to_wkt())).find("projectCrs/spatialrefsys")
    read = pyproj.CRS.from_wkt(told.findtext("wkt"))
    assert read == pyproj.CRS(given).to_2d()
    assert not read.is_compound
    assert (told.findtext("authid") or None, told.findtext("geographicflag")) == (authority, geographic)


@pytest.mark.parametrize(
    ("crs", "ellipsoid"),
    [("EPSG:3857", "EPSG:7030"), ("EPSG:27700", "EPSG:7001"), ("EPSG:31370", "EPSG:7022"), ("+proj=sinu +R=3396190", "EPSG:7030")],
)
def test_qgis_is_told_to_measure_on_the_ellipsoid(tmp_path, crs, ellipsoid):
    assert write_simple(tmp_path, crs=CRS(pyproj.CRS(crs).to_wkt())).findtext("properties/Measure/Ellipsoid") == ellipsoid


def test_project_opens_at_the_given_extent(tmp_path):
    extent = write_simple(tmp_path).find("mapcanvas/extent")
    assert tuple(float(extent.findtext(side)) for side in ("xmin", "ymin", "xmax", "ymax")) == EXTENT


@pytest.mark.parametrize(
    ("count", "mask", "transform", "alpha", "clear_black"),
    [
        (3, False, None, "-1", False),
        (3, True, None, "4", False),
        (3, True, Affine(10, 0, 5e5, 0, 10, 5.7e6), "-1", True),
        (3, True, Affine(10, 0, 5e5, 0, -10, 5.8e6) @ Affine.rotation(20), "-1", True),
        (4, False, None, "4", False),
    ],
)
def test_picture_is_transparent_where_its_file_says_so(tmp_path, count, mask, transform, alpha, clear_black):
    path = write_raster(tmp_path / "image.tif", count=count, mask=mask, transform=transform)
    if count == 4:
        with rasterio.open(path, "r+") as file:
            file.colorinterp = [rasterio.enums.ColorInterp[name] for name in ("red", "green", "blue", "alpha")]
    renderer = write_simple(tmp_path, path=path, kind="picture", legend=None).find(".//rasterrenderer")
    assert renderer.get("alphaBand") == alpha
    assert (renderer.find(".//pixelListEntry") is not None) == clear_black


def test_a_quantity_without_a_range_is_coloured_from_its_smallest_to_its_largest_value(tmp_path):
    path = write_raster(tmp_path / "depth.tif", value=20)
    renderer = write_simple(tmp_path, path=path, kind="quantity", legend=None).find(".//rasterrenderer")
    assert (float(renderer.get("classificationMin")), float(renderer.get("classificationMax"))) == (20, 40)


def test_a_layer_that_is_not_there_is_refused_and_nothing_is_written(tmp_path):
    layer = ProjectLayer("Imagery", tmp_path / "gone.tif", "picture")
    with pytest.raises(OutputError, match=r"Imagery.*gone\.tif"):
        write_project(tmp_path / "p.qgz", [layer], title="t", crs=UTM, extent=EXTENT)
    assert list(tmp_path.iterdir()) == []


def test_classes_without_a_legend_are_our_own_mistake(tmp_path):
    with pytest.raises(ValueError, match="needs a legend"):
        ProjectLayer("Classes", tmp_path / "a.tif", "classes")
