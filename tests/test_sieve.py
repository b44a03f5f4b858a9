"""Sieving: a brute-force reading of the rule, pixel by pixel, is the oracle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyproj
import pytest
import rasterio
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from scipy.ndimage import gaussian_filter, label

from geoseg.errors import InputError
from geoseg.ground import pixel_areas_m2, pixel_size_m
from geoseg.io import spilled
from geoseg.legend import Legend
from geoseg.polygons import sieve as sieve_module
from geoseg.polygons import strips
from geoseg.polygons.outlines import trace_polygons
from geoseg.polygons.sieve import sieve

LEGEND = Legend.from_names(["water", "wood", "field", "town"])
UTM = Affine(10, 0, 5e5, 0, -10, 5.7e6)
EUROPE = Affine(10, 0, 4.321e6, 0, -10, 3.21e6)
"""Equal areas: every pixel has exactly 100 m²."""
N = 255


def run(
    folder: Path, codes: NDArray[np.uint8], min_area_m2: float, *, crs: str = "EPSG:3035", transform: Affine = EUROPE
) -> NDArray[np.uint8]:
    profile = {"driver": "GTiff", "height": codes.shape[0], "width": codes.shape[1], "count": 1, "dtype": "uint8", "nodata": N}
    with rasterio.open(folder / "map.tif", "w", **profile, crs=crs, transform=transform) as file:
        file.write(codes, 1)
    sieve(folder / "map.tif", folder / "sieved.tif", legend=LEGEND, min_area_m2=min_area_m2)
    with rasterio.open(folder / "sieved.tif") as file:
        sieved: NDArray[np.uint8] = file.read(1)
    return sieved


def brute_force(codes: NDArray[np.uint8], areas: NDArray[np.float64], sides: tuple[float, float], min_area_m2: float) -> NDArray[np.uint8]:
    """Label everything anew after each merge; `sides` are the lengths of an upright and of a level pixel side."""
    codes = codes.copy()
    while True:
        labels, count = np.zeros(codes.shape, int), 0
        for code in set(codes.ravel().tolist()) - {N}:
            part, found = label(codes == code)
            labels[part > 0], count = part[part > 0] + count, count + found
        best = None
        for number in range(1, count + 1):
            mine = labels == number
            if areas[mine].sum() >= min_area_m2 * (1 - 1e-6):
                continue
            shared: dict[int, float] = {}
            for axis, side in ((1, sides[0]), (0, sides[1])):
                one, other = (labels[:, :-1], labels[:, 1:]) if axis else (labels[:-1], labels[1:])
                for a, b in [*zip(one.ravel(), other.ravel(), strict=True), *zip(other.ravel(), one.ravel(), strict=True)]:
                    if a == number and b not in (0, number):
                        shared[int(b)] = shared.get(int(b), 0) + side
            if shared and (best is None or (mine.sum(), np.flatnonzero(mine)[0]) < best[0]):
                target = min(shared, key=lambda b: (-round(shared[b], 6), np.flatnonzero(labels == b)[0]))
                best = (mine.sum(), np.flatnonzero(mine)[0]), mine, codes[labels == target][0]
        if best is None:
            return codes
        codes[best[1]] = best[2]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("min_pixels", [2, 4, 9])
def test_the_result_is_that_of_the_rule_read_pixel_by_pixel(tmp_path: Path, seed: int, min_pixels: int) -> None:
    noise = gaussian_filter(np.random.default_rng(seed).standard_normal((4, 9, 11)), (0, 0.5, 0.5))
    codes = np.where(noise.argmax(axis=0) == 3, N, noise.argmax(axis=0)).astype(np.uint8)
    expected = brute_force(codes, np.full(codes.shape, 100.0), (1, 1), 100 * min_pixels)
    np.testing.assert_array_equal(run(tmp_path, codes, 100 * min_pixels), expected)


def test_edges_are_measured_on_the_ground(tmp_path: Path) -> None:
    degrees = Affine(1e-4, 0, 10, 0, -1e-4, 60)  # at 60 N a pixel is twice as high as wide
    codes = np.array([[0, 0, 0, 0], [1, 1, 3, N], [2, 2, 2, 2]], dtype=np.uint8)
    assert run(tmp_path, codes, 100, crs="EPSG:4326", transform=degrees)[1].tolist() == [1, 1, 1, N]
    assert run(tmp_path, codes, 150)[1].tolist() == [1, 1, 0, N]


@pytest.mark.parametrize("seed", range(3))
def test_the_rule_holds_where_pixels_are_not_square(tmp_path: Path, seed: int) -> None:
    degrees = Affine(1e-4, 0, 10, 0, -1e-4, 60)
    codes = np.random.default_rng(seed).integers(0, 3, (8, 9)).astype(np.uint8)
    geobox = GeoBox(codes.shape, degrees, "EPSG:4326")
    height, width = pixel_size_m(geobox)
    expected = brute_force(codes, np.broadcast_to(pixel_areas_m2(geobox), codes.shape), (round(height / width, 3), 1.0), 300)
    np.testing.assert_array_equal(run(tmp_path, codes, 300, crs="EPSG:4326", transform=degrees), expected)


def test_the_longest_edge_wins(tmp_path: Path) -> None:
    codes = np.array([[0, 0, 0, 0], [0, 3, 3, 2], [2, 2, 2, 2]], dtype=np.uint8)
    assert run(tmp_path, codes, 300)[1].tolist() == [0, 0, 0, 2]
    codes[1, 0] = 2
    assert run(tmp_path, codes, 300)[1].tolist() == [2, 2, 2, 2]


def test_equal_edges_go_to_the_neighbour_whose_first_pixel_comes_first(tmp_path: Path) -> None:
    codes = np.array([[2, 2, 2], [2, 3, 1], [1, 1, 1]], dtype=np.uint8)
    assert run(tmp_path, codes, 200)[1, 1] == 2
    assert run(tmp_path, codes[::-1], 200)[1, 1] == 1


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_where_everything_is_a_tie_strips_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    codes = (np.indices((12, 14)).sum(axis=0) % 3).astype(np.uint8)
    whole = [run(tmp_path, turned, 500) for turned in (codes, codes[::-1], codes[:, ::-1])]
    monkeypatch.setattr(strips, "_PIXELS_IN_A_STRIP", 14 * rows)
    for turned, expected in zip((codes, codes[::-1], codes[:, ::-1]), whole, strict=True):
        np.testing.assert_array_equal(run(tmp_path, turned, 500), expected)


def test_small_islands_in_no_data_stay(tmp_path: Path) -> None:
    codes = np.array([[N, N, N, 0], [N, 1, N, 0], [N, N, N, 0]], dtype=np.uint8)
    np.testing.assert_array_equal(run(tmp_path, codes, 1e6), codes)


def test_small_regions_together_may_be_large_enough(tmp_path: Path) -> None:
    codes = np.array([[0, 0, 1, 1, N], [0, 1, 1, 1, N]], dtype=np.uint8)
    assert run(tmp_path, codes, 400).tolist() == [[1, 1, 1, 1, N], [1, 1, 1, 1, N]]


def test_a_region_of_exactly_the_area_stays(tmp_path: Path) -> None:
    codes = np.array([[0, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]], dtype=np.uint8)
    np.testing.assert_array_equal(run(tmp_path, codes, 200), codes)
    assert (run(tmp_path, codes, 201) == 0).all()


def test_the_area_counts_on_the_ground(tmp_path: Path) -> None:
    x, y = pyproj.Transformer.from_crs(4326, 3857, always_xy=True).transform(10, 60)
    mercator = Affine(10, 0, x, 0, -10, y)
    codes = np.zeros((5, 5), dtype=np.uint8)
    codes[2, 1:4] = 1  # 3 pixels of about 25 m² on the ground, 100 m² by the CRS's own unit
    assert (run(tmp_path, codes, 80, crs="EPSG:3857", transform=mercator) == 0).all()
    np.testing.assert_array_equal(run(tmp_path, codes, 70, crs="EPSG:3857", transform=mercator), codes)


@pytest.mark.parametrize("rows", [3, 13])
def test_the_result_does_not_depend_on_the_strips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    noise = gaussian_filter(np.random.default_rng(1).standard_normal((4, 40, 50)), (0, 0.7, 0.7))
    codes = noise.argmax(axis=0).astype(np.uint8)
    whole = run(tmp_path, codes, 1200)
    monkeypatch.setattr(strips, "_PIXELS_IN_A_STRIP", 50 * rows)
    np.testing.assert_array_equal(run(tmp_path, codes, 1200), whole)
    assert (whole != codes).any()


def test_sieving_twice_changes_nothing_more(tmp_path: Path) -> None:
    codes = np.random.default_rng(2).integers(0, 4, (40, 50)).astype(np.uint8)
    once = run(tmp_path, codes, 900, crs="EPSG:32630", transform=UTM)
    np.testing.assert_array_equal(run(tmp_path, once, 900, crs="EPSG:32630", transform=UTM), once)


def test_polygons_of_the_sieved_map_are_all_large_enough(tmp_path: Path) -> None:
    run(tmp_path, np.random.default_rng(4).integers(0, 4, (40, 50)).astype(np.uint8), 900)
    frame = trace_polygons(tmp_path / "sieved.tif", LEGEND)
    assert frame["area_m2"].min() >= 900 * (1 - 1e-6)
    assert frame["area_m2"].sum() == pytest.approx(40 * 50 * 100, rel=1e-6)


def test_nothing_small_gives_the_same_map(tmp_path: Path) -> None:
    codes = np.random.default_rng(5).integers(0, 4, (20, 30)).astype(np.uint8)
    np.testing.assert_array_equal(run(tmp_path, codes, 0), codes)


def test_a_negative_area_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="0 or more"):
        run(tmp_path, np.zeros((2, 2), dtype=np.uint8), -1)


@pytest.mark.parametrize("rows", [8, 1000])
def test_what_is_too_large_for_memory_goes_to_the_disk_and_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    codes = np.random.default_rng(8).integers(0, 3, (70, 60), dtype=np.uint8)
    codes[20:30, :25] = N
    kept, mapped = run(tmp_path, codes, 500.0), []
    monkeypatch.setattr(strips, "_PIXELS_IN_A_STRIP", 60 * rows)
    monkeypatch.setattr(spilled, "LARGE", 64)
    monkeypatch.setattr(sieve_module, "_AT_ONCE", 100)
    monkeypatch.setattr(np, "memmap", lambda *words, original=np.memmap, **more: mapped.append(1) or original(*words, **more))
    np.testing.assert_array_equal(run(tmp_path, codes, 500.0), kept)
    assert len(mapped) > 10
    assert sorted(path.name for path in tmp_path.iterdir()) == ["map.tif", "sieved.tif"]


def test_pieces_are_one_array_wherever_they_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spilled, "LARGE", 100)
    for sizes in ([], [3], [5, 0, 40, 7]):
        pieces, expected = spilled.Pieces(tmp_path, np.int32), np.arange(sum(sizes), dtype=np.int32)
        for start, size in zip(np.cumsum([0, *sizes]), sizes, strict=False):
            pieces.append(np.arange(start, start + size))
        whole = pieces.whole()
        np.testing.assert_array_equal(whole, expected)
        assert [len(part) for part in pieces.parts(whole)] == sizes
        assert isinstance(whole, np.memmap) is (sum(sizes) > 25)
        whole[:] = 1  # may be written to
