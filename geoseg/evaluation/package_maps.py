"""Maps of scenes by a package that is to be evaluated: made as `geoseg predict` makes them, without what an evaluation does not need."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

from geoseg.errors import InputError
from geoseg.mapping.make_map import make_map
from geoseg.mapping.plan import MapOptions
from geoseg.models.package import METADATA, ModelPackage
from geoseg.scene import Scene

Progress = Callable[[str], None]
"""Called with the name of each scene before it is mapped."""


def is_package(path: str | Path) -> bool:
    """Whether a folder or .zip says that it is a model package; what it holds is not looked at."""
    path = Path(path)
    if path.is_dir():
        return (path / METADATA).is_file()
    try:
        with zipfile.ZipFile(path) as archive:
            return METADATA in archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return False


def map_scenes(package: ModelPackage, scenes: Sequence[Scene], folder: Path, progress: Progress | None = None) -> list[Path]:
    """Map each scene with scores into a folder of its own inside `folder`, numbered in their order; returns the folders.

    InputError where the package maps several things, of which an evaluation could only mean one, and what `make_map` raises.
    """
    outputs = [output.name for output in package.outputs if output.kind == "classes"]
    if len(outputs) != 1:
        mapped = ", ".join(outputs) or "no classes"
        raise InputError(f"{package.path} maps {mapped}; map the scenes with geoseg predict and evaluate the map that is meant")
    made = []
    for number, scene in enumerate(scenes, 1):
        if progress is not None:
            progress(scene.name)
        place = folder / f"{number:0{len(str(len(scenes)))}}_{scene.name}"
        make_map(scene, package, place, options=MapOptions(scores=True, polygons=False, picture=False))
        made.append(place)
    return made
