"""Despeckled scenes: what the filters promise, from files to files that open again."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import rasterio
from command_line import contents
from packages import preparation_for, threshold_package
from rasterio.transform import from_origin
from test_stac import validate

from geoseg.data.patches import GridPatches, LabelledScene, TrainingPatches
from geoseg.data.windows import Window
from geoseg.errors import BandError, InputError, OutputError, SceneError
from geoseg.io.cog import write_cog
from geoseg.preprocess.prepare import BandNeed, Channel, Despeckle, Preparation, prepare
from geoseg.preprocess.sar import to_decibels
from geoseg.preprocess.speckle import despeckle, quegan
from geoseg.scene import Scene, read_scene
from geoseg.scenes.open_scene import open_scene
from geoseg.stacks import despeckle as despeckle_module
from geoseg.stacks.despeckle import Despeckled, DespeckleOptions, despeckle_scenes
from geoseg.stacks.grids import lay_blocks

LOOKS = 4.0
SIDE = 60


def speckled(seed: int, side: int = SIDE, mean: float = 0.05) -> np.ndarray:
    return (mean * np.random.default_rng(seed).gamma(LOOKS, 1 / LOOKS, (side, side))).astype(np.float32)


def radar(folder: Path, day: str, *planes: np.ndarray, left: float = 600_000, names=("VV", "VH"), orbit: str = "ascending") -> Path:
    """A file of backscatter in linear power; NaN is no data."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"s1_{day}.tif"
    profile = {"count": len(planes), "height": planes[0].shape[0], "width": planes[0].shape[1], "dtype": "float32", "nodata": np.nan}
    place = {"crs": "EPSG:32632", "transform": from_origin(left, 5_000_000, 10, 10)}
    with rasterio.open(path, "w", driver="GTiff", **profile, **place) as file:
        file.write(np.stack(planes).astype(np.float32))
        file.descriptions = names[: len(planes)]
        file.update_tags(ORBIT_PASS_DIRECTION=orbit)
    return path


def opened(path: Path, **words) -> Scene:
    return open_scene(path, **{"sensor": "sentinel-1-rtc", "unit": "linear power", **words})


def dates(folder: Path, count: int = 3, **changes) -> list[Scene]:
    return [opened(radar(folder, f"2021050{at + 1}", speckled(at, **changes), speckled(50 + at, **changes))) for at in range(count)]


def filtered(scenes, out: Path, **options) -> np.ndarray:
    """(time, band, row, col) of the results; NaN where there is no data."""
    made = despeckle_scenes(scenes, out, options=DespeckleOptions(**options))
    return np.stack([pixels(one) for one in made])


def pixels(made: Despeckled) -> np.ndarray:
    with rasterio.open(made.files["data"]) as file:
        return file.read()


def stack(scenes, band: int = 1) -> np.ndarray:
    planes = []
    for scene in scenes:
        with rasterio.open(scene.layers[0].path) as file:
            planes.append(file.read(band))
    return np.stack(planes)


# Laws


def test_dates_together_equal_the_filter_on_the_whole_stack_bit_for_bit(tmp_path):
    scenes = dates(tmp_path)
    got = filtered(scenes, tmp_path / "out", size=5)
    for band in (0, 1):
        power = stack(scenes, band + 1)
        np.testing.assert_array_equal(got[:, band], quegan(power, np.ones(power.shape, bool), size=5))
    assert not np.array_equal(got, filtered(scenes, tmp_path / "other"))


@pytest.mark.parametrize("method", ["boxcar", "lee", "refined_lee", "gamma_map"])
def test_single_scenes_equal_their_filter_bit_for_bit(tmp_path, method):
    scenes = dates(tmp_path, 2)
    looks = {} if method == "boxcar" else {"looks": LOOKS}
    got = filtered(scenes, tmp_path / "out", method=method, **looks)
    for at, power in enumerate(stack(scenes)):
        np.testing.assert_array_equal(got[at, 0], despeckle(power, np.ones(power.shape, bool), method, **looks))


