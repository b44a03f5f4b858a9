"""DINOv3: three layouts of one network; features as Hugging Face's transformers makes them."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")
pytest.importorskip("timm")

import timm
import torch
from published_layouts import fill, image, layout_of, row_layout
from timm.models import eva

from geoseg.backbones.dinov3 import build, load, timm_names
from geoseg.backbones.timm_features import TimmBackbone
from geoseg.errors import PackageError

LAYOUT_TESTED = ("dinov3-sat-large", "dinov3-sat-7b")
ROLES = ("red", "green", "blue")


def _config(**words: object) -> object:
    transformers = pytest.importorskip("transformers")
    return transformers.DINOv3ViTConfig(
        num_hidden_layers=2, num_attention_heads=6, num_register_tokens=4, patch_size=16, hidden_size=384, **words
    )


@pytest.fixture(scope="module")
def original() -> torch.nn.Module:
    """The network of Hugging Face's transformers, small."""
    network: torch.nn.Module = pytest.importorskip("transformers").DINOv3ViTModel(_config(intermediate_size=1536))
    fill(network)
    return network


def _published(original: torch.nn.Module) -> dict[str, torch.Tensor]:
    """As its files hold it: `layer.0…`, where version 5 says `model.layer.0…`."""
    return {name.removeprefix("model."): tensor for name, tensor in original.state_dict().items()}


def _authors(original: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The same under the names of github.com/facebookresearch/dinov3."""
    state, made = _published(original), {}
    plain = {
        "embeddings.cls_token": "cls_token",
        "embeddings.mask_token": "mask_token",
        "embeddings.register_tokens": "storage_tokens",
        "embeddings.patch_embeddings.weight": "patch_embed.proj.weight",
        "embeddings.patch_embeddings.bias": "patch_embed.proj.bias",
    }
    for name, tensor in state.items():
        if ".attention." in name and "o_proj" not in name:
            continue
        own = plain.get(name, name).replace("layer.", "blocks.").replace("attention.o_proj", "attn.proj")
        own = own.replace("mlp.up_proj", "mlp.fc1").replace("mlp.down_proj", "mlp.fc2")
        made[own.replace("layer_scale1.lambda1", "ls1.gamma").replace("layer_scale2.lambda1", "ls2.gamma")] = tensor
    for block in range(2):
        three = [state[f"layer.{block}.attention.{which}_proj.weight"] for which in "qkv"]
        bias = [state[f"layer.{block}.attention.{which}_proj.bias"] for which in "qv"]
        made[f"blocks.{block}.attn.qkv.weight"] = torch.cat(three)
        made[f"blocks.{block}.attn.qkv.bias"] = torch.cat([bias[0], torch.full_like(bias[0], 9.0), bias[1]])  # the keys', masked
        made[f"blocks.{block}.attn.qkv.bias_mask"] = torch.ones(3 * 384)
    return {**made, "rope_embed.periods": torch.ones(16), "local_cls_norm.weight": torch.ones(384), "local_cls_norm.bias": torch.ones(384)}


def _filled(state: dict[str, torch.Tensor], roles: tuple[str, ...] = ROLES) -> TimmBackbone:
    backbone = build(roles, size="small", depth=2).eval()
    report = load(backbone, state, "dinov3_vitl16_pretrain_sat493m.pth")
    assert (report.missing, report.unexpected, report.misshapen) == ((), (), ())
    return backbone


@pytest.mark.parametrize(("rows", "cols"), [(224, 224), (64, 96)])
def test_features_are_those_of_transformers(original: torch.nn.Module, rows: int, cols: int) -> None:
    scene = image(1, 3, rows, cols)
    with torch.no_grad():
        level, expected = _filled(_published(original))(scene)[-1], original(scene).last_hidden_state
    torch.testing.assert_close(level.flatten(2).transpose(1, 2), expected[:, 5:], atol=1e-4, rtol=1e-4)


def test_all_layouts_are_one_network(original: torch.nn.Module) -> None:
    one = _filled(_published(original)).state_dict()
    torch.testing.assert_close(_filled(_authors(original)).state_dict(), one, rtol=0, atol=0)
    torch.testing.assert_close(_filled(dict(original.state_dict())).state_dict(), one, rtol=0, atol=0)
    own = {name.removeprefix("network."): tensor for name, tensor in one.items()}
    torch.testing.assert_close(_filled(own).state_dict(), one, rtol=0, atol=0)


def test_the_authors_names_are_converted_as_timm_does(original: torch.nn.Module) -> None:
    network = timm.create_model("vit_small_patch16_dinov3_qkvb", depth=2, num_classes=0)
    theirs = eva.checkpoint_filter_fn(_authors(original), network)
    torch.testing.assert_close(timm_names(_authors(original)), theirs, rtol=0, atol=0)


def test_gated_feed_forwards_of_the_largest_are_converted() -> None:
    config = _config(intermediate_size=768, use_gated_mlp=True, hidden_act="silu", query_bias=False, value_bias=False)
    gated = pytest.importorskip("transformers").DINOv3ViTModel(config)
    fill(gated)
    network = timm.create_model("vit_7b_patch16_dinov3", depth=2, embed_dim=384, num_heads=6, num_classes=0, dynamic_img_size=True).eval()
    network.load_state_dict(timm_names(_published(gated)), strict=True)
    scene = image(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(network.forward_features(scene)[:, 5:], gated(scene).last_hidden_state[:, 5:], atol=1e-4, rtol=1e-4)


def test_kernels_go_to_bands_by_role(original: torch.nn.Module) -> None:
    kernels = _published(original)["embeddings.patch_embeddings.weight"]
    assert torch.equal(_filled(_published(original), ("blue", "red")).network.patch_embed.proj.weight, kernels[:, [2, 0]])


def test_one_missing_tensor_is_refused(original: torch.nn.Module) -> None:
    state = _authors(original)
    del state["blocks.1.mlp.fc2.bias"]
    with pytest.raises(PackageError, match=r"not blocks\.1\.mlp\.fc2\.bias"):
        _filled(state)


def test_weights_of_another_size_are_refused(original: torch.nn.Module) -> None:
    with pytest.raises(PackageError, match="give weights of its size"):
        load(build(ROLES, size="base", depth=2), _published(original), "dinov3_vits16.pth")


@pytest.mark.parametrize("name", LAYOUT_TESTED)
def test_the_row_is_of_this_layout(original: torch.nn.Module, name: str) -> None:
    model, layout = row_layout(name)
    assert model.roles == ROLES
    if model.options["size"] == "large":
        assert layout == layout_of(_filled(_published(original)))
    else:
        largest = timm.create_model("vit_7b_patch16_dinov3", depth=2, embed_dim=384, num_heads=6, num_classes=0)
        assert layout == {f"network.{tensor}" for tensor in layout_of(largest)}
