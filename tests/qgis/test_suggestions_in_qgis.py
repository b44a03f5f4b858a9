"""The real QGIS opens what `geoseg suggest tiles` writes: its layers, the list of classes, and a polygon that is drawn and saved."""

from __future__ import annotations

import ast
import os
import subprocess

import numpy as np
import pyogrio
import pytest
from map_files import LEGEND, write_map

QGIS_PYTHON = os.environ.get("QGIS_PYTHON", "/usr/bin/python3")

pytestmark = pytest.mark.qgis

IN_QGIS = """
import os, sys
from qgis.core import QgsApplication, QgsFeature, QgsGeometry, QgsProject, QgsRectangle
from qgis.gui import QgsGui
app = QgsApplication([], True)
app.initQgis()
QgsGui.editorWidgetRegistry().initEditors()
project = QgsProject.instance()
read = project.read(sys.argv[1])
layers = {one.name(): one for one in project.mapLayers().values()}
valid = {name: one.isValid() for name, one in layers.items()}
ticked = [one.name() for one in project.layerTreeRoot().checkedLayers()]
layer = layers["corrections"]
at = layer.fields().names().index("class")
choice = layer.editorWidgetSetup(at)
choices = [list(one.items())[0] for one in choice.config()["map"]]
tiles = layers["tiles worth labelling"]
first = min(tiles.getFeatures(), key=lambda one: one["rank"])
drawn = QgsFeature(layer.fields())
drawn.setGeometry(QgsGeometry.fromRect(first.geometry().boundingBox().buffered(-20)))
drawn.setAttribute(at, choices[1][1])
saved = layer.startEditing() and layer.addFeature(drawn) and layer.commitChanges()
labels = tiles.labelsEnabled() and tiles.labeling().settings().fieldName
print(repr((read, valid, ticked, choice.type(), choices, saved, labels, layer.commitErrors())), flush=True)
os._exit(0)
"""


def in_qgis(*words: str, folder: str = ".") -> subprocess.CompletedProcess[str]:
    """Run QGIS's own Python, away from this one's paths; skip where there is none."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "GDAL_", "PROJ_"))}
    environment |= {"QT_QPA_PLATFORM": "offscreen", "XDG_RUNTIME_DIR": folder, "QGIS_CUSTOM_CONFIG_PATH": folder}
    try:
        return subprocess.run([QGIS_PYTHON, "-c", *words], capture_output=True, text=True, env=environment, timeout=120)
    except OSError as error:
        pytest.skip(f"no QGIS: {error}")


def test_a_polygon_is_drawn_in_the_first_tile(geoseg, tmp_path):
    if in_qgis("import qgis.core").returncode:
        pytest.skip(f"{QGIS_PYTHON} cannot import qgis.core: install QGIS, or name its Python in QGIS_PYTHON")
    scores = np.full((3, 64, 64), 0.05)
    scores[0] = 0.9
    scores[:, 16:32, 32:48] = 1 / 3
    write_map(tmp_path / "out", np.zeros((64, 64), int), scores=scores)
    assert geoseg("suggest", "tiles", "out", "--tile-m", 160, "--count", 3).code == 0
    ran = in_qgis(IN_QGIS, str(tmp_path / "out/out_suggested.qgz"), folder=str(tmp_path))
    assert ran.returncode == 0, ran.stderr[-2000:]
    read, valid, ticked, kind, choices, saved, labels, errors = ast.literal_eval(ran.stdout.strip().splitlines()[-1])
    assert read
    assert valid == dict.fromkeys(["corrections", "tiles worth labelling", "map"], True)
    assert "map" not in ticked
    assert (kind, labels) == ("ValueMap", "rank")
    assert choices == [(name, name) for name in LEGEND.names]
    assert saved, errors
    frame = pyogrio.read_dataframe(tmp_path / "out/out_corrections.gpkg", layer="corrections")
    assert frame["class"].tolist() == [LEGEND.names[1]]
    tile = pyogrio.read_dataframe(tmp_path / "out/out_suggested.gpkg", layer="suggested").geometry[0]
    assert frame.geometry[0].within(tile)
    assert frame.geometry[0].area == 120 * 120
