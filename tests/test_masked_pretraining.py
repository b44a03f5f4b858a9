"""Learning without labels: which windows, what is written, and that it is the same in every run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from command_line import refusal
from labelled_ground import PROFILE

pytest.importorskip("torch")
pytest.importorskip("lightning")
pytest.importorskip("timm")

import lightning
import torch
from safetensors.torch import load

from geoseg.backbones.vit import VisionTransformer
from geoseg.data.unlabelled import VALID, load_unlabelled
from geoseg.data.windows import UNLABELLED
from geoseg.errors import BandError, InputError, PackageError, SceneError
from geoseg.models.encoders import Encoder
from geoseg.recipes.masked_module import MaskedPretraining, UnlabelledScenes
from geoseg.recipes.masked_pretraining import Settings, run
from geoseg.scene import Scene
from geoseg.scenes.open_scene import open_scene
from geoseg.settings import parse, read_yaml

pytestmark = pytest.mark.usefixtures("one_thread")

BANDS = ("green", "red", "nir", "swir16")
QUICK: dict[str, Any] = {"depth": 1, "tile": 32, "batch": 4, "draws": 16, "epochs": 2, "learning_rate": 1e-3}
EDGE = 150
"""Of the scene, in pixels; the rows above 60 have no data."""


def write_scene(folder: Path, name: str = "scene.tif", *, pixel_m: float = 10.0) -> Path:
    """Stripes of water and forest in four bands, of which nothing is known in the upper rows."""
    noise = np.random.default_rng(0).integers(0, 200, (4, EDGE, EDGE))
    water = (np.add.outer(np.arange(EDGE), np.arange(EDGE)) // 20) % 3 == 0
    image = np.stack([np.where(water, one, other) for one, other in ((900, 700), (700, 600), (300, 3000), (200, 1500))]) + noise
    image[:, :60] = 0
    x, y = PROFILE["transform"].c, PROFILE["transform"].f
    shape = PROFILE | {"height": EDGE, "width": EDGE, "transform": rasterio.Affine(pixel_m, 0, x, 0, -pixel_m, y)}
    with rasterio.open(folder / name, "w", count=4, dtype="uint16", nodata=0, **shape) as file:
        file.write(image.astype(np.uint16))
    return folder / name


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scene(tmp_path_factory.mktemp("ground")).parent


def scene_of(path: Path, bands: tuple[str, ...] = BANDS) -> Scene:
    return open_scene(path, sensor="sentinel-2-l1c", bands=list(bands))


def settings(**changes: Any) -> Settings:
    return parse(Settings, QUICK | changes, source="test")


@pytest.fixture(scope="module")
def encoder(ground: Path) -> Encoder:
    return run(settings(), [scene_of(ground / "scene.tif")], ground / "encoder", accelerator="cpu")


@pytest.fixture(scope="module")
def windows(ground: Path) -> UnlabelledScenes:
    data = UnlabelledScenes([scene_of(ground / "scene.tif")], settings())
    data.setup()
    return data


# ---------------------------------------------------------------- windows


def test_only_ground_with_data_is_drawn(windows: UnlabelledScenes, ground: Path) -> None:
    plane = windows.scenes[0].labels
    assert (plane[:60] == UNLABELLED).all()
    assert (plane[60:] == VALID).all()
    for batch in windows.train_dataloader():
        known = batch["labels"] == VALID
        assert known.flatten(1).any(dim=1).all()
        assert batch["image"].movedim(1, -1)[~known].eq(0).all()


def test_a_batch_holds_bands_then_plain_indices_and_pixel_sizes(windows: UnlabelledScenes) -> None:
    assert windows.bands == BANDS
    assert windows.guide == ("NDVI", "NDWI", "NDBI")
    batch = next(iter(windows.train_dataloader()))
    assert batch["image"].shape == (4, 7, 32, 32)
    statistics = windows.preparation.channels
    green, red, nir, _ = (batch["image"][:, place] * statistics[place].std + statistics[place].mean for place in range(4))
    known = batch["labels"] == VALID
    np.testing.assert_allclose(batch["image"][:, 4][known], ((nir - red) / (nir + red))[known], atol=1e-4)
    np.testing.assert_allclose(batch["image"][:, 5][known], ((green - nir) / (green + nir))[known], atol=1e-4)
    assert batch["pixel_size_m"].numpy() == pytest.approx([10] * 4, rel=0.01)


def test_scenes_of_other_pixel_sizes_keep_them(ground: Path, tmp_path: Path) -> None:
    coarse = write_scene(tmp_path, "coarse.tif", pixel_m=30.0)
    data = UnlabelledScenes([scene_of(ground / "scene.tif"), scene_of(coarse)], settings(draws=32))
    data.setup()
    found = np.concatenate([batch["pixel_size_m"] for batch in data.train_dataloader()])
    assert sorted(set(found.round().tolist())) == [10, 30]


def test_each_epoch_has_other_windows_and_each_run_the_same(ground: Path) -> None:
    def epochs() -> Iterator[torch.Tensor]:
        data = UnlabelledScenes([scene_of(ground / "scene.tif")], settings())
        data.setup()
        loader = data.train_dataloader()
        for epoch in range(2):
            loader.sampler.set_epoch(epoch)
            yield torch.cat([batch["image"] for batch in loader])

    (first, second), (again, _) = epochs(), epochs()
    assert torch.equal(first, again)
    assert not torch.equal(first, second)


def test_a_scene_without_data_is_refused(tmp_path: Path) -> None:
    path = write_scene(tmp_path)
    with rasterio.open(path, "r+") as file:
        file.write(np.zeros((4, EDGE, EDGE), dtype=np.uint16))
    data = UnlabelledScenes([scene_of(path)], settings())
    data.look()
    with pytest.raises(SceneError, match=r"no pixel of .* has data"):
        load_unlabelled(data.opened, data.plan)


# ---------------------------------------------------------------- what is written


def test_the_encoder_says_bands_statistics_and_pixel_size(encoder: Encoder, windows: UnlabelledScenes) -> None:
    assert encoder.roles == BANDS
    assert encoder.preparation.channels == windows.preparation.channels[:4]
    assert encoder.pixel_size_m == pytest.approx(10, rel=0.01)
    assert encoder.architecture == {"size": "tiny", "patch": 8, "depth": 1}
    assert encoder.sensors == ("sentinel-2-l1c",)
    assert Encoder.open(encoder.path) == encoder


def test_its_weights_are_those_that_have_learned(encoder: Encoder, ground: Path) -> None:
    network = VisionTransformer(4, depth=1)
    network.load_state_dict(load(encoder.weights))
    kept = torch.load(ground / "encoder_training" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert torch.equal(network.embed.weight, kept["network.encoder.embed.weight"])
    assert torch.isfinite(network(torch.zeros(1, 4, 32, 32))).all()


def test_a_checkpoint_opens_as_a_module_again(encoder: Encoder, ground: Path) -> None:
    module = MaskedPretraining.load_from_checkpoint(ground / "encoder_training" / "checkpoints" / "last.ckpt", weights_only=True)
    assert (module.bands, module.guide) == (BANDS, ("NDVI", "NDWI", "NDBI"))
    assert module(torch.zeros(1, 4, 32, 32)).shape == (1, 16, 192)


def test_the_same_seed_gives_the_same_encoder(encoder: Encoder, ground: Path, tmp_path: Path) -> None:
    scenes = [scene_of(ground / "scene.tif")]
    assert run(settings(), scenes, tmp_path / "again.zip", accelerator="cpu").weights == encoder.weights
    assert run(settings(seed=1), scenes, tmp_path / "other", accelerator="cpu").weights != encoder.weights


def test_a_pretraining_taken_up_again_ends_with_the_same_bits(
    encoder: Encoder, ground: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(self: MaskedPretraining, *_: Any) -> None:
        if self.current_epoch == 1:
            raise RuntimeError("power cut")

    scenes = [scene_of(ground / "scene.tif")]
    with monkeypatch.context() as patch:
        patch.setattr(MaskedPretraining, "on_train_batch_end", stop, raising=False)
        with pytest.raises(RuntimeError, match="power cut"):
            run(settings(), scenes, tmp_path / "halves", accelerator="cpu")
    assert not (tmp_path / "halves").exists()
    again = run(settings(), scenes, tmp_path / "halves", resume=True, accelerator="cpu")
    assert again.weights == encoder.weights
    assert json.loads(again.read("report.json"))["losses"] == json.loads(encoder.read("report.json"))["losses"]


def test_what_is_hidden_has_a_say(encoder: Encoder, ground: Path, tmp_path: Path) -> None:
    plain = run(settings(method="mae"), [scene_of(ground / "scene.tif")], tmp_path / "plain", accelerator="cpu")
    assert plain.weights != encoder.weights
    assert json.loads(plain.read("report.json"))["guide"] == []


@pytest.mark.parametrize("curriculum", ["linear", "none"])
def test_the_cascade_makes_an_encoder_as_well(ground: Path, tmp_path: Path, curriculum: str) -> None:
    words = settings(method="c2fmae", curriculum=curriculum)
    made = run(words, [scene_of(ground / "scene.tif")], tmp_path / "encoder", accelerator="cpu")
    VisionTransformer(4, depth=1).load_state_dict(load(made.weights))
    lines = next((tmp_path / "encoder_training").rglob("metrics.csv")).read_text().splitlines()
    assert {"semantic", "instance", "pixels"} <= set(lines[0].split(","))
    assert "from coarse to fine" in json.loads(made.read("report.json"))["notes"][0]


def test_guessing_gets_better(ground: Path, tmp_path: Path) -> None:
    words = settings(method="mae", epochs=8, draws=32, batch=8, learning_rate=3e-3)
    learned = run(words, [scene_of(ground / "scene.tif")], tmp_path / "encoder", accelerator="cpu")
    losses = json.loads(learned.read("report.json"))["losses"]
    assert losses[-1] < 0.95 * losses[0]


def test_guidance_rises_over_the_training(ground: Path, tmp_path: Path) -> None:
    shares: list[float] = []

    class Watched(MaskedPretraining):
        def on_train_batch_start(self, *_: Any) -> None:
            shares.append(self.progress)

    data = UnlabelledScenes([scene_of(ground / "scene.tif")], settings())
    data.look()
    lightning.Trainer(
        max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False
    ).fit(Watched(data.bands, data.guide, settings()), data)
    assert shares == pytest.approx(np.linspace(0, 1, 8))


@pytest.mark.parametrize("harm", ["weights", "json", "version"])
def test_a_damaged_encoder_is_refused(encoder: Encoder, tmp_path: Path, harm: str) -> None:
    folder = tmp_path / "encoder"
    folder.mkdir()
    for name in ("encoder.json", *encoder.checksums):
        (folder / name).write_bytes((encoder.path / name).read_bytes())
    Encoder.open(folder)
    text = (folder / "encoder.json").read_text()
    if harm == "weights":
        (folder / "encoder.safetensors").write_bytes(encoder.weights[:-1] + b"\x01")
    else:
        (folder / "encoder.json").write_text(
            text[:-9] if harm == "json" else text.replace('"encoder_version": "1"', '"encoder_version": "9"')
        )
    with pytest.raises(PackageError, match=r"is damaged|has encoder version '9'"):
        Encoder.open(folder)


# ---------------------------------------------------------------- settings and the command line


def test_bands_without_any_of_the_indices_ask_for_others(ground: Path) -> None:
    data = UnlabelledScenes([scene_of(ground / "scene.tif")], settings(bands=["green", "red"]))
    with pytest.raises(BandError, match=r"none of NDVI, NDWI, NDBI can be taken from green, red; .* method: mae"):
        data.look()


def test_indices_that_the_bands_do_not_allow_are_left_out(ground: Path) -> None:
    data = UnlabelledScenes([scene_of(ground / "scene.tif")], settings(bands=["nir", "red"]))
    data.look()
    assert data.guide == ("NDVI",)


def test_tiles_are_whole_patches(ground: Path) -> None:
    with pytest.raises(InputError, match="tile: 36 is no multiple of patch: 8"):
        UnlabelledScenes([scene_of(ground / "scene.tif")], settings(tile=36))


def test_shipped_settings_are_those_of_the_recipe() -> None:
    given = read_yaml(Path(__file__).parents[1] / "docs" / "settings" / "masked_pretraining.yaml")
    assert {"scenes", "out", "opening"} <= given.keys()
    parse(Settings, {key: value for key, value in given.items() if key not in ("scenes", "out", "opening")}, source="shipped")


def test_the_command_makes_an_encoder_and_says_how_to_go_on(geoseg, tmp_path: Path) -> None:
    write_scene(tmp_path, "unlabelled.tif")
    opening = ("--sensor", "sentinel-2-l1c", "--bands", ",".join(BANDS))
    words = [word for key, value in QUICK.items() for word in ("-s", f"{key}={value}")]
    ran = geoseg("train", "unlabelled.tif", *opening, "--recipe", "masked_pretraining", "-o", "made", *words)
    assert ran.code == 0, ran.err
    assert "-s pretrained=made" in ran.out
    assert "epoch   2 of 2" in ran.err
    assert "IoU" not in ran.out + ran.err
    assert Encoder.open("made").roles == BANDS


def test_learn_takes_it_all_from_a_file(geoseg, tmp_path: Path) -> None:
    write_scene(tmp_path, "unlabelled.tif")
    opening = {"sensor": "sentinel-2-l1c", "bands": list(BANDS)}
    (tmp_path / "words.yaml").write_text(json.dumps(QUICK | {"scenes": ["unlabelled.tif"], "out": "made", "opening": opening}))
    assert geoseg("learn", "masked_pretraining", "words.yaml", "epochs=1").code == 0
    assert Encoder.open("made").training["epochs"] == 1
    assert "says no labels" in geoseg("learn", "supervised", "words.yaml").sentence


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--labels", "scene.tif"], "labels were given, but the recipe masked_pretraining learns from single scenes without labels"),
        (["--series"], "--series was given"),
        (["-s", "ratio=1"], "at ratio: Input should be less than 1"),
        (["-s", "guide=[NDVY]"], "no spectral index 'NDVY'; did you mean"),
        (["-s", "methods=mae"], "did you mean 'method'?"),
    ],
)
def test_nonsense_is_refused(geoseg, tmp_path: Path, words: list[str], says: str) -> None:
    common = ("train", "scene.tif", "--sensor", "generic", "--recipe", "masked_pretraining", "-o", "new")
    assert says in refusal(geoseg, tmp_path, *common, *words)
