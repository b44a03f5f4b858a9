"""The Processing plugin in the real QGIS: found, run to the same files as the command, refused in its sentence, and stopped."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from command_line import write
from packages import neighbourhood_package, threshold_package

from geoseg.integrations.qgis_install import NAME, install_plugin

QGIS_PYTHON = os.environ.get("QGIS_PYTHON", "/usr/bin/python3")
PROCESS = shutil.which("qgis_process.bin") or shutil.which("qgis_process")  # Debian's own wrapper adds words that it does not know
WORDS = ("--SENSOR=generic", "--MODEL=model")

pytestmark = [pytest.mark.qgis, pytest.mark.skipif(PROCESS is None, reason="there is no qgis_process: install QGIS")]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A scene, a model, and a home of QGIS with the plugin switched on."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home" / ".local" / "share"))
    threshold_package(tmp_path / "model")
    write(tmp_path / "scene.tif")
    install_plugin()
    done = qgis("plugins", "enable", NAME)
    assert done.returncode == 0, done.stderr
    return tmp_path


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "GDAL_", "PROJ_"))}
    return kept | {"QT_QPA_PLATFORM": "offscreen", "PYTHONHOME": "", "PROJ_LIB": "/nowhere"}  # as bad as a QGIS of its own can be


def qgis(*words: str) -> subprocess.CompletedProcess[str]:
    """`qgis_process WORDS…`."""
    kept = {name: value for name, value in environment().items() if name not in ("PYTHONHOME", "PROJ_LIB")}
    return subprocess.run([str(PROCESS), *words], capture_output=True, text=True, env=kept, timeout=180)


def test_it_maps_as_the_command_does(place: Path, geoseg) -> None:
    done = qgis("run", "geoseg:mapscene", f"--LAYER={place / 'scene.tif'}", *WORDS, "--MORE=--no-picture --overlap 0", "--OUT=by_qgis")
    assert done.returncode == 0, done.stderr + done.stdout
    assert f"CLASSES:\t{Path('by_qgis') / 'scene_classes.tif'}" in done.stdout
    assert "POLYGONS:" in done.stdout
    ran = geoseg("predict", "scene.tif", "--sensor", "generic", "--model", "model", "--no-picture", "--overlap", "0", "-o", "by_hand")
    assert ran.code == 0, ran.err
    assert (place / "by_qgis/scene_classes.tif").read_bytes() == (place / "by_hand/scene_classes.tif").read_bytes()
    assert sorted(path.name for path in (place / "by_qgis").iterdir()) == sorted(path.name for path in (place / "by_hand").iterdir())


def test_what_geoseg_refuses_is_said_in_its_sentence(place: Path) -> None:
    done = qgis("run", "geoseg:mapscene", f"--LAYER={place / 'scene.tif'}", "--SENSOR=sentinel-9", "--OUT=out")
    assert done.returncode != 0
    assert "no sensor 'sentinel-9'; did you mean" in done.stdout + done.stderr
    assert not (place / "out" / "scene_classes.tif").exists()


def test_maps_are_compared_judged_and_summed_up(place: Path, geoseg) -> None:
    write(place / "later.tif", fill=150)
    for name in ("scene", "later"):
        assert geoseg("predict", f"{name}.tif", "--sensor", "generic", "--model", "model", "-o", "maps").code == 0
    before, after = (f"{place / 'maps' / name}_classes.tif" for name in ("scene", "later"))
    polygons = f"{place / 'maps/scene.gpkg'}|layername=polygons"
    runs = (
        ("comparemaps", "POLYGONS", (f"--BEFORE={before}", f"--AFTER={after}", "--OUT=change"), ("diff", before, after, "-o", "by_hand")),
        (
            "sumuppolygons",
            "TABLE",
            (f"--MAP={after}", f"--POLYGONS={polygons}", "--OUT=table.gpkg"),
            ("zones", after, polygons, "-o", "t.gpkg"),
        ),
        ("evaluatemap", "REPORT", (f"--MAP={after}", f"--LABELS={polygons}", "--OUT=report"), None),
    )
    for algorithm, output, words, by_hand in runs:
        done = qgis("run", f"geoseg:{algorithm}", *words)
        assert done.returncode == 0, done.stderr + done.stdout
        assert f"{output}:" in done.stdout
        assert by_hand is None or geoseg(*by_hand).code == 0
    assert (place / "change/scene_to_later.gpkg").read_bytes() == (place / "by_hand/scene_to_later.gpkg").read_bytes()
    assert (place / "table.gpkg").read_bytes() == (place / "t.gpkg").read_bytes()
    assert "IoU" in (place / "report/report.html").read_text(encoding="utf-8")


STOP = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
from qgis.core import QgsApplication, QgsProcessingException
application = QgsApplication([], False)
from {name} import plugin
os.environ["PYTHONHOME"] = os.environ["PROJ_LIB"] = "/nowhere"

class Feedback:
    progress, stopped = [], False
    def isCanceled(self): return self.stopped
    def setProgress(self, share): self.progress.append(share); self.stopped = len(sys.argv) > 2
    def pushWarning(self, text): pass
    pushInfo = pushCommandInfo = pushWarning

feedback = Feedback()
try:
    told = plugin.run(["predict", "scene.tif", "--sensor", "generic", "--model", "slow", "--json", "-o", "out"], feedback)
    print(json.dumps(["done", len(feedback.progress), feedback.progress[-1]]))
except QgsProcessingException as error:
    print(json.dumps(["stopped", str(error)]))
""".replace("{name}", NAME)


@pytest.mark.parametrize("stop", [True, False])
def test_a_map_is_stopped_where_the_user_says_so(place: Path, stop: bool) -> None:
    write(place / "scene.tif", side=900)
    neighbourhood_package(place / "slow", 12, tile=256, overlap=64)
    plugins = install_plugin().parent
    kept = {name: value for name, value in environment().items() if name not in ("PYTHONHOME", "PROJ_LIB")}
    command = [QGIS_PYTHON, "-c", STOP, str(plugins), *(["stop"] if stop else [])]
    done = subprocess.run(command, capture_output=True, text=True, env=kept, timeout=180)
    assert done.returncode == 0, done.stderr
    assert ("stopped" in done.stdout) == stop, done.stdout
    assert ("--resume goes on" in done.stdout) == stop
    assert (place / "out" / "scene_classes.tif").exists() != stop
