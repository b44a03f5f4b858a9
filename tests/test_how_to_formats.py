"""The page on other formats: its command, and GDAL's lines where GDAL's own programs are installed, run as they stand."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

import geopandas
import pytest
import rasterio
from command_line import write
from how_to import PAGES, run_page

PAGE = "other-formats.md"


@pytest.mark.skipif(shutil.which("ogr2ogr") is None, reason="GDAL's own programs are not installed (Debian: apt install gdal-bin)")
def test_the_page_runs_as_it_stands(tmp_path: Path, geoseg, monkeypatch) -> None:
    write(tmp_path / "scene.tif", roles=("red", "green", "blue"))
    run_page(PAGE, tmp_path, geoseg, monkeypatch)
    lines = [line for line in (PAGES / PAGE).read_text(encoding="utf-8").splitlines() if line.startswith(("ogr2ogr ", "gdal"))]
    for line in lines:
        done = subprocess.run(shlex.split(line), capture_output=True, text=True)
        assert done.returncode == 0, f"{line}\n{done.stderr}"
    polygons = geopandas.read_file("polygons.geojson")
    assert polygons.crs.to_epsg() == 4326
    assert len(polygons) == len(geopandas.read_file("map/scene.gpkg", layer="polygons"))
    assert all(Path(name).exists() for name in ("polygons.shp", "polygons.kml", "picture.png", "classes.nc"))
    with rasterio.open("classes_3857.tif") as file:
        assert file.crs.to_epsg() == 3857
