"""Benchmark sets of torchgeo, in tiny files of their real layouts: prepared as scenes are, and learned from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torchgeo", reason="the extra train brings it")
pytest.importorskip("lightning")

import lightning
import torch
from labelled_ground import QUICK
from PIL import Image
from torchgeo import datasets

from geoseg.data.benchmark_samples import BenchmarkPatches
from geoseg.data.windows import UNLABELLED
from geoseg.errors import BandError, InputError, LabelError
from geoseg.legend import Legend, LegendClass
from geoseg.preprocess.prepare import BandNeed, Channel, Preparation
from geoseg.recipes.modules import SupervisedSegmentation
from geoseg.sensors import get_sensor

RGB = ("red", "green", "blue")
NAMES = ("background", "building", "road", "water", "barren", "forest", "agriculture")
LOVEDA = Legend(tuple(LegendClass(at, at + 1, name, f"#{at:02x}0000") for at, name in enumerate(NAMES)), nodata=0)
"""0 is no data there; see LoveDA's paper (Wang et al., NeurIPS 2021)."""


def plain(sensor: str, bands: tuple[str, ...]) -> Preparation:
    needs = tuple(BandNeed(role=band.role, unit=band.unit) for band in get_sensor(sensor).select(*bands))
    return Preparation(bands=needs, channels=tuple(Channel(name=need.role, mean=0.0, std=1.0) for need in needs))


@pytest.fixture
def loveda(tmp_path: Path) -> Any:
    """Four pictures whose red says the class."""
    for at in range(4):
        codes = np.random.default_rng(at).integers(0, 8, (64, 64), dtype=np.uint8).repeat(1, 0)
        codes = codes[::8, ::8].repeat(8, 0).repeat(8, 1)
        picture = np.stack([codes * 30 + 20, np.full_like(codes, 99), 255 - codes * 20], axis=-1)
        for folder, pixels in (("images_png", picture), ("masks_png", codes)):
            place = tmp_path / "Train" / "Urban" / folder
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(place / f"{at}.png")
    return datasets.LoveDA(tmp_path, split="train", scene=["urban"])


def patches_of(samples: Any, **given: Any) -> BenchmarkPatches:
    return BenchmarkPatches(samples, plain("aerial-rgb", RGB), LOVEDA, "aerial-rgb", RGB, **given)


def test_samples_keep_their_numbers_and_codes_become_classes(loveda: Any) -> None:
    patch, codes = patches_of(loveda)[1], np.asarray(loveda[1]["mask"])
    assert np.array_equal(patch["labels"], codes.astype(int) - 1), "0 is no data, which is -1 here"
    assert UNLABELLED in patch["labels"]
    assert np.array_equal(patch["image"], np.asarray(loveda[1]["image"]))


def test_statistics_are_those_of_all_samples(loveda: Any) -> None:
    fitted = patches_of(loveda).fitted()
    every = np.stack([fitted[at]["image"] for at in range(4)])
    assert every.mean(axis=(0, 2, 3)) == pytest.approx([0, 0, 0], abs=1e-4)
    assert every[:, 0].std() == pytest.approx(1, abs=1e-4)


def test_no_data_is_no_value_and_no_label() -> None:
    image = np.full((2, 8, 8), 1500.0)
    image[0, :2], image[1, 2:3] = 0, np.nan
    samples = [{"image": torch.tensor(image), "mask": torch.ones(1, 8, 8)}]
    bands = ("red", "nir")
    patches = BenchmarkPatches(samples, plain("sentinel-2-l1c", bands), LOVEDA, "sentinel-2-l1c", bands)
    patch = patches[0]
    assert (patch["labels"][:3] == UNLABELLED).all()
    assert (patch["labels"][3:] == 0).all()
    assert not patch["image"][:, :3].any()
    assert patch["image"][:, 3:] == pytest.approx(0.15), "reflectance, by the sensor's scale"


def test_a_network_learns_from_them_under_a_plain_trainer(loveda: Any, one_thread: None, tmp_path: Path) -> None:
    patches = patches_of(loveda, turned=True).fitted()
    wanted = QUICK | {"epochs": 12, "class_weights": "none", "ema": None}
    module = SupervisedSegmentation(LOVEDA.names, RGB, wanted)
    loaders = [torch.utils.data.DataLoader(one, batch_size=2) for one in (patches, replace(patches, turned=False))]
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    lightning.seed_everything(0, verbose=False)
    trainer = lightning.Trainer(max_epochs=12, accelerator="cpu", default_root_dir=tmp_path, num_sanity_val_steps=1, **quiet)
    trainer.fit(module, *loaders)
    assert module.counted.accuracy > 0.5, "of seven classes"


def test_turns_are_drawn_by_torch_and_turn_image_and_labels_alike(loveda: Any) -> None:
    patches = patches_of(loveda, turned=True)
    torch.manual_seed(0)
    drawn = [patches[0] for _ in range(20)]
    assert len({patch["labels"].tobytes() for patch in drawn}) > 4
    known = [patch["labels"] != UNLABELLED for patch in drawn]
    assert all(np.array_equal(patch["image"][0][here], patch["labels"][here] * 30 + 50) for patch, here in zip(drawn, known, strict=True))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"bands": ("red", "green", "nir")}, BandError, "has no 'nir' band"),
        ({"bands": ("red", "green")}, InputError, "the preparation reads 'blue'"),
        ({"bands": ("red", "green", "blue"), "sensor": "aerial-rgbm"}, InputError, "aerial-rgbn"),
    ],
)
def test_bands_that_do_not_go_together_are_refused(loveda: Any, changes: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        replace(patches_of(loveda), **changes)


def test_samples_that_cannot_be_learned_from_are_named(loveda: Any) -> None:
    few = Legend(LOVEDA.classes[:3], nodata=0)
    with pytest.raises(LabelError, match=r"the mask of sample 0 has the code \d; expected background \(1\)"):
        replace(patches_of(loveda), legend=few)[0]
    assert (replace(patches_of(loveda), legend=few, ignored=range(4, 8))[0]["labels"] < 3).all()
    with pytest.raises(LabelError, match="sample 0 has no mask"):
        patches_of([{"image": torch.zeros(3, 8, 8)}])[0]
    with pytest.raises(InputError, match=r"sample 0 has shape \(4, 8, 8\)"):
        patches_of([{"image": torch.zeros(4, 8, 8), "mask": torch.zeros(8, 8)}])[0]
