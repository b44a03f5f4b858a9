"""Sentinel-1 GRD as downloaded: calibrated, cut and placed as the annotation says."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pyproj
import pytest
import rasterio
from affine import Affine
from command_line import contents
from odc.geo.geobox import GeoBox
from packages import threshold_package
from rasterio.transform import GCPTransformer
from safe_files import Grd, Ground, measurement, write_safe
from scipy.interpolate import RegularGridInterpolator

from geoseg.errors import BandError, SceneError
from geoseg.preprocess.prepare import BandNeed, Channel, Preparation
from geoseg.radar.annotation import read_grd
from geoseg.radar.safe import find_safe
from geoseg.scene import read_scene
from geoseg.scenes.open_scene import open_scene

rng = np.random.default_rng(5)
BLOCKS = (
    (0, 40, 0, 49, (0, 15, 40), (1.2, 0.7, 1.0)),
    (41, 89, 0, 49, (41, 89), (0.8, 1.4)),
    (0, 89, 50, 109, (45,), (1.5,)),
)
"""Two swaths, the first in two parts."""
BUMPY = {line: rng.uniform(0.8, 1.2, 200) for line in range(200)}
"""Tables that no single plane describes."""
TRICKY = Grd(
    gain=lambda line, sample: 300 * BUMPY[line][sample.astype(int)],
    noise=lambda line, sample: 5000 * BUMPY[line][::-1][sample.astype(int)],
    blocks=BLOCKS,
)
TURNED = replace(TRICKY, ground=Ground(turned=-12.3, bend_m=1), spacing=20.0)


def table(grd, law, steps):
    """A table of the annotation at every line and sample, by scipy."""
    lines, samples = grd.points(steps)
    values = np.array([law(line, np.array(samples, dtype=float)) for line in lines])
    return RegularGridInterpolator((lines, samples), values)(tuple(np.indices(grd.shape)))


def sigma0(grd, polarisation, noise=True):
    """The definition, pixel by pixel, and where there is data."""
    numbers = grd.digital_numbers(polarisation).astype(float)
    floor = table(grd, grd.noise, (35, 45)) if noise else np.zeros(grd.shape)
    for top, bottom, left, right, at, factors in grd.blocks if noise else ():
        floor[top : bottom + 1, left : right + 1] *= np.interp(np.arange(top, bottom + 1), at, factors)[:, None]
    return np.maximum(numbers**2 - floor, 0) / table(grd, grd.gain, (30, 40)) ** 2, numbers > 0


def read_own(path, role="vv"):
    """The layer on the scene's own grid, which is the image's where it is not turned."""
    scene = open_scene(path)
    raster = read_scene(scene, [role], scene.geobox())
    return raster.values[0], raster.valid[0]


def around(scene, crs, resolution, pixels):
    """A grid of so many pixels each way around the scene's middle."""
    x, y = pyproj.Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(*centre(scene))
    half = resolution * pixels / 2
    return GeoBox((pixels, pixels), Affine(resolution, 0, x - half, 0, -resolution, y + half), crs)


def centre(scene):
    return scene.layer("incidence_angle").reader.grid.centre


# What a number means


@pytest.mark.parametrize("polarisation", ["vv", "vh"])
def test_backscatter_is_what_the_tables_say(tmp_path, polarisation):
    values, valid = read_own(write_safe(tmp_path, TRICKY), polarisation)
    expected, data = sigma0(TRICKY, polarisation)
    assert np.allclose(values, expected, rtol=1e-6, atol=1e-5)
    assert valid.all()
    assert data.all()
    assert not np.allclose(values, sigma0(TRICKY, polarisation, noise=False)[0], rtol=0.01)


def test_noise_of_old_processors_has_no_azimuth_part(tmp_path):
    old = replace(TRICKY, noise_layout="old", blocks=(), processor="002.72")
    values, _ = read_own(write_safe(tmp_path, old))
    assert np.allclose(values, sigma0(old, "vv")[0], rtol=1e-6, atol=1e-5)


