"""The shortest way from Python to a map: a scene by its name, a package by its name, a folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from geoseg.errors import InputError
from geoseg.mapping.make_map import Prediction, make_map
from geoseg.mapping.plan import MapOptions
from geoseg.models.package import ModelPackage
from geoseg.scene import Scene
from geoseg.scenes.open_scene import open_scene

if TYPE_CHECKING:
    from xarray import DataArray, Dataset

_FILES = ("mask", "dem")
"""Words of `open_scene` that name files."""


def predict(
    source: Scene | str | Path | list[str | Path] | DataArray | Dataset,
    package: ModelPackage | str | Path,
    out: str | Path,
    *,
    options: MapOptions | None = None,
    overwrite: bool = False,
    **opening: Any,
) -> Prediction:
    """Map `source` with `package` and write the results into the folder `out`, as `geoseg predict` does.

    `source` is a Scene, or whatever `open_scene` takes, with its words in `opening`, such as `sensor="sentinel-2-l2a"`. Of an array
    without files, `array.geoseg.predict` makes a map that is not written. Raises what `open_scene`, `ModelPackage.open` and `make_map` do.

    >>> prediction = geoseg.predict("scene.tif", "my_model", "out")
    >>> prediction.to_xarray().shape
    (60, 60)
    >>> sorted(set(prediction.to_geopandas().class_name))
    ['dry land', 'water']
    """
    if isinstance(source, Scene):
        if opening:
            raise InputError(f"{next(iter(opening))} was given with a Scene that is open already; give it to open_scene, or leave it out")
        scene = source
    else:
        scene = open_scene(source, **opening)
    opened = package if isinstance(package, ModelPackage) else ModelPackage.open(package)
    kept = {name: str(Path(value).resolve()) if name in _FILES else value for name, value in opening.items()}  # found from elsewhere, too
    return make_map(scene, opened, Path(out), options=options, overwrite=overwrite, opened_with=kept)
