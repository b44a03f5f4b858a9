"""The page on parcels, run as it stands on a generated season of two crops; only the training is made shorter."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import yaml
from affine import Affine
from how_to import PAGES, run_page
from rasterio.features import rasterize
from shapely.geometry import box

pytest.importorskip("exactextract", reason="the extra zones brings it")
pytest.importorskip("torch", reason="the extra train brings it")
pytest.importorskip("lightning", reason="the extra train brings it")
pytest.importorskip("segmentation_models_pytorch", reason="the extra train brings it")

PAGE = "parcels-to-a-table.md"
SIDE, FIELD = 192, 16
CROPS = ("maize", "wheat")


def lay_out(folder: Path) -> list[str]:
    """144 fields of 16 x 16 pixels, two thirds of them with a known crop, and a scene in which the crops differ; the true crops."""
    rng = np.random.default_rng(0)
    transform = Affine(10, 0, 500_000, 0, -10, 5_000_000)
    corners = [(col, row) for row in range(0, SIDE, FIELD) for col in range(0, SIDE, FIELD)]
    shapes = [box(*(transform * (col + 1, row + FIELD - 1)), *(transform * (col + FIELD - 1, row + 1))) for col, row in corners]
    truth = [CROPS[number] for number in rng.integers(0, 2, len(shapes))]
    known = [crop if rng.random() < 2 / 3 else None for crop in truth]
    geopandas.GeoDataFrame({"field": range(len(shapes)), "crop": known}, geometry=shapes, crs="EPSG:32633").to_file(folder / "parcels.gpkg")
    wheat = rasterize([s for s, crop in zip(shapes, truth, strict=True) if crop == "wheat"], (SIDE, SIDE), transform=transform) == 1
    image = np.stack([np.where(wheat, 900, 1500), np.where(wheat, 3200, 1800)]) + rng.integers(0, 300, (2, SIDE, SIDE))
    shape = {"count": 2, "height": SIDE, "width": SIDE, "dtype": "uint16", "nodata": 0, "crs": "EPSG:32633", "transform": transform}
    with rasterio.open(folder / "season.tif", "w", driver="GTiff", **shape) as file:
        file.write(image.astype(np.uint16))
        file.descriptions = ("red", "nir")
    return truth


def test_known_fields_become_a_table_of_all_fields(place: Path, geoseg, monkeypatch: pytest.MonkeyPatch) -> None:
    truth = lay_out(place)
    (block,) = re.findall(r"^```yaml\n(.*?)^```", (PAGES / PAGE).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    short = {"epochs": 3, "draws": 48, "learning_rate": 0.01}
    (place / "few-labels.yaml").write_text(yaml.safe_dump(yaml.safe_load(block) | short), encoding="utf-8")
    run_page(PAGE, place, geoseg, monkeypatch)

    table = geopandas.read_file(place / "map" / "season_zones.gpkg", layer="zones")
    assert table.field.tolist() == list(range(len(truth)))
    unknown = table.crop.isna()
    assert 30 < unknown.sum() < 70
    assert (table.map_class == truth)[unknown].mean() > 0.9
    assert table.map_note.isna().all()
    rows = list(csv.DictReader((place / "fields.csv").read_text(encoding="utf-8-sig").splitlines()))
    assert [row["map_class"] for row in rows] == table.map_class.tolist()
    assert [float(row["map_score"]) for row in rows] == pytest.approx(table.map_score.tolist())
