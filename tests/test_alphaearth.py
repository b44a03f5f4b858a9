"""AlphaEarth's published embeddings as a scene: what their bytes mean, wherever they are read, and a map of few labels made of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from scene_files import write

from geoseg.io.geotiff import read_raster
from geoseg.preprocess.optical import physical_values, to_physical
from geoseg.scene import read_scene
from geoseg.scenes.open_scene import open_scene
from geoseg.sensors import get_sensor

SIDE, AXES = 64, 64
NAMES = tuple(f"A{axis:02d}" for axis in range(AXES))
BOTTOM_UP = Affine(10, 0, 500_000, 0, 10, 4_800_000)
"""Of the published files: the first row is the southernmost."""
LAYOUT: dict[str, Any] = {
    "crs": "EPSG:32630", "transform": BOTTOM_UP, "nodata": -128, "tiled": True, "blockxsize": 32, "blockysize": 32, "compress": "deflate",
    "interleave": "pixel", "photometric": "minisblack",
}  # fmt: skip


def stored_of(vectors: NDArray[np.float64]) -> NDArray[np.int8]:
    """The bytes of vectors of length 1, by the published rule turned round."""
    return np.rint(np.sqrt(np.abs(vectors)) * np.sign(vectors) * 127.5).clip(-127, 127).astype(np.int8)


def ground() -> tuple[NDArray[np.int8], NDArray[np.bool_]]:
    """(axis, row, col) bytes of two kinds of ground, and (row, col) where it is water; the first eight rows are masked."""
    rng = np.random.default_rng(0)
    water = (np.add.outer(np.arange(SIDE), np.arange(SIDE)) // 16) % 2 == 0
    centres = rng.normal(size=(2, AXES))
    vectors = centres[water.astype(int)] + rng.normal(0, 0.5, (SIDE, SIDE, AXES))
    stored = stored_of(np.moveaxis(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True), -1, 0))
    stored[:, :8] = -128
    return stored, water


@pytest.fixture(scope="module")
def tile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("alphaearth") / "tile.tiff", ground()[0], names=NAMES, **LAYOUT)


def test_the_axes_are_known_by_their_names(tile: Path) -> None:
    scene = open_scene(tile)
    assert scene.sensor.name == "alphaearth"
    assert scene.roles == tuple(name.lower() for name in NAMES)
    assert "Google DeepMind" in scene.attribution
    assert {layer.band.nodata for layer in scene.layers} == {-128}
    assert scene.geobox().affine == BOTTOM_UP


@pytest.mark.parametrize("number", [-127, -64, -1, 0, 1, 90, 127])
def test_bytes_become_numbers_by_the_published_rule(number: int) -> None:
    band = get_sensor("alphaearth").bands[0]
    made = physical_values(np.array([number], np.int8), band)
    assert made.dtype == np.float32
    assert made[0] == pytest.approx((number / 127.5) ** 2 * np.sign(number), abs=2e-7)


def test_decoded_vectors_have_length_one_and_plain_bytes_have_not(tile: Path) -> None:
    raster = read_scene(open_scene(tile), open_scene(tile).roles, open_scene(tile).geobox())
    assert not raster.valid[:, :8].any()
    assert raster.valid[:, 8:].all()
    decoded = to_physical(raster)
    assert {band.encoding for band in decoded.bands} == {"linear"}
    assert np.abs(np.linalg.norm(decoded.values[:, 8:], axis=0) - 1).max() < 0.02
    assert np.abs(np.linalg.norm(raster.values[:, 8:] / 127.5, axis=0) - 1).min() > 0.5


def test_means_are_means_of_the_decoded_numbers(tile: Path) -> None:
    scene = open_scene(tile)
    coarse = GeoBox((SIDE // 4, SIDE // 4), BOTTOM_UP @ Affine.scale(4), "EPSG:32630")
    raster = read_raster(str(tile), {1: scene.layers[0].band}, coarse)
    stored = ground()[0][0].astype(np.float64) / 127.5
    fine = (stored * np.abs(stored)).reshape(SIDE // 4, 4, SIDE // 4, 4)[2:]
    mean, of_bytes = fine.mean(axis=(1, 3)), stored.reshape(SIDE // 4, 4, SIDE // 4, 4)[2:].mean(axis=(1, 3))
    assert np.abs(physical_values(raster.values[0], raster.bands[0])[2:] - mean).max() < 1e-6
    assert np.abs(of_bytes * np.abs(of_bytes) - mean).max() > 1e-3


def test_floating_point_is_the_vectors_themselves(tmp_path: Path) -> None:
    vectors = np.random.default_rng(1).normal(size=(AXES, 12, 12))
    exported = write(tmp_path / "export.tif", vectors, names=NAMES, photometric="minisblack")
    band = open_scene(exported).layer("a07").band
    assert (band.scale, band.encoding, band.nodata) == (1.0, "linear", None)
    assert np.array_equal(physical_values(vectors[7], band), vectors[7].astype(np.float32))


def test_a_scale_that_is_stated_is_all_there_is(tile: Path) -> None:
    band = open_scene(tile, scale=0.5).layer("a00").band
    assert (band.scale, band.offset, band.encoding) == (0.5, 0.0, "linear")


def test_some_axes_need_the_sensor_s_name(tmp_path: Path) -> None:
    some = write(tmp_path / "some.tif", ground()[0][[1, 16, 9]], names=("A01", "A16", "A09"), **LAYOUT)
    scene = open_scene(some, sensor="alphaearth")
    assert scene.roles == ("a01", "a09", "a16")
    assert scene.layer("a16").index == 2


def test_info_tells_what_they_are(tile: Path, geoseg) -> None:
    ran = geoseg("info", tile, "--json")
    assert ran.code == 0, ran.err
    told = json.loads(ran.out)
    assert told["sensor"] == "alphaearth"
    first = told["bands"][0]
    assert (first["name"], first["encoding"], first["dtype"]) == ("A00", "signed_square", "int8")
    stored = ground()[0][0, 8:]
    assert first["percentiles_0_1_50_99_100"][-1] == pytest.approx((stored.max() / 127.5) ** 2, abs=1e-6)


@pytest.mark.parametrize("recipe", ["pixel_forest", "probe"])
def test_few_labels_make_a_map_of_them(tile: Path, geoseg, tmp_path: Path, recipe: str) -> None:
    pytest.importorskip("sklearn")
    pytest.importorskip("onnx")
    _, water = ground()
    labels = np.where(np.random.default_rng(2).random((SIDE, SIDE)) < 0.1, np.where(water, 20, 10), 255).astype(np.uint8)
    write(tmp_path / "labels.tif", labels[np.newaxis], crs="EPSG:32630", transform=BOTTOM_UP, nodata=255)
    words = ("--recipe", recipe, "-s", "block=32", "-s", "guard=0", *(("-s", "trees=10") if recipe == "pixel_forest" else ()))
    ran = geoseg("train", tile, "--labels", tmp_path / "labels.tif", "-o", tmp_path / "learned", *words)
    assert ran.code == 0, ran.err
    ran = geoseg("predict", tile, "--model", tmp_path / "learned", "-o", tmp_path / "map", "--no-polygons")
    assert ran.code == 0, ran.err
    with rasterio.open(tmp_path / "map" / "tile_classes.tif") as file:
        classes = file.read(1)
    assert (classes[:8] == file.nodata).all()
    assert ((classes == 20) == water)[8:].mean() > 0.99


def test_a_graph_for_other_programs_decodes_them_too(tile: Path, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    from packages import per_pixel_package

    from geoseg.models.prepared_graph import Stored, prepared_graph

    roles, scene = ["a00", "a01"], open_scene(tile)
    package = per_pixel_package(tmp_path / "package", roles, [[3.0, -2.0], [-1.0, 5.0]])
    bands = [Stored(plane, scene.layer(role).band, whole=True) for plane, role in enumerate(roles)]
    graph = prepared_graph(package, bands, 2).SerializeToString()
    stored = read_scene(scene, roles, scene.geobox()).values[np.newaxis].astype(np.float32)
    (scores,) = runtime.InferenceSession(graph, providers=["CPUExecutionProvider"]).run(None, {"stored_image": stored})
    decoded = to_physical(read_scene(scene, roles, scene.geobox())).values
    logits = np.einsum("cb,brl->crl", np.array([[3.0, -2.0], [-1.0, 5.0]]), decoded)
    expected = np.exp(logits) / np.exp(logits).sum(axis=0)
    assert np.abs(scores[0] - expected)[:, 8:].max() < 1e-5
