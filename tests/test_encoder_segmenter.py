"""Any backbone with a decoder: sizes, ONNX, learning from labels with a fetched encoder, maps of it, and its licence on the way."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from command_line import Ran, refusal
from labelled_ground import QUICK, write_ground

pytest.importorskip("torch")
pytest.importorskip("lightning")
pytest.importorskip("timm")

import rasterio
import torch
from safetensors.torch import load

from geoseg.backbones.contract import build_backbone, place_bands
from geoseg.backbones.encoder_segmenter import EncoderSegmenter, LevelsDecoder
from geoseg.errors import PackageError
from geoseg.models.encoders import Encoder, EncoderDescription, write_encoder
from geoseg.models.export import check_parity, export_onnx, save_weights
from geoseg.models.package import CARD, ModelPackage
from geoseg.models.segmenter import ScoredNetwork, Segmenter, build_network
from geoseg.preprocess.prepare import BandNeed, Channel, Preparation
from geoseg.recipes._encoder_training import _sources
from geoseg.recipes._inherited import with_terms_of
from geoseg.recipes._pretrained import load_pretrained, with_its_statistics, with_network_of
from geoseg.recipes._settings import Settings
from geoseg.recipes.supervised import run
from geoseg.runtimes.open_runtime import open_runtime
from geoseg.scenes.open_scene import open_scene
from geoseg.settings import parse

pytestmark = pytest.mark.usefixtures("one_thread")

PATCHES_14: dict[str, Any] = {"family": "dinov2_vit", "depth": 2, "grid": 4}
BACKBONES: dict[str, dict[str, Any]] = {
    "stages": {"family": "timm_features", "model": "test_resnet"},
    "patches of 16": {"family": "timm_features", "model": "test_vit"},
    "patches of 14": PATCHES_14,
}
ROLES = ["red", "nir"]
RESTRICTION = "non-commercial use only"
OPENING = {"sensor": "sentinel-2-l1c", "bands": ["red", "nir"]}
FEW = {key: value for key, value in QUICK.items() if key not in ("encoder", "network", "learning_rate", "bands")} | {
    "network": {"features": 16},
    "epochs": 1,
    "draws": 8,
    "compare": "none",
    "pictures": 0,
}


def network(backbone: dict[str, Any], **more: Any) -> Segmenter:
    torch.manual_seed(0)
    words = {"family": "encoder.Segmenter", "backbone": backbone, "roles": ROLES, "in_channels": 2, "classes": 3, "features": 16}
    return build_network({**words, **more}).eval()


def fetched(out: Path, architecture: dict[str, Any], roles: tuple[str, ...] = ("nir", "red", "blue"), **more: Any) -> Encoder:
    """An encoder as fetching writes it, in random numbers, of bands in reflectance."""
    torch.manual_seed(5)
    needs = tuple(BandNeed(role=role, unit=more.pop(f"unit_{role}", "reflectance")) for role in roles)
    preparation = Preparation(bands=needs, channels=tuple(Channel(name=role, mean=0.12, std=0.1) for role in roles))
    words: dict[str, Any] = {
        "name": "fetched",
        "title": "Fetched",
        "licence": "MIT",
        "preparation": preparation,
        "architecture": architecture,
        "pixel_size_m": 10,
        "created": datetime(2026, 1, 1, tzinfo=UTC),
        "attribution": "Someone, 2026",
    }
    return write_encoder(out, EncoderDescription(**{**words, **more}), weights=save_weights(build_backbone(architecture, roles)))


@pytest.mark.parametrize("name", BACKBONES)
def test_every_pixel_gets_its_planes_and_onnx_says_the_same(name: str) -> None:
    scored = ScoredNetwork(network(BACKBONES[name]), [Classes()]).eval()
    images = [np.random.default_rng(0).normal(0, 1, (2, 2, *size)).astype(np.float32) for size in ((64, 96), (128, 128))]
    for image in images:
        assert scored(torch.from_numpy(image))["classes"].shape == (2, 3, *image.shape[-2:])
    assert check_parity(export_onnx(scored, 2), scored, images).largest_difference < 1e-4


class Classes:
    """What an output says of itself."""

    name, kind = "classes", "classes"


def test_patches_of_14_take_any_even_tile_and_continue_its_edge() -> None:
    inner = network(PATCHES_14).network
    assert isinstance(inner, EncoderSegmenter)
    assert (inner.stride, inner.whole) == (2, 14)
    image = torch.randn(1, 2, 64, 64)
    continued = torch.nn.functional.pad(image, (0, 6, 0, 6), mode="replicate")
    with torch.inference_mode():
        torch.testing.assert_close(inner(image), inner(continued)[..., :64, :64])
        other = torch.nn.functional.pad(image, (0, 6, 0, 6))
        assert not torch.allclose(inner(image), inner(other)[..., :64, :64], atol=1e-5)


@pytest.mark.parametrize("strides", [(2, 4, 8), (14, 14, 14), (4, 4, 8, 16), (1, 2)])
def test_the_decoder_takes_any_strides_and_every_level_has_a_say(strides: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    decoder = LevelsDecoder([8] * len(strides), strides, 3, features=16).eval()
    edge = 4 * strides[-1]
    levels = [torch.randn(1, 8, edge // stride, edge // stride) for stride in strides]
    with torch.inference_mode():
        planes = decoder(levels)
        assert planes.shape == (1, 3, edge, edge)
        for level in range(len(levels)):
            changed = [torch.zeros_like(one) if number == level else one for number, one in enumerate(levels)]
            assert not torch.allclose(decoder(changed), planes)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"decoder": "pyramide"}, "there is no decoder 'pyramide'"),
        ({"roles": ["red"]}, "name one band for each channel"),
        ({"backbone": {"family": "timm_feature", "model": "test_vit"}}, "there is no backbone 'timm_feature'; did you mean timm_features"),
        ({"backbone": {"family": "timm_features", "model": "resnet_19"}}, "timm has no network"),
        ({"depht": 3}, "has no option 'depht'"),
    ],
)
def test_what_cannot_be_built_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(PackageError, match=said):
        network(**{"backbone": BACKBONES["stages"], **change})


# Starting with an encoder


def test_weights_come_by_role_and_new_bands_begin_without_a_say(tmp_path: Path) -> None:
    encoder = fetched(tmp_path / "encoder", BACKBONES["patches of 16"])
    settings = with_network_of(encoder, parse(Settings, {}, source="test"), ["red", "swir16", "nir"])
    assert settings.family == "encoder.Segmenter"
    assert settings.learning_rate == 5e-4
    built = build_network({"family": settings.family, "in_channels": 3, "classes": 2, **settings.network})
    said = load_pretrained(built, encoder, ["red", "swir16", "nir"])
    kernels, theirs = built.state_dict()["network.encoder.network.patch_embed.proj.weight"], load(encoder.weights)
    known = theirs["network.patch_embed.proj.weight"]
    assert torch.equal(kernels[:, 0], known[:, 1])
    assert torch.equal(kernels[:, 2], known[:, 0])
    assert not kernels[:, 1].any()
    assert said == "Starts from fetched, which has learned red, nir at 10 m; swir16 it has never seen; of its bands blue are not used."


def test_a_backbone_that_cannot_place_bands_takes_its_own_only(monkeypatch: pytest.MonkeyPatch) -> None:
    from geoseg.backbones import timm_features

    monkeypatch.delattr(timm_features, "place")
    state = {"a": torch.ones(1)}
    assert place_bands(BACKBONES["stages"], state, ["red", "nir"], ["red", "nir"]) == state
    with pytest.raises(PackageError, match=r"reads red, nir in this order.*-s bands=\[red, nir\]"):
        place_bands(BACKBONES["stages"], state, ["red", "nir"], ["nir", "red"])


def test_statistics_that_do_not_fit_are_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    encoder = fetched(tmp_path / "encoder", BACKBONES["stages"])
    bands = (BandNeed(role="red", unit="reflectance"), BandNeed(role="nir", unit="reflectance"))
    far = Preparation(bands=bands, channels=(Channel(name="red", mean=0.43, std=0.1), Channel(name="nir", mean=0.41, std=0.1)))
    with caplog.at_level(logging.WARNING):
        theirs = with_its_statistics(far, encoder)
    assert [(one.mean, one.std) for one in theirs.channels] == [(0.12, 0.1)] * 2
    assert [record.getMessage().split()[0] for record in caplog.records] == ["red"]  # more than 3 deviations; nir is nearer


def test_what_learned_from_plain_numbers_leaves_bands_in_a_unit_their_statistics(tmp_path: Path) -> None:
    encoder = fetched(tmp_path / "encoder", BACKBONES["stages"], unit_red="1")
    bands = (BandNeed(role="red", unit="reflectance"), BandNeed(role="nir", unit="reflectance"))
    own = Preparation(bands=bands, channels=(Channel(name="red", mean=0.2, std=0.05), Channel(name="nir", mean=0.3, std=0.1)))
    assert [(one.mean, one.std) for one in with_its_statistics(own, encoder).channels] == [(0.2, 0.05), (0.12, 0.1)]
    plain = Preparation(bands=(BandNeed(role="red", unit="1"),), channels=(Channel(name="red", mean=80, std=30),))
    assert with_its_statistics(plain, encoder).channels[0].mean == 0.12
    with pytest.raises(PackageError, match="has learned nir in reflectance, the scene has it in 1"):
        with_its_statistics(Preparation(bands=(BandNeed(role="nir", unit="1"),), channels=(Channel(name="nir"),)), encoder)


def test_a_convention_of_radar_that_nobody_stated_is_none_to_clash_with(tmp_path: Path) -> None:
    encoder = fetched(tmp_path / "encoder", BACKBONES["stages"], ("vv",), unit_vv="dB")

    def scene(convention: Any) -> Preparation:
        return Preparation(bands=(BandNeed(role="vv", unit="dB", convention=convention),), channels=(Channel(name="vv", mean=0.2),))

    assert with_its_statistics(scene("sigma0"), encoder).channels[0].mean == 0.12
    bound = encoder.model_copy(update={"preparation": scene("gamma0_rtc")})
    with pytest.raises(PackageError, match="has learned vv in dB gamma0_rtc, the scene has it in dB sigma0"):
        with_its_statistics(scene("sigma0"), bound)


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_ground(tmp_path_factory.mktemp("ground"))


@pytest.fixture(scope="module")
def package(ground: Path) -> ModelPackage:
    """Learned from labels with patches of 14, from an encoder that may not be used for money."""
    encoder = fetched(ground / "encoder", PATCHES_14, licence="CC-BY-NC-4.0", restriction=RESTRICTION)
    words = parse(Settings, FEW | {"pretrained": str(encoder.path)}, source="test")
    return run(words, [open_scene(ground / "scene.tif", **OPENING)], [ground / "labels.tif"], ground / "model", accelerator="cpu")


def test_a_package_maps_by_torch_and_onnxruntime_alike(package: ModelPackage) -> None:
    assert package.architecture["backbone"] == PATCHES_14
    assert package.architecture["roles"] == ["red", "nir"]
    assert [(one.mean, one.std) for one in package.preparation.channels] == [(0.12, 0.1)] * 2
    image = np.random.default_rng(1).normal(0, 1, (1, 2, package.tile, package.tile)).astype(np.float32)
    onnx, torch_ = (open_runtime(package, name)(image)["classes"] for name in ("onnx", "torch"))
    np.testing.assert_allclose(onnx, torch_, rtol=0, atol=1e-4)
    report = json.loads(package.read("report.json"))
    assert any(note.startswith("Starts from fetched, which has learned red, nir at 10 m; of its bands blue") for note in report["notes"])


def test_the_licence_goes_with_the_package(package: ModelPackage) -> None:
    assert (package.licence, package.restriction) == ("CC-BY-NC-4.0", RESTRICTION)
    assert "Someone, 2026" in package.attribution
    card = package.read(CARD).decode()
    assert "| licence of the weights | CC-BY-NC-4.0 |" in card
    assert f"| restriction | {RESTRICTION} |" in card


def test_the_licence_is_said_on_export(geoseg: Callable[..., Ran], package: ModelPackage, ground: Path, tmp_path: Path) -> None:
    words = ("--scenes", ground / "scene.tif", "--sensor", "sentinel-2-l1c", "--bands", "red,nir")
    ran = geoseg("export", package.path, "--to", "onnx", *words, "-o", tmp_path / "net.onnx")
    assert ran.code == 0, ran.err
    assert ran.out.splitlines()[-1] == f"licence CC-BY-NC-4.0: {RESTRICTION}"
    onnx = pytest.importorskip("onnx")
    metadata = {one.key: json.loads(one.value) for one in onnx.load(tmp_path / "net.onnx").metadata_props}
    assert (metadata["licence"], metadata["restriction"]) == ("CC-BY-NC-4.0", RESTRICTION)


def test_another_licence_may_be_named_but_the_restriction_stays(tmp_path: Path) -> None:
    free, bound = fetched(tmp_path / "free", BACKBONES["stages"]), fetched(tmp_path / "bound", BACKBONES["stages"], restriction=RESTRICTION)
    mine = free.model_copy(update={"licence": "CC-BY-4.0", "attribution": "Me"})
    assert (with_terms_of(mine, free).licence, with_terms_of(mine, free).restriction) == ("CC-BY-4.0", "")
    assert with_terms_of(mine, bound).restriction == RESTRICTION
    assert with_terms_of(mine, bound).attribution == "Me Someone, 2026"
    assert with_terms_of(mine.model_copy(update={"licence": "other"}), bound).licence == "MIT"


def test_an_encoder_learned_from_another_knows_its_terms(tmp_path: Path) -> None:
    bound = fetched(tmp_path / "bound", BACKBONES["stages"], restriction=RESTRICTION)
    words: Any = SimpleNamespace(start=None, teacher=str(bound.path))
    assert [source.restriction for source in _sources(words)] == [RESTRICTION]
    assert _sources(cast(Any, SimpleNamespace(teacher="dinov2.pth"))) == []


def test_a_scene_is_mapped_and_the_map_covers_it(geoseg: Callable[..., Ran], package: ModelPackage, ground: Path, place: Path) -> None:
    words = ("--sensor", "sentinel-2-l1c", "--bands", "red,nir", "--model", package.path)
    ran = geoseg("predict", ground / "scene.tif", *words, "-o", "out")
    assert ran.code == 0, ran.err
    with rasterio.open(place / "out" / "scene_classes.tif") as file:
        assert set(np.unique(file.read(1))) <= {10, 20}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-s", "family=smp.Unet"), "the network of"),
        (("-s", "bands=[nir]", "-s", "network={roles: [red]}"), "has roles ['nir'], and network says"),
        (("--bands", "swir16,vv"), "choose bands that it knows"),
    ],
)
def test_what_does_not_go_with_the_encoder_is_refused(
    geoseg: Callable[..., Ran], ground: Path, place: Path, words: tuple[str, ...], said: str
) -> None:
    fetched(place / "stages", BACKBONES["stages"])
    bands = () if "--bands" in words else ("--bands", "red,nir")
    given = ("--labels", ground / "labels.tif", "--sensor", "generic", "--unit", "reflectance", *bands, "-s", "pretrained=stages")
    assert said in refusal(geoseg, place, "train", ground / "scene.tif", *given, *words, "-o", "new")
