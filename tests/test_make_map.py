"""A map is right whatever the scene's size and the tiles: laws of the whole way from scene to files."""

from __future__ import annotations

import json
import weakref
from pathlib import Path

import geopandas
import numpy as np
import packages
import pytest
import rasterio
from affine import Affine
from geopandas import GeoDataFrame
from rasterio.features import rasterize
from rio_cogeo.cogeo import cog_validate
from shapely.geometry import box

from geoseg.errors import GeosegError, InputError, PackageError
from geoseg.mapping import make_map as module
from geoseg.mapping import windows
from geoseg.mapping.make_map import MapOptions, make_map
from geoseg.mapping.plan import plan_map
from geoseg.mapping.rows import finished_strips
from geoseg.mapping.windows import Area
from geoseg.preprocess.quality import Reason
from geoseg.runtimes.open_runtime import open_runtime
from geoseg.scenes.open_scene import open_scene

UTM = Affine(10, 0, 500_000, 0, -10, 5_000_000)


def write(path, values, *, nodata=None, crs="EPSG:32632", transform=UTM, roles=None):
    profile = {"driver": "GTiff", "count": len(values), "height": values.shape[1], "width": values.shape[2], "dtype": values.dtype}
    with rasterio.open(path, "w", crs=crs, transform=transform, nodata=nodata, **profile) as file:
        file.write(values)
        for band, role in enumerate(roles or ("red", "nir")[: len(values)], 1):
            file.set_band_description(band, role)


def write_scene(path, values, **profile):
    write(path, values, **profile)
    return open_scene(path, sensor="generic")


def noise(shape, bands=1, seed=0, dtype=np.uint8, top=200):
    return np.random.default_rng(seed).integers(0, top, (bands, *shape)).astype(dtype)


def scores_of(scene, package, **options):
    plan = plan_map(scene, package, MapOptions(**options))
    scores = np.full((package.outputs[0].planes, *plan.geobox.shape), np.nan, np.float32)
    reason = np.zeros(plan.geobox.shape, np.uint8)
    for one in finished_strips(plan, open_runtime(package), Area()):
        scores[:, one.strip.rows, one.strip.panel.cols] = one.scores["classes"]
        reason[one.strip.rows, one.strip.panel.cols] = one.reason
    return scores, reason


@pytest.mark.parametrize("shape", [(1, 1), (1, 131), (127, 1), (31, 37), (64, 64), (101, 211)])
def test_a_constant_model_gives_a_constant_map(tmp_path, shape):
    package = packages.constant_package(tmp_path / "model", ["red"], 1, 3)
    scores, _ = scores_of(write_scene(tmp_path / "s.tif", noise(shape)), package)
    np.testing.assert_allclose(scores, np.broadcast_to([[[0.125]], [[0.75]], [[0.125]]], (3, *shape)), atol=1e-6)


@pytest.mark.parametrize(("tile", "overlap", "batch"), [(64, 0, 1), (64, 16, 3), (64, 48, 2), (96, 32, 1), (256, 64, 5)])
def test_a_per_pixel_models_scores_do_not_depend_on_tiles(tmp_path, tile, overlap, batch):
    scene = write_scene(tmp_path / "s.tif", noise((157, 203), 2))
    weights, whole = [[0.02, -0.03], [-0.01, 0.02]], {"tile": 256, "overlap": 0}
    package = packages.per_pixel_package(tmp_path / "model", ["red", "nir"], weights, tile=tile, overlap=overlap)
    reference = packages.per_pixel_package(tmp_path / "whole", ["red", "nir"], weights, **whole)
    (scores, _), (expected, _) = scores_of(scene, package, batch=batch), scores_of(scene, reference)
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    logits = np.tensordot(np.array(weights), rasterio.open(tmp_path / "s.tif").read().astype(float), 1)
    np.testing.assert_allclose(expected, np.exp(logits) / np.exp(logits).sum(axis=0), atol=1e-5)


def test_two_windows_are_held_at_a_time(tmp_path, monkeypatch):
    """One is in use while the next is read; an empty view of a third would be enough to keep it."""
    made, most = [], 0

    def counted(*words, original=windows._empty_window):
        nonlocal most
        window = original(*words)
        made.append(weakref.ref(window.values))
        most = max(most, sum(one() is not None for one in made))
        return window

    monkeypatch.setattr(windows, "_empty_window", counted)
    scene = write_scene(tmp_path / "scene.tif", noise((640, 100)))
    scores_of(scene, packages.per_pixel_package(tmp_path / "model", ["red"], [[0.01], [-0.01]], tile=64, overlap=16))
    assert len(made) == 13
    assert most == 2


