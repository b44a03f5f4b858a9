"""What embeddings will be before a pixel is read in full: which options, on which grid, in which tiles."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from affine import Affine
from odc.geo.geobox import GeoBox

from geoseg.errors import InputError
from geoseg.mapping.plan import MapOptions, MapPlan, plan_map
from geoseg.mapping.tiles import plan_tiles
from geoseg.preprocess.quality import DEFAULT_MASK_CLASSES
from geoseg.runtimes.contract import Device
from geoseg.runtimes.features import Features
from geoseg.scene import Scene
from geoseg.sensors import Band, QualityClass

NumberType = Literal["float32", "float16", "int8"]

_PANEL_BYTES = 500e6
"""What the columns that are embedded at once may hold."""
_LEAST_TILES = 12
"""A panel is at least this many tiles wide."""


@dataclass(frozen=True)
class EmbedOptions:
    """What the user may choose; everything else comes from the encoder."""

    level: int | None = None
    """Which of the encoder's levels, counted from 1, fine to coarse or early to late; None takes the last."""
    upsample: bool = False
    """Interpolate the vectors to the scene's pixels (bilinear), else one for each patch."""
    dtype: NumberType = "float32"
    """In which numbers vectors are stored. `float16` is float32 rounded to what 16 bits hold, whose other half compresses to nothing, since
    few programs read 16 bits; `int8` is a byte, with a scale and an offset for each band."""
    normalise: bool = False
    """Bring each vector to length 1."""
    tile: int | None = None
    """Edge in pixels of what the encoder sees at once; None takes its usual one."""
    overlap: int | None = None
    """Pixels shared by neighbouring tiles; None takes half a tile."""
    aoi: str | None = None
    """Vector file: only this area."""
    exclude: str | None = None
    """Vector file: this area not."""
    mask_classes: tuple[QualityClass, ...] = DEFAULT_MASK_CLASSES
    """What the scene's quality layer, if it has one, takes out."""
    mask_grow_m: float = 0.0
    """Masked ground is grown by this many metres."""
    batch: int | None = None
    """Tiles for one call of the encoder; None chooses."""
    device: Device = "cpu"
    """`cpu`, `cuda`, or `auto` for a GPU where torch finds one."""
    threads: int | None = None
    """Processor threads that run the encoder; None takes all."""
    on_error: Literal["stop", "nodata"] = "stop"
    """Where a block of the scene cannot be read: `stop`, or `nodata` to go on and list such blocks."""

    def __post_init__(self) -> None:
        if self.dtype not in ("float32", "float16", "int8"):
            raise InputError(f"--dtype is {self.dtype!r}; expected float32, float16 or int8")
        if self.tile is not None and self.tile < 1:
            raise InputError(f"--tile is {self.tile}; expected 1 or more pixels")


@dataclass(frozen=True)
class EmbedPlan:
    """One scene, one encoder, and the grids and tiles on which they meet."""

    map: MapPlan
    """The same as for a map: what is read, prepared and tiled."""
    features: Features
    options: EmbedOptions

    @property
    def step(self) -> int:
        """Pixels on a side of a patch."""
        return self.features.step

    @property
    def patches(self) -> GeoBox:
        """The grid of the vectors: the map's, from the same origin, in pixels `step` times as large."""
        grid = self.map.geobox
        rows, cols = (-(-size // self.step) for size in grid.shape)
        return GeoBox((rows, cols), grid.affine @ Affine.scale(self.step), grid.crs)

    @property
    def geobox(self) -> GeoBox:
        """The grid of the file."""
        return self.map.geobox if self.options.upsample else self.patches

    @property
    def bands(self) -> tuple[Band, ...]:
        """The bands of the file: `E00`, `E01` …"""
        width = self.features.width
        digits = max(2, len(str(width - 1)))
        return tuple(Band(f"E{axis:0{digits}d}", f"e{axis:0{digits}d}") for axis in range(width))


def plan_embedding(scene: Scene, features: Features, options: EmbedOptions) -> EmbedPlan:
    """The plan; PackageError or BandError where scene and encoder do not fit, InputError for tiles that cannot be."""
    package = features.package
    stride, tile = package.stride, options.tile or package.tile
    if tile % stride:
        near = max(1, round(tile / stride)) * stride
        raise InputError(f"--tile is {tile}; {package.title} takes multiples of {stride} pixels, such as {near}")
    overlap = tile // 2 // stride * stride if options.overlap is None else options.overlap
    sensors = package.sensors or (scene.sensor.name,)  # an encoder that names none is for any
    package = package.model_copy(update={"tile": tile, "overlap": overlap, "sensors": sensors})
    plan = plan_map(scene, package, _map_options(options))
    height, width = plan.geobox.shape
    tile = min(tile, -(-max(height, width) // stride) * stride)  # nothing is gained from what lies beyond a small scene
    column = tile * 4 * (2 * len(package.preparation.channels) + 1) + tile // features.step * 4 * 3 * features.width / features.step
    tiles = plan_tiles(
        (height, width),
        tile=tile,
        overlap=min(overlap, tile - stride),
        stride=stride,
        widest_panel=max(int(_PANEL_BYTES / column), _LEAST_TILES * tile),
    )
    return EmbedPlan(replace(plan, package=package, tiles=tiles), features, options)


def _map_options(options: EmbedOptions) -> MapOptions:
    """What of the options concerns reading and tiling, as a map's."""
    return MapOptions(
        aoi=options.aoi,
        exclude=options.exclude,
        overlap=options.overlap,
        batch=options.batch,
        runtime="torch",
        device=options.device,
        threads=options.threads,
        mask_classes=options.mask_classes,
        mask_grow_m=options.mask_grow_m,
        on_error=options.on_error,
        picture=False,
        polygons=False,
    )
