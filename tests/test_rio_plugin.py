"""geoseg as a member of rasterio's own command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

RIO = "import sys; from rasterio.rio.main import main_group; "


@pytest.fixture(autouse=True)
def installed() -> None:
    from importlib.metadata import entry_points

    if not any(one.name == "geoseg" for one in entry_points(group="rasterio.rio_plugins")):
        pytest.skip("this installation of geoseg is older than its plugin; install it again")


def rio(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    program = f"{RIO}main_group({list(words)!r}, prog_name='rio')"
    return subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, timeout=120)


def test_rio_maps_as_geoseg_does(place: Path, geoseg) -> None:
    words = ("predict", "scene.tif", "--sensor", "generic", "--model", "model", "--json", "-o")
    done = rio(place, "geoseg", *words, "by_rio")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["event"] == "result"
    assert geoseg(*words, "by_geoseg").code == 0
    one, other = (place / folder / "scene_classes.tif" for folder in ("by_rio", "by_geoseg"))
    assert one.read_bytes() == other.read_bytes()


def test_exit_codes_and_sentences_come_through(place: Path) -> None:
    done = rio(place, "geoseg", "info", "nothing.tif")
    assert (done.returncode, "no such file" in done.stderr) == (2, True)


def test_rio_itself_loads_nothing_of_ours_for_it(place: Path) -> None:
    ask = f"{RIO}print(sorted(name for name in sys.modules if name.startswith('geoseg') or name == 'torch'))"
    loaded = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True).stdout
    assert loaded.strip() == "['geoseg', 'geoseg.integrations', 'geoseg.integrations.rio']"
