"""Polygons strip by strip: whatever the strips, they are GDAL's polygons of the whole map, and only what is open is kept."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.features import rasterize, shapes
from scipy.ndimage import gaussian_filter

from geoseg.errors import InputError, OutputError, SceneError
from geoseg.ground import pixel_area_terms, pixel_areas_m2
from geoseg.io import polygon_files
from geoseg.io.polygon_files import PolygonBatch, multipolygons_wkb, write_polygon_batches
from geoseg.legend import Legend
from geoseg.polygons import simplify, stream, strips, trace
from geoseg.polygons.measures import RunAreas
from geoseg.polygons.outlines import trace_polygons, write_map_polygons
from geoseg.polygons.stream import Traced, trace_regions
from geoseg.polygons.unite import unite
from geoseg.polygons.waiting import WaitingCorners

LEGEND = Legend.from_names(["water", "wood", "field", "town"])
UTM = Affine(10, 0, 5e5, 0, -10, 5.7e6)
N = 255
HEIGHTS = ([1], [1, 3], [7])


def write_map(path: Path, codes: NDArray[np.integer], *, count: int = 1) -> Path:
    height, width = codes.shape[-2:]
    profile = {"driver": "GTiff", "height": height, "width": width, "count": count, "dtype": codes.dtype, "crs": "EPSG:32630"}
    with rasterio.open(path, "w", **profile, nodata=N, transform=UTM) as file:
        file.write(codes.reshape(count, height, width))
    return path


def patchy(shape: tuple[int, int], seed: int, smoothness: float = 1.0) -> NDArray[np.uint8]:
    noise = gaussian_filter(np.random.default_rng(seed).standard_normal((4, *shape)), (0, smoothness, smoothness))
    codes = noise.argmax(axis=0).astype(np.uint8)
    return np.where(codes == 3, N, codes).astype(np.uint8)


def spiral(side: int) -> NDArray[np.uint8]:
    """One arm of ones that winds into the middle of zeros."""
    codes = np.zeros((side, side), np.uint8)
    top, left, bottom, right = 0, 0, side, side
    while bottom - top > 2 and right - left > 2:
        codes[top, left:right], codes[top:bottom, right - 1], codes[bottom - 1, left:right] = 1, 1, 1
        codes[top + 2 : bottom, left] = 1
        codes[top + 2, left : left + 2] = 1
        top, left, bottom, right = top + 2, left + 2, bottom - 2, right - 2
    return codes


def comb(rows: int, cols: int, *, upwards: bool) -> NDArray[np.uint8]:
    """Teeth that hang together in the last row, or in the first."""
    codes = np.tile((np.arange(cols) % 2).astype(np.uint8), (rows, 1))
    codes[-1 if upwards else 0] = 1
    return codes


def frames(side: int) -> NDArray[np.uint8]:
    """Frame in frame: every hole spans all strips within its own."""
    inwards = np.minimum(np.arange(side), np.arange(side)[::-1])
    return (np.minimum.outer(inwards, inwards) % 3).astype(np.uint8)


MAPS = {
    **{f"noise {seed}": np.random.default_rng(seed).choice([0, 1, N], (13, 15)).astype(np.uint8) for seed in range(2)},
    **{f"patches {seed}": patchy((21, 17), seed, 0.8) for seed in range(2)},
    "two colours": np.random.default_rng(9).integers(0, 2, (14, 14)).astype(np.uint8),
    "chequers": (np.indices((9, 8)).sum(axis=0) % 2).astype(np.uint8),
    "spiral": spiral(23),
    "comb down": comb(21, 16, upwards=False),
    "comb up": comb(21, 16, upwards=True),
    "frames": frames(19),
    "one row": patchy((1, 40), 0, 0.4),
    "one column": patchy((40, 1), 0, 0.4),
    "one pixel": np.zeros((1, 1), np.uint8),
    "no data": np.full((6, 5), N, np.uint8),
}


def cut(codes: NDArray[np.uint8], heights: list[int]) -> Iterator[NDArray[np.uint8]]:
    row, turn = 0, 0
    while row < len(codes):
        yield codes[row : row + heights[turn % len(heights)]]
        row, turn = row + heights[turn % len(heights)], turn + 1


def polygons(batch: Traced) -> list[shapely.Polygon]:
    lines = batch.outlines
    corners = np.stack([lines.col, lines.row], axis=-1).astype(float)
    return list(shapely.from_ragged_array(shapely.GeometryType.POLYGON, corners, (lines.ring_offsets, lines.polygon_offsets)))


def traced(codes: NDArray[np.uint8], heights: list[int], *, nodes: bool = False) -> list[tuple[str, int, int]]:
    """Of each polygon its WKT, class code and first pixel, in the order in which they come."""
    batches = list(trace_regions(cut(codes, heights), N, nodes=nodes))
    texts = [shape.wkt for batch in batches for shape in polygons(batch)]
    codes_, first = ([int(value) for batch in batches for value in getattr(batch, name)] for name in ("codes", "first_pixels"))
    return list(zip(texts, codes_, first, strict=True))


@pytest.mark.parametrize("heights", HEIGHTS)
@pytest.mark.parametrize("name", MAPS)
def test_polygons_of_strips_are_those_that_gdal_finds_in_the_whole(name: str, heights: list[int]) -> None:
    found = sorted((shapely.normalize(shapely.from_wkt(text)).wkt, code) for text, code, _ in traced(MAPS[name], heights))
    whole = shapes(MAPS[name], MAPS[name] != N, connectivity=4)
    assert found == sorted((shapely.normalize(shapely.geometry.shape(shape)).wkt, int(code)) for shape, code in whole)
    assert all(shapely.from_wkt(text).is_valid for text, _ in found)


@pytest.mark.parametrize("nodes", [False, True])
@pytest.mark.parametrize("name", MAPS)
def test_rings_their_starts_and_their_order_do_not_depend_on_the_strips(name: str, nodes: bool) -> None:
    whole = traced(MAPS[name], [1000], nodes=nodes)
    assert all(traced(MAPS[name], heights, nodes=nodes) == whole for heights in HEIGHTS)


@pytest.mark.parametrize("name", MAPS)
def test_rings_are_the_same_whether_few_corners_are_followed_or_many(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    few = traced(MAPS[name], [5], nodes=True)
    monkeypatch.setattr(trace, "_FEW", 0)
    assert traced(MAPS[name], [5], nodes=True) == few


@pytest.mark.parametrize("seed", range(20))
def test_items_that_hang_together_have_their_lowest_in_common(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 60))
    one, other = rng.integers(0, count, (2, int(rng.integers(0, 70))))
    expected = np.arange(count)
    for _ in range(count):
        for a, b in zip(one, other, strict=True):
            expected[a] = expected[b] = min(expected[a], expected[b])
    np.testing.assert_array_equal(unite(one, other, count), expected)


def test_a_long_chain_in_the_worst_order_is_one() -> None:
    zigzag = np.stack([np.arange(1000), np.arange(1999, 999, -1)], axis=1).ravel()  # low, high, low, high
    assert not unite(zigzag[:-1], zigzag[1:], 2000).any()


def test_polygons_come_in_the_order_of_their_last_rows_and_first_pixels() -> None:
    bottoms = [(shapely.from_wkt(text).bounds[3], first) for text, _, first in traced(MAPS["patches 0"], [4])]
    assert bottoms == sorted(bottoms)
    assert len({bottom for bottom, _ in bottoms}) > 3


def test_batches_of_few_corners_hold_the_same_polygons(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = traced(MAPS["noise 0"], [5])
    monkeypatch.setattr(stream, "_CORNERS_AT_ONCE", 9)
    assert traced(MAPS["noise 0"], [5]) == whole
    assert max(len(batch) for batch in trace_regions(cut(MAPS["noise 0"], [5]), N)) < 4


def test_corners_of_finished_regions_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A long region at the left stays open beside thousands that end: what is kept grows by its own corners alone."""
    kept: list[int] = []
    push = WaitingCorners.push
    monkeypatch.setattr(
        WaitingCorners,
        "push",
        lambda self, *given: (push(self, *given), kept.append(sum(len(chunk.words) for chunk in self._chunks.values()))),
    )
    codes = np.random.default_rng(0).integers(0, 3, (400, 60)).astype(np.uint8)
    codes[:, 30:] = N
    codes[::10], codes[:, 0] = N, 3
    for _ in trace_regions(cut(codes, [15]), N):
        pass
    assert max(kept) < 0.1 * sum(len(batch.outlines.row) for batch in trace_regions([codes], N))


