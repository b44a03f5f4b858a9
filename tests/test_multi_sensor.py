"""Patches of several sensors: one piece of ground in every sensor's own pixels, and never a value where nothing was seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from pyproj import Transformer

from geoseg.data.multi_sensor import SensorDropout, SensorPatches, fitted_views
from geoseg.data.places import Place, fitting_views, in_time
from geoseg.data.samplers import TileSampler
from geoseg.data.windows import UNLABELLED
from geoseg.errors import InputError, LabelError
from geoseg.legend import Legend
from geoseg.preprocess.prepare import BandNeed, Channel, Preparation
from geoseg.scene import Scene
from geoseg.scenes.open_scene import open_scene

LEGEND = Legend.from_names(("a", "b"))
LEFT, TOP, SIDE_M = 500_000.0, 5_000_000.0, 1920
TILE = 48


def east_and_north(
    path: Path, pixel: float, *, crs: str = "EPSG:32633", left: float = LEFT, side_m: float = SIDE_M, shift: float = 0
) -> Path:
    """Two bands that hold where each pixel's centre lies, as metres east and south of a corner, over 10,000."""
    count = round(side_m / pixel)
    affine = Affine(pixel, 0, left + shift, 0, -pixel, TOP)
    cols, rows = np.meshgrid(np.arange(count) + 0.5, np.arange(count) + 0.5)
    x, y = affine @ (cols, rows)
    values = np.stack([x - LEFT, TOP - y]) / 10_000
    form = {
        "driver": "GTiff",
        "height": count,
        "width": count,
        "count": 2,
        "dtype": "float32",
        "nodata": -9,
        "crs": crs,
        "transform": affine,
    }
    with rasterio.open(path, "w", **form) as file:
        file.write(values.astype(np.float32))
        file.descriptions = ("red", "nir")
    return path


def opened(path: Path, **opening: Any) -> Scene:
    return open_scene(path, sensor="generic", scale=1.0, **opening)


def unit_preparation(scene: Scene) -> Preparation:
    needs = tuple(BandNeed(role=role, unit=scene.layer(role).band.unit) for role in ("red", "nir"))
    return Preparation(bands=needs, channels=tuple(Channel(name=need.role, mean=0.0, std=1.0) for need in needs))


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    form = {"driver": "GTiff", "height": 192, "width": 192, "count": 1, "dtype": "uint8", "nodata": 255, "crs": "EPSG:32633"}
    with rasterio.open(tmp_path / "labels.tif", "w", transform=Affine(10, 0, LEFT, 0, -10, TOP), **form) as file:
        file.write((np.arange(192 * 192).reshape(192, 192) % 2).astype(np.uint8), 1)
    return tmp_path / "labels.tif"


def patches_of(place: Place, **given: Any) -> SensorPatches:
    views = fitting_views([place], {name: unit_preparation(scenes[0]) for name, scenes in place.scenes.items()}, tile=TILE)
    ground = [np.ones(place.labels.shape, bool)]
    return SensorPatches([place], ground, views, TileSampler([place.labels], ground, tile=TILE, rare=0.0), 0, **given)


def test_every_sensor_shows_the_same_ground_however_it_is_turned(tmp_path: Path, labels: Path) -> None:
    scenes = {
        "fine": opened(east_and_north(tmp_path / "fine.tif", 5)),
        "own": opened(east_and_north(tmp_path / "own.tif", 10)),
        "coarse": opened(east_and_north(tmp_path / "coarse.tif", 30, left=LEFT - 300, side_m=2700)),
    }
    patches = patches_of(Place.of(scenes, labels, LEGEND, grid="own"))
    assert [patches.views[name].pixels for name in scenes] == [96, 48, 16]
    ways = set()
    for draw in range(12):
        patch = patches[draw]
        corners = {}
        for name in scenes:
            image = patch[name]["image"]
            step = SIDE_M / 192 * TILE / image.shape[-1] / 10_000
            assert patch[name]["present"]
            assert patch[name]["valid"].all()
            middle = image.mean(axis=(1, 2))
            across = np.diff(image, axis=2).mean(axis=(1, 2)) / step
            corners[name] = np.round([*middle * 1000, *across], 2)
        for name in scenes:
            assert corners[name] == pytest.approx(corners["own"], abs=0.3), "the same middle, and the same way to the right"
        ways.add(tuple(np.round(corners["own"][2:])))
    assert len(ways) == 4, "east, west, north and south have all come to lie on the right"


