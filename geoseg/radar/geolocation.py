"""A radar image's geolocation grid: where each line and sample lies on the ground, and which line and sample lie at a place.

The grid states a place for some lines and samples. In a projection around the image's middle these places are nearly an affine
map of line and sample; what is left is a smooth part (the track is no straight line), fitted by a polynomial of third degree, and
what the heights of the grid's points add, which is linear between them. So the grid's own points are met exactly, the bend between
them too, and steep ground does not make the places between its points swing.

Places in the image are (row, col) as floats, as in `geoseg.io.resample`: sample 0 of line 0 covers [0, 1) and has its centre at 0.5.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyproj
from affine import Affine
from numpy.typing import NDArray
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox

from geoseg.errors import SceneError
from geoseg.io.resample import NOWHERE, Floats, Placement

_DEGREE = 3
_EXACT = 1e-7
"""Pixels by which an inverse may be off, as a share of how far the image departs from `plane`."""
_MOST_ITERATIONS = 48
_MESH = 16
"""Places are computed for every 16th source pixel and are linear between; 1e-4 of a pixel off at most, but near lines of the grid."""
_SHARP = 0.01
"""Where relief bends the places by more than this part of a pixel at lines of the grid, pixels near them are computed one by one."""
_BEYOND = 64
"""Pixels beyond the image to which the polynomial is followed."""


@dataclass(frozen=True)
class GeolocationGrid:
    """Places on the ground of some lines and samples of an image."""

    shape: tuple[int, int]
    """Lines and samples of the image."""
    lines: Floats
    """(line,) of the grid, ascending, counted from 0 at the centre of the first line."""
    samples: Floats
    """(sample,) of the grid, ascending, counted from 0 at the centre of the first sample."""
    latitude: Floats
    """(line, sample) in degrees on WGS 84, as all below."""
    longitude: Floats
    height: Floats
    """In metres: the ground's, to which latitude and longitude belong."""
    incidence: Floats
    """Incidence angle in degrees."""

    def __post_init__(self) -> None:
        expected = (len(self.lines), len(self.samples))
        planes = (self.latitude, self.longitude, self.height, self.incidence)
        ordered = all(len(axis) >= 2 and np.all(np.diff(axis) > 0) for axis in (self.lines, self.samples))
        if not ordered or any(plane.shape != expected or not np.isfinite(plane).all() for plane in planes):
            raise SceneError("the geolocation grid of the annotation has gaps or is out of order; fetch the product again")

    @property
    def centre(self) -> tuple[float, float]:
        """(longitude, latitude) in degrees of the middle of the grid, also across the antimeridian and over a pole."""
        lon, lat = np.radians(self.longitude), np.radians(self.latitude)
        x, y, z = (float(np.mean(part)) for part in (np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)))
        return round(float(np.degrees(np.arctan2(y, x))), 4), round(float(np.degrees(np.arctan2(z, np.hypot(x, y)))), 4)

    @cached_property
    def plane(self) -> GeoBox:
        """The image as if it lay straight on the ground: the affine map nearest to the grid, in a projection around its middle."""
        crs, x, y = self._projected
        line, sample = np.meshgrid(self.lines + 0.5, self.samples + 0.5, indexing="ij")
        design = np.stack([sample.ravel(), line.ravel(), np.ones(line.size)], axis=1)
        (a, d), (b, e), (c, f) = np.linalg.lstsq(design, np.stack([x.ravel(), y.ravel()], axis=1), rcond=None)[0]
        return GeoBox(self.shape, Affine(a, b, c, d, e, f), crs)

    def incidence_at(self, row: Floats, col: Floats) -> Floats:
        """Incidence angle in degrees at these places; linear between the grid's points, beyond the grid its edge goes on."""
        return _bilinear(self.lines + 0.5, self.samples + 0.5, self.incidence, row, col)

    def to_plane(self, row: Floats, col: Floats) -> tuple[Floats, Floats]:
        """Where these places of the image lie on `plane`, as its (row, col)."""
        down, across = self._deviation(row, col)
        return row + down, col + across

    def from_plane(self, row: Floats, col: Floats, near: tuple[Floats, Floats] | None = None) -> tuple[Floats, Floats]:
        """Which place of the image lies at (row, col) of `plane`: the inverse of `to_plane`, found step by step from `near`.

        The number of steps is that of the whole grid, so a place does not depend on those that are asked for with it.
        """
        at_row, at_col = near or (row, col)
        for _ in range(self._iterations):
            down, across = self._deviation(at_row, at_col)
            at_row, at_col = row - down, col - across
        return at_row, at_col

    def bends_near(self, row: Floats, col: Floats, reach: float) -> NDArray[np.bool_]:
        """Where a line of the grid, at which relief bends the places sharply, lies within `reach` pixels of these places of the image."""
        if self._steepest(self._departure[1]) * reach < _SHARP:
            return np.zeros(row.shape, dtype=bool)
        near: NDArray[np.bool_] = _next_to(self.lines + 0.5, row, reach) | _next_to(self.samples + 0.5, col, reach)
        return near

    def outline(self, crs: Any, points_per_side: int = 33) -> Floats:
        """(point, 2) x and y in `crs` along the image's edge."""
        along = np.linspace(0, 1, points_per_side)
        there, ends = np.concatenate([along, np.ones_like(along), along[::-1], np.zeros_like(along)]), self.shape
        row, col = self.to_plane(np.roll(there, points_per_side) * ends[0], there * ends[1])
        a, b, c, d, e, f, *_ = self.plane.affine
        x, y = a * col + b * row + c, d * col + e * row + f
        return np.stack(pyproj.Transformer.from_crs(self._projected[0].proj, crs, always_xy=True).transform(x, y), axis=1)

    @cached_property
    def _projected(self) -> tuple[CRS, Floats, Floats]:
        """A projection around the middle, and the grid's points in it."""
        lon, lat = self.centre
        crs = CRS(pyproj.CRS(f"+proj=laea +lon_0={lon!r} +lat_0={lat!r} +datum=WGS84 +units=m +type=crs").to_wkt())
        x, y = pyproj.Transformer.from_crs("EPSG:4326", crs.proj, always_xy=True).transform(self.longitude, self.latitude)
        return crs, x, y

    @cached_property
    def _departure(self) -> tuple[Floats, Floats]:
        """How the grid's points depart from `plane`: polynomial (term, 2), and what it leaves of each point (2, line, sample)."""
        _, x, y = self._projected
        a, b, c, d, e, f, *_ = ~self.plane.affine
        row, col = d * x + e * y + f, a * x + b * y + c
        line, sample = np.meshgrid(self.lines + 0.5, self.samples + 0.5, indexing="ij")
        departure = np.stack([row - line, col - sample])
        terms = np.stack([term.ravel() for term in self._terms(line, sample)], axis=1)
        polynomial = np.linalg.lstsq(terms, departure.reshape(2, -1).T, rcond=None)[0]
        return polynomial, departure - (terms @ polynomial).T.reshape(departure.shape)

    @cached_property
    def _stretch(self) -> float:
        """By how much of a pixel the departure changes from pixel to pixel, at most: 0.001 over the sea, 0.2 in the Alps."""
        at_points = np.meshgrid(self.lines + 0.5, self.samples + 0.5, indexing="ij")
        return self._steepest(self._departure[1] + np.stack(self._fitted(*at_points)))

    def _steepest(self, departure: Floats) -> float:
        """Largest change of (2, line, sample) from pixel to pixel between points of the grid, down and across together."""
        down = np.abs(np.diff(departure, axis=1)) / np.diff(self.lines)[:, np.newaxis]
        across = np.abs(np.diff(departure, axis=2)) / np.diff(self.samples)
        return float(down.max() + across.max())

    @cached_property
    def _iterations(self) -> int:
        """Each step brings the place nearer by the factor `_stretch`."""
        return min(_MOST_ITERATIONS, max(4, int(np.ceil(np.log(_EXACT) / np.log(min(self._stretch + 0.01, 0.75))))))

    def _fitted(self, row: Floats, col: Floats) -> tuple[Floats, Floats]:
        down, across = np.zeros(row.shape), np.zeros(row.shape)
        for (to_row, to_col), term in zip(self._departure[0], self._terms(row, col), strict=True):
            down, across = down + to_row * term, across + to_col * term
        return down, across

    def _terms(self, row: Floats, col: Floats) -> list[Floats]:
        """Terms of the polynomial, in shares of the image; no more along an axis than the grid has points to fit them."""
        down, across = 2 * row / self.shape[0] - 1, 2 * col / self.shape[1] - 1
        powers = [[np.ones_like(axis)] for axis in (down, across)]
        for axis, known, count in zip((down, across), powers, (len(self.lines), len(self.samples)), strict=True):
            for _ in range(min(_DEGREE, count - 1)):
                known.append(known[-1] * axis)
        return [one * other for i, one in enumerate(powers[0]) for j, other in enumerate(powers[1]) if i + j <= _DEGREE]

    def _deviation(self, row: Floats, col: Floats) -> tuple[Floats, Floats]:
        """How far, down and across, places of the image lie from where they would on `plane`; beyond the image as at its edge."""
        row, col = np.clip(row, -_BEYOND, self.shape[0] + _BEYOND), np.clip(col, -_BEYOND, self.shape[1] + _BEYOND)
        smooth = self._fitted(row, col)
        by_relief = (_bilinear(self.lines + 0.5, self.samples + 0.5, part, row, col) for part in self._departure[1])
        down, across = (one + other for one, other in zip(smooth, by_relief, strict=True))
        return down, across


