"""CrossEarth's release: Reins as published, and both halves of the network, or none."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("timm")

import torch

from geoseg.backbones.crossearth import CrossEarth, load_crossearth
from geoseg.backbones.reins import Reins
from geoseg.errors import PackageError

IMAGE = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def small(seed: int = 0) -> CrossEarth:
    """A network all of whose weights have a say."""
    torch.manual_seed(seed)
    network = CrossEarth(size="tiny", depth=2, grid=4, tokens=5).eval()
    for tensor in network.parameters():
        torch.nn.init.normal_(tensor, std=0.1)
    torch.nn.init.constant_(network.reins.scale, 0.5)
    return network


def release(network: CrossEarth) -> dict[str, torch.Tensor]:
    """What the authors publish of a network: their Reins and their decoder."""
    trained = {f"backbone.reins.{name}": tensor.clone() for name, tensor in network.reins.state_dict().items()}
    return trained | {"decode_head.query_embed.weight": torch.zeros(100, 256)}


def dinov2(network: CrossEarth) -> dict[str, torch.Tensor]:
    """The other half under the names of DINOv2's authors."""
    own = {name: tensor.clone() for name, tensor in network.transformer.state_dict().items() if ".router." not in name}
    own = {name.replace(".experts.0.", "."): tensor for name, tensor in own.items()}
    return {name.replace("embed.", "patch_embed.proj.") if name.startswith("embed.") else name: tensor for name, tensor in own.items()}


def same(one: CrossEarth, other: CrossEarth) -> bool:
    with torch.inference_mode():
        return all(torch.allclose(a, b, rtol=0, atol=1e-6) for a, b in zip(one(IMAGE), other(IMAGE), strict=True))


def test_reins_of_the_large_network_have_as_many_numbers_as_published() -> None:
    with torch.device("meta"):
        assert sum(parameter.numel() for parameter in Reins(1024, 24).parameters()) == 2_990_081


def test_a_patch_gets_what_it_finds_in_all_tokens_but_the_first() -> None:
    reins, features = small().reins, torch.randn(1, 4, 192)
    with torch.inference_mode():
        after = reins(features, 1).numpy()[0].astype(np.float64)
    state = {name: tensor.numpy().astype(np.float64) for name, tensor in reins.state_dict().items()}
    learned, given = state["learnable_tokens_a"][1] @ state["learnable_tokens_b"][1], features.numpy()[0].astype(np.float64)
    for patch in range(1, 4):
        looks = np.array([np.exp(given[patch] @ token / np.sqrt(192)) for token in learned])
        looks /= looks.sum()
        found = sum(
            look * (state["mlp_token2feat.weight"] @ token + state["mlp_token2feat.bias"])
            for look, token in zip(looks, learned, strict=True)
        )
        of_first = looks[0] * (state["mlp_token2feat.weight"] @ learned[0] + state["mlp_token2feat.bias"])
        with_first, added = (
            state["mlp_delta_f.weight"] @ (one + given[patch]) + state["mlp_delta_f.bias"] for one in (found, found - of_first)
        )
        np.testing.assert_allclose(after[patch], given[patch] + 0.5 * added, atol=1e-5)
        assert np.abs(after[patch] - given[patch] - 0.5 * with_first).max() > 1e-3
    np.testing.assert_array_equal(after[0], given[0].astype(np.float32), "the class token stays as it is")


def test_queries_are_the_greatest_the_mean_and_the_last_of_the_blocks() -> None:
    reins = small().reins
    with torch.inference_mode():
        asked = reins.transform(reins.tokens()).numpy()  # (block, token, query)
        made = reins.queries().numpy()
    weight, bias = reins.merge.weight.detach().numpy(), reins.merge.bias.detach().numpy()
    for token in range(5):
        three = [
            number
            for query in range(256)
            for number in (asked[:, token, query].max(), asked[:, token, query].mean(), asked[-1, token, query])
        ]
        np.testing.assert_allclose(made[token], weight @ np.array(three) + bias, atol=1e-4)


def test_reins_that_count_nothing_leave_the_transformer_as_it_is() -> None:
    network = small()
    with torch.inference_mode():
        network.reins.scale.zero_()
        (last,) = network(IMAGE, taken=[1])
        torch.testing.assert_close(network.transformer.norm(last), network.transformer(IMAGE, torch.zeros(2, 3)))
        network.reins.scale.fill_(0.5)
        assert not torch.allclose(network(IMAGE, taken=[1])[0], last, atol=1e-2)


def test_both_halves_make_the_network_that_they_came_from() -> None:
    theirs, ours, merged = small(), small(seed=5), small(seed=6)
    of_dinov2, of_reins = load_crossearth(ours, release(theirs), dinov2(theirs), "potsdam.pth")
    assert (of_dinov2.share, of_reins.share, len(of_reins.matched)) == (1, 1, 11)
    assert of_reins.unexpected == ("decode_head.query_embed.weight",)
    assert same(ours, theirs)
    whole = release(theirs) | {f"backbone.{name}": tensor for name, tensor in dinov2(theirs).items()}
    load_crossearth(merged, whole, None, "full.pth")
    assert same(merged, theirs)


def test_half_a_network_is_refused_and_nothing_is_loaded() -> None:
    theirs, ours, untouched = small(), small(seed=5), small(seed=5)
    lacking = {name: tensor for name, tensor in release(theirs).items() if "merge.bias" not in name}
    other = {name: tensor for name, tensor in dinov2(theirs).items() if "blocks.1" not in name}
    for given, dense, said in [
        (release(theirs), None, "give DINOv2's weights, too"),
        (lacking, dinov2(theirs), r"10 of 11 tensors match, 1 missing \(merge.bias\)"),
        (release(theirs), other, "tensors match"),
        (dinov2(theirs), None, "no release of CrossEarth.*begins with cls_token"),
        ({}, None, "begins with nothing"),
    ]:
        with pytest.raises(PackageError, match=said):
            load_crossearth(ours, given, dense, "potsdam.pth")
        assert same(ours, untouched)
