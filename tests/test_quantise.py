"""The network in 8-bit integers: calibrated on the scenes' own tiles, compared on others, refused where the map would be another."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
import rasterio
from affine import Affine
from command_line import refusal
from networks import layered_package
from packages import per_pixel_package, threshold_package

from geoseg.mapping.drawn_tiles import draw_tiles, read_tile
from geoseg.mapping.parity import OutputParity, compare
from geoseg.models.package import INT8_ONNX, INT8_PARITY, ModelPackage
from geoseg.scenes.open_scene import open_scene

SIDE = 320


@pytest.fixture
def scene(place):
    """A smooth landscape of bytes with a seeded relief, and nothing in its first 100 rows."""
    rows, cols = np.mgrid[0:SIDE, 0:SIDE]
    values = 100 + 50 * np.sin(rows / 13) + 40 * np.cos(cols / 17) + np.random.default_rng(3).normal(0, 4, (SIDE, SIDE))
    values = values.clip(1, 199).astype(np.uint8)
    values[:100] = 0
    profile = {"count": 1, "height": SIDE, "width": SIDE, "dtype": "uint8", "crs": "EPSG:32632", "nodata": 0}
    with rasterio.open(place / "land.tif", "w", driver="GTiff", transform=Affine(10, 0, 5e5, 0, -10, 5e6), **profile) as file:
        file.write(values, 1)
        file.set_band_description(1, "red")
    return "land.tif"


@pytest.fixture
def package(place):
    return layered_package(place / "layers", layers=4)


def export(*words):
    return ("export", "layers", "--int8", "-o", "small", "--scenes", "land.tif", "--sensor", "generic", *words)


def test_tiles_share_no_pixel_and_have_data(scene, package):
    drawn = draw_tiles([open_scene(scene, sensor="generic")], package, 12)
    seen = np.zeros((SIDE, SIDE), int)
    for place in (*drawn[0], *drawn[1]):
        tiles = place.plan.tiles
        row, col = tiles.row_origins[place.tile_row], tiles.col_origins[place.tile_col]
        seen[row : row + tiles.tile, col : col + tiles.tile] += 1
        assert read_tile(place).observed.mean() > 0.5
    assert seen.max() == 1
    assert min(map(len, drawn)) >= 4


def test_the_same_seed_draws_the_same_tiles(scene, package):
    opened = open_scene(scene, sensor="generic")
    places = [[(one.tile_row, one.tile_col) for one in draw_tiles([opened], package, 5, seed=seed)[0]] for seed in (1, 1)]
    assert places[0] == places[1]


def test_a_drawn_tile_is_what_the_map_would_give_the_network(scene, package):
    place = draw_tiles([open_scene(scene, sensor="generic")], package, 12)[0][-1]
    tiles = place.plan.tiles
    row, col = tiles.row_origins[place.tile_row], tiles.col_origins[place.tile_col]
    with rasterio.open(scene) as file:
        stored = file.read(1)[row : row + tiles.tile, col : col + tiles.tile]
    np.testing.assert_array_equal(read_tile(place).image[0, 0], stored)


def test_int8_package_is_the_old_one_and_more(geoseg, scene, package):
    ran = geoseg(*export("--anyway"))
    assert ran.code == 0, ran.err
    made = ModelPackage.open("small")
    assert {*made.checksums} == {*package.checksums, INT8_ONNX, INT8_PARITY}
    assert made.onnx == package.onnx
    assert made.preparation == package.preparation
    graph = onnx.load_from_string(made.read(INT8_ONNX)).graph
    assert {"QuantizeLinear", "DequantizeLinear"} <= {node.op_type for node in graph.node}
    assert "In 8-bit integers" in made.read("README.md").decode()
    assert "agree" in ran.out


def test_weights_leave_room_for_sums_of_16_bits(geoseg, scene, package):
    geoseg(*export("--anyway"))
    tensors = onnx.load_from_string(ModelPackage.open("small").read(INT8_ONNX)).graph.initializer
    weights = [onnx.numpy_helper.to_array(one) for one in tensors if one.data_type == onnx.TensorProto.INT8 and len(one.dims) == 4]
    assert len(weights) == 2  # the first and the last layer stay as they are
    assert max(int(np.abs(one.astype(int)).max()) for one in weights) <= 64


def test_parity_report_says_what_two_runtimes_give(geoseg, scene, package):
    geoseg(*export("--anyway", "--tiles", "6"))
    facts = json.loads(ModelPackage.open("small").read(INT8_PARITY))
    found = facts["outputs"]["classes"]
    assert found["pixels"] > 64 * 64
    assert 90 < found["agreement_percent"] <= 100
    assert 0 < found["mean_score_error"] < found["largest_score_error"] < 1
    assert found["worst_class"]["name"] in found["iou"]
    assert facts["calibration"]["tiles"] <= 6


def test_networks_that_disagree_are_refused_with_the_figures(geoseg, scene, package, monkeypatch, place):
    import geoseg.mapping.int8_export as module

    other = layered_package(place / "other", layers=4, seed=5).onnx
    monkeypatch.setattr(module, "quantise", lambda package, tiles: other)
    sentence = refusal(geoseg, place, *export())
    assert "expected agreement on at least 99.5 %" in sentence
    assert "IoU" in sentence
    assert not (place / "small").exists()


def test_quantities_are_compared_by_their_range(geoseg, scene, place):
    layered_package(place / "layers", layers=4, quantity=True)
    assert geoseg(*export("--anyway")).code == 0
    found = json.loads(ModelPackage.open("small").read(INT8_PARITY))["outputs"]["cover"]
    assert found["worst_class"] is None
    assert found["largest_score_error"] < 0.5


def test_a_network_agrees_with_itself_and_time_is_counted(scene, package):
    from geoseg.runtimes.open_runtime import open_runtime

    places = draw_tiles([open_scene(scene, sensor="generic")], package, 4)[1]
    runtime = open_runtime(package, "onnx", threads=1)
    parity = compare(runtime, runtime, package.outputs, places)
    assert parity.agreement == 1
    assert parity.outputs[0].largest_error == 0
    assert set(parity.outputs[0].iou.values()) == {1.0}


def test_only_observed_pixels_count():
    output = layered_output()
    ours = np.zeros((3, 2, 2), np.float32)
    ours[0] = 1
    theirs = ours.copy()
    theirs[:, 0, 0], theirs[:, 1, 1] = (0, 1, 0), (0, 0.5, 0.2)
    parity = OutputParity(output)
    parity.add(ours, theirs, np.array([[True, True], [True, False]]))
    assert (parity.pixels, parity.agreeing, parity.largest_error) == (3, 2, 1.0)
    assert parity.mean_error == pytest.approx(2 / 9)
    assert parity.iou == {"class 0": pytest.approx(2 / 3), "class 1": 0.0}


def layered_output():
    from geoseg.legend import Legend
    from geoseg.models.package import Output

    return Output.from_legend("classes", Legend.from_names([f"class {i}" for i in range(3)]))


@pytest.mark.parametrize("make", [threshold_package, lambda folder: per_pixel_package(folder, ["red"], [[1.0], [0.5]])])
def test_a_network_with_nothing_to_gain_is_refused(geoseg, scene, place, make):
    make(place / "layers")
    assert "no layer between its first and its last" in refusal(geoseg, place, *export())


def test_an_int8_graph_is_not_quantised_again(geoseg, scene, package, place):
    from geoseg.models.package import ModelDescription, write_package

    geoseg(*export("--anyway"))
    described = ModelDescription(**{name: getattr(package, name) for name in ModelDescription.model_fields})
    write_package(place / "twice", described, onnx=ModelPackage.open("small").read(INT8_ONNX))
    sentence = refusal(geoseg, place, "export", "twice", "--int8", "-o", "out", "--scenes", scene, "--sensor", "generic")
    assert "quantised already" in sentence


def test_torch_weights_alone_are_refused(geoseg, scene, package, place):
    safetensors = pytest.importorskip("safetensors.numpy")
    from geoseg.models.package import ModelDescription, write_package

    described = ModelDescription(**{name: getattr(package, name) for name in ModelDescription.model_fields})
    write_package(place / "torch-only", described, onnx=None, weights=safetensors.save({"weight": np.zeros(1, np.float32)}))
    sentence = refusal(geoseg, place, "export", "torch-only", "--int8", "-o", "out", "--scenes", scene, "--sensor", "generic")
    assert "weights for torch only" in sentence


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("export", "layers", "-o", "out", "--scenes", "scene.tif"), "or --int8"),
        (("export", "layers", "--int8", "-o", "out"), "say --scenes"),
        (("export", "layers", "--int8", "-o", "layers", "--scenes", "scene.tif", "--sensor", "generic"), "layers exists already"),
        (("export", "layers", "--int8", "-o", "out", "--scenes", "scene.tif", "--sensor", "generic"), "give a larger scene"),
    ],
)
def test_what_cannot_be_exported_is_said_in_a_sentence(geoseg, package, words, said, place):
    assert said in refusal(geoseg, place, *words)