GRIDS = {
    "UTM": ("EPSG:32630", UTM),
    "rotated": ("EPSG:32630", Affine(8, 6, 5e5, 6, -8, 5.7e6)),
    "degrees": ("EPSG:4326", Affine(1e-3, 0, 9, 0, -1e-3, 60)),
    "drone": ("EPSG:32630", Affine(0.1, 0, 5e5, 0, -0.1, 5.7e6)),
    "beyond the world": ("+proj=ortho +lat_0=50", Affine(4e5, 0, -8e6, 0, -4e5, 1e7)),
}


@pytest.mark.parametrize("name", GRIDS)
def test_areas_of_runs_are_those_of_their_pixels(name: str) -> None:
    crs, transform = GRIDS[name]
    strip = strips.Strip.of(20, patchy((15, 40), 0))
    geobox = GeoBox((50, 40), transform, crs)
    assert (pixel_area_terms(geobox) is None) == (name == "beyond the world")
    pixels = np.broadcast_to(pixel_areas_m2(geobox[20:35, :]), (15, 40))
    expected = np.add.reduceat(np.ascontiguousarray(pixels).ravel(), strip.firsts)
    np.testing.assert_allclose(RunAreas(geobox).of(strip.runs()), expected, rtol=3e-7 if name == "drone" else 3e-9)


