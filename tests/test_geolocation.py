"""Geolocation grids: places on the ground to places in the image, on a whole scene's bent track and in mountains."""

from __future__ import annotations

import numpy as np
import pyproj
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox
from safe_files import Ground

from geoseg.errors import SceneError
from geoseg.radar.geolocation import GeolocationGrid, Places

rng = np.random.default_rng(5)
HALF = np.array([0.5])
LARGE, LONG_TRACK = (16703, 25788), Ground(turned=-167.0, bend_m=180.0)
"""A whole IW scene, descending."""


def large_grid(thrown=0.0):
    """Its geolocation grid, whose points relief has thrown along the line by up to so many metres; and the points in UTM."""
    lines, samples = np.array([*range(0, 15000, 1856), 16702.0]), np.array([*range(0, 25000, 1290), 25787.0])
    line, sample = np.meshgrid(lines, samples, indexing="ij")
    throw = np.random.default_rng(3).uniform(0, thrown, line.shape)
    x, y = LONG_TRACK.at(line, sample - throw / 10, LARGE, 10.0)
    lon, lat = pyproj.Transformer.from_crs("EPSG:32632", "EPSG:4326", always_xy=True).transform(x, y)
    return GeolocationGrid(LARGE, lines, samples, lat, lon, throw, 30 + sample / 1600), (line, sample, x, y)


def place(grid, x, y, pixel=10.0):
    """(row, col) in the image of one pixel of a map in UTM."""
    row, col = Places(grid, GeoBox((1, 1), Affine(pixel, 0, x - pixel / 2, 0, -pixel, y + pixel / 2), "EPSG:32632"))(HALF, HALF)
    return row.item(), col.item()


def test_places_follow_a_turned_and_bent_track():
    grid, _ = large_grid()
    for line, sample in rng.uniform((0, 0), LARGE, (50, 2)):
        row, col = place(grid, *LONG_TRACK.at(line, sample, LARGE, 10.0))
        assert (row, col) == pytest.approx((line + 0.5, sample + 0.5), abs=0.005)


def test_points_of_the_grid_are_met_in_mountains():
    grid, points = large_grid(thrown=2500.0)
    for line, sample, x, y in np.stack(points, axis=-1).reshape(-1, 4)[::7]:
        assert place(grid, x, y) == pytest.approx((line + 0.5, sample + 0.5), abs=0.005)


def test_an_inverse_place_leads_back():
    grid, _ = large_grid(thrown=2500.0)
    row, col = (rng.uniform(0, size, 1000) for size in LARGE)
    back = grid.from_plane(*grid.to_plane(row, col))
    assert np.allclose(back, (row, col), rtol=0, atol=1e-3)


def test_a_coarse_map_meets_the_same_places():
    grid, _ = large_grid()
    x, y = LONG_TRACK.at(8000, 13000, LARGE, 10.0)
    assert place(grid, x, y, pixel=900.0) == pytest.approx((8000.5, 13000.5), abs=0.1)


def test_places_beyond_the_world_are_nowhere():
    grid, _ = large_grid()
    row, col = Places(grid, GeoBox((1, 1), Affine(1, 0, 500, 0, -1, 300), "EPSG:4326"))(HALF, HALF)
    assert not (0 <= row.item() < LARGE[0] and 0 <= col.item() < LARGE[1])


def test_a_grid_with_a_gap_is_refused():
    axes = np.array([0.0, 10.0])
    whole = np.ones((2, 2))
    with pytest.raises(SceneError, match="has gaps"):
        GeolocationGrid((11, 11), axes, axes, whole, np.array([[1, np.nan], [1, 1]]), whole, whole)
    GeolocationGrid((11, 11), axes, axes, whole, whole, whole, whole)
