"""Terrain of a scene from a DEM on any grid: height, slope, aspect, and how directly the sun shines on the ground.

Gradients are taken on the DEM's own grid and brought to the scene's as vectors, interpolated or averaged; slope, aspect and
light are made of them there (docs/decisions/0009-slopes-from-gradients.md). Directions are to true north, not the grid's, and
lengths metres on the ground, in any CRS.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from geoseg.errors import BandError, SceneError
from geoseg.ground import corners_to_map, ground_directions, horizontal
from geoseg.io.file_bands import RasterFile, open_file
from geoseg.io.geotiff import Resampling, footprint, read_raster, warp
from geoseg.io.opening import file_geobox, files_kept_open
from geoseg.io.resample import Floats, Placement
from geoseg.preprocess.terrain import Gradient, aspect_degrees, horn_gradient, slope_degrees, solar_illumination
from geoseg.raster import Raster
from geoseg.scene import Layer, Scene, SunAngles
from geoseg.sensors import SENSORS, Band

BANDS: Mapping[str, Band] = {
    "height": Band("height", "height", unit="m", kind="elevation"),
    "slope": Band("slope", "slope", unit="degree", kind="elevation"),
    "aspect": Band("aspect", "aspect", unit="degree", kind="elevation"),
    "illumination": Band("illumination", "illumination", unit="1", kind="elevation"),
}
"""What a DEM gives, by role; illumination only where it is known where the sun stood."""

_LENGTHS_M: Mapping[str, float] = {
    **dict.fromkeys(("m", "metre", "metres", "meter", "meters"), 1.0),
    **dict.fromkeys(("cm", "centimetre", "centimetres", "centimeter", "centimeters"), 1e-2),
    **dict.fromkeys(("dm", "decimetre", "decimetres", "decimeter", "decimeters"), 0.1),
    **dict.fromkeys(("ft", "foot", "feet", "international foot"), 0.3048),
    **dict.fromkeys(("us-ft", "us_ft", "ftus", "ft-us", "us survey foot", "us survey feet", "us foot", "foot_us"), 1200 / 3937),
}
"""Metres in a unit of height, as files spell it."""
_HIGHEST_M = 12_000.0
"""No ground lies higher, or lower: -32768 and the like are gaps that the file forgot to declare."""
_BLOCK_PIXELS = 1 << 18
"""Pixels whose terrain is computed at once."""
_STRIP_PIXELS = 1 << 17
"""For a thinned sample rows this near are computed with what lies between: single rows cost more."""
_NODES_M, _MOST_PIXELS = 5000.0, 64
"""The grid's directions and scales are taken about this far apart, and interpolated: they bend with the radius of the Earth."""
_DEGREE_M = 111_320.0
_THUMBNAIL = 256


def with_terrain(scene: Scene, dem: str | Path) -> Scene:
    """The scene with layers `height`, `slope`, `aspect` and, where `scene.sun` is known, `illumination` from a DEM.

    They take the place of layers of the same role that the scene had. The DEM may have a grid, a CRS and a unit of height of its own;
    where it says nothing the layers are not valid. SceneError where it cannot be used or does not lie on the scene.
    """
    terrain = replace(_open(dem), grid=scene.geobox(), sun=scene.sun)
    rows, cols = terrain.grid.shape
    covered = float(terrain.footprint(terrain.grid.zoom_to((min(rows, _THUMBNAIL), min(cols, _THUMBNAIL)))).mean())
    if covered == 0:
        raise SceneError(f"the DEM {dem} does not lie on {scene.source}; give one of the same ground")
    told = scene.warnings
    if covered < 1 - 1 / _THUMBNAIL:
        told = (*told, f"the DEM {dem} covers {100 * covered:.0f} % of the scene; on the rest there is no terrain to read.")
    bands = [band for role, band in BANDS.items() if role != "illumination" or scene.sun is not None]
    layers = [Layer(band, terrain.path, number, f"from the DEM {dem}", terrain, added=True) for number, band in enumerate(bands, 1)]
    return replace(scene, layers=(*(one for one in scene.layers if one.band.role not in BANDS), *layers), warnings=told)


def terrain_raster(dem: str | Path, role: str, geobox: GeoBox) -> Raster:
    """`height` (m), `slope` or `aspect` (degrees) of a DEM on any grid, as float32; a window equals the same part of the whole.

    SceneError where the DEM cannot be used; BandError for another role.
    """
    if role not in BANDS or role == "illumination":
        raise BandError(f"a DEM alone gives height, slope and aspect, not {role!r}; name one of these")
    return replace(_open(dem), grid=geobox).read({1: BANDS[role]}, geobox, resampling="auto")