@pytest.mark.parametrize("method", ["quegan", "lee"])
def test_windows_do_not_show(tmp_path, monkeypatch, method):
    side = 516
    holes = [np.where(np.random.default_rng(at).random((side, side)) < 0.1, np.nan, speckled(at, side)) for at in range(2)]
    scenes = [opened(radar(tmp_path, f"2021050{at + 1}", plane)) for at, plane in enumerate(holes)]
    whole = filtered(scenes, tmp_path / "whole", method=method)
    monkeypatch.setattr(despeckle_module, "_BUDGET_BYTES", 1)
    assert len(list(lay_blocks((side, side), 1, 1))) == 4
    np.testing.assert_array_equal(filtered(scenes, tmp_path / "parts", method=method), whole)
    monkeypatch.setattr(despeckle_module.Filter, "reach", 1)
    assert not np.array_equal(filtered(scenes, tmp_path / "narrow", method=method), whole, equal_nan=True)


def test_another_order_of_the_scenes_only_orders_the_results(tmp_path):
    scenes = dates(tmp_path)
    first = filtered(scenes, tmp_path / "first")
    for at, order in enumerate(list(permutations(range(3)))[2:4]):
        got = filtered([scenes[one] for one in order], tmp_path / str(at))
        np.testing.assert_array_equal(got, first[list(order)])


def test_every_date_keeps_its_mean_and_gains_looks_as_dates_and_window_promise(tmp_path):
    count, size, side = 3, 7, 220
    power = [speckled(at, side, mean=0.02 * (at + 1)) for at in range(count)]
    scenes = [opened(radar(tmp_path, f"2021050{at + 1}", plane)) for at, plane in enumerate(power)]
    got = filtered(scenes, tmp_path / "out", size=size)[:, 0].astype(np.float64)
    for at, plane in enumerate(power):
        assert got[at].mean() == pytest.approx(plane.mean(dtype=np.float64), rel=0.01)
        gained = (got[at].mean() ** 2 / got[at].var()) / LOOKS
        assert gained == pytest.approx(1 / (1 / count + 1 / size**2), rel=0.1)


def test_no_data_of_a_date_stays_there_and_takes_no_part(tmp_path):
    scenes = dates(tmp_path, 2)
    power = speckled(9)
    power[:, 30:] = np.nan
    third = opened(radar(tmp_path, "20210509", power, speckled(59)))
    got = filtered([*scenes, third], tmp_path / "out")
    assert np.isnan(got[2, 0, :, 30:]).all()
    assert not np.isnan(got[2, 1]).any()
    alone = filtered(scenes, tmp_path / "alone")
    np.testing.assert_array_equal(got[:2, 0, :, 34:], alone[:, 0, :, 34:])
    assert not np.array_equal(got[:2, 0, :, :26], alone[:, 0, :, :26])


def test_a_field_that_changes_stays_on_its_date_and_a_point_fades_with_the_dates(tmp_path):
    """Quegan & Yu: date 1 gets (I / E - 1) / dates of what date 2 alone has; a field wider than the window has I / E = 1."""
    level, side = np.full((SIDE, SIDE), 0.05, np.float32), slice(10, 30)
    field, ship = level.copy(), level.copy()
    field[side, side] *= 20
    ship[45, 45] *= 100
    for name, changed in (("field", field), ("ship", ship)):
        planes = [level, changed, level, level]
        scenes = [opened(radar(tmp_path / name, f"2021050{at + 1}", plane)) for at, plane in enumerate(planes)]
        got = filtered(scenes, tmp_path / f"{name}_out")[:, 0]
        if name == "field":
            np.testing.assert_allclose(got[0, 13:27, 13:27], 0.05, rtol=1e-6)
            np.testing.assert_allclose(got[1, 13:27, 13:27], 1.0, rtol=1e-6)
        else:
            ratio = 100 / ((48 + 100) / 49)
            assert got[0, 45, 45] == pytest.approx(0.05 * (1 + (ratio - 1) / 4), rel=1e-5)
            np.testing.assert_allclose(got[0, :40], 0.05, rtol=1e-6)


# What comes out


