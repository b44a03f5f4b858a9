"""The page of `geoseg view` in the real Chromium, driven as a user would: by pointer and by keyboard."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyproj
import pytest
from map_files import write_map
from rasterio.io import MemoryFile
from scene_files import write

playwright = pytest.importorskip("playwright.sync_api", reason="the extra dev brings it")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    "--no-sandbox --disable-gpu --use-gl=angle --use-angle=swiftshader --enable-unsafe-swiftshader --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync"
)
TO_DEGREES = pyproj.Transformer.from_crs("EPSG:32630", "EPSG:4326", always_xy=True)
MAP = "document.getElementById('left').map"

pytestmark = [pytest.mark.ui, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here (Debian: apt install chromium)")]


def until(page: Any, holds: Callable[[], Any], seconds: float = 30) -> Any:
    """What comes of a question as soon as it is true; the page's policy forbids Playwright's own way of waiting."""
    end = time.monotonic() + seconds
    while not (found := holds()) and time.monotonic() < end:
        page.wait_for_timeout(100)
    assert found, "it did not come true in time"
    return found


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The page of a map, water on its left and land on its right, of the same mirrored, and of its scene."""
    folder = tmp_path_factory.mktemp("ui")
    classes = np.zeros((80, 120), np.uint8)
    classes[:, 60:] = 1
    scores = np.stack([np.where(classes == code, 0.8, 0.1) for code in range(3)])
    write_map(folder / "coast", classes, scores=scores, crs="EPSG:32630", top=4_800_000)
    write_map(folder / "mirrored", classes[:, ::-1], crs="EPSG:32630", top=4_800_000)
    bands = np.random.default_rng(0).integers(300, 4000, (4, 80, 120)).astype("uint16")
    write(folder / "scene.tif", bands, names=["red", "green", "blue", "nir"])
    words = ["view", "--no-browser", "--sensor", "generic", *(str(folder / one) for one in ("coast", "mirrored", "scene.tif"))]
    program = f"import sys; sys.argv = ['geoseg', *{words!r}]; from geoseg.cli import main; main()"
    served = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert served.stdout is not None
    yield served.stdout.readline().strip()
    served.send_signal(signal.SIGINT)
    assert served.wait(timeout=20) == 130
    assert "Traceback" not in served.communicate()[1]


@pytest.fixture
def page(address: str) -> Iterator[Any]:
    """The open page; it complains of nothing and asks nobody else."""
    problems: list[str] = []
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())
        opened = browser.new_page(viewport={"width": 1000, "height": 700})
        opened.on("console", lambda said: problems.append(said.text) if said.type == "error" else None)
        opened.on("pageerror", lambda error: problems.append(str(error)))
        opened.on("request", lambda one: None if one.url.startswith((address, "data:", "blob:")) else problems.append(one.url))
        opened.goto(address)
        opened.wait_for_selector("#stage[data-ready]")
        until(opened, lambda: opened.evaluate(f"{MAP}.loaded() && {MAP}.areTilesLoaded()"))
        yield opened
        browser.close()
    assert problems == []


def hover(page: Any, row: float, col: float) -> str:
    """What the page says of a place of the map, in rows and columns."""
    lng, _ = point_at(page, row, col)
    until(page, lambda: f"{int(abs(lng) * 1000) / 1000:.3f}" in page.locator("#readout").inner_text())
    return str(page.locator("#readout").inner_text())


def colour(page: Any, row: float, col: float) -> tuple[int, ...]:
    """What is drawn at a place of the map."""
    _, (x, y) = point_at(page, row, col)
    with MemoryFile(page.screenshot(clip={"x": x - 20, "y": y, "width": 2, "height": 2})) as memory, memory.open() as seen:
        return tuple(int(part) for part in seen.read()[:3, 0, 0])


def point_at(page: Any, row: float, col: float) -> tuple[float, tuple[float, float]]:
    """Move the pointer to a place of the map; its longitude, and where it is on the screen."""
    lng, lat = TO_DEGREES.transform(500_000 + 10 * col, 4_800_000 - 10 * row)
    at = page.evaluate(f"(() => {{ const p = {MAP}.project([{lng!r}, {lat!r}]); return [p.x, p.y]; }})()")
    box = page.locator("#left").bounding_box()
    place = box["x"] + at[0], box["y"] + at[1]
    page.mouse.move(*place)
    return lng, place


def test_hovering_says_the_class_there(page: Any) -> None:
    water, land = hover(page, 30.5, 20.5), hover(page, 30.5, 100.5)
    assert "water" in water
    assert "land" in land
    assert "0.800" in land


def test_true_colour_becomes_false_colour(page: Any) -> None:
    asked: list[str] = []
    page.on("request", lambda one: asked.append(one.url))
    assert page.locator("#imagery option").first.inner_text() == "True colour"
    page.select_option("#imagery", label="False colour")
    until(page, lambda: any("/imagery/s0-i1/" in url for url in asked))


def test_the_swipe_moves_by_the_keyboard(page: Any) -> None:
    page.select_option("#compare", label="imagery alone")
    page.focus("#swipe")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("PageDown")
    assert page.get_attribute("#swipe", "aria-valuenow") == "42"
    assert "42%" in page.evaluate("document.getElementById('right').style.clipPath")


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_the_swipe_shows_one_map_on_each_side(page: Any) -> None:
    page.select_option("#imagery", label="none")
    page.select_option("#compare", label="map: mirrored")
    until(page, lambda: page.evaluate(f"!{MAP}.getLayer('imagery') && {MAP}.loaded()"))
    page.focus("#swipe")
    page.keyboard.press("End")
    water, land = colour(page, 30.5, 20.5), colour(page, 30.5, 100.5)
    assert water != land
    page.keyboard.press("Home")
    until(page, lambda: (colour(page, 30.5, 20.5), colour(page, 30.5, 100.5)) == (land, water))
    said = hover(page, 30.5, 20.5)
    assert said.index("water") < said.index("mirrored") < said.index("land")


def test_the_table_has_each_class_with_its_area(page: Any) -> None:
    until(page, lambda: "…" not in page.locator("#areas").inner_text())
    rows = page.locator("#areas tbody tr").all_inner_texts()
    assert [row.split()[0] for row in rows] == ["water", "land", "ice"]
    assert [row.split()[2] for row in rows] == ["50.00", "50.00", "0.00"]
