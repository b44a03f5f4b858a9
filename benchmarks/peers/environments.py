"""One environment for each contestant, with the versions that are pinned in requirements/.

    python benchmarks/peers/environments.py [NAME ...] [--envs FOLDER] [--python PYTHON] [--uv UV] [--lock]

What cannot be installed is reported and left out; the other contestants run without it. `--lock` writes requirements/NAME.txt anew
from WANTED, with whatever versions of further packages fit today.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
ENVIRONMENTS = HERE / ".envs"
_COMMON = ("rasterio==1.5.2", "safetensors==0.8.0", "segmentation-models-pytorch==0.6.0", "torch==2.15.0")
"""The same network, read by the same library, with the same torch, in all of them."""
WANTED: dict[str, tuple[str, ...]] = {
    "bare": _COMMON,
    "torchgeo": ("torchgeo==0.10.1", *_COMMON),
    "monai": ("monai==1.6.1", *_COMMON),
    "terratorch": ("terratorch==1.2.13", *_COMMON),
    "geoai": ("geoai-py==0.43.1", *_COMMON),
    "rastervision": ("rastervision==0.31.1", *_COMMON),
}
"""Name of the environment → what its user would ask for."""
GEOSEG = "geoseg"
"""This checkout, with the versions of constraints.txt."""
_LONGEST_INSTALL = 1200
"""Seconds."""


def environment_python(envs: Path, name: str) -> Path | None:
    """The Python of an environment that is complete; None where it is missing."""
    return envs / name / "bin" / "python" if (envs / name / ".complete").exists() else None


def install(envs: Path, name: str, *, uv: str, python: str) -> str | None:
    """Make one environment, unless it is there with the same requirements; returns what went wrong, None where nothing did."""
    complete, wanted = envs / name / ".complete", _requirements(name)
    stated = wanted[-1].read_text(encoding="utf-8")
    if complete.exists() and complete.read_text(encoding="utf-8") == stated:
        return None
    complete.unlink(missing_ok=True)
    target = ["--python", str(envs / name / "bin" / "python")]
    if name == GEOSEG:
        packages = ["--constraints", str(wanted[0]), "--editable", f"{ROOT}[train,openvino]"]
    else:
        packages = ["--requirements", str(wanted[0])]
    for command in (
        [uv, "venv", "--quiet", "--clear", "--python", python, str(envs / name)],
        [uv, "pip", "install", "--quiet", *target, *packages],
    ):
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_LONGEST_INSTALL)
        except subprocess.TimeoutExpired:
            return f"not installed within {_LONGEST_INSTALL} s"
        if done.returncode:
            return " ".join(done.stderr.split())[-500:]
    complete.write_text(stated, encoding="utf-8")
    return None


def lock(name: str, *, uv: str) -> None:
    """Pin everything that an environment holds, for every system alike."""
    options = ["--quiet", "--universal", "--python-version", "3.12", "--no-header", "--no-annotate"]
    asked = "\n".join(WANTED[name])
    found = subprocess.run([uv, "pip", "compile", *options, "-"], input=asked, capture_output=True, text=True, check=True).stdout
    _requirements(name)[0].write_text(found, encoding="utf-8")


def _requirements(name: str) -> tuple[Path, ...]:
    """What is installed, and last what decides whether it is still what was asked for."""
    return (ROOT / "constraints.txt", ROOT / "pyproject.toml") if name == GEOSEG else (HERE / "requirements" / f"{name}.txt",)


def _find_uv() -> str | None:
    made_by_makefile = ROOT / ".build" / "uv" / "bin" / "uv"
    return shutil.which("uv") or (str(made_by_makefile) if made_by_makefile.exists() else None)


def main(names: Sequence[str], envs: Path, *, uv: str, python: str, locking: bool) -> int:
    """Install (or lock) the environments; returns how many are missing afterwards."""
    missing = 0
    for name in names:
        if locking:
            if name != GEOSEG:
                lock(name, uv=uv)
            continue
        began = time.perf_counter()
        problem = install(envs, name, uv=uv, python=python)
        missing += problem is not None
        print(f"{name}: {problem or f'ready after {time.perf_counter() - began:.0f} s'}", flush=True)
    return missing


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join((*WANTED, GEOSEG))}; all by default")
    parser.add_argument("--envs", type=Path, default=ENVIRONMENTS, help="folder of the environments")
    parser.add_argument("--python", default=sys.executable, help="a Python of at least 3.12; this one by default")
    parser.add_argument("--uv", default=_find_uv(), help="the uv program")
    parser.add_argument("--lock", action="store_true", help="write requirements/NAME.txt anew instead")
    given = parser.parse_args()
    if given.uv is None:
        parser.error("uv was not found; install it (pip install uv), or name it with --uv")
    if strange := [name for name in given.names if name not in (*WANTED, GEOSEG)]:
        parser.error(f"no environment {strange[0]!r}; there are {', '.join((*WANTED, GEOSEG))}")
    sys.exit(main(given.names or (*WANTED, GEOSEG), given.envs, uv=given.uv, python=given.python, locking=given.lock))
