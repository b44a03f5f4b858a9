"""Data sets of many images, by patterns and palettes, in tiny files of their published layouts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from command_line import refusal

from geoseg.data.folder_samples import FolderSamples
from geoseg.data.palette import codes_of_colours, colours_of_codes
from geoseg.errors import InputError
from geoseg.io.layouts import find_pairs
from geoseg.legend import Legend, LegendClass
from geoseg.scenes.catalog import Catalog

pillow = pytest.importorskip("PIL.Image", reason="the extra train brings it")
ARAS = Catalog.open()["aras400k"]


def picture(path: Path, pixels: np.ndarray) -> None:
    """A PNG of (red, green, blue; row; col), or of (row, col)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pillow.fromarray(np.ascontiguousarray(pixels if pixels.ndim == 2 else pixels.transpose(1, 2, 0)).astype(np.uint8)).save(path)


def aras_folder(folder: Path) -> np.ndarray:
    """Six patches as ARAS400k has them; (patch, row, col) codes of their masks."""
    generator = np.random.default_rng(0)
    codes = generator.integers(0, 7, (6, 16, 16))
    for at, plane in enumerate(codes):
        place = folder / "ARAS400k" / ("train", "train", "train", "val", "test", "synth")[at]
        picture(place / "images" / f"N37E027_{at:03d}_000.png", generator.integers(0, 255, (3, 16, 16)))
        picture(place / "masks" / f"N37E027_{at:03d}_000.png", colours_of_codes(plane, ARAS.legend))
    return codes


# ---------------------------------------------------------------- which labels go with which image


def test_each_image_has_the_labels_of_its_split_and_name(tmp_path: Path) -> None:
    aras_folder(tmp_path)
    (tmp_path / "ARAS400k" / "readme.txt").write_text("not an image")
    pairs = Catalog.open().pairs("aras400k", tmp_path)
    assert [(pair.split, pair.name.partition("/")[2][8:11]) for pair in pairs] == [
        ("synth", "005"), ("test", "004"), ("train", "000"), ("train", "001"), ("train", "002"), ("val", "003"),
    ]  # fmt: skip
    assert all(pair.labels == Path(str(pair.image).replace("images", "masks")) for pair in pairs)


def test_words_mean_the_same_wherever_they_stand(tmp_path: Path) -> None:
    for name in ("a/a_image.tif", "a/b_image.tif", "b/b_image.tif", "a_labels.tif", "b_labels.tif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    pairs = find_pairs(tmp_path, "{area}/{area}_image.tif", "{area}_labels.tif")
    assert [pair.name for pair in pairs] == ["a", "b"], "b_image.tif in a is of no area"


def test_splits_have_the_words_of_the_data_set_and_may_be_without_labels(tmp_path: Path) -> None:
    for part in ("Train", "Val", "Test"):
        picture(tmp_path / part / "Urban" / "images_png" / "1.png", np.zeros((3, 4, 4)))
        if part != "Test":
            picture(tmp_path / part / "Urban" / "masks_png" / "1.png", np.ones((4, 4)))
    pairs = Catalog.open().pairs("loveda", tmp_path)
    assert {pair.split: pair.labels is not None for pair in pairs} == {"train": True, "val": True, "test": False}


def test_labels_that_are_missing_are_named(tmp_path: Path) -> None:
    aras_folder(tmp_path)
    (tmp_path / "ARAS400k/val/masks/N37E027_003_000.png").unlink()
    with pytest.raises(InputError, match=r"1 of 6 images in .* have no labels: ARAS400k/val/images/N37E027_003_000\.png"):
        Catalog.open().pairs("aras400k", tmp_path)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [("{name}.jp2", None, "no file in .* fits the pattern"), ("{name}.tif", "{area}.tif", r"has \{area\}, which .* has not")],
)
def test_patterns_that_fit_nothing_are_one_sentence(tmp_path: Path, images: str, labels: str | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        find_pairs(tmp_path, images, labels)


# ---------------------------------------------------------------- labels in colours


def test_the_palette_goes_there_and_back_exactly(tmp_path: Path) -> None:
    codes = aras_folder(tmp_path)
    pairs = Catalog.open().pairs("aras400k", tmp_path)
    samples = FolderSamples(pairs, ARAS.legend, palette=True)
    assert len(samples) == 6
    for at, pair in enumerate(pairs):
        assert np.array_equal(samples[at]["mask"], codes[int(pair.image.stem.split("_")[1])])
        assert samples[at]["image"].shape == (3, 16, 16)


def test_a_colour_that_no_class_has_is_an_error_with_its_place_never_a_class() -> None:
    colours = colours_of_codes(np.zeros((4, 4), int), ARAS.legend)
    assert (codes_of_colours(colours, ARAS.legend, "mask") == 0).all()
    colours[:, 2, 3] = (1, 100, 0)
    with pytest.raises(InputError, match=r"the colour #016400 at row 2, column 3, which no class has; expected tree #006400"):
        codes_of_colours(colours, ARAS.legend, "mask")


def test_labels_in_colours_need_three_planes_and_a_colour_for_each_class() -> None:
    with pytest.raises(InputError, match="has 1 planes"):
        codes_of_colours(np.zeros((4, 4), np.uint8), ARAS.legend, "mask")
    twins = Legend((LegendClass(0, 0, "a", "#000001"), LegendClass(1, 1, "b", "#000001")))
    with pytest.raises(InputError, match="same colour"):
        codes_of_colours(np.zeros((3, 4, 4), np.uint8), twins, "mask")


# ---------------------------------------------------------------- from the command line


def test_pairs_and_a_picture_of_them(tmp_path: Path, geoseg) -> None:
    aras_folder(tmp_path / "set")
    ran = geoseg("data", "pairs", "aras400k", "--in", tmp_path / "set", "--split", "train")
    rows = [json.loads(line) for line in ran.out.splitlines()]
    assert [row["split"] for row in rows] == ["train"] * 3
    assert all(Path(row["labels"]).is_file() for row in rows)
    ran = geoseg("data", "preview", "aras400k", "--in", tmp_path / "set", "-o", tmp_path / "look.png", "--count", "3")
    assert ran.code == 0, ran.err
    with pillow.open(tmp_path / "look.png") as drawn:
        colours = {colour for _, colour in drawn.convert("RGB").getcolors(1 << 20)}
    assert {one.rgb for one in ARAS.legend.classes} <= colours


def test_what_cannot_be_paired_or_drawn_is_one_sentence(tmp_path: Path, geoseg) -> None:
    assert "does not say where images and labels" in refusal(geoseg, tmp_path, "data", "pairs", "dfc2020")
    assert "is not in" in refusal(geoseg, tmp_path, "data", "pairs", "loveda", "--in", tmp_path / "nowhere")
    picture(tmp_path / "set" / "Test" / "Urban" / "images_png" / "1.png", np.zeros((3, 4, 4)))
    out = tmp_path / "look.png"
    assert "nothing to compare" in refusal(geoseg, tmp_path, "data", "preview", "loveda", "--in", tmp_path / "set", "-o", out)
    assert not out.exists()
