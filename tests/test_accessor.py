"""`array.geoseg`: the same pixels as from files, lazily too, from arrays as others open them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import rioxarray
import xarray
from affine import Affine
from odc.geo.geobox import GeoBox
from packages import neighbourhood_package, per_pixel_package
from scene_files import write
from shapely.geometry import box

import geoseg
from geoseg.errors import BandError, GeosegError, InputError, SceneError
from geoseg.legend import Legend
from geoseg.mapping.plan import MapOptions
from geoseg.models.package import ModelPackage

WORDS = {"sensor": "generic"}
LEGEND = Legend.from_names(["dry land", "water"])


@pytest.fixture
def scene(place: Path) -> Path:
    """Noise with holes, 300 x 260 pixels of two bands, and two packages: of single pixels, and of a pixel's neighbourhood."""
    generator = np.random.default_rng(4)
    values = generator.normal(0, 1, (2, 300, 260)).astype(np.float32)
    values[:, 40:60, 30:80] = np.nan
    per_pixel_package(place / "pixel", ["red", "nir"], [[1.0, -1.0], [-1.0, 1.0]], legend=LEGEND)
    return write(place / "scene.tif", values, names=["red", "nir"], nodata=np.nan)


def opened(path: Path, **words: object) -> xarray.DataArray:
    array = rioxarray.open_rasterio(path, **words)
    return array.assign_coords(band=["red", "nir"]).assign_attrs(mission="made up")


def by_command(geoseg_command, path: Path, model: Path, name: str) -> np.ndarray:
    assert geoseg_command("predict", path, *("--sensor", "generic"), "--model", model, "--scores", "-o", path.parent / name).code == 0
    with rasterio.open(path.parent / name / "scene_classes.tif") as file:
        return file.read(1)


def test_an_array_is_mapped_as_its_file_and_stays_where_it_was(scene: Path, geoseg) -> None:
    theirs = by_command(geoseg, scene, scene.parent / "pixel", "map")
    array = opened(scene)
    ours = array.geoseg.predict(scene.parent / "pixel", **WORDS)
    np.testing.assert_array_equal(ours.values, theirs)
    assert ours.dims == ("y", "x")
    assert ours.geoseg.classes.names == ("dry land", "water")
    assert ours.attrs["mission"] == "made up"
    assert ours.rio.crs == array.rio.crs
    assert ours.rio.transform() == array.rio.transform()
    np.testing.assert_array_equal(ours.x, array.x)


@pytest.mark.parametrize("chunks", [{"y": 70, "x": 100}, {"band": 1, "y": -1, "x": 50}, {"y": 13}])
def test_lazy_arrays_are_mapped_to_the_same_pixels_when_they_are_asked_for(
    place: Path, geoseg, monkeypatch, chunks: dict[str, int]
) -> None:
    pytest.importorskip("dask.array")
    monkeypatch.setattr("geoseg.mapping.in_memory._ROWS", 64)
    values = np.random.default_rng(1).integers(0, 200, (1, 400, 300)).astype(np.uint8)
    values[:, 100:130, 50:90] = 0
    path = write(place / "scene.tif", values, names=["red"], nodata=0)
    neighbourhood_package(place / "around", 5, tile=64, overlap=16)
    theirs = by_command(geoseg, path, place / "around", "map")
    array = rioxarray.open_rasterio(path).assign_coords(band=["red"]).chunk(chunks)
    lazy = array.geoseg.predict(place / "around", scores=True, **WORDS)
    assert lazy.classes.chunks is not None
    assert (len(lazy.classes.chunks[0]) > 3) == (chunks["y"] > 0)
    np.testing.assert_array_equal(lazy.classes.values, theirs)
    with rasterio.open(place / "map" / "scene_scores.tif") as file:
        stored = file.read().astype(np.float32)
    np.testing.assert_allclose(lazy.scores.values, np.where(stored == 255, np.nan, stored / 250), atol=1e-7)
    np.testing.assert_array_equal(array[:, :, 7:190].geoseg.predict(place / "around", **WORDS).shape, (400, 183))


def test_dates_are_mapped_one_by_one(scene: Path) -> None:
    array = opened(scene)
    stack = xarray.concat([array, -array], dim="time").assign_coords(time=np.array(["2026-05-01", "2026-06-01"], "datetime64[ns]"))
    mapped = stack.geoseg.predict(scene.parent / "pixel", **WORDS)
    assert mapped.dims == ("time", "y", "x")
    assert list(mapped.time.values) == list(stack.time.values)
    np.testing.assert_array_equal(mapped[1], (-array).geoseg.predict(scene.parent / "pixel", **WORDS))
    assert (mapped[0].values != mapped[1].values).mean() > 0.9