def test_more_noise_than_signal_is_no_power_and_zero_is_no_data(tmp_path):
    numbers = np.full((90, 110), 200)
    numbers[40, 50], numbers[60, 70] = 20, 0
    grd = replace(TRICKY, numbers={"vv": numbers})
    values, valid = read_own(write_safe(tmp_path, grd))
    assert values[40, 50] < 1e-6
    assert valid[40, 50]
    assert valid.sum() == valid.size - 1
    assert not valid[60, 70]


def test_noise_is_subtracted_once_or_not_at_all_and_says_so(tmp_path):
    plain = sigma0(TRICKY, "vv", noise=False)[0]
    for name, grd, removed in (
        ("done", replace(TRICKY, noise_removed=True), True),
        ("none", replace(TRICKY, noise=None), False),
        ("units", replace(TRICKY, processor="002.36", noise_layout="old"), False),
    ):
        path = write_safe(tmp_path / name, grd)
        scene = open_scene(path)
        assert np.allclose(read_own(path)[0], plain, rtol=1e-6, atol=1e-5)
        assert scene.layer("vv").band.noise_removed is removed
        assert any("noise is not removed from VV and VH" in warning for warning in scene.warnings) is not removed
    assert open_scene(write_safe(tmp_path, TRICKY)).layer("vv").band.noise_removed is True


def test_layers_carry_their_meaning(tmp_path):
    scene = open_scene(write_safe(tmp_path, replace(TRICKY, orbit_pass="Ascending")))
    band = scene.layer("vh").band
    assert (band.unit, band.convention, band.gsd_m, scene.orbit_pass) == ("linear power", "sigma0", 10.0, "ascending")
    assert scene.roles == ("vv", "vh", "incidence_angle")
    assert scene.layer("incidence_angle").band.unit == "degree"
    assert scene.time.isoformat() == "2021-04-01T05:26:23+00:00"


def test_incidence_angle_is_interpolated_from_the_grid(tmp_path):
    grd = replace(TRICKY, incidence=lambda line, sample: 30 + 0.01 * line + (sample / 30) ** 2)
    values, valid = read_own(write_safe(tmp_path, grd), "incidence_angle")
    expected = table(grd, grd.incidence, grd.grid_steps)
    assert np.allclose(values, expected, rtol=1e-6, atol=1e-5)
    assert valid.all()


# The border


def test_faint_numbers_at_the_edges_are_cut_and_dark_ground_inside_is_kept(tmp_path):
    numbers = np.random.default_rng(1).integers(200, 900, (90, 110))
    faint = np.zeros(numbers.shape, dtype=bool)
    faint[:, :7], faint[:, -13:], faint[:2], faint[-9:, :60] = True, True, True, True
    numbers[faint] = np.random.default_rng(2).integers(0, 30, faint.sum())
    numbers[30:50, 40:70] = 20
    grd = replace(TRICKY, noise=lambda line, sample: 1600 + 0 * sample, blocks=(), numbers={"vv": numbers})
    valid = read_own(write_safe(tmp_path / "cut", grd))[1]
    assert np.array_equal(valid, ~faint)
    uncut, _ = read_own(write_safe(tmp_path / "uncut", replace(grd, noise=None)), "vv")
    assert (uncut[faint] > 0).mean() > 0.9


def test_the_border_of_one_polarisation_cuts_all(tmp_path):
    numbers = np.full((90, 110), 300)
    numbers[:, :12] = 5
    grd = replace(TRICKY, noise=lambda line, sample: 1600 + 0 * sample, blocks=(), numbers={"vv": numbers})
    valid = read_own(write_safe(tmp_path, grd), "vh")[1]
    assert not valid[:, :12].any()
    assert valid[:, 12:].all()


# Places


