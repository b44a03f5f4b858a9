"""Polygons in formats of other tools: the same features, read by libraries that are not ours."""

from __future__ import annotations

import json
from pathlib import Path

import geopandas
import pytest
from command_line import refusal
from pyarrow import parquet

from geoseg.io import feature_copies
from geoseg.io.feature_copies import copy_features

PREDICT = ("predict", "scene.tif", "--sensor", "generic", "--model", "model", "-o", "out")


@pytest.fixture
def written(geoseg, place: Path) -> Path:
    assert geoseg(*PREDICT, "--vectors", "parquet,fgb").code == 0
    return place / "out"


@pytest.mark.parametrize("name", ["scene.parquet", "scene.fgb"])
def test_the_copy_holds_the_same_polygons(written, name):
    package = geopandas.read_file(written / "scene.gpkg", layer="polygons")
    copy = geopandas.read_parquet(written / name) if name.endswith("parquet") else geopandas.read_file(written / name)
    assert copy.crs == package.crs
    columns = [column for column in package.columns if column != "geometry"]
    order = ["class_code", "area_m2"]
    for one, other in zip(package.sort_values(order).itertuples(), copy.sort_values(order).itertuples(), strict=True):
        assert one.geometry.equals(other.geometry)
        assert [getattr(one, column) for column in columns] == [getattr(other, column) for column in columns]


def test_geoparquet_states_what_the_standard_asks_for(written):
    facts = json.loads(parquet.read_metadata(written / "scene.parquet").metadata[b"geo"])
    column = facts["columns"][facts["primary_column"]]
    assert (facts["version"], column["encoding"], column["geometry_types"]) == ("1.1.0", "WKB", ["MultiPolygon"])
    assert column["crs"]["id"] == {"authority": "EPSG", "code": 32632}
    frame = geopandas.read_parquet(written / "scene.parquet")
    assert column["bbox"] == pytest.approx(frame.total_bounds)
    west, south, _, north = frame.total_bounds
    near = geopandas.read_parquet(written / "scene.parquet", bbox=(west, south, west + 100, north))  # through the covering
    assert 0 < len(near) == (frame.bounds.minx <= west + 100).sum() < len(frame)


def test_the_item_lists_the_copies_with_their_media_types(written):
    assets = json.loads((written / "scene.json").read_text())["assets"]
    assert assets["classes_polygons_parquet"]["type"] == "application/vnd.apache.parquet"
    assert assets["classes_polygons_fgb"]["type"] == "application/vnd.flatgeobuf"


def test_batches_make_no_difference(written, monkeypatch, tmp_path):
    monkeypatch.setattr(feature_copies, "_BATCH", 1)
    for ending in feature_copies.FORMATS:
        copy_features(written / "scene.gpkg", tmp_path / f"again.{ending}")
    again, before = geopandas.read_parquet(tmp_path / "again.parquet"), geopandas.read_parquet(written / "scene.parquet")
    assert again.equals(before)
    assert len(geopandas.read_file(tmp_path / "again.fgb")) == len(before)


@pytest.mark.parametrize(
    ("words", "said"), [(("--vectors", "shp"), "expected some of parquet"), (("--vectors", "fgb", "--no-polygons"), "leave one out")]
)
def test_what_cannot_be_written_is_refused(geoseg, place, words, said):
    assert said in refusal(geoseg, place, *PREDICT, *words)
