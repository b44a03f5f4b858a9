"""Gives the notebooks the data sets that lie beside this checkout, if any do; without them they run on stand-ins."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from geoseg.scenes.catalog import data_folder

BESIDE = Path(__file__).resolve().parents[2] / "shared" / "data"
FOLDERS = {"sen1floods11_spain": "s1s2_flood_spain"}
"""Name in the catalogue → folder beside this checkout."""


@pytest.fixture(scope="session", autouse=True)
def data_at_hand() -> Iterator[None]:
    """$GEOSEG_DATA for the kernels: what was fetched before, and what lies beside."""
    before, fetched = os.environ.get("GEOSEG_DATA"), data_folder()
    with tempfile.TemporaryDirectory() as folder:
        for path in fetched.iterdir() if fetched.is_dir() else ():
            (Path(folder) / path.name).symlink_to(path)
        for name, beside in FOLDERS.items():
            if (BESIDE / beside).is_dir() and not (Path(folder) / name).exists():
                (Path(folder) / name).symlink_to(BESIDE / beside)
        os.environ["GEOSEG_DATA"] = folder
        yield
        for path in Path(folder).iterdir():
            if not path.is_symlink():  # fetched just now: kept for the next time
                fetched.mkdir(parents=True, exist_ok=True)
                shutil.move(path, fetched / path.name)
    os.environ.pop("GEOSEG_DATA")
    if before is not None:
        os.environ["GEOSEG_DATA"] = before
