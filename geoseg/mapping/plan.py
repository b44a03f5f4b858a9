"""What a map will be before a pixel is read in full: its grid, its tiles, and what they will cost."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from geoseg.errors import InputError
from geoseg.ground import pixel_size_m
from geoseg.io.block_rows import block_rows
from geoseg.io.damage import DamageLog, damage_noted
from geoseg.io.feature_copies import check_formats
from geoseg.io.opening import files_kept_open, gdal_env
from geoseg.layers.light import fit_light
from geoseg.layers.masks import mask_roles
from geoseg.mapping.conformal import Thresholds, check_thresholds, read_thresholds
from geoseg.mapping.held_out import held_out_ground
from geoseg.mapping.output_grid import asked_grid, averaged
from geoseg.mapping.picture import stretch_limits
from geoseg.mapping.pipeline import usable_processors
from geoseg.mapping.shapes import building_shapes, check_shape
from geoseg.mapping.tiles import TilePlan, plan_tiles
from geoseg.mapping.uncertainty import Measure, more_planes, parse_measures
from geoseg.models.fit import check_fit
from geoseg.models.package import ModelPackage, Output
from geoseg.preprocess.prepare import halo, needed_roles
from geoseg.preprocess.quality import CLOUDY_SHARE, DEFAULT_MASK_CLASSES, cloudy_share
from geoseg.preprocess.series import role_at
from geoseg.preprocess.terrain_correction import FittedCorrection
from geoseg.runtimes.contract import Device, Precision, RuntimeName
from geoseg.runtimes.open_runtime import found_device
from geoseg.scene import Scene, sample_scene
from geoseg.sensors import QualityClass

if TYPE_CHECKING:
    from geopandas import GeoDataFrame

_PROCESS_MB = 250
"""Resident memory of the interpreter, GDAL and the runtime's libraries, before any pixel."""
_CACHE_MB = (32.0, 768.0)
"""The least and the most that GDAL's block cache gets."""
_COMPUTED_MB = 80.0
"""What the cache has for layers that are computed when they are read, since nobody knows of what."""
_LITTLE_KEPT = 0.1
"""Blocks that two strips share are decoded again rather than kept if they are fewer than this share of what is read at once."""
_SAMPLING_CACHE_MB = 128
_GPU_BATCH = 8
_PANEL_MB = 500
"""What the columns that are mapped at once may hold."""
_LEAST_TILES = 12
"""A panel is at least this many tiles wide."""
READ_ROWS = 128
"""Rows of the map that are read at once; where much around them is needed, more."""
_READ_HALOS = 8
"""Rows that are read at once are at least so many times what is read around them."""

_MOST_GROWN_PIXELS = 4096
"""So many rows around a window are read to grow its mask; more would fill the memory."""


