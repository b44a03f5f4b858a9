"""Polygons of a class map: lossless, valid, measured on the ground; GDAL's own polygoniser is the oracle."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyproj
import pytest
import rasterio
import shapely
from affine import Affine
from geopandas import GeoDataFrame
from numpy.typing import NDArray
from rasterio.features import rasterize, shapes
from scipy.ndimage import gaussian_filter

from geoseg.errors import InputError, SceneError
from geoseg.ground import geodesic_area_m2, pixel_areas_m2
from geoseg.legend import Legend, LegendClass
from geoseg.polygons import strips
from geoseg.polygons.outlines import trace_polygons
from geoseg.polygons.regions import find_regions
from geoseg.polygons.strips import map_geobox

LEGEND = Legend.from_names(["water", "wood", "field", "town"])
UTM = Affine(10, 0, 5e5, 0, -10, 5.7e6)


def write_map(path: Path, codes: NDArray[np.integer], *, crs: str = "EPSG:32630", transform: Affine = UTM, nodata: int = 255) -> Path:
    height, width = codes.shape
    profile = {"driver": "GTiff", "height": height, "width": width, "count": 1, "dtype": codes.dtype, "nodata": nodata}
    with rasterio.open(path, "w", **profile, crs=crs, transform=transform) as file:
        file.write(codes, 1)
    return path


def patchy(shape: tuple[int, int] = (96, 80), *, seed: int = 0, smoothness: float = 1.5) -> NDArray[np.uint8]:
    """Four classes in patches with holes and corners that touch, and some pixels without data."""
    noise = gaussian_filter(np.random.default_rng(seed).standard_normal((5, *shape)), (0, smoothness, smoothness))
    codes = noise.argmax(axis=0).astype(np.uint8)
    return np.where(codes == 4, 255, codes).astype(np.uint8)


def burn(frame: GeoDataFrame, shape: Sequence[int], transform: Affine) -> NDArray[np.uint8]:
    pairs = zip(frame.geometry, frame["class_code"].tolist(), strict=True)
    burned: NDArray[np.uint8] = rasterize(pairs, out_shape=tuple(shape), transform=transform, fill=255, dtype="uint8")
    return burned


@pytest.mark.parametrize("smoothness", [0.1, 1.5, 6.0])
def test_polygons_rasterised_again_are_the_map(tmp_path: Path, smoothness: float) -> None:
    codes = patchy(smoothness=smoothness)
    frame = trace_polygons(write_map(tmp_path / "map.tif", codes), LEGEND)
    np.testing.assert_array_equal(burn(frame, codes.shape, UTM), codes)


@pytest.mark.parametrize("seed", range(4))
def test_polygons_are_those_of_gdal(tmp_path: Path, seed: int) -> None:
    codes = patchy((23, 37), seed=seed, smoothness=0.4)
    frame = trace_polygons(write_map(tmp_path / "map.tif", codes), LEGEND)
    expected = [shapely.geometry.shape(shape) for shape, code in shapes(codes, connectivity=4, transform=UTM) if code != 255]
    assert sorted(shapely.normalize(expected), key=str) == sorted(shapely.normalize(frame.geometry.to_numpy()), key=str)
    assert frame.geometry.is_valid.all()


def test_a_region_that_meets_itself_at_a_corner_is_valid(tmp_path: Path) -> None:
    codes = np.array([[0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]], dtype=np.uint8)
    frame = trace_polygons(write_map(tmp_path / "map.tif", codes), LEGEND)
    assert frame["class_code"].tolist() == [0, 1, 1]
    assert frame.geometry.is_valid.all()
    assert len(frame.geometry[0].interiors) == 2


def test_the_map_does_not_depend_on_the_strips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_map(tmp_path / "map.tif", patchy())
    whole = trace_polygons(path, LEGEND)
    monkeypatch.setattr(strips, "_PIXELS_IN_A_STRIP", 80 * 7)
    divided = trace_polygons(path, LEGEND)
    assert (divided.geometry == whole.geometry).all()
    np.testing.assert_allclose(divided["area_m2"], whole["area_m2"], rtol=1e-8)
    assert len(find_regions(path).of_parts) == 14


def test_regions_come_in_the_order_of_their_first_pixels(tmp_path: Path) -> None:
    codes = patchy(smoothness=0.5)
    frame = trace_polygons(write_map(tmp_path / "map.tif", codes), LEGEND)
    tops = rasterize(((shape, number) for number, shape in enumerate(frame.geometry)), codes.shape, fill=-1, transform=UTM, dtype="int32")
    numbers, first = np.unique(tops[codes != 255], return_index=True)
    assert (np.diff(first) > 0).all()
    assert numbers.tolist() == list(range(len(frame)))


@pytest.mark.parametrize(
    ("crs", "place", "pixel"),
    [("EPSG:3857", (10, 60), 10), ("EPSG:2263", (-74, 40.7), 3), ("EPSG:4326", (10, 60), 1e-4), ("EPSG:32630+5773", (-2, 51), 10)],
)
def test_areas_are_square_metres_on_the_ground(tmp_path: Path, crs: str, place: tuple[float, float], pixel: float) -> None:
    x, y = pyproj.Transformer.from_crs(4326, crs, always_xy=True).transform(*place)
    path = write_map(tmp_path / "map.tif", patchy(), crs=crs, transform=Affine(pixel, 0, x, 0, -pixel, y))
    frame = trace_polygons(path, LEGEND)
    codes = patchy()
    areas = np.broadcast_to(pixel_areas_m2(map_geobox(path)), codes.shape)
    for item in LEGEND.classes:
        assert frame.loc[frame["class_name"] == item.name, "area_m2"].sum() == pytest.approx(areas[codes == item.code].sum(), rel=1e-9)
    np.testing.assert_allclose(geodesic_area_m2(frame.geometry.to_numpy(), crs), frame["area_m2"], rtol=1e-6)
    assert pyproj.CRS(frame.crs).equals(pyproj.CRS(map_geobox(path).crs.to_wkt()))


def test_outer_rings_turn_as_the_standard_wants(tmp_path: Path) -> None:
    for name, transform in (
        ("north-up", UTM),
        ("south-up", Affine(10, 0, 5e5, 0, 10, 5.7e6)),
        ("rotated", Affine(8, 6, 5e5, 6, -8, 5.7e6)),
    ):
        frame = trace_polygons(write_map(tmp_path / f"{name}.tif", patchy(), transform=transform), LEGEND)
        assert shapely.is_ccw(shapely.get_exterior_ring(frame.geometry.to_numpy())).all()
        np.testing.assert_array_equal(burn(frame, (96, 80), transform), patchy())


def test_codes_beyond_a_byte_keep_their_names(tmp_path: Path) -> None:
    legend = Legend((LegendClass(0, 523, "sea", "#0000ff"), LegendClass(1, 111, "town", "#ff0000")), nodata=65535)
    codes = np.array([[523, 111, 65535]], dtype=np.uint16)
    frame = trace_polygons(write_map(tmp_path / "map.tif", codes, nodata=65535), legend)
    assert list(zip(frame["class_code"], frame["class_name"], strict=True)) == [(523, "sea"), (111, "town")]


def test_a_code_outside_the_legend_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="9"):
        trace_polygons(write_map(tmp_path / "map.tif", np.array([[0, 9]], dtype=np.uint8)), LEGEND)


def test_a_map_without_classes_has_no_polygons(tmp_path: Path) -> None:
    frame = trace_polygons(write_map(tmp_path / "map.tif", np.full((3, 4), 255, dtype=np.uint8)), LEGEND, simplify_m=5)
    assert len(frame) == 0
    assert list(frame.columns) == ["class_code", "class_name", "area_m2", "geometry"]
    assert frame.crs.to_epsg() == 32630


def write_scores(path: Path, stored: NDArray[np.uint8], *, nodata: int | None = None, width: int = 3) -> Path:
    profile = {"driver": "GTiff", "height": 2, "width": width, "count": len(stored), "dtype": "uint8", "nodata": nodata}
    with rasterio.open(path, "w", **profile, crs="EPSG:32630", transform=UTM) as file:
        file.write(stored)
        file.scales, file.offsets = (0.004,) * len(stored), (0.1,) * len(stored)
    return path


def test_mean_score_is_that_of_the_polygons_own_class(tmp_path: Path) -> None:
    path = write_map(tmp_path / "map.tif", np.array([[0, 0, 2], [255, 0, 2]], dtype=np.uint8))
    stored = np.full((4, 2, 3), 7, dtype=np.uint8)
    stored[0], stored[2] = [[100, 200, 3], [3, 150, 3]], [[3, 3, 50], [3, 3, 70]]
    frame = trace_polygons(path, LEGEND, scores=write_scores(tmp_path / "scores.tif", stored))
    assert frame["mean_score"].tolist() == pytest.approx([150 * 0.004 + 0.1, 60 * 0.004 + 0.1])


def test_pixels_without_a_score_do_not_count(tmp_path: Path) -> None:
    path = write_map(tmp_path / "map.tif", np.array([[0, 0, 2], [0, 0, 2]], dtype=np.uint8))
    stored = np.full((4, 2, 3), 255, dtype=np.uint8)
    stored[0, 0, 0] = 200
    frame = trace_polygons(path, LEGEND, scores=write_scores(tmp_path / "scores.tif", stored, nodata=255))
    assert frame["mean_score"].tolist() == pytest.approx([200 * 0.004 + 0.1, np.nan], nan_ok=True)


def test_scores_of_another_grid_are_refused(tmp_path: Path) -> None:
    path = write_map(tmp_path / "map.tif", np.zeros((2, 3), dtype=np.uint8))
    with pytest.raises(SceneError, match="same grid"):
        trace_polygons(path, LEGEND, scores=write_scores(tmp_path / "scores.tif", np.zeros((4, 2, 2), np.uint8), width=2))


@pytest.mark.parametrize("smoothness", [0.1, 3.0])
def test_simplified_polygons_leave_no_gaps_and_no_overlaps(tmp_path: Path, smoothness: float) -> None:
    path = write_map(tmp_path / "map.tif", np.where(patchy(smoothness=smoothness) == 255, 0, patchy(smoothness=smoothness)))
    exact, simple = trace_polygons(path, LEGEND), trace_polygons(path, LEGEND, simplify_m=15)
    shapes_ = simple.geometry.to_numpy()
    assert shapely.is_valid(shapes_).all()
    assert shapely.coverage_is_valid(shapes_)
    assert shapely.union_all(shapes_).area == pytest.approx(shapely.area(shapes_).sum(), rel=1e-12)
    assert shapely.get_num_coordinates(shapes_).sum() < shapely.get_num_coordinates(exact.geometry.to_numpy()).sum()
    np.testing.assert_allclose(simple["area_m2"], geodesic_area_m2(shapes_, "EPSG:32630"))
    holes = shapely.get_num_interior_rings(shapely.union_all(shapes_))
    assert holes == 0


def test_simplification_counts_metres_on_the_ground(tmp_path: Path) -> None:
    _, y = pyproj.Transformer.from_crs(4326, 3857, always_xy=True).transform(0, 60)
    codes = patchy(smoothness=3.0)
    ground = trace_polygons(write_map(tmp_path / "utm.tif", codes, transform=Affine(10, 0, 5e5, 0, -10, 6.65e6)), LEGEND, simplify_m=12)
    doubled = write_map(tmp_path / "mercator.tif", codes, crs="EPSG:3857", transform=Affine(20, 0, 0, 0, -20, y))
    assert shapely.get_num_coordinates(trace_polygons(doubled, LEGEND, simplify_m=12).geometry.to_numpy()).sum() == pytest.approx(
        shapely.get_num_coordinates(ground.geometry.to_numpy()).sum(), rel=0.02
    )


def test_a_negative_tolerance_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="0 or more"):
        trace_polygons(tmp_path / "map.tif", LEGEND, simplify_m=-1)
