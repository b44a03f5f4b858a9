"""torchgeo's data sets as Scenes, and Scenes under torchgeo's own samplers, on tiny files in the data sets' real layouts."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torchgeo", reason="the extra train brings it")

import torch
from scene_files import write
from torch.utils.data import DataLoader
from torchgeo import datasets
from torchgeo.datasets import RasterDataset, stack_samples
from torchgeo.samplers import GridGeoSampler, RandomGeoSampler

from geoseg.data.torchgeo import SceneDataset, labelled_scenes_of, scenes_of
from geoseg.data.windows import UNLABELLED
from geoseg.errors import InputError
from geoseg.legend import Legend
from geoseg.preprocess.prepare import BandNeed, Channel, Preparation
from geoseg.scene import read_scene
from geoseg.scenes.open_scene import open_scene

SIDE = 64
RANDOM = np.random.default_rng(5).integers(1, 9000, (13, SIDE, SIDE), dtype=np.uint16)


class Plain(RasterDataset):
    filename_glob = "image_*.tif"
    filename_regex = r"image_(?P<date>\d{8})"
    all_bands = ("blue", "green", "red", "nir")


class PlainMask(RasterDataset):
    filename_glob = "mask_*.tif"
    is_image = False


def one_file(folder, name, count=1):
    write(folder / name, RANDOM[:count], nodata=0)


def file_per_band(folder, pattern, bands):
    for number, band in enumerate(bands):
        write(folder / pattern.format(band), RANDOM[number : number + 1], nodata=0)


BGRN = ("blue", "green", "red", "nir")
SENTINEL_2 = ("B02", "B03", "B04", "B08")
LANDSAT = ("SR_B2", "SR_B3", "SR_B4", "SR_B5")
IMAGES = {
    "Sentinel2": ("T32TLS_20240612T102031_{}_10m.tif", {"bands": SENTINEL_2}, "sentinel-2-l2a", BGRN),
    "Sentinel1": ("S1A_IW_20240612T053014_DVP_RTC20_G_gpunem_1A2B_{}.tif", {"bands": ("VV", "VH")}, "sentinel-1-rtc", ("vv", "vh")),
    "Landsat8": (
        "LC08_L2SP_195028_20240612_20240620_02_T1_{}.TIF",
        {"bands": LANDSAT},
        "landsat-oli-c2-l2",
        ("blue", "green", "red", "nir"),
    ),
    "Landsat9": (
        "LC09_L2SP_195028_20240612_20240620_02_T1_{}.TIF",
        {"bands": LANDSAT},
        "landsat-oli-c2-l2",
        ("blue", "green", "red", "nir"),
    ),
    "Landsat7": ("LE07_L2SP_195028_20020612_20200620_02_T1_{}.TIF", {"bands": ("SR_B1", "SR_B4")}, "landsat-etm-c2-l2", ("blue", "nir")),
    "Landsat5TM": ("LT05_L2SP_195028_19990612_20200620_02_T1_{}.TIF", {"bands": ("SR_B1", "SR_B4")}, "landsat-tm-c2-l2", ("blue", "nir")),
    "NAIP": ("m_3807511_ne_18_060_20181104.tif", {}, None, ("red", "green", "blue", "nir")),
}
MASKS = {
    "CDL": ("2023_30m_cdls.tif", {"years": [2023]}),
    "NLCD": ("Annual_NLCD_LndCov_2019_CU_C1V1.tif", {"years": [2019]}),
    "NCCM": ("CDL2018_clip.tif", {"years": [2018]}),
    "Esri2020": ("11A_20200101-20210101.tif", {}),
    "ChesapeakeDE": ("de_lulc_2018_2022-Edition.tif", {}),
}


@pytest.mark.parametrize("name", IMAGES)
def test_images_of_torchgeo_open_as_scenes(tmp_path, name):
    pattern, words, sensor, roles = IMAGES[name]
    if "{}" in pattern:
        file_per_band(tmp_path / "R10m", pattern, words["bands"])  # Sentinel-2's own folder; the others are found anywhere
    else:
        one_file(tmp_path, pattern, len(roles))
    (scene,) = scenes_of(getattr(datasets, name)(tmp_path, **words), sensor=sensor)
    assert scene.roles == roles
    assert scene.time is not None
    np.testing.assert_array_equal(read_scene(scene, roles, scene.geobox()).values, RANDOM[: len(roles)])


@pytest.mark.parametrize("name", MASKS)
def test_masks_of_torchgeo_label_scenes(tmp_path, name):
    pattern, words = MASKS[name]
    one_file(tmp_path / "images", "image_20200612.tif", 4)
    (tmp_path / "masks").mkdir()
    write(tmp_path / "masks" / pattern, (RANDOM[:1] % 5).astype(np.uint8))
    pairs = labelled_scenes_of(
        datasets.IntersectionDataset(Plain(tmp_path / "images"), getattr(datasets, name)(tmp_path / "masks", **words), spatial_only=True)
    )
    assert [(scene.roles, path) for scene, path in pairs] == [(("blue", "green", "red", "nir"), str(tmp_path / "masks" / pattern))]


def test_a_union_is_all_of_its_scenes_each_on_its_own_grid(tmp_path):
    write(tmp_path / "a" / "image_20240101.tif", RANDOM[:4])
    write(tmp_path / "b" / "image_20240102.tif", RANDOM[:4], crs="EPSG:32631", pixel=20.0)
    scenes = scenes_of(Plain(tmp_path / "a") | Plain(tmp_path / "b"))
    assert [(scene.geobox().crs.to_epsg(), scene.geobox().affine.a) for scene in scenes] == [(32630, 10), (32631, 20)]
    assert [scene.time.day for scene in scenes] == [1, 2]


def test_only_the_chosen_bands_are_there(tmp_path):
    one_file(tmp_path, "image_20240101.tif", 4)
    (scene,) = scenes_of(Plain(tmp_path, bands=["red", "nir"]))
    assert scene.roles == ("red", "nir")
    np.testing.assert_array_equal(read_scene(scene, ["red"], scene.geobox()).values[0], RANDOM[2])


def test_data_sets_without_images_are_refused(tmp_path):
    one_file(tmp_path, "mask_1.tif")
    with pytest.raises(InputError, match="no data set of images"):
        scenes_of(PlainMask(tmp_path))
    with pytest.raises(InputError, match="does not pair images with labels"):
        labelled_scenes_of(PlainMask(tmp_path))


def test_torchgeos_sampler_gets_the_pixels_that_torchgeo_reads(tmp_path):
    one_file(tmp_path, "image_20240101.tif", 4)
    theirs = Plain(tmp_path)
    ours = SceneDataset(scenes_of(theirs))
    assert ours.bounds == theirs.bounds
    queries = list(GridGeoSampler(ours, size=32, stride=32))
    assert len(queries) == 4
    for query in queries:
        mine, other = ours[query], theirs[query]
        np.testing.assert_array_equal(mine["image"], other["image"])
        assert mine["valid"].all()


def test_beyond_a_scene_and_without_data_nothing_is_valid(tmp_path):
    values = RANDOM[:1].copy()
    values[0, :10] = 0
    scene = open_scene(write(tmp_path / "s.tif", values, names=["red"], nodata=0), sensor="generic")
    ours = SceneDataset([scene])
    x, y, t = ours.bounds
    sample = ours[slice(x.start, x.stop + 160, 10), slice(y.start, y.stop, 10), t]
    valid = sample["valid"][0].numpy()
    assert valid.shape == (SIDE, SIDE + 16)
    assert valid[10:, :SIDE].all()
    assert not valid[:10].any()
    assert not valid[:, SIDE:].any()
    assert (sample["image"][0].numpy()[~valid] == 0).all()


def test_scenes_of_two_utm_zones_are_sampled_with_labels_and_preparation(tmp_path):
    scenes, labels = [], []
    for number, crs in enumerate(("EPSG:32630", "EPSG:32631")):
        path = write(tmp_path / f"{number}.tif", RANDOM[:2], names=["red", "nir"], nodata=0, crs=crs)
        scenes.append(open_scene(path, sensor="generic"))
        labels.append(write(tmp_path / f"labels_{number}.tif", (RANDOM[:1] % 3).astype(np.uint8), crs=crs, nodata=255))
    bands = tuple(BandNeed(role=role, unit="1") for role in ("red", "nir"))
    preparation = Preparation(bands=bands, channels=(Channel(name="red", mean=100, std=10), Channel(name="NDVI", kind="index")))
    ours = SceneDataset(scenes, preparation=preparation, labels=labels, legend=Legend.from_names(["a", "b", "c"]))
    loader = DataLoader(ours, batch_size=4, sampler=RandomGeoSampler(ours, size=16, length=8), collate_fn=stack_samples)
    for batch in loader:
        assert batch["image"].shape == (4, 2, 16, 16)
        assert batch["image"].dtype == torch.float32
        assert set(batch["mask"].unique().tolist()) <= {UNLABELLED, 0, 1, 2}
    x, y, t = SceneDataset(scenes[:1]).bounds
    sample = ours[x, y, t]
    np.testing.assert_array_equal(sample["mask"].numpy(), RANDOM[0] % 3)
    np.testing.assert_allclose(sample["image"][0].numpy(), (RANDOM[0] - 100.0) / 10, rtol=1e-6)