# Into a GeoPackage


def write_scores(path: Path, codes: NDArray[np.uint8]) -> Path:
    scores = np.random.default_rng(5).integers(0, 251, (4, *codes.shape)).astype(np.uint8)
    scores[:, codes == N] = N
    write_map(path, scores, count=4)
    with rasterio.open(path, "r+") as file:
        file.scales, file.offsets = (0.004,) * 4, (0,) * 4
    return path


@pytest.mark.parametrize("simplify_m", [0, 15])
def test_what_is_written_is_what_is_traced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, simplify_m: float) -> None:
    codes = patchy((60, 50), 1)
    path, scores = write_map(tmp_path / "map.tif", codes), write_scores(tmp_path / "scores.tif", codes)
    frame = trace_polygons(path, LEGEND, scores=scores, simplify_m=simplify_m)
    monkeypatch.setattr(strips, "_PIXELS_IN_A_STRIP", 50 * 7)
    count = write_map_polygons(tmp_path / "out.gpkg", path, LEGEND, scores=scores, simplify_m=simplify_m)
    back = pyogrio.read_dataframe(tmp_path / "out.gpkg")
    keys = shapely.normalize(shapely.multipolygons(frame.geometry.to_numpy(), indices=np.arange(len(frame)))).astype(str)
    expected = dict(zip(keys, frame.drop(columns="geometry").itertuples(index=False), strict=True))
    assert count == len(back) == len(frame)
    assert list(back.columns) == list(frame.columns)
    wanted = [expected[shape] for shape in shapely.normalize(back.geometry.to_numpy()).astype(str)]
    assert back["class_name"].tolist() == [row.class_name for row in wanted]
    np.testing.assert_allclose(back["area_m2"], [row.area_m2 for row in wanted], rtol=1e-8)
    np.testing.assert_allclose(back["mean_score"], [row.mean_score for row in wanted], rtol=1e-12)


def test_mean_scores_are_those_of_the_pixels(tmp_path: Path) -> None:
    codes = patchy((20, 30), 3)
    path, scores = write_map(tmp_path / "map.tif", codes), write_scores(tmp_path / "scores.tif", codes)
    frame = trace_polygons(path, LEGEND, scores=scores)
    with rasterio.open(scores) as file:
        own = np.take_along_axis(file.read(), np.where(codes == N, 0, codes)[np.newaxis].astype(int), axis=0)[0] * 0.004
    number = rasterize(((shape, i) for i, shape in enumerate(frame.geometry)), codes.shape, fill=-1, transform=UTM, dtype="int32")
    np.testing.assert_allclose(frame["mean_score"], [own[number == i].mean() for i in range(len(frame))])


def test_the_same_map_gives_the_same_bytes(tmp_path: Path) -> None:
    path = write_map(tmp_path / "map.tif", patchy((40, 40), 2))
    for name in ("one.gpkg", "other.gpkg"):
        (tmp_path / name).mkdir()
        write_map_polygons(tmp_path / name / "map.gpkg", path, LEGEND, style_qml="<qgis/>", description="a map")
    assert (tmp_path / "one.gpkg" / "map.gpkg").read_bytes() == (tmp_path / "other.gpkg" / "map.gpkg").read_bytes()