def test_a_result_opens_with_nothing_else_said(tmp_path):
    angle = np.full((SIDE, SIDE), 38.5, np.float32)
    path = radar(tmp_path, "20210503", speckled(1), angle, names=("VV", "incidence_angle"))
    made = despeckle_scenes([opened(path)], tmp_path / "out", options=DespeckleOptions(method="lee", looks=LOOKS))[0]
    for file in made.files.values():
        scene = open_scene(file)
        vv = scene.layer("vv").band
        assert (scene.sensor.name, f"{scene.time:%Y%m%d}", scene.orbit_pass) == ("sentinel-1-rtc", "20210503", "ascending")
        assert (vv.unit, vv.convention, vv.noise_removed, vv.despeckled) == ("linear power", "gamma0_rtc", None, "lee")
        assert scene.layer("incidence_angle").band.unit == "degree"
        assert scene.warnings == ()
    np.testing.assert_array_equal(pixels(made)[1], angle)
    item = json.loads(made.files["item"].read_text(encoding="utf-8"))
    validate(item)
    assert item["properties"]["geoseg:despeckled"]["method"] == "lee (5 x 5 pixels, 4 looks)"


def test_removed_noise_and_an_unknown_answer_are_told_apart(tmp_path):
    name = "OPERA_L2_RTC-S1_T069-147170-IW1_20231101T143730Z_20231101T200012Z_S1A_30_v1.0_VV"
    opera = radar(tmp_path, "20231101", speckled(1), names=("VV",)).rename(tmp_path / f"{name}.tif")
    made = despeckle_scenes([open_scene(opera)], tmp_path / "out", options=DespeckleOptions(method="boxcar"))[0]
    assert open_scene(made.files["data"]).layer("vv").band.noise_removed is True


def test_decibels_become_power(tmp_path):
    power = speckled(1)
    scene = opened(radar(tmp_path, "20210503", to_decibels(power)), unit="dB")
    got = filtered([scene], tmp_path / "out", method="boxcar")[0, 0]
    np.testing.assert_allclose(got, despeckle(power, np.ones(power.shape, bool), "boxcar"), rtol=1e-5)


def test_dates_on_other_grids_come_to_that_of_the_first(tmp_path):
    first = opened(radar(tmp_path, "20210501", speckled(1)))
    other = opened(radar(tmp_path, "20210513", speckled(2), left=600_100))
    got = filtered([first, other], tmp_path / "out")[:, 0]
    assert np.isnan(got[1, :, :10]).all()
    shifted = np.full((SIDE, SIDE), np.nan, np.float32)
    shifted[:, 10:] = speckled(2)[:, :-10]
    both = np.stack([speckled(1), shifted])
    seen = ~np.isnan(both)
    np.testing.assert_array_equal(np.nan_to_num(got)[:, :, :50], quegan(np.nan_to_num(both), seen)[:, :, :50])


def test_a_mask_file_takes_no_part(tmp_path):
    mask = np.zeros((SIDE, SIDE), np.float32)
    mask[:, :20] = 1
    masked = radar(tmp_path / "mask", "20210501", mask)
    scene = opened(radar(tmp_path, "20210501", speckled(1)), mask=masked)
    got = filtered([scene], tmp_path / "out", method="boxcar")[0, 0]
    assert np.isnan(got[:, :20]).all()
    np.testing.assert_array_equal(got[:, 20:], despeckle(speckled(1)[:, 20:], np.ones((SIDE, SIDE - 20), bool), "boxcar"))


def test_scenes_of_one_name_are_told_apart_by_their_time(tmp_path):
    paths = [radar(tmp_path / day, day, speckled(at)) for at, day in enumerate(("20210501", "20210513"))]
    scenes = [opened(path.rename(path.with_name("vv.tif"))) for path in paths]
    moments = [replace(scene, time=datetime(2021, 5, 1 + 12 * at, tzinfo=UTC)) for at, scene in enumerate(scenes)]
    names = [made.name for made in despeckle_scenes(moments, tmp_path / "out")]
    assert names == ["vv_20210501T000000_quegan", "vv_20210513T000000_quegan"]
    with pytest.raises(InputError, match="are called vv; say their days with --dates"):
        despeckle_scenes(scenes, tmp_path / "none")


