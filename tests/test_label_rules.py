"""Labels by rules: shrunk, widened, put in order, renamed; and the same pixels whichever window and file they are read from."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import command_line
import geopandas
import numpy as np
import pandas
import pytest
import rasterio
import shapely
from affine import Affine
from geopandas import GeoDataFrame
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from geoseg.errors import InputError, LabelError
from geoseg.ground import pixel_size_m
from geoseg.io.label_ground import cells
from geoseg.io.label_rules import LabelRules, plain_value
from geoseg.io.labels import Labels, read_labels, read_legend
from geoseg.legend import Legend

LEGEND = Legend.from_names(("background", "water", "wood"))
GRID = GeoBox((120, 150), Affine(10, 0, 499_500, 0, -10, 5_700_400), "EPSG:32630")
DEGREES = GeoBox((120, 150), Affine(2e-4, 0, -3.01, 0, -1e-4, 51.46), "EPSG:4326")
TURNED = GeoBox((120, 150), Affine.translation(5e5, 5.7e6) @ Affine.rotation(30) @ Affine.scale(10, -10), "EPSG:32630")
GRIDS = pytest.mark.parametrize("grid", [GRID, DEGREES, TURNED], ids=["utm", "degrees", "turned"])


def pixel(grid: GeoBox, col: float, row: float) -> tuple[float, float]:
    """The map's x and y of a place on the grid, counted in pixels from its corner."""
    x, y = grid.affine @ (col, row)
    return x, y


def blobs(grid: GeoBox, count: int = 12) -> list[shapely.Polygon]:
    """Polygons of many bends, some of them notched like a star, all over the grid."""
    rng, shapes = np.random.default_rng(1), []
    for _ in range(count):
        middle, turns = rng.uniform(0, [150, 120]), np.sort(rng.uniform(0, 2 * np.pi, 40))
        radii = rng.uniform(6, 25, 40)
        shapes.append(
            shapely.Polygon([pixel(grid, middle[0] + r * np.cos(t), middle[1] + r * np.sin(t)) for r, t in zip(radii, turns, strict=True)])
        )
    return shapes


def lines(grid: GeoBox, count: int = 10) -> list[Any]:
    rng = np.random.default_rng(2)
    walks = [rng.uniform(0, [150, 120]) + rng.uniform(-12, 12, (12, 2)).cumsum(axis=0) for _ in range(count)]
    points = [shapely.Point(pixel(grid, *at)) for at in rng.uniform(0, [150, 120], (count, 2))]
    return [shapely.LineString([pixel(grid, *at) for at in walk]) for walk in walks] + points