def test_gdals_cache_is_small_to_the_end(tmp_path, monkeypatch):
    """Without a word GDAL takes a twentieth of the machine's memory, and areas and outlines read the whole map."""
    caches = []

    def noted(*words, original=module._finish):
        caches.append(rasterio.env.getenv()["GDAL_CACHEMAX"])
        return original(*words)

    monkeypatch.setattr(module, "_finish", noted)
    make_map(write_scene(tmp_path / "s.tif", noise((40, 50))), packages.threshold_package(tmp_path / "model"), tmp_path / "out")
    assert caches == [32 * 1024**2]


@pytest.mark.parametrize(("tile", "overlap"), [(64, 0), (64, 20), (32, 16)])
def test_an_integer_valued_models_classes_are_exactly_those_of_the_pixels(tmp_path, tile, overlap):
    values = noise((97, 131))
    package = packages.threshold_package(tmp_path / "model", threshold=100, tile=tile, overlap=overlap)
    made = make_map(write_scene(tmp_path / "s.tif", values), package, tmp_path / "out")
    with rasterio.open(made.files["classes"]) as file:
        np.testing.assert_array_equal(file.read(1), values[0] > 100)


def test_pixels_without_data_get_no_class_and_a_reason(tmp_path):
    values = noise((50, 60), top=200)
    values[0, 10:20, 30:50] = 255
    package = packages.threshold_package(tmp_path / "model")
    made = make_map(write_scene(tmp_path / "s.tif", values, nodata=255), package, tmp_path / "out")
    with rasterio.open(made.files["classes"]) as file, rasterio.open(made.files["reason"]) as reason:
        np.testing.assert_array_equal(file.read_masks(1) == 0, values[0] == 255)
        np.testing.assert_array_equal(reason.read(1), np.where(values[0] == 255, Reason.NO_DATA, Reason.OBSERVED))
    assert made.summary["observed_share"] == pytest.approx(1 - 200 / 3000, abs=1e-6)


def test_a_nan_changes_nothing_outside_the_models_receptive_field(tmp_path):
    clean = noise((90, 90), dtype=np.float32) / 200
    holed = clean.copy()
    holed[0, 40, 50] = np.nan
    package = packages.neighbourhood_package(tmp_path / "model", 3, overlap=16)
    (before, _), (after, _) = (scores_of(write_scene(tmp_path / f"{i}.tif", v), package) for i, v in enumerate((clean, holed)))
    changed = np.abs(before - after).max(axis=0) > 0
    rows, cols = np.nonzero(changed)
    assert changed.any()
    assert (rows.min(), rows.max(), cols.min(), cols.max()) == (37, 43, 47, 53)


def test_an_area_of_interest_selects_pixels_and_does_not_move_tiles(tmp_path):
    scene = write_scene(tmp_path / "s.tif", noise((150, 170)))
    package = packages.neighbourhood_package(tmp_path / "model", 5, overlap=32)
    area = box(500_400, 4_998_700, 501_300, 4_999_300)
    GeoDataFrame(geometry=[area], crs="EPSG:32632").to_crs("EPSG:4326").to_file(tmp_path / "aoi.gpkg")
    hole = box(500_500, 4_998_900, 500_600, 4_999_000)
    GeoDataFrame(geometry=[hole], crs="EPSG:32632").to_file(tmp_path / "hole.geojson")
    everywhere = make_map(scene, package, tmp_path / "all")
    inside = make_map(
        scene, package, tmp_path / "part", options=MapOptions(aoi=str(tmp_path / "aoi.gpkg"), exclude=str(tmp_path / "hole.geojson"))
    )
    wanted = rasterize([(area, 1), (hole, 0)], (150, 170), transform=UTM).astype(bool)
    with rasterio.open(everywhere.files["classes"]) as one, rasterio.open(inside.files["classes"]) as other:
        np.testing.assert_array_equal(other.read(1), np.where(wanted, one.read(1), 255))
    with rasterio.open(inside.files["reason"]) as reason:
        np.testing.assert_array_equal(reason.read(1) == Reason.OUTSIDE_AREA, ~wanted)


def test_cloud_is_masked_and_grown_in_metres(tmp_path):
    folder = tmp_path / "S2_L2A"
    folder.mkdir()
    scl = np.full((40, 40), 5, np.uint8)
    scl[20, 20] = 9
    scl[5, 5] = 11  # snow is ground
    write(
        folder / "T32TMT_20240501T101559_B04_20m.tif",
        noise((40, 40), dtype=np.uint16) + np.uint16(1100),
        transform=UTM @ Affine.scale(2),
        roles=["B04"],
    )
    write(folder / "T32TMT_20240501T101559_SCL_20m.tif", scl[None], transform=UTM @ Affine.scale(2), roles=["SCL"])
    scene = open_scene(folder, sensor="sentinel-2-l2a")
    package = packages.constant_package(
        tmp_path / "model", ["red"], 0, 2, preparation=packages.preparation_for(["red"], unit="reflectance"), pixel_size_m=20
    )
    made = make_map(scene, package, tmp_path / "out", options=MapOptions(mask_grow_m=41))
    with rasterio.open(made.files["reason"]) as file:
        cloud = file.read(1) == Reason.CLOUD
    row, col = np.mgrid[:40, :40]
    np.testing.assert_array_equal(cloud, np.hypot(row - 20, col - 20) <= 2)


