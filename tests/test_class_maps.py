"""Class maps from geoseg and from elsewhere: their legends, their numbers, and what is no class map."""

from __future__ import annotations

import json

import numpy as np
import pytest
import rasterio
from class_map_files import LAND_WATER, THREE, UTM, class_map, plain

from geoseg.errors import LabelError
from geoseg.io.categories import write_categories
from geoseg.io.class_maps import NOT_OBSERVED, UNNAMED, open_class_map, read_class_indices
from geoseg.io.qgis import write_style
from geoseg.io.qgis_styles import classes_qml

CODES = np.array([[0, 1, 2], [2, 1, 255]], np.uint8)


def named(path):
    return {one.code: one.name for one in open_class_map(path).legend.classes}


def test_a_map_of_our_own_comes_back_with_its_legend(tmp_path):
    assert open_class_map(class_map(tmp_path / "map.tif", CODES)).legend == THREE


@pytest.mark.parametrize("source", ["tag", "attribute table", "categories", "style", "exact ramp", "arcgis"])
def test_names_are_found_wherever_programs_keep_them(tmp_path, source):
    path = plain(tmp_path / "map.tif", CODES, nodata=255)
    if source == "tag":
        with rasterio.open(path, "r+") as file:
            file.update_tags(CLASS_NAMES=json.dumps({"0": "land", "1": "water", "2": "forest"}))
    elif source == "style":
        write_style(path, classes_qml(THREE))
    elif source == "exact ramp":
        items = "".join(f'<item value="{one.code}" label="{one.name}" color="{one.colour}" alpha="255"/>' for one in THREE.classes)
        path.with_suffix(".qml").write_text(f'<qgis><colorrampshader colorRampType="EXACT">{items}</colorrampshader></qgis>')
    elif source == "arcgis":
        pyogrio = pytest.importorskip("pyogrio")
        import pandas

        frame = pandas.DataFrame({"Value": [0, 1, 2], "Count": [1, 2, 2], "Class_Name": ["land", "water", "forest"]})
        pyogrio.write_dataframe(frame, tmp_path / "table.dbf", driver="ESRI Shapefile")
        (tmp_path / "table.dbf").rename(tmp_path / "map.tif.vat.dbf")
    else:
        side = write_categories(path, THREE)
        part = "GDALRasterAttributeTable" if source == "categories" else "CategoryNames"
        text = side.read_text(encoding="utf-8")
        begin, end = text.index(f"<{part}"), text.index(f"</{part}>") + len(part) + 3
        side.write_text(text[:begin] + text[end:], encoding="utf-8")
    assert named(path) == {0: "land", 1: "water", 2: "forest"}


def test_colours_come_with_the_names(tmp_path):
    path = plain(tmp_path / "map.tif", CODES, nodata=255)
    write_style(path, classes_qml(THREE))
    assert open_class_map(path).legend.classes[1].colour == THREE.classes[1].colour


@pytest.mark.parametrize("name", ["legend.json", "turned.json", "list.json", "legend.csv", "excel.csv", "legend.qml", "other.tif"])
def test_a_map_without_names_takes_them_from_elsewhere(tmp_path, name):
    path, legend = plain(tmp_path / "map.tif", CODES, nodata=255), tmp_path / name
    rows = [{"value": one.code, "label": one.name, "color": one.colour} for one in THREE.classes]
    texts = {
        "legend.json": json.dumps({"0": "land", "1": "water", "2": "forest"}),
        "turned.json": json.dumps({"land": 0, "water": 1, "forest": 2}),
        "list.json": json.dumps({"classes": rows}),
        "legend.csv": "code,name\n0,land\n1,water\n2,forest\n",
        "excel.csv": "\ufeffValue;Class_Name\r\n0;land\r\n1;water\r\n2;forest\r\n",
        "legend.qml": classes_qml(THREE),
    }
    if name == "other.tif":
        class_map(legend, CODES)
    else:
        legend.write_text(texts[name], encoding="utf-8")
    assert open_class_map(path, legend=legend).legend.names == ("land", "water", "forest")


