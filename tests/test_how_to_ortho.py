"""The how-to page on orthos runs as it stands, and finds the buildings that were drawn."""

from __future__ import annotations

import json

import geopandas
import how_to
import numpy as np
import packages
import pytest
import rasterio
import shapely
from affine import Affine
from rasterio.enums import ColorInterp
from rasterio.features import rasterize
from scipy.ndimage import gaussian_filter

from geoseg.legend import Legend
from geoseg.mapping.shapes import BLOCKS
from geoseg.polygons.objects import match_objects

PAGE = "an-ortho-to-building-outlines.md"
UTM = Affine(0.2, 0, 450_000, 0, -0.2, 40_000)
SHAPE = (420, 600)
LAYOUTS = {
    "one-row strips": {"tiled": False, "blockysize": 1, "count": 4, "compress": "deflate", "interleave": "pixel"},
    "jpeg strips": {"tiled": False, "blockysize": 16, "count": 4, "compress": "jpeg", "interleave": "pixel"},
}


def houses() -> list[shapely.Polygon]:
    """Turned rectangles of 40 … 130 m² on a grid of plots, in map coordinates."""
    rng = np.random.default_rng(3)
    drawn = []
    for row in range(60, SHAPE[0] - 40, 90):
        for col in range(60, SHAPE[1] - 40, 95):
            width, height = rng.uniform(30, 56, 2)
            house = shapely.affinity.rotate(shapely.box(-width / 2, -height / 2, width / 2, height / 2), rng.uniform(0, 90))
            drawn.append(shapely.affinity.affine_transform(house, [0.2, 0, 0, -0.2, *(UTM * (col, row))]))
    return drawn


def write_ortho(path, layout):
    """Bright roofs on dark ground, with grain, and a strip on the left where there is no picture."""
    rng = np.random.default_rng(4)
    roofs = rasterize(houses(), SHAPE, transform=UTM, fill=0, dtype="float32")
    image = np.stack([70 + 130 * roofs, 90 + 50 * roofs, 60 + 70 * roofs, np.full(SHAPE, 255)])
    image[:3] += 12 * gaussian_filter(rng.standard_normal((3, *SHAPE)), (0, 1, 1)) / 0.28
    image[:, :, :20] = 0
    profile = {"driver": "GTiff", "height": SHAPE[0], "width": SHAPE[1], "dtype": "uint8", "crs": "EPSG:32636", "transform": UTM}
    with rasterio.open(path, "w", **profile, **layout, photometric="rgb", alpha="yes") as file:
        file.write(np.clip(image, 0, 255).astype(np.uint8))
        assert file.colorinterp[3] == ColorInterp.alpha


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_the_page_runs_and_finds_the_buildings(place, geoseg, monkeypatch, layout):
    write_ortho(place / "ortho.tif", layout)
    legend = Legend.from_names(["ground", "building"])
    fine = {"pixel_size_m": 0.2, "pixel_size_range_m": (0.15, 0.4)}
    packages.threshold_package(place / "building_model", ["red", "green", "blue"], 135, legend=legend, **fine)
    _, planned, mapped = how_to.run_page(PAGE, place, geoseg, monkeypatch)
    assert "MB of memory" in planned.out
    frame = geopandas.read_file(place / "buildings" / "ortho.gpkg", layer="polygons")
    found, truth = frame[frame["class_name"] == "building"], houses()
    score = match_objects(truth, found.geometry.to_numpy())
    assert (score.true, score.mapped, score.f1) == (len(truth), len(truth), 1)
    assert score.mean_iou > 0.95
    assert found["squared"].mean() > 0.9
    corners = shapely.get_num_coordinates(found.loc[found["squared"], "geometry"].to_numpy()) - 1
    assert (corners == 4).mean() > 0.9
    assert f"{len(truth)} buildings" in mapped.out
    assert BLOCKS in mapped.out
    item = json.loads((place / "buildings" / "ortho.json").read_text(encoding="utf-8"))
    assert item["properties"]["geoseg:run"]["summary"]["buildings"][0]["touching"] == BLOCKS
    with rasterio.open(place / "buildings" / "ortho_classes.tif") as file:
        assert (file.read(1)[:, :20] == file.nodata).all()


def test_blocks_are_called_so_on_the_page_in_the_same_words():
    assert f"    {BLOCKS}\n" in (how_to.PAGES / PAGE).read_text(encoding="utf-8")