def test_after_an_error_no_result_is_there(tmp_path, monkeypatch):
    def fail_at_the_second(part: Path, out: Path, *, kind: str) -> None:
        if "0502" in out.name:
            raise OutputError("the disk is full")
        write_cog(part, out, kind="continuous")

    scenes = dates(tmp_path / "in", 2)
    monkeypatch.setattr(despeckle_module, "write_cog", fail_at_the_second)
    with pytest.raises(OutputError):
        despeckle_scenes(scenes, tmp_path / "out")
    assert not (tmp_path / "out").exists()


# Filtered twice


def test_a_filtered_scene_is_not_filtered_again_in_silence(tmp_path):
    scene = dates(tmp_path, 1)[0]
    once = despeckle_scenes([scene], tmp_path / "once", options=DespeckleOptions(method="boxcar"))[0]
    twice = despeckle_scenes([open_scene(once.files["data"])], tmp_path / "twice", options=DespeckleOptions(method="lee", looks=4))[0]
    assert once.warnings == ()
    assert twice.warnings[0].startswith("vv of ")
    assert "already filtered by boxcar; lee smooths it a second time" in twice.warnings[0]
    assert open_scene(twice.files["data"]).layer("vh").band.despeckled == "boxcar, then lee"


def test_predict_warns_of_a_package_that_filters_a_filtered_scene(tmp_path, geoseg):
    preparation = preparation_for(("vv",)).model_copy(update={"despeckle": Despeckle(method="lee")})
    threshold_package(tmp_path / "sar", ("vv",), -13, preparation=preparation)
    raw = radar(tmp_path, "20210503", speckled(1), names=("VV",))
    assert geoseg("despeckle", raw, "--sensor", "sentinel-1-rtc", "--unit", "linear power", "--method", "boxcar", "-o", "out").code == 0
    words = ("predict", "out/s1_20210503_boxcar.tif", "--model", "sar", "-o", "map", "--json")
    assert "already filtered by boxcar, and Test model filters speckle itself (lee)" in geoseg(*words).out
    unfiltered = geoseg("predict", raw, "--sensor", "sentinel-1-rtc", "--unit", "linear power", "--model", "sar", "-o", "raw", "--json")
    assert unfiltered.code == 0
    assert "already filtered" not in unfiltered.out


@pytest.mark.parametrize(("letters", "despeckled"), [("gpufed", "enhanced Lee"), ("gpuned", None), ("gpwned", None)])
def test_the_name_of_a_hyp3_product_says_whether_it_is_filtered(tmp_path, letters, despeckled):
    name = f"S1A_IW_20180128T161201_DVP_RTC30_G_{letters}_FD6A_VV.tif"
    path = radar(tmp_path, "20180128", speckled(1), names=("VV",)).rename(tmp_path / name)
    assert open_scene(path).layer("vv").band.despeckled == despeckled


# Training


def test_windows_are_filtered_for_training_as_for_mapping(tmp_path):
    scene = dates(tmp_path, 1)[0]
    need = BandNeed(role="vv", unit="dB")
    preparation = Preparation(bands=(need,), channels=(Channel(name="vv"),), despeckle=Despeckle(method="refined_lee", looks=LOOKS))
    grid, ground = scene.geobox(["vv"]), np.ones((SIDE, SIDE), bool)
    loaded = LabelledScene(scene, grid, np.zeros((SIDE, SIDE), np.int16), ("vv",))
    held = LabelledScene(scene, grid, loaded.labels, ("vv",), held=read_scene(scene, ["vv"], grid))
    whole = prepare(held.held, preparation).values
    window = Window(20, 12, 16, 16)
    for one in (loaded, held):
        patch = GridPatches([one], [ground], preparation, [(0, window, window)])[0]
        np.testing.assert_array_equal(patch["image"], whole[:, *window.slices])
        assert patch["labels"].shape == (16, 16)
        drawn = TrainingPatches([one], [ground], preparation, FixedWindow(window), seed=0)[0]
        assert drawn["labels"].shape == (16, 16)
        np.testing.assert_array_equal(np.sort(drawn["image"].ravel()), np.sort(patch["image"].ravel()))
    assert not np.array_equal(prepare(held.read(window), preparation).values, whole[:, *window.slices])