def test_places_agree_with_gdals_control_points(tmp_path):
    """GDAL counts an annotated sample from its corner, the annotation from its centre: half a pixel."""
    safe = write_safe(tmp_path, TURNED)
    with rasterio.open(measurement(safe, "vv")) as file, GCPTransformer(file.gcps[0], tps=True) as by_gdal:
        line, sample = rng.uniform(5, 84, 20), rng.uniform(5, 104, 20)
        lon, lat = by_gdal.xy(line, sample, offset="ul")
    grid = read_grd(find_safe(safe)).grid
    x, y = pyproj.Transformer.from_crs("EPSG:4326", grid.plane.crs.proj, always_xy=True).transform(lon, lat)
    col, row = ~grid.plane.affine @ (np.array(x), np.array(y))
    at_row, at_col = grid.from_plane(row, col)
    assert np.allclose(at_row, line + 0.5, atol=0.05)
    assert np.allclose(at_col, sample + 0.5, atol=0.05)


@pytest.mark.parametrize(
    ("crs", "resolution", "resampling"),
    [
        ("EPSG:32632", 20.0, "bilinear"),
        ("EPSG:3035", 57.0, "average"),
        ("EPSG:4326", 2e-4, "auto"),
        ("EPSG:4326", 2e-4, "nearest"),
        ("EPSG:32633", 900.0, "nearest"),
    ],
)
def test_a_window_equals_the_whole_bit_for_bit(tmp_path, crs, resolution, resampling):
    scene = open_scene(write_safe(tmp_path, TURNED))
    whole = around(scene, crs, resolution, 90)
    roles = ["vv", "incidence_angle"]
    all_of_it = read_scene(scene, roles, whole, resampling=resampling)
    for window in (np.s_[3:50, 17:81], np.s_[44:45, 44:46], np.s_[0:90, 60:90]):
        part = read_scene(scene, roles, whole[window], resampling=resampling)
        assert np.array_equal(part.values, all_of_it.values[(slice(None), *window)])
        assert np.array_equal(part.valid, all_of_it.valid[(slice(None), *window)])
    assert all_of_it.valid.any()


def test_power_is_interpolated_and_averaged_not_the_numbers(tmp_path):
    scene, (power, _) = open_scene(write_safe(tmp_path, TRICKY)), sigma0(TRICKY, "vv")
    fours = (power[:-1, :-1] + power[:-1, 1:] + power[1:, :-1] + power[1:, 1:]) / 4
    own = scene.geobox()
    between = read_scene(scene, ["vv"], GeoBox((89, 109), own.affine @ Affine.translation(0.5, 0.5), own.crs)).values[0]
    assert np.allclose(between, fours, rtol=1e-4)
    mean = read_scene(scene, ["vv"], GeoBox((45, 55), own.affine @ Affine.scale(2), own.crs)).values[0]
    assert np.allclose(mean, fours[::2, ::2], rtol=1e-4)


def test_a_thumbnail_holds_pixels_of_the_image(tmp_path):
    large = replace(TRICKY, shape=(700, 900), gain=lambda line, sample: 100 + 0 * sample, blocks=(), noise=None)
    scene = open_scene(write_safe(tmp_path, large))
    own = scene.geobox()
    small = read_scene(scene, ["vv"], own.zoom_to((20, 25)), resampling="nearest")
    assert small.valid.all()
    powers = (large.digital_numbers("vv").astype(float) / 100) ** 2
    for row, col in ((0, 0), (7, 11), (19, 24)):
        near = powers[max(0, row * 35 + 12) : row * 35 + 24, col * 36 + 17 : col * 36 + 20]
        assert np.isclose(near, small.values[0, row, col], rtol=1e-5).any()


