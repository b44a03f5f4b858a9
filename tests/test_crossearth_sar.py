"""CrossEarth-SAR: physics of speckle, experts that begin as one, routing, and numbers of parameters."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("timm")

import torch

from geoseg.backbones.crossearth_sar import BALANCE, CrossEarthSar, FeedForward, Routing
from geoseg.backbones.kernels import stretch_positions
from geoseg.backbones.physics import describe, scaled
from geoseg.errors import PackageError
from geoseg.preprocess.sar_descriptors import describe_sar

ROW, COL = np.mgrid[:512, :512]


def speckle(looks: float, edge: int = 512, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).gamma(looks, 1 / looks, (edge, edge))


# Descriptors


def test_directions_of_a_ramp_of_stripes_and_of_speckle() -> None:
    assert describe_sar(ROW / 512)[0] == 0
    assert describe_sar(1 + np.sin(2 * np.pi * COL / 64))[0] == pytest.approx(math.log(2), abs=1e-3)
    assert describe_sar(speckle(1))[0] == pytest.approx(3.5833, abs=1e-3)


@pytest.mark.parametrize(("looks", "found"), [(1, 2.006), (2, 3.93), (4, 7.75), (16, 30.8)])
def test_looks_are_those_of_the_logarithm(looks: float, found: float) -> None:
    assert describe_sar(speckle(looks))[1] == pytest.approx(found, rel=0.01)
    raw = speckle(looks)
    assert raw.mean() ** 2 / raw.var() == pytest.approx(looks, rel=0.02), "without the logarithm it would be another number"


def test_looks_depend_on_the_unit_and_roughness_falls_with_looks() -> None:
    assert describe_sar(100 * speckle(1))[1] == pytest.approx(11.9, rel=0.03)
    roughness = [describe_sar(speckle(looks))[2] for looks in (1, 2, 4, 16)]
    assert roughness == sorted(roughness, reverse=True)
    assert roughness[0] == pytest.approx(7.6e-4, rel=0.05)
    assert roughness[-1] == pytest.approx(6e-5, rel=0.1)
    blocks = speckle(1).reshape(32, 16, 32, 16).mean(axis=(1, 3))
    assert blocks.var() > 5 * roughness[0], "without the logarithm it is another number"


def test_pixels_without_data_have_no_say() -> None:
    image, valid = speckle(4), np.ones((512, 512), bool)
    valid[:, 256:] = False
    spoilt = np.where(valid, image, 1e6)
    half = describe_sar(image[:, :256])
    np.testing.assert_allclose(describe_sar(spoilt, valid), half, rtol=1e-9)
    assert abs(describe_sar(spoilt)[1] - half[1]) > 1
    assert describe_sar(image, np.zeros_like(valid)).tolist() == [0, 0, 0]


def test_the_network_describes_as_the_function_does() -> None:
    valid = np.ones((2, 70, 90), bool)
    valid[1, 20:, :30] = False
    power = np.stack([speckle(1, 90)[:70], speckle(9, 90, seed=1)[:70]])
    theirs = describe(torch.from_numpy(power), torch.from_numpy(valid))
    for number in range(2):
        np.testing.assert_allclose(theirs[number].numpy(), describe_sar(power[number], valid[number]), rtol=1e-6)
    assert (scaled(theirs) >= 0).all()
    assert (scaled(theirs) <= 1).all()


@pytest.mark.parametrize("edges", [(15, 40), (2, 9)])
def test_images_without_a_block_or_a_direction_are_described(edges: tuple[int, int]) -> None:
    power = speckle(4, 40)[: edges[0], : edges[1]]
    theirs = describe(torch.from_numpy(power)[None], torch.ones(1, *edges, dtype=torch.bool))[0]
    np.testing.assert_allclose(theirs.numpy(), describe_sar(power), rtol=1e-6)
    assert theirs[2] == 0


# Experts


def small(**options: object) -> CrossEarthSar:
    torch.manual_seed(0)
    network = CrossEarthSar(1, **{"size": "tiny", "patch": 8, "depth": 2, "experts": 4, "grid": 4, **options})
    for block in network.blocks:
        block.ls1.gamma.data.fill_(0.5)
        block.ls2.gamma.data.fill_(0.5)
        torch.nn.init.normal_(block.mlp.router.weight, std=0.5)
    return network.eval()


IMAGE, DESCRIPTORS = (
    torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(1)),
    torch.tensor([[3.5, 2.0, 1e-3], [1.0, 30.0, 1e-5]]),
)


def dense(network: CrossEarthSar) -> torch.Tensor:
    """The same transformer with each block's first feed-forward for all tokens."""
    tokens = network.tokens(IMAGE)
    for block in network.blocks:
        tokens = tokens + block.ls1(block.attn(block.norm1(tokens)))
        tokens = tokens + block.ls2(block.mlp.experts[0](block.norm2(tokens)))
    return network.norm(tokens)


