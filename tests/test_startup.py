"""What a map loads: start-up is most of the time that a small scene takes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import command_line
import pytest

NOT_NEEDED = {"pandas", "geopandas", "torch", "xarray", "rioxarray", "matplotlib", "scipy.spatial", "scipy.ndimage", "scipy.optimize"}

RUN = """
import json, sys
from geoseg.cli import main
try:
    main()
finally:
    print(json.dumps(sorted(sys.modules)))
"""


def loaded(program: str, *words: object) -> set[str]:
    """Names in sys.modules at the end of a fresh Python that ran this program."""
    done = subprocess.run([sys.executable, "-c", program, *map(str, words)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("option", ["--no-polygons", "--overwrite"])
def test_a_map_loads_only_what_it_needs(place: Path, option: str) -> None:
    modules = loaded(RUN, "predict", place / "scene.tif", "--model", place / "model", "-o", place / "out", option)
    assert (place / "out" / "scene.json").is_file()
    assert (place / "out" / "scene.gpkg").is_file() == (option != "--no-polygons")
    assert {"rasterio", "onnxruntime", "geoseg.io.ogr"} <= modules  # the test does see what is loaded
    assert sorted(modules & NOT_NEEDED) == []


def test_pyogrio_makes_frames_although_it_was_loaded_without_geopandas(place: Path) -> None:
    program = """
import json, sys
from geoseg.io.ogr import pyogrio
before = {"pandas", "geopandas"} & sys.modules.keys()
import geopandas, shapely
frame = geopandas.GeoDataFrame({"a": [1]}, geometry=[shapely.box(0, 0, 1, 1)], crs="EPSG:4326")
frame.to_file(sys.argv[1])
assert geopandas.read_file(sys.argv[1]).equals(pyogrio.read_dataframe(sys.argv[1]))
print(json.dumps(sorted(before)))
"""
    assert loaded(program, place / "one.gpkg") == set()


def test_matrix_threads_are_kept_to_one_unless_the_user_says_otherwise(
    monkeypatch: pytest.MonkeyPatch, geoseg: Callable[..., command_line.Ran]
) -> None:
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "3")
    geoseg("sensors")
    assert os.environ["OPENBLAS_NUM_THREADS"] == "3"
    monkeypatch.delenv("OPENBLAS_NUM_THREADS")
    geoseg("sensors")
    assert os.environ["OPENBLAS_NUM_THREADS"] == "1"
