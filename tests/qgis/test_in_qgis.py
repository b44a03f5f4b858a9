"""The real QGIS opens what geoseg writes; see check_project.py for what it looks at."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import command_line
import geopandas
import numpy as np
import pytest
import rasterio
from command_line import write
from packages import threshold_package
from rasterio import Affine
from scipy.ndimage import gaussian_filter
from shapely.geometry import box

from geoseg.legend import Legend, LegendClass

QGIS_PYTHON = os.environ.get("QGIS_PYTHON", "/usr/bin/python3")
CHECK = Path(__file__).with_name("check_project.py")
CORINE = Legend(
    (LegendClass(0, 111, "Continuous <urban> & \"dense\"", "#e6004d"), LegendClass(1, 312, "Forêt de conifères", "#00a600"),
     LegendClass(2, 523, "Sea", "#e6f2ff", background=True)), nodata=65535
)  # fmt: skip
UTM = Affine(10, 0, 500_000, 0, -10, 5_800_000)
NO_CODE = "+proj=laea +lat_0=52 +lon_0=5 +x_0=0 +y_0=0 +ellps=GRS80 +units=m"

pytestmark = pytest.mark.qgis


@pytest.fixture(scope="session", autouse=True)
def _qgis_is_there():
    try:
        found = subprocess.run([QGIS_PYTHON, "-c", "import qgis.core"], capture_output=True, text=True)
    except OSError as error:
        pytest.skip(f"no QGIS: {error}")
    if found.returncode:
        pytest.skip(f"{QGIS_PYTHON} cannot import qgis.core: install QGIS, or name its Python in QGIS_PYTHON")


def look(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the check, away from this Python's own paths to GDAL and PROJ."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "GDAL_", "PROJ_"))}
    environment["QT_QPA_PLATFORM"] = "offscreen"
    return subprocess.run([QGIS_PYTHON, str(CHECK), str(folder), *options], capture_output=True, text=True, env=environment, timeout=120)


@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        pytest.param("EPSG:32630", UTM, id="UTM"),
        pytest.param("EPSG:4326", Affine(1e-4, 0, -3.2, 0, -1e-4, 52.4), id="degrees"),
        pytest.param("EPSG:3857", Affine(20, 0, 1_000_000, 0, -20, 8_400_000), id="web mercator at 60 N"),
        pytest.param(NO_CODE, Affine(10, 0, -500, 0, -10, 900), id="CRS without a code"),
        pytest.param("EPSG:32630+5703", UTM, id="compound CRS"),
        pytest.param("EPSG:32630", Affine(10, 0, 500_000, 0, 10, 5_799_000), id="south up"),
        pytest.param("EPSG:32630", UTM @ Affine.rotation(20), id="rotated"),
        pytest.param("EPSG:4326", Affine(2e-4, 0, -3.2, 0, -1e-4, 60.4), id="pixels that are not square"),
    ],
)
def test_qgis_shows_what_the_files_hold(write_folder, crs, transform):
    seen = look(write_folder(crs, transform))
    assert seen.returncode == 0, seen.stdout + seen.stderr


def test_codes_beyond_255_and_names_with_markup_come_through(write_folder):
    seen = look(write_folder("EPSG:32630", UTM, CORINE))
    assert seen.returncode == 0, seen.stdout + seen.stderr


def test_file_names_with_unusual_characters_are_found(write_folder):
    seen = look(write_folder("EPSG:32630", UTM, name="S2A 50% off #1 & sön's"))
    assert seen.returncode == 0, seen.stdout + seen.stderr


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders that the commands wrote: a map with zones and buildings, a mosaic of two, the difference between two."""
    folder = tmp_path_factory.mktemp("made")
    names = Legend.from_names(["land", "building"])
    threshold_package(folder / "model", legend=names)
    for number, (name, right, down) in enumerate((("first", 0, 0), ("second", 60, 20), ("later", 0, 0))):
        noise = gaussian_filter(np.random.default_rng(number).normal(size=(120, 120)), 6)
        numbers = np.clip(100 + 90 * noise / abs(noise).max(), 1, 199).astype(np.uint8)
        write(folder / f"{name}.tif", fill=numbers, side=120, transform=command_line.UTM @ Affine.translation(right, down))
    parcels = [box(500_100, 4_999_000, 500_500, 4_999_700), box(500_600, 4_999_100, 501_000, 4_999_900)]
    geopandas.GeoDataFrame({"field": ["a", "b"]}, geometry=parcels, crs="EPSG:32632").to_file(folder / "parcels.gpkg")
    zones = ["--zones", "parcels.gpkg"] if find_spec("exactextract") else []
    for name in ("first", "second", "later"):
        run_command(folder, "predict", f"{name}.tif", "--model", "model", "-o", name, "--scores", "--shape", "building", *zones)
    run_command(folder, "mosaic", "first", "second", "-o", "mosaic")
    run_command(folder, "diff", "first", "later", "-o", "difference")
    return folder


def run_command(folder: Path, *words: str) -> None:
    program = "from geoseg.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", program, *words], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["first", "mosaic", "difference"])
def test_qgis_opens_what_the_commands_write(made, name):
    seen = look(made / name)
    assert seen.returncode == 0, seen.stdout + seen.stderr


def test_check_sees_a_missing_layer(write_folder):
    folder = write_folder("EPSG:32630", UTM)
    (folder / "scene_image.tif").unlink()
    seen = look(folder)
    assert seen.returncode == 1
    assert "WRONG layer 'Imagery' is valid" in seen.stdout


def test_check_sees_colours_that_are_not_the_files(write_folder):
    folder = write_folder("EPSG:32630", UTM)
    with rasterio.open(folder / "scene_classes.tif", "r+") as file:
        file.write_colormap(1, {0: (0, 0, 0, 255), 1: (255, 0, 0, 255)})
    assert "WRONG 'Classes' has the colours of the file's colour table" in look(folder).stdout


def test_picture_for_the_readme_is_drawn(write_folder, tmp_path):
    picture = tmp_path / "map.png"
    seen = look(write_folder("EPSG:32630", UTM), "--render", str(picture), "--credit", "made up")
    assert seen.returncode == 0, seen.stdout + seen.stderr
    assert picture.read_bytes().startswith(b"\x89PNG")