@pytest.mark.parametrize("top", [1, 2, 4])
def test_experts_that_are_clones_are_the_dense_network(top: int) -> None:
    network = small(top=top)
    with torch.inference_mode():
        assert (network(IMAGE, DESCRIPTORS) - dense(network)).abs().max() < 1e-5
        for block in network.blocks:
            block.mlp.experts[1] = FeedForward(network.width)
        assert (network(IMAGE, DESCRIPTORS) - dense(network)).abs().max() > 1e-3


def test_with_probabilities_as_weights_they_are_not() -> None:
    network = small(gate="probability")
    with torch.inference_mode():
        assert (network(IMAGE, DESCRIPTORS) - dense(network)).abs().max() > 1e-3


@pytest.mark.parametrize(("gate", "top", "teaches"), [("normalised", 1, False), ("normalised", 2, True), ("probability", 1, True)])
def test_what_teaches_the_router(gate: str, top: int, teaches: bool) -> None:
    network = small(gate=gate, top=top)
    for block in network.blocks:
        for expert in block.mlp.experts:
            torch.nn.init.normal_(expert.fc2.weight, std=0.1)
    network(IMAGE, DESCRIPTORS).square().sum().backward()
    gradient = network.blocks[0].mlp.router.weight.grad.abs().max()
    assert (gradient > 1e-5) == teaches
    network.zero_grad()
    network(IMAGE, DESCRIPTORS)
    network.balance().backward()
    assert network.blocks[0].mlp.router.weight.grad.abs().max() > 0


@pytest.mark.parametrize(
    ("size", "total", "active"), [("small", 92.98e6, 22.08e6), ("base", 369.98e6, 86.64e6), ("large", 1311.76e6, 304.52e6)]
)
def test_the_numbers_of_parameters_are_the_published_ones(size: str, total: float, active: float) -> None:
    with torch.device("meta"):
        network = CrossEarthSar(3, size=size)
    assert sum(parameter.numel() for parameter in network.parameters()) == pytest.approx(total, rel=1e-3)
    assert network.active_parameters() == pytest.approx(active, rel=1e-3)
    with torch.device("meta"):
        other = CrossEarthSar(3, size=size, experts=5)
    assert sum(parameter.numel() for parameter in other.parameters()) < 0.9 * total, "with five experts it is another network"
    assert other.active_parameters() == pytest.approx(active, rel=1e-3), "of which a token meets as much"


def test_the_balance_is_least_where_all_experts_have_as_much() -> None:
    tokens = torch.arange(60).reshape(2, 30)
    even = Routing(torch.full((2, 30, 6), 1 / 6), tokens[..., None] % 6)
    assert BALANCE * even.balance() == pytest.approx(0.005)
    one = Routing(torch.nn.functional.one_hot(torch.zeros(2, 30, dtype=torch.long), 6).float(), torch.zeros(2, 30, 1, dtype=torch.long))
    assert BALANCE * one.balance() == pytest.approx(0.03)
    some = Routing(torch.tensor([0.5, 0.1, 0.1, 0.1, 0.1, 0.1]).expand(2, 30, -1), torch.where(tokens < 30, 0, tokens % 6)[..., None])
    assert 0.006 < BALANCE * some.balance() < 0.029, "and between the two for what lies between them"


def test_descriptors_alone_change_the_choice() -> None:
    network = small()
    with torch.inference_mode():
        network(IMAGE, DESCRIPTORS)
        before = network.blocks[0].mlp.routing.chosen
        network(IMAGE, DESCRIPTORS.flip(0))
        assert (network.blocks[0].mlp.routing.chosen != before).any()
        for block in network.blocks:
            block.mlp.router.weight[:, -3:] = 0
        network(IMAGE, DESCRIPTORS)
        before = network.blocks[0].mlp.routing.chosen
        network(IMAGE, DESCRIPTORS.flip(0))
        assert torch.equal(network.blocks[0].mlp.routing.chosen, before), "a router that does not look at them chooses as before"


