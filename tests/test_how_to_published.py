"""The page on published weights, run as it stands on a small ortho and a file in the published layout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from command_line import Ran
from how_to import run_page

pytest.importorskip("lightning")
pytest.importorskip("timm")

import timm
import torch

from geoseg.models.encoders import Encoder
from geoseg.models.package import ModelPackage

pytestmark = pytest.mark.usefixtures("one_thread")
EDGE = 256


def lay_out(folder: Path) -> None:
    """Bright roofs on darker ground, in pixels of a metre; weights in random numbers."""
    rng = np.random.default_rng(0)
    roofs = np.zeros((EDGE, EDGE), bool)
    for row in range(8, EDGE, 32):
        for col in range(8, EDGE, 32):
            roofs[row : row + 16, col : col + 16] = True
    colours = np.where(roofs, 200, 90)[None] + rng.integers(-20, 20, (3, EDGE, EDGE))
    profile = {"driver": "GTiff", "height": EDGE, "width": EDGE, "crs": "EPSG:32633", "transform": Affine(1, 0, 5e5, 0, -1, 5e6)}
    with rasterio.open(folder / "ortho.tif", "w", count=3, dtype="uint8", **profile) as file:
        file.write(colours.astype(np.uint8))
    with rasterio.open(folder / "buildings.tif", "w", count=1, dtype="uint8", nodata=255, **profile) as file:
        file.write(roofs.astype(np.uint8), 1)
    torch.manual_seed(0)
    torch.save(timm.create_model("tf_efficientnet_lite0", pretrained=False).state_dict(), folder / "efficientnet-lite0-57934424.pth")


def test_an_ortho_with_published_weights(place: Path, geoseg: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch) -> None:
    lay_out(place)
    ended = run_page("published-weights.md", place, geoseg, monkeypatch)
    encoder, package = Encoder.open(place / "encoder"), ModelPackage.open(place / "buildings")
    assert any("288 of 288 tensors match" in ran.out for ran in ended)
    assert package.architecture["backbone"] == encoder.architecture
    assert [(one.mean, one.std) for one in package.preparation.channels] == [(127, 128)] * 3
    assert "EfficientNet-Lite0" in package.attribution
    with rasterio.open(place / "map" / "ortho_classes.tif") as classes, rasterio.open(next((place / "embedded").glob("*.tif"))) as embedded:
        assert set(np.unique(classes.read(1))) <= {0, 1}
        assert embedded.count == 320
