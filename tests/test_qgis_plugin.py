"""The QGIS plugin as files: what QGIS asks of them, without QGIS."""

from __future__ import annotations

import ast
import configparser
import json
import zipfile
from pathlib import Path

from geoseg.integrations import qgis_install

PLUGIN = Path(qgis_install.__file__).with_name("qgis_plugin.py")


def test_it_loads_nothing_that_qgis_lacks() -> None:
    tree = ast.parse(PLUGIN.read_text(encoding="utf-8"), feature_version=(3, 9))
    imported = {node.module.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    imported |= {name.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    assert imported <= {"__future__", "json", "os", "shlex", "shutil", "signal", "subprocess", "threading", "pathlib", "typing", "qgis"}


def test_the_zip_is_one_that_qgis_installs(tmp_path: Path, geoseg, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert geoseg("qgis-plugin", "zip", "-o", "plugin.zip").code == 0
    with zipfile.ZipFile("plugin.zip") as archive:
        assert archive.namelist() == [f"{qgis_install.NAME}/{name}" for name in ("metadata.txt", "__init__.py", "plugin.py")]
        told = configparser.ConfigParser()
        told.read_string(archive.read(f"{qgis_install.NAME}/metadata.txt").decode())
    for key in ("name", "qgisminimumversion", "description", "about", "version", "author", "email"):
        assert told["general"][key]
    assert told["general"]["hasprocessingprovider"] == "yes"
    refused = geoseg("qgis-plugin", "zip", "-o", "plugin.rar")
    assert (refused.code, "ends in .zip" in refused.sentence) == (2, True)


def test_an_installed_plugin_runs_this_environment_and_replaces_an_older_one(tmp_path: Path, geoseg) -> None:
    old = tmp_path / qgis_install.NAME / "left over.py"
    old.parent.mkdir()
    old.write_text("")
    ran = geoseg("qgis-plugin", "install", "--folder", tmp_path)
    assert (ran.code, str(tmp_path / qgis_install.NAME) in ran.out) == (0, True)
    assert sorted(path.name for path in old.parent.iterdir()) == ["__init__.py", "command.json", "metadata.txt", "plugin.py"]
    assert Path(json.loads((old.parent / "command.json").read_text())[0]).exists()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, geoseg) -> None:
    (tmp_path / "file").write_text("")
    ran = geoseg("qgis-plugin", "install", "--folder", tmp_path / "file")
    assert (ran.code, "--folder" in ran.sentence) == (1, True)