def test_the_file_is_a_geopackage_with_index_style_and_description(tmp_path: Path) -> None:
    path = write_map(tmp_path / "map.tif", patchy((40, 40), 2))
    count = write_map_polygons(tmp_path / "map.gpkg", path, LEGEND, style_qml="<qgis/>", description="a map")
    with sqlite3.connect(tmp_path / "map.gpkg") as database:
        assert database.execute("SELECT count(*) FROM rtree_polygons_geom").fetchone() == (count,)
        assert database.execute("SELECT styleQML FROM layer_styles").fetchone() == ("<qgis/>",)
        assert database.execute("SELECT description FROM gpkg_contents WHERE table_name = 'polygons'").fetchone() == ("a map",)
    assert pyogrio.read_info(tmp_path / "map.gpkg", layer="polygons")["geometry_type"] == "MultiPolygon"
    assert pyogrio.read_info(tmp_path / "map.gpkg", layer="polygons")["crs"] == "EPSG:32630"


def test_a_map_without_classes_still_makes_a_layer(tmp_path: Path) -> None:
    path = write_map(tmp_path / "map.tif", np.full((3, 4), N, np.uint8))
    assert write_map_polygons(tmp_path / "map.gpkg", path, LEGEND, simplify_m=5) == 0
    assert list(pyogrio.read_dataframe(tmp_path / "map.gpkg", layer="polygons").columns) == [
        "class_code",
        "class_name",
        "area_m2",
        "geometry",
    ]


@pytest.mark.parametrize("row", [0, 39])
def test_a_code_outside_the_legend_is_refused_by_its_name_wherever_it_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row: int
) -> None:
    codes = patchy((40, 40), 2)
    codes[row, 3] = 9
    monkeypatch.setattr(strips, "_PIXELS_IN_A_STRIP", 40 * 5)
    path = write_map(tmp_path / "map.tif", codes)
    with pytest.raises(InputError, match="9"):
        write_map_polygons(tmp_path / "out" / "map.gpkg", path, LEGEND)
    assert not list((tmp_path / "out").iterdir())


def test_scores_of_another_grid_and_a_negative_tolerance_are_refused(tmp_path: Path) -> None:
    path = write_map(tmp_path / "map.tif", np.zeros((3, 3), np.uint8))
    with pytest.raises(SceneError, match="same grid"):
        write_map_polygons(tmp_path / "o.gpkg", path, LEGEND, scores=write_map(tmp_path / "s.tif", np.zeros((4, 2, 2), np.uint8), count=4))
    with pytest.raises(InputError, match="0 or more"):
        write_map_polygons(tmp_path / "o.gpkg", path, LEGEND, simplify_m=-1)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, out = write_map(tmp_path / "map.tif", np.zeros((3, 3), np.uint8)), tmp_path / "out" / "map.gpkg"
    write_map_polygons(out, path, LEGEND)
    before = out.read_bytes()

    def fail(*_: object, **__: object) -> None:
        raise pyogrio.errors.DataSourceError("disk I/O error")

    monkeypatch.setattr(pyogrio, "write_arrow", fail)
    with pytest.raises(OutputError, match=r"map\.gpkg could not be written"):
        write_map_polygons(out, path, LEGEND)
    assert [one.name for one in out.parent.iterdir()] == ["map.gpkg"]
    assert out.read_bytes() == before


def test_polygons_that_did_not_arrive_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = PolygonBatch(np.array([[0, 0], [1, 0], [1, 1], [0, 0.0]]), np.array([0, 4]), np.array([0, 1]), {"code": np.array([1])})
    monkeypatch.setattr(PolygonBatch, "__len__", lambda self: len(self.polygon_offsets))
    monkeypatch.setattr(polygon_files, "_record_batch", lambda batch, made=polygon_files._record_batch: made(_Real(batch)))
    with pytest.raises(OutputError, match="1 of 2 polygons arrived"):
        write_polygon_batches(tmp_path / "map.gpkg", [one], crs="EPSG:32630")


class _Real(PolygonBatch):
    def __init__(self, batch: PolygonBatch) -> None:
        super().__init__(batch.xy, batch.ring_offsets, batch.polygon_offsets, batch.columns)

    def __len__(self) -> int:
        return len(self.polygon_offsets) - 1