def test_three_outputs_become_a_raster_each(tmp_path):
    values = np.stack([np.full((40, 50), 2.0), np.full((40, 50), -1.0)]).astype(np.float32)
    preparation = packages.preparation_for(["hh", "hv"]).model_copy(
        update={"bands": tuple(b.model_copy(update={"convention": None}) for b in packages.preparation_for(["hh", "hv"]).bands)}
    )
    package = packages.ice_chart_package(tmp_path / "model", preparation=preparation)
    write(tmp_path / "ice.tif", values, roles=("hh", "hv"))
    made = make_map(
        open_scene(tmp_path / "ice.tif", sensor="generic", unit="dB"), package, tmp_path / "out", options=MapOptions(scores=True)
    )
    with rasterio.open(made.files["concentration"]) as file:
        np.testing.assert_allclose(file.read(1), 70, atol=1e-3)
    for name, codes in (("stage", {0, 1, 2, 3, 4, 5}), ("floe", {22, 30, 31, 32})):
        with rasterio.open(made.files[name]) as file:
            assert set(np.unique(file.read(1))) <= codes
        assert len(geopandas.read_file(made.files[f"{name}_polygons"], layer="polygons")) == 1
        assert made.files[f"{name}_scores"].is_file()


@pytest.mark.parametrize(("legend", "dtype"), [(packages.WORLDCOVER, "uint8"), (packages.CORINE, "uint16")])
def test_codes_come_back_as_the_legend_says(tmp_path, legend, dtype):
    package = packages.constant_package(tmp_path / "model", ["red"], 3, len(legend), legend=legend)
    made = make_map(write_scene(tmp_path / "s.tif", noise((30, 30))), package, tmp_path / "out")
    with rasterio.open(made.files["classes"]) as file:
        assert (file.dtypes[0], set(np.unique(file.read(1))), file.nodata) == (dtype, {legend.codes[3]}, legend.nodata)
        assert file.colormap(1)[legend.codes[3]] == (*legend.classes[3].rgb, 255)
    polygons = geopandas.read_file(made.files["classes_polygons"], layer="polygons")
    assert polygons[["class_code", "class_name"]].values.tolist() == [[legend.codes[3], legend.names[3]]]


def test_rasters_are_valid_cogs_and_the_polygons_equal_them(tmp_path):
    values = np.kron(noise((60, 70)), np.ones((1, 10, 10), np.uint8))
    package = packages.threshold_package(tmp_path / "model", tile=256, overlap=32)
    made = make_map(write_scene(tmp_path / "s.tif", values), package, tmp_path / "out", options=MapOptions(scores=True))
    for name in ("classes", "reason", "classes_scores", "image"):
        assert cog_validate(made.files[name])[:2] == (True, []), name
    polygons = geopandas.read_file(made.files["classes_polygons"], layer="polygons")
    with rasterio.open(made.files["classes"]) as file:
        again = rasterize(
            zip(polygons.geometry, polygons.class_code, strict=True), file.shape, transform=file.transform, fill=255, dtype="uint8"
        )
        np.testing.assert_array_equal(again, file.read(1))
    raster = sum(one["area_km2"] for one in made.summary["classes"]["classes"])
    assert polygons.area_m2.sum() / 1e6 == pytest.approx(raster, rel=1e-3)
    np.testing.assert_allclose(polygons.mean_score, 1, atol=1e-6)


def test_a_sieved_map_and_its_polygons_agree(tmp_path):
    values = noise((80, 90))
    options = MapOptions(min_area_m2=1500)
    package = packages.threshold_package(tmp_path / "model")
    made = make_map(write_scene(tmp_path / "s.tif", values), package, tmp_path / "out", options=options)
    polygons = geopandas.read_file(made.files["classes_polygons"], layer="polygons")
    assert polygons.area_m2.min() >= 1500 * (1 - 1e-6)
    with rasterio.open(made.files["classes"]) as file:
        again = rasterize(
            zip(polygons.geometry, polygons.class_code, strict=True), file.shape, transform=file.transform, fill=255, dtype="uint8"
        )
        np.testing.assert_array_equal(again, file.read(1))
        assert (file.read(1) != (values[0] > 100)).any()


