"""Bad input through the real command line: one sentence, the right exit code, nothing half-written and nothing lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import geopandas
import numpy as np
import packages
import pytest
import rasterio
from affine import Affine
from shapely.geometry import box

from geoseg.cli import main

UTM = Affine(10, 0, 500_000, 0, -10, 5_000_000)
GENERIC = ("--sensor", "generic")


def write(path: Path, *, roles=("red",), fill=None, crs="EPSG:32632", side=60, **profile) -> Path:
    values = np.random.default_rng(0).integers(1, 200, (len(roles), side, side)).astype(np.uint8)
    values[:] = values if fill is None else fill
    shape = {"count": len(roles), "height": side, "width": side, "dtype": "uint8", "transform": UTM}
    with rasterio.open(path, "w", driver="GTiff", crs=crs, **{**shape, **profile}) as file:
        file.write(values)
        for band, role in enumerate(roles, 1):
            file.set_band_description(band, role)
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a good scene and a good package, and where the command runs."""
    write(tmp_path / "scene.tif")
    packages.threshold_package(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def geoseg(monkeypatch, capsys):
    """Run `geoseg WORDS…` here; gives exit code, standard output and standard error."""

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["geoseg", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            main()
        out, err = capsys.readouterr()
        return int(end.value.code or 0), out, err

    return run


def refused(geoseg, place, *words, code=2, says=()):
    """The command fails with one sentence that has these words, and leaves the folder as it was."""
    before = contents(place)
    got, out, err = geoseg(*words)
    lines = [line for line in err.splitlines() if line.strip()]
    assert got == code, err
    assert len(lines) == 1, err
    assert "Traceback" not in out + err
    for word in says:
        assert word in err
    assert contents(place) == before


def spoil_header(path):
    path.write_bytes(path.read_bytes()[:40])


def spoil_data(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


SCENES = {
    "no such file": (lambda path: path.unlink(), ("no such file", "scene.tif")),
    "not a raster": (lambda path: path.write_text("hello"), ("scene.tif",)),
    "header cut": (spoil_header, ("scene.tif",)),
    "data cut": (spoil_data, ("scene.tif",)),
    "zero bytes": (lambda path: path.write_bytes(b""), ("scene.tif", "empty")),
    "no CRS": (lambda path: write(path, crs=None), ("scene.tif", "CRS")),
    "bands not known": (lambda path: write(path, roles=("", "")), ("scene.tif", "--bands")),
    "band missing": (lambda path: write(path, roles=("green",)), ("red", "green")),
    "all nodata": (lambda path: write(path, fill=0, nodata=0), ("scene", "no")),
}


@pytest.mark.parametrize("name", SCENES)
def test_each_bad_scene_is_one_sentence(geoseg, place, name):
    spoil, says = SCENES[name]
    spoil(place / "scene.tif")
    refused(geoseg, place, "predict", "scene.tif", *GENERIC, "--model", "model", "-o", "out", says=says)


def test_a_wrong_sensor_is_one_sentence(geoseg, place):
    refused(
        geoseg, place, "predict", "scene.tif", "--sensor", "sentinel-9", "--model", "model", "-o", "out", says=("sentinel-9", "sentinel")
    )
    refused(geoseg, place, "predict", "scene.tif", "--sensor", "sentinel-1-grd", "--model", "model", "-o", "out", says=("scene.tif",))


def change_version(folder):
    item = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    item["properties"]["geoseg:package_version"] = "99"
    (folder / "model.json").write_text(json.dumps(item), encoding="utf-8")


PACKAGES = {
    "no JSON": lambda folder: (folder / "model.json").write_text("{"),
    "another version": change_version,
    "wrong checksum": lambda folder: (folder / "model.onnx").write_bytes((folder / "model.onnx").read_bytes() + b"\0"),
    "a file missing": lambda folder: (folder / "model.onnx").unlink(),
}


@pytest.mark.parametrize("name", PACKAGES)
def test_each_damaged_package_is_one_sentence(geoseg, place, name):
    PACKAGES[name](place / "model")
    refused(geoseg, place, "predict", "scene.tif", *GENERIC, "--model", "model", "-o", "out", says=("model",))


def test_a_pickle_is_no_model(geoseg, place):
    (place / "model.pt").write_bytes(b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x94.")
    with zipfile.ZipFile(place / "checkpoint.pt", "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}q\x00.")
    for name in ("model.pt", "checkpoint.pt"):
        refused(geoseg, place, "predict", "scene.tif", *GENERIC, "--model", name, "-o", "out", says=(name,))


def test_results_that_are_there_stay(geoseg, place):
    assert geoseg("predict", "scene.tif", *GENERIC, "--model", "model", "-o", "out")[0] == 0
    refused(geoseg, place, "predict", "scene.tif", *GENERIC, "--model", "model", "-o", "out", says=("out", "--overwrite"))
    refused(geoseg, place, "predict", "scene.tif", *GENERIC, "--model", "model", "-o", "scene.tif", says=("folder",))


OPTIONS = {
    "batch": (("--batch", "many"), "auto"),
    "overlap": (("--overlap", "64"), "overlap"),
    "resolution": (("--resolution", "0"), "resolution"),
    "crs": (("--crs", "EPSG:nothing"), "EPSG"),
    "mask classes": (("--mask-classes", "fog"), "cloud"),
    "like and crs": (("--like", "scene.tif", "--crs", "EPSG:4326"), "--like"),
    "like what": (("--like", "nothing.tif"), "nothing.tif"),
    "area": (("--min-area-m2", "-5"), "min-area"),
    "aoi missing": (("--aoi", "nothing.gpkg"), "nothing.gpkg"),
    "aoi far away": (("--aoi", "far.gpkg"), "km"),
    "aoi empty": (("--aoi", "empty.geojson"), "empty.geojson"),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_each_impossible_option_is_one_sentence(geoseg, place, name):
    geopandas.GeoDataFrame(geometry=[box(0, 0, 1, 1)], crs="EPSG:4326").to_file(place / "far.gpkg")
    (place / "empty.geojson").write_text('{"type": "FeatureCollection", "features": []}')
    words, says = OPTIONS[name]
    refused(geoseg, place, "predict", "scene.tif", *GENERIC, "--model", "model", "-o", "out", *words, says=(says,))


def test_words_that_are_no_command_are_usage_errors(geoseg, place):
    for words in (("predict", "scene.tif", "--nonsense"), ("predict", "scene.tif", "--model", "model"), ("fly",), ("predict", "-o", "out")):
        code, _, err = geoseg(*words)
        assert code == 2
        assert "Traceback" not in err
    assert not (place / "out").exists()


@pytest.mark.parametrize("name", ["a:b", "con", "what?"])
def test_names_that_windows_cannot_hold_are_refused(geoseg, place, name):
    if os.name != "nt":
        (place / "scene.tif").rename(place / f"{name}.tif")
    refused(geoseg, place, "predict", f"{name}.tif", *GENERIC, "--model", "model", "-o", f"out/{name}", code=1, says=(name, "Windows"))


@pytest.mark.parametrize("what", ["no class column", "unknown classes", "far away"])
def test_each_bad_label_file_is_one_sentence(geoseg, place, what):
    for module in ("torch", "lightning", "segmentation_models_pytorch", "tensorboard"):
        pytest.importorskip(module)
    near = box(500_000, 4_999_500, 500_300, 4_999_900)
    columns = {"no class column": {"height": [1.5]}, "unknown classes": {"class": ["moss"]}, "far away": {"class": ["water"]}}[what]
    where, crs = (box(0, 0, 1, 1), "EPSG:4326") if what == "far away" else (near, "EPSG:32632")
    geopandas.GeoDataFrame(columns, geometry=[where], crs=crs).to_file(place / "labels.gpkg")
    classes = "classes=[{index: 0, code: 0, name: land, colour: '#aaaaaa'}, {index: 1, code: 1, name: water, colour: '#0000ff'}]"
    says = {"no class column": "height", "unknown classes": "moss", "far away": "km"}[what]
    before = contents(place)
    code, _, err = geoseg(
        "train", "scene.tif", *GENERIC, "--labels", "labels.gpkg", "-o", "new", "-s", classes, "-s", "tile=32", "-s", "block=32"
    )
    assert code == 2, err
    assert says in err
    assert "Traceback" not in err
    assert contents(place) == before


def child(place: Path, program: str, *words: str, **options) -> subprocess.Popen:
    code = f"{program}\nimport sys\nsys.argv = ['geoseg', *{list(words)!r}]\nfrom geoseg.cli import main\nmain()"
    return subprocess.Popen([sys.executable, "-c", code], cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no limit on file sizes")
@pytest.mark.parametrize("limit", [3_000, 60_000, 300_000])
def test_a_full_disk_half_way_leaves_nothing(tmp_path, limit):
    write(tmp_path / "scene.tif", side=700)
    packages.threshold_package(tmp_path / "model", tile=256)
    before = contents(tmp_path)
    program = f"import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))"
    running = child(tmp_path, program, "predict", "scene.tif", *GENERIC, "--model", "model", "--scores", "-o", "out")
    _, err = running.communicate(timeout=60)
    assert running.returncode == 1, err
    assert "Traceback" not in err
    assert "disk" in err
    assert contents(tmp_path) == before


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for one process")
def test_ctrl_c_half_way_leaves_nothing(tmp_path):
    write(tmp_path / "scene.tif", side=1500)
    packages.neighbourhood_package(tmp_path / "model", 20, tile=256, overlap=64)
    before = contents(tmp_path)
    running = child(tmp_path, "", "predict", "scene.tif", *GENERIC, "--model", "model", "--json", "-o", "out")
    assert running.stdout is not None
    assert json.loads(running.stdout.readline())["event"] == "progress"
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=60)
    assert running.returncode == 130, err
    assert "Traceback" not in err
    assert contents(tmp_path) == before


def test_one_broken_scene_of_several_does_not_stop_the_others(geoseg, place):
    write(place / "other.tif")
    (place / "broken.tif").write_text("hello")
    code, _, err = geoseg("predict", "scene.tif", "broken.tif", "other.tif", *GENERIC, "--model", "model", "-o", "out")
    assert code == 3
    assert "broken.tif" in err
    assert {"scene_classes.tif", "other_classes.tif"} <= {path.name for path in (place / "out").iterdir()}


def test_a_map_is_made_again_or_what_differs_is_said(geoseg, place):
    assert geoseg("predict", "scene.tif", *GENERIC, "--model", "model", "--min-area-m2", 500, "-o", "out")[0] == 0
    code, _, err = geoseg("predict", "--again", "out/scene.json", "-o", "again")
    assert (code, "byte for byte" in err) == (0, True), err
    whole = (place / "scene.tif").read_bytes()
    (place / "scene.tif").write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    refused(geoseg, place, "predict", "--again", "out/scene.json", "-o", "third", says=("scene.tif", "checksum"))
    (place / "scene.tif").write_bytes(whole)
    packages.threshold_package(place / "other", threshold=50)
    (place / "model").rename(place / "old")
    (place / "other").rename(place / "model")
    refused(geoseg, place, "predict", "--again", "out/scene.json", "-o", "third", says=("model", "package"))


def test_programs_get_json(geoseg, place):
    code, out, _ = geoseg("info", "scene.tif", *GENERIC, "--json")
    assert (code, [band["role"] for band in json.loads(out)["bands"]]) == (0, ["red"])
    code, out, _ = geoseg("predict", "scene.tif", *GENERIC, "--model", "model", "-o", "out", "--dry-run", "--json")
    assert {"tiles", "memory_mb", "disk_mb", "seconds"} <= set(json.loads(out))
    assert not (place / "out").exists()
    code, out, _ = geoseg("predict", "scene.tif", *GENERIC, "--model", "model", "-o", "out", "--json")
    events = [json.loads(line) for line in out.splitlines()]
    assert [event["event"] for event in events] == ["progress", "result"]
    assert Path(events[-1]["files"]["classes"]).is_file()


def test_people_get_a_summary(geoseg, place):
    code, out, _ = geoseg("predict", "scene.tif", *GENERIC, "--model", "model", "-o", "out")
    assert code == 0
    for word in ("class 0", "km²", "observed: 100.0 %", "megapixels", "scene.qgz"):
        assert word in out
    code, out, _ = geoseg("info", "scene.tif", *GENERIC, "--model", "model")
    assert code == 0
    assert "fits: Test model" in out
    assert "does not fit" in out