@dataclass(frozen=True)
class Terrain:
    """Computes the terrain's layers when they are read."""

    path: str
    band: int
    """Number of the heights in the file, from 1."""
    height: Band
    """Its scale makes metres of what is stored."""
    grid: GeoBox
    """The scene's: a thinned sample holds the terrain of its pixels, not that of single pixels of the DEM."""
    sun: SunAngles | None = None

    def geobox(self) -> GeoBox:
        """The grid of the scene that the terrain lies under."""
        return self.grid

    def footprint(self, geobox: GeoBox) -> NDArray[np.bool_]:
        """(row, col) True where the pixel's centre lies on the DEM, data or not."""
        return footprint(self.path, geobox)

    def read(self, bands: Mapping[int, Band], geobox: GeoBox, *, resampling: Resampling) -> Raster:
        """These layers by role, as float32; what lies outside the asked window is read one pixel far, and all windows agree.

        `nearest` takes, on a grid coarser than the scene's, the scene's pixel under each centre; any other way is `auto`.
        """
        roles = [band.role for band in bands.values()]
        values = np.zeros((len(roles), *geobox.shape), np.float32)
        valid = np.zeros(values.shape, dtype=bool)
        placement = Placement(self.grid, geobox)
        if resampling == "nearest" and placement.shift is None and placement.separable and max(placement.coarseness) > 1:
            self._pick(roles, placement, values, valid)
        else:
            for rows in _row_blocks(geobox):
                block = _window(geobox, (rows.start, 0), (rows.stop - rows.start, geobox.shape[1]))
                values[:, rows], valid[:, rows] = self._planes(roles, block)
        return Raster(values, valid, geobox, tuple(bands.values()))

    def _pick(self, roles: list[str], placement: Placement, values: NDArray[np.float32], valid: NDArray[np.bool_]) -> None:
        """Fill single pixels of the scene's grid into a thinned one; rows far from those that it takes are not computed."""
        shape = placement.target.shape
        row, col = placement(np.arange(shape[0])[:, None] + 0.5, np.arange(shape[1])[None, :] + 0.5)
        rows, cols = np.floor(row.ravel()).astype(np.int64), np.floor(col.ravel()).astype(np.int64)
        first, width = int(cols.min()), int(np.ptp(cols)) + 1
        with files_kept_open():
            for run in _runs(rows, max(1, _STRIP_PIXELS // width)):
                top, bottom = int(rows[run].min()), int(rows[run].max())
                planes, known = self._planes(roles, _window(self.grid, (top, first), (bottom + 1 - top, width)))
                taken = np.ix_(np.arange(len(roles)), rows[run] - top, cols - first)
                values[:, run], valid[:, run] = planes[taken], known[taken]

    def _planes(self, roles: list[str], geobox: GeoBox) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """(role, row, col) values, 0 where not valid, and where they are."""
        values = np.zeros((len(roles), *geobox.shape), np.float32)
        valid = np.zeros(values.shape, dtype=bool)
        gradient = self._gradient(geobox) if set(roles) - {"height"} else None
        for plane, role in enumerate(roles):
            if role == "height" or gradient is None:
                heights, valid[plane] = self._heights(geobox)
            else:
                heights, valid[plane] = self._from_gradient(role, gradient), gradient.known
            values[plane] = np.where(valid[plane], heights, 0)
        return values, valid

    def _from_gradient(self, role: str, gradient: Gradient) -> Floats:
        if role == "slope":
            return slope_degrees(gradient.east, gradient.north)
        if role == "aspect":
            return aspect_degrees(gradient.east, gradient.north)
        if self.sun is None:
            raise BandError(f"how the sun lights the ground of {self.path} is not known: nothing says where it stood")
        return solar_illumination(gradient.east, gradient.north, zenith_deg=self.sun.zenith_deg, azimuth_deg=self.sun.azimuth_deg)

    def _gradient(self, geobox: GeoBox) -> Gradient:
        """Taken on the DEM's own grid; on any other, interpolated or averaged as a vector."""
        placement = Placement(self._own, geobox)
        if placement.shift is not None:
            return self._own_gradient(geobox)
        bands = (Band("east", "east"), Band("north", "north"))
        values, valid = warp(self._read_gradient, np.dtype(np.float64), bands, placement, "auto")
        return Gradient(values[0], values[1], valid[0])

    def _read_gradient(self, first: tuple[int, int], shape: tuple[int, int]) -> tuple[Floats, NDArray[np.bool_]]:
        """(2, row, col) gradient to east and north in a window of the DEM's own grid, and where it is known."""
        window = _window(self._own, first, shape)
        values, known = np.empty((2, *shape)), np.empty(shape, dtype=bool)
        for rows in _row_blocks(window):
            values[0, rows], values[1, rows], known[rows] = self._own_gradient(window[rows])
        return values, np.broadcast_to(known, values.shape)

    def _own_gradient(self, geobox: GeoBox) -> Gradient:
        """The gradient on a window of the DEM's own grid, from heights one pixel further."""
        rows, cols = geobox.shape
        return horn_gradient(*self._heights(_window(geobox, (-1, -1), (rows + 2, cols + 2))), ground_steps(geobox))

    def _heights(self, geobox: GeoBox) -> tuple[Floats, NDArray[np.bool_]]:
        """(row, col) metres, 0 where not valid."""
        raster = read_raster(self.path, {self.band: self.height}, geobox)
        heights = raster.values[0].astype(np.float64) * self.height.scale + self.height.offset
        valid = raster.valid[0] & (np.abs(heights) <= _HIGHEST_M)
        return np.where(valid, heights, 0), valid

    @cached_property
    def _own(self) -> GeoBox:
        return file_geobox(self.path)


# ---------------------------------------------------------------- below: the file, and the grid on the ground


def _open(dem: str | Path) -> Terrain:
    file = open_file(str(dem))
    horizontal(file.geobox.crs)
    named = [band for band in file.bands if (known := SENSORS["generic"].band_named(band.description)) and known.role == "height"]
    found = named if named or len(file.bands) > 1 else list(file.bands)
    if len(found) != 1:
        raise SceneError(f"{dem} has {len(file.bands)} bands and does not say which one holds heights; give a DEM as a file of its own")
    unit = _unit_m(found[0].unit, file)
    height = replace(BANDS["height"], scale=found[0].scale * unit, offset=found[0].offset * unit, nodata=found[0].nodata)
    return Terrain(str(dem), found[0].index, height, file.geobox)


def _unit_m(stated: str, file: RasterFile) -> float:
    """Metres in a unit of the file's heights: as its band says, else its vertical CRS; metres where neither does."""
    if stated:
        if (length := _LENGTHS_M.get(stated.lower())) is None:
            raise SceneError(f"the heights of {file.path} are in {stated!r}; expected metres or feet: convert them, or give another DEM")
        return length
    crs = file.geobox.crs.proj if file.geobox.crs is not None else None
    parts = crs.sub_crs_list if crs is not None and crs.is_compound else []
    return next((float(part.axis_info[0].unit_conversion_factor) for part in parts if part.is_vertical), 1.0)


def ground_steps(geobox: GeoBox) -> Floats:
    """(2, 2, row, col) ground metres to the east and to true north (second axis) of one step to the next column, and row (first axis).

    They are interpolated between places that are the same for all windows of a grid, so that windows agree to the last bit.
    """
    linear = geobox.affine
    degrees = horizontal(geobox.crs).is_geographic
    size = max(np.hypot(linear.a, linear.d), np.hypot(linear.b, linear.e)) * (_DEGREE_M if degrees else 1.0)
    every = int(np.clip(_NODES_M / size, 1, _MOST_PIXELS))
    down, across = (
        (first + np.arange(count) + 0.5) / every for first, count in zip(Placement(geobox, geobox).origin, geobox.shape, strict=True)
    )
    rows, cols = (np.arange(np.floor(at[0]), np.floor(at[-1]) + 2) for at in (down, across))
    row, col = np.meshgrid(rows * every, cols * every, indexing="ij")
    nodes = corners_to_map(Affine(linear.a, linear.b, 0, linear.d, linear.e, 0), col.ravel(), row.ravel())
    by_unit = ground_directions(nodes, geobox.crs)  # (node, x or y, east or north)
    by_pixel = np.array([[linear.a, linear.d], [linear.b, linear.e]])[:, :, None]  # (col or row, x or y, 1)
    steps = (by_pixel * by_unit[:, None]).sum(axis=2)  # (node, col or row, east or north)
    planes = np.moveaxis(steps, 0, -1).reshape(2, 2, len(rows), len(cols))
    return _between(_between(planes, down - rows[0]), across - cols[0], axis=3)


def _between(planes: Floats, places: Floats, axis: int = 2) -> Floats:
    """Linear interpolation along one axis; no matrix product, whose order of summing depends on its size."""
    low = np.floor(places).astype(np.int64)
    share = (places - low).reshape([-1 if dimension == axis else 1 for dimension in range(planes.ndim)])
    between: Floats = np.take(planes, low, axis) * (1 - share) + np.take(planes, low + 1, axis) * share
    return between


def _window(geobox: GeoBox, first: tuple[int, int], shape: tuple[int, int]) -> GeoBox:
    """The part of a grid, also beyond its edges, that begins at pixel `first` (row, col)."""
    return GeoBox(shape, geobox.affine @ Affine.translation(first[1], first[0]), geobox.crs)


def _runs(rows: NDArray[np.int64], most: int) -> Iterator[slice]:
    """Neighbours in a sequence of rows, one way or the other, that together span at most so many."""
    start = 0
    for at in range(1, len(rows) + 1):
        if at == len(rows) or abs(int(rows[at] - rows[start])) >= most:
            yield slice(start, at)
            start = at


def _row_blocks(geobox: GeoBox) -> Iterator[slice]:
    rows, cols = geobox.shape
    step = max(1, _BLOCK_PIXELS // max(cols, 1))
    return (slice(top, min(top + step, rows)) for top in range(0, rows, step))
