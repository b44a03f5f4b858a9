"""What a page shows: the maps and scenes that were named, their layers, and the files that may be fetched."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from odc.geo.geobox import GeoBox

from geoseg.errors import BandError, GeosegError, InputError, LabelError
from geoseg.io.class_maps import open_class_map
from geoseg.io.opening import dataset_geobox, opened
from geoseg.legend import Legend
from geoseg.mapping.uncertainty import Measure, shown_range
from geoseg.maps.map_results import MapResult, open_map_results
from geoseg.preprocess.quality import REASON_LEGEND
from geoseg.scene import Scene
from geoseg.scenes.open_scene import open_scene
from geoseg.view.watched import Watched, watch

LayerKind = Literal["classes", "quantity", "picture"]

_CLASSES, _REASON, _IMAGE, _SCORES = "_classes", "reason", "image", "scores"
_LOOKS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("True colour", ("red", "green", "blue")),
    ("False colour", ("nir", "red", "green")),
    ("False colour, short-wave infrared", ("swir16", "nir", "red")),
)
_MOST_SINGLE = 12
"""Of a scene without colours so many bands are offered one by one."""
_SAMPLE = 256
"""Pixels each way that are looked at for the range of a layer."""
_PERCENTILES = (2.0, 98.0)


@dataclass(frozen=True)
class RasterLayer:
    """A raster of a map as it is drawn; holds no pixels."""

    id: str
    title: str
    kind: LayerKind
    file: Watched
    band: int = 1
    """Counted from 1; of a picture the first of three."""
    legend: Legend | None = None
    """Of classes."""
    ends: tuple[float, float] = (0.0, 1.0)
    """Of a quantity: the values shown in the first and the last colour."""
    scale: float = 1.0
    """Value = scale x stored number + offset."""
    offset: float = 0.0


@dataclass(frozen=True)
class OutlineLayer:
    """Polygons beside a map."""

    id: str
    title: str
    file: Watched
    layer: str
    crs: str
    columns: tuple[str, ...]


@dataclass(frozen=True)
class Look:
    """Some bands of a scene as red, green and blue, or one in grey."""

    title: str
    roles: tuple[str, ...]


@dataclass(frozen=True)
class ShownScene:
    """A scene that was named, and how it can be looked at."""

    id: str
    scene: Scene
    grid: GeoBox
    looks: tuple[Look, ...]
    files: tuple[Watched, ...]
    """What its bands lie in, where these are files on disk."""


@dataclass(frozen=True)
class ShownMap:
    """A map of classes and what lies beside it."""

    id: str
    result: MapResult
    classes: RasterLayer
    picture: RasterLayer | None
    reason: RasterLayer | None
    scores: tuple[RasterLayer, ...]
    """One for each class; empty where scores were not kept."""
    others: tuple[RasterLayer, ...]
    """Uncertainty, and whatever else lies beside the map and begins with its name."""
    outlines: tuple[OutlineLayer, ...]
    files: Mapping[str, Watched] = field(default_factory=dict)
    """Id → what may be fetched."""

    @property
    def title(self) -> str:
        """What people read."""
        return self.result.name if self.result.output == "classes" else f"{self.result.name}: {self.result.output}"

    @property
    def rasters(self) -> tuple[RasterLayer, ...]:
        """All layers that are drawn as tiles."""
        single = (self.classes, self.picture, self.reason)
        return (*(layer for layer in single if layer is not None), *self.scores, *self.others)


@dataclass(frozen=True)
class Shown:
    """All that a page shows."""

    maps: tuple[ShownMap, ...]
    scenes: tuple[ShownScene, ...]

    @property
    def rasters(self) -> dict[str, RasterLayer]:
        """Id → layer, of all maps."""
        return {layer.id: layer for one in self.maps for layer in one.rasters}

    @property
    def outlines(self) -> dict[str, OutlineLayer]:
        """Id → layer, of all maps."""
        return {layer.id: layer for one in self.maps for layer in one.outlines}

    @property
    def files(self) -> dict[str, Watched]:
        """Id → what may be fetched: files beside the maps, never those of a scene."""
        return {name: file for one in self.maps for name, file in one.files.items()}


def open_shown(paths: Sequence[str | Path], opening: Mapping[str, Any] | None = None) -> Shown:
    """The maps and scenes behind these paths, in their order.

    A path is a map where `open_map_results` finds one there, else a scene, opened with the words `opening` of `open_scene`. InputError
    where it is neither, or where a map's Item names a file outside the map's folder; of a scene alone, what `open_scene` raises.
    """
    maps: list[ShownMap] = []
    scenes: list[ShownScene] = []
    for path in paths:
        found, refusal = _maps_at(Path(path))
        for result in found:
            maps.append(_shown_map(f"m{len(maps)}", result, [one.name for one in found]))
        if not found:
            scenes.append(_shown_scene(f"s{len(scenes)}", path, opening or {}, refusal))
    return Shown(tuple(maps), tuple(scenes))


def _maps_at(path: Path) -> tuple[list[MapResult], GeosegError | None]:
    """The maps there; none, and why, where there is none but might be a scene."""
    if not path.exists():
        return [], None  # it may be an address, which open_scene knows
    try:
        return open_map_results(path), None
    except (InputError, LabelError) as error:
        if path.is_dir() and (any(path.glob(f"*{_CLASSES}.tif")) or _names_a_missing_map(error)):
            raise
        return [], error


def _names_a_missing_map(error: GeosegError) -> bool:
    return "which is not there" in str(error)


# ---------------------------------------------------------------- below: a map and what lies beside it


def _shown_map(name: str, result: MapResult, names: Sequence[str]) -> ShownMap:
    """The layers of one map; `names` are those of all maps in its folder, one of which may begin like another."""
    folder = result.path.parent.resolve()
    if not result.path.resolve().is_relative_to(folder):
        raise InputError(f"{result.path} lies elsewhere than its folder says; only files below the folder that was named are shown")
    beside = list(_beside(folder, result, names))
    stem = result.path.stem.removesuffix(_CLASSES)
    rasters = {_kind(path, stem, result.name): path for path in beside if path.suffix == ".tif" and path != result.path.resolve()}

    def special(kind: str, title: str, layer_kind: LayerKind, legend: Legend | None = None) -> RasterLayer | None:
        path = rasters.pop(kind, None)
        return None if path is None else RasterLayer(f"{name}-{kind}", title, layer_kind, watch(path), legend=legend)

    picture, reason = special(_IMAGE, "picture", "picture"), special(_REASON, "why there is no class", "classes", REASON_LEGEND)
    scores = tuple(_score_layers(name, rasters.pop(_SCORES), result.classes.legend)) if _SCORES in rasters else ()
    others = [_other_layer(f"{name}-{place}", kind, path) for place, (kind, path) in enumerate(sorted(rasters.items()))]
    outlines = [
        layer
        for place, path in enumerate(path for path in beside if path.suffix == ".gpkg")
        for layer in _outline_layers(f"{name}-o{place}", path, stem, result.name)
    ]
    return ShownMap(
        name,
        result,
        RasterLayer(f"{name}-classes", result.output, "classes", watch(result.path), legend=result.classes.legend),
        picture,
        reason,
        scores,
        tuple(layer for layer in others if layer is not None),
        tuple(outlines),
        {f"{name}-f{place}": watch(path) for place, path in enumerate(beside)},
    )


def _beside(folder: Path, result: MapResult, names: Sequence[str]) -> Iterator[Path]:
    """The files of a map in its folder: those that begin with its name and with no longer name of another map; links lead nowhere."""
    longer = tuple(f"{name}{sign}" for name in names if name != result.name and name.startswith(result.name) for sign in "_.")
    own = re.compile(rf"{re.escape(result.name)}[_.]")
    for path in sorted(folder.iterdir()):
        mine = own.match(path.name) and not path.name.startswith(longer)
        if (mine or path == result.path.resolve()) and path.is_file() and path.resolve() == path:
            yield path


def _kind(path: Path, stem: str, scene: str) -> str:
    """What a raster beside a map is, by the end of its name."""
    start = stem if path.stem.startswith(f"{stem}_") else scene
    return path.stem.removeprefix(f"{start}_")


def _score_layers(name: str, path: Path, legend: Legend) -> Iterator[RasterLayer]:
    with opened(str(path)) as file:
        titles = [text or f"score {place + 1}" for place, text in enumerate(file.descriptions)]
        scales, offsets = file.scales, file.offsets
    for band, (title, scale, offset) in enumerate(zip(titles, scales, offsets, strict=True), 1):
        yield RasterLayer(f"{name}-score{band}", title, "quantity", watch(path), band, scale=scale, offset=offset)


def _other_layer(name: str, kind: str, path: Path) -> RasterLayer | None:
    """Classes where the raster names its numbers, else a quantity; None for what is neither, such as a picture."""
    try:
        legend = open_class_map(path).legend
        return RasterLayer(name, _words(kind), "classes", watch(path), legend=legend)
    except LabelError:
        pass
    with opened(str(path)) as file:
        if file.count != 1:
            return None
        scale, offset = file.scales[0], file.offsets[0]
        shape = (min(file.height, _SAMPLE), min(file.width, _SAMPLE))
        seen = file.read(1, out_shape=shape, masked=True).compressed()
    if kind in get_args(Measure):
        ends = shown_range(kind)  # type: ignore[arg-type]
    else:
        seen = seen[np.isfinite(seen)]
        low, high = (float(end) for end in np.percentile(seen, _PERCENTILES)) if seen.size else (0.0, 1.0)
        ends = (low * scale + offset, (high if high > low else low + 1) * scale + offset)
    return RasterLayer(name, _words(kind), "quantity", watch(path), ends=ends, scale=scale, offset=offset)


def _words(kind: str) -> str:
    return kind.replace("_", " ")


def _outline_layers(name: str, path: Path, stem: str, scene: str) -> Iterator[OutlineLayer]:
    """The polygons of a GeoPackage; its tables without geometries are no layers."""
    import pyogrio

    title = "polygons" if path.stem in (stem, scene) else _words(_kind(path, stem, scene))
    layers = [layer for layer, geometry in pyogrio.list_layers(path) if geometry is not None and "Polygon" in geometry]
    for place, layer in enumerate(layers):
        told = pyogrio.read_info(path, layer=layer)
        shown = title if len(layers) == 1 else f"{title}: {layer}"
        yield OutlineLayer(f"{name}-{place}", shown, watch(path), layer, told["crs"], tuple(told["fields"]))


# ---------------------------------------------------------------- below: a scene


def _shown_scene(name: str, path: str | Path, opening: Mapping[str, Any], refusal: GeosegError | None) -> ShownScene:
    try:
        scene = open_scene(path, **opening)
    except BandError:
        raise
    except InputError as error:
        if refusal is not None and Path(path).is_dir():
            raise InputError(f"{path} holds nothing to show: neither a map nor a scene ({error})") from error
        raise
    looks = scene_looks(scene)
    if not looks:
        raise InputError(f"{path} holds nothing to show; it has only {', '.join(scene.roles)}")
    used = {role for look in looks for role in look.roles}
    places = dict.fromkeys(layer.path for layer in scene.layers if layer.band.role in used)
    files = tuple(watch(Path(place)) for place in places if Path(place).is_file())
    return ShownScene(name, scene, scene.geobox(looks[0].roles), looks, files)


def scene_looks(scene: Scene) -> tuple[Look, ...]:
    """How a scene can be looked at: in the colours that its bands allow, else each band in grey; true colour comes first."""
    colours = tuple(Look(title, roles) for title, roles in _LOOKS if set(roles) <= set(scene.roles))
    if colours:
        return colours
    shown = [role for role in scene.roles if not role.startswith(("quality", "mask"))]
    return tuple(Look(role, (role,)) for role in shown[:_MOST_SINGLE])


def grid_of(path: Path) -> GeoBox:
    """The grid of a layer's file."""
    with opened(str(path)) as file:
        return dataset_geobox(file)