def test_odcs_data_sets_of_dates_are_mapped_where_they_lie(scene: Path) -> None:
    truth = opened(scene).geoseg.predict(scene.parent / "pixel", **WORDS)
    grid = GeoBox((300, 260), Affine(10, 0, 500_000, 0, -10, 4_800_000), "EPSG:32630")
    pytest.importorskip("dask", reason="odc-geo's arrays ask for dask")
    from odc.geo.xr import wrap_xr

    days = ["2026-05-01", "2026-06-01"]
    with rasterio.open(scene) as file:
        planes = dict(zip(("red", "nir"), file.read(), strict=True))
    loaded = xarray.Dataset({role: wrap_xr(np.stack([plane, -plane]), grid, time=days, nodata=np.nan) for role, plane in planes.items()})
    for stack in (loaded, loaded.chunk({"time": 1, "y": 90})):
        mapped = stack.geoseg.predict(scene.parent / "pixel", **WORDS)
        np.testing.assert_array_equal(mapped[0], truth)
        assert mapped.odc.geobox == grid
        assert mapped.geoseg.classes.names == LEGEND.names


def test_stackstacs_corners_and_stac_codes_are_understood(scene: Path) -> None:
    array = opened(scene)
    truth = array.geoseg.predict(scene.parent / "pixel", **WORDS)
    corners = array.drop_vars("spatial_ref").assign_coords(x=array.x - 5, y=array.y + 5)
    corners = corners.assign_coords({"proj:epsg": 32630}).assign_attrs(transform=Affine(10, 0, 500_000, 0, -10, 4_800_000), resolution=10)
    for rows in (slice(None), slice(17, None)):
        part = corners[:, rows]
        mapped = part.geoseg.predict(scene.parent / "pixel", **WORDS)
        np.testing.assert_array_equal(mapped, truth[rows])
        assert mapped.rio.crs.to_epsg() == 32630
        polygons = mapped.geoseg.polygons()
        assert polygons.total_bounds[[0, 3]].tolist() == [500_000, 4_800_000 - 10 * (rows.start or 0)]
    coded = corners.drop_vars("proj:epsg").assign_coords({"proj:code": ("band", ["EPSG:32630"] * 2)})
    np.testing.assert_array_equal(coded.geoseg.predict(scene.parent / "pixel", **WORDS), truth)


def test_polygons_are_those_of_the_map_and_small_ones_go(scene: Path) -> None:
    mapped = opened(scene).geoseg.predict(scene.parent / "pixel", **WORDS)
    polygons = mapped.geoseg.polygons()
    assert polygons.area_m2.sum() == pytest.approx(100 * (300 * 260 - 20 * 50), rel=0.01)
    large = mapped.geoseg.polygons(min_area_m2=50_000)
    assert len(large) < len(polygons)
    assert large.area_m2.min() >= 50_000
    assert set(polygons.class_name) == {"dry land", "water"}


def test_what_has_no_class_stays_without_in_fractions_too(scene: Path) -> None:
    mapped = opened(scene).geoseg.predict(scene.parent / "pixel", **WORDS)
    masked = mapped.where(mapped != LEGEND.nodata)  # NaN, as xarray decodes NetCDF
    assert masked.dtype.kind == "f"
    assert masked.geoseg.polygons().equals(mapped.geoseg.polygons())
    assert masked.geoseg.evaluate(mapped).total == mapped.geoseg.evaluate(mapped).total == 300 * 260 - 20 * 50


def test_a_class_map_opened_as_a_file_knows_its_names(scene: Path) -> None:
    made = geoseg.predict(scene, scene.parent / "pixel", scene.parent / "map", **WORDS)
    plain = rioxarray.open_rasterio(made.files["classes"])
    assert plain.geoseg.classes.names == LEGEND.names
    assert plain.geoseg.polygons().equals(made.to_xarray().geoseg.polygons())


@pytest.mark.parametrize("lazy", [False, True])
def test_an_index_is_that_of_the_bands_and_nan_without_data(scene: Path, lazy: bool) -> None:
    array = (opened(scene) + 5).assign_attrs(mission="made up")
    if lazy:
        pytest.importorskip("dask.array")
        array = array.chunk({"band": 1, "y": 100})
    found = array.geoseg.index("ndvi", **WORDS)
    red, nir = array.values
    np.testing.assert_allclose(found.values, (nir - red) / (nir + red), rtol=1e-5)
    assert (found.name, found.chunks is not None, found.attrs["mission"]) == ("NDVI", lazy, "made up")
    with pytest.raises(BandError, match="green"):
        array.geoseg.index("ndwi", **WORDS)


