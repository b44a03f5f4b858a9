"""Packages for other programs: the whole preparation inside the graph, the same map as ours, and what Deepness asks for."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
from packages import per_pixel_package, preparation_for, threshold_package
from rasterio.enums import ColorInterp
from scene_files import write

from geoseg.io.class_maps import open_class_map, read_class_indices
from geoseg.legend import Legend
from geoseg.models.package import ModelPackage
from geoseg.preprocess.prepare import BandNeed, Channel, Despeckle, Preparation

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

LEGEND = Legend.from_names(["dry land", "water", "ice"])
S2 = ("--sensor", "sentinel-2-l2a")
INDICES = Preparation(
    bands=tuple(BandNeed(role=role, unit="reflectance") for role in ("red", "nir", "green", "blue")),
    channels=(
        Channel(name="nir", mean=0.2, std=0.1),
        Channel(name="NDVI", kind="index", mean=0.3, std=0.3),
        Channel(name="EVI", kind="index", mean=0.2, std=0.5),
        Channel(name="kNDVI", kind="index", mean=0.1, std=0.2),
        Channel(name="SAVI", kind="index", mean=0.1, std=0.2),
    ),
)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def package(place: Path) -> ModelPackage:
    weights = np.random.default_rng(0).normal(0, 1, (3, 5))
    return per_pixel_package(
        place / "model", ["red"], weights, legend=LEGEND, preparation=INDICES, tile=64, overlap=16, sensors=["sentinel-2-l2a"]
    )


@pytest.fixture
def scene(place: Path) -> Path:
    """Bands in an order of their own, one that nobody reads, no data at 0, and numbers for which indices divide 0 by 0."""
    values = np.random.default_rng(1).integers(1, 6000, (5, 150, 170)).astype(np.uint16)
    values[:, :20, :30] = 0
    values[:4, 30:40, 30:40] = 1000  # reflectance 0 where the offset is -0.1
    return write(place / "scene.tif", values, names=["B08", "B11", "B02", "B04", "B03"], nodata=0)


def as_deepness(file: Path, planes: np.ndarray) -> np.ndarray:
    """(row, col) of classes as the plugin finds them: its rules in numpy, tile by tile without overlap."""
    session = onnxruntime.InferenceSession(file.read_bytes(), providers=["CPUExecutionProvider"])
    told = {key: json.loads(value) for key, value in session.get_modelmeta().custom_metadata_map.items()}
    edge = session.get_inputs()[0].shape[-1]
    assert session.get_inputs()[0].shape[1:] == [len(planes), edge, edge]
    mean, std = (np.array(told[f"standardization_{name}"], np.float32)[:, None, None] for name in ("mean", "std"))
    found = np.zeros(planes.shape[1:], np.uint8)
    for row in range(0, found.shape[0], edge):
        for col in range(0, found.shape[1], edge):
            tile = np.zeros((len(planes), edge, edge), np.float32)
            piece = planes[:, row : row + edge, col : col + edge]
            tile[:, : piece.shape[1], : piece.shape[2]] = piece
            (scores,) = session.run(None, {session.get_inputs()[0].name: ((tile / 255.0 - mean) / std)[None].astype(np.float32)})
            classes = np.where(scores < told["seg_thresh"], 0, scores).argmax(axis=1)[0]
            found[row : row + edge, col : col + edge] = classes[: piece.shape[1], : piece.shape[2]]
    return found


def our_map(geoseg, scene: Path, *words: object) -> np.ndarray:
    assert geoseg("predict", scene, *words, "--model", "model", "-o", "map").code == 0
    classes = open_class_map(Path("map") / f"{scene.stem}_classes.tif")
    return read_class_indices(classes, classes.geobox)


def test_the_plugins_rules_give_our_map(package: ModelPackage, scene: Path, geoseg) -> None:
    ran = geoseg("export", "model", "--to", "deepness", "--scenes", scene, *S2, "-o", "for_qgis.onnx", "--json")
    assert ran.code == 0, ran.err
    told = json.loads(ran.out)
    assert told["summary"]["bands"] == ["nir", "", "blue", "red", "green"]
    assert told["summary"]["parity"]["agreement"] == 1
    ours = our_map(geoseg, scene, *S2)
    with rasterio.open(scene) as file:
        theirs = as_deepness(Path("for_qgis.onnx"), file.read())
    seen = ours >= 0
    np.testing.assert_array_equal(theirs[seen], ours[seen])
    assert len(np.unique(ours[seen])) == 3
    assert (theirs[~seen] == 0).all(), "no data becomes the first class, not any"
    with rasterio.open(scene) as file:
        swapped = as_deepness(Path("for_qgis.onnx"), file.read()[[2, 1, 0, 3, 4]])
    assert (swapped[seen] != ours[seen]).mean() > 0.1, "the order of the bands matters"


def test_the_metadata_are_what_the_plugin_reads(package: ModelPackage, scene: Path, geoseg) -> None:
    assert geoseg("export", "model", "--to", "deepness", "--scenes", scene, *S2, "-o", "for_qgis.onnx").code == 0
    session = onnxruntime.InferenceSession("for_qgis.onnx", providers=["CPUExecutionProvider"])
    told = {key: json.loads(value) for key, value in session.get_modelmeta().custom_metadata_map.items()}  # each value is JSON
    assert told["model_type"] == "Segmentor"
    assert told["class_names"] == {"0": "dry land", "1": "water", "2": "ice"}
    assert told["resolution"] == pytest.approx(100 * package.pixel_size_m)
    assert (told["tile_size"], told["tiles_size"], told["tiles_overlap"]) == (64, 64, 25)
    assert (told["seg_thresh"], told["seg_small_segment"]) == (0, 0)
    assert told["licence"] == package.licence
    report = json.loads(Path("for_qgis_parity.json").read_text())
    assert report["pixels"] == 150 * 170 - 20 * 30


@pytest.mark.parametrize("to", ["onnx", "openvino"])
def test_other_runtimes_take_numbers_as_stored_in_any_size(place: Path, geoseg, to: str) -> None:
    ending = {"onnx": "onnx", "openvino": "xml"}[to]
    values = np.random.default_rng(2).normal(0.03, 0.02, (1, 90, 70)).astype(np.float32)
    values[:, :9, :9] = -9999
    write(place / "scene.tif", values, names=["VV"], nodata=-9999)
    threshold_package(place / "model", ("vv",), -16, preparation=preparation_for(("vv",)))
    words = ("--sensor", "sentinel-1-rtc", "--unit", "linear power")
    if to == "openvino":
        pytest.importorskip("openvino")
    ran = geoseg("export", "model", "--to", to, "--scenes", "scene.tif", *words, "-o", f"net.{ending}")
    assert ran.code == 0, ran.err
    ours = our_map(geoseg, place / "scene.tif", *words)
    image = np.pad(values, ((0, 0), (0, 6), (0, 26)))[np.newaxis]
    if to == "onnx":
        (scores,) = onnxruntime.InferenceSession("net.onnx", providers=["CPUExecutionProvider"]).run(None, {"stored_image": image})
    else:
        openvino = pytest.importorskip("openvino")
        compiled = openvino.Core().compile_model("net.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        scores = compiled([image])[0]
    found = scores[0, :, :90, :70]
    np.testing.assert_array_equal(found.argmax(axis=0)[ours >= 0], ours[ours >= 0])
    assert (found[:, :9, :9] == 0).all()


def test_geodeep_maps_as_we_do(place: Path, geoseg) -> None:
    geodeep = pytest.importorskip("geodeep", reason="geodeep is not installed")
    from geodeep.utils import median_filter

    values = np.random.default_rng(3).integers(0, 255, (3, 6, 8)).astype(np.uint8).repeat(32, axis=1).repeat(32, axis=2)
    colours = [ColorInterp.red, ColorInterp.green, ColorInterp.blue]
    scene = write(place / "scene.tif", values, names=["red", "green", "blue"], colours=colours, tiled=True, blockxsize=64, blockysize=64)
    weights = np.random.default_rng(0).normal(0, 0.05, (3, 3))
    per_pixel_package(place / "model", ["red", "green", "blue"], weights, legend=LEGEND, tile=64, overlap=16)
    assert geoseg("export", "model", "--to", "deepness", "--scenes", scene, "--sensor", "generic", "-o", "net.onnx").code == 0
    ours = our_map(geoseg, scene, "--sensor", "generic")
    theirs = geodeep.run(str(scene), "net.onnx", output_type="raw")
    np.testing.assert_array_equal(theirs, median_filter(ours.astype(np.uint8), 5))
    assert len(np.unique(ours)) > 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--to deepness -o net.onnx", "needs one scene whose bands"),
        ("--to deepness --scenes scene.tif --int8 -o net.onnx", "leave out one of them"),
        ("--to openvino --scenes scene.tif --sensor sentinel-2-l2a -o net.onnx", "ends in .xml"),
        ("-o net.onnx", "say --to onnx, openvino or deepness, or --int8"),
    ],
)
def test_what_does_not_go_together_is_refused(package: ModelPackage, scene: Path, geoseg, words: str, says: str) -> None:
    ran = geoseg("export", "model", *words.split())
    assert (ran.code, says in ran.sentence) == (2, True), ran.err
    assert not list(Path().glob("net*"))


def test_what_a_graph_of_pixels_cannot_do_is_refused(place: Path, scene: Path, geoseg) -> None:
    speckled = preparation_for(("vv",)).model_copy(update={"despeckle": Despeckle(method="lee")})
    threshold_package(place / "model", ("vv",), -16, preparation=speckled)
    write(place / "radar.tif", np.full((1, 64, 64), 0.02, np.float32), names=["VV"])
    words = ("--to", "onnx", "--scenes", "radar.tif", "--sensor", "sentinel-1-rtc", "--unit", "linear power", "-o", "net.onnx")
    ran = geoseg("export", "model", *words)
    assert (ran.code, "filters speckle" in ran.sentence) == (2, True)
    assert not Path("net.onnx").exists()


def test_bands_in_several_files_are_to_be_stacked_first(package: ModelPackage, place: Path, geoseg) -> None:
    for name in ("B02", "B03", "B04", "B08"):
        write(place / "bands" / f"T32_{name}.tif")
    ran = geoseg("export", "model", "--to", "deepness", "--scenes", place / "bands", *S2, "-o", "net.onnx")
    assert (ran.code, "gdalbuildvrt -separate" in ran.sentence) == (2, True), ran.err
