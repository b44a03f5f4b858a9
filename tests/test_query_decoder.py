"""Mask2Former's decoder: scores that are shares, queries that look where their masks lie, and networks that learn with it."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from labelled_ground import PROFILE, QUICK

pytest.importorskip("torch")
pytest.importorskip("lightning")
pytest.importorskip("timm")

import torch

from geoseg.backbones.query_decoder import QueryDecoder, QueryLayer, Said, TokenQueries, pixel_logits, where_masked
from geoseg.errors import InputError, PackageError
from geoseg.legend import Legend
from geoseg.mapping.make_map import make_map
from geoseg.models.description import Output
from geoseg.models.export import check_parity, export_onnx
from geoseg.models.segmenter import ScoredNetwork, Segmenter, build_network
from geoseg.models.set_loss import set_loss
from geoseg.recipes._settings import Settings
from geoseg.recipes.modules import SupervisedSegmentation
from geoseg.recipes.supervised import run
from geoseg.scenes.open_scene import open_scene

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL: dict[str, Any] = {"features": 32, "queries": 8, "layers": 4}
VIT = {"family": "vit.Pyramid", "depth": 4, "in_channels": 2, "classes": 3, "decoder": "query", **SMALL}
SAR = {"family": "crossearth_sar.Pyramid", "size": "tiny", "patch": 8, "depth": 2, "experts": 2, "in_channels": 1, "classes": 2}


def decoder(**changes: Any) -> QueryDecoder:
    torch.manual_seed(0)
    return QueryDecoder((24,) * 4, (8,) * 4, 3, **{**SMALL, **changes})


def levels(channels: tuple[int, ...] = (24,) * 4, edges: tuple[int, ...] = (6,) * 4) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(2, channel, edge, edge, generator=generator) for channel, edge in zip(channels, edges, strict=True)]


# ---------------------------------------------------------------- scores


@pytest.mark.parametrize("shift", [0.0, -200.0, 200.0])
def test_softmax_gives_each_class_its_share_of_what_queries_say(shift: float) -> None:
    """Also where no mask, or every mask, holds a pixel beyond what 32 bits can tell from 0 and 1."""
    generator = torch.Generator().manual_seed(0)
    said = Said(3 * torch.randn(2, 5, 4, generator=generator), 4 * torch.randn(2, 5, 6, 7, generator=generator) + shift, 1)
    scores = pixel_logits(said).softmax(dim=1)
    classes, masks = said.classes.double().softmax(dim=-1)[..., :-1], said.masks.double().sigmoid()
    sums = torch.einsum("bqc,bqrk->bcrk", classes, masks)
    shares = sums / sums.sum(dim=1, keepdim=True)
    assert torch.isfinite(pixel_logits(said)).all()
    torch.testing.assert_close(scores.double(), shares, atol=1e-6, rtol=1e-4)
    assert (sums.float().softmax(dim=1) - shares).abs().max() > 0.1, "sums themselves are no logits"


def test_masks_are_stretched_before_they_are_shares() -> None:
    said = Said(torch.randn(1, 5, 4), 4 * torch.randn(1, 5, 6, 7), 4)
    large = torch.nn.functional.interpolate(said.masks, scale_factor=4.0, mode="bilinear", align_corners=False)
    torch.testing.assert_close(pixel_logits(said), pixel_logits(Said(said.classes, large, 1)))
    assert pixel_logits(said).shape == (1, 3, 24, 28)


# ---------------------------------------------------------------- masked attention


def test_a_query_sees_nothing_outside_its_mask() -> None:
    torch.manual_seed(0)
    layer = QueryLayer(16).eval()
    x, place, values = torch.randn(1, 3, 16), torch.randn(3, 16), torch.randn(1, 10, 16)
    other = values.clone()
    other[:, 5:] += 7.0
    where = torch.zeros(1, 3, 10, dtype=torch.bool)
    where[..., :5] = True
    with torch.inference_mode():
        assert torch.equal(layer(x, place, values, values, where), layer(x, place, other, other, where))
        anywhere = torch.ones_like(where)
        assert (layer(x, place, values, values, anywhere) - layer(x, place, other, other, anywhere)).abs().max() > 1e-2


def test_a_mask_that_lies_nowhere_lets_its_query_look_everywhere() -> None:
    masks = torch.full((1, 2, 8, 8), -5.0)
    masks[0, 1, :4, :4] = 5.0
    where = where_masked(masks, (4, 4)).reshape(2, 4, 4)
    assert where[0].all()
    expected = torch.zeros(4, 4, dtype=torch.bool)
    expected[:2, :2] = True
    assert torch.equal(where[1], expected)


def test_masks_decide_what_is_said_next(monkeypatch: pytest.MonkeyPatch) -> None:
    network = decoder().eval()
    with torch.inference_mode():
        masked = network.ask(levels())
        monkeypatch.setattr(
            "geoseg.backbones.query_decoder.where_masked",
            lambda masks, size: torch.ones(*masks.shape[:2], size[0] * size[1], dtype=torch.bool),
        )
        unmasked = network.ask(levels())
    assert torch.equal(masked[0].masks, unmasked[0].masks), "before the first layer nobody has looked"
    assert (masked[-1].masks - unmasked[-1].masks).abs().max() > 1e-2


# ---------------------------------------------------------------- the network


def test_everything_in_it_learns() -> None:
    network = decoder().train()
    network(levels())
    set_loss(network.said, torch.randint(0, 3, (2, 48, 48))).backward()
    assert {name for name, one in network.named_parameters() if one.grad is None or not one.grad.abs().max() > 0} == set()
    shallow = decoder(layers=1).train()
    shallow(levels())
    set_loss(shallow.said, torch.randint(0, 3, (2, 48, 48))).backward()
    assert [bool(row.abs().max() > 0) for row in shallow.level.grad] == [True, False, False], "one layer looks at one level"


@pytest.mark.parametrize(
    ("channels", "strides", "edges"),
    [
        ((24,) * 4, (8,) * 4, (5,) * 4),
        ((24,), (16,), (3,)),
        ((24,) * 3, (14,) * 3, (3,) * 3),
        ((4, 8, 16, 32), (4, 8, 16, 32), (16, 8, 4, 2)),
        ((4, 8), (2, 4), (8, 4)),
    ],
)
def test_scores_have_the_images_size(channels: tuple[int, ...], strides: tuple[int, ...], edges: tuple[int, ...]) -> None:
    network = QueryDecoder(channels, strides, 3, **SMALL).eval()
    size = edges[0] * strides[0]
    with torch.inference_mode():
        assert network(levels(channels, edges)).shape == (2, 3, size, size)
        assert len(network.ask(levels(channels, edges))) == SMALL["layers"] + 1


def test_the_published_sizes_are_the_usual_ones() -> None:
    """100 queries 256 wide in 9 layers, as CrossEarth has them; four sizes from 4 to 32 pixels of a transformer with patches of 16."""
    with torch.device("meta"):
        network = TokenQueries(1024, 24, 16, 7)
    assert network.taken == [6, 12, 18, 24]
    assert network.decoder.content.shape == (100, 256)
    assert len(network.decoder.layers) == 9
    assert network.decoder.steps == (4, 8, 16, 32)
    assert network.decoder.looked_at == [3, 2, 1]


def test_nothing_is_kept_of_a_pass_but_in_training() -> None:
    network = decoder().train()
    network(levels())
    assert network.said is not None
    assert copy.deepcopy(network).said is None, "torch does not copy gradients"
    network.eval()(levels())
    assert network.said is None


@pytest.mark.parametrize("architecture", [VIT, {**SAR, "decoder": "query", **SMALL}])
def test_onnx_agrees_at_any_size(architecture: dict[str, Any]) -> None:
    torch.manual_seed(0)
    network = build_network(architecture)
    channels, classes = architecture["in_channels"], architecture["classes"]
    scored = ScoredNetwork(network.eval(), [Output.from_legend("classes", Legend.from_names(["a", "b", "c"][:classes]))])
    rng = np.random.default_rng(0)
    shapes = ((1, channels, 64, 64), (3, channels, 40, 96), (2, channels, 8, 8))
    parity = check_parity(export_onnx(scored, channels), scored, [rng.normal(0, 1, shape).astype(np.float32) for shape in shapes])
    assert parity.agreement >= 0.999
    assert network.chooses, "a mask may end a pixel further in another runtime"
    assert not build_network({name: value for name, value in VIT.items() if name not in ("decoder", *SMALL)}).chooses


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"decoder": "mask2former"}, "known are pyramid, query"),
        ({"queries": 2}, "2 queries for 3 classes"),
        ({"features": 30}, "expected a multiple of 8"),
        ({"layers": 0}, "expected at least 1"),
        ({"patch": 2}, "give at least 4"),
        ({"detail": 8}, "it takes no detail"),
        ({"classes": 3, "outputs": {"one": 3, "other": 2}}, "no outputs but classes"),
    ],
)
def test_what_cannot_be_built_is_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(PackageError, match=says):
        build_network({**VIT, **changes})


# ---------------------------------------------------------------- trainings


def test_its_loss_is_that_of_the_set_and_the_pyramids_that_of_pixels() -> None:
    batch = {"image": torch.randn(2, 1, 32, 32), "labels": torch.randint(-1, 2, (2, 32, 32))}
    words = {"family": SAR["family"], "network": {name: SAR[name] for name in ("size", "patch", "depth", "experts")}}
    queries = SupervisedSegmentation(["land", "water"], ["vv"], {**words, "network": {**words["network"], "decoder": "query", **SMALL}})
    loss, _ = queries.loss_of(queries.network, batch)
    parts = set_loss(queries.network.queries.said, batch["labels"]) + queries.network.extra_loss()
    assert loss.item() == pytest.approx(parts.item(), rel=1e-6)
    assert queries.architecture.get("detail", 0) == 0
    assert queries.learning_rate == 5e-4
    pyramid = SupervisedSegmentation(["land", "water"], ["vv"], words)
    assert pyramid.network.own_loss(batch["labels"]) is None
    loss, logits = pyramid.loss_of(pyramid.network, batch)
    parts = pyramid.loss(logits, batch["labels"], None) + pyramid.network.extra_loss()
    assert loss.item() == pytest.approx(parts.item(), rel=1e-6)


def test_an_image_that_was_continued_is_compared_where_it_lies() -> None:
    """Patches of 14 pixels: images of 32 are continued to 42, masks have 12 places of 3.5 pixels."""
    torch.manual_seed(0)
    backbone = {"family": "dinov2_vit", "depth": 2, "grid": 4}
    architecture = {"family": "encoder.Segmenter", "backbone": backbone, "roles": ["red"], "in_channels": 1, "classes": 2}
    network = build_network({**architecture, "decoder": "query", **SMALL}).train()
    assert network(torch.randn(2, 1, 32, 32))["classes"].shape == (2, 2, 32, 32)
    assert network.queries is not None
    assert network.queries.said is not None
    cut = []
    for one in network.queries.said:
        assert one.masks.shape[-2:] == (12, 12)
        masks = torch.nn.functional.interpolate(one.masks, scale_factor=3.5, mode="bilinear", align_corners=False)
        cut.append(Said(one.classes, masks[..., :32, :32], 1))
    labels = (cut[-1].masks[:, 0] > cut[-1].masks[:, 0].median()).long()  # what a query says already
    loss = network.own_loss(labels)
    assert loss is not None
    assert loss.item() == pytest.approx(set_loss(cut, labels).item(), rel=1e-4)
    whole = (torch.nn.functional.interpolate(one.masks, size=(32, 32), mode="bilinear") for one in network.queries.said)
    wide = [Said(one.classes, masks, 1) for one, masks in zip(cut, whole, strict=True)]
    assert loss.item() != pytest.approx(set_loss(wide, labels).item(), rel=1e-3), "not as if the masks ended with the image"


def test_a_loss_of_pixels_is_refused() -> None:
    words = {"family": "vit.Pyramid", "network": {"depth": 1, "decoder": "query", **SMALL}}
    with pytest.raises(InputError, match="loss: lovasz and a decoder of queries"):
        SupervisedSegmentation(["a", "b"], ["red"], {**words, "loss": "lovasz"})
    with pytest.raises(InputError, match=r"label_smoothing: 0\.1"):
        SupervisedSegmentation(["a", "b"], ["red"], {**words, "label_smoothing": 0.1})


def test_it_learns_a_map(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    water = (np.add.outer(np.arange(192), np.arange(192)) // 20) % 3 == 0
    power = np.where(water, 0.01, 0.06) * rng.gamma(4, 0.25, (192, 192))
    with rasterio.open(tmp_path / "scene.tif", "w", count=1, dtype="float32", nodata=0, **PROFILE) as file:
        file.write(power.astype(np.float32), 1)
        file.descriptions = ("VV",)
    codes = np.where(rng.random(water.shape) < 0.3, 255, np.where(water, 20, 10)).astype(np.uint8)
    with rasterio.open(tmp_path / "labels.tif", "w", count=1, dtype="uint8", nodata=255, **PROFILE) as file:
        file.write(codes, 1)
    scene = open_scene(tmp_path / "scene.tif", sensor="sentinel-1-rtc", unit="linear power")
    sizes = {"size": "tiny", "patch": 8, "depth": 2, "experts": 2, "decoder": "query", "features": 32, "queries": 6, "layers": 3}
    changes = {"bands": ["vv"], "family": SAR["family"], "network": sizes, "learning_rate": 3e-3, "epochs": 6, "draws": 32}
    settings = Settings(**{**QUICK, **changes, "compare": "none", "pictures": 0})
    package = run(settings, [scene], [tmp_path / "labels.tif"], tmp_path / "model", accelerator="cpu")
    assert json.loads(package.read("report.json"))["onnx_parity"]["agreement"] >= 0.999
    make_map(scene, package, tmp_path / "map")
    with rasterio.open(tmp_path / "map" / "scene_classes.tif") as file:
        right = (file.read(1) == np.where(water, 20, 10)).mean()
    assert right > 0.8
    checkpoint = tmp_path / "model_training" / "checkpoints" / "last.ckpt"
    module = SupervisedSegmentation.load_from_checkpoint(checkpoint, weights_only=True)
    assert module.architecture == package.architecture
    assert isinstance(module.network, Segmenter)
    assert module.network.queries is not None
