"""Bad input through the real command line: one sentence, the right exit code, nothing half-written and nothing lost."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import geopandas
import numpy as np
import packages
import pytest
from affine import Affine
from command_line import contents, run, write
from shapely.geometry import box

from geoseg.errors import OutputError
from geoseg.mapping.make_map import make_map
from geoseg.models.package import ModelPackage
from geoseg.scene import read_scene
from geoseg.scenes.open_scene import open_scene

POSIX = os.name != "nt"
GENERIC = ("--sensor", "generic")
PREDICT = ("predict", "scene.tif", *GENERIC, "--model", "model", "-o", "out")


@pytest.fixture
def refused(place, monkeypatch, capfd):
    """`refused(*WORDS, says=…)`: the command fails with one sentence that has these words, and leaves the folder as it was."""

    def check(*words: object, says: tuple[str, ...], code: int = 2) -> None:
        seen = visible if code == 1 else contents  # strips that were finished are kept where only the results could not be written
        before = seen(place)
        ran = run(monkeypatch, capfd, *words)
        assert ran.code == code, ran.err
        assert [word for word in says if word not in ran.sentence] == [], ran.sentence
        assert seen(place) == before

    return check


def cut(path, share):
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


def cut_compressed(path):
    write(path, side=300, tiled=True, blockxsize=64, blockysize=64, compress="deflate")
    cut(path, 0.5)


SCENES = {
    "no such file": (lambda path: path.unlink(), ("no such file", "scene.tif", "check the path")),
    "an empty folder": (lambda path: (path.unlink(), path.mkdir()), ("scene.tif", "holds no raster")),
    "not a raster": (lambda path: path.write_text("hello"), ("scene.tif", "not a raster", "give a GeoTIFF")),
    "zero bytes": (lambda path: path.write_bytes(b""), ("scene.tif", "empty (zero bytes)", "fetch it again")),
    "header cut": (lambda path: path.write_bytes(path.read_bytes()[:40]), ("scene.tif", "truncated", "fetch it again")),
    "data cut": (lambda path: cut(path, 0.5), ("scene.tif", "truncated", "fetch it again")),
    "compressed data cut": (cut_compressed, ("scene.tif", "truncated", "fetch it again")),
    "zip cut": (lambda path: path.write_bytes(b"PK\3\4 and no more"), ("scene.tif", "not a raster")),
    "no CRS": (lambda path: write(path, crs=None), ("scene.tif", "no CRS", "rio edit-info --crs")),
    "no place": (lambda path: write(path, transform=Affine.identity()), ("scene.tif", "no geotransform")),
    "bands not known": (lambda path: write(path, roles=("", "")), ("scene.tif", "unclear", "--bands", "--sensor")),
    "band missing": (lambda path: write(path, roles=("green",)), ("needs red", "has green", "red is missing", "--bands")),
    "all nodata": (lambda path: write(path, fill=0, nodata=0), ("scene.tif", "no valid pixel", "nodata")),
    "pixels too coarse": (lambda path: write(path, transform=Affine(60, 0, 5e5, 0, -60, 5e6)), ("60 m", "5 to 20 m")),
}


@pytest.mark.filterwarnings("ignore:Dataset has no geotransform")
@pytest.mark.parametrize("name", SCENES)
def test_bad_scene(place, refused, name):
    spoil, says = SCENES[name]
    spoil(place / "scene.tif")
    refused(*PREDICT, says=says)


@pytest.mark.parametrize("name", ["no such file", "not a raster", "zero bytes", "header cut", "no CRS", "bands not known"])
def test_bad_scene_is_refused_by_info_too(place, refused, name):
    spoil, says = SCENES[name]
    spoil(place / "scene.tif")
    refused("info", "scene.tif", *GENERIC, "--json", says=says)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--sensor", "sentinel-9"), ("sentinel-9", "sentinel-2-l2a")),
        (("--sensor", "sentinel-1-grd"), ("scene.tif", "--bands")),
        (("--bands", "red,nir"), ("2 bands", "there are 1")),
        (("--bands", "red=7"), ("red=7", "role=NUMBER")),
        (("--bands", "nir"), ("needs red", "has nir")),
        ((*GENERIC, "--scale", "0"), ("--scale is 0",)),
        ((*GENERIC, "--offset", "nan"), ("--offset is nan",)),
        ((*GENERIC, "--unit", "dB"), ("'red'", "dB", "--unit")),
    ],
)
def test_wrong_word_about_the_scene(refused, words, says):
    refused("predict", "scene.tif", *words, "--model", "model", "-o", "out", says=says)


def test_area_of_interest_where_the_scene_has_no_data(place, refused):
    write(place / "scene.tif", fill=0, nodata=0)
    geopandas.GeoDataFrame(geometry=[box(500_100, 4_999_800, 500_200, 4_999_900)], crs="EPSG:32632").to_file(place / "aoi.gpkg")
    refused(*PREDICT, "--aoi", "aoi.gpkg", says=("scene.tif", "no valid pixel inside the area"))


def change_version(folder):
    item = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    item["properties"]["geoseg:package_version"] = "99"
    (folder / "model.json").write_text(json.dumps(item), encoding="utf-8")


def zip_and_cut(folder):
    archive = Path(shutil.make_archive(str(folder.with_name("whole")), "zip", folder))
    shutil.rmtree(folder)
    folder.write_bytes(archive.read_bytes()[:-200])
    archive.unlink()


PACKAGES = {
    "nothing there": (shutil.rmtree, ("there is no model package model", "give a folder or .zip")),
    "no model.json": (lambda folder: (folder / "model.json").unlink(), ("model has no model.json",)),
    "model.json cut": (lambda folder: cut(folder / "model.json", 0.5), ("model is damaged", "fetch or make it again")),
    "zip cut": (zip_and_cut, ("model is damaged", "fetch or make the package again")),
    "another version": (change_version, ("package version '99'", "reads '1'", "use the geoseg that wrote it")),
    "wrong checksum": (lambda folder: cut(folder / "model.onnx", 0.9), ("damaged or was changed", "model.onnx has SHA-256")),
    "a file missing": (lambda folder: (folder / "model.onnx").unlink(), ("model has no model.onnx",)),
    "no package at all": (lambda folder: (shutil.rmtree(folder), write(folder)), ("model is no model package",)),
}


@pytest.mark.parametrize("name", PACKAGES)
def test_bad_package(place, refused, name):
    spoil, says = PACKAGES[name]
    spoil(place / "model")
    refused(*PREDICT, says=says)
    refused("info", "scene.tif", *GENERIC, "--model", "model", says=says)


@pytest.mark.parametrize("name", ["raw.pt", "raw.zip", "archive.pt", "archive.zip"])
def test_pickle_offered_as_a_model(place, refused, name):
    if name.startswith("raw"):
        (place / name).write_bytes(b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x94.")
    else:
        with zipfile.ZipFile(place / name, "w") as archive:
            archive.writestr("archive/data.pkl", b"\x80\x02}q\x00.")
    refused("predict", "scene.tif", *GENERIC, "--model", name, "-o", "out", says=(name, "is a pickle", "run any code", "model.json"))


def test_results_that_are_there_are_not_replaced(geoseg, refused):
    assert geoseg(*PREDICT).code == 0
    refused(*PREDICT, says=("out already holds scene", "--overwrite"))


def test_overwriting_that_fails_keeps_the_old_results(geoseg, place, refused):
    assert geoseg(*PREDICT).code == 0
    (place / "out/scene.qgz").unlink()
    (place / "out/scene.qgz").mkdir()  # no file can take its place, so the last step fails half-way
    refused(*PREDICT, "--overwrite", "--scores", says=("scene.qgz", "a folder of that name is there"), code=1)
    cut_compressed(place / "scene.tif")
    refused(*PREDICT, "--overwrite", says=("scene.tif", "truncated"))


@pytest.mark.parametrize(
    ("out", "code", "says"),
    [
        ("scene.tif", 2, ("scene.tif is a file", "choose another -o")),
        ("scene.tif/out", 1, ("scene.tif is not a folder", "choose another output folder")),
        ("scene.tif/a/b", 1, ("is not a folder", "choose another output folder")),
        ("a:b", 1, ("a:b", "Windows", "choose another")),
        ("new/con", 1, ("con", "reserved word on Windows", "choose another")),
        ("", 2, ("empty",)),
    ],
)
def test_place_that_cannot_hold_results(refused, out, code, says):
    refused("predict", "scene.tif", *GENERIC, "--model", "model", "-o", out, says=says, code=code)


@pytest.mark.parametrize("name", ["a:b.tif", "con.tif", "what?.tif", "end .tif"])
@pytest.mark.skipif(not POSIX, reason="Windows cannot hold such scenes either")
def test_scene_with_a_name_that_windows_cannot_hold_gets_results_with_others(geoseg, place, name):
    (place / "scene.tif").rename(place / name)
    assert geoseg("predict", name, *GENERIC, "--model", "model", "-o", "out").code == 0
    for path in (place / "out").iterdir():
        assert not set(path.name) & set('<>:"/\\|?*')
        assert path.stem.lower() != "con"


def test_folder_without_permission(monkeypatch, refused, place):
    def refuse(*_: object, **__: object) -> str:
        raise PermissionError(errno.EACCES, "Permission denied")  # a super-user, as in many containers, may write anywhere

    (place / "out").mkdir()
    monkeypatch.setattr("tempfile.mkdtemp", refuse)
    refused(*PREDICT, says=("out", "no permission to write", "choose another output folder"), code=1)


OPTIONS = [
    ("--batch many", "--batch is 'many'; expected a whole number, or auto"),
    ("--batch 0", "--batch is 0; expected 1 or more"),
    ("--overlap 999", "overlap 999 does not fit tiles of 64 pixels; choose 0…63"),
    ("--overlap much", "'much' is not a valid integer; see geoseg predict --help"),
    ("--threads 0", "--threads is 0; expected 1 or more"),
    ("--runtime magic", "'magic' is not one of 'onnx', 'openvino', 'torch'"),
    ("--runtime torch", "model has no weights.safetensors, which --runtime torch needs; with this package and processor work"),
    ("--resolution 0", "--resolution is 0.0; expected a pixel size above 0"),
    ("--resolution nan", "--resolution is nan; expected a pixel size above 0"),
    ("--resolution 1e9", "--resolution is 1e+09, larger than the whole scene"),
    ("--crs EPSG:4326 --resolution 10", "--resolution is 10, larger than the whole scene"),
    ("--crs foo", "--crs 'foo' is no coordinate reference system; give a code such as EPSG:32633"),
    ("--like scene.tif --crs EPSG:4326", "--like already states the grid; leave --crs and --resolution out"),
    ("--like nothing.tif", "no such file: nothing.tif"),
    ("--like model/model.json", "not a raster"),
    ("--mask-classes fog", "--mask-classes names 'fog'; expected some of"),
    ("--mask-grow-m 1e12", "--mask-grow-m is 1e+12; expected metres on the ground, at most"),
    ("--min-area-m2 -5", "--min-area-m2 is -5.0; expected 0 or more"),
    ("--simplify-m inf", "--simplify-m is inf; expected 0 or more"),
    ("--resoluton 10", "No such option '--resoluton'"),
    ("--aoi nothing.gpkg", "no such file: nothing.gpkg"),
    ("--aoi scene.tif", "scene.tif is not a vector file"),
    ("--aoi far.gpkg", "does not touch the scene: it lies about 4,9"),
    ("--aoi empty.geojson", "empty.geojson is empty"),
    ("--aoi placeless.gpkg", "placeless.gpkg states no CRS"),
    ("--exclude placeless.gpkg", "placeless.gpkg states no CRS"),
    ("--exclude all.gpkg", "no valid pixel inside the area"),
]


@pytest.mark.parametrize(("words", "says"), OPTIONS)
def test_nonsense_option(place, refused, words, says):
    for name, area, crs in (
        ("far", box(0, 0, 1, 1), "EPSG:4326"),
        ("all", box(8, 45, 10, 46), "EPSG:4326"),
        ("placeless", box(0, 0, 1, 1), None),
    ):
        if name in words:
            geopandas.GeoDataFrame(geometry=[area], crs=crs).to_file(place / f"{name}.gpkg")
    (place / "empty.geojson").write_text('{"type": "FeatureCollection", "features": []}')
    refused(*PREDICT, *words.split(), says=(says,))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("fly", "No such command 'fly'; see geoseg --help"),
        ("predict -o out", "no SCENE was given; name a GeoTIFF"),
        ("predict scene.tif --model model", "no folder for the results was given; say -o OUT"),
        ("info", "Missing argument 'SCENE'; see geoseg info --help"),
        ("data fetch moon", "no data set 'moon' in the catalogue; known are"),
        ("train scene.tif -o new", "name their file with --labels"),
        ("predict --again nothing.json -o out", "no such file nothing.json"),
        ("predict --again model/model.json -o out", "not the Item of a map of geoseg"),
        ("predict --again scene.tif -o out", "not the Item of a map of geoseg"),
        ("predict --again scene.json scene.tif -o out", "leave SCENE out"),
        ("predict --again scene.json --dry-run", "leave --dry-run out"),
    ],
)
def test_words_that_make_no_command(refused, words, says):
    refused(*words.split(), says=(says,))


LABELS = {
    "no class column": ({"height": [1.5]}, "near", ("no class column", "it has height", "class_column=")),
    "unknown classes": ({"class": ["moss"]}, "near", ("not in the legend: moss", "expected land (0), water (1)")),
    "nowhere near": ({"class": ["water"]}, "far", ("labels.gpkg", "km away", "give labels of this place")),
}


@pytest.mark.parametrize("name", LABELS)
def test_bad_labels(place, refused, name):
    for module in ("torch", "lightning", "segmentation_models_pytorch"):
        pytest.importorskip(module)
    columns, where, says = LABELS[name]
    area, crs = (box(0, 0, 1, 1), "EPSG:4326") if where == "far" else (box(500_000, 4_999_500, 500_300, 4_999_900), "EPSG:32632")
    geopandas.GeoDataFrame(columns, geometry=[area], crs=crs).to_file(place / "labels.gpkg")
    classes = "classes=[{index: 0, code: 0, name: land, colour: '#aaaaaa'}, {index: 1, code: 1, name: water, colour: '#0000ff'}]"
    words = ("train", "scene.tif", *GENERIC, "--labels", "labels.gpkg", "-o", "new", "-s", classes, "-s", "tile=32", "-s", "block=32")
    refused(*words, says=says)


TRAININGS = {
    "one class only": (("land",), "EPSG:32632", (), ("holds only the class 'land'", "label at least two")),
    "no CRS": (("land", "water"), None, (), ("states no CRS", "ogr2ogr -a_srs")),
    "a wrong CRS": (("land", "water"), "EPSG:32645", (), ("km away", "give labels of this place")),
    "labels in one place": (("land", "water"), "EPSG:32632", ("block=128",), ("labels lie in 1 block", "make the blocks smaller")),
    "an empty part": (("land", "water"), "EPSG:32632", ("guard=40",), ("no labelled", "ground is left", "make the gap (guard) smaller")),
    "dates": (("land", "water"), "EPSG:32632", ("split=dates",), ("the date of each scene", "split by scenes or by blocks")),
    "more than all held out": (("land", "water"), "EPSG:32632", ("test=0.7",), ("test", "less than 0.5")),
}


def write_halves(place, classes, crs="EPSG:32632", **options):
    """A scene of 128 pixels and polygons of its halves."""
    write(place / "scene.tif", side=128, **options)
    halves = [box(500_000 + 640 * number, 4_998_720, 500_640 + 640 * number, 5_000_000) for number in range(len(classes))]
    geopandas.GeoDataFrame({"class": classes}, geometry=halves, crs=crs).to_file(place / "labels.gpkg")


def quick_training(*settings):
    for module in ("torch", "lightning", "segmentation_models_pytorch"):
        pytest.importorskip(module)
    given = ("tile=32", "block=32", "guard=2", "epochs=2", "draws=16", *settings)
    return ("train", "scene.tif", *GENERIC, "--labels", "labels.gpkg", "-o", "new", *(word for one in given for word in ("-s", one)))


@pytest.mark.parametrize("name", TRAININGS)
def test_what_cannot_be_learned_from(place, refused, name):
    classes, crs, settings, says = TRAININGS[name]
    write_halves(place, classes, crs)
    refused(*quick_training(*settings), says=says)


def test_ground_without_data_cannot_be_learned_from(place, refused):
    write_halves(place, ("land", "water"), fill=0, nodata=0)
    refused(*quick_training(), says=("no label of labels.gpkg lies on a pixel", "that has data"))


def test_a_loss_that_is_no_number_ends_training_in_one_sentence(place, geoseg):
    write_halves(place, ("land", "water"))
    ran = geoseg(*quick_training("learning_rate=1e30", "batch=4"))
    assert (ran.code, "the loss is" in ran.sentence, "take a lower learning_rate" in ran.sentence) == (2, True, True)
    assert not (place / "new").exists()


@pytest.mark.skipif(not POSIX, reason="Windows has no limit on file sizes")
def test_disk_that_is_full_at_any_point(geoseg, place, refused, monkeypatch):
    import resource

    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # Python keeps a compiled module that was cut short
    packages.threshold_package(place / "large", tile=256)
    write(place / "scene.tif", side=300)
    words = ("predict", "scene.tif", *GENERIC, "--model", "large", "--scores", "-o")
    assert geoseg(*words, "whole").code == 0
    sizes = {path.stat().st_size for path in (place / "whole").iterdir()}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit in (size - 1 for size in sorted(sizes) if size > 3000):  # what is printed here goes through a file, too
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
            ran = geoseg(*words, "out")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert (limit, ran.code, "Traceback" in ran.err) == (limit, 1, False)
        assert "the disk is full" in ran.err.splitlines()[-1]
        assert not visible(place / "out")
        shutil.rmtree(place / "out", ignore_errors=True)


def test_after_a_failure_the_scene_is_no_longer_held_open(place, monkeypatch):
    def fail(*_: object) -> None:
        raise OutputError("the disk is full")

    monkeypatch.setattr("geoseg.mapping.rasters.stored_scores", fail)
    scene, package = open_scene("scene.tif", sensor="generic"), ModelPackage.open("model")
    with pytest.raises(OutputError) as caught:
        make_map(scene, package, place / "out")
    write(place / "scene.tif", fill=77)
    assert np.unique(read_scene(scene, ["red"], scene.geobox()).values).tolist() == [77], caught


def visible(folder: Path) -> dict[str, bytes | None]:
    """What a folder holds beside the hidden folders in which finished strips are kept."""
    return {name: data for name, data in contents(folder).items() if ".geoseg" not in name}


def child(place: Path, program: str, *words: str) -> subprocess.Popen[str]:
    """Run the program and then `geoseg WORDS…`; with -B, as Python would keep a compiled module that a full disk has cut short."""
    code = f"{program}\nimport sys\nsys.argv = ['geoseg', *{list(words)!r}]\nfrom geoseg.cli import main\nmain()"
    return subprocess.Popen([sys.executable, "-B", "-c", code], cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.skipif(not POSIX, reason="Windows has no limit on file sizes")
def test_full_disk_in_a_process_of_its_own(place):
    before = visible(place)
    running = child(place, "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))", *PREDICT)
    _, err = running.communicate(timeout=60)
    *before_it, sentence = err.splitlines()
    assert (running.returncode, "the disk is full" in sentence) == (1, True), err
    assert all(line.startswith("_tiff") for line in before_it)  # libtiff prints where it cannot tell GDAL
    assert [name for name in visible(place) if name not in before] in ([], ["out"])


@pytest.mark.skipif(not POSIX, reason="Windows has no SIGINT for one process")
def test_ctrl_c_in_the_middle(place):
    write(place / "scene.tif", side=900)
    packages.neighbourhood_package(place / "slow", 12, tile=256, overlap=64)
    before = contents(place)
    running = child(place, "", "predict", "scene.tif", *GENERIC, "--model", "slow", "--json", "-o", "a/b/out")
    assert running.stdout is not None
    assert json.loads(running.stdout.readline())["event"] == "progress"
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=60)
    assert (running.returncode, err.strip().count("\n"), "stopped" in err, "--resume goes on" in err) == (130, 0, True, True), err
    assert [name for name in visible(place) if name not in before] == ["a", "a/b", "a/b/out"]


@pytest.mark.parametrize("step", ["open_network", "describe_run", "made_here"])
def test_ctrl_c_before_anything_is_finished(place, refused, monkeypatch, step):
    monkeypatch.setattr(f"geoseg.mapping.make_map.{step}", lambda *_, **__: signal.raise_signal(signal.SIGINT))
    refused(*PREDICT, says=("stopped", "nothing unfinished was kept"), code=130)


@pytest.mark.parametrize("step", ["join_strips", "write_cog", "finish_polygons", "write_map_project", "write_item", "move_results"])
def test_ctrl_c_at_any_later_step(place, geoseg, monkeypatch, step):
    monkeypatch.setattr(f"geoseg.mapping.make_map.{step}", lambda *_, **__: signal.raise_signal(signal.SIGINT))
    ran = geoseg(*PREDICT)
    assert (ran.code, "stopped; 1 of 1 strips are done and kept" in ran.sentence) == (130, True)
    assert not visible(place / "out")