@pytest.mark.parametrize(
    ("mode", "ground", "expected"),
    [
        ("IW", Ground(), "EPSG:32632"),
        ("IW", Ground(y=8_000_000), "EPSG:32632"),
        ("IW", Ground("EPSG:32732", y=6_000_000), "EPSG:32732"),
        ("EW", Ground(), "EPSG:32632"),
        ("EW", Ground(y=8_000_000, turned=20), "EPSG:3413"),
        ("EW", Ground("EPSG:3031", 1_500_000, -400_000), "EPSG:3031"),
        ("EW", Ground("EPSG:3413", -1800, 1800, 45), "EPSG:3413"),
    ],
)
def test_wide_swaths_near_the_poles_lie_on_a_polar_grid(tmp_path, mode, ground, expected):
    grd = replace(TRICKY, mode=mode, spacing=40.0, ground=ground, polarisations=("hh", "hv"))
    scene = open_scene(write_safe(tmp_path, grd))
    geobox = scene.geobox()
    assert str(geobox.crs) == expected
    assert (geobox.affine.a, geobox.affine.e) == (40.0, -40.0)
    assert geobox.affine.c % 40 == geobox.affine.f % 40 == 0
    raster = read_scene(scene, ["hh"], geobox)
    scale = 1 if ground.crs == expected else pyproj.Proj(expected).get_factors(*centre(scene)).areal_scale
    assert raster.valid.sum() == pytest.approx(90 * 110 * scale, rel=0.03)


def test_the_antimeridian_is_no_edge(tmp_path):
    middle = pyproj.Transformer.from_crs("EPSG:4326", "EPSG:32660", always_xy=True).transform(180.0, -16.0)
    grd = replace(TRICKY, ground=Ground("EPSG:32660", middle[0] - 550, middle[1] + 450))
    safe = write_safe(tmp_path, grd)
    longitudes = read_grd(find_safe(safe)).grid.longitude
    assert longitudes.min() < -179
    assert longitudes.max() > 179
    raster = read_scene(open_scene(safe), ["vv"], GeoBox(grd.shape, Affine(10, 0, middle[0] - 550, 0, -10, middle[1] + 450), "EPSG:32660"))
    assert raster.valid.all()
    assert np.allclose(raster.values[0], sigma0(grd, "vv")[0], rtol=1e-6, atol=1e-5)
    assert read_own(safe)[1].mean() > 0.9


def test_relief_is_warned_of_with_figures(tmp_path):
    flat, steep = TRICKY, replace(TRICKY, height=lambda line, sample: 400.0 if line > 50 else 100.0)
    said = [" ".join(open_scene(write_safe(tmp_path / name, grd)).warnings) for name, grd in (("flat", flat), ("steep", steep))]
    assert "by 1.0 to 1.7 m for each metre (heights in the grid: 50 to 50 m)" in said[0]
    assert "OPERA RTC-S1" not in said[0]
    assert "span 300 m" in said[1]
    assert "OPERA RTC-S1 or HyP3 RTC" in said[1]


# How it is found


def test_folder_zip_manifest_and_what_holds_them_are_one_scene(tmp_path):
    safe, archive = write_safe(tmp_path / "a", TRICKY), write_safe(tmp_path / "b", TRICKY, zipped=True)
    scenes = [open_scene(path) for path in (safe, archive, safe / "manifest.safe", tmp_path / "a")]
    assert {scene.name for scene in scenes} == {safe.stem}
    first, *others = (read_scene(scene, scene.roles, scene.geobox()) for scene in scenes)
    assert all(np.array_equal(first.values, other.values) and np.array_equal(first.valid, other.valid) for other in others)


def test_images_stored_as_cogs_are_found(tmp_path):
    safe = write_safe(tmp_path, TRICKY)
    expected = read_own(safe)[0]
    for path in [*safe.glob("annotation/*.xml"), *safe.glob("annotation/*/*.xml"), *safe.glob("measurement/*")]:
        path.rename(path.with_name(f"{path.stem}-cog{path.suffix}"))
    assert np.array_equal(read_own(safe)[0], expected)


