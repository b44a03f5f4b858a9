"""geoseg: semantic segmentation of georeferenced rasters, from a GeoTIFF scene to a map in QGIS.

The public names are resolved when they are first used, so that `import geoseg` loads nothing else. xarray's arrays get `.geoseg`.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from geoseg.confusion import Confusion as Confusion
    from geoseg.errors import GeosegError as GeosegError
    from geoseg.io.geotiff import read_raster as read_raster
    from geoseg.io.vectors import write_polygons as write_polygons
    from geoseg.legend import Legend as Legend
    from geoseg.mapping.make_map import Prediction as Prediction
    from geoseg.mapping.make_map import make_map as make_map
    from geoseg.mapping.many import map_scenes as map_scenes
    from geoseg.mapping.plan import MapOptions as MapOptions
    from geoseg.mapping.predict import predict as predict
    from geoseg.maps.difference import compare_maps as compare_maps
    from geoseg.maps.mosaic import make_mosaic as make_mosaic
    from geoseg.models.package import DEFAULT_PACKAGE as DEFAULT_PACKAGE
    from geoseg.models.package import ModelPackage as ModelPackage
    from geoseg.polygons.outlines import trace_polygons as trace_polygons
    from geoseg.preprocess.indices import spectral_index as spectral_index
    from geoseg.preprocess.prepare import prepare as prepare
    from geoseg.raster import Raster as Raster
    from geoseg.recipes.datamodule import ScenesDataModule as ScenesDataModule
    from geoseg.recipes.masked_module import MaskedPretraining as MaskedPretraining
    from geoseg.recipes.masked_module import UnlabelledScenes as UnlabelledScenes
    from geoseg.recipes.modules import SupervisedSegmentation as SupervisedSegmentation
    from geoseg.runtimes.open_runtime import open_runtime as open_runtime
    from geoseg.scene import Scene as Scene
    from geoseg.scene import read_scene as read_scene
    from geoseg.scenes.catalog import Catalog as Catalog
    from geoseg.scenes.open_scene import open_scene as open_scene
    from geoseg.sensors import get_sensor as get_sensor
    from geoseg.stacks.composite import composite as composite
    from geoseg.stacks.series import open_series as open_series

__version__ = "0.1.0"

_HOMES = {
    "Catalog": "scenes.catalog",
    "Confusion": "confusion",
    "DEFAULT_PACKAGE": "models.package",
    "GeosegError": "errors",
    "Legend": "legend",
    "MapOptions": "mapping.plan",
    "MaskedPretraining": "recipes.masked_module",
    "ModelPackage": "models.package",
    "Prediction": "mapping.make_map",
    "Raster": "raster",
    "Scene": "scene",
    "ScenesDataModule": "recipes.datamodule",
    "SupervisedSegmentation": "recipes.modules",
    "UnlabelledScenes": "recipes.masked_module",
    "compare_maps": "maps.difference",
    "composite": "stacks.composite",
    "get_sensor": "sensors",
    "make_map": "mapping.make_map",
    "make_mosaic": "maps.mosaic",
    "map_scenes": "mapping.many",
    "open_runtime": "runtimes.open_runtime",
    "open_scene": "scenes.open_scene",
    "open_series": "stacks.series",
    "predict": "mapping.predict",
    "prepare": "preprocess.prepare",
    "read_raster": "io.geotiff",
    "read_scene": "scene",
    "spectral_index": "preprocess.indices",
    "trace_polygons": "polygons.outlines",
    "write_polygons": "io.vectors",
}
"""Public name → the module under `geoseg` where it lives; a test keeps it equal to the imports above."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'geoseg' has no attribute {name!r}")
    if _HOMES[name].startswith("recipes."):
        from geoseg.errors import require

        require("lightning", extra="train")
    value = getattr(importlib.import_module(f"geoseg.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])


class _Accessor:
    """`xarray.DataArray.geoseg`, resolved when it is first used, as the public names are; see `geoseg.accessor`."""

    def __get__(self, given: Any, owner: type) -> Any:
        from geoseg.accessor import GeosegAccessor

        return GeosegAccessor if given is None else GeosegAccessor(given)


class _WithXarray:
    """Gives xarray's arrays their `.geoseg` when xarray is imported after geoseg, which does not import it itself."""

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> Any:
        if fullname != "xarray":
            return None
        spec = importlib.machinery.PathFinder.find_spec("xarray")
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def load_and_register(module: Any) -> None:
                load(module)
                _register(module)
                if self in sys.meta_path:  # whoever only asks whether xarray is there leaves it for later
                    sys.meta_path.remove(self)

            spec.loader.exec_module = load_and_register  # type: ignore[method-assign]  # of this one loader
        return spec


def _register(xarray: Any) -> None:
    xarray.DataArray.geoseg = xarray.Dataset.geoseg = _Accessor()


if "xarray" in sys.modules:
    _register(sys.modules["xarray"])
else:
    sys.meta_path.insert(0, _WithXarray())
