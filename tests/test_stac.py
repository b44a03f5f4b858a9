"""Items that geoseg writes are valid STAC, and say where and from what a map was made."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import shapely
from odc.geo.geobox import GeoBox
from packages import CORINE, constant_package, ice_chart_package

from geoseg.io.stac import file_asset, footprint, prediction_item
from geoseg.legend import Legend
from geoseg.models.package import ModelPackage
from geoseg.preprocess.prepare import BandNeed, Channel, Preparation

SCHEMAS = Path(__file__).parent / "schemas"


def validate(item: dict[str, Any]) -> None:
    for address in item["stac_extensions"]:
        schema = json.loads((SCHEMAS / f"{address.split('/')[3]}.json").read_text())
        jsonschema.Draft7Validator(schema).validate(item)


def validate_core(item: dict[str, Any]) -> None:
    validation = pytest.importorskip("pystac.validation", reason="STAC's own schema comes with pystac")
    validation.JsonSchemaSTACValidator().validate_core(item, validation.STACObjectType.ITEM, "1.1.0")


def metadata(package: ModelPackage) -> dict[str, Any]:
    item: dict[str, Any] = json.loads((package.path / "model.json").read_text(encoding="utf-8"))
    return item


def geobox(bounds: tuple[float, float, float, float], crs: str = "EPSG:32630") -> GeoBox:
    return GeoBox.from_bbox(bounds, crs, shape=(30, 40))


def item_of_a_map(folder: Path, *, time: datetime | None = datetime(2021, 5, 4, 11, tzinfo=UTC)) -> dict[str, Any]:
    (folder / "wales_classes.tif").write_bytes(b"raster")
    classes = file_asset(
        folder / "wales_classes.tif", folder=folder, media_type="image/tiff", title="Classes", roles=["data"], classes=CORINE.classes
    )
    return prediction_item(
        "wales",
        geobox=geobox((300_000, 5_800_000, 300_400, 5_800_300)),
        time=time,
        created=datetime(2026, 1, 1, tzinfo=UTC),
        scene={
            "source": "w",
            "sensor": "sentinel-2-l2a",
            "product_id": "S2A",
            "processing_baseline": "05.00",
            "attribution": "Copernicus 2021",
        },
        model={"name": "water", "title": "Water", "licence": "MIT", "checksum": "ab", "figures": [{"name": "IoU", "value": 0.9}]},
        run={
            "command": ["geoseg", "predict", "w"],
            "settings": {"overlap": 64},
            "masked": ["cloud"],
            "summary": {"km2": {"water": 1.5}},
            "software": {"geoseg": "0.1"},
        },
        assets={"classes": classes},
    )


def test_items_of_packages_are_valid(tmp_path: Path) -> None:
    index = Preparation(
        bands=(BandNeed(role="green", unit="reflectance"), BandNeed(role="nir", unit="reflectance")),
        channels=(Channel(name="green", mean=0.1, std=0.05), Channel(name="NDWI", kind="index", std=0.3)),
    )
    dates = (datetime(2020, 1, 1, tzinfo=UTC), datetime(2020, 12, 31, tzinfo=UTC))
    packages = (
        constant_package(tmp_path / "a", ["red"], 0, 6, legend=CORINE),
        ice_chart_package(tmp_path / "b"),
        constant_package(tmp_path / "c", ["green", "nir"], 0, 2, preparation=index, trained_bbox=(1, 2, 3, 4), trained_dates=dates),
    )
    for package in packages:
        validate(metadata(package))
        validate_core(metadata(package))


@pytest.mark.parametrize("field", ["mlm:name", "mlm:architecture", "mlm:tasks", "mlm:input", "mlm:output", "bands"])
def test_package_item_without_a_required_field_is_not_valid(tmp_path: Path, field: str) -> None:
    item = metadata(constant_package(tmp_path / "model", ["red"], 0, 2))
    del item["properties"][field]
    with pytest.raises(jsonschema.ValidationError):
        validate(item)


def test_package_item_has_a_checksum_of_every_other_file(tmp_path: Path) -> None:
    package = constant_package(tmp_path / "model", ["red"], 0, 2)
    assets = metadata(package)["assets"]
    assert {path.name for path in package.path.iterdir()} == {"model.json", *assets}
    for name, asset in assets.items():
        data = (package.path / name).read_bytes()
        assert (asset["file:checksum"], asset["file:size"]) == ("1220" + hashlib.sha256(data).hexdigest(), len(data))


def test_package_item_holds_bands_scaling_and_classes_for_other_readers(tmp_path: Path) -> None:
    preparation = Preparation(bands=(BandNeed(role="red", unit="reflectance"),), channels=(Channel(name="red", mean=0.2, std=0.1),))
    legend = Legend.from_names(["été", "?"], ["#0000ff", "#00ff00"])
    properties = metadata(constant_package(tmp_path / "model", ["red"], 0, 2, preparation=preparation, legend=legend))["properties"]
    assert properties["bands"] == [{"name": "red", "unit": "reflectance"}]
    assert properties["mlm:input"][0]["value_scaling"] == [{"type": "z-score", "mean": 0.2, "stddev": 0.1}]
    classes = properties["mlm:output"][0]["classification:classes"]
    assert [(c["value"], c["name"], c["description"], c["color_hint"]) for c in classes] == [
        (0, "ete", "été", "0000FF"),
        (1, "class_1", "?", "00FF00"),
    ]


def test_item_of_a_map_is_valid_and_complete(tmp_path: Path) -> None:
    item = json.loads(json.dumps(item_of_a_map(tmp_path)))
    validate(item)
    validate_core(item)
    properties = item["properties"]
    assert properties["proj:code"] == "EPSG:32630"
    assert properties["proj:shape"] == [30, 40]
    assert properties["proj:transform"] == [10, 0, 300_000, 0, -10, 5_800_300]
    assert properties["datetime"] == "2021-05-04T11:00:00Z"
    assert properties["geoseg:scene"]["product_id"] == "S2A"
    assert properties["geoseg:run"]["masked"] == ["cloud"]
    assert properties["processing:lineage"] == "geoseg predict w"
    assert item["assets"]["classes"]["href"] == "./wales_classes.tif"
    assert item["assets"]["classes"]["file:checksum"] == "1220" + hashlib.sha256(b"raster").hexdigest()
    assert [c["value"] for c in item["assets"]["classes"]["classification:classes"]] == list(CORINE.codes)


def test_unknown_time_of_a_scene_is_said_and_not_invented(tmp_path: Path) -> None:
    item = item_of_a_map(tmp_path, time=None)
    validate_core(item)
    assert item["properties"]["geoseg:time_known"] is False
    assert item["properties"]["datetime"] == item["properties"]["created"]


def test_footprint_is_the_grid_outline_in_degrees() -> None:
    geometry, bbox = footprint(geobox((-4.0, 50.0, -3.0, 52.0), "EPSG:4326"))
    assert shapely.geometry.shape(geometry).equals(shapely.box(-4, 50, -3, 52))
    assert bbox == [-4, 50, -3, 52]


@pytest.mark.parametrize("crs", ["EPSG:32601", "EPSG:3832", "EPSG:4326"])
def test_footprint_across_the_antimeridian_is_cut_there(crs: str) -> None:
    bounds = {"EPSG:32601": (300_000, 7e6, 450_000, 7.1e6), "EPSG:3832": (3.2e6, 0, 3.6e6, 1e6), "EPSG:4326": (179, -20, 182, -18)}[crs]
    geometry, bbox = footprint(geobox(bounds, crs))
    shape = shapely.geometry.shape(geometry)
    assert shape.geom_type == "MultiPolygon"
    assert shape.is_valid
    west, _, east, _ = bbox
    assert 170 < west < 180
    assert -180 < east < -170
    assert all(np.ptp(np.array(part.exterior.coords)[:, 0]) < 10 for part in shape.geoms)


def test_footprint_around_a_pole_contains_it() -> None:
    geometry, bbox = footprint(geobox((-1e6, -1e6, 1e6, 1e6), "EPSG:3413"))
    shape = shapely.geometry.shape(geometry)
    assert shape.contains(shapely.points([[-170, 89], [0, 85], [10, 85], [170, 82]])).all()
    assert not shape.contains(shapely.Point(0, 70))
    assert (bbox[0], bbox[2], bbox[3]) == (-180, 180, 90)


def test_footprint_of_the_whole_world_is_the_world() -> None:
    geometry, bbox = footprint(geobox((-180, -90, 180, 90), "EPSG:4326"))
    assert shapely.geometry.shape(geometry).area == pytest.approx(360 * 180)
    assert bbox == [-180, -90, 180, 90]