def test_a_polarisation_without_an_image_is_left_out(tmp_path):
    safe = write_safe(tmp_path, TRICKY)
    measurement(safe, "vh").unlink()
    scene = open_scene(safe)
    assert scene.roles == ("vv", "incidence_angle")
    assert "VH is left out" in scene.warnings[0]
    with pytest.raises(BandError, match=r"no 'vh' band in .*; it has vv, incidence_angle"):
        scene.layer("vh")


def test_a_sentinel_2_product_is_none_of_these(tmp_path):
    folder = tmp_path / "S2A_MSIL2A_20210401T101021_N0300_R022_T32TPT_20210401T130000.SAFE"
    folder.mkdir()
    (folder / "manifest.safe").write_text("<xfdu><familyName>Sentinel</familyName></xfdu>", encoding="utf-8")
    assert find_safe(folder) is None


def remove(pattern):
    return lambda safe: [path.unlink() for path in safe.glob(pattern)]


def spoil(pattern, old, new):
    def change(safe):
        for path in safe.glob(pattern):
            path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")

    return change


@pytest.mark.parametrize(
    ("change", "words", "said"),
    [
        (remove("annotation/*vv*.xml"), (), "lacks the annotation of VV"),
        (remove("annotation/calibration/calibration*vh*"), (), "lacks the calibration of VH"),
        (remove("manifest.safe"), (), "without its manifest.safe"),
        (remove("measurement/*"), (), "holds no image"),
        (spoil("annotation/*vv*.xml", "</product>", ""), (), "is not valid XML"),
        (spoil("annotation/*.xml", "<numberOfLines>90", "<numberOfLines>80"), (), "fetch the product again"),
        (spoil("annotation/*.xml", "<line>20</line>", "<line>21.x</line>"), (), "expected a number"),
        (spoil("annotation/calibration/c*.xml", "sigmaNought", "sigma"), (), "lacks <sigmaNought>"),
        (spoil("manifest.safe", "productType>GRD", "productType>SLC"), (), "single-look complex"),
        (spoil("manifest.safe", "productType>GRD", "productType>OCN"), (), "ocean product"),
        (None, ("--sensor", "sentinel-2-l2a"), "leave --sensor out"),
        (None, ("--unit", "dB"), "--unit cannot be said of"),
        (None, ("--bands", "vv", "--convention", "sigma0"), "--bands and --convention cannot be said of"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_sentence(geoseg, tmp_path, change, words, said):
    safe = write_safe(tmp_path, TRICKY)
    if change is not None:
        change(safe)
    ran = geoseg("info", safe, *words)
    assert ran.code == 2
    assert said in ran.sentence


def test_one_image_of_a_product_names_the_product(geoseg, tmp_path):
    safe = write_safe(tmp_path, TRICKY)
    ran = geoseg("info", measurement(safe, "vv"))
    assert ran.code == 2
    assert str(safe) in ran.sentence
    assert "gdalwarp" not in ran.sentence


# The whole way


def radar_package(folder, roles, threshold):
    bands = tuple(BandNeed(role=role, unit="dB", convention="sigma0") for role in roles)
    preparation = Preparation(bands=bands, channels=tuple(Channel(name=role) for role in roles))
    return threshold_package(folder, roles, threshold, preparation=preparation, sensors=("sentinel-1-grd",))


def test_a_product_is_mapped_and_mapped_again(geoseg, tmp_path):
    radar_package(tmp_path / "radar", ("vv",), 1.0)
    scene = write_safe(tmp_path, TRICKY, zipped=True)
    ran = geoseg("predict", scene, "--model", "radar", "-o", "out")
    assert ran.code == 0, ran.err
    stem = open_scene(scene).name
    with rasterio.open(tmp_path / "out" / f"{stem}_classes.tif") as classes:
        assert np.array_equal(classes.read(1), (10 * np.log10(np.maximum(sigma0(TRICKY, "vv")[0], 1e-6)) > 1).astype(np.uint8))
    item = json.loads((tmp_path / "out" / f"{stem}.json").read_text(encoding="utf-8"))
    assert item["properties"]["geoseg:run"]["settings"]["inputs"]
    again = geoseg("predict", "--again", f"out/{stem}.json", "-o", "once_more")
    assert again.code == 0, again.err


def test_a_map_goes_onto_any_crs(geoseg, tmp_path):
    radar_package(tmp_path / "radar", ("vv",), 1.0)
    scene = write_safe(tmp_path, TURNED)
    ran = geoseg("predict", scene, "--model", "radar", "-o", "out", "--crs", "EPSG:3035")
    assert ran.code == 0, ran.err
    with rasterio.open(next((tmp_path / "out").glob("*_reason.tif"))) as reason:
        assert reason.crs.to_epsg() == 3035


def test_a_model_for_a_missing_polarisation_is_refused_and_nothing_is_written(geoseg, tmp_path):
    radar_package(tmp_path / "radar", ("vv", "vh"), 1.0)
    scene = write_safe(tmp_path, replace(TRICKY, polarisations=("vv",)))
    before = contents(tmp_path)
    ran = geoseg("predict", scene, "--model", "radar", "-o", "out")
    assert ran.code == 2
    assert "has vv, incidence_angle, so vh is missing" in ran.sentence
    assert contents(tmp_path) == before


def test_info_says_pass_unit_and_angles(geoseg, tmp_path):
    scene = write_safe(tmp_path, TRICKY)
    ran = geoseg("info", scene)
    assert ran.code == 0, ran.err
    for said in ("descending pass", "EPSG:32632", "linear power", "incidence_angle", "tangent of the incidence angle"):
        assert said in ran.out
    facts = json.loads(geoseg("info", scene, "--json").out)
    assert facts["orbit_pass"] == "descending"
    assert facts["bands"][0]["convention"] == "sigma0"


# Against a reader of the same format


@pytest.mark.slow
def test_the_layout_and_the_numbers_are_those_that_xarray_sentinel_reads(tmp_path):
    reader = pytest.importorskip("xarray_sentinel")
    safe = write_safe(tmp_path, TRICKY)
    product = read_grd(find_safe(safe))
    vv = product.channels[0]
    tables = {group: reader.open_sentinel1_dataset(safe, group=f"IW/VV/{group}") for group in ("calibration", "gcp", "noise_range")}
    for theirs, mine in ((tables["calibration"].sigmaNought, vv.calibration), (tables["noise_range"].noiseRangeLut, vv.noise.range)):
        lines, samples = np.array([0, 13, 44, 88]), np.array([0, 7.0, 55, 108])
        assert np.allclose(mine.at(lines, samples), theirs.interp(line=lines, pixel=samples), rtol=1e-5)
    grid = tables["gcp"]
    assert np.allclose(product.grid.latitude, grid.latitude)
    assert np.allclose(product.grid.longitude, grid.longitude)
    row, col = np.array([0.5, 33.2, 77.0]), np.array([0.5, 61.7, 100.0])
    by_place = grid.incidenceAngle.swap_dims(azimuth_time="line", slant_range_time="pixel")
    theirs = [float(by_place.interp(line=r - 0.5, pixel=c - 0.5)) for r, c in zip(row, col, strict=True)]
    assert np.allclose(product.grid.incidence_at(row, col), theirs)


@pytest.mark.slow
def test_generated_tables_follow_esas_schemas(tmp_path):
    schemas = pytest.importorskip("xarray_sentinel.esa_safe")
    safe = write_safe(tmp_path, TRICKY)
    for kind in ("calibration", "noise"):
        for path in safe.glob(f"annotation/calibration/{kind}-*.xml"):
            assert schemas.cached_sentinel1_schemas(kind).is_valid(str(path))


def test_a_table_out_of_order_is_refused(tmp_path):
    safe = write_safe(tmp_path, TRICKY)
    spoil("annotation/calibration/c*.xml", ">0 40 ", ">40 0 ")(safe)
    with pytest.raises(SceneError, match="out of order"):
        open_scene(safe)
