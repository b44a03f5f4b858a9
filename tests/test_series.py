"""Series: one map from all dates, by the calendar of the package; what is missing is flagged, drawn, or refused."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import numpy as np
import pytest
import rasterio
from command_line import contents
from packages import per_pixel_package
from rasterio.transform import from_origin
from test_composite import CLEAR, CLOUD, level_2a, numbers

from geoseg.errors import BandError, InputError
from geoseg.legend import Legend
from geoseg.models.fit import check_bands
from geoseg.models.package import ModelPackage
from geoseg.preprocess.calendars import Calendar
from geoseg.preprocess.normalise import ChannelStatistics
from geoseg.preprocess.prepare import BandNeed, Channel, Preparation, prepare
from geoseg.preprocess.quality import Reason
from geoseg.preprocess.series import counted_channels
from geoseg.raster import Raster
from geoseg.scene import read_scene
from geoseg.scenes.open_scene import open_scene
from geoseg.sensors import Band
from geoseg.stacks import series as series_module
from geoseg.stacks.series import one_date, open_series, series_preparation

SPRING = Calendar(periods=(4, 5, 6), min_clear_share=0.6)
LEGEND = Legend.from_names(["bare", "green"])


def preparation(calendar=SPRING, *, mean=0.0, std=1.0) -> Preparation:
    """NDVI of each period, and the flags."""
    plain = Preparation(
        bands=(BandNeed(role="red", unit="reflectance"), BandNeed(role="nir", unit="reflectance")),
        channels=(Channel(name="NDVI", kind="index", mean=mean, std=std),),
    )
    return series_preparation(_no_scene(), calendar, plain)


def _no_scene():
    class Bare:
        roles = ()

    return Bare()


def mean_ndvi_package(folder: Path, calendar=SPRING, *, threshold=0.4, sensors=("sentinel-2-l2a",)) -> ModelPackage:
    """`green` where the NDVI of the periods that are there exceeds `threshold` on average; missing ones add nothing (all flagged)."""
    count = len(calendar.periods)
    weights = np.zeros((2, count * (1 + (calendar.fill == "flag"))))
    weights[1, :count] = 50
    weights[1, count:] = -50 * threshold
    return per_pixel_package(
        folder,
        ("red",),
        weights,
        [0, 0 if calendar.fill == "flag" else -50 * threshold * count],
        legend=LEGEND,
        preparation=preparation(calendar),
        sensors=sensors,
    )


def raster(ndvi, valid=None) -> Raster:
    """Red and nir of each period with this NDVI (period, row, col)."""
    ndvi = np.asarray(ndvi, np.float32)
    values = np.stack([plane for one in ndvi for plane in ((1 - one) / 4, (1 + one) / 4)])
    known = np.ones(ndvi.shape, bool) if valid is None else np.asarray(valid)
    bands = tuple(Band(f"{role}@{name}", f"{role}@{name}", unit="reflectance") for name in SPRING.names for role in ("red", "nir"))
    from odc.geo.geobox import GeoBox

    grid = GeoBox(ndvi.shape[1:], from_origin(6e5, 5e6, 10, 10), "EPSG:32632")
    return Raster(np.where(np.repeat(known, 2, axis=0), values, 0), np.repeat(known, 2, axis=0), grid, bands)


# The calendar


def test_a_season_may_cross_the_end_of_the_year():
    winter = Calendar(periods=(11, 12, 1, 2))
    assert winter.season(2020) == (
        (date(2020, 11, 1), date(2020, 11, 30)),
        (date(2020, 12, 1), date(2020, 12, 31)),
        (date(2021, 1, 1), date(2021, 1, 31)),
        (date(2021, 2, 1), date(2021, 2, 28)),
    )
    across = Calendar(periods=("12-15/01-15", "01-16/02-29"))
    assert across.season(2019) == ((date(2019, 12, 15), date(2020, 1, 15)), (date(2020, 1, 16), date(2020, 2, 29)))


def test_enough_counts_share_and_gap():
    calendar = Calendar(periods=(3, 4, 5, 6, 7), tolerated_gap=1, min_clear_share=0.6)
    rows = np.array([[1, 0, 1, 0, 1], [1, 0, 0, 1, 1], [1, 0, 1, 0, 0], [1, 1, 1, 1, 1], [0, 1, 1, 1, 0]], bool)
    assert calendar.enough(rows.T).tolist() == [True, False, False, True, True]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"periods": [3]}, "at least 2"),
        ({"periods": [3, 3]}, "'03' stands twice"),
        ({"periods": ["03-01/13-01", 5]}, "is no day of the year"),
        ({"periods": [3, 4], "fil": "flag"}, "did you mean 'fill'"),
    ],
)
def test_a_calendar_that_makes_no_sense_is_refused(given, said):
    with pytest.raises((InputError, ValueError), match=said):
        Calendar(**given)


def test_a_preparation_that_does_not_fit_its_calendar_is_refused():
    whole = preparation()
    for bands, channels, said in (
        (whole.bands[:4], whole.channels, "NDVI@06"),
        (whole.bands, whole.channels[:-1], "no channel 'present@06'"),
        ((*whole.bands, BandNeed(role="red@07", unit="1")), (*whole.channels, Channel(name="red@07")), "no period '07'"),
    ):
        with pytest.raises(BandError, match=said):
            Preparation(bands=bands, channels=channels, calendar=SPRING)


def test_a_package_keeps_its_calendar(tmp_path):
    mean_ndvi_package(tmp_path / "model")
    assert ModelPackage.open(tmp_path / "model").preparation.calendar == SPRING


# Preparing


def test_each_period_is_prepared_as_a_date_by_itself():
    ndvi = np.random.default_rng(0).uniform(-0.5, 0.9, (3, 4, 4))
    prepared = prepare(raster(ndvi), preparation(mean=0.2, std=0.5))
    np.testing.assert_allclose(prepared.values[:3], (ndvi - 0.2) / 0.5, atol=1e-5)
    assert (prepared.values[3:] == 1).all()
    assert prepared.valid.all()


def test_a_missing_period_is_zero_after_normalising_and_flagged():
    there = np.ones((3, 1, 2), bool)
    there[1, 0, 0] = False
    prepared = prepare(raster(np.full((3, 1, 2), 0.6), there), preparation(mean=0.2, std=0.5))
    np.testing.assert_allclose(prepared.values[:, 0, 0], [0.8, 0, 0.8, 1, 0, 1], atol=1e-6)
    np.testing.assert_allclose(prepared.values[:, 0, 1], [0.8, 0.8, 0.8, 1, 1, 1], atol=1e-6)
    assert prepared.valid.all()


def test_too_few_periods_make_a_pixel_not_valid():
    there = np.ones((3, 1, 2), bool)
    there[1:, 0, 0] = False
    prepared = prepare(raster(np.full((3, 1, 2), 0.6), there), preparation())
    assert prepared.valid_everywhere.tolist() == [[False, True]]
    assert not prepared.values[:, 0, 0].any()


def test_interpolation_draws_a_line_in_time_whatever_the_statistics():
    calendar = Calendar(periods=(4, 5, 6), fill="interpolate", min_clear_share=0.3, tolerated_gap=2)
    ndvi = np.array([0.2, -0.9, 0.6])[:, None, None] * np.ones((1, 1, 3))
    there = np.array([[1, 0, 1], [0, 0, 1], [0, 1, 1]], bool).T[:, None, :]
    there[:, 0, 2] = [True, True, True]
    there[:, 0, 0], there[:, 0, 1] = [True, False, True], [False, False, True]
    whole = preparation(calendar)
    channels = [c.model_copy(update={"mean": 0.1 * at, "std": 1.0 + at}) for at, c in enumerate(whole.channels)]
    prepared = prepare(raster(ndvi, there), whole.model_copy(update={"channels": tuple(channels)}))
    got = prepared.values * np.array([1, 2, 3])[:, None, None] + np.array([0, 0.1, 0.2])[:, None, None]
    april, may, june = (15.5, 46.0, 76.5)
    between = 0.2 + (may - april) / (june - april) * 0.4
    np.testing.assert_allclose(got[:, 0, 0], [0.2, between, 0.6], atol=1e-6)
    np.testing.assert_allclose(got[:, 0, 1], 0.6, atol=1e-6)
    np.testing.assert_allclose(got[:, 0, 2], [0.2, -0.9, 0.6], atol=1e-6)


def test_missing_periods_do_not_count_in_the_statistics():
    there = np.ones((3, 2, 2), bool)
    there[1, 0] = False
    plain = preparation()
    prepared = prepare(raster(np.full((3, 2, 2), 0.6), there), plain)
    counted = ChannelStatistics.of(Raster(prepared.values, counted_channels(prepared, plain), prepared.geobox, prepared.bands))
    assert counted.count.tolist() == [4, 2, 4, 4, 4, 4]
    np.testing.assert_allclose(counted.mean, [0.6, 0.6, 0.6, 1, 0.5, 1], atol=1e-6)


# Series of scenes


def spring(folder: Path, **changes) -> list[Path]:
    """Five dates in three months; `changes` are of the May dates."""
    days = ("20210404", "20210420", "20210503", "20210518", "20210607")
    return [
        level_2a(folder, day, red=numbers(at), nir=numbers(10 + at), **(changes if day[5] == "5" else {})) for at, day in enumerate(days)
    ]


def opened(paths, calendar=SPRING):
    return open_series([open_scene(path) for path in paths], calendar)


def test_a_series_is_a_scene_whose_layers_are_the_medians_of_its_periods(tmp_path):
    scene = opened(spring(tmp_path))
    assert scene.roles == ("red@04", "nir@04", "red@05", "nir@05", "red@06", "nir@06", "mask")
    got = read_scene(scene, ["red@05", "nir@06"], scene.geobox())
    expected = (numbers(2) + numbers(3)) / 2, numbers(14)
    np.testing.assert_allclose(got.values, (np.stack(expected) - 1000) / 1e4, atol=1e-7)
    assert got.valid.all()


def test_pieces_do_not_show(tmp_path, monkeypatch):
    scene = opened(spring(tmp_path, scl=np.where(numbers(7, 20) < 3000, CLOUD, CLEAR)))
    whole = read_scene(scene, scene.roles, scene.geobox())
    monkeypatch.setattr(series_module, "_PIECE", 23)
    monkeypatch.setattr(series_module, "_BUDGET_BYTES", 20_000)
    pieces = read_scene(scene, scene.roles, scene.geobox())
    np.testing.assert_array_equal(whole.values, pieces.values)
    np.testing.assert_array_equal(whole.valid, pieces.valid)
    np.testing.assert_array_equal(
        whole.crop(slice(5, 9), slice(3, 30)).values, read_scene(scene, scene.roles, scene.geobox()[5:9, 3:30]).values
    )


def test_a_series_is_mapped_as_numpy_would(tmp_path, geoseg):
    clouded = np.where(np.random.default_rng(3).random((20, 20)) < 0.4, CLOUD, CLEAR)
    paths = spring(tmp_path, scl=clouded)
    mean_ndvi_package(tmp_path / "spring")
    ran = geoseg("predict", *paths, "--series", "--model", tmp_path / "spring", "-o", tmp_path / "out")
    assert ran.code == 0, ran.err
    months = [(numbers(0) + numbers(1)) / 2, (numbers(2) + numbers(3)) / 2, numbers(4)]
    near = [(numbers(10) + numbers(11)) / 2, (numbers(12) + numbers(13)) / 2, numbers(14)]
    ndvi = np.stack([(n - r) / (n + r - 2000) for r, n in zip(months, near, strict=True)])
    there = np.stack([np.ones((40, 40), bool), np.kron(clouded == CLEAR, np.ones((2, 2), bool)), np.ones((40, 40), bool)])
    mean = (ndvi * there).sum(axis=0) / there.sum(axis=0)
    sure = np.abs(mean - 0.4) > 1e-4
    with rasterio.open(tmp_path / "out" / "series_2021-04-04_2021-06-07_classes.tif") as file:
        np.testing.assert_array_equal((file.read(1) == LEGEND.classes[1].code)[sure], (mean > 0.4)[sure])
    item = json.loads((tmp_path / "out" / "series_2021-04-04_2021-06-07.json").read_text())
    assert len(item["properties"]["geoseg:run"]["settings"]["inputs"]) == 15
    again = geoseg("predict", "--again", tmp_path / "out" / "series_2021-04-04_2021-06-07.json", "-o", tmp_path / "again")
    assert "the same as the first map" in again.err, again.err


def test_where_too_few_periods_are_clear_the_reason_layer_says_cloud(tmp_path, geoseg):
    scl = np.full((20, 20), CLEAR)
    scl[:10] = CLOUD
    strict = Calendar(periods=(4, 5, 6), min_clear_share=1)
    mean_ndvi_package(tmp_path / "spring", strict)
    ran = geoseg("predict", *spring(tmp_path, scl=scl), "--series", "--model", tmp_path / "spring", "-o", tmp_path / "out")
    assert ran.code == 0, ran.err
    with rasterio.open(next((tmp_path / "out").glob("*_reason.tif"))) as file:
        reason = file.read(1)
    assert (reason[:20] == Reason.CLOUD).all()
    assert (reason[20:] == Reason.OBSERVED).all()


def test_a_period_without_a_scene_is_flagged_and_told(tmp_path, geoseg):
    mean_ndvi_package(tmp_path / "spring")
    paths = [path for path in spring(tmp_path) if "202105" not in path.name]
    ran = geoseg("predict", *paths, "--series", "--model", tmp_path / "spring", "-o", tmp_path / "out")
    assert ran.code == 0, ran.err
    assert "1 of 3 periods from 2021-04-01 to 2021-06-30 have no scene and are flagged as missing: 05" in ran.out


def test_dates_may_be_named(tmp_path):
    from geoseg.stacks.series import open_dates

    paths = [level_2a(tmp_path, f"2020010{at}") for at in (1, 2, 3)]
    scene = open_dates(paths, SPRING, dates=["2021-04-01", "2021-05-01", "2021-06-01"])
    assert scene.name == "series_2021-04-01_2021-06-01"


def test_terrain_is_the_same_in_all_periods(tmp_path):
    paths = spring(tmp_path)
    with rasterio.open(next(paths[0].rglob("*B04*"))) as like:
        profile = like.profile | {"dtype": "float32", "nodata": None}
    with rasterio.open(tmp_path / "height.tif", "w", **profile) as file:
        file.write(np.full((1, 40, 40), 300, np.float32))
        file.set_band_description(1, "height")
    files = [[*sorted(path.rglob("*.tif")), tmp_path / "height.tif"] for path in paths]
    scene = open_series([open_scene(source) for source in files], SPRING)
    assert scene.roles[-1] == "height"
    assert one_date(scene).roles == ("red", "nir", "height")
    plain = Preparation(
        bands=(BandNeed(role="red", unit="reflectance"), BandNeed(role="height", unit="m")),
        channels=(Channel(name="red"), Channel(name="height")),
    )
    made = series_preparation(scene, SPRING, plain)
    assert [need.role for need in made.bands] == ["height", "red@04", "red@05", "red@06"]
    assert (prepare(read_scene(scene, [need.role for need in made.bands], scene.geobox()), made).values[0] == 300).all()


# Refused


def refused(geoseg, tmp_path, paths, calendar=SPRING) -> str:
    if not (tmp_path / "spring").exists():
        mean_ndvi_package(tmp_path / "spring", calendar)
    before = contents(tmp_path)
    ran = geoseg("predict", *paths, "--series", "--model", tmp_path / "spring", "-o", tmp_path / "out")
    assert ran.code == 2
    assert contents(tmp_path) == before
    return ran.sentence


def test_a_shifted_season_is_refused_or_warned_of_with_the_days(tmp_path, geoseg):
    autumn = [level_2a(tmp_path, day) for day in ("20210904", "20211003")]
    assert "none of the 2 scenes (2021-09-04, 2021-10-03) lies in the model's calendar (04-01…04-30" in refused(geoseg, tmp_path, autumn)
    assert opened([*spring(tmp_path), *autumn]).warnings == (
        "2 of 7 scenes lie outside the model's calendar and are left out: 2021-09-04, 2021-10-03",
    )


def test_too_few_dates_are_refused_with_the_figures(tmp_path, geoseg):
    sentence = refused(geoseg, tmp_path, spring(tmp_path)[:2])
    assert "1 of 3 periods from 2021-04-01 to 2021-06-30 have a scene (05, 06 have none; scenes: 2021-04-04, 2021-04-20)" in sentence
    assert "the model needs 60% of them and no gap over 1" in sentence


def test_dates_that_are_all_under_cloud_are_refused_with_the_figures(tmp_path, geoseg):
    paths = [level_2a(tmp_path, f"20210{month}10", scl=CLOUD if month > 4 else CLEAR) for month in (4, 5, 6)]
    assert "0% of the ground looked at is clear in enough periods (clear in 04 100%, 05 0%, 06 0%)" in refused(geoseg, tmp_path, paths)


def test_little_clear_ground_is_warned_of(tmp_path):
    scl = np.full((20, 20), CLEAR)
    scl[:, :14] = CLOUD
    paths = [level_2a(tmp_path, f"20210{month}10", scl=scl if month > 4 else CLEAR) for month in (4, 5, 6)]
    assert "only 30% of the ground looked at is clear in enough periods" in opened(paths).warnings[0]


def test_the_year_is_the_one_with_most_periods(tmp_path):
    days = ("20200410", "20210410", "20210510", "20210610", "20220610")
    scene = opened([level_2a(tmp_path, day) for day in days])
    assert scene.name == "series_2021-04-10_2021-06-10"
    assert "2 of 5 scenes lie outside the model's calendar and are left out: 2020-04-10, 2022-06-10" in scene.warnings[0]


def test_series_and_single_dates_are_not_confused(tmp_path, geoseg):
    mean_ndvi_package(tmp_path / "spring")
    paths = spring(tmp_path)
    single = geoseg("predict", paths[0], "--model", tmp_path / "spring", "-o", tmp_path / "out")
    assert single.code == 2
    assert "makes one map from a series of dates (04-01…04-30, 05-01…05-31, 06-01…06-30); give them all with --series" in single.sentence
    per_pixel_package(tmp_path / "plain", ("red",), [[0], [1]])
    series = geoseg("predict", *paths, "--series", "--model", tmp_path / "plain", "-o", tmp_path / "out")
    assert "maps each date by itself; leave --series out" in series.sentence
    dates = geoseg("predict", paths[0], "--dates", "2021-05-01", "--model", tmp_path / "plain", "-o", tmp_path / "out")
    assert "--dates was given without --series" in dates.sentence
    with pytest.raises(BandError, match="give them all with --series"):
        check_bands(ModelPackage.open(tmp_path / "spring"), open_scene(paths[0]))


def test_each_date_is_a_map_of_its_own_without_series(tmp_path, geoseg):
    paths = spring(tmp_path)[:2]
    package = per_pixel_package(
        tmp_path / "plain",
        ("red",),
        [[0], [1]],
        preparation=Preparation(bands=(BandNeed(role="red", unit="reflectance"),), channels=(Channel(name="red"),)),
    )
    assert geoseg("predict", *paths, "--model", package.path, "-o", tmp_path / "out").code == 0
    assert len(list((tmp_path / "out").glob("*_classes.tif"))) == 2
