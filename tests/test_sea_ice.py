"""Sea ice from an EW product as downloaded: HH, HV and the incidence angle in, three charts out, land left out."""

from __future__ import annotations

import json
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
from packages import ice_chart_package
from safe_files import Grd, Ground, write_safe
from shapely.geometry import box

from geoseg.io.class_maps import open_class_map
from geoseg.preprocess.prepare import BandNeed, Channel, Preparation
from geoseg.preprocess.quality import Reason

NORTH = Ground(crs="EPSG:3413", x=100_000.0, y=-1_500_000.0)
PREPARATION = Preparation(
    bands=(
        BandNeed(role="hh", unit="dB", convention="sigma0"),
        BandNeed(role="hv", unit="dB", convention="sigma0"),
        BandNeed(role="incidence_angle", unit="degree"),
    ),
    channels=(
        Channel(name="hh", mean=-14.508, std=5.66),
        Channel(name="hv", mean=-24.701, std=4.747),
        Channel(name="incidence_angle", mean=33.998, std=8.322),
    ),
)
"""AI4Arctic's statistics."""
NO_NOISE = {"noise": lambda line, sample: 0 * sample}


def product(folder: Path, **changes) -> Path:
    fields = {"mode": "EW", "polarisations": ("hh", "hv"), "spacing": 40.0, "ground": NORTH} | changes
    return write_safe(folder, Grd(**fields), zipped=True)


@pytest.fixture
def charts(place: Path) -> Path:
    """The package `charts` with the three outputs of an ice chart, for 40 m pixels."""
    roles = [band.role for band in PREPARATION.bands]
    ice_chart_package(place / "charts", roles, preparation=PREPARATION, pixel_size_m=40.0, pixel_size_range_m=(20.0, 100.0))
    return place


def test_three_charts_come_out_and_land_has_none(charts: Path, geoseg) -> None:
    scene = product(charts)
    land = box(NORTH.x, NORTH.y - 90 * 40, NORTH.x + 1000, NORTH.y)
    geopandas.GeoDataFrame(geometry=[land], crs="EPSG:3413").to_crs("EPSG:4326").to_file(charts / "land.gpkg")
    ran = geoseg("predict", scene, "--model", "charts", "--exclude", "land.gpkg", "-o", "ice", "--no-picture")
    assert ran.code == 0, ran.err
    outputs = {what: next((charts / "ice").glob(f"*_{what}.tif")) for what in ("concentration", "stage", "floe", "reason")}
    with rasterio.open(outputs["reason"]) as file:
        reason = file.read(1)
        assert file.crs.to_epsg() == 3413
        assert (reason[5:-5, 2:23] == Reason.OUTSIDE_AREA).all()
        assert (reason[5:-5, 27:-5] == Reason.OBSERVED).all()
    with rasterio.open(outputs["concentration"]) as file:
        concentration = file.read(1)
        assert np.isnan(concentration[reason != Reason.OBSERVED]).all()
        assert ((concentration >= 0) & (concentration <= 100))[reason == Reason.OBSERVED].all()
    assert open_class_map(outputs["stage"]).legend.names[5] == "old ice"
    assert len(open_class_map(outputs["floe"]).legend) == 4


def test_the_incidence_angle_is_an_input(charts: Path, geoseg) -> None:
    """Backscatter of -20 dB everywhere: only the angle tells the two products apart."""
    dark = {"numbers": dict.fromkeys(("hh", "hv"), np.full((90, 110), 30)), "gain": lambda line, sample: 300 + 0 * sample}
    stages = []
    for name, angle in (("near", 20.0), ("far", 45.0)):
        scene = product(charts / name, incidence=lambda line, sample, angle=angle: angle + 0 * sample, **dark, **NO_NOISE)
        assert geoseg("predict", scene, "--model", "charts", "-o", charts / name / "ice", "--no-picture").code == 0
        with rasterio.open(next((charts / name / "ice").glob("*_stage.tif"))) as file:
            stages.append(set(np.unique(file.read(1)[10:-10, 10:-10]).tolist()))
    assert stages == [{0}, {5}]


def test_noise_is_taken_from_the_weak_polarisation(charts: Path, geoseg) -> None:
    """HV just above the noise: without subtraction it looks like twice the ice."""
    numbers = {"hh": np.full((90, 110), 300), "hv": np.full((90, 110), 50)}
    flat = {"numbers": numbers, "gain": lambda line, sample: 300 + 0 * sample}
    noisy = product(charts / "noisy", noise=lambda line, sample: 0 * sample + 1250.0, **flat)
    free = product(charts / "free", **NO_NOISE, **flat)
    medians = []
    for scene in (noisy, free):
        facts = json.loads(geoseg("info", scene, "--json").out)
        medians.append({band["role"]: band["percentiles_0_1_50_99_100"][2] for band in facts["bands"]})
    assert medians[0]["hv"] == pytest.approx((50**2 - 1250) / 300**2, rel=1e-3)
    assert medians[1]["hv"] == pytest.approx(50**2 / 300**2, rel=1e-3)