def test_a_finer_scene_is_averaged_and_said_so(tmp_path):
    scene = write_scene(tmp_path / "s.tif", noise((64, 96)), transform=UTM @ Affine.scale(0.25))
    package = packages.threshold_package(tmp_path / "model")
    made = make_map(scene, package, tmp_path / "out")
    expected = rasterio.open(tmp_path / "s.tif").read(1).reshape(16, 4, 24, 4).mean(axis=(1, 3)) > 100
    with rasterio.open(made.files["classes"]) as file:
        np.testing.assert_array_equal(file.read(1), expected)
    assert any("averaged" in text for text in made.warnings)


def test_a_coarser_scene_is_refused(tmp_path):
    scene = write_scene(tmp_path / "s.tif", noise((20, 20)), transform=UTM @ Affine.scale(6))
    with pytest.raises(PackageError, match="60"):
        make_map(scene, packages.threshold_package(tmp_path / "model"), tmp_path / "out", options=MapOptions(resolution=10))
    assert not (tmp_path / "out").exists()


def test_the_maps_grid_is_the_one_asked_for(tmp_path):
    scene = write_scene(tmp_path / "s.tif", np.full((1, 60, 70), 150, np.uint8))
    package = packages.threshold_package(tmp_path / "model")
    other = Affine(10, 0, 500_105, 0, -10, 4_999_905)
    write(tmp_path / "like.tif", noise((33, 44)), transform=other)
    like = make_map(scene, package, tmp_path / "like", options=MapOptions(like=str(tmp_path / "like.tif")))
    coarse = make_map(scene, package, tmp_path / "coarse", options=MapOptions(resolution=20))
    moved = make_map(scene, package, tmp_path / "moved", options=MapOptions(crs="EPSG:3035"))
    with rasterio.open(like.files["classes"]) as file:
        assert (file.shape, file.transform) == ((33, 44), other)
    with rasterio.open(coarse.files["classes"]) as file:
        assert (file.shape, file.res, file.transform.c, file.transform.f) == ((30, 35), (20, 20), UTM.c, UTM.f)
    with rasterio.open(moved.files["classes"]) as file, rasterio.open(moved.files["reason"]) as reason:
        assert file.crs.to_epsg() == 3035
        assert {Reason.OUTSIDE, Reason.OBSERVED} <= set(np.unique(reason.read(1)))
    areas = [sum(one["area_km2"] for one in made.summary["classes"]["classes"]) for made in (coarse, moved)]
    assert areas[1] == pytest.approx(areas[0], rel=0.02)


def test_results_are_not_replaced_unless_asked(tmp_path):
    scene, package = write_scene(tmp_path / "s.tif", noise((20, 20))), packages.threshold_package(tmp_path / "model")
    make_map(scene, package, tmp_path / "out")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir() if path.suffix != ".json"}
    with pytest.raises(GeosegError, match="--overwrite") as caught:
        make_map(scene, package, tmp_path / "out")
    assert caught.value.exit_code == 2
    make_map(scene, package, tmp_path / "out", overwrite=True)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir() if path.suffix != ".json"} == before


def test_an_error_half_way_leaves_no_results(tmp_path):
    path = tmp_path / "s.tif"
    with rasterio.open(path, "w", driver="GTiff", count=1, height=300, width=300, dtype="uint8", crs="EPSG:32632", transform=UTM,
                       tiled=True, blockxsize=64, blockysize=64, compress="deflate") as file:  # fmt: skip
        file.write(noise((300, 300)))
        file.set_band_description(1, "red")
    scene = open_scene(path, sensor="generic")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(GeosegError, match=r"s\.tif"):
        make_map(scene, packages.threshold_package(tmp_path / "model"), tmp_path / "out")
    assert not [path for path in (tmp_path / "out").glob("*") if path.name != ".s.geoseg"]


def test_the_item_tells_how_the_map_was_made(tmp_path):
    scene, package = write_scene(tmp_path / "s.tif", noise((20, 20))), packages.threshold_package(tmp_path / "model")
    made = make_map(scene, package, tmp_path / "out", options=MapOptions(min_area_m2=500), opened_with={"sensor": "generic"})
    item = json.loads(made.files["item"].read_text(encoding="utf-8"))
    run = item["properties"]["geoseg:run"]
    assert run["command"][:3] == ["geoseg", "predict", str(tmp_path / "s.tif")]
    assert "--min-area-m2" in run["command"]
    assert item["properties"]["geoseg:model"]["checksum"] == package.checksum
    assert {Path(asset["href"]).name for asset in item["assets"].values()} | {"s.json"} >= {path.name for path in made.files.values()}


def test_nonsense_options_are_refused():
    for wrong in (
        {"min_area_m2": -1},
        {"simplify_m": float("nan")},
        {"batch": 0},
        {"resolution": 0},
        {"like": "x.tif", "crs": "EPSG:4326"},
    ):
        with pytest.raises(InputError):
            MapOptions(**wrong)