def test_a_sensor_in_another_zone_shows_the_same_ground(tmp_path: Path, labels: Path) -> None:
    x, y = Transformer.from_crs("EPSG:32633", "EPSG:32632", always_xy=True).transform(LEFT, TOP)
    path = tmp_path / "zone.tif"
    count, affine = 300, Affine(20, 0, round(x - 1500, -1), 0, -20, round(y + 1500, -1))
    cols, rows = np.meshgrid(np.arange(count) + 0.5, np.arange(count) + 0.5)
    east, north = Transformer.from_crs("EPSG:32632", "EPSG:32633", always_xy=True).transform(*(affine @ (cols, rows)))
    form = {"driver": "GTiff", "height": count, "width": count, "count": 2, "dtype": "float32", "crs": "EPSG:32632", "transform": affine}
    with rasterio.open(path, "w", **form) as file:
        file.write((np.stack([east - LEFT, TOP - north]) / 10_000).astype(np.float32))
        file.descriptions = ("red", "nir")
    scenes = {"own": opened(east_and_north(tmp_path / "own.tif", 10)), "zone": opened(path)}
    patches = patches_of(Place.of(scenes, labels, LEGEND, grid="own"))
    for draw in range(4):
        own, zone = (patches[draw][name]["image"] for name in scenes)
        averaged = own.reshape(2, zone.shape[1], own.shape[1] // zone.shape[1], zone.shape[2], -1).mean(axis=(2, 4))
        assert np.abs(averaged - zone).max() * 10_000 < 2, "metres"


def test_what_a_scene_does_not_show_is_no_value(tmp_path: Path, labels: Path) -> None:
    scenes = {
        "own": opened(east_and_north(tmp_path / "own.tif", 10)),
        "half": opened(east_and_north(tmp_path / "half.tif", 20, shift=960)),
        "elsewhere": opened(east_and_north(tmp_path / "elsewhere.tif", 20, shift=100_000)),
    }
    patches = patches_of(Place.of(scenes, labels, LEGEND, grid="own"))
    shares = []
    for draw in range(20):
        patch = patches[draw]
        half, gone = patch["half"], patch["elsewhere"]
        assert not gone["present"]
        assert not gone["valid"].any()
        assert not gone["image"].any()
        assert half["present"] == half["valid"].any()
        assert not half["image"][:, ~half["valid"]].any()
        assert (half["image"][0][half["valid"]] * 10_000 > 959).all(), "only ground that the scene covers"
        assert (patch["labels"] != UNLABELLED).all()
        shares.append(half["valid"].mean())
    assert min(shares) == 0
    assert 0 < np.median(shares) < 1 or max(shares) == 1


def test_labels_that_no_sensor_sees_are_not_learned_from(tmp_path: Path, labels: Path) -> None:
    own = opened(east_and_north(tmp_path / "own.tif", 10))
    place = Place.of({"own": own}, labels, LEGEND, grid="own")
    half = opened(east_and_north(tmp_path / "half.tif", 20, shift=960))
    blind = replace(place, scenes={"half": (half,)})
    patches = patches_of(blind, turned=False)
    patch = patches[0]
    fine = np.kron(patch["half"]["valid"], np.ones((2, 2), bool))
    assert np.array_equal(patch["labels"] != UNLABELLED, fine)


def test_dates_come_in_order_with_their_days_and_missing_ones_are_not_present(tmp_path: Path, labels: Path) -> None:
    path = east_and_north(tmp_path / "own.tif", 10)
    dates = [replace(opened(path), time=datetime(1970, 1, day), source=f"day {day}") for day in (9, 3, 5)]
    many = Place.of({"own": dates}, labels, LEGEND, grid="own")
    few = Place.of({"own": dates[:2]}, labels, LEGEND, grid="own")
    views = fitting_views([many], {"own": unit_preparation(dates[0])}, tile=TILE)
    ground = [np.ones(place.labels.shape, bool) for place in (many, few)]
    sampler = TileSampler([many.labels, few.labels], ground, tile=TILE, rare=0.0)
    patches = SensorPatches([many, few], ground, views, sampler, 0)
    seen = {tuple(patches[draw]["own"]["days"]): patches[draw]["own"] for draw in range(12)}
    assert set(seen) == {(2, 4, 8), (2, 8, 0)}
    assert seen[2, 4, 8]["image"].shape == (3, 2, TILE, TILE)
    assert seen[2, 8, 0]["present"].tolist() == [True, True, False]
    assert not seen[2, 8, 0]["image"][2].any()


def test_dropout_takes_sensors_dates_and_channels_at_its_rates_and_never_all(tmp_path: Path, labels: Path) -> None:
    path = east_and_north(tmp_path / "own.tif", 40)
    dates = [replace(opened(path), time=datetime(1970, 1, day), source=f"day {day}") for day in (1, 2)]
    place = Place.of({"one": opened(path), "two": dates}, labels, LEGEND, grid="one")
    patches = patches_of(place, dropout=SensorDropout(sensors={"one": 0.3, "two": 1.0}, dates=0.5, channels=0.4))
    shown = [patches[draw] for draw in range(300)]
    assert all(patch["one"]["present"] or patch["two"]["present"].any() for patch in shown)
    of_one = np.mean([bool(patch["one"]["present"]) for patch in shown])
    assert of_one == pytest.approx(0.7 + 0.3 / 2, abs=0.07), "where both were to go, either stays"
    alone = [patch["two"] for patch in shown if patch["two"]["present"].any()]
    assert {tuple(one["present"].tolist()) for one in alone} == {(True, True), (True, False), (False, True)}
    lost = [not patch["one"]["image"][0].any() for patch in shown if patch["one"]["present"]]
    assert np.mean(lost) == pytest.approx(0.4 * 0.6 + 0.4 * 0.4 / 2, abs=0.09), "where both channels were to go, either stays"
    plain = patches_of(place)
    assert all(plain[draw]["one"]["present"] and plain[draw]["two"]["present"].all() for draw in range(20))


def test_statistics_are_of_each_sensors_own_valid_pixels_on_the_ground(tmp_path: Path, labels: Path) -> None:
    scenes = {"own": opened(east_and_north(tmp_path / "own.tif", 10)), "half": opened(east_and_north(tmp_path / "half.tif", 20, shift=960))}
    place = Place.of(scenes, labels, LEGEND, grid="own")
    views = fitting_views([place], {name: unit_preparation(scene) for name, scene in scenes.items()}, tile=TILE)
    west = np.zeros(place.labels.shape, bool)
    west[:, :144] = True
    fitted = fitted_views([place], [west], views, tile=TILE)
    means = {name: fitted[name].preparation.channels[0].mean * 10_000 for name in scenes}
    assert means["own"] == pytest.approx(720, abs=0.1)
    assert means["half"] == pytest.approx((960 + 1440) / 2, abs=0.1), "the half that it shows, as far as the ground reaches"


def test_a_loader_gives_the_same_batches_whatever_its_workers(tmp_path: Path, labels: Path) -> None:
    torch = pytest.importorskip("torch")
    scenes = {"own": opened(east_and_north(tmp_path / "own.tif", 10)), "half": opened(east_and_north(tmp_path / "half.tif", 20, shift=960))}
    patches = patches_of(Place.of(scenes, labels, LEGEND, grid="own"), dropout=SensorDropout(sensors={"half": 0.5}))

    def batches(workers: int) -> list[Any]:
        context = "spawn" if workers else None
        return list(
            torch.utils.data.DataLoader(patches, batch_size=2, sampler=range(4), num_workers=workers, multiprocessing_context=context)
        )

    alone, shared = batches(0), batches(1)
    for one, other in zip(alone, shared, strict=True):
        assert torch.equal(one["half"]["image"], other["half"]["image"])
        assert one["half"]["present"].shape == (2,)
    assert not torch.equal(alone[0]["own"]["image"], alone[1]["own"]["image"])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda scene, labels: Place.of({"s2": scene}, labels, LEGEND, grid="s1"), "windows are to lie on the pixels of 's1'"),
        (lambda scene, labels: Place.of({"s2": []}, labels, LEGEND, grid="s2"), "no scene is given for the sensor 's2'"),
        (lambda scene, labels: in_time("s2", [scene, scene]), "does not say when it was"),
        (lambda scene, labels: in_time("s2", [replace(scene, time=datetime(2020, 1, 1))] * 2), "of the same moment"),
        (lambda scene, labels: fitting_views([], {"s2": unit_preparation(scene)}, tile=8), "no place has a scene of 's2'"),
    ],
)
def test_what_does_not_go_together_is_one_sentence(
    tmp_path: Path, labels: Path, wrong: Callable[[Scene, Path], object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        wrong(opened(east_and_north(tmp_path / "own.tif", 10)), labels)


def test_dropout_of_a_sensor_that_is_not_shown_is_refused(tmp_path: Path, labels: Path) -> None:
    place = Place.of({"own": opened(east_and_north(tmp_path / "own.tif", 10))}, labels, LEGEND, grid="own")
    with pytest.raises(InputError, match="dropout of 'owm'"):
        patches_of(place, dropout=SensorDropout(sensors={"owm": 0.5}))


def test_labels_elsewhere_are_refused(tmp_path: Path, labels: Path) -> None:
    with pytest.raises(LabelError, match="km"):
        Place.of({"far": opened(east_and_north(tmp_path / "far.tif", 10, shift=50_000))}, labels, LEGEND, grid="far")
