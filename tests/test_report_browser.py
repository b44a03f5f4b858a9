"""The report in a real browser: it opens offline, asks for nothing, complains of nothing, and its pictures are drawn."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
from map_files import LEGEND, write_map

from geoseg.evaluation.evaluate import evaluate
from geoseg.evaluation.report import page

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
QUIET = (
    "--disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync --enable-logging=stderr --v=0"
)

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here (Debian: apt install chromium)")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a map of two halves, a quarter of it wrong."""
    folder = tmp_path_factory.mktemp("report")
    truth = np.zeros((80, 120), np.uint8)
    truth[:, 60:] = 1
    mapped = truth.copy()
    mapped[40:, 60:] = 0
    scores = np.stack([np.where(mapped == code, 0.8, 0.1) for code in range(3)]).astype(np.float32)
    profile = {"height": 80, "width": 120, "count": 1, "dtype": "uint8", "crs": "EPSG:32632", "driver": "GTiff"}
    with rasterio.open(folder / "truth.tif", "w", transform=rasterio.Affine(10, 0, 500_000, 0, -10, 5_000_000), **profile) as file:
        file.write(truth, 1)
    made = evaluate([write_map(folder / "map", mapped, scores=scores)], [folder / "truth.tif"], boundary_m=20)
    (folder / "report.html").write_text(page(made), encoding="utf-8")
    return folder / "report.html"


def browse(page: Path, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Open a page without a window, in a profile of its own."""
    words = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", *QUIET.split(), f"--user-data-dir={folder}", *options]
    return subprocess.run([*words, page.as_uri()], capture_output=True, text=True, timeout=60, cwd=folder)


def test_the_page_names_no_other_address(report: Path) -> None:
    text = report.read_text(encoding="utf-8")
    assert not re.search(r"(?:src|href)=\"(?!data:)", text)
    assert "url(" not in text
    assert "<script" not in text


def test_the_browser_shows_figures_and_pictures_and_complains_of_nothing(report: Path, tmp_path: Path) -> None:
    test = report.with_name("counted.html")
    asked = """JSON.stringify({
        images: [...document.images].map(image => image.naturalWidth),
        rows: document.querySelectorAll('tr').length,
        asked: performance.getEntriesByType('resource').filter(one => !one.name.startsWith('data:')).length})"""
    text = report.read_text(encoding="utf-8")
    test.write_text(
        text.replace("</body>", f"<pre id=found></pre><script>onload = () => {{ found.textContent = {asked}; }}</script></body>")
    )
    done = browse(test, tmp_path, "--dump-dom", "--virtual-time-budget=2000")
    found = json.loads(re.search(r'id="found">(.*?)</pre>', done.stdout, re.S)[1])
    assert found["images"] == [120]
    assert found["asked"] == 0
    assert found["rows"] > 8
    assert "CONSOLE" not in done.stderr


def test_a_screenshot_shows_what_is_wrong_in_the_colour_of_the_map(report: Path, tmp_path: Path) -> None:
    browse(report, tmp_path, "--window-size=900,2200", f"--screenshot={tmp_path / 'report.png'}")
    with warnings.catch_warnings(action="ignore"), rasterio.open(tmp_path / "report.png") as file:
        pixels = np.moveaxis(file.read([1, 2, 3]), 0, -1).reshape(-1, 3)
    grey, water = (196, 200, 204), tuple(bytes.fromhex(LEGEND.classes[0].colour[1:]))
    counts = {colour: int((pixels == colour).all(axis=1).sum()) for colour in (grey, water)}
    assert counts[grey] > 3 * 2000 > 0
    assert counts[water] > 2000
