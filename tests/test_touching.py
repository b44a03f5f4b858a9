"""Touching buildings are told apart where the model says how, and called blocks where it does not."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import geopandas
import numpy as np
import packages
import pytest
import rasterio
from affine import Affine
from numpy.typing import NDArray
from scipy import ndimage

from geoseg.errors import InputError
from geoseg.legend import Legend
from geoseg.mapping.shapes import BLOCKS, building_shapes
from geoseg.models.package import Output
from geoseg.polygons import strips, touching
from geoseg.polygons.outlines import trace_polygons
from geoseg.polygons.touching import Separator, codes_of_pieces, split_touching

LEGEND = Legend.from_names(["ground", "building"])
UTM = Affine(0.3, 0, 500_000, 0, -0.3, 5_000_000)


def write(path: Path, values: NDArray[np.generic], *, roles: tuple[str, ...] = (), **profile) -> Path:
    bands = values if values.ndim == 3 else values[np.newaxis]
    count, height, width = bands.shape
    shape = {"count": count, "height": height, "width": width, "dtype": bands.dtype, "crs": "EPSG:32632", "transform": UTM}
    with rasterio.open(path, "w", driver="GTiff", **shape, **profile) as file:
        file.write(bands)
        for band, role in enumerate(roles, 1):
            file.set_band_description(band, role)
    return path


def split(folder: Path, buildings: NDArray[np.bool_], values: NDArray[np.floating], kind: str) -> NDArray[np.int64]:
    """(row, col) number of each pixel: 0 is ground, 1 an undivided building, larger ones pieces."""
    classes = write(folder / "classes.tif", buildings.astype(np.uint8), nodata=255)
    scores = write(folder / "scores.tif", values.astype(np.float32))
    split_touching(classes, folder / "pieces.tif", codes=[1], separator=Separator(scores, kind))
    with rasterio.open(folder / "pieces.tif") as file:
        return file.read(1).astype(np.int64)


def terrace(houses: int = 3) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """A row of houses 10 x 9 pixels wide, and the score of an edge: 0.9 in the first column of each."""
    buildings = np.zeros((20, 10 + 9 * houses), dtype=bool)
    buildings[5:15, 5 : 5 + 9 * houses] = True
    edges = np.full(buildings.shape, 0.05)
    edges[:, 5 : 5 + 9 * houses : 9] = 0.9
    return buildings, edges


def discs(*places: tuple[int, int, int], shape: tuple[int, int] = (60, 80)) -> NDArray[np.bool_]:
    row, col = np.indices(shape)
    return np.any([(row - r) ** 2 + (col - c) ** 2 <= radius**2 for r, c, radius in places], axis=0)


def blurred_distance(buildings: list[NDArray[np.bool_]]) -> NDArray[np.float64]:
    """How far each pixel lies inside its own building."""
    return np.max([ndimage.distance_transform_edt(one) for one in buildings], axis=0)


def test_a_terrace_is_divided_at_its_edges(tmp_path):
    buildings, edges = terrace()
    pieces = split(tmp_path, buildings, edges, "edge")
    assert (pieces[~buildings] == 0).all()
    assert len(np.unique(pieces[buildings])) == 3
    for house in range(3):
        assert len(np.unique(pieces[5:15, 6 + 9 * house : 14 + 9 * house])) == 1
    assert (codes_of_pieces(pieces) == buildings).all()


def test_a_terrace_without_edges_stays_whole(tmp_path):
    buildings, _ = terrace()
    assert np.unique(split(tmp_path, buildings, np.full(buildings.shape, 0.05), "edge")).tolist() == [0, 1]


def test_buildings_are_divided_where_the_distance_is_least(tmp_path):
    one, other = discs((30, 25, 14)), discs((30, 50, 14))
    pieces = split(tmp_path, one | other, blurred_distance([one, other]), "distance")
    assert len(np.unique(pieces[one | other])) == 2
    assert (pieces[one & (np.indices(one.shape)[1] < 36)] == pieces[30, 25]).all()
    assert (pieces[other & (np.indices(one.shape)[1] > 39)] == pieces[30, 50]).all()


def test_a_small_building_beside_a_large_one_is_one_of_its_own(tmp_path):
    hall, shed = np.zeros((60, 80), bool), np.zeros((60, 80), bool)
    hall[5:55, 5:60], shed[20:30, 60:70] = True, True
    pieces = split(tmp_path, hall | shed, blurred_distance([hall, shed]), "distance")
    assert (pieces[shed] == pieces[25, 65]).mean() > 0.85
    assert pieces[25, 65] != pieces[30, 30]


def test_an_l_is_one_building(tmp_path):
    shape = np.zeros((60, 60), bool)
    shape[10:50, 10:25] = shape[35:50, 10:50] = True
    assert np.unique(split(tmp_path, shape, ndimage.distance_transform_edt(shape), "distance")).tolist() == [0, 1]


@pytest.mark.parametrize("seed", range(3))
def test_pieces_cover_their_block_and_hang_together(tmp_path, seed):
    rng = np.random.default_rng(seed)
    buildings = ndimage.gaussian_filter(rng.standard_normal((90, 110)), 4) > 0
    edges = np.clip(ndimage.gaussian_filter(rng.standard_normal((90, 110)), 2) * 4 + 0.4, 0, 1)
    pieces = split(tmp_path, buildings, edges, "edge")
    assert ((pieces > 0) == buildings).all()
    blocks, _ = ndimage.label(buildings)
    numbers = np.unique(pieces[pieces > 1])
    assert len(numbers) > 5
    for number in numbers:
        assert ndimage.label(pieces == number)[1] == 1
        assert len(np.unique(blocks[pieces == number])) == 1


def test_pieces_depend_neither_on_strips_nor_on_the_grids_origin(tmp_path, monkeypatch):
    buildings, edges = terrace(5)
    whole = split(tmp_path, buildings, edges, "edge")
    monkeypatch.setattr(strips, "_PIXELS_IN_A_STRIP", buildings.shape[1] * 3)
    np.testing.assert_array_equal(split(tmp_path, buildings, edges, "edge"), whole)
    padded = [np.pad(array, ((7, 2), (11, 3))) for array in (buildings, edges)]
    np.testing.assert_array_equal(split(tmp_path, *padded, "edge")[7:-2, 11:-3], whole)


def test_a_block_too_large_to_hold_stays_whole(tmp_path, monkeypatch, caplog):
    buildings, edges = terrace()
    monkeypatch.setattr(touching, "_MOST_PIXELS", 100)
    assert np.unique(split(tmp_path, buildings, edges, "edge")).tolist() == [0, 1]
    assert "stays whole" in caplog.text


def test_two_blocks_in_one_box_are_divided_each_for_itself(tmp_path):
    shape, edges = np.zeros((40, 40), bool), np.full((40, 40), 0.1)
    shape[5:35, 5:10] = shape[30:35, 5:35] = True  # an L around …
    shape[8:26, 15:33] = True  # … a building with an edge through it
    edges[:, 24] = 1
    edges[28:] = 0.1
    pieces = split(tmp_path, shape, edges, "edge")
    assert pieces[6, 6] == 1
    assert pieces[10, 16] != pieces[10, 30]


def test_pieces_become_polygons_of_their_own(tmp_path):
    buildings, edges = terrace()
    split(tmp_path, buildings, edges, "edge")
    frame = trace_polygons(tmp_path / "classes.tif", LEGEND, square=[1], pieces=tmp_path / "pieces.tif")
    assert frame["class_name"].tolist() == ["ground", "building", "building", "building"]
    assert frame.loc[1:, "area_m2"].sum() == pytest.approx(270 * 0.09, rel=1e-3)


# The way through predict


def write_scene(path: Path, buildings: NDArray[np.bool_], second: NDArray[np.floating]) -> Path:
    return write(path, np.stack([buildings, second]).astype(np.float32), roles=("red", "nir"))


def description(path: Path) -> str:
    with closing(sqlite3.connect(path)) as database:
        return str(database.execute("SELECT description FROM gpkg_contents WHERE table_name = 'polygons'").fetchone()[0])


@pytest.mark.parametrize(("separator", "houses"), [("edges", 3), ("distance", 3), (None, 1)])
def test_predict_tells_touching_buildings_apart_where_the_model_can(place, geoseg, separator, houses):
    buildings, edges = terrace()
    walls = np.where(edges > 0.5, 0.9, 0)
    write_scene(place / "town.tif", buildings, ndimage.distance_transform_edt(walls == 0) if separator == "distance" else walls)
    packages.building_package(place / "buildings", separator=separator)
    ran = geoseg("predict", "town.tif", "--model", "buildings", "--shape", "building", "-o", "out")
    assert ran.code == 0, ran.err
    polygons, item = next((place / "out").glob("town*.gpkg")), json.loads((place / "out" / "town.json").read_text(encoding="utf-8"))
    if separator == "edges":
        polygons = place / "out" / "town_classes.gpkg"
    frame = geopandas.read_file(polygons, layer="polygons")
    assert (frame["class_name"] == "building").sum() == houses
    assert frame.loc[frame["class_name"] == "building", "squared"].all()
    said = BLOCKS if separator is None else f"touching buildings are separated by the model's output {separator!r}"
    assert said in ran.out
    assert f"{houses} buildings, {houses} squared" in ran.out
    assert description(polygons) == said
    (told,) = item["properties"]["geoseg:run"]["summary"]["buildings"]
    assert (told["count"], told["squared"], told["touching"]) == (houses, houses, said)
    with rasterio.open(next((place / "out").glob("town*classes.tif"))) as file:
        np.testing.assert_array_equal(file.read(1), buildings)


def test_a_squared_map_is_made_again_byte_for_byte(place, geoseg):
    write_scene(place / "town.tif", *terrace())
    packages.building_package(place / "buildings", separator="edges")
    assert geoseg("predict", "town.tif", "--model", "buildings", "--shape", "building=building", "-o", "out").code == 0
    ran = geoseg("predict", "--again", "out/town.json", "-o", "again")
    assert ran.code == 0, ran.err
    assert "byte for byte" in ran.err


def test_without_shape_nothing_is_said_of_buildings(place, geoseg):
    write_scene(place / "town.tif", *terrace())
    packages.building_package(place / "buildings")
    ran = geoseg("predict", "town.tif", "--model", "buildings", "-o", "out")
    assert ran.code == 0, ran.err
    assert "buildings are" not in ran.out
    assert "squared" not in geopandas.read_file(place / "out" / "town.gpkg", layer="polygons").columns


@pytest.mark.parametrize("shape", ["castle", "building=", "Building"])
def test_an_unknown_shape_is_refused(place, geoseg, shape):
    ran = geoseg("predict", "scene.tif", "--model", "model", "--shape", shape, "-o", "out")
    assert ran.code == 2
    assert f"--shape is {shape!r}; expected building, or building=CLASS" in ran.sentence
    assert not (place / "out").exists()


@pytest.mark.parametrize("shape", ["building", "building=hut"])
def test_a_model_without_buildings_is_refused(place, geoseg, shape):
    ran = geoseg("predict", "scene.tif", "--model", "model", "--shape", shape, "-o", "out")
    assert ran.code == 2
    assert "class 0, class 1" in ran.sentence
    assert "--shape building=CLASS" in ran.sentence
    assert not (place / "out").exists()


def test_any_class_can_be_squared_by_its_name(place, geoseg):
    ran = geoseg("predict", "scene.tif", "--model", "model", "--shape", "building=class 1", "-o", "out")
    assert ran.code == 0, ran.err
    assert BLOCKS in ran.out


def outputs(*legends: tuple[str, list[str]]) -> list[Output]:
    return [Output.from_legend(name, Legend.from_names(names)) for name, names in legends]


def test_classes_are_found_by_name_and_edges_are_none_of_them():
    found = building_shapes("building", outputs(("cover", ["grass", "Building", "roof", "building edge", "no building"])))
    assert found["cover"].codes == (1, 2)
    assert found["cover"].touching == "touching buildings are separated by the class 'building edge'"


@pytest.mark.parametrize(
    ("name", "edge"),
    [("edge", True), ("Building_edges", True), ("outline of buildings", True), ("no edge", False), ("field boundary", False)],
)
def test_only_edges_of_buildings_tell_buildings_apart(name, edge):
    found = building_shapes("building", outputs(("cover", ["ground", "house"]), ("walls", ["other", name])))
    assert (found["cover"].edges is not None) == edge
    assert (found["cover"].touching == BLOCKS) != edge


def test_edges_go_before_distances():
    distance = Output(name="distance", kind="quantity", unit="m", range=(0, 10))
    found = building_shapes("building", [*outputs(("cover", ["ground", "house"]), ("walls", ["no edge", "boundary"])), distance])
    assert (found["cover"].edges, found["cover"].distance) == (("walls", (2,)), None)


def test_no_shape_finds_nothing_and_a_strange_one_is_refused():
    assert building_shapes(None, outputs(("cover", ["building"]))) == {}
    with pytest.raises(InputError, match="ground, water"):
        building_shapes("building", outputs(("cover", ["ground", "water"])))
