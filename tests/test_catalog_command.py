"""`geoseg data`, and the catalogue as JSON schema and as STAC Collections."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import jsonschema
import pytest
from command_line import refusal

from geoseg.scenes.catalog import Catalog, CatalogFile
from geoseg.settings import read_yaml

ROOT = Path(__file__).parents[1]
SCHEMA = ROOT / "docs" / "data-catalog.schema.json"


def test_schema_is_that_of_the_model() -> None:
    assert json.loads(SCHEMA.read_text(encoding="utf-8")) == CatalogFile.model_json_schema()


def test_own_catalogue_fits_the_schema_and_a_misspelt_key_does_not() -> None:
    schema, whole = json.loads(SCHEMA.read_text(encoding="utf-8")), read_yaml(ROOT / "data_catalog.yaml")
    jsonschema.validate(whole, schema)
    whole["datasets"]["loveda"]["licens"] = "MIT"
    with pytest.raises(jsonschema.ValidationError, match="'licens' was unexpected"):
        jsonschema.validate(whole, schema)


def test_every_legend_of_the_catalogue_is_one() -> None:
    legends = {name: dataset.legend for name, dataset in Catalog.open().datasets.items() if dataset.classes}
    assert {"esa_worldcover", "aras400k", "loveda"} <= set(legends)
    assert legends["esa_worldcover"].colour_table()[80] == (0, 0x64, 0xC8, 255)


def test_fetch_shows_the_terms_before_anything_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, geoseg) -> None:
    monkeypatch.setenv("GEOSEG_DATA", str(tmp_path / "data"))
    ran = geoseg("data", "fetch", "isprs_potsdam")
    first, last = ran.err.strip().splitlines()[0], ran.err.strip().splitlines()[-1]
    assert ran.code == 2
    assert "other (Given by ISPRS under terms of its own" in first
    assert "ask ISPRS for the data" in last
    assert not (tmp_path / "data").exists()


def test_every_entry_is_a_valid_stac_collection(geoseg) -> None:
    pystac = pytest.importorskip("pystac")
    for name in Catalog.open().datasets:
        facts = json.loads(geoseg("data", "info", name, "--stac").out)
        assert pystac.Collection.from_dict(facts).license == facts["license"]
        facts["stac_extensions"] = []  # their schemas lie elsewhere; the core's come with pystac
        pystac.Collection.from_dict(facts).validate()


def test_info_tells_licence_classes_and_scenes(geoseg) -> None:
    told = geoseg("data", "info", "sen1floods11_spain").out
    assert all(word in told for word in ("other", "states no licence", "0 not water, 1 water", "sentinel2, sentinel1"))


def test_verify_compares_what_lies_in_a_folder(tmp_path: Path, shared_data, geoseg) -> None:
    folder = tmp_path / "chip"
    shutil.copytree(shared_data("s1s2_flood_spain"), folder)
    assert "3 files are as they should be" in geoseg("data", "verify", "sen1floods11_spain", "--in", folder).out
    (folder / "Spain_7370579_S1Hand.tif").write_bytes(b"other")
    assert "Spain_7370579_S1Hand.tif has the checksum" in refusal(geoseg, tmp_path, "data", "verify", "sen1floods11_spain", "--in", folder)
    assert "did you mean 'sen1floods11_spain'" in refusal(geoseg, tmp_path, "data", "info", "sen1floods11_spian")
