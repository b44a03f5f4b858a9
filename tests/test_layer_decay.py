"""Learning rates that fall towards the image: which parameter learns how fast, whatever the schedule."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("timm")
pytest.importorskip("lightning")

import torch

from geoseg.errors import PackageError
from geoseg.models.segmenter import build_network
from geoseg.recipes._fine_tuning import find_blocks, freeze, parameter_groups
from geoseg.recipes._schedule import make_schedule
from geoseg.recipes.learning_rate import try_rates

RATE, DECAY = 1e-3, 0.75
VIT = {"family": "vit.Pyramid", "in_channels": 2, "classes": 2, "depth": 3, "features": 16}
SAR = {"family": "crossearth_sar.Pyramid", "in_channels": 1, "classes": 2, "size": "tiny", "patch": 8, "depth": 3, "experts": 2}
RESNET = {"family": "smp.Unet", "encoder": "resnet18", "in_channels": 2, "classes": 2}
TIMM = {"family": "smp.Unet", "encoder": "tu-mobilenetv3_small_050", "in_channels": 2, "classes": 2}


def rates(network: torch.nn.Module, decay: float | None = DECAY) -> dict[str, float]:
    """Name → rate of each parameter, which stands in one group only."""
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    found: dict[str, float] = {}
    for group in parameter_groups(network, RATE, decay):
        assert group["lr"] == pytest.approx(RATE * group["share"])
        for parameter in group["params"]:
            assert names[id(parameter)] not in found
            found[names[id(parameter)]] = group["lr"]
    return found


@pytest.mark.parametrize("architecture", [VIT, SAR, {**VIT, "detail": 8}])
def test_rates_of_a_transformer_are_those_of_the_formula(architecture: dict[str, Any]) -> None:
    found = rates(network := build_network(architecture))
    assert set(found) == {name for name, _ in network.named_parameters()}
    for name, rate in found.items():
        parts = name.removeprefix("network.encoder.").split(".")
        if not name.startswith("network.encoder.") or parts[0] == "norm":
            power = 0
        else:
            power = 4 if parts[0] != "blocks" else 4 - (int(parts[1]) + 1)
        assert rate == pytest.approx(RATE * DECAY**power), name
    assert {found[name] for name in found if ".embed." in name} == {min(found.values())}


@pytest.mark.parametrize(("architecture", "depth"), [(RESNET, 4), (TIMM, 6)])
def test_blocks_of_other_networks_are_found_by_their_names(architecture: dict[str, Any], depth: int) -> None:
    network = build_network(architecture)
    blocks = find_blocks(network.network.encoder, "layer_decay")
    assert [block.number for block in blocks] == list(range(1, depth + 1))
    found = rates(network)
    assert set(found) == {name for name, _ in network.named_parameters()}
    for block in blocks:
        own = [rate for name, rate in found.items() if name.startswith(f"network.encoder.{block.name}.")]
        assert own == [pytest.approx(RATE * DECAY ** (depth + 1 - block.number))] * len(own)
        assert own


class Nested(torch.nn.Module):
    """An encoder whose patches are embedded by a transformer of their own, as DOFA's are, with a norm on either side."""

    def __init__(self) -> None:
        super().__init__()
        inner = torch.nn.ModuleDict({"layers": torch.nn.ModuleList([torch.nn.Linear(2, 2)]), "norm": torch.nn.LayerNorm(2)})
        blocks = torch.nn.ModuleList(torch.nn.ModuleDict({"layers": torch.nn.ModuleList([torch.nn.Linear(2, 2)])}) for _ in range(3))
        self.encoder = torch.nn.ModuleDict(
            {
                "network": torch.nn.ModuleDict(
                    {"patch_embed": inner, "norm_pre": torch.nn.LayerNorm(2), "blocks": blocks, "norm": torch.nn.LayerNorm(2)}
                )
            }
        )