@pytest.mark.parametrize("name", ["patches 1", "frames", "noise 1"])
def test_geometries_are_the_bytes_that_shapely_writes(name: str) -> None:
    for batch in trace_regions([MAPS[name]], N):
        lines = batch.outlines
        begins, content = multipolygons_wkb(np.stack([lines.col, lines.row], -1) * 0.1, lines.ring_offsets, lines.polygon_offsets)
        one_each = shapely.multipolygons(polygons(batch), indices=np.arange(len(batch)))
        xy = shapely.transform(one_each, lambda corners: corners * 0.1)
        assert [content[a:b].tobytes() for a, b in pairwise(begins)] == shapely.to_wkb(xy, byte_order=1).tolist()


# Simplified


@pytest.mark.parametrize("rows", [1, 8, 1024])
@pytest.mark.parametrize("smoothness", [0.1, 2.5])
def test_simplified_bands_leave_no_gaps_and_no_overlaps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int, smoothness: float
) -> None:
    codes = patchy((44, 40), 4, smoothness)
    path = write_map(tmp_path / "map.tif", np.where(codes == N, 3, codes).astype(np.uint8))
    monkeypatch.setattr(simplify, "_MOST_ROWS", rows)
    shapes_ = trace_polygons(path, LEGEND, simplify_m=15).geometry.to_numpy()
    assert shapely.is_valid(shapes_).all()
    assert shapely.coverage_is_valid(shapes_)
    assert shapely.area(shapes_).sum() == pytest.approx(44 * 40 * 100, rel=1e-12)
    assert shapely.union_all(shapes_).area == pytest.approx(44 * 40 * 100, rel=1e-12)


def test_corners_go_within_bands_and_stay_on_the_lines_between_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    codes = patchy((64, 60), 4, 3.0)
    path = write_map(tmp_path / "map.tif", codes)
    monkeypatch.setattr(simplify, "_MOST_ROWS", 16)
    exact, simple = (trace_polygons(path, LEGEND, simplify_m=metres).geometry.to_numpy() for metres in (0, 15))
    lines = [shapely.LineString([(5e5, 5.7e6 - 10 * row), (5e5 + 600, 5.7e6 - 10 * row)]) for row in (16, 32, 48)]
    for line in lines:
        for before, after in zip(exact, simple, strict=True):
            assert before.intersection(line).equals(after.intersection(line))
    assert shapely.get_num_coordinates(simple).sum() < 0.7 * shapely.get_num_coordinates(exact).sum()


def test_what_is_simplified_does_not_depend_on_the_bands_above_and_below(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    codes = patchy((64, 60), 6, 1.5)
    monkeypatch.setattr(simplify, "_MOST_ROWS", 16)
    whole, part = (
        simplified(write_map(tmp_path / f"{rows.start}.tif", codes[rows]), top=rows.start) for rows in (slice(0, 64), slice(16, 48))
    )
    inside = [shape for shape in whole if 16 < shape.bounds[1] and shape.bounds[3] < 48]
    assert len(inside) > 20
    assert any(shape.bounds[1] < 32 < shape.bounds[3] for shape in inside)
    assert {shape.wkt for shape in inside} <= {shape.wkt for shape in part}


def simplified(path: Path, top: int) -> list[shapely.Polygon]:
    """The polygons in pixels, counted from `top` rows above the map."""
    frame = trace_polygons(path, LEGEND, simplify_m=15)
    return [
        shapely.normalize(shapely.transform(one, lambda xy: np.round((xy - (5e5, 5.7e6)) / (10, -10) + (0, top))))
        for one in frame.geometry.to_numpy()
    ]


def test_bands_depend_on_the_width_alone(tmp_path: Path) -> None:
    for width, rows in ((50, 1024), (10_980, 512), (100_000, 64), (10_000_000, 1)):
        path = tmp_path / f"{width}.tif"
        profile = {"driver": "GTiff", "height": 2, "count": 1, "dtype": "uint8", "crs": "EPSG:32630", "SPARSE_OK": True}
        rasterio.open(path, "w", **profile, width=width, transform=Affine(0.1, 0, 5e5, 0, -0.1, 5.7e6)).close()
        assert simplify.Simplifier(strips.map_geobox(path), 1).band_rows == rows