@dataclass(frozen=True)
class MapOptions:
    """What the user may choose of a map; everything else comes from the package.

    >>> options = geoseg.MapOptions(scores=True, min_area_m2=500)
    >>> sorted(geoseg.predict("scene.tif", "my_model", "with_scores", options=options).files)
    ['classes', 'classes_polygons', 'classes_scores', 'image', 'item', 'project', 'reason']
    """

    scores: bool = False
    """Also write the score of every class."""
    aoi: str | None = None
    """Vector file: only this area is mapped."""
    exclude: str | None = None
    """Vector file: this area is not mapped."""
    min_area_m2: float = 0.0
    """Smaller regions are merged into the neighbour with the longest shared edge, in raster and polygons alike."""
    simplify_m: float = 0.0
    """Tolerance of the polygons' outlines, in metres on the ground."""
    shape: str | None = None
    """`building` or `building=CLASS`: outlines of that class get right angles; None leaves all as they are."""
    zones: str | None = None
    """Vector file: each of its polygons gets a row with what the map says of it."""
    overlap: int | None = None
    """Pixels shared by neighbouring tiles; None takes the package's."""
    batch: int | None = None
    """Tiles for one call of the network; None chooses: 1 on a CPU, where more buys nothing, and 8 on a GPU."""
    runtime: RuntimeName = "onnx"
    """`onnx`, `openvino` or `torch`."""
    precision: Precision = "fp32"
    """In which numbers the network computes: `fp32`; `bf16` or `int8` where runtime, processor and package have them."""
    device: Device = "cpu"
    """`cpu`, `cuda`, or `auto` for a GPU where the torch runtime finds one."""
    threads: int | None = None
    """Processor threads that run the network, each on tiles of its own; None takes all that this process may use."""
    uncertainty: tuple[str, ...] = ()
    """Layers that say how unsure the map is: some of `entropy`, `margin`, `disagreement` and `members`."""
    conformal: str | None = None
    """Thresholds that `geoseg conformal` found: also write which classes the scores do not rule out."""
    tta: Literal["d4", "flips"] | None = None
    """Test-time augmentation: each tile is scored in all eight symmetries of the square (`d4`) or in four of them (`flips`)."""
    ensemble: tuple[str, ...] = ()
    """Further model packages on the same tiles; the map is that of the mean of all scores."""
    resolution: float | None = None
    """Pixel size of the map in units of its CRS; None keeps the finest band's."""
    crs: str | None = None
    """CRS of the map; None keeps the scene's."""
    like: str | None = None
    """Raster file whose grid the map shall have."""
    mask_classes: tuple[QualityClass, ...] = DEFAULT_MASK_CLASSES
    """What the scene's quality layer, if it has one, takes out of the map."""
    cloud_model: str | None = None
    """Model package whose map of cloud and shadow masks the scene first."""
    mask_grow_m: float = 0.0
    """Masked ground is grown by this many metres."""
    picture: bool = True
    """Also write a picture of the scene in true or false colour."""
    polygons: bool = True
    """Also write the outlines of the class map's regions."""
    vectors: tuple[str, ...] = ()
    """Formats in which the outlines are written beside the GeoPackage: some of `parquet` (GeoParquet) and `fgb` (FlatGeobuf)."""
    on_error: Literal["stop", "nodata"] = "stop"
    """Where a block of the scene cannot be read: `stop`, or `nodata` to map the rest and list such blocks."""

    def __post_init__(self) -> None:
        for name in ("min_area_m2", "simplify_m", "mask_grow_m"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise InputError(f"--{name.replace('_', '-')} is {getattr(self, name)}; expected 0 or more")
        if self.shape is not None:
            check_shape(self.shape)
            if not self.polygons:
                raise InputError("--shape squares outlines and --no-polygons writes none; leave one out")
        check_formats(self.vectors)
        if self.vectors and not self.polygons:
            raise InputError("--vectors writes outlines in further formats and --no-polygons writes none; leave one out")
        if self.like is not None and (self.crs is not None or self.resolution is not None):
            raise InputError("--like already states the grid; leave --crs and --resolution out")
        if self.resolution is not None and not 0 < self.resolution < float("inf"):
            raise InputError(f"--resolution is {self.resolution}; expected a pixel size above 0 in units of the map's CRS")
        parse_measures(self.uncertainty, several=self.tta is not None or bool(self.ensemble))
        if self.batch is not None and self.batch < 1:
            raise InputError(f"--batch is {self.batch}; expected 1 or more, or auto")
        if self.tta not in (None, "d4", "flips"):
            raise InputError(f"--tta is {self.tta!r}; expected d4 or flips")
        if self.on_error not in ("stop", "nodata"):
            raise InputError(f"--on-error is {self.on_error!r}; expected stop or nodata")
        if self.threads is not None and self.threads < 1:
            raise InputError(f"--threads is {self.threads}; expected 1 or more, or leave it out")


@dataclass(frozen=True)
class MapPlan:
    """One scene, one package, and the grid and tiles on which they meet."""

    scene: Scene
    package: ModelPackage
    options: MapOptions
    geobox: GeoBox
    """The grid of the map."""
    tiles: TilePlan
    batch: int
    picture_roles: tuple[str, ...]
    """Three roles shown as red, green and blue, or one shown as grey; empty where no picture is asked for."""
    grow_pixels: tuple[float, float]
    """How far masked ground is grown, in pixels of the map (row direction, col direction)."""
    held_out: GeoDataFrame | None
    """Ground of this map on which the model was not trained; None where the package tells of none."""
    warnings: tuple[str, ...]
    correction: FittedCorrection | None = None
    """The package's terrain correction, fitted to the scene; None where there is none to make."""
    stretch: NDArray[np.float32] | None = None
    """(band, 2) stored numbers that the picture shows as black and as white; None where no picture is asked for."""
    damaged: DamageLog | None = None
    """Where blocks that cannot be read are noted while the map is made; None: the first one stops it."""

    @property
    def quality_roles(self) -> tuple[str, ...]:
        """The layers that take pixels out of the map: quality layers unless nothing is to be masked, and a mask from elsewhere."""
        return mask_roles(self.scene, self.options.mask_classes)

    @property
    def roles(self) -> tuple[str, ...]:
        """The bands that the model reads, in its order, and what its terrain correction takes."""
        return needed_roles(self.package.preparation, self.correction)

    @property
    def pixels(self) -> int:
        """How many pixels the map has."""
        return int(self.geobox.shape[0] * self.geobox.shape[1])

    @property
    def workers(self) -> int:
        """Threads that run the network, each on tiles of its own."""
        return min(self.options.threads or usable_processors(), len(self.tiles)) if self.options.device == "cpu" else 1

    @property
    def keeps_scores(self) -> bool:
        """Whether the score of every class is kept on disk until the map is finished: the results need it."""
        options = self.options
        return options.scores or options.polygons or options.zones is not None

    @cached_property
    def thresholds(self) -> Thresholds | None:
        """Those of conformal sets; None where none are asked for."""
        return None if self.options.conformal is None else read_thresholds(self.options.conformal)

    def calibrated(self, output: Output) -> bool:
        """Whether the scores that the map tells of this output were shown to be frequencies."""
        return output.calibrated and not self.options.ensemble

    @property
    def measures(self) -> tuple[Measure, ...]:
        """The layers that say how unsure the map is."""
        return parse_measures(self.options.uncertainty, several=True)

    @property
    def halo(self) -> int:
        """Pixels of context around a window that make its preparation exact."""
        return max(halo(self.package.preparation), int(np.ceil(max(self.grow_pixels))) if self.quality_roles else 0)

    @property
    def read_rows(self) -> int:
        """Rows of the map that are read and prepared at once; cuts lie at multiples of them, where most files cut their blocks, too."""
        return READ_ROWS * max(1, -(-_READ_HALOS * self.halo // READ_ROWS))

    @property
    def read_roles(self) -> tuple[str, ...]:
        """All layers that are read, each once."""
        return tuple(dict.fromkeys((*self.roles, *self.picture_roles, *self.quality_roles)))

    @cached_property
    def cache_mb(self) -> float:
        """GDAL's block cache in MB: the rows of blocks that one strip of the map shares with the next, so that none is decoded twice.

        Where they are more than a little, what is written between two strips has room beside them. At most 768 MB; beyond that,
        very wide files with large blocks, or turned against the map, are decoded more than once.
        """
        files: dict[str, set[int]] = {}
        layers = [self.scene.layer(role) for role in self.read_roles]
        for layer in layers:
            if layer.reader is None:
                files.setdefault(layer.path, set()).add(layer.index)
        overlap = 2 * self.halo
        blocks = [block_rows(path, numbers, self.geobox, rows=self.read_rows, overlap=overlap) for path, numbers in files.items()]
        needed = kept = sum(one.kept for one in blocks)
        needed += max((one.at_once for one in blocks), default=0) + _COMPUTED_MB * any(layer.reader is not None for layer in layers)
        if kept > _LITTLE_KEPT * sum(one.at_once for one in blocks):
            outputs = sum(1 + output.planes * self.keeps_scores if output.kind == "classes" else 4 for output in self.package.outputs)
            needed += self.tiles.tile * self.geobox.shape[1] * (outputs + 1 + 4 * bool(self.picture_roles)) / 1e6
        return float(np.clip(1.1 * needed, *_CACHE_MB))

    def memory_mb(self) -> float:
        """Estimate of the peak resident memory in MB; depends on width and tile, not on height."""
        width = max(panel.cols.stop - panel.cols.start for panel in self.tiles.panels) + self.tiles.tile
        network = 4 * len(self.package.onnx) + self.workers * self.batch * self.tiles.tile**2 * 4 * 128
        held = width * _column_bytes(self.package, self.options) + (self.read_rows + 2 * self.halo) * width * len(self.read_roles) * 20
        return float(_PROCESS_MB + self.cache_mb + (held + network) / 1e6)

    def disk_mb(self) -> float:
        """Estimate, on the high side, of the disk space in MB that the results and the unfinished parts take together."""
        planes = sum(output.planes for output in self.package.outputs) if self.options.scores else 0
        bytes_a_pixel = 0.4 + 0.5 * planes + (1.2 if self.picture_roles else 0) + 1.0 + len(self.measures)
        return float(np.prod(self.geobox.shape)) * bytes_a_pixel / 1e6

    def seconds(self, run: Callable[[NDArray[np.float32]], object]) -> float:
        """Estimate of the time in seconds, from the time that `run` takes for one tile of zeros."""
        image = np.zeros((1, len(self.package.preparation.channels), self.tiles.tile, self.tiles.tile), np.float32)
        run(image)
        began = time.perf_counter()
        run(image)
        engine = 0.25e-6 * float(np.prod(self.geobox.shape)) * (1 + bool(self.picture_roles))
        tiles = len(self.tiles) * (time.perf_counter() - began)
        return float(tiles + engine)


def plan_map(scene: Scene, package: ModelPackage, options: MapOptions) -> MapPlan:
    """The plan of a map; raises PackageError or BandError where scene and package do not fit, with the figures."""
    damaged, looked_at = (DamageLog(), DamageLog()) if options.on_error == "nodata" else (None, None)
    with gdal_env(_SAMPLING_CACHE_MB), files_kept_open(), damage_noted(looked_at):  # the samples of the scene share their blocks
        return replace(_plan_map(scene, package, options), damaged=damaged)


def _plan_map(scene: Scene, package: ModelPackage, options: MapOptions) -> MapPlan:
    if options.conformal is not None:
        check_thresholds(read_thresholds(options.conformal), package, options.ensemble, options.tta)
    building_shapes(options.shape, package.outputs)  # refuses a package without buildings
    options = replace(options, device=found_device(options.runtime, options.device))
    asked = asked_grid(scene, package, options)
    light = fit_light(scene, package.preparation)
    fit = check_fit(package, scene, geobox=asked, light=light)
    warnings = [*scene.warnings, *fit, *(_cloudy(scene) if options.cloud_model is None else ())]
    geobox = averaged(asked, package, options)
    overlap = package.overlap if options.overlap is None else options.overlap
    widest = _widest_panel(package, options)
    tiles = plan_tiles((geobox.shape[0], geobox.shape[1]), tile=package.tile, overlap=overlap, stride=package.stride, widest_panel=widest)
    height, width = pixel_size_m(geobox)
    grow = (options.mask_grow_m / height, options.mask_grow_m / width)
    if max(grow) > _MOST_GROWN_PIXELS:
        most = _MOST_GROWN_PIXELS * min(height, width)
        raise InputError(f"--mask-grow-m is {options.mask_grow_m:g}; expected metres on the ground, at most {most:.0f} for this scene")
    picture = _picture_roles(scene, package) if options.picture else ()
    return MapPlan(
        scene,
        package,
        options,
        geobox,
        tiles,
        options.batch or (1 if options.device == "cpu" else _GPU_BATCH),
        picture,
        grow,
        held_out_ground(package, geobox),
        tuple(warnings),
        light.correction,
        stretch_limits(scene, picture) if picture else None,
    )


def _column_bytes(package: ModelPackage, options: MapOptions) -> int:
    """What one pixel column of a panel holds in memory: two windows, the sums of scores, and two finished strips."""
    planes = sum(output.planes for output in package.outputs)
    shown = 4 * options.picture
    measures = parse_measures(options.uncertainty, several=True)
    unsure = 4 * sum(more_planes(package.outputs, measures).values()) + 2 * len(measures) * len(package.outputs)
    return package.tile * (2 * (4 * len(package.preparation.channels) + 1 + shown) + 4 * planes + 2 * (2 + planes + shown) + unsure)


def _widest_panel(package: ModelPackage, options: MapOptions) -> int:
    """Pixel columns that are mapped at once: as many as the memory for them allows, and so many tiles that few are computed twice."""
    columns = int(_PANEL_MB * 1e6 / _column_bytes(package, options))
    return max(columns, _LEAST_TILES * package.tile)


def _cloudy(scene: Scene) -> list[str]:
    """A sentence where a scene without a quality layer looks cloudy."""
    roles = ("green", "red", "swir16")
    if mask_roles(scene) or not set(roles) <= set(scene.roles):
        return []
    share = cloudy_share(sample_scene(scene, roles))
    if share is None or share <= CLOUDY_SHARE:
        return []
    return [f"{100 * share:.0f} % of the scene looks like cloud and it has no quality layer: the map holds classes there that mean nothing"]


def _picture_roles(scene: Scene, package: ModelPackage) -> tuple[str, ...]:
    """True colour where the scene has it, else false colour, else the model's first band in grey; of a series its middle period."""
    calendar = package.preparation.calendar
    for colours in (("red", "green", "blue"), ("nir", "red", "green"), ("swir16", "nir", "red")):
        roles = colours if calendar is None else tuple(role_at(role, calendar.names[len(calendar.names) // 2]) for role in colours)
        if set(roles) <= set(scene.roles):
            return roles
    return (package.preparation.bands[0].role,)