@dataclass(frozen=True)
class Places:
    """Where the pixels of a target grid lie in an image that has a geolocation grid; the same in every window of the target."""

    grid: GeolocationGrid
    target: GeoBox

    @cached_property
    def _plane(self) -> Placement:
        return Placement(self.grid.plane, self.target)

    @property
    def coarseness(self) -> tuple[float, float]:
        """Size of a target pixel in source pixels, down and across."""
        return self._plane.coarseness

    def __call__(self, rows: Floats, cols: Floats) -> tuple[Floats, Floats]:
        """(row, col) in the image, each (n, m), of target rows (n,) and columns (m,) that are whole or half numbers; ascending."""
        step = self._step
        first_row, first_col = self._plane.origin
        down, down_part = _nodes(rows + first_row, step)
        across, across_part = _nodes(cols + first_col, step)
        at = self._plane(*np.meshgrid(down * step - first_row, across * step - first_col, indexing="ij"))
        known = np.minimum(*at) > NOWHERE
        nodes = [np.where(known, node, NOWHERE) for node in (*at, *self.grid.from_plane(*at))]
        row, col = (_between(node, down, across, down_part, across_part) for node in nodes[2:])
        if (near := self.grid.bends_near(row, col, 2 * step * max(self.coarseness))).any():
            plane_row, plane_col = (_between(node, down, across, down_part, across_part)[near] for node in nodes[:2])
            row[near], col[near] = self.grid.from_plane(plane_row, plane_col, (row[near], col[near]))
        return row, col

    @cached_property
    def _step(self) -> int:
        """Target pixels from node to node: a power of two, so that a pixel's share between nodes is exact."""
        coarsest = max(*self.coarseness, 1e-3)
        return 1 << max(0, round(float(np.log2(_MESH / coarsest))))


