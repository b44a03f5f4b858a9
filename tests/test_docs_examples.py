"""The examples in the docstrings of the public names run, and every name has one."""

from __future__ import annotations

import doctest
import importlib.util
import inspect
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
from packages import threshold_package
from scene_files import write
from shapely.geometry import box

import geoseg
from geoseg.legend import Legend

CONSTANTS = {"DEFAULT_PACKAGE"}
"""Public names without a docstring of their own."""
LEARNING = {name for name, home in geoseg._HOMES.items() if home.startswith("recipes.")}


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The current folder holds what the examples name: scenes of 60 x 60 pixels of red and nir, labels, and a package."""
    generator = np.random.default_rng(0)
    for name in ("scene", "scene_2021-03-10", "scene_2021-04-12"):
        values = generator.integers(1, 200, (2, 60, 60)).astype(np.uint8)
        write(tmp_path / f"{name}.tif", values, names=["red", "nir"], nodata=0)
    threshold_package(tmp_path / "my_model", legend=Legend.from_names(["dry land", "water"]))
    halves = [box(500_000, 4_799_400, 500_300, 4_800_000), box(500_300, 4_799_400, 500_600, 4_800_000)]
    frame = geopandas.GeoDataFrame({"class": ["water", "dry land"]}, geometry=halves, crs="EPSG:32630")
    frame.to_file(tmp_path / "truth.gpkg")
    monkeypatch.chdir(tmp_path)


def known_names() -> dict[str, Any]:
    """What the examples take for imported."""
    names = {"geoseg": geoseg, "np": np, "Path": Path}
    return names | ({"torch": importlib.import_module("torch")} if importlib.util.find_spec("torch") else {})


def failures(docstring: str, name: str) -> list[str]:
    """What the examples of a docstring gave instead of what it says."""
    test = doctest.DocTestParser().get_doctest(docstring, known_names(), name, None, 0)
    told: list[str] = []
    doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE, verbose=False).run(test, out=told.append)
    return told


@pytest.mark.parametrize("name", sorted(set(geoseg._HOMES) - CONSTANTS))
def test_the_example_of_every_public_name_runs(name: str, files: None) -> None:
    if name in LEARNING:
        pytest.importorskip("lightning", reason="the extra train brings it")
    docstring = inspect.getdoc(getattr(geoseg, name)) or ""
    assert ">>> " in docstring, f"{name} has no example"
    assert name.lower() in docstring.split(">>> ", 1)[1].lower(), f"the example of {name} does not show it"
    assert failures(docstring, name) == []


def test_an_example_that_is_wrong_is_found() -> None:
    assert "Expected:\n    3" in "".join(failures(">>> 1 + 1\n3\n", "wrong"))
