"""Squared outlines are right-angled, close to what was traced, and none overlaps another; what has no right angles stays as it is."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from geopandas import GeoDataFrame
from numpy.typing import NDArray
from rasterio.features import rasterize
from scipy.ndimage import gaussian_filter
from shapely.affinity import affine_transform, rotate, scale, translate

from geoseg.ground import corners_to_map, geodesic_area_m2, local_scale, pixel_size_m
from geoseg.legend import Legend
from geoseg.polygons import squares
from geoseg.polygons.buildings import square_buildings
from geoseg.polygons.outlines import trace_polygons
from geoseg.polygons.squares import LEAST_IOU, MOST_MOVED, Squared, square_outline
from geoseg.polygons.stream import trace_outlines
from geoseg.polygons.strips import map_geobox

LEGEND = Legend.from_names(["ground", "road", "building"])
UTM = Affine(0.3, 0, 500_000, 0, -0.3, 5_700_000)
RECTANGLE = shapely.box(-15, -10, 15, 10)
L_SHAPE = shapely.Polygon([(-15, -15), (15, -15), (15, 0), (0, 0), (0, 15), (-15, 15)])
U_SHAPE = shapely.Polygon([(-20, -15), (20, -15), (20, 15), (8, 15), (8, 0), (-8, 0), (-8, 15), (-20, 15)])
COURTYARD = shapely.box(-20, -20, 20, 20) - shapely.box(-8, -6, 8, 6)
CUT_CORNER = shapely.Polygon([(-20, -20), (20, -20), (20, 5), (5, 20), (-20, 20)])
CIRCLE = shapely.Point(0, 0).buffer(12, 64)
TRIANGLE = shapely.Polygon([(-20, -15), (20, -15), (0, 20)])


def turned(shape: shapely.Polygon, degrees: float, *, at: tuple[float, float] = (40, 40)) -> shapely.Polygon:
    return translate(rotate(shape, degrees, origin=(0, 0)), *at)


def traced(shape: shapely.Polygon, *, side: int = 80) -> list[NDArray[np.int32]]:
    """The rings of the pixels whose centres lie in the shape, given in pixels."""
    numbers = rasterize([shape], (side, side), fill=0, dtype="int32") - 1
    outlines = trace_outlines(numbers, -1)
    first, last = outlines.polygon_offsets[:2]
    ends = outlines.ring_offsets[first : last + 1]
    return [np.column_stack([outlines.col[a:b], outlines.row[a:b]]) for a, b in pairwise(ends)]


def polygon(rings) -> shapely.Polygon:
    return shapely.Polygon(rings[0], rings[1:])


def iou(one: shapely.Polygon, other: shapely.Polygon) -> float:
    return one.intersection(other).area / one.union(other).area


def corners(squared: Squared) -> int:
    return sum(len(ring) - 1 for ring in squared.rings)


@pytest.mark.parametrize("degrees", [0, 1, 3, 7, 15, 22, 30, 37, 45, 52, 61, 75, 88, 89, 90])
@pytest.mark.parametrize("shape", [shapely.box(-10, -10, 10, 10), RECTANGLE], ids=["square", "rectangle"])
def test_a_turned_rectangle_comes_back_with_four_corners(shape, degrees):
    truth = turned(shape, degrees)
    squared = square_outline(traced(truth), np.eye(2))
    assert squared is not None
    assert corners(squared) == 4
    assert iou(polygon(squared.rings), truth) >= 0.95


@pytest.mark.parametrize("degrees", [0, 10, 20, 33, 45, 58, 71, 84])
@pytest.mark.parametrize(
    ("shape", "count"), [(L_SHAPE, 6), (U_SHAPE, 8), (COURTYARD, 8), (CUT_CORNER, 5)], ids=["L", "U", "courtyard", "cut corner"]
)
def test_other_shapes_keep_their_corners(shape, count, degrees):
    truth = turned(shape, degrees)
    squared = square_outline(traced(truth), np.eye(2))
    assert squared is not None
    assert corners(squared) == count
    assert iou(polygon(squared.rings), truth) >= 0.95


@pytest.mark.parametrize("shape", [CIRCLE, scale(CIRCLE, 1.5, 0.8), TRIANGLE], ids=["circle", "ellipse", "triangle"])
def test_what_has_no_right_angles_is_left_as_it_is(shape):
    assert square_outline(traced(turned(shape, 20)), np.eye(2)) is None


def test_a_square_on_the_grid_stays_exactly():
    truth = shapely.box(7, 11, 29, 40)
    squared = square_outline(traced(truth), np.eye(2))
    assert squared is not None
    assert squared.moved < 1e-9
    assert shapely.normalize(polygon(np.round(squared.rings, 9))) == shapely.normalize(truth)


def test_right_angles_are_right():
    squared = square_outline(traced(turned(U_SHAPE, 27)), np.eye(2))
    assert squared is not None
    walls = np.diff(squared.rings[0], axis=0)
    products = (walls * np.roll(walls, 1, axis=0)).sum(axis=1)
    np.testing.assert_allclose(products, 0, atol=1e-6)


@pytest.mark.parametrize("seed", range(6))
def test_what_is_squared_keeps_within_its_limits(seed):
    rng = np.random.default_rng(seed)
    blurred = gaussian_filter(rasterize([turned(L_SHAPE, rng.uniform(0, 90))], (80, 80), fill=0, dtype="float32"), 1.5)
    outlines = trace_outlines(np.where(blurred + 0.15 * gaussian_filter(rng.standard_normal((80, 80)), 1) > 0.5, 0, -1), -1)
    ends = outlines.ring_offsets
    rings = [np.column_stack([outlines.col[a:b], outlines.row[a:b]]) for a, b in pairwise(ends)]
    squared = square_outline(rings, np.eye(2))
    assert squared is not None
    old, new = polygon(rings), polygon(squared.rings)
    dense = [shapely.points(shapely.get_coordinates(shapely.segmentize(line, 0.02))) for line in (old.boundary, new.boundary)]
    moved = max(shapely.distance(dense[0], new.boundary).mean(), shapely.distance(dense[1], old.boundary).mean())
    assert new.is_valid
    assert moved <= MOST_MOVED
    assert squared.moved == pytest.approx(moved, rel=0.05)
    assert squared.iou == pytest.approx(iou(old, new))
    assert squared.iou >= LEAST_IOU


def test_an_outline_that_would_move_too_far_is_left_as_it_is(monkeypatch):
    rings = traced(turned(L_SHAPE, 33))
    monkeypatch.setattr(squares, "MOST_MOVED", 0.1)
    assert square_outline(rings, np.eye(2)) is None


def test_squaring_does_not_depend_on_where_the_grid_begins():
    rings, far = traced(turned(L_SHAPE, 33)), np.array([1000, 70_000])
    here, there = square_outline(rings, np.eye(2)), square_outline([ring + far for ring in rings], np.eye(2))
    assert here is not None
    assert there is not None
    np.testing.assert_array_equal(np.round(here.rings[0] + far, 6), np.round(there.rings[0], 6))


def test_angles_are_right_on_the_ground_where_pixels_are_not_square():
    ground = turned(RECTANGLE, 30)
    pixels = affine_transform(ground, [2, 0, 0, 1, 0, 0])  # a pixel is half as wide as high
    squared = square_outline(traced(pixels, side=160), np.diag([0.5, 1.0]))
    assert squared is not None
    assert corners(squared) == 4
    assert iou(polygon(squared.rings), pixels) >= 0.95
    assert not np.allclose(
        (np.diff(squared.rings[0], axis=0) * np.roll(np.diff(squared.rings[0], axis=0), 1, axis=0)).sum(axis=1), 0, atol=5
    )


# Polygons of a map


def write_map(path: Path, shapes, *, side: int = 200, crs: str = "EPSG:32630", transform: Affine = UTM, road: bool = True) -> Path:
    """Buildings (2), given in pixels, on ground (0) that a road (1) crosses; two corners without data."""
    codes = np.zeros((side, side), np.uint8)
    codes[:, side // 2 : side // 2 + 12] = int(road)
    codes[rasterize(shapes, (side, side), fill=0, dtype="uint8") > 0] = 2
    codes[:8, :8] = codes[-8:, -8:] = 255
    with rasterio.open(
        path, "w", driver="GTiff", height=side, width=side, count=1, dtype="uint8", nodata=255, crs=crs, transform=transform
    ) as file:
        file.write(codes, 1)
    return path


def town(seed: int = 0, *, side: int = 200, apart: float = 1.5) -> list[shapely.Polygon]:
    """Turned rectangles in pixels, some of them on the road and some near one another."""
    rng = np.random.default_rng(seed)
    kept: list[shapely.Polygon] = []
    for _ in range(120):
        width, height = rng.uniform(9, 30, 2)
        new = turned(shapely.box(0, 0, width, height), rng.uniform(0, 90), at=rng.uniform(25, side - 25, 2))
        if all(new.distance(one) > apart for one in kept):
            kept.append(new)
    return kept


def buildings(frame: GeoDataFrame) -> GeoDataFrame:
    return frame[frame["class_code"] == 2]


@pytest.mark.parametrize("seed", range(3))
def test_polygons_stay_valid_and_none_overlaps_another(tmp_path, seed):
    path = write_map(tmp_path / "map.tif", town(seed))
    frame, plain = trace_polygons(path, LEGEND, square=[2]), trace_polygons(path, LEGEND)
    shapes = frame.geometry.to_numpy()
    first, second = shapely.STRtree(shapes).query(shapes, predicate="intersects")
    apart = first < second
    assert shapely.area(shapely.intersection(shapes[first[apart]], shapes[second[apart]])).max() < 1e-7
    assert shapely.is_valid(shapes).all()
    assert shapely.is_ccw(shapely.get_exterior_ring(shapely.get_parts(shapes))).all()
    assert buildings(frame)["squared"].mean() > 0.8
    assert frame["class_code"].tolist() == plain["class_code"].tolist()
    gone = shapely.union_all(plain.geometry.to_numpy()) - shapely.union_all(shapes)
    assert gone.area < 1e-6  # every place that had a class has one


def test_only_the_class_asked_for_is_squared(tmp_path):
    frame = trace_polygons(write_map(tmp_path / "map.tif", town(), road=False), LEGEND, square=[2])
    assert not frame.loc[frame["class_code"] != 2, "squared"].any()
    assert "squared" not in trace_polygons(tmp_path / "map.tif", LEGEND)


def test_areas_are_those_of_the_squared_polygons(tmp_path):
    frame = trace_polygons(write_map(tmp_path / "map.tif", town()), LEGEND, square=[2])
    np.testing.assert_allclose(frame["area_m2"], geodesic_area_m2(frame.geometry.to_numpy(), "EPSG:32630"), rtol=1e-6)


def test_a_building_left_as_it_is_is_flagged_and_unchanged(tmp_path):
    path = write_map(tmp_path / "map.tif", [turned(CIRCLE, 0, at=(40, 40)), turned(RECTANGLE, 25, at=(160, 60))])
    frame, plain = buildings(trace_polygons(path, LEGEND, square=[2])), buildings(trace_polygons(path, LEGEND))
    assert frame["squared"].tolist() == [False, True]
    assert [new == old for new, old in zip(frame.geometry, plain.geometry, strict=True)] == [True, False]


def test_of_two_buildings_that_would_overlap_when_squared_one_is_left(tmp_path):
    first, second = turned(RECTANGLE, 0, at=(60, 60)), turned(shapely.box(-15, 0, 15, 18), 10, at=(60, 70))
    path = write_map(tmp_path / "map.tif", [second - first.buffer(1), first])
    alone = [square_outline(traced(shape, side=200), np.eye(2)) for shape in (first, second - first.buffer(1))]
    assert polygon(alone[0].rings).intersection(polygon(alone[1].rings)).area > 1
    frame = buildings(trace_polygons(path, LEGEND, square=[2]))
    assert sorted(frame["squared"]) == [False, True]
    assert frame.geometry.iloc[0].intersection(frame.geometry.iloc[1]).area < 1e-7


def test_two_halves_of_a_house_share_their_wall(tmp_path):
    whole = rasterize([turned(RECTANGLE, 0)], (80, 80), fill=0, dtype="int32") - 1
    halves = np.where(whole == 0, (np.arange(80) >= 40).astype(np.int32), -1).astype(np.int32)
    outlines = trace_outlines(halves, -1, nodes=True)
    geobox = map_geobox(write_map(tmp_path / "map.tif", [RECTANGLE]))
    corner = corners_to_map(geobox.affine, outlines.col, outlines.row)
    offsets = (outlines.ring_offsets, outlines.polygon_offsets)
    shapes = shapely.from_ragged_array(shapely.GeometryType.POLYGON, corner, offsets)
    new, squared = square_buildings(shapes, outlines, np.ones(2, bool), geobox)
    assert squared.all()
    assert new[0].intersection(new[1]).length == pytest.approx(20 * 0.3)


@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        ("EPSG:3857", Affine(0.6, 0, 1_000_000, 0, -0.6, 8_400_000)),
        ("EPSG:4326", Affine(5.4e-6, 0, 10, 0, -2.7e-6, 60)),
        ("EPSG:32630", Affine(0.24, 0.18, 5e5, 0.18, -0.24, 5.7e6)),
    ],
    ids=["mercator", "degrees", "turned grid"],
)
def test_maps_in_any_crs_are_squared_on_the_ground(tmp_path, crs, transform):
    path = write_map(tmp_path / "map.tif", [turned(RECTANGLE, 25, at=(70, 60))], crs=crs, transform=transform)
    frame = buildings(trace_polygons(path, LEGEND, square=[2]))
    shape = frame.geometry.iloc[0]
    assert frame["squared"].all()
    ring = shapely.get_coordinates(shape)
    assert len(ring) == 5
    walls = np.diff(ring, axis=0) * local_scale(ring[:1], crs)
    cosine = (walls[0] * walls[1]).sum() / np.prod(np.linalg.norm(walls[:2], axis=1))
    assert abs(cosine) < 1e-4


def test_simplified_neighbours_still_fit_squared_buildings(tmp_path):
    path = write_map(tmp_path / "map.tif", town(1))
    shapes = trace_polygons(path, LEGEND, square=[2], simplify_m=0.5).geometry.to_numpy()
    first, second = shapely.STRtree(shapes).query(shapes, predicate="intersects")
    apart = first < second
    assert shapely.is_valid(shapes).all()
    assert shapely.area(shapely.intersection(shapes[first[apart]], shapes[second[apart]])).max() < 1e-7


def test_a_building_does_not_swallow_what_lies_inside_it(tmp_path):
    codes = np.zeros((60, 60), np.uint8)
    codes[10:40, 10:40] = 2
    codes[25, 39] = 1  # one pixel of road in the wall
    path = write_map(tmp_path / "map.tif", [shapely.box(0, 0, 1, 1)], side=60)
    with rasterio.open(path, "r+") as file:
        file.write(codes, 1)
    frame = trace_polygons(path, LEGEND, square=[2])
    assert len(frame) == 3
    assert not frame["squared"].any()
    assert (frame["area_m2"] > 0).all()


def test_a_map_without_buildings_has_none_squared(tmp_path):
    frame = trace_polygons(write_map(tmp_path / "map.tif", [shapely.box(0, 0, 1, 1)]), LEGEND, square=[2])
    assert frame["squared"].tolist() == [False] * len(frame)


def test_local_scale_is_that_of_the_pixels(tmp_path):
    for crs, transform in (("EPSG:3857", Affine(10, 0, 1e6, 0, -10, 8.4e6)), ("EPSG:4326", Affine(1e-4, 0, 10, 0, -1e-4, 60))):
        geobox = map_geobox(write_map(tmp_path / "map.tif", [shapely.box(0, 0, 1, 1)], crs=crs, transform=transform))
        middle = np.array([transform * (100.0, 100.0)])
        height, width = pixel_size_m(geobox)
        np.testing.assert_allclose(local_scale(middle, crs)[0] * transform.a, [width, height], rtol=1e-6)