def test_what_the_file_says_itself_stays_and_the_rest_is_added(tmp_path):
    path = class_map(tmp_path / "map.tif", [[0, 1, 7]], LAND_WATER)
    (tmp_path / "legend.csv").write_text("code,name\n1,sea\n7,reed\n")
    assert open_class_map(path, legend=tmp_path / "legend.csv").legend.names == ("land", "water", "reed")


@pytest.mark.parametrize(
    ("dtype", "nodata"), [("uint8", None), ("int16", -9999), ("int32", -2147483648), ("float32", -9999.0), ("float64", float("nan"))]
)
def test_numbers_are_codes_however_they_are_stored(tmp_path, dtype, nodata):
    values = CODES.astype(dtype)
    values[CODES == 255] = 255 if nodata is None else nodata
    path = plain(tmp_path / "map.tif", values, nodata=nodata)
    write_style(path, classes_qml(THREE))
    found = open_class_map(path)
    missing = UNNAMED if nodata is None else NOT_OBSERVED
    assert read_class_indices(found, found.geobox).tolist() == [[0, 1, 2], [2, 1, missing]]


def test_a_class_called_no_data_is_not_observed(tmp_path):
    path = plain(tmp_path / "map.tif", CODES)
    with rasterio.open(path, "r+") as file:
        file.update_tags(CLASS_NAMES=json.dumps({"0": "No data", "1": "water", "2": "forest", "255": "cloud"}))
    found = open_class_map(path)
    assert read_class_indices(found, found.geobox)[0].tolist() == [NOT_OBSERVED, 1, 2]


def test_beyond_the_map_nothing_is_observed(tmp_path):
    found = open_class_map(class_map(tmp_path / "map.tif", CODES))
    wider = found.geobox.pad(1)
    indices = read_class_indices(found, wider)
    assert (indices[0] == NOT_OBSERVED).all()
    assert indices[1:-1, 1:-1].tolist() == [[0, 1, 2], [2, 1, NOT_OBSERVED]]


def test_a_map_with_an_alpha_band_is_still_a_map(tmp_path):
    shape = {"count": 2, "height": 2, "width": 3, "dtype": "uint8", "crs": "EPSG:32632", "transform": UTM}
    with rasterio.open(tmp_path / "alpha.tif", "w", driver="GTiff", alpha="YES", **shape) as file:
        file.write(np.stack([CODES, np.array([[255, 255, 0], [255, 255, 0]], np.uint8)]))
        file.update_tags(CLASS_NAMES='{"0": "land", "1": "water", "2": "forest"}')
    found = open_class_map(tmp_path / "alpha.tif")
    assert read_class_indices(found, found.geobox)[0].tolist() == [0, 1, NOT_OBSERVED]


def test_a_file_without_names_says_how_to_give_them(tmp_path):
    with pytest.raises(LabelError, match="--legend"):
        open_class_map(plain(tmp_path / "map.tif", CODES))


def test_pictures_and_measurements_are_no_class_maps(tmp_path):
    path = plain(tmp_path / "slope.tif", np.array([[0.37, 1.5]], np.float32))
    (tmp_path / "legend.csv").write_text("code,name\n1,water\n")
    with pytest.raises(LabelError, match=r"0\.37"):
        open_class_map(path, legend=tmp_path / "legend.csv")
    shape = {"count": 3, "height": 2, "width": 3, "dtype": "uint8", "crs": "EPSG:32632", "transform": UTM}
    with rasterio.open(tmp_path / "rgb.tif", "w", driver="GTiff", **shape) as file:
        file.write(np.zeros((3, 2, 3), np.uint8))
    with pytest.raises(LabelError, match="rendered picture"):
        open_class_map(tmp_path / "rgb.tif")


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("gone.csv", None, "no such file"),
        ("wrong.csv", "colour,weight\n1,2\n", "columns colour, weight"),
        ("wrong.json", "{", "no legend that geoseg can read"),
        ("empty.json", "{}", "names no classes"),
        ("negative.csv", "code,name\n-3,water\n", "-3"),
    ],
)
def test_a_bad_legend_is_one_sentence(tmp_path, name, text, told):
    path = plain(tmp_path / "map.tif", CODES)
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(LabelError, match=told):
        open_class_map(path, legend=tmp_path / name)