def test_blocks_inside_others_and_inside_embeddings_are_none() -> None:
    network = Nested()
    assert [block.name for block in find_blocks(network.encoder, "test")] == [f"network.blocks.{number}" for number in range(3)]
    found = rates(network)
    shares = {name.removeprefix("encoder.network."): rate / RATE for name, rate in found.items() if name.endswith("weight")}
    assert shares == {
        "patch_embed.layers.0.weight": pytest.approx(DECAY**4),
        "patch_embed.norm.weight": pytest.approx(DECAY**4),
        "norm_pre.weight": pytest.approx(DECAY**4),
        "blocks.0.layers.0.weight": pytest.approx(DECAY**3),
        "blocks.1.layers.0.weight": pytest.approx(DECAY**2),
        "blocks.2.layers.0.weight": pytest.approx(DECAY),
        "norm.weight": pytest.approx(1),
    }


def test_without_it_all_learn_alike_and_what_is_left_alone_is_in_no_group() -> None:
    network = build_network(VIT)
    assert set(rates(network, None).values()) == {RATE}
    freeze(network, 1)
    left = {name for name, parameter in network.named_parameters() if not parameter.requires_grad}
    assert left
    for decay in (None, DECAY):
        assert set(rates(network, decay)) == {name for name, _ in network.named_parameters()} - left


def test_a_step_is_as_long_as_its_rate() -> None:
    """Of AdamW, whose first step is the rate itself wherever there is a gradient."""
    torch.manual_seed(0)
    network = build_network(VIT)
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    optimizer = torch.optim.AdamW(parameter_groups(network, RATE, DECAY), weight_decay=0.0)
    torch.autograd.backward(network(torch.randn(4, 2, 32, 32))["classes"].square().sum())
    optimizer.step()
    moved = {name: float((parameter.detach() - before[name]).abs().max()) for name, parameter in network.named_parameters()}
    for name, rate in rates(network).items():
        assert moved[name] == pytest.approx(rate, rel=0.02), name


@pytest.mark.parametrize("kind", ["one_cycle", "cosine", "poly"])
def test_each_schedule_keeps_the_shares(kind: Any) -> None:
    optimizer = torch.optim.AdamW(parameter_groups(build_network(VIT), RATE, DECAY), lr=RATE)
    schedule = make_schedule(optimizer, kind, rate=RATE, steps=20, warm_up=0.3)
    plain = torch.optim.AdamW(parameter_groups(build_network(VIT), RATE, None), lr=RATE)
    reference = make_schedule(plain, kind, rate=RATE, steps=20, warm_up=0.3)
    for _ in range(19):
        full = plain.param_groups[0]["lr"]
        for group in optimizer.param_groups:
            assert group["lr"] == pytest.approx(full * group["share"], rel=1e-6)
        for one in (optimizer, plain):
            one.step()
        schedule.step()
        reference.step()


def test_the_test_of_rates_keeps_the_shares() -> None:
    network = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []

    def loss(learner: torch.nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        seen.append((learner[0].weight.detach().clone(), learner[1].weight.detach().clone()))
        return learner(batch["image"]).square().sum()

    def groups(learner: torch.nn.Module) -> list[dict[str, Any]]:
        return [{"params": learner[0].parameters(), "share": 0.0}, {"params": learner[1].parameters(), "share": 1.0}]

    try_rates(network, loss, [{"image": torch.randn(4, 2)}], groups=groups)
    assert torch.equal(seen[0][0], seen[-1][0])
    assert not torch.equal(seen[0][1], seen[-1][1])


def test_encoders_without_blocks_say_so() -> None:
    vgg = build_network({"family": "smp.Unet", "encoder": "vgg11", "in_channels": 2, "classes": 2})
    with pytest.raises(
        PackageError, match=r"layer_decay: the encoder has no blocks, layers, layer, stages, encoder to count; it has features"
    ):
        parameter_groups(vgg, RATE, DECAY)
    with pytest.raises(PackageError, match="layer_decay: this network has no encoder"):
        parameter_groups(build_network({"family": "autoice.UNet", "in_channels": 2, "classes": 2}), RATE, DECAY)
