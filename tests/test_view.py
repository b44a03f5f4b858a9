"""The page of `geoseg view`, asked without a browser: tiles, values, areas, and who is answered."""

from __future__ import annotations

import socket
import warnings
from collections.abc import Callable, Iterator
from math import floor
from pathlib import Path

import numpy as np
import pyproj
import pytest
import rasterio
from map_files import LEGEND, NODATA, write_map
from product_files import JP2, sentinel_2, write, zipped
from rasterio.io import MemoryFile
from safe_files import write_safe

fastapi_client = pytest.importorskip("fastapi.testclient", reason="the extra web brings it")
pytest.importorskip("rio_tiler", reason="the extra web brings it")

from geoseg.errors import InputError  # noqa: E402
from geoseg.view.guard import Rules  # noqa: E402
from geoseg.view.serve import serve  # noqa: E402
from geoseg.view.server import make_app  # noqa: E402
from geoseg.view.shown import open_shown  # noqa: E402
from geoseg.view.tiles import SIZE, Tile  # noqa: E402

TO_DEGREES = pyproj.Transformer.from_crs("EPSG:32632", "EPSG:4326", always_xy=True)
TO_MERCATOR = pyproj.Transformer.from_crs("EPSG:32632", "EPSG:3857", always_xy=True)
HALF = 20037508.342789244


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Water on the left, land on the right, a corner of ice, and a corner that was not observed."""
    classes = np.zeros((90, 120), np.uint8)
    classes[:, 60:] = 1
    classes[:20, 100:] = 2
    classes[70:, :20] = NODATA
    scores = np.stack([np.where(classes == code, 0.8, 0.1) for code in range(3)])
    return write_map(tmp_path_factory.mktemp("view") / "coast", classes, scores=scores)


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[object]:
    with fastapi_client.TestClient(make_app(open_shown([folder]), Rules("127.0.0.1")), base_url="http://127.0.0.1:8000") as asked:
        yield asked


def place(row: float, col: float) -> tuple[float, float]:
    """x and y of a place of the map, in rows and columns."""
    return 500_000 + 10 * col, 5_000_000 - 10 * row


def pixels(png: bytes) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with MemoryFile(png) as memory, memory.open() as image:
            return image.read()


def test_a_pixel_of_a_tile_has_the_colour_of_its_class(client, folder: Path) -> None:
    with rasterio.open(folder / "coast_classes.tif") as file:
        codes = file.read(1)
    for row, col in [(30.5, 10.5), (30.5, 90.5), (5.5, 110.5), (80.5, 5.5)]:
        x, y = TO_MERCATOR.transform(*place(row, col))
        side = 2 * HALF / 2**15
        tile = Tile(15, int((x + HALF) / side), int((HALF - y) / side))
        answer = client.get(f"/tiles/m0-classes/{tile.z}/{tile.x}/{tile.y}.png")
        picture = pixels(answer.content)
        at = int((HALF - y) / side % 1 * SIZE), int((x + HALF) / side % 1 * SIZE)
        code = codes[int(row), int(col)]
        expected = (*LEGEND.classes[code].rgb, 255) if code != NODATA else None
        assert picture[3][at] == (255 if expected else 0)
        if expected:
            assert tuple(picture[:, *at]) == expected


@pytest.mark.parametrize(("row", "col"), [(30.5, 10.5), (30.5, 90.5), (5.5, 110.5)])
def test_values_are_those_of_the_rasters(client, folder: Path, row: float, col: float) -> None:
    lng, lat = TO_DEGREES.transform(*place(row, col))
    said = client.get(f"/values?lng={lng!r}&lat={lat!r}").json()["places"]["m0"]
    with rasterio.open(folder / "coast_classes.tif") as file:
        code = file.read(1)[int(row), int(col)]
    with rasterio.open(folder / "coast_scores.tif") as file:
        score = file.read(int(code) + 1)[int(row), int(col)] / 250
    assert said["class"]["code"] == code
    assert said["class"]["name"] == LEGEND.names[code]
    assert said["score"] == {"value": pytest.approx(score), "calibrated": True}
    assert (said["x"], said["y"]) == pytest.approx(place(row, col), abs=0.01)


def test_areas_are_counted_from_the_pixels(client, folder: Path) -> None:
    with rasterio.open(folder / "coast_classes.tif") as file:
        counts = np.bincount(file.read(1).ravel(), minlength=256)[:3]
    rows = client.get("/areas/m0").json()
    shares = [row["share"] for row in rows]
    assert shares == pytest.approx(counts / counts.sum(), rel=1e-3)
    assert sum(row["area_m2"] for row in rows) == pytest.approx(100 * counts.sum(), rel=2e-3)  # UTM is 0.4 per mille short here


@pytest.mark.parametrize(
    "path", ["/files/..%2f..%2fetc%2fpasswd", "/../../etc/passwd", "/files/coast_classes.tif", "/page.py", "/static/..%2fserver.py"]
)
def test_no_path_from_outside_reaches_the_disk(client, path: str) -> None:
    assert client.get(path).status_code == 404


def test_a_file_is_fetched_by_its_id(client, folder: Path) -> None:
    files = {one["name"]: one["id"] for one in client.get("/about").json()["maps"][0]["files"]}
    assert client.get(f"/files/{files['coast_classes.tif']}").content == (folder / "coast_classes.tif").read_bytes()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"host": "localhost:9000"}, 200),
        ({"host": "evil.example"}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "http://127.0.0.1:8000"}, 200),
        ({"sec-fetch-site": "cross-site"}, 403),
    ],
)
def test_only_the_page_itself_is_answered(client, headers: dict[str, str], status: int) -> None:
    answer = client.get("/about", headers=headers)
    assert answer.status_code == status
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "access-control-allow-origin" not in answer.headers


def test_beyond_this_machine_nothing_is_said_without_the_random_word(folder: Path) -> None:
    app = make_app(open_shown([folder]), Rules("0.0.0.0", "word"))
    with fastapi_client.TestClient(app, base_url="http://192.0.2.7:8000") as asked:
        assert asked.get("/word/about").status_code == 200
        assert [asked.get(path).status_code for path in ("/about", "/", "/wore/about", "/page.js")] == [403] * 4


def test_the_address_without_its_last_slash_leads_to_the_page(folder: Path) -> None:
    app = make_app(open_shown([folder]), Rules("0.0.0.0", "word"))
    with fastapi_client.TestClient(app, base_url="http://192.0.2.7:8000", follow_redirects=False) as asked:
        answer = asked.get("/word")
    assert (answer.status_code, answer.headers["location"]) == (308, "/word/")


@pytest.mark.enable_socket
@pytest.mark.parametrize(("host", "word"), [("127.0.0.1", False), ("0.0.0.0", True)])
def test_only_beyond_this_machine_the_address_has_a_random_word(folder: Path, host: str, word: bool) -> None:
    said: list[str] = []

    def stop(address: str) -> None:
        said.append(address)
        raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            serve(open_shown([folder]), host=host, browser=False, say=stop)
    words = [address.split("/")[3] for address in said]
    assert [len(one) >= 32 for one in words] == [word] * 2
    assert (words[0] != words[1]) == word


@pytest.mark.enable_socket
def test_a_port_that_is_taken_is_refused_in_one_sentence(geoseg: Callable, folder: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ran = geoseg("view", "--no-browser", "--port", port, folder)
    assert ran.code == 2
    assert f"127.0.0.1:{port} cannot be used" in ran.err
    assert "Traceback" not in ran.err


@pytest.mark.parametrize("kind", ["SAFE", "zip", "JPEG 2000", "Sentinel-1 GRD"])
def test_scenes_as_they_are_downloaded_are_drawn_and_read(tmp_path: Path, kind: str) -> None:
    opening: dict[str, object] = {}
    if kind == "JPEG 2000":
        path = write(tmp_path / "scene.jp2", np.random.default_rng(0).integers(100, 3000, (4, 120, 120)).astype("uint16"), 10, **JP2)
        opening = {"sensor": "generic", "bands": ["red", "green", "blue", "nir"]}
    elif kind == "Sentinel-1 GRD":
        path = write_safe(tmp_path)
    else:
        path = sentinel_2(tmp_path)
        path = zipped(path) if kind == "zip" else path
    with fastapi_client.TestClient(make_app(open_shown([path], opening), Rules("127.0.0.1")), base_url="http://127.0.0.1") as asked:
        looks = asked.get("/about").json()["imagery"]
        west, south, east, north = looks[0]["bounds"]
        lng, lat, z = (west + east) / 2, (south + north) / 2, looks[0]["maxzoom"]
        x, y = pyproj.Transformer.from_crs("EPSG:4326", "EPSG:3857", always_xy=True).transform(lng, lat)
        side = 2 * HALF / 2**z
        col, row = (x + HALF) / side, (HALF - y) / side
        pictures = [pixels(asked.get(f"/imagery/{look['id']}/{z}/{floor(col)}/{floor(row)}.png").content) for look in looks]
        values = asked.get(f"/values?lng={lng}&lat={lat}").json()["places"]["s0"]["bands"]
    at = int(row % 1 * SIZE), int(col % 1 * SIZE)
    assert [picture[3][at] for picture in pictures] == [255] * len(looks)
    assert {one["role"]: one["value"] for one in values}.keys() >= ({"vv", "vh"} if kind == "Sentinel-1 GRD" else {"red", "green", "blue"})
    if kind in ("SAFE", "zip"):
        assert [one["value"] for one in values] == pytest.approx([0.1] * len(values))  # 2000, of which the product takes 1000 off


def test_a_file_that_was_removed_is_told_in_one_sentence(tmp_path: Path) -> None:
    made = write_map(tmp_path / "coast", np.zeros((60, 60), np.uint8))
    with fastapi_client.TestClient(make_app(open_shown([made]), Rules("127.0.0.1")), base_url="http://127.0.0.1") as asked:
        (made / "coast_classes.tif").unlink()
        lng, lat = TO_DEGREES.transform(*place(5, 5))
        answer = asked.get(f"/values?lng={lng}&lat={lat}")
    assert answer.status_code == 410
    assert "coast_classes.tif was removed" in answer.json()["detail"]


def test_a_folder_with_nothing_to_show_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        open_shown([tmp_path])