def _nodes(places: Floats, step: int) -> tuple[Floats, Floats]:
    """Whole numbers of the nodes around these ascending places, without gaps, and each place counted in nodes."""
    counted = places / step
    first, last = np.floor(counted[0]), np.floor(counted[-1]) + 1
    return np.arange(first, last + 1), counted


def _between(node: Floats, down: Floats, across: Floats, rows: Floats, cols: Floats) -> Floats:
    """(n, m) values between the nodes (k, l) at places that are counted in nodes."""
    left, top = np.floor(cols), np.floor(rows)
    part, at = cols - left, (left - across[0]).astype(np.int64)
    along = node[:, at] * (1 - part) + node[:, at + 1] * part
    part, at = (rows - top)[:, np.newaxis], (top - down[0]).astype(np.int64)
    result: Floats = along[at] * (1 - part) + along[at + 1] * part
    return result


def _next_to(lines: Floats, places: Floats, reach: float) -> NDArray[np.bool_]:
    """Which places lie within `reach` of one of these ascending lines."""
    near: NDArray[np.bool_] = np.searchsorted(lines, places - reach) < np.searchsorted(lines, places + reach)
    return near


def _bilinear(rows: Floats, cols: Floats, values: Floats, row: Floats, col: Floats) -> Floats:
    """Values (row, col) of a grid with uneven rows and columns, at places of one shape; beyond the grid its edge goes on."""
    i = np.clip(np.searchsorted(rows, row, side="right") - 1, 0, len(rows) - 2)
    j = np.clip(np.searchsorted(cols, col, side="right") - 1, 0, len(cols) - 2)
    down = np.clip((row - rows[i]) / (rows[i + 1] - rows[i]), 0.0, 1.0)
    across = np.clip((col - cols[j]) / (cols[j + 1] - cols[j]), 0.0, 1.0)
    top = values[i, j] * (1 - across) + values[i, j + 1] * across
    bottom = values[i + 1, j] * (1 - across) + values[i + 1, j + 1] * across
    result: NDArray[Any] = top * (1 - down) + bottom * down
    return result
