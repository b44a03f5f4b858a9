"""The QGIS plugin as a folder in a profile, or as a .zip that QGIS installs itself."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
import zipfile
from pathlib import Path

from geoseg import __version__
from geoseg.errors import OutputError
from geoseg.io.atomic import atomic

NAME = "geoseg_processing"
"""The plugin's folder."""
_SOURCE = Path(__file__).with_name("qgis_plugin.py")
_COMMAND = "command.json"
_METADATA = f"""[general]
name=geoseg
qgisMinimumVersion=3.22
qgisMaximumVersion=4.99
description=Classes, polygons and areas from satellite and aerial scenes, by model packages
about=Runs the geoseg command of your own Python environment, with progress, and adds the styled results. Nothing of it runs inside QGIS.
version={__version__}
author=geoseg contributors
email=none
category=Analysis
tags=remote sensing,semantic segmentation,classification,Sentinel-2,deep learning
hasProcessingProvider=yes
experimental=False
deprecated=False
"""
_START = '"""Loaded by QGIS."""\n\nfrom .plugin import classFactory\n\n__all__ = ["classFactory"]\n'


def plugin_files(*, command: list[str] | None) -> dict[str, bytes]:
    """Name → content of the plugin's files; `command` are the words that start geoseg, None has QGIS look for it on the PATH."""
    files = {"metadata.txt": _METADATA.encode(), "__init__.py": _START.encode(), "plugin.py": _SOURCE.read_bytes()}
    return files | ({} if command is None else {_COMMAND: json.dumps(command).encode()})


def install_plugin(profile: str = "default", *, folder: Path | None = None) -> Path:
    """Write the plugin into a profile's folder of plugins, so that it runs this very environment; gives the plugin's folder.

    `folder` is another folder of plugins. An older plugin is replaced. OutputError where it cannot be written.
    """
    place = (folder or profiles_folder() / profile / "python" / "plugins") / NAME
    fresh = place.with_name(f".{NAME}.new")
    try:
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        for name, content in plugin_files(command=_own_command()).items():
            (fresh / name).write_bytes(content)
        shutil.rmtree(place, ignore_errors=True)
        fresh.replace(place)
    except OSError as error:
        shutil.rmtree(fresh, ignore_errors=True)
        raise OutputError(f"{place} cannot be written ({error.strerror or error}); name another folder with --folder") from error
    return place


def write_zip(out: Path) -> Path:
    """The plugin as a .zip for QGIS's "Install from ZIP"; it takes the geoseg on the PATH."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in plugin_files(command=None).items():
            archive.writestr(zipfile.ZipInfo(f"{NAME}/{name}", (1980, 1, 1, 0, 0, 0)), content)
    with atomic(out) as part:
        part.write_bytes(stream.getvalue())
    return out


def profiles_folder() -> Path:
    """Where QGIS 3 keeps its profiles on this system."""
    if sys.platform == "win32":
        base = Path(os.environ.get("APPDATA", Path.home() / "AppData" / "Roaming")) / "QGIS" / "QGIS3"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support" / "QGIS" / "QGIS3"
    else:
        base = Path(os.environ.get("XDG_DATA_HOME", Path.home() / ".local" / "share")) / "QGIS" / "QGIS3"
    return base / "profiles"


def _own_command() -> list[str]:
    """What starts this very geoseg."""
    script = Path(sys.executable).with_name("geoseg.exe" if os.name == "nt" else "geoseg")
    return [str(script)] if script.exists() else [sys.executable, "-c", "from geoseg.cli import main; main()"]
