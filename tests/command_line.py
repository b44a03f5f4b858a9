"""Running the real command line in this process, and what a folder holds before and after."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

from geoseg.cli import main

UTM = Affine(10, 0, 500_000, 0, -10, 5_000_000)


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str
    """With the warnings and log records that Python would have put there."""

    @property
    def sentence(self) -> str:
        """The one line on standard error."""
        lines = [line for line in self.err.splitlines() if line.strip()]
        assert len(lines) == 1, self.err
        assert "Traceback" not in self.out + self.err
        return lines[0]


def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], *words: object) -> Ran:
    """`geoseg WORDS…`, with standard error as a user sees it: what C libraries, warnings and unhandled log records print is there too."""
    capfd.readouterr()
    with monkeypatch.context() as patch, warnings.catch_warnings(record=True) as caught:
        patch.setattr(sys, "argv", ["geoseg", *map(str, words)])
        patch.setattr(logging.getLogger(), "handlers", [])  # without those of pytest, Python prints warnings to standard error
        warnings.resetwarnings()
        for quiet in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
            warnings.simplefilter("ignore", quiet)
        with pytest.raises(SystemExit) as end:
            main()
    out, err = capfd.readouterr()
    return Ran(end.value.code, out, err + "".join(f"{warning.category.__name__}: {warning.message}\n" for warning in caught))


def refusal(geoseg: Callable[..., Ran], folder: Path, *words: object) -> str:
    """The one sentence with which the command is refused (exit code 2); it leaves the folder as it was."""
    before = contents(folder)
    ran = geoseg(*words)
    assert ran.code == 2, ran.out + ran.err
    assert contents(folder) == before
    return ran.sentence


def contents(folder: Path) -> dict[str, bytes | None]:
    """Every file with its bytes, and every folder."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


def write(path: Path, *, roles=("red",), fill=None, side=60, **profile) -> Path:
    """A scene of random bytes from 1 to 199, or of one value, on 10 m pixels in EPSG:32632."""
    values = np.random.default_rng(0).integers(1, 200, (len(roles), side, side)).astype(np.uint8)
    values[:] = values if fill is None else fill
    shape = {"count": len(roles), "height": side, "width": side, "dtype": "uint8", "crs": "EPSG:32632", "transform": UTM}
    with rasterio.open(path, "w", driver="GTiff", **{**shape, **profile}) as file:
        file.write(values)
        for band, role in enumerate(roles, 1):
            file.set_band_description(band, role)
    return path