def test_tokens_in_another_order_come_out_in_that_order() -> None:
    experts = small().blocks[0].mlp
    tokens, order = torch.randn(2, 9, 192), torch.randperm(9)
    with torch.inference_mode():
        scales = scaled(DESCRIPTORS)
        torch.testing.assert_close(experts(tokens[:, order], scales), experts(tokens, scales)[:, order])
        assert not torch.allclose(experts(tokens[:, order], scales), experts(tokens, scales))
        network, turned = small(), IMAGE.flip(2)
        network.pos_embed.data *= 50
        assert not torch.allclose(network(turned, DESCRIPTORS), network(IMAGE, DESCRIPTORS).flip(1), atol=1e-3), "places tell them apart"


@pytest.mark.parametrize(("count", "top"), [(2, 1), (6, 1), (6, 3)])
def test_only_the_chosen_experts_are_computed(count: int, top: int, monkeypatch: pytest.MonkeyPatch) -> None:
    network, seen = small(experts=count, top=top), []
    for expert in network.blocks[0].mlp.experts:
        expert.register_forward_hook(lambda _, given, __: seen.append(len(given[0])))
    with torch.inference_mode():
        network(IMAGE, DESCRIPTORS)
    assert sum(seen) == 2 * 17 * top, "whatever the number of experts"
    seen.clear()
    tokens, scales = torch.randn(2, 17, 192), scaled(DESCRIPTORS)
    with torch.inference_mode():
        few = network.blocks[0].mlp(tokens, scales)
        assert sum(seen) == 2 * 17 * top
        seen.clear()
        monkeypatch.setattr(torch.onnx, "is_in_onnx_export", lambda: True)
        torch.testing.assert_close(network.blocks[0].mlp(tokens, scales), few)
    assert seen == [2] * count, "a graph for other runtimes computes all tokens of both images with every expert, for the same answer"


def test_what_experts_see_is_told_by_descriptor() -> None:
    network, count = small(depth=1), 12
    looks = torch.linspace(1, 40, count)
    described = torch.stack([torch.full((count,), 3.0), looks, torch.full((count,), 1e-3)], dim=1)
    image = IMAGE[:1].expand(count, -1, -1, -1)
    router = network.blocks[0].mlp.router
    with torch.inference_mode():
        router.weight[:, -3:] = 0
        router.weight[2, -2] = 30  # the third expert likes smooth images
        network(image, described)
        told = network.utilisation()
        assert len(told) == 3 * 4
        assert told["equivalent number of looks and expert_2"] > 0.6
        assert told["equivalent number of looks and expert_0"] < 0
        assert told["local roughness and expert_2"] == 0, "what is the same in all images goes with nothing"
        router.weight[2, -2] = 0
        network(image, described)
        assert set(network.utilisation().values()) == {0.0}, "a router that does not look at them"
        network(image[:2], described[:2])
        assert network.utilisation() == {}, "two images always go together"


def test_it_learns_in_short_numbers() -> None:
    network = small(gate="probability")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        made = network(IMAGE, DESCRIPTORS)
        (made.float().square().mean() + network.balance()).backward()
    gradient = network.blocks[0].mlp.router.weight.grad
    assert torch.isfinite(gradient).all()
    assert gradient.abs().max() > 0
    with torch.inference_mode():
        assert (made - network(IMAGE, DESCRIPTORS)).abs().mean() < 0.1


def test_a_copy_can_be_made_between_two_passes() -> None:
    network = small()
    before = network(IMAGE, DESCRIPTORS)
    torch.testing.assert_close(copy.deepcopy(network)(IMAGE, DESCRIPTORS), before)


def test_positions_keep_the_class_token_and_their_own_grid() -> None:
    positions = torch.randn(1, 1 + 16, 8)
    assert torch.equal(stretch_positions(positions, (4, 4)), positions)
    wide = stretch_positions(positions, (6, 9))
    assert wide.shape == (1, 1 + 54, 8)
    assert torch.equal(wide[:, 0], positions[:, 0])


@pytest.mark.parametrize("options", [{"size": "huge"}, {"top": 7, "experts": 6}, {"gate": "soft"}, {"depth": 0}])
def test_what_cannot_be_built_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(PackageError):
        CrossEarthSar(1, **options)