class FixedWindow:
    def __init__(self, window: Window) -> None:
        self._window, self.tile = window, window.rows

    def draw(self, generator: np.random.Generator) -> tuple[int, Window]:
        return 0, self._window


# What cannot be filtered


def test_scenes_that_do_not_belong_together_are_refused_or_warned_of(tmp_path):
    one = opened(radar(tmp_path, "20210501", speckled(1)))
    path = radar(tmp_path, "20210513", speckled(2), orbit="descending")
    assert "both orbit passes" in despeckle_scenes([one, opened(path)], tmp_path / "out")[0].warnings[0]
    with pytest.raises(BandError, match=r"\(gamma0_rtc\) in .* and in linear power \(sigma0\) in"):
        despeckle_scenes([one, opened(path, convention="sigma0")], tmp_path / "out")
    with pytest.raises(SceneError, match="quegan takes dates of one sensor"):
        despeckle_scenes([one, opened(path, sensor="sentinel-1-grd", convention="gamma0_rtc")], tmp_path / "out")
    with pytest.raises(BandError, match="take those that all have with --only vv"):
        despeckle_scenes([one, *dates(tmp_path / "two", 2)[1:]], tmp_path / "out")
    with pytest.raises(InputError, match="are called s1_20210501"):
        despeckle_scenes([one, one], tmp_path / "out")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("s1_20210501.tif", "--method", "quegan"), "give two scenes of one place or more"),
        (("s1_20210501.tif", "far/s1_20210505.tif"), "does not overlap s1_20210501.tif; give scenes of one place"),
        (("s1_20210501.tif", "--method", "lee", "--size", "4"), "--size 4: a window of 4 pixels has no middle"),
        (("s1_20210501.tif", "--method", "refined_lee", "--size", "5"), "leave the size out"),
        (("s1_20210501.tif", "--method", "boxcar", "--looks", "4"), "asks for no looks"),
        (("s1_20210501.tif", "--method", "lee", "--looks", "0"), "expected a number above 0"),
        (("s1_20210501.tif", "--only", "hh"), "--only names 'hh'; the radar bands of s1_20210501.tif are vv"),
        (("s1_20210501.tif", "--like", "s1_20210501.tif", "--crs", "EPSG:4326"), "leave --crs and --resolution out"),
    ],
)
def test_bad_input_ends_in_one_sentence_and_leaves_nothing(geoseg, place, words, said):
    radar(place, "20210501", speckled(1))
    radar(place / "far", "20210505", speckled(1), left=800_000)
    before = contents(place)
    ran = geoseg("despeckle", *words, "--sensor", "sentinel-1-rtc", "--unit", "linear power", "-o", "out")
    assert ran.code == 2
    assert said in ran.sentence
    assert contents(place) == before


def test_optical_scenes_have_no_speckle(geoseg):
    ran = geoseg("despeckle", "scene.tif", "--bands", "red", "-o", "out")
    assert ran.code == 2
    assert "has red and no radar backscatter, which alone has speckle" in ran.sentence


def test_the_command_filters_dates_together_and_says_so(geoseg, place):
    for at in (1, 2, 3):
        radar(place, f"2021050{at}", speckled(at))
    words = [f"s1_2021050{at}.tif" for at in (1, 2, 3)]
    ran = geoseg("despeckle", *words, "--sensor", "sentinel-1-rtc", "--unit", "linear power", "-o", "out", "--json")
    results = [json.loads(line) for line in ran.out.splitlines() if '"result"' in line]
    assert [one["name"] for one in results] == [f"s1_2021050{at}_quegan" for at in (1, 2, 3)]
    assert results[0]["summary"]["dates_mean"] == 3
    assert sorted(path.name for path in (place / "out").iterdir()) == sorted(
        f"s1_2021050{at}_quegan.{kind}" for at in (1, 2, 3) for kind in ("json", "tif")
    )
    again = geoseg("despeckle", *words, "--sensor", "sentinel-1-rtc", "--unit", "linear power", "-o", "out")
    assert again.code == 2
    assert "--overwrite" in again.sentence
