"""What works here, said; what does not, too."""

from __future__ import annotations

import json

import numpy as np
import packages
import pytest


def test_all_that_is_needed_works_and_a_map_is_made(geoseg, tmp_path, monkeypatch) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    ran = geoseg("doctor")
    assert (ran.code, ran.out.splitlines()[-1]) == (0, "All that geoseg needs works."), ran.out
    assert "pixels as they should be" in ran.out
    assert not list(empty.iterdir())


def test_machines_read_the_same(geoseg) -> None:
    told = json.loads(geoseg("doctor", "--json").out)
    assert told["summary"]["broken"] == []
    states = {one["name"]: one["state"] for one in told["summary"]["findings"]}
    assert states["onnx"] == states["PROJ"] == states["GTiff"] == states["a small map"] == "works"


def test_a_model_that_maps_wrongly_is_found(geoseg, tmp_path, monkeypatch) -> None:
    roles = ("blue", "green", "red", "nir", "swir16", "swir22")
    from geoseg.models.package import DEFAULT_PACKAGE, ModelPackage

    shipped = ModelPackage.open(DEFAULT_PACKAGE)
    wrong = packages.per_pixel_package(
        tmp_path / "wrong",
        roles,
        np.zeros((2, len(shipped.preparation.channels))),
        [1, 0],
        legend=shipped.outputs[0].legend,
        preparation=shipped.preparation,
        sensors=shipped.sensors,
    )
    monkeypatch.setattr("geoseg.mapping.doctor.DEFAULT_PACKAGE", wrong.path)
    ran = geoseg("doctor")
    assert ran.code == 1
    assert ran.out.splitlines()[-1].startswith("broken: ")
    assert ran.out.splitlines()[-1].endswith("a small map")
    assert "50.0 % of 256 x 256 pixels" in ran.out


@pytest.mark.parametrize(("name", "needed"), [("GTiff", True), ("HDF5", False)])
def test_a_driver_that_is_missing_counts_by_its_need(geoseg, monkeypatch, name: str, needed: bool) -> None:
    import rasterio

    there = rasterio.Env.drivers
    monkeypatch.setattr("rasterio.Env.drivers", lambda env: {key: title for key, title in there(env).items() if key != name})
    told = json.loads(geoseg("doctor", "--json").out)
    assert (name in told["summary"]["broken"]) == needed