def test_valid_is_where_there_is_data(scene: Path) -> None:
    array = opened(scene)
    assert int((~array.geoseg.valid).sum()) == 2 * 20 * 50
    whole = array.fillna(0).astype("int16").assign_attrs(_FillValue=0)
    np.testing.assert_array_equal(whole.geoseg.valid, whole != 0)


def test_figures_against_arrays_and_files(scene: Path) -> None:
    mapped = opened(scene).geoseg.predict(scene.parent / "pixel", **WORDS)
    assert mapped.geoseg.evaluate(mapped).accuracy == 1
    other = mapped.where(mapped != 1, 7).assign_attrs(mapped.attrs | {"flag_values": [0, 7]})
    assert mapped.geoseg.evaluate(other).accuracy == 1, "names go before codes"
    frame = geopandas.GeoDataFrame({"class": ["water"]}, geometry=[box(500_000, 4_799_000, 501_000, 4_800_000)], crs="EPSG:32630")
    frame.to_file(scene.parent / "labels.gpkg")
    confusion = mapped.geoseg.evaluate(scene.parent / "labels.gpkg")
    here = mapped.values[:100, :100]
    assert confusion.counts.tolist() == [[0, 0], [int((here == 0).sum()), int((here == 1).sum())]]
    with pytest.raises(InputError, match="reproject_match"):
        mapped.geoseg.evaluate(mapped[5:])


def test_pictures_are_drawn_of_scenes_and_maps(scene: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    array = opened(scene)
    mapped = array.geoseg.predict(scene.parent / "pixel", **WORDS)
    ax = mapped.geoseg.plot()
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["dry land", "water"]
    drawn = ax.images[0].get_array()
    assert tuple(drawn[0, 0]) == (*LEGEND.classes[int(mapped[0, 0])].rgb, 255)
    assert drawn[45, 40, 3] == 0
    assert ax.images[0].get_extent() == [500_000, 502_600, 4_797_000, 4_800_000]
    monkeypatch.setattr("geoseg.accessor._MOST_SHOWN", 100)
    assert array.geoseg.plot(roles=["nir"], **WORDS).images[0].get_array().shape == (100, 87, 4)
    matplotlib.pyplot.close("all")


def test_what_is_not_clear_is_asked_for(scene: Path) -> None:
    array, model = opened(scene), scene.parent / "pixel"
    nameless = array.assign_coords(band=[1, 2]).assign_attrs(long_name="what it measures")
    with pytest.raises(BandError, match=r"unclear.*bands"):
        nameless.geoseg.predict(model)
    named = nameless.geoseg.predict(model, bands=["red", "nir"], sensor="generic")
    np.testing.assert_array_equal(named, opened(scene).geoseg.predict(model, **WORDS))
    with pytest.raises(InputError, match="has no legend"):
        _ = array.geoseg.classes
    with pytest.raises(InputError, match="min_area_m2 is for maps that are written"):
        opened(scene).geoseg.predict(model, options=MapOptions(min_area_m2=5), **WORDS)
    with pytest.raises(SceneError, match="no valid pixel"):
        (opened(scene) * np.nan).geoseg.predict(model, **WORDS)
    with pytest.raises(GeosegError, match="does not say where it lies"):
        xarray.DataArray(np.zeros((1, 5, 5)), dims=("band", "y", "x")).geoseg.predict(ModelPackage.open(model))


@pytest.mark.parametrize(
    "order",
    [
        "import xarray, geoseg",
        "import geoseg, xarray",
        "import geoseg; from xarray import Dataset; import xarray",
        "import geoseg, importlib.util; importlib.util.find_spec('xarray'); import xarray",
    ],
)
def test_arrays_have_it_whichever_is_imported_first(order: str) -> None:
    program = (
        f"import sys, json; {order}; light = 'geoseg.accessor' not in sys.modules and 'rasterio' not in sys.modules;"
        "print(json.dumps([light, hasattr(xarray.DataArray(0), 'geoseg'), hasattr(xarray.Dataset(), 'geoseg')]))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [True, True, True]


def test_importing_geoseg_does_not_import_xarray() -> None:
    subprocess.run([sys.executable, "-c", "import geoseg, sys; assert 'xarray' not in sys.modules"], check=True)
