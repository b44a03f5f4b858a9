"""STAC Items as scenes: catalogues differ in how they name bands and what they say of numbers."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scene_files import stack, write

from geoseg.errors import SceneError
from geoseg.scene import quality_roles, read_scene
from geoseg.scenes.open_scene import open_scene


def item(folder, assets, *, collection="sentinel-2-l2a", **properties):
    """A STAC Item beside its rasters; assets is key → its description, to which a file is added."""
    for key, asset in assets.items():
        values = asset.pop("values", None)
        path = write(
            folder / f"{key}.tif", stack(asset.pop("count", 1), 1200, 4000) if values is None else values, photometric="minisblack"
        )
        assets[key] = {"href": f"./{path.name}", "type": "image/tiff; application=geotiff; profile=cloud-optimized", **asset}
    assets["thumbnail"] = {"href": "./thumbnail.jpg", "type": "image/jpeg", "roles": ["thumbnail"]}
    path = folder / "item.json"
    told = {"datetime": "2023-07-05T10:56:29.024Z", **properties}
    path.write_text(
        json.dumps(
            {"type": "Feature", "stac_version": "1.0.0", "id": "S2B_30TXN", "collection": collection, "properties": told, "assets": assets}
        )
    )
    return path


def earth_search(folder, *, applied=None, low=1200, baseline="05.09"):
    """As Earth Search writes Sentinel-2: keys are common names; the offset is always stated."""
    stated = {"raster:bands": [{"nodata": 0, "data_type": "uint16", "scale": 0.0001, "offset": -0.1}]}
    names = {"red": "red", "nir08": "nir08", "rededge2": "rededge"}
    assets = {k: {"eo:bands": [{"name": k, "common_name": v}], **stated, "values": stack(1, low, 4000)} for k, v in names.items()}
    assets["scl"] = {"values": np.full((1, 20, 20), 4, "uint8")}
    assets["visual"] = {"roles": ["visual"], "count": 3}
    assets["aot"] = {}
    flags = {} if applied is None else {"earthsearch:boa_offset_applied": applied}
    return item(folder, assets, **{"s2:processing_baseline": baseline}, **flags)


def test_bands_sensor_time_and_baseline_come_from_the_item(tmp_path):
    scene = open_scene(earth_search(tmp_path))
    assert (scene.sensor.name, scene.processing_baseline, scene.name) == ("sentinel-2-l2a", "05.09", "S2B_30TXN")
    assert scene.roles == ("red", "rededge075", "nir08", "quality")
    assert scene.layer("nir08").because.startswith("STAC 'nir08'")
    assert scene.time.isoformat() == "2023-07-05T10:56:29+00:00"
    assert quality_roles(scene) == ("quality",)


@pytest.mark.parametrize(("applied", "low", "offset"), [(None, 1200, -0.1), (False, 1200, -0.1), (True, 200, 0.0)])
def test_earth_search_says_in_a_flag_whether_the_offset_is_still_there(tmp_path, applied, low, offset):
    scene = open_scene(earth_search(tmp_path, applied=applied, low=low))
    assert (scene.layer("red").band.offset, scene.warnings) == (offset, ())


def test_a_wrong_flag_is_found_in_the_data(tmp_path):
    assert "about 1000 too high" in open_scene(earth_search(tmp_path, applied=True, low=1010)).warnings[0]


def test_where_only_the_baseline_is_stated_it_decides(tmp_path):
    assets = {name: {"eo:bands": [{"name": name}]} for name in ("B04", "B8A", "B11")}
    scene = open_scene(item(tmp_path, assets, **{"s2:processing_baseline": "04.00"}))
    assert {layer.band.offset for layer in scene.layers} == {-0.1}
    assert scene.roles == ("red", "nir08", "swir16")


def test_stac_1_1_bands_are_read(tmp_path):
    bands = [{"name": "sr", "eo:common_name": name} for name in ("blue", "green", "red", "nir")]
    asset = {"count": 4, "bands": bands, "raster:scale": 0.0001, "raster:offset": 0.0}
    scene = open_scene(item(tmp_path, {"stack": asset}, collection="naip"))
    assert {layer.band.role: layer.index for layer in scene.layers} == {"red": 3, "green": 2, "blue": 1, "nir": 4}
    assert {(layer.band.scale, layer.band.unit) for layer in scene.layers} == {(1e-4, "reflectance")}


def test_landsat_s_nir08_is_its_near_infrared(tmp_path):
    assets = {"red": {"eo:bands": [{"name": "OLI_B4", "common_name": "red"}]}, "nir08": {}, "lwir11": {}, "qa_pixel": {}, "qa_radsat": {}}
    properties = {"platform": "landsat-8", "landsat:correction": "L2SP"}
    scene = open_scene(item(tmp_path, assets, collection="landsat-c2-l2", **properties))
    assert (scene.sensor.name, scene.roles) == ("landsat-oli-c2-l2", ("red", "nir", "lwir11", "quality", "quality2"))
    assert scene.layer("nir").band.scale == 2.75e-5


def test_terrain_corrected_radar_of_planetary_computer_is_gamma0_in_linear_power(tmp_path):
    scene = open_scene(item(tmp_path, {"vv": {}, "vh": {}}, collection="sentinel-1-rtc"))
    assert {(layer.band.unit, layer.band.convention) for layer in scene.layers} == {("linear power", "gamma0_rtc")}


def test_an_item_at_an_address_finds_its_files_from_there(tmp_path):
    path = earth_search(tmp_path)
    scene = open_scene(path.as_uri())
    assert np.array_equal(*(read_scene(one, ["red"], scene.geobox()).values for one in (scene, open_scene(path))))


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "not valid JSON"), ('{"type": "FeatureCollection"}', "no STAC Item"), ("[1]", "no STAC Item")],
)
def test_json_that_is_no_item_is_one_sentence(tmp_path, text, message):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(SceneError, match=message):
        open_scene(tmp_path / "a.json")
    with pytest.raises(SceneError, match="no such file"):
        open_scene(tmp_path / "b.json")


def test_an_item_without_bands_of_the_sensor_lists_its_assets(tmp_path):
    with pytest.raises(SceneError, match="it has red, thumbnail"):
        open_scene(item(tmp_path, {"red": {}}), sensor="sentinel-1-rtc")
