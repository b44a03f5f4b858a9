"""The real QGIS opens reference points: the form that the labeller gets, and a label that is saved."""

from __future__ import annotations

import ast
import os
import subprocess

import pyogrio
import pytest
from class_map_files import THREE
from reference_points import map_and_truth

QGIS_PYTHON = os.environ.get("QGIS_PYTHON", "/usr/bin/python3")

pytestmark = pytest.mark.qgis

IN_QGIS = """
import os, sys
from qgis.core import QgsApplication, QgsVectorLayer
from qgis.gui import QgsGui
app = QgsApplication([], True)
app.initQgis()
QgsGui.editorWidgetRegistry().initEditors()
layer = QgsVectorLayer(sys.argv[1] + "|layername=points", "points", "ogr")
assert layer.isValid()
names = layer.fields().names()
kinds = {name: layer.editorWidgetSetup(at).type() for at, name in enumerate(names)}
choices = [list(one) for one in layer.editorWidgetSetup(names.index("reference_class")).config()["map"]]
labels = [one.label() for one in layer.renderer().categories()]
layer.startEditing()
feature = next(layer.getFeatures())
ok = layer.changeAttributeValue(feature.id(), names.index("reference_class"), "water") and layer.commitChanges()
print(repr((kinds, choices, labels, ok)), flush=True)
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


def test_the_form_is_a_click_and_a_label_is_saved(geoseg, tmp_path):
    if in_qgis("import qgis.core").returncode:
        pytest.skip(f"{QGIS_PYTHON} cannot import qgis.core: install QGIS, or name its Python in QGIS_PYTHON")
    map_and_truth(tmp_path)
    assert geoseg("sample", "design", "map.tif", "-o", "points.gpkg").code == 0
    ran = in_qgis(IN_QGIS, str(tmp_path / "points.gpkg"), folder=str(tmp_path))
    assert ran.returncode == 0, ran.stderr[-2000:]
    kinds, choices, labels, saved = ast.literal_eval(ran.stdout.strip().splitlines()[-1])
    assert kinds["reference_class"] == kinds["second_class"] == "ValueMap"
    assert kinds["map_class"] == kinds["stratum"] == "Hidden"
    assert kinds["date"] == "DateTime"
    assert [name for (name,) in choices[1:]] == list(THREE.names)
    assert labels == [*THREE.names, "to label"]
    assert saved
    assert pyogrio.read_dataframe(tmp_path / "points.gpkg", layer="points").reference_class.tolist().count("water") == 1
