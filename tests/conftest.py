"""Fixtures shared by the tests: small real GeoTIFFs, and the development data where it is at hand."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import command_line
import packages
import pytest

multiprocessing.set_start_method("spawn", force=True)  # the only one that Windows has
os.environ.setdefault("OMP_NUM_THREADS", "1")  # torch's threads cost far more than networks of a few weights gain by them

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
COMPILED = Path(__file__).resolve().parents[1] / ".build" / "compiled"

if sys.dont_write_bytecode:  # as in many containers; each process that a test starts would then compile every module anew
    sys.dont_write_bytecode, sys.pycache_prefix = False, str(COMPILED)
    os.environ |= {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(COMPILED)}


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    """`shared_data("s2_wales")` is that folder, or the test is skipped."""

    def folder(name: str) -> Path:
        path = SHARED_DATA / name
        if not path.is_dir():
            pytest.skip(f"development data {name!r} is not beside this checkout")
        return path

    return folder


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with the good scene `scene.tif` and the package `model` that fits it."""
    command_line.write(tmp_path / "scene.tif")
    packages.threshold_package(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def geoseg(place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., command_line.Ran]:
    """`geoseg("predict", …)` runs that command in this process, in the folder `place`."""
    return partial(command_line.run, monkeypatch, capfd)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Several threads of torch sum in another order each time, and training makes much of a last bit."""
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