def save(path: Path, shapes: list[Any], crs: Any, **columns: Any) -> Path:
    frame = GeoDataFrame(columns or {"label": ["water", "wood"] * (len(shapes) // 2)}, geometry=shapes, crs=crs)
    frame.to_parquet(path) if path.suffix == ".parquet" else frame.to_file(
        path, layer="labels"
    ) if path.suffix == ".gpkg" else frame.to_file(path)
    return path


def indices(path: Path, grid: GeoBox, **rules: Any) -> NDArray[np.int64]:
    """(row, col) class indices, -1 where there is no label."""
    found, labelled = read_labels(path, grid, LEGEND, rules=LabelRules(**rules))
    return np.where(labelled, found, -1)


def by_windows(path: Path, grid: GeoBox, edge: int = 37, **rules: Any) -> NDArray[np.int16]:
    return Labels(path, LEGEND, rules=LabelRules(**rules)).read_plane(grid, strip=edge)


def metres_apart(grid: GeoBox, shape: Any) -> NDArray[np.float64]:
    """(row, col) ground metres from each pixel's centre to a geometry, pixel by pixel, by the size of the grid's middle pixel."""
    down, across = pixel_size_m(grid)
    flat = shapely.transform(shape, lambda xy: np.column_stack(~grid.affine @ tuple(xy.T)) * (across, down))
    col, row = np.meshgrid(np.arange(grid.shape[1]) + 0.5, np.arange(grid.shape[0]) + 0.5)
    return shapely.distance(shapely.points(col * across, row * down), flat)


# The same pixels in every window


@GRIDS
@pytest.mark.parametrize("rules", [{}, {"shrink_m": 13.0}, {"width_m": 37.0}, {"shrink_m": 9.0, "width_m": 22.0}], ids=str)
def test_labels_are_the_same_read_whole_and_window_by_window(tmp_path: Path, grid: GeoBox, rules: dict[str, float]) -> None:
    path = save(tmp_path / "labels.gpkg", [*blobs(grid), *lines(grid)], grid.crs)
    whole = indices(path, grid, **rules)
    assert (np.unique(whole) == [-1, 1, 2]).all()
    np.testing.assert_array_equal(by_windows(path, grid, **rules), whole)
    plain = by_windows(path, grid)
    assert np.array_equal(plain, whole) == (not rules)  # the rules have changed something


def test_a_tall_scene_in_degrees_is_the_same_in_strips_although_its_metres_change(tmp_path: Path) -> None:
    tall = GeoBox((800, 20), Affine(0.05, 0, 10, 0, -0.05, 70), "EPSG:4326")
    meridian = shapely.LineString([(10.5, 31), (10.5, 69)])
    path = save(tmp_path / "labels.gpkg", [meridian], tall.crs, label=["water"])
    whole = indices(path, tall, width_m=40_000)
    np.testing.assert_array_equal(by_windows(path, tall, 50, width_m=40_000), whole)
    widths = (whole[[40, 400, 760]] == 1).sum(axis=1)  # 40 km are 0.96, 0.56 and 0.42 degrees at 68, 50 and 32 degrees north
    assert widths.tolist() == pytest.approx([19, 11, 8], abs=1)
    assert widths[0] > 2 * widths[2]


@GRIDS
def test_every_pixel_lies_in_one_cell_and_the_same_in_a_window(grid: GeoBox) -> None:
    fine = GeoBox((200, 200), grid.affine @ Affine.scale(30, 30), grid.crs)

    def scales(geobox: GeoBox) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        scale, count = np.zeros((*geobox.shape, 2)), np.zeros(geobox.shape.yx, int)
        for cell in cells(geobox):
            scale[cell.slices][cell.mine] = cell.scale
            count[cell.slices] += cell.mine
        return scale, count

    whole, count = scales(fine)
    assert (count == 1).all()
    assert len(np.unique(whole.reshape(-1, 2), axis=0)) > 1
    np.testing.assert_array_equal(scales(fine[30:90, 110:150])[0], whole[30:90, 110:150])


# Bent polygons


def test_a_bow_tie_labels_both_its_halves_whole_and_in_windows(tmp_path: Path) -> None:
    bow_tie = shapely.Polygon([pixel(GRID, *at) for at in ((20, 20), (120, 100), (120, 20), (20, 100))])
    halves = [[pixel(GRID, *at) for at in corners] for corners in (((20, 20), (70, 60), (20, 100)), ((120, 20), (70, 60), (120, 100)))]
    path = save(tmp_path / "labels.gpkg", [bow_tie], GRID.crs, label=["water"])
    expected = np.where(metres_apart(GRID, shapely.MultiPolygon([shapely.Polygon(half) for half in halves])) == 0, 1, -1)
    assert not bow_tie.is_valid
    on_the_line = (by_windows(path, GRID) != expected).sum()
    assert on_the_line <= 100  # centres that lie just on an edge
    np.testing.assert_array_equal(by_windows(path, GRID), indices(path, GRID))
    np.testing.assert_array_equal(by_windows(path, GRID, shrink_m=20), indices(path, GRID, shrink_m=20))


# Metres


@GRIDS
def test_shrunk_polygons_keep_the_pixels_that_are_so_far_inside(tmp_path: Path, grid: GeoBox) -> None:
    for number, blob in enumerate(blobs(grid)[:4]):
        path = save(tmp_path / f"{number}.gpkg", [shapely.make_valid(blob)], grid.crs, label=["water"])
        inside, edge = metres_apart(grid, blob) == 0, metres_apart(grid, blob.boundary)
        surely, perhaps = inside & (edge > 12.2), inside & (edge > 11.8)
        labelled = indices(path, grid, shrink_m=12) == 1
        assert (labelled | ~surely).all()
        assert (perhaps | ~labelled).all()
        assert surely.sum() < inside.sum()


@GRIDS
@pytest.mark.parametrize("width", [8.0, 45.0, 130.0])
def test_lines_and_points_are_as_wide_as_they_are_said_to_be(tmp_path: Path, grid: GeoBox, width: float) -> None:
    shape = shapely.GeometryCollection(lines(grid))
    path = save(tmp_path / "labels.gpkg", lines(grid), grid.crs)
    passed = indices(path, grid) != -1
    apart = metres_apart(grid, shape)
    labelled = indices(path, grid, width_m=width) != -1
    assert (labelled | ~(apart < width / 2 * 0.99)).all()
    assert (passed | (apart < width / 2 * 1.01) | ~labelled).all()
    assert (labelled | ~passed).all()
    assert labelled.sum() > passed.sum() or width < 10


def test_lines_label_every_pixel_that_they_pass(tmp_path: Path) -> None:
    line = shapely.LineString([pixel(GRID, 3.2, 4.1), pixel(GRID, 140.7, 98.3)])
    path = save(tmp_path / "labels.gpkg", [line], GRID.crs, label=["water"])
    col, row = np.meshgrid(np.arange(150), np.arange(120))
    corners = [pixel(GRID, col, row), pixel(GRID, col + 1, row + 1)]
    squares = shapely.box(*corners[0], *corners[1])
    np.testing.assert_array_equal(indices(path, GRID) == 1, shapely.intersects(squares, line))


def test_a_line_beside_the_scene_is_near_when_it_is_wide_enough(tmp_path: Path) -> None:
    beside = shapely.LineString([pixel(GRID, -3, 0), pixel(GRID, -3, 120)])
    path = save(tmp_path / "labels.gpkg", [beside], GRID.crs, label=["water"])
    assert ((indices(path, GRID, width_m=100) == 1).sum(axis=1) == 2).all()
    with pytest.raises(LabelError, match=r"no label of .* lies on the scene"):
        indices(path, GRID, width_m=20)


# Order


def two_over_each_other(path: Path, **columns: Any) -> Path:
    """Water and then wood, on the same ground."""
    square = shapely.box(*pixel(GRID, 10, 60), *pixel(GRID, 60, 10))
    return save(path, [square, square], GRID.crs, label=["water", "wood"], **columns)


@pytest.mark.parametrize(
    ("values", "winner"),
    [
        ([2, 1], "water"),
        ([1, 2], "wood"),
        ([1, 1], "wood"),
        ([0.5, None], "water"),
        ([None, -3.0], "wood"),
        ([pandas.Timestamp("2024-05-02"), pandas.Timestamp("2024-05-01T10:00")], "water"),
        ([date(2023, 1, 1), None], "water"),
    ],
    ids=str,
)
def test_the_greater_wins_a_missing_one_loses_and_of_equals_the_later(tmp_path: Path, values: list[Any], winner: str) -> None:
    for name in ("labels.gpkg", "labels.parquet"):
        path = two_over_each_other(tmp_path / name, stated=values)
        plane = indices(path, GRID, order_column="stated")
        assert set(np.unique(plane)) == {-1, LEGEND.names.index(winner)}
        assert set(np.unique(indices(path, GRID))) == {-1, 2}  # without the rule the later in the file


def test_features_are_still_told_apart_where_they_are_burned_in_another_order(tmp_path: Path) -> None:
    path = two_over_each_other(tmp_path / "labels.gpkg", stated=[2, 1], field=["a", "b"])
    labels = Labels(path, LEGEND, rules=LabelRules(order_column="stated"))
    features = labels.read_features(GRID)
    assert labels.columns is not None
    assert labels.columns["field"].iloc[features.max()] == "a"


# Other names, and none


def test_classes_are_renamed_and_null_is_no_label(tmp_path: Path) -> None:
    squares = [shapely.box(*pixel(GRID, left, 60), *pixel(GRID, left + 20, 10)) for left in (0, 30, 60, 90)]
    path = save(tmp_path / "labels.gpkg", squares, GRID.crs, label=["10", "20 ", "unsure", "water"])
    rules: dict[int | str, int | str | None] = {10: "wood", "20": 0, "unsure": None}
    row = indices(path, GRID, classes=rules)[30]
    assert row[[5, 35, 65, 95]].tolist() == [2, 0, -1, 1]
    with pytest.raises(LabelError, match="not in the legend: 10, 20, unsure"):
        indices(path, GRID)
    assert read_legend(path, rules=LabelRules(classes={10: "wood", 20: "wood", "unsure": None})).names == ("water", "wood")


def test_numbers_of_a_raster_are_renamed_too(tmp_path: Path) -> None:
    path = raster(tmp_path / "labels.tif", np.tile(np.array([3, 4, 7], np.int16), (120, 50)))
    plane = indices(path, GRID, classes={3: "wood", 4: None, 7: "background"})
    np.testing.assert_array_equal(plane, np.tile([2, -1, 0], (120, 50)))


def test_no_label_is_another_thing_than_background(tmp_path: Path) -> None:
    left, middle = shapely.box(*pixel(GRID, 0, 120), *pixel(GRID, 50, 0)), shapely.box(*pixel(GRID, 50, 120), *pixel(GRID, 100, 0))
    path = save(tmp_path / "labels.gpkg", [left, middle], GRID.crs, label=["background", None])
    found, labelled = read_labels(path, GRID, LEGEND)
    assert labelled[0].tolist() == [True] * 50 + [False] * 100
    assert (found == 0).all()
    assert by_windows(path, GRID)[0].tolist() == [0] * 50 + [-1] * 100


@pytest.mark.parametrize(
    ("given", "expected"), [("-1", -1), (-9999.0, -9999), ("a-1", "a-1"), ("-", "-"), (" 7.0", 7), (float("nan"), None)]
)
def test_whole_numbers_are_numbers_also_where_they_are_text(given: Any, expected: Any) -> None:
    assert plain_value(given) == expected


def test_a_negative_code_is_no_name(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match="holds the class code -9999; expected codes from 0"):
        read_legend(raster(tmp_path / "labels.tif", np.full((120, 150), -9999, np.int16)))


# Files


def raster(path: Path, codes: NDArray[Any]) -> Path:
    profile = {"driver": "GTiff", "height": codes.shape[0], "width": codes.shape[1], "count": 1, "dtype": codes.dtype}
    with rasterio.open(path, "w", **profile, crs=GRID.crs, transform=GRID.affine) as file:
        file.write(codes, 1)
    return path


def test_every_format_gives_the_same_plane(tmp_path: Path) -> None:
    shapes = [shapely.make_valid(shape) for shape in [*blobs(GRID), *lines(GRID)]]
    stated = {"label": ["water", "wood"] * (len(shapes) // 2), "order": list(range(len(shapes)))}  # FlatGeobuf changes the file's order
    frame = geopandas.GeoDataFrame(stated, geometry=shapes, crs=GRID.crs)
    planes = []
    for name in ("labels.gpkg", "labels.parquet", "labels.fgb", "labels.geojson"):
        path = save(tmp_path / name, list(frame.to_crs(4326).geometry), 4326, **stated)
        planes.append(by_windows(path, GRID, order_column="order", shrink_m=5.0, width_m=25.0))
    for other in planes[1:]:
        assert (other != planes[0]).sum() <= 2  # GeoJSON rounds to 7 digits
    assert {int(one) for one in np.unique(planes[0])} == {-1, 1, 2}


def test_scenes_of_two_utm_zones_read_the_same_labels(tmp_path: Path) -> None:
    border = GeoBox((100, 100), Affine(10, 0, 708_000, 0, -10, 5_700_000), "EPSG:32630")  # around the zero meridian
    east = border.footprint("EPSG:32631").boundingbox
    other = GeoBox((120, 120), Affine(10, 0, round(east.left, -1), 0, -10, round(east.top, -1)), "EPSG:32631")
    middle = shapely.Point(708_500, 5_699_500)
    path = save(tmp_path / "labels.gpkg", [middle.buffer(300)], border.crs, label=["water"])
    line = save(tmp_path / "line.gpkg", [middle], border.crs, label=["water"])
    for file, rules in ((path, {"shrink_m": 40.0}), (line, {"width_m": 520.0})):
        for grid in (border, other):
            metres = np.sqrt((indices(file, grid, **rules) == 1).sum() * np.prod(pixel_size_m(grid)) / np.pi)
            assert metres == pytest.approx(260, abs=2)


def test_features_elsewhere_are_not_looked_at_for_a_window(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import geoseg.io.label_features as module

    far = [shapely.Point(x, 5.5e6) for x in range(400_000, 402_000)]
    path = save(tmp_path / "labels.gpkg", [*far, *lines(GRID)], GRID.crs)
    labels, seen, burned = Labels(path, LEGEND, rules=LabelRules(width_m=20)), [], module.onto_grid
    monkeypatch.setattr(module, "onto_grid", lambda shapes, *rest: (seen.append(len(shapes)), burned(shapes, *rest))[1])
    labels.read(GRID)
    assert 0 < max(seen) <= 20


# What cannot be used


def sentences(path: Path) -> Iterator[tuple[dict[str, Any], type[Exception], str]]:
    yield {"width_m": -1.0}, InputError, "labels are to be wide by -1 m; expected 0 or more"
    yield {"shrink_m": float("nan")}, InputError, "labels are to shrink by nan m; expected 0 or more"
    yield {"order_column": "label"}, LabelError, "column 'label' of .* holds text; expected numbers or dates, of which the greater wins"
    yield {"order_column": "stand"}, LabelError, "no column 'stand' in .*labels.gpkg to order its features by; it has label, stated"
    yield {"classes": {"lake": "watr"}}, LabelError, "labels that say 'lake' are to be 'watr', which is no class; did you mean 'water'"


def test_rules_that_cannot_be_followed_are_one_sentence(tmp_path: Path) -> None:
    path = two_over_each_other(tmp_path / "labels.gpkg", stated=[1, 2])
    for rules, kind, told in sentences(path):
        with pytest.raises(kind, match=told):
            indices(path, GRID, **rules)
    indices(path, GRID, order_column="stated")


@pytest.mark.parametrize(
    ("rules", "told"),
    [({"order_column": "date"}, "no column 'date'"), ({"width_m": 5.0}, "no lines"), ({"shrink_m": 5.0}, "cannot shrink")],
)
def test_a_raster_has_no_features_to_treat(tmp_path: Path, rules: dict[str, Any], told: str) -> None:
    path = raster(tmp_path / "labels.tif", np.ones((120, 150), np.uint8))
    with pytest.raises(InputError, match=f"is a raster, .*{told}"):
        indices(path, GRID, **rules)


def test_a_parquet_table_without_geometries_is_no_label_file(tmp_path: Path) -> None:
    pandas.DataFrame({"label": ["water"]}).to_parquet(tmp_path / "labels.parquet")
    with pytest.raises(LabelError, match=r"labels.parquet cannot be read as GeoParquet \(.*\); export it anew"):
        indices(tmp_path / "labels.parquet", GRID)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("-s", "label_width_m=-3"), "at label_width_m: Input should be greater than or equal to 0"),
        (("-s", "label_order=label"), "column 'label' of .*labels.gpkg holds text"),
        (
            ("-s", "label_classes={water: forst}", "-s", "classes=[{index: 0, code: 0, name: forest, colour: '#000000'}]"),
            "did you mean 'forest'",
        ),
    ],
)
def test_the_command_says_what_is_wrong(geoseg, tmp_path: Path, words: tuple[str, ...], told: str) -> None:
    pytest.importorskip("sklearn")
    pytest.importorskip("onnx")
    path = save(tmp_path / "labels.gpkg", [shapely.box(500_000, 4_999_900, 500_050, 5_000_000)] * 2, "EPSG:32630", label=["water", "wood"])
    train = ("train", tmp_path / "scene.tif", "--labels", path, "--recipe", "pixel_forest", "-o", tmp_path / "new")
    said = command_line.refusal(geoseg, tmp_path, *train, *words)
    assert re.search(told, said), said
